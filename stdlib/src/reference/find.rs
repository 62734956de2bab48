//! Paths of the language: `sft.optimizer.lr`, `dataset.rows`, `std:chatml`, `new:llama.hidden_size`.

use super::{Entry, choices};
use crate::hardware::HARDWARE;
use crate::schema::{self, Node, Type};

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// Entries of that path: more than one when a child and a property share a name. Beside each
    /// the paths under which the same thing stands elsewhere.
    Here(Vec<(String, Entry, Vec<String>)>),
    /// Different things end in this path; these are their full paths.
    Several(Vec<String>),
    Nothing,
}

/// Finds what a path means. Leading parts may be left out as long as one thing is meant.
pub fn find(path: &str) -> Found {
    let all = entries();
    let exact: Vec<(String, Entry)> = all.iter().filter(|(known, _)| known == path).cloned().collect();
    if !exact.is_empty() {
        let tail = path.split_once('.').map(|(_, tail)| tail);
        let with_others = |(path, entry): (String, Entry)| {
            let others = tail.map_or(Vec::new(), |tail| same(&all, &path, tail, &entry));
            (path, entry, others)
        };
        return Found::Here(exact.into_iter().map(with_others).collect());
    }
    let ending = format!(".{path}");
    let mut ends: Vec<&(String, Entry)> =
        all.iter().filter(|(known, _)| known.ends_with(&ending) && !known.starts_with("defaults.")).collect();
    // What takes the fewest steps to reach is meant first: `lr` is `sft.optimizer.lr`.
    ends.sort_by_key(|(known, _)| known.matches('.').count());
    match ends.split_first() {
        None => Found::Nothing,
        Some((first, rest)) if rest.iter().all(|other| describes_the_same(&first.1, &other.1)) => {
            let others = rest.iter().map(|(path, _)| path.clone()).collect();
            Found::Here(vec![(first.0.clone(), first.1, others)])
        }
        Some(_) => Found::Several(different(&ends)),
    }
}

/// One path of each thing that differs; a value that is called like its own node is not meant.
fn different(ends: &[&(String, Entry)]) -> Vec<String> {
    let mut kept: Vec<&(String, Entry)> = Vec::new();
    for end in ends {
        let mut parts = end.0.rsplit('.');
        let doubled = parts.next() == parts.next();
        if !doubled && !kept.iter().any(|known| describes_the_same(&known.1, &end.1)) {
            kept.push(end);
        }
    }
    kept.into_iter().map(|(path, _)| path.clone()).collect()
}

/// The other kinds of nodes in which the same thing stands at the same place.
fn same(all: &[(String, Entry)], path: &str, tail: &str, entry: &Entry) -> Vec<String> {
    let is_there = |other: &str| other != path && other.split_once('.').is_some_and(|(_, end)| end == tail);
    let others = all.iter().filter(|(other, found)| is_there(other) && describes_the_same(entry, found));
    others.map(|(path, _)| path.clone()).collect()
}

fn describes_the_same(a: &Entry, b: &Entry) -> bool {
    a.doc() == b.doc() && a.facts() == b.facts() && a.lines() == b.lines()
}

/// Returns every entry with its path, in the order of the schema.
pub fn entries() -> Vec<(String, Entry)> {
    let mut all = Vec::new();
    for top in schema::TOP {
        all.push((top.name.to_owned(), Entry::Top(top)));
        below(top, top.name, &mut all);
    }
    for entry in schema::TEMPLATES {
        all.push((format!("std:{}", entry.name), Entry::Template(entry)));
    }
    for hardware in HARDWARE {
        all.push((format!("std:{}", hardware.name), Entry::Hardware(hardware)));
    }
    for architecture in schema::ARCHITECTURES {
        let path = format!("new:{}", architecture.name);
        all.push((path.clone(), Entry::Architecture(architecture)));
        for field in architecture.fields {
            all.push((format!("{path}.{}", field.name), Entry::Field(architecture, field)));
        }
    }
    all
}

fn below(node: &'static Node, path: &str, all: &mut Vec<(String, Entry)>) {
    let words = |ty: &'static Type, path: &str, all: &mut Vec<(String, Entry)>| {
        let each = choices(ty).iter().filter(|choice| choice.name != "none");
        all.extend(each.map(|choice| (format!("{path}.{}", choice.name), Entry::Choice(node, choice))));
    };
    for argument in node.arguments {
        all.push((format!("{path}.{}", argument.name), Entry::Argument(node, argument)));
        words(&argument.ty, path, all);
    }
    for property in node.properties {
        let path = format!("{path}.{}", property.name);
        all.push((path.clone(), Entry::Property(node, property)));
        words(&property.ty, &path, all);
    }
    for child in node.children {
        let path = format!("{path}.{}", child.name);
        all.push((path.clone(), Entry::Child(child)));
        below(child, &path, all);
    }
}

/// Returns the longest part of a path that is known, empty when none is, and the names below it.
pub fn names_below(path: &str) -> (String, Vec<String>) {
    let all = entries();
    let mut known = path;
    while !known.is_empty() && !all.iter().any(|(entry, _)| entry == known) {
        known = known.rsplit_once('.').map_or("", |(start, _)| start);
    }
    let prefix = if known.is_empty() { String::new() } else { format!("{known}.") };
    let rest = all.iter().filter_map(|(entry, _)| entry.strip_prefix(&prefix));
    let mut names: Vec<String> = rest.filter(|rest| !rest.contains('.')).map(str::to_owned).collect();
    names.dedup();
    (known.to_owned(), names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str) -> (String, Entry, Vec<String>) {
        match find(path) {
            Found::Here(mut found) if found.len() == 1 => found.remove(0),
            found => panic!("{path}: {found:?}"),
        }
    }

    #[test]
    fn full_paths_lead_to_one_thing() {
        assert!(matches!(one("sft").1, Entry::Top(_)));
        assert!(matches!(one("sft.optimizer").1, Entry::Child(_)));
        assert!(matches!(one("sft.optimizer.lr").1, Entry::Property(..)));
        assert!(matches!(one("sft.optimizer.adamw").1, Entry::Choice(..)));
        assert!(matches!(one("sft.optimizer.state.f32").1, Entry::Choice(..)));
        assert!(matches!(one("std:chatml").1, Entry::Template(_)));
        assert!(matches!(one("new:llama.hidden_size").1, Entry::Field(..)));
    }

    #[test]
    fn the_same_thing_elsewhere_is_named() {
        let (_, _, others) = one("sft.optimizer.lr");
        assert!(others.contains(&"cpt.optimizer.lr".to_owned()), "{others:?}");
        assert!(!others.contains(&"sft.optimizer.group.lr".to_owned()), "{others:?}");
    }

    #[test]
    fn leading_parts_may_be_left_out_where_one_thing_is_meant() {
        assert_eq!(one("warmup").0, "cpt.schedule.warmup");
        assert!(
            matches!(find("seed"), Found::Several(paths) if paths.contains(&"dataset.shuffle.seed".into()))
        );
        assert!(matches!(find("nothing-of-that-name"), Found::Nothing));
    }

    #[test]
    fn a_child_and_a_property_of_one_name_are_both_found() {
        assert!(matches!(find("cpt.sample.prompt"), Found::Here(found) if found.len() == 2));
    }

    #[test]
    fn names_below_the_known_part_are_given() {
        let (known, names) = names_below("sft.optimizer.learning-rate");
        assert_eq!(known, "sft.optimizer");
        assert!(names.contains(&"lr".to_owned()) && !names.contains(&"group.lr".to_owned()), "{names:?}");
        let (known, names) = names_below("sfd");
        assert!(known.is_empty() && names.contains(&"sft".to_owned()));
    }
}
