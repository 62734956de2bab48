//! The stage `evaluate`.

use super::Lowering;
use super::train::{memory_table, sequence};
use crate::builder::Capacities;
use crate::figures::process::{self, Process};
use crate::objectives::Objective;
use crate::programs;
use lang::recipe::{Evaluate, Overflow, RowType};
use plan::task::{Conduct, Figures};
use plan::value::Dtype;
use plan::work::{self, Encode, LossOn, Sides, Unit, Work};

/// Tokens scored at once.
const TOKENS_AT_ONCE: u64 = 4096;

impl Lowering<'_> {
    /// Lowers an evaluation to its data and its own task.
    pub(super) fn evaluate(&mut self, stage: &Evaluate) {
        let Some(info) = self.model(&stage.model) else { return };
        let template = self.template(stage.template.as_ref(), &info);
        let sequence = sequence(stage.sequence.as_ref().map(|sequence| sequence.value), info.model.as_ref());
        let (encode, overflow) = match self.row_type(&stage.data.name) {
            Some(RowType::Text) => (Encode::Text, Overflow::Split),
            Some(RowType::Chat | RowType::Instruction) => {
                let Some(template) = template else { return };
                (Encode::Chat { template, loss_on: LossOn::Assistant }, Overflow::Drop)
            }
            // The check refuses the others.
            Some(RowType::Preference) | None => return,
        };
        let limits = (sequence, None);
        let Some(prepare) =
            self.prepare(&stage.data, &info.tokenizer, encode, limits, overflow, Sides::EvalOnly)
        else {
            return;
        };
        let name = format!("data:{}", stage.name);
        let data =
            self.task(&name, Work::Prepare(prepare), Conduct::default(), stage.data.span, Figures::default());
        let longest = self.prepared(&data).map(|fact| fact.eval.longest.clamp(2, sequence));
        let module = info.model.as_ref().zip(longest).map(|(model, longest)| {
            let rows = (TOKENS_AT_ONCE / longest).max(1);
            let tokens = rows * longest;
            let capacities = Capacities { tokens, rows, trained: tokens, slots: 0, cached: 0 };
            let mut module = programs::evaluate(model, Objective::CrossEntropy, capacities, Dtype::F32);
            module.decisions.micro_batch_size = rows;
            module
        });
        let tensors = match (&info.model, &module) {
            (Some(model), Some(module)) => programs::file_tensors(model, module),
            _ => Vec::new(),
        };
        let held_out = self.prepared(&data).map(|fact| &fact.eval);
        let rows =
            process::Rows { held_out: held_out.map_or(0, |part| part.rows), ..process::Rows::default() };
        let process = Process { rows: rows.bytes(), ..self.process(0) };
        let mapped =
            held_out.map(|part| vec![("rows".to_owned(), process::mapped(part))]).unwrap_or_default();
        let figures = Figures {
            parameters: info.model.as_ref().map(crate::models::Model::parameters),
            memory: module.as_ref().map(|module| memory_table(module, &process)).unwrap_or_default(),
            mapped,
            ..Figures::default()
        };
        let work = work::Evaluate {
            model: info.artifact.clone(),
            data,
            unit: Unit::Tokens,
            sequence,
            tensors,
            module,
        };
        self.task(&stage.name, Work::Evaluate(Box::new(work)), Conduct::default(), stage.at, figures);
    }

    /// Returns the row type of a dataset or mix.
    fn row_type(&self, name: &str) -> Option<RowType> {
        let dataset = self.recipe.datasets.iter().find(|dataset| dataset.name == name);
        let mix = || self.recipe.mixes.iter().find(|mix| mix.name == name).map(|mix| mix.rows);
        dataset.map(|dataset| dataset.rows.value).or_else(mix)
    }
}
