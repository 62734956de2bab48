//! The typed tree of a recipe without errors to the checked [`Recipe`].

use crate::capability::Missing;
use crate::facts::Facts;
use crate::names::Names;
use crate::paths;
use crate::planned;
use crate::recipe::*;
use crate::rules::data::{has_held_out, row_type};
use crate::source::{Origin, Spanned};
use crate::tree::{Item, Slot};
use crate::turns;
use crate::values::Typed;
use stdlib::schema::Unit;

/// What assembling reads.
pub struct Assembly<'a> {
    pub names: &'a Names<'a>,
    pub facts: &'a Facts,
    /// The folder of every file.
    pub folders: &'a [String],
    /// What facts show to be out of reach of this version.
    pub later: &'a [(String, Missing)],
}

impl Assembly<'_> {
    /// Builds the recipe; nothing when a part is missing, which only a recipe with errors lacks.
    pub fn recipe(&self) -> Option<Recipe> {
        let mut recipe =
            Recipe { planned: planned::all(self.names, self.folders, self.later), ..Recipe::default() };
        let unrunnable = planned::unrunnable(self.names, self.later);
        for item in self.names.items {
            if item.name.is_some() && unrunnable.contains(item.declared()) {
                continue;
            }
            match item.kind() {
                "model" => recipe.models.push(self.model(item)?),
                "tokenizer" => recipe.tokenizers.push(self.tokenizer(item)?),
                "template" => recipe.templates.push(self.template(item)?),
                "dataset" => recipe.datasets.push(self.dataset(item)?),
                "mix" => recipe.mixes.push(self.mix(item)?),
                "cpt" | "sft" | "dpo" => recipe.stages.push(Stage::Train(Box::new(self.train(item)?))),
                "evaluate" => recipe.stages.push(Stage::Evaluate(self.evaluate(item)?)),
                "generate" => recipe.stages.push(Stage::Generate(self.generate(item)?)),
                _ => {}
            }
        }
        Some(recipe)
    }

    fn resolve(&self, item: &Item, path: &str) -> String {
        paths::resolve(&self.folders[item.file], path)
    }

    fn model(&self, item: &Item) -> Option<Model> {
        let source = item.argument()?.spanned(text)?;
        let value = match source.value.strip_prefix("new:") {
            Some(architecture) => ModelSource::New(architecture.to_owned()),
            None => ModelSource::Folder(self.resolve(item, &source.value)),
        };
        Some(Model {
            name: item.declared().to_owned(),
            at: item.at,
            source: Spanned { value, span: source.span, origin: source.origin },
            dtype: item.property("dtype").and_then(|slot| slot.spanned(dtype)),
            tokenizer: reference(item, "tokenizer"),
            config: item.child("config").map(|config| config.config.clone()).unwrap_or_default(),
        })
    }

    fn tokenizer(&self, item: &Item) -> Option<Tokenizer> {
        let source = match item.child("train") {
            Some(train) => TokenizerSource::Train(train_tokenizer(train)?),
            None => {
                let path = item.argument()?.spanned(text)?;
                TokenizerSource::Path(Spanned { value: self.resolve(item, &path.value), ..path })
            }
        };
        Some(Tokenizer { name: item.declared().to_owned(), at: item.at, source })
    }

    fn template(&self, item: &Item) -> Option<Template> {
        let jinja = if let Some(jinja) = item.child_argument("jinja") {
            jinja.spanned(text)?
        } else if let Some(file) = item.child_argument("file") {
            let path = self.resolve(item, file.text()?);
            let value = self.facts.texts.get(&path).cloned().unwrap_or_default();
            Spanned { value, span: file.span, origin: file.origin }
        } else {
            let turns = item.child("turns")?;
            let turn = |role: &str| turns.child_argument(role).and_then(Slot::text);
            let value = turns::jinja(turn("system"), turn("user")?, turn("assistant")?);
            Spanned { value, span: turns.at, origin: Origin::Derived }
        };
        Some(Template { name: item.declared().to_owned(), at: item.at, jinja })
    }

    fn dataset(&self, item: &Item) -> Option<Dataset> {
        let source = item.argument()?.spanned(text)?;
        let rows = item.child("rows")?;
        Some(Dataset {
            name: item.declared().to_owned(),
            at: item.at,
            source: Spanned { value: self.resolve(item, &source.value), ..source },
            rows: rows.argument()?.spanned(|value| read_word(value, row_type_of))?,
            columns: columns(rows),
            transforms: transforms(item),
            on_bad_row: on_bad_row(item.child("on-bad-row")?)?,
        })
    }

    fn mix(&self, item: &Item) -> Option<Mix> {
        let parts: Option<Vec<MixPart>> = item.children_of("take").map(mix_part).collect();
        let measure =
            item.child_argument("measure").and_then(|slot| slot.spanned(|value| read_word(value, measure)));
        let stop = item.child("stop").and_then(mix_stop);
        Some(Mix {
            name: item.declared().to_owned(),
            at: item.at,
            rows: row_type_of(row_type(self.names, item)?)?,
            parts: parts?,
            measure: measure.unwrap_or(absent(item, Measure::Tokens)),
            stop: stop.unwrap_or(absent(item, MixStop::AllSeen)),
        })
    }

    fn train(&self, item: &Item) -> Option<Train> {
        let sequence = item.child("sequence")?;
        Some(Train {
            name: item.declared().to_owned(),
            at: item.at,
            objective: objective(item)?,
            model: reference(item, "model")?,
            data: reference(item, "data")?,
            batch: batch(item.child("batch")?)?,
            micro: item.child("batch")?.property("micro").and_then(|slot| slot.spanned(integer)),
            budget: budget(item)?,
            optimizer: optimizer(item.child("optimizer")?)?,
            schedule: schedule(item.child("schedule")?)?,
            sequence: sequence.argument().and_then(|slot| slot.spanned(count)),
            pack: sequence.property("pack")?.spanned(boolean)?,
            prompt: sequence.property("prompt").and_then(|slot| slot.spanned(integer)),
            overflow: overflow(item, sequence),
            precision: item.child_argument("precision")?.spanned(|value| read_word(value, precision))?,
            masters: item.child("precision")?.property("master").and_then(|slot| slot.spanned(masters)),
            template: template_ref(item),
            train: item.children_of("train").map(words).collect::<Option<_>>()?,
            recompute: item.child_argument("recompute")?.spanned(|value| read_word(value, recompute))?,
            evaluate: self.stage_evaluate(item),
            checkpoint: item.child("checkpoint").and_then(checkpoint),
            samples: item.children_of("sample").map(sample).collect::<Option<_>>()?,
            seed: item.child_argument("seed")?.spanned(integer)?,
        })
    }

    /// A stage evaluates when its data has held-out rows, unless it says otherwise.
    fn stage_evaluate(&self, item: &Item) -> Option<StageEvaluate> {
        match item.child("evaluate") {
            Some(child) if child.word() == Some("none") => None,
            Some(child) => {
                let on = child.property("on").and_then(Slot::reference);
                let every = child.property("every").and_then(|slot| slot.spanned(every))?;
                Some(StageEvaluate { at: child.at, on, every })
            }
            None => {
                let data = self.names.follow(item, "data")?;
                let every = absent(item, Every::Epochs(1.0));
                has_held_out(self.names, data).then_some(StageEvaluate { at: item.at, on: None, every })
            }
        }
    }

    fn evaluate(&self, item: &Item) -> Option<Evaluate> {
        Some(Evaluate {
            name: item.declared().to_owned(),
            at: item.at,
            model: reference(item, "model")?,
            data: reference(item, "data")?,
            template: template_ref(item),
            sequence: item.child_argument("sequence").and_then(|slot| slot.spanned(count)),
        })
    }

    fn generate(&self, item: &Item) -> Option<Generate> {
        let prompts = item.children_of("prompt").map(|prompt| prompt.argument()?.spanned(text));
        Some(Generate {
            name: item.declared().to_owned(),
            at: item.at,
            model: reference(item, "model")?,
            prompts: prompts.collect::<Option<_>>()?,
            data: reference(item, "data"),
            template: template_ref(item),
            max_tokens: item.child_argument("max-tokens")?.spanned(integer)?,
            temperature: item.child_argument("temperature")?.spanned(number)?,
            top_p: item.child_argument("top-p")?.spanned(number)?,
            top_k: item.child_argument("top-k")?.spanned(integer)?,
            repetition_penalty: item.child_argument("repetition-penalty")?.spanned(number)?,
            seed: item.child_argument("seed")?.spanned(integer)?,
        })
    }
}

/// The words of a line, in order.
fn words(line: &Item) -> Option<Vec<Spanned<String>>> {
    line.arguments.iter().map(|slot| slot.spanned(text)).collect()
}

/// A value that nobody wrote, placed at the node's kind word.
fn absent<T>(item: &Item, value: T) -> Spanned<T> {
    Spanned { value, span: item.at, origin: Origin::Default }
}

fn reference(item: &Item, child: &str) -> Option<Ref> {
    item.child_argument(child).and_then(Slot::reference)
}

fn template_ref(item: &Item) -> Option<TemplateRef> {
    let slot = item.child_argument("template")?;
    let name = slot.text()?;
    Some(match name.strip_prefix("std:") {
        Some(name) => {
            TemplateRef::Std(Spanned { value: name.to_owned(), span: slot.span, origin: slot.origin })
        }
        None => TemplateRef::Declared(slot.reference()?),
    })
}

fn train_tokenizer(train: &Item) -> Option<TrainTokenizer> {
    let special = train.children_of("special").flat_map(|child| &child.arguments);
    Some(TrainTokenizer {
        at: train.at,
        vocab: train.property("vocab")?.spanned(count)?,
        on: train.property("on")?.reference()?,
        min_frequency: train.child_argument("min-frequency")?.spanned(integer)?,
        special: special.map(|slot| slot.spanned(text)).collect::<Option<_>>()?,
        byte_level: train.child_argument("byte-level")?.spanned(boolean)?,
    })
}

/// The columns that were renamed.
fn columns(rows: &Item) -> Vec<(String, Spanned<String>)> {
    let written = rows.properties.iter().filter(|slot| slot.is_written());
    written.filter_map(|slot| Some((slot.name.to_owned(), slot.spanned(text)?))).collect()
}

fn transforms(item: &Item) -> Vec<Transform> {
    item.children.iter().filter_map(transform).collect()
}

fn transform(child: &Item) -> Option<Transform> {
    match child.kind() {
        "split" => {
            let name = |key: &str| child.property(key).and_then(|slot| slot.spanned(text));
            Some(Transform::Split { train: name("train"), eval: name("eval") })
        }
        "dedup" => Some(Transform::DedupExact { at: child.at }),
        "shuffle" => Some(Transform::Shuffle { seed: child.property("seed")?.spanned(integer)? }),
        "limit" => {
            let rows = child.argument()?.spanned(count)?;
            Some(Transform::Limit { rows, head: child.arguments.len() > 1 })
        }
        "holdout" => {
            let amount = child.argument()?.spanned(amount)?;
            Some(Transform::Holdout { amount })
        }
        _ => None,
    }
}

fn on_bad_row(child: &Item) -> Option<Spanned<OnBadRow>> {
    let action = child.argument()?;
    let value = match action.text()? {
        "error" => OnBadRow::Error,
        _ => OnBadRow::Skip { max: child.property("max")?.spanned(integer)?.value },
    };
    Some(Spanned { value, span: action.span, origin: action.origin })
}

fn mix_part(take: &Item) -> Option<MixPart> {
    let slot = take.properties.first()?;
    let amount = slot.spanned(|_| mix_amount(slot))?;
    Some(MixPart { data: take.argument()?.reference()?, amount })
}

fn mix_amount(slot: &Slot) -> Option<MixAmount> {
    let number = slot.number()?;
    Some(match slot.name {
        "weight" => MixAmount::Weight(number),
        "fraction" => MixAmount::Fraction(number),
        "rows" => MixAmount::Rows(number as u64),
        "tokens" => MixAmount::Tokens(number as u64),
        _ => MixAmount::Epochs(number),
    })
}

fn mix_stop(stop: &Item) -> Option<Spanned<MixStop>> {
    if let Some(tokens) = stop.property("tokens") {
        return tokens.spanned(|value| count(value).map(MixStop::Tokens));
    }
    stop.argument()?.spanned(|value| match value {
        Typed::Word("all-seen") => Some(MixStop::AllSeen),
        Typed::Word("first-exhausted") => Some(MixStop::FirstExhausted),
        _ => None,
    })
}

fn objective(item: &Item) -> Option<Objective> {
    Some(match item.kind() {
        "cpt" => Objective::Cpt,
        "sft" => Objective::Sft {
            loss_on: item.child_argument("loss-on")?.spanned(|value| read_word(value, loss_on))?,
        },
        _ => Objective::Dpo {
            beta: item.child_argument("beta")?.spanned(number)?,
            loss: item.child_argument("loss")?.spanned(|value| read_word(value, dpo_loss))?,
            label_smoothing: item.child_argument("label-smoothing")?.spanned(number)?,
            reference: reference(item, "reference"),
        },
    })
}

fn batch(child: &Item) -> Option<Spanned<Batch>> {
    match child.argument() {
        Some(slot) => slot.spanned(|value| count(value).map(Batch::Sequences)),
        None => child.property("tokens")?.spanned(|value| count(value).map(Batch::Tokens)),
    }
}

fn budget(item: &Item) -> Option<Spanned<Budget>> {
    let child = item.children.iter().find(|child| child.schema.group == "budget")?;
    let slot = child.argument()?;
    slot.spanned(|_| {
        let number = slot.number()?;
        Some(match child.kind() {
            "epochs" => Budget::Epochs(number),
            "steps" => Budget::Steps(number as u64),
            _ => Budget::Tokens(number as u64),
        })
    })
}

fn optimizer(child: &Item) -> Option<AdamW> {
    let value = |name: &str| child.property(name)?.spanned(number);
    Some(AdamW {
        lr: value("lr")?,
        weight_decay: value("weight-decay")?,
        beta1: value("beta1")?,
        beta2: value("beta2")?,
        eps: value("eps")?,
        clip: value("clip")?,
    })
}

fn schedule(child: &Item) -> Option<Schedule> {
    Some(Schedule {
        shape: child.argument()?.spanned(|value| read_word(value, shape))?,
        warmup: child.property("warmup")?.spanned(warmup)?,
        floor: child.property("floor").and_then(|slot| slot.spanned(number)).unwrap_or(absent(child, 0.0)),
    })
}

fn overflow(item: &Item, sequence: &Item) -> Spanned<Overflow> {
    let written =
        sequence.property("overflow").and_then(|slot| slot.spanned(|value| read_word(value, overflow_of)));
    let default = if item.kind() == "cpt" { Overflow::Split } else { Overflow::Drop };
    written.unwrap_or(absent(item, default))
}

fn checkpoint(child: &Item) -> Option<Checkpoint> {
    Some(Checkpoint {
        at: child.at,
        every: child.property("every")?.spanned(every)?,
        keep: child.property("keep")?.spanned(integer)?,
    })
}

fn sample(child: &Item) -> Option<Sample> {
    let inline = child.property("prompt").into_iter();
    let prompts = inline.chain(child.children_of("prompt").filter_map(Item::argument));
    Some(Sample {
        at: child.at,
        every: child.property("every")?.spanned(every)?,
        prompts: prompts.map(|slot| slot.spanned(text)).collect::<Option<_>>()?,
        max_tokens: child.property("max-tokens")?.spanned(integer)?,
    })
}

fn text(value: &Typed) -> Option<String> {
    match value {
        Typed::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn integer(value: &Typed) -> Option<u64> {
    match value {
        Typed::Integer(value) => Some(*value),
        _ => None,
    }
}

fn number(value: &Typed) -> Option<f64> {
    match value {
        Typed::Number(value) | Typed::Quantity(value, _) => Some(*value),
        _ => None,
    }
}

fn boolean(value: &Typed) -> Option<bool> {
    match value {
        Typed::Bool(value) => Some(*value),
        _ => None,
    }
}

/// A quantity of whole things.
fn count(value: &Typed) -> Option<u64> {
    number(value).map(|value| value as u64)
}

fn amount(value: &Typed) -> Option<Amount> {
    match value {
        Typed::Quantity(value, Unit::Share) => Some(Amount::Share(*value)),
        Typed::Quantity(value, _) => Some(Amount::Rows(*value as u64)),
        _ => None,
    }
}

fn warmup(value: &Typed) -> Option<Warmup> {
    match value {
        Typed::Quantity(value, Unit::Share) => Some(Warmup::Share(*value)),
        Typed::Quantity(value, _) => Some(Warmup::Steps(*value as u64)),
        _ => None,
    }
}

fn every(value: &Typed) -> Option<Every> {
    match value {
        Typed::Quantity(value, Unit::Steps) => Some(Every::Steps(*value as u64)),
        Typed::Quantity(value, Unit::Epochs) => Some(Every::Epochs(*value)),
        Typed::Quantity(value, Unit::Time) => Some(Every::Seconds(*value as u64)),
        _ => None,
    }
}

fn read_word<T>(value: &Typed, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    match value {
        Typed::Word(word) => read(word),
        _ => None,
    }
}

fn row_type_of(word: &str) -> Option<RowType> {
    match word {
        "text" => Some(RowType::Text),
        "instruction" => Some(RowType::Instruction),
        "chat" => Some(RowType::Chat),
        "preference" => Some(RowType::Preference),
        _ => None,
    }
}

fn dtype(value: &Typed) -> Option<Dtype> {
    read_word(value, |word| match word {
        "f32" => Some(Dtype::F32),
        "bf16" => Some(Dtype::Bf16),
        "f16" => Some(Dtype::F16),
        _ => None,
    })
}

fn measure(word: &str) -> Option<Measure> {
    match word {
        "tokens" => Some(Measure::Tokens),
        "rows" => Some(Measure::Rows),
        _ => None,
    }
}

fn loss_on(word: &str) -> Option<LossOn> {
    match word {
        "assistant" => Some(LossOn::Assistant),
        "last" => Some(LossOn::Last),
        "completion" => Some(LossOn::Completion),
        "all" => Some(LossOn::All),
        _ => None,
    }
}

fn dpo_loss(word: &str) -> Option<DpoLoss> {
    match word {
        "sigmoid" => Some(DpoLoss::Sigmoid),
        "ipo" => Some(DpoLoss::Ipo),
        "hinge" => Some(DpoLoss::Hinge),
        _ => None,
    }
}

fn shape(word: &str) -> Option<Shape> {
    match word {
        "cosine" => Some(Shape::Cosine),
        "linear" => Some(Shape::Linear),
        "constant" => Some(Shape::Constant),
        _ => None,
    }
}

/// Whether there are masters in f32.
fn masters(value: &Typed) -> Option<bool> {
    read_word(value, |word| match word {
        "f32" => Some(true),
        "none" => Some(false),
        _ => None,
    })
}

fn precision(word: &str) -> Option<Precision> {
    match word {
        "bf16" => Some(Precision::Bf16),
        "f32" => Some(Precision::F32),
        "f16" => Some(Precision::F16),
        _ => None,
    }
}

fn recompute(word: &str) -> Option<Recompute> {
    match word {
        "auto" => Some(Recompute::Auto),
        "none" => Some(Recompute::None),
        "block" => Some(Recompute::Block),
        _ => None,
    }
}

fn overflow_of(word: &str) -> Option<Overflow> {
    match word {
        "split" => Some(Overflow::Split),
        "drop" => Some(Overflow::Drop),
        "truncate-prompt" => Some(Overflow::TruncatePrompt),
        "truncate-end" => Some(Overflow::TruncateEnd),
        "error" => Some(Overflow::Error),
        _ => None,
    }
}
