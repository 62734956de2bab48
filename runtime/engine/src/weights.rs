//! Weights between the values of a module and the files of a model folder, as the plan maps them.

use crate::arena;
use crate::disk;
use crate::error::{EngineError, Result};
use crate::executor::{Executor, masters};
use crate::frozen::Frozen;
use crate::mesh;
use crate::tensors::{self, Header, TensorFile};
use plan::value::{Dtype, Role, ValueId};
use plan::weights::{FileTensor, Piece};
use safetensors::tensor::TensorInfo;
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes that a thread has in memory at once while reading: they stay in the cache of a core.
const READ: usize = 1 << 20;

/// Bytes of a value that are cast for a file at a time, by way of f64: they stay in the cache of a core.
const BLOCK: usize = 256 << 10;

/// A shard holds at most this many bytes of tensors, as Hugging Face cuts them.
const SHARD_BYTES: u64 = 5_000_000_000;

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

/// Writes the weights of a module as the files of a model folder, one or in shards.
pub fn save(
    executor: &Executor,
    map: &[FileTensor],
    frozen: &Frozen,
    dtype: &str,
    folder: &Path,
) -> Result<()> {
    check_finite(executor, map)?;
    let dtype = file_dtype(dtype)?;
    let held = Held::take(executor)?;
    let by_name: HashMap<&str, &FileTensor> =
        map.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let fill = |header: &Header, out: &mut dyn Write| match frozen.write(&header.name, dtype, out)? {
        true => Ok(()),
        false => save_tensor(&held, by_name[header.name.as_str()], dtype, out),
    };
    write_files(folder, headers(map, dtype), SHARD_BYTES, fill)
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

fn headers(map: &[FileTensor], dtype: Dtype) -> Vec<Header> {
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
pub fn write_numbers(dtype: Dtype, numbers: &[f64], out: &mut dyn Write) -> std::io::Result<()> {
    let mut bytes = vec![0; numbers.len() * dtype.bytes() as usize];
    tensors::encode_all(dtype, numbers, &mut bytes);
    out.write_all(&bytes)
}

/// Returns rows and columns of a tensor; rows are its first dimension.
fn matrix(shape: &[u64]) -> (usize, usize) {
    let rows = shape.first().copied().unwrap_or(1);
    (rows as usize, shape.iter().skip(1).product::<u64>() as usize)
}

/// Fails when a weight has rows that no file tensor fills, or a piece lies outside its tensor or value.
fn check_covered(executor: &Executor, map: &[FileTensor]) -> Result<()> {
    let module = executor.module();
    let mut rows: HashMap<ValueId, u64> = HashMap::new();
    for tensor in map {
        let (mut file_rows, mut columns) = matrix(&tensor.shape);
        if tensor.transpose {
            (file_rows, columns) = (columns, file_rows);
        }
        if tensor.pieces.iter().map(|piece| piece.rows).sum::<u64>() != file_rows as u64 {
            return Err(EngineError::plan(format!(
                "the rows of `{}` are not those of its pieces",
                tensor.name
            )));
        }
        for piece in &tensor.pieces {
            let value = &module.values[piece.value.index()];
            let sizes = value.whole_sizes(&module.capacities());
            let fits = piece.file_start + piece.rows <= file_rows as u64
                && matrix(&sizes).1 == columns
                && piece.value_start + piece.rows <= matrix(&sizes).0 as u64;
            if !fits {
                return Err(EngineError::plan(format!("`{}` does not fit `{}`", tensor.name, value.name)));
            }
            *rows.entry(piece.value).or_default() += piece.rows;
        }
    }
    for (index, value) in module.values.iter().enumerate().filter(|(_, value)| value.role == Role::Weight) {
        let wanted = matrix(&value.whole_sizes(&module.capacities())).0 as u64;
        if rows.get(&ValueId(index as u32)).copied().unwrap_or(0) != wanted {
            return Err(EngineError::plan(format!("no file tensor fills all of `{}`", value.name)));
        }
    }
    Ok(())
}

fn check_finite(executor: &Executor, map: &[FileTensor]) -> Result<()> {
    for piece in map.iter().flat_map(|tensor| &tensor.pieces) {
        check_value(executor, piece.value)?;
    }
    Ok(())
}

/// Fails when a float value holds a number that is not finite.
pub fn check_value(executor: &Executor, id: ValueId) -> Result<()> {
    let value = &executor.module().values[id.index()];
    if executor.all_finite(id)? {
        return Ok(());
    }
    Err(non_finite(&value.name))
}

/// Makes the error of a trained value that is not to be saved.
pub fn non_finite(name: &str) -> EngineError {
    let message = format!("`{name}` holds a number that is not finite");
    EngineError::new("non-finite-weights", message).help("lower the learning rate and run again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Loops, layout};
    use plan::program::Module;

    /// q [2,3] and k [1,3] from one file tensor [3,3]; t [2,4] transposed; b [4] under an alias.
    fn module(dtype: Dtype) -> (Module, Vec<FileTensor>) {
        let mut module = Module::default();
        let mut weight = |name: &str, shape: &[u64]| {
            module.value(name, dtype, Role::Weight, shape.iter().map(|&size| size.into()).collect())
        };
        let (q, k, t, b) =
            (weight("q", &[2, 3]), weight("k", &[1, 3]), weight("t", &[2, 4]), weight("b", &[4]));
        layout(&mut module);
        let piece = |value, file_start, rows| Piece { value, file_start, value_start: 0, rows };
        let tensor = |name: &str, shape: &[u64], pieces: Vec<Piece>| FileTensor {
            name: name.into(),
            aliases: vec![format!("old.{name}")],
            shape: shape.to_vec(),
            transpose: name == "t",
            pieces,
        };
        let map = vec![
            tensor("qk", &[3, 3], vec![piece(q, 0, 2), piece(k, 2, 1)]),
            tensor("t", &[4, 2], vec![piece(t, 0, 2)]),
            tensor("b", &[4], vec![piece(b, 0, 4)]),
        ];
        (module, map)
    }

    fn write_model(folder: &Path, names: [&str; 3], dtype: Dtype, shard_bytes: u64) {
        let header = |name: &str, shape: &[u64]| Header { name: name.into(), dtype, shape: shape.to_vec() };
        let tensors = vec![header(names[0], &[3, 3]), header(names[1], &[4, 2]), header(names[2], &[4])];
        write_files(folder, tensors, shard_bytes, |tensor, out| {
            let numbers: Vec<f64> = (0..tensor.shape.iter().product()).map(|i| i as f64 - 1.5).collect();
            write_numbers(tensor.dtype, &numbers, out)
        })
        .expect("written");
    }

    fn numbers(executor: &Executor, name: &str) -> Vec<f64> {
        executor.read(name).expect("there")
    }

    #[test]
    fn pieces_transposes_and_aliases_survive_both_ways() {
        for (file, value) in [(Dtype::F32, Dtype::F32), (Dtype::Bf16, Dtype::F32), (Dtype::F16, Dtype::Bf16)]
        {
            for (names, shard_bytes) in [(["qk", "t", "b"], 1 << 20), (["old.qk", "old.t", "old.b"], 20)] {
                let place = tempfile::tempdir().expect("a temporary folder");
                write_model(place.path(), names, file, shard_bytes);
                let (module, map) = module(value);
                let mut executor = Executor::new(&module, &Loops).expect("sound");
                load(&mut executor, &map, place.path()).expect("loaded");
                assert_eq!(numbers(&executor, "q"), [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5]);
                assert_eq!(numbers(&executor, "k"), [4.5, 5.5, 6.5]);
                assert_eq!(numbers(&executor, "t"), [-1.5, 0.5, 2.5, 4.5, -0.5, 1.5, 3.5, 5.5]);
                let again = tempfile::tempdir().expect("a temporary folder");
                save(&executor, &map, &Frozen::default(), file.name(), again.path()).expect("saved");
                let mut second = Executor::new(&module, &Loops).expect("sound");
                load(&mut second, &map, again.path()).expect("loaded");
                for name in ["q", "k", "t", "b"] {
                    assert_eq!(numbers(&executor, name), numbers(&second, name), "{name}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let place = tempfile::tempdir().expect("a temporary folder");
        write_model(place.path(), ["qk", "t", "b"], Dtype::F32, 1 << 20);
        let (module, map) = module(Dtype::F32);
        let check = |change: &dyn Fn(&mut Vec<FileTensor>), code: &str, words: &str| {
            let mut map = map.clone();
            change(&mut map);
            let mut executor = Executor::new(&module, &Loops).expect("sound");
            let error = load(&mut executor, &map, place.path()).expect_err("refused");
            assert_eq!(error.code, code);
            assert!(error.message.contains(words), "{}", error.message);
        };
        check(&|map| map[2].name = "c".into(), "missing-weight", "no tensor `c`");
        check(&|map| map[1].shape = vec![4, 2, 1], "wrong-weight-shape", "[4, 2]");
        check(&|map| map[0].shape = vec![4, 3], "broken-plan", "are not those of its pieces");
        check(&|map| map[0].pieces[1].value = map[2].pieces[0].value, "broken-plan", "does not fit");
        check(&|map| map[0].pieces[1] = map[0].pieces[0], "broken-plan", "are not those of its pieces");
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused() {
        let place = tempfile::tempdir().expect("a temporary folder");
        write_model(place.path(), ["qk", "t", "b"], Dtype::F32, 1 << 20);
        let path = place.path().join("model.safetensors");
        let mut file = std::fs::read(&path).expect("read");
        let end = file.len();
        file[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&path, file).expect("written");
        let (module, map) = module(Dtype::F32);
        let mut executor = Executor::new(&module, &Loops).expect("sound");
        let error = load(&mut executor, &map, place.path()).expect_err("refused");
        assert_eq!(error.code, "non-finite-weights");
        assert!(error.message.contains("model.safetensors is NaN at element"), "{}", error.message);
    }

    #[test]
    fn an_index_names_files_of_its_own_folder() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let index = place.path().join("model.safetensors.index.json");
        for bad in [r#"{"weight_map": {"a": "../x.safetensors"}}"#, r#"{"weight_map": {}}"#, "{"] {
            std::fs::write(&index, bad).expect("written");
            assert_eq!(ModelFiles::open(place.path()).expect_err("refused").code, "broken-safetensors");
        }
    }
}
