//! One thing that the schema describes, and what there is to say of it.

use super::{
    choices, gives_words, literal, number, range_words, shape, short_type, status_words, type_words,
    unit_words, usage,
};
use crate::hardware::{Hardware, HardwareKind};
use crate::schema::{Architecture, Argument, Choice, Field, LibraryEntry, Node, Property, Status, Type};

/// One thing that the schema describes.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    Top(&'static Node),
    Child(&'static Node),
    /// A value without a name, on its node.
    Argument(&'static Node, &'static Argument),
    /// A `key=value`, on its node.
    Property(&'static Node, &'static Property),
    /// A word that a value of this node may be.
    Choice(&'static Node, &'static Choice),
    Template(&'static LibraryEntry),
    Hardware(&'static Hardware),
    Architecture(&'static Architecture),
    Field(&'static Architecture, &'static Field),
}

/// A line of a table: what may stand in a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// As it is written: `lr=`, `NAME`, `optimizer`.
    pub name: String,
    /// The type in short, with its range.
    pub ty: String,
    /// What holds when it is not written; empty when nothing does.
    pub default: String,
    pub required: bool,
    pub repeats: bool,
    pub status: Status,
    pub doc: &'static str,
    /// The words beside which a property has an effect; empty for all.
    pub only: &'static [&'static str],
}

impl Entry {
    /// Returns the sentence that says what it is.
    pub fn doc(&self) -> &'static str {
        match self {
            Entry::Top(node) | Entry::Child(node) => node.doc,
            Entry::Argument(_, argument) => argument.doc,
            Entry::Property(_, property) => property.doc,
            Entry::Choice(_, choice) => choice.doc,
            Entry::Template(entry) => entry.doc,
            Entry::Hardware(hardware) => hardware.doc,
            Entry::Architecture(_) => "An architecture, with the fields of its config.json.",
            Entry::Field(..) => "A field of config.json, under its own name.",
        }
    }

    /// Returns whether this version runs it.
    pub fn status(&self) -> Status {
        match self {
            Entry::Top(node) | Entry::Child(node) => node.status,
            Entry::Argument(node, _) => node.status,
            Entry::Property(node, property) => later_of(node.status, property.status),
            Entry::Choice(node, choice) => later_of(node.status, choice.status),
            Entry::Template(entry) => entry.status,
            Entry::Hardware(_) => Status::Built,
            Entry::Architecture(architecture) | Entry::Field(architecture, _) => architecture.status,
        }
    }

    /// Returns the facts that have a name: how it is written, type, range, unit, default, status.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = match self {
            Entry::Top(node) => top_facts(node),
            Entry::Child(node) => child_facts(node),
            Entry::Argument(node, argument) => {
                let mut facts = vec![("written", usage(node, false))];
                facts.extend(value_facts(&argument.ty, argument.default.map(literal), argument.required));
                facts
            }
            Entry::Property(node, property) => {
                let mut facts = vec![("written", format!("{} … {}=…", node.name, property.name))];
                facts.extend(value_facts(&property.ty, property.default.map(literal), property.required));
                if !property.only.is_empty() {
                    facts.push(("works with", format!("`{}`", property.only.join("`, `"))));
                }
                facts
            }
            Entry::Choice(node, _) => vec![("value of", format!("`{}`", node.name))],
            Entry::Template(entry) => template_facts(entry),
            Entry::Hardware(hardware) => return hardware_facts(hardware),
            Entry::Architecture(architecture) => vec![("written", format!("new:{}", architecture.name))],
            Entry::Field(architecture, field) => vec![
                ("written", format!("config {{ {} … }}", field.name)),
                ("type", field.ty.words().to_owned()),
                ("architecture", architecture.name.to_owned()),
            ],
        };
        facts.push(("status", status_words(self.status()).to_owned()));
        facts
    }

    /// Returns what may stand in it, or the words that it may be.
    pub fn lines(&self) -> Vec<(&'static str, Vec<Line>)> {
        match self {
            Entry::Top(node) | Entry::Child(node) => {
                let arguments = node.arguments.iter().map(argument_line);
                let values = arguments.chain(node.properties.iter().map(property_line)).collect();
                let words = node.arguments.iter().flat_map(|argument| choices(&argument.ty));
                vec![
                    ("values", values),
                    ("words", words.map(choice_line).collect()),
                    ("children", node.children.iter().map(|child| child_line(child)).collect()),
                ]
            }
            Entry::Argument(_, Argument { ty, .. }) | Entry::Property(_, Property { ty, .. }) => {
                vec![("words", choices(ty).iter().map(choice_line).collect())]
            }
            Entry::Choice(node, choice) => vec![("values", works_with(node, choice))],
            Entry::Architecture(architecture) => {
                vec![("fields", architecture.fields.iter().map(field_line).collect())]
            }
            Entry::Template(_) | Entry::Hardware(_) | Entry::Field(..) => Vec::new(),
        }
    }
}

fn later_of(outer: Status, inner: Status) -> Status {
    if outer == Status::Later { outer } else { inner }
}

fn top_facts(node: &Node) -> Vec<(&'static str, String)> {
    let mut facts = vec![("written", usage(node, true))];
    if !node.fits.is_empty() {
        facts.push(("takes", format!("rows of type `{}`", node.fits.join("`, `"))));
    }
    if !node.gives.is_empty() {
        facts.push(("gives", format!("a {}", gives_words(node.gives))));
    }
    facts
}

fn child_facts(node: &Node) -> Vec<(&'static str, String)> {
    let mut facts = vec![("written", usage(node, false))];
    if !node.absent.is_empty() && node.absent != node.name {
        facts.push(("default", format!("`{}`", node.absent)));
    }
    let mut notes = Vec::new();
    if node.required {
        notes.push("required");
    }
    if node.repeats {
        notes.push("may repeat");
    }
    if !notes.is_empty() {
        facts.push(("number", notes.join(", ")));
    }
    if !node.group.is_empty() {
        facts.push(("group", format!("at most one of its {}", node.group)));
    }
    facts
}

fn value_facts(ty: &Type, default: Option<String>, required: bool) -> Vec<(&'static str, String)> {
    let mut facts = vec![("type", type_words(ty))];
    facts.extend(unit_words(ty).map(|unit| ("unit", unit)));
    let range = range_words(ty);
    if !range.is_empty() {
        facts.push(("range", range));
    }
    facts.push(match (default, required) {
        (Some(default), _) => ("default", format!("`{default}`")),
        (None, true) => ("default", "none: it must be written".into()),
        (None, false) => ("default", "none".into()),
    });
    facts
}

fn template_facts(entry: &LibraryEntry) -> Vec<(&'static str, String)> {
    let mut facts = vec![("written", format!("template std:{}", entry.name))];
    if !entry.needs.is_empty() {
        facts.push(("needs", format!("the tokens `{}`", entry.needs.join("`, `"))));
    }
    if entry.eos {
        facts.push(("needs", "an end-of-text token".into()));
    }
    facts
}

fn hardware_facts(hardware: &Hardware) -> Vec<(&'static str, String)> {
    let unit = match hardware.kind {
        HardwareKind::Gpu => "TFLOP/s",
        HardwareKind::Core => "operations per cycle of a core",
    };
    let peaks = hardware.peaks;
    let memory = hardware.memory.map_or("that of the machine".to_owned(), |memory| format!("{memory} GiB"));
    vec![
        ("used as", format!("adapt plan RECIPE --on std:{}", hardware.name)),
        ("memory", memory),
        ("bandwidth", format!("{} GB/s", number(hardware.bandwidth))),
        ("bf16", format!("{} {unit}", number(peaks.bf16))),
        ("f16", format!("{} {unit}", number(peaks.f16))),
        ("f32", format!("{} {unit}", number(peaks.f32))),
    ]
}

fn argument_line(argument: &Argument) -> Line {
    Line {
        name: shape(argument),
        ty: short_type(&argument.ty),
        default: argument.default.map_or(String::new(), literal),
        required: argument.required,
        repeats: argument.repeats,
        status: Status::Built,
        doc: argument.doc,
        only: &[],
    }
}

fn property_line(property: &Property) -> Line {
    Line {
        name: format!("{}=", property.name),
        ty: short_type(&property.ty),
        default: property.default.map_or(String::new(), literal),
        required: property.required,
        repeats: false,
        status: property.status,
        doc: property.doc,
        only: property.only,
    }
}

fn child_line(node: &Node) -> Line {
    // `none` only switches a default off; the child's type is in its properties.
    let first = node.arguments.first().filter(|argument| argument.name != "none");
    let ty = first.map_or(String::new(), |argument| short_type(&argument.ty));
    let default = node.absent.strip_prefix(node.name).unwrap_or_default().trim();
    Line {
        name: node.name.to_owned(),
        ty,
        default: default.to_owned(),
        required: node.required,
        repeats: node.repeats,
        status: node.status,
        doc: node.doc,
        only: &[],
    }
}

fn choice_line(choice: &Choice) -> Line {
    Line {
        name: choice.name.to_owned(),
        ty: String::new(),
        default: String::new(),
        required: false,
        repeats: false,
        status: choice.status,
        doc: choice.doc,
        only: &[],
    }
}

fn field_line(field: &Field) -> Line {
    Line {
        name: field.name.to_owned(),
        ty: field.ty.words().to_owned(),
        default: String::new(),
        required: false,
        repeats: false,
        status: Status::Built,
        doc: "",
        only: &[],
    }
}

/// The properties that have an effect beside a word.
fn works_with(node: &Node, choice: &Choice) -> Vec<Line> {
    let is_first = node
        .arguments
        .first()
        .is_some_and(|first| choices(&first.ty).iter().any(|known| std::ptr::eq(known, choice)));
    let properties = node.properties.iter().filter(|property| property.only.contains(&choice.name));
    properties.filter(|_| is_first).map(property_line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::find::{Found, entries, find};
    use super::*;

    /// Asserts what is said of the one thing at a path, and which tables stand below it.
    fn check(path: &str, expected: &[(&str, &str)], tables: &[&str]) {
        let Found::Here(found) = find(path) else { panic!("`{path}` is there") };
        let (_, entry, _) = &found[0];
        let facts = entry.facts();
        for (name, value) in expected {
            assert!(
                facts.contains(&(*name, (*value).to_owned())),
                "{path}: no {name} `{value}` in {facts:?}"
            );
        }
        let lines = entry.lines();
        assert_eq!(lines.iter().map(|(name, _)| *name).collect::<Vec<_>>(), tables, "{path}");
    }

    #[test]
    fn every_kind_of_entry_says_what_it_is() {
        check("std:llama3", &[("written", "template std:llama3")], &[]);
        check("std:zephyr", &[("needs", "an end-of-text token")], &[]);
        let on = "adapt plan RECIPE --on std:h100-80";
        check("std:h100-80", &[("used as", on), ("memory", "80 GiB")], &[]);
        check("new:llama", &[("written", "new:llama")], &["fields"]);
        let gives = [("takes", "rows of type `instruction`, `chat`, `tokens`"), ("gives", "a model")];
        check("sft", &gives, &["values", "words", "children"]);
        check("sft.epochs", &[("group", "at most one of its budget")], &["values", "words", "children"]);
        check("sft.optimizer.beta1", &[("works with", "`adamw`"), ("default", "`0.9`")], &["words"]);
        check("new:llama.hidden_size", &[("written", "config { hidden_size … }")], &[]);
    }

    #[test]
    fn nothing_is_left_without_a_word() {
        for (path, entry) in entries() {
            let doc = entry.doc();
            // Some words speak for themselves: `f32`.
            let is_word = matches!(entry, Entry::Choice(..)) && doc.is_empty();
            assert!(doc.ends_with('.') || is_word, "{path}: `{doc}`");
            assert!(
                entry.facts().iter().all(|(name, value)| !name.is_empty() && !value.is_empty()),
                "{path}"
            );
            let lines = entry.lines().into_iter().flat_map(|(_, lines)| lines);
            lines.for_each(|line| {
                assert!(!line.name.is_empty() && !line.ty.contains("  "), "{path}: {line:?}")
            });
        }
    }
}
