//! The outside as a recipe finds it: facts from the gallery's lock files and the cases of `tests/ui`, drawn
//! by the input itself, so that the same input always meets the same world.

use crate::random::{Random, hash};
use crate::seeds::{files, root};
use lang::facts::{
    Facts, Fingerprint, HardwareFact, ModelFact, PartFact, PathFact, PreparedFact, RowsFact, TokenizerFact,
    Want,
};
use lang::lock::{self, Lock};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// All facts that are known of any source, by key.
#[derive(Debug, Default)]
struct Pool {
    paths: Vec<PathFact>,
    models: BTreeMap<String, Vec<ModelFact>>,
    tokenizers: BTreeMap<String, Vec<TokenizerFact>>,
    rows: BTreeMap<String, Vec<RowsFact>>,
    /// Recipes by the last part of their path.
    texts: BTreeMap<String, Vec<String>>,
}

static POOL: LazyLock<Pool> = LazyLock::new(Pool::read);

impl Pool {
    fn read() -> Self {
        let mut pool = Self::default();
        for path in files(&root().join("recipes"), lock::FILE) {
            let text = std::fs::read_to_string(&path).expect("a lock file is readable");
            let lock = Lock::read(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let mut facts = Facts::default();
            for key in lock.sources.keys().cloned() {
                for want in [Want::Model(key.clone()), Want::Tokenizer(key.clone()), Want::Rows(key)] {
                    lock.fill(&want, &mut facts);
                }
            }
            pool.add(facts);
        }
        for path in files(&root().join("tests/ui"), ".facts.json") {
            let text = std::fs::read_to_string(&path).expect("facts are readable");
            pool.add(read_facts(&text).unwrap_or_else(|error| panic!("{path:?}: {error}")));
        }
        for path in files(&root().join("recipes"), ".kdl") {
            let text = std::fs::read_to_string(&path).expect("a recipe is readable");
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            pool.texts.entry(name).or_default().push(text);
        }
        pool
    }

    fn add(&mut self, facts: Facts) {
        self.paths.extend(facts.paths.into_values());
        facts.models.into_iter().for_each(|(key, fact)| self.models.entry(key).or_default().push(fact));
        facts
            .tokenizers
            .into_iter()
            .for_each(|(key, fact)| self.tokenizers.entry(key).or_default().push(fact));
        facts.rows.into_iter().for_each(|(key, fact)| self.rows.entry(key).or_default().push(fact));
        for (path, text) in facts.texts {
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            self.texts.entry(name).or_default().push(text);
        }
    }
}

/// Reads facts of which most parts may be left out.
fn read_facts(text: &str) -> Result<Facts, String> {
    let mut whole = serde_json::to_value(Facts::default()).map_err(|error| error.to_string())?;
    let partial: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    for (key, part) in partial.as_object().ok_or("facts are an object")? {
        whole[key] = part.clone();
    }
    serde_json::from_value(whole).map_err(|error| error.to_string())
}

/// How many worlds there are. What a world knows of a key follows from both alone, so that one may be
/// used again for another input; in every eighth nothing is known.
const WORLDS: u64 = 64;
/// The facts that a world may hold before it is forgotten.
const ROOM: usize = 1000;

thread_local! {
    static WORLDS_MADE: RefCell<BTreeMap<u64, World>> = const { RefCell::new(BTreeMap::new()) };
}

/// What is outside.
#[derive(Debug)]
pub struct World {
    seed: u64,
    pub facts: Facts,
}

impl World {
    /// Takes the world of an input.
    pub fn of(input: &[u8]) -> Self {
        let seed = hash(input) % WORLDS;
        let made = WORLDS_MADE.with_borrow_mut(|made| made.remove(&seed));
        made.unwrap_or_else(|| Self { seed, facts: Facts::default() })
    }

    /// Makes a world of which nothing is known yet.
    pub fn anew(seed: u64) -> Self {
        Self { seed, facts: Facts::default() }
    }

    /// Gives it back for the next input.
    pub fn give_back(self) {
        if size(&self.facts) < ROOM {
            WORLDS_MADE.with_borrow_mut(|made| made.insert(self.seed, self));
        }
    }

    fn random(&self, key: &str) -> Random {
        Random::new(self.seed << 32 ^ hash(key.as_bytes()))
    }

    /// Fills what is wanted; returns whether anything is new.
    pub fn fill(&mut self, wants: &[Want]) -> bool {
        if self.seed.is_multiple_of(8) {
            return false;
        }
        let before = size(&self.facts);
        for want in wants {
            match want {
                Want::Path(path) => self.path(path),
                Want::Model(key) => self.model(key),
                Want::Tokenizer(key) => self.tokenizer(key),
                Want::Rows(key) => self.rows(key),
                Want::Text(path) => self.text(path),
                Want::Hash(path) => {
                    let digits = format!("{:016x}", hash(path.as_bytes())).repeat(4);
                    self.facts.hashes.insert(path.clone(), digits);
                }
                Want::Hardware => self.hardware(),
            }
        }
        size(&self.facts) > before
    }

    fn path(&mut self, path: &str) {
        let random = &mut self.random(path);
        let print = |bytes: usize| Fingerprint { bytes: bytes as u64, modified: 7, inode: 7 };
        let fact = match random.below(12) {
            0 if !POOL.paths.is_empty() => random.pick(&POOL.paths).clone(),
            1 => PathFact::Missing,
            2 => PathFact::Many(vec![
                (format!("{path}/train.jsonl"), print(9)),
                (format!("{path}/test.jsonl"), print(0)),
            ]),
            3 => return,
            _ => PathFact::File(print(random.below(100_000))),
        };
        self.facts.paths.entry(path.to_owned()).or_insert(fact);
    }

    fn model(&mut self, key: &str) {
        let random = &mut self.random(key);
        let Some(mut fact) = drawn(&POOL.models, key, random) else { return };
        if random.one_in(10) {
            spoil(&mut fact.config, random);
        }
        self.facts.models.entry(key.to_owned()).or_insert(fact);
    }

    fn tokenizer(&mut self, key: &str) {
        let random = &mut self.random(key);
        let Some(mut fact) = drawn(&POOL.tokenizers, key, random) else { return };
        if random.one_in(10) {
            fact.vocab_size = random.one(&[0, 1, 96, 32_000, u64::from(u32::MAX), u64::MAX]);
        }
        self.facts.tokenizers.entry(key.to_owned()).or_insert(fact);
    }

    fn rows(&mut self, key: &str) {
        let random = &mut self.random(key);
        let Some(mut fact) = drawn(&POOL.rows, key, random) else { return };
        if random.one_in(4) {
            let rows = random.one(&[0, 1, 7, 1000, 10_000_000_000, u64::MAX]);
            fact.split_rows = fact.splits.iter().map(|split| (split.clone(), rows)).collect();
            fact.row_bytes = Some(random.one(&[0.0, 1.0, 900.5, 1e18]));
        }
        self.facts.rows.entry(key.to_owned()).or_insert(fact);
    }

    fn text(&mut self, path: &str) {
        let random = &mut self.random(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        let text = match POOL.texts.get(name) {
            Some(texts) => random.pick(texts).clone(),
            None if random.one_in(2) => return,
            None => "adapt 1\ntemplate t { turns { user \"{content}\"; assistant \"{content}{eos}\" } }\n"
                .to_owned(),
        };
        self.facts.texts.entry(path.to_owned()).or_insert(text);
    }

    fn hardware(&mut self) {
        let random = &mut self.random("hardware");
        let memory = random.one(&[0, 1, 1 << 20, 8 << 30, 80 << 30, u64::MAX]);
        let (profile, ghz) = (random.one_in(2).then(|| "cpu".to_owned()), random.one_in(2).then_some(3.0));
        self.facts.hardware = Some(HardwareFact {
            name: "a machine".into(),
            memory,
            threads: 2,
            cores: 2,
            profile,
            ghz,
            rates: None,
        });
    }

    /// Adds what preparing data may have yielded.
    pub fn prepare(&mut self, task: &str) {
        let random = &mut self.random(task);
        let mut part = || {
            let rows = random.one(&[0, 1, 3, 1000, 40_000_000]);
            let longest = random.one(&[1, 100, 1 << 17]);
            let tokens = rows * random.one(&[1, 10, longest]);
            let shared_tokens = tokens / random.one(&[1, 2, 100]);
            PartFact {
                rows,
                tokens,
                trained_tokens: tokens / 2,
                longest,
                sequences: rows.div_ceil(2),
                longest_pair: random.one(&[0, longest, 2 * longest]),
                shared_tokens,
            }
        };
        let fact = PreparedFact { train: part(), eval: part() };
        self.facts.prepared.entry(task.to_owned()).or_insert(fact);
    }
}

/// What is known of a source, or of another one; nothing now and then.
fn drawn<T: Clone>(known: &BTreeMap<String, Vec<T>>, key: &str, random: &mut Random) -> Option<T> {
    if random.one_in(8) {
        return None;
    }
    if let Some(own) = known.get(key).filter(|_| !random.one_in(6)) {
        return Some(random.pick(own).clone());
    }
    let all: Vec<&Vec<T>> = known.values().collect();
    (!all.is_empty()).then(|| {
        let one = random.one(&all);
        random.pick(one).clone()
    })
}

/// Gives one field of a configuration a value that no model has.
fn spoil(config: &mut Value, random: &mut Random) {
    let Some(fields) = config.as_object_mut() else { return };
    let keys: Vec<String> = fields.keys().cloned().collect();
    if keys.is_empty() {
        return;
    }
    let values = [
        json!(0),
        json!(1),
        json!(7),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(1u64 << 40),
        json!(null),
        json!("x"),
        json!([]),
        json!({}),
        json!(true),
    ];
    fields.insert(random.pick(&keys).clone(), random.pick(&values).clone());
}

/// How many facts there are.
fn size(facts: &Facts) -> usize {
    let Facts { paths, models, tokenizers, languages, rows, prepared, hashes, texts, hardware } = facts;
    let maps = [paths.len(), models.len(), tokenizers.len(), languages.len(), rows.len(), prepared.len()];
    maps.iter().sum::<usize>() + hashes.len() + texts.len() + usize::from(hardware.is_some())
}
