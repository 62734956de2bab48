//! The parser against the `kdl` crate, which is the reference of KDL 2, and against broken text.

mod common;

use common::{files, root};
use lang::diagnostic::Diagnostic;
use lang::facts::Facts;
use lang::source::{SourceId, Span};
use lang::syntax::{self, Data, Document, Node};
use lang::{Checked, Input, check};
use std::path::PathBuf;

/// What is KDL with another meaning than its author had; of `bare-keyword` words such as `None`.
const SLIPS: [&str; 8] = [
    "spaced-equals",
    "type-annotation",
    "stray-comma",
    "stray-colon",
    "curly-quotes",
    "single-quotes",
    "bare-keyword",
    "out-of-range",
];

/// Recipes of the tests, and texts that try the corners of KDL.
fn texts() -> Vec<String> {
    let root = root();
    let mut texts: Vec<String> = Vec::new();
    for folder in ["tests/ui", "stdlib/schema", "recipes"] {
        let read = |path: PathBuf| std::fs::read_to_string(path).expect("readable");
        texts.extend(files(root.join(folder), "kdl").into_iter().map(read));
    }
    let corners = [
        "a 1 2.5 -3 +4 0x1F 0b101 0o17 1_000 1e3 1.5e-3 #true #false #null #inf #-inf #nan",
        "a b=1 \"c d\"=2 e=\"f\" g=#\"raw \" x\"#",
        "a; b; c { d; e 1 }; f",
        "a {\n b {\n c\n }\n}\n",
        "/- a 1\nb /- 2 3 /- c=4 d=5 /- { e } { f }",
        "a /* x /* y */ z */ 1 // end\nb",
        "a \\\n  1 \\ // more\n  2\n",
        "a \"\"\"\n   x\n     y\n\n   \"\"\"",
        "a #\"\"\"\n  \\n\n  \"\"\"#",
        "a \"\\u{1F600}\\n\\t\\s\\\\\\\"\"",
        "\u{feff}a 1\r\nb 2\r\n",
        "a $x <pad> q4_k_m std:zephyr a.b é𝄞 -x +y .z",
        "\"quoted name\" 1",
        "a {}",
        "a\u{2003}1\u{a0}2",
    ];
    texts.extend(corners.map(str::to_owned));
    for page in files(root.join("docs"), "md") {
        let page = std::fs::read_to_string(page).expect("readable");
        let blocks = page.split("```kdl").skip(1).filter_map(|rest| rest.split_once('\n'));
        texts.extend(blocks.filter_map(|(_, rest)| rest.split_once("```")).map(|(text, _)| text.to_owned()));
    }
    texts
}

#[test]
fn what_both_read_they_read_alike() {
    let mut random = Random(11);
    let mut wrong = Vec::new();
    for text in texts() {
        wrong.extend(disagreement(&text));
        wrong.extend((0..mutations()).filter_map(|_| disagreement(&mutate(&text, &mut random))));
    }
    wrong.sort_by_key(String::len);
    assert!(
        wrong.is_empty(),
        "{} texts, of which the shortest:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(6)].join("\n")
    );
}

/// How many mutations of every text are tried; `ADAPT_FUZZ` asks for more.
fn mutations() -> usize {
    std::env::var("ADAPT_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(4)
}

/// Says where the recovery reader and the `kdl` crate differ.
fn disagreement(text: &str) -> Option<String> {
    let (document, found) = syntax::parse(SourceId(0), text);
    let (recovered, own) = syntax::recover(SourceId(0), text);
    let codes = |found: &[Diagnostic]| {
        found.iter().map(|found| format!("{}: {}; ", found.code, found.message)).collect::<String>()
    };
    // The crate differs from KDL in where a node behind `/-` may stand, and
    // in texts over several lines whose line ends are escaped.
    let loose = text.contains("/-") || text.contains("\"\"\"") && text.contains('\\');
    let says = |what: &str| Some(format!("--- {what}\n{text}"));
    if found.iter().any(|found| found.message.starts_with("this is not KDL")) && !loose {
        return says(&format!("refused without words: {}", codes(&found)));
    }
    if found.is_empty() && !own.is_empty() && !loose {
        return says(&format!("only the recovery reader refuses: {}", codes(&own)));
    }
    // As text, in which not-a-number equals itself.
    let differ = format!("{document:?}") != format!("{recovered:?}");
    if found.is_empty() && own.is_empty() && differ {
        return says(&format!("read in two ways: {:?}\n{:?}", document.nodes, recovered.nodes));
    }
    let is_slip = |found: &Diagnostic| {
        SLIPS.contains(&found.code.as_str())
            || found.message.contains("://")
            || found.message.contains("invisible")
    };
    let is_kdl = !loose && kdl::KdlDocument::parse(text).is_ok();
    (is_kdl && own.first().is_some_and(|found| found.code != "too-deep") && !own.iter().any(is_slip))
        .then(|| format!("refused, but KDL: {}\n{text}", codes(&own)))
}

#[test]
fn what_stands_between_a_mark_and_what_it_means_is_read_at_any_size() {
    let texts = [
        "a \\ /* x */\n 1",
        "a \\ /* x /* y */ */ // z\n 1",
        "a\\/* x */ \n b=1",
        "a /-\n 1 2\nb",
        "a /- // no\n 1 2\nb",
        "a /- // no\n\n k=1 2\nb",
        "a /- /* no */ // no\r\n 1 2\nb",
        "a 1 /- // x\n { b }\nc",
        "a { b } /- // x\n { c }\nd",
        "/- // no\na 1\nb",
    ];
    for text in texts {
        assert!(kdl::KdlDocument::parse(text).is_ok(), "{text:?} is KDL");
        let (document, found) = syntax::recover(SourceId(0), text);
        assert_eq!(found, [], "{text:?}");
        assert_eq!(document.nodes, syntax::parse(SourceId(0), text).0.nodes, "{text:?}");
        // The crate is not asked about long texts in which the recovery reader finds a mistake.
        let long = format!("{text}\n{}", "c 1\n".repeat(5000));
        assert_eq!(syntax::parse(SourceId(0), &long).1, [], "{text:?}");
    }
    let (_, found) = syntax::recover(SourceId(0), "a \\ /* x */ 1");
    assert!(!found.is_empty(), "a line goes on behind its end alone");
}

#[test]
fn values_stand_where_the_text_has_them() {
    for text in texts() {
        let (document, _) = syntax::parse(SourceId(0), &text);
        document.nodes.iter().for_each(|node| check_places(node, &text));
    }
}

fn check_places(node: &Node, text: &str) {
    let slice = |span: Span| &text[span.start as usize..span.end as usize];
    for value in node.arguments.iter().chain(node.properties.iter().map(|property| &property.value)) {
        let written = slice(value.span);
        match &value.data {
            Data::Text(word) if value.bare => {
                let seen = written.replace(|c: char| !c.is_ascii() && !c.is_alphanumeric(), "");
                assert!(
                    written.starts_with(word.as_str()) || seen.starts_with(word.as_str()),
                    "{value:?}\n{text}"
                );
            }
            Data::Integer(number) if !written.contains(['x', 'o', 'b', '_', '+', ',']) => {
                assert_eq!(written, number.to_string(), "{text}");
            }
            _ => assert_eq!(written, written.trim(), "{value:?}\n{text}"),
        }
    }
    node.children.iter().for_each(|child| check_places(child, text));
}

/// A generator of numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Cuts, doubles or replaces a piece of a text.
fn mutate(text: &str, random: &mut Random) -> String {
    let pieces =
        ["{", "}", "\"", "=", "/*", "/-", "\\", "\n", "#", "é", "1e999", "$", ";", "(", "'", "-", "*", " "];
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(3) {
        let at = random.below(chars.len() + 1);
        let end = (at + random.below(12)).min(chars.len());
        match random.below(3) {
            0 => drop(chars.drain(at..end)),
            1 => drop(chars.splice(at..at, pieces[random.below(pieces.len())].chars()).collect::<Vec<_>>()),
            _ => {
                let copy = chars[at..end].to_vec();
                drop(chars.splice(at..at, copy).collect::<Vec<_>>());
            }
        }
    }
    chars.into_iter().collect()
}

fn run(text: &str) -> Checked {
    let sets = ["lr=1".to_owned(), "*.seed=2".to_owned(), "a.b.c=x".to_owned()];
    check(&Input { path: "recipe.kdl", text, sets: &sets }, &Facts::default())
}

#[test]
fn broken_text_is_reported_and_never_panics() {
    let mut random = Random(7);
    for text in texts() {
        for _ in 0..6 {
            let mutated = mutate(&text, &mut random);
            for found in &run(&mutated).diagnostics {
                assert_eq!(found.labels.iter().filter(|label| label.primary).count(), 1, "{found:?}");
            }
        }
    }
}

#[test]
fn every_place_lies_in_its_text() {
    for text in texts() {
        let checked = run(&text);
        for label in checked.diagnostics.iter().flat_map(|found| &found.labels) {
            let source = &checked.sources[label.span.source.0 as usize].text;
            let range = label.span.start as usize..label.span.end as usize;
            assert!(source.get(range).is_some(), "{label:?} in\n{source}");
        }
    }
}

#[test]
fn a_fix_removes_what_it_fixes() {
    for text in texts() {
        let checked = check(&Input { path: "recipe.kdl", text: &text, sets: &[] }, &Facts::default());
        for found in &checked.diagnostics {
            for fix in &found.fixes {
                let fixed = apply(&text, &fix.edits);
                let again = check(&Input { path: "recipe.kdl", text: &fixed, sets: &[] }, &Facts::default());
                let count = |found: &lang::diagnostic::Diagnostic, checked: &Checked| {
                    checked.diagnostics.iter().filter(|other| other.code == found.code).count()
                };
                assert!(
                    count(found, &again) < count(found, &checked),
                    "{}: {}\n{fixed}",
                    found.code,
                    fix.title
                );
            }
        }
    }
}

fn apply(text: &str, edits: &[lang::diagnostic::Edit]) -> String {
    let mut text = text.to_owned();
    for edit in edits.iter().rev() {
        text.replace_range(edit.span.start as usize..edit.span.end as usize, &edit.text);
    }
    text
}

#[test]
fn places_are_exact_behind_text_of_several_bytes() {
    let (document, _) = syntax::parse(SourceId(0), "naïve \"𝄞é\" x=\"ß\" 2e-5");
    let Document { nodes, .. } = document;
    let of = |span: Span| (span.start, span.end);
    assert_eq!(of(nodes[0].name.span), (0, 6));
    assert_eq!(of(nodes[0].arguments[0].span), (7, 15));
    assert_eq!(of(nodes[0].properties[0].value.span), (18, 22));
    assert_eq!(of(nodes[0].arguments[1].span), (23, 27));
}

#[test]
fn text_that_would_cost_too_much_is_read_all_the_same() {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let limit = syntax::MAX_DEPTH;
    let cases = [
        (nested("a {\n", "}\n", limit), None),
        (nested("a {\n", "}\n", limit + 1), Some("too-deep")),
        (nested("a {\n", "}\n", 50_000), Some("too-deep")),
        ("a {\n".repeat(50_000), Some("too-deep")),
        ("}".repeat(50_000), Some("unexpected-brace")),
        (format!("a {}", "{}".repeat(limit)), Some("syntax-error")),
        (nested("/- a {\n", "}\n", limit), None),
        (nested("a /- {\n", "}\n", 3), None),
        (nested("a /- {\n", "}\n", limit), None),
        (format!("/{}/ a 1", "*".repeat(500_000)), None),
        (nested("/*", "*/", 2_000) + " a", None),
        ("/*".repeat(100_000), Some("syntax-error")),
        (format!("a \"\"\"\n{}", "{".repeat(50_000)), Some("unclosed-string")),
        ("(".repeat(50_000), Some("syntax-error")),
        ("a ".to_owned() + &"/ ".repeat(50_000), Some("unquoted-value")),
        ("a b=".to_owned() + &"#truex=#false c=".repeat(20_000), Some("wrong-comment")),
        ("/- a ".to_owned() + &"/ ".repeat(8_000), Some("unquoted-value")),
        ("/- a ".to_owned() + &"/ ".repeat(50_000), Some("unquoted-value")),
        ("a b=".repeat(1_000), Some("missing-value")),
    ];
    for (text, expected) in cases {
        let (_, found) = syntax::parse(SourceId(0), &text);
        let start = &text[..text.len().min(40)];
        assert_eq!(found.first().map(|found| found.code.as_str()), expected, "{start}");
    }
}

/// What is said of one mistake must not cost so much that thousands of them take minutes.
#[test]
fn thousands_of_mistakes_are_reported_in_time() {
    let start = std::time::Instant::now();
    let text = format!("adapt 1\ngenerate g {{ {} }}\n{}", "e; ".repeat(8_000), "›\n".repeat(8_000));
    let found = run(&text).diagnostics;
    assert!(found.len() > 16_000, "{}", found.len());
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn a_block_that_ends_in_a_comment_is_closed_below_it() {
    let text = "adapt 1\nmodel m \"x\" { // why";
    let (_, found) = syntax::parse(SourceId(0), text);
    assert_eq!(apply(text, &found[0].fixes[0].edits), "adapt 1\nmodel m \"x\" { // why\n}\n");
}

#[test]
fn a_parameter_in_a_set_argument_is_not_told_to_lose_quotes() {
    let text = "adapt 1\ndefaults { optimizer adamw lr=2e-4 }\n";
    let checked = check(&Input { path: "r.kdl", text, sets: &["lr=$x".to_owned()] }, &Facts::default());
    let found = checked.diagnostics.iter().find(|found| found.code == "wrong-type").expect("it is a text");
    assert!(found.fixes.is_empty() && found.help.as_deref().is_some_and(|help| !help.contains("quotes")));
}

#[test]
fn a_line_end_is_pointed_at_as_a_whole() {
    let (_, found) = syntax::parse(SourceId(0), "(u8)\r\na");
    let places: Vec<_> = found.iter().map(|found| (found.message.as_str(), found.primary())).collect();
    let at = Span { source: SourceId(0), start: 4, end: 6 };
    assert!(places.contains(&(r"`\r\n` cannot stand here", at)), "{places:?}");
}

#[test]
fn a_field_of_a_set_argument_has_no_fix_in_its_value() {
    let text = "adapt 1\nmodel m \"new:gpt2\" { tokenizer t }\ntokenizer t \"t.json\"\ngenerate g { model m; prompt \"x\" }\n";
    let sets = ["m.config.n_laier=3".to_owned()];
    let checked = check(&Input { path: "recipe.kdl", text, sets: &sets }, &Facts::default());
    let found =
        checked.diagnostics.iter().find(|found| found.code == "unknown-config-field").expect("it is one");
    assert_eq!((found.help.as_deref(), found.fixes.len()), (Some("did you mean `n_layer`?"), 0));
}

#[test]
fn a_recipe_that_is_too_large_is_not_read() {
    let text = format!("adapt 1\n// {}", "x".repeat(syntax::MAX_BYTES));
    let checked = check(&Input { path: "recipe.kdl", text: &text, sets: &[] }, &Facts::default());
    let codes: Vec<&str> = checked.diagnostics.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(codes, ["too-large"]);
}

#[test]
fn a_recipe_that_is_not_text_names_its_first_broken_byte() {
    let checked = lang::not_utf8("recipe.kdl", b"adapt 1\nmodel \xff");
    assert_eq!(checked.diagnostics[0].code, "not-utf8");
    assert_eq!(checked.diagnostics[0].primary().start, 14);
    assert!(checked.recipe.is_none());
}

#[test]
fn a_secret_is_printed_nowhere() {
    let secret = "hf_abcdefghijklmnopqrstuvwxyz";
    let text = format!("adapt 1\nmodel a \"{secret}\" // {secret}\nmodel {secret} \"x\"\n");
    let sets = [format!("a.source={secret}")];
    let checked = check(&Input { path: "recipe.kdl", text: &text, sets: &sets }, &Facts::default());
    let sources = format!("{:?}", checked.sources);
    assert!(!sources.contains(secret));
    let shown = format!("{:?}", checked.diagnostics);
    assert!(!shown.contains(secret), "{shown}");
}

#[test]
fn a_long_chain_of_stages_does_not_overflow() {
    let mut text = String::from("adapt 1\nmodel m0 \"base\"\n");
    for n in (1..2_000).rev() {
        text += &format!("cpt m{n} {{ model m{} }}\n", n - 1);
    }
    assert!(run(&text).recipe.is_none());
}
