//! The graph of tasks: the stages of the recipe and the work that they imply.

use crate::program::Mesh;
use crate::work::{Artifact, Sampling, Work};
use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a run does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub version: u32,
    pub numerics: u32,
    /// File stem of the recipe.
    pub recipe: String,
    /// In an order in which they may run: by place in the recipe as far as dependencies allow.
    pub tasks: Vec<Task>,
}

/// A vertex of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Unique: the stage's name, or the work before a colon and what it is for: `data:chat`.
    pub name: String,
    /// Names of the tasks whose results it reads, sorted.
    pub inputs: Vec<String>,
    pub work: Work,
    /// Names what shapes the result; absent while a content hash or an input's key is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    pub conduct: Conduct,
    /// Where in the recipe it comes from.
    pub origin: Place,
    /// Figures for people; `~` ones are estimates.
    pub figures: Figures,
}

/// Hash of everything that shapes a task's result, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub String);

impl Key {
    /// Returns the start of the key, enough to tell keys of one run apart.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(8)]
    }
}

/// A place in a recipe file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    pub start: u32,
    pub end: u32,
}

/// How a task is carried out and reported; never part of its key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Conduct {
    /// Evaluation before, during and after training, when the data has held-out rows; without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<Every>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Every {
    Steps(u64),
    Epochs(f64),
    Seconds(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub every: Every,
    pub keep: u64,
}

/// Prompts answered during training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub every: Every,
    pub prompts: Vec<String>,
    /// Chat template for the prompts; absent: the text goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    pub sampling: Sampling,
    pub stop_ids: Vec<u32>,
}

/// A number that is known or estimated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub value: f64,
    pub estimate: bool,
}

/// What `adapt plan` prints of a task; absent figures are unknown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Figure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Figure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_parameters: Option<u64>,
    /// FLOPs of one token, forward and backward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops_per_token: Option<f64>,
    /// Bytes by role and by item of the process, when it has most; of all ranks of this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<(String, u64)>,
    /// Bytes of the files that are mapped beside that, by what they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapped: Vec<(String, u64)>,
    /// Whether the memory is that of a module whose sizes are still estimates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_is_estimate: bool,
    /// Predicted seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Figure>,
    /// Whether the seconds are those of full sequences, where the length of rows is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seconds_at_most: bool,
    /// The devices that memory and time are predicted for, when not this machine: name and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<(String, u64)>,
    /// The ranks of this machine that a training stage is divided over, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<Ranks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
}

/// Ranks of one process, and what each of them holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranks {
    #[serde(flatten)]
    pub mesh: Mesh,
    /// Bytes by role, of one rank.
    pub memory: Vec<(String, u64)>,
}

impl Plan {
    /// Returns the task of that name.
    pub fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.name == name)
    }

    /// Returns the graph: an edge from each task to those that read its result.
    pub fn graph(&self) -> DiGraph<&str, ()> {
        let mut graph = DiGraph::new();
        let nodes: BTreeMap<&str, NodeIndex> =
            self.tasks.iter().map(|task| (task.name.as_str(), graph.add_node(task.name.as_str()))).collect();
        for task in &self.tasks {
            for input in &task.inputs {
                if let Some(&from) = nodes.get(input.as_str()) {
                    graph.add_edge(from, nodes[task.name.as_str()], ());
                }
            }
        }
        graph
    }

    /// Sorts tasks so that each follows its inputs, otherwise keeping their order (Kahn).
    ///
    /// # Panics
    /// Panics on a circle; the checker refuses those.
    pub fn sort(&mut self) {
        let names: BTreeSet<String> = self.tasks.iter().map(|task| task.name.clone()).collect();
        let mut waiting: Vec<Task> = std::mem::take(&mut self.tasks);
        let mut done: BTreeSet<String> = BTreeSet::new();
        while !waiting.is_empty() {
            let ready = waiting
                .iter()
                .position(|task| {
                    task.inputs.iter().all(|input| done.contains(input) || !names.contains(input))
                })
                .expect("a checked recipe has no circle");
            let task = waiting.remove(ready);
            done.insert(task.name.clone());
            self.tasks.push(task);
        }
    }
}

impl Artifact {
    /// Returns the task that makes it, if one does.
    pub fn task(&self) -> Option<&str> {
        match self {
            Artifact::Task(name) => Some(name),
            Artifact::Path(_) => None,
        }
    }
}
