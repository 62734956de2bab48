//! Rounds: this program and its peers take turns at the same work, each in a process of its own.
//!
//! A machine drifts, so only what ran in turns is compared, and only by medians. A peer is any command that
//! prints a JSON line with its speed; what it does is the business of whoever names it.

use super::busy::{BUSY, Clock};
use super::{load, print, spread};
use crate::terminal;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// How a benchmark is repeated.
#[derive(Debug, clap::Args)]
pub struct Rounds {
    /// Measure so often, each time in a process of its own; 5 beside a peer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Measure in turns with an external command that prints a JSON line with `tokens_per_s`; may be repeated
    #[arg(long, value_name = "COMMAND")]
    peer: Vec<String>,
    /// Be one round of those
    #[arg(long, hide = true)]
    round: bool,
}

/// Fields in which a line may tell the tokens of a second.
const SPEED: [&str; 3] = ["tokens_per_s", "tokens_per_s_median", "new_tokens_per_s_median"];

/// Fields in which a line may tell the most memory that was resident, and their unit in bytes.
const MEMORY: [(&str, f64); 2] = [("peak_rss_bytes", 1.0), ("peak_rss_MiB", (1 << 20) as f64)];

/// Fields of our own lines that say what was measured.
const WORK: [&str; 11] = [
    "bench",
    "config",
    "precision",
    "seq",
    "batch",
    "threads",
    "trained_parameters",
    "prompt_tokens",
    "prompts_shared",
    "prompt",
    "tokens",
];

/// Fields of our own lines whose spread is told too.
const OURS: [&str; 4] = ["share_of_peak", "share_of_bandwidth", "peak_f32_gflops", "peak_bf16_gflops"];

impl Rounds {
    /// Returns whether this process has rounds to start, and is not one of them.
    pub fn are_wanted(&self) -> bool {
        !self.round && (self.rounds.is_some() || !self.peer.is_empty())
    }

    /// Runs all rounds; prints a line for each run, then one for each peer.
    pub fn run(&self) -> Result<(), String> {
        const BESIDE_A_PEER: u64 = 5;
        let programs = || std::iter::once(Program::Ours).chain(self.peer.iter().map(Program::Peer));
        let mut runs: Vec<Vec<Ran>> = programs().map(|_| Vec::new()).collect();
        for round in 1..=self.rounds.unwrap_or(BESIDE_A_PEER) {
            for (program, runs) in programs().zip(&mut runs) {
                let ran = program.measure()?;
                print(&ran.line(round, program.name()))?;
                runs.push(ran);
            }
        }
        let (ours, peers) = runs.split_first().expect("ours is always there");
        if peers.is_empty() {
            print(&compared(ours, None))?;
        }
        for (command, peer) in self.peer.iter().zip(peers) {
            print(&compared(ours, Some((command, peer))))?;
        }
        warn(runs.iter().flatten());
        Ok(())
    }
}

/// Who takes a turn.
#[derive(Clone, Copy)]
enum Program<'a> {
    Ours,
    Peer(&'a String),
}

/// A turn.
struct Ran {
    /// Programs at work in the minute before.
    load: Option<f64>,
    /// Cores that others had meanwhile.
    others: Option<f64>,
    lines: Vec<Value>,
    tokens_per_s: f64,
    peak_rss_bytes: Option<f64>,
}

impl Program<'_> {
    fn name(&self) -> &str {
        match self {
            Program::Ours => "adapt",
            Program::Peer(command) => command,
        }
    }

    fn command(&self) -> Result<Command, String> {
        match self {
            // The same arguments again, so that nothing can differ.
            Program::Ours => {
                let path = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
                let mut command = Command::new(path);
                command.args(std::env::args_os().skip(1)).arg("--round");
                Ok(command)
            }
            Program::Peer(line) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(line);
                Ok(command)
            }
        }
    }

    fn measure(&self) -> Result<Ran, String> {
        let load = load();
        let before = Clock::now();
        let mut command = self.command()?;
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("`{}` does not start: {error}", self.name()))?;
        if !output.status.success() {
            return Err(format!("`{}` failed: {}", self.name(), output.status));
        }
        let others = Clock::now().zip(before).and_then(|(now, before)| now.others_since(before));
        let ran = Ran::read(&String::from_utf8_lossy(&output.stdout), load, others);
        ran.ok_or_else(|| format!("`{}` printed no JSON line with `{}` above 0", self.name(), SPEED[0]))
    }
}

impl Ran {
    /// Takes the last line with a speed; returns nothing where there is none.
    fn read(output: &str, load: Option<f64>, others: Option<f64>) -> Option<Ran> {
        let lines: Vec<Value> = output
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(Value::is_object)
            .collect();
        let speed = |line: &Value| SPEED.iter().find_map(|field| line[field].as_f64());
        let (line, tokens_per_s) = lines.iter().rev().find_map(|line| Some((line, speed(line)?)))?;
        let memory = MEMORY.iter().find_map(|(field, unit)| Some(line[field].as_f64()? * unit));
        let found = tokens_per_s > 0.0 && tokens_per_s.is_finite();
        found.then(|| Ran { load, others, tokens_per_s, peak_rss_bytes: memory, lines: lines.clone() })
    }

    fn line(&self, round: u64, name: &str) -> Value {
        json!({
            "bench": "round",
            "round": round,
            "program": name,
            "load": self.load,
            "others_cores": self.others,
            "tokens_per_s": self.tokens_per_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "lines": self.lines,
        })
    }

    /// Returns what was measured.
    fn work(&self) -> Value {
        let line = self.lines.last();
        let told = WORK.iter().filter_map(|&field| Some((field.to_owned(), line?.get(field)?.clone())));
        told.collect()
    }

    /// Returns a number of any of its lines.
    fn field(&self, name: &str) -> Option<f64> {
        self.lines.iter().find_map(|line| line[name].as_f64())
    }

    fn is_of_busy_machine(&self) -> bool {
        self.others.is_some_and(|others| others > BUSY)
    }
}

/// Returns the line of all rounds, ours alone or beside a peer's.
fn compared(ours: &[Ran], peer: Option<(&String, &[Ran])>) -> Value {
    let runs = || ours.iter().chain(peer.into_iter().flat_map(|(_, runs)| runs));
    let mut line = json!({
        "bench": "rounds",
        "work": ours.last().map(Ran::work),
        "rounds": ours.len(),
        "peer": peer.map(|(command, _)| command),
        "tokens_per_s": ratio(ours, peer, |ran| Some(ran.tokens_per_s)),
        "peak_rss_bytes": ratio(ours, peer, |ran| ran.peak_rss_bytes),
        "busy": runs().any(Ran::is_of_busy_machine),
    });
    for field in OURS {
        let spread = spread_of(ours, |ran| ran.field(field));
        if !spread.is_null() {
            line[field] = spread;
        }
    }
    line
}

/// Returns the spreads of a figure, and ours in the median as a multiple of the peer's.
fn ratio(ours: &[Ran], peer: Option<(&String, &[Ran])>, figure: fn(&Ran) -> Option<f64>) -> Value {
    let mut both = json!({ "adapt": spread_of(ours, figure) });
    if let Some((_, peer)) = peer {
        both["peer"] = spread_of(peer, figure);
        let medians = both["adapt"]["median"].as_f64().zip(both["peer"]["median"].as_f64());
        both["ratio"] = json!(medians.map(|(ours, peer)| ours / peer));
    }
    both
}

/// Returns the spread of a figure; nothing where a run lacks it.
fn spread_of(runs: &[Ran], figure: impl Fn(&Ran) -> Option<f64>) -> Value {
    let numbers = runs.iter().map(figure).collect::<Option<Vec<f64>>>();
    numbers.map_or(Value::Null, |numbers| spread(&numbers))
}

/// Says when the machine had other work.
fn warn<'r>(runs: impl Iterator<Item = &'r Ran>) {
    let most = runs.filter(|ran| ran.is_of_busy_machine()).filter_map(|ran| ran.others).fold(0.0, f64::max);
    if most > 0.0 {
        terminal::note(&format!(
            "the machine was busy: other programs had up to {most:.1} cores, so these figures are no comparison"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(output: &str) -> Option<Ran> {
        Ran::read(output, None, None)
    }

    #[test]
    fn the_last_line_with_a_speed_counts() {
        let found =
            ran("hello\n{\"tokens_per_s\": 3}\n[4]\n{\"tokens_per_s_median\": 5, \"peak_rss_MiB\": 2}\n{}\n");
        let found = found.unwrap();
        assert_eq!((found.tokens_per_s, found.peak_rss_bytes), (5.0, Some(2_097_152.0)));
        assert_eq!(ran("{\"new_tokens_per_s_median\": 1.5}").unwrap().tokens_per_s, 1.5);
        for nothing in ["", "{}", "{\"tokens_per_s\": \"9\"}", "{\"tokens_per_s\": 0}", "tokens_per_s 9"] {
            assert!(ran(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn medians_are_compared_and_spreads_stand_beside_them() {
        let runs = |lines: [&str; 3]| lines.map(|line| ran(line).unwrap());
        let ours = runs([
            "{\"tokens_per_s\": 30, \"peak_rss_bytes\": 10}",
            "{\"tokens_per_s\": 90, \"peak_rss_bytes\": 20}",
            "{\"tokens_per_s\": 20, \"peak_rss_bytes\": 10, \"share_of_peak\": 0.5}",
        ]);
        let peer = runs(["{\"tokens_per_s\": 10}", "{\"tokens_per_s\": 12}", "{\"tokens_per_s\": 40}"]);
        let line = compared(&ours, Some((&"other".to_owned(), &peer)));
        assert_eq!(line["tokens_per_s"]["adapt"], json!({ "median": 30.0, "min": 20.0, "max": 90.0 }));
        assert_eq!(line["tokens_per_s"]["peer"], json!({ "median": 12.0, "min": 10.0, "max": 40.0 }));
        assert_eq!(line["tokens_per_s"]["ratio"], 2.5);
        assert_eq!(line["peak_rss_bytes"]["adapt"]["median"], 10.0);
        // What one run does not tell is not compared.
        assert_eq!(line["peak_rss_bytes"]["ratio"], Value::Null);
        assert_eq!(line.get("share_of_peak"), None);
    }
}
