//! YAML text to a tree with places, as PyYAML would load it.
//!
//! Events come from `saphyr-parser`; what they mean follows YAML 1.1, because the tools whose files
//! are read here use PyYAML. Limits keep hostile files cheap: one mebibyte, 64 levels, and a bound
//! on how much aliases may expand to.

mod places;
mod scalar;

use crate::problem::{Place, Problem};
use places::Places;
use saphyr_parser::{Event, Parser, ScalarStyle, Span as Marks, StrInput, Tag};
use std::collections::HashMap;

/// The largest file that is read.
pub const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 64;
/// The most values that a file may come to once its aliases are expanded.
pub const MAX_NODES: usize = 100_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    pub at: Place,
    /// Whether it stands in quotes or a block; then it is text whatever it looks like.
    pub quoted: bool,
    /// Values in it, itself included.
    size: usize,
}

/// What a value is after YAML 1.1.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Pair>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub key: String,
    pub at: Place,
    pub value: Node,
    /// Whether it came in by `<<`.
    pub merged: bool,
    /// Where the same key stood before; the last one wins.
    pub earlier: Vec<Place>,
    /// The keys that stood under the earlier ones, as paths below this key, with their places.
    pub lost: Vec<(String, Place)>,
}

impl Node {
    /// A mapping without keys, for what the file leaves out.
    pub fn empty() -> Self {
        Self { value: Value::Map(Vec::new()), at: Place::START, quoted: false, size: 1 }
    }

    /// A mapping of one key, for what the file writes without it.
    pub fn holding(key: &str, value: &Node) -> Self {
        let pair = Pair::new(key.to_owned(), value.at, value.clone());
        Self { value: Value::Map(vec![pair]), at: value.at, quoted: false, size: value.size + 2 }
    }

    /// Returns the value of a key, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.pairs().iter().find(|pair| pair.key == key).map(|pair| &pair.value)
    }

    /// Returns the pairs; none when this is not a mapping.
    pub fn pairs(&self) -> &[Pair] {
        match &self.value {
            Value::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// Returns the items of a list; none when this is not one.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the text, when it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it says nothing: null, false, or empty.
    pub fn is_off(&self) -> bool {
        match &self.value {
            Value::Null | Value::Bool(false) => true,
            Value::List(items) => items.is_empty(),
            Value::Map(pairs) => pairs.is_empty(),
            Value::Text(text) => text.is_empty(),
            Value::Int(_) | Value::Float(_) | Value::Bool(true) => false,
        }
    }
}

/// Loads every document of a text.
pub fn load(text: &str) -> Result<Vec<Node>, Problem> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_BYTES}", text.len());
        let help = "name the configuration file; one that trains a model has a few thousand bytes";
        return Err(Problem::new("bad-yaml", message, Place::START, help));
    }
    let mut loader = Loader {
        parser: Parser::new_from_str(text),
        places: Places::of(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut documents = Vec::new();
    loop {
        match loader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                let (event, at) = loader.next()?;
                documents.push(loader.node(event, at, 0)?);
                loader.anchors.clear();
            }
            _ => {}
        }
    }
}

struct Loader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    places: Places<'a>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, marks))) => {
                let mut at = self.places.place(&marks);
                if let Event::Scalar(_, style, ..) = &event {
                    at.end = self.places.closing(at, *style);
                }
                Ok((event, at))
            }
            Some(Err(error)) => {
                let marker = *error.marker();
                let at = self.places.place(&Marks::empty(marker));
                if error.info().contains("recursion limit") {
                    return Err(too_deep(at));
                }
                let message = format!("this is not YAML: {}", error.info());
                Err(Problem::new("bad-yaml", message, at, "correct the line, or the one before it"))
            }
            None => Ok((Event::StreamEnd, Place::START)),
        }
    }

    fn node(&mut self, event: Event<'a>, at: Place, depth: usize) -> Result<Node, Problem> {
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.count(1, at)?;
        let (node, anchor) = match event {
            Event::Alias(id) => return self.alias(id, at),
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain;
                let value = typed(&text, quoted, tag.as_deref(), at)?;
                (Node { value, at, quoted, size: 1 }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq", at)?;
                (self.list(at, depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), "map", at)?;
                (self.map(at, depth)?, anchor)
            }
            Event::StreamEnd
            | Event::DocumentEnd
            | Event::Nothing
            | Event::StreamStart
            | Event::DocumentStart(_)
            | Event::SequenceEnd
            | Event::MappingEnd => (Node { value: Value::Null, at, quoted: false, size: 1 }, 0),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Place) -> Result<Node, Problem> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            let help = "write the value out";
            return Err(Problem::new("bad-yaml", "this alias stands inside its own anchor", at, help));
        };
        self.count(node.size, at)?;
        Ok(node)
    }

    fn count(&mut self, more: usize, at: Place) -> Result<(), Problem> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            let message = format!("the file comes to more than {MAX_NODES} values");
            let help = "use fewer aliases; a configuration has a few hundred values";
            return Err(Problem::new("bad-yaml", message, at, help));
        }
        Ok(())
    }

    fn list(&mut self, at: Place, depth: usize) -> Result<Node, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                let size = 1 + items.iter().map(|item: &Node| item.size).sum::<usize>();
                return Ok(Node { value: Value::List(items), at, quoted: false, size });
            }
            items.push(self.node(event, place, depth + 1)?);
        }
    }

    fn map(&mut self, at: Place, depth: usize) -> Result<Node, Problem> {
        let mut pairs: Vec<Pair> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut merges = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = match &event {
                Event::Scalar(text, ..) => text.to_string(),
                _ => String::new(),
            };
            let key_node = self.node(event, place, depth + 1)?;
            if matches!(key_node.value, Value::List(_) | Value::Map(_)) {
                let help = "write a plain word before the colon";
                return Err(Problem::new("bad-yaml", "a key is a list or a mapping", place, help));
            }
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth + 1)?;
            if is_merge {
                merges.push((place, value));
                continue;
            }
            add(&mut pairs, &mut places, Pair::new(key, place, value));
        }
        for (place, value) in merges {
            self.merge(&mut pairs, &mut places, place, value)?;
        }
        let size = 1 + pairs.iter().map(|pair| 1 + pair.value.size).sum::<usize>();
        Ok(Node { value: Value::Map(pairs), at, quoted: false, size })
    }

    /// Brings in the pairs of `<<`: what the mapping writes itself wins, then the first of several.
    fn merge(
        &mut self,
        pairs: &mut Vec<Pair>,
        places: &mut HashMap<String, usize>,
        at: Place,
        value: Node,
    ) -> Result<(), Problem> {
        let sources: Vec<&Node> = match &value.value {
            Value::Map(_) => vec![&value],
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                items.iter().collect()
            }
            _ => {
                let help = "write `<<: *name`, where `&name` marks a mapping";
                return Err(Problem::new("bad-yaml", "`<<` takes a mapping or a list of them", at, help));
            }
        };
        for pair in sources.iter().flat_map(|source| source.pairs()) {
            if !places.contains_key(&pair.key) {
                places.insert(pair.key.clone(), pairs.len());
                pairs.push(Pair { merged: true, earlier: Vec::new(), lost: Vec::new(), ..pair.clone() });
            }
        }
        pairs.push(Pair::new("<<".to_owned(), at, value));
        Ok(())
    }
}

fn too_deep(at: Place) -> Problem {
    Problem::new("bad-yaml", format!("values are nested more than {MAX_DEPTH} deep"), at, "flatten the file")
}

impl Pair {
    fn new(key: String, at: Place, value: Node) -> Self {
        Self { key, at, value, merged: false, earlier: Vec::new(), lost: Vec::new() }
    }
}

/// Adds a pair; of two with one key the later wins.
fn add(pairs: &mut Vec<Pair>, places: &mut HashMap<String, usize>, mut pair: Pair) {
    match places.get(&pair.key) {
        None => {
            places.insert(pair.key.clone(), pairs.len());
            pairs.push(pair);
        }
        Some(&at) => {
            let before = std::mem::replace(
                &mut pairs[at],
                Pair::new(
                    String::new(),
                    Place::START,
                    Node { value: Value::Null, at: Place::START, quoted: false, size: 1 },
                ),
            );
            pair.lost = before.lost;
            below(&before.value, "", &mut pair.lost);
            pair.earlier = before.earlier;
            pair.earlier.push(before.at);
            pairs[at] = pair;
        }
    }
}

/// Collects the paths of the keys in a value.
fn below(node: &Node, path: &str, found: &mut Vec<(String, Place)>) {
    for pair in node.pairs() {
        let path = format!("{path}.{}", pair.key);
        below(&pair.value, &path, found);
        found.extend(pair.lost.iter().map(|(lost, at)| (format!("{path}{lost}"), *at)));
        found.extend(pair.earlier.iter().map(|at| (path.clone(), *at)));
        found.push((path, pair.at));
    }
    for (at, item) in node.items().iter().enumerate() {
        below(item, &format!("{path}[{at}]"), found);
    }
}

/// Gives a scalar its type; a tag decides over its looks.
fn typed(text: &str, quoted: bool, tag: Option<&Tag>, at: Place) -> Result<Value, Problem> {
    let Some(tag) = tag else {
        return Ok(if quoted { Value::Text(text.to_owned()) } else { scalar::resolve(text) });
    };
    let untagged = tag.handle == "!" && tag.suffix.is_empty();
    let kind = if untagged { "str" } else { core_kind(tag) };
    let value = match kind {
        "str" => Some(Value::Text(text.to_owned())),
        "int" => scalar::integer(text),
        "float" => scalar::float(text)
            .or_else(|| text.parse().ok().map(Value::Float))
            .or_else(|| scalar::integer(text)),
        "bool" | "null" => Some(scalar::resolve(text)).filter(|value| !matches!(value, Value::Text(_))),
        _ => None,
    };
    value.ok_or_else(|| unknown_tag(tag, at))
}

fn core_kind(tag: &Tag) -> &str {
    if tag.is_yaml_core_schema() {
        return &tag.suffix;
    }
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("", suffix) => suffix.strip_prefix("tag:yaml.org,2002:").unwrap_or(""),
        _ => "",
    }
}

fn refuse_tag(tag: Option<&Tag>, fitting: &str, at: Place) -> Result<(), Problem> {
    match tag {
        Some(tag) if core_kind(tag) != fitting => Err(unknown_tag(tag, at)),
        _ => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, at: Place) -> Problem {
    let message = format!("the tag `{}{}` does not fit, or is not one of YAML's own", tag.handle, tag.suffix);
    Problem::new("bad-yaml", message, at, "remove the tag")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        load(text).expect("it is YAML").pop().expect("one document")
    }

    fn problem(text: &str) -> (String, u32, u32) {
        let problem = load(text).expect_err("it is refused");
        (problem.message, problem.line, problem.column)
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_the_earlier_are_known() {
        let node = one("a: 1\nb: 2\na:\n  c: 3\na: 4\n");
        let pair = &node.pairs()[0];
        assert_eq!((pair.key.as_str(), &pair.value.value), ("a", &Value::Int(4)));
        assert_eq!(pair.earlier.iter().map(|at| at.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(pair.lost.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [".c"]);
    }

    #[test]
    fn merge_keys_give_way_to_what_is_written() {
        let node = one("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  b: 9\n  <<: [*x, *y]\n");
        let z = node.get("z").expect("z is there");
        assert_eq!(z.get("a").map(|node| &node.value), Some(&Value::Int(1)));
        assert_eq!(z.get("b").map(|node| &node.value), Some(&Value::Int(9)));
        assert_eq!(z.get("c").map(|node| &node.value), Some(&Value::Int(4)));
        assert!(z.pairs().iter().any(|pair| pair.merged && pair.key == "c"));
    }

    #[test]
    fn places_are_bytes_and_count_from_one() {
        let text = "é: 𝄞\nb: [1,  ö]\n";
        let node = one(text);
        let at = node.pairs()[0].value.at;
        assert_eq!(&text[at.start as usize..at.end as usize], "𝄞");
        let item = node.get("b").expect("b").items()[1].at;
        assert_eq!((&text[item.start as usize..item.end as usize], item.line, item.column), ("ö", 2, 9));
    }

    #[test]
    fn quotes_and_tags_decide_over_looks() {
        let node = one("a: \"yes\"\nb: !!str 5\nc: !!float 2e-5\nd: |\n  1\n");
        let value = |key| &node.get(key).expect("it is there").value;
        assert_eq!(value("a"), &Value::Text("yes".into()));
        assert_eq!(value("b"), &Value::Text("5".into()));
        assert_eq!(value("c"), &Value::Float(2e-5));
        assert_eq!(value("d"), &Value::Text("1\n".into()));
        assert_eq!(problem("a: !!python/object:os.system x\n").1, 1);
    }

    #[test]
    fn limits_hold() {
        let bomb = (1..30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            let alias = format!("*a{}", level - 1);
            text + &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", "))
        });
        assert_eq!(problem(&bomb).0, "the file comes to more than 100000 values");
        assert_eq!(problem(&"[".repeat(5000)).0, "values are nested more than 64 deep");
        assert_eq!(problem(&"a: ".repeat(MAX_BYTES)).1, 1);
        assert!(problem("a: &a [*a]\n").0.contains("inside its own anchor"));
    }

    #[test]
    fn broken_text_has_a_place() {
        let place = |text| (problem(text).1, problem(text).2);
        assert_eq!(place("a: [1, 2\nb: 3\n"), (2, 2));
        assert_eq!(place("a: 'x\n"), (1, 4));
        assert_eq!(place("a: b: c\n"), (1, 5));
        assert_eq!(problem("? [a]\n: 1\n").0, "a key is a list or a mapping");
    }

    #[test]
    fn documents_are_told_apart() {
        assert_eq!(load("").expect("no document"), []);
        assert_eq!(load("# only a comment\n").expect("no document"), []);
        assert_eq!(load("a: 1\n---\nb: 2\n").expect("two").len(), 2);
    }
}
