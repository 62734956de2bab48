//! What all commands share towards the user: colour, how much is said, wrong use.
//!
//! Results go to stdout, everything else to stderr.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

/// How much a command says beside its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// Results and errors only.
    Quiet,
    Normal,
    /// Also what was looked at.
    Verbose,
}

/// Set once, before a command starts: like colour, it is one for the whole process.
static VOLUME: OnceLock<Volume> = OnceLock::new();

/// Sets colour and volume for the process.
pub fn set(color: Color, volume: Volume) {
    match color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    VOLUME.get_or_init(|| volume);
}

/// Returns how much is to be said.
pub fn volume() -> Volume {
    VOLUME.get().copied().unwrap_or(Volume::Normal)
}

/// Says a line on standard error. Where nobody listens, as in `… 2>&1 | head`, the work goes on without.
pub fn say(line: impl Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Says what is asked of the user, who answers on the same line.
pub fn ask(question: impl Display) {
    let _ = write!(anstream::stderr(), "{question}");
}

/// Says something beside the result, unless the user wants quiet.
pub fn note(text: &str) {
    if volume() != Volume::Quiet {
        say(format_args!("note: {text}"));
    }
}

/// Says what happens, when the user wants to know.
pub fn detail(text: impl FnOnce() -> String) {
    if volume() == Volume::Verbose {
        say(format_args!("  {}", text()));
    }
}

/// Reports wrong use of the command.
pub fn wrong_use(message: &str) -> ExitCode {
    say(format_args!("error: {message}"));
    ExitCode::from(2)
}

/// Reports that a command could not do its work.
pub fn failure(message: &str) -> ExitCode {
    say(format_args!("error: {message}"));
    ExitCode::FAILURE
}

/// Writes a result to standard output: a closed pipe, as of `… | head`, is no failure.
///
/// # Errors
/// Fails, in words for the user, when standard output takes nothing, as on a full disk.
pub fn result(text: &str) -> Result<(), String> {
    unless_closed(write(text))
}

/// Writes all of a command's result, as [`result`], and returns its exit code.
pub fn print(text: &str) -> ExitCode {
    written(write(text))
}

/// Turns the outcome of writing a result into an exit code: a closed pipe is no failure.
pub fn written(outcome: io::Result<()>) -> ExitCode {
    unless_closed(outcome).map_or_else(|message| failure(&message), |()| ExitCode::SUCCESS)
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn unless_closed(outcome: io::Result<()>) -> Result<(), String> {
    match outcome {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns whether standard output takes colour.
pub fn color_stdout() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Returns whether standard error takes colour.
pub fn color_stderr() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}
