//! Packing: several rows in one sequence, best fit decreasing.

use std::collections::BTreeMap;

/// Joins items into packs of at most `capacity` tokens; returns the items of each pack.
///
/// Items are taken from long to short, equally long ones in the order given, and each goes where the
/// least room is left. How many packs there are depends on the lengths alone, so it is the same for
/// every order. An item longer than `capacity` stands alone. O(n log n).
pub fn pack(lengths: &[u32], capacity: u64) -> Vec<Vec<usize>> {
    let mut items: Vec<usize> = (0..lengths.len()).collect();
    items.sort_by_key(|&item| std::cmp::Reverse(lengths[item]));
    let mut packs: Vec<Vec<usize>> = Vec::new();
    // Packs by the room that they have left; of several the one opened last.
    let mut open: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for item in items {
        let length = u64::from(lengths[item]);
        let (room, pack) = take_best(&mut open, length).unwrap_or_else(|| {
            packs.push(Vec::new());
            (capacity, packs.len() - 1)
        });
        packs[pack].push(item);
        let left = room.saturating_sub(length);
        if left > 0 {
            open.entry(left).or_default().push(pack);
        }
    }
    packs
}

fn take_best(open: &mut BTreeMap<u64, Vec<usize>>, length: u64) -> Option<(u64, usize)> {
    let (&room, packs) = open.range_mut(length..).next()?;
    let pack = packs.pop()?; // Empty lists are removed below, so there is one.
    if packs.is_empty() {
        open.remove(&room);
    }
    Some((room, pack))
}

/// Returns how many sequences rows of these lengths are packed into.
pub fn packed_sequences(lengths: impl Iterator<Item = u32>, capacity: u64) -> u64 {
    pack(&lengths.collect::<Vec<_>>(), capacity).len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_best_fit_is_the_fullest_pack() {
        assert_eq!(pack(&[6, 5, 4, 3], 10), [vec![0, 2], vec![1, 3]]);
        assert_eq!(pack(&[12, 1], 10), [vec![0], vec![1]]);
    }

    proptest! {
        #[test]
        fn packing_loses_and_repeats_nothing(lengths in prop::collection::vec(1u32..=64, 0..200)) {
            let packs = pack(&lengths, 64);
            let mut all: Vec<usize> = packs.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            for pack in &packs {
                prop_assert!(pack.iter().map(|&item| lengths[item]).sum::<u32>() <= 64);
            }
            let mut reversed = lengths.clone();
            reversed.reverse();
            prop_assert_eq!(pack(&reversed, 64).len(), packs.len());
        }
    }
}
