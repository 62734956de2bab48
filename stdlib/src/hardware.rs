//! The types of the hardware table; the table itself is generated from `schema/hardware.kdl`.

include!(concat!(env!("OUT_DIR"), "/hardware.rs"));

/// A device that recipes are predicted for, as its vendor publishes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hardware {
    /// What stands after `std:`.
    pub name: &'static str,
    pub doc: &'static str,
    pub kind: HardwareKind,
    /// GiB per device; nothing where the device uses the machine's memory.
    pub memory: Option<u64>,
    /// GB per second, a GB being 10^9 bytes.
    pub bandwidth: f64,
    pub peaks: Peaks,
}

/// What the peaks of a device are per.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardwareKind {
    /// Peaks are TFLOP/s of the device.
    Gpu,
    /// Peaks are operations per cycle of a core.
    Core,
}

/// Most operations by number format; multiply and add count as two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    pub bf16: f64,
    pub f16: f64,
    pub f32: f64,
}

/// Finds a device by what stands after `std:`.
pub fn find(name: &str) -> Option<&'static Hardware> {
    HARDWARE.iter().find(|hardware| hardware.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for hardware in HARDWARE {
            assert_eq!(find(hardware.name), Some(hardware));
        }
        assert_eq!(find("abacus"), None);
    }

    #[test]
    fn a_gpu_has_its_own_memory_and_a_core_has_not() {
        for hardware in HARDWARE {
            assert_eq!(hardware.memory.is_some(), hardware.kind == HardwareKind::Gpu, "{}", hardware.name);
        }
    }

    #[test]
    fn published_figures() {
        let h100 = find("h100-80").expect("it is in the table");
        assert_eq!((h100.memory, h100.bandwidth, h100.peaks.bf16), (Some(80), 3350.0, 989.0));
        let rtx = find("rtx-3090").expect("it is in the table");
        assert_eq!((rtx.memory, rtx.bandwidth, rtx.peaks.bf16), (Some(24), 936.0, 71.0));
    }
}
