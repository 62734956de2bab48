//! Recipes of several files: definitions, references, renaming, diagnostics where they belong.

use crate::desk::Desk;
use lsp::Encoding;
use lsp_types::{
    Code, Diagnostic, DiagnosticTag, Message, TextDocumentContentChangeEvent,
    TextDocumentContentChangeWholeDocument, Uri,
};
use std::collections::BTreeMap;

const COMMON: &str = "adapt 1\n// 𝄞 datasets\ndataset talks \"talks.jsonl\" {\n    rows chat\n}\n";
const RECIPE: &str = "adapt 1\nuse \"./common.kdl\"\nmodel base \"base\"\nsft chat {\n    model base\n    data talks\n    evaluate on=\"talks\"\n}\ndpo b {\n    model chat\n}\n";

fn desk() -> Desk {
    let mut desk = Desk::with(&[("common.kdl", COMMON)], Encoding::Utf16);
    desk.open("a.kdl", RECIPE);
    desk
}

#[test]
fn a_name_leads_to_its_declaration_in_another_file() {
    let mut desk = desk();
    let at = desk.behind("a.kdl", "data tal");
    let found = desk.editor.definition(&desk.uri("a.kdl"), at);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].uri, desk.uri("common.kdl"));
    assert_eq!((found[0].range.start.line, found[0].range.start.character), (2, 8));
    let path = desk.behind("a.kdl", "./comm");
    assert_eq!(desk.editor.definition(&desk.uri("a.kdl"), path)[0].uri, desk.uri("common.kdl"));
    assert_eq!(desk.editor.links(&desk.uri("a.kdl")).len(), 1);
}

#[test]
fn a_name_of_the_library_leads_to_its_text() {
    let mut desk =
        Desk::of("adapt 1\nsft a {\n    template std:zephyr\n}\nsft b {\n    template std:nothing\n}\n");
    let uri = desk.uri("a.kdl");
    let found = desk.editor.definition(&uri, desk.behind("a.kdl", "template std:zep"));
    let [found] = found.as_slice() else { panic!("one place, not {found:?}") };
    let path = found.uri.to_file_path().expect("a file that an editor can open");
    let text = std::fs::read_to_string(path).expect("it is there");
    assert_eq!(Some(text.as_str()), stdlib::templates::find("zephyr"));
    assert!(desk.editor.definition(&uri, desk.behind("a.kdl", "std:noth")).is_empty());
    assert!(desk.editor.prepare_rename(&uri, desk.behind("a.kdl", "template std:zep")).is_none());
}

#[test]
fn a_diagnostic_leads_to_its_page_and_its_second_places() {
    let text = "adapt 1\ntemplate t { jinja \"x\" }\nmodel m \"base\"\nmodel m \"other\"\n";
    let mut desk = Desk::of(text);
    let uri = desk.uri("a.kdl");
    let found = desk.diagnostics("a.kdl");
    let of = |code: &str| {
        let is_it = |found: &&Diagnostic| found.code == Some(Code::String(code.into()));
        found.iter().find(is_it).unwrap_or_else(|| panic!("`{code}` is found"))
    };
    let (twice, unused) = (of("duplicate-name"), of("unused-declaration"));
    let related = twice.related_information.as_deref().unwrap_or_default();
    let [first] = related else { panic!("one second place, not {related:?}") };
    assert_eq!((&first.location.uri, desk.text("a.kdl", first.location.range)), (&uri, "m"));
    assert_eq!((twice.range.start.line, first.location.range.start.line), (3, 2));
    assert_eq!((&twice.tags, &unused.tags), (&None, &Some(vec![DiagnosticTag::Unnecessary])));
    let page = twice.code_description.as_ref().and_then(|page| page.href.to_file_path().ok());
    let page = std::fs::read_to_string(page.expect("a code leads to a file")).expect("it is there");
    assert_eq!(Some(page.as_str()), stdlib::pages::find("duplicate-name"));
}

#[test]
fn renaming_reaches_all_files() {
    let mut desk = desk();
    let uri = desk.uri("a.kdl");
    let at = desk.behind("a.kdl", "data tal");
    assert!(desk.editor.prepare_rename(&uri, at).is_some());
    assert_eq!(desk.editor.references(&uri, at, true).len(), 3);
    assert_eq!(desk.editor.references(&uri, at, false).len(), 2);
    let edit = desk.editor.rename(&uri, at, "gespräche").expect("the name is free");
    let changes = edit.changes.expect("texts change");
    let recipe = desk.applied("a.kdl", &changes[&uri]);
    assert!(recipe.contains("data gespräche\n    evaluate on=gespräche\n"), "{recipe}");
    let common = &changes[&desk.uri("common.kdl")];
    assert_eq!((common.len(), common[0].new_text.as_str()), (1, "gespräche"));
    // From the used file, too, once it is open.
    desk.open("common.kdl", COMMON);
    let at = desk.behind("common.kdl", "dataset talks");
    assert_eq!(desk.editor.references(&desk.uri("common.kdl"), at, true).len(), 3);
}

#[test]
fn a_parameter_keeps_its_sign() {
    let mut desk = Desk::of("adapt 1\nparam peak 1e-4\nsft a {\n    optimizer adamw lr=$peak\n}\n");
    let (uri, at) = (desk.uri("a.kdl"), desk.behind("a.kdl", "$pe"));
    let edit = desk.editor.rename(&uri, at, "top").expect("the name is free");
    let changed = desk.applied("a.kdl", &edit.changes.expect("texts change")[&uri]);
    assert!(changed.contains("param top 1e-4") && changed.contains("lr=$top"), "{changed}");
}

#[test]
fn bad_names_are_refused() {
    let mut desk = desk();
    let (uri, at) = (desk.uri("a.kdl"), desk.behind("a.kdl", "data tal"));
    for bad in ["", "a b", "none", "$x", "std:x"] {
        assert!(desk.editor.rename(&uri, at, bad).is_err(), "{bad}");
    }
    let taken = desk.editor.rename(&uri, at, "base").expect_err("`base` is a model");
    assert_eq!(taken, "`base` is declared already, in line 3");
    let nothing = desk.behind("a.kdl", "    eval");
    assert!(desk.editor.rename(&uri, nothing, "x").is_err());
    assert!(desk.editor.prepare_rename(&uri, nothing).is_none());
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<String> {
    let code = |found: &Diagnostic| match &found.code {
        Some(Code::String(code)) => code.clone(),
        other => panic!("a code in words, not {other:?}"),
    };
    diagnostics.iter().map(code).collect()
}

#[test]
fn problems_land_in_the_file_that_owns_them() {
    let mut desk = desk();
    desk.write("common.kdl", &COMMON.replace("rows chat", "rows chats"));
    desk.editor.refresh();
    let reports: BTreeMap<Uri, Vec<Diagnostic>> =
        desk.editor.reports().into_iter().map(|report| (report.uri, report.diagnostics)).collect();
    assert!(codes(&reports[&desk.uri("common.kdl")]).contains(&"unknown-value".to_owned()), "{reports:?}");
    // They go when the open text is better than what is on the disk.
    desk.open("common.kdl", COMMON);
    let reports = desk.editor.reports();
    let common = reports.iter().find(|report| report.uri == desk.uri("common.kdl")).expect("it is reported");
    assert!(!codes(&common.diagnostics).contains(&"unknown-value".to_owned()), "{common:?}");
    assert_eq!(desk.editor.reports(), [], "nothing has changed since");
    let uri = desk.uri("common.kdl");
    desk.editor.close(&uri);
    let reports = desk.editor.reports();
    let common = reports.iter().find(|report| report.uri == desk.uri("common.kdl")).expect("it is reported");
    assert!(codes(&common.diagnostics).contains(&"unknown-value".to_owned()), "{common:?}");
}

#[test]
fn diagnostics_are_those_of_the_check() {
    let text =
        "adapt 1\n// 𝄞\nmodel base \"base\"\nsft 𝄞 {\n    model bas\n    batch 0; beta 1\n}\nuse \"x.kdl\"\n";
    let mut desk = Desk::of(text);
    let found = desk.diagnostics("a.kdl");
    let mut facts = lang::facts::Facts::default();
    let disk = crate::desk::Disk::at(std::path::Path::new("/nowhere"));
    let mut look = lsp::Outside::look(&disk, "a.kdl").expect("there is no lock file");
    let input = lang::Input { path: "a.kdl", text, sets: &[] };
    let checked = loop {
        let checked = lang::check(&input, &facts);
        if !lsp::Look::fill(&mut look, &checked.wants, &mut facts) {
            break checked;
        }
    };
    let expected: Vec<(String, &str)> = checked
        .diagnostics
        .iter()
        .map(|found| {
            let at = found.primary();
            (found.message.clone(), &text[at.start as usize..at.end as usize])
        })
        .collect();
    let got: Vec<(String, &str)> = found
        .iter()
        .map(|found| {
            let Message::String(message) = &found.message else { panic!("messages are texts") };
            let first = message.lines().next().unwrap_or_default().to_owned();
            (first, desk.text("a.kdl", found.range))
        })
        .collect();
    assert!(expected.len() > 3, "{expected:?}");
    assert_eq!(got, expected);
}

#[test]
fn what_was_written_before_does_not_change_what_is_found() {
    let lock = r#"{"version": 1, "sources": {"hf:o/m": {"kind": "model", "revision": null,
        "config": {"model_type": "llama", "vocab_size": 8}, "tokenizer": {"vocab_size": 8, "eos": "</s>"}}}}"#;
    let recipe = "adapt 1\nmodel base \"hf:o/m\"\ndataset pairs \"p.jsonl\" { rows preference }\nextend-tokenizer more { model base; add \"<tool>\" }\ndpo b { model more; data pairs; reference base; template std:zephyr }\n";
    // The template asks for the tokenizer, which tells how many ids there are.
    let without = recipe.replace("; template std:zephyr", "");
    let found = |texts: &[&str]| {
        let mut desk = Desk::with(&[("adapt.lock", lock)], Encoding::Utf16);
        desk.open("a.kdl", texts[0]);
        let uri = desk.uri("a.kdl");
        for (at, text) in texts.iter().enumerate() {
            let whole = TextDocumentContentChangeWholeDocument { text: (*text).to_owned() };
            let change = TextDocumentContentChangeEvent::TextDocumentContentChangeWholeDocument(whole);
            desk.editor.change(&uri, at as i32 + 10, vec![change]);
            desk.diagnostics("a.kdl");
        }
        let mut found = desk.diagnostics("a.kdl");
        // Each desk has a folder of its own for the pages.
        found.iter_mut().for_each(|found| found.code_description = None);
        found
    };
    assert!(codes(&found(&[recipe])).contains(&"vocabulary-mismatch".to_owned()), "{:?}", found(&[recipe]));
    assert_eq!(found(&[recipe, &without]), found(&[&without]));
}

#[test]
fn settings_of_other_programs_are_left_alone() {
    let mut desk = Desk::with(&[], Encoding::Utf8);
    let uri = desk.uri("config.kdl");
    desk.editor.open(uri.clone(), 1, "keybinds {\n    normal {}\n}\n".into(), false);
    assert_eq!(desk.editor.diagnostics(&uri), []);
    desk.editor.open(uri.clone(), 2, "keybinds {\n}\nsft a {\n}\n".into(), false);
    assert!(!desk.editor.diagnostics(&uri).is_empty());
}
