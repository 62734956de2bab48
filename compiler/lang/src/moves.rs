//! Where a misplaced option belongs: the edits that move it there, when there is one place and nothing of its
//! kind in it.

use crate::diagnostic::{Diagnostic, Edit, Fix};
use crate::source::{Origin, Source, Span};
use crate::syntax::{Data, Node, Value};
use stdlib::schema;

/// Adds the move to what was found misplaced in a node at the top level.
pub fn add(found: &mut [Diagnostic], top: &Node, schema: &'static schema::Node, sources: &[Source]) {
    for diagnostic in
        found.iter_mut().filter(|found| found.code == "misplaced-option" && found.fixes.is_empty())
    {
        let at = diagnostic.primary();
        let Some(text) = sources.get(at.source.0 as usize).map(|source| source.text.as_str()) else {
            continue;
        };
        diagnostic.fixes.extend(find(top, schema, at).and_then(|option| option.fix(top, schema, text)));
    }
}

/// An option where it should not be.
struct Misplaced<'a> {
    /// The node that it stands on or in.
    owner: &'a Node,
    owner_schema: &'static schema::Node,
    name: &'a str,
    /// From its name to the end of its value.
    span: Span,
    value: &'a Value,
    is_child: bool,
}

/// Finds the option with a name at a place.
fn find<'a>(node: &'a Node, schema: &'static schema::Node, at: Span) -> Option<Misplaced<'a>> {
    let through = |value: &Value| Span { end: value.span.end, ..at };
    if let Some(property) = node.properties.iter().find(|property| property.key.span == at) {
        let value = &property.value;
        let (name, span) = (property.key.text.as_str(), through(value));
        return Some(Misplaced { owner: node, owner_schema: schema, name, span, value, is_child: false });
    }
    for child in &node.children {
        if child.name.span == at {
            let is_plain = child.properties.is_empty() && child.children.is_empty() && !child.has_block;
            let [value] = child.arguments.as_slice() else { return None };
            let (name, span) = (child.name.text.as_str(), through(value));
            let option = Misplaced { owner: node, owner_schema: schema, name, span, value, is_child: true };
            return is_plain.then_some(option);
        }
        let inner = schema.child(&child.name.text).and_then(|schema| find(child, schema, at));
        if inner.is_some() {
            return inner;
        }
    }
    None
}

impl Misplaced<'_> {
    fn fix(&self, top: &Node, schema: &'static schema::Node, text: &str) -> Option<Fix> {
        let is_written = self.value.via.is_none() && self.value.data != Data::Broken;
        let value = text.get(self.value.span.start as usize..self.value.span.end as usize)?;
        if !is_written || self.value.span.source != self.span.source {
            return None;
        }
        let (edit, to) = self.target(top, schema, value)?;
        let removal = Edit { span: self.removal(text), text: String::new() };
        let mut edits = vec![removal, edit];
        edits.sort_by_key(|edit| edit.span);
        let is_apart =
            edits[0].span.end <= edits[1].span.start && edits[0].span.source == edits[1].span.source;
        is_apart.then(|| Fix { title: format!("move it to `{to}`"), edits })
    }

    /// Returns what puts the option where it belongs, and what that is called.
    fn target(&self, top: &Node, schema: &'static schema::Node, value: &str) -> Option<(Edit, String)> {
        if self.is_child && self.owner_schema.property(self.name).is_some() {
            return self.onto(self.owner, value);
        }
        if !self.is_child && self.owner_schema.child(self.name).is_some() {
            return self.into(self.owner, value);
        }
        let holders = || schema.children.iter().filter(|child| child.property(self.name).is_some());
        match (schema.child(self.name).is_some(), holders().count()) {
            (true, 0) => self.into(top, value),
            (false, 1) => {
                let holder = holders().next()?.name;
                let mut written = top.children.iter().filter(|child| child.name.text == holder);
                let (only, more) = (written.next()?, written.next());
                more.is_none().then(|| self.onto(only, value)).flatten()
            }
            _ => None,
        }
    }

    /// As a property on the line of a node.
    fn onto(&self, node: &Node, value: &str) -> Option<(Edit, String)> {
        let has_it = node.properties.iter().any(|property| property.key.text == self.name);
        if has_it || node.origin != Origin::Written {
            return None;
        }
        let at = Span { start: end_of_line(node), end: end_of_line(node), ..node.name.span };
        Some((Edit { span: at, text: format!(" {}={value}", self.name) }, node.name.text.clone()))
    }

    /// As a child, before the first in the block of a node.
    fn into(&self, node: &Node, value: &str) -> Option<(Edit, String)> {
        let has_it = node.children.iter().any(|child| child.name.text == self.name);
        let first = node.children.first().filter(|first| first.origin == Origin::Written)?;
        if has_it || node.origin != Origin::Written {
            return None;
        }
        let at = Span { end: first.name.span.start, ..first.name.span };
        Some((Edit { span: at, text: format!("{} {value}; ", self.name) }, node.name.text.clone()))
    }

    /// The option with what separates it from its neighbours.
    fn removal(&self, text: &str) -> Span {
        let (start, end) = (self.span.start as usize, self.span.end as usize);
        let is_blank = |c: char| c == ' ' || c == '\t';
        let before = text[..start].trim_end_matches(is_blank);
        let after = text[end..].trim_start_matches(is_blank);
        let behind = text.len() - after.len();
        let (from, to) = match after.strip_prefix(';') {
            _ if !self.is_child => (before.len(), end),
            Some(rest) => (start, text.len() - rest.trim_start_matches(is_blank).len()),
            None if before.ends_with(';') => (before.len() - 1, end),
            // A line of its own goes with it.
            None if before.ends_with('\n') && after.starts_with('\n') => (before.len(), behind + 1),
            None => (start, end),
        };
        Span { start: from as u32, end: to as u32, ..self.span }
    }
}

/// Where the line of a node ends, its block left out.
fn end_of_line(node: &Node) -> u32 {
    let values = node.arguments.iter().chain(node.properties.iter().map(|property| &property.value));
    let own = values.filter(|value| value.span.source == node.name.span.source);
    own.map(|value| value.span.end).fold(node.name.span.end, u32::max)
}

#[cfg(test)]
mod tests {
    use crate::{Input, check};

    /// Compares a stage with what the fix of its misplaced option makes of it.
    fn moved(stage: &str, expected: Option<&str>) {
        let head = "adapt 1\n";
        let text = format!("{head}{stage}");
        let checked = check(&Input { path: "a.kdl", text: &text, sets: &[] }, &Default::default());
        let found = checked.diagnostics.iter().find(|found| found.code == "misplaced-option");
        let fix = found.expect("an option is misplaced").fixes.first();
        let applied = fix.map(|fix| {
            let mut text = text.clone();
            for edit in fix.edits.iter().rev() {
                text.replace_range(edit.span.start as usize..edit.span.end as usize, &edit.text);
            }
            text[head.len()..].to_owned()
        });
        assert_eq!(applied.as_deref(), expected, "{stage}");
    }

    #[test]
    fn an_option_moves_to_where_it_belongs() {
        moved("cpt a { lr 1e-4; optimizer adamw }", Some("cpt a { optimizer adamw lr=1e-4 }"));
        moved(
            "cpt a {\n    optimizer adamw\n    lr 1e-4\n    batch 2\n}",
            Some("cpt a {\n    optimizer adamw lr=1e-4\n    batch 2\n}"),
        );
        moved(
            "cpt a { optimizer adamw; warmup \"10%\"\n schedule linear }",
            Some("cpt a { optimizer adamw\n schedule linear warmup=\"10%\" }"),
        );
        moved("cpt a seed=3 { batch 2 }", Some("cpt a { seed 3; batch 2 }"));
        moved(
            "cpt a { optimizer adamw lr=1 { clip 0.5 } }",
            Some("cpt a { optimizer adamw lr=1 clip=0.5 {  } }"),
        );
        moved("cpt a {\n    optimizer adamw batch=4\n}", Some("cpt a {\n    batch 4; optimizer adamw\n}"));
    }

    #[test]
    fn an_option_stays_where_its_place_is_taken_or_not_there() {
        moved("cpt a { lr 1e-4; optimizer adamw lr=1 }", None);
        moved("cpt a { warmup 10; batch 2 }", None);
        moved("cpt a seed=3 { seed 2 }", None);
        moved("cpt a { lr; optimizer adamw }", None);
    }
}
