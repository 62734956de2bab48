//! The run folder: where tasks keep their results, and which of them are done.

use crate::checkpoint::{self, State};
use crate::disk;
use crate::error::{EngineError, Result};
use crate::lock::Lock;
use crate::record::{Record, Yields, stamps};
use crate::report::Summary;
use plan::NUMERICS_VERSION;
use plan::task::{Key, Task};
use plan::work::{Artifact, Work};
use std::path::{Path, PathBuf};

/// A run folder and the cache.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    cache: PathBuf,
    /// Run folders whose results may be used where they are the same.
    siblings: Vec<PathBuf>,
    _lock: Option<Lock>,
}

/// Whether a task's result is there.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    Yes(Box<Record>),
    /// With what made an earlier result of the same task invalid, if that is not its key.
    No(Option<String>),
}

impl RunFolder {
    /// Creates the folder where it is missing, and locks it.
    ///
    /// # Errors
    /// Fails at once with `run-in-progress` when another process runs in it; `command` is what a later
    /// one is told about this process.
    pub fn open(path: &Path, cache: &Path, command: &str) -> Result<Self> {
        for folder in [path, cache] {
            std::fs::create_dir_all(folder).map_err(|e| EngineError::io("create folder", folder, &e))?;
        }
        let lock = Some(Lock::take(path, command)?);
        Ok(RunFolder { path: path.to_owned(), cache: absolute(cache), siblings: Vec::new(), _lock: lock })
    }

    /// Looks at a folder without locking or creating it.
    pub fn view(path: &Path, cache: &Path) -> Self {
        RunFolder { path: path.to_owned(), cache: absolute(cache), siblings: Vec::new(), _lock: None }
    }

    /// Lets the results of other runs be used where they are the same, as in a sweep.
    pub fn with_siblings(self, siblings: &[PathBuf]) -> Self {
        RunFolder { siblings: siblings.to_vec(), ..self }
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the cache's folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Returns the folder of a task: `data:chat` has `data-chat`.
    pub fn task_folder(&self, task: &str) -> PathBuf {
        self.path.join(task.replace([':', '/'], "-"))
    }

    /// Returns the record of a task, whatever its key.
    pub fn record(&self, task: &str) -> Option<Record> {
        Record::read(&self.task_folder(task))
    }

    /// Returns where the result of a task lies.
    ///
    /// # Errors
    /// Fails when the task is not done.
    pub fn result(&self, task: &str) -> Result<PathBuf> {
        let record = self.record(task);
        let record = record.ok_or_else(|| EngineError::plan(format!("task `{task}` is not done yet")))?;
        Ok(self.path.join(record.path))
    }

    /// Returns where an artifact lies.
    pub fn resolve(&self, artifact: &Artifact) -> Result<PathBuf> {
        match artifact {
            Artifact::Path(path) => Ok(PathBuf::from(path)),
            Artifact::Task(task) => self.result(task),
        }
    }

    /// Returns whether a task's result is there: same key, and all files as they were left.
    pub fn is_done(&self, task: &Task) -> Done {
        let Some(key) = &task.key else { return Done::No(None) };
        let mut note = None;
        if let Some(record) = self.record(&task.name).filter(|record| record.key == *key) {
            match record.changed(&self.path.join(&record.path)) {
                None => return Done::Yes(Box::new(record)),
                Some(change) => note = Some(format!("{change}; `{}` runs again", task.name)),
            }
        }
        match self.cached(task).or_else(|| self.shared(task, key)) {
            Some(record) => Done::Yes(Box::new(record)),
            None => Done::No(note),
        }
    }

    /// Returns where a task of a kind that is kept in the cache has its result.
    pub fn cache_entry(&self, task: &Task) -> Option<PathBuf> {
        let kind = match &task.work {
            Work::TrainTokenizer(_) => "tokenizer",
            Work::Prepare(_) => "data",
            Work::Initialize(_)
            | Work::Train(_)
            | Work::Evaluate(_)
            | Work::Generate(_)
            | Work::Declared(_) => return None,
        };
        Some(self.cache.join(kind).join(&task.key.as_ref()?.0))
    }

    /// Returns the record of the same result in another run of a sweep.
    fn shared(&self, task: &Task, key: &Key) -> Option<Record> {
        self.siblings.iter().find_map(|sibling| {
            let record = RunFolder::view(sibling, &self.cache).record(&task.name);
            let record = record.filter(|record| record.key == *key)?;
            let path = absolute(&sibling.join(&record.path));
            record.changed(&path).is_none().then_some(Record { path, ..record })
        })
    }

    /// Returns the record of a complete cache entry; entries appear by renaming, so they are whole.
    fn cached(&self, task: &Task) -> Option<Record> {
        let entry = self.cache_entry(task).filter(|entry| entry.is_dir())?;
        let yields = match &task.work {
            Work::Prepare(_) => Yields { prepared: Some(prepared(&entry)?), vocab: None },
            _ => Yields { prepared: None, vocab: Some(vocab(&entry)?) },
        };
        self.make_record(task, &entry, yields, Summary::default()).ok()
    }

    /// Makes the record of a result.
    pub fn make_record(
        &self,
        task: &Task,
        result: &Path,
        yields: Yields,
        summary: Summary,
    ) -> Result<Record> {
        let key = task.key.clone();
        let key = key.ok_or_else(|| EngineError::plan(format!("task `{}` has no key yet", task.name)))?;
        let path = result.strip_prefix(&self.path).unwrap_or(result).to_owned();
        let files = stamps(result)?;
        Ok(Record { task: task.name.clone(), key, numerics: NUMERICS_VERSION, path, yields, files, summary })
    }

    /// Returns where the unfinished run of a training stage stands, if it left a checkpoint.
    ///
    /// Its decisions are those that the plan of a resumed run must have.
    pub fn unfinished(&self, task: &str) -> Result<Option<State>> {
        if self.record(task).is_some() {
            return Ok(None);
        }
        Ok(checkpoint::newest(&self.task_folder(task))?.map(|checkpoint| checkpoint.state))
    }

    /// Moves the folder of a finished result aside, so that nothing in it is overwritten; returns where to.
    pub fn set_aside(&self, task: &str) -> Result<Option<PathBuf>> {
        let folder = self.task_folder(task);
        let Some(record) = Record::read(&folder) else { return Ok(None) };
        let name =
            format!("{}.{}", folder.file_name().unwrap_or_default().to_string_lossy(), record.key.short());
        let mut to = folder.with_file_name(&name);
        let mut number = 2;
        while to.exists() {
            to = folder.with_file_name(format!("{name}-{number}"));
            number += 1;
        }
        disk::rename(&folder, &to)?;
        Ok(Some(to))
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn prepared(entry: &Path) -> Option<plan::work::Prepared> {
    let text = std::fs::read_to_string(entry.join("report.json")).ok()?;
    let report: data::PrepareReport = serde_json::from_str(&text).ok()?;
    Some(report.prepared)
}

fn vocab(entry: &Path) -> Option<u64> {
    Some(tokenizer::Tokenizer::load(entry).ok()?.vocab_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::task::{Conduct, Figures, Place};
    use plan::weights::{Init, NewTensor};
    use plan::work::Initialize;

    fn task(key: &str) -> Task {
        let work = Work::Initialize(Initialize {
            tokenizer: Artifact::Path("t".into()),
            config: serde_json::Value::Null,
            generation_config: serde_json::Value::Null,
            tensors: vec![NewTensor { name: "w".into(), shape: vec![1], init: Init::Zeros }],
            dtype: "f32".into(),
            seed: 1,
        });
        Task {
            name: "init:base".into(),
            inputs: Vec::new(),
            work,
            key: Some(Key(key.into())),
            conduct: Conduct::default(),
            origin: Place::default(),
            figures: Figures::default(),
        }
    }

    fn finish(folder: &RunFolder, task: &Task) -> PathBuf {
        let result = folder.task_folder(&task.name).join("model");
        std::fs::create_dir_all(&result).expect("created");
        std::fs::write(result.join("config.json"), "{}").expect("written");
        let record = folder.make_record(task, &result, Yields::default(), Summary::default()).expect("made");
        record.write(&folder.task_folder(&task.name)).expect("written");
        result
    }

    #[test]
    fn only_the_same_key_with_untouched_files_is_done() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let run = place.path().join("run");
        let folder = RunFolder::open(&run, &place.path().join("cache"), "adapt").expect("free");
        assert_eq!(folder.is_done(&task("a")), Done::No(None));
        let result = finish(&folder, &task("a"));
        assert!(matches!(folder.is_done(&task("a")), Done::Yes(_)));
        assert_eq!(folder.resolve(&Artifact::Task("init:base".into())).expect("done"), result);
        assert_eq!(folder.is_done(&task("b")), Done::No(None));
        drop(folder);
        // The whole run may move.
        let moved = place.path().join("moved");
        std::fs::rename(&run, &moved).expect("moved");
        let folder = RunFolder::view(&moved, &place.path().join("cache"));
        assert!(matches!(folder.is_done(&task("a")), Done::Yes(_)));
        std::fs::write(moved.join("init-base/model/config.json"), "{} ").expect("written");
        let Done::No(Some(note)) = folder.is_done(&task("a")) else { panic!("edited") };
        assert!(note.ends_with("config.json was changed; `init:base` runs again"), "{note}");
    }

    #[test]
    fn finished_results_are_moved_aside_and_never_lost() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = RunFolder::view(place.path(), &place.path().join("cache"));
        assert_eq!(folder.set_aside("init:base").expect("nothing to do"), None);
        for suffix in ["", "-2", "-3"] {
            finish(&folder, &task("0123456789"));
            let aside = folder.set_aside("init:base").expect("moved").expect("there was one");
            assert_eq!(aside, place.path().join(format!("init-base.01234567{suffix}")));
            assert!(aside.join("model/config.json").exists());
        }
    }
}
