//! The parent process: starts a worker for each target, starts another when one dies, and sums up.

use crate::outcome::Finding;
use crate::random::hash;
use crate::targets::Target;
use crate::worker::{CURRENT, Job, save};
use std::io::{BufRead, BufReader, Error, Result};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How many dead workers of one target are replaced.
const DEATHS: usize = 20;

/// What the runs of one target came to.
#[derive(Debug, Default)]
pub struct Summary {
    pub inputs: u64,
    pub features: u64,
    pub time: Duration,
    pub findings: Vec<String>,
}

/// Runs a job in a process of its own, or several when the first dies.
pub fn supervise(job: &Job) -> Result<Summary> {
    let (start, mut summary, mut skip) = (Instant::now(), Summary::default(), Vec::new());
    for death in 0..DEATHS {
        let left = Job {
            seed: job.seed.wrapping_add(death as u64),
            inputs: job.inputs.saturating_sub(summary.inputs),
            time: job.time.saturating_sub(start.elapsed()),
            skip: skip.clone(),
            ..job.clone()
        };
        if left.inputs == 0 || left.time.is_zero() {
            break;
        }
        match one(&left, &mut summary)? {
            None => break,
            Some(input) => skip.push(hash(&input)),
        }
    }
    summary.time = start.elapsed();
    Ok(summary)
}

/// Runs one worker to its end; returns the input that it died of.
fn one(job: &Job, summary: &mut Summary) -> Result<Option<Vec<u8>>> {
    let errors = std::fs::File::create(job.scratch.join("errors"))?;
    let mut child = command(job)?.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn()?;
    let output = child.stdout.take().ok_or_else(|| Error::other("the worker has no output"))?;
    let (mut count, mut finished, mut hangs) = (0, false, false);
    for line in BufReader::new(output).lines() {
        let line = line?;
        let parts: Vec<&str> = line.split('\t').collect();
        match parts[..] {
            ["at", number] => count = number.parse().map_err(Error::other)?,
            ["finding", signature, path] => tell(summary, job.target, signature, path),
            ["hangs"] => hangs = true,
            ["done", number, features, _] => {
                count = number.parse().map_err(Error::other)?;
                summary.features = features.parse().map_err(Error::other)?;
                finished = true;
            }
            _ => return Err(Error::other(format!("the worker says `{line}`"))),
        }
    }
    let status = child.wait()?;
    summary.inputs += count;
    if finished {
        return Ok(None);
    }
    let input = std::fs::read(job.scratch.join(CURRENT))?;
    let said = std::fs::read_to_string(job.scratch.join("errors"))?;
    let signature = match (hangs, said.contains("overflowed its stack")) {
        (true, _) => "hangs".to_owned(),
        (false, true) => "stack overflow".to_owned(),
        (false, false) => format!("the process ended: {status}"),
    };
    let path = save(&job.save, job.target, &input, &Finding::new(signature.clone(), said))?;
    tell(summary, job.target, &signature, &path.display().to_string());
    Ok(Some(input))
}

fn tell(summary: &mut Summary, target: Target, signature: &str, path: &str) {
    let finding = format!("{}: {signature}: {path}", target.name());
    println!("{finding}");
    summary.findings.push(finding);
}

fn command(job: &Job) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--worker").args(["--target", job.target.name()]).args(["--seed", &job.seed.to_string()]);
    command.args(["--inputs", &job.inputs.to_string(), "--seconds", &job.time.as_secs_f64().to_string()]);
    command.args(["--limit", &job.limit.as_secs_f64().to_string()]);
    command.arg("--scratch").arg(&job.scratch).arg("--save").arg(&job.save).arg("--corpus").arg(&job.corpus);
    if job.grow {
        command.arg("--grow");
    }
    command.args(job.skip.iter().map(|hash| format!("--skip={hash}")));
    Ok(command)
}
