//! Modules and programs: the values of a stage and the op lists that work on them.

use crate::op::{Op, OpKind, Output, Write};
use crate::value::{Dim, Dtype, Extent, ExtentId, Role, Value, ValueId};
use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All programs of one stage and the values that they share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Module {
    pub extents: Vec<Extent>,
    pub values: Vec<Value>,
    pub programs: Vec<Program>,
    pub mesh: Mesh,
    pub decisions: Decisions,
    /// Bytes of each arena; set by the memory pass.
    #[serde(default)]
    pub arenas: Vec<Arena>,
}

/// An op list that the runtime runs as a whole.
///
/// Names with a meaning for the runtime: `begin` (once per step, before the first micro-step),
/// `micro` (repeated), `update` (once per step), `evaluate`, `reference`, `prefill`, `decode`, `logits`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    pub ops: Vec<Op>,
}

/// Devices that a module is planned for: replicas × shards.
///
/// Every rank holds everything, or of each trained matrix its part; see the `shard` pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    pub replicas: u32,
    pub shards: u32,
}

impl Mesh {
    /// Returns the number of ranks.
    pub fn ranks(self) -> u64 {
        u64::from(self.replicas) * u64::from(self.shards)
    }

    /// Returns the bytes that ranks of one process exchange through, at most.
    ///
    /// Each shows pieces in turns: while the others read one, it writes the next.
    pub fn exchange_bytes(self) -> u64 {
        if self.ranks() > 1 { 2 * SHOWN_BYTES * self.ranks() } else { 0 }
    }
}

/// Bytes that a rank shows to the others at a time.
pub const SHOWN_BYTES: u64 = 1 << 20;

/// In words: `2 replicas`, `one device`.
impl std::fmt::Display for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match (self.replicas, self.shards) {
            (1, 1) => f.write_str("one device"),
            (replicas, 1) => write!(f, "{replicas} replicas"),
            (1, shards) => write!(f, "{shards} shards"),
            (replicas, shards) => write!(f, "{replicas} replicas of {shards} shards"),
        }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Mesh { replicas: 1, shards: 1 }
    }
}

/// Choices that the plan made; a resumed run takes them from its checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// Sequences (or pairs) per micro-step and device.
    pub micro_batch_size: u64,
    /// Regions of which activations are computed again in the backward pass.
    pub recompute: Vec<Recomputed>,
}

/// A region of which activations are computed again in the backward pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recomputed {
    pub region: String,
    pub level: Level,
}

/// How much of a region is computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Norms and activation functions, whose inputs are kept anyway.
    Cheap,
    /// Everything; only the input of the region is kept.
    Block,
}

impl Level {
    /// Returns the name that `adapt plan` prints.
    pub fn name(self) -> &'static str {
        match self {
            Level::Cheap => "cheap",
            Level::Block => "block",
        }
    }
}

/// One block of memory that values of a role live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arena {
    pub role: Role,
    pub bytes: u64,
}

impl Module {
    /// Adds an extent.
    pub fn extent(&mut self, name: &str, capacity: u64) -> ExtentId {
        self.extents.push(Extent { name: name.to_owned(), capacity });
        ExtentId(self.extents.len() as u32 - 1)
    }

    /// Adds a value.
    pub fn value(&mut self, name: impl Into<String>, dtype: Dtype, role: Role, shape: Vec<Dim>) -> ValueId {
        self.values.push(Value { name: name.into(), dtype, role, shape, whole_rows: None, offset: None });
        ValueId(self.values.len() as u32 - 1)
    }

    /// Returns the program of that name.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// Returns the value of that name.
    pub fn named(&self, name: &str) -> Option<ValueId> {
        let index = self.values.iter().position(|value| value.name == name)?;
        Some(ValueId(index as u32))
    }

    /// Returns the capacities of all extents, in order.
    pub fn capacities(&self) -> Vec<u64> {
        self.extents.iter().map(|extent| extent.capacity).collect()
    }

    /// Returns the bytes of a role's arena.
    pub fn arena_bytes(&self, role: Role) -> u64 {
        self.arenas.iter().find(|arena| arena.role == role).map_or(0, |arena| arena.bytes)
    }

    /// Returns the bytes of all arenas.
    pub fn total_bytes(&self) -> u64 {
        self.arenas.iter().map(|arena| arena.bytes).sum()
    }

    /// Returns the same module with every f32 value as f64, for finite differences and oracles.
    pub fn widened(&self) -> Module {
        let mut wide = self.clone();
        for value in &mut wide.values {
            if value.dtype == Dtype::F32 {
                value.dtype = Dtype::F64;
            }
            // Scratch is counted in bytes of f32 elements.
            if value.role == Role::Workspace {
                for dim in value.shape.iter_mut().take(1) {
                    dim.factor *= 2;
                }
            }
            value.offset = None;
        }
        wide.arenas.clear();
        wide
    }
}

impl Program {
    /// Returns the dependence graph: an edge from the op that writes a value to each op that needs it.
    ///
    /// Writes to one value keep their order.
    pub fn graph(&self) -> DiGraph<usize, ValueId> {
        let mut graph = DiGraph::new();
        let nodes: Vec<NodeIndex> = (0..self.ops.len()).map(|index| graph.add_node(index)).collect();
        let mut writer: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut readers: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (index, op) in self.ops.iter().enumerate() {
            for &input in &op.inputs {
                if let Some(&from) = writer.get(&input) {
                    graph.add_edge(nodes[from], nodes[index], input);
                }
                readers.entry(input).or_default().push(index);
            }
            for output in &op.outputs {
                if let Some(&from) = writer.get(&output.value) {
                    graph.add_edge(nodes[from], nodes[index], output.value);
                }
                for from in readers.remove(&output.value).unwrap_or_default() {
                    if from != index {
                        graph.add_edge(nodes[from], nodes[index], output.value);
                    }
                }
                writer.insert(output.value, index);
            }
        }
        graph
    }
}

impl Op {
    /// Makes an op without scratch.
    pub fn new(kind: OpKind, inputs: Vec<ValueId>, outputs: Vec<Output>, region: &str) -> Self {
        Op { kind, inputs, outputs, workspace: None, region: region.to_owned() }
    }

    /// Returns all values that the op touches.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        let outputs = self.outputs.iter().map(|output| output.value);
        self.inputs.iter().copied().chain(outputs).chain(self.workspace)
    }

    /// Returns whether the op reads the value, as an input or as something that it adds to.
    pub fn reads(&self, value: ValueId) -> bool {
        self.inputs.contains(&value)
            || self.outputs.iter().any(|output| output.value == value && output.write != Write::Set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three values, and an op that reads some of them and writes one.
    fn module() -> (Module, [ValueId; 3]) {
        let mut module = Module::default();
        let tokens = module.extent("tokens", 8);
        let values = [
            module.value("x", Dtype::F32, Role::Activation, vec![tokens.into(), 4.into()]),
            module.value("y", Dtype::F32, Role::Gradient, vec![4.into()]),
            module.value("ids", Dtype::I32, Role::Batch, vec![tokens.into()]),
        ];
        (module, values)
    }

    fn op(inputs: &[ValueId], value: ValueId, write: Write) -> Op {
        Op::new(OpKind::Add, inputs.to_vec(), vec![Output { value, write }], "layers.0")
    }

    #[test]
    fn an_op_waits_for_what_it_reads_and_for_who_reads_what_it_writes() {
        let (_, [x, y, ids]) = module();
        let ops = vec![
            op(&[], x, Write::Set),
            op(&[x], y, Write::Set),
            op(&[ids], x, Write::Set),
            op(&[y], y, Write::Add),
        ];
        let graph = Program { name: "micro".into(), ops }.graph();
        let mut edges: Vec<(usize, usize, ValueId)> = graph
            .edge_indices()
            .map(|edge| {
                let (from, to) = graph.edge_endpoints(edge).expect("an edge has two ends");
                (graph[from], graph[to], graph[edge])
            })
            .collect();
        edges.sort();
        // Op 2 overwrites what op 1 still reads; op 3 reads and adds to what op 1 wrote.
        assert_eq!(edges, [(0, 1, x), (0, 2, x), (1, 2, x), (1, 3, y), (1, 3, y)]);
    }

    #[test]
    fn what_is_added_to_is_read() {
        let (_, [x, y, ids]) = module();
        let set = op(&[x], y, Write::Set);
        assert!(set.reads(x) && !set.reads(y));
        assert!(
            [Write::Add, Write::Accumulate, Write::Update]
                .into_iter()
                .all(|write| op(&[x], y, write).reads(y))
        );
        let scratch = Op { workspace: Some(ids), ..set };
        assert_eq!(scratch.values().collect::<Vec<_>>(), [x, y, ids]);
    }

    #[test]
    fn a_wide_module_has_twice_the_bytes_and_no_places() {
        let (mut module, [x, _, ids]) = module();
        let scratch = module.value("scratch", Dtype::U8, Role::Workspace, vec![64.into()]);
        module.values[x.index()].offset = Some(256);
        module.arenas.push(Arena { role: Role::Activation, bytes: 128 });
        assert_eq!((module.total_bytes(), module.arena_bytes(Role::Activation)), (128, 128));
        assert_eq!((module.arena_bytes(Role::Weight), module.capacities()), (0, vec![8]));
        let wide = module.widened();
        let dtypes: Vec<Dtype> = wide.values.iter().map(|value| value.dtype).collect();
        assert_eq!(dtypes, [Dtype::F64, Dtype::F64, Dtype::I32, Dtype::U8]);
        assert_eq!(wide.values[scratch.index()].shape[0].factor, 128);
        assert_eq!(wide.values[ids.index()].shape, module.values[ids.index()].shape);
        assert!(wide.arenas.is_empty() && wide.values[x.index()].offset.is_none());
        assert_eq!((wide.named("x"), wide.named("z")), (Some(x), None));
    }
}
