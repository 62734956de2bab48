//! The child process: runs inputs of one target on a thread with the stack that a test has, one after another.
//!
//! Each input is written to a file before it runs, so that the parent finds it when the process dies of it.

use crate::corpus::Corpus;
use crate::outcome::{Features, Finding, measure_exactly, slowest};
use crate::random::{Random, hash};
use crate::seeds;
use crate::targets::Target;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The stack of a test's thread.
const STACK: usize = 2 << 20;
/// How many times its limit a call may take before the process is ended.
const PATIENCE: u32 = 60;
/// How many runs finding a smaller input may take.
const SMALLER: usize = 400;
/// The file of the input that is being run.
pub const CURRENT: &str = "current";

/// What a worker does.
#[derive(Debug, Clone)]
pub struct Job {
    pub target: Target,
    pub seed: u64,
    pub inputs: u64,
    pub time: Duration,
    /// How long one call into the compiler may take.
    pub limit: Duration,
    pub scratch: PathBuf,
    pub save: PathBuf,
    pub corpus: PathBuf,
    pub grow: bool,
    /// Hashes of inputs that ended a worker before.
    pub skip: Vec<u64>,
}

/// The last panic, as the hook saw it.
static PANIC: Mutex<Option<(String, String)>> = Mutex::new(None);

/// Runs one input and turns a panic into a finding.
pub fn guarded(
    target: Target,
    input: &[u8],
    limit: Duration,
    features: &mut Features,
) -> Result<(), Finding> {
    let run = |features: &mut Features| {
        catch_unwind(AssertUnwindSafe(|| target.run(input, features))).unwrap_or_else(|_| {
            let seen = PANIC.lock().unwrap_or_else(|broken| broken.into_inner()).take();
            let (place, message) = seen.unwrap_or_default();
            Err(Finding::new(format!("panic at {place}"), message))
        })
    };
    slowest();
    run(features)?;
    if slowest() <= limit {
        return Ok(());
    }
    // The machine may have been busy with something else.
    measure_exactly(true);
    let again = run(features);
    measure_exactly(false);
    again?;
    let time = slowest();
    if time <= limit {
        return Ok(());
    }
    Err(Finding::new("too slow", format!("{time:?} for {} bytes", input.len())))
}

/// Remembers panics instead of printing them.
pub fn watch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or(String::new(), |at| format!("{}:{}", at.file(), at.line()));
        *PANIC.lock().unwrap_or_else(|broken| broken.into_inner()) = Some((place, info.to_string()));
    }));
}

/// What the main thread sees of the one that works.
#[derive(Debug, Default)]
struct Watch {
    count: AtomicU64,
    /// Milliseconds since the start at which the input began; 0 between inputs.
    began: AtomicU64,
}

/// Runs a job; reports on standard output.
pub fn work(job: Job) -> std::io::Result<()> {
    watch_panics();
    let (watch, start, limit) = (Arc::new(Watch::default()), Instant::now(), job.limit);
    let own = watch.clone();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || run(&job, &own, start))?;
    let mut told = Duration::ZERO;
    while !thread.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
        let count = watch.count.load(Ordering::Relaxed);
        if start.elapsed() > told + Duration::from_secs(1) {
            println!("at\t{count}");
            told = start.elapsed();
        }
        let began = watch.began.load(Ordering::Relaxed);
        if began > 0 && start.elapsed().as_millis() as u64 > began + (limit * PATIENCE).as_millis() as u64 {
            println!("at\t{count}\nhangs");
            std::process::exit(3);
        }
    }
    thread.join().expect("panics of inputs were caught")
}

fn run(job: &Job, watch: &Watch, start: Instant) -> std::io::Result<()> {
    let mut current = File::create(job.scratch.join(CURRENT))?;
    let (mut found, mut corpus) = (BTreeMap::new(), Corpus::default());
    let fixed = job.target.seeds();
    let mut seeds = [fixed.clone(), seeds::texts(&job.corpus, "")].concat();
    let mut random = Random::new(job.seed);
    let mut count = 0;
    while count < job.inputs && start.elapsed() < job.time {
        let at = count as usize;
        let input = seeds.get(at).filter(|_| at < seeds.len()).cloned();
        let input = input.unwrap_or_else(|| job.target.input(&seeds, &mut random));
        if job.skip.contains(&hash(&input)) {
            count += 1;
            continue;
        }
        current.rewind()?;
        current.set_len(0)?;
        current.write_all(&input)?;
        watch.began.store(start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let mut features = Features::new();
        let result = guarded(job.target, &input, job.limit, &mut features);
        watch.began.store(0, Ordering::Relaxed);
        match result {
            Ok(()) if at < fixed.len() => corpus.know(features),
            Ok(()) => {
                if corpus.add(&input, features) && input.len() < 1 << 14 {
                    seeds.push(input);
                }
            }
            Err(finding) => report(job, &input, finding, &mut found)?,
        }
        count += 1;
        watch.count.store(count, Ordering::Relaxed);
    }
    if job.grow {
        corpus.save(&job.corpus)?;
    }
    println!("done\t{count}\t{}\t{}", corpus.len(), start.elapsed().as_secs_f64());
    Ok(())
}

/// Saves the first input of each fault, made smaller.
fn report(
    job: &Job,
    input: &[u8],
    finding: Finding,
    found: &mut BTreeMap<String, u64>,
) -> std::io::Result<()> {
    let times = found.entry(finding.signature.clone()).or_default();
    *times += 1;
    if *times > 1 {
        return Ok(());
    }
    let small = if finding.signature == "too slow" {
        input.to_vec()
    } else {
        smaller(job, input, &finding.signature)
    };
    let path = save(&job.save, job.target, &small, &finding)?;
    println!("finding\t{}\t{}", finding.signature, path.display());
    Ok(())
}

/// Writes an input and what is wrong with it; returns the input's path.
pub fn save(folder: &Path, target: Target, input: &[u8], finding: &Finding) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{}-{:016x}", target.name(), hash(input)));
    std::fs::write(&path, input)?;
    std::fs::write(path.with_extension("txt"), format!("{}\n\n{}\n", finding.signature, finding.detail))?;
    Ok(path)
}

/// Takes pieces out of an input while it shows the same fault.
fn smaller(job: &Job, input: &[u8], signature: &str) -> Vec<u8> {
    let (mut best, mut piece, mut runs) = (input.to_vec(), input.len() / 2, 0);
    while piece > 0 && runs < SMALLER {
        let mut at = 0;
        while at < best.len() && runs < SMALLER {
            let end = (at + piece).min(best.len());
            let shorter = [&best[..at], &best[end..]].concat();
            runs += 1;
            let result = guarded(job.target, &shorter, job.limit, &mut Features::new());
            if result.is_err_and(|other| other.signature == signature) {
                best = shorter;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    best
}
