//! Programs and plans as readable, diffable text.

use crate::op::{Op, OpKind, Write};
use crate::program::{Module, Program};
use crate::value::{Dim, ValueId};
use std::fmt::Write as _;

/// Returns a program as text, one op per line, preceded by its region where that changes.
pub fn program(module: &Module, program: &Program) -> String {
    let mut out = format!("program {}\n", program.name);
    let mut region = "";
    for op in &program.ops {
        if op.region != region {
            region = &op.region;
            let _ = writeln!(out, "  {region}");
        }
        let _ = writeln!(out, "    {}", op_line(module, op));
    }
    out
}

fn op_line(module: &Module, op: &Op) -> String {
    let outputs: Vec<String> = op
        .outputs
        .iter()
        .map(|output| {
            let mark = match output.write {
                Write::Set => "",
                Write::Add => "+",
                Write::Accumulate => "*",
                Write::Update => "!",
            };
            format!("{}{mark} {}", name(module, output.value), shape(module, output.value))
        })
        .collect();
    let inputs: Vec<String> = op.inputs.iter().map(|&id| name(module, id).to_owned()).collect();
    let attributes = attributes(&op.kind);
    format!("{} = {}({}){attributes}", outputs.join(", "), op.kind.name(), inputs.join(", "))
}

fn name(module: &Module, id: ValueId) -> &str {
    &module.values[id.index()].name
}

/// Returns dtype, shape and place of a value: `f32[tokens, 64]@1024`.
pub fn shape(module: &Module, id: ValueId) -> String {
    let value = &module.values[id.index()];
    let dims: Vec<String> = value.shape.iter().map(|dim| dim_text(module, *dim)).collect();
    let place = value.offset.map_or(String::new(), |offset| format!("@{offset}"));
    format!("{}[{}]{place}", value.dtype.name(), dims.join(", "))
}

fn dim_text(module: &Module, dim: Dim) -> String {
    match (dim.factor, dim.extent) {
        (factor, None) => factor.to_string(),
        (1, Some(id)) => module.extents[id.0 as usize].name.clone(),
        (factor, Some(id)) => format!("{factor}*{}", module.extents[id.0 as usize].name),
    }
}

/// Attributes as the JSON form has them, without the op's name; empty when there are none.
fn attributes(kind: &OpKind) -> String {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(kind) else {
        return String::new();
    };
    fields.remove("op");
    if fields.is_empty() {
        return String::new();
    }
    let parts: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={}", short(value))).collect();
    format!(" {{{}}}", parts.join(" "))
}

fn short(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(items) if items.len() > 4 => format!("[{} values]", items.len()),
        other => other.to_string(),
    }
}
