//! What a stage trains: everything, an adapter, or what `train` names.
//!
//! Names are those of the checkpoint's modules (`q_proj`, `c_attn`, `self_attn.o_proj`) and, in every
//! family, `embed_tokens` and `lm_head`. Tied matrices are one, whichever name reaches them.

use super::architecture::{Kind, Place, Shapes, Tensor};
use super::names::{adapter_names, contains, ends_with, module_names, takes_adapter};
use std::collections::BTreeSet;
use std::ops::Range;

/// What the recipe says about what is trained; nothing at all means everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    pub lora: Option<Lora>,
    /// Lines of `train`; they add up.
    pub train: Vec<Line>,
}

/// An adapter beside frozen weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    pub rank: u64,
    /// A named target wins over `all-linear`, a later one over an earlier one.
    pub targets: Vec<Target>,
    /// Modules that are trained in full.
    pub also: Vec<String>,
    /// Whether each target also has a magnitude per output, as DoRA has.
    pub magnitudes: bool,
}

/// Where an adapter stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub name: TargetName,
    /// Nothing stands for the adapter's own rank.
    pub rank: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TargetName {
    /// Every matrix of the layers; not the embedding and not the head.
    AllLinear,
    Module(String),
}

/// One line of `train`.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    Modules(Vec<String>),
    /// All layers, or those in the range.
    Layers(Option<Range<u32>>),
    AllBut(Vec<String>),
    /// This many rows of the embedding, and of the head where it is another matrix.
    NewRows(u64),
}

/// Reads the words of a line of `train`; `added` is the number of rows that the vocabulary has grown by.
///
/// New rows are left out where their number is not known.
pub fn lines(words: &[String], added: Option<u64>) -> Vec<Line> {
    if let Some((first, names)) = words.split_first()
        && first == "all-but"
    {
        return vec![Line::AllBut(names.to_vec())];
    }
    let (mut lines, mut names) = (Vec::new(), Vec::new());
    for word in words {
        match (word.as_str(), range(word), lines.last_mut()) {
            ("new-rows", ..) => lines.extend(added.map(Line::NewRows)),
            ("layers", ..) => lines.push(Line::Layers(None)),
            (_, Some(range), Some(Line::Layers(all @ None))) => *all = Some(range),
            (_, Some(range), _) => lines.push(Line::Layers(Some(range))),
            (_, None, _) => names.push(word.clone()),
        }
    }
    if !names.is_empty() {
        lines.push(Line::Modules(names));
    }
    lines
}

fn range(word: &str) -> Option<Range<u32>> {
    let (first, end) = word.split_once("..")?;
    Some(first.trim().parse().ok()?..end.trim().parse().ok()?)
}

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    pub updates: Vec<Update>,
    /// What each target reaches, in the order of the recipe.
    pub reached: Vec<Reached>,
    /// Names that match nothing.
    pub missing: Vec<Missing>,
}

/// One trained tensor, or the trained rows of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Index in [`Shapes::tensors`]; of an adapter that of the matrix beside which it stands.
    pub tensor: usize,
    pub shape: Vec<u64>,
    pub layer: Option<u32>,
    pub kind: Kind,
    pub place: Option<Place>,
    pub part: Part,
}

/// What an update is of its tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    Rows,
    /// `[rank, in]`.
    LoraA,
    /// `[out, rank]`.
    LoraB,
    Magnitude,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub name: String,
    pub layers: u32,
    pub tensors: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    /// The names that exist in this place, for a suggestion.
    pub known: Vec<String>,
}

impl Update {
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    pub fn is_adapter(&self) -> bool {
        match self.part {
            Part::Whole | Part::Rows => false,
            Part::LoraA | Part::LoraB | Part::Magnitude => true,
        }
    }
}

impl Trained {
    /// Returns the number of trained parameters.
    pub fn parameters(&self) -> u64 {
        self.updates.iter().map(Update::elements).sum()
    }

    /// Returns the parameters that the adapter adds to the model.
    pub fn adapter_parameters(&self) -> u64 {
        self.updates.iter().filter(|update| update.is_adapter()).map(Update::elements).sum()
    }

    /// Returns the lowest layer that a gradient must reach; nothing when only what follows the layers is trained.
    pub fn lowest_layer(&self) -> Option<u32> {
        let lowest = |update: &Update| match (update.layer, update.kind) {
            (Some(layer), _) => Some(layer),
            // A tied head is the embedding and stands as one.
            (None, Kind::Embedding | Kind::Positions) => Some(0),
            (None, _) => None,
        };
        self.updates.iter().filter_map(lowest).min()
    }
}

/// Returns what a selection trains of a model.
pub fn trained(shapes: &Shapes, selection: &Selection) -> Trained {
    let mut found = Search { shapes, whole: BTreeSet::new(), reached: Vec::new(), missing: Vec::new() };
    let mut rows = 0;
    if selection.lora.is_none() && selection.train.is_empty() {
        found.whole.extend(0..shapes.tensors.len());
    }
    let adapter = selection.lora.as_ref().map(|lora| found.adapter(lora)).unwrap_or_default();
    for line in &selection.train {
        match line {
            Line::Modules(names) => names.iter().for_each(|name| found.module(name)),
            Line::Layers(range) => found.layers(range.as_ref()),
            Line::AllBut(names) => found.all_but(names),
            Line::NewRows(count) => rows = rows.max(*count),
        }
    }
    let mut updates: Vec<Update> =
        found.whole.iter().map(|&index| update(shapes, index, None, Part::Whole)).collect();
    if rows > 0 {
        let tables = shapes.tensors.iter().enumerate().filter(|(index, tensor)| {
            matches!(tensor.kind, Kind::Embedding | Kind::Head) && !found.whole.contains(index)
        });
        let of = |tensor: &Tensor| vec![rows.min(tensor.shape[0]), tensor.shape[1]];
        updates.extend(tables.map(|(index, tensor)| update(shapes, index, Some(of(tensor)), Part::Rows)));
    }
    updates.extend(adapter);
    Trained { updates, reached: found.reached, missing: found.missing }
}

fn update(shapes: &Shapes, index: usize, shape: Option<Vec<u64>>, part: Part) -> Update {
    let tensor = &shapes.tensors[index];
    let shape = shape.unwrap_or_else(|| tensor.shape.clone());
    Update { tensor: index, shape, layer: tensor.layer, kind: tensor.kind, place: tensor.place, part }
}

/// Collects tensors by name.
struct Search<'a> {
    shapes: &'a Shapes,
    /// Indices of tensors that are trained in full.
    whole: BTreeSet<usize>,
    reached: Vec<Reached>,
    missing: Vec<Missing>,
}

impl Search<'_> {
    /// Returns the adapter's tensors and selects what is trained beside it.
    fn adapter(&mut self, lora: &Lora) -> Vec<Update> {
        let mut ranks: Vec<Option<u64>> = vec![None; self.shapes.tensors.len()];
        // Named targets come last, so that they win.
        let (all, named): (Vec<_>, Vec<_>) =
            lora.targets.iter().partition(|target| target.name == TargetName::AllLinear);
        for target in all.into_iter().chain(named) {
            for index in self.target(&target.name) {
                ranks[index] = Some(target.rank.unwrap_or(lora.rank));
            }
        }
        lora.also.iter().for_each(|name| self.module(name));
        let mut updates = Vec::new();
        for (index, rank) in ranks.into_iter().enumerate() {
            let Some(rank) = rank else { continue };
            let (input, out) = sides(self.shapes, &self.shapes.tensors[index]);
            let update = |shape, part| update(self.shapes, index, Some(shape), part);
            updates.push(update(vec![rank, input], Part::LoraA));
            updates.push(update(vec![out, rank], Part::LoraB));
            if lora.magnitudes {
                updates.push(update(vec![out], Part::Magnitude));
            }
        }
        updates
    }

    /// Returns the matrices that a target reaches.
    fn target(&mut self, name: &TargetName) -> Vec<usize> {
        let reaches = |tensor: &Tensor| match name {
            TargetName::AllLinear => tensor.kind.is_linear(),
            TargetName::Module(name) => takes_adapter(tensor) && ends_with(self.shapes, tensor, name),
        };
        let shown = match name {
            TargetName::AllLinear => "all-linear",
            TargetName::Module(name) => name,
        };
        let found = self.indices(reaches);
        let known = || adapter_names(self.shapes);
        self.note(shown, &found, known);
        found
    }

    fn module(&mut self, name: &str) {
        let found = self.indices(|tensor| contains(self.shapes, tensor, name));
        self.note(name, &found, || module_names(self.shapes));
        self.whole.extend(found);
    }

    fn layers(&mut self, range: Option<&Range<u32>>) {
        let layers = self.shapes.layers;
        let range = range.cloned().unwrap_or(0..layers);
        let shown = format!("layers {}..{}", range.start, range.end);
        if range.is_empty() || range.end > layers {
            self.missing.push(Missing { name: shown, known: vec![format!("layers 0..{layers}")] });
            return;
        }
        let found = self.indices(|tensor| tensor.layer.is_some_and(|layer| range.contains(&layer)));
        self.note(&shown, &found, Vec::new);
        self.whole.extend(found);
    }

    fn all_but(&mut self, names: &[String]) {
        let mut left_out = BTreeSet::new();
        for name in names {
            let found = match name.as_str() {
                "layers" => self.indices(|tensor| tensor.layer.is_some()),
                name => self.indices(|tensor| contains(self.shapes, tensor, name)),
            };
            self.note(name, &found, || module_names(self.shapes));
            left_out.extend(found);
        }
        self.whole.extend((0..self.shapes.tensors.len()).filter(|index| !left_out.contains(index)));
    }

    fn indices(&self, reaches: impl Fn(&Tensor) -> bool) -> Vec<usize> {
        let tensors = self.shapes.tensors.iter().enumerate();
        tensors.filter(|(_, tensor)| reaches(tensor)).map(|(index, _)| index).collect()
    }

    /// Notes what a name reaches, or that it reaches nothing.
    fn note(&mut self, name: &str, found: &[usize], known: impl FnOnce() -> Vec<String>) {
        if found.is_empty() {
            let known = known();
            self.missing.push(Missing { name: name.into(), known });
            return;
        }
        let layers: BTreeSet<u32> =
            found.iter().filter_map(|&index| self.shapes.tensors[index].layer).collect();
        let (layers, tensors) = (layers.len() as u32, found.len() as u64);
        self.reached.push(Reached { name: name.into(), layers, tensors });
    }
}

/// Returns inputs and outputs of a matrix; GPT-2 stores those of its layers the other way round.
fn sides(shapes: &Shapes, tensor: &Tensor) -> (u64, u64) {
    match shapes.family == "gpt2" && tensor.kind == Kind::Linear {
        true => (tensor.shape[0], tensor.shape[1]),
        false => (tensor.shape[1], tensor.shape[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::architecture::shapes;
    use serde_json::{Value, json};

    fn of(config: Value) -> Shapes {
        shapes(&config).unwrap()
    }

    /// H 8, I 16, 4 heads of 2, 2 of keys, 3 layers, 10 ids.
    fn small(tied: bool) -> Shapes {
        of(json!({"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 16,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied}))
    }

    fn lora(rank: u64, targets: &[(&str, Option<u64>)]) -> Selection {
        let target = |&(name, rank): &(&str, Option<u64>)| Target {
            name: match name {
                "all-linear" => TargetName::AllLinear,
                name => TargetName::Module(name.into()),
            },
            rank,
        };
        let targets = targets.iter().map(target).collect();
        Selection {
            lora: Some(Lora { rank, targets, also: Vec::new(), magnitudes: false }),
            train: Vec::new(),
        }
    }

    fn train(lines: &[Line]) -> Selection {
        Selection { lora: None, train: lines.to_vec() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn everything_is_the_default_and_counts_tied_matrices_once() {
        for tied in [true, false] {
            let shapes = small(tied);
            let all = trained(&shapes, &Selection::default());
            assert_eq!((all.parameters(), all.adapter_parameters()), (shapes.parameters(), 0));
        }
        assert_eq!(small(false).parameters() - small(true).parameters(), 80);
    }

    /// Published: 130,547,712 trained of 6,985,167,168, which is 64 × 63,744 × 32.
    #[test]
    fn aguila_with_rank_64_on_all_linear_layers() {
        let shapes = of(json!({"model_type": "falcon", "vocab_size": 50257}));
        let adapter = trained(&shapes, &lora(64, &[("all-linear", None)]));
        assert_eq!(adapter.parameters(), 130_547_712);
        assert_eq!(shapes.parameters() + adapter.adapter_parameters(), 6_985_167_168);
        assert_eq!(adapter.reached, [Reached { name: "all-linear".into(), layers: 32, tensors: 128 }]);
    }

    #[test]
    fn named_targets_win_over_all_linear() {
        // One layer: q 8·8, k and v 4·8, o 8·8, gate up 16·8, down 8·16.
        let rank_of_one = 16 + 12 + 12 + 16 + 24 + 24 + 24;
        let shapes = small(true);
        let plain = trained(&shapes, &lora(2, &[("all-linear", None)]));
        assert_eq!(plain.parameters(), 3 * 2 * rank_of_one);
        for targets in
            [[("all-linear", None), ("q_proj", Some(5))], [("q_proj", Some(5)), ("all-linear", None)]]
        {
            let overridden = trained(&shapes, &lora(2, &targets));
            assert_eq!(overridden.parameters(), 3 * (2 * rank_of_one + 3 * 16));
        }
    }

    #[test]
    fn magnitudes_are_one_per_output() {
        let mut dora = lora(2, &[("k_proj", None)]);
        dora.lora.as_mut().unwrap().magnitudes = true;
        assert_eq!(trained(&small(true), &dora).parameters(), 3 * (2 * 12 + 4));
    }

    #[test]
    fn what_is_trained_beside_an_adapter_counts_once() {
        let mut selection = lora(2, &[("q_proj", None)]);
        selection.lora.as_mut().unwrap().also = names(&["embed_tokens", "lm_head"]);
        assert_eq!(trained(&small(true), &selection).parameters(), 80 + 3 * 2 * 16);
        assert_eq!(trained(&small(false), &selection).parameters(), 160 + 3 * 2 * 16);
        selection.train = vec![Line::NewRows(3)];
        assert_eq!(trained(&small(false), &selection).parameters(), 160 + 3 * 2 * 16);
    }

    #[test]
    fn targets_that_match_nothing_come_with_the_names_that_exist() {
        let known = |config: Value| {
            let mut missing = trained(&of(config), &lora(2, &[("qproj", None)])).missing;
            assert_eq!((missing.len(), missing[0].name.as_str()), (1, "qproj"));
            missing.remove(0).known
        };
        let ends = ["embed_tokens", "lm_head"];
        let llama = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        assert_eq!(known(json!({"model_type": "llama"})), [&llama[..], &ends].concat());
        assert_eq!(known(json!({"model_type": "gpt2"})), [&["c_attn", "c_proj", "c_fc"][..], &ends].concat());
        let falcon = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"];
        assert_eq!(known(json!({"model_type": "falcon"})), [&falcon[..], &ends].concat());
        let mixtral = ["q_proj", "k_proj", "v_proj", "o_proj", "gate", "w1", "w2", "w3"];
        assert_eq!(known(json!({"model_type": "mixtral"})), [&mixtral[..], &ends].concat());
    }

    #[test]
    fn a_target_is_the_end_of_a_path_between_dots() {
        let gpt2 = of(json!({"model_type": "gpt2"}));
        let count = |name: &str| trained(&gpt2, &lora(1, &[(name, None)])).reached.first().map(|r| r.tensors);
        assert_eq!(count("c_proj"), Some(24));
        assert_eq!(count("mlp.c_proj"), Some(12));
        assert_eq!(count("proj"), None);
        assert_eq!(count("ln_1"), None);
        assert_eq!(count("attn"), None);
    }

    #[test]
    fn lines_of_train_add_up() {
        let shapes = small(false);
        let layer: u64 = shapes.layer(0).map(Tensor::elements).sum();
        let count = |lines: &[Line]| trained(&shapes, &train(lines)).parameters();
        assert_eq!(count(&[Line::Layers(None)]), 3 * layer);
        assert_eq!(count(&[Line::Layers(Some(1..3))]), 2 * layer);
        assert_eq!(count(&[Line::Layers(Some(0..2)), Line::Layers(Some(1..3))]), 3 * layer);
        assert_eq!(count(&[Line::Modules(names(&["embed_tokens"])), Line::Layers(Some(0..1))]), 80 + layer);
        assert_eq!(count(&[Line::AllBut(names(&["embed_tokens"]))]), shapes.parameters() - 80);
        assert_eq!(count(&[Line::AllBut(names(&["layers", "norm"]))]), 2 * 80);
        assert_eq!(count(&[Line::NewRows(3)]), 2 * 3 * 8);
        assert_eq!(count(&[Line::Modules(names(&["mlp"]))]), 3 * 3 * 16 * 8);
    }

    #[test]
    fn words_of_a_line() {
        let of = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            lines(&words, Some(3))
        };
        assert_eq!(of("layers"), [Line::Layers(None)]);
        let ranges = [0..8, 12..16].map(|range| Line::Layers(Some(range)));
        assert_eq!(of("layers 0..8 12..16"), ranges);
        assert_eq!(of("norm layers 0..8 wte"), [ranges[0].clone(), Line::Modules(names(&["norm", "wte"]))]);
        assert_eq!(of("all-but layers wte"), [Line::AllBut(names(&["layers", "wte"]))]);
        assert_eq!(of("new-rows lm_head"), [Line::NewRows(3), Line::Modules(names(&["lm_head"]))]);
    }

    #[test]
    fn new_rows_of_a_tied_model_are_rows_of_one_matrix() {
        let rows = trained(&small(true), &train(&[Line::NewRows(3)]));
        assert_eq!(rows.parameters(), 3 * 8);
        assert_eq!(trained(&small(true), &train(&[Line::NewRows(300)])).parameters(), 80);
    }

    #[test]
    fn layers_that_do_not_exist_are_named() {
        for range in [0..4, 3..3, Range { start: 2, end: 1 }] {
            let found = trained(&small(true), &train(&[Line::Layers(Some(range))]));
            assert_eq!(found.missing[0].known, ["layers 0..3"]);
            assert_eq!(found.parameters(), 0);
        }
        let unknown = trained(&small(true), &train(&[Line::Modules(names(&["wte"]))])).missing;
        assert!(unknown[0].known.contains(&"embed_tokens".to_owned()));
        assert!(unknown[0].known.contains(&"input_layernorm".to_owned()));
    }

    #[test]
    fn the_lowest_layer_that_a_gradient_reaches() {
        let shapes = small(false);
        let lowest = |lines: &[Line]| trained(&shapes, &train(lines)).lowest_layer();
        assert_eq!(lowest(&[Line::Layers(Some(1..3))]), Some(1));
        assert_eq!(lowest(&[Line::Modules(names(&["lm_head"]))]), None);
        assert_eq!(lowest(&[Line::Modules(names(&["embed_tokens"]))]), Some(0));
        let tied = small(true);
        let head = trained(&tied, &train(&[Line::Modules(names(&["lm_head"]))]));
        assert_eq!(head.lowest_layer(), Some(0));
    }
}
