//! Who reads a text: the `kdl` crate, the recovery reader, or both.

use super::recovery::{self, Costs, Reading};
use super::{Damage, Document, MAX_BYTES, MAX_DEPTH, convert};
use crate::diagnostic::Diagnostic;
use crate::source::{SourceId, Span};
use kdl::{KdlDiagnostic, KdlDocument};
use std::cell::RefCell;
use std::collections::VecDeque;

/// The stack of the thread that reads what may recurse deeper than is safe on any thread.
const STACK: usize = 64 << 20;
/// The longest text with mistakes that the crate is asked about, since it reads a few forms that the recovery
/// reader refuses. It recurses once for each mistake, for which 4 KiB are enough even without optimisation.
const DOUBTFUL: usize = 16 << 10;
/// How many pieces of one comment fit on that stack; the crate recurses over each.
const COMMENT_PIECES: usize = 4096;
/// How many `/-` may stand within each other; the crate reads what is inside twice for each.
const DROPPED: usize = 4;

/// How many texts are remembered with what they say.
const REMEMBERED: usize = 16;

/// What a text says.
type Parsed = (Document, Vec<Diagnostic>);

thread_local! {
    /// The texts that this thread read last. A recipe is checked in rounds until every fact is known,
    /// and an editor checks it at every key: most of its files are the same as before.
    static LAST: RefCell<VecDeque<(SourceId, String, Parsed)>> = const { RefCell::new(VecDeque::new()) };
}

/// Parses one file.
pub fn parse(source: SourceId, text: &str) -> Parsed {
    LAST.with_borrow_mut(|last| {
        let known = last.iter().find(|(id, known, _)| *id == source && known == text);
        if let Some((_, _, parsed)) = known {
            return parsed.clone();
        }
        let parsed = parse_anew(source, text);
        last.push_front((source, text.to_owned(), parsed.clone()));
        last.truncate(REMEMBERED);
        parsed
    })
}

fn parse_anew(source: SourceId, text: &str) -> Parsed {
    if text.len() > MAX_BYTES {
        return (Document::lost(), vec![too_large(source, text)]);
    }
    // The recovery reader keeps to the limits, so it goes first: the crate recurses over every mistake of a
    // line, over blocks and over comments, and might not return.
    let reading = recovery::read(source, text);
    let (is_refused, is_shallow) = (!reading.found.is_empty(), is_shallow(text));
    let is_doubtful = is_refused && is_shallow && text.len() <= DOUBTFUL;
    if is_refused && !is_doubtful || !is_affordable(reading.costs) {
        return (reading.document, reading.found);
    }
    let parsed = if is_shallow && !is_refused {
        KdlDocument::parse(text)
    } else {
        on_large_stack(|| KdlDocument::parse(text))
    };
    settle(source, text, parsed, reading)
}

/// Parses a text of the schema, of which a test makes sure that it is KDL.
pub fn parse_default(source: SourceId, text: &str) -> Document {
    recovery::read(source, text).document
}

/// Reads a text with the recovery reader alone; for the test that it agrees with the crate.
#[doc(hidden)]
pub fn recover(source: SourceId, text: &str) -> Parsed {
    let reading = recovery::read(source, text);
    (reading.document, reading.found)
}

/// Takes the crate's tree, or what the recovery reader makes of a text that it refuses.
fn settle(
    source: SourceId,
    text: &str,
    parsed: Result<KdlDocument, kdl::KdlError>,
    mut reading: Reading,
) -> Parsed {
    if let Some(nodes) = parsed.as_ref().ok().and_then(|document| convert::nodes(source, document)) {
        return (Document { nodes, damage: Damage::None, braces_in_doubt: false }, Vec::new());
    }
    if let Err(error) = parsed
        && reading.found.is_empty()
    {
        reading.document.damage = Damage::Everywhere;
        reading.found.push(untranslated(source, text, error.diagnostics.first()));
    }
    (reading.document, reading.found)
}

/// Whether a text cannot nest deeper, nor cost more, than is safe on any thread, whatever it says.
fn is_shallow(text: &str) -> bool {
    let count = |wanted: &[u8]| text.bytes().filter(|byte| wanted.contains(byte)).count();
    let dropped = text.matches("/-").take(DROPPED + 1).count();
    let comments = if text.contains("/*") { count(b"*/") } else { 0 };
    count(b"{").max(count(b"}")).max(comments) <= MAX_DEPTH && dropped <= DROPPED
}

fn is_affordable(costs: Costs) -> bool {
    costs.comment <= COMMENT_PIECES && costs.dropped <= DROPPED
}

fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.expect("the system has room for one more thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn too_large(source: SourceId, text: &str) -> Diagnostic {
    let message = format!("the recipe has {} bytes, more than the {MAX_BYTES} that are read", text.len());
    let at = Span { source, start: 0, end: 0 };
    Diagnostic::error("too-large", message, at, "")
        .with_help("keep data in files of their own, and share parts between recipes with `use`")
}

/// Reports what the crate refuses and nobody found words for.
fn untranslated(source: SourceId, text: &str, error: Option<&KdlDiagnostic>) -> Diagnostic {
    let (start, len) = error.map_or((0, 0), |error| (error.span.offset(), error.span.len()));
    let start = text.floor_char_boundary(start.min(text.len()));
    let line = text[start..].find(['\n', '\r']).unwrap_or(text.len() - start);
    let end = text.floor_char_boundary(start + len.min(line));
    let at = Span { source, start: start as u32, end: end as u32 };
    let reason = error.and_then(|error| error.message.as_deref()).unwrap_or("unknown mistake");
    let help = error.and_then(|error| error.help.clone());
    Diagnostic::error(
        "syntax-error",
        format!("this is not KDL: {}", reason.to_lowercase()),
        at,
        "from here on",
    )
    .with_help(help.unwrap_or_else(|| "compare it with an example, or put texts in double quotes".to_owned()))
}
