//! This machine: its processor, and the memory that there is to use.

use lang::facts::HardwareFact;
use std::fs;
use std::path::{Path, PathBuf};

/// Memory that is left to the rest of the machine.
const RESERVE: u64 = 512 << 20;

/// Returns what this machine offers: the memory of the machine or of the control group, less a reserve.
pub fn hardware() -> HardwareFact {
    let total = [machine_memory(), group_memory()].into_iter().flatten().min().unwrap_or(8 << 30);
    let cores = crate::machine::threads() as u32;
    HardwareFact {
        name: "this machine".into(),
        memory: total.saturating_sub(RESERVE),
        threads: cores,
        cores,
        profile: cpu_profile().map(str::to_owned),
        ghz: clock(),
        rates: None,
    }
}

/// Returns the hardware profile that this machine's cores fit.
fn cpu_profile() -> Option<&'static str> {
    match ops::cpu::instruction_set() {
        "avx512" | "avx512-bf16" => Some("cpu-avx512"),
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
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    least_limit(&groups, Path::new("/sys/fs/cgroup"))
}

/// Returns the least limit of the control groups that a process is in, as `/proc/self/cgroup` lists them, and of all
/// groups around them; their files lie under `root`.
fn least_limit(groups: &str, root: &Path) -> Option<u64> {
    // Where a container sees a part of the tree, its own group is the root, whatever the list says.
    let of = |folder: PathBuf, group: &str, file: &str| {
        let path = folder.join(group.trim_start_matches('/'));
        let limit = |group: &Path| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
        path.ancestors().take_while(|group| group.starts_with(&folder)).filter_map(limit).min()
    };
    let lines = groups.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => of(root.to_owned(), group, "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                of(root.join("memory"), group, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    lines.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_around_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let write = |file: &str, limit: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("within the root")).expect("made");
            fs::write(path, limit).expect("written");
        };
        write("memory.max", "max\n");
        write("job/memory.max", "3000\n");
        write("job/step/memory.max", "5000\n");
        write("other/memory.max", "1\n");
        let least = |groups: &str| least_limit(groups, root.path());
        assert_eq!(least("0::/job/step\n"), Some(3000));
        assert_eq!(least("0::/job\n"), Some(3000));
        assert_eq!((least("0::/\n"), least("")), (None, None));
        assert_eq!(least("0::/not/here\n"), None, "a group that the container does not see");

        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/job/memory.limit_in_bytes", "2000\n");
        assert_eq!(least("5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n"), Some(2000));
        assert_eq!(least("4:memory:/elsewhere\n"), Some(9_223_372_036_854_771_712));
    }
}
