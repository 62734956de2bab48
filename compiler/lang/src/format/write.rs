//! Lines with their indentation, and comments at their ends in one column.

use super::layout::Line;
use crate::syntax::MAX_BYTES;

const INDENT: usize = 4;
/// The longest line whose comment is aligned with others.
const WIDTH: usize = 80;

/// Writes lines; nothing when the text would be too large to be read again.
pub fn lines(lines: &[Line]) -> Option<String> {
    let mut text = String::new();
    let mut at = 0;
    while at < lines.len() {
        let group = group(&lines[at..]);
        let column = group.iter().map(width).max().unwrap_or(0);
        for line in group {
            push(&mut text, line, column);
            // Deep blocks and comments far out make much of little.
            if text.len() > MAX_BYTES {
                return None;
            }
        }
        at += group.len();
    }
    Some(text)
}

/// Returns the first lines whose comments stand in one column; one line when it stands alone.
fn group(lines: &[Line]) -> &[Line] {
    let first = &lines[0];
    let goes_on = |line: &&Line| !line.blank_before && line.depth == first.depth && is_aligned(line);
    let further = if is_aligned(first) { lines[1..].iter().take_while(goes_on).count() } else { 0 };
    &lines[..1 + further]
}

fn is_aligned(line: &Line) -> bool {
    // A comment behind `\` is of the part of the node before it.
    let is_whole = !line.text.is_empty() && !line.text.contains('\n') && !line.text.ends_with('\\');
    is_whole && line.comment.is_some() && width(line) <= WIDTH
}

fn width(line: &Line) -> usize {
    INDENT * line.depth + line.text.chars().count()
}

fn push(text: &mut String, line: &Line, column: usize) {
    if line.blank_before {
        text.push('\n');
    }
    let blanks = |count: usize| " ".repeat(count);
    *text += &blanks(INDENT * line.depth);
    *text += &line.text;
    if let Some(comment) = &line.comment {
        if !line.text.is_empty() {
            *text += &blanks(column - width(line) + 1);
        }
        *text += comment;
    }
    text.push('\n');
}
