//! New weights from their initial distributions.

use crate::error::Result;
use crate::tensors;
use crate::tensors::Header;
use crate::weights::{file_dtype, write_files};
use ops::backend::Backend;
use ops::random::{philox, stream};
use plan::weights::{Init, NewTensor};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Elements that a thread draws at once; a multiple of the four words of a draw.
const CHUNK: u64 = 1 << 14;

/// Chunks that are drawn before they are written.
const CHUNKS: u64 = 64;

/// Bytes of tensors in one file.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Writes the weight files of a new model; the threads of a backend draw.
///
/// The numbers of a tensor depend on the seed, its index in the list and the place in it, nothing else.
pub fn write(
    tensors: &[NewTensor],
    dtype: &str,
    seed: u64,
    folder: &Path,
    backend: &dyn Backend,
) -> Result<()> {
    let dtype = file_dtype(dtype)?;
    let by_name: HashMap<&str, (usize, &NewTensor)> =
        tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.as_str(), (index, tensor))).collect();
    let header =
        |tensor: &NewTensor| Header { name: tensor.name.clone(), dtype, shape: tensor.shape.clone() };
    let chunks: Vec<Mutex<Vec<u8>>> = (0..CHUNKS).map(|_| Mutex::default()).collect();
    write_files(folder, tensors.iter().map(header).collect(), SHARD_BYTES, |header, out| {
        let (index, tensor) = by_name[header.name.as_str()];
        let key = stream(seed, 0, index as u32);
        let elements = tensor.shape.iter().product::<u64>();
        for first in (0..elements).step_by((CHUNK * CHUNKS) as usize) {
            let count = (elements - first).div_ceil(CHUNK).min(CHUNKS) as usize;
            backend.parallel(count, &|chunk| {
                let start = first + chunk as u64 * CHUNK;
                let drawn = draw(tensor.init, key, start, CHUNK.min(elements - start));
                let mut bytes = chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner);
                bytes.resize(drawn.len() * dtype.bytes() as usize, 0);
                tensors::encode_all(dtype, &drawn, &mut bytes);
            });
            for bytes in &chunks[..count] {
                out.write_all(&bytes.lock().unwrap_or_else(PoisonError::into_inner))?;
            }
        }
        Ok(())
    })
}

/// Returns elements of a tensor from a place (a multiple of four) on.
fn draw(init: Init, key: [u32; 2], start: u64, count: u64) -> Vec<f64> {
    match init {
        Init::Zeros => vec![0.0; count as usize],
        Init::Ones => vec![1.0; count as usize],
        Init::Normal { std } => normal(key, start, count).map(|z| z * std).collect(),
    }
}

/// Returns standard normal numbers from place `start` (a multiple of four) of a stream on.
fn normal(key: [u32; 2], start: u64, count: u64) -> impl Iterator<Item = f64> {
    let blocks = start / 4..(start + count).div_ceil(4);
    let words = blocks.map(move |block| philox(key, [block as u32, (block >> 32) as u32, 0, 0]));
    words.flat_map(|[a, b, c, d]| [box_muller(a, b), box_muller(c, d)]).flatten().take(count as usize)
}

/// Returns two independent normal numbers. Box and Muller 1958, doi 10.1214/aoms/1177706645.
fn box_muller(a: u32, b: u32) -> [f64; 2] {
    const WORDS: f64 = 4_294_967_296.0;
    // In (0, 1]: the logarithm of 0 has no place here.
    let radius = (-2.0 * ((f64::from(a) + 1.0) / WORDS).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * f64::from(b) / WORDS).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::{TensorFile, decode};
    use ops::cpu::Cpu;
    use plan::value::Dtype;

    #[test]
    fn draws_are_normal_and_do_not_depend_on_where_reading_starts() {
        let all: Vec<f64> = normal([1, 2], 0, 40_000).collect();
        let tail: Vec<f64> = normal([1, 2], 8, 39_992).collect();
        assert_eq!(all[8..], tail);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / all.len() as f64;
        // Standard errors are 0.005 and 0.007.
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let beyond = all.iter().filter(|z| z.abs() > 1.96).count() as f64 / all.len() as f64;
        assert!((beyond - 0.05).abs() < 0.005, "{beyond}");
    }

    #[test]
    fn tensors_follow_their_distributions_and_seed() {
        let tensor = |name: &str, init| NewTensor { name: name.into(), shape: vec![70, 1000], init };
        let tensors =
            [tensor("w", Init::Normal { std: 0.02 }), tensor("b", Init::Zeros), tensor("g", Init::Ones)];
        let read = |seed: u64| {
            let place = tempfile::tempdir().expect("a temporary folder");
            write(&tensors, "f32", seed, place.path(), &Cpu::new(3)).expect("written");
            let file = TensorFile::open(&place.path().join("model.safetensors")).expect("sound");
            ["w", "b", "g"].map(|name| {
                let (mut bytes, mut numbers) = (vec![0; 280_000], Vec::new());
                file.read(file.info(name).expect("there"), 0, &mut bytes).expect("read");
                decode(Dtype::F32, &bytes, &mut numbers);
                numbers
            })
        };
        let [w, b, g] = read(1);
        assert!(b.iter().all(|x| *x == 0.0) && g.iter().all(|x| *x == 1.0));
        let std = (w.iter().map(|x| x * x).sum::<f64>() / w.len() as f64).sqrt();
        assert!((std - 0.02).abs() < 0.0005, "{std}");
        assert_eq!(read(1)[0], w);
        let key = stream(1, 0, 0);
        let alone: Vec<f64> = normal(key, 0, 70_000).map(|z| f64::from((z * 0.02) as f32)).collect();
        assert_eq!(w, alone, "however it is cut");
        assert_ne!(read(2)[0], w);
    }
}
