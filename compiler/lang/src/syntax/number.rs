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

/// What a word that begins as a number was meant to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// Only this.
    Certain(String),
    /// One of these, in the order of likelihood.
    OneOf(Vec<String>),
}

/// Returns the numbers that a malformed one may mean: one with a comma, without a digit beside its point, or
/// with a dash that is no minus.
pub fn meant(word: &str) -> Option<Meant> {
    let plain = with_digits_beside_the_point(&word.replace(['\u{2010}', '\u{2011}', '–', '—', '−'], "-"));
    if read(&plain).is_ok() {
        return Some(Meant::Certain(plain));
    }
    let (whole, rest) = plain.split_once(',')?;
    let point = format!("{whole}.{rest}");
    let in_thousands = whole.len() <= 4 && rest.split(',').all(|part| part.len() == 3 && are_digits(part));
    let together = plain.replace(',', "");
    let is_zero = matches!(whole, "0" | "-0" | "+0");
    match (read(&point).is_ok(), in_thousands && read(&together).is_ok()) {
        (true, _) if is_zero => Some(Meant::Certain(point)),
        (true, true) => Some(Meant::OneOf(vec![together, point])),
        (true, false) => Some(Meant::OneOf(vec![point])),
        (false, true) => Some(Meant::Certain(together)),
        (false, false) => None,
    }
}

/// `.5` and `1.` with the digit that they lack.
fn with_digits_beside_the_point(word: &str) -> String {
    let mut text = word.to_owned();
    if text.trim_start_matches(['+', '-']).starts_with('.') {
        text.insert(text.find('.').expect("it was just seen"), '0');
    }
    match text.find('.').map(|at| at + 1) {
        Some(at) if !text[at..].starts_with(|c: char| c.is_ascii_digit()) => text.insert(at, '0'),
        _ => {}
    }
    text
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
    fn what_a_malformed_number_was_meant_to_be() {
        let certain = |text: &str| Some(Meant::Certain(text.to_owned()));
        let one_of =
            |texts: &[&str]| Some(Meant::OneOf(texts.iter().map(|text| (*text).to_owned()).collect()));
        for (word, expected) in [
            (".5", certain("0.5")),
            ("-.5e-3", certain("-0.5e-3")),
            ("1.", certain("1.0")),
            ("2.e-4", certain("2.0e-4")),
            ("2e–4", certain("2e-4")),
            ("0,1", certain("0.1")),
            ("1,000,000", certain("1000000")),
            ("1,000", one_of(&["1000", "1.000"])),
            ("2,5e-4", one_of(&["2.5e-4"])),
            ("10%", None),
            ("2e-4x", None),
            ("1,x", None),
        ] {
            assert_eq!(meant(word), expected, "{word}");
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
