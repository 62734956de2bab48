//! Checkpoints: everything that training needs to go on, complete or absent.
//!
//! `checkpoints/step-000100/` holds `state.safetensors` (trained weights, masters and optimizer state by
//! the names of their values) and `state.json`, which seals the former with its hash and itself with its own.
//! A [`Snapshot`] is written straight from the arenas, by any thread, while the next step computes.

use crate::arena::{Frozen, Place};
use crate::disk;
use crate::error::{EngineError, Result};
use crate::executor::{Executor, written};
use crate::mesh::Job;
use crate::metrics::Marks;
use crate::origin::Origin;
use crate::report::Summary;
use crate::tensors::{self, Header, TensorFile};
use crate::weights::non_finite;
use plan::program::{Decisions, Mesh, Module};
use plan::task::Key;
use plan::value::{Role, ValueId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where training stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Key of the task.
    pub key: Key,
    /// What the key is made of, to say what has changed.
    #[serde(default)]
    pub origin: Origin,
    pub numerics: u32,
    pub backend: String,
    pub instruction_set: String,
    pub decisions: Decisions,
    /// The ranks that came this far.
    #[serde(default)]
    pub mesh: Mesh,
    pub marks: Marks,
    /// How far the evaluation and the samples of this step have come.
    pub reports: Reports,
    pub summary: Summary,
    /// BLAKE3 of `state.safetensors`; set on writing.
    pub tensors: String,
}

/// What is reported after a step, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reports {
    /// Nothing yet.
    Due,
    /// The evaluation, but not all samples.
    Evaluated,
    /// All that is due after this step.
    Done,
}

/// `state.json` as it lies on disk.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    /// BLAKE3 of the text of `state`.
    hash: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub path: PathBuf,
    pub state: State,
}

/// Returns the folder that holds a stage's checkpoints.
pub fn folder(stage: &Path) -> PathBuf {
    stage.join("checkpoints")
}

/// The tensors of a checkpoint where they lie; nothing writes to them while this lives.
#[derive(Debug)]
pub struct Snapshot {
    /// Of every rank.
    frozen: Vec<Frozen>,
    tensors: Vec<Header>,
    /// For each tensor the ranks that hold it or a part, in order, and where.
    places: Vec<Vec<(usize, Place, usize)>>,
}

/// Bytes that are looked at and written at a time: they stay in the cache of a core.
const PIECE: usize = 256 << 10;

impl Snapshot {
    /// Keeps what an executor holds now, without a copy.
    pub fn take(executor: &Executor) -> Result<Snapshot> {
        let headers = headers(executor.module());
        let places = headers.iter().map(|(id, _)| executor.holders(*id)).collect::<Result<_>>()?;
        let tensors = headers.into_iter().map(|(_, header)| header).collect();
        Ok(Snapshot { frozen: executor.freeze_all()?, tensors, places })
    }

    /// Writes all tensors into a file and returns its hash.
    fn write(&self, file: &Path, out: &mut dyn Write) -> Result<String> {
        let mut places = self.places.iter();
        let mut broken = None;
        let fill = |header: &Header, out: &mut dyn Write| {
            let parts = places.next().expect("as many places as tensors");
            let bytes = parts.iter().map(|&(rank, place, length)| self.frozen[rank].bytes(place, length));
            for piece in bytes.flat_map(|bytes| bytes.chunks(PIECE)) {
                if !tensors::all_finite(header.dtype, piece) {
                    broken = Some(header.name.clone());
                    return Err(std::io::Error::other("a number is not finite"));
                }
                out.write_all(piece)?;
            }
            Ok(())
        };
        let written = tensors::write(out, file, &self.tensors, &[], fill);
        match broken {
            Some(name) => Err(non_finite(&name)),
            None => written,
        }
    }
}

/// Writes a checkpoint, then removes all but the newest `keep`.
///
/// # Errors
/// Fails when there is not enough space or a number is not finite; earlier checkpoints are then untouched.
pub fn write(stage: &Path, snapshot: &Snapshot, state: &State, keep: u64) -> Result<()> {
    let path = folder(stage).join(format!("step-{:06}", state.step));
    if path.exists() {
        return renew(&path, state);
    }
    disk::create_folder(&path, tensors::file_bytes(&snapshot.tensors, &[]), |folder| {
        let mut state = state.clone();
        let file = folder.join("state.safetensors");
        disk::create_file(&file, |out| {
            state.tensors = snapshot.write(&file, out)?;
            Ok(())
        })?;
        disk::write_file(&folder.join("state.json"), seal(&state)?.as_bytes())
    })?;
    let complete = all(stage)?;
    let old = complete.len().saturating_sub(keep.max(1) as usize);
    complete[..old].iter().try_for_each(|path| disk::remove_folder(path))
}

/// Replaces the state of a checkpoint that training continued from: no step was taken since.
fn renew(path: &Path, state: &State) -> Result<()> {
    let tensors = read(path)?.state.tensors;
    let state = State { tensors, ..state.clone() };
    disk::write_file(&path.join("state.json"), seal(&state)?.as_bytes())
}

/// Returns the newest checkpoint of a stage.
///
/// # Errors
/// Fails when its `state.json` is damaged.
pub fn newest(stage: &Path) -> Result<Option<Checkpoint>> {
    all(stage)?.pop().map(|path| read(&path)).transpose()
}

fn read(path: &Path) -> Result<Checkpoint> {
    let file = path.join("state.json");
    let text = std::fs::read_to_string(&file).map_err(|e| broken(path, &file, &e.to_string()))?;
    let state = unseal(&text).map_err(|why| broken(path, &file, &why))?;
    Ok(Checkpoint { path: path.to_owned(), state })
}

/// Removes all checkpoints of a stage.
pub fn remove_all(stage: &Path) -> Result<()> {
    disk::remove_folder(&folder(stage))
}

/// Returns the bytes that a checkpoint takes.
pub fn bytes(module: &Module) -> u64 {
    headers(module).iter().map(|(_, header)| header.bytes()).sum()
}

/// Returns whether a checkpoint holds every weight, so that the start's files are not needed.
pub fn holds_all_weights(module: &Module) -> bool {
    let saved: Vec<ValueId> = headers(module).into_iter().map(|(id, _)| id).collect();
    let weights = module.values.iter().enumerate().filter(|(_, value)| value.role == Role::Weight);
    weights.map(|(index, _)| ValueId(index as u32)).all(|id| saved.contains(&id))
}

impl Checkpoint {
    /// Puts the tensors in their places on all ranks and checks them.
    ///
    /// # Errors
    /// Fails when the file is not the one that was written, or holds a number that is not finite.
    pub fn restore(&self, executor: &mut Executor) -> Result<()> {
        let path = self.path.join("state.safetensors");
        if hash(&path).map_err(|error| broken(&self.path, &path, &error.message))? != self.state.tensors {
            return Err(broken(&self.path, &path, "its contents are not what was written"));
        }
        let others = |_| -> Job<()> {
            let checkpoint = self.clone();
            Box::new(move |executor| checkpoint.restore_share(executor))
        };
        executor.together(others, |executor| self.restore_share(executor))
    }

    /// Puts what one rank holds in its place.
    fn restore_share(&self, executor: &mut Executor) -> Result<()> {
        let path = self.path.join("state.safetensors");
        let broken = |why: &str| broken(&self.path, &path, why);
        let file = TensorFile::open(&path).map_err(|error| broken(&error.message))?;
        for (id, header) in headers(executor.module()) {
            let info = file.info(&header.name);
            let info = info.ok_or_else(|| broken(&format!("`{}` is missing", header.name)))?;
            let shape: Vec<u64> = info.shape.iter().map(|&size| size as u64).collect();
            if shape != header.shape || tensors::dtype(info.dtype) != Some(header.dtype) {
                return Err(broken(&format!(
                    "`{}` has another shape or dtype than in the plan",
                    header.name
                )));
            }
            let (share, rows) = (executor.share(id), shape.first().copied().unwrap_or(1).max(1));
            let row = (header.bytes() / rows) as usize;
            let bytes = &mut executor.bytes_mut(id)?[..share.len() * row];
            file.read(info, (share.start * row) as u64, bytes)?;
            if !tensors::all_finite(header.dtype, bytes) {
                return Err(broken(&format!("`{}` holds a number that is not finite", header.name)));
            }
        }
        Ok(())
    }
}

/// What a checkpoint holds, in the order of the file: what the update rewrites, and all optimizer state.
fn headers(module: &Module) -> Vec<(ValueId, Header)> {
    let update = module.program("update");
    let trained = update.map_or(Vec::new(), |p| written(p, module, &[Role::Weight, Role::Master]));
    let state = module.values.iter().enumerate().filter(|(_, value)| value.role == Role::State);
    let ids = trained.into_iter().chain(state.map(|(index, _)| ValueId(index as u32)));
    let capacities = module.capacities();
    let mut headers: Vec<(ValueId, Header)> = ids
        .map(|id| {
            let value = &module.values[id.index()];
            let shape = value.whole_sizes(&capacities);
            (id, Header { name: value.name.clone(), dtype: value.dtype, shape })
        })
        .collect();
    headers.sort_by(|(_, a), (_, b)| b.dtype.bytes().cmp(&a.dtype.bytes()).then_with(|| a.name.cmp(&b.name)));
    headers
}

/// Returns the complete checkpoints of a stage, oldest first.
fn all(stage: &Path) -> Result<Vec<PathBuf>> {
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix("step-")?.parse::<u64>().ok();
    let mut found: Vec<(u64, PathBuf)> =
        disk::list(&folder(stage))?.into_iter().filter_map(|path| Some((step(&path)?, path))).collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn seal(state: &State) -> Result<String> {
    let text = serde_json::to_string(state).and_then(RawValue::from_string);
    let text = text.map_err(|e| EngineError::plan(format!("state.json: {e}")))?;
    let hash = blake3::hash(text.get().as_bytes()).to_hex().to_string();
    let sealed = serde_json::to_string(&Sealed { hash, state: &text });
    sealed.map_err(|e| EngineError::plan(format!("state.json: {e}")))
}

fn unseal(text: &str) -> Result<State, String> {
    let sealed: Sealed = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if blake3::hash(sealed.state.get().as_bytes()).to_hex().as_str() != sealed.hash {
        return Err("its contents are not what was written".into());
    }
    serde_json::from_str(sealed.state.get()).map_err(|error| error.to_string())
}

fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).map_err(|e| EngineError::io("open", path, &e))?;
    hasher.update_reader(file).map_err(|e| EngineError::io("read", path, &e))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn broken(checkpoint: &Path, file: &Path, why: &str) -> EngineError {
    let message = format!("the checkpoint file {} is damaged: {why}", file.display());
    EngineError::new("broken-checkpoint", message).help(format!(
        "remove the folder {}; the run then goes on from the checkpoint before it, or starts this stage anew",
        checkpoint.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Loops, training_module};

    fn state(step: u64) -> State {
        State {
            step,
            epoch: 0.5,
            key: Key("abc".into()),
            origin: Origin::default(),
            numerics: 1,
            backend: "loops".into(),
            instruction_set: "scalar".into(),
            decisions: Decisions::default(),
            mesh: Mesh::default(),
            marks: Marks::default(),
            reports: Reports::Done,
            summary: Summary::default(),
            tensors: String::new(),
        }
    }

    fn write(stage: &Path, executor: &Executor, state: &State, keep: u64) -> Result<()> {
        super::write(stage, &Snapshot::take(executor)?, state, keep)
    }

    fn fill(executor: &mut Executor, number: f32) {
        for name in ["w", "w.m", "w.v"] {
            let id = executor.id(name).expect("there");
            bytemuck::cast_slice_mut(executor.bytes_mut(id).expect("there")).fill(number);
        }
    }

    #[test]
    fn the_newest_are_kept_and_restored() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let module = training_module();
        let mut executor = Executor::new(&module, &Loops).expect("sound");
        for step in 1..=3 {
            fill(&mut executor, step as f32);
            write(place.path(), &executor, &state(step), 2).expect("written");
        }
        let names: Vec<String> = all(place.path())
            .expect("listed")
            .iter()
            .map(|path| path.file_name().expect("named").to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["step-000002", "step-000003"]);
        let newest = newest(place.path()).expect("sound").expect("there");
        fill(&mut executor, 0.0);
        newest.restore(&mut executor).expect("restored");
        assert_eq!(newest.state.step, 3);
        assert!(executor.read("w").expect("there").iter().all(|w| *w == 3.0));
        assert!(holds_all_weights(&module));
    }

    #[test]
    fn any_damage_is_found_and_named() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let module = training_module();
        let mut executor = Executor::new(&module, &Loops).expect("sound");
        fill(&mut executor, 1.0);
        let check = |damage: &dyn Fn(&Path), executor: &mut Executor| {
            remove_all(place.path()).expect("removed");
            write(place.path(), executor, &state(7), 1).expect("written");
            let path = folder(place.path()).join("step-000007");
            damage(&path);
            let error = newest(place.path())
                .and_then(|checkpoint| checkpoint.expect("there").restore(executor))
                .expect_err("damaged");
            assert_eq!(error.code, "broken-checkpoint");
            assert!(error.message.contains("step-000007/state."), "{}", error.message);
            assert!(error.help.expect("help").contains("remove the folder"));
        };
        let edit = |path: &Path, name: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let file = path.join(name);
            let mut bytes = std::fs::read(&file).expect("read");
            change(&mut bytes);
            std::fs::write(file, bytes).expect("written");
        };
        for name in ["state.safetensors", "state.json"] {
            check(&|path| edit(path, name, &|bytes| bytes.truncate(bytes.len() - 1)), &mut executor);
            check(&|path| edit(path, name, &|bytes| *bytes.last_mut().expect("some") ^= 1), &mut executor);
            check(&|path| edit(path, name, &|bytes| bytes[60] ^= 4), &mut executor);
            check(&|path| std::fs::remove_file(path.join(name)).expect("removed"), &mut executor);
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_neither_written_nor_loaded() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let module = training_module();
        let mut executor = Executor::new(&module, &Loops).expect("sound");
        fill(&mut executor, 1.0);
        write(place.path(), &executor, &state(1), 1).expect("written");
        fill(&mut executor, f32::NAN);
        assert_eq!(write(place.path(), &executor, &state(2), 1).expect_err("NaN").code, "non-finite-weights");
        assert_eq!(newest(place.path()).expect("sound").expect("there").state.step, 1);
        // A file with a NaN whose hashes are right, as a faulty writer could leave it.
        let path = folder(place.path()).join("step-000001");
        let file = path.join("state.safetensors");
        let mut bytes = std::fs::read(&file).expect("read");
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&file, &bytes).expect("written");
        let mut state = state(1);
        state.tensors = hash(&file).expect("hashed");
        std::fs::write(path.join("state.json"), seal(&state).expect("sealed")).expect("written");
        let checkpoint = newest(place.path()).expect("sound").expect("there");
        let error = checkpoint.restore(&mut executor).expect_err("NaN");
        assert!(error.message.contains("holds a number that is not finite"), "{}", error.message);
    }

    #[test]
    fn an_unfinished_one_does_not_count() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let module = training_module();
        let executor = Executor::new(&module, &Loops).expect("sound");
        write(place.path(), &executor, &state(1), 1).expect("written");
        let unfinished = folder(place.path()).join("step-000002.tmp-77");
        std::fs::create_dir(&unfinished).expect("created");
        assert_eq!(newest(place.path()).expect("sound").expect("there").state.step, 1);
        disk::remove_leftovers(&folder(place.path())).expect("removed");
        assert!(!unfinished.exists());
    }

    /// Names the folder that the limited child process of the next test writes to.
    const LIMITED: &str = "ADAPT_TEST_LIMITED";

    /// The child may not make any file longer than nothing: its disk is full.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_leaves_the_last_checkpoint() {
        let module = training_module();
        let mut executor = Executor::new(&module, &Loops).expect("sound");
        fill(&mut executor, 1.0);
        if let Some(stage) = std::env::var_os(LIMITED) {
            let stage = PathBuf::from(stage);
            let error = write(&stage, &executor, &state(2), 1).expect_err("full");
            assert_eq!(error.code, "disk-full");
            assert!(error.message.contains("bytes are needed"), "{}", error.message);
            return;
        }
        let place = tempfile::tempdir().expect("a temporary folder");
        write(place.path(), &executor, &state(1), 1).expect("written");
        let child = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().expect("this test"))
            .args(["checkpoint::tests::a_full_disk_leaves_the_last_checkpoint", "--exact"])
            .env(LIMITED, place.path())
            .output()
            .expect("a shell");
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && output.contains("1 passed"), "{output}");
        newest(place.path()).expect("sound").expect("there").restore(&mut executor).expect("whole");
        assert_eq!(disk::list(&folder(place.path())).expect("listed").len(), 1);
    }
}
