//! `adapt fmt`: recipes in their one form, written in place, checked or shown as a patch.

use crate::diagnostics::{self, Format, Found};
use crate::rounds::Request;
use crate::terminal::{self, Volume};
use lang::diagnostic::Diagnostic;
use lang::source::{Source, SourceKind};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Write recipes in their one form; comments stay
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt fmt recipe.kdl                 in place, when it changes
  adapt fmt recipes                    every recipe of a folder
  adapt fmt --check recipes            fail when one is not formatted
  adapt fmt --diff recipe.kdl          what would change, as a patch
  adapt fmt - < recipe.kdl             to standard output")]
pub struct Args {
    /// Recipes, and folders to look for them in; `-` formats standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Change nothing: list what is not formatted, and fail if anything is not
    #[arg(long)]
    check: bool,
    /// Change nothing: print the changes as a patch
    #[arg(long)]
    diff: bool,
    /// How to write diagnostics
    #[arg(long, value_enum, default_value_t = Format::Full)]
    format: Format,
}

/// Why a file was not formatted.
#[derive(Debug)]
enum Failure {
    /// It cannot be read or written; a line for the user.
    Disk(String),
    /// It is not a text that can be formatted.
    Broken(Vec<Diagnostic>, Source),
}

/// Formats every file, also those after a broken one.
pub fn run(args: &Args) -> ExitCode {
    let quiet = terminal::volume() == Volume::Quiet;
    let files = match find(&args.files) {
        Ok(files) => files,
        Err(message) => return terminal::wrong_use(&message),
    };
    let (mut broken, mut failed) = (Vec::new(), false);
    let mut out = io::stdout().lock();
    for file in &files {
        match one(args, file, quiet, &mut out) {
            Ok(changed) => failed |= changed && args.check,
            Err(Failure::Disk(message)) => {
                terminal::say(format_args!("error: {message}"));
                failed = true;
            }
            Err(Failure::Broken(diagnostics, source)) => broken.push((diagnostics, [source])),
        }
    }
    report(&broken, args.format);
    if failed || !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints what is wrong with files to stderr, since stdout may be the formatted text.
fn report(broken: &[(Vec<Diagnostic>, [Source; 1])], format: Format) {
    if broken.is_empty() {
        return;
    }
    let found: Vec<Found> =
        broken.iter().map(|(diagnostics, sources)| Found { diagnostics, sources }).collect();
    // Nothing can be said when stderr is closed; the exit code still tells.
    let _ = diagnostics::print(&found, format, terminal::color_stderr(), &mut io::stderr().lock());
}

/// Formats one file, or says on `out` what would change; returns whether anything does.
fn one(args: &Args, file: &str, quiet: bool, out: &mut dyn Write) -> Result<bool, Failure> {
    let request = Request::read(file, &[], None).map_err(Failure::Disk)?;
    let formatted = formatted(&request)?;
    let old = &request.text;
    let changed = *old != formatted;
    let written = match (args.diff, args.check, file) {
        (true, _, _) => {
            // A patch of a recipe with a secret in it does not apply, but shows it to nobody.
            let mask = lang::syntax::mask;
            out.write_all(lang::format::diff(&mask(old), &mask(&formatted), file).as_bytes())
        }
        (false, true, _) if changed => writeln!(out, "{file}"),
        (false, false, "-") => out.write_all(formatted.as_bytes()),
        (false, false, _) if changed => {
            let replaced = replace(Path::new(file), &formatted);
            replaced.map_err(|error| Failure::Disk(format!("{file}: {error}")))?;
            if quiet { Ok(()) } else { writeln!(out, "{file}: formatted") }
        }
        (false, _, _) => Ok(()),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Disk(format!("standard output: {error}")))
        }
        // A closed pipe is the reader's choice.
        Ok(()) | Err(_) => Ok(changed),
    }
}

fn formatted(request: &Request) -> Result<String, Failure> {
    if let Some(bytes) = &request.not_utf8 {
        let checked = lang::not_utf8(&request.path, bytes);
        let source = checked.sources.into_iter().next().expect("it reports a place in the recipe");
        return Err(Failure::Broken(checked.diagnostics, source));
    }
    lang::format::format(&request.text).map_err(|refused| {
        let text = lang::syntax::mask(&request.text);
        let source = Source { path: request.path.clone(), kind: SourceKind::Recipe, text };
        Failure::Broken(refused.diagnostics, source)
    })
}

/// Returns the files that are meant, folders replaced by the recipes in them.
///
/// # Errors
/// Fails, with a line for the user, when something does not exist or a folder holds no recipe.
fn find(named: &[String]) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    for name in named {
        let path = Path::new(name);
        if name == "-" || !fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.is_dir() {
            files.push(name.clone());
            continue;
        }
        let known = files.len();
        walk(path, &mut files).map_err(|error| format!("{name}: {error}"))?;
        if files.len() == known {
            return Err(format!("{name}: no `.kdl` file in this folder"));
        }
    }
    Ok(files)
}

/// Adds the recipes in a folder and the folders in it, by name.
///
/// Hidden folders are left out, and folders of runs: what they hold is a record.
fn walk(folder: &Path, files: &mut Vec<String>) -> io::Result<()> {
    if folder.join("resolved.kdl").exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // What a link to a folder leads to may lie elsewhere, or around it.
        if entry.file_type()?.is_dir() {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                walk(&path, files)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "kdl") && path.is_file() {
            files.push(path.display().to_string());
        }
    }
    Ok(())
}

/// Puts a text in place of a file's, which is there as a whole at every moment.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays one; what it leads to is replaced.
    let path = fs::canonicalize(path)?;
    let permissions = fs::metadata(&path)?.permissions();
    if permissions.readonly() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is read-only"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_whole(&temporary, text)
        .and_then(|()| fs::set_permissions(&temporary, permissions))
        .and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use tempfile::TempDir;

    /// A folder with recipes: one formatted, one not, one broken, and what is left alone.
    fn folder() -> TempDir {
        let folder = TempDir::new().expect("a folder can be made");
        let write = |name: &str, text: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("it stands in a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("good.kdl", b"adapt 1\n");
        write("deep/loose.kdl", b"adapt   1 // x\r\n");
        write("broken.kdl", b"adapt {\n");
        write("bytes.kdl", b"adapt \xff\n");
        write("notes.txt", b"a   b");
        write(".hidden/x.kdl", b"a   b");
        write("runs/a/resolved.kdl", b"a   b");
        write("runs/a/recipe.kdl", b"a   b");
        folder
    }

    fn args(folder: &TempDir, options: &[&str]) -> Args {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            args: Args,
        }
        let folder = folder.path().display().to_string();
        let words = ["fmt", &folder].into_iter().chain(options.iter().copied());
        <Only as clap::Parser>::parse_from(words).args
    }

    /// Formats the good files of a folder; returns what is printed, and how many change.
    fn format_good(args: &Args) -> (String, usize) {
        let (mut out, mut changed, mut broken) = (Vec::new(), 0, 0);
        for file in find(&args.files).expect("the folder is there") {
            match one(args, &file, false, &mut out) {
                Ok(does) => changed += usize::from(does),
                Err(Failure::Broken(diagnostics, _)) => broken += usize::from(!diagnostics.is_empty()),
                Err(Failure::Disk(message)) => panic!("{message}"),
            }
        }
        assert_eq!(broken, 2);
        (String::from_utf8(out).expect("UTF-8").replace(&args.files[0], "DIR"), changed)
    }

    fn loose(folder: &TempDir) -> PathBuf {
        folder.path().join("deep/loose.kdl")
    }

    #[test]
    fn recipes_of_a_folder_are_written_in_place_once() {
        let folder = folder();
        let all = args(&folder, &[]);
        assert_eq!(format_good(&all), ("DIR/deep/loose.kdl: formatted\n".into(), 1));
        assert_eq!(fs::read_to_string(loose(&folder)).expect("it is there"), "adapt 1 // x\n");
        assert_eq!(format_good(&all), (String::new(), 0));
        let left = fs::read_to_string(folder.path().join("runs/a/recipe.kdl"));
        assert_eq!(left.expect("it is there"), "a   b");
        let names = fs::read_dir(folder.path().join("deep")).expect("it is there");
        assert_eq!(names.count(), 1, "no temporary file is left");
    }

    #[test]
    fn check_and_diff_change_nothing() {
        let folder = folder();
        assert_eq!(format_good(&args(&folder, &["--check"])), ("DIR/deep/loose.kdl\n".into(), 1));
        let (patch, changed) = format_good(&args(&folder, &["--diff"]));
        assert_eq!(changed, 1);
        assert!(patch.contains("-adapt   1 // x\r\n+adapt 1 // x\n"), "{patch}");
        assert_eq!(fs::read(loose(&folder)).expect("it is there"), b"adapt   1 // x\r\n");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_and_links_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = folder();
        let (file, link) = (loose(&folder), folder.path().join("link.kdl"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        symlink(&file, &link).expect("linked");
        replace(&link, "adapt 1\n").expect("replaced");
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert_eq!(fs::read_to_string(&file).expect("it is there"), "adapt 1\n");
        assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o640);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).expect("set");
        assert!(replace(&file, "adapt   1\n").is_err());
    }

    #[test]
    fn what_does_not_exist_is_found_before_anything_is_written() {
        let folder = folder();
        let missing = folder.path().join("missing.kdl").display().to_string();
        assert!(find(&[loose(&folder).display().to_string(), missing]).is_err());
        assert!(find(&[folder.path().join("runs").display().to_string()]).is_err());
    }
}
