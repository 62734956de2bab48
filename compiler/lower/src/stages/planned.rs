//! What this version plans but cannot run: tasks with their inputs and options, and the figures that are known.

use super::Lowering;
use lang::recipe::{Planned, Ref};
use plan::task::{Conduct, Figures};
use plan::work::{Artifact, Declared, Work};
use serde_json::{Map, Value, json};

/// Options of a training stage that say how its rows become tokens.
const OF_ROWS: [&str; 4] = ["sequence", "template", "loss-on", "data"];

impl Lowering<'_> {
    /// Lowers a declaration or stage that cannot be run; returns what stands for it in other tasks.
    pub(super) fn planned(&mut self, planned: &Planned) -> Option<Artifact> {
        if let Some(known) = self.declared.get(&planned.name) {
            return known.clone();
        }
        // A circle was refused by the check; the mark keeps a mistake from running away.
        self.declared.insert(planned.name.clone(), None);
        let artifact = match planned.kind.as_str() {
            "template" | "mix" => None,
            "dataset" => self.planned_dataset(planned),
            "model" | "tokenizer" => Some(self.planned_ingredient(planned)),
            _ => Some(self.planned_stage(planned)),
        };
        self.declared.insert(planned.name.clone(), artifact.clone());
        artifact
    }

    /// A dataset that lies elsewhere is fetched; what is done to its rows belongs to the stage that reads them.
    fn planned_dataset(&mut self, planned: &Planned) -> Option<Artifact> {
        let source = planned.source.clone()?;
        if !lang::paths::is_remote(&source) {
            return Some(Artifact::Path(source));
        }
        let settings = pick(&planned.settings, &["source", "config", "revision"]);
        Some(self.declare(&format!("fetch:{}", planned.name), "fetch", Vec::new(), settings, planned))
    }

    /// A model or tokenizer: fetched, made new, trained, or opened.
    fn planned_ingredient(&mut self, planned: &Planned) -> Artifact {
        let source = planned.source.clone().unwrap_or_default();
        let reads = self.reads(planned);
        let (prefix, kind) = match planned.kind.as_str() {
            _ if lang::paths::is_remote(&source) => ("fetch", "fetch"),
            "tokenizer" => ("tokenizer", "tokenizer"),
            _ => ("model", "model"),
        };
        let name = format!("{prefix}:{}", planned.name);
        let settings = self.with_data(planned);
        let artifact = self.declare(&name, kind, reads, settings, planned);
        let figures = match planned.kind.as_str() {
            "model" => self.figures_of_model(planned),
            _ => Figures::default(),
        };
        if let Some(task) = self.tasks.iter_mut().find(|task| task.name == name) {
            task.figures = figures;
        }
        artifact
    }

    /// A stage; one that trains has a task of its own for its data.
    fn planned_stage(&mut self, planned: &Planned) -> Artifact {
        let mut reads = self.reads(planned);
        let trains = stdlib::schema::top(&planned.kind).is_some_and(|kind| kind.training);
        if !trains {
            let settings = self.with_data(planned);
            return self.declare(&planned.name, &planned.kind, reads, settings, planned);
        }
        // Data is tokenised for the model's tokenizer, so the data task reads the model too.
        let is_data = |(path, _): &(String, Artifact)| matches!(path.as_str(), "data" | "evaluate.on");
        let mut of_data: Vec<(String, Artifact)> =
            reads.iter().filter(|read| is_data(read) || read.0 == "model").cloned().collect();
        of_data.dedup();
        reads.retain(|read| !is_data(read));
        let mut settings = pick(&self.with_data(planned), &OF_ROWS);
        settings["evaluate"] = evaluated_on(planned);
        let data = self.declare(&format!("data:{}", planned.name), "prepare", of_data, settings, planned);
        reads.push(("data".into(), data));
        let artifact = self.declare(&planned.name, &planned.kind, reads, planned.settings.clone(), planned);
        let figures = self.figures_of_training(planned);
        if let Some(task) = self.tasks.iter_mut().find(|task| task.name == planned.name) {
            task.figures = figures;
        }
        artifact
    }

    fn declare(
        &mut self,
        name: &str,
        kind: &str,
        reads: Vec<(String, Artifact)>,
        settings: Value,
        planned: &Planned,
    ) -> Artifact {
        let own = name == planned.name || !planned.is_stage;
        let missing = planned.missing.iter().filter(|_| own).map(|missing| missing.what.clone());
        let work = Declared {
            kind: kind.to_owned(),
            reads,
            settings,
            conduct: if own { planned.conduct.clone() } else { Value::Null },
            missing: missing.collect(),
        };
        let work = Work::Declared(Box::new(work));
        Artifact::Task(self.task(name, work, Conduct::default(), planned.at, Figures::default()))
    }

    /// Returns what a declaration or stage reads; rows of mixes are those of their parts.
    fn reads(&mut self, planned: &Planned) -> Vec<(String, Artifact)> {
        let mut reads = Vec::new();
        for (path, reference) in &planned.refs {
            self.read(path, reference, &mut reads);
        }
        reads
    }

    fn read(&mut self, path: &str, reference: &Ref, reads: &mut Vec<(String, Artifact)>) {
        let recipe = self.recipe;
        if path == "like" || reference.name.starts_with("std:") {
            return;
        }
        let Some(found) = recipe.planned.iter().find(|planned| planned.name == reference.name) else {
            let artifact = if recipe.tokenizers.iter().any(|tokenizer| tokenizer.name == reference.name) {
                self.tokenizer(reference).map(|tokenizer| tokenizer.artifact)
            } else {
                self.model(reference).map(|model| model.artifact.clone())
            };
            reads.extend(artifact.map(|artifact| (path.to_owned(), artifact)));
            return;
        };
        if found.kind == "mix" {
            for (_, part) in &found.refs {
                self.read(path, part, reads);
            }
        }
        let artifact = self.planned(found);
        reads.extend(artifact.map(|artifact| (path.to_owned(), artifact)));
    }

    /// Returns the settings with those of the data and templates that they name, which are no tasks of their own.
    fn with_data(&self, planned: &Planned) -> Value {
        let mut inner = Map::new();
        let mut open: Vec<&Ref> = planned.refs.iter().map(|(_, reference)| reference).collect();
        while let Some(reference) = open.pop() {
            let found = self.recipe.planned.iter().find(|found| found.name == reference.name);
            let found = found.filter(|found| matches!(found.kind.as_str(), "dataset" | "mix" | "template"));
            if let Some(found) = found.filter(|found| !inner.contains_key(&found.name)) {
                inner.insert(found.name.clone(), found.settings.clone());
                open.extend(found.refs.iter().map(|(_, reference)| reference));
            }
        }
        let mut settings = planned.settings.clone();
        if !inner.is_empty() {
            settings["data"] = json!({ "of": settings.get("data").cloned(), "declared": inner });
        }
        settings
    }
}

/// Returns what a stage names to be evaluated on: of several `evaluate` a list.
fn evaluated_on(planned: &Planned) -> Value {
    let on = |evaluate: &Value| evaluate.get("on").cloned();
    match planned.conduct.get("evaluate") {
        Some(Value::Array(all)) => all.iter().map(|evaluate| Value::from(on(evaluate))).collect(),
        one => one.and_then(on).into(),
    }
}

/// Returns some of the fields of an object.
fn pick(settings: &Value, names: &[&str]) -> Value {
    let fields = names.iter().filter_map(|name| Some(((*name).to_owned(), settings.get(name)?.clone())));
    Value::Object(fields.collect())
}
