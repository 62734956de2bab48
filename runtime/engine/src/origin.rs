//! What a training stage is made from, kept beside its checkpoints, to say what changed when the key did.

use crate::run::Context;
use plan::NUMERICS_VERSION;
use plan::task::Key;
use plan::work::{Artifact, Train};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What a stage's key is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Hash of what the recipe says of the stage itself; empty in checkpoints that do not tell.
    recipe: String,
    /// Keys of the tasks that it reads.
    inputs: BTreeMap<String, Key>,
}

impl Origin {
    /// Returns that of a stage whose inputs are done.
    pub fn of(context: &Context, work: &Train) -> Self {
        let key = |name: &String| Some((name.clone(), context.folder.record(name)?.key));
        Origin { recipe: written(work), inputs: context.task.inputs.iter().filter_map(key).collect() }
    }

    /// Says how this one, of a checkpoint of those numerics, differs from what is there now, and what to undo.
    pub fn differs(&self, now: &Origin, numerics: u32, work: &Train) -> (String, String) {
        let changed: Vec<String> = now
            .inputs
            .iter()
            .filter(|(name, key)| self.inputs.get(*name) != Some(key))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if numerics != NUMERICS_VERSION {
            let what = format!("of another version of adapt (numerics {numerics}, now {NUMERICS_VERSION})");
            (what, "go on with that version".into())
        } else if self.recipe != now.recipe {
            ("under another recipe".into(), "undo the change to go on".into())
        } else if !changed.is_empty() {
            let changed = changed.join(" and ");
            let help = format!("undo the change of the rows or options that {changed} comes from to go on");
            (format!("made from another {changed}"), help)
        } else {
            let models = [Some(&work.model), work.reference.as_ref()];
            let paths = models.into_iter().flatten().filter_map(|model| match model {
                Artifact::Path(path) => Some(path.as_str()),
                Artifact::Task(_) => None,
            });
            let paths = paths.collect::<Vec<_>>().join(" or ");
            let place = if paths.is_empty() { "the model".to_owned() } else { paths };
            (format!("made from other files in {place}"), "put the earlier files back to go on".into())
        }
    }
}

/// Returns a hash of what the recipe says of a stage, without what lies in the files that it names.
fn written(work: &Train) -> String {
    let Train {
        objective,
        unit,
        preference,
        model,
        data,
        eval_data,
        reference,
        batch,
        order,
        sequence,
        pack,
        budget,
        steps: _,
        precision,
        optimizer,
        schedule,
        seed,
        trained,
        config: _,
        generation_config: _,
        chat_template: _,
        tensors: _,
        dtype: _,
        module: _,
    } = work;
    let from = json!([objective, unit, preference, model, data, eval_data, reference]);
    let how = json!([batch, order, sequence, pack, budget, precision, optimizer, schedule, seed, trained]);
    blake3::hash(json!([from, how]).to_string().as_bytes()).to_hex()[..32].to_owned()
}
