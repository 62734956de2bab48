//! Where names are declared and referred to, in texts that may be broken.

use crate::text::{Slot, Text};
use crate::tokens::Kind;
use std::ops::Range;
use stdlib::schema::{self, Type};

/// A place where a name stands.
#[derive(Debug, Clone)]
pub struct Occurrence {
    pub name: String,
    /// The characters of the name, quotes included, without the `$` of a parameter.
    pub range: Range<usize>,
    /// The node that holds it.
    pub node: usize,
    pub role: Role,
}

/// What a name does where it stands.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    /// A node of this kind declares it.
    Declares(&'static schema::Node),
    /// It refers to a declaration.
    Refers,
    /// It stands for the value of a parameter.
    Parameter,
}

impl Role {
    /// Whether it is the declaration.
    pub fn declares(self) -> bool {
        matches!(self, Role::Declares(_))
    }
}

/// Returns every name of a text, in its order; those of the library (`std:…`) are not among them.
pub fn occurrences(text: &Text) -> Vec<Occurrence> {
    let live = (0..text.outline.nodes.len()).filter(|&node| !text.outline.nodes[node].dropped);
    live.flat_map(|node| of_node(text, node)).collect()
}

fn of_node(text: &Text, node: usize) -> impl Iterator<Item = Occurrence> + '_ {
    all_of_node(text, node).filter(|found| !found.name.starts_with(LIBRARY))
}

/// What the names of the library begin with.
const LIBRARY: &str = "std:";

fn all_of_node(text: &Text, node: usize) -> impl Iterator<Item = Occurrence> + '_ {
    text.slots(node).filter_map(move |(entry, slot)| {
        let token = entry.value.as_ref()?;
        let range = token.range.clone();
        let word = text.word(token);
        if let Some(name) = word.strip_prefix('$').filter(|_| token.kind == Kind::Word) {
            let range = range.start + 1..range.end;
            return Some(Occurrence { name: name.to_owned(), range, node, role: Role::Parameter });
        }
        let name = text.value(token);
        let role = match slot? {
            Slot::Name => Role::Declares(text.schema(node)?),
            slot => match slot.ty()? {
                Type::Reference(_) => Role::Refers,
                Type::NameOr { words, .. } if words.iter().all(|word| word.name != name) => Role::Refers,
                _ => return None,
            },
        };
        Some(Occurrence { name, range, node, role })
    })
}

/// Returns the name that stands at a byte, or ends there.
pub fn at(text: &Text, at: usize) -> Option<Occurrence> {
    any_at(text, at).filter(|found| !found.name.starts_with(LIBRARY))
}

/// Returns the name that is referred to at a byte when it is one of the library, without its `std:`.
pub fn library_at(text: &Text, at: usize) -> Option<String> {
    any_at(text, at)?.name.strip_prefix(LIBRARY).map(str::to_owned)
}

fn any_at(text: &Text, at: usize) -> Option<Occurrence> {
    let node = text.outline.header_at(at).filter(|&node| !text.outline.nodes[node].dropped)?;
    all_of_node(text, node).find(|found| found.range.start <= at && at <= found.range.end)
}

/// Returns the declarations of a text.
pub fn declarations(text: &Text) -> impl Iterator<Item = Occurrence> + '_ {
    let live = text.outline.children(None);
    live.flat_map(|node| of_node(text, node)).filter(|found| found.role.declares())
}

/// Says why a word cannot be the name of a declaration; nothing when it can.
pub fn refuse(name: &str) -> Option<String> {
    if name == "defaults" || name == "none" {
        return Some(format!("`{name}` has a meaning of its own"));
    }
    let begins = name.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let holds = name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    (!begins || !holds).then(|| "a name is made of letters, digits, `-` and `_`".to_owned())
}

/// Writes a name as the language wants it: in quotes where the bare word would be a number or a keyword.
pub fn written(name: &str) -> String {
    let keyword = matches!(name, "true" | "false" | "null" | "inf" | "nan");
    let number = name.starts_with(|c: char| c.is_ascii_digit());
    if keyword || number { format!("\"{name}\"") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_stand() {
        let text = Text::of(
            "param n 2\nmodel m \"x\"\ndataset d \"y\"\nsft s { model m; data \"d\"; batch $n; template std:zephyr\n"
                .into(),
        );
        let found: Vec<(String, &str)> = occurrences(&text)
            .into_iter()
            .map(|found| {
                let role = match found.role {
                    Role::Declares(schema) => schema.name,
                    Role::Refers => "->",
                    Role::Parameter => "$",
                };
                (found.name, role)
            })
            .collect();
        let names: Vec<(&str, &str)> = found.iter().map(|(name, role)| (name.as_str(), *role)).collect();
        assert_eq!(
            names,
            [
                ("n", "param"),
                ("m", "model"),
                ("d", "dataset"),
                ("s", "sft"),
                ("m", "->"),
                ("d", "->"),
                ("n", "$")
            ]
        );
    }

    #[test]
    fn bad_names_are_refused() {
        for name in ["", "a b", "none", "$a", "std:a", "-a", "a=b", "é!"] {
            assert!(refuse(name).is_some(), "{name}");
        }
        for name in ["a", "chat-2", "_x", "été", "2b"] {
            assert!(refuse(name).is_none(), "{name}");
        }
        assert_eq!(written("2b"), "\"2b\"");
        assert_eq!(written("été"), "été");
    }
}
