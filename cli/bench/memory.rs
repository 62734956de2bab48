//! The memory that this process has taken.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The most memory that a process had while it did something, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Without the pages of mapped files.
    pub anonymous: u64,
    /// All that was resident; where the system cannot forget it, also of what was before.
    pub resident: Option<u64>,
}

/// Does some work; returns what it gave, and the memory that it took.
pub fn watched<T>(work: impl FnOnce() -> T) -> (T, Most) {
    forget_peak();
    let peak = Peak::default();
    let done = std::thread::scope(|scope| {
        scope.spawn(|| peak.watch());
        let _watched = Watched(&peak);
        work()
    });
    (done, Most { anonymous: peak.most.load(Ordering::Relaxed), resident: status("VmHWM:") })
}

/// Begins the peak of resident memory anew, so that what measures the machine is not in it.
fn forget_peak() {
    const PEAK: &str = "5";
    // A system that does not know this tells a larger peak, never a smaller one.
    let _ = std::fs::write("/proc/self/clear_refs", PEAK);
}

/// The most anonymous memory that the process has had.
#[derive(Debug, Default)]
struct Peak {
    most: AtomicU64,
    stop: AtomicBool,
}

impl Peak {
    fn watch(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.most.fetch_max(status("RssAnon:").unwrap_or(0), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Ends the watching when it goes, also when what is watched panics.
struct Watched<'p>(&'p Peak);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Returns a size that the system tells of this process, in bytes.
fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}
