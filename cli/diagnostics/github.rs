//! Workflow commands of GitHub Actions: each diagnostic becomes an annotation at its line.

use super::{Found, home, message, position, severity};
use lang::diagnostic::Diagnostic;
use lang::source::Source;
use std::io::{self, Write};

/// Writes one command per diagnostic.
///
/// # Errors
/// Fails when the output cannot be written.
pub fn print(found: &[Found], out: &mut dyn Write) -> io::Result<()> {
    for found in found {
        for diagnostic in found.diagnostics {
            writeln!(out, "{}", command(diagnostic, found.sources))?;
        }
    }
    Ok(())
}

/// Writes `::error file=…,line=…,endLine=…,col=…,endColumn=…,title=code::message`.
///
/// Columns are left out where a place runs over several lines: the service refuses them there. A
/// recipe from standard input has no file.
fn command(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    let span = home(diagnostic, sources).0;
    let source = &sources[span.source.0 as usize];
    let ((line, column), (end_line, end_column)) =
        (position(&source.text, span.start), position(&source.text, span.end));
    let mut properties = Vec::new();
    if source.path != "-" {
        properties.push(format!("file={}", property(&source.path)));
    }
    properties.push(format!("line={line},endLine={end_line}"));
    if line == end_line {
        properties.push(format!("col={column},endColumn={end_column}"));
    }
    properties.push(format!("title={}", property(&diagnostic.code)));
    let text = data(&message(diagnostic, sources));
    format!("::{} {}::{text}", severity(diagnostic.severity), properties.join(","))
}

/// Escapes a message.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_message_or_property_is_escaped() {
        assert_eq!(data("10%\r\nb: c, d"), "10%25%0D%0Ab: c, d");
        assert_eq!(property("a,b:c%\n"), "a%2Cb%3Ac%25%0A");
    }
}
