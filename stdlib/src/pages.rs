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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_with_its_code_and_what_it_means() {
        assert!(PAGES.len() > 100 && find("no-such-code").is_none());
        for (code, page) in PAGES {
            assert!(page.starts_with(&format!("# {code}\n")), "{code}");
            let first = summary(page);
            assert!(first.ends_with('.') && !first.starts_with('#'), "{code}: `{first}`");
            assert_eq!(find(code), Some(*page));
        }
        assert_eq!(summary("# only-a-title\n"), "");
    }
}
