//! Stages of the recipe to tasks of the plan, one file per kind.

mod counts;
mod data;
mod duration;
mod evaluate;
mod fit;
mod generate;
mod known;
mod limit;
mod model;
mod planned;
mod predicted;
mod ranks;
mod tokenizer;
mod train;

use crate::figures::Shapes;
use crate::figures::time::Machine;
use crate::keys;
use crate::models::Model;
use known::Unknown;
use lang::diagnostic::Diagnostic;
use lang::facts::{Facts, TokenizerFact, Want};
use lang::recipe::{Recipe, Ref, Stage, TemplateRef};
use lang::source::{Source, Span};
use plan::program::Decisions;
use plan::task::{Conduct, Figures, Key, Place, Plan, Task};
use plan::work::{Artifact, DataPart, Work};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What the command line decides about a lowering.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// File stem of the recipe.
    pub name: String,
    /// Bytes that a run may use; else the machine's.
    pub memory: Option<u64>,
    /// Decisions that were made before, by stage: those of a run that is resumed.
    pub decisions: BTreeMap<String, Decisions>,
    /// Devices to predict for, in place of this machine.
    pub on: Option<Machine>,
    /// Ranks that training stages are divided over on this machine; 0 is 1.
    pub devices: u32,
    /// Whether it is going to run on this machine, so that what it certainly cannot hold is an error.
    pub runs: bool,
}

/// The outcome of a lowering. Without errors the plan is as complete as the facts allow.
#[derive(Debug)]
pub struct Lowered {
    pub plan: Plan,
    pub diagnostics: Vec<Diagnostic>,
    pub wants: Vec<Want>,
    /// Figures that are unknown, and why, each a sentence without its full stop.
    pub notes: Vec<String>,
}

/// Lowers a checked recipe.
pub fn lower(recipe: &Recipe, sources: &[Source], facts: &Facts, options: &Options) -> Lowered {
    let mut lowering = Lowering {
        recipe,
        sources,
        facts,
        options,
        tasks: Vec::new(),
        models: BTreeMap::new(),
        lowered: BTreeSet::new(),
        declared: BTreeMap::new(),
        diagnostics: Vec::new(),
        wants: BTreeSet::new(),
        unknown: BTreeMap::new(),
    };
    for stage in &recipe.stages {
        lowering.stage(stage);
    }
    for planned in recipe.planned.iter().filter(|planned| !planned.runnable) {
        lowering.planned(planned);
    }
    let mut plan = Plan {
        version: plan::PLAN_VERSION,
        numerics: plan::NUMERICS_VERSION,
        recipe: options.name.clone(),
        tasks: lowering.tasks,
    };
    plan.sort();
    let mut diagnostics = lowering.diagnostics;
    diagnostics.dedup();
    let notes = lowering.unknown.into_iter().map(|(why, what)| format!("{} unknown: {why}", what.said()));
    Lowered { plan, diagnostics, wants: lowering.wants.into_iter().collect(), notes: notes.collect() }
}

/// A model as a stage sees it: what it is, where it lies, what it carries.
#[derive(Debug, Clone)]
struct ModelInfo {
    artifact: Artifact,
    /// config.json, when known.
    config: Option<Value>,
    model: Option<Model>,
    /// The model as far as it can be told before its vocabulary is known, for estimates.
    guess: Option<Model>,
    /// The tensors of that model.
    shapes: Option<Rc<Shapes>>,
    generation_config: Option<Value>,
    tokenizer: TokenizerInfo,
    /// The chat template that it carries.
    template: Option<String>,
    /// Number format of its saved weights.
    dtype: String,
}

#[derive(Debug, Clone)]
struct TokenizerInfo {
    artifact: Artifact,
    fact: Option<TokenizerFact>,
}

struct Lowering<'a> {
    recipe: &'a Recipe,
    sources: &'a [Source],
    facts: &'a Facts,
    options: &'a Options,
    tasks: Vec<Task>,
    models: BTreeMap<String, Rc<ModelInfo>>,
    lowered: BTreeSet<String>,
    /// What stands for each declaration or stage that cannot be run.
    declared: BTreeMap<String, Option<Artifact>>,
    diagnostics: Vec<Diagnostic>,
    wants: BTreeSet<Want>,
    /// Figures that are unknown, by what keeps them so.
    unknown: BTreeMap<String, Unknown>,
}

impl Lowering<'_> {
    /// Lowers a stage once; stages that it starts from come first.
    fn stage(&mut self, stage: &Stage) {
        let name = match stage {
            Stage::Train(stage) => &stage.name,
            Stage::Evaluate(stage) => &stage.name,
            Stage::Generate(stage) => &stage.name,
        };
        if !self.lowered.insert(name.clone()) {
            return;
        }
        match stage {
            Stage::Train(stage) => self.train(stage),
            Stage::Evaluate(stage) => self.evaluate(stage),
            Stage::Generate(stage) => self.generate(stage),
        }
    }

    /// Returns the model that a reference means: a declaration, or the result of a stage.
    fn model(&mut self, reference: &Ref) -> Option<Rc<ModelInfo>> {
        if let Some(info) = self.models.get(&reference.name) {
            return Some(info.clone());
        }
        let recipe = self.recipe;
        if let Some(declared) = recipe.models.iter().find(|model| model.name == reference.name) {
            let info = Rc::new(self.declared_model(declared)?);
            self.models.insert(reference.name.clone(), info.clone());
            return Some(info);
        }
        let stage = recipe.stages.iter().find(|stage| match stage {
            Stage::Train(stage) => stage.name == reference.name,
            Stage::Evaluate(_) | Stage::Generate(_) => false,
        })?;
        self.stage(stage);
        self.models.get(&reference.name).cloned()
    }

    /// Adds a task, or returns the name of one that does the same work.
    fn task(&mut self, name: &str, work: Work, conduct: Conduct, at: Span, figures: Figures) -> String {
        let same = self.tasks.iter().find(|task| task.work == work && task.conduct == conduct);
        if let Some(task) = same.filter(|task| task.name.contains(':') && name.contains(':')) {
            return task.name.clone();
        }
        let inputs = keys::inputs(&work);
        let key = self.key(&work, &inputs);
        let origin = self.place(at);
        self.tasks.push(Task { name: name.to_owned(), inputs, work, key, conduct, origin, figures });
        name.to_owned()
    }

    /// Returns the key of a task, when all that it depends on is known.
    fn key(&mut self, work: &Work, inputs: &[String]) -> Option<Key> {
        let mut known = self.is_complete(work);
        let mut contents = keys::Contents::default();
        for input in inputs {
            match self.tasks.iter().find(|task| task.name == *input).and_then(|task| task.key.clone()) {
                Some(key) => {
                    contents.tasks.insert(input.clone(), key);
                }
                None => known = false,
            }
        }
        for (place, files) in self.files(work) {
            for path in files {
                match self.facts.hashes.get(&path) {
                    Some(hash) => contents.paths.entry(place.clone()).or_default().push_str(hash),
                    None => {
                        self.wants.insert(Want::Hash(path));
                        known = false;
                    }
                }
            }
        }
        known.then(|| keys::key(work, &contents))
    }

    /// Returns whether nothing in the work waits for a fact.
    fn is_complete(&self, work: &Work) -> bool {
        match work {
            Work::TrainTokenizer(work) => work.data.iter().all(|part| !part.train_files.is_empty()),
            Work::Initialize(work) => !work.config.is_null(),
            Work::Prepare(work) => {
                work.parts.iter().all(|part| !part.train_files.is_empty() || !part.eval_files.is_empty())
            }
            Work::Train(work) => work.module.is_some() && work.steps.is_some(),
            Work::Evaluate(work) => work.module.is_some(),
            Work::Generate(work) => work.module.is_some(),
            Work::Declared(_) => false,
        }
    }

    /// Returns the outside files that a work reads, each group under the place that names it in the work.
    fn files(&self, work: &Work) -> Vec<(String, Vec<String>)> {
        match work {
            Work::TrainTokenizer(work) => data_files(&work.data),
            Work::Initialize(work) => self.tokenizer_files(&work.tokenizer),
            Work::Prepare(work) => [self.tokenizer_files(&work.tokenizer), data_files(&work.parts)].concat(),
            Work::Train(work) => {
                let reference = work.reference.iter().flat_map(|artifact| self.model_files(artifact));
                self.model_files(&work.model).into_iter().chain(reference).collect()
            }
            Work::Evaluate(work) => self.model_files(&work.model),
            Work::Declared(_) => Vec::new(),
            Work::Generate(work) => {
                [self.model_files(&work.model), self.tokenizer_files(&work.tokenizer)].concat()
            }
        }
    }

    fn model_files(&self, artifact: &Artifact) -> Vec<(String, Vec<String>)> {
        let Artifact::Path(path) = artifact else { return Vec::new() };
        let fact = self.facts.models.get(path);
        fact.map(|fact| (path.clone(), fact.weight_files.clone())).into_iter().collect()
    }

    fn tokenizer_files(&self, artifact: &Artifact) -> Vec<(String, Vec<String>)> {
        let Artifact::Path(path) = artifact else { return Vec::new() };
        let fact = self.facts.tokenizers.get(path);
        fact.map(|fact| (path.clone(), fact.files.clone())).into_iter().collect()
    }

    fn place(&self, at: Span) -> Place {
        let file = self.sources.get(at.source.0 as usize).map_or(String::new(), |source| source.path.clone());
        Place { file, start: at.start, end: at.end }
    }

    /// Returns the text of a stage's template: its own, else the one that the model carries.
    fn template(&self, reference: Option<&TemplateRef>, model: &ModelInfo) -> Option<String> {
        match reference {
            None => model.template.clone(),
            Some(TemplateRef::Std(name)) => stdlib::template(&name.value).map(str::to_owned),
            Some(TemplateRef::Declared(reference)) => {
                let declared = self.recipe.templates.iter().find(|template| template.name == reference.name);
                declared.map(|template| template.jinja.value.clone())
            }
        }
    }
}

/// Returns the files of data parts, each its own place.
fn data_files(parts: &[DataPart]) -> Vec<(String, Vec<String>)> {
    let files = parts.iter().flat_map(|part| part.train_files.iter().chain(&part.eval_files));
    files.map(|file| (file.clone(), vec![file.clone()])).collect()
}

/// Returns the ids that end an answer: eos, and special tokens that the template writes after one.
fn stop_ids(template: Option<&str>, tokenizer: Option<&TokenizerFact>) -> Vec<u32> {
    let Some(tokenizer) = tokenizer else { return Vec::new() };
    let mut ids: Vec<u32> = tokenizer.eos.iter().map(|(_, id)| *id).collect();
    let marked = template.and_then(|text| text.split("generation").nth(1));
    for (text, id) in &tokenizer.special {
        let is_mark = [&tokenizer.bos, &tokenizer.pad].into_iter().flatten().any(|(_, other)| other == id);
        if !is_mark && marked.is_some_and(|marked| marked.contains(text.as_str())) {
            ids.push(*id);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}
