//! What comes with adapt.

/// Returns the text of a `std:` template by its name without the prefix.
pub fn template(name: &str) -> Option<&'static str> {
    let _ = name;
    None
}
