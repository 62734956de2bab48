//! What a loaded tokenizer takes is what is predicted of it.

use serde_json::{Map, Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};
use tokenizer::{Tokenizer, table_bytes, unigram_bytes};

/// Counts the bytes that are in use, as glibc rounds them up: to 16, with 8 of its own, at least 32.
struct Counting;

fn chunk(layout: Layout) -> i64 {
    (layout.size() + 8).next_multiple_of(16).max(32) as i64
}

static BYTES: AtomicI64 = AtomicI64::new(0);

#[allow(unsafe_code, reason = "an allocator has no safe form")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(chunk(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(chunk(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the tokenizer.json of all words of up to three letters, how many those are, and its merges.
fn letters() -> (String, u64, u64) {
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    let mut words = letters.clone();
    let mut merges: Vec<Value> = Vec::new();
    for length in [1, 2] {
        for word in words.clone().iter().filter(|word| word.len() == length) {
            for letter in &letters {
                merges.push(json!([word, letter]));
                words.push(format!("{word}{letter}"));
            }
        }
    }
    let count = (words.len() as u64, merges.len() as u64);
    let vocab: Map<String, Value> = words.into_iter().zip((0_u32..).map(Value::from)).collect();
    let model = json!({ "type": "BPE", "vocab": vocab, "merges": merges });
    let json = json!({ "version": "1.0", "added_tokens": [], "model": model });
    (json.to_string(), count.0, count.1)
}

/// Returns the tokenizer.json of unigrams, and their pieces: made-up words of one to six syllables.
///
/// As many as a list that doubles has room for, since what it has beyond that becomes no memory.
fn unigrams() -> (String, Vec<String>) {
    const COUNT: usize = 1 << 14;
    let syllables = ["▁", "ba", "ke", "ło", "mi", "nu", "ry", "sa", "tó", "ve", "wij", "ng", "st"];
    let mut state = 7_u64;
    let mut below = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % count
    };
    let mut words: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    while words.len() < COUNT {
        let word: String = (0..=below(6)).map(|_| syllables[below(syllables.len())]).collect();
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    let vocab: Vec<Value> = words.iter().map(|word| json!([word, -1.5])).collect();
    let model = json!({ "type": "Unigram", "unk_id": 0, "vocab": vocab });
    (json!({ "version": "1.0", "added_tokens": [], "model": model }).to_string(), words)
}

/// Room for the 10,000 words that unigrams remember: a text and a list of texts each. It becomes memory as it fills.
const REMEMBERED: u64 = (1 << 14) * (48 + 1);

/// Checks what a tokenizer takes beside `untouched` bytes, at first and when it also reads plain text.
fn check(text: &str, tables: u64, untouched: u64, plain: &str) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = place.path().join("tokenizer.json");
    std::fs::write(&file, text).expect("written");
    let (text, tables) = (text.len() as i64, (tables + untouched) as i64);
    let before = BYTES.load(Ordering::Relaxed);
    let check = |predicted: i64| {
        let measured = BYTES.load(Ordering::Relaxed) - before;
        let ratio = measured as f64 / predicted as f64;
        println!("{measured} bytes, predicted {predicted}");
        assert!((0.97..=1.03).contains(&ratio), "{measured} bytes, predicted {predicted}");
    };
    let tokenizer = Tokenizer::load(&file).expect("sound");
    check(text + tables);
    assert_eq!(tokenizer.encode_plain(plain).expect("encoded").ids.len(), 1);
    check(text + 2 * tables);
}

/// One after another, since all allocations are counted together.
#[test]
fn tokenizers_take_what_is_predicted() {
    let (text, vocab, merges) = letters();
    check(&text, table_bytes(vocab, merges), 0, "abc");
    let (text, words) = unigrams();
    let tables = unigram_bytes(words.iter().map(String::as_str));
    check(&text, tables, REMEMBERED, &words[1]);
}
