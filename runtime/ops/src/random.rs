//! Counter-based random numbers: Philox4x32-10. Salmon et al. 2011, doi 10.1145/2063384.2063405.
//!
//! A draw is a pure function of (seed, step, site, row, position, channel), so it is the same for any
//! micro batch, packing, recompute choice and device.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Returns the four words of a counter under a key.
#[inline]
pub fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let mut key = key;
    let mut c = counter;
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ key[1], p0 as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    c
}

/// Returns the words of `SIDE` counters under a key, as [`philox`] gives them one by one.
///
/// Counters are by number, then side by side; so is the result. Loops over counters are what the
/// compiler vectorises.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // one index into four arrays
pub fn philox_side_by_side<const SIDE: usize>(key: [u32; 2], counters: [[u32; SIDE]; 4]) -> [[u32; SIDE]; 4] {
    let mut key = key;
    let mut c = counters;
    for _ in 0..10 {
        for i in 0..SIDE {
            let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c[0][i]);
            let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c[2][i]);
            c[0][i] = (p1 >> 32) as u32 ^ c[1][i] ^ key[0];
            c[1][i] = p1 as u32;
            c[2][i] = (p0 >> 32) as u32 ^ c[3][i] ^ key[1];
            c[3][i] = p0 as u32;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    c
}

/// Returns the key of a stream: seed, step and site mixed to 64 bits (splitmix64).
pub fn stream(seed: u64, step: u64, site: u32) -> [u32; 2] {
    let mixed = splitmix(splitmix(splitmix(seed).wrapping_add(step)).wrapping_add(u64::from(site)));
    [mixed as u32, (mixed >> 32) as u32]
}

fn splitmix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns a number in [0, 1) from 24 bits of a word.
#[inline]
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_by_side_gives_the_words_of_each_counter() {
        let (key, counter) = ([7, 9], [u32::MAX - 2, 5, 6, 3]);
        let first = std::array::from_fn(|side| counter[0].wrapping_add(side as u32));
        let words =
            philox_side_by_side::<16>(key, [first, [counter[1]; 16], [counter[2]; 16], [counter[3]; 16]]);
        for side in 0..16 {
            let one = philox(key, [first[side], counter[1], counter[2], counter[3]]);
            assert_eq!(one, [words[0][side], words[1][side], words[2][side], words[3][side]]);
        }
    }

    /// Known answers of the Random123 distribution (philox4x32-10).
    #[test]
    fn philox_gives_the_published_words() {
        assert_eq!(philox([0, 0], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 2], [u32::MAX; 4]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }
}
