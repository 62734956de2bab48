//! `adapt import FILE.yml`: YAML of other tools to a recipe, with an account of every key.
//!
//! The recipe goes to standard output or a file, the account to standard error. A file that cannot
//! become a recipe is refused at its place.

use crate::diagnostics::{self, Format, Found};
use crate::terminal::{self, Volume};
use ::import::{Imported, Problem};
use lang::diagnostic::Diagnostic;
use lang::source::{Source, SourceId, SourceKind, Span};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Turn YAML of axolotl, alignment-handbook, LitGPT or mergekit into a recipe
///
/// Every key of the file is accounted for: carried over, changed, without a counterpart and why, or
/// unknown to that tool too. Paths in the recipe are those of the file; they count from the recipe's folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt import qlora.yml                   the recipe to standard output, the account to standard error
  adapt import qlora.yml -o qlora.kdl      to a file that does not exist yet
  adapt import -q merge.yml | adapt check -")]
pub struct Args {
    /// YAML file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Write the recipe to a file
    #[arg(short, long, value_name = "RECIPE")]
    pub out: Option<PathBuf>,
    /// Overwrite the file if it exists
    #[arg(long, requires = "out")]
    pub force: bool,
    /// How to write why a file is refused
    #[arg(long, value_enum, default_value_t = Format::Full)]
    pub format: Format,
}

/// Imports a file; with `--quiet` the account is left out.
pub fn run(args: &Args) -> ExitCode {
    let bytes = match read(&args.file) {
        Ok(bytes) => bytes,
        Err(error) => return terminal::wrong_use(&format!("`{}` cannot be read: {error}", args.file)),
    };
    // Bytes that are no text are shown as such; the importer says where they are.
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return not_text(args, &error),
    };
    match ::import::import(&text, &args.file) {
        Ok(imported) => write(args, &imported),
        Err(problems) => refuse(args, &text, &problems),
    }
}

/// Reads at most a little more than the importer takes, so that a huge file is refused, not loaded.
fn read(file: &str) -> io::Result<Vec<u8>> {
    const ENOUGH: u64 = (1 << 20) + 1;
    let mut bytes = Vec::new();
    match file {
        "-" => io::stdin().lock().take(ENOUGH).read_to_end(&mut bytes)?,
        path => fs::File::open(path)?.take(ENOUGH).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

fn write(args: &Args, imported: &Imported) -> ExitCode {
    match &args.out {
        None => {
            if let Err(message) = terminal::result(&imported.recipe) {
                return terminal::failure(&message);
            }
        }
        Some(path) => {
            if let Err(error) = write_file(path, &imported.recipe, args.force) {
                let path = path.display();
                return terminal::wrong_use(&match error.kind() {
                    io::ErrorKind::AlreadyExists => format!("`{path}` exists; `--force` overwrites it"),
                    _ => format!("`{path}` cannot be written: {error}"),
                });
            }
        }
    }
    if terminal::volume() != Volume::Quiet {
        let name = imported.dialect.name();
        terminal::say(format_args!("{}: {} keys of {name}", args.file, imported.report.len()));
        if !imported.report.is_empty() {
            terminal::say(::import::render(&imported.report).trim_end());
        }
    }
    for need in &imported.needs {
        terminal::say(format_args!("before it runs: {need}"));
    }
    ExitCode::SUCCESS
}

/// Writes a file that must not exist unless `force` says so.
fn write_file(path: &Path, recipe: &str, force: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    let mut file = if force {
        options.create(true).truncate(true).open(path)?
    } else {
        options.create_new(true).open(path)?
    };
    file.write_all(recipe.as_bytes())
}

fn refuse(args: &Args, text: &str, problems: &[Problem]) -> ExitCode {
    let found: Vec<Diagnostic> = problems
        .iter()
        .map(|problem| {
            let at = Span { source: SourceId(0), start: problem.start, end: problem.end };
            Diagnostic::error(problem.code, problem.message.as_str(), at, "").with_help(problem.help.as_str())
        })
        .collect();
    report(args, text, &found)
}

fn not_text(args: &Args, error: &std::string::FromUtf8Error) -> ExitCode {
    let valid = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
    let at = Span { source: SourceId(0), start: valid as u32, end: valid as u32 };
    let found =
        Diagnostic::error("not-utf8", "the file is not UTF-8 text", at, "the first byte that is none")
            .with_help("save the file as UTF-8");
    report(args, &text, &[found])
}

/// Writes diagnostics about the file to standard error.
fn report(args: &Args, text: &str, found: &[Diagnostic]) -> ExitCode {
    let text = lang::syntax::mask(text);
    let source = Source { path: args.file.clone(), kind: SourceKind::Recipe, text };
    let found = Found { diagnostics: found, sources: &[source] };
    let mut out = io::stderr().lock();
    // Nothing can be said when stderr is closed; the exit code still tells.
    let _ = diagnostics::print(&[found], args.format, terminal::color_stderr(), &mut out);
    ExitCode::FAILURE
}
