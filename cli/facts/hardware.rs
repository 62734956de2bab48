//! This machine: its processor, and the memory that there is to use.

use lang::facts::HardwareFact;
use std::fs;

/// Memory that is left to the rest of the machine.
const RESERVE: u64 = 512 << 20;

/// Returns what this machine offers: the memory of the machine or of the control group, less a reserve.
pub fn hardware() -> HardwareFact {
    let total = [machine_memory(), group_memory()].into_iter().flatten().min().unwrap_or(8 << 30);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    HardwareFact {
        name: "this machine".into(),
        memory: total.saturating_sub(RESERVE),
        threads: threads as u32,
        profile: cpu_profile().map(str::to_owned),
        ghz: clock(),
        rates: None,
    }
}

/// Returns the hardware profile that this machine's cores fit.
fn cpu_profile() -> Option<&'static str> {
    match engine::checkpoint::instruction_set() {
        "avx512" => Some("cpu-avx512"),
        "avx2" => Some("cpu-avx2"),
        _ => None,
    }
}

/// Returns the clock of the cores in GHz, as the system gives it.
fn clock() -> Option<f64> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    line.split(':').nth(1)?.trim().parse::<f64>().ok().map(|mhz| mhz / 1000.0)
}

fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn group_memory() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
}
