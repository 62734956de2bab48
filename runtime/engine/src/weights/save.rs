//! From the arenas into the files of a model folder.

use super::{BLOCK, check_finite, matrix};
use crate::error::{EngineError, Result};
use crate::executor::{Executor, masters};
use crate::frozen::Frozen;
use crate::tensors::Header;
use crate::{arena, disk, tensors};
use plan::value::{Dtype, ValueId};
use plan::weights::{FileTensor, Piece};
use serde_json::json;
use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::Path;

/// A shard holds at most this many bytes of tensors, as Hugging Face cuts them.
const SHARD_BYTES: u64 = 5_000_000_000;

/// What kind of error it is that a number is too large for the dtype of a file.
const OUT_OF_RANGE: ErrorKind = ErrorKind::InvalidData;

/// Writes the weights of a module as the files of a model folder, one or in shards.
pub fn save(
    executor: &Executor,
    map: &[FileTensor],
    frozen: &Frozen,
    wanted: &str,
    folder: &Path,
) -> Result<()> {
    check_finite(executor, map)?;
    let dtype = file_dtype(wanted)?;
    let held = Held::take(executor)?;
    let by_name: HashMap<&str, &FileTensor> =
        map.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let put = |header: &Header, out: &mut dyn Write| match frozen.write(&header.name, dtype, out)? {
        true => Ok(()),
        false => save_tensor(&held, by_name[header.name.as_str()], dtype, out),
    };
    let mut too_large = None;
    let fill = |header: &Header, out: &mut dyn Write| {
        put(header, out).inspect_err(|error| {
            too_large = (error.kind() == OUT_OF_RANGE).then(|| header.name.clone());
        })
    };
    let written = write_files(folder, headers(map, dtype), SHARD_BYTES, fill);
    too_large.map_or(written, |name| {
        let message = format!("`{name}` holds a number that is too large for {wanted}");
        Err(EngineError::new("non-finite-weights", message)
            .help("give the model `dtype=bf16` or `dtype=f32`, and run again"))
    })
}

/// Returns the bytes that [`save`] will write, nearly.
pub fn saved_bytes(map: &[FileTensor], dtype: &str) -> Result<u64> {
    let tensors = headers(map, file_dtype(dtype)?);
    Ok(tensors::file_bytes(&tensors, &[("format", "pt")]))
}

/// Returns the float dtype of that name.
pub fn file_dtype(name: &str) -> Result<Dtype> {
    tensors::float_named(name).ok_or_else(|| EngineError::plan(format!("no weight is saved as `{name}`")))
}

pub(super) fn headers(map: &[FileTensor], dtype: Dtype) -> Vec<Header> {
    map.iter().map(|t| Header { name: t.name.clone(), dtype, shape: t.shape.clone() }).collect()
}

/// Writes tensors as `model.safetensors`, or in shards with an index when they exceed `shard_bytes`.
pub fn write_files(
    folder: &Path,
    mut tensors: Vec<Header>,
    shard_bytes: u64,
    mut fill: impl FnMut(&Header, &mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    tensors::sort(&mut tensors);
    let total: u64 = tensors.iter().map(Header::bytes).sum();
    let shards = cut(tensors, shard_bytes);
    let count = shards.len();
    let mut weight_map = serde_json::Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        let path = folder.join(&name);
        disk::create_file(&path, |out| {
            tensors::write(out, &path, shard, &[("format", "pt")], &mut fill).map(drop)
        })?;
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), name.clone().into())));
    }
    if count > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        write_json(&folder.join("model.safetensors.index.json"), &index)?;
    }
    Ok(())
}

/// Writes a JSON file as people read it.
pub fn write_json(path: &Path, json: &serde_json::Value) -> Result<()> {
    disk::write_file(path, format!("{json:#}\n").as_bytes())
}

fn cut(tensors: Vec<Header>, shard_bytes: u64) -> Vec<Vec<Header>> {
    let mut shards = vec![Vec::new()];
    let mut size = 0;
    for tensor in tensors {
        let bytes = tensor.bytes();
        let last = shards.last_mut().expect("there is always a shard");
        if !last.is_empty() && size + bytes > shard_bytes {
            shards.push(vec![tensor]);
            size = bytes;
        } else {
            last.push(tensor);
            size += bytes;
        }
    }
    shards
}

/// The weights and masters of all ranks where they lie; nothing of them is copied.
struct Held<'e, 'a> {
    executor: &'e Executor<'a>,
    ranks: Vec<arena::Frozen>,
    masters: HashMap<ValueId, ValueId>,
}

/// The rows of a value, in the parts that ranks hold.
struct Rows<'h> {
    dtype: Dtype,
    /// Bytes of a row.
    row: usize,
    parts: Vec<&'h [u8]>,
}

impl<'e, 'a> Held<'e, 'a> {
    fn take(executor: &'e Executor<'a>) -> Result<Self> {
        let masters = masters(executor.module()).into_iter().collect();
        Ok(Held { executor, ranks: executor.freeze_all()?, masters })
    }

    /// Returns the rows of a piece's value, or of its master when the file holds more than the value does.
    fn rows(&self, piece: &Piece, wanted: Dtype, columns: usize) -> std::io::Result<Rows<'_>> {
        let values = &self.executor.module().values;
        let narrow = values[piece.value.index()].dtype.bytes() < wanted.bytes();
        let master = self.masters.get(&piece.value).filter(|_| narrow);
        let id = *master.unwrap_or(&piece.value);
        let holders =
            self.executor.holders(id).map_err(|error| std::io::Error::other(error.message))?.into_iter();
        let parts = holders.map(|(rank, place, length)| self.ranks[rank].bytes(place, length)).collect();
        let dtype = values[id.index()].dtype;
        Ok(Rows { dtype, row: columns * dtype.bytes() as usize, parts })
    }
}

impl<'h> Rows<'h> {
    /// Returns the bytes of a range of rows, part by part.
    fn range(&self, rows: Range<usize>) -> impl Iterator<Item = &'h [u8]> {
        let (mut bytes, row) = (rows.start * self.row..rows.end * self.row, self.row);
        debug_assert!(self.parts.iter().all(|part| part.len() % row.max(1) == 0), "parts are of whole rows");
        self.parts.iter().map(move |part| {
            let within = bytes.start.min(part.len())..bytes.end.min(part.len());
            bytes = bytes.start - within.start..bytes.end - within.end;
            &part[within]
        })
    }
}

fn save_tensor(held: &Held, tensor: &FileTensor, dtype: Dtype, out: &mut dyn Write) -> std::io::Result<()> {
    let mut pieces = tensor.pieces.clone();
    pieces.sort_by_key(|piece| piece.file_start);
    let (rows, columns) = matrix(&tensor.shape);
    let line = if tensor.transpose { rows } else { columns };
    let taken = |piece: &Piece| piece.value_start as usize..(piece.value_start + piece.rows) as usize;
    if !tensor.transpose {
        for piece in &pieces {
            let source = held.rows(piece, dtype, line)?;
            source.range(taken(piece)).try_for_each(|part| write_cast(source.dtype, part, dtype, out))?;
        }
        return Ok(());
    }
    let sources = pieces.iter().map(|piece| Ok((held.rows(piece, dtype, line)?, taken(piece))));
    let sources = sources.collect::<std::io::Result<Vec<_>>>()?;
    let mut numbers = Vec::with_capacity(columns);
    for i in 0..rows {
        numbers.clear();
        for (source, taken) in &sources {
            let element = source.dtype.bytes() as usize;
            let lines = source.range(taken.clone()).flat_map(|part| part.chunks_exact(source.row));
            numbers.extend(lines.map(|line| tensors::element(source.dtype, &line[i * element..][..element])));
        }
        write_numbers(dtype, &numbers, out)?;
    }
    Ok(())
}

/// Writes elements of one dtype as those of another.
pub fn write_cast(from: Dtype, bytes: &[u8], to: Dtype, out: &mut dyn Write) -> std::io::Result<()> {
    if from == to {
        return out.write_all(bytes);
    }
    let mut numbers = Vec::new();
    for block in bytes.chunks(BLOCK) {
        tensors::decode(from, block, &mut numbers);
        write_numbers(to, &numbers, out)?;
    }
    Ok(())
}

/// Writes numbers as elements of a dtype.
///
/// # Errors
/// Fails with `InvalidData` when a number becomes an infinity, or is one.
pub fn write_numbers(dtype: Dtype, numbers: &[f64], out: &mut dyn Write) -> std::io::Result<()> {
    let mut bytes = vec![0; numbers.len() * dtype.bytes() as usize];
    tensors::encode_all(dtype, numbers, &mut bytes);
    if !tensors::all_finite(dtype, &bytes) {
        return Err(OUT_OF_RANGE.into());
    }
    out.write_all(&bytes)
}
