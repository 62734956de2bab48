//! `docs/language/reference.md` is written from the schema; `ADAPT_BLESS=1` rewrites it.

use std::path::Path;

#[test]
fn the_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/language/reference.md");
    let expected = stdlib::reference::page();
    if std::env::var_os("ADAPT_BLESS").is_some() {
        std::fs::write(&path, &expected).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "run `ADAPT_BLESS=1 cargo test -p lang --test reference` and commit {path:?}");
}
