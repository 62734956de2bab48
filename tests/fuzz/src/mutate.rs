//! Changes to a text, from one byte to its whole shape.

use crate::random::Random;
use crate::words::{self, CHARACTERS, NODES};
use std::ops::Range;

/// The largest input that is made, a little more than what is read at all.
const LARGEST: usize = (1 << 20) + 64;

/// Draws a changed text. `others` are texts to splice with; with `bytes` the result need not be UTF-8.
pub fn mutate(base: &[u8], others: &[Vec<u8>], bytes: bool, random: &mut Random) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(base).into_owned();
    let mut changes = 1;
    while changes < 12 && !random.one_in(3) {
        changes += 1;
    }
    for _ in 0..changes {
        change(&mut text, others, random);
    }
    let mut changed = text.into_bytes();
    if bytes && random.one_in(6) {
        break_bytes(&mut changed, random);
    }
    changed.truncate(LARGEST);
    changed
}

/// Flips, inserts or cuts bytes wherever they stand.
fn break_bytes(text: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        match random.below(4) {
            0 if at < text.len() => text[at] ^= 1 << random.below(8),
            1 => text.insert(at, random.next() as u8),
            2 => text.truncate(at),
            _ => drop(text.drain(random.range(text.len(), 3))),
        }
    }
}

fn change(text: &mut String, others: &[Vec<u8>], random: &mut Random) {
    match random.below(40) {
        0..=2 => cut(text, random),
        3..=7 => replace_token(text, random),
        8..=9 => swap_tokens(text, random),
        10..=14 => lines(text, random),
        15..=16 => blocks(text, random),
        17..=22 => add_child(text, random),
        23..=24 => insert(text, random),
        25..=26 => rename(text, random),
        27..=29 => splice(text, others, random),
        30..=31 => comment(text, random),
        32..=33 => add_node(text, random),
        34 => line_ends(text, random),
        35 => truncate(text, random),
        36 => nest(text, random),
        37 => long(text, random),
        38 => toggle_quotes(text, random),
        _ if random.one_in(100) => scale(text, random),
        _ => replace_token(text, random),
    }
}

fn boundary(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

fn range(text: &str, longest: usize, random: &mut Random) -> Range<usize> {
    let range = random.range(text.len(), longest);
    boundary(text, range.start)..boundary(text, range.end)
}

fn cut(text: &mut String, random: &mut Random) {
    let longest = random.one(&[1, 8, 80]);
    let range = range(text, longest, random);
    if random.one_in(3) {
        let copy = text[range.clone()].to_owned();
        text.insert_str(range.end, &copy);
    } else {
        text.replace_range(range, "");
    }
}

fn truncate(text: &mut String, random: &mut Random) {
    let at = boundary(text, random.below(text.len() + 1));
    if random.one_in(3) { drop(text.drain(..at)) } else { text.truncate(at) }
}

/// The words, strings and marks of a text, roughly.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        let ends = !quoted && (c.is_whitespace() || matches!(c, '=' | '{' | '}' | ';'));
        if c == '"' {
            quoted = !quoted;
        } else if quoted && c == '\n' {
            quoted = false;
        }
        if ends {
            found.extend((start < at).then_some(start..at));
            start = at + c.len_utf8();
        }
    }
    found.extend((start < text.len()).then_some(start..text.len()));
    found
}

fn replace_token(text: &mut String, random: &mut Random) {
    let tokens = tokens(text);
    if tokens.is_empty() {
        return;
    }
    let token = random.pick(&tokens).clone();
    let other = match random.below(4) {
        0 => text[random.pick(&tokens).clone()].to_owned(),
        1 => misspell(&text[token.clone()], random),
        _ => words::any(random),
    };
    text.replace_range(token, &other);
}

fn misspell(word: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = word.chars().collect();
    let at = random.below(chars.len());
    match random.below(3) {
        0 if chars.len() > 1 => drop(chars.remove(at)),
        1 if at + 1 < chars.len() => chars.swap(at, at + 1),
        _ => chars.insert(at, random.one(&['a', 'e', '-', '_', 'é', '.', '%', ','])),
    }
    chars.into_iter().collect()
}

fn swap_tokens(text: &mut String, random: &mut Random) {
    let tokens = tokens(text);
    if tokens.len() < 2 {
        return;
    }
    let (a, b) = (random.below(tokens.len()), random.below(tokens.len()));
    let (first, second) = (tokens[a.min(b)].clone(), tokens[a.max(b)].clone());
    if first != second {
        let (one, other) = (text[first.clone()].to_owned(), text[second.clone()].to_owned());
        text.replace_range(second, &one);
        text.replace_range(first, &other);
    }
}

/// Takes out, doubles or moves lines.
fn lines(text: &mut String, random: &mut Random) {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if lines.is_empty() {
        return;
    }
    let range = random.range(lines.len(), 4);
    let at = random.below(lines.len());
    match random.below(3) {
        0 => drop(lines.drain(range)),
        1 => {
            let copy = lines[range].to_vec();
            drop(lines.splice(at..at, copy));
        }
        _ => {
            let line = lines.remove(at);
            let to = random.below(lines.len() + 1);
            lines.insert(to, line);
        }
    }
    *text = lines.concat();
}

/// The blocks of a text, braces included.
fn all_blocks(text: &str) -> Vec<Range<usize>> {
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open.push(at),
            b'}' => found.extend(open.pop().map(|start| start..at + 1)),
            _ => {}
        }
    }
    found
}

/// Takes out, doubles, nests or swaps blocks.
fn blocks(text: &mut String, random: &mut Random) {
    let blocks = all_blocks(text);
    if blocks.is_empty() {
        return;
    }
    let block = random.pick(&blocks).clone();
    let other = random.pick(&blocks).clone();
    let (copy, second) = (text[block.clone()].to_owned(), text[other.clone()].to_owned());
    match random.below(5) {
        0 => text.replace_range(block, ""),
        1 => text.insert_str(block.end, &copy),
        2 => text.replace_range(block, &second),
        3 => text.insert_str(block.start + 1, &format!(" inner {copy}; ")),
        _ => text.replace_range(block.end - 1..block.end, ""),
    }
}

/// Every name that a line seems to declare.
fn names(text: &str) -> Vec<String> {
    let second = |line: &str| {
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        stdlib::schema::top(kind)?.declares.then(|| words.next().map(str::to_owned)).flatten()
    };
    text.lines().filter_map(second).collect()
}

/// Adds a child that the schema allows to some block.
fn add_child(text: &mut String, random: &mut Random) {
    let opens: Vec<usize> = text.match_indices('{').map(|(at, _)| at).collect();
    if opens.is_empty() {
        return add_node(text, random);
    }
    let at = random.one(&opens);
    let line = text[..at].rsplit(['\n', ';', '{']).next().unwrap_or_default();
    let Some(known) = line.split_whitespace().next().and_then(|word| NODES.get(word)) else { return };
    let names = names(text);
    if let Some(child) = words::child(random.one(known), &names, random) {
        text.insert_str(at + 1, &format!("\n    {child}\n"));
    }
}

/// Adds a top-level node that the schema allows.
fn add_node(text: &mut String, random: &mut Random) {
    let names = names(text);
    let node = words::node(random.one(stdlib::schema::TOP), &names, 3, random);
    let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let at = if starts.is_empty() || random.one_in(2) { text.len() } else { random.one(&starts) };
    text.insert_str(at, &format!("\n{node}\n"));
}

fn insert(text: &mut String, random: &mut Random) {
    let at = boundary(text, random.below(text.len() + 1));
    let piece = if random.one_in(2) { (random.one(CHARACTERS)).to_owned() } else { words::any(random) };
    let piece = if random.one_in(3) { format!(" {piece} ") } else { piece };
    text.insert_str(at, &piece);
}

/// Calls something by another name everywhere.
fn rename(text: &mut String, random: &mut Random) {
    let names = names(text);
    if names.is_empty() {
        return;
    }
    let name = random.pick(&names).clone();
    let other = if random.one_in(2) { random.pick(&names).clone() } else { words::any(random) };
    *text = text.replace(&name, &other);
}

/// Joins the beginning of a text with the end of another.
fn splice(text: &mut String, others: &[Vec<u8>], random: &mut Random) {
    if others.is_empty() {
        return;
    }
    let other = String::from_utf8_lossy(random.pick::<Vec<u8>>(others)).into_owned();
    let line_start = |text: &str, random: &mut Random| {
        let at = boundary(text, random.below(text.len() + 1));
        text[..at].rfind('\n').map_or(0, |end| end + 1)
    };
    let (at, from) = (line_start(text, random), line_start(&other, random));
    if random.one_in(2) {
        text.truncate(at);
        text.push_str(&other[from..]);
    } else {
        let end = boundary(&other, from + random.below(400));
        text.insert_str(at, &other[from..end]);
    }
}

/// Puts comments and `/-` before words and lines, once or many times.
fn comment(text: &mut String, random: &mut Random) {
    let tokens = tokens(text);
    let at = if tokens.is_empty() { 0 } else { random.pick(&tokens).start };
    let mark =
        random.one(&["/-", "/- ", "// x\n", "/* x */", "/*", "/* /* x */ */", "/-\n", "\\\n", "\\ // x\n"]);
    let times = random.one(&[1, 1, 1, 2, 5, 70]);
    text.insert_str(at, &mark.repeat(times));
}

fn line_ends(text: &mut String, random: &mut Random) {
    match random.below(5) {
        0 | 1 => *text = text.replace('\n', "\r\n"),
        2 => *text = text.replace('\n', random.one(&["\r", "\u{2028}", "\u{85}", ";", " "])),
        3 => text.insert(0, '\u{feff}'),
        _ => *text = text.replace(' ', random.one(&["\t", "  ", "\u{a0}", "\u{3000}"])),
    }
}

/// Nests blocks, comments or parentheses, up to and beyond what is read.
fn nest(text: &mut String, random: &mut Random) {
    let (open, close) =
        random.one(&[("a {\n", "}\n"), ("{", "}"), ("/*", "*/"), ("/- a {", "}\n"), ("(", ")"), ("a {", "")]);
    let depth = random.one(&[3, 40, 63, 64, 65, 66, 200, 3000]);
    let range = range(text, 200, random);
    text.insert_str(range.end, &close.repeat(depth));
    text.insert_str(range.start, &open.repeat(depth));
}

/// Puts something very long in place of a word.
fn long(text: &mut String, random: &mut Random) {
    let tokens = tokens(text);
    let at = if tokens.is_empty() { 0..0 } else { random.pick(&tokens).clone() };
    let piece = random.one(&[
        "x",
        "9",
        "\"",
        "é",
        "{content}",
        "-",
        "(",
        "a ",
        "not ",
        "a or ",
        ".",
        "\\u{41}",
        "1 ",
    ]);
    let long = piece.repeat(random.one(&[50, 300, 4000]));
    let long = if random.one_in(2) { format!("\"{}\"", long.replace('"', "'")) } else { long };
    text.replace_range(at, &long);
}

fn toggle_quotes(text: &mut String, random: &mut Random) {
    let tokens = tokens(text);
    if tokens.is_empty() {
        return;
    }
    let token = random.pick(&tokens).clone();
    let word = &text[token.clone()];
    let bare = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    let other = bare.map_or_else(|| format!("\"{word}\""), str::to_owned);
    text.replace_range(token, &other);
}

/// Repeats a piece until the text is large.
fn scale(text: &mut String, random: &mut Random) {
    let range = range(text, random.one(&[40, 400, 4000]), random);
    let size = random.one(&[20_000, 20_000, 50_000, 50_000, 100_000, 100_000, 300_000, LARGEST]);
    let piece = text[range.clone()].to_owned();
    if !piece.is_empty() {
        let copies = piece.repeat(size.saturating_sub(text.len()) / piece.len());
        text.insert_str(range.end, &copies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "adapt 1\nmodel m \"base\" // é🦀\ncpt a { model m; optimizer adamw lr=2e-4 }\n";

    #[test]
    fn changes_are_the_same_with_the_same_seed() {
        let others = [b"sft b { model a }\n".to_vec()];
        let changed = |seed| mutate(RECIPE.as_bytes(), &others, true, &mut Random::new(seed));
        assert!((0..200).all(|seed| changed(seed) == changed(seed)));
        let different = (0..200).filter(|seed| changed(*seed) != RECIPE.as_bytes()).count();
        assert!(different > 150, "{different} of 200 texts were changed");
    }

    #[test]
    fn only_what_may_be_broken_is() {
        let mutated = |seed, bytes| mutate(RECIPE.as_bytes(), &[], bytes, &mut Random::new(seed));
        assert!((0..2000).all(|seed| std::str::from_utf8(&mutated(seed, false)).is_ok()));
        assert!((0..2000).any(|seed| std::str::from_utf8(&mutated(seed, true)).is_err()));
        assert!((0..2000).all(|seed| mutated(seed, true).len() <= LARGEST));
    }
}
