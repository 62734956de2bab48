//! Conditions that are read, refused, printed and tried on rows.

use super::*;
use crate::source::{SourceId, Span};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn read(text: &str) -> Condition {
    parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

#[test]
fn precedence_is_not_then_and_then_or() {
    for (text, grouped) in [
        ("a == 1 or b == 2 and c == 3", "a == 1 or (b == 2 and c == 3)"),
        ("not a == 1 and b == 2", "(not a == 1) and b == 2"),
        ("not (a == 1 or b == 2)", "not (((a == 1 or b == 2)))"),
        ("a==1 and b==2 and c==3", "a == 1 and b == 2 and (c == 3)"),
    ] {
        assert_eq!(read(text), read(grouped), "{text}");
    }
    assert_ne!(read("(a == 1 or b == 2) and c == 3"), read("a == 1 or b == 2 and c == 3"));
}

#[test]
fn a_condition_prints_as_it_is_written() {
    for text in [
        "lang == 'nl'",
        "len(messages) >= 2 and words(meta.text) < 300",
        "not (lang in ['ca', 'es'] or score <= 0.5)",
        "(a == 1 or b == 2) and (c == 3 and d == -4)",
        "text matches '^[A-Z]\\d+$'",
        "name != \"d'Artagnan\"",
        "quote == 'he said \"it''s\"'",
        "ok == true or 3 < len(a-b)",
        "x in [1, -2.5, 1e-7, true, 'tekst']",
        "año.título == 'ñ'",
        "messages.0.role == 'user'",
        "len(chosen) > len(rejected)",
    ] {
        assert_eq!(read(text).to_string(), text);
    }
    assert_eq!(read("x == 1_000").to_string(), "x == 1000");
    assert_eq!(read("x==\"a\"").to_string(), "x == 'a'");
}

#[test]
fn columns_come_with_their_bytes() {
    let text = "ñ == 'x' and (len(meta.text) > 3 or not url matches 'y') and 'a' != b";
    let condition = read(text);
    let found = columns(&condition);
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["ñ", "meta.text", "url", "b"]);
    assert!(found.iter().all(|(name, at)| text[at.clone()] == **name));
}

/// Checks that a condition has these mistakes: the characters at fault with what the help must say.
fn refuse(text: &str, expected: &[(&str, &str)]) {
    let errors = parse(text).expect_err(text);
    let found: Vec<&str> = errors.iter().map(|error| &text[error.at.clone()]).collect();
    let places: Vec<&str> = expected.iter().map(|(place, _)| *place).collect();
    assert_eq!(found, places, "{text}: {errors:#?}");
    for (error, (_, help)) in errors.iter().zip(expected) {
        assert!(error.help.contains(help), "{text}: {error:#?}");
        assert!(!error.message.ends_with('.') && !error.label.is_empty(), "{error:#?}");
    }
}

/// Checks that the fixes of a condition make it the other one.
fn fix(text: &str, expected: &str) {
    let errors = parse(text).expect_err(text);
    let mut fixed = text.to_owned();
    for error in errors.iter().rev() {
        let fix = error.fix.as_ref().unwrap_or_else(|| panic!("{text}: {error:?}"));
        fixed.replace_range(error.at.clone(), fix);
    }
    assert_eq!(fixed, expected);
    read(expected);
}

#[test]
fn signs_of_other_languages_are_named_and_replaced() {
    for (text, expected) in [
        ("lang = 'nl'", "lang == 'nl'"),
        ("lang === 'nl'", "lang == 'nl'"),
        ("lang <> 'nl'", "lang != 'nl'"),
        ("a == 1 && b == 2", "a == 1 and b == 2"),
        ("a == 1||b == 2", "a == 1 or b == 2"),
        ("!(a == 1)", "not (a == 1)"),
        ("a => 1", "a >= 1"),
        ("a ≤ 1", "a <= 1"),
        ("a =~ 'x'", "a matches 'x'"),
        ("a == 1 AND NOT b == 2", "a == 1 and not b == 2"),
        ("lang == “nl”", "lang == 'nl'"),
        ("lang == ‘it's’", "lang == \"it's\""),
        ("`lang` == 'nl'", "lang == 'nl'"),
        ("ok == True", "ok == true"),
        ("lang in [nl, 'ca', es]", "lang in ['nl', 'ca', 'es']"),
        ("length(text) > 3", "len(text) > 3"),
        ("word(text) > 3", "words(text) > 3"),
        ("len(text) > '3'", "len(text) > 3"),
    ] {
        fix(text, expected);
    }
}

#[test]
fn mistakes_are_found_at_their_characters() {
    refuse("", &[("", "write a comparison")]);
    refuse("   ", &[("   ", "write a comparison")]);
    refuse("lang == nl", &[("nl", "write `'nl'`")]);
    refuse("lang == new york and x > 1", &[("new", "write `'new'`")]);
    refuse("lang", &[("lang", "such as `lang == true`")]);
    refuse("not lang and x > 1", &[("lang", "such as")]);
    refuse("len(text)", &[("len(text)", "`len(text) > 10`")]);
    refuse("1 == 2", &[("1 == 2", "name a column")]);
    refuse("'lang' == 'nl'", &[("'lang' == 'nl'", "a column does not")]);
    refuse("0 < len(a) < 10", &[("<", "write `0 < len(a) and len(a) < …`")]);
    refuse("lang == null", &[("null", "len(COLUMN) > 0")]);
    refuse("lang is 'nl'", &[("is", "write `==`")]);
    refuse("text contains 'x'", &[("contains", "matches")]);
    refuse("text mathces 'x'", &[("mathces", "write `matches`")]);
    refuse("lang not in ['nl']", &[("not", "write `not lang in …`")]);
    refuse("lang in ('nl')", &[("(", "between `[` and `]`")]);
    refuse("lang in 'nl'", &[("'nl'", "between `[` and `]`")]);
    refuse("lang in []", &[("[]", "write the values")]);
    refuse("lang in ['a' 'b']", &[("'b'", "comma")]);
    refuse("lang in ['a', 'b'", &[("[", "close it with `]`")]);
    refuse("lang in", &[("in", "write the values")]);
    refuse("'nl' in ['nl']", &[("'nl'", "write a column")]);
    refuse("upper(lang) == 'NL'", &[("upper", "the functions are `len` and `words`")]);
    refuse("text.len() > 3", &[("text.len", "write `len(text)`")]);
    refuse("len('text') > 3", &[("'text'", "without quotes")]);
    refuse("len(a, b) > 3", &[(",", "write `len(a)`")]);
    refuse("len(text > 3", &[(">", "write `len(text)`")]);
    refuse("len(a) > 'many'", &[("'many'", "write a number")]);
    refuse("words(a) in [3, 'x']", &[("'x'", "write a number")]);
    refuse("ok < true", &[("true", "write `==` or `!=`")]);
    refuse("len(a) matches 'x'", &[("len(a)", "the column itself")]);
    refuse("a matches x", &[("x", "in single quotes")]);
    refuse("a matches '[a-'", &[("[", "correct the regex")]);
    refuse("a matches 'x(?=y)'", &[("(?=", "correct the regex")]);
    refuse("a matches '\\w{1000}{1000}'", &[("'\\w{1000}{1000}'", "correct the regex")]);
    refuse("a == 'x", &[("'x", "close it with `'`")]);
    refuse("(a == 1", &[("(", "close it with `)`")]);
    refuse("a == 1)", &[(")", "remove it")]);
    refuse("a == 1 b == 2", &[("b", "`and` or `or`")]);
    refuse("(a == 1 b == 2) and c == 3", &[("b", "`and` or `or`")]);
    refuse("a ==", &[("==", "write what belongs after it")]);
    refuse("a == 1 and", &[("and", "write what belongs after it")]);
    refuse("and a == 1", &[("and", "before it")]);
    refuse("a == [1]", &[("[", "write `in`")]);
    refuse("a == 10px", &[("10px", "single quotes")]);
    refuse("a == 1e999", &[("1e999", "64 bits")]);
    refuse("a == 1e-400", &[("1e-400", "64 bits")]);
    refuse("a == 99999999999999999999", &[("99999999999999999999", "64 bits")]);
    refuse("a == $limit", &[("$", "a `param` cannot stand inside a text")]);
    refuse("a == #true", &[("#", "without `#`")]);
    refuse("len(a) + 1 > 3", &[("+", "does not compute")]);
    refuse("meta..lang == 'nl'", &[("meta..lang", "one point")]);
}

#[test]
fn all_mistakes_are_found_in_one_reading() {
    refuse(
        "lang = nl and (score > 'x' or upper(a) == 1) and 1 == 1",
        &[("=", "=="), ("nl", "'nl'"), ("upper", "len"), ("1 == 1", "column")],
    );
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| format!("{}a == 1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(read(&nested(64)), read("a == 1"));
    assert_eq!(parse(&nested(65)).expect_err("too deep").len(), 1);
    refuse(&format!("{} a == 1", "not ".repeat(65)), &[("not", "remove parentheses")]);
    assert!(parse(&"(".repeat(500_000)).is_err());
    let long = vec!["a == 1"; 50_000].join(" and ");
    assert!(holds(&read(&long), &json!({"a": 1})));
}

#[test]
fn what_holds_for_a_row() {
    let row = json!({
        "lang": "nl", "score": 0.5, "n": 5, "id": "5", "nothing": null, "ok": true, "big": 18446744073709551615u64,
        "text": "één  twee\ndrie", "messages": [{"role": "user"}, {"role": "assistant"}], "meta": {"a": {"b": 7}},
        "flat.name": "x", "date": "2024-03-01", "empty": "",
    });
    for (text, expected) in [
        ("lang == 'nl'", true),
        ("lang != 'nl'", false),
        ("'nl' == lang", true),
        ("lang in ['ca', 'nl']", true),
        ("lang in ['ca', 1]", false),
        ("score >= 0.5 and score < 1", true),
        ("n == 5.0 and n in [5]", true),
        ("n > 4 and not n > 5", true),
        ("big > 9223372036854775807", true),
        // No coercion.
        ("id == 5", false),
        ("id != 5", true),
        ("id < 9", false),
        ("id > 4", false),
        ("n == '5'", false),
        ("ok == 1", false),
        ("ok == true", true),
        ("ok != false", true),
        // Null and missing compare false, and `not` turns that around.
        ("nothing == 1", false),
        ("nothing != 1", false),
        ("absent != 'x'", false),
        ("absent in ['x']", false),
        ("absent matches '.*'", false),
        ("len(nothing) >= 0", false),
        ("not nothing == 1", true),
        ("absent == 1 or n == 5", true),
        // Counts.
        ("len(text) == 14", true),
        ("words(text) == 3", true),
        ("len(messages) == 2", true),
        ("len(empty) == 0 and words(empty) == 0", true),
        ("len(n) >= 0", false),
        ("words(messages) >= 0", false),
        ("len(text) > len(lang)", true),
        // Paths.
        ("meta.a.b == 7", true),
        ("meta.a == 7", false),
        ("meta.a != 7", true),
        ("meta.x.b == 7", false),
        ("messages.1.role == 'assistant'", true),
        ("messages.2.role == 'user'", false),
        ("flat.name == 'x'", true),
        // Texts.
        ("text matches 'twee'", true),
        ("text matches '^twee'", false),
        ("text matches '(?m)^drie$'", true),
        ("n matches '5'", false),
        ("date >= '2024-01-01' and date < '2025'", true),
    ] {
        assert_eq!(holds(&read(text), &row), expected, "{text}");
    }
    assert!(!holds(&read("a != 1"), &Json::Null));
}

#[test]
fn it_is_stored_as_its_text() {
    let condition = read("not (a == 1 or b matches 'x')");
    let stored = serde_json::to_string(&condition).expect("a text");
    assert_eq!(stored, "\"not (a == 1 or b matches 'x')\"");
    assert_eq!(serde_json::from_str::<Condition>(&stored).expect("the same"), condition);
    assert!(serde_json::from_str::<Condition>("\"a = 1\"").is_err());
}

#[test]
fn mistakes_stand_at_their_characters_of_the_recipe() {
    let at = |value: &str, text: &str| {
        let recipe = format!("drop where={value} // ñ");
        let start = recipe.find(value).expect("it was put there");
        let span = Span { source: SourceId(3), start: start as u32, end: (start + value.len()) as u32 };
        let found = check(text, span, value).expect_err(text);
        let primary = found[0].primary();
        assert_eq!((found[0].code.as_str(), primary.source), ("bad-condition", SourceId(3)));
        let fix = found[0].fixes.first().map(|fix| fix.edits[0].clone());
        assert!(fix.as_ref().is_none_or(|fix| fix.span == primary));
        (recipe[primary.start as usize..primary.end as usize].to_owned(), fix.map(|fix| fix.text))
    };
    let fixed = Some("==".to_owned());
    assert_eq!(at("\"ñ = 'é'\"", "ñ = 'é'"), ("=".into(), fixed.clone()));
    assert_eq!(at("#\"a = \"b\"\"#", "a = \"b\""), ("=".into(), fixed.clone()));
    assert_eq!(at("##\"a = '#'\"##", "a = '#'"), ("=".into(), fixed.clone()));
    assert_eq!(at("a=1", "a=1"), ("=".into(), fixed));
    // Written with escapes, the text has no characters of its own in the recipe.
    assert_eq!(at("\"a = '\\t'\"", "a = '\t'"), ("\"a = '\\t'\"".into(), None));
    assert_eq!(at("\"\"", ""), ("\"\"".into(), None));
    // A fix that the recipe's quotes would end.
    assert_eq!(at("\"a == ‘it's’\"", "a == ‘it's’"), ("‘it's’".into(), None));
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        any::<i64>().prop_map(Literal::Integer),
        proptest::num::f64::NORMAL.prop_map(Literal::Number),
        "[^\u{0}]{0,12}".prop_map(Literal::Text),
        any::<bool>().prop_map(Literal::Bool),
    ]
}

fn column() -> impl Strategy<Value = Column> {
    let name = "[a-zñ_][a-z0-9_-]{0,5}(\\.[a-z0-9]{1,4}){0,2}";
    let is_free = |name: &String| {
        let words =
            ["and", "or", "not", "in", "matches", "true", "false", "null", "none", "nil", "undefined"];
        !words.contains(&name.as_str())
    };
    name.prop_filter("a word of the language", is_free).prop_map(|path| Column { path, at: 0..0 })
}

fn comparison() -> impl Strategy<Value = Condition> {
    use Comparison::*;
    let op = prop::sample::select(vec![Equal, Unequal, Less, AtMost, Greater, AtLeast]);
    let value = literal().prop_filter("has an order", |value| !matches!(value, Literal::Bool(_)));
    let against_value =
        (column(), op.clone(), value, any::<bool>()).prop_map(|(column, op, value, turned)| {
            let (column, value) = (Operand::Column(column), Operand::Value(value));
            let (left, right) = if turned { (value, column) } else { (column, value) };
            Condition::Compare { left, op, right }
        });
    let counted = (column(), op, column(), any::<bool>()).prop_map(|(left, op, right, words)| {
        let right = if words { Operand::Words(right) } else { Operand::Column(right) };
        Condition::Compare { left: Operand::Length(left), op, right }
    });
    let listed = (column(), prop::collection::vec(literal(), 1..4))
        .prop_map(|(column, values)| Condition::In { operand: Operand::Column(column), values });
    let pattern = prop::sample::select(vec!["^a'b\"c$", "\\d+", "[^']", "", "x|y"]);
    let matched = (column(), pattern).prop_map(|(column, pattern)| Condition::Matches {
        column,
        pattern: Pattern::new(pattern).expect("a regex"),
    });
    prop_oneof![against_value, counted, listed, matched]
}

fn condition() -> impl Strategy<Value = Condition> {
    comparison().prop_recursive(5, 24, 4, |inner| {
        let parts = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            parts.clone().prop_map(Condition::And),
            parts.prop_map(Condition::Or),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

/// Pieces that conditions are made of, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let pieces = vec![
        "a", "len", "words", "(", ")", "[", "]", ",", "and", "or", "not", "in", "matches", "'x'", "'", "\"",
        "==", "=", "<", "!", "1", "-", "2.5", "null", "ñ", "“", "”", "`", ".", "\\", "$", "&&", "🦀",
    ];
    let piece = (prop::sample::select(pieces), prop::sample::select(vec!["", " "]));
    prop::collection::vec(piece, 0..24)
        .prop_map(|pieces| pieces.into_iter().map(|(piece, space)| format!("{piece}{space}")).collect())
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_the_same(condition in condition()) {
        let text = condition.to_string();
        prop_assert_eq!(parse(&text), Ok(condition), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused_within_its_bounds(text in prop_oneof![pieces(), ".{0,40}"]) {
        match parse(&text) {
            Ok(condition) => {
                holds(&condition, &json!({"a": 1}));
                prop_assert!(columns(&condition).iter().all(|(name, at)| text[at.clone()] == **name));
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                prop_assert!(errors.iter().all(|error| text.get(error.at.clone()).is_some()), "{:?}", errors);
            }
        }
    }
}
