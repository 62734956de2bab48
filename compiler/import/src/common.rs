//! What the tools have in common: optimizers, schedules, adapters, templates, names of weights.

use crate::kdl::{Line, number, percent};
use crate::section::Section;

/// An optimizer of the language for one of transformers or axolotl.
pub(crate) struct Optimizer {
    pub word: &'static str,
    pub state: Option<&'static str>,
    /// What is not the same.
    pub change: Option<&'static str>,
}

/// Returns the language's optimizer for a name of transformers or axolotl.
pub(crate) fn optimizer(name: &str) -> Option<Optimizer> {
    const PAGED: &str = "paging to host memory is left to the memory plan";
    const BITS: &str = "its 8-bit moments have no counterpart";
    let of = |word, state, change| Some(Optimizer { word, state, change });
    match name {
        "adamw"
        | "adamw_torch"
        | "adamw_hf"
        | "adamw_torch_fused"
        | "adamw_apex_fused"
        | "adamw_torch_xla"
        | "adamw_torch_npu_fused"
        | "adamw_anyprecision"
        | "optimi_adamw" => of("adamw", None, None),
        "adamw_bnb_8bit" | "adamw_8bit" | "adamw_torch_8bit" => of("adamw", Some("int8"), None),
        "paged_adamw_8bit" => of("adamw", Some("int8"), Some(PAGED)),
        "paged_adamw" | "paged_adamw_32bit" => of("adamw", None, Some(PAGED)),
        "adamw_torch_4bit" | "ao_adamw_4bit" => of("adamw", Some("int8"), Some("moments of 8 bits, not 4")),
        "ao_adamw_fp8" => of("adamw", Some("int8"), Some("moments in int8, not fp8")),
        "lion" | "lion_32bit" | "lion_pytorch" => of("lion", None, None),
        "lion_8bit" => of("lion", None, Some(BITS)),
        "paged_lion_32bit" => of("lion", None, Some(PAGED)),
        "paged_lion_8bit" => of("lion", None, Some(BITS)),
        "adafactor" => of("adafactor", None, None),
        "muon" => of("muon", None, None),
        "rmsprop" | "rmsprop_bnb" | "rmsprop_bnb_32bit" => of("rmsprop", None, None),
        "rmsprop_bnb_8bit" | "rmsprop_8bit" | "rmsprop_32bit" => of("rmsprop", None, Some(BITS)),
        "sgd" => of("sgd", None, None),
        _ => None,
    }
}

/// The numbers of an optimizer, each with the key it came from.
#[derive(Default)]
pub(crate) struct Numbers {
    pub lr: Option<(f64, String)>,
    pub weight_decay: Option<(f64, String)>,
    pub beta1: Option<(f64, String)>,
    pub beta2: Option<(f64, String)>,
    pub eps: Option<(f64, String)>,
    pub clip: Option<(f64, Option<String>)>,
}

/// Writes an optimizer; numbers equal to the language's defaults are left out.
pub(crate) fn optimizer_line(optimizer: &Optimizer, key: Option<String>, numbers: Numbers) -> Line {
    let mut line = Line::new("optimizer").word(optimizer.word);
    line.from.extend(key);
    let is_adamw = optimizer.word == "adamw";
    let parts = [
        ("lr", numbers.lr, f64::NAN, true),
        ("weight-decay", numbers.weight_decay, 0.0, true),
        ("beta1", numbers.beta1, 0.9, is_adamw),
        ("beta2", numbers.beta2, 0.999, is_adamw),
        ("eps", numbers.eps, 1e-8, is_adamw),
    ];
    for (name, part, default, applies) in parts {
        let Some((value, key)) = part else { continue };
        if value != default && applies {
            line = line.with(name, number(value)).from(key);
        } else {
            line.from.push(key);
        }
    }
    if let Some(state) = optimizer.state {
        line = line.with("state", state);
    }
    if let Some((clip, key)) = numbers.clip {
        if clip != 1.0 {
            line = line.with("clip", number(clip));
        }
        if let Some(key) = key {
            line = line.from(key);
        }
    }
    line
}

/// How long the learning rate rises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Warmup {
    None,
    Share(f64),
    Steps(u64),
}

/// Writes a schedule; nothing when it is the language's default.
pub(crate) fn schedule_line(shape: &str, warmup: Warmup, floor: f64) -> Option<Line> {
    if shape == "cosine" && warmup == Warmup::Share(0.03) && floor == 0.0 {
        return None;
    }
    let mut line = Line::new("schedule").word(shape);
    match warmup {
        Warmup::Share(share) if share > 0.0 => line = line.with("warmup", percent(share)),
        Warmup::Steps(steps) if steps > 0 => line = line.with("warmup", steps.to_string()),
        Warmup::None | Warmup::Share(_) | Warmup::Steps(_) => {}
    }
    if floor > 0.0 && shape != "constant" {
        line = line.with("floor", number(floor));
    }
    Some(line)
}

/// A warmup that is longer than the stage: the rate only rises, and ends below what it was to reach.
pub(crate) struct Rise {
    /// The steps of the stage.
    pub steps: u64,
    /// The share of the rate that is reached.
    share: f64,
}

impl Rise {
    /// Compares the steps of a warmup with those of the stage.
    pub fn of(warmup: Option<f64>, steps: Option<f64>) -> Option<Self> {
        let (warmup, steps) = (warmup?, steps?.round());
        (steps >= 1.0 && warmup > steps).then(|| Self { steps: steps as u64, share: steps / warmup })
    }

    /// Compares `warmup_steps` with `max_steps`, unless the schedule, whose key is given, has no warmup.
    pub fn of_trainer(config: &Section, schedule: &str) -> Option<Self> {
        let has_warmup = config.text(schedule).as_deref() != Some("constant");
        let steps = config.number("max_steps").filter(|steps| *steps > 0.0);
        Self::of(config.number("warmup_steps"), steps).filter(|_| has_warmup)
    }

    /// Returns the rate that is reached at the last step.
    pub fn reached(&self, lr: f64) -> f64 {
        // Without the last digits, which the product makes up.
        format!("{:.11e}", lr * self.share).parse().expect("a number that was just written")
    }

    /// Writes the schedule that rises over the whole stage.
    pub fn line(&self) -> Line {
        Line::new("schedule").word("constant").with("warmup", self.steps.to_string())
    }
}

/// What is said of a warmup that is longer than its stage.
pub(crate) const ONLY_RISES: &str =
    "longer than the run, so the rate only rises there; `lr` is what it reaches, and `schedule` rises to it";

/// A schedule of transformers in the words of the language.
pub(crate) enum Shape {
    Fits(&'static str),
    /// `constant` of transformers has no warmup, whatever else the file says.
    ConstantWithoutWarmup,
    Near(&'static str, &'static str),
}

/// Returns the language's schedule for one of transformers or axolotl.
pub(crate) fn shape(name: &str) -> Option<Shape> {
    Some(match name {
        "cosine" => Shape::Fits("cosine"),
        "cosine_with_min_lr" => Shape::Fits("cosine"),
        "linear" => Shape::Fits("linear"),
        "constant_with_warmup" => Shape::Fits("constant"),
        "constant" => Shape::ConstantWithoutWarmup,
        "inverse_sqrt" => Shape::Fits("inverse-sqrt"),
        "warmup_stable_decay" => Shape::Fits("wsd"),
        "polynomial" => Shape::Near("linear", "of power 1, to 0 instead of 1e-7"),
        _ => return None,
    })
}

/// Returns the language's names for weights that a file names; nothing when a name is a pattern.
pub(crate) fn weights(names: &[String]) -> Option<(Vec<String>, bool)> {
    let mut found: Vec<String> = Vec::new();
    let mut changed = false;
    for name in names {
        let last = name.rsplit('.').next().unwrap_or(name);
        let is_pattern = name.contains(['\\', '[', ']', '(', ')', '*', '+', '?', '^', '$', '|', '{', '}']);
        // A number in the path names one layer.
        if is_pattern || last.is_empty() || name.split('.').any(|part| part.parse::<u64>().is_ok()) {
            return None;
        }
        let ours: Vec<&str> = match last {
            "query_key_value" | "c_attn" | "Wqkv" | "qkv_proj" | "wqkv" => vec!["q_proj", "k_proj", "v_proj"],
            "dense" | "out_proj" | "wo" => vec!["o_proj"],
            "wq" => vec!["q_proj"],
            "wk" => vec!["k_proj"],
            "wv" => vec!["v_proj"],
            "dense_h_to_4h" => vec!["up_proj"],
            "dense_4h_to_h" => vec!["down_proj"],
            "w1" => vec!["gate_proj"],
            "w2" => vec!["down_proj"],
            "w3" => vec!["up_proj"],
            "gate_up_proj" => vec!["gate_proj", "up_proj"],
            "embed_in" | "wte" | "word_embeddings" | "tok_embeddings" => vec!["embed_tokens"],
            "embed_out" | "output" => vec!["lm_head"],
            "all_linear" => vec!["all-linear"],
            other => vec![other],
        };
        for ours in ours {
            changed |= ours != name;
            if !found.iter().any(|found| found == ours) {
                found.push(ours.to_owned());
            }
        }
    }
    Some((found, changed))
}

/// What renders the messages of a stage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Template {
    /// The model's own.
    Own,
    Std(&'static str),
    /// Declared in the recipe: a name to start from, and the node inside `template`.
    Declared(String, Box<DeclaredTemplate>),
}

/// The inside of a declared template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeclaredTemplate {
    Jinja(String),
    File(String),
    Turns { system: Option<String>, user: String, assistant: String },
}

impl DeclaredTemplate {
    pub fn line(&self, name: &str) -> Line {
        let inner = match self {
            Self::Jinja(text) => Line::new("jinja").quoted(text),
            Self::File(path) => Line::new("file").quoted(path),
            Self::Turns { system, user, assistant } => {
                let mut turns = Line::new("turns");
                if let Some(system) = system {
                    turns.push(Line::new("system").quoted(system));
                }
                turns.push(Line::new("user").quoted(user));
                turns.push(Line::new("assistant").quoted(assistant));
                turns
            }
        };
        Line::new("template").word(name).child(inner)
    }
}

/// Recognises a Jinja template that is one of the library's, by the marks that it writes.
pub(crate) fn known_jinja(jinja: &str) -> Option<&'static str> {
    let has = |mark: &str| jinja.contains(mark);
    let plain = !has("tool") && !has("default_system") && !has("raise_exception");
    let by_role = has("+ message['role'] +") || has("+ message.role +") || has("+message['role']");
    if plain && has("<|im_start|>") && has("<|im_end|>") && by_role && !has("<|user|>") {
        return Some("chatml");
    }
    let marks = ["<|user|>", "<|system|>", "<|assistant|>", "eos_token"];
    let others = ["<|end|>", "[INST]", "<|im_start|>", "bos_token", "strip"];
    (plain && marks.iter().all(|mark| has(mark)) && !others.iter().any(|mark| has(mark))).then_some("zephyr")
}

/// Writes a text as a Jinja string.
pub(crate) fn jinja_text(text: &str) -> String {
    let escapes = [("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")];
    let escaped = escapes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    format!("'{escaped}'")
}

/// Returns the name of a stage: from where the file sends its result, unless that says nothing.
pub(crate) fn stage_name(section: &Section, hub_key: &str, dir_key: &str, other: &str) -> String {
    const SAYS_NOTHING: [&str; 12] = [
        "out",
        "output",
        "outputs",
        "lora-out",
        "qlora-out",
        "model-out",
        "results",
        "checkpoints",
        "lora",
        "full",
        "finetuned",
        "saves",
    ];
    for key in [hub_key, dir_key] {
        let Some(id) = section.text(key) else { continue };
        let last = id.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_lowercase();
        if last.starts_with(|c: char| c.is_ascii_alphabetic()) && !SAYS_NOTHING.contains(&last.as_str()) {
            section.carried(key, "gives the stage its name; results lie in the folder of the run");
            return section.import.name(&last, other);
        }
    }
    section.import.free(other)
}

/// How the batch came about, for a comment beside it.
pub(crate) fn batch_note(micro: u64, accumulation: u64) -> String {
    let product = if accumulation > 1 { format!("{micro} × {accumulation}") } else { micro.to_string() };
    format!("{product} per device; times the devices it ran on, which the file does not say")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_get_the_names_of_the_language() {
        let names =
            |names: &[&str]| weights(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            names(&["q_proj", "self_attn.v_proj"]),
            Some((vec!["q_proj".into(), "v_proj".into()], true))
        );
        assert_eq!(names(&["lm_head"]), Some((vec!["lm_head".into()], false)));
        assert_eq!(names(&["query_key_value"]).map(|(found, _)| found.len()), Some(3));
        assert_eq!(names(&[r"model.layers.[\d]+.(up|down)_proj"]), None);
        assert_eq!(names(&["model.layers.3.q_proj"]), None);
    }

    #[test]
    fn jinja_texts_are_quoted() {
        assert_eq!(jinja_text("it's \"a\"\n\\"), r#"'it\'s "a"\n\\'"#);
    }

    #[test]
    fn defaults_of_the_language_are_not_written() {
        assert!(schedule_line("cosine", Warmup::Share(0.03), 0.0).is_none());
        assert!(schedule_line("cosine", Warmup::None, 0.0).is_some());
    }
}
