//! The language server's core: random edits, every question at random places. Edits must come to the same as
//! opening the text that they make, and every place must lie in the text.

use super::PART;
use crate::mutate::mutate;
use crate::outcome::{Features, Finding, timed};
use crate::random::{Random, hash};
use crate::words;
use crate::world::World;
use lang::facts::{Facts, Want};
use lang::lock::Kind;
use lsp::{Abilities, Editor, Encoding, Look, Outside};
use lsp_types::{
    Diagnostic, Position, Range, TextDocumentContentChangeEvent, TextDocumentContentChangePartial, Uri,
};

/// Edits of one input.
const EDITS: usize = 3;

/// Draws a text and what is written over places of it.
pub fn input(base: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let text = base.split(|&byte| byte == PART).next().unwrap_or_default();
    let mut input = if random.one_in(3) { text.to_vec() } else { mutate(text, others, false, random) };
    for _ in 0..=random.below(EDITS) {
        input.push(PART);
        let piece = match random.below(5) {
            0 => String::new(),
            1 => "\n    ".to_owned(),
            2 => words::WORDS[random.below(words::WORDS.len())].to_owned(),
            _ => words::any(random),
        };
        input.extend(piece.into_bytes());
    }
    input
}

/// The world as an editor sees it.
struct Outer(u64);

struct Seen(World);

impl Outside for Outer {
    type Look = Seen;

    fn look(&self, _: &str) -> Result<Seen, String> {
        match self.0 % 16 {
            0 => Err("the lock file is broken".to_owned()),
            seed => Ok(Seen(World::anew(seed))),
        }
    }

    fn list(&self, folder: &str) -> Vec<String> {
        ["a.kdl", "b.kdl", "data.jsonl", "parts/", "é 🦀.jinja"]
            .map(|name| format!("{folder}/{name}"))
            .to_vec()
    }
}

impl Look for Seen {
    fn fill(&mut self, wants: &[Want], facts: &mut Facts) -> bool {
        self.0.facts = std::mem::take(facts);
        let news = self.0.fill(wants);
        *facts = std::mem::take(&mut self.0.facts);
        news
    }

    fn sources(&self) -> Vec<(String, Kind)> {
        vec![("hf:o/m".to_owned(), Kind::Model)]
    }
}

pub fn run(input: &[u8], features: &mut Features) -> Result<(), Finding> {
    let mut parts = input.split(|&byte| byte == PART).map(|part| String::from_utf8_lossy(part).into_owned());
    let mut text = parts.next().unwrap_or_default();
    let random = &mut Random::new(hash(input));
    let encoding = if random.one_in(2) { Encoding::Utf8 } else { Encoding::Utf16 };
    let (mut editor, uri) = opened(&text, encoding, hash(input))?;
    ask(&mut editor, &uri, &text, random, features)?;
    for (version, piece) in parts.take(EDITS).enumerate() {
        let range = place_to_write(&text, random);
        let (start, end) = (position(&text, range.start, encoding), position(&text, range.end, encoding));
        text.replace_range(range, &piece);
        let range = Range { start, end };
        let change = TextDocumentContentChangePartial { range, text: piece, ..Default::default() };
        let change = TextDocumentContentChangeEvent::TextDocumentContentChangePartial(change);
        timed(|| editor.change(&uri, version as i32 + 2, vec![change]));
        ask(&mut editor, &uri, &text, random, features)?;
    }
    let edited = editor.diagnostics(&uri);
    let whole = opened(&text, encoding, hash(input))?.0.diagnostics(&uri);
    if edited != whole {
        return Err(Finding::new("edits come to something else", format!("{text}\n{edited:#?}\n{whole:#?}")));
    }
    Ok(())
}

/// Opens a text in an editor of its own.
fn opened(text: &str, encoding: Encoding, seed: u64) -> Result<(Editor<Outer>, Uri), Finding> {
    let uri = Uri::from_file_path("/base/recipe.kdl").map_err(|()| Finding::new("no URI", ""))?;
    let mut editor = Editor::new(
        Outer(seed),
        "/base",
        Abilities { encoding, snippets: seed.is_multiple_of(2), code_pages: seed.is_multiple_of(3) },
    );
    timed(|| editor.open(uri.clone(), 1, text.to_owned(), true));
    Ok((editor, uri))
}

/// Draws what is written over: mostly little, between characters.
fn place_to_write(text: &str, random: &mut Random) -> std::ops::Range<usize> {
    let longest = random.one(&[0, 0, 1, 12, 200]);
    let range = random.range(text.len(), longest);
    let start = text.floor_char_boundary(range.start);
    let end = text.floor_char_boundary(range.end);
    // The protocol knows no place between the two characters of a line end.
    let split = |at: usize| text.as_bytes().get(at.wrapping_sub(1)..=at) == Some(b"\r\n");
    start - usize::from(split(start))..end + usize::from(split(end))
}

/// Returns the line and column of a byte.
fn position(text: &str, at: usize, encoding: Encoding) -> Position {
    let before = text[..at].replace("\r\n", "\n").replace('\r', "\n");
    let line = before.matches('\n').count() as u32;
    let last = before.rsplit('\n').next().unwrap_or_default();
    Position { line, character: encoding.measure(last) as u32 }
}

/// Asks everything that an editor asks.
fn ask(
    editor: &mut Editor<Outer>,
    uri: &Uri,
    text: &str,
    random: &mut Random,
    features: &mut Features,
) -> Result<(), Finding> {
    let diagnostics = timed(|| editor.diagnostics(uri));
    let widths = widths(text, editor.encoding());
    diagnostics.iter().try_for_each(|found| lies_within(found, text, &widths))?;
    let at = text.floor_char_boundary(random.below(text.len() + 1));
    let mut place = position(text, at, editor.encoding());
    if random.one_in(10) {
        place = Position { line: random.next() as u32, character: random.next() as u32 };
    }
    let whole = Range { start: Position::default(), end: Position { line: u32::MAX, character: u32::MAX } };
    let items = timed(|| editor.completion(uri, place)).len();
    let hover = timed(|| editor.hover(uri, place)).is_some();
    let places = timed(|| editor.definition(uri, place)).len();
    let uses = timed(|| editor.references(uri, place, true)).len();
    let renamed =
        timed(|| editor.rename(uri, place, random.one(&["other", "b", "é", "", "a b", "🦀"]))).is_ok();
    let actions = timed(|| {
        editor.actions(uri, if random.one_in(2) { whole } else { Range { start: place, end: place } })
    });
    let hints = timed(|| editor.hints(uri, whole)).len();
    let symbols = timed(|| editor.symbols(uri)).len();
    let folds = timed(|| editor.folding(uri)).len();
    let formats = timed(|| editor.format(uri)).len();
    timed(|| editor.links(uri));
    if timed(|| editor.tokens(uri, None)).iter().any(|token| token.length == 0) {
        return Err(Finding::new("a token without characters", text));
    }
    let counts = [
        items,
        usize::from(hover),
        places,
        uses,
        usize::from(renamed),
        actions.len(),
        hints,
        symbols,
        folds,
        formats,
    ];
    let bits: String = counts.iter().map(|count| if *count > 0 { '1' } else { '0' }).collect();
    features.insert(hash(bits.as_bytes()));
    features.extend(diagnostics.iter().map(|found| hash(format!("{:?}", found.code).as_bytes())));
    Ok(())
}

/// How wide each line is.
fn widths(text: &str, encoding: Encoding) -> Vec<usize> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.split('\n').map(|line| encoding.measure(line)).collect()
}

/// Whether a diagnostic's range lies in the text.
fn lies_within(found: &Diagnostic, text: &str, widths: &[usize]) -> Result<(), Finding> {
    let is_in = |place: Position| {
        widths.get(place.line as usize).is_some_and(|width| place.character as usize <= *width)
    };
    let Range { start, end } = found.range;
    if is_in(start) && is_in(end) && start <= end {
        return Ok(());
    }
    Err(Finding::new("a range outside of the text", format!("{text}\n{found:#?}")))
}
