//! The pages of `docs/diagnostics`, one per code, as `adapt explain` prints them.

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Returns the page of a code.
pub fn find(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == code).map(|(_, page)| *page)
}

/// Returns the first sentence of a page, below its title.
pub fn summary(page: &str) -> &str {
    page.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or("")
}
