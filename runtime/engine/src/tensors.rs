//! Files of tensors in the safetensors format: a checked header, reading by ranges, writing as a stream.
//!
//! Files are read with positioned reads, not mapped: a file that another process cuts short is then an
//! error and not a signal.

use crate::error::{EngineError, Result};
use plan::value::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Longest header that is read, as in the safetensors library.
const MAX_HEADER: u64 = 100_000_000;

/// An open file whose header is checked against its length.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    data_start: u64,
}

impl TensorFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// Fails when it cannot be read, is cut short or too long, or its header is not sound.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| EngineError::io("open", path, &e))?;
        let length = file.metadata().map_err(|e| EngineError::io("read", path, &e))?.len();
        let broken = |why: String| broken(path, &why);
        if length < 8 {
            return Err(broken(format!("it has {length} bytes, a header alone takes more")));
        }
        let mut size = [0; 8];
        file.read_exact_at(&mut size, 0).map_err(|e| EngineError::io("read", path, &e))?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER {
            return Err(broken(format!("its header claims {size} bytes")));
        }
        if size + 8 > length {
            return Err(broken(format!(
                "it is cut short: the header takes {size} bytes, the file has {length}"
            )));
        }
        let mut text = vec![0; size as usize];
        file.read_exact_at(&mut text, 8).map_err(|e| EngineError::io("read", path, &e))?;
        let text = String::from_utf8(text).map_err(|_| broken("its header is not UTF-8".into()))?;
        let header: Metadata = serde_json::from_str(&text).map_err(|e| broken(format!("its header: {e}")))?;
        let data_start = 8 + size;
        let wanted = data_start + header.data_len() as u64;
        if wanted != length {
            let how = if wanted > length { "cut short" } else { "too long" };
            return Err(broken(format!(
                "it is {how}: its tensors end at byte {wanted}, the file has {length}"
            )));
        }
        Ok(TensorFile { path: path.to_owned(), file, header, data_start })
    }

    /// Returns where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the tensors' names, in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Returns dtype, shape and place of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    /// Returns an entry of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Fills a buffer with the bytes of a tensor that start at `offset`.
    pub fn read(&self, info: &TensorInfo, offset: u64, buffer: &mut [u8]) -> Result<()> {
        debug_assert!(offset as usize + buffer.len() <= info.data_offsets.1 - info.data_offsets.0);
        let start = self.data_start + info.data_offsets.0 as u64 + offset;
        self.file.read_exact_at(buffer, start).map_err(|e| EngineError::io("read", &self.path, &e))
    }
}

/// Makes the error of a file that is not a sound safetensors file.
pub fn broken(path: &Path, why: &str) -> EngineError {
    EngineError::new(
        "broken-safetensors",
        format!("{} is not a sound safetensors file: {why}", path.display()),
    )
    .help("fetch or copy the file again")
}

/// A tensor to be written: its bytes are asked for in order, in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
}

impl Header {
    /// Returns the bytes that the tensor takes.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * self.dtype.bytes()
    }
}

/// Sorts tensors as files have them: wider elements first, so that all are aligned, then by name.
pub fn sort(tensors: &mut [Header]) {
    tensors.sort_by(|a, b| b.dtype.bytes().cmp(&a.dtype.bytes()).then_with(|| a.name.cmp(&b.name)));
}

/// Writes a file of tensors and returns the BLAKE3 hash of all of it.
///
/// `fill` is called once per tensor, in order, and writes exactly its bytes; the caller syncs.
pub fn write(
    out: &mut dyn Write,
    path: &Path,
    tensors: &[Header],
    metadata: &[(&str, &str)],
    mut fill: impl FnMut(&Header, &mut dyn Write) -> std::io::Result<()>,
) -> Result<String> {
    let mut out = Hashing { out, hash: blake3::Hasher::new(), written: 0 };
    let header = header_text(tensors, metadata);
    let failed = |e: std::io::Error| EngineError::io("write", path, &e);
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    out.write_all(header.as_bytes()).map_err(failed)?;
    for tensor in tensors {
        let start = out.written;
        fill(tensor, &mut out).map_err(failed)?;
        assert_eq!(out.written - start, tensor.bytes(), "all of {} is written", tensor.name);
    }
    Ok(out.hash.finalize().to_hex().to_string())
}

/// Returns the bytes of a whole file with these tensors.
pub fn file_bytes(tensors: &[Header], metadata: &[(&str, &str)]) -> u64 {
    8 + header_text(tensors, metadata).len() as u64 + tensors.iter().map(Header::bytes).sum::<u64>()
}

/// Returns the header as JSON, padded with spaces to a multiple of eight bytes.
fn header_text(tensors: &[Header], metadata: &[(&str, &str)]) -> String {
    let mut entries = serde_json::Map::new();
    if !metadata.is_empty() {
        let pairs: serde_json::Map<_, _> = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), serde_json::Value::from(*value)))
            .collect();
        entries.insert("__metadata__".into(), pairs.into());
    }
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.bytes();
        let entry = serde_json::json!({
            "dtype": tensor.dtype.name().to_uppercase(), "shape": tensor.shape, "data_offsets": [offset, end]
        });
        entries.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut text = serde_json::Value::Object(entries).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

/// Hashes and counts what passes through.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hash: blake3::Hasher,
    written: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Returns the dtype of a plan for one of a file; `None` for those that no value has.
pub fn dtype(file: safetensors::Dtype) -> Option<Dtype> {
    match file {
        safetensors::Dtype::F64 => Some(Dtype::F64),
        safetensors::Dtype::F32 => Some(Dtype::F32),
        safetensors::Dtype::BF16 => Some(Dtype::Bf16),
        safetensors::Dtype::F16 => Some(Dtype::F16),
        safetensors::Dtype::I32 => Some(Dtype::I32),
        safetensors::Dtype::U8 => Some(Dtype::U8),
        _ => None, // the library's enum is open; whatever it adds, no value has
    }
}

/// Returns the dtype that a model's config names; `None` when it is not one for floats.
pub fn float_named(name: &str) -> Option<Dtype> {
    match name {
        "f64" | "float64" => Some(Dtype::F64),
        "f32" | "float32" => Some(Dtype::F32),
        "bf16" | "bfloat16" => Some(Dtype::Bf16),
        "f16" | "float16" => Some(Dtype::F16),
        _ => None,
    }
}

/// Reads floats of any dtype as f64.
pub fn decode(dtype: Dtype, bytes: &[u8], out: &mut Vec<f64>) {
    out.clear();
    match dtype {
        Dtype::F64 => out.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b))),
        Dtype::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)))),
        Dtype::Bf16 => out.extend(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f64())),
        Dtype::F16 => out.extend(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f64())),
        Dtype::I32 => out.extend(bytes.as_chunks().0.iter().map(|b| f64::from(i32::from_le_bytes(*b)))),
        Dtype::U8 => out.extend(bytes.iter().map(|b| f64::from(*b))),
    }
}

/// Reads one element as f64.
///
/// # Panics
/// Panics when the bytes are not those of one element.
pub fn element(dtype: Dtype, bytes: &[u8]) -> f64 {
    const WIDTH: &str = "the bytes of one element";
    match dtype {
        Dtype::F64 => f64::from_le_bytes(bytes.try_into().expect(WIDTH)),
        Dtype::F32 => f64::from(f32::from_le_bytes(bytes.try_into().expect(WIDTH))),
        Dtype::Bf16 => half::bf16::from_le_bytes(bytes.try_into().expect(WIDTH)).to_f64(),
        Dtype::F16 => half::f16::from_le_bytes(bytes.try_into().expect(WIDTH)).to_f64(),
        Dtype::I32 => f64::from(i32::from_le_bytes(bytes.try_into().expect(WIDTH))),
        Dtype::U8 => f64::from(bytes[0]),
    }
}

/// Writes one number as an element of a float dtype, rounded to nearest even.
pub fn encode(dtype: Dtype, number: f64, out: &mut [u8]) {
    match dtype {
        Dtype::F64 => out.copy_from_slice(&number.to_le_bytes()),
        Dtype::F32 => out.copy_from_slice(&(number as f32).to_le_bytes()),
        // Through f32: that is how every other tool casts.
        Dtype::Bf16 => out.copy_from_slice(&half::bf16::from_f32(number as f32).to_le_bytes()),
        Dtype::F16 => out.copy_from_slice(&half::f16::from_f32(number as f32).to_le_bytes()),
        Dtype::I32 => out.copy_from_slice(&(number as i32).to_le_bytes()),
        Dtype::U8 => out.copy_from_slice(&[number as u8]),
    }
}

/// Writes numbers as elements of a float dtype, rounded to nearest even.
pub fn encode_all(dtype: Dtype, numbers: &[f64], out: &mut [u8]) {
    if dtype == Dtype::F32 {
        let cast = out.as_chunks_mut().0.iter_mut().zip(numbers);
        cast.for_each(|(element, number)| *element = (*number as f32).to_le_bytes());
        return;
    }
    for (element, number) in out.chunks_exact_mut(dtype.bytes() as usize).zip(numbers) {
        encode(dtype, *number, element);
    }
}

/// Writes floats of one dtype as those of another, rounded to nearest even.
pub fn cast(from: Dtype, bytes: &[u8], to: Dtype, out: &mut [u8]) {
    use half::{bf16, f16};
    match (from, to) {
        _ if from == to => out.copy_from_slice(bytes),
        (Dtype::Bf16, Dtype::F32) => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32().to_le_bytes()),
        (Dtype::F16, Dtype::F32) => each(bytes, out, |b| f16::from_le_bytes(b).to_f32().to_le_bytes()),
        (Dtype::F32, Dtype::Bf16) => {
            each(bytes, out, |b| bf16::from_f32(f32::from_le_bytes(b)).to_le_bytes());
        }
        _ => {
            let (from_width, to_width) = (from.bytes() as usize, to.bytes() as usize);
            for (x, y) in bytes.chunks_exact(from_width).zip(out.chunks_exact_mut(to_width)) {
                encode(to, element(from, x), y);
            }
        }
    }
}

fn each<const N: usize, const M: usize>(x: &[u8], y: &mut [u8], cast: impl Fn([u8; N]) -> [u8; M]) {
    let pairs = x.as_chunks::<N>().0.iter().zip(y.as_chunks_mut::<M>().0);
    pairs.for_each(|(x, y)| *y = cast(*x));
}

/// Returns whether every element is finite: its exponent is not all ones.
pub fn all_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    match dtype {
        Dtype::F64 => all(bytes, |b| f64::from_le_bytes(b).is_finite()),
        Dtype::F32 => all(bytes, |b| f32::from_le_bytes(b).is_finite()),
        Dtype::Bf16 => all(bytes, |b| half::bf16::from_le_bytes(b).is_finite()),
        Dtype::F16 => all(bytes, |b| half::f16::from_le_bytes(b).is_finite()),
        Dtype::I32 | Dtype::U8 => true,
    }
}

/// Looks at every element of a block before it decides: a loop without a branch is one of vectors.
fn all<const N: usize>(bytes: &[u8], is: impl Fn([u8; N]) -> bool) -> bool {
    bytes.as_chunks::<N>().0.chunks(1 << 10).all(|block| block.iter().fold(true, |all, b| all & is(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Header> {
        let header =
            |name: &str, dtype, shape: &[u64]| Header { name: name.into(), dtype, shape: shape.to_vec() };
        let mut tensors = vec![
            header("half", Dtype::Bf16, &[3]),
            header("b", Dtype::F32, &[2, 2]),
            header("a", Dtype::F32, &[]),
            header("none", Dtype::F32, &[0, 4]),
        ];
        sort(&mut tensors);
        tensors
    }

    fn bytes() -> Vec<u8> {
        let mut file = Vec::new();
        let fill = |tensor: &Header, out: &mut dyn Write| out.write_all(&vec![7; tensor.bytes() as usize]);
        let hash = write(&mut file, Path::new("x"), &sample(), &[("format", "pt")], fill).expect("written");
        assert_eq!(hash, blake3::hash(&file).to_hex().to_string());
        assert_eq!(file.len() as u64, file_bytes(&sample(), &[("format", "pt")]));
        file
    }

    #[test]
    fn the_library_reads_what_is_written() {
        let file = bytes();
        let read = safetensors::SafeTensors::deserialize(&file).expect("sound");
        assert_eq!(read.tensor("b").expect("there").shape(), [2, 2]);
        assert_eq!(read.tensor("half").expect("there").dtype(), safetensors::Dtype::BF16);
        assert_eq!(read.len(), 4);
    }

    #[test]
    fn a_file_of_any_other_length_is_refused() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let path = place.path().join("model.safetensors");
        let file = bytes();
        for length in 0..file.len() {
            std::fs::write(&path, &file[..length]).expect("written");
            assert_eq!(TensorFile::open(&path).expect_err("cut short").code, "broken-safetensors");
        }
        std::fs::write(&path, &file).expect("written");
        assert_eq!(TensorFile::open(&path).expect("whole").metadata("format"), Some("pt"));
        std::fs::write(&path, [&file[..], &[0]].concat()).expect("written");
        let error = TensorFile::open(&path).expect_err("too long");
        assert!(error.message.contains("too long"), "{}", error.message);
    }

    #[test]
    fn floats_survive_both_ways() {
        for dtype in [Dtype::F64, Dtype::F32, Dtype::Bf16, Dtype::F16] {
            for number in [0.0, -1.5, 2.0, 0.25, -192.0] {
                let mut element = vec![0; dtype.bytes() as usize];
                encode(dtype, number, &mut element);
                let mut back = Vec::new();
                decode(dtype, &element, &mut back);
                assert_eq!(back, [number], "{}", dtype.name());
                assert_eq!(super::element(dtype, &element), number, "{}", dtype.name());
            }
        }
    }

    /// Every cast gives what reading as f64 and writing again gives.
    #[test]
    fn casts_agree_with_the_long_way() {
        let numbers = [0.0, -0.0, 1.0, -1.5, 3.140_625, 65_504.0, 1e-7, 0.333_333_343_267_440_8];
        let dtypes = [Dtype::F64, Dtype::F32, Dtype::Bf16, Dtype::F16];
        for (from, to) in dtypes.into_iter().flat_map(|from| dtypes.map(|to| (from, to))) {
            let width = |dtype: Dtype| numbers.len() * dtype.bytes() as usize;
            let [mut bytes, mut expected, mut found] = [from, to, to].map(|dtype| vec![0; width(dtype)]);
            encode_all(from, &numbers, &mut bytes);
            let mut read = Vec::new();
            decode(from, &bytes, &mut read);
            encode_all(to, &read, &mut expected);
            cast(from, &bytes, to, &mut found);
            assert_eq!(found, expected, "{} to {}", from.name(), to.name());
        }
    }

    /// Returns the folder of test data that lies beside the workspace, or says that the test skips.
    fn shared(name: &str) -> Option<PathBuf> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
        let folder = std::env::var_os("ADAPT_SHARED").map_or(beside, PathBuf::from).join(name);
        if folder.exists() {
            return Some(folder);
        }
        assert!(std::env::var_os("ADAPT_REQUIRE_SHARED").is_none(), "{} is required", folder.display());
        eprintln!("skipped: {} is not there", folder.display());
        None
    }

    #[test]
    fn odd_files_are_taken_and_refused_as_the_library_does() {
        let Some(folder) = shared("data/safetensors-odd") else { return };
        let table = std::fs::read_to_string(folder.join("EXPECTED.tsv")).expect("a table");
        for line in table.lines() {
            let (name, expected) = line.split_once('\t').expect("two columns");
            let found = match TensorFile::open(&folder.join(name)) {
                Ok(file) => format!("accepted, {} tensors", file.names().len()),
                Err(error) => {
                    assert_eq!(error.code, "broken-safetensors", "{name}");
                    "refused".to_owned()
                }
            };
            assert!(expected.starts_with(&found), "{name}: {found}, but {expected}");
        }
    }
}
