//! Values with their types: what was written, read as what the schema wants.

#![allow(
    clippy::result_large_err,
    reason = "an error ends the reading of its value; none is passed on in a loop"
)]

use crate::diagnostic::Diagnostic;
use crate::suggest;
use crate::syntax::{Data, Value};
use stdlib::reference::units_words as describe_units;
pub use stdlib::reference::{
    gives_words as describe_gives, number as show_number, type_words as describe_type,
};
use stdlib::schema::{Choice, Literal, Range, Type, Unit};

/// A value of its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    /// A mistake that was reported.
    Broken,
    Text(String),
    Word(&'static str),
    Integer(u64),
    Number(f64),
    Bool(bool),
    Quantity(f64, Unit),
}

/// Reads a value; `of` names the option in messages.
pub fn read(value: &Value, ty: &Type, of: &str) -> Result<Typed, Box<Diagnostic>> {
    let typed = match (&value.data, ty) {
        (Data::Broken, _) => return Ok(Typed::Broken),
        (Data::Text(text), Type::NameOr { words, .. }) if words.iter().any(|word| word.name == text) => {
            read_word(text, words, value, of)
        }
        (
            Data::Text(text),
            Type::Text | Type::Source | Type::Path | Type::Reference(_) | Type::NameOr { .. },
        ) if !text.is_empty() => Ok(Typed::Text(text.clone())),
        (Data::Text(text), Type::Text) => Ok(Typed::Text(text.clone())),
        (Data::Bool(on), Type::Bool | Type::Literal) => Ok(Typed::Bool(*on)),
        (Data::Text(text), Type::Literal) => Ok(Typed::Text(text.clone())),
        (Data::Integer(_) | Data::Number(_), Type::Literal) => Ok(Typed::Number(as_number(&value.data))),
        (Data::Integer(_) | Data::Number(_), Type::Integer(range)) => read_integer(value, *range, of),
        (Data::Integer(_) | Data::Number(_), Type::Number(range)) => read_number(value, *range, of),
        (Data::Text(text), Type::Word(choices)) => read_word(text, choices, value, of),
        (_, Type::Quantity { units, bare, range }) => read_quantity(value, ty, units, *bare, *range, of),
        _ => Err(wrong_type(value, ty, of)),
    };
    typed.map_err(|diagnostic| Box::new(with_places(diagnostic, value)))
}

/// Adds where a parameter is used, and what `--set` replaced.
pub fn with_places(mut diagnostic: Diagnostic, value: &Value) -> Diagnostic {
    if let Some(via) = value.via {
        diagnostic = diagnostic.with_label(via, "used here");
    }
    if let Some(overrides) = value.overrides {
        diagnostic = diagnostic.with_label(overrides, "replaces this value");
    }
    diagnostic
}

fn as_number(data: &Data) -> f64 {
    match data {
        Data::Integer(value) => *value as f64,
        Data::Number(value) => *value,
        _ => f64::NAN,
    }
}

fn read_integer(value: &Value, range: Range, of: &str) -> Result<Typed, Diagnostic> {
    let number = as_number(&value.data);
    if number.is_nan() || number.fract() != 0.0 {
        let message = format!("{of} is {}, but must be a whole number", show_number(number));
        return Err(Diagnostic::error("wrong-type", message, value.span, "not a whole number")
            .with_help("write a whole number"));
    }
    in_range(number, range, value, of)?;
    Ok(Typed::Integer(number as u64))
}

fn read_number(value: &Value, range: Range, of: &str) -> Result<Typed, Diagnostic> {
    let number = as_number(&value.data);
    in_range(number, range, value, of)?;
    if number != 0.0 && number as f32 == 0.0 {
        return Err(vanishing(number, range, value, of));
    }
    Ok(Typed::Number(number))
}

/// What is written is not 0, what would be computed with is.
fn vanishing(number: f64, range: Range, value: &Value, of: &str) -> Diagnostic {
    let message = format!("{of} is {number:e}, which is 0 in f32");
    let zero = if range.above && range.min == 0.0 { "" } else { "0, or " };
    Diagnostic::error("out-of-range", message, value.span, "too small")
        .with_help(format!("write {zero}a number of at least 1e-45"))
}

fn in_range(number: f64, range: Range, value: &Value, of: &str) -> Result<(), Diagnostic> {
    let too_small = if range.above { number <= range.min } else { number < range.min };
    let too_large = if range.below { number >= range.max } else { number > range.max };
    if !too_small && !too_large && !number.is_nan() {
        return Ok(());
    }
    let allowed = describe_range(range);
    let message = format!("{of} is {}, but must be {allowed}", show_number(number));
    let label = if too_small { "too small" } else { "too large" };
    let label = if number.is_nan() { "not a number" } else { label };
    Err(Diagnostic::error("out-of-range", message, value.span, label)
        .with_help(format!("write a number {allowed}")))
}

/// Says in words which numbers are allowed.
pub fn describe_range(range: Range) -> String {
    let min = match (range.min, range.above) {
        (f64::MIN, _) => None,
        (min, true) => Some(format!("above {}", show_number(min))),
        (min, false) => Some(format!("at least {}", show_number(min))),
    };
    let max = match (range.max, range.below) {
        (f64::MAX, _) => None,
        (max, true) => Some(format!("below {}", show_number(max))),
        (max, false) => Some(format!("at most {}", show_number(max))),
    };
    let parts: Vec<String> = [min, max].into_iter().flatten().collect();
    if parts.is_empty() { "a number".into() } else { parts.join(" and ") }
}

fn read_word(text: &str, choices: &'static [Choice], value: &Value, of: &str) -> Result<Typed, Diagnostic> {
    match choices.iter().find(|choice| choice.name == text) {
        Some(choice) => Ok(Typed::Word(choice.name)),
        None => Err(unknown_value(text, choices, value, of)),
    }
}

fn unknown_value(text: &str, choices: &'static [Choice], value: &Value, of: &str) -> Diagnostic {
    let names = || choices.iter().map(|choice| choice.name);
    let diagnostic = Diagnostic::error(
        "unknown-value",
        format!("{of} cannot be `{text}`"),
        value.span,
        "not one of its values",
    );
    match suggest::nearest(text, names()) {
        Some(name) => suggest::offer(diagnostic, text, name, value.span, ""),
        None => diagnostic.with_help(format!("write {}", suggest::list(names(), "or"))),
    }
}

fn wrong_type(value: &Value, ty: &Type, of: &str) -> Diagnostic {
    let found = describe_data(&value.data);
    let wanted = describe_type(ty);
    let diagnostic = Diagnostic::error(
        "wrong-type",
        format!("{of} wants {wanted}, found {found}"),
        value.span,
        format!("{found}, not {wanted}"),
    );
    match (ty, &value.data) {
        // What `--set` gives has no quotes, and no parameters either.
        (_, Data::Text(text)) if text.starts_with('$') && value.origin == crate::source::Origin::Set => {
            diagnostic.with_help("write the value itself; a parameter is set by its own name")
        }
        (ty, Data::Text(text)) if text.starts_with('$') && !matches!(ty, Type::Text) => diagnostic
            .with_help(format!("write `{text}` without quotes when the parameter is meant"))
            .with_fix("remove the quotes", value.span, text.clone()),
        (Type::Quantity { units, .. }, Data::Text(text)) if repaired(text, units).is_some() => {
            let right = format!("\"{}\"", repaired(text, units).unwrap_or_default());
            diagnostic.with_help(format!("did you mean `{right}`?")).with_fix(
                format!("replace with `{right}`"),
                value.span,
                right.clone(),
            )
        }
        (Type::Quantity { bare: Some(_), .. }, _) => {
            diagnostic.with_help(format!("write a number, or {wanted}"))
        }
        (Type::Bool, Data::Text(text)) => match as_bool(text) {
            Some(right) => diagnostic.with_help(format!("write `{right}`")).with_fix(
                format!("replace with `{right}`"),
                value.span,
                right,
            ),
            None => diagnostic.with_help("write `#true` or `#false`"),
        },
        (Type::Integer(_) | Type::Number(_), Data::Text(text))
            if text.trim().parse::<f64>().is_ok_and(f64::is_finite) =>
        {
            diagnostic.with_help("write the number without quotes").with_fix(
                "remove the quotes",
                value.span,
                text.trim(),
            )
        }
        (Type::Text | Type::Source | Type::Path, Data::Integer(_) | Data::Number(_)) => {
            diagnostic.with_help("put it in quotes where text is meant")
        }
        _ => diagnostic.with_help(format!("write {wanted}")),
    }
}

/// Spells a quantity as this language does, when that is all that is wrong with it.
fn repaired(text: &str, units: &[Unit]) -> Option<String> {
    let spelt = [
        ("percent", "%"),
        ("Bn", "B"),
        ("bn", "B"),
        ("mins", "min"),
        ("hours", "h"),
        ("hrs", "h"),
        ("hr", "h"),
    ];
    let respelt =
        spelt.iter().map(|(other, ours)| text.replace(&format!(" {other}"), ours).replace(other, ours));
    let digits = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(digits);
    let cased = [
        unit.to_uppercase(),
        unit.replacen('k', "K", 1),
        unit.replacen('b', "B", 1),
        unit.replacen('m', "M", 1),
    ];
    let cased = cased.into_iter().map(|unit| format!("{number}{unit}"));
    let fits = |text: &String| match parse_quantity(text) {
        Some((_, unit)) => unit.is_none_or(|unit| units.contains(&unit)),
        None => false,
    };
    respelt.chain(cased).find(fits)
}

fn as_bool(text: &str) -> Option<&'static str> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" => Some("#true"),
        "false" | "no" | "off" => Some("#false"),
        _ => None,
    }
}

fn describe_data(data: &Data) -> &'static str {
    match data {
        Data::Integer(_) | Data::Number(_) => "a number",
        Data::Text(text) if text.is_empty() => "an empty text",
        Data::Text(_) => "a text",
        Data::Bool(_) => "a boolean",
        Data::Null => "`#null`",
        Data::Broken => "something unreadable",
    }
}

fn read_quantity(
    value: &Value,
    ty: &Type,
    units: &[Unit],
    bare: Option<Unit>,
    range: Range,
    of: &str,
) -> Result<Typed, Diagnostic> {
    let (number, unit) = match &value.data {
        Data::Integer(_) | Data::Number(_) => (as_number(&value.data), None),
        Data::Text(text) => parse_quantity(text).ok_or_else(|| wrong_type(value, ty, of))?,
        Data::Bool(_) | Data::Null | Data::Broken => return Err(wrong_type(value, ty, of)),
    };
    let only = if units.len() == 1 { Some(units[0]) } else { None };
    let Some(unit) = unit.or(bare).or(only) else {
        let message = format!("{of} is {}, without a unit", show_number(number));
        return Err(Diagnostic::error("wrong-unit", message, value.span, "of what?")
            .with_help(format!("write {}", describe_units(units))));
    };
    if !units.contains(&unit) {
        let message = format!("{of} is not counted in {}", unit_name(unit));
        return Err(Diagnostic::error(
            "wrong-unit",
            message,
            value.span,
            format!("{} do not fit here", unit_name(unit)),
        )
        .with_help(format!("write {}", describe_units(units))));
    }
    if is_counted(unit) && number.fract() != 0.0 {
        return Err(not_whole(number, unit, units, value, of));
    }
    if unit == Unit::Share && !(0.0..=1.0).contains(&number) {
        let message =
            format!("{of} is {}%, but must be at least 0% and at most 100%", show_number(number * 100.0));
        let label = if number < 0.0 { "too small" } else { "too large" };
        return Err(Diagnostic::error("out-of-range", message, value.span, label)
            .with_help("write a share between `\"0%\"` and `\"100%\"`"));
    }
    in_range(number, range, value, of)?;
    Ok(Typed::Quantity(number, unit))
}

fn not_whole(number: f64, unit: Unit, units: &[Unit], value: &Value, of: &str) -> Diagnostic {
    let shown = show_number(number);
    if units.contains(&Unit::Share) && number > 0.0 && number < 1.0 {
        let share = format!("\"{}%\"", show_number(number * 100.0));
        return Diagnostic::error(
            "wrong-unit",
            format!("{of} is {shown} {}, which is not whole", unit_name(unit)),
            value.span,
            "a share needs `%`",
        )
        .with_help(format!("write `{share}`"))
        .with_fix("write it as a share", value.span, share.clone());
    }
    let message = format!("{of} is {shown} {}, which is not whole", unit_name(unit));
    Diagnostic::error("wrong-type", message, value.span, "not a whole number")
        .with_help("write a whole number")
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "shares",
        Unit::Time => "time",
        Unit::Size => "bytes",
        unit => unit.noun(),
    }
}

fn is_counted(unit: Unit) -> bool {
    matches!(unit, Unit::Steps | Unit::Rows | Unit::Tokens | Unit::Ids | Unit::Sequences)
}

/// Reads `"10%"`, `"2B tokens"`, `"512Ki"`, `"30min"`: the number in its base unit, and the unit.
fn parse_quantity(text: &str) -> Option<(f64, Option<Unit>)> {
    let text = text.trim();
    if let Some(positive) = text.strip_prefix('-') {
        return parse_quantity(positive).map(|(number, unit)| (-number, unit));
    }
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let number: f64 = text[..digits].replace('_', "").parse().ok()?;
    let rest = text[digits..].trim_start();
    if rest == "%" {
        return Some((number / 100.0, Some(Unit::Share)));
    }
    if let Some((factor, unit)) = unit_suffix(rest) {
        return Some((number * factor, Some(unit)));
    }
    let (factor, noun) = multiplier(rest);
    let noun = noun.trim_start();
    let unit = if noun.is_empty() { None } else { Some(noun_unit(noun)?) };
    Some((round_up_noise(number * factor), unit))
}

/// Keeps `1.1M` whole although 1.1 is not exact.
fn round_up_noise(value: f64) -> f64 {
    let rounded = value.round();
    if (value - rounded).abs() <= 1e-9 * rounded.abs() { rounded } else { value }
}

/// Whether a word is the name of a unit.
pub fn is_unit(word: &str) -> bool {
    noun_unit(word).is_some() || unit_suffix(word).is_some()
}

fn unit_suffix(text: &str) -> Option<(f64, Unit)> {
    let found = match text {
        "s" | "sec" | "seconds" => (1.0, Unit::Time),
        "min" | "minutes" => (60.0, Unit::Time),
        "h" | "hours" => (3600.0, Unit::Time),
        "d" | "days" => (86_400.0, Unit::Time),
        "KiB" => (1024.0, Unit::Size),
        "MiB" => (1024f64.powi(2), Unit::Size),
        "GiB" => (1024f64.powi(3), Unit::Size),
        "TiB" => (1024f64.powi(4), Unit::Size),
        "KB" => (1e3, Unit::Size),
        "MB" => (1e6, Unit::Size),
        "GB" => (1e9, Unit::Size),
        "TB" => (1e12, Unit::Size),
        _ => return None,
    };
    Some(found)
}

fn multiplier(text: &str) -> (f64, &str) {
    let table = [
        ("Ki", 1024.0),
        ("Mi", 1024f64.powi(2)),
        ("Gi", 1024f64.powi(3)),
        ("K", 1e3),
        ("M", 1e6),
        ("B", 1e9),
        ("T", 1e12),
    ];
    for (name, factor) in table {
        if let Some(rest) = text.strip_prefix(name) {
            return (factor, rest);
        }
    }
    (1.0, text)
}

fn noun_unit(noun: &str) -> Option<Unit> {
    match noun {
        "step" | "steps" => Some(Unit::Steps),
        "epoch" | "epochs" => Some(Unit::Epochs),
        "row" | "rows" => Some(Unit::Rows),
        "token" | "tokens" => Some(Unit::Tokens),
        "id" | "ids" => Some(Unit::Ids),
        "sequence" | "sequences" => Some(Unit::Sequences),
        _ => None,
    }
}

/// Reads a default of the schema.
pub fn from_literal(literal: Literal, ty: &Type) -> Typed {
    let data = match literal {
        Literal::Integer(value) => Data::Integer(value.into()),
        Literal::Number(value) => Data::Number(value),
        Literal::Bool(value) => Data::Bool(value),
        Literal::Text(text) => Data::Text(text.to_owned()),
    };
    let nowhere = crate::source::Span { source: crate::source::SourceId(0), start: 0, end: 0 };
    let value = Value {
        data,
        span: nowhere,
        bare: false,
        origin: crate::source::Origin::Default,
        via: None,
        overrides: None,
    };
    read(&value, ty, "a default").expect("a test reads every default of the schema")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(f64, Option<Unit>)>) {
        assert_eq!(parse_quantity(text), expected, "{text}");
    }

    #[test]
    fn quantities_are_read_with_their_units() {
        check("10%", Some((0.1, Some(Unit::Share))));
        check("2B tokens", Some((2e9, Some(Unit::Tokens))));
        check("512Ki", Some((524_288.0, None)));
        check("1.1M rows", Some((1_100_000.0, Some(Unit::Rows))));
        check("1 epoch", Some((1.0, Some(Unit::Epochs))));
        check("30min", Some((1800.0, Some(Unit::Time))));
        check("8GiB", Some((8_589_934_592.0, Some(Unit::Size))));
        check("ten steps", None);
        check("10 parsecs", None);
        check("", None);
    }

    #[test]
    fn numbers_are_shown_shortly() {
        assert_eq!(show_number(0.1 * 100.0), "10");
        assert_eq!(show_number(2e-5), "2e-5");
        assert_eq!(show_number(0.001), "0.001");
        assert_eq!(show_number(1024.0), "1024");
        assert_eq!(show_number(-1.0), "-1");
        assert_eq!(show_number(1e300), "1e300");
    }
}
