//! `adapt explain CODE`: what a diagnostic means, why it matters, an example that fails and one that passes.

use std::io::{self, Write};
use std::process::ExitCode;

/// Explain a diagnostic
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Code of the diagnostic, such as `unknown-option`; without it all codes are listed
    pub code: Option<String>,
}

/// Prints the page of a code, or the list of all codes.
pub fn run(args: &Args) -> ExitCode {
    let mut out = io::stdout().lock();
    let written = match &args.code {
        None => list(&mut out),
        Some(code) => match stdlib::pages::find(code) {
            Some(page) => out.write_all(page.as_bytes()),
            None => return unknown(code),
        },
    };
    // A closed pipe, as of `adapt explain | head`, is no failure.
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn list(out: &mut dyn Write) -> io::Result<()> {
    for (code, page) in stdlib::pages::PAGES {
        writeln!(out, "{code:<26} {}", stdlib::pages::summary(page))?;
    }
    Ok(())
}

/// A code that does not exist is wrong use.
fn unknown(code: &str) -> ExitCode {
    let near = lang::nearest(code, stdlib::pages::PAGES.iter().map(|(code, _)| *code));
    let help = near
        .map_or("run `adapt explain` to list all codes".to_owned(), |near| format!("did you mean `{near}`?"));
    eprintln!("error: there is no diagnostic `{code}`; {help}");
    ExitCode::from(2)
}
