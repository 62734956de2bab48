//! What all commands share towards the user: colour, how much is said, wrong use.
//!
//! Results go to stdout, everything else to stderr.

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

/// Says something beside the result, unless the user wants quiet.
pub fn note(text: &str) {
    if volume() != Volume::Quiet {
        anstream::eprintln!("note: {text}");
    }
}

/// Says what happens, when the user wants to know.
pub fn detail(text: impl FnOnce() -> String) {
    if volume() == Volume::Verbose {
        anstream::eprintln!("  {}", text());
    }
}

/// Reports wrong use of the command.
pub fn wrong_use(message: &str) -> ExitCode {
    anstream::eprintln!("error: {message}");
    ExitCode::from(2)
}

/// Turns the outcome of writing a result into an exit code: a closed pipe, as of `… | head`, is no failure.
pub fn written(outcome: std::io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether standard output takes colour.
pub fn color_stdout() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Returns whether standard error takes colour.
pub fn color_stderr() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}
