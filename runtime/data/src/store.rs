//! The prepared-data store: token ids, loss mask and a row index, mapped into memory.
//!
//! A folder with, per side, `SIDE.tokens` (u32), `SIDE.mask` (u8) and `SIDE.index` (one [`Record`] a row),
//! all little-endian, and `store.json`. It is written under another name and renamed when complete.

use crate::error::DataError;
use bytemuck::{Pod, Zeroable};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Format of the files; a store of another version is prepared anew.
const VERSION: u32 = 2;

/// Training rows or held-out rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Train,
    Eval,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Train, Self::Eval];

    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
        }
    }
}

/// One row of the index. Several may point at the same tokens, when a mix repeats a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Record {
    /// First token of the row in the token file.
    pub offset: u64,
    /// Hash of the row's content.
    pub identity: u64,
    pub length: u32,
    pub trained: u32,
    pub part: u32,
    /// Bytes of text that the trained tokens cover.
    pub bytes: u32,
    /// Of a pair's second row: tokens at the front that the first has too, all before the first trained one of both.
    pub shared: u32,
    /// Fills the record up to a multiple of eight bytes; 0.
    pub unused: u32,
}

impl Record {
    /// Returns the tokens that the row does not share.
    pub fn own(&self) -> u64 {
        u64::from(self.length - self.shared)
    }
}

/// Bytes of a record.
const RECORD: u64 = size_of::<Record>() as u64;

/// `store.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    parts: Vec<String>,
    rows: [u64; 2],
    tokens: [u64; 2],
}

/// A token row as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRow {
    pub ids: Vec<u32>,
    /// Not 0 where the token is to be predicted from those before it.
    pub mask: Vec<u8>,
    pub part: u32,
    pub bytes: u32,
    pub identity: u64,
    /// As in [`Record`].
    pub shared: u32,
}

/// A row of an open store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    pub ids: &'a [u32],
    pub mask: &'a [u8],
    pub part: u32,
    pub bytes: u32,
    pub identity: u64,
}

/// One side of a store, open for reading.
#[derive(Debug)]
pub struct Store {
    parts: Vec<String>,
    tokens: Bytes,
    mask: Bytes,
    index: Bytes,
}

impl Store {
    /// Opens one side of a store.
    ///
    /// # Errors
    /// Fails when the folder holds no complete store of this version.
    pub fn open(folder: &Path, side: Side) -> Result<Self, DataError> {
        let header = read_header(folder)?;
        let map = |kind: &str| Bytes::map(&file_of(folder, side, kind));
        let (tokens, mask, index) = (map("tokens")?, map("mask")?, map("index")?);
        let store = Self { parts: header.parts, tokens, mask, index };
        store.check(header.rows[side as usize], header.tokens[side as usize]).ok_or_else(|| {
            damaged(folder, format!("its `{}` files are not as long as store.json says", side.name()))
        })?;
        Ok(store)
    }

    /// Returns nothing unless all lengths and offsets fit.
    fn check(&self, rows: u64, tokens: u64) -> Option<()> {
        let sizes =
            [(self.tokens.len(), tokens * 4), (self.mask.len(), tokens), (self.index.len(), rows * RECORD)];
        let mut before = 0;
        let mut fits = |record: &Record| {
            let shares = record.shared <= before && record.shared <= record.length;
            before = record.length;
            shares && record.offset.checked_add(u64::from(record.length)).is_some_and(|end| end <= tokens)
        };
        (sizes.iter().all(|&(is, should)| is as u64 == should) && self.records().iter().all(&mut fits))
            .then_some(())
    }

    /// Returns the number of token rows; a pair counts as two.
    pub fn rows(&self) -> usize {
        self.records().len()
    }

    /// Returns one row.
    ///
    /// # Panics
    /// Panics when there is no such row.
    pub fn row(&self, index: usize) -> Row<'_> {
        let record = &self.records()[index];
        let range = record.offset as usize..record.offset as usize + record.length as usize;
        Row {
            ids: &self.tokens.values()[range.clone()],
            mask: &self.mask.slice()[range],
            part: record.part,
            bytes: record.bytes,
            identity: record.identity,
        }
    }

    /// Returns the index.
    pub fn records(&self) -> &[Record] {
        self.index.values()
    }

    /// Returns the names of the datasets that rows come from.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }
}

fn read_header(folder: &Path) -> Result<Header, DataError> {
    let file = folder.join("store.json");
    let text = std::fs::read_to_string(&file).map_err(|error| DataError::io(&file, "read", &error))?;
    let header: Header =
        serde_json::from_str(&text).map_err(|error| damaged(folder, format!("store.json: {error}")))?;
    if header.version != VERSION {
        return Err(damaged(folder, format!("it has version {}, not {VERSION}", header.version)));
    }
    Ok(header)
}

fn damaged(folder: &Path, why: String) -> DataError {
    DataError::new("damaged-store", format!("prepared data is damaged: {why}"))
        .help("remove the folder; it is made again")
        .in_file(folder)
}

fn file_of(folder: &Path, side: Side, kind: &str) -> PathBuf {
    folder.join(format!("{}.{kind}", side.name()))
}

/// A mapped file; an empty one cannot be mapped.
#[derive(Debug)]
struct Bytes(Option<Mmap>);

impl Bytes {
    fn map(path: &Path) -> Result<Self, DataError> {
        let failed = |error: std::io::Error| DataError::io(path, "read", &error);
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Self(None));
        }
        #[allow(unsafe_code)] // mapping a file has no safe form
        // SAFETY: a finished store is never written to again; it is replaced by a rename, which leaves a
        // mapping of the old files intact.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Self(Some(map)))
    }

    fn slice(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Returns the file as values. A mapping begins at a page, so they are aligned; an empty slice need not
    /// be, so it is not cast.
    fn values<T: Pod>(&self) -> &[T] {
        self.0.as_deref().map(bytemuck::cast_slice).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.slice().len()
    }
}

/// Writes a store: complete under its name, or not at all.
///
/// Rows are streamed to disk; only the index stays in memory.
#[derive(Debug)]
pub struct StoreWriter {
    folder: PathBuf,
    partial: Partial,
    parts: Vec<String>,
    sides: [SideWriter; 2],
}

#[derive(Debug)]
struct SideWriter {
    tokens: Sink,
    mask: Sink,
    records: Vec<Record>,
    written: u64,
}

impl StoreWriter {
    /// Starts a store under a temporary name beside `folder`; what an earlier attempt left there goes.
    ///
    /// # Errors
    /// Fails when the files cannot be made.
    pub fn create(folder: &Path, parts: &[String]) -> Result<Self, DataError> {
        let partial = partial_name(folder, std::process::id());
        let failed = |error: std::io::Error| DataError::io(&partial, "write", &error);
        remove_abandoned(folder);
        std::fs::create_dir_all(&partial).map_err(failed)?;
        let side = |side: Side| -> Result<SideWriter, DataError> {
            let (tokens, mask) = (file_of(&partial, side, "tokens"), file_of(&partial, side, "mask"));
            Ok(SideWriter {
                tokens: Sink::new(tokens)?,
                mask: Sink::new(mask)?,
                records: Vec::new(),
                written: 0,
            })
        };
        let sides = [side(Side::Train)?, side(Side::Eval)?];
        let partial = Partial(partial);
        Ok(Self { folder: folder.to_path_buf(), partial, parts: parts.to_vec(), sides })
    }

    /// Appends a row to a side and returns its number there.
    ///
    /// # Errors
    /// Fails when the disk does, or when ids and mask differ in length.
    pub fn push(&mut self, side: Side, row: &TokenRow) -> Result<usize, DataError> {
        let length = u32::try_from(row.ids.len()).ok().filter(|_| row.ids.len() == row.mask.len());
        let length = length.ok_or_else(|| {
            let message = format!("a row has {} tokens and {} mask entries", row.ids.len(), row.mask.len());
            DataError::new("bad-token-row", message)
        })?;
        let to = &mut self.sides[side as usize];
        to.tokens.write(bytemuck::cast_slice(&row.ids))?;
        to.mask.write(&row.mask)?;
        let trained = row.mask.iter().skip(1).filter(|&&mask| mask != 0).count() as u32;
        let TokenRow { part, bytes, identity, shared, .. } = *row;
        let offset = to.written;
        to.records.push(Record { offset, identity, length, trained, part, bytes, shared, unused: 0 });
        to.written += u64::from(length);
        Ok(to.records.len() - 1)
    }

    /// Returns the index of a side as it was written so far.
    pub fn records(&self, side: Side) -> &[Record] {
        &self.sides[side as usize].records
    }

    /// Gives a side another index: any order, and rows several times or not at all.
    pub fn set_records(&mut self, side: Side, records: Vec<Record>) {
        self.sides[side as usize].records = records;
    }

    /// Adds a file to the store, such as a report.
    ///
    /// # Errors
    /// Fails when the disk does.
    pub fn write_file(&self, name: &str, text: &str) -> Result<(), DataError> {
        let mut sink = Sink::new(self.partial.0.join(name))?;
        sink.write(text.as_bytes())?;
        sink.finish()
    }

    /// Completes the store and gives it its name, in place of an older one.
    ///
    /// # Errors
    /// Fails when the disk does, or when the folder holds something that is no store.
    pub fn finish(self) -> Result<(), DataError> {
        let header = Header {
            version: VERSION,
            parts: self.parts.clone(),
            rows: [0, 1].map(|side| self.sides[side].records.len() as u64),
            tokens: [0, 1].map(|side| self.sides[side].written),
        };
        self.write_file("store.json", &format!("{:#}\n", serde_json::json!(header)))?;
        let Self { folder, partial, sides, .. } = self;
        for (side, writer) in Side::BOTH.into_iter().zip(sides) {
            let mut index = Sink::new(file_of(&partial.0, side, "index"))?;
            index.write(bytemuck::cast_slice(&writer.records))?;
            index.finish()?;
            writer.tokens.finish()?;
            writer.mask.finish()?;
        }
        replace(&partial.0, &folder).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                DataError::new("folder-in-use", "prepared data would replace a folder that is no store")
                    .help("move that folder away")
                    .in_file(&folder)
            }
            _ => DataError::io(&folder, "write", &error),
        })
    }
}

/// A folder in the making; what is left of it when it was not renamed goes.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing here; a failure leaves it for `remove_abandoned`.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The name beside a folder under which a process makes it; two processes may make the same store.
fn partial_name(folder: &Path, process: u32) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.{process}.partial"))
}

/// Removes what killed processes left of this folder. Best effort: it is only space.
fn remove_abandoned(folder: &Path) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = folder.parent().and_then(|parent| parent.read_dir().ok());
    for entry in beside.into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let process = file.strip_prefix(&format!(".{name}.")).and_then(|rest| rest.strip_suffix(".partial"));
        let own = std::process::id().to_string();
        let gone =
            |process: &str| Path::new("/proc/self").exists() && !Path::new("/proc").join(process).exists();
        if process.is_some_and(|process| process == own || gone(process)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn replace(partial: &Path, folder: &Path) -> std::io::Result<()> {
    File::open(partial)?.sync_all()?;
    if folder.exists() {
        let empty = folder.read_dir()?.next().is_none();
        if !empty && !folder.join("store.json").is_file() {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        }
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::rename(partial, folder)?;
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// A file that is written from front to back and that names itself in errors.
#[derive(Debug)]
struct Sink {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Sink {
    fn new(path: PathBuf) -> Result<Self, DataError> {
        let file = File::create(&path).map_err(|error| DataError::io(&path, "write", &error))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), path })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(|error| DataError::io(&self.path, "write", &error))
    }

    fn finish(mut self) -> Result<(), DataError> {
        let done = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        done.map_err(|error| DataError::io(&self.path, "write", &error))
    }
}
