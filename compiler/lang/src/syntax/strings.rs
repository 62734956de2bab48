//! Quoted strings: escapes, raw strings and the indentation of multi-line ones.

/// What a string token turned out to be.
pub struct Read {
    /// Bytes from the first quote or `#` to after the last.
    pub len: usize,
    pub text: Result<String, Fault>,
}

/// Why a string cannot be read. Offsets are relative to its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Unclosed,
    /// An escape that does not exist, from its backslash on.
    Escape {
        start: usize,
        end: usize,
    },
    /// A line of a multi-line string is indented less than its last line, or it starts on the first line.
    Indentation,
}

/// Reads the string that `text` begins with: `"…"`, `"""…"""`, `#"…"#`.
pub fn read(text: &str) -> Read {
    let hashes = text.bytes().take_while(|&b| b == b'#').count();
    let body = &text[hashes..];
    // A raw string may begin with quotes of its own.
    let opens_lines = |rest: &str| hashes == 0 || rest.starts_with(is_newline);
    let quotes = if body.strip_prefix("\"\"\"").is_some_and(opens_lines) { 3 } else { 1 };
    let close = format!("{}{}", &"\"\"\""[..quotes], "#".repeat(hashes));
    let start = hashes + quotes;
    let Some(end) = find_close(text, start, &close, hashes > 0, quotes == 3) else {
        return Read { len: unclosed_len(text, start, quotes == 3), text: Err(Fault::Unclosed) };
    };
    let inner = &text[start..end];
    let read = if quotes == 3 {
        multi_line(inner, start, hashes > 0)
    } else {
        single_line(inner, start, hashes > 0)
    };
    Read { len: end + close.len(), text: read }
}

fn single_line(inner: &str, offset: usize, raw: bool) -> Result<String, Fault> {
    match raw {
        true if inner == "\"" => Err(Fault::Indentation),
        true => Ok(inner.to_owned()),
        false => unescape(inner, offset),
    }
}

/// Finds the closing quotes; a single-line string ends with its line.
fn find_close(text: &str, start: usize, close: &str, raw: bool, lines: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        if bytes[at] == b'\\' && !raw {
            at = after_escape(text, at);
            continue;
        }
        if text.as_bytes()[at..].starts_with(close.as_bytes()) {
            return Some(at);
        }
        if !lines && matches!(bytes[at], b'\n' | b'\r') {
            return None;
        }
        at += 1;
    }
    None
}

/// Returns the offset after an escape; one of whitespace takes all of it, line breaks included.
fn after_escape(text: &str, at: usize) -> usize {
    let rest = &text[at + 1..];
    let blank = rest.len() - rest.trim_start().len();
    if blank > 0 { at + 1 + blank } else { at + 1 + rest.chars().next().map_or(0, char::len_utf8) }
}

fn unclosed_len(text: &str, start: usize, lines: bool) -> usize {
    if lines { text.len() } else { text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at) }
}

/// Removes the indentation of the last line from every line.
fn multi_line(inner: &str, offset: usize, raw: bool) -> Result<String, Fault> {
    let normal = inner.replace("\r\n", "\n").replace('\r', "\n");
    let body = normal.strip_prefix('\n').ok_or(Fault::Indentation)?;
    let (lines, indent) = body.rsplit_once('\n').unwrap_or(("", body));
    if !indent.chars().all(is_blank) {
        return Err(Fault::Indentation);
    }
    let is_empty = body.len() == indent.len();
    let dedented: Result<Vec<&str>, Fault> = lines.split('\n').map(|line| dedent(line, indent)).collect();
    let text = if is_empty { String::new() } else { dedented?.join("\n") };
    if raw { Ok(text) } else { unescape(&text, offset) }
}

fn dedent<'a>(line: &'a str, indent: &str) -> Result<&'a str, Fault> {
    match line.strip_prefix(indent) {
        Some(rest) if rest.chars().all(is_blank) => Ok(""),
        Some(rest) => Ok(rest),
        None if line.chars().all(is_blank) => Ok(""),
        None => Err(Fault::Indentation),
    }
}

/// Whether a character ends a line.
pub fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}')
}

/// Whether a character is whitespace within a line.
pub fn is_blank(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

fn unescape(inner: &str, offset: usize) -> Result<String, Fault> {
    if !inner.contains('\\') {
        return Ok(inner.to_owned());
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let start = inner.len() - rest.len() + at;
        let (read, len) = escape(&rest[at..])
            .map_err(|len| Fault::Escape { start: offset + start, end: offset + start + len })?;
        text.extend(read);
        rest = &rest[at + len..];
    }
    text.push_str(rest);
    Ok(text)
}

/// Reads one escape: what it stands for and its length; its length when it does not exist.
fn escape(text: &str) -> Result<(Option<char>, usize), usize> {
    let Some(kind) = text[1..].chars().next() else { return Err(1) };
    let plain = match kind {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '\\' => '\\',
        '"' => '"',
        'b' => '\u{8}',
        'f' => '\u{c}',
        's' => ' ',
        'u' => return unicode_escape(text),
        c if c.is_whitespace() => return Ok((None, text.len() - text[1..].trim_start().len())),
        other => return Err(1 + other.len_utf8()),
    };
    Ok((Some(plain), 2))
}

fn unicode_escape(text: &str) -> Result<(Option<char>, usize), usize> {
    let Some(end) = text.find('}').filter(|_| text.starts_with("\\u{")) else { return Err(2) };
    let digits = &text[3..end];
    let well_formed = (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let code = u32::from_str_radix(digits, 16).ok().filter(|_| well_formed);
    code.and_then(char::from_u32).map(|c| (Some(c), end + 1)).ok_or(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let read = read(text);
        assert_eq!(read.text.as_deref(), Ok(expected), "{text}");
        assert_eq!(read.len, text.len(), "{text}");
    }

    #[test]
    fn strings_are_unescaped_and_dedented() {
        check(r#""a\nb\u{41}\s""#, "a\nbA ");
        check(r##"#"a"b\n"#"##, r#"a"b\n"#);
        check("\"\"\"\n    a\n      b\n    \"\"\"", "a\n  b");
        check("\"\"\"\n\"\"\"", "");
        check("\"a \\\n   b\"", "a b");
        check(r#""""#, "");
    }

    #[test]
    fn faults_name_their_characters() {
        assert_eq!(read(r#""a\qb""#).text, Err(Fault::Escape { start: 2, end: 4 }));
        assert_eq!(read("\"abc\nd").text, Err(Fault::Unclosed));
        assert_eq!(read("\"abc\nd").len, 4);
        assert_eq!(read("\"\"\"\n  a\n    \"\"\"").text, Err(Fault::Indentation));
    }
}
