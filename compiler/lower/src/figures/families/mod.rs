//! One file per family: the fields of its config.json with their published defaults, and its tensors.
//!
//! To add one: a file (or a line in the table of `llama`), a line in [`FAMILIES`], a known total in the tests.

mod falcon;
mod gpt2;
mod llama;
mod mpt;
mod neox;
#[cfg(test)]
mod tests;

use super::architecture::{Kind, Place, Shapes, Tensor};
use super::config::{Fields, Unknown};

type Read = fn(&Fields) -> Result<Shapes, Unknown>;

/// Every `model_type` with its reader. `RefinedWeb` and `RefinedWebModel` are Falcon's first names.
const FAMILIES: [(&str, Read); 17] = [
    ("llama", |fields| llama::read(fields, &llama::LLAMA)),
    ("mistral", |fields| llama::read(fields, &llama::MISTRAL)),
    ("mixtral", |fields| llama::read(fields, &llama::MIXTRAL)),
    ("qwen2", |fields| llama::read(fields, &llama::QWEN2)),
    ("qwen3", |fields| llama::read(fields, &llama::QWEN3)),
    ("gemma", |fields| llama::read(fields, &llama::GEMMA)),
    ("gemma2", |fields| llama::read(fields, &llama::GEMMA2)),
    ("phi3", |fields| llama::read(fields, &llama::PHI3)),
    ("smollm3", |fields| llama::read(fields, &llama::SMOLLM3)),
    ("stablelm", |fields| llama::read(fields, &llama::STABLELM)),
    ("starcoder2", |fields| llama::read(fields, &llama::STARCODER2)),
    ("gpt2", gpt2::read),
    ("gpt_neox", neox::read),
    ("mpt", mpt::read),
    ("falcon", falcon::read),
    ("RefinedWeb", falcon::read),
    ("RefinedWebModel", falcon::read),
];

pub fn read(fields: &Fields) -> Result<Shapes, Unknown> {
    let Some(family) = fields.text("model_type") else {
        return Err(Unknown::of("model_type", "config.json has no `model_type`".into()));
    };
    match FAMILIES.iter().find(|(name, _)| *name == family) {
        Some((_, read)) => read(fields),
        None => {
            Err(Unknown::of("model_type", format!("the shapes of architecture `{family}` are not known")))
        }
    }
}

/// Collects tensors, in the order of the forward pass.
#[derive(Default)]
struct Sheet {
    tensors: Vec<Tensor>,
    layer: Option<u32>,
    prefix: String,
}

impl Sheet {
    /// What follows has this prefix and belongs to this layer.
    fn at(&mut self, prefix: String, layer: Option<u32>) {
        (self.prefix, self.layer) = (prefix, layer);
    }

    fn add(&mut self, name: &str, shape: &[u64], kind: Kind, place: Option<Place>) {
        let name = format!("{}{name}", self.prefix);
        self.tensors.push(Tensor { name, shape: shape.to_vec(), layer: self.layer, kind, place });
    }

    /// Adds a matrix `[out, in]` with or without a bias.
    fn linear(&mut self, name: &str, shape: [u64; 2], bias: bool, place: Place) {
        self.add(&format!("{name}.weight"), &shape, Kind::Linear, Some(place));
        if bias {
            self.add(&format!("{name}.bias"), &shape[..1], Kind::Bias, None);
        }
    }

    fn norm(&mut self, name: &str, size: u64, bias: bool) {
        self.add(&format!("{name}.weight"), &[size], Kind::Norm, None);
        if bias {
            self.add(&format!("{name}.bias"), &[size], Kind::Norm, None);
        }
    }

    /// Adds a table `[rows, hidden]` outside the layers.
    fn table(&mut self, name: &str, shape: [u64; 2], kind: Kind) {
        self.add(&format!("{name}.weight"), &shape, kind, None);
    }
}
