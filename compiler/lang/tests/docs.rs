//! The pages of `docs/` against the compiler: codes, examples, and the reference that the schema gives.

mod common;

use common::{files, root};
use lang::facts::Facts;
use lang::syntax;
use lang::{Input, check};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// A fenced block: what follows the backticks, and its text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

fn codes(text: &str) -> BTreeSet<String> {
    let checked = check(&Input { path: "recipe.kdl", text, sets: &[] }, &Facts::default());
    checked.diagnostics.into_iter().map(|found| found.code).collect()
}

/// The codes that the source of this crate gives.
fn codes_in_source() -> BTreeSet<String> {
    codes_in("compiler/lang/src")
}

/// The codes that all sources give: of the compiler, the runtime and the command line.
fn all_codes() -> BTreeSet<String> {
    let runtime = std::fs::read_dir(root().join("runtime")).expect("runtime/ is there");
    let crates = runtime.map(|entry| entry.expect("an entry is readable").path().join("src"));
    let mut folders: Vec<PathBuf> = crates.filter(|folder| folder.is_dir()).collect();
    folders.extend(
        ["compiler/lang/src", "compiler/lower/src", "compiler/import/src", "cli"]
            .map(|folder| root().join(folder)),
    );
    folders.iter().flat_map(codes_in).collect()
}

/// What stands before a code: a call that makes a diagnostic or error, or a choice of codes.
const BEFORE_CODES: [&str; 8] = [
    "Diagnostic::error(",
    "Diagnostic::warning(",
    "Error::new(",
    "Problem::new(",
    "refuse(",
    "let code = ",
    "let (code, what) = ",
    "let (code, kind) = ",
];

/// The codes that the source in a folder gives; its tests may make up others.
fn codes_in(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for path in files(root().join(folder), "rs") {
        let text = read(&path);
        let text = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
        let is_test = path.file_stem().is_some_and(|name| name == "tests" || name == "testing");
        for before in BEFORE_CODES.iter().filter(|_| !is_test) {
            for piece in text.split(before).skip(1) {
                // A code stands in the first argument, or in one of the first values of a choice.
                let end = if before.starts_with("let") { piece.find(';') } else { piece.find(',') };
                let texts = piece[..end.unwrap_or(piece.len())].split('"').skip(1).step_by(2);
                codes.extend(texts.filter(|text| is_code(text)).map(str::to_owned));
            }
        }
    }
    codes
}

/// Whether a text is a code and none of the other words that are chosen beside one.
fn is_code(text: &str) -> bool {
    let letters = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    letters && (text.contains('-') || text == "unsupported")
}

#[test]
fn every_code_has_a_page() {
    let pages: BTreeSet<String> = stdlib::pages::PAGES.iter().map(|(code, _)| (*code).to_owned()).collect();
    let codes = all_codes();
    let missing: Vec<&String> = codes.difference(&pages).collect();
    assert!(missing.is_empty(), "without a page in docs/diagnostics: {missing:?}");
    let surplus: Vec<&String> = pages.difference(&codes).collect();
    assert!(surplus.is_empty(), "in docs/diagnostics, but given by nothing: {surplus:?}");
}

#[test]
fn every_page_says_what_why_and_shows_both() {
    for (code, page) in stdlib::pages::PAGES {
        let infos: Vec<String> = blocks(page).into_iter().map(|(info, _)| info).collect();
        assert!(page.starts_with(&format!("# {code}\n")), "{code}: the title");
        assert!(page.contains("\n**Why it matters.** "), "{code}: why it matters");
        assert!(infos.len() >= 2, "{code}: an example that fails, and one that passes");
    }
}

#[test]
fn examples_of_what_only_a_run_finds_are_sound() {
    // Parts of recipes, so that only what they hold is looked at, not what they lack.
    let parts = ["unused-declaration", "ineffective-option", "missing-option", "not-yet-runnable"];
    let of_checks = codes_in_source();
    for (code, page) in stdlib::pages::PAGES.iter().filter(|(code, _)| !of_checks.contains(*code)) {
        for (_, text) in blocks(page).into_iter().filter(|(info, _)| info == "kdl") {
            let found: Vec<String> =
                codes(&text).into_iter().filter(|code| !parts.contains(&code.as_str())).collect();
            assert!(found.is_empty(), "{code}: the passing example gives {found:?}");
        }
    }
}

#[test]
fn every_code_has_a_case() {
    let cases: String = files(root().join("tests/ui"), "kdl").iter().map(|path| read(path)).collect();
    // What has no text to stand in has its own tests.
    let elsewhere = ["not-utf8", "too-large", "broken-lock"];
    let uncovered: Vec<String> = codes_in_source()
        .into_iter()
        .filter(|code| !elsewhere.contains(&code.as_str()) && !cases.contains(&format!("[{code}]")))
        .collect();
    assert!(uncovered.is_empty(), "without a case in tests/ui: {uncovered:?}");
}

#[test]
fn the_examples_of_a_page_fail_and_pass() {
    let mut wrong = String::new();
    for (code, page) in stdlib::pages::PAGES.iter().filter(|(code, _)| codes_in_source().contains(*code)) {
        for (info, text) in blocks(page) {
            let fails = codes(&text).contains(*code);
            match info.as_str() {
                "kdl fails" if !fails => {
                    wrong += &format!("{code}: the failing example gives {:?}\n", codes(&text))
                }
                "kdl" if fails => wrong += &format!("{code}: the passing example fails\n"),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a part of a recipe lacks because it is a part.
const OF_PARTS: [&str; 5] =
    ["missing-version", "missing-option", "unknown-name", "unused-declaration", "unknown-param"];

/// The pages whose KDL blocks are tried; the diagnostics' own have stricter tests above.
fn pages() -> Vec<PathBuf> {
    let mut pages = files(root().join("docs"), "md");
    let more = ["README.md", "recipes/README.md"].map(|page| root().join(page));
    pages.extend(more.into_iter().filter(|page| page.exists()));
    pages
}

/// Whether a block is no whole recipe; the pages of the codes leave out what does not matter to them.
fn is_part(text: &str) -> bool {
    let (document, _) = syntax::parse(lang::source::SourceId(0), text);
    !document.nodes.iter().any(|node| node.name.text == "adapt")
}

/// Says what is wrong with a block: `kdl` checks without an error, `kdl fails` does not, and
/// `kdl fails=CODE` fails with that code. A part of a recipe may lack the rest.
fn wrong_with(info: &str, text: &str, is_part: bool) -> Option<String> {
    let checked = check(&Input { path: "recipe.kdl", text, sets: &[] }, &Facts::default());
    let errors: BTreeSet<String> = checked
        .diagnostics
        .into_iter()
        .filter(|found| found.severity == lang::diagnostic::Severity::Error)
        .map(|found| found.code)
        .filter(|code| !(is_part && OF_PARTS.contains(&code.as_str())))
        .collect();
    match info.split_whitespace().nth(1).map(|mark| mark.split_once('=')) {
        None if !errors.is_empty() => Some(format!("gives {errors:?}")),
        Some(None) if errors.is_empty() => Some("is marked to fail, and passes".into()),
        Some(Some((_, code))) if !errors.contains(code) => Some(format!("gives {errors:?}, not {code}")),
        _ => None,
    }
}

#[test]
fn every_kdl_block_checks_or_is_marked_to_fail() {
    let mut wrong = String::new();
    for page in pages() {
        let of_a_code = page.parent().is_some_and(|folder| folder.ends_with("docs/diagnostics"));
        for (info, text) in blocks(&read(&page)) {
            match info.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["kdl"] => {}
                // A page of a code may fail with a warning, or outside the text; see above.
                ["kdl", "fails", ..] if of_a_code => continue,
                ["kdl", mark] if *mark == "fails" || mark.starts_with("fails=") => {}
                ["kdl", ..] => wrong += &format!("{page:?}: unknown mark in `{info}`\n"),
                _ => continue,
            }
            let what = wrong_with(&info, &text, of_a_code || is_part(&text));
            wrong += &what.map_or(String::new(), |what| format!("{page:?}: {what}:\n{text}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_block_that_is_wrong_is_noticed() {
    let is_wrong = |info: &str, text: &str| wrong_with(info, text, is_part(text)).is_some();
    assert!(!is_wrong("kdl", "model a \"x\"\n"), "a part");
    assert!(is_wrong("kdl", "modle a \"x\"\n"));
    assert!(is_wrong("kdl", "adapt 1\nsft a { model b }\n"), "a whole recipe");
    assert!(!is_wrong("kdl fails", "adapt 1\nmodle a \"x\"\n"));
    assert!(is_wrong("kdl fails", "adapt 1\nmodel a \"x\"\n"));
    assert!(!is_wrong("kdl fails=unknown-node", "adapt 1\nmodle a \"x\"\n"));
    assert!(is_wrong("kdl fails=wrong-type", "adapt 1\nmodle a \"x\"\n"));
}

/// Options that are read without their name: columns as a whole, and `state`, of which one value is built.
const READ_AS_A_WHOLE: [&str; 2] = ["rows", "optimizer"];

/// Every built child and property of the schema, as `place.option`.
fn built_options(node: &stdlib::schema::Node, place: &str, found: &mut Vec<(String, &'static str)>) {
    use stdlib::schema::Status;
    let words = |ty: &stdlib::schema::Type| match ty {
        stdlib::schema::Type::Word(choices) => *choices,
        _ => &[],
    };
    let choices = node.arguments.first().map_or(&[][..], |argument| words(&argument.ty));
    let is_later =
        |word: &&str| choices.iter().any(|choice| choice.name == *word && choice.status == Status::Later);
    for property in node.properties.iter().filter(|property| property.status == Status::Built) {
        // What only belongs to words that cannot be run yet is carried as it is written.
        if !property.only.is_empty() && property.only.iter().all(is_later) {
            continue;
        }
        if !READ_AS_A_WHOLE.contains(&node.name) {
            found.push((format!("{place}.{}", property.name), property.name));
        }
    }
    let is_read = |child: &&&stdlib::schema::Node| child.status == Status::Built && child.name != "margin";
    for child in node.children.iter().filter(is_read) {
        found.push((format!("{place}.{}", child.name), child.name));
        built_options(child, &format!("{place}.{}", child.name), found);
    }
}

#[test]
fn every_option_of_the_schema_has_a_reader() {
    let sources = files(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "rs");
    let sources: String = sources.iter().map(|path| read(path)).collect();
    let mut options = Vec::new();
    for top in stdlib::schema::TOP.iter().filter(|top| top.status == stdlib::schema::Status::Built) {
        built_options(top, top.name, &mut options);
    }
    let unread =
        options.iter().filter(|(_, name)| !sources.contains(&format!("\"{name}\"")) && *name != "doc");
    let unread: Vec<&str> = unread.map(|(place, _)| place.as_str()).collect();
    assert!(unread.is_empty(), "in the schema, but never read: {unread:?}");
}

#[test]
fn every_default_of_the_schema_can_be_read() {
    fn visit(node: &stdlib::schema::Node) {
        for argument in node.arguments.iter().filter(|argument| argument.default.is_some()) {
            lang::values::from_literal(argument.default.expect("filtered"), &argument.ty);
        }
        for property in node.properties.iter().filter(|property| property.default.is_some()) {
            lang::values::from_literal(property.default.expect("filtered"), &property.ty);
        }
        if !node.absent.is_empty() {
            let (document, found) = syntax::parse(lang::source::SourceId(0), node.absent);
            assert_eq!(syntax::parse_default(lang::source::SourceId(0), node.absent), document);
            assert!(found.is_empty() && document.nodes[0].name.text == node.name, "{}", node.absent);
        }
        node.children.iter().for_each(|child| visit(child));
    }
    stdlib::schema::TOP.iter().for_each(|top| visit(top));
}
