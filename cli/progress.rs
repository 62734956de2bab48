//! Shows a run while it runs: bars on a terminal, plain lines elsewhere. All of it goes to stderr.

use crate::terminal::{self, Volume};
use crate::text;
use engine::observer::{Answer, Evaluation, Observer, StepReport};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two lines about steps where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Follows a run for a person.
pub struct Progress {
    volume: Volume,
    terminal: bool,
    bar: Option<ProgressBar>,
    last_line: Instant,
    last_verb: String,
}

impl Progress {
    /// Makes one; quiet leaves only errors, verbose gives every step a line where there is no terminal.
    pub fn new(volume: Volume) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Progress { volume, terminal, bar: None, last_line: Instant::now(), last_verb: String::new() }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            _ if self.volume == Volume::Quiet => {}
            Some(bar) if self.terminal => bar.println(line),
            _ => terminal::say(line),
        }
    }

    fn bar(&mut self, task: &str, total: Option<u64>) -> Option<&ProgressBar> {
        if self.volume == Volume::Quiet || !self.terminal {
            return None;
        }
        if self.bar.is_none() {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            let style = if total.is_some() {
                ProgressStyle::with_template("  {prefix:<12} {bar:30} {pos}/{len} {msg}")
            } else {
                ProgressStyle::with_template("  {prefix:<12} {spinner} {pos} {msg}")
            };
            bar.set_style(style.expect("the templates are correct"));
            bar.set_prefix(task.to_owned());
            self.bar = Some(bar);
        }
        self.bar.as_ref()
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Whether a line about progress is due where there is no terminal.
    fn due(&mut self, last: bool) -> bool {
        let always = last || self.volume == Volume::Verbose;
        let due = !self.terminal && (always || self.last_line.elapsed() >= LINE_INTERVAL);
        if due {
            self.last_line = Instant::now();
        }
        due
    }
}

/// Returns the figures of an evaluation in words.
pub fn figures(evaluation: &Evaluation) -> String {
    let mut parts = vec![format!("loss {:.4}", evaluation.loss)];
    if let Some(bits) = evaluation.bits_per_byte {
        parts.push(format!("{bits:.3} bits per byte"));
    }
    if let Some(accuracy) = evaluation.accuracy {
        parts.push(format!("accuracy {:.1} %", 100.0 * accuracy));
    }
    if let Some(margin) = evaluation.margin {
        parts.push(format!("margin {margin:.3}"));
    }
    parts.join(", ")
}

impl Observer for Progress {
    fn task_started(&mut self, task: &str, resumed: Option<u64>) {
        self.clear();
        self.last_verb.clear();
        let from = resumed.map_or(String::new(), |step| format!(" (continues after step {step})"));
        self.line(&format!("{task}{from}"));
    }

    fn task_done(&mut self, task: &str, already: bool) {
        self.clear();
        if already {
            self.line(&format!("{task}: done before"));
        }
    }

    fn progress(&mut self, task: &str, verb: &str, done: u64, total: Option<u64>) {
        if self.last_verb != verb {
            self.clear();
            verb.clone_into(&mut self.last_verb);
        }
        if let Some(bar) = self.bar(task, total) {
            bar.set_message(verb.to_owned());
            bar.set_position(done);
        } else if self.due(false) {
            let of = total.map_or(String::new(), |total| format!(" of {}", text::count(total)));
            self.line(&format!("  {task}: {verb}, {}{of}", text::count(done)));
        }
    }

    fn step(&mut self, task: &str, report: &StepReport) {
        if self.last_verb != "steps" {
            self.clear();
            "steps".clone_into(&mut self.last_verb);
        }
        let speed = report.tokens as f64 / report.seconds.max(1e-9);
        let message = format!(
            "loss {:.4}, {} tokens/s, {} left",
            report.loss,
            text::count(speed as u64),
            text::seconds(report.eta)
        );
        if let Some(bar) = self.bar(task, Some(report.steps)) {
            bar.set_message(message);
            bar.set_position(report.step);
        } else if self.due(report.step == report.steps) {
            self.line(&format!("  {task}: step {} of {}, {message}", report.step, report.steps));
        }
    }

    fn evaluated(&mut self, task: &str, step: u64, evaluation: &Evaluation) {
        self.line(&format!("  {task}: held-out rows after step {step}: {}", figures(evaluation)));
        for (name, part) in &evaluation.parts {
            self.line(&format!("    {name}: {}", figures(part)));
        }
    }

    fn sampled(&mut self, task: &str, step: u64, answers: &[Answer]) {
        for answer in answers {
            self.line(&format!("  {task}, after step {step}: {}", one_line(&answer.prompt)));
            self.line(&format!("    → {}", one_line(&answer.answer)));
        }
    }

    fn checkpoint(&mut self, task: &str, step: u64) {
        self.line(&format!("  {task}: checkpoint after step {step}"));
    }

    fn note(&mut self, task: &str, note: &str) {
        self.line(&format!("  {task}: {note}"));
    }
}

/// Shows control characters and line ends of a model's answer without obeying them.
pub fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { '␤' } else { c }).collect()
}
