//! `adapt schema`: the recipe language for machines, as JSON.
//!
//! Everything that the checker knows of the language and that a tool may want: nodes with their values
//! and children, row types, what comes with adapt, architectures, diagnostic codes. `version` counts
//! changes of this format that take something away.

use crate::terminal;
use serde_json::{Value, json};
use std::process::ExitCode;
use stdlib::hardware::{HARDWARE, Hardware, HardwareKind};
use stdlib::reference;
use stdlib::schema::{
    self, Architecture, Argument, Choice, Literal, Node, Property, Range, Status, Type, Unit,
};

/// The version of the format.
const VERSION: u32 = 1;

/// Print the recipe language for machines
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt schema > adapt-schema.json
  adapt schema | jq '.nodes[] | select(.name == \"sft\") | .children[].name'")]
pub struct Args {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub format: Format,
}

/// A form that the schema can be printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Json,
}

/// Prints the schema.
pub fn run(args: &Args) -> ExitCode {
    let text = match args.format {
        Format::Json => serde_json::to_string_pretty(&to_json()).expect("tables are plain data") + "\n",
    };
    terminal::print(&text)
}

/// Builds the whole schema.
pub fn to_json() -> Value {
    json!({
        "version": VERSION,
        "language": 1,
        "adapt": env!("CARGO_PKG_VERSION"),
        "nodes": schema::TOP.iter().map(|top| node(top)).collect::<Vec<_>>(),
        "row_types": row_types(),
        "library": library(),
        "architectures": schema::ARCHITECTURES.iter().map(architecture).collect::<Vec<_>>(),
        "diagnostics": stdlib::pages::PAGES.iter().map(|(code, page)| {
            json!({ "code": code, "summary": stdlib::pages::summary(page) })
        }).collect::<Vec<_>>(),
    })
}

fn node(node: &Node) -> Value {
    json!({
        "name": node.name,
        "doc": node.doc,
        "status": status(node.status),
        "declares": node.declares,
        "gives": some(node.gives),
        "training": node.training,
        "fits": node.fits,
        "required": node.required,
        "repeats": node.repeats,
        "group": some(node.group),
        "absent": some(node.absent),
        "open": node.open,
        "arguments": node.arguments.iter().map(argument).collect::<Vec<_>>(),
        "properties": node.properties.iter().map(property).collect::<Vec<_>>(),
        "children": node.children.iter().map(|child| self::node(child)).collect::<Vec<_>>(),
    })
}

fn argument(argument: &Argument) -> Value {
    json!({
        "name": argument.name,
        "doc": argument.doc,
        "type": ty(&argument.ty),
        "required": argument.required,
        "repeats": argument.repeats,
        "default": argument.default.map(literal),
    })
}

fn property(property: &Property) -> Value {
    json!({
        "name": property.name,
        "doc": property.doc,
        "status": status(property.status),
        "type": ty(&property.ty),
        "required": property.required,
        "optional": property.optional,
        "default": property.default.map(literal),
        "only": property.only,
    })
}

/// A type: its kind, what belongs to the kind, and the same in words.
fn ty(ty: &Type) -> Value {
    let mut value = match ty {
        Type::Text => json!({ "kind": "text" }),
        Type::Source => json!({ "kind": "source" }),
        Type::Path => json!({ "kind": "path" }),
        Type::Bool => json!({ "kind": "bool" }),
        Type::Literal => json!({ "kind": "literal" }),
        Type::Integer(range) => json!({ "kind": "integer", "range": self::range(*range) }),
        Type::Number(range) => json!({ "kind": "number", "range": self::range(*range) }),
        Type::Word(choices) => {
            json!({ "kind": "word", "choices": choices.iter().map(choice).collect::<Vec<_>>() })
        }
        Type::Reference(to) => json!({ "kind": "reference", "to": to }),
        Type::NameOr { to, words } => json!({
            "kind": "reference",
            "to": to,
            "choices": words.iter().map(choice).collect::<Vec<_>>(),
        }),
        Type::Quantity { units, bare, range } => json!({
            "kind": "quantity",
            "units": units.iter().copied().map(unit).collect::<Vec<_>>(),
            "bare": bare.map(unit),
            "range": self::range(*range),
        }),
    };
    value["words"] = json!(reference::type_words(ty));
    value
}

fn choice(choice: &Choice) -> Value {
    json!({ "name": choice.name, "doc": choice.doc, "status": status(choice.status) })
}

/// The bounds that there are; `above` and `below` leave the bound itself out. Shares count 1 as 100 %.
fn range(range: Range) -> Value {
    let mut value = json!({});
    if range.min != f64::MIN {
        value[if range.above { "above" } else { "min" }] = number(range.min);
    }
    if range.max != f64::MAX {
        value[if range.below { "below" } else { "max" }] = number(range.max);
    }
    value
}

/// Whole numbers are written as such.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9.1e15 { json!(value as i64) } else { json!(value) }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "share",
        Unit::Steps => "steps",
        Unit::Epochs => "epochs",
        Unit::Rows => "rows",
        Unit::Tokens => "tokens",
        Unit::Ids => "ids",
        Unit::Sequences => "sequences",
        Unit::Time => "time",
        Unit::Size => "size",
    }
}

fn literal(literal: Literal) -> Value {
    match literal {
        Literal::Integer(value) => json!(value),
        Literal::Number(value) => json!(value),
        Literal::Bool(value) => json!(value),
        Literal::Text(text) => json!(text),
    }
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Built => "built",
        Status::Later => "later",
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The row types with their columns and the stages that they fit.
fn row_types() -> Vec<Value> {
    let rows = schema::top("dataset").and_then(|dataset| dataset.child("rows"));
    let rows = rows.expect("the schema has the rows of a dataset");
    let types = rows.arguments.iter().flat_map(|argument| reference::choices(&argument.ty));
    types
        .map(|row_type| {
            let columns = rows.properties.iter().filter(|column| column.only.contains(&row_type.name));
            let stages = schema::TOP.iter().filter(|top| top.fits.contains(&row_type.name));
            let mut value = choice(row_type);
            value["columns"] = columns.map(property).collect();
            value["fits"] = stages.map(|stage| stage.name).collect();
            value
        })
        .collect()
}

fn library() -> Vec<Value> {
    let template = |entry: &schema::LibraryEntry| {
        json!({
            "name": format!("std:{}", entry.name),
            "kind": "template",
            "doc": entry.doc,
            "status": status(entry.status),
            "needs": entry.needs,
            "eos": entry.eos,
        })
    };
    let hardware = |entry: &Hardware| {
        json!({
            "name": format!("std:{}", entry.name),
            "kind": "hardware",
            "doc": entry.doc,
            "status": status(Status::Built),
            "memory_gib": entry.memory,
            "bandwidth_gb_per_second": entry.bandwidth,
            "peaks_are": match entry.kind {
                HardwareKind::Gpu => "TFLOP/s",
                HardwareKind::Core => "operations per cycle of a core",
            },
            "peaks": { "bf16": entry.peaks.bf16, "f16": entry.peaks.f16, "f32": entry.peaks.f32 },
        })
    };
    schema::TEMPLATES.iter().map(template).chain(HARDWARE.iter().map(hardware)).collect()
}

fn architecture(architecture: &Architecture) -> Value {
    let fields = architecture
        .fields
        .iter()
        .map(|field| json!({ "name": field.name, "type": field.ty.words() }))
        .collect::<Vec<_>>();
    json!({
        "name": format!("new:{}", architecture.name),
        "status": status(architecture.status),
        "fields": fields,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdlib::reference::Entry;

    fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
        list.as_array()?.iter().find(|item| item["name"] == name)
    }

    /// Follows a path through nodes, values and words.
    fn at<'a>(start: &'a Value, path: &str) -> Option<&'a Value> {
        let Some((first, rest)) = path.split_once('.') else { return below(start, path).into_iter().next() };
        below(start, first).into_iter().find_map(|inner| at(inner, rest))
    }

    fn below<'a>(node: &'a Value, name: &str) -> Vec<&'a Value> {
        let arguments = node["arguments"].as_array().into_iter().flatten();
        let words = arguments.filter_map(|argument| named(&argument["type"]["choices"], name));
        let lists = ["children", "properties", "arguments"].map(|list| named(&node[list], name));
        let own = named(&node["type"]["choices"], name);
        lists.into_iter().flatten().chain(words).chain(own).collect()
    }

    #[test]
    fn every_entry_of_the_schema_is_in_it() {
        let schema: Value = serde_json::from_str(&to_json().to_string()).expect("it is JSON");
        for (path, entry) in reference::entries() {
            let found = match entry {
                Entry::Top(_) => named(&schema["nodes"], &path),
                Entry::Template(_) | Entry::Hardware(_) => named(&schema["library"], &path),
                Entry::Architecture(_) => named(&schema["architectures"], &path),
                Entry::Field(architecture, field) => {
                    let architecture = format!("new:{}", architecture.name);
                    named(&schema["architectures"], &architecture)
                        .and_then(|found| named(&found["fields"], field.name))
                }
                Entry::Child(_) | Entry::Argument(..) | Entry::Property(..) | Entry::Choice(..) => {
                    let (top, rest) = path.split_once('.').expect("it stands in a node");
                    named(&schema["nodes"], top).and_then(|node| at(node, rest))
                }
            };
            let found = found.unwrap_or_else(|| panic!("{path} is not in the schema"));
            let has_doc = !matches!(entry, Entry::Architecture(_) | Entry::Field(..));
            assert!(!has_doc || found["doc"].is_string(), "{path}: {found}");
        }
        let codes = schema["diagnostics"].as_array().expect("a list").len();
        assert_eq!(codes, stdlib::pages::PAGES.len());
    }

    #[test]
    fn row_types_name_their_columns_and_stages() {
        let schema = to_json();
        let chat = named(&schema["row_types"], "chat").expect("it is a row type");
        assert!(named(&chat["columns"], "messages").is_some() && named(&chat["columns"], "chosen").is_none());
        assert!(chat["fits"].as_array().expect("a list").contains(&json!("sft")));
    }

    #[test]
    fn ranges_keep_what_they_leave_out() {
        assert_eq!(
            range(Range { min: 0.0, above: true, max: 1.0, below: false }),
            json!({ "above": 0, "max": 1 })
        );
        assert_eq!(range(Range { min: f64::MIN, above: false, max: f64::MAX, below: false }), json!({}));
    }
}
