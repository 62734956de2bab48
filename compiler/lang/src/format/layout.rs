//! Words, marks and comments put on lines.
//!
//! A line is either between nodes or within one. Within a node a line may end at `\`, and after `/-`
//! wherever a comment forces it to; everything else stands on one line up to `{`, `}` or the end.

use super::scan::{Kind, Token};

/// A line of the formatted text.
#[derive(Debug, Default)]
pub struct Line {
    /// How many blocks it stands in; one more when it goes on with the node before it.
    pub depth: usize,
    pub blank_before: bool,
    pub text: String,
    /// The `//` comment at its end.
    pub comment: Option<String>,
    /// Whether a block begins with the next line.
    opens: bool,
}

/// Puts the tokens of a text without syntax errors on lines.
pub fn lines(tokens: &[Token]) -> Vec<Line> {
    let mut layout = Layout { line_ended: true, ..Layout::default() };
    for (at, &token) in tokens.iter().enumerate() {
        layout.take(token, &tokens[at + 1..]);
    }
    layout.end();
    layout.lines
}

#[derive(Debug, Default)]
struct Layout {
    lines: Vec<Line>,
    /// How many blocks are open.
    depth: usize,
    draft: Option<Draft>,
    /// Whether the source line that the last line came from has ended.
    line_ended: bool,
    /// Whether a blank line was read since.
    blank: bool,
    /// Whether a `\` was read that stands before a node.
    continued: bool,
}

/// The line of a node that is not yet complete.
#[derive(Debug, Default)]
struct Draft {
    line: Line,
    last: Option<Piece>,
    /// Whether more than comments and a `/-` was read.
    named: bool,
    /// Whether a `/-` waits for what it takes out; line ends do not count until then.
    dashed: bool,
    /// Whether a block of the node was closed.
    closed: bool,
    /// Whether a `\` waits for the end of its line.
    continued: bool,
    /// The comments of line ends that a `\` took, none of which is written yet.
    breaks: Option<Vec<String>>,
}

/// What was written last on a line, as far as it decides about the blank behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Word,
    Comment,
    Glue,
    /// A `/-` before a node, and one before an entry or a block.
    NodeDash,
    EntryDash,
}

impl Draft {
    /// Whether a blank stands before a token.
    fn is_spaced(&self, next: Kind) -> bool {
        let Some(last) = self.last else { return false };
        match (last, next) {
            (Piece::Comment, _) | (_, Kind::BlockComment | Kind::Open) => true,
            (Piece::Glue, _) | (_, Kind::Equals | Kind::CloseType) => false,
            (Piece::EntryDash, Kind::Word | Kind::OpenType) => false,
            (Piece::Word | Piece::NodeDash | Piece::EntryDash, _) => true,
        }
    }

    fn push(&mut self, token: Token) {
        if self.is_spaced(token.kind) {
            self.line.text.push(' ');
        }
        self.line.text += &unix(token.text);
        self.last = Some(match token.kind {
            Kind::BlockComment => Piece::Comment,
            Kind::Dash if self.named => Piece::EntryDash,
            Kind::Dash => Piece::NodeDash,
            Kind::Equals | Kind::OpenType | Kind::CloseType => Piece::Glue,
            _ => Piece::Word,
        });
        match token.kind {
            Kind::BlockComment => {}
            Kind::Dash => self.dashed = true,
            _ => (self.named, self.dashed) = (true, false),
        }
    }
}

impl Layout {
    fn take(&mut self, token: Token, behind: &[Token]) {
        match self.draft.take() {
            Some(draft) => self.within(draft, token, behind),
            None => self.between(token, behind),
        }
    }

    /// Takes a token between nodes.
    fn between(&mut self, token: Token, behind: &[Token]) {
        match token.kind {
            Kind::Newline if std::mem::take(&mut self.continued) => self.line_ended = true,
            Kind::Newline if self.line_ended => self.blank = true,
            Kind::Newline => self.line_ended = true,
            Kind::Continued => self.continued = true,
            Kind::LineComment => self.line_comment(token),
            Kind::BlockComment if self.is_trailing(behind) => {
                let last = self.lines.last_mut().expect("it trails a line");
                last.text += &format!(" {}", unix(token.text));
            }
            Kind::Close => self.close(),
            Kind::Semicolon => {}
            Kind::BlockComment | Kind::Word | Kind::OpenType | Kind::Dash => self.start(token),
            Kind::CloseType | Kind::Equals | Kind::Open => self.start(token),
        }
    }

    fn line_comment(&mut self, token: Token) {
        self.continued = false;
        let comment = token.text.trim_end().to_owned();
        match self.lines.last_mut().filter(|last| !self.line_ended && last.comment.is_none()) {
            Some(last) => last.comment = Some(comment),
            None => self.comment_line(comment),
        }
    }

    /// Puts a `//` comment on a line of its own.
    fn comment_line(&mut self, comment: String) {
        let line = Line { comment: Some(comment), ..self.line() };
        self.lines.push(line);
        self.line_ended = false;
    }

    /// Whether a comment between `/*` and `*/` belongs to the line before it.
    fn is_trailing(&self, behind: &[Token]) -> bool {
        let next = behind.iter().find(|token| token.kind != Kind::BlockComment);
        let ends = next.is_none_or(|next| matches!(next.kind, Kind::Newline | Kind::LineComment));
        ends && !self.line_ended && self.lines.last().is_some_and(|last| last.comment.is_none())
    }

    fn line(&mut self) -> Line {
        let after_blank = std::mem::take(&mut self.blank);
        let blank_before = after_blank && self.lines.last().is_some_and(|last| !last.opens);
        Line { depth: self.depth, blank_before, ..Line::default() }
    }

    /// Begins the line of a node.
    fn start(&mut self, token: Token) {
        self.continued = false;
        let mut draft = Draft { line: self.line(), ..Draft::default() };
        draft.push(token);
        self.draft = Some(draft);
    }

    /// Takes a token of a node, or one that ends it.
    fn within(&mut self, mut draft: Draft, token: Token, behind: &[Token]) {
        match token.kind {
            Kind::Newline if draft.continued => {
                draft.continued = false;
                draft.breaks.get_or_insert_default();
            }
            Kind::Newline if draft.dashed => {}
            Kind::Newline => return self.finish(draft, true),
            Kind::LineComment if draft.dashed => {
                draft.continued = false;
                self.cut(&mut draft, unix(token.text.trim_end()));
            }
            Kind::LineComment => {
                draft.breaks.get_or_insert_default().push(token.text.trim_end().to_owned());
                if !(draft.continued && draft.named) {
                    return self.finish(draft, false);
                }
            }
            Kind::Continued => draft.continued = true,
            Kind::Semicolon => return self.finish(draft, false),
            Kind::Open => return self.open(draft),
            Kind::Close => {
                self.finish(draft, false);
                return self.close();
            }
            // A node behind `/-` may have its block closed before it on the line.
            Kind::Word | Kind::OpenType if draft.closed && !draft.dashed => {
                self.finish(draft, false);
                return self.start(token);
            }
            Kind::Dash if draft.closed && !is_before_block(behind) => {
                self.finish(draft, false);
                return self.start(token);
            }
            // A comment between `\` and the end of its line stands before the `\`.
            Kind::BlockComment if draft.continued && draft.breaks.is_none() => draft.push(token),
            Kind::BlockComment
            | Kind::Word
            | Kind::Dash
            | Kind::Equals
            | Kind::OpenType
            | Kind::CloseType => {
                self.go_on(&mut draft, token.kind);
                draft.push(token);
            }
        }
        self.draft = Some(draft);
    }

    /// Ends a line at a comment that a `/-` has before what it takes out.
    fn cut(&mut self, draft: &mut Draft, comment: String) {
        let depth = self.depth + usize::from(draft.named);
        let next = Line { depth, ..Line::default() };
        let mut line = std::mem::replace(&mut draft.line, next);
        // The `kdl` crate can do without `\` there, the recovery reader cannot.
        if draft.named {
            line.text += go_on_mark(&line);
        }
        self.lines.push(Line { comment: Some(comment), ..line });
        draft.last = None;
    }

    /// Writes the line ends that `\` took, unless they stand where lines are joined.
    fn go_on(&mut self, draft: &mut Draft, next: Kind) {
        let Some(comments) = draft.breaks.take() else { return };
        let may = draft.named && !draft.dashed && !draft.closed && draft.is_spaced(next);
        if comments.is_empty() && !may {
            return;
        }
        let mut comments = comments.into_iter();
        loop {
            let next = Line { depth: self.depth + 1, ..Line::default() };
            let mut line = std::mem::replace(&mut draft.line, next);
            line.text += go_on_mark(&line);
            line.comment = comments.next();
            self.lines.push(line);
            if comments.len() == 0 {
                break;
            }
        }
        draft.last = None;
    }

    /// Opens a block; comments that stood before the `{` stand behind it.
    fn open(&mut self, mut draft: Draft) {
        let comments = draft.breaks.take();
        draft.line.text += if draft.last.is_some() { " {" } else { "{" };
        draft.line.opens = true;
        self.depth += 1;
        self.commit(draft.line, comments);
        self.line_ended = false;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        (self.blank, self.continued) = (false, false);
        let is_empty = |last: &Line| last.opens && last.comment.is_none() && last.text.ends_with('{');
        let mut line = match self.lines.pop_if(|last| is_empty(last)) {
            Some(line) => Line { opens: false, ..line },
            None => Line { depth: self.depth, ..Line::default() },
        };
        line.text.push('}');
        let last = Some(Piece::Word);
        self.draft = Some(Draft { line, last, named: true, closed: true, ..Draft::default() });
    }

    fn end(&mut self) {
        if let Some(draft) = self.draft.take() {
            self.finish(draft, false);
        }
    }

    fn finish(&mut self, draft: Draft, line_ended: bool) {
        // The line that should have gone on is blank.
        let is_blank = line_ended && draft.breaks.is_some();
        self.commit(draft.line, draft.breaks);
        (self.line_ended, self.blank) = (line_ended, is_blank);
    }

    /// Adds a line with the first of its comments; the others get lines of their own.
    fn commit(&mut self, line: Line, comments: Option<Vec<String>>) {
        let mut comments = comments.into_iter().flatten();
        self.lines.push(Line { comment: comments.next(), ..line });
        comments.for_each(|comment| self.comment_line(comment));
    }
}

/// Returns what ends a line that goes on.
fn go_on_mark(line: &Line) -> &'static str {
    if line.text.is_empty() { "\\" } else { " \\" }
}

/// Whether the next token but comments and line ends is a `{`.
fn is_before_block(behind: &[Token]) -> bool {
    let is_trivia =
        |kind| matches!(kind, Kind::Newline | Kind::LineComment | Kind::BlockComment | Kind::Continued);
    behind.iter().find(|token| !is_trivia(token.kind)).is_some_and(|next| next.kind == Kind::Open)
}

/// Returns a text with the line ends of Unix; in strings they mean the same.
fn unix(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
