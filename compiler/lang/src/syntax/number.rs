//! Numbers as KDL 2 writes them.

use super::Data;

/// How a word fails to be a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotANumber {
    /// It has other characters in it.
    Malformed,
    /// It is beyond the largest number.
    TooLarge,
    /// It is nearer to 0 than any number but 0.
    TooSmall,
}

/// Whether a word must be a number: it begins with a digit, or with a sign or a point before one.
pub fn begins(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
    digits.starts_with(|first: char| first.is_ascii_digit())
}

/// Reads a number.
pub fn read(word: &str) -> Result<Data, NotANumber> {
    let (negative, unsigned) = match word.as_bytes().first() {
        Some(b'-') => (true, &word[1..]),
        Some(b'+') => (false, &word[1..]),
        _ => (false, word),
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return read_radix(digits, radix, negative);
        }
    }
    read_decimal(unsigned, negative)
}

fn read_radix(digits: &str, radix: u32, negative: bool) -> Result<Data, NotANumber> {
    let well_formed = digits.starts_with(|c: char| c.is_digit(radix))
        && digits.chars().all(|c| c == '_' || c.is_digit(radix));
    if !well_formed {
        return Err(NotANumber::Malformed);
    }
    let value = i128::from_str_radix(&plain(digits), radix).map_err(|_| NotANumber::TooLarge)?;
    Ok(Data::Integer(if negative { -value } else { value }))
}

fn read_decimal(text: &str, negative: bool) -> Result<Data, NotANumber> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let exponent_digits = exponent.map(|digits| digits.strip_prefix(['+', '-']).unwrap_or(digits));
    if ![Some(whole), fraction, exponent_digits].into_iter().flatten().all(are_digits) {
        return Err(NotANumber::Malformed);
    }
    if fraction.is_none() && exponent.is_none() {
        let value: i128 = plain(whole).parse().map_err(|_| NotANumber::TooLarge)?;
        return Ok(Data::Integer(if negative { -value } else { value }));
    }
    let value: f64 = plain(text).parse().map_err(|_| NotANumber::Malformed)?;
    let is_zero = !mantissa.contains(|c: char| ('1'..='9').contains(&c));
    match value {
        value if value.is_infinite() => Err(NotANumber::TooLarge),
        value if value < f64::MIN_POSITIVE && !is_zero => Err(NotANumber::TooSmall),
        value => Ok(Data::Number(if negative { -value } else { value })),
    }
}

fn are_digits(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b == b'_' || b.is_ascii_digit())
}

fn plain(digits: &str) -> String {
    digits.chars().filter(|&c| c != '_').collect()
}

/// Reads the value of a `--set` argument: a number, a boolean, else the text as it is.
pub fn literal(text: &str) -> Result<Data, NotANumber> {
    match text {
        "true" | "#true" => return Ok(Data::Bool(true)),
        "false" | "#false" => return Ok(Data::Bool(false)),
        _ => {}
    }
    match read(text) {
        Ok(number) => Ok(number),
        Err(NotANumber::Malformed) => Ok(Data::Text(text.to_owned())),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: Result<Data, NotANumber>) {
        assert_eq!(read(word), expected, "{word}");
    }

    #[test]
    fn numbers_are_read_as_kdl_writes_them() {
        check("16", Ok(Data::Integer(16)));
        check("-1_000", Ok(Data::Integer(-1000)));
        check("0xFF", Ok(Data::Integer(255)));
        check("+5", Ok(Data::Integer(5)));
        check("2e-5", Ok(Data::Number(2e-5)));
        check("1.5", Ok(Data::Number(1.5)));
        check("0e0", Ok(Data::Number(0.0)));
        for word in ["1.", "_1", "1e", "0x", "10%", "16k", "0.9.1", "1e5x", ".5"] {
            check(word, Err(NotANumber::Malformed));
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_not_rounded() {
        check("1e999", Err(NotANumber::TooLarge));
        check("1e-400", Err(NotANumber::TooSmall));
        check("0e-400", Ok(Data::Number(0.0)));
        check(&"9".repeat(50), Err(NotANumber::TooLarge));
    }
}
