//! Programs and plans as readable, diffable text.

use crate::op::{ATTENTION_INPUTS, Op, OpKind, Write};
use crate::program::{Level, Module, Program};
use crate::value::{Dim, Role, ValueId};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Returns a program as text, one op per line, preceded by its region where that changes.
pub fn program(module: &Module, program: &Program) -> String {
    let mut out = format!("program {}\n", program.name);
    if program.name == "micro" {
        for line in [frozen(module), recomputed(module), shared(program)].into_iter().flatten() {
            let _ = writeln!(out, "  # {line}");
        }
    }
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

/// Returns what is left as it is: weights outside the layers, and layers as a whole or in part.
fn frozen(module: &Module) -> Option<String> {
    let update = module.program("update")?;
    let written: BTreeSet<ValueId> =
        update.ops.iter().flat_map(|op| &op.outputs).map(|output| output.value).collect();
    let weights = module.values.iter().enumerate().filter(|(_, value)| value.role == Role::Weight);
    // Names or layers with the number of their weights, and of those that are frozen.
    let mut groups: Vec<(&str, usize, usize)> = Vec::new();
    for (index, value) in weights {
        let group = layer(&value.name);
        if groups.last().is_none_or(|(name, ..)| *name != group) {
            groups.push((group, 0, 0));
        }
        let (_, all, frozen) = groups.last_mut().expect("one was added");
        *all += 1;
        *frozen += usize::from(!written.contains(&ValueId(index as u32)));
    }
    let count: usize = groups.iter().map(|(.., frozen)| frozen).sum();
    let named = |keep: fn(usize, usize) -> bool| {
        let kept = groups.iter().filter(|(_, all, frozen)| keep(*all, *frozen));
        ranges(&kept.map(|(name, ..)| *name).collect::<Vec<_>>())
    };
    let whole = named(|all, frozen| frozen == all);
    let parts = named(|all, frozen| frozen > 0 && frozen < all);
    let parts = parts.into_iter().map(|name| format!("parts of {name}"));
    let listed: Vec<String> = whole.into_iter().chain(parts).collect();
    (count > 0).then(|| format!("frozen, {count} weights: {}", listed.join(", ")))
}

/// Returns the layer that a name begins with, else the name.
fn layer(name: &str) -> &str {
    let end = name.strip_prefix("layers.").and_then(|rest| rest.find('.')).map(|at| "layers.".len() + at);
    &name[..end.unwrap_or(name.len())]
}

/// Returns which regions are computed again, and how much of them.
fn recomputed(module: &Module) -> Option<String> {
    let levels = [Level::Block, Level::Cheap].map(|level| {
        let regions = module.decisions.recompute.iter().filter(|recomputed| recomputed.level == level);
        let regions: Vec<&str> = regions.map(|recomputed| recomputed.region.as_str()).collect();
        (!regions.is_empty()).then(|| format!("{} of {}", level.name(), ranges(&regions).join(", ")))
    });
    let levels: Vec<String> = levels.into_iter().flatten().collect();
    (!levels.is_empty()).then(|| format!("computed again: {}", levels.join("; ")))
}

/// Returns whether pairs share what they begin with, of a program that has pairs.
fn shared(program: &Program) -> Option<String> {
    let pairs = program.ops.iter().any(|op| matches!(op.kind, OpKind::PreferenceLoss { .. }));
    let shares = |op: &Op| matches!(op.kind, OpKind::Attention(_)) && op.inputs.len() > ATTENTION_INPUTS;
    pairs.then(|| match program.ops.iter().any(shares) {
        true => "the prompt of a pair is computed once".to_owned(),
        false => "the prompt of a pair is computed for each answer: dropout draws by row".to_owned(),
    })
}

/// Joins names that count up: `layers.0`, `layers.1`, `layers.2` are `layers.0..3`.
fn ranges(names: &[&str]) -> Vec<String> {
    let numbered = |name: &str| {
        let (stem, number) = name.rsplit_once('.')?;
        Some((stem.to_owned(), number.parse::<u64>().ok()?))
    };
    let mut runs: Vec<(String, Option<(u64, u64)>)> = Vec::new();
    for name in names {
        match (numbered(name), runs.last_mut()) {
            (Some((stem, number)), Some((last, Some((_, end))))) if *last == stem && *end == number => {
                *end += 1;
            }
            (Some((stem, number)), _) => runs.push((stem, Some((number, number + 1)))),
            (None, _) => runs.push(((*name).to_owned(), None)),
        }
    }
    let text = |(stem, run)| match run {
        None => stem,
        Some((first, end)) if first + 1 == end => format!("{stem}.{first}"),
        Some((first, end)) => format!("{stem}.{first}..{end}"),
    };
    runs.into_iter().map(text).collect()
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
