//! TensorBoard event files: TFRecord frames around protobuf messages, both written by hand.
//!
//! Frame: length u64, masked CRC-32C of it, data, masked CRC-32C of the data. Message `Event` of
//! tensorflow/core/util/event.proto: wall_time = 1, step = 2, file_version = 3, summary = 5.

use crate::error::{EngineError, Result};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Start of the names that TensorBoard looks for.
pub const PREFIX: &str = "events.out.tfevents.";

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    buffers: Buffers,
}

/// Messages in the making, from the inside out; they keep their memory from step to step.
#[derive(Debug)]
struct Buffers {
    value: Vec<u8>,
    summary: Vec<u8>,
    event: Vec<u8>,
    frame: Vec<u8>,
}

impl Default for Buffers {
    /// Makes buffers that fit an event of numbers without growing.
    fn default() -> Self {
        let [value, summary, event, frame] = [(); 4].map(|()| Vec::with_capacity(1 << 10));
        Buffers { value, summary, event, frame }
    }
}

impl EventFile {
    /// Starts a file in a stage's folder.
    pub fn create(stage: &Path) -> Result<Self> {
        let path = stage.join(format!("{PREFIX}{}.adapt", seconds_now() as u64));
        let file = File::create(&path).map_err(|e| EngineError::io("write", &path, &e))?;
        let mut events = EventFile { path, file, bytes: 0, buffers: Buffers::default() };
        put_double(&mut events.buffers.event, 1, seconds_now());
        put_bytes(&mut events.buffers.event, 3, b"brain.Event:2");
        events.write()?;
        Ok(events)
    }

    /// Goes on with a file after its first `bytes` bytes; what follows them is removed.
    pub fn resume(path: &Path, bytes: u64) -> Result<Self> {
        let failed = |e: std::io::Error| EngineError::io("write", path, &e);
        let mut file = File::options().read(true).write(true).open(path).map_err(failed)?;
        let bytes = bytes.min(file.metadata().map_err(failed)?.len());
        file.set_len(bytes).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(EventFile { path: path.to_owned(), file, bytes, buffers: Buffers::default() })
    }

    /// Adds numbers of a step, each under its tag.
    pub fn scalars<'t>(
        &mut self,
        step: u64,
        scalars: impl IntoIterator<Item = (&'t str, f64)>,
    ) -> Result<()> {
        let Buffers { value, summary, .. } = &mut self.buffers;
        summary.clear();
        for (tag, number) in scalars {
            value.clear();
            put_bytes(value, 1, tag.as_bytes());
            put_float(value, 2, number as f32);
            put_bytes(summary, 1, value);
        }
        self.event(step)
    }

    /// Adds a text of a step.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        const STRING: u64 = 7; // DataType.DT_STRING
        let (mut value, mut plugin, mut metadata, mut tensor) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut plugin, 1, b"text");
        put_bytes(&mut metadata, 1, &plugin);
        put_varint(&mut tensor, 1, STRING);
        put_bytes(&mut tensor, 8, text.as_bytes());
        put_bytes(&mut value, 1, tag.as_bytes());
        put_bytes(&mut value, 8, &tensor);
        put_bytes(&mut value, 9, &metadata);
        self.buffers.summary.clear();
        put_bytes(&mut self.buffers.summary, 1, &value);
        self.event(step)
    }

    /// Returns the file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the event whose summary is in its buffer.
    fn event(&mut self, step: u64) -> Result<()> {
        let Buffers { summary, event, .. } = &mut self.buffers;
        event.clear();
        put_double(event, 1, seconds_now());
        put_varint(event, 2, step);
        put_bytes(event, 5, summary);
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let Buffers { event, frame, .. } = &mut self.buffers;
        put_frame(frame, event);
        self.file.write_all(frame).map_err(|e| EngineError::io("write", &self.path, &e))?;
        self.bytes += frame.len() as u64;
        Ok(())
    }
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Replaces `frame` by the frame of some data.
fn put_frame(frame: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    frame.clear();
    frame.extend(length);
    frame.extend(masked(crc32c(&length)).to_le_bytes());
    frame.extend(data);
    frame.extend(masked(crc32c(data)).to_le_bytes());
}

/// Returns a checksum as TFRecord stores it, so that the checksum of a frame is not trivial.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Returns the CRC-32C (Castagnoli) of some bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78; // 0x1EDC6F41, bits reversed
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xFF) as usize])
}

fn put_key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_varint(out: &mut Vec<u8>, field: u64, number: u64) {
    put_key(out, field, 0);
    varint(out, number);
}

fn put_double(out: &mut Vec<u8>, field: u64, number: f64) {
    put_key(out, field, 1);
    out.extend(number.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_float(out: &mut Vec<u8>, field: u64, number: f32) {
    put_key(out, field, 5);
    out.extend(number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of RFC 3720, appendix B.4.
    #[test]
    fn crc32c_gives_the_published_checksums() {
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46DD_794E);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn messages_are_protobuf() {
        let mut out = Vec::new();
        put_varint(&mut out, 2, 300);
        put_bytes(&mut out, 3, b"ab");
        put_float(&mut out, 2, 1.0);
        assert_eq!(out, [0x10, 0xAC, 0x02, 0x1A, 2, b'a', b'b', 0x15, 0, 0, 0x80, 0x3F]);
    }

    #[test]
    fn frames_follow_one_another_and_end_where_resumed() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let mut events = EventFile::create(place.path()).expect("created");
        events.scalars(1, [("loss", 2.5)]).expect("written");
        events.file().sync_data().expect("synced");
        let (path, bytes) = (events.path().to_owned(), events.bytes());
        events.text(2, "sample", "hello").expect("written");
        drop(events);
        let mut events = EventFile::resume(&path, bytes).expect("resumed");
        events.scalars(2, [("loss", 1.5), ("lr", 0.1)]).expect("written");
        let file = std::fs::read(&path).expect("read");
        let (mut rest, mut frames) = (&file[..], 0);
        while let Some((length, _)) = rest.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*length) as usize;
            let mut frame = Vec::new();
            put_frame(&mut frame, &rest[12..12 + length]);
            assert_eq!(frame, rest[..length + 16]);
            rest = &rest[length + 16..];
            frames += 1;
        }
        assert_eq!((frames, rest.len()), (3, 0));
    }
}
