//! Predicted seconds: operations over what the hardware reaches, and the traffic of an update over its bandwidth.
//!
//! Always an estimate. The share of a peak that is reached in training is stated per format, not measured per
//! model: well-made trainers reach 0.3 to 0.6 of the dense bf16 peak of GPUs on models of a billion parameters
//! and more, and less on small ones; CPU kernels reach more of their smaller peaks. Collectives,
//! reading of data, evaluations and checkpoints are left out.

use plan::value::Dtype;
use stdlib::hardware::{Hardware, HardwareKind};

/// Devices of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    pub hardware: &'static Hardware,
    /// GPUs, or cores.
    pub count: u64,
    /// Clock of a core; of no meaning for a GPU.
    pub ghz: f64,
}

/// Share of the published peak that training reaches.
pub fn utilisation(kind: HardwareKind, format: Dtype) -> f64 {
    match (kind, format) {
        (HardwareKind::Gpu, Dtype::Bf16 | Dtype::F16) => 0.4,
        (HardwareKind::Gpu, _) => 0.6,
        (HardwareKind::Core, Dtype::Bf16 | Dtype::F16) => 0.3,
        (HardwareKind::Core, _) => 0.5,
    }
}

impl Machine {
    /// Returns the published operations per second of all devices.
    pub fn peak(&self, format: Dtype) -> f64 {
        let peaks = self.hardware.peaks;
        let peak = match format {
            Dtype::Bf16 => peaks.bf16,
            Dtype::F16 => peaks.f16,
            // No profile has a peak for f64, which recipes cannot ask for; integers are not multiplied.
            Dtype::F32 | Dtype::F64 | Dtype::I32 | Dtype::U8 => peaks.f32,
        };
        let per_device = match self.hardware.kind {
            HardwareKind::Gpu => peak * 1e12,
            HardwareKind::Core => peak * self.ghz * 1e9,
        };
        per_device * self.count as f64
    }

    /// Returns the seconds that operations take.
    pub fn seconds(&self, flops: f64, format: Dtype) -> f64 {
        flops / (self.peak(format) * utilisation(self.hardware.kind, format))
    }

    /// Returns the seconds of one update, which reads and writes these bytes (weights, masters, gradients
    /// and state) once each on every device.
    pub fn update_seconds(&self, bytes_per_device: u64) -> f64 {
        let devices = match self.hardware.kind {
            HardwareKind::Gpu => 1.0,
            // Cores share the work of their machine.
            HardwareKind::Core => self.count as f64,
        };
        2.0 * bytes_per_device as f64 / (self.hardware.bandwidth * 1e9 * devices)
    }

    /// Returns the bytes of one device; nothing where it uses the machine's memory.
    pub fn memory_per_device(&self) -> Option<u64> {
        self.hardware.memory.map(|gib| gib << 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdlib::hardware::find;

    fn machine(name: &str, count: u64, ghz: f64) -> Machine {
        Machine { hardware: find(name).unwrap(), count, ghz }
    }

    #[test]
    fn peaks_of_devices_and_cores_add_up() {
        assert_eq!(machine("h100-80", 8, 0.0).peak(Dtype::Bf16), 8.0 * 989e12);
        assert_eq!(machine("cpu-avx512", 2, 2.5).peak(Dtype::F32), 2.0 * 64.0 * 2.5e9);
        assert_eq!(machine("cpu-avx2", 4, 3.0).peak(Dtype::Bf16), 4.0 * 32.0 * 3e9);
    }

    #[test]
    fn seconds_are_operations_over_what_is_reached() {
        let four = machine("rtx-3090", 4, 0.0);
        assert!((four.seconds(4.0 * 71e12, Dtype::Bf16) - 1.0 / 0.4).abs() < 1e-9);
        assert!((four.seconds(4.0 * 35.6e12, Dtype::F32) - 1.0 / 0.6).abs() < 1e-9);
        assert_eq!(four.memory_per_device(), Some(24 << 30));
        assert_eq!(machine("cpu-avx2", 4, 3.0).memory_per_device(), None);
    }

    #[test]
    fn an_update_reads_and_writes_once() {
        assert!((machine("rtx-3090", 4, 0.0).update_seconds(936_000_000) - 0.002).abs() < 1e-12);
        assert!((machine("cpu-avx2", 4, 3.0).update_seconds(40_000_000_000) - 2.0).abs() < 1e-12);
    }
}
