//! What this machine reaches, measured once and remembered in the cache.
//!
//! A measurement belongs to a processor, a number of threads, a version of the kernels and the numerics; another
//! of any is another machine, and each number of threads is remembered in a file of its own. It calibrates the
//! times that are printed and decides nothing, so that a lost or a broken memory costs a second measurement and
//! nothing else.

use lang::facts::{Products, Rates};
use ops::cpu::Cpu;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// A remembered measurement, and the machine that it is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    machine: String,
    rates: Rates,
}

/// Returns what this machine reaches on so many threads: as remembered, else measured now and remembered.
pub fn rates(cache: &Path, threads: usize) -> Rates {
    remembered(cache, threads).unwrap_or_else(|| measure(cache, threads))
}

/// Returns what is remembered of this machine with so many threads.
pub fn remembered(cache: &Path, threads: usize) -> Option<Rates> {
    recall(&file(cache, threads), &machine(threads))
}

/// Measures what this machine reaches on so many threads and remembers it.
pub fn measure(cache: &Path, threads: usize) -> Rates {
    crate::terminal::detail(|| format!("measures what this machine reaches on {threads} threads"));
    let rates = of(probe(&Cpu::new(threads)));
    remember(&file(cache, threads), &machine(threads), rates);
    rates
}

/// Returns what a backend reaches on this machine now.
pub fn probe(cpu: &Cpu) -> ops::probe::Rates {
    ops::probe::rates(cpu, [Products::NARROW as usize, Products::WIDE as usize])
}

/// Returns a measurement as the compiler takes it.
pub fn of(found: ops::probe::Rates) -> Rates {
    let products = |[narrow, wide]: [f64; 2]| Products { narrow, wide };
    Rates {
        f32: products(found.f32),
        bf16: products(found.bf16),
        attention: found.attention,
        bytes: found.copy,
        per_op: found.per_op,
    }
}

/// Returns the threads that a run has unless it is told otherwise: one per core.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns the threads that a run has which is told so many, or nothing.
pub fn threads_of(told: Option<usize>) -> usize {
    told.unwrap_or_else(threads)
}

/// Threads of a run, at most: more than any machine has cores.
const MOST_THREADS: usize = 1024;

/// Reads a number of threads.
pub fn count(text: &str) -> Result<usize, String> {
    let count = text.trim().parse().ok().filter(|count| (1..=MOST_THREADS).contains(count));
    count.ok_or_else(|| format!("a number of threads is needed, from 1 to {MOST_THREADS}"))
}

fn file(cache: &Path, threads: usize) -> PathBuf {
    let all = threads == self::threads();
    cache.join(if all { "machine.json".to_owned() } else { format!("machine-{threads}-threads.json") })
}

fn recall(file: &Path, machine: &str) -> Option<Rates> {
    let found: Remembered = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (found.machine == machine).then_some(found.rates)
}

/// Writes under a temporary name and renames: two processes may do so at once.
fn remember(file: &Path, machine: &str, rates: Rates) {
    let bytes = serde_json::to_vec(&Remembered { machine: machine.to_owned(), rates });
    let temporary = file.with_file_name(format!(".machine.{}", std::process::id()));
    // Losing it costs a second measurement.
    let _ = fs::create_dir_all(file.parent().unwrap_or(Path::new("")))
        .and_then(|()| fs::write(&temporary, bytes.unwrap_or_default()))
        .and_then(|()| fs::rename(&temporary, file));
}

/// Names the machine that a measurement is of.
fn machine(threads: usize) -> String {
    let (version, numerics) = (env!("CARGO_PKG_VERSION"), plan::NUMERICS_VERSION);
    format!("{}; {threads} threads; adapt {version}, numerics {numerics}", processor())
}

/// Returns the name of the processor with its instruction set.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or("unknown processor", |(_, name)| name.trim());
    format!("{name}, {}", ops::cpu::instruction_set())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates {
        f32: Products { narrow: 1.25e11, wide: 2.5e11 },
        bf16: Products { narrow: 1e11, wide: 3e11 },
        attention: 5e10,
        bytes: 1.5e10,
        per_op: 1e-6,
    };

    #[test]
    fn a_measurement_is_remembered_for_its_machine_only() {
        let cache = tempfile::tempdir().unwrap();
        let file = file(cache.path(), threads());
        assert_eq!(recall(&file, "one"), None);
        remember(&file, "one", RATES);
        assert_eq!(recall(&file, "one"), Some(RATES));
        assert_eq!(recall(&file, "another"), None);
        let left: Vec<_> =
            fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["machine.json"]);
    }

    #[test]
    fn a_broken_memory_is_measured_again() {
        let cache = tempfile::tempdir().unwrap();
        let threads = threads();
        fs::write(file(cache.path(), threads), "{\"machine\":").unwrap();
        assert_eq!(remembered(cache.path(), threads), None);
        let measured = rates(cache.path(), threads);
        assert_eq!(remembered(cache.path(), threads), Some(measured));
        assert_eq!(rates(cache.path(), threads), measured, "not measured twice");
        // What fewer reach is another measurement, beside the first.
        let others = threads + 1;
        assert_eq!(remembered(cache.path(), others), None);
        remember(&file(cache.path(), others), &machine(others), RATES);
        assert_eq!(
            (remembered(cache.path(), others), remembered(cache.path(), threads)),
            (Some(RATES), Some(measured))
        );
    }

    #[test]
    fn a_machine_has_a_name_of_its_own() {
        let name = machine(3);
        assert!(
            name.contains("3 threads") && name.contains("numerics") && name.contains(processor().as_str())
        );
    }
}
