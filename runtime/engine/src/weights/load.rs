//! From the files of a model folder into the arenas.

use super::{check_covered, matrix};
use crate::error::{EngineError, Result};
use crate::executor::{Executor, masters};
use crate::tensors::TensorFile;
use crate::{mesh, tensors};
use plan::value::{Dtype, ValueId};
use plan::weights::FileTensor;
use safetensors::tensor::TensorInfo;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes that a thread has in memory at once while reading: they stay in the cache of a core.
const READ: usize = 1 << 20;

/// The weight files of a model folder.
#[derive(Debug)]
pub struct ModelFiles {
    files: Vec<TensorFile>,
    by_tensor: HashMap<String, usize>,
}

impl ModelFiles {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    pub fn open(folder: &Path) -> Result<Self> {
        let index = folder.join("model.safetensors.index.json");
        let names = if index.exists() { shards(&index)? } else { vec!["model.safetensors".to_owned()] };
        let open = |name: &String| TensorFile::open(&folder.join(name));
        let files = names.iter().map(open).collect::<Result<Vec<_>>>()?;
        let by_tensor = files.iter().enumerate();
        let by_tensor = by_tensor.flat_map(|(at, file)| file.names().into_iter().map(move |name| (name, at)));
        Ok(ModelFiles { by_tensor: by_tensor.collect(), files })
    }

    /// Returns a tensor by its name or an alias, checked against its shape in the plan.
    pub fn find(&self, tensor: &FileTensor) -> Result<(&TensorFile, &TensorInfo)> {
        let mut names = std::iter::once(&tensor.name).chain(&tensor.aliases);
        let found = names.find_map(|name| Some((&self.files[*self.by_tensor.get(name)?], name)));
        let Some((file, name)) = found else {
            let folder = self.files[0].path().parent().unwrap_or(Path::new("."));
            let message = format!("the weights in {} have no tensor `{}`", folder.display(), tensor.name);
            return Err(EngineError::new("missing-weight", message)
                .help("check that config.json and the weights belong to the same model"));
        };
        let info = file.info(name).expect("the index was made from the headers");
        let shape: Vec<u64> = info.shape.iter().map(|&size| size as u64).collect();
        if shape != tensor.shape {
            let message = format!(
                "tensor `{name}` in {} has shape {shape:?}, but config.json asks for {:?}",
                file.path().display(),
                tensor.shape
            );
            return Err(EngineError::new("wrong-weight-shape", message)
                .help("check that config.json and the weights belong to the same model"));
        }
        Ok((file, info))
    }
}

/// Returns the file names of an index, sorted.
fn shards(index: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(index).map_err(|e| EngineError::io("read", index, &e))?;
    let broken = || tensors::broken(index, "it has no `weight_map` of file names");
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|_| broken())?;
    let map = json.get("weight_map").and_then(serde_json::Value::as_object).ok_or_else(broken)?;
    let mut names = Vec::new();
    for file in map.values() {
        let name = file.as_str().ok_or_else(broken)?;
        // A folder from a stranger names files of that folder, nothing else.
        if Path::new(name).file_name().is_none_or(|only| only != name) {
            return Err(broken());
        }
        names.push(name.to_owned());
    }
    names.sort();
    names.dedup();
    if names.is_empty() { Err(broken()) } else { Ok(names) }
}

/// Loads all weights of a module, and their masters, from a model folder.
///
/// # Errors
/// Fails when a tensor is missing, has another shape or holds a number that is not finite, and when the
/// map leaves a weight without its numbers.
pub fn load(executor: &mut Executor, map: &[FileTensor], folder: &Path) -> Result<()> {
    let others = |_| -> mesh::Job<()> {
        let (map, folder) = (map.to_vec(), folder.to_owned());
        Box::new(move |executor| load_share(executor, &map, &folder))
    };
    executor.together(others, |executor| load_share(executor, map, folder))
}

/// Loads what one rank holds.
fn load_share(executor: &mut Executor, map: &[FileTensor], folder: &Path) -> Result<()> {
    check_covered(executor, map)?;
    let files = ModelFiles::open(folder)?;
    let masters: HashMap<ValueId, ValueId> = masters(executor.module()).into_iter().collect();
    let mut reads = Vec::new();
    for tensor in map {
        reads.extend(reads_of(executor, &masters, tensor, files.find(tensor)?)?);
    }
    let backend = executor.backend();
    let places: Vec<(ValueId, Range<usize>)> = reads
        .iter()
        .flat_map(|read| &read.targets)
        .map(|target| (target.value, target.bytes.clone()))
        .collect();
    let mut parts = executor.parts_mut(&places)?.into_iter();
    let jobs: Vec<Mutex<Job>> = reads
        .into_iter()
        .map(|read| {
            let parts = parts.by_ref().take(read.targets.len()).collect();
            Mutex::new(Job { read, parts })
        })
        .collect();
    // The error of the first tensor counts, whichever thread comes upon one first.
    let failure: Mutex<Option<(usize, EngineError)>> = Mutex::new(None);
    backend.parallel(jobs.len(), &|index| {
        let Job { read, parts } = &mut *jobs[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = read.run(parts) {
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.as_ref().is_none_or(|(first, _)| index < *first) {
                *failure = Some((index, error));
            }
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// A read, and the bytes of its targets.
struct Job<'f, 'm> {
    read: Read<'f>,
    parts: Vec<&'m mut [u8]>,
}

/// Rows of a file tensor `[rows, columns]` that one thread reads, and what they fill.
struct Read<'f> {
    tensor: &'f FileTensor,
    file: &'f TensorFile,
    info: &'f TensorInfo,
    dtype: Dtype,
    rows: Range<usize>,
    columns: usize,
    targets: Vec<Target>,
}

/// Where some of the rows, or columns when the file is transposed, go.
struct Target {
    value: ValueId,
    dtype: Dtype,
    /// Of the value.
    bytes: Range<usize>,
    /// Of the file tensor.
    from: Range<usize>,
}

/// Cuts a tensor into reads: blocks of rows, or all of it when it is transposed.
fn reads_of<'f>(
    executor: &Executor,
    masters: &HashMap<ValueId, ValueId>,
    tensor: &'f FileTensor,
    (file, info): (&'f TensorFile, &'f TensorInfo),
) -> Result<Vec<Read<'f>>> {
    let dtype = tensors::dtype(info.dtype).filter(|dtype| dtype.is_float()).ok_or_else(|| {
        let message = format!("tensor `{}` in {} is {:?}", tensor.name, file.path().display(), info.dtype);
        EngineError::new("wrong-weight-dtype", message).help("use weights in f32, bf16 or f16")
    })?;
    let (rows, columns) = matrix(&tensor.shape);
    let block = if tensor.transpose { rows } else { rows_at_once(columns, dtype) };
    let read = |start: usize| {
        let rows_read = start..(start + block).min(rows);
        let (taken, line) = if tensor.transpose { (0..columns, rows) } else { (rows_read.clone(), columns) };
        let ids = tensor.pieces.iter().flat_map(|piece| {
            std::iter::once(piece.value).chain(masters.get(&piece.value).copied()).map(move |id| (piece, id))
        });
        let targets = ids.filter_map(|(piece, value)| {
            let (file_start, value_start) = (piece.file_start as usize, piece.value_start as usize);
            // Rows of the value, of which this rank holds a share; as rows of the file.
            let share = executor.share(value);
            let in_file = |row: usize| (row + file_start).saturating_sub(value_start);
            let first = taken.start.max(file_start).max(in_file(share.start));
            let from = first..taken.end.min(file_start + piece.rows as usize).min(in_file(share.end));
            let dtype = executor.module().values[value.index()].dtype;
            let at =
                |row: usize| (value_start + row - file_start - share.start) * line * dtype.bytes() as usize;
            (from.start < from.end).then(|| Target {
                value,
                dtype,
                bytes: at(from.start)..at(from.end),
                from,
            })
        });
        Read { tensor, file, info, dtype, rows: rows_read, columns, targets: targets.collect() }
    };
    Ok((0..rows).step_by(block.max(1)).map(read).collect())
}

/// Returns the rows that are in memory at once while reading.
fn rows_at_once(columns: usize, dtype: Dtype) -> usize {
    (READ / (columns * dtype.bytes() as usize).max(1)).max(1)
}

impl Read<'_> {
    /// Reads, checks and casts; `parts` are the bytes of the targets.
    fn run(&self, parts: &mut [&mut [u8]]) -> Result<()> {
        let mut raw = Vec::new();
        for start in self.rows.clone().step_by(rows_at_once(self.columns, self.dtype)) {
            let rows = start..(start + rows_at_once(self.columns, self.dtype)).min(self.rows.end);
            let row_bytes = self.columns * self.dtype.bytes() as usize;
            let (offset, length) = ((rows.start * row_bytes) as u64, rows.len() * row_bytes);
            // Where nothing is to be cast, the arena is what the file is read into.
            if let ([target], [part]) = (&self.targets[..], &mut *parts)
                && !self.tensor.transpose
                && target.dtype == self.dtype
                && target.from == rows
            {
                self.file.read(self.info, offset, part)?;
                self.check(&rows, part)?;
                continue;
            }
            raw.resize(length, 0);
            self.file.read(self.info, offset, &mut raw)?;
            self.check(&rows, &raw)?;
            for (target, part) in self.targets.iter().zip(&mut *parts) {
                if self.tensor.transpose {
                    self.turn(&rows, &raw, target, part);
                } else {
                    let source = |row: usize| (row - rows.start) * row_bytes;
                    let source = &raw[source(target.from.start)..source(target.from.end)];
                    tensors::cast(self.dtype, source, target.dtype, part);
                }
            }
        }
        Ok(())
    }

    /// Row j of the target is column j of the file; row i of the file is its column i.
    fn turn(&self, rows: &Range<usize>, raw: &[u8], target: &Target, part: &mut [u8]) {
        let height = matrix(&self.tensor.shape).0;
        let (wide, narrow) = (self.dtype.bytes() as usize, target.dtype.bytes() as usize);
        for (j, line) in target.from.clone().zip(part.chunks_exact_mut(height * narrow)) {
            let line = &mut line[rows.start * narrow..rows.end * narrow];
            for (i, element) in line.chunks_exact_mut(narrow).enumerate() {
                let at = (i * self.columns + j) * wide;
                tensors::encode(target.dtype, tensors::element(self.dtype, &raw[at..at + wide]), element);
            }
        }
    }

    /// Fails when one of some rows holds a number that is not finite.
    fn check(&self, rows: &Range<usize>, raw: &[u8]) -> Result<()> {
        if tensors::all_finite(self.dtype, raw) {
            return Ok(());
        }
        let numbers = raw.chunks_exact(self.dtype.bytes() as usize).map(|x| tensors::element(self.dtype, x));
        let (at, number) = numbers
            .enumerate()
            .find(|(_, number)| !number.is_finite())
            .expect("one of them is not, or all of them were");
        let (path, element) = (self.file.path().display(), rows.start * self.columns + at);
        let message = format!("tensor `{}` in {path} is {number} at element {element}", self.tensor.name);
        Err(EngineError::new("non-finite-weights", message)
            .help("take the weights from a good copy; training cannot repair them"))
    }
}
