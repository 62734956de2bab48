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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Output;
    use crate::value::{Dtype, Role};

    #[test]
    fn a_program_is_one_line_for_each_op() {
        let mut module = Module::default();
        let tokens = module.extent("tokens", 8);
        let wide = Dim { factor: 2, extent: Some(tokens) };
        let x = module.value("x", Dtype::Bf16, Role::Activation, vec![tokens.into(), 64.into()]);
        let y = module.value("y", Dtype::F16, Role::Activation, vec![wide]);
        module.values[x.index()].offset = Some(1024);
        let op = |kind, inputs, value, write, region: &str| {
            Op::new(kind, inputs, vec![Output { value, write }], region)
        };
        let ops = vec![
            op(OpKind::Copy, vec![y], x, Write::Set, "embed"),
            op(OpKind::Copy, vec![x], y, Write::Add, "layers.0"),
            op(OpKind::Copy, vec![x], y, Write::Accumulate, "layers.0"),
            op(OpKind::ClipFactor { max_norm: 1.5 }, vec![], y, Write::Update, "update"),
        ];
        let text = program(&module, &Program { name: "micro".into(), ops });
        let expected = "program micro\n  embed\n    x bf16[tokens, 64]@1024 = copy(y)\n  layers.0\n    y+ f16[2*tokens] = copy(x)\n    y* f16[2*tokens] = copy(x)\n  update\n    y! f16[2*tokens] = clip_factor() {max_norm=1.5}\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn long_lists_are_counted() {
        assert_eq!(short(&serde_json::json!([1, 2, 3, 4, 5])), "[5 values]");
        assert_eq!(short(&serde_json::json!([1, 2, 3, 4])), "[1,2,3,4]");
    }
}
