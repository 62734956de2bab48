//! Sweeps and texts of many mistakes: what is shared is found once, and found all the same.

use lang::diagnostic::{Diagnostic, Severity};
use lang::facts::Facts;
use lang::source::SourceKind;
use lang::{Checked, Input, check};
use std::time::{Duration, Instant};

/// What a sweep is written in; `VALUES` stands for its values.
const RECIPES: [&str; 6] = [
    "param p 1e-4 max=1 { sweep VALUES }\nmodel base \"base\"\ndataset talks \"t.jsonl\" { rows chat }\nsft a { model base; data talks; optimizer adamw lr=$p }\nsft b { model a; data talks; epochs $p }\n",
    "param p base { sweep VALUES }\nmodel base \"base\"\nmodel other \"other\"\ndataset talks \"t.jsonl\" { rows chat }\nsft a { model $p; data talks }\ndpo d { model a; data talks }\n",
    "param p 2048 { sweep VALUES }\nmodel base \"base\"\ndataset talks \"t.jsonl\" { rows chat }\ndefaults { sequence $p; batch 8 }\ndefaults sft { epochs $p }\nsft a { model base; data talks }\nsft b like=a { model a }\n",
    "param p a { sweep VALUES }\nmodel base \"base\"\ndataset talks \"t.jsonl\" { rows chat }\nsft a { model base; data talks }\ncpt c { model base; data talks }\nsft b like=$p { model a }\n",
    "param p chat { sweep VALUES }\nmodel base \"base\"\ndataset talks \"t.jsonl\" { rows $p }\nsft a { model base; data talks; evaluate on=talks }\nexport e { model a; to $p }\nexport f { model a; to \"chat\" }\n",
    "param p 4 { sweep VALUES }\nmodel base \"base\"\nsft a { lora rank=$p alpha=$p; batch $p; quantize $p; seed $p; unknown $p }\nunknown $p { x $p }\nextend-tokenizer more { model base; add $p }\n",
];

/// Values of every kind, right in some places and wrong in others.
const VALUES: [&str; 14] =
    ["1e-5", "0", "-1", "2", "512", "1e30", "base", "other", "a", "b", "c", "chat", "preference", "none"];

fn checked(text: &str, sets: &[String]) -> Checked {
    check(&Input { path: "recipe.kdl", text, sets }, &Facts::default())
}

/// The errors that have a label of which this is true, without their places.
fn said(diagnostics: &[Diagnostic], is_meant: impl Fn(lang::source::Span) -> bool) -> Vec<String> {
    let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error);
    let of_value = errors.filter(|found| found.labels.iter().any(|label| is_meant(label.span)));
    let mut said: Vec<String> = of_value.map(|found| format!("{}: {}", found.code, found.message)).collect();
    said.sort();
    said.dedup();
    said
}

#[test]
fn a_sweep_finds_what_its_values_come_to_one_by_one() {
    let mut different = 0;
    for recipe in RECIPES {
        let text = format!("adapt 1\n{}", recipe.replace("VALUES", &VALUES.join(" ")));
        let swept = checked(&text, &[]).diagnostics;
        // What the default comes to as well, at the same place, is reported once.
        let plain = text.replace(&format!("{{ sweep {} }}", VALUES.join(" ")), "");
        let known = said(&checked(&plain, &[]).diagnostics, |_| true);
        let mut at = text.find("sweep").expect("it is swept");
        for value in VALUES {
            at += text[at..].find(value).expect("values stand in their order");
            let place = at..at + value.len();
            at = place.end;
            let mut found =
                said(&swept, |span| (span.start as usize..span.end as usize) == place && span.source.0 == 0);
            let alone = text.replace(&format!("param p {}", default(recipe)), &format!("param p {value}"));
            let alone = checked(&alone.replace(&VALUES.join(" "), value), &[]);
            let start = "adapt 1\nparam p ".len();
            let mut expected =
                said(&alone.diagnostics, |span| span.start as usize == start && span.source.0 == 0);
            found.retain(|said| !known.contains(said));
            // Whether bounds have a meaning is told by the default alone.
            expected.retain(|said| !said.contains("has no effect on a parameter"));
            expected.retain(|said| !known.contains(said));
            different += usize::from(!expected.is_empty());
            assert_eq!(found, expected, "`{value}` in\n{recipe}");
        }
    }
    assert!(different > 20, "{different} values are wrong somewhere");
}

/// The default of the parameter of a recipe.
fn default(recipe: &str) -> &str {
    recipe.split(' ').nth(2).expect("it has a default")
}

#[test]
fn a_value_that_is_set_is_not_swept() {
    let text = "adapt 1\nparam p 4 { sweep fast 8 }\nsft a { batch $p }\n";
    let found = checked(text, &["p=2".to_owned()]);
    assert!(
        found.sweeps.is_empty()
            && said(&found.diagnostics, |span| &text[span.start as usize..span.end as usize] == "fast")
                .is_empty()
    );
    assert!(found.sources.iter().any(|source| source.kind == SourceKind::Set(0)));
}

/// The shortest of a few runs.
fn time(text: &str) -> Duration {
    let run = |_| {
        let start = Instant::now();
        drop(checked(text, &[]));
        start.elapsed()
    };
    (0..3).map(run).min().unwrap_or_default()
}

#[test]
fn a_sweep_of_many_values_shares_what_they_do_not_change() {
    let stages: String = (0..200)
        .map(|at| {
            format!("sft s{at} {{ model base; data talks; batch 8; epoch 1; optimizer adamw lr=1e-4 }}\n")
        })
        .collect();
    let recipe = |values: &str| {
        format!(
            "adapt 1\nparam rate 1e-4 {{ {values} }}\nmodel base \"base\"\ndataset talks \"t.jsonl\" {{ rows chat }}\nsft swept {{ model base; data talks; optimizer adamw lr=$rate }}\n{stages}"
        )
    };
    let values: Vec<String> = (1..=200).map(|at| format!("{at}e-7")).collect();
    let (one, many) = (time(&recipe("sweep 1e-5")), time(&recipe(&format!("sweep {}", values.join(" ")))));
    assert!(many < one * 100, "one value takes {one:?}, two hundred take {many:?}");
}

#[test]
fn a_mistake_that_stands_many_times_is_reported_at_each_place() {
    let text = format!("adapt 1\n{}", "modle a\nsft b { epoch 1; modle 2 }\ndpo c { epoch 1 }\n".repeat(50));
    let found = checked(&text, &[]).diagnostics;
    let unknown = |word: &str| {
        let of_word = found.iter().filter(move |found| {
            found.code.starts_with("unknown-") && found.message.contains(&format!("`{word}`"))
        });
        of_word.map(Diagnostic::primary).collect::<Vec<_>>()
    };
    for (word, times) in [("modle", 100), ("epoch", 100)] {
        let expected: Vec<usize> = text.match_indices(&format!("{word} ")).map(|(at, _)| at).collect();
        let starts: Vec<usize> = unknown(word).iter().map(|span| span.start as usize).collect();
        assert_eq!((starts.len(), &starts), (times, &expected), "{word}");
    }
    assert!(
        found.iter().any(|found| found.message.contains("in `sft`"))
            && found.iter().any(|found| found.message.contains("in `dpo`"))
    );
    let fixes =
        found.iter().flat_map(|found| found.fixes.iter().map(move |fix| (found.primary(), &fix.edits)));
    assert!(
        fixes.clone().count() >= 100
            && fixes.into_iter().all(|(at, edits)| edits.iter().all(|edit| edit.span == at))
    );
}
