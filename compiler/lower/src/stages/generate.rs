//! The stage `generate`.

use super::train::{memory_table, sampling_capacities};
use super::{Lowering, stop_ids};
use crate::programs;
use lang::recipe::Generate;
use plan::task::{Conduct, Figures};
use plan::value::Dtype;
use plan::work::{self, Sampling, Work};

impl Lowering<'_> {
    /// Lowers a generation to one task.
    pub(super) fn generate(&mut self, stage: &Generate) {
        let Some(info) = self.model(&stage.model) else { return };
        let template = self.template(stage.template.as_ref(), &info);
        let prompts: Vec<String> = stage.prompts.iter().map(|prompt| prompt.value.clone()).collect();
        let max_tokens = stage.max_tokens.value;
        let module = info.model.as_ref().map(|model| {
            let group = std::iter::once((prompts.as_slice(), max_tokens));
            let capacities = sampling_capacities(group, model.max_positions());
            programs::generate(model, capacities, Dtype::F32)
        });
        let tensors = match (&info.model, &module) {
            (Some(model), Some(module)) => programs::file_tensors(model, module),
            _ => Vec::new(),
        };
        let figures = Figures {
            parameters: info.model.as_ref().map(crate::models::Model::parameters),
            memory: module.as_ref().map(memory_table).unwrap_or_default(),
            ..Figures::default()
        };
        let work = work::Generate {
            model: info.artifact.clone(),
            tokenizer: info.tokenizer.artifact.clone(),
            stop_ids: stop_ids(template.as_deref(), info.tokenizer.fact.as_ref()),
            prompts,
            template,
            sampling: Sampling {
                max_tokens,
                temperature: stage.temperature.value,
                top_p: stage.top_p.value,
                top_k: stage.top_k.value,
                repetition_penalty: stage.repetition_penalty.value,
                seed: stage.seed.value,
            },
            context: info.model.as_ref().map_or(0, crate::models::Model::max_positions),
            tensors,
            module,
        };
        self.task(&stage.name, Work::Generate(Box::new(work)), Conduct::default(), stage.at, figures);
    }
}
