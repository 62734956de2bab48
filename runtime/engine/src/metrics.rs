//! What a training stage writes about itself: `metrics.jsonl`, and the same for TensorBoard.

use crate::disk;
use crate::error::{EngineError, Result};
use crate::events::{self, EventFile};
use crate::observer::{Answer, Evaluation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes of a line that fit without growing: more than any step has.
const LINE: usize = 1 << 10;

/// One optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepLine {
    pub step: u64,
    pub epoch: f64,
    pub loss: f32,
    pub lr: f64,
    pub grad_norm: f32,
    #[serde(flatten)]
    pub preference: Option<Preference>,
    pub tokens: u64,
    pub trained_tokens: u64,
    pub seconds: f64,
    pub tokens_per_second: f64,
}

/// What a preference loss tells besides its value: means over the pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Preference {
    pub rewards_chosen: f32,
    pub rewards_rejected: f32,
    pub margin: f32,
    pub accuracy: f32,
}

/// How much of the files belongs to the steps before a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    pub metrics_bytes: u64,
    /// Name of the event file.
    pub events: String,
    pub events_bytes: u64,
}

/// Lengths of both files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    metrics_bytes: u64,
    events_bytes: u64,
}

/// Both files, open.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The line that is being written; it keeps its memory from step to step.
    text: Vec<u8>,
    events: EventFile,
}

impl Metrics {
    /// Starts the files of a stage; those of an earlier run that left no checkpoint are removed.
    pub fn create(stage: &Path) -> Result<Self> {
        for path in disk::list(stage)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(events::PREFIX) {
                std::fs::remove_file(&path).map_err(|e| EngineError::io("remove", &path, &e))?;
            }
        }
        let path = stage.join("metrics.jsonl");
        let file = File::create(&path).map_err(|e| EngineError::io("write", &path, &e))?;
        Ok(Metrics {
            path,
            file,
            bytes: 0,
            text: Vec::with_capacity(LINE),
            events: EventFile::create(stage)?,
        })
    }

    /// Goes on with the files; what was written after the marks is removed.
    pub fn resume(stage: &Path, marks: &Marks) -> Result<Self> {
        let path = stage.join("metrics.jsonl");
        let failed = |e: std::io::Error| EngineError::io("write", &path, &e);
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(failed)?;
        let bytes = marks.metrics_bytes.min(file.metadata().map_err(failed)?.len());
        file.set_len(bytes).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let events = stage.join(&marks.events);
        let events = if events.is_file() {
            EventFile::resume(&events, marks.events_bytes)?
        } else {
            EventFile::create(stage)?
        };
        Ok(Metrics { path, file, bytes, text: Vec::with_capacity(LINE), events })
    }

    /// Returns how much has been written.
    pub fn position(&self) -> Position {
        Position { metrics_bytes: self.bytes, events_bytes: self.events.bytes() }
    }

    /// Returns a position as a checkpoint keeps it.
    pub fn marks(&self, position: Position) -> Marks {
        let events = self.events.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Marks { metrics_bytes: position.metrics_bytes, events, events_bytes: position.events_bytes }
    }

    /// Makes everything so far last.
    pub fn sync(&mut self) -> Result<()> {
        self.synced()?.run()
    }

    /// Returns what makes everything so far last, to be run by any thread.
    pub fn synced(&self) -> Result<Synced> {
        let clone = |file: &File, path: &Path| -> Result<(PathBuf, File)> {
            let file = file.try_clone().map_err(|e| EngineError::io("open", path, &e))?;
            Ok((path.to_owned(), file))
        };
        Ok(Synced([clone(&self.file, &self.path)?, clone(self.events.file(), self.events.path())?]))
    }

    /// Adds a step.
    pub fn step(&mut self, line: &StepLine) -> Result<()> {
        self.line(line)?;
        let scalars = [
            ("loss", f64::from(line.loss)),
            ("lr", line.lr),
            ("grad_norm", f64::from(line.grad_norm)),
            ("epoch", line.epoch),
            ("tokens_per_second", line.tokens_per_second),
        ];
        let preference = line.preference.map(|preference| {
            [
                ("rewards_chosen", f64::from(preference.rewards_chosen)),
                ("rewards_rejected", f64::from(preference.rewards_rejected)),
                ("margin", f64::from(preference.margin)),
                ("accuracy", f64::from(preference.accuracy)),
            ]
        });
        self.events.scalars(line.step, scalars.into_iter().chain(preference.into_iter().flatten()))
    }

    /// Adds an evaluation.
    pub fn evaluation(&mut self, step: u64, epoch: f64, evaluation: &Evaluation) -> Result<()> {
        let mut line = json!({ "step": step, "epoch": epoch });
        let figures = figures(evaluation);
        for (name, figure) in &figures {
            line[*name] = json!(figure);
        }
        if !evaluation.parts.is_empty() {
            let figures = |part: &Evaluation| -> Value {
                figures_of(part).map(|(name, figure)| (name.to_owned(), json!(figure))).collect()
            };
            let parts = evaluation.parts.iter().map(|(name, part)| (name.clone(), figures(part)));
            line["parts"] = parts.collect::<Value>();
        }
        self.line(&line)?;
        let tags: Vec<(String, f64)> = figures.iter().map(|(name, x)| (tag(name), *x)).collect();
        self.events.scalars(step, tags.iter().map(|(tag, x)| (tag.as_str(), *x)))
    }

    /// Adds an answered prompt.
    pub fn sample(&mut self, step: u64, epoch: f64, answer: &Answer) -> Result<()> {
        let Answer { prompt, answer, .. } = answer;
        self.line(&json!({ "step": step, "epoch": epoch, "prompt": prompt, "sample": answer }))?;
        self.events.text(step, "sample", &format!("**{prompt}**\n\n{answer}"))
    }

    fn line(&mut self, line: &impl Serialize) -> Result<()> {
        self.text.clear();
        serde_json::to_writer(&mut self.text, line)
            .map_err(|e| EngineError::plan(format!("metrics: {e}")))?;
        self.text.push(b'\n');
        self.file.write_all(&self.text).map_err(|e| EngineError::io("write", &self.path, &e))?;
        self.bytes += self.text.len() as u64;
        Ok(())
    }
}

/// Both files, to be synced.
#[derive(Debug)]
pub struct Synced([(PathBuf, File); 2]);

impl Synced {
    /// Makes what was written last.
    pub fn run(&self) -> Result<()> {
        let sync =
            |(path, file): &(PathBuf, File)| file.sync_data().map_err(|e| EngineError::io("sync", path, &e));
        self.0.iter().try_for_each(sync)
    }
}

fn figures(evaluation: &Evaluation) -> Vec<(&'static str, f64)> {
    figures_of(evaluation).collect()
}

fn figures_of(evaluation: &Evaluation) -> impl Iterator<Item = (&'static str, f64)> {
    let figures = [
        ("eval_loss", Some(evaluation.loss)),
        ("bits_per_byte", evaluation.bits_per_byte),
        ("rewards_chosen", evaluation.rewards_chosen),
        ("rewards_rejected", evaluation.rewards_rejected),
        ("margin", evaluation.margin),
        ("accuracy", evaluation.accuracy),
    ];
    figures.into_iter().filter_map(|(name, figure)| Some((name, figure?)))
}

/// Returns the tag of an evaluation's figure, apart from the figure of the same name in training.
fn tag(name: &str) -> String {
    format!("eval/{}", name.trim_start_matches("eval_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, preference: Option<Preference>) -> StepLine {
        StepLine {
            step,
            epoch: 0.25,
            loss: 3.412,
            lr: 2.4e-5,
            grad_norm: 1.07,
            preference,
            tokens: 64,
            trained_tokens: 61,
            seconds: 0.5,
            tokens_per_second: 128.0,
        }
    }

    fn text(stage: &Path) -> String {
        std::fs::read_to_string(stage.join("metrics.jsonl")).expect("written")
    }

    #[test]
    fn a_line_holds_f32_as_short_numbers() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let mut metrics = Metrics::create(place.path()).expect("created");
        metrics.step(&line(1, None)).expect("written");
        let expected = r#"{"step":1,"epoch":0.25,"loss":3.412,"lr":0.000024,"grad_norm":1.07,"#;
        assert!(text(place.path()).starts_with(expected), "{}", text(place.path()));
    }

    #[test]
    fn evaluations_and_preference_figures_are_named_as_documented() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let mut metrics = Metrics::create(place.path()).expect("created");
        let preference =
            Preference { rewards_chosen: 0.5, rewards_rejected: 0.25, margin: 0.25, accuracy: 1.0 };
        metrics.step(&line(1, Some(preference))).expect("written");
        let part = Evaluation { loss: 2.0, count: 3, ..Evaluation::default() };
        let parts = [("a".to_owned(), part)].into();
        let all = Evaluation { loss: 1.5, bits_per_byte: Some(2.5), parts, ..Evaluation::default() };
        metrics.evaluation(1, 0.5, &all).expect("written");
        let text = text(place.path());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains(r#""rewards_chosen":0.5,"rewards_rejected":0.25,"margin":0.25,"accuracy":1.0"#)
        );
        let evaluation =
            r#"{"step":1,"epoch":0.5,"eval_loss":1.5,"bits_per_byte":2.5,"parts":{"a":{"eval_loss":2.0}}}"#;
        assert_eq!(lines[1], evaluation);
    }

    #[test]
    fn what_follows_the_marks_is_removed_on_resume() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let mut metrics = Metrics::create(place.path()).expect("created");
        metrics.step(&line(1, None)).expect("written");
        metrics.sync().expect("synced");
        let marks = metrics.marks(metrics.position());
        let before = text(place.path());
        metrics.step(&line(2, None)).expect("written");
        drop(metrics);
        let mut metrics = Metrics::resume(place.path(), &marks).expect("resumed");
        assert_eq!(text(place.path()), before);
        assert_eq!(metrics.marks(metrics.position()), marks);
        metrics.step(&line(2, None)).expect("written");
        assert_eq!(text(place.path()).lines().count(), 2);
        let files = disk::list(place.path()).expect("listed");
        assert_eq!(files.len(), 2, "{files:?}");
    }
}
