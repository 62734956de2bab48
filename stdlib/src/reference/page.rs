//! The page `docs/language/reference.md`; a test of `lang` keeps the file equal to it.

use super::{literal, range_words, shape, type_words};
use crate::hardware::HARDWARE;
use crate::schema::{self, Node, Property, Status, Type};

/// Returns the page.
pub fn page() -> String {
    let mut page = String::from(
        "# The recipe language: reference\n\n\
         Written from `stdlib/schema` by a test; change it there. *Later* marks what is part of the language \
         and checked, but not run by this version (`not-yet-runnable`).\n",
    );
    schema::TOP.iter().for_each(|node| page += &top(node));
    page += "\n## Templates of the library\n\n| name | text |\n|---|---|\n";
    for entry in schema::TEMPLATES {
        page += &format!("| `std:{}` | {}{} |\n", entry.name, later_mark(entry.status), cell(entry.doc));
    }
    page += "\n## Hardware of the library\n\n| name | device | memory |\n|---|---|---|\n";
    for hardware in HARDWARE {
        let memory =
            hardware.memory.map_or("that of the machine".to_owned(), |memory| format!("{memory} GiB"));
        page += &format!("| `std:{}` | {} | {memory} |\n", hardware.name, cell(hardware.doc));
    }
    page += "\n## Architectures\n\n| name | fields of config.json |\n|---|---|\n";
    for architecture in schema::ARCHITECTURES {
        let fields: Vec<String> =
            architecture.fields.iter().map(|field| format!("`{}`", field.name)).collect();
        page += &format!(
            "| `new:{}` | {}{} |\n",
            architecture.name,
            later_mark(architecture.status),
            fields.join(", ")
        );
    }
    page
}

fn top(node: &Node) -> String {
    let mut text = format!("\n## `{}`\n\n{}{}\n", node.name, later_mark(node.status), node.doc);
    if node.name == "defaults" {
        return text + "\nIts children are those of the training stages.\n";
    }
    let name = if node.declares { " NAME" } else { "" };
    let arguments: String = node.arguments.iter().map(|argument| format!(" {}", shape(argument))).collect();
    text += &format!("\nWritten `{}{name}{arguments}`.\n", node.name);
    text += &values(node);
    for child in node.children {
        text += &self::child(child, 0);
    }
    text
}

/// One child as an entry of a list, its values below it.
fn child(node: &Node, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let mut marks = Vec::new();
    if node.required {
        marks.push("required".to_owned());
    }
    if node.repeats {
        marks.push("may repeat".to_owned());
    }
    if !node.absent.is_empty() && node.absent != node.name {
        marks.push(format!("else `{}`", node.absent));
    }
    let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join("; ")) };
    let arguments: String = node.arguments.iter().map(|argument| format!(" {}", shape(argument))).collect();
    let head =
        format!("\n{indent}- **`{}{arguments}`**{marks} {}{}", node.name, later_mark(node.status), node.doc);
    let mut text = head.trim_end().to_owned();
    text += &listed(node, depth + 1);
    for inner in node.children {
        text += &child(inner, depth + 1);
    }
    if depth == 0 { text + "\n" } else { text }
}

fn listed(node: &Node, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let arguments = node
        .arguments
        .iter()
        .map(|argument| format!("*{}*: {}", argument.name, described(&argument.ty, argument.doc)));
    let properties = node.properties.iter().map(described_property);
    arguments.chain(properties).map(|line| format!("\n{indent}- {line}")).collect()
}

fn values(node: &Node) -> String {
    let lines = listed(node, 0);
    if lines.is_empty() { lines } else { format!("{lines}\n") }
}

fn described_property(property: &Property) -> String {
    let mut notes = Vec::new();
    if property.required {
        notes.push("required".to_owned());
    }
    if let Some(default) = property.default {
        notes.push(format!("default `{}`", literal(default)));
    }
    if !property.only.is_empty() {
        notes.push(format!("with `{}`", property.only.join("`, `")));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    let mark = later_mark(property.status);
    format!("`{}=`{notes}: {mark}{}", property.name, described(&property.ty, property.doc))
}

fn described(ty: &Type, doc: &str) -> String {
    let range = range_words(ty);
    let range = if range.is_empty() { range } else { format!(", {range}") };
    let wanted = match ty {
        Type::Word(choices) => {
            let words = choices.iter().map(|choice| match choice.status {
                Status::Built => format!("`{}`", choice.name),
                Status::Later => format!("`{}` (later)", choice.name),
            });
            words.collect::<Vec<_>>().join(", ")
        }
        ty => type_words(ty),
    };
    format!("{doc} {}{range}.", upper_first(&wanted)).trim_start().to_owned()
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

fn later_mark(status: Status) -> &'static str {
    match status {
        Status::Built => "",
        Status::Later => "*Later.* ",
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
