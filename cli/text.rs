//! Small pieces of text that several commands print or read: tables, sizes, counts, times.

/// Returns bytes in binary units.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    for (unit, size) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if count >= size as f64 {
            return format!("{:.1} {unit}", count / size as f64);
        }
    }
    format!("{count} B")
}

/// Returns a count with thousands separators.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a large number with a unit of a thousand.
pub fn short(value: f64) -> String {
    for (unit, size) in [("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)] {
        if value >= size {
            return format!("{:.2} {unit}", value / size);
        }
    }
    format!("{value:.0}")
}

/// Returns a duration in the two largest units that it has.
pub fn seconds(value: f64) -> String {
    let whole = value.round() as u64;
    match whole {
        0..=59 => format!("{value:.1} s"),
        60..=3599 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..=172_799 => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} days", count(whole / 86_400)),
    }
}

/// Says on which devices.
pub fn on_devices(name: &str, count: u64) -> String {
    if count == 1 { format!("on {name}") } else { format!("on {count} × {name}") }
}

/// Returns whether these are several devices that have memory of their own each; cores share that of their machine.
pub fn has_own(name: &str, count: u64) -> bool {
    count > 1 && stdlib::hardware::find(name).is_some_and(|hardware| hardware.memory.is_some())
}

/// Returns rows as aligned columns; the first row is the head. Columns named in `right` are right-aligned.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let space = " ".repeat(widths[column] - cell.chars().count());
            if right.contains(&column) { format!("{space}{cell}") } else { format!("{cell}{space}") }
        });
        out.push_str(format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
        out.push('\n');
    }
    out
}

/// Reads a size: `8GiB`, `512MiB`, `4GB`, or bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("GiB", 1u64 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
        ("B", 1),
        ("", 1),
    ];
    for (unit, bytes) in units {
        if let Some(number) = text.strip_suffix(unit) {
            let number: f64 =
                number.trim().parse().map_err(|_| format!("`{text}` is not a size such as 8GiB"))?;
            return if number > 0.0 && number.is_finite() {
                Ok((number * bytes as f64) as u64)
            } else {
                Err("a size is greater than 0".into())
            };
        }
    }
    unreachable!("the empty unit fits every text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(130_547_712), "130,547,712");
        assert_eq!(count(12), "12");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(short(2_500_000.0), "2.50 M");
        assert_eq!(seconds(75.0), "1 min 15 s");
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("8GiB"), Ok(8 << 30));
        assert_eq!(size("1.5 KB"), Ok(1500));
        assert!(size("8 cows").is_err() && size("0").is_err());
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "n".into()], vec!["long".into(), "10".into()]];
        assert_eq!(table(&rows, &[1]), "  a      n\n  long  10\n");
    }
}
