//! The stage `generate`.

use super::train::{memory_table, sampling_capacities};
use super::{Lowering, ModelInfo, Options, limit, stop_ids};
use crate::builder::Capacities;
use crate::figures::process::{self, Process};
use crate::models::Model;
use crate::programs;
use lang::diagnostic::Diagnostic;
use lang::facts::PartFact;
use lang::origin::LONGEST_DEFAULT_SEQUENCE;
use lang::recipe::{Generate, Overflow, Ref};
use plan::program::Module;
use plan::task::{Conduct, Figures};
use plan::value::Dtype;
use plan::work::{self, Encode, Sampling, Sides, Work};

/// Rows answered at once at most: by then a step of decoding computes more than it reads.
const MOST_SLOTS: u64 = 32;

/// Tokens of prompts for which there is room at least, so that the engine need not run fewer.
const LEAST_TOKENS: u64 = 8;

/// Tokens of prompts read at once, unless one prompt is longer.
const TOKENS_AT_ONCE: u64 = 4096;

impl Lowering<'_> {
    /// Lowers a generation to its data, if it has some, and its own task.
    pub(super) fn generate(&mut self, stage: &Generate) {
        let Some(info) = self.model(&stage.model) else { return };
        let template = self.template(stage.template.as_ref(), &info);
        let prompts: Vec<String> = stage.prompts.iter().map(|prompt| prompt.value.clone()).collect();
        let max_tokens = stage.max_tokens.value;
        let precision = precision(&info);
        let process = self.process_of(&info, template.is_none());
        let (data, module) = match &stage.data {
            Some(rows) => {
                let Some(data) = self.prompt_rows(stage, rows, &info, template.clone()) else { return };
                let module = self.answering_rows(stage, &info, &data, (precision, process));
                (Some(data), module)
            }
            None => {
                let group = || std::iter::once((prompts.as_slice(), max_tokens));
                let module = info.model.as_ref().map(|model| {
                    let capacities = sampling_capacities(group(), model.max_positions());
                    programs::generate(model, capacities, precision)
                });
                (None, module)
            }
        };
        let tensors = match (&info.model, &module) {
            (Some(model), Some(module)) => programs::file_tensors(model, module),
            _ => Vec::new(),
        };
        let figures = Figures {
            parameters: info.model.as_ref().map(Model::parameters),
            memory: module.as_ref().map(|module| memory_table(module, &process)).unwrap_or_default(),
            ..Figures::default()
        };
        let work = work::Generate {
            model: info.artifact.clone(),
            tokenizer: info.tokenizer.artifact.clone(),
            stop_ids: stop_ids(template.as_deref(), info.tokenizer.fact.as_ref()),
            prompts,
            data,
            template,
            sampling: Sampling {
                max_tokens,
                temperature: stage.temperature.value,
                top_p: stage.top_p.value,
                top_k: stage.top_k.value,
                repetition_penalty: stage.repetition_penalty.value,
                seed: stage.seed.value,
            },
            precision,
            context: info.model.as_ref().map_or(0, Model::max_positions),
            tensors,
            module,
        };
        self.task(&stage.name, Work::Generate(Box::new(work)), Conduct::default(), stage.at, figures);
    }

    /// Returns what answering prompts takes beside its arenas; `plain` where they are read without a template.
    fn process_of(&self, info: &ModelInfo, plain: bool) -> Process {
        let known = info.tokenizer.fact.as_ref().and_then(|fact| fact.memory);
        self.process(process::tokenizer(known, plain))
    }

    /// Adds the task that turns rows into prompts; without a template there are none, which the check reports.
    fn prompt_rows(
        &mut self,
        stage: &Generate,
        data: &Ref,
        info: &ModelInfo,
        template: Option<String>,
    ) -> Option<String> {
        let positions = info.model.as_ref().map_or(LONGEST_DEFAULT_SEQUENCE, Model::max_positions);
        // The last position is left to the answer.
        let limits = (positions.saturating_sub(1).max(1), None);
        let encode = Encode::Prompt { template: template? };
        let prepare = self.prepare(data, &info.tokenizer, encode, limits, Overflow::Drop, Sides::EvalOnly)?;
        let name = format!("data:{}", stage.name);
        Some(self.task(&name, Work::Prepare(prepare), Conduct::default(), data.span, Figures::default()))
    }

    /// Returns programs for as many rows at once as memory holds, once the rows are counted.
    fn answering_rows(
        &mut self,
        stage: &Generate,
        info: &ModelInfo,
        data: &str,
        (precision, process): (Dtype, Process),
    ) -> Option<Module> {
        let model = info.model.as_ref()?;
        let rows = self.prepared(data)?.eval.clone();
        let limit = self.limit().unwrap_or(u64::MAX);
        let mut slots = rows.rows.clamp(1, MOST_SLOTS);
        loop {
            let capacities = row_capacities(slots, &rows, stage.max_tokens.value, model.max_positions());
            let module = programs::generate(model, capacities, precision);
            let bytes = module.total_bytes() + process.bytes(&module);
            if bytes <= limit {
                return Some(module);
            }
            if slots == 1 {
                self.diagnostics.push(exceeds_memory(stage, self.options, bytes, limit));
                return None;
            }
            slots = slots.div_ceil(2);
        }
    }
}

/// Returns the format that a model answers in: that of its weights where they are bf16, else f32.
fn precision(info: &ModelInfo) -> Dtype {
    match info.dtype.as_str() {
        "bf16" => Dtype::Bf16,
        _ => Dtype::F32,
    }
}

/// Returns what answering rows needs, so many at once.
fn row_capacities(slots: u64, rows: &PartFact, max_tokens: u64, positions: u64) -> Capacities {
    let longest = rows.longest.max(1);
    let tokens = (slots * longest).min(TOKENS_AT_ONCE.max(longest)).max(slots).max(LEAST_TOKENS);
    let cached = longest.saturating_add(max_tokens).min(positions);
    Capacities { tokens, rows: slots, trained: 0, slots, cached }
}

fn exceeds_memory(stage: &Generate, options: &Options, bytes: u64, limit: u64) -> Diagnostic {
    let more = limit::more(options, bytes);
    Diagnostic::error(
        "exceeds-memory",
        format!("stage `{}` needs {}{}", stage.name, limit::size(bytes), limit::place(options, limit)),
        stage.at,
        "with one row at a time",
    )
    .with_help(format!("write a smaller `max-tokens`, choose a smaller model, or {more}"))
}
