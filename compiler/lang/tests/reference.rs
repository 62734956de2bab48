//! `docs/language/reference.md` and `capabilities.md` are written from the schema; `ADAPT_BLESS=1` rewrites them.

use std::path::Path;

#[test]
fn the_reference_is_current() {
    is_current("reference.md", &stdlib::reference::page());
}

#[test]
fn the_table_of_what_runs_is_current() {
    is_current("capabilities.md", &stdlib::capabilities::page());
}

fn is_current(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/language").join(name);
    if std::env::var_os("ADAPT_BLESS").is_some() {
        std::fs::write(&path, expected).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "run `ADAPT_BLESS=1 cargo test -p lang --test reference` and commit {path:?}");
}
