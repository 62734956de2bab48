//! `adapt doctor`: what this machine offers, what is missing, and what to do.

use crate::facts;
use crate::{machine, terminal, text};
use lang::facts::{Products, Rates};
use std::path::Path;
use std::process::ExitCode;

/// Say what this machine offers, and what is missing
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt doctor
  adapt doctor --probe                               measure again what this machine reaches

Predicted times follow what was measured at the first `adapt plan` or `adapt run`. Measure again when the
machine was busy then, or has changed.")]
pub struct Args {
    /// Measure again what this machine reaches: products, attention, bandwidth
    #[arg(long)]
    pub probe: bool,
}

/// Prints the report.
pub fn run(args: &Args, cache: &Path) -> ExitCode {
    let rates = match args.probe {
        true => Some(machine::measure(cache, machine::threads())),
        false => machine::remembered(cache, machine::threads()),
    };
    terminal::print(&report(cache, rates))
}

/// Returns the report.
fn report(cache: &Path, rates: Option<Rates>) -> String {
    let hardware = facts::hardware();
    let mut lines = vec![
        ("version", format!("{}, numerics {}", env!("CARGO_PKG_VERSION"), plan::NUMERICS_VERSION)),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("cores", hardware.threads.to_string()),
        ("memory", format!("{} may be used by a run", text::bytes(hardware.memory))),
        ("vectors", vectors()),
        (
            "backend",
            "cpu (fused kernels, f32), the default; plain (slow and obvious) with --backend plain".into(),
        ),
        ("reaches", reached(rates)),
        ("graphics", graphics()),
        ("cache", cache_line(cache)),
    ];
    if let Some(free) = engine::disk::free_space(&existing(cache)) {
        lines.push(("disk", format!("{} free where the cache is", text::bytes(free))));
    }
    lines.iter().map(|(name, value)| format!("  {name:<9} {value}\n")).collect()
}

fn vectors() -> String {
    let mut found: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let features = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        found.extend(features.iter().filter(|(_, there)| *there).map(|(name, _)| *name));
        if found.is_empty() {
            return "none: kernels run in their portable form, several times slower".into();
        }
    }
    #[cfg(target_arch = "aarch64")]
    found.push("neon");
    found.join(", ")
}

/// Says what the machine reached when it was measured.
fn reached(rates: Option<Rates>) -> String {
    let Some(rates) = rates else {
        return "not measured yet: the first `plan` or `run` does, or `doctor --probe`; times are estimates from the clock".into();
    };
    let giga = |rate: f64| rate / 1e9;
    format!(
        "products {:.0} GFLOP/s f32 and {:.0} bf16 ({:.0} and {:.0} at width {}), attention {:.0} GFLOP/s, {:.1} GB/s, {:.1} µs an op",
        giga(rates.f32.wide),
        giga(rates.bf16.wide),
        giga(rates.f32.narrow),
        giga(rates.bf16.narrow),
        Products::NARROW,
        giga(rates.attention),
        giga(rates.bytes),
        rates.per_op * 1e6
    )
}

/// Says what is true of GPUs in this version: they are not used.
fn graphics() -> String {
    match Path::new("/proc/driver/nvidia/version").exists() {
        true => "an NVIDIA driver is there, but this version trains on the CPU only".into(),
        false => "no NVIDIA driver; this version trains on the CPU only".into(),
    }
}

fn existing(path: &Path) -> std::path::PathBuf {
    path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new(".")).to_path_buf()
}

fn cache_line(cache: &Path) -> String {
    let probe = existing(cache);
    match tempfile_in(&probe) {
        Ok(()) => cache.display().to_string(),
        Err(error) => {
            format!("{}: cannot be written ({error}); set ADAPT_CACHE to a folder that can", cache.display())
        }
    }
}

fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    let file = folder.join(format!(".adapt-doctor-{}", std::process::id()));
    std::fs::write(&file, b"")?;
    std::fs::remove_file(file)
}
