//! Whether a condition holds for a row.
//!
//! What is missing or null compares false, whatever the comparison; `not` turns that around. Nothing is
//! converted: a number and a text are unequal, and neither is less than the other.

use super::{Column, Comparison, Condition, Literal, Operand};
use serde_json::Value as Json;
use std::cmp::Ordering;

/// Whether a condition holds for a row.
pub fn holds(condition: &Condition, row: &Json) -> bool {
    match condition {
        Condition::And(parts) => parts.iter().all(|part| holds(part, row)),
        Condition::Or(parts) => parts.iter().any(|part| holds(part, row)),
        Condition::Not(inner) => !holds(inner, row),
        Condition::Compare { left, op, right } => compare(&value(left, row), *op, &value(right, row)),
        Condition::In { operand, values } => {
            let found = value(operand, row);
            values.iter().any(|value| compare(&found, Comparison::Equal, &literal(value)))
        }
        Condition::Matches { column, pattern } => {
            find(row, column).and_then(Json::as_str).is_some_and(|text| pattern.occurs_in(text))
        }
    }
}

/// What an operand is for one row.
enum Value<'a> {
    Absent,
    Integer(i128),
    Number(f64),
    Text(&'a str),
    Bool(bool),
    /// A list or an object, which equals no value.
    Compound,
}

fn value<'a>(operand: &'a Operand, row: &'a Json) -> Value<'a> {
    match operand {
        Operand::Value(value) => literal(value),
        Operand::Column(column) => find(row, column).map_or(Value::Absent, of_json),
        Operand::Length(column) => find(row, column).map_or(Value::Absent, length),
        Operand::Words(column) => match find(row, column) {
            Some(Json::String(text)) => Value::Integer(text.split_whitespace().count() as i128),
            _ => Value::Absent,
        },
    }
}

fn literal(value: &Literal) -> Value<'_> {
    match value {
        Literal::Integer(value) => Value::Integer(i128::from(*value)),
        Literal::Number(value) => Value::Number(*value),
        Literal::Text(text) => Value::Text(text),
        Literal::Bool(value) => Value::Bool(*value),
    }
}

fn of_json(value: &Json) -> Value<'_> {
    match value {
        Json::Null => Value::Absent,
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::Text(text),
        Json::Array(_) | Json::Object(_) => Value::Compound,
        Json::Number(number) => {
            let integer = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            integer.map(Value::Integer).or(number.as_f64().map(Value::Number)).unwrap_or(Value::Absent)
        }
    }
}

/// Characters of a text or items of a list; nothing else has a length.
fn length(value: &Json) -> Value<'_> {
    match value {
        Json::String(text) => Value::Integer(text.chars().count() as i128),
        Json::Array(items) => Value::Integer(items.len() as i128),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Value::Absent,
    }
}

/// Returns the value of a column: under its whole name, else name by name into it.
fn find<'a>(row: &'a Json, column: &Column) -> Option<&'a Json> {
    row.get(&column.path).or_else(|| column.path.split('.').try_fold(row, step))
}

/// Goes into an object by name, and into a list by place.
fn step<'a>(value: &'a Json, name: &str) -> Option<&'a Json> {
    match value {
        Json::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    }
}

fn compare(left: &Value, op: Comparison, right: &Value) -> bool {
    if matches!(left, Value::Absent) || matches!(right, Value::Absent) {
        return false;
    }
    let order = order(left, right);
    match op {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::Unequal => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// How two values of one kind stand to each other; texts by their characters' numbers.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => Some(left.cmp(right)),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => (left == right).then_some(Ordering::Equal),
        _ => number(left)?.partial_cmp(&number(right)?),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Number(value) => Some(*value),
        Value::Absent | Value::Text(_) | Value::Bool(_) | Value::Compound => None,
    }
}
