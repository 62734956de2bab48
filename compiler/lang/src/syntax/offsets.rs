//! Where the characters of a text stand in the string that it is written as.

use super::strings::is_newline;

/// Returns the byte in the recipe, counted from the start of the value, for every byte of a text and its end;
/// nothing when the text is not the one that is written there.
pub fn offsets(text: &str, written: &str) -> Option<Vec<usize>> {
    let mut read = Read::default();
    let hashes = written.bytes().take_while(|&b| b == b'#').count();
    let body = written.get(hashes..written.len().checked_sub(hashes)?)?;
    let is_raw = hashes > 0;
    let lines = body.strip_prefix("\"\"\"").filter(|rest| rest.starts_with(is_newline));
    if let Some(inner) = lines.and_then(|rest| rest.strip_suffix("\"\"\"")) {
        read.lines(inner, hashes + 3, is_raw);
    } else if let Some(inner) = body.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        read.line(inner, hashes + 1, is_raw);
    } else {
        read.line(written, 0, true);
    }
    let end = read.end;
    read.at.push(end);
    (read.text == text).then_some(read.at)
}

/// What was read so far: the text, the place of each of its bytes, and the end of the last one.
#[derive(Default)]
struct Read {
    text: String,
    at: Vec<usize>,
    end: usize,
}

impl Read {
    fn push(&mut self, c: char, from: usize, to: usize) {
        self.text.push(c);
        self.at.extend(std::iter::repeat_n(from, c.len_utf8()));
        self.end = to;
    }

    /// The lines between `"""`, without the indentation of the last.
    fn lines(&mut self, inner: &str, start: usize, is_raw: bool) {
        let mut lines: Vec<(usize, &str)> = Vec::new();
        let mut from = 0;
        for (at, newline) in inner.match_indices('\n') {
            lines.push((from, inner[from..at].trim_end_matches('\r')));
            from = at + newline.len();
        }
        let indent = &inner[from..];
        // Nothing stands on the line that opens the text.
        for (number, (at, line)) in lines.iter().enumerate().skip(1) {
            if number > 1 {
                self.push('\n', start + at - 1, start + at);
            }
            if let Some(rest) = line.strip_prefix(indent) {
                self.line(rest, start + at + indent.len(), is_raw);
            }
        }
    }

    fn line(&mut self, line: &str, start: usize, is_raw: bool) {
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let from = start + line.len() - rest.len();
            let (read, len) = match c {
                '\\' if !is_raw => escape(rest),
                c => (Some(c), c.len_utf8()),
            };
            if let Some(read) = read {
                self.push(read, from, from + len);
            }
            rest = &rest[len..];
        }
    }
}

/// Returns the character of the escape that a text begins with, and its length; white space after `\` is nothing.
fn escape(text: &str) -> (Option<char>, usize) {
    let after = &text[1..];
    let blanks = after.len() - after.trim_start().len();
    if blanks > 0 {
        return (None, 1 + blanks);
    }
    if let Some((digits, _)) = after.strip_prefix("u{").and_then(|rest| rest.split_once('}')) {
        let read = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        return (read, 4 + digits.len());
    }
    let Some(c) = after.chars().next() else { return (None, 1) };
    let read = match c {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\u{8}',
        'f' => '\u{c}',
        's' => ' ',
        c => c,
    };
    (Some(read), 1 + c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `marked` is the text that begins at the byte `at` of `text`, as it is written.
    fn check(text: &str, written: &str, at: usize, marked: &str) {
        let places = offsets(text, written).unwrap_or_else(|| panic!("{written}"));
        assert_eq!(places.len(), text.len() + 1, "{written}");
        assert!(written[places[at]..].starts_with(marked), "{written}: {}", &written[places[at]..]);
    }

    #[test]
    fn every_form_of_a_string_is_followed() {
        check("abc", "abc", 1, "bc");
        check("abc", r#""abc""#, 1, "bc");
        check("a\n\"é\"c", r#""a\n\"\u{e9}\"c""#, 6, r#"c""#);
        check("a\"b", "#\"a\"b\"#", 2, "b");
        check("one\n  two\n\nthree", "\"\"\"\n    one\n      two\n\n    three\n    \"\"\"", 11, "three");
        check("ab", "\"a\\  \n  b\"", 1, "b");
    }

    #[test]
    fn another_text_has_no_places() {
        assert_eq!(offsets("abd", "\"abc\""), None);
    }
}
