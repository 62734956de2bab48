//! What a plain scalar is in YAML 1.1, as PyYAML resolves it.
//!
//! The tools whose files are read here all use PyYAML: `2e-5` is text (a float needs a dot and a
//! signed exponent), `yes` and `off` are booleans, `1:30` counts in sixties, `010` is eight.

use super::Value;

/// Resolves a plain scalar without a tag.
pub fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    integer(text).or_else(|| float(text)).unwrap_or_else(|| Value::Text(text.to_owned()))
}

/// Reads an integer: binary, octal, decimal, hexadecimal or sexagesimal.
pub fn integer(text: &str) -> Option<Value> {
    let (sign, body) = signed(text);
    let (base, digits) = match body.as_bytes() {
        [b'0', b'b', ..] => (2, &body[2..]),
        [b'0', b'x', ..] => (16, &body[2..]),
        [b'0', _, ..] if !body.contains(':') => (8, &body[1..]),
        [b'0'..=b'9', ..] if body.contains(':') => return sexagesimal_integer(sign, body),
        [b'0'..=b'9', ..] => (10, body),
        _ => return None,
    };
    let is_digit = |c: char| c == '_' || c.is_digit(base);
    if digits.is_empty() || !digits.chars().all(is_digit) {
        return None;
    }
    let digits = digits.replace('_', "");
    match i64::from_str_radix(&digits, base) {
        Ok(number) => Some(Value::Int(sign as i64 * number)),
        Err(_) if base == 10 => digits.parse().ok().map(|number: f64| Value::Float(sign * number)),
        Err(_) => None,
    }
}

fn sexagesimal_integer(sign: f64, body: &str) -> Option<Value> {
    if body.starts_with('0') {
        return None;
    }
    sexagesimal(body).filter(|_| !body.contains('.')).map(|number| {
        let number = sign * number;
        if number.abs() < 9e15 { Value::Int(number as i64) } else { Value::Float(number) }
    })
}

/// Reads a float: a dot is required, and a sign in the exponent.
pub fn float(text: &str) -> Option<Value> {
    let (sign, body) = signed(text);
    match body {
        ".inf" | ".Inf" | ".INF" => return Some(Value::Float(sign * f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if body.len() == text.len() => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    if body.contains(':') {
        return sexagesimal(body).filter(|_| body.contains('.')).map(|number| Value::Float(sign * number));
    }
    let (whole, rest) = body.split_once('.')?;
    // `-.5` is text to PyYAML; `.5` is a number.
    if whole.is_empty() && body.len() != text.len() {
        return None;
    }
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let all_digits = |part: &str| part.bytes().all(|b| b == b'_' || b.is_ascii_digit());
    let begins = if whole.is_empty() { fraction } else { whole };
    let signed_exponent = |exponent: &str| {
        exponent.starts_with(['+', '-'])
            && exponent.len() > 1
            && exponent[1..].bytes().all(|b| b.is_ascii_digit())
    };
    let fits = begins.starts_with(|c: char| c.is_ascii_digit())
        && all_digits(whole)
        && all_digits(fraction)
        && exponent.is_none_or(signed_exponent);
    fits.then(|| body.replace('_', "").parse().ok()).flatten().map(|number: f64| Value::Float(sign * number))
}

/// Reads `190:20:30` or `190:20:30.15`: places of sixty.
fn sexagesimal(body: &str) -> Option<f64> {
    let mut parts = body.split(':');
    let first = parts.next().filter(|part| !part.is_empty())?;
    if !first.bytes().all(|b| b == b'_' || b.is_ascii_digit()) {
        return None;
    }
    let mut number: f64 = first.replace('_', "").parse().ok()?;
    let rest: Vec<&str> = parts.collect();
    for (at, part) in rest.iter().enumerate() {
        let is_last = at + 1 == rest.len();
        let digits = if is_last { part.split('.').next().unwrap_or_default() } else { part };
        let in_range = matches!(digits.len(), 1 | 2)
            && digits.bytes().all(|b| b.is_ascii_digit())
            && digits.parse::<u8>().is_ok_and(|digits| digits < 60);
        if !in_range {
            return None;
        }
        number = number * 60.0 + part.replace('_', "").parse::<f64>().ok()?;
    }
    Some(number)
}

fn signed(text: &str) -> (f64, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expectations are those of PyYAML 6.0.3.
    #[test]
    fn scalars_are_what_pyyaml_reads() {
        let text = |text: &str| Value::Text(text.to_owned());
        let cases = [
            ("2e-5", text("2e-5")),
            ("2.0e5", text("2.0e5")),
            ("2.0e-05", Value::Float(2e-5)),
            ("1_000", Value::Int(1000)),
            ("010", Value::Int(8)),
            ("08", text("08")),
            ("0x1F", Value::Int(31)),
            ("0b101", Value::Int(5)),
            ("0o10", text("0o10")),
            ("1:30", Value::Int(90)),
            ("1:30.5", Value::Float(90.5)),
            ("1:60", text("1:60")),
            ("yes", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("y", text("y")),
            ("n", text("n")),
            ("~", Value::Null),
            ("None", text("None")),
            (".5", Value::Float(0.5)),
            ("-.5", text("-.5")),
            ("5.", Value::Float(5.0)),
            ("+1", Value::Int(1)),
            ("-0.1", Value::Float(-0.1)),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("1e999", text("1e999")),
            ("99999999999999999999", Value::Float(1e20)),
            ("1.2.3", text("1.2.3")),
            ("-", text("-")),
            ("é", text("é")),
        ];
        for (source, expected) in cases {
            assert_eq!(resolve(source), expected, "{source}");
        }
        assert!(matches!(resolve(".nan"), Value::Float(number) if number.is_nan()));
    }
}
