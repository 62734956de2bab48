//! Which inputs are worth keeping: the smallest that together show everything that was seen.

use crate::outcome::Features;
use crate::random::hash;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

/// The bytes that the saved inputs of one target may have together.
const ROOM: usize = 90_000;
/// The largest input that is kept.
const LARGEST: usize = 6_000;

/// An input with what it shows.
#[derive(Debug)]
struct Kept {
    input: Vec<u8>,
    features: Features,
}

/// The best input for each feature.
#[derive(Debug, Default)]
pub struct Corpus {
    best: BTreeMap<u64, Rc<Kept>>,
    /// What the seeds show, for which nothing need be saved.
    known: Features,
}

impl Corpus {
    /// Adds what a seed shows.
    pub fn know(&mut self, features: Features) {
        self.known.extend(features);
    }

    /// Adds an input; returns whether it shows something that none showed.
    pub fn add(&mut self, input: &[u8], features: Features) -> bool {
        let is_better = |feature: &u64| match self.best.get(feature) {
            Some(best) => input.len() < best.input.len() * 3 / 4,
            None => !self.known.contains(feature),
        };
        let better: Vec<u64> = features.iter().copied().filter(is_better).collect();
        let is_new = better.iter().any(|feature| !self.best.contains_key(feature));
        if !better.is_empty() && input.len() <= LARGEST {
            let kept = Rc::new(Kept { input: input.to_vec(), features });
            self.best.extend(better.into_iter().map(|feature| (feature, kept.clone())));
        }
        is_new
    }

    /// Returns how many features were seen.
    pub fn len(&self) -> usize {
        self.known.len() + self.best.len()
    }

    /// Chooses inputs that together show everything, as far as there is room; those that show most first.
    fn chosen(&self) -> Vec<&Kept> {
        let (mut chosen, mut room) = (Vec::new(), ROOM);
        let mut open: BTreeSet<u64> = self.best.keys().copied().collect();
        let mut left: BTreeMap<u64, &Kept> = BTreeMap::new();
        left.extend(self.best.values().map(|kept| (hash(&kept.input), kept.as_ref())));
        while !open.is_empty() {
            let gain =
                |kept: &Kept| kept.features.intersection(&open).count() * 1000 / (kept.input.len() + 100);
            let Some((&id, &kept)) = left.iter().max_by_key(|(_, kept)| gain(kept)) else { break };
            left.remove(&id);
            if !kept.features.is_disjoint(&open) && kept.input.len() <= room {
                room -= kept.input.len();
                open.retain(|feature| !kept.features.contains(feature));
                chosen.push(kept);
            }
        }
        chosen
    }

    /// Replaces the inputs of a folder by the chosen ones.
    pub fn save(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)? {
            std::fs::remove_file(entry?.path())?;
        }
        for kept in self.chosen() {
            std::fs::write(folder.join(format!("{:016x}", hash(&kept.input))), &kept.input)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(of: &[u64]) -> Features {
        of.iter().copied().collect()
    }

    #[test]
    fn the_smallest_inputs_that_show_all_are_chosen() {
        let mut corpus = Corpus::default();
        corpus.know(features(&[9]));
        assert!(!corpus.add(b"a seed's", features(&[9])));
        assert!(corpus.add(b"long, shows one thing", features(&[1])));
        assert!(!corpus.add(b"shows it, too", features(&[1])));
        assert!(corpus.add(b"two", features(&[1, 2])));
        assert!(corpus.add(b"three", features(&[3, 9])));
        let chosen: BTreeSet<&[u8]> = corpus.chosen().iter().map(|kept| kept.input.as_slice()).collect();
        assert_eq!(chosen, BTreeSet::from([b"two".as_slice(), b"three"]));
        assert_eq!(corpus.len(), 4);
    }
}
