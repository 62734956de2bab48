//! Devices of this machine: how many a run asks for, and the threads that are divided among them.

use crate::machine;
use ops::backend::Backend;
use plan::task::Task;
use std::cell::OnceCell;

/// Ranks of one process, at most.
const MOST: u32 = 64;

/// Reads a number of devices.
pub fn count(text: &str) -> Result<u32, String> {
    let text = text.trim();
    if text.split_once(['x', '×', '*']).is_some_and(|(a, b)| [a, b].iter().all(|n| n.parse::<u32>().is_ok()))
    {
        let one =
            "give one number, and each device has all weights where they fit and a part where they do not";
        return Err(format!("replicas of shards cannot be run yet; {one}"));
    }
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(0) => Err("a run needs one device at least".to_owned()),
        Ok(count) if count <= MOST => Ok(count),
        _ if is_number => {
            Err(format!("one process has {MOST} devices at most, and several machines cannot be used yet"))
        }
        _ => Err(format!("a number of devices is needed, from 1 to {MOST}")),
    }
}

/// The backends of a run, made when a task first needs them.
pub struct Devices {
    /// How many threads each of the devices that a stage is divided over has.
    threads: Vec<usize>,
    make: Make,
    ranks: OnceCell<Vec<Box<dyn Backend>>>,
    /// All threads as one device, for what is not divided.
    whole: OnceCell<Box<dyn Backend>>,
}

/// Makes a backend of so many threads.
type Make = fn(usize) -> Box<dyn Backend>;

impl Devices {
    /// Divides threads among devices.
    ///
    /// # Errors
    /// Fails, with a line for the user, when there is no such backend or a device would have no thread.
    pub fn new(backend: &str, devices: u32, threads: Option<usize>) -> Result<Self, String> {
        let make = backend_named(backend)?;
        let threads = divided(devices, threads)?;
        Ok(Devices { threads, make, ranks: OnceCell::new(), whole: OnceCell::new() })
    }

    /// Returns the devices that a task runs on.
    pub fn of(&self, task: &Task) -> Vec<&dyn Backend> {
        let is_divided = crate::plan::module(task).is_some_and(|module| module.mesh.ranks() > 1);
        if is_divided {
            let make = || self.threads.iter().map(|&threads| (self.make)(threads)).collect();
            return self.ranks.get_or_init(make).iter().map(Box::as_ref).collect();
        }
        vec![self.whole.get_or_init(|| (self.make)(self.threads.iter().sum())).as_ref()]
    }
}

/// Divides threads among devices: those asked for, else one per core.
///
/// # Errors
/// Fails, with a line for the user, when a device would have no thread.
pub fn divided(devices: u32, threads: Option<usize>) -> Result<Vec<usize>, String> {
    let (devices, all) = (devices as usize, machine::threads_of(threads));
    if devices > all {
        let what = match threads {
            Some(_) => format!("`--threads {all}` leaves {} without", counted(devices - all, "device")),
            None => format!("this machine has {}", counted(all, "core")),
        };
        return Err(format!(
            "{devices} devices need a thread each, and {what}; take `--devices {all}`, or `--threads {devices}`"
        ));
    }
    // Those that do not divide go to the first devices.
    let of = |device: usize| all / devices + usize::from(device < all % devices);
    Ok((0..devices).map(of).collect())
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Makes the backend of that name.
pub fn backend(name: &str, threads: Option<usize>) -> Result<Box<dyn Backend>, String> {
    Ok(backend_named(name)?(machine::threads_of(threads)))
}

fn backend_named(name: &str) -> Result<Make, String> {
    match name {
        "cpu" => Ok(|threads| Box::new(ops::cpu::Cpu::new(threads))),
        "plain" => Ok(|_| Box::new(plain::Plain::new())),
        "cuda" | "nccl" | "metal" => {
            Err(format!("backend `{name}` cannot be used yet; `cpu` and `plain` are there"))
        }
        other => Err(format!("there is no backend `{other}`; `cpu` and `plain` are there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_devices_are_read_and_others_are_told_why_not() {
        assert_eq!((count("1"), count(" 2 "), count("64")), (Ok(1), Ok(2), Ok(64)));
        let check = |text: &str, words: &str| {
            let error = count(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        };
        check("0", "one device at least");
        for many in ["65", "100000", "99999999999999999999"] {
            check(many, "64 devices at most");
        }
        for product in ["2x2", "4×2", "2*1"] {
            check(product, "replicas of shards cannot be run yet");
        }
        for other in ["", "-1", "two", "x", "2x", "1.5", "auto"] {
            check(other, "a number of devices is needed");
        }
    }

    #[test]
    fn every_thread_belongs_to_one_device() {
        for (devices, threads) in [(1, 1), (2, 2), (2, 3), (3, 8)] {
            let made = Devices::new("cpu", devices, Some(threads)).expect("enough");
            assert_eq!(made.threads.len(), devices as usize);
            assert_eq!(made.threads.iter().sum::<usize>(), threads);
            assert!(made.threads.iter().all(|own| *own >= threads / devices as usize));
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        let check = |backend: &str, devices, threads, words: &[&str]| {
            let error = Devices::new(backend, devices, threads).err().expect("refused");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        check("cpu", 3, Some(2), &["3 devices need a thread each", "`--threads 2`", "`--devices 2`"]);
        check("cpu", 4, Some(1), &["`--devices 1`, or `--threads 4`"]);
        check("nccl", 2, Some(2), &["`nccl` cannot be used yet"]);
        check("tpu", 2, Some(2), &["no backend `tpu`"]);
        // On whatever machine this runs.
        assert!(Devices::new("cpu", 1, None).is_ok());
        check("cpu", 1 << 20, None, &["this machine has", "need a thread each"]);
    }
}
