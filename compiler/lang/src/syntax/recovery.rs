//! The recovery reader: finds the mistakes of a text in words for recipe authors, and reads the rest.
//!
//! It is recursive over blocks and goes on at the end of the word, line or block that is broken.
//! What it says of text that the `kdl` crate accepts agrees with that crate, which a test holds it
//! to; [`super::parse`] asks it about text in which nothing is found here.

use super::number::{self, Meant, NotANumber};
use super::strings::{self, Fault, is_blank, is_newline};
use super::{Damage, Data, Document, MAX_DEPTH, Node, Property, Value, Word};
use crate::diagnostic::Diagnostic;
use crate::paths;
use crate::source::Origin;
use crate::source::{SourceId, Span};
use crate::suggest;

/// How many lines a text may take that lacks the quotes of one over several lines.
const MAX_LINES: usize = 40;

/// What the reader made of a text.
pub struct Reading {
    pub document: Document,
    pub found: Vec<Diagnostic>,
    pub costs: Costs,
}

/// What makes the `kdl` crate recurse, or read text again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Costs {
    /// Pieces of the longest comment between `/*` and `*/`.
    pub comment: usize,
    /// How deep `/-` stands within what another one takes out.
    pub dropped: usize,
}

/// Reads one file.
pub fn read(source: SourceId, text: &str) -> Reading {
    let mut parser = Parser::new(source, text, false);
    let nodes = parser.file();
    if parser.unclosed {
        // Indentation tells which block lacks its brace; it is asked only when one does.
        parser = Parser::new(source, text, true);
        let nodes = parser.file();
        return parser.finish(nodes);
    }
    parser.finish(nodes)
}

struct Parser<'a> {
    source: SourceId,
    text: &'a str,
    at: usize,
    depth: usize,
    diagnostics: Vec<Diagnostic>,
    damage: Damage,
    /// A block was open at the end of the file.
    unclosed: bool,
    /// Whether a node that is indented no deeper than its block's owner closes the block.
    by_indent: bool,
    /// Whether the node that is being read lost something.
    damaged: bool,
    too_deep: bool,
    /// Whether a comment was open at the end of the file.
    in_comment: bool,
    /// Whether nodes may stand in the wrong block.
    braces_in_doubt: bool,
    /// How many `/-` take out what is being read.
    dropping: usize,
    costs: Costs,
}

/// What a word between delimiters is.
enum Token {
    Name(Word, bool),
    Value(Data, Span),
}

impl<'a> Parser<'a> {
    fn new(source: SourceId, text: &'a str, by_indent: bool) -> Self {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self {
            source,
            text,
            at,
            depth: 0,
            diagnostics: Vec::new(),
            damage: Damage::None,
            unclosed: false,
            by_indent,
            damaged: false,
            too_deep: false,
            in_comment: false,
            braces_in_doubt: false,
            dropping: 0,
            costs: Costs::default(),
        }
    }

    fn finish(self, nodes: Vec<Node>) -> Reading {
        if self.too_deep {
            let found = self.diagnostics.into_iter().filter(|found| found.code == "too-deep").collect();
            return Reading { document: Document::lost(), found, costs: self.costs };
        }
        let document = Document { nodes, damage: self.damage, braces_in_doubt: self.braces_in_doubt };
        Reading { document, found: self.diagnostics, costs: self.costs }
    }

    fn file(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        loop {
            nodes.extend(self.nodes(None));
            if self.at >= self.text.len() {
                return nodes;
            }
            // Only a closing brace ends the nodes of a file early.
            if self.adopt(&mut nodes) {
                self.at += 1;
                continue;
            }
            self.braces_in_doubt = true;
            self.error(
                Damage::Everywhere,
                Diagnostic::error(
                    "unexpected-brace",
                    "this `}` closes nothing",
                    self.span(self.at, self.at + 1),
                    "no block is open here",
                )
                .with_help("remove it, or open the block that it should close"),
            );
            self.at += 1;
        }
    }

    /// Gives a node without a block the indented nodes after it, when a brace closes what was never opened.
    fn adopt(&mut self, nodes: &mut Vec<Node>) -> bool {
        if nodes.len() < 2 || !self.first_of_line() {
            return false;
        }
        let brace = self.indent_at(self.at);
        let indent = |node: &Node| self.indent_at(node.name.span.start as usize);
        let Some(owner) = nodes.iter().rposition(|node| indent(node) <= brace) else { return false };
        if nodes[owner].has_block || owner + 1 == nodes.len() {
            return false;
        }
        let children = nodes.split_off(owner + 1);
        let node = &mut nodes[owner];
        (node.children, node.has_block) = (children, true);
        let (name, word, end) = (node.name.text.clone(), node.name.span, end_of_line(node));
        self.error(
            Damage::None,
            Diagnostic::error(
                "missing-brace",
                format!("the block of `{name}` is not opened"),
                word,
                "its `{` is missing",
            )
            .with_label(self.span(self.at, self.at + 1), "closed here")
            .with_help("write `{` at the end of its line")
            .with_fix("insert `{`", Span { start: end, end, ..word }, " {"),
        );
        true
    }

    /// A block that opens on the line after its node.
    fn late_block(&mut self, node: &mut Node) {
        let end = end_of_line(node) as usize;
        let at = self.span(self.at, self.at + 1);
        let message = format!("the block of `{}` opens on a line of its own", node.name.text);
        let mut found = Diagnostic::error("unexpected-brace", message, at, "not on the line of its node")
            .with_help(format!("write `{{` at the end of the line of `{}`", node.name.text));
        if self.text[end..self.at].trim().is_empty() {
            found = found.with_fix("move it up", self.span(end, self.at), " ");
        }
        self.error(Damage::None, found);
        self.block(node, node.name.span.start as usize);
        self.after_block();
    }

    /// Reads nodes up to a closing brace, which is left, or the end.
    fn nodes(&mut self, owner_indent: Option<usize>) -> Vec<Node> {
        let mut nodes = Vec::new();
        loop {
            self.skip_lines();
            let rest = self.rest();
            if rest.is_empty() || rest.starts_with('}') || self.closed_by_indent(owner_indent) {
                return nodes;
            }
            if rest.starts_with('{')
                && self.first_of_line()
                && let Some(node) = nodes.last_mut().filter(|node| takes_block(node))
            {
                self.late_block(node);
                continue;
            }
            if rest.starts_with("/-") {
                self.at += 2;
                self.skip_lines();
                self.drop_something();
                self.drop(|parser| drop(parser.node()));
                self.dropped_semicolon();
                continue;
            }
            if self.goes_on(nodes.last()) {
                let node = nodes.last_mut().expect("a line goes on with a node before it");
                self.continued_line(node);
                continue;
            }
            nodes.extend(self.node());
        }
    }

    /// Whether a line is indented under a node and begins with `key=value`.
    fn goes_on(&self, node: Option<&Node>) -> bool {
        let Some(node) = node.filter(|node| !node.has_block) else { return false };
        let rest = self.rest();
        let len = word_len(rest);
        len > 0
            && rest[len..].starts_with('=')
            && !rest[len + 1..].starts_with(is_blank)
            && self.first_of_line()
            && self.indent_at(self.at) > self.indent_at(node.name.span.start as usize)
    }

    /// Reads properties that stand on the line after their node.
    fn continued_line(&mut self, node: &mut Node) {
        let equals = self.at + word_len(self.rest());
        let message = format!("the properties of `{}` go on on the next line", node.name.text);
        self.error(
            Damage::None,
            Diagnostic::error(
                "stray-equals",
                message,
                self.span(equals, equals + 1),
                "a line of its own is a node of its own",
            )
            .with_help("write them on one line, or end the line before with `\\`"),
        );
        self.entries(node, node.name.span.start as usize, true);
    }

    /// Reads what a `/-` takes out.
    fn drop(&mut self, read: impl FnOnce(&mut Self)) {
        self.dropping += 1;
        self.costs.dropped = self.costs.dropped.max(self.dropping);
        read(self);
        self.dropping -= 1;
    }

    fn closed_by_indent(&self, owner_indent: Option<usize>) -> bool {
        let Some(owner) = owner_indent.filter(|_| self.by_indent) else { return false };
        self.first_of_line() && self.indent_at(self.at) <= owner
    }

    /// Whether a brace that is indented less than the block's owner closes a block around it.
    fn belongs_outside(&self, owner: usize) -> bool {
        self.by_indent && self.first_of_line() && self.indent_at(self.at) < owner
    }

    fn first_of_line(&self) -> bool {
        let before = self.text[..self.at].chars().rev().find(|&c| !is_blank(c));
        before.is_none_or(is_newline)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind(['\n', '\r']).map_or(0, |end| end + 1)
    }

    fn indent_at(&self, at: usize) -> usize {
        let line = &self.text[self.line_start(at)..];
        line.chars().take_while(|&c| is_blank(c)).count()
    }

    /// Reads one node, to the end of its line or block.
    fn node(&mut self) -> Option<Node> {
        let outer = std::mem::take(&mut self.damaged);
        let node = self.node_inner();
        let lost = self.damaged;
        self.damaged = outer;
        node.map(|node| Node { damaged: lost, ..node })
    }

    fn node_inner(&mut self) -> Option<Node> {
        let start = self.at;
        self.skip_annotation();
        let name = self.node_name()?;
        let mut node = Node {
            name,
            arguments: Vec::new(),
            properties: Vec::new(),
            children: Vec::new(),
            has_block: false,
            origin: Origin::Written,
            damaged: false,
        };
        if self.rest().starts_with('(') {
            self.broken_line(
                self.at,
                "a node is not called",
                "write values after it, with spaces between them",
            );
            return Some(node);
        }
        let spaced = self.stray_equals();
        self.entries(&mut node, start, spaced);
        Some(node)
    }

    fn node_name(&mut self) -> Option<Word> {
        let start = self.at;
        if self.rest().starts_with(['{', '=', '(', ')']) {
            self.broken_line(start, "a node begins with its name", "write the name of the node first");
            return None;
        }
        let name = match self.token()? {
            Token::Name(word, _) => word,
            Token::Value(Data::Broken, _) => {
                self.damage = Damage::Everywhere;
                self.skip_line();
                return None;
            }
            Token::Value(_, span) => {
                let text = self.slice(span).to_owned();
                self.error(
                    Damage::Inside,
                    Diagnostic::error(
                        "syntax-error",
                        format!("`{text}` cannot be the name of a node"),
                        span,
                        "a node begins with its name",
                    )
                    .with_help("write the name of the option before its value"),
                );
                self.damage = Damage::Everywhere;
                self.skip_line();
                return None;
            }
        };
        Some(name)
    }

    /// `lr = 2e-4` on a line of its own, as in other configuration languages; says whether it stood there.
    fn stray_equals(&mut self) -> bool {
        let before = self.at;
        self.skip_blank();
        if !self.rest().starts_with('=') {
            self.at = before;
            return false;
        }
        let at = self.span(self.at, self.at + 1);
        self.at += 1;
        self.skip_blank();
        let fix = self.span(before, self.at);
        self.error(
            Damage::None,
            Diagnostic::error(
                "stray-equals",
                "a node stands before its value without `=`",
                at,
                "`=` belongs to properties, after a node's name",
            )
            .with_help("remove the `=`")
            .with_fix("remove `=`", fix, " "),
        );
        true
    }

    /// Reads what stands on the node's line, and its block.
    fn entries(&mut self, node: &mut Node, start: usize, spaced: bool) {
        let mut was_spaced = spaced;
        loop {
            let before = self.at;
            self.skip_blank();
            let spaced = self.at > before || std::mem::take(&mut was_spaced);
            let rest = self.rest();
            match rest.chars().next() {
                None | Some('}') => return,
                Some(';') => {
                    self.at += 1;
                    return;
                }
                Some(c) if is_newline(c) => return,
                _ if rest.starts_with("//") => return,
                Some('{') => {
                    self.block(node, start);
                    self.after_block();
                    return;
                }
                Some(_) => {
                    if !spaced {
                        self.missing_space();
                    }
                    if rest.starts_with("/-") { self.skip_entry(node, start) } else { self.entry(node) }
                }
            }
        }
    }

    fn missing_space(&mut self) {
        let at = self.span(self.at, self.at + self.rest().chars().next().map_or(0, char::len_utf8));
        self.error(
            Damage::None,
            Diagnostic::error(
                "syntax-error",
                "a space is missing between two values",
                at,
                "the next value begins here",
            )
            .with_help("put a space before it")
            .with_fix("insert a space", Span { end: at.start, ..at }, " "),
        );
    }

    /// The crate reads a node behind `/-` without the `;` that ends it.
    fn dropped_semicolon(&mut self) {
        if !self.text[..self.at].ends_with(';') {
            return;
        }
        let at = self.span(self.at - 1, self.at);
        self.error(
            Damage::None,
            Diagnostic::error("syntax-error", "a node behind `/-` ends with its line", at, "not with `;`")
                .with_help("put it on a line of its own, or remove it"),
        );
    }

    /// `/-` with nothing behind it.
    fn drop_something(&mut self) {
        if !(self.rest().is_empty() || self.rest().starts_with('}')) {
            return;
        }
        let start = self.text[..self.at].rfind("/-").expect("it was read just before");
        self.error(
            Damage::None,
            Diagnostic::error(
                "syntax-error",
                "nothing stands after `/-`",
                self.span(start, start + 2),
                "takes nothing out",
            )
            .with_help("remove it, or put it directly before what it takes out"),
        );
    }

    /// Reads an entry or a block that `/-` takes out.
    fn skip_entry(&mut self, node: &mut Node, start: usize) {
        self.at += 2;
        self.skip_to_dropped();
        let mut dropped =
            Node { arguments: Vec::new(), properties: Vec::new(), children: Vec::new(), ..node.clone() };
        self.drop(|parser| {
            if parser.rest().starts_with('{') {
                parser.block(&mut dropped, start)
            } else {
                parser.entry(&mut dropped)
            }
        });
    }

    fn block(&mut self, node: &mut Node, start: usize) {
        let open = self.at;
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.report_too_deep(open);
            return;
        }
        let indent = self.indent_at(start);
        node.has_block = true;
        node.children = self.nodes(Some(indent));
        self.depth -= 1;
        if self.rest().starts_with('}') && !self.belongs_outside(indent) {
            self.at += 1;
        } else if !self.too_deep {
            self.report_unclosed(node, open);
        }
    }

    fn report_too_deep(&mut self, open: usize) {
        self.too_deep = true;
        let message = format!("blocks are nested more than {MAX_DEPTH} deep");
        let at = self.span(open, open + 1);
        self.diagnostics.push(
            Diagnostic::error("too-deep", message, at, "too deep from here on")
                .with_help("remove blocks around it; no recipe needs more than five"),
        );
        self.at = self.text.len();
    }

    fn report_unclosed(&mut self, node: &Node, open: usize) {
        self.unclosed = true;
        self.damaged = true;
        // The comment that is not closed holds the brace.
        if self.in_comment {
            return;
        }
        let end = self.at;
        let name = node.name.text.clone();
        // A line that does not end may end in a comment, which would swallow the brace.
        let brace = if self.text[..end].ends_with(['\n', '\r']) { "}\n" } else { "\n}\n" };
        self.error(
            Damage::Everywhere,
            Diagnostic::error(
                "missing-brace",
                format!("the block of `{name}` is not closed"),
                node.name.span,
                "its `}` is missing",
            )
            .with_label(self.span(open, open + 1), "opened here")
            .with_help("write `}` after the last line of the block")
            .with_fix("insert `}`", self.span(end, end), brace),
        );
    }

    /// A node ends with its block; what follows on the line is a mistake.
    fn after_block(&mut self) {
        self.skip_blank();
        while self.rest().starts_with("/-") {
            self.at += 2;
            self.skip_to_dropped();
            let mut dropped = self.nameless();
            self.drop(|parser| {
                if parser.rest().starts_with('{') {
                    parser.block(&mut dropped, parser.at)
                } else {
                    parser.entry(&mut dropped)
                }
            });
            self.skip_blank();
        }
        let rest = self.rest();
        if rest.starts_with(';') {
            self.at += 1;
            return;
        }
        if rest.is_empty()
            || rest.starts_with(['}'])
            || rest.starts_with("//")
            || rest.starts_with(is_newline)
        {
            return;
        }
        if self.by_indent && self.first_of_line() {
            return;
        }
        self.broken_line(
            self.at,
            "a node ends with its block",
            "move it before the `{`, or to a line of its own",
        );
    }

    fn nameless(&self) -> Node {
        let span = self.span(self.at, self.at);
        Node {
            name: Word { text: String::new(), span },
            arguments: Vec::new(),
            properties: Vec::new(),
            children: Vec::new(),
            has_block: false,
            origin: Origin::Written,
            damaged: false,
        }
    }

    /// Reports what nothing else explains, and skips the line.
    fn broken_line(&mut self, start: usize, label: &str, help: &str) {
        let rest = &self.text[start..];
        // A line end is one mark, also where it takes two characters.
        let len = if rest.starts_with("\r\n") { 2 } else { rest.chars().next().map_or(0, char::len_utf8) };
        let end = start + len;
        let text = self.text[start..end].to_owned();
        self.error(
            Damage::Everywhere,
            Diagnostic::error(
                "syntax-error",
                format!("`{text}` cannot stand here"),
                self.span(start, end),
                label,
            )
            .with_help(help),
        );
        self.skip_line();
    }

    /// Skips to the end of the line, balancing braces that it opens.
    fn skip_line(&mut self) {
        let mut open = 0usize;
        while let Some(c) = self.rest().chars().next() {
            if self.rest().starts_with("//") {
                self.at += self.rest().find(is_newline).unwrap_or(self.rest().len());
                continue;
            }
            match c {
                '{' => open += 1,
                '}' if open == 0 => return,
                '}' => open -= 1,
                c if is_newline(c) && open == 0 => return,
                _ => {}
            }
            self.at += c.len_utf8();
        }
    }

    /// Reads an argument or a property.
    fn entry(&mut self, node: &mut Node) {
        let start = self.at;
        self.skip_annotation();
        if self.at > start && self.at_end_of_entry() {
            return;
        }
        if self.rest().starts_with(['=', ')', '(']) {
            self.broken_line(self.at, "neither a value nor a property", "write `name=value`");
            return;
        }
        let Some(token) = self.token() else { return };
        let after = self.at;
        self.skip_blank();
        if !self.rest().starts_with('=') {
            self.at = after;
            node.arguments.push(self.value(token));
            return;
        }
        self.property(node, token, start, after);
    }

    fn property(&mut self, node: &mut Node, key: Token, start: usize, after: usize) {
        let equals = self.at;
        self.at += 1;
        let behind = self.at;
        self.skip_blank();
        let (key, is_name) = match key {
            Token::Name(word, _) => (word, true),
            Token::Value(_, span) => {
                self.bad_key(span);
                (Word { text: self.slice(span).to_owned(), span }, false)
            }
        };
        if self.at_end_of_entry() {
            self.missing_value(&key, start, behind);
            return;
        }
        if equals > after || self.at > behind {
            self.spaced_equals(equals, after);
        }
        self.skip_annotation();
        let Some(token) = self.token() else { return };
        let value = self.value(token);
        if is_name {
            node.properties.push(Property { key, value });
        }
    }

    /// A number or keyword before `=`, unless it was reported for what it is.
    fn bad_key(&mut self, span: Span) {
        if self.diagnostics.last().is_some_and(|last| last.primary() == span) {
            return;
        }
        let message = format!("`{}` cannot be the name of a property", self.slice(span));
        self.error(
            Damage::Inside,
            Diagnostic::error("syntax-error", message, span, "a property begins with its name")
                .with_help("write `name=value`"),
        );
    }

    fn at_end_of_entry(&self) -> bool {
        let rest = self.rest();
        rest.is_empty()
            || rest.starts_with(['}', '{', ';', '=', ')', '('])
            || rest.starts_with("//")
            || rest.starts_with(is_newline)
    }

    fn missing_value(&mut self, key: &Word, start: usize, end: usize) {
        let message = format!("`{}` has no value", key.text);
        let at = self.span(start, end);
        self.error(
            Damage::Inside,
            Diagnostic::error(
                "missing-value",
                message,
                Span { end: key.span.end, ..at },
                "nothing stands after `=`",
            )
            .with_help("write the value directly after `=`"),
        );
        if self.rest().starts_with(['=', ')', '(']) {
            self.skip_line();
        }
    }

    fn spaced_equals(&mut self, equals: usize, after: usize) {
        let fix = self.span(after, self.at);
        self.slip(
            Damage::None,
            Diagnostic::error(
                "spaced-equals",
                "spaces stand around `=`",
                self.span(equals, equals + 1),
                "property and value are written together",
            )
            .with_help("write `key=value` without spaces")
            .with_fix("remove the spaces", fix, "="),
        );
    }

    fn value(&self, token: Token) -> Value {
        let (data, span, bare) = match token {
            Token::Name(word, bare) => (Data::Text(word.text), word.span, bare),
            Token::Value(data, span) => (data, span, false),
        };
        Value { data, span, bare, origin: Origin::Written, via: None, overrides: None }
    }

    /// `(u8)` before a value or node: valid KDL, without meaning in a recipe.
    fn skip_annotation(&mut self) {
        if !self.rest().starts_with('(') {
            return;
        }
        let Some(len) = self.rest().find(')').filter(|&len| !self.rest()[..len].contains(is_newline)) else {
            return;
        };
        let at = self.span(self.at, self.at + len + 1);
        self.at += len + 1;
        self.slip(
            Damage::None,
            Diagnostic::error(
                "type-annotation",
                "a recipe has no type annotations",
                at,
                "types follow from the option",
            )
            .with_help("remove it")
            .with_fix("remove the annotation", at, ""),
        );
        self.skip_blank();
    }

    /// Reads a string, number, keyword or bare word.
    fn token(&mut self) -> Option<Token> {
        let rest = self.rest();
        let hashes = rest.bytes().take_while(|&b| b == b'#').count();
        if rest[hashes..].starts_with('"') {
            return Some(self.string());
        }
        let start = self.at;
        let first = rest.chars().next()?;
        if let Some(close) = closing_quote(first) {
            return Some(self.foreign_quotes(first, close));
        }
        if first == '[' {
            return Some(self.list());
        }
        let len = word_len(rest);
        if len == 0 {
            self.broken_line(start, "nothing can begin with this", "remove it, or put the text in quotes");
            return None;
        }
        self.at += len;
        self.bare(start)
    }

    fn string(&mut self) -> Token {
        let start = self.at;
        let mut read = strings::read(self.rest());
        let is_plain = self.rest().starts_with('"') && !self.rest().starts_with("\"\"\"");
        if is_plain && read.text == Err(Fault::Unclosed) {
            read.len = self.unclosed_len(read.len);
        } else if is_plain && read.text.is_ok() && self.closed_by_the_next(start + read.len) {
            // The quote that opens the next text was taken for the one that closes this one.
            let end = start + read.len - 1;
            read = strings::Read { len: self.line_len(end), text: Err(Fault::Unclosed) };
        }
        self.at += read.len;
        let span = self.span(start, self.at);
        match read.text {
            Ok(text) => Token::Name(Word { text, span }, false),
            Err(fault) => {
                self.bad_string(fault, start, span);
                Token::Value(Data::Broken, span)
            }
        }
    }

    /// Returns how much an unclosed text takes: up to its quote on a later line, else its line but for a `{` at the end.
    fn unclosed_len(&self, line: usize) -> usize {
        let mut at = self.at + line;
        for text in self.text[at..].split_inclusive('\n').skip(1).take(MAX_LINES) {
            at = text.as_ptr() as usize - self.text.as_ptr() as usize;
            match text.matches('"').count() {
                0 => {}
                quotes if quotes % 2 == 1 => {
                    let end = at + text.find('"').expect("it was counted") + 1;
                    let behind = self.text[end..].chars().next();
                    let closes =
                        behind.is_none_or(|c| is_blank(c) || is_newline(c) || matches!(c, ';' | '}'));
                    return if closes { end - self.at } else { self.line_len(self.at) };
                }
                _ => break,
            }
        }
        self.line_len(self.at)
    }

    /// Returns the bytes from here to the end of the line, or to a `{` at its end.
    fn line_len(&self, from: usize) -> usize {
        let rest = &self.text[from..];
        let line = &rest[..rest.find(is_newline).unwrap_or(rest.len())];
        let trimmed = line.trim_end_matches(is_blank);
        let line = trimmed.strip_suffix('{').unwrap_or(line);
        from + line.trim_end_matches(is_blank).len() - self.at
    }

    /// Whether the text that ends here was closed by a quote that opens another: letters follow, and one quote too few.
    fn closed_by_the_next(&self, end: usize) -> bool {
        let rest = &self.text[end..];
        let line = &rest[..rest.find(is_newline).unwrap_or(rest.len())];
        let glued = rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '/' | '<' | '-'));
        glued && line.matches('"').count() % 2 == 1
    }

    fn bad_string(&mut self, fault: Fault, start: usize, span: Span) {
        let (damage, diagnostic) = match fault {
            Fault::Unclosed => (
                Damage::Inside,
                Diagnostic::error("unclosed-string", "a text is not closed", span, "its closing quote is missing")
                    .with_help("write `\"` at its end; a text over several lines begins and ends with `\"\"\"`"),
            ),
            Fault::Escape { start: from, end } => (
                Damage::None,
                Diagnostic::error("syntax-error", "there is no such escape", self.span(start + from, start + end), "not an escape")
                    .with_help("write `\\\\` for a backslash, or a raw text `#\"…\"#`"),
            ),
            Fault::Indentation => (
                Damage::None,
                Diagnostic::error("syntax-error", "a text over several lines is not indented evenly", span, "every line begins like the last one")
                    .with_help("begin the text on a new line, and indent every line at least as far as the closing quotes"),
            ),
        };
        if fault == Fault::Unclosed && self.at == self.text.len() {
            self.damage = Damage::Everywhere;
        }
        self.error(damage, diagnostic);
    }

    /// Curly or single quotes, read as if they were straight ones.
    fn foreign_quotes(&mut self, open: char, close: &[char]) -> Token {
        let start = self.at;
        let body = &self.rest()[open.len_utf8()..];
        let line = &body[..body.find(is_newline).unwrap_or(body.len())];
        let (inner, len) = match line.find(close) {
            Some(end) => (&line[..end], end + line[end..].chars().next().map_or(0, char::len_utf8)),
            None => {
                let len = word_len(line);
                (&line[..len], len)
            }
        };
        let text = inner.to_owned();
        self.at += open.len_utf8() + len;
        let span = self.span(start, self.at);
        let (code, kind) = match open {
            '\'' => ("single-quotes", "single"),
            '`' => ("single-quotes", "backward"),
            _ => ("curly-quotes", "curly"),
        };
        let message = format!("{kind} quotes do not hold a text");
        let found = Diagnostic::error(code, message, span, "read as part of a word")
            .with_help("write straight double quotes: `\"…\"`")
            .with_fix("use straight quotes", span, format!("\"{text}\""));
        let is_kdl = text.chars().all(|c| c.is_alphanumeric() || is_blank(c));
        if is_kdl {
            self.slip(Damage::None, found)
        } else {
            self.error(Damage::None, found)
        }
        Token::Name(Word { text, span }, false)
    }

    /// `[a, b]`, as in other configuration languages.
    fn list(&mut self) -> Token {
        let start = self.at;
        let rest = self.rest();
        let line = &rest[..rest.find(is_newline).unwrap_or(rest.len())];
        let len = line.find(']').map_or(word_len(line).max(1), |end| end + 1);
        self.at += len;
        let span = self.span(start, self.at);
        self.error(
            Damage::Inside,
            Diagnostic::error(
                "unquoted-value",
                "a recipe has no lists in brackets",
                span,
                "`[` and `]` have no meaning here",
            )
            .with_help("write the values one after the other, with spaces between them"),
        );
        Token::Value(Data::Broken, span)
    }

    /// Classifies the bare word that ends here.
    fn bare(&mut self, start: usize) -> Option<Token> {
        let span = self.span(start, self.at);
        let word = &self.text[start..self.at];
        if word.starts_with('#') {
            return self.keyword(word, span);
        }
        if word.contains(is_invisible) {
            return Some(self.invisible(word, span));
        }
        if number::begins(word) {
            return Some(self.number(word, span));
        }
        if let Some(data) = bare_keyword(word) {
            return Some(self.bare_keyword(word, data, span));
        }
        if word.contains(['/', '\\', '[', ']', '#']) {
            self.unquoted(word, span, "a path or name with such characters");
            return Some(Token::Name(Word { text: word.to_owned(), span }, false));
        }
        let text = self.trim_punctuation(word, span);
        Some(Token::Name(Word { text, span }, true))
    }

    /// Characters that nobody sees, from a web page or a word processor, are left out.
    fn invisible(&mut self, word: &str, span: Span) -> Token {
        let text = word.replace(is_invisible, "");
        let first = word.chars().find(|&c| is_invisible(c)).map_or(0, u32::from);
        let message = format!("an invisible character, U+{first:04X}, stands in `{text}`");
        let found = Diagnostic::error("syntax-error", message, span, "not only what it seems")
            .with_help("write it anew")
            .with_fix("remove what is invisible", span, text.clone());
        if word.contains(is_forbidden) {
            self.error(Damage::None, found)
        } else {
            self.slip(Damage::None, found)
        }
        match number::read(&text) {
            Ok(data) => Token::Value(data, span),
            Err(_) => Token::Name(Word { text, span }, true),
        }
    }

    fn keyword(&mut self, word: &str, span: Span) -> Option<Token> {
        let data = match word {
            "#true" => Data::Bool(true),
            "#false" => Data::Bool(false),
            "#null" => Data::Null,
            "#inf" => Data::Number(f64::INFINITY),
            "#-inf" => Data::Number(f64::NEG_INFINITY),
            "#nan" => Data::Number(f64::NAN),
            _ => return self.unknown_keyword(word, span),
        };
        Some(Token::Value(data, span))
    }

    fn unknown_keyword(&mut self, word: &str, span: Span) -> Option<Token> {
        if let Some(bool) =
            bare_keyword(&word[1..].to_lowercase()).filter(|data| matches!(data, Data::Bool(_)))
        {
            let right = format!("#{}", word[1..].to_lowercase());
            self.error(
                Damage::None,
                Diagnostic::error("bare-keyword", format!("`{word}` is not a value"), span, "not a value")
                    .with_help(format!("write `{right}`"))
                    .with_fix(format!("replace with `{right}`"), span, right.clone()),
            );
            return Some(Token::Value(bool, span));
        }
        let slashes = Span { end: span.start + 1, ..span };
        self.error(
            Damage::None,
            Diagnostic::error("wrong-comment", "a comment does not begin with `#`", slashes, "not a comment")
                .with_help("begin the comment with `//`")
                .with_fix("replace with `//`", slashes, "//"),
        );
        let end = self.rest().find(is_newline).unwrap_or(self.rest().len());
        self.at += end;
        None
    }

    fn number(&mut self, word: &str, span: Span) -> Token {
        let (digits, comma) = match word.strip_suffix(',') {
            Some(digits) => (digits, true),
            None => (word, false),
        };
        let data = match number::read(digits) {
            Ok(data) if comma => {
                self.error(Damage::None, stray_comma(word, span));
                data
            }
            Ok(data) => data,
            Err(NotANumber::Malformed) => match number::meant(digits) {
                Some(meant) => {
                    self.error(Damage::None, malformed(digits, meant, span));
                    Data::Broken
                }
                None => {
                    self.unquoted(word, span, "neither a number nor a word");
                    return Token::Name(Word { text: word.to_owned(), span }, false);
                }
            },
            Err(size) => {
                let found = does_not_fit(size, digits, span);
                if is_float(digits) && !comma {
                    self.slip(Damage::None, found)
                } else {
                    self.error(Damage::None, found)
                }
                Data::Broken
            }
        };
        Token::Value(data, span)
    }

    fn bare_keyword(&mut self, word: &str, data: Data, span: Span) -> Token {
        let found = bare_keyword_diagnostic(word, span);
        let is_kdl = matches!(word, "True" | "False" | "None");
        if is_kdl {
            self.slip(Damage::None, found)
        } else {
            self.error(Damage::None, found)
        }
        Token::Value(data, span)
    }

    fn unquoted(&mut self, word: &str, span: Span, label: &str) {
        let text = word.strip_suffix(',').unwrap_or(word);
        let quoted = format!("\"{}\"", text.replace('\\', "\\\\"));
        let on_hub = match paths::may_be_on_hub(text) {
            true => format!(", or `\"hf:{text}\"` for what lies on the hub"),
            false => String::new(),
        };
        self.error(
            Damage::None,
            Diagnostic::error("unquoted-value", format!("`{word}` needs quotes"), span, label)
                .with_help(format!("write `{quoted}`{on_hub}"))
                .with_fix("put it in quotes", span, quoted.clone()),
        );
    }

    /// Reports a comma or colon at the end of a word, as in other languages, and returns the word without it.
    fn trim_punctuation(&mut self, word: &str, span: Span) -> String {
        if let Some(text) = word.strip_suffix(',') {
            self.slip(Damage::None, stray_comma(word, span));
            return text.to_owned();
        }
        if let Some(text) = word.strip_suffix(':').filter(|text| !text.is_empty()) {
            // At the end of a line it opens a block by indentation, which a recipe does not have.
            let behind = self.rest().trim_start_matches(is_blank);
            let opens_block = behind.starts_with(is_newline) || behind.starts_with("//");
            self.braces_in_doubt |= opens_block;
            self.slip(
                if opens_block { Damage::Everywhere } else { Damage::None },
                Diagnostic::error(
                    "stray-colon",
                    format!("`{word}` ends in a colon"),
                    span,
                    "the colon is read as part of the word",
                )
                .with_help(format!("write `{text}`, a space and the value"))
                .with_fix("remove the colon", span, text),
            );
            return text.to_owned();
        }
        word.to_owned()
    }

    /// Skips blanks, block comments and continued lines.
    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            match rest.as_bytes().first() {
                Some(b' ' | b'\t') => self.at += 1,
                Some(b'/') if rest.starts_with("/*") => self.block_comment(),
                Some(b'\\') => match continued_line(rest) {
                    Some(len) => self.continue_line(len),
                    None => return,
                },
                Some(0x80..) => match rest.chars().next().filter(|&c| is_blank(c)) {
                    Some(c) => self.at += c.len_utf8(),
                    None => return,
                },
                _ => return,
            }
        }
    }

    /// Skips `\`, what may stand behind it, and the end of its line.
    fn continue_line(&mut self, len: usize) {
        let marks = self.rest()[..len].bytes().filter(|b| matches!(b, b'*' | b'/')).count();
        self.costs.comment = self.costs.comment.max(2 * marks);
        self.at += len;
    }

    /// Skips blanks, comments and line ends between `/-` and what it takes out.
    fn skip_to_dropped(&mut self) {
        loop {
            self.skip_blank();
            let rest = self.rest();
            match rest.chars().next() {
                Some(c) if is_newline(c) => self.at += c.len_utf8(),
                Some('/') if rest.starts_with("//") => self.at += rest.find(is_newline).unwrap_or(rest.len()),
                _ => return,
            }
        }
    }

    /// Skips blanks, comments, line ends and `;`.
    fn skip_lines(&mut self) {
        loop {
            self.skip_blank();
            let rest = self.rest();
            match rest.chars().next() {
                Some(';') => self.stray_semicolon(),
                Some(c) if is_newline(c) => self.at += c.len_utf8(),
                Some('/') if rest.starts_with("//") => self.at += rest.find(is_newline).unwrap_or(rest.len()),
                _ => return,
            }
        }
    }

    fn stray_semicolon(&mut self) {
        let at = self.span(self.at, self.at + 1);
        self.at += 1;
        self.error(
            Damage::None,
            Diagnostic::error("syntax-error", "no node stands before this `;`", at, "ends nothing")
                .with_help("remove it; one `;` stands between nodes on the same line")
                .with_fix("remove it", at, ""),
        );
    }

    /// Skips a comment between `/*` and `*/`, which may hold others.
    fn block_comment(&mut self) {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut open = 0usize;
        while self.at + 1 < bytes.len() {
            match &bytes[self.at..self.at + 2] {
                b"/*" => (open, self.at) = (open + 1, self.at + 2),
                b"*/" => (open, self.at) = (open - 1, self.at + 2),
                _ => self.at += 1,
            }
            if open == 0 {
                let marks = bytes[start..self.at].iter().filter(|b| matches!(b, b'*' | b'/')).count();
                self.costs.comment = self.costs.comment.max(2 * marks);
                return;
            }
        }
        self.at = bytes.len();
        self.in_comment = true;
        self.error(
            Damage::Everywhere,
            Diagnostic::error(
                "syntax-error",
                "a comment is not closed",
                self.span(start, start + 2),
                "opened here",
            )
            .with_help("write `*/` at its end"),
        );
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn slice(&self, span: Span) -> &'a str {
        &self.text[span.start as usize..span.end as usize]
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span { source: self.source, start: start as u32, end: end as u32 }
    }

    /// Reports what is KDL, but a slip from another language; what `/-` takes out may hold any.
    fn slip(&mut self, damage: Damage, diagnostic: Diagnostic) {
        if self.dropping == 0 {
            self.error(damage, diagnostic);
        }
    }

    fn error(&mut self, damage: Damage, diagnostic: Diagnostic) {
        self.damage = self.damage.max(damage);
        self.damaged |= damage > Damage::None;
        self.diagnostics.push(diagnostic);
    }
}

fn stray_comma(word: &str, span: Span) -> Diagnostic {
    let text = word.strip_suffix(',').unwrap_or(word);
    let label = "the comma is read as part of the value";
    Diagnostic::error("stray-comma", "values are not separated by commas", span, label)
        .with_help("separate values by spaces")
        .with_fix("remove the comma", span, text)
}

/// Reports a number in a form of another place.
fn malformed(word: &str, meant: Meant, span: Span) -> Diagnostic {
    let message = format!("`{word}` is not how a number is written");
    let diagnostic = Diagnostic::error("malformed-number", message, span, "not a number");
    match meant {
        Meant::Certain(right) => diagnostic.with_help(format!("write `{right}`")).with_fix(
            format!("replace with `{right}`"),
            span,
            right,
        ),
        Meant::OneOf(numbers) => {
            diagnostic.with_help(format!("write {}", suggest::list(numbers.iter().map(String::as_str), "or")))
        }
    }
}

/// Reports a number that no float can hold.
pub fn does_not_fit(size: NotANumber, digits: &str, span: Span) -> Diagnostic {
    let (message, label) = match size {
        NotANumber::TooSmall => (format!("`{digits}` is so small that it would become 0"), "too small"),
        _ => (format!("`{digits}` is larger than any number"), "too large"),
    };
    Diagnostic::error("out-of-range", message, span, label).with_help("check the exponent")
}

/// Reports a keyword of another language, or one of KDL without its `#`.
pub fn bare_keyword_diagnostic(word: &str, span: Span) -> Diagnostic {
    let diagnostic =
        Diagnostic::error("bare-keyword", format!("`{word}` is not a value"), span, "not a value");
    match word.to_lowercase().as_str() {
        right @ ("true" | "false") => diagnostic.with_help(format!("write `#{right}`")).with_fix(
            format!("replace with `#{right}`"),
            span,
            format!("#{right}"),
        ),
        _ => diagnostic
            .with_help("leave the option out, or write a value; put it in quotes where text is meant"),
    }
}

fn is_float(digits: &str) -> bool {
    digits.contains(['.', 'e', 'E']) && !digits.contains(['x', 'X'])
}

/// Whether KDL reads a bare word as text although it is a slip from another language.
pub fn is_slip(word: &str) -> bool {
    let quoted = word.chars().next().is_some_and(|first| closing_quote(first).is_some());
    quoted
        || word.ends_with(',')
        || word.len() > 1 && word.ends_with(':')
        || bare_keyword(word).is_some()
        || word.contains(is_invisible)
}

/// What a keyword without its `#` stands for.
fn bare_keyword(word: &str) -> Option<Data> {
    match word {
        "true" | "True" => Some(Data::Bool(true)),
        "false" | "False" => Some(Data::Bool(false)),
        "null" | "None" | "nan" | "inf" | "-inf" => Some(Data::Broken),
        _ => None,
    }
}

/// Returns the quotes that close what a quote of another kind opened.
fn closing_quote(open: char) -> Option<&'static [char]> {
    match open {
        '“' | '”' | '„' | '‟' => Some(&['”', '“', '"']),
        '‘' | '’' | '‚' => Some(&['’', '‘']),
        '«' | '»' => Some(&['»', '«']),
        '\'' => Some(&['\'']),
        '`' => Some(&['`']),
        _ => None,
    }
}

/// Returns the length of the bare word that the text begins with.
fn word_len(text: &str) -> usize {
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let rest = &text[at..];
        let comment = (rest.starts_with("//") && previous != ':') || rest.starts_with("/*");
        let continued = c == '\\' && continued_line(rest).is_some();
        if is_blank(c)
            || is_newline(c)
            || comment
            || continued
            || matches!(c, '{' | '}' | '(' | ')' | ';' | '=' | '"')
        {
            return at;
        }
        previous = c;
    }
    text.len()
}

/// Returns the length of `\`, blanks, comments and a line end.
fn continued_line(text: &str) -> Option<usize> {
    let mut len = 1;
    loop {
        len += text[len..].chars().take_while(|&c| is_blank(c)).map(char::len_utf8).sum::<usize>();
        match comment_len(&text[len..]) {
            0 => break,
            comment => len += comment,
        }
    }
    if text[len..].starts_with("//") {
        len += text[len..].find(is_newline).unwrap_or(text.len() - len);
    }
    match text[len..].chars().next() {
        None => Some(len),
        Some(c) if is_newline(c) => {
            Some(len + if text[len..].starts_with("\r\n") { 2 } else { c.len_utf8() })
        }
        Some(_) => None,
    }
}

/// Returns the length of the comment between `/*` and `*/` that the text begins with, or 0.
fn comment_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, 0usize);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (open, at) = (open + 1, at + 2),
            b"*/" if open > 0 => (open, at) = (open - 1, at + 2),
            _ => at += 1,
        }
        if open == 0 {
            return if text.starts_with("/*") { at } else { 0 };
        }
    }
    0
}

/// Whether a node may have a block, and has none yet.
fn takes_block(node: &Node) -> bool {
    let schema = stdlib::schema::top(&node.name.text);
    !node.has_block && schema.is_none_or(|schema| schema.open || !schema.children.is_empty())
}

/// Returns where the line of a node ends, its block left out.
fn end_of_line(node: &Node) -> u32 {
    let values = node.arguments.iter().chain(node.properties.iter().map(|property| &property.value));
    values.map(|value| value.span.end).fold(node.name.span.end, u32::max)
}

/// Characters that nobody sees, whether KDL allows them or not.
fn is_invisible(c: char) -> bool {
    is_forbidden(c) || matches!(c, '\u{7f}' | '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}')
}

/// Characters that KDL allows nowhere outside quotes, invisible ones above all.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
