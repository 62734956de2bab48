//! The dictionary: every word of the language, what people write by mistake, and values that break programs.

use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use stdlib::schema::{self, Node, Range, Type, Unit};

/// What is not KDL, or KDL with another meaning than its author had.
const TRAPS: &[&str] = &[
    "true",
    "false",
    "null",
    "None",
    "yes",
    "10%",
    "owner/name",
    "lr = 2e-4",
    "lr=1 lr=2",
    "adamw,",
    "epochs: 1",
    "“x”",
    "‘x’",
    "'x'",
    "#true",
    "#false",
    "#null",
    "#inf",
    "#-inf",
    "#nan",
    "(u8)1",
    "#\"raw\"#",
    "\"\"\"\nx\n\"\"\"",
    "\"",
    "#\"",
    "\"\"\"",
    "\\",
    "/-",
    "//",
    "/*",
    "*/",
    "{",
    "}",
    "=",
    ";",
    "$x",
    "$",
    "\"$x\"",
    "std:",
    "hf:",
    "std:zephyr",
    "std:nothing",
    "hf:a/b",
    "hf:a/b@c",
    "new:llama",
    "new:gpt2",
    "new:",
    "https://x.y/z.jsonl",
    "*",
    "\"*.jsonl\"",
    "-",
    "--",
    "-x",
    "1x",
    "0x",
    "0xg",
    "1_",
    "1__0",
    "._",
    "+",
    "a.b",
    "<pad>",
    "\\u{110000}",
    "\"\\u{110000}\"",
    "\"\\q\"",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "sk-abcdefghijklmnopqrstuvwxyz",
    "none",
    "auto",
    "{content}",
    "\"{content}\"",
    "\"{bos}{content}{eos}\"",
    "\"{{ messages }}\"",
    "\"{% for %}\"",
    "\"len(text) > 3\"",
    "\"text matches '('\"",
    "\"a in ['b', 'c']\"",
    "\"not (a == 1 or b != 'x') and words(c.d) <= 7\"",
    "\"((((((\"",
];

/// Numbers and quantities at and beyond every edge.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "0.0",
    "-0.0",
    "0.1",
    "1.0",
    "1e999",
    "1e-400",
    "-1e999",
    "1e308",
    "5e-324",
    "2e-5",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775808",
    "4294967296",
    "340282366920938463463374607431768211455",
    "340282366920938463463374607431768211456",
    "9007199254740993",
    "170141183460469231731687303715884105728",
    "0xFFFFFFFFFFFFFFFFFFFF",
    "0b1",
    "0o17",
    "1_000_000",
    "1e18",
    "\"0%\"",
    "\"100%\"",
    "\"101%\"",
    "\"-1%\"",
    "\"1e999%\"",
    "\"10 %\"",
    "\"0 steps\"",
    "\"100 steps\"",
    "\"1 step\"",
    "\"2B tokens\"",
    "\"2Bi tokens\"",
    "\"1T\"",
    "\"512Ki\"",
    "\"99999999999T tokens\"",
    "\"1e30 steps\"",
    "\"8GiB\"",
    "\"0GiB\"",
    "\"30min\"",
    "\"8h\"",
    "\"99999999999999h\"",
    "\"1 epoch\"",
    "\"0.5 epochs\"",
    "\"NaN\"",
    "\"inf%\"",
    "\"0..8\"",
    "\"8..0\"",
    "\"0..99999999999999999999\"",
    "\"..\"",
    "\"-1..1\"",
    "\"1.5K rows\"",
    "\"\"",
    "\" \"",
];

/// Characters that take several bytes, no room, or another direction.
pub const CHARACTERS: &[&str] = &[
    "é",
    "e\u{301}",
    "🦀",
    "👨‍👩‍👧",
    "𝄞",
    "ß",
    "ñ",
    "漢字",
    "שלום",
    "\u{202e}",
    "\u{2066}",
    "\u{200b}",
    "\u{200d}",
    "\u{feff}",
    "\u{0}",
    "\u{1}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{3000}",
    "\r",
    "\r\n",
    "\t",
    "\u{b}",
    "\u{c}",
    "\u{fffd}",
    "\u{10ffff}",
    "İ",
    "ﬀ",
    "Ⅷ",
    "٣",
    "०",
    "＝",
    "｛",
    "”",
    "–",
    "−",
];

/// Every word of the schema: nodes, properties, values, names of the library.
pub static WORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut words = BTreeSet::new();
    schema::TOP.iter().for_each(|node| collect(node, &mut words));
    words.extend(schema::ARCHITECTURES.iter().map(|architecture| architecture.name));
    let fields = schema::ARCHITECTURES.iter().flat_map(|architecture| architecture.fields);
    words.extend(fields.map(|field| field.name));
    words.into_iter().collect()
});

/// Nodes of the schema by name, wherever they stand.
pub static NODES: LazyLock<BTreeMap<&'static str, Vec<&'static Node>>> = LazyLock::new(|| {
    let mut nodes: BTreeMap<&'static str, Vec<&'static Node>> = BTreeMap::new();
    let mut open: Vec<&'static Node> = schema::TOP.to_vec();
    while let Some(node) = open.pop() {
        nodes.entry(node.name).or_default().push(node);
        open.extend(node.children);
    }
    nodes
});

fn collect(node: &'static Node, words: &mut BTreeSet<&'static str>) {
    words.insert(node.name);
    let arguments = node.arguments.iter().map(|argument| argument.ty);
    for ty in arguments.chain(node.properties.iter().map(|property| property.ty)) {
        words.extend(choices(ty).iter().map(|choice| choice.name));
    }
    words.extend(node.properties.iter().map(|property| property.name));
    node.children.iter().for_each(|child| collect(child, words));
}

fn choices(ty: Type) -> &'static [schema::Choice] {
    match ty {
        Type::Word(words) | Type::NameOr { words, .. } => words,
        Type::Text | Type::Source | Type::Path | Type::Bool | Type::Literal | Type::Integer(_) => &[],
        Type::Number(_) | Type::Reference(_) | Type::Quantity { .. } => &[],
    }
}

/// Draws something to put in place of a word or value.
pub fn any(random: &mut Random) -> String {
    match random.below(8) {
        0 | 1 => (random.one(&WORDS)).to_owned(),
        2 => (random.one(TRAPS)).to_owned(),
        3 => (random.one(NUMBERS)).to_owned(),
        4 => (random.one(CHARACTERS)).to_owned(),
        5 => format!("{}={}", random.pick(&WORDS), random.pick(NUMBERS)),
        6 => format!("\"{}\"", random.pick(CHARACTERS)),
        _ => number(random),
    }
}

/// Draws a number of any size, or a very long one.
pub fn number(random: &mut Random) -> String {
    match random.below(6) {
        0 => "9".repeat(1 + random.below(400)),
        1 => format!("{}e{}", random.below(100), random.below(800) as i64 - 400),
        2 => format!("0.{}1", "0".repeat(random.below(340))),
        3 => format!("\"{}%\"", random.below(200)),
        4 => format!("{}", f64::from_bits(random.next())),
        _ => random.below(2000).to_string(),
    }
}

/// Draws a value of a type, right more often than not.
pub fn value(ty: Type, names: &[String], random: &mut Random) -> String {
    if random.one_in(8) {
        return any(random);
    }
    let name =
        |random: &mut Random| if names.is_empty() { "x".to_owned() } else { random.pick(names).clone() };
    match ty {
        Type::Text => {
            format!("\"{}\"", random.pick(&["x", "a {content} b", "messages", "len(text) > 1", "é🦀"]))
        }
        Type::Source => {
            format!("\"{}\"", random.pick(&["hf:o/m", "base", "words.jsonl", "new:llama", "*.jsonl"]))
        }
        Type::Path => format!("\"{}\"", random.pick(&["a.kdl", "t.jinja", "../x", "out", "/"])),
        Type::Bool => (random.one(&["#true", "#false"])).to_owned(),
        Type::Literal => (random.one(NUMBERS)).to_owned(),
        Type::Integer(range) => ((inside(range, random)) as i64).to_string(),
        Type::Number(range) => format!("{}", inside(range, random)),
        Type::Word(words) => random.pick(words).name.to_owned(),
        Type::Reference(_) => name(random),
        Type::NameOr { words, .. } if random.one_in(2) && !words.is_empty() => {
            random.pick(words).name.to_owned()
        }
        Type::NameOr { .. } => name(random),
        Type::Quantity { units, bare, range } => quantity(units, bare, range, random),
    }
}

fn inside(range: Range, random: &mut Random) -> f64 {
    let (min, max) = (range.min.max(-1e6), range.max.min(1e6));
    match random.below(5) {
        0 => range.min,
        1 => range.max.min(1e18),
        2 => min + (max - min) / 2.0,
        _ => (min + random.below(64) as f64).min(max),
    }
}

fn quantity(units: &[Unit], bare: Option<Unit>, range: Range, random: &mut Random) -> String {
    let number = inside(range, random);
    if bare.is_some() && random.one_in(2) || units.is_empty() {
        return format!("{number}");
    }
    let scale = random.pick(&["", "", "K", "M", "Ki", "Gi"]);
    match random.pick(units) {
        Unit::Share => format!("\"{}%\"", random.below(101)),
        Unit::Time => format!("\"{}\"", random.pick(&["30min", "8h", "1s", "0min"])),
        Unit::Size => format!("\"{}GiB\"", random.below(100)),
        unit => format!("\"{}{scale} {}\"", random.below(1000), unit.noun()),
    }
}

/// Draws a child that a node may have, with values and sometimes a block.
pub fn child(parent: &Node, names: &[String], random: &mut Random) -> Option<String> {
    if parent.children.is_empty() {
        return None;
    }
    Some(node(random.one(parent.children), names, 2, random))
}

/// Draws a node as the schema has it.
pub fn node(schema: &Node, names: &[String], depth: usize, random: &mut Random) -> String {
    let mut text = schema.name.to_owned();
    if schema.declares {
        text += &format!(" {}{}", random.pick(&["a", "b", "c", "n"]), random.below(40));
    }
    for argument in schema.arguments.iter().skip(usize::from(schema.declares)) {
        if argument.required && !random.one_in(12) || random.one_in(2) {
            text += &format!(" {}", value(argument.ty, names, random));
        }
    }
    for property in schema.properties {
        if property.required && !random.one_in(12) || random.one_in(6) {
            text += &format!(" {}={}", property.name, value(property.ty, names, random));
        }
    }
    let wanted = schema.children.iter().filter(|_| depth > 0);
    let children: Vec<String> = wanted
        .filter_map(|child| {
            let is_in = child.required && !random.one_in(12) || random.one_in(10);
            is_in.then(|| node(child, names, depth - 1, random))
        })
        .collect();
    if !children.is_empty() {
        text += &format!(" {{\n    {}\n}}", children.join("\n    "));
    }
    text
}
