//! Turns `schema/*.kdl` into static tables.
//!
//! A mistake in the schema stops the build with a panic that names the node.

use kdl::{KdlDocument, KdlNode, KdlValue};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

const FILES: [&str; 4] = ["declarations", "training", "stages", "library"];

fn main() {
    println!("cargo::rerun-if-changed=schema");
    let documents = FILES.map(read);
    let out = Generator::new(&documents).run(&documents);
    let path = Path::new(&std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("schema.rs");
    std::fs::write(path, out).expect("the build folder can be written");
    hardware();
    pages();
}

/// Writes the table of hardware.
fn hardware() {
    let document = [read("hardware")];
    let entries: String = nodes(&document).map(device).collect();
    let text = format!("/// The hardware under `std:`.\npub static HARDWARE: &[Hardware] = &[{entries}];");
    let out = Path::new(&std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("hardware.rs");
    std::fs::write(out, text).expect("the build folder can be written");
}

fn device(node: &KdlNode) -> String {
    let kind = match node.name().value() {
        "gpu" => "Gpu",
        "core" => "Core",
        other => panic!("schema: `{other}` is no kind of hardware"),
    };
    let number = |key: &str| match node.get(key) {
        Some(KdlValue::Integer(value)) => *value as f64,
        Some(KdlValue::Float(value)) => *value,
        Some(_) | None => panic!("schema: `{}` lacks the number `{key}`", word(node, 0)),
    };
    let memory = node.get("memory").map(|_| number("memory") as u64);
    format!(
        "Hardware {{ name: {:?}, doc: {:?}, kind: HardwareKind::{kind}, memory: {memory:?}, bandwidth: {:?}, peaks: Peaks {{ bf16: {:?}, f16: {:?}, f32: {:?} }} }}, ",
        word(node, 0),
        doc(node),
        number("bandwidth"),
        number("bf16"),
        number("f16"),
        number("f32"),
    )
}

/// Embeds the page of every diagnostic.
fn pages() {
    println!("cargo::rerun-if-changed=../docs/diagnostics");
    let folder =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../docs/diagnostics");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    files.sort();
    let page = |path: &std::path::PathBuf| {
        let code = path.file_stem().and_then(|stem| stem.to_str()).expect("codes are ASCII").to_owned();
        format!("({code:?}, include_str!({:?})), ", path.display().to_string())
    };
    let pages: String = files.iter().map(page).collect();
    let text =
        format!("/// Every code with its page, sorted.\npub static PAGES: &[(&str, &str)] = &[{pages}];");
    let out = Path::new(&std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("pages.rs");
    std::fs::write(out, text).expect("the build folder can be written");
}

fn read(name: &str) -> KdlDocument {
    let path = format!("schema/{name}.kdl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    KdlDocument::parse(&text).unwrap_or_else(|error| panic!("{path}: {:?}", error.diagnostics))
}

/// Writes the tables; every node of the schema becomes one static.
struct Generator<'a> {
    groups: HashMap<&'a str, &'a KdlNode>,
    text: String,
    count: usize,
}

impl<'a> Generator<'a> {
    fn new(documents: &'a [KdlDocument]) -> Self {
        let groups = nodes(documents).filter(|node| node.name().value() == "group");
        Self { groups: groups.map(|node| (word(node, 0), node)).collect(), text: String::new(), count: 0 }
    }

    fn run(mut self, documents: &'a [KdlDocument]) -> String {
        let mut tops = Vec::new();
        let mut templates = String::new();
        let mut architectures = String::new();
        for node in nodes(documents) {
            match node.name().value() {
                "top" => tops.push(self.node(node, word(node, 0))),
                "group" => {}
                "library" => templates = children(node).map(library_entry).collect(),
                "architecture" => architectures += &architecture(node),
                other => panic!("schema: `{other}` at the top level"),
            }
        }
        let tops = tops.join(", ");
        writeln!(
            self.text,
            "/// The kinds of nodes at the top level of a recipe.\npub static TOP: &[&Node] = &[{tops}];"
        )
        .expect("a string takes any text");
        writeln!(
            self.text,
            "/// The templates under `std:`.\npub static TEMPLATES: &[LibraryEntry] = &[{templates}];"
        )
        .expect("a string takes any text");
        writeln!(self.text, "/// The architectures of this version.\npub static ARCHITECTURES: &[Architecture] = &[{architectures}];").expect("a string takes any text");
        self.text
    }

    /// Writes a node and what is in it; returns the expression that refers to it.
    fn node(&mut self, node: &'a KdlNode, kind: &str) -> String {
        let children = self.children(node, kind);
        let arguments: String = named(node, "argument").map(argument).collect();
        let properties: String = named(node, "property").map(property).collect();
        let name = format!("NODE_{}", self.count);
        self.count += 1;
        writeln!(
            self.text,
            "static {name}: Node = Node {{ name: {:?}, doc: {:?}, status: {}, gives: {:?}, declares: {}, training: {}, fits: &{:?}, required: {}, repeats: {}, group: {:?}, absent: {:?}, open: {}, arguments: &[{arguments}], properties: &[{properties}], children: &[{children}] }};",
            word(node, 0), doc(node), status(node), text(node, "gives"), flag(node, "declares"), flag(node, "training"),
            words(node, "fits"), flag(node, "required"), flag(node, "repeats"), text(node, "group"), text(node, "absent"), flag(node, "open"),
        )
        .expect("a string takes any text");
        format!("&{name}")
    }

    /// Writes the children of a node, those of its groups included.
    fn children(&mut self, node: &'a KdlNode, kind: &str) -> String {
        let mut written = Vec::new();
        for include in named(node, "include") {
            let group = self.groups[word(include, 0)];
            for child in named(group, "child").filter(|child| stands_in(child, kind)) {
                written.push(self.node(child, kind));
            }
        }
        for child in named(node, "child") {
            written.push(self.node(child, kind));
        }
        written.join(", ")
    }
}

/// Whether a child of a group stands in this kind of node; in `defaults` all do.
fn stands_in(child: &KdlNode, kind: &str) -> bool {
    let kinds = words(child, "in");
    kinds.is_empty() || kind == "defaults" || kinds.contains(&kind)
}

fn argument(node: &KdlNode) -> String {
    format!(
        "Argument {{ name: {:?}, doc: {:?}, ty: {}, required: {}, repeats: {}, default: {} }}, ",
        word(node, 0),
        doc(node),
        ty(node),
        flag(node, "required"),
        flag(node, "repeats"),
        default(node),
    )
}

fn property(node: &KdlNode) -> String {
    format!(
        "Property {{ name: {:?}, doc: {:?}, status: {}, ty: {}, required: {}, optional: {}, default: {}, only: &{:?} }}, ",
        word(node, 0),
        doc(node),
        status(node),
        ty(node),
        flag(node, "required"),
        flag(node, "optional"),
        default(node),
        words(node, "only"),
    )
}

fn ty(node: &KdlNode) -> String {
    match text(node, "type") {
        "text" => "Type::Text".into(),
        "source" => "Type::Source".into(),
        "path" => "Type::Path".into(),
        "bool" => "Type::Bool".into(),
        "literal" => "Type::Literal".into(),
        "integer" => format!("Type::Integer({})", range(node)),
        "number" => format!("Type::Number({})", range(node)),
        "word" => format!("Type::Word(&[{}])", named(node, "choice").map(choice).collect::<String>()),
        "reference" if named(node, "choice").next().is_some() => {
            let words: String = named(node, "choice").map(choice).collect();
            format!("Type::NameOr {{ to: {:?}, words: &[{words}] }}", text(node, "to"))
        }
        "reference" => format!("Type::Reference({:?})", text(node, "to")),
        "quantity" => quantity(node),
        other => panic!("schema: type `{other}` of `{}`", word(node, 0)),
    }
}

fn quantity(node: &KdlNode) -> String {
    let units: Vec<_> = words(node, "units").into_iter().map(unit).collect();
    let bare = match text(node, "bare") {
        "" => "None".into(),
        name => format!("Some({})", unit(name)),
    };
    format!("Type::Quantity {{ units: &[{}], bare: {bare}, range: {} }}", units.join(", "), range(node))
}

fn unit(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("Unit::{}{rest}", first.to_uppercase())
}

fn range(node: &KdlNode) -> String {
    let (min, above) = bound(node, "min", "above");
    let (max, below) = bound(node, "max", "below");
    let min = min.map_or("f64::MIN".into(), |value| format!("{value:?}"));
    let max = max.map_or("f64::MAX".into(), |value| format!("{value:?}"));
    format!("Range {{ min: {min}, above: {above}, max: {max}, below: {below} }}")
}

fn bound(node: &KdlNode, closed: &str, open: &str) -> (Option<f64>, bool) {
    match node.get(open).or_else(|| node.get(closed)) {
        Some(KdlValue::Integer(value)) => (Some(*value as f64), node.get(open).is_some()),
        Some(KdlValue::Float(value)) => (Some(*value), node.get(open).is_some()),
        None => (None, false),
        Some(other) => panic!("schema: bound `{other}` of `{}`", word(node, 0)),
    }
}

fn choice(node: &KdlNode) -> String {
    format!("Choice {{ name: {:?}, doc: {:?}, status: {} }}, ", word(node, 0), doc(node), status(node))
}

fn default(node: &KdlNode) -> String {
    match node.get("default") {
        None => "None".into(),
        Some(KdlValue::Integer(value)) => format!("Some(Literal::Integer({value}))"),
        Some(KdlValue::Float(value)) => format!("Some(Literal::Number({value:?}))"),
        Some(KdlValue::Bool(value)) => format!("Some(Literal::Bool({value}))"),
        Some(KdlValue::String(value)) => format!("Some(Literal::Text({value:?}))"),
        Some(KdlValue::Null) => panic!("schema: a default of `{}` is null", word(node, 0)),
    }
}

fn library_entry(node: &KdlNode) -> String {
    format!(
        "LibraryEntry {{ name: {:?}, doc: {:?}, status: {}, needs: &{:?}, eos: {} }}, ",
        word(node, 0),
        doc(node),
        status(node),
        words(node, "needs"),
        flag(node, "eos"),
    )
}

fn architecture(node: &KdlNode) -> String {
    let fields: String = named(node, "field")
        .map(|field| {
            format!("Field {{ name: {:?}, ty: FieldType::{} }}, ", word(field, 0), capital(word(field, 1)))
        })
        .collect();
    format!(
        "Architecture {{ name: {:?}, status: {}, positions: {:?}, hidden: {:?}, heads: {:?}, kv_heads: {:?}, layers: {:?}, experts: {:?}, weights: {}, fields: &[{fields}] }}, ",
        word(node, 0),
        status(node),
        text(node, "positions"),
        text(node, "hidden"),
        text(node, "heads"),
        text(node, "kv-heads"),
        text(node, "layers"),
        text(node, "experts"),
        weights(node),
    )
}

fn weights(architecture: &KdlNode) -> String {
    let of = word(architecture, 0);
    let node = named(architecture, "weights").next().unwrap_or_else(|| panic!("schema: weights of `{of}`"));
    let list =
        |name| -> Vec<&str> { named(node, name).flat_map(|list| word(list, 0).split_whitespace()).collect() };
    format!(
        "Weights {{ tied: {}, embedding: {:?}, head: {:?}, linears: &{:?}, norms: &{:?}, outer: &{:?} }}",
        flag(node, "tied"),
        text(node, "embedding"),
        text(node, "head"),
        list("linears"),
        list("norms"),
        words(node, "outer"),
    )
}

fn capital(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

fn status(node: &KdlNode) -> &'static str {
    match text(node, "status") {
        "" => "Status::Built",
        "later" => "Status::Later",
        other => panic!("schema: status `{other}` of `{}`", word(node, 0)),
    }
}

/// The sentence that says what it is: a property or a child.
fn doc(node: &KdlNode) -> &str {
    match named(node, "doc").next() {
        Some(child) => word(child, 0),
        None => text(node, "doc"),
    }
}

fn nodes(documents: &[KdlDocument]) -> impl Iterator<Item = &KdlNode> {
    documents.iter().flat_map(|document| document.nodes())
}

fn children(node: &KdlNode) -> impl Iterator<Item = &KdlNode> {
    node.children().into_iter().flat_map(|document| document.nodes())
}

fn named<'a>(node: &'a KdlNode, name: &'a str) -> impl Iterator<Item = &'a KdlNode> {
    children(node).filter(move |child| child.name().value() == name)
}

/// An argument that must be a string.
fn word(node: &KdlNode, index: usize) -> &str {
    let value = node.get(index).and_then(KdlValue::as_string);
    value.unwrap_or_else(|| panic!("schema: `{}` lacks argument {index}", node.name()))
}

/// A property that is a string; empty when absent.
fn text<'a>(node: &'a KdlNode, key: &str) -> &'a str {
    node.get(key).and_then(KdlValue::as_string).unwrap_or("")
}

/// A property that lists words.
fn words<'a>(node: &'a KdlNode, key: &str) -> Vec<&'a str> {
    text(node, key).split_whitespace().collect()
}

fn flag(node: &KdlNode, key: &str) -> bool {
    node.get(key).and_then(KdlValue::as_bool).unwrap_or(false)
}
