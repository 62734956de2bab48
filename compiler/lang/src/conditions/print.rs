//! A condition as text, which reads as the same condition, and back.

use super::{Column, Comparison, Condition, Literal, Operand, parse};
use std::fmt::{self, Display, Formatter};

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Condition::And(parts) => {
                joined(f, parts, " and ", |part| matches!(part, Condition::And(_) | Condition::Or(_)))
            }
            Condition::Or(parts) => joined(f, parts, " or ", |part| matches!(part, Condition::Or(_))),
            Condition::Not(inner) => {
                write!(f, "not ")?;
                grouped(f, inner, matches!(**inner, Condition::And(_) | Condition::Or(_)))
            }
            Condition::Compare { left, op, right } => write!(f, "{left} {op} {right}"),
            Condition::In { operand, values } => {
                let values: Vec<String> = values.iter().map(Literal::to_string).collect();
                write!(f, "{operand} in [{}]", values.join(", "))
            }
            Condition::Matches { column, pattern } => {
                write!(f, "{column} matches {}", quoted(pattern.text()))
            }
        }
    }
}

fn joined(
    f: &mut Formatter,
    parts: &[Condition],
    between: &str,
    in_group: impl Fn(&Condition) -> bool,
) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        grouped(f, part, in_group(part))?;
    }
    Ok(())
}

fn grouped(f: &mut Formatter, condition: &Condition, in_group: bool) -> fmt::Result {
    if in_group { write!(f, "({condition})") } else { write!(f, "{condition}") }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Operand::Column(column) => write!(f, "{column}"),
            Operand::Length(column) => write!(f, "len({column})"),
            Operand::Words(column) => write!(f, "words({column})"),
            Operand::Value(value) => write!(f, "{value}"),
        }
    }
}

impl Display for Column {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Literal::Integer(value) => write!(f, "{value}"),
            // With its point or exponent, so that it does not read as an integer.
            Literal::Number(value) => write!(f, "{value:?}"),
            Literal::Text(text) => f.write_str(&quoted(text)),
            Literal::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// Returns a text in the quotes that it does not hold itself, else with its quotes written twice.
pub fn quoted(text: &str) -> String {
    if text.contains('\'') && !text.contains('"') {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> String {
        condition.to_string()
    }
}

impl TryFrom<String> for Condition {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let first = |errors: Vec<super::ConditionError>| errors.into_iter().next();
        parse(&text).map_err(|errors| first(errors).map_or_else(String::new, |error| error.message))
    }
}
