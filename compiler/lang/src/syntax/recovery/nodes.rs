//! Nodes: their names, and the lines that are one in two or two in one.

use super::blocks::takes_block;
use super::words::word_len;
use super::{Parser, Token};
use crate::diagnostic::Diagnostic;
use crate::source::Origin;
use crate::syntax::strings::{is_blank, is_newline};
use crate::syntax::{Damage, Data, Node, Word};

impl<'a> Parser<'a> {
    /// Reads nodes up to a closing brace, which is left, or the end.
    pub(super) fn nodes(&mut self, owner_indent: Option<usize>) -> Vec<Node> {
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
    pub(super) fn drop(&mut self, read: impl FnOnce(&mut Self)) {
        self.dropping += 1;
        self.costs.dropped = self.costs.dropped.max(self.dropping);
        read(self);
        self.dropping -= 1;
    }

    /// Reads one node, to the end of its line or block.
    pub(super) fn node(&mut self) -> Option<Node> {
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

    pub(super) fn nameless(&self) -> Node {
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
    pub(super) fn broken_line(&mut self, start: usize, label: &str, help: &str) {
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
    pub(super) fn skip_line(&mut self) {
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
}
