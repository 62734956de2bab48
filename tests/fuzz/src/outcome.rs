//! What running one input yields: features that tell it from others, or what is wrong.

use crate::random::hash;
use lang::diagnostic::{Diagnostic, Label};
use lang::source::Source;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What an input showed, each as a hash: shapes of messages, kinds of nodes, kinds of tasks.
pub type Features = BTreeSet<u64>;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The same for all inputs that show the same fault.
    pub signature: String,
    pub detail: String,
}

impl Finding {
    pub fn new(signature: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { signature: signature.into(), detail: detail.into() }
    }
}

/// Adds what a diagnostic is known by: its code and its sentences without names and numbers.
pub fn note(features: &mut Features, found: &Diagnostic) {
    let labels = found.labels.iter().map(|label| label.message.as_str());
    let help = found.help.iter().map(String::as_str);
    for sentence in [found.message.as_str()].into_iter().chain(labels).chain(help) {
        features.insert(hash(format!("{} {}", found.code, skeleton(sentence)).as_bytes()));
    }
}

/// A sentence without what stands in backticks and without numbers.
fn skeleton(sentence: &str) -> String {
    let outside = sentence.split('`').step_by(2);
    outside.flat_map(str::chars).filter(|c| !c.is_ascii_digit()).take(60).collect()
}

/// Checks what must hold of every diagnostic.
pub fn sound(found: &Diagnostic, sources: &[Source]) -> Result<(), Finding> {
    let wrong = |what: &str| Err(Finding::new(format!("{what}: {}", found.code), format!("{found:#?}")));
    if found.labels.iter().filter(|label| label.primary).count() != 1 {
        return wrong("not exactly one primary label");
    }
    if stdlib::pages::find(&found.code).is_none() {
        return wrong("a code without a page");
    }
    if found.message.trim().is_empty() || found.message.contains('\n') {
        return wrong("a message that is not one line");
    }
    let edits = found.fixes.iter().flat_map(|fix| &fix.edits).map(|edit| edit.span);
    for span in found.labels.iter().map(|label: &Label| label.span).chain(edits) {
        let text = sources.get(span.source.0 as usize).map(|source| source.text.as_str());
        if text.and_then(|text| text.get(span.start as usize..span.end as usize)).is_none() {
            return wrong("a place outside of its text or within a character");
        }
    }
    Ok(())
}

thread_local! {
    static SLOWEST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// Whether the processor's time is taken instead of the clock's, which costs more to read.
    static EXACT: Cell<bool> = const { Cell::new(false) };
}

/// Runs one call into the compiler and remembers how long the slowest took.
pub fn timed<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let worked = EXACT.get().then(processor_time).flatten();
    let result = work();
    let clock = start.elapsed();
    let exact = worked.and_then(|before| Some(processor_time()?.saturating_sub(before)));
    SLOWEST.set(SLOWEST.get().max(exact.unwrap_or(clock)));
    result
}

/// Returns how long the slowest call since the last asking took.
pub fn slowest() -> Duration {
    SLOWEST.take()
}

/// Measures from now on in the thread's own time on the processor, or by the clock.
pub fn measure_exactly(exactly: bool) {
    EXACT.set(exactly);
}

/// Returns how long this thread has been on a processor, where the system tells.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
