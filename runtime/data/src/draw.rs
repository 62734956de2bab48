//! Random draws of data: orders and choices, each a pure function of a seed and what it is for.

use ops::random::{philox, stream};

/// What a draw is for; part of its key, so that no two uses see the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The order of an epoch.
    Order = 0x6461_7401,
    /// The order of an epoch's packs.
    Packs = 0x6461_7402,
    Holdout = 0x6461_7403,
    Limit = 0x6461_7404,
    Shuffle = 0x6461_7405,
    Mix = 0x6461_7406,
}

/// A sequence of numbers; `epoch` stands for whatever makes the draw new.
pub struct Draws {
    key: [u32; 2],
    next: u64,
}

impl Draws {
    pub fn new(seed: u64, epoch: u64, purpose: Use) -> Self {
        Self { key: stream(seed, epoch, purpose as u32), next: 0 }
    }

    /// Returns a number below `bound`, which is not 0; the bias is below bound / 2^64.
    fn below(&mut self, bound: u64) -> u64 {
        let counter = [self.next as u32, (self.next >> 32) as u32, 0, 0];
        self.next += 1;
        let words = philox(self.key, counter);
        let word = u64::from(words[0]) | u64::from(words[1]) << 32;
        ((u128::from(word) * u128::from(bound)) >> 64) as u64
    }

    /// Puts the first `count` items of a random order in front (Fisher–Yates).
    pub fn shuffle_front<T>(&mut self, items: &mut [T], count: usize) {
        for at in 0..count.min(items.len()) {
            let other = at + self.below((items.len() - at) as u64) as usize;
            items.swap(at, other);
        }
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.shuffle_front(items, items.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_is_a_permutation_and_depends_on_every_part_of_its_key() {
        let drawn = |seed, epoch, purpose| {
            let mut items: Vec<u32> = (0..100).collect();
            Draws::new(seed, epoch, purpose).shuffle(&mut items);
            items
        };
        let one = drawn(1, 0, Use::Order);
        assert_eq!(one, drawn(1, 0, Use::Order));
        for other in [drawn(2, 0, Use::Order), drawn(1, 1, Use::Order), drawn(1, 0, Use::Packs)] {
            assert_ne!(one, other);
            let mut sorted = other;
            sorted.sort_unstable();
            assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        }
    }
}
