//! Blocks: braces that are missing, too many or elsewhere.

use super::Parser;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::syntax::strings::{is_blank, is_newline};
use crate::syntax::{Damage, MAX_DEPTH, Node};

impl<'a> Parser<'a> {
    /// Gives a node without a block the indented nodes after it, when a brace closes what was never opened.
    pub(super) fn adopt(&mut self, nodes: &mut Vec<Node>) -> bool {
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
    pub(super) fn late_block(&mut self, node: &mut Node) {
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

    pub(super) fn closed_by_indent(&self, owner_indent: Option<usize>) -> bool {
        let Some(owner) = owner_indent.filter(|_| self.by_indent) else { return false };
        self.first_of_line() && self.indent_at(self.at) <= owner
    }

    /// Whether a brace that is indented less than the block's owner closes a block around it.
    fn belongs_outside(&self, owner: usize) -> bool {
        self.by_indent && self.first_of_line() && self.indent_at(self.at) < owner
    }

    pub(super) fn first_of_line(&self) -> bool {
        let before = self.text[..self.at].chars().rev().find(|&c| !is_blank(c));
        before.is_none_or(is_newline)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind(['\n', '\r']).map_or(0, |end| end + 1)
    }

    pub(super) fn indent_at(&self, at: usize) -> usize {
        let line = &self.text[self.line_start(at)..];
        line.chars().take_while(|&c| is_blank(c)).count()
    }

    pub(super) fn block(&mut self, node: &mut Node, start: usize) {
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
    pub(super) fn after_block(&mut self) {
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
}

/// Whether a node may have a block, and has none yet.
pub(super) fn takes_block(node: &Node) -> bool {
    let schema = stdlib::schema::top(&node.name.text);
    !node.has_block && schema.is_none_or(|schema| schema.open || !schema.children.is_empty())
}

/// Returns where the line of a node ends, its block left out.
fn end_of_line(node: &Node) -> u32 {
    let values = node.arguments.iter().chain(node.properties.iter().map(|property| &property.value));
    values.map(|value| value.span.end).fold(node.name.span.end, u32::max)
}
