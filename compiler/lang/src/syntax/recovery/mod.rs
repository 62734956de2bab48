//! The recovery reader: finds the mistakes of a text in words for recipe authors, and reads the rest.
//!
//! It is recursive over blocks and goes on at the end of the word, line or block that is broken.
//! What it says of text that the `kdl` crate accepts agrees with that crate, which a test holds it
//! to; [`super::parse`] asks it about text in which nothing is found here.
//!
//! Here is the reader itself, and the nodes of a file; each kind of mistake is with what it spoils.

mod blanks;
mod blocks;
mod entries;
mod nodes;
mod words;

pub use words::{bare_keyword_diagnostic, does_not_fit, is_slip};

use crate::diagnostic::Diagnostic;
use crate::source::{SourceId, Span};
use crate::syntax::{Damage, Data, Document, Node, Word};

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
