//! Rules across nodes, one by one. A rule is silent where a part that it reads is missing or unknown.

pub mod adapter;
pub mod amounts;
pub mod ancestry;
pub mod conditions;
pub mod curves;
pub mod data;
pub mod embeddings;
pub mod flow;
pub mod groups;
pub mod jinja;
pub mod languages;
pub mod leaks;
pub mod merge;
pub mod model;
pub mod overlap;
pub mod preference;
pub mod rows;
pub mod sampling;
pub mod saved;
pub mod schedule;
pub mod sequence;
pub mod shapes;
pub mod sources;
pub mod stage;
pub mod steps;
pub mod targets;
pub mod template;
pub mod translate;
pub mod turns;
pub mod updated;
pub mod watch;
pub mod weights;

use crate::capability::Missing;
use crate::diagnostic::Diagnostic;
use crate::facts::{Facts, PathFact, Want};
use crate::files::unusable;
use crate::names::Names;
use crate::paths;
use crate::source::{Source, Span};
use crate::tree::{Item, Slot};

/// Codes that say that something is not there.
const ABSENCES: [&str; 6] = [
    "missing-option",
    "missing-template",
    "new-rows-untrained",
    "no-held-out-rows",
    "nothing-to-watch",
    "quantize-needs-lora",
];

/// What rules read, and where they put what they find.
pub struct Context<'a> {
    pub names: &'a Names<'a>,
    pub facts: &'a Facts,
    /// What models are as they flow from stage to stage, worked out once.
    pub types: flow::Types<'a>,
    /// The folder of every file.
    pub folders: &'a [String],
    /// Every text of the compilation.
    pub sources: &'a [Source],
    /// Whether declarations and `defaults` may be lost to a syntax error or a missing file.
    pub lost: bool,
    /// The node whose rules are applied.
    pub current: Option<&'a Item>,
    pub diagnostics: &'a mut Vec<Diagnostic>,
    pub wants: &'a mut Vec<Want>,
    /// What facts show to be out of reach of this version, by the name of the declaration.
    pub later: &'a mut Vec<(String, Missing)>,
}

impl<'a> Context<'a> {
    /// Applies every rule.
    pub fn check(&mut self) {
        for item in self.names.items.iter() {
            self.current = Some(item);
            match item.kind() {
                "model" => model::check(self, item),
                "tokenizer" => model::check_tokenizer(self, item),
                "template" => template::check(self, item),
                "dataset" => data::check_dataset(self, item),
                "mix" => data::check_mix(self, item),
                _ if item.schema.training => stage::check_training(self, item),
                "thread" => stage::check_data_stage(self, item),
                "translate" => {
                    stage::check_data_stage(self, item);
                    translate::check(self, item);
                    languages::check(self, item);
                }
                "swap-tokenizer" | "extend-tokenizer" => embeddings::check(self, item),
                "merge" => merge::check(self, item),
                "export" => targets::check_export(self, item),
                "publish" => targets::check_publish(self, item),
                "evaluate" => stage::check_evaluate(self, item),
                "generate" => stage::check_generate(self, item),
                _ => {}
            }
        }
        self.current = None;
        rows::check(self);
        targets::check_places(self);
    }

    /// Returns the path of a source or file that an item names.
    pub fn resolve(&self, item: &Item, path: &str) -> String {
        paths::resolve(&self.folders[item.file], path)
    }

    /// Returns what is written at a place.
    pub fn written(&self, at: Span) -> &'a str {
        let text = self.sources.get(at.source.0 as usize).map_or("", |source| source.text.as_str());
        text.get(at.start as usize..at.end as usize).unwrap_or_default()
    }

    /// Returns the key of an item's source in the facts: a path, or a remote source with what pins it.
    pub fn source_key(&self, item: &Item) -> Option<String> {
        source_key(self.folders, item)
    }

    /// Reports what a rule found, with what the node takes over from elsewhere, but nothing as missing that
    /// damaged text could have supplied.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        if !(self.lost && ABSENCES.contains(&diagnostic.code.as_str())) {
            let noted = self.current.filter(|item| item.schema.training);
            self.diagnostics.push(match noted {
                Some(stage) => diagnostic.with_inherited(stage),
                None => diagnostic,
            });
        }
    }

    /// Whether something usable is at a path, as far as is known; reports when not.
    fn is_there(&mut self, path: &str, at: Span, many: bool) -> bool {
        match self.facts.paths.get(path) {
            None => self.wants.push(Want::Path(path.to_owned())),
            // A folder without data files may still be a model.
            Some(PathFact::Many(_)) if !many => {}
            Some(fact) => {
                if let Some(problem) = unusable(fact, path, at) {
                    let text = self.written(at).trim_matches('"');
                    self.report(match problem.code.as_str() {
                        "missing-file" if paths::may_be_on_hub(text) => problem.with_help(format!(
                            "check the path, or write `\"hf:{text}\"` for what lies on the hub"
                        )),
                        _ => problem,
                    });
                    return false;
                }
            }
        }
        true
    }
}

/// Returns the key of an item's source in the facts.
pub fn source_key(folders: &[String], item: &Item) -> Option<String> {
    let text = item.argument()?.text()?;
    let property = |name| item.property(name).and_then(Slot::text);
    Some(match paths::is_remote(text) {
        true => paths::remote_key(text, property("revision"), property("config")),
        false => paths::resolve(&folders[item.file], text),
    })
}
