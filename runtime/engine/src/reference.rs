//! Reference log-probabilities of preference objectives: computed once per stage, for every row.

use crate::batch;
use crate::disk;
use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::tensors::{self, Header, TensorFile};
use data::{MicroBatch, Store};
use ops::backend::Draw;
use plan::task::Key;
use plan::value::Dtype;
use plan::work::{Unit, result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The response log-probability of each row under the reference, in nats.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reference {
    pub train: Vec<f32>,
    pub eval: Vec<f32>,
}

/// Scores all rows of a store with the weights that are loaded; `None` when `stop` was set before the end.
pub fn score(
    executor: &mut Executor,
    store: &Store,
    stop: &AtomicBool,
    mut progress: impl FnMut(u64, u64),
) -> Result<Option<Vec<f32>>> {
    let share = batch::shares(executor, "reference");
    let groups = batch::groups(executor, store, Unit::Pairs, share)?;
    let mut micro = MicroBatch::default();
    let mut logprobs = vec![0.0; store.rows()];
    for (index, group) in groups.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        micro.fill(store, &group.sequences, share);
        batch::write(executor, &micro)?;
        executor.run("reference", 0, Draw::default())?;
        let rows = executor.read(result::ROW_LOGPROBS)?;
        if rows.iter().any(|logprob| !logprob.is_finite()) {
            let rows = batch::name_rows(store, [&micro]);
            return Err(EngineError::new("non-finite-loss", format!("the reference cannot score {rows}"))
                .help("look at these rows in the data"));
        }
        for (row, logprob) in micro.row_ids.iter().zip(rows) {
            logprobs[*row as usize] = logprob as f32;
        }
        progress(index as u64 + 1, groups.len() as u64);
    }
    Ok(Some(logprobs))
}

impl Reference {
    /// Reads what an earlier start of the same task left; `None` when it is not there, not whole or of
    /// other rows.
    pub fn read(stage: &Path, key: &Key, rows: [usize; 2]) -> Option<Reference> {
        let file = TensorFile::open(&path(stage)).ok()?;
        let read = |name: &str, rows: usize| -> Option<Vec<f32>> {
            let info = file.info(name).filter(|info| info.shape == [rows])?;
            let mut bytes = vec![0; rows * 4];
            file.read(info, 0, &mut bytes).ok()?;
            Some(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        let found = Reference { train: read("train", rows[0])?, eval: read("eval", rows[1])? };
        let sound = file.metadata("key") == Some(&key.0) && file.metadata("hash") == Some(&found.hash());
        sound.then_some(found)
    }

    /// Writes the numbers so that a resumed run has the very same ones.
    pub fn write(&self, stage: &Path, key: &Key) -> Result<()> {
        let header = |name: &str, rows: usize| Header {
            name: name.into(),
            dtype: Dtype::F32,
            shape: vec![rows as u64],
        };
        let headers = [header("eval", self.eval.len()), header("train", self.train.len())];
        let hash = self.hash();
        let metadata = [("key", key.0.as_str()), ("hash", &hash)];
        let mut bytes = Vec::new();
        tensors::write(&mut bytes, &path(stage), &headers, &metadata, |header, out: &mut dyn Write| {
            out.write_all(bytemuck::cast_slice(if header.name == "eval" { &self.eval } else { &self.train }))
        })?;
        disk::write_file(&path(stage), &bytes)
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytemuck::cast_slice(&self.train)).update(bytemuck::cast_slice(&self.eval));
        hasher.finalize().to_hex().to_string()
    }
}

fn path(stage: &Path) -> PathBuf {
    stage.join("reference.safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_file_of_the_same_task_counts() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let reference = Reference { train: vec![-1.5, -2.0], eval: vec![-3.0] };
        let key = Key("k".into());
        assert_eq!(Reference::read(place.path(), &key, [2, 1]), None);
        reference.write(place.path(), &key).expect("written");
        assert_eq!(Reference::read(place.path(), &key, [2, 1]), Some(reference));
        assert_eq!(Reference::read(place.path(), &key, [2, 2]), None);
        assert_eq!(Reference::read(place.path(), &Key("other".into()), [2, 1]), None);
        let mut bytes = std::fs::read(path(place.path())).expect("read");
        *bytes.last_mut().expect("some") ^= 1;
        std::fs::write(path(place.path()), bytes).expect("written");
        assert_eq!(Reference::read(place.path(), &key, [2, 1]), None);
    }
}
