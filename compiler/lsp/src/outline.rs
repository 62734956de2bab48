//! The shape of a text: its nodes with their whole extent, however broken the text is.
//!
//! `lang` reads the same text strictly and says what is wrong with it. The outline says only where things
//! stand. When a block lacks its brace, indentation tells where it ends.

use crate::tokens::{self, Kind, Token};
use lang::syntax::MAX_BYTES;
use std::ops::Range;

/// How many nodes a brace may claim that closes what was never opened.
const MOST_ADOPTED: usize = 256;

/// All nodes of a text, each before what its block holds.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    pub nodes: Vec<Node>,
    /// The nodes of the file itself.
    pub roots: Vec<usize>,
    pub tokens: Vec<Token>,
    /// Whether a block lacks its brace, so that nodes may stand elsewhere than they seem to.
    pub in_doubt: bool,
}

/// A node as it is written.
#[derive(Debug, Clone)]
pub struct Node {
    /// The token of its kind word.
    pub name: Token,
    pub entries: Vec<Entry>,
    /// The node whose block holds it.
    pub parent: Option<usize>,
    /// The nodes that its block holds.
    pub children: Vec<usize>,
    /// How far its line is indented.
    indent: usize,
    /// Where its line ends: before its block, a comment, or the line break.
    pub header_end: usize,
    pub block: Option<Block>,
    /// Where the node ends, its block included.
    pub end: usize,
    /// Whether `/-` takes it out.
    pub dropped: bool,
}

/// A value of a node, or a property.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Option<Token>,
    /// The end of the `=` of a property.
    pub equals: Option<usize>,
    /// Missing while a property is being typed.
    pub value: Option<Token>,
}

/// The braces of a node and what is between them.
#[derive(Debug, Clone)]
pub struct Block {
    pub open: usize,
    /// The closing brace; where the block seems to end when it lacks one.
    pub end: usize,
    pub closed: bool,
}

impl Node {
    /// Returns the bytes of the whole node.
    pub fn extent(&self) -> Range<usize> {
        self.name.range.start..self.end
    }

    /// Whether its block, without the braces, holds a byte.
    pub fn holds(&self, at: usize) -> bool {
        self.block.as_ref().is_some_and(|block| block.open < at && at <= block.end)
    }
}

impl Outline {
    /// Reads a text; one that is too large to be a recipe has no nodes.
    pub fn of(text: &str) -> Self {
        if text.len() > MAX_BYTES {
            return Self::default();
        }
        let tokens = tokens::scan(text);
        let mut reader = Reader::new(text, false);
        reader.read(&tokens);
        if reader.unclosed {
            // Indentation is asked only when a brace is missing: a closed block may be indented as it likes.
            reader = Reader::new(text, true);
            reader.read(&tokens);
        }
        let in_doubt = reader.by_indent || reader.stray;
        Self { nodes: reader.nodes, roots: reader.roots, tokens, in_doubt }
    }

    /// Returns the nodes of a block, or of the file.
    pub fn children(&self, parent: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        let children = parent.map_or(&self.roots, |parent| &self.nodes[parent].children);
        children.iter().copied().filter(|&at| !self.nodes[at].dropped)
    }

    /// Returns the innermost node whose block holds a byte.
    pub fn block_at(&self, at: usize) -> Option<usize> {
        self.nodes.iter().rposition(|node| node.holds(at))
    }

    /// Returns the node on whose line, before its block, a byte stands.
    pub fn header_at(&self, at: usize) -> Option<usize> {
        self.nodes.iter().rposition(|node| node.name.range.start <= at && at <= node.header_end)
    }

    /// Returns the token that a byte stands in or at the end of.
    pub fn token_at(&self, at: usize) -> Option<&Token> {
        let behind = self.tokens.partition_point(|token| token.range.start < at);
        let before = behind.checked_sub(1).map(|index| &self.tokens[index]);
        let begins = self.tokens.get(behind).filter(|token| token.range.start == at);
        let touches = before.filter(|token| at <= token.range.end);
        let is_solid = |token: &&Token| matches!(token.kind, Kind::Word | Kind::Text | Kind::Comment);
        begins.filter(is_solid).or(touches.filter(is_solid)).or(begins).or(touches)
    }

    /// Returns a node and all that hold it, the outermost first.
    pub fn path(&self, node: usize) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(Some(node), |&at| self.nodes[at].parent).collect();
        path.reverse();
        path
    }
}

struct Reader<'a> {
    text: &'a str,
    by_indent: bool,
    nodes: Vec<Node>,
    roots: Vec<usize>,
    /// The nodes whose blocks are open.
    open: Vec<usize>,
    /// The node whose line is being read.
    current: Option<usize>,
    /// Whether `/-` takes out what comes next.
    dropping: bool,
    /// Whether nothing but blanks stands before the token on its line.
    first: bool,
    /// How far the line is indented, as soon as it holds something.
    indent: usize,
    line_start: usize,
    unclosed: bool,
    stray: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, by_indent: bool) -> Self {
        Self {
            text,
            by_indent,
            nodes: Vec::new(),
            roots: Vec::new(),
            open: Vec::new(),
            current: None,
            dropping: false,
            first: true,
            indent: 0,
            line_start: 0,
            unclosed: false,
            stray: false,
        }
    }

    fn read(&mut self, tokens: &[Token]) {
        for token in tokens {
            let start = token.range.start;
            if self.first {
                self.indent = start - self.line_start;
            }
            match token.kind {
                Kind::Newline | Kind::Semicolon => self.end_header(start),
                Kind::Comment => self.comment(start),
                Kind::Slashdash => self.dropping = true,
                Kind::Equals => self.equals(token),
                Kind::Open => self.open(start),
                Kind::Close => self.close(start),
                Kind::Word | Kind::Text => self.word(token),
            }
            self.first = token.kind == Kind::Newline;
            if self.first {
                self.line_start = token.range.end;
            }
        }
        self.end_header(self.text.len());
        self.unclosed = !self.open.is_empty();
        self.cut(0, self.text.len());
    }

    fn end_header(&mut self, at: usize) {
        if let Some(node) = self.current.take() {
            self.nodes[node].header_end = at;
        }
    }

    /// A comment to the end of the line ends what can be typed on it; one between values does not.
    fn comment(&mut self, start: usize) {
        if self.text[start..].starts_with("//") {
            self.end_header(start);
        }
    }

    fn word(&mut self, token: &Token) {
        let dropped = std::mem::take(&mut self.dropping);
        match self.current {
            Some(node) => self.entry(node, token, dropped),
            None => self.node(token, dropped),
        }
    }

    fn node(&mut self, token: &Token, dropped: bool) {
        if self.by_indent && self.first {
            let deeper = |&owner: &usize| self.nodes[owner].indent < self.indent;
            let kept = self.open.iter().rposition(deeper).map_or(0, |at| at + 1);
            self.cut(kept, token.range.start);
        }
        let parent = self.open.last().copied();
        let dropped = dropped || parent.is_some_and(|parent| self.nodes[parent].dropped);
        let node = self.nodes.len();
        self.siblings(parent).push(node);
        self.current = Some(node);
        self.nodes.push(Node {
            name: token.clone(),
            entries: Vec::new(),
            parent,
            children: Vec::new(),
            indent: self.indent,
            header_end: token.range.end,
            block: None,
            end: token.range.end,
            dropped,
        });
    }

    fn siblings(&mut self, parent: Option<usize>) -> &mut Vec<usize> {
        match parent {
            Some(parent) => &mut self.nodes[parent].children,
            None => &mut self.roots,
        }
    }

    fn entry(&mut self, node: usize, token: &Token, dropped: bool) {
        let node = &mut self.nodes[node];
        node.end = token.range.end;
        if dropped {
            return;
        }
        match node.entries.last_mut().filter(|entry| entry.equals.is_some() && entry.value.is_none()) {
            Some(property) => property.value = Some(token.clone()),
            None => node.entries.push(Entry { key: None, equals: None, value: Some(token.clone()) }),
        }
    }

    fn equals(&mut self, token: &Token) {
        let Some(node) = self.current else { return };
        let node = &mut self.nodes[node];
        if let Some(entry) = node.entries.last_mut().filter(|entry| entry.equals.is_none()) {
            (entry.key, entry.equals) = (entry.value.take(), Some(token.range.end));
            node.end = token.range.end;
        }
    }

    fn open(&mut self, at: usize) {
        self.end_header(at);
        let parent = self.open.last().copied();
        // A brace on a line of its own belongs to the node before it.
        let before = self.siblings(parent).last().copied();
        let owner = before.filter(|&before| self.nodes[before].block.is_none() && !self.dropping);
        let owner = owner.unwrap_or_else(|| {
            let brace = Token { kind: Kind::Word, range: at..at, quotes: (0, 0) };
            let dropped = std::mem::take(&mut self.dropping);
            self.node(&brace, dropped);
            self.end_header(at);
            self.nodes.len() - 1
        });
        self.nodes[owner].block = Some(Block { open: at, end: at, closed: false });
        self.open.push(owner);
    }

    fn close(&mut self, at: usize) {
        self.end_header(at);
        self.dropping = false;
        match self.open.pop() {
            Some(owner) => self.finish(owner, at, at + 1),
            None => self.adopt(at),
        }
    }

    /// Gives a node without a block the indented nodes after it, when a brace closes what was never opened.
    fn adopt(&mut self, at: usize) {
        self.stray = true;
        let indent = self.indent;
        let mut last = self.roots.iter().enumerate().rev().take(MOST_ADOPTED);
        let owner = last.find(|(_, root)| self.nodes[**root].indent <= indent);
        let Some((place, &owner)) = owner.filter(|_| self.first) else { return };
        if self.nodes[owner].block.is_some() || place + 1 == self.roots.len() {
            return;
        }
        let children = self.roots.split_off(place + 1);
        children.iter().for_each(|&child| self.nodes[child].parent = Some(owner));
        self.nodes[owner].children = children;
        let open = self.nodes[owner].header_end;
        self.nodes[owner].block = Some(Block { open, end: open, closed: false });
        self.finish(owner, at, at + 1);
    }

    /// Ends the blocks that are open beyond the first `kept`, which lack their braces.
    fn cut(&mut self, kept: usize, at: usize) {
        let open = self.open.split_off(kept.min(self.open.len()));
        let written = if open.is_empty() { at } else { self.text[..at].trim_end().len() };
        for owner in open {
            self.finish(owner, at, written);
        }
    }

    /// Ends a block at a brace, or where it seems to end, and its node behind what it holds.
    fn finish(&mut self, owner: usize, at: usize, end: usize) {
        let node = &mut self.nodes[owner];
        let block = node.block.as_mut().expect("only nodes with a block are open");
        (block.end, block.closed) = (at, end > at);
        node.end = end.max(node.header_end.min(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the outline as nested names.
    fn shape(text: &str) -> String {
        let outline = Outline::of(text);
        fn list(text: &str, outline: &Outline, parent: Option<usize>) -> String {
            let written = outline.children(parent).map(|at| {
                let node = &outline.nodes[at];
                let inner = list(text, outline, Some(at));
                let name = &text[node.name.range.clone()];
                if node.block.is_some() { format!("{name}({inner})") } else { name.to_owned() }
            });
            written.collect::<Vec<_>>().join(" ")
        }
        list(text, &outline, None)
    }

    #[test]
    fn nodes_stand_in_their_blocks() {
        assert_eq!(shape("adapt 1\nsft a {\n    b 1; c 2\n    d {\n    }\n}\ne"), "adapt sft(b c d()) e");
        assert_eq!(shape("a\n{\n  b\n}\nc"), "a(b) c");
        assert_eq!(shape("a { /- b { c }; d }"), "a(d)");
        assert_eq!(shape("a b /-c { d }"), "a(d)");
    }

    #[test]
    fn a_missing_brace_costs_only_itself() {
        assert_eq!(shape("sft a {\n    b 1\n\ndpo c {\n    d\n}\n"), "sft(b) dpo(d)");
        assert_eq!(shape("sft a {\n    b {\n        c\n    d\n}\ndpo e"), "sft(b(c) d) dpo");
        assert_eq!(shape("sft a\n    b\n    c\n}\ndpo e"), "sft(b c) dpo");
        assert_eq!(shape("a\n}\nb"), "a b");
        assert_eq!(shape("{ a }"), "(a)");
        assert_eq!(shape("}}{{"), "(())");
    }

    #[test]
    fn entries_are_values_and_properties() {
        let text = "optimizer adamw lr=2e-4 clip= ";
        let outline = Outline::of(text);
        let node = &outline.nodes[0];
        let entry = |at: usize| {
            let show = |token: &Option<Token>| token.as_ref().map(|token| &text[token.range.clone()]);
            (show(&node.entries[at].key), show(&node.entries[at].value))
        };
        assert_eq!(entry(0), (None, Some("adamw")));
        assert_eq!(entry(1), (Some("lr"), Some("2e-4")));
        assert_eq!(entry(2), (Some("clip"), None));
        assert_eq!(node.header_end, text.len());
    }
}
