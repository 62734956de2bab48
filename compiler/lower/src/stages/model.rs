//! `model`: a folder, or a new model of a known architecture.

use super::{Lowering, ModelInfo, stop_ids};
use crate::figures::shapes;
use crate::models::Model;
use lang::diagnostic::Diagnostic;
use lang::facts::{TokenizerFact, Want};
use lang::recipe::{self, Dtype, ModelSource, TokenizerSource};
use plan::task::{Conduct, Figures};
use plan::work::{Artifact, Initialize, Work};
use serde_json::{Value, json};
use std::rc::Rc;

impl Lowering<'_> {
    /// Returns what a `model` declaration stands for.
    pub(super) fn declared_model(&mut self, declared: &recipe::Model) -> Option<ModelInfo> {
        match &declared.source.value {
            ModelSource::Folder(path) => self.model_folder(declared, path),
            ModelSource::New(architecture) => self.new_model(declared, architecture),
        }
    }

    fn model_folder(&mut self, declared: &recipe::Model, path: &str) -> Option<ModelInfo> {
        let tokenizer = match &declared.tokenizer {
            Some(reference) => self.tokenizer(reference)?,
            None => self.tokenizer_at(path),
        };
        let Some(fact) = self.facts.models.get(path) else {
            self.wants.insert(Want::Model(path.to_owned()));
            return Some(ModelInfo {
                artifact: Artifact::Path(path.to_owned()),
                config: None,
                model: None,
                guess: None,
                shapes: None,
                generation_config: None,
                template: None,
                dtype: "f32".into(),
                tokenizer,
            });
        };
        let mut config = fact.config.clone();
        for (name, value) in &declared.config {
            config[name.value.as_str()] = value.value.clone();
        }
        let model = self.architecture(declared, &config);
        let saved = config.get("dtype").or_else(|| config.get("torch_dtype")).and_then(Value::as_str);
        let dtype =
            declared.dtype.as_ref().map_or_else(|| from_config_dtype(saved), |dtype| dtype_name(dtype.value));
        Some(ModelInfo {
            artifact: Artifact::Path(path.to_owned()),
            generation_config: fact.generation_config.clone(),
            template: tokenizer.fact.as_ref().and_then(|fact| fact.chat_template.clone()),
            dtype,
            shapes: shapes(&config).ok().map(Rc::new),
            config: Some(config),
            guess: model.clone(),
            model,
            tokenizer,
        })
    }

    fn new_model(&mut self, declared: &recipe::Model, architecture: &str) -> Option<ModelInfo> {
        let tokenizer = self.tokenizer(declared.tokenizer.as_ref()?)?;
        let dtype = declared.dtype.as_ref().map_or("f32".to_owned(), |dtype| dtype_name(dtype.value));
        let fields: Vec<(String, Value)> =
            declared.config.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect();
        let config = tokenizer.fact.as_ref().map(|fact| {
            let mut config = Model::new_config(architecture, &fields);
            config["vocab_size"] = json!(fact.vocab_size);
            config["dtype"] = json!(config_dtype(&dtype));
            add_special_ids(&mut config, fact);
            config
        });
        let model = config.as_ref().and_then(|config| self.architecture(declared, config));
        let generation_config = tokenizer.fact.as_ref().map(|fact| generation_config(None, fact, None));
        let work = Initialize {
            tokenizer: tokenizer.artifact.clone(),
            config: config.clone().unwrap_or(Value::Null),
            generation_config: generation_config.clone().unwrap_or(Value::Null),
            tensors: model.as_ref().map(Model::new_tensors).unwrap_or_default(),
            dtype: dtype.clone(),
            seed: 42,
        };
        let figures = Figures { parameters: model.as_ref().map(Model::parameters), ..Figures::default() };
        let name = format!("init:{}", declared.name);
        let name = self.task(&name, Work::Initialize(work), Conduct::default(), declared.at, figures);
        let artifact = Artifact::Task(name);
        let guessed = config.clone().or_else(|| {
            let mut config = Model::new_config(architecture, &fields);
            config["vocab_size"] = json!(self.asked_vocab(declared.tokenizer.as_ref()?)?);
            Some(config)
        });
        // What is wrong with the fields that are written does not wait for the vocabulary.
        let guess = match &config {
            Some(_) => model.clone(),
            None => guessed.as_ref().and_then(|config| self.architecture(declared, config)),
        };
        let shapes = guessed.as_ref().and_then(|config| shapes(config).ok()).map(Rc::new);
        Some(ModelInfo {
            artifact,
            config,
            model,
            guess,
            shapes,
            generation_config,
            template: None,
            dtype,
            tokenizer,
        })
    }

    /// Returns the vocabulary that a tokenizer is to be trained to.
    fn asked_vocab(&self, reference: &recipe::Ref) -> Option<u64> {
        let declared = self.recipe.tokenizers.iter().find(|tokenizer| tokenizer.name == reference.name)?;
        match &declared.source {
            TokenizerSource::Train(train) => Some(train.vocab.value),
            TokenizerSource::Path(_) => None,
        }
    }

    fn architecture(&mut self, declared: &recipe::Model, config: &Value) -> Option<Model> {
        match Model::from_config(config) {
            Ok(model) => Some(model),
            Err(problem) => {
                let field = problem.field.as_deref();
                let written = declared.config.iter().find(|(name, _)| Some(name.value.as_str()) == field);
                let at = written.map_or(declared.source.span, |(_, value)| value.span);
                let diagnostic =
                    Diagnostic::error("unsupported-model", problem.message, at, "needed by this model")
                        .with_help("choose a model that this version can run, or correct its config");
                let file = match (&declared.source.value, written) {
                    (ModelSource::Folder(path), None) => Some(format!("{path}/config.json")),
                    (ModelSource::Folder(_) | ModelSource::New(_), _) => None,
                };
                self.diagnostics.push(match (field, file) {
                    (Some(field), Some(file)) => diagnostic.with_note(format!("`{field}` stands in {file}")),
                    _ => diagnostic,
                });
                None
            }
        }
    }
}

/// Returns the name of a dtype in safetensors files.
fn dtype_name(dtype: Dtype) -> String {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::Bf16 => "bf16",
        Dtype::F16 => "f16",
    }
    .to_owned()
}

fn from_config_dtype(name: Option<&str>) -> String {
    match name.map(|name| name.trim_start_matches("torch.")) {
        Some("bfloat16") => "bf16",
        Some("float16") => "f16",
        Some(_) | None => "f32",
    }
    .to_owned()
}

/// Returns the name of a dtype in config.json.
pub(super) fn config_dtype(name: &str) -> &'static str {
    match name {
        "bf16" => "bfloat16",
        "f16" => "float16",
        _ => "float32",
    }
}

fn add_special_ids(config: &mut Value, tokenizer: &TokenizerFact) {
    for (field, token) in
        [("bos_token_id", &tokenizer.bos), ("eos_token_id", &tokenizer.eos), ("pad_token_id", &tokenizer.pad)]
    {
        if let Some((_, id)) = token {
            config[field] = json!(id);
        }
    }
}

/// Returns the generation_config.json of a result: the start's, with every id that ends an answer.
pub(super) fn generation_config(
    base: Option<&Value>,
    tokenizer: &TokenizerFact,
    template: Option<&str>,
) -> Value {
    let mut config = base.cloned().unwrap_or_else(|| json!({}));
    add_special_ids(&mut config, tokenizer);
    let mut ends = stop_ids(template, Some(tokenizer));
    let listed = base.and_then(|base| base.get("eos_token_id"));
    ends.extend(match listed {
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect(),
        Some(id) => id.as_u64().map(|id| id as u32).into_iter().collect(),
        None => Vec::new(),
    });
    ends.sort_unstable();
    ends.dedup();
    match ends.as_slice() {
        [] => {}
        [one] => config["eos_token_id"] = json!(one),
        many => config["eos_token_id"] = json!(many),
    }
    config
}
