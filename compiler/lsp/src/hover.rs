//! What stands under the cursor: its meaning, type and range, and the value that counts here.

use crate::compile::Compilation;
use crate::describe;
use crate::hints;
use crate::names::{self, Role};
use crate::text::{Slot, Text};
use crate::tokens::Token;
use lang::resolved::{ResolvedNode, ResolvedValue};
use lang::source::Origin;
use std::fmt::Write as _;
use std::ops::Range;
use stdlib::schema::{self, Node, Type};

/// Returns the characters that are explained, and the explanation.
pub fn hover(compilation: &Compilation, file: usize, at: usize) -> Option<(Range<usize>, String)> {
    let text: &Text = &compilation.files[file].text;
    let node = text.outline.header_at(at)?;
    let written = &text.outline.nodes[node];
    let hover = Hover { compilation, file, text, node };
    if touches(&written.name, at) {
        return Some((written.name.range.clone(), hover.of_node(text.schema(node)?)));
    }
    for (entry, slot) in text.slots(node) {
        if let Some(key) = entry.key.as_ref().filter(|key| touches(key, at)) {
            return Some((key.range.clone(), hover.of_slot(slot?, None)?));
        }
        if let Some(value) = entry.value.as_ref().filter(|value| touches(value, at)) {
            return Some((value.range.clone(), hover.of_value(value, slot)?));
        }
    }
    None
}

fn touches(token: &Token, at: usize) -> bool {
    token.range.start <= at && at <= token.range.end
}

struct Hover<'a> {
    compilation: &'a Compilation,
    file: usize,
    text: &'a Text,
    node: usize,
}

impl Hover<'_> {
    fn of_node(&self, schema: &'static Node) -> String {
        let mut out = format!("**{}** — {}\n", schema.name, schema.doc);
        let facts = describe::node(schema, schema.required);
        if !facts.is_empty() {
            let _ = writeln!(out, "\n{facts}");
        }
        if let Some(resolved) = self.resolved() {
            for value in &resolved.values {
                let name = value.key.map_or(String::new(), |key| format!("`{key}` = "));
                let _ = writeln!(out, "- {name}`{}`, {}", value.text, self.origin(value));
            }
            let lines = self.unwritten(resolved);
            if !lines.is_empty() {
                let _ = writeln!(out, "\nNot written here:\n```kdl\n{}\n```", lines.join("\n"));
            }
        }
        out + &self.figures()
    }

    /// The children of a declaration that come from elsewhere.
    fn unwritten(&self, resolved: &ResolvedNode) -> Vec<String> {
        let is_written = |value: &ResolvedValue| matches!(value.origin, Origin::Written | Origin::Set);
        let others = resolved
            .children
            .iter()
            .filter(|child| !child.values.is_empty() && !child.values.iter().any(is_written));
        others
            .map(|child| {
                let values = child.values.iter().map(|value| match value.key {
                    Some(key) => format!(" {key}={}", value.text),
                    None => format!(" {}", value.text),
                });
                let first = &child.values[0];
                format!("{}{}  // {}", child.head, values.collect::<String>(), self.origin(first))
            })
            .collect()
    }

    /// What the plan says of a stage.
    fn figures(&self) -> String {
        let is_top = self.text.outline.nodes[self.node].parent.is_none();
        let name = self.text.declared(self.node).filter(|_| is_top).map(|token| self.text.value(token));
        let lowered = self.compilation.lowered.as_ref();
        let task = name.and_then(|name| lowered?.plan.task(&name));
        let lines = task.map_or(Vec::new(), |task| hints::figures(self.compilation, task));
        lines.iter().fold(String::new(), |out, line| out + "\n- " + line)
    }

    fn of_value(&self, token: &Token, slot: Option<Slot>) -> Option<String> {
        let value = self.text.value(token);
        if let Some(name) = self.text.word(token).strip_prefix('$') {
            return self.of_name(name);
        }
        match slot? {
            Slot::Name => self.of_name(&value),
            slot => match slot.ty() {
                Some(Type::Reference("template")) if value.starts_with("std:") => {
                    library(value.trim_start_matches("std:"))
                }
                Some(Type::Reference(_)) => self.of_name(&value),
                Some(Type::NameOr { words, .. }) if words.iter().all(|word| word.name != value) => {
                    self.of_name(&value)
                }
                _ => self.of_slot(slot, Some(&value)),
            },
        }
    }

    /// Explains an option, and the word that is written for it.
    fn of_slot(&self, slot: Slot, value: Option<&str>) -> Option<String> {
        let kind = self.text.kind(self.node);
        let (title, doc, facts, key) = match slot {
            Slot::Name => return None,
            Slot::Argument(argument) => {
                (format!("**{kind}**"), argument.doc, describe::argument(argument), None)
            }
            Slot::Property(property) => (
                format!("**{}** of `{kind}`", property.name),
                property.doc,
                describe::property(property),
                Some(property.name),
            ),
        };
        let mut out = format!("{title} — {doc}\n\n{facts}\n");
        let (Some(Type::Word(choices) | Type::NameOr { words: choices, .. }), Some(value)) =
            (slot.ty(), value)
        else {
            return Some(out + &self.effective(key));
        };
        if let Some(choice) = choices.iter().find(|choice| choice.name == value && !choice.doc.is_empty()) {
            let _ = writeln!(out, "\n`{value}`: {}", choice.doc);
        }
        Some(out + &self.effective(key))
    }

    /// The value that counts, and where it came from.
    fn effective(&self, key: Option<&str>) -> String {
        let Some(resolved) = self.resolved() else { return String::new() };
        let values = resolved.values.iter().filter(|value| value.key == key);
        let lines = values.map(|value| format!("\nHere: `{}`, {}\n", value.text, self.origin(value)));
        lines.collect()
    }

    fn of_name(&self, name: &str) -> Option<String> {
        let declared = self.compilation.files.iter().enumerate().find_map(|(file, at)| {
            let found = names::declarations(&at.text).find(|found| found.name == name)?;
            Some((file, found))
        });
        let (file, found) = declared?;
        let Role::Declares(schema) = found.role else { return None };
        let text = &self.compilation.files[file].text;
        let line = text.lines.line(found.range.start);
        let written = text.lines.bytes(&text.text, line).map_or("", |bytes| &text.text[bytes]);
        // Whatever looks like a secret is not shown, here as elsewhere.
        let written = lang::syntax::mask(written.trim());
        let place = self.place(file, found.range.start);
        let hover = Hover { compilation: self.compilation, file, text, node: found.node };
        Some(format!(
            "**{name}** — a {} of this recipe, {place}\n```kdl\n{written}\n```\n{}\n{}",
            schema.name,
            schema.doc,
            hover.figures()
        ))
    }

    /// Finds the node among those with every value filled in.
    fn resolved(&self) -> Option<&ResolvedNode> {
        let path = self.text.outline.path(self.node);
        let (&root, inner) = path.split_first()?;
        let name = self.text.value(self.text.declared(root)?);
        let kind = self.text.kind(root);
        let is_root = |node: &&ResolvedNode| {
            let head = node.head.split_once(' ');
            head.is_some_and(|(head, found)| head == kind && found.trim_matches('"') == name)
        };
        let mut resolved = self.compilation.checked.resolved.nodes.iter().find(is_root)?;
        let mut parent = root;
        for &node in inner {
            let kind = self.text.kind(node);
            let mut siblings =
                self.text.outline.children(Some(parent)).filter(|&at| self.text.kind(at) == kind);
            let nth = siblings.position(|at| at == node)?;
            resolved = resolved.children.iter().filter(|child| child.head == kind).nth(nth)?;
            parent = node;
        }
        Some(resolved)
    }

    fn origin(&self, value: &ResolvedValue) -> String {
        let place = || self.place(value.span.source.0 as usize, value.span.start as usize);
        match value.origin {
            Origin::Default => "the default".into(),
            Origin::Written => format!("written in {}", place()),
            Origin::Defaults => format!("from `defaults`, {}", place()),
            Origin::Like => format!("taken over with `like`, {}", place()),
            Origin::Set => "given with `--set`".into(),
            Origin::Derived => "derived".into(),
        }
    }

    fn place(&self, file: usize, at: usize) -> String {
        let Some(found) = self.compilation.files.get(file) else { return String::new() };
        let line = found.text.line(at);
        if file == self.file { format!("line {line}") } else { format!("{}:{line}", found.path) }
    }
}

fn library(name: &str) -> Option<String> {
    let entry = schema::TEMPLATES.iter().find(|entry| entry.name == name)?;
    let mut out = format!("**std:{name}** — {}\n", entry.doc);
    if let Some(text) = stdlib::template(name) {
        let _ = writeln!(out, "\n```jinja\n{}\n```", text.trim_end());
    }
    Some(out)
}
