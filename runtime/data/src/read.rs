//! Files as rows: JSONL, JSON and plain text, chosen by the file's ending.
//!
//! A row is handed out unparsed, so that parsing can go on in parallel. Files are streamed; the longest
//! thing in memory is one row.

use crate::error::DataError;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest row, in bytes; more is a file that is not what its name says.
const LONGEST: u64 = 1 << 28;
/// How a Git LFS pointer begins, whatever the file is called.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A row as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRow {
    /// From 1: the line of a JSONL file, else the number of the row in its file.
    pub row: u64,
    pub bytes: Vec<u8>,
    pub format: Format,
}

/// How a file holds its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object a line.
    Lines,
    /// An array of objects, or objects one after the other.
    Json,
    /// The whole file is one document.
    Document,
}

impl Format {
    /// Returns the format of a file by its ending.
    ///
    /// # Errors
    /// Fails for an ending that is not known.
    pub fn of(file: &Path) -> Result<Self, DataError> {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Ok(Self::Lines),
            "json" => Ok(Self::Json),
            "txt" | "text" | "md" => Ok(Self::Document),
            _ => Err(DataError::new(
                "unsupported-format",
                format!("files that end in `.{ending}` cannot be read"),
            )
            .help("convert it to JSONL (one object a line), JSON or plain text (.txt)")
            .in_file(file)),
        }
    }
}

/// The rows of one file.
#[derive(Debug)]
pub struct RawRows {
    file: PathBuf,
    format: Format,
    reader: BufReader<File>,
    row: u64,
    /// Of a JSON array: whether its opening bracket was read.
    in_array: bool,
    done: bool,
}

impl RawRows {
    /// Opens a file.
    ///
    /// # Errors
    /// Fails when it cannot be read, or is no text in a known format.
    pub fn open(file: &Path) -> Result<Self, DataError> {
        let opened = File::open(file).map_err(|error| DataError::io(file, "read", &error))?;
        let mut reader = BufReader::with_capacity(1 << 18, opened);
        let start = reader.fill_buf().map_err(|error| DataError::io(file, "read", &error))?;
        let bom = check_start(file, start)?;
        let format = Format::of(file)?;
        reader.consume(bom);
        Ok(Self { file: file.to_path_buf(), format, reader, row: 0, in_array: false, done: false })
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, DataError> {
        match self.format {
            Format::Lines => self.line(),
            Format::Json => self.value(),
            Format::Document => self.document(),
        }
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, DataError> {
        loop {
            let mut bytes = Vec::new();
            let mut limited = (&mut self.reader).take(LONGEST);
            let read = limited.read_until(b'\n', &mut bytes);
            if read.map_err(|error| self.io(&error))? == 0 {
                return Ok(None);
            }
            self.row += 1;
            if bytes.len() as u64 == LONGEST {
                return Err(self.too_long());
            }
            if bytes.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(Some(bytes));
            }
        }
    }

    fn document(&mut self) -> Result<Option<Vec<u8>>, DataError> {
        self.done = true;
        self.row = 1;
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).map_err(|error| self.io(&error))?;
        Ok(Some(bytes))
    }

    /// Reads the next value at the top level, or of the array that the file is.
    fn value(&mut self) -> Result<Option<Vec<u8>>, DataError> {
        let Some(first) = self.skip_to_value()? else { return Ok(None) };
        self.row += 1;
        let mut scan = Scan::default();
        let mut bytes = vec![first];
        let mut done = scan.step(first);
        while !done {
            let Some(byte) = self.byte()? else {
                self.done = true;
                break; // Parsing says what is missing.
            };
            if scan.depth == 0 && !scan.in_string && (byte.is_ascii_whitespace() || b",]".contains(&byte)) {
                self.done = byte == b']';
                break;
            }
            bytes.push(byte);
            done = scan.step(byte);
            if bytes.len() as u64 >= LONGEST {
                return Err(self.too_long());
            }
        }
        Ok(Some(bytes))
    }

    fn skip_to_value(&mut self) -> Result<Option<u8>, DataError> {
        while let Some(byte) = self.byte()? {
            match byte {
                b'[' if self.row == 0 && !self.in_array => self.in_array = true,
                b']' if self.in_array => return Ok(None),
                b',' => {}
                _ if byte.is_ascii_whitespace() => {}
                _ => return Ok(Some(byte)),
            }
        }
        if self.in_array {
            let message = "the file ends before its list of rows does";
            return Err(DataError::new("truncated-file", message)
                .help("fetch or write the file again")
                .in_file(&self.file));
        }
        Ok(None)
    }

    fn byte(&mut self) -> Result<Option<u8>, DataError> {
        let buffer = self.reader.fill_buf().map_err(|error| DataError::io(&self.file, "read", &error))?;
        let byte = buffer.first().copied();
        self.reader.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    fn io(&self, error: &std::io::Error) -> DataError {
        DataError::io(&self.file, "read", error)
    }

    fn too_long(&self) -> DataError {
        let message = format!("a row is longer than {} MiB", LONGEST >> 20);
        DataError::new("row-too-large", message)
            .help("see whether rows end in line breaks, and cut documents of that size")
            .in_file(&self.file)
    }
}

impl Iterator for RawRows {
    type Item = Result<RawRow, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.read();
        self.done |= !matches!(result, Ok(Some(_)));
        let row = |bytes| RawRow { row: self.row, bytes, format: self.format };
        result.map(|bytes| bytes.map(row)).transpose()
    }
}

/// Where a JSON value ends.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Takes one byte; tells whether it closes an object, a list or a string at the top.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            let closes = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.in_string = !closes;
            return closes && self.depth == 0;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// Refuses what is no text at all; returns the length of a byte order mark.
fn check_start(file: &Path, start: &[u8]) -> Result<usize, DataError> {
    let refuse =
        |code, message: &str, help: &str| Err(DataError::new(code, message).help(help).in_file(file));
    if start.starts_with(LFS) {
        return refuse(
            "git-lfs-pointer",
            "it is a Git LFS pointer, not the data",
            "run `git lfs pull` in its repository, or fetch the file itself",
        );
    }
    if start.starts_with(b"\xFF\xFE") || start.starts_with(b"\xFE\xFF") {
        return refuse(
            "not-utf8",
            "it is UTF-16, not UTF-8",
            "convert it: `iconv -f UTF-16 -t UTF-8 OLD > NEW`",
        );
    }
    Ok(if start.starts_with(BOM) { BOM.len() } else { 0 })
}

impl RawRow {
    /// Returns the row as a JSON object.
    ///
    /// # Errors
    /// Fails with the place inside the row when it is no JSON object.
    pub fn object(&self, file: &Path) -> Result<serde_json::Map<String, Value>, DataError> {
        let text = self.text(file)?;
        let bad = |message: String| {
            DataError::new("bad-row", message)
                .help("correct that row, or allow some to be left out: `on-bad-row skip max=20`")
                .in_file(file)
                .at_row(self.row)
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(other) => Err(bad(format!("a row must be an object, this is {}", kind_of(&other)))),
            Err(error) => {
                let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
                let column = characters(line, error.column().saturating_sub(1)) + 1;
                let why = error.to_string();
                let why = why.split(" at line ").next().unwrap_or_default();
                Err(bad(format!("the row is no JSON: {why}")).at_column(column))
            }
        }
    }

    /// Returns the row as text, with line breaks as `\n` when it is a document.
    ///
    /// # Errors
    /// Fails when it is not UTF-8, or a document with NUL bytes.
    pub fn document(&self, file: &Path) -> Result<String, DataError> {
        let text = self.text(file)?;
        if let Some(at) = text.find('\0') {
            return Err(DataError::new("not-text", format!("it holds a NUL byte at byte {at}"))
                .help("give a plain text file; archives, office files and UTF-16 must be converted first")
                .in_file(file));
        }
        Ok(if text.contains('\r') { text.replace("\r\n", "\n") } else { text.to_owned() })
    }

    fn text(&self, file: &Path) -> Result<&str, DataError> {
        std::str::from_utf8(&self.bytes).map_err(|error| {
            let at = error.valid_up_to();
            let byte = self.bytes.get(at).copied().unwrap_or_default();
            let help = "convert the file to UTF-8: `iconv -f LATIN1 -t UTF-8 OLD > NEW`";
            match self.format {
                Format::Document => {
                    DataError::new("not-utf8", format!("byte 0x{byte:02X} at byte {at} is not UTF-8"))
                        .help(help)
                        .in_file(file)
                }
                Format::Lines | Format::Json => {
                    let before = std::str::from_utf8(&self.bytes[..at]).unwrap_or_default();
                    DataError::new("bad-row", format!("byte 0x{byte:02X} is not UTF-8"))
                        .help(help)
                        .in_file(file)
                        .at_row(self.row)
                        .at_column(before.chars().count() as u64 + 1)
                }
            }
        })
    }
}

fn characters(line: &str, bytes: usize) -> u64 {
    line.char_indices().take_while(|(at, _)| *at < bytes).count() as u64
}

/// Names the kind of a JSON value for people.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &[u8]) -> Vec<Result<String, DataError>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join(name);
        std::fs::write(&file, content).expect("a small file");
        let rows = match RawRows::open(&file) {
            Ok(rows) => rows,
            Err(error) => return vec![Err(error)],
        };
        let parse = |row: RawRow| match row.format {
            Format::Document => row.document(&file),
            Format::Lines | Format::Json => row.object(&file).map(|object| Value::Object(object).to_string()),
        };
        rows.map(|row| row.and_then(parse)).collect()
    }

    fn good(name: &str, content: &str) -> Vec<String> {
        read(name, content.as_bytes()).into_iter().map(|row| row.expect("a good row")).collect()
    }

    fn error(name: &str, content: &[u8]) -> DataError {
        read(name, content).into_iter().find_map(Result::err).expect("an error")
    }

    #[test]
    fn lines_skip_blanks_bom_and_carriage_returns() {
        let rows = good("a.jsonl", "\u{FEFF}{\"a\":1}\r\n\r\n  \n{\"a\":\"é\"}");
        assert_eq!(rows, [r#"{"a":1}"#, r#"{"a":"é"}"#]);
        assert!(good("a.jsonl", "").is_empty());
    }

    #[test]
    fn json_is_a_list_or_objects_in_a_row() {
        for text in ["[{\"a\":\"]}\\\"\"}, {\"b\":[1]}]", "{\"a\":\"]}\\\"\"}\n{\"b\":[1]}\n"] {
            assert_eq!(good("a.json", text), [r#"{"a":"]}\""}"#, r#"{"b":[1]}"#]);
        }
        assert!(good("a.json", "[]").is_empty());
        assert_eq!(error("a.json", b"[{\"a\":1},").code, "truncated-file");
        assert_eq!(error("a.json", b"[{\"a\":1},{\"a").row, Some(2));
        assert_eq!(error("a.json", b"[1, 2]").message, "a row must be an object, this is a number");
    }

    #[test]
    fn a_document_is_one_row_with_plain_line_breaks() {
        assert_eq!(good("a.txt", "\u{FEFF}een\r\ntwee"), ["een\ntwee"]);
        assert_eq!(good("a.txt", ""), [""]);
        assert_eq!(error("a.txt", b"a\0b").code, "not-text");
        assert_eq!(error("a.txt", b"caf\xE9").code, "not-utf8");
        assert_eq!(error("a.txt", b"\xFF\xFEa\0").code, "not-utf8");
    }

    #[test]
    fn a_bad_line_is_named_with_its_column() {
        let error = error("a.jsonl", "{\"a\":1}\n{\"é\": nul}\n".as_bytes());
        assert_eq!((error.code, error.row, error.column), ("bad-row", Some(2), Some(10)));
        let error = self::error("a.jsonl", b"{\"a\":\"\xFF\"}");
        assert_eq!((error.code, error.row, error.column), ("bad-row", Some(1), Some(7)));
    }

    #[test]
    fn what_is_no_data_is_refused() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n";
        assert_eq!(error("train.jsonl.gz", pointer).code, "git-lfs-pointer");
        assert_eq!(error("a.parquet", b"PAR1").code, "unsupported-format");
    }
}
