//! Checks nodes against the schema: what may stand where, and values of which type.

mod unknown;

use crate::capability::Missing;
use crate::diagnostic::Diagnostic;
use crate::source::{Origin, Source, SourceId, Span};
use crate::syntax::{Data, Node, Value, Word};
use crate::tree::{Item, Slot};
use crate::uses::Uses;
use crate::values::Typed;
use crate::{capability, config, moves, suggest, syntax, units, values};
use std::cell::RefCell;
use std::collections::HashMap;
use stdlib::schema::{self, Argument, Property, Status, Type};
use unknown::{
    bad_name, child_as_property, property_as_child, refuse_name, stray, stray_colon, unknown_node,
    unknown_option,
};

/// Checks the nodes of one file.
pub struct Typing<'a> {
    pub file: usize,
    pub diagnostics: &'a mut Vec<Diagnostic>,
    /// Every text of the compilation.
    pub sources: &'a [Source],
    /// Whether braces are in doubt, so that nodes may stand in the wrong block.
    pub misplaced: bool,
    /// Whether declarations and `defaults` may be lost, so that nothing is reported as missing.
    pub lost: bool,
    pub uses: &'a mut Uses,
    /// Options that stand in the wrong place within the node at the top level; they are not missing elsewhere.
    pub strays: Vec<String>,
    /// What the node at the top level uses that cannot be run yet.
    pub later: Vec<Missing>,
}

impl Typing<'_> {
    /// Checks a node at the top level.
    pub fn top(&mut self, node: &Node) -> Option<Item> {
        let Some(schema) = schema::top(&node.name.text) else {
            if !self.misplaced {
                self.diagnostics.push(unknown_node(&node.name));
            }
            return None;
        };
        self.strays.clear();
        stray(node, schema, &mut self.strays);
        self.note_node(node, schema, format!("`{}`", schema.name));
        let before = self.diagnostics.len();
        let mut item = self.node(node, schema, schema.name != "defaults");
        moves::add(&mut self.diagnostics[before..], node, schema, self.sources);
        item.damaged |= !self.strays.is_empty();
        item.later = std::mem::take(&mut self.later);
        Some(item)
    }

    /// Notes a node that cannot be run yet.
    fn note_node(&mut self, node: &Node, schema: &'static schema::Node, what: String) {
        if schema.status == Status::Later && !is_switch_off(node) {
            self.later.push(Missing::new(what, node.name.span));
        }
    }

    fn node(&mut self, node: &Node, schema: &'static schema::Node, required: bool) -> Item {
        let whole = units::joined(node, schema, self.diagnostics);
        let node = whole.as_ref().unwrap_or(node);
        let mut item = Item {
            schema,
            at: node.name.span,
            name: None,
            arguments: Vec::new(),
            properties: Vec::new(),
            children: Vec::new(),
            origin: node.origin,
            damaged: node.damaged,
            later: Vec::new(),
            file: self.file,
            config: Vec::new(),
        };
        let mut arguments = node.arguments.as_slice();
        if schema.declares {
            (item.name, arguments) = self.declared(node, schema);
        }
        self.arguments(node, arguments, &mut item);
        self.properties(node, &mut item);
        if schema.open {
            item.config = config::fields(node, self.diagnostics);
        } else {
            self.children(node, &mut item, required);
        }
        item
    }

    /// Reads the name that a node declares; returns the arguments after it.
    fn declared<'n>(&mut self, node: &'n Node, schema: &'static schema::Node) -> (Option<Word>, &'n [Value]) {
        let Some((first, rest)) = node.arguments.split_first() else {
            if !node.damaged {
                let message = format!("this `{}` has no name", schema.name);
                self.diagnostics.push(
                    Diagnostic::error("missing-name", message, node.name.span, "its name is missing")
                        .with_help(format!("write `{} NAME`", schema.name)),
                );
            }
            return (None, &[]);
        };
        let Some(text) = first.text() else {
            if first.data != Data::Broken {
                self.diagnostics.push(bad_name("a name is a word", first.span));
            }
            return (None, rest);
        };
        if let Some(reason) = refuse_name(text) {
            self.diagnostics.push(bad_name(reason, first.span));
        }
        (Some(Word { text: text.to_owned(), span: first.span }), rest)
    }

    fn arguments(&mut self, node: &Node, values: &[Value], item: &mut Item) {
        let allowed = item.schema.arguments;
        let last = allowed.last().filter(|argument| argument.repeats);
        for (at, value) in values.iter().enumerate() {
            match allowed.get(at).or(last) {
                Some(argument) => {
                    let slot = self.argument(value, argument, item.schema);
                    // What may have switched the node off says nothing of what is in it.
                    item.damaged |= slot.value == Typed::Broken && can_be_none(&argument.ty);
                    item.arguments.push(slot);
                }
                None => {
                    self.extra_value(value, node, item.schema);
                    item.damaged = true;
                }
            }
        }
        // An unknown property may be what was meant to be the value.
        let unknown = |property: &syntax::Property| item.schema.property(&property.key.text).is_none();
        item.damaged |= node.properties.iter().any(unknown) && !item.schema.open;
        for argument in &allowed[allowed.len().min(values.len())..] {
            self.absent_argument(node, argument, item);
        }
    }

    fn argument(
        &mut self,
        value: &Value,
        argument: &'static Argument,
        schema: &'static schema::Node,
    ) -> Slot {
        let of = format!("`{}`", schema.name);
        let typed = self.read(value, &argument.ty, &of);
        if let (Type::Source, Typed::Text(text)) = (&argument.ty, &typed) {
            self.later.extend(capability::of_source(text, schema.name, value.span));
        }
        if let (Type::Reference("template"), Typed::Text(text)) = (&argument.ty, &typed) {
            self.later.extend(capability::of_template(text, value.span));
        }
        self.note_word(&typed, &argument.ty, schema.name, value.span);
        Slot {
            name: argument.name,
            ty: &argument.ty,
            key: value.span,
            value: typed,
            span: value.span,
            origin: value.origin,
        }
    }

    fn read(&mut self, value: &Value, ty: &'static Type, of: &str) -> Typed {
        match values::read(value, ty, of) {
            Ok(typed) => {
                self.uses.note(value, ty);
                typed
            }
            Err(diagnostic) => {
                self.diagnostics.push(*diagnostic);
                Typed::Broken
            }
        }
    }

    /// Notes a word that cannot be run yet; `of` is what stands before it.
    fn note_word(&mut self, value: &Typed, ty: &Type, of: &str, span: Span) {
        let (Typed::Word(word), Type::Word(choices) | Type::NameOr { words: choices, .. }) = (value, ty)
        else {
            return;
        };
        if choices.iter().any(|choice| choice.name == *word && choice.status == Status::Later) {
            let blank = if of.ends_with('=') { "" } else { " " };
            let missing = Missing::new(format!("`{of}{blank}{word}`"), span);
            self.later.push(Missing { instead: capability::other_words(choices), ..missing });
        }
    }

    fn extra_value(&mut self, value: &Value, node: &Node, schema: &'static schema::Node) {
        if value.data == Data::Broken || node.damaged {
            return;
        }
        let pair = value.text().filter(|_| value.bare).and_then(|text| text.split_once(':'));
        if let Some((key, text)) = pair.filter(|(key, _)| schema.property(key).is_some()) {
            let whole = Word { text: format!("{key}:{text}"), span: value.span };
            self.diagnostics.push(stray_colon(&whole, &format!("{key}={text}")));
            return;
        }
        let needed = schema.properties.iter().find(|property| {
            property.required && !node.properties.iter().any(|written| written.key.text == property.name)
        });
        let example = needed.map_or("name", |property| property.name);
        let message = format!("`{}` takes no further value", node.name.text);
        self.diagnostics.push(
            values::with_places(
                Diagnostic::error("extra-value", message, value.span, "one value too many"),
                value,
            )
            .with_help(format!("remove it, or give it a name: `{example}=value`")),
        );
    }

    fn absent_argument(&mut self, node: &Node, argument: &'static Argument, item: &mut Item) {
        if let Some(default) = argument.default {
            let value = values::from_literal(default, &argument.ty);
            item.arguments.push(default_slot(argument.name, &argument.ty, value, node.name.span));
        } else if argument.required && !node.damaged && !item.damaged && !self.misplaced {
            let name = item.name.as_ref().map_or(String::new(), |name| format!(" {}", name.text));
            let start = format!("{}{name}", node.name.text);
            let message = format!("`{start}` has no value");
            let wanted = values::describe_type(&argument.ty);
            self.diagnostics.push(
                Diagnostic::error("missing-value", message, node.name.span, format!("wants {wanted}"))
                    .with_help(format!("write {wanted} after `{start}`")),
            );
            item.damaged = true;
        }
    }

    fn properties(&mut self, node: &Node, item: &mut Item) {
        for (at, property) in node.properties.iter().enumerate() {
            let first = node.properties[..at].iter().find(|first| first.key.text == property.key.text);
            match first {
                Some(first) => self.diagnostics.push(repeated(&property.key, first.key.span)),
                None => self.property(property, item),
            }
        }
        for property in item.schema.properties {
            if !item.properties.iter().any(|slot| slot.name == property.name) {
                self.absent_property(node, property, item);
            }
        }
    }

    fn property(&mut self, written: &syntax::Property, item: &mut Item) {
        let key = &written.key;
        let Some(property) = item.schema.property(&key.text) else {
            if !item.schema.open {
                self.diagnostics.push(match item.schema.child(&key.text) {
                    Some(child) => child_as_property(key, child.name, item.schema),
                    None => unknown_option(key, item.schema),
                });
                item.damaged = true;
            }
            return;
        };
        let ineffective = !item.takes(property);
        let of = format!("`{}` of `{}`", key.text, item.kind());
        let value = self.read(&written.value, &property.ty, &of);
        if ineffective {
            self.diagnostics.push(without_effect(key, property, item));
            return;
        }
        // Stating a default changes nothing, so nothing is missing.
        let default = property.default.map(|default| values::from_literal(default, &property.ty));
        if property.status == Status::Later && default.as_ref() != Some(&value) {
            self.later.push(Missing::new(format!("`{}` of `{}`", key.text, item.kind()), key.span));
        }
        let named = format!("{}=", key.text);
        self.note_word(&value, &property.ty, &named, written.value.span);
        let slot = Slot {
            name: property.name,
            ty: &property.ty,
            key: key.span,
            value,
            span: written.value.span,
            origin: written.value.origin,
        };
        item.properties.push(slot);
    }

    fn absent_property(&mut self, node: &Node, property: &'static Property, item: &mut Item) {
        if !item.asks_for(property) {
            return;
        }
        if let Some(default) = property.default {
            let value = values::from_literal(default, &property.ty);
            item.properties.push(default_slot(property.name, &property.ty, value, node.name.span));
        } else if property.required
            && !node.damaged
            && !item.damaged
            && !is_off(item)
            && !self.is_stray(property.name)
        {
            self.diagnostics.push(missing_property(node, property));
        }
    }

    fn children(&mut self, node: &Node, item: &mut Item, required: bool) {
        for (at, child) in node.children.iter().enumerate() {
            let Some(schema) = item.schema.child(&child.name.text) else {
                self.unknown_child(child, item);
                continue;
            };
            match clash(&node.children[..at], child, schema, item.schema) {
                Some(diagnostic) => self.diagnostics.push(diagnostic),
                None => {
                    // What stands in `defaults` is what stands in a stage.
                    let is_of_stage = item.schema.training || item.kind() == "defaults";
                    let what = match is_of_stage {
                        true => format!("`{}`", schema.name),
                        false => format!("`{}` of `{}`", schema.name, item.kind()),
                    };
                    self.note_node(child, schema, what);
                    let child = self.node(child, schema, true);
                    item.children.push(child);
                }
            }
        }
        if required {
            self.absent_children(node, item);
        }
    }

    fn is_stray(&self, name: &str) -> bool {
        self.strays.iter().any(|stray| stray == name)
    }

    fn unknown_child(&mut self, child: &Node, item: &mut Item) {
        item.damaged = true;
        if child.damaged && child.name.text.is_empty() || self.misplaced {
            return;
        }
        let pair = child.name.text.split_once(':').filter(|(key, _)| item.schema.child(key).is_some());
        self.diagnostics.push(match pair {
            Some((key, text)) => stray_colon(&child.name, &format!("{key} {text}")),
            None if item.schema.property(&child.name.text).is_some() => {
                property_as_child(&child.name, item.schema)
            }
            None => unknown_option(&child.name, item.schema),
        });
    }

    fn absent_children(&mut self, node: &Node, item: &mut Item) {
        for schema in item.schema.children {
            if item.children.iter().any(|child| child.kind() == schema.name) {
                continue;
            }
            if !schema.absent.is_empty() {
                let child = self.default_child(schema, node.name.span);
                item.children.push(child);
            } else if schema.required
                && !node.damaged
                && !item.damaged
                && !self.lost
                && !self.is_stray(schema.name)
            {
                self.diagnostics.push(missing_child(node, schema));
            }
        }
    }

    /// Builds the child that stands for one that nobody wrote.
    fn default_child(&mut self, schema: &'static schema::Node, at: Span) -> Item {
        let mut node = absent_form(schema, at.source);
        node.set_place(at);
        node.set_origin(Origin::Default);
        let mut silent = Vec::new();
        let mut typing = Typing {
            file: self.file,
            diagnostics: &mut silent,
            sources: self.sources,
            misplaced: false,
            lost: false,
            uses: &mut Uses::default(),
            strays: Vec::new(),
            later: Vec::new(),
        };
        let item = typing.node(&node, schema, true);
        let later = typing.later.into_iter().map(|missing| Missing {
            what: format!("the default {}", missing.what),
            span: at,
            instead: missing.instead,
            by_default: true,
        });
        self.later.extend(later);
        item
    }
}

/// Returns what a child that nobody wrote stands for.
fn absent_form(schema: &'static schema::Node, source: SourceId) -> Node {
    let parse = || {
        let nodes = syntax::parse_default(source, schema.absent).nodes;
        nodes.into_iter().next().expect("a test parses the absent form of every child")
    };
    ABSENT.with_borrow_mut(|known| {
        known.entry(std::ptr::from_ref(schema) as usize).or_insert_with(parse).clone()
    })
}

/// Whether a node only switches a default off, which asks for nothing.
fn is_switch_off(node: &Node) -> bool {
    node.arguments.first().and_then(Value::text) == Some("none")
}

/// Whether a word may switch its node off.
fn can_be_none(ty: &Type) -> bool {
    matches!(ty, Type::Word(choices) if choices.iter().any(|choice| choice.name == "none"))
}

/// Whether a node only says `none`.
fn is_off(item: &Item) -> bool {
    item.word() == Some("none")
}

fn default_slot(name: &'static str, ty: &'static Type, value: Typed, at: Span) -> Slot {
    Slot { name, ty, key: at, value, span: at, origin: Origin::Default }
}

thread_local! {
    /// The absent forms of children, by the address of their schema; few of all are met.
    static ABSENT: RefCell<HashMap<usize, Node>> = RefCell::default();
}

/// A second child where one may stand.
fn clash(
    before: &[Node],
    child: &Node,
    schema: &'static schema::Node,
    parent: &'static schema::Node,
) -> Option<Diagnostic> {
    if let Some(first) = before.iter().find(|first| first.name.text == child.name.text) {
        return (!schema.repeats).then(|| repeated(&child.name, first.name.span));
    }
    if schema.group.is_empty() {
        return None;
    }
    let same_group =
        |other: &Node| parent.child(&other.name.text).is_some_and(|other| other.group == schema.group);
    let first = before.iter().find(|other| same_group(other))?;
    let (code, what) = if schema.group == "budget" {
        ("two-budgets", "two budgets")
    } else {
        ("conflicting-options", "two options that exclude each other")
    };
    let message = format!("`{}` and `{}` are {what}", first.name.text, child.name.text);
    Some(
        Diagnostic::error(code, message, child.name.span, "the second")
            .with_label(first.name.span, "the first")
            .with_help("keep one of them"),
    )
}

fn repeated(second: &Word, first: Span) -> Diagnostic {
    Diagnostic::error("repeated-option", format!("`{}` stands twice", second.text), second.span, "the second")
        .with_label(first, "the first")
        .with_help("keep one of them")
}

fn without_effect(key: &Word, property: &'static Property, item: &Item) -> Diagnostic {
    let word = item.word().unwrap_or_default();
    let message = format!("`{}` has no effect with `{} {word}`", key.text, item.kind());
    let diagnostic =
        Diagnostic::error("ineffective-option", message, key.span, "changes nothing here").with_help(
            format!("remove it; it belongs to {}", suggest::list(property.only.iter().copied(), "and")),
        );
    match item.argument() {
        Some(argument) => diagnostic.with_label(argument.span, "because of this"),
        None => diagnostic,
    }
}

fn missing_property(node: &Node, property: &'static Property) -> Diagnostic {
    let message = format!("`{}` lacks `{}`", node.name.text, property.name);
    Diagnostic::error("missing-option", message, node.name.span, format!("needs `{}`", property.name))
        .with_help(format!("write `{}=…`: {}", property.name, lower_first(property.doc)))
}

fn missing_child(node: &Node, schema: &'static schema::Node) -> Diagnostic {
    let message = format!("`{}` lacks `{}`", node.name.text, schema.name);
    Diagnostic::error("missing-option", message, node.name.span, format!("needs `{}`", schema.name))
        .with_help(format!("write `{}` in its block: {}", schema.name, lower_first(schema.doc)))
}

/// Makes a sentence of the schema the end of a help.
pub fn lower_first(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let mut chars = sentence.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}
