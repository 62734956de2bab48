//! The formatter: pairs of texts, and what must hold of every text that is formatted.

mod common;

use common::{files, root};
use lang::diagnostic::Diagnostic;
use lang::facts::Facts;
use lang::format::{Refused, diff, format};
use lang::resolved::ResolvedNode;
use lang::source::SourceId;
use lang::syntax::{self, Data, MAX_BYTES, MAX_DEPTH, Node, Value};
use lang::{Input, check};
use proptest::prelude::*;
use std::sync::LazyLock;

/// Texts and their one form.
const PAIRS: &[(&str, &str)] = &[
    // Blanks, line ends and indentation.
    ("", ""),
    ("\n\n \t\n", ""),
    ("\u{feff}", ""),
    ("adapt 1", "adapt 1\n"),
    ("\u{feff}adapt   1\t\n", "adapt 1\n"),
    ("adapt 1\r\nuse \"a\"\r\n\r\n\r\nuse \"b\"\r\n", "adapt 1\nuse \"a\"\n\nuse \"b\"\n"),
    ("a\rb\u{2028}c\u{85}d", "a\nb\nc\nd\n"),
    ("a\u{a0}1\u{3000}2", "a 1 2\n"),
    ("\ta {\n\tb\n  }", "a {\n    b\n}\n"),
    ("a{b{c 1}}", "a {\n    b {\n        c 1\n    }\n}\n"),
    ("a; b; c { d; e 1; }; f;", "a\nb\nc {\n    d\n    e 1\n}\nf\n"),
    ("a {\n\n\n  b\n\n\n\n  c\n\n}\n\n\nd\n\n", "a {\n    b\n\n    c\n}\n\nd\n"),
    ("a {}\nb {   }\nc {\n\n}", "a {}\nb {}\nc {}\n"),
    ("é \"🦀 x\"   𝄞=1 // 🦀  ", "é \"🦀 x\" 𝄞=1 // 🦀\n"),
    // What is written stays: numbers, words, strings.
    (
        "a 0xFF +1_000 1.50e-3 0b1  $x \"$x\" \"q\" #true #\"r \" x\"# k=\"v\" \"k k\"=1",
        "a 0xFF +1_000 1.50e-3 0b1 $x \"$x\" \"q\" #true #\"r \" x\"# k=\"v\" \"k k\"=1\n",
    ),
    ("\"quoted\"   \"// no\" \"/* no\"", "\"quoted\" \"// no\" \"/* no\"\n"),
    (
        "  a   \"\"\"\n      x  \n        y {\n\n      \"\"\"   1",
        "a \"\"\"\n      x  \n        y {\n\n      \"\"\" 1\n",
    ),
    (
        "a {\n b #\"\"\"\r\n  \\n // no\r\n  \"\"\"#  // yes\r\n}",
        "a {\n    b #\"\"\"\n  \\n // no\n  \"\"\"# // yes\n}\n",
    ),
    // Comments of lines.
    ("// a\n\n\n//b  \nc\n// d", "// a\n\n//b\nc\n// d\n"),
    ("  // only  ", "// only\n"),
    ("a {\n// x\nb\n  // y\n}", "a {\n    // x\n    b\n    // y\n}\n"),
    ("a { // x\n b\n} // y", "a { // x\n    b\n} // y\n"),
    ("a { // x\n}", "a { // x\n}\n"),
    ("a; // x\nb", "a // x\nb\n"),
    ("a; // x\n\n// y\nb", "a // x\n\n// y\nb\n"),
    ("a//x\nbcd   // y\n\ne // z", "a   //x\nbcd // y\n\ne // z\n"),
    ("a { // x\nbcd // y\n}", "a { // x\n    bcd // y\n}\n"),
    // Comments between blanks.
    ("/* a */b/* c */1/* d */", "/* a */ b /* c */ 1 /* d */\n"),
    ("/* a /* b */\n c */\n\n\nd", "/* a /* b */\n c */\n\nd\n"),
    ("a { /* x */\n b }", "a { /* x */\n    b\n}\n"),
    ("a { /* x */ b }", "a {\n    /* x */ b\n}\n"),
    ("a { /* x */ }", "a {\n    /* x */\n}\n"),
    ("a; /* x */ b; /* y */ // z", "a\n/* x */ b /* y */ // z\n"),
    ("a {} /* x */; b", "a {} /* x */\nb\n"),
    ("a /* x\r\n y */ {b}", "a /* x\n y */ {\n    b\n}\n"),
    // What `/-` takes out.
    ("/-a 1\nb  /-  2 3 /- c=4  /-{ e } { f }", "/- a 1\nb /-2 3 /-c=4 /- {\n    e\n} {\n    f\n}\n"),
    ("/-\n  a 1\n/- b { c; d }", "/- a 1\n/- b {\n    c\n    d\n}\n"),
    ("/- // why\n\n  a 1", "/- // why\na 1\n"),
    ("a /- // why\n 1 2", "a /- \\ // why\n    1 2\n"),
    ("a /- // b\n// c\n 1", "a /- \\ // b\n    \\ // c\n    1\n"),
    // With so many of them the recovery reader is asked as well.
    ("a /-1 /-2 /-3 /-4 /- \\ // why\n {b}", "a /-1 /-2 /-3 /-4 /- \\ // why\n    {\n    b\n}\n"),
    ("a {} /- // why\n {b}", "a {} /- \\ // why\n    {\n    b\n}\n"),
    ("a { b } /-\n{ c }\nd", "a {\n    b\n} /- {\n    c\n}\nd\n"),
    ("/- a { b } c 1", "/- a {\n    b\n}\nc 1\n"),
    ("a /- k = /* x */ 1 /-(t) 2", "a /-k= /* x */ 1 /-(t)2\n"),
    ("a /- /- 1 2 3", "a /- /-1 2 3\n"),
    ("a /- -5 /- - 1", "a /--5 /-- 1\n"),
    // Lines that go on.
    ("a \\\n  1 \\ // more\n  2\n", "a \\\n    1 \\ // more\n    2\n"),
    ("x {\na 1   \\\n\n b }", "x {\n    a 1\n\n    b\n}\n"),
    ("a \\\n\\\n\\\n 1", "a \\\n    1\n"),
    ("a 1 \\\n {b}\nc \\", "a 1 {\n    b\n}\nc\n"),
    ("a 1 \\ // x\n \\ // y\n { // z\n b}", "a 1 { // x\n    // y\n    // z\n    b\n}\n"),
    ("a \\ // x\n \\ // y\n 1", "a \\ // x\n    \\ // y\n    1\n"),
    ("a \\ // x\n\nb", "a // x\n\nb\n"),
    ("a \\ // x\n // y\nb", "a // x\n// y\nb\n"),
    ("a \\ /* x */\n 1", "a /* x */ \\\n    1\n"),
    ("\\\n a\n\\ // x\n b", "a\n// x\nb\n"),
    ("a {} \\\n /- {b}", "a {} /- {\n    b\n}\n"),
];

#[test]
fn every_text_has_its_one_form() {
    for (text, expected) in PAIRS {
        let formatted = format(text).unwrap_or_else(|refused| panic!("{text:?}: {refused:?}"));
        assert_eq!(&formatted, expected, "{text:?}");
        keeps(text, &formatted);
    }
}

#[test]
fn a_text_with_syntax_errors_is_refused() {
    let cases = [
        ("a lr = 1", "spaced-equals"),
        ("a adamw, 1", "stray-comma"),
        ("a (u8)1", "type-annotation"),
        ("a {", "missing-brace"),
        ("a 'b'", "single-quotes"),
        ("a true", "bare-keyword"),
        ("a; ; b", "syntax-error"),
    ];
    for (text, code) in cases {
        let refused = format(text).expect_err(text);
        assert_eq!(refused.diagnostics, syntax::parse(SourceId(0), text).1);
        assert!(refused.diagnostics.iter().any(|found| found.code == code), "{text}: {refused:?}");
    }
}

fn codes(result: Result<String, Refused>) -> Vec<String> {
    let found = result.err().map(|refused| refused.diagnostics).unwrap_or_default();
    found.into_iter().map(|found| found.code).collect()
}

#[test]
fn texts_at_the_limits_are_formatted_or_refused() {
    let nested = |depth: usize| "a{".repeat(depth) + &"}".repeat(depth);
    assert_eq!(codes(format(&nested(MAX_DEPTH))), [""; 0]);
    assert_eq!(codes(format(&nested(MAX_DEPTH + 1))), ["too-deep"]);
    assert_eq!(codes(format(&nested(50_000))), ["too-deep"]);
    assert_eq!(codes(format(&("/*".repeat(2_000) + &"*/".repeat(2_000)))), [""; 0]);
    assert_eq!(codes(format(&("// ".to_owned() + &"x".repeat(MAX_BYTES)))), ["too-large"]);
    // Small as it is, it would be too large with its indentation.
    let wide = "a{".repeat(MAX_DEPTH) + &"b\n".repeat(5_000) + &"}".repeat(MAX_DEPTH);
    assert_eq!(codes(format(&wide)), ["too-large"]);
    // A comment is aligned with its neighbours only while that costs little.
    let long = format!("a \"{}\" // x\n", "y".repeat(1_000));
    assert_eq!(format(&(long.clone() + "b  // y\n")), Ok(long + "b // y\n"));
}

#[test]
fn a_refusal_shows_no_secret() {
    let secret = "hf_abcdefghijklmnopqrstuvwxyz";
    let refused = format(&format!("a \"{secret}\" {secret}/x")).expect_err("a path needs quotes");
    assert!(!refused.diagnostics.is_empty());
    assert!(!format!("{refused:?}").contains(secret), "{refused:?}");
}

#[test]
fn a_difference_is_written_as_a_patch() {
    assert_eq!(diff("a 1\n", "a 1\n", "x.kdl"), "");
    let old = "a   1\nb\nc\nd\ne\nf\n";
    insta::assert_snapshot!(diff(old, &format(old).expect("it is right"), "x.kdl"), @r"
    --- x.kdl
    +++ x.kdl
    @@ -1,4 +1,4 @@
    -a   1
    +a 1
     b
     c
     d
    ");
}

/// All recipes of the project, broken ones included, the schema, and the texts above.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folders = ["recipes", "stdlib/schema", "tests/ui"];
    let files = folders.iter().flat_map(|folder| files(root().join(folder), "kdl"));
    let texts = files.map(|path| std::fs::read_to_string(path).expect("it is readable"));
    texts.chain(PAIRS.iter().map(|(text, _)| (*text).to_owned())).collect()
});

#[test]
fn recipes_keep_what_they_say() {
    let mut formatted = 0;
    for text in TEXTS.iter() {
        let is_right = syntax::parse(SourceId(0), text).1.is_empty();
        let result = format(text);
        assert_eq!(result.is_ok(), is_right, "{text}");
        if let Ok(result) = result {
            keeps(text, &result);
            assert_eq!(resolved(text), resolved(&result), "{text}");
            formatted += 1;
        }
    }
    assert!(formatted > 200, "only {formatted} texts were formatted");
}

#[test]
fn the_recipes_of_the_gallery_are_formatted() {
    for path in files(root().join("recipes"), "kdl") {
        let text = std::fs::read_to_string(&path).expect("it is readable");
        assert_eq!(format(&text).as_ref(), Ok(&text), "{path:?}");
    }
}

#[test]
fn the_example_of_the_page_is_formatted() {
    let page = std::fs::read_to_string(root().join("docs/language/format.md")).expect("it is there");
    let (_, example) = page.split_once("```kdl\n").expect("the page has an example");
    let (example, _) = example.split_once("```").expect("the example ends");
    assert_eq!(format(example).as_deref(), Ok(example));
}

/// Whether formatting kept the tree, the comments and every character, and is the last formatting.
fn keeps(text: &str, formatted: &str) {
    let (old, _) = syntax::parse(SourceId(0), text);
    let (new, found) = syntax::parse(SourceId(0), formatted);
    assert_eq!(found, [], "{text:?}\n{formatted}");
    assert_eq!(tree(&old.nodes), tree(&new.nodes), "{text:?}\n{formatted}");
    assert_eq!(comments(text), comments(formatted), "{text:?}\n{formatted}");
    assert_eq!(characters(text), characters(formatted), "{text:?}\n{formatted}");
    assert_eq!(format(formatted).as_deref(), Ok(formatted), "{text:?}");
    has_the_form(formatted);
}

/// What the lines of a formatted text outside of strings and comments look like.
fn has_the_form(formatted: &str) {
    assert!(formatted.is_empty() || formatted.ends_with('\n'), "{formatted:?}");
    assert!(!formatted.contains('\r') && !formatted.starts_with(['\n', '\u{feff}']), "{formatted:?}");
    if formatted.contains("\"\"\"") || formatted.contains("/*") || formatted.contains("\\\n") {
        return;
    }
    let wrong = ["\n\n\n", "\n\n}", " \n", "\t\n"];
    assert!(!wrong.iter().any(|wrong| formatted.contains(wrong)), "{formatted}");
    for line in formatted.lines() {
        let indent = line.len() - line.trim_start().len();
        assert!(line.is_empty() || indent % 4 == 0, "{line:?} in\n{formatted}");
        assert!(line.contains("//") || !line.ends_with(';'), "{line:?} in\n{formatted}");
    }
}

/// A tree without places; as text, in which not-a-number equals itself.
fn tree(nodes: &[Node]) -> String {
    let value = |value: &Value| match &value.data {
        Data::Number(number) => format!("{number:e}"),
        data => format!("{data:?}{}", if value.bare { " bare" } else { "" }),
    };
    let node = |node: &Node| {
        let arguments: Vec<String> = node.arguments.iter().map(value).collect();
        let properties = node.properties.iter();
        let properties: Vec<String> = properties
            .map(|property| format!("{:?}={}", property.key.text, value(&property.value)))
            .collect();
        let block = if node.has_block { format!(" {{ {} }}", tree(&node.children)) } else { String::new() };
        format!("{:?} {arguments:?} {properties:?}{block}\n", node.name.text)
    };
    nodes.iter().map(node).collect()
}

/// All characters but those that formatting may change, sorted.
fn characters(text: &str) -> Vec<char> {
    let is_form = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | ';' | '\\');
    let mut characters: Vec<char> = text.chars().filter(|&c| !is_form(c)).collect();
    characters.sort_unstable();
    characters
}

/// The comments of a right text, sorted; found with another reader than the formatter's.
fn comments(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find(['\n', '\r', '\u{85}', '\u{b}', '\u{c}', '\u{2028}', '\u{2029}']).unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_len(rest)
        } else {
            string_len(rest).unwrap_or(first.len_utf8())
        };
        if first == '/' && len > 1 {
            found.push(rest[..len].trim_end().replace("\r\n", "\n").replace('\r', "\n"));
        }
        rest = &rest[len..];
    }
    found.sort_unstable();
    found
}

fn block_len(text: &str) -> usize {
    let inner = &text[2..];
    match (inner.find("*/"), inner.find("/*")) {
        (Some(close), Some(open)) if open < close => {
            let nested = 2 + open + block_len(&inner[open..]);
            // What follows the inner comment is read as the rest of one that begins there.
            nested + block_len(&format!("/*{}", &text[nested..])) - 2
        }
        (Some(close), _) => close + 4,
        (None, _) => text.len(),
    }
}

fn string_len(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let body = &text[hashes..];
    let lines = body.starts_with("\"\"\"\n") || body.starts_with("\"\"\"\r");
    let quotes = if lines { "\"\"\"" } else { "\"" };
    if !body.starts_with('"') {
        return None;
    }
    let close = quotes.to_owned() + &"#".repeat(hashes);
    let mut at = hashes + quotes.len();
    while !text[at..].starts_with(&close) {
        let escape = usize::from(hashes == 0 && text[at..].starts_with('\\'));
        at += escape;
        at += text[at..].chars().next().map_or(0, char::len_utf8);
    }
    Some(at + close.len())
}

/// What a check makes of a recipe, without places.
fn resolved(text: &str) -> String {
    let checked = check(&Input { path: "recipe.kdl", text, sets: &[] }, &Facts::default());
    let said = |found: &Diagnostic| format!("{}: {} {:?}\n", found.code, found.message, found.help);
    let found: String = checked.diagnostics.iter().map(said).collect();
    found + &checked.resolved.nodes.iter().map(|node| shown(node, 0)).collect::<String>()
}

fn shown(node: &ResolvedNode, depth: usize) -> String {
    let values = node.values.iter();
    let values: Vec<String> =
        values.map(|value| format!("{:?}={} {:?}", value.key, value.text, value.origin)).collect();
    let children: String = node.children.iter().map(|child| shown(child, depth + 1)).collect();
    format!("{depth} {} {values:?}\n{children}", node.head)
}

/// Pieces that mean something, and pieces that only change the form.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "\"",
    "=",
    "(t)",
    "\n",
    "#",
    "é",
    "$x",
    "1",
    "\"\"\"",
    "\u{feff}",
    " /- ",
    "/-",
    " {} ",
    ";",
    " ",
    "\t",
    "\r\n",
    "\n\n\n",
    " /* c */ ",
    " // c\n",
    " \\\n",
    " \\ // c\n",
];
/// The first of the pieces that only change the form, if they stand between words.
const FORM: usize = 12;

/// Where a text is changed, how much is taken out there, and which pieces come in.
type Change = (prop::sample::Index, usize, Vec<prop::sample::Index>);

fn change(text: &str, changes: &[Change], pieces: &[&str]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, len, inserted) in changes {
        let at = at.index(chars.len() + 1);
        let end = (at + len).min(chars.len());
        let inserted: String = inserted.iter().map(|piece| *piece.get(pieces)).collect();
        chars.splice(at..end, inserted.chars());
    }
    chars.into_iter().collect()
}

fn changes(most_cut: usize) -> impl Strategy<Value = (prop::sample::Index, Vec<Change>)> {
    let pieces = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let change = (any::<prop::sample::Index>(), 0..=most_cut, pieces);
    (any::<prop::sample::Index>(), prop::collection::vec(change, 1..6))
}

fn holds(text: &str) {
    if let Ok(formatted) = format(text) {
        keeps(text, &formatted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_recipes_keep_what_they_say((text, changes) in changes(8)) {
        holds(&change(text.get::<String>(&TEXTS), &changes, &PIECES));
    }

    #[test]
    fn recipes_in_any_form_keep_what_they_say((text, changes) in changes(0)) {
        holds(&change(text.get::<String>(&TEXTS), &changes, &PIECES[FORM..]));
    }

    #[test]
    fn short_texts_of_marks_keep_what_they_say(pieces in prop::collection::vec(0..PIECES.len(), 0..14)) {
        let words: Vec<&str> = pieces.iter().flat_map(|&piece| [PIECES[piece], "a"]).collect();
        holds(&words.concat());
        holds(&words.join(" "));
    }
}
