//! What a loaded tokenizer takes is what is predicted of it.

use serde_json::{Map, Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};
use tokenizer::{Tokenizer, table_bytes};

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

#[test]
fn a_tokenizer_takes_what_is_predicted() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = place.path().join("tokenizer.json");
    let (text, vocab, merges) = letters();
    std::fs::write(&file, &text).expect("written");
    let text = text.len() as i64;
    let tables = table_bytes(vocab, merges) as i64;
    let before = BYTES.load(Ordering::Relaxed);
    let check = |predicted: i64| {
        let measured = BYTES.load(Ordering::Relaxed) - before;
        let ratio = measured as f64 / predicted as f64;
        println!("{measured} bytes, predicted {predicted}");
        assert!((0.97..=1.03).contains(&ratio), "{measured} bytes, predicted {predicted}");
    };
    let tokenizer = Tokenizer::load(&file).expect("sound");
    check(text + tables);
    assert_eq!(tokenizer.encode_plain("abc").expect("encoded").ids.len(), 1);
    check(text + 2 * tables);
}
