//! `--resolve`: asks the hub for what `adapt.lock` lacks, and writes it there.
//!
//! What is pinned stays pinned: facts that are missing are read at the commit that the lock file has.
//! `--resolve=again` asks which commit a revision has now, and reads everything at that one.

use crate::{terminal, text};
use hub::{Error, Hub, Kind as RepoKind, Origin, Repo, Revision, Settings, Snapshot};
use lang::facts::{Facts, Want};
use lang::lock::{Entry, FILE, Kind, Lock, Tokenizer};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Sources that are asked about at the same time.
const AT_ONCE: usize = 4;

/// What to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum How {
    /// What the lock file does not pin, or does not know.
    Missing,
    /// All sources of the recipe.
    Again,
}

/// Pins what a recipe needs, round by round, and keeps it until it is saved.
pub struct Resolver {
    how: How,
    hub: Hub,
    done: BTreeSet<(String, Kind)>,
    pinned: BTreeMap<String, Entry>,
    said: Vec<Line>,
}

/// What is to be said about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Pinned(String),
    /// It is as it is: there is nothing to do about it.
    Note(String),
    Failed {
        what: String,
        help: String,
    },
}

/// A source to ask about.
struct Job {
    key: String,
    kind: Kind,
    old: Option<Entry>,
}

/// A source on the hub, taken apart: `hf:owner/name@revision#config`.
#[derive(Debug, PartialEq, Eq)]
struct Source<'a> {
    id: &'a str,
    revision: Option<&'a str>,
    config: Option<&'a str>,
}

impl Resolver {
    /// Prepares to ask the hub that the environment names.
    ///
    /// # Errors
    /// Says in words which part of the environment cannot be used.
    pub fn new(how: How) -> Result<Self, String> {
        let hub = Settings::from_env().and_then(Hub::new);
        hub.map(|hub| Self::with(how, hub)).map_err(|error| format!("{error}; {}", error.help()))
    }

    fn with(how: How, hub: Hub) -> Self {
        Resolver { how, hub, done: BTreeSet::new(), pinned: BTreeMap::new(), said: Vec::new() }
    }

    /// Puts into the lock what wants ask for, as far as the hub tells.
    pub fn pin(&mut self, wants: &[Want], lock: &mut Lock) {
        let jobs = self.jobs(wants, lock);
        for batch in jobs.chunks(AT_ONCE) {
            let (hub, how) = (&self.hub, self.how);
            let answers: Vec<(Option<Entry>, Vec<Line>)> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    batch.iter().map(|job| scope.spawn(move || ask(hub, how, job))).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("reads from the hub do not panic"))
                    .collect()
            });
            for (job, (entry, lines)) in batch.iter().zip(answers) {
                self.said.extend(lines);
                if let Some(entry) = entry {
                    lock.sources.insert(job.key.clone(), entry.clone());
                    self.pinned.insert(job.key.clone(), entry);
                }
            }
        }
    }

    /// Returns what is to be asked about: each source once, a model together with its tokenizer.
    fn jobs(&mut self, wants: &[Want], lock: &Lock) -> Vec<Job> {
        let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
        for want in wants {
            let (key, kind) = match want {
                Want::Model(key) => (key, Kind::Model),
                Want::Rows(key) => (key, Kind::Dataset),
                Want::Tokenizer(key) => (key, Kind::Tokenizer),
                Want::Path(_) | Want::Text(_) | Want::Hash(_) | Want::Hardware => continue,
            };
            let old = lock.sources.get(key);
            let is_new = self.how == How::Again || old.is_none_or(|old| old.revision.is_none());
            let lacks_rows = |old: &Entry| old.columns.is_empty() || old.splits.is_empty();
            let is_whole = kind != Kind::Dataset || old.is_some_and(|old| !lacks_rows(old));
            let is_known = !is_new && is_whole && lock.fill(want, &mut Facts::default());
            if !lang::paths::is_remote(key) || is_known {
                continue;
            }
            // The tokenizer of a model stands in the model's entry.
            let is_of_model = old.is_some_and(|old| old.kind == Kind::Model);
            let kind = if kind == Kind::Tokenizer && is_of_model { Kind::Model } else { kind };
            if kind != Kind::Tokenizer || !kinds.contains_key(key.as_str()) {
                kinds.insert(key, kind);
            }
        }
        let fresh = kinds.into_iter().filter(|(key, kind)| self.done.insert(((*key).to_owned(), *kind)));
        fresh
            .map(|(key, kind)| Job { key: key.to_owned(), kind, old: lock.sources.get(key).cloned() })
            .collect()
    }

    /// Saves what was pinned beside the recipe and says so; returns whether all was had.
    pub fn finish(self, recipe: &str) -> bool {
        let path = lang::paths::resolve(lang::paths::folder(recipe), FILE);
        let mut all = true;
        for line in &self.said {
            match line {
                Line::Pinned(_) if terminal::volume() == terminal::Volume::Quiet => {}
                Line::Pinned(text) => terminal::say(format_args!("pinned: {text}")),
                Line::Note(text) => terminal::note(text),
                Line::Failed { what, help } => {
                    all = false;
                    terminal::say(format_args!("error: {what}\n  help: {help}"));
                }
            }
        }
        if let Err(why) = save(Path::new(&path), self.pinned) {
            terminal::say(format_args!("error: {path} cannot be written, so nothing is pinned: {why}"));
            return false;
        }
        all
    }
}

/// Puts entries into a lock file. It is read again first, since another `--resolve` may have written it.
fn save(path: &Path, pinned: BTreeMap<String, Entry>) -> io::Result<()> {
    if pinned.is_empty() {
        return Ok(());
    }
    let mut lock = match fs::read_to_string(path) {
        Ok(text) => Lock::read(&text).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Lock::default(),
        Err(error) => return Err(error),
    };
    lock.sources.extend(pinned);
    write(path, &lock.text())
}

/// Writes a file completely or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    // A link keeps being one: what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let temporary = path.with_file_name(format!(".{FILE}.{}", std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // It may not even have been made; the first error is the one that tells.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Asks about one source; gives its entry, when it could be pinned, and what to say.
fn ask(hub: &Hub, how: How, job: &Job) -> (Option<Entry>, Vec<Line>) {
    let key = &job.key;
    let Some(source) = Source::of(key) else {
        return (None, vec![Line::Note(format!("{key} is not on the hub, so there is no revision to pin"))]);
    };
    match find(hub, how, job, &source) {
        Ok(snapshot) => {
            let mut lines = Vec::new();
            let entry = describe(hub, job, &source, &snapshot, &mut lines);
            lines.insert(0, Line::Pinned(summary(job, &snapshot, &entry)));
            (Some(entry), lines)
        }
        Err(error) => (None, vec![failed(format!("{key} cannot be pinned: {error}"), &error)]),
    }
}

fn failed(what: String, error: &Error) -> Line {
    Line::Failed { what, help: error.help() }
}

/// Finds the commit: the pinned one, else that of the revision that the recipe states, else of `main`.
fn find(hub: &Hub, how: How, job: &Job, source: &Source) -> hub::Result<Snapshot> {
    let kind = if job.kind == Kind::Dataset { RepoKind::Dataset } else { RepoKind::Model };
    let pinned = job.old.as_ref().and_then(|old| old.revision.as_deref()).filter(|_| how == How::Missing);
    let revision = pinned.or(source.revision).map_or(Ok(Revision::main()), Revision::new)?;
    hub.find(&Repo::new(kind, source.id)?, &revision)
}

/// Makes the entry of a commit. What the hub does not tell stays as it was, unless it was true of another commit.
fn describe(hub: &Hub, job: &Job, source: &Source, snapshot: &Snapshot, lines: &mut Vec<Line>) -> Entry {
    let of_this = |old: &&Entry| old.revision.as_ref().is_none_or(|known| *known == snapshot.commit);
    let mut entry = job.old.as_ref().filter(of_this).cloned().unwrap_or_default();
    // What people wrote about a source outlives its commits.
    if let Some(old) = &job.old {
        (entry.note, entry.measured) = (old.note.clone(), old.measured.clone());
        entry.languages = old.languages.clone();
    }
    entry.kind = job.kind;
    entry.revision = Some(snapshot.commit.clone());
    entry.licence = snapshot.licence.clone().or(entry.licence);
    let files = read_files(job.kind, snapshot);
    if snapshot.origin == Origin::Hub && job.kind != Kind::Dataset {
        entry.bytes = hub::bytes_of(&files).or(entry.bytes);
    }
    match job.kind {
        Kind::Model => {
            describe_model(hub, &job.key, snapshot, &mut entry, lines);
            describe_tokenizer(hub, job, snapshot, &mut entry, lines);
        }
        Kind::Tokenizer => describe_tokenizer(hub, job, snapshot, &mut entry, lines),
        Kind::Dataset => describe_rows(hub, &job.key, source, snapshot, &mut entry, lines),
    }
    entry
}

fn describe_model(hub: &Hub, key: &str, snapshot: &Snapshot, entry: &mut Entry, lines: &mut Vec<Line>) {
    match hub.model(snapshot) {
        Ok(model) => (entry.config, entry.generation_config) = (Some(model.config), model.generation_config),
        Err(error) => lines.push(failed(format!("{key} is not described: {error}"), &error)),
    }
}

fn describe_tokenizer(hub: &Hub, job: &Job, snapshot: &Snapshot, entry: &mut Entry, lines: &mut Vec<Line>) {
    match hub.tokenizer(snapshot) {
        Ok(found) => {
            entry.tokenizer = Some(Tokenizer {
                vocab_size: Some(found.vocab_size),
                bos: found.bos,
                eos: found.eos,
                pad: found.pad,
                special: Some(found.special),
                // A cache may lack the file that holds it: only the hub knows that there is none.
                chat_template: match (found.chat_template, snapshot.origin) {
                    (None, Origin::Cache) => None,
                    (template, _) => Some(template),
                },
            });
        }
        // A model may leave its tokenizer to another repository.
        Err(error @ Error::NotFound { .. }) if job.kind == Kind::Model => {
            lines.push(Line::Note(format!("{} says nothing of its tokenizer: {error}", job.key)));
        }
        Err(error) => {
            lines.push(failed(format!("the tokenizer of {} is not described: {error}", job.key), &error));
        }
    }
}

fn describe_rows(
    hub: &Hub,
    key: &str,
    source: &Source,
    snapshot: &Snapshot,
    entry: &mut Entry,
    lines: &mut Vec<Line>,
) {
    match hub.dataset(snapshot, source.config) {
        Ok(found) => {
            if !found.columns.is_empty() {
                entry.columns = found.columns;
            }
            // Counts of an entry that was not pinned are somebody's word; better than nothing.
            let old = std::mem::take(&mut entry.splits);
            let names = if found.splits.is_empty() { old.clone() } else { found.splits };
            let rows = |(name, rows): (String, Option<u64>)| {
                let rows = rows.or_else(|| *old.get(&name)?);
                (name, rows)
            };
            entry.splits = names.into_iter().map(rows).collect();
            entry.bytes = found.bytes.or(entry.bytes);
            let is_known = !entry.columns.is_empty() && !entry.splits.is_empty();
            lines.extend(found.doubts.into_iter().map(|error| match is_known {
                true => Line::Note(format!("{key}: rows are not counted: {error}")),
                false => Line::Note(format!("{key}: columns or splits stay unknown: {error}")),
            }));
        }
        Err(error) => lines.push(failed(format!("the rows of {key} are not described: {error}"), &error)),
    }
}

fn read_files(kind: Kind, snapshot: &Snapshot) -> Vec<&hub::RepoFile> {
    match kind {
        Kind::Model => snapshot.model_files(),
        Kind::Tokenizer => snapshot.tokenizer_files(),
        Kind::Dataset => snapshot.row_files(),
    }
}

/// Says what was pinned: `hf:owner/name → 0123456789ab, 12 files, 5.2 GiB, apache-2.0`.
fn summary(job: &Job, snapshot: &Snapshot, entry: &Entry) -> String {
    let commit = snapshot.commit.get(..12).unwrap_or(&snapshot.commit);
    let files = read_files(job.kind, snapshot).len();
    let mut parts = vec![format!("{} → {commit}", job.key)];
    match snapshot.origin {
        Origin::Hub => parts.push(format!("{files} file{}", if files == 1 { "" } else { "s" })),
        Origin::Cache => parts.push("as the cache has it".into()),
    }
    parts.extend(entry.bytes.map(text::bytes));
    parts.extend(entry.licence.clone());
    parts.join(", ")
}

impl<'a> Source<'a> {
    /// Takes a key of the facts apart; nothing when it is not on the hub.
    fn of(key: &'a str) -> Option<Self> {
        let (rest, config) = split(key.strip_prefix("hf:")?, '#');
        let (id, revision) = split(rest, '@');
        Some(Source { id, revision, config })
    }
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tempfile::TempDir;

    const FIRST: &str = "0123456789abcdef0123456789abcdef01234567";
    const SECOND: &str = "89abcdef0123456789abcdef0123456789abcdef";

    /// A folder with the hub's cache and a recipe.
    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            Place(tempfile::tempdir().expect("a folder"))
        }

        /// Puts a commit of the model into the cache, which becomes the head of `main`.
        fn fetch(&self, commit: &str, config: &str) {
            let folder = self.0.path().join("models--o--m");
            let snapshot = folder.join("snapshots").join(commit);
            for part in [folder.join("refs"), snapshot.clone()] {
                fs::create_dir_all(part).expect("created");
            }
            let tokenizer = r#"{"model": {"vocab": {"a": 0, "b": 1}}}"#;
            for (file, text) in [
                (folder.join("refs/main"), commit),
                (snapshot.join("config.json"), config),
                (snapshot.join("tokenizer.json"), tokenizer),
            ] {
                fs::write(file, text).expect("written");
            }
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).display().to_string()
        }

        fn lock(&self) -> Lock {
            Lock::read(&fs::read_to_string(self.path(FILE)).expect("written")).expect("sound")
        }

        /// Pins wants against the cache alone, as on a machine without network; returns whether all was had.
        fn resolve(&self, how: How, wants: &[Want]) -> bool {
            let settings = Settings {
                endpoint: "http://localhost".into(),
                rows_server: "http://localhost".into(),
                token: None,
                cache: Some(self.0.path().into()),
                offline: true,
                timeout: Duration::from_secs(1),
                body_timeout: Duration::from_secs(1),
                backoff: Duration::ZERO,
            };
            let mut lock = fs::read_to_string(self.path(FILE))
                .map_or_else(|_| Lock::default(), |text| Lock::read(&text).expect("sound"));
            let mut resolver = Resolver::with(how, Hub::new(settings).expect("sound"));
            resolver.pin(wants, &mut lock);
            resolver.finish(&self.path("recipe.kdl"))
        }
    }

    fn wants() -> [Want; 2] {
        [Want::Model("hf:o/m".into()), Want::Tokenizer("hf:o/m".into())]
    }

    #[test]
    fn sources_are_taken_apart_as_the_facts_put_them_together() {
        for (revision, config) in
            [(None, None), (Some("v1"), None), (None, Some("nl")), (Some("v1"), Some("nl"))]
        {
            let key = lang::paths::remote_key("hf:o/d", revision, config);
            assert_eq!(Source::of(&key), Some(Source { id: "o/d", revision, config }));
        }
        assert_eq!(Source::of("https://example.org/x.jsonl"), None);
    }

    #[test]
    fn a_pin_stays_until_it_is_made_anew() {
        let place = Place::new();
        place.fetch(FIRST, r#"{"model_type": "llama"}"#);
        assert!(place.resolve(How::Missing, &wants()));
        let first = place.lock().sources["hf:o/m"].clone();
        assert_eq!((first.kind, first.revision.as_deref()), (Kind::Model, Some(FIRST)));
        assert_eq!(first.tokenizer.as_ref().and_then(|tokenizer| tokenizer.vocab_size), Some(2));
        let mut facts = Facts::default();
        assert!(wants().iter().all(|want| place.lock().fill(want, &mut facts)));
        assert_eq!(facts.models["hf:o/m"].config["model_type"], "llama");

        place.fetch(SECOND, r#"{"model_type": "gpt2"}"#);
        assert!(place.resolve(How::Missing, &wants()));
        assert_eq!(place.lock().sources["hf:o/m"], first);
        assert!(place.resolve(How::Again, &wants()));
        let second = place.lock().sources["hf:o/m"].clone();
        assert_eq!(second.revision.as_deref(), Some(SECOND));
        assert_eq!(second.config.expect("read")["model_type"], "gpt2");
    }

    #[test]
    fn facts_that_lack_are_read_at_the_pinned_commit() {
        let place = Place::new();
        place.fetch(FIRST, r#"{"model_type": "llama"}"#);
        assert!(place.resolve(How::Missing, &wants()[1..]));
        let entry = place.lock().sources["hf:o/m"].clone();
        assert_eq!((entry.kind, entry.config), (Kind::Tokenizer, None));
        place.fetch(SECOND, r#"{"model_type": "gpt2"}"#);
        assert!(place.resolve(How::Missing, &wants()));
        let entry = place.lock().sources["hf:o/m"].clone();
        assert_eq!((entry.kind, entry.revision.as_deref()), (Kind::Model, Some(FIRST)));
        assert_eq!(entry.config.expect("read")["model_type"], "llama");
    }

    #[test]
    fn other_entries_and_what_people_wrote_stay() {
        let place = Place::new();
        let old = r#"{"version": 1, "sources": {"hf:o/other": {"kind": "model", "licence": "mit"},
            "hf:o/m": {"kind": "model", "licence": "gemma", "config": {"model_type": "x"}, "note": "by hand"}}}"#;
        fs::write(place.path(FILE), old).expect("written");
        place.fetch(FIRST, r#"{"model_type": "llama"}"#);
        assert!(place.resolve(How::Missing, &wants()));
        let lock = place.lock();
        assert_eq!(lock.sources["hf:o/other"].licence.as_deref(), Some("mit"));
        let entry = &lock.sources["hf:o/m"];
        assert_eq!((entry.note.as_deref(), entry.licence.as_deref()), (Some("by hand"), Some("gemma")));
        assert_eq!(entry.config.as_ref().expect("read")["model_type"], "llama");
        let left = fs::read_dir(place.0.path()).expect("there").flatten();
        assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().contains(".lock")).count(), 1);
    }

    #[test]
    fn what_cannot_be_had_is_a_failure_and_is_not_written() {
        let place = Place::new();
        assert!(!place.resolve(How::Missing, &wants()));
        assert!(!Path::new(&place.path(FILE)).exists());
        place.fetch(FIRST, "[]");
        assert!(!place.resolve(How::Missing, &wants()), "a config that is none");
        assert_eq!(place.lock().sources["hf:o/m"].config, None);
        assert!(place.resolve(How::Missing, &[Want::Rows("https://example.org/x.jsonl".into())]));
    }

    #[test]
    fn what_was_true_of_another_commit_is_dropped() {
        let place = Place::new();
        place.fetch(FIRST, r#"{"model_type": "llama"}"#);
        assert!(place.resolve(How::Missing, &wants()));
        place.fetch(SECOND, "[]");
        assert!(!place.resolve(How::Again, &wants()));
        let entry = place.lock().sources["hf:o/m"].clone();
        assert_eq!((entry.revision.as_deref(), entry.config), (Some(SECOND), None));
    }

    #[test]
    fn what_was_pinned_is_one_line() {
        let place = Place::new();
        place.fetch(FIRST, "{}");
        let job = Job { key: "hf:o/m".into(), kind: Kind::Model, old: None };
        let settings = Settings::from_vars(&|name| match name {
            "HF_HUB_CACHE" => Some(place.0.path().display().to_string()),
            "HF_HUB_OFFLINE" => Some("1".into()),
            _ => None,
        });
        let hub = Hub::new(settings.expect("sound")).expect("sound");
        let source = Source::of("hf:o/m").expect("on the hub");
        let mut snapshot = find(&hub, How::Missing, &job, &source).expect("in the cache");
        let entry = Entry { bytes: Some(5 << 30), licence: Some("mit".into()), ..Entry::default() };
        assert_eq!(
            summary(&job, &snapshot, &entry),
            "hf:o/m → 0123456789ab, as the cache has it, 5.0 GiB, mit"
        );
        snapshot.origin = Origin::Hub;
        assert_eq!(summary(&job, &snapshot, &entry), "hf:o/m → 0123456789ab, 2 files, 5.0 GiB, mit");
    }
}
