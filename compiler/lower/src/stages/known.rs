//! What is known of models that cannot be run: their config.json as the stages change it.

use super::predicted::{named, number};
use crate::figures::{Shapes, shapes};
use crate::models::Model;
use lang::facts::Facts;
use lang::recipe::{ModelSource, Planned, Recipe, Ref, Stage, TokenizerSource};
use serde_json::{Value, json};

/// How many stages are followed before they are taken for a circle.
const CHAIN: usize = 1000;

/// Figures of stages that one missing fact keeps unknown.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    /// Nothing of what they cost.
    pub stages: Vec<String>,
    /// Only what they train of their model, and what follows from that.
    pub trained: Vec<String>,
}

impl Unknown {
    /// Says which figures they are.
    pub fn said(&self) -> String {
        let names = |names: &[String]| {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            quoted.join(", ")
        };
        match (self.stages.as_slice(), self.trained.as_slice()) {
            (stages, []) => format!("parameters and memory of {} are", names(stages)),
            ([], trained) => format!("trained parameters and memory of {} are", names(trained)),
            (stages, trained) => {
                let (all, some) = (names(stages), names(trained));
                format!("parameters and memory of {all}, trained parameters and memory of {some} are")
            }
        }
    }
}

/// What is known of models by name.
pub(super) struct Known<'a> {
    pub recipe: &'a Recipe,
    pub facts: &'a Facts,
}

impl Known<'_> {
    /// Returns the shapes of a model or of a stage's result.
    pub fn shapes(&self, name: &str) -> Option<Shapes> {
        shapes(&self.config(name)?).ok()
    }

    /// Says what keeps the shapes of a model unknown; nothing where it is its source, of which is told elsewhere.
    pub fn why_unknown(&self, name: &str) -> Option<String> {
        let mut name = name.to_owned();
        for _ in 0..CHAIN {
            if let Some(config) = self.declared(&name) {
                return shapes(&config).err().map(|unknown| unknown.message);
            }
            let Some(planned) = self.planned(&name) else {
                name = self.start_of(&name)?;
                continue;
            };
            let changes = planned.kind == "swap-tokenizer" || planned.kind == "extend-tokenizer";
            let starts = named(planned, "model").is_some_and(|model| self.config(&model.name).is_some());
            if changes && starts && self.vocab_after(planned).is_none() {
                return Some(why_no_vocabulary(planned));
            }
            name = follow(planned)?.name.clone();
        }
        None
    }

    /// Says why the rows that a model's vocabulary has grown by cannot be counted.
    pub fn why_uncounted(&self, name: &str) -> Option<String> {
        let mut name = name.to_owned();
        for _ in 0..CHAIN {
            let planned = self.planned(&name)?;
            match planned.kind.as_str() {
                "extend-tokenizer" | "swap-tokenizer" => {
                    return Some(format!(
                        "which rows of `{}` are new only the tokens of its tokenizers tell",
                        planned.name
                    ));
                }
                "model" => return None,
                _ => name = follow(planned)?.name.clone(),
            }
        }
        None
    }

    /// Returns the config.json of a model or of a stage's result.
    fn config(&self, name: &str) -> Option<Value> {
        let mut sizes = Vec::new();
        let mut name = name.to_owned();
        for _ in 0..CHAIN {
            if let Some(mut config) = self.declared(&name) {
                // The last change of the tokenizer, which was met first, decides.
                if let Some(vocab) = sizes.into_iter().next().unwrap_or(Some(None))? {
                    config["vocab_size"] = json!(vocab);
                }
                return Some(config);
            }
            let Some(planned) = self.planned(&name) else {
                name = self.start_of(&name)?;
                continue;
            };
            if planned.kind == "swap-tokenizer" || planned.kind == "extend-tokenizer" {
                sizes.push(self.vocab_after(planned).map(Some));
            }
            name = follow(planned)?.name.clone();
        }
        None
    }

    fn planned(&self, name: &str) -> Option<&Planned> {
        self.recipe.planned.iter().find(|planned| planned.name == name)
    }

    /// The model that a runnable training stage starts from.
    fn start_of(&self, name: &str) -> Option<String> {
        self.recipe.stages.iter().find_map(|stage| match stage {
            Stage::Train(train) if train.name == name => Some(train.model.name.clone()),
            Stage::Train(_) | Stage::Evaluate(_) | Stage::Generate(_) => None,
        })
    }

    /// The config of a `model` declaration.
    fn declared(&self, name: &str) -> Option<Value> {
        if let Some(planned) = self.planned(name).filter(|planned| planned.kind == "model") {
            let source = planned.source.as_deref()?;
            let mut config = match source.strip_prefix("new:") {
                Some(architecture) => json!({ "model_type": architecture }),
                None => self.facts.models.get(source)?.config.clone(),
            };
            merge(&mut config, planned.settings.get("config").and_then(Value::as_object));
            return Some(config);
        }
        let declared = self.recipe.models.iter().find(|model| model.name == name)?;
        let fields = declared.config.iter().map(|(name, value)| (name.value.clone(), value.value.clone()));
        match &declared.source.value {
            ModelSource::Folder(path) => {
                let mut config = self.facts.models.get(path)?.config.clone();
                fields.for_each(|(name, value)| config[name] = value);
                Some(config)
            }
            ModelSource::New(architecture) => {
                let mut config = Model::new_config(architecture, &fields.collect::<Vec<_>>());
                config["vocab_size"] = json!(self.vocab(&declared.tokenizer.as_ref()?.name)?);
                Some(config)
            }
        }
    }

    /// The ids of a tokenizer.
    fn vocab(&self, name: &str) -> Option<u64> {
        if let Some(planned) = self.planned(name) {
            let trained = number(&planned.settings, &["train", "vocab"]);
            return trained
                .or_else(|| Some(self.facts.tokenizers.get(planned.source.as_deref()?)?.vocab_size));
        }
        let declared = self.recipe.tokenizers.iter().find(|tokenizer| tokenizer.name == name)?;
        match &declared.source {
            TokenizerSource::Train(train) => Some(train.vocab.value),
            TokenizerSource::Path(path) => Some(self.facts.tokenizers.get(&path.value)?.vocab_size),
        }
    }

    /// Rows of the embedding after a stage that changes the tokenizer; unknown where tokens of two
    /// tokenizers are joined, since those in both count once.
    fn vocab_after(&self, planned: &Planned) -> Option<u64> {
        let rows = match planned.kind.as_str() {
            "swap-tokenizer" => self.vocab(&named(planned, "tokenizer")?.name)?,
            _ => {
                let before = self.config(&named(planned, "model")?.name)?.get("vocab_size")?.as_u64()?;
                before.checked_add(added(planned)?)?
            }
        };
        let multiple = number(&planned.settings, &["pad-to", "multiple"]).unwrap_or(1);
        rows.checked_next_multiple_of(multiple.max(1))
    }

    /// Rows that the latest change of the tokenizer upstream has added, when they can be counted.
    pub fn added(&self, name: &str) -> Option<u64> {
        let mut name = name.to_owned();
        for _ in 0..CHAIN {
            let planned = self.planned(&name)?;
            match planned.kind.as_str() {
                "extend-tokenizer" => return added(planned),
                "swap-tokenizer" | "model" => return None,
                _ => name = follow(planned)?.name.clone(),
            }
        }
        None
    }
}

/// Says why nobody knows how many rows a changed tokenizer makes.
fn why_no_vocabulary(planned: &Planned) -> String {
    match (planned.kind.as_str(), named(planned, "tokenizer")) {
        ("swap-tokenizer", Some(tokenizer)) => format!("the vocabulary of `{}` is not known", tokenizer.name),
        _ => format!("`{}` joins the tokens of two tokenizers, and those in both count once", planned.name),
    }
}

/// The tokens that an `extend-tokenizer` lists; unknown when it takes those of a tokenizer.
fn added(planned: &Planned) -> Option<u64> {
    if named(planned, "tokenizer").is_some() {
        return None;
    }
    let lines = planned.settings.get("add")?.as_array()?;
    Some(
        lines.iter().filter_map(|line| line.get("token")?.as_array()).map(|tokens| tokens.len() as u64).sum(),
    )
}

/// The model that a stage starts from.
fn follow(planned: &Planned) -> Option<&Ref> {
    named(planned, "model").or_else(|| named(planned, "base")).or_else(|| named(planned, "from"))
}

fn merge(config: &mut Value, fields: Option<&serde_json::Map<String, Value>>) {
    for (name, value) in fields.into_iter().flatten() {
        config[name.as_str()] = value.clone();
    }
}
