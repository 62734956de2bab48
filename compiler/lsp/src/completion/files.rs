//! Paths of files and folders.

use super::{Context, Offer};
use crate::outside::Outside;
use lang::paths;
use lsp_types::CompletionItemKind as Kind;

/// The most entries of a folder that are offered.
const MOST: usize = 500;

/// Offers what lies in the folder that a path has reached. Without quotes the offers bring their own.
pub fn offers<O: Outside>(context: &Context<O>, written: &str, quoted: bool, endings: &[&str]) -> Vec<Offer> {
    // A path begins in quotes; a bare word would not be one. What has a scheme is no path.
    let begun = if quoted { written } else { "" };
    if begun.contains(':') || (!quoted && written.contains(':')) {
        return Vec::new();
    }
    let reached = begun.rfind('/').map_or("", |slash| &begun[..=slash]);
    let own = paths::folder(context.path);
    let folder = paths::resolve(
        if own.is_empty() { "." } else { own },
        if reached.is_empty() { "." } else { reached },
    );
    let hidden = begun[reached.len()..].starts_with('.');
    let shown = |name: &String| {
        let is_folder = name.ends_with('/');
        let fits = is_folder || endings.is_empty() || endings.iter().any(|end| name.ends_with(end));
        fits && (hidden || !name.starts_with('.'))
    };
    let mut found: Vec<String> = context.outside.list(&folder).into_iter().filter(shown).collect();
    found.sort();
    found.truncate(MOST);
    found.into_iter().map(|name| offer(&format!("{reached}{name}"), &name, quoted)).collect()
}

fn offer(path: &str, name: &str, quoted: bool) -> Offer {
    let kind = if name.ends_with('/') { Kind::Folder } else { Kind::File };
    let mut offer = Offer::new(name, kind);
    let written = lang::resolved::quote(path);
    offer.insert = Some(if quoted { written[1..written.len() - 1].to_owned() } else { written });
    offer
}
