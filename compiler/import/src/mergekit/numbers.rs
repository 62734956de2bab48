//! mergekit's parameters: one number, or values over depth.

use super::Member;
use crate::kdl::{Line, number};
use crate::section::Section;
use crate::yaml::{Node, Value};

/// A number of a merge.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Number {
    One(f64),
    /// From the first layer to the last, in between by straight lines.
    OverDepth(Vec<f64>),
}

/// Numbers that each model of a merge has.
const OF_MODELS: [&str; 3] = ["weight", "density", "epsilon"];

/// Reads the numbers of one model.
pub(crate) fn of(section: &Section) -> Vec<(&'static str, Number, String)> {
    let Some(parameters) = section.section("parameters") else { return Vec::new() };
    let found = OF_MODELS.iter().filter_map(|name| {
        let value = read(&parameters, name)?;
        Some((*name, value, parameters.key(name)))
    });
    found.collect()
}

/// Reads a number, a list of numbers, or a list of one value for all weights.
fn read(parameters: &Section, key: &str) -> Option<Number> {
    let node = parameters.node(key)?;
    let refuse = || {
        let help = "write one number for all weights, or a list of numbers over depth";
        parameters.refuse(
            key,
            format!("`{key}` differs by the kind of weight, which has no word in the language"),
            help,
        );
        None
    };
    match &node.value {
        Value::List(items) => {
            let values: Vec<f64> = items.iter().filter_map(value).collect();
            if values.len() == items.len() && !values.is_empty() {
                return Some(Number::OverDepth(values));
            }
            // `- value: 0.5` alone is 0.5.
            match items.as_slice() {
                [only] if only.get("filter").is_none() => {
                    let inner = only.get("value")?;
                    match &inner.value {
                        Value::List(items) => {
                            Some(Number::OverDepth(items.iter().filter_map(value).collect()))
                        }
                        _ => value(inner).map(Number::One),
                    }
                }
                _ => refuse(),
            }
        }
        Value::Map(_) => refuse(),
        _ => parameters.number(key).map(Number::One),
    }
}

fn value(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// Which numbers of models a method reads.
fn reads(method: &str, name: &str) -> bool {
    match name {
        "weight" => !matches!(method, "slerp" | "model-stock" | "passthrough"),
        "density" => {
            matches!(method, "ties" | "dare-linear" | "dare-ties" | "della" | "della-linear" | "breadcrumbs")
        }
        "epsilon" => matches!(method, "della" | "della-linear"),
        _ => false,
    }
}

/// Writes one model of a merge.
pub(crate) fn of_model(member: &Member, method: &str) -> Line {
    let mut line = Line::new("from").word(&member.name).from(member.section.key(member.key));
    let parameters = member.section.section("parameters");
    for (name, number_of, key) in &member.numbers {
        if !reads(method, name) {
            continue;
        }
        if let Some(parameters) = parameters.as_ref().filter(|parameters| parameters.node(name).is_some()) {
            parameters.carried(name, format!("`{name}` of `from`"));
        }
        line.from.push(key.clone());
        match number_of {
            Number::One(value) => line = line.with(name, number(*value)),
            Number::OverDepth(values) => {
                let child = values.iter().fold(Line::new(name), |child, value| child.word(number(*value)));
                line.push(child.from(key.clone()));
            }
        }
    }
    line
}

/// Writes the method with its own numbers.
pub(crate) fn of_parameters(document: &Section, method: &str) -> Line {
    let mut line = Line::new("method").word(method);
    let slices = document.sections("slices");
    let inner = slices.first().and_then(|slice| slice.section("parameters"));
    let sections: Vec<Section> = document.section("parameters").into_iter().chain(inner).collect();
    for section in &sections {
        line = properties(section, method, line);
    }
    if method == "slerp" && !sections.iter().any(|section| section.is_on("t") || section.node("t").is_some())
    {
        document.missing("parameters.t", "write where between the two models the result lies");
    }
    line
}

fn properties(section: &Section, method: &str, mut line: Line) -> Line {
    let sums = matches!(
        method,
        "linear"
            | "task-arithmetic"
            | "ties"
            | "dare-linear"
            | "dare-ties"
            | "della"
            | "della-linear"
            | "breadcrumbs"
    );
    if let Some(normalize) = section.switch("normalize").filter(|_| sums) {
        section.carried("normalize", "`normalize=` of `method`");
        if normalize != matches!(method, "linear" | "ties" | "della") {
            line = line.with("normalize", format!("#{normalize}")).from(section.key("normalize"));
        }
    }
    let scales = matches!(method, "dare-linear" | "dare-ties" | "della" | "della-linear");
    if let Some(rescale) = section.switch("rescale").filter(|_| scales) {
        section.carried("rescale", "`rescale=` of `method`");
        if !rescale {
            line = line.with("rescale", "#false").from(section.key("rescale"));
        }
    }
    for (key, property, fits, default) in [
        ("lambda", "lambda", sums && method != "linear", Some(1.0)),
        ("gamma", "gamma", method == "breadcrumbs", Some(0.01)),
        ("t", "t", method == "slerp", None),
        ("scale", "scale", method == "passthrough", Some(1.0)),
    ] {
        if !fits {
            continue;
        }
        match read(section, key) {
            None => {}
            Some(Number::OverDepth(_)) => {
                let help = "write one number";
                section.refuse(key, format!("`{key}` over depth has no word in the language"), help);
            }
            Some(Number::One(value)) => {
                section.carried(key, format!("`{property}=` of `method`"));
                if default != Some(value) {
                    line = line.with(property, number(value)).from(section.key(key));
                }
            }
        }
    }
    if let Some(rows) = section.switch("filter_wise").filter(|_| method == "model-stock") {
        section.carried("filter_wise", "`filter-wise=` of `method`");
        if rows {
            line = line.with("filter-wise", "#true").from(section.key("filter_wise"));
        }
    }
    line
}

/// A number of models may be written for all of them at once.
pub(crate) fn share(document: &Section, method: &str, members: &mut [Member]) {
    let Some(section) = document.section("parameters") else { return };
    for name in OF_MODELS.into_iter().filter(|name| reads(method, name)) {
        let Some(value) = read(&section, name) else { continue };
        section.carried(name, format!("`{name}` of every `from` that has none of its own"));
        for member in members.iter_mut() {
            if !member.numbers.iter().any(|(known, ..)| *known == name) {
                member.numbers.push((name, value.clone(), section.key(name)));
            }
        }
    }
}
