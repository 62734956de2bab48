//! How the next token is drawn from logits: the processors of Hugging Face transformers, in their order.
//!
//! Repetition penalty, temperature, top-k, top-p. A processor removes a token by setting its logit to −∞.

use ops::random::{philox, stream, unit};
use plan::work::Sampling;
use std::cmp::Ordering;

/// Below this temperature the most likely token is taken: divided by less, logits leave f32, and no other token
/// would have a probability.
const COLDEST: f64 = 1e-30;

/// Draws tokens for one prompt.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    prompt: u32,
    drawn: u64,
    logits: Vec<f32>,
    order: Vec<u32>,
}

impl Sampler {
    /// Makes a sampler; `prompt` is the prompt's index, so that equal prompts get different answers.
    pub fn new(sampling: Sampling, prompt: u32) -> Self {
        Sampler { sampling, prompt, drawn: 0, logits: Vec::new(), order: Vec::new() }
    }

    /// Returns the next token; `ids` are those of the prompt and of the answer so far.
    pub fn next(&mut self, logits: &[f32], ids: &[u32]) -> u32 {
        let Sampling { temperature, top_k, top_p, repetition_penalty, seed, .. } = self.sampling;
        let greedy = temperature < COLDEST;
        if repetition_penalty == 1.0 && greedy {
            return largest(logits);
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        if repetition_penalty != 1.0 {
            penalize_repetition(&mut self.logits, ids, repetition_penalty as f32);
        }
        if greedy {
            return largest(&self.logits);
        }
        apply_temperature(&mut self.logits, temperature as f32);
        if top_k > 0 {
            keep_top_k(&mut self.logits, top_k as usize, &mut self.order);
        }
        if top_p < 1.0 {
            keep_top_p(&mut self.logits, top_p, &mut self.order);
        }
        let words = philox(stream(seed, self.drawn, self.prompt), [0; 4]);
        self.drawn += 1;
        draw(&self.logits, f64::from(unit(words[0])))
    }
}

/// Returns the index of the largest logit, the first of equal ones.
///
/// Side by side, since a vocabulary is tens of thousands of logits for each token that is made.
fn largest(logits: &[f32]) -> u32 {
    let larger = |most: f32, logit: f32| if logit > most { logit } else { most };
    let (blocks, rest) = logits.as_chunks::<16>();
    let mut side = [f32::NEG_INFINITY; 16];
    for block in blocks {
        side.iter_mut().zip(block).for_each(|(most, logit)| *most = larger(*most, *logit));
    }
    let most = side.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger);
    logits.iter().position(|logit| *logit == most).unwrap_or(0) as u32
}

/// Divides positive logits of tokens that occurred by the penalty, multiplies negative ones. Keskar et al. 2019.
fn penalize_repetition(logits: &mut [f32], ids: &[u32], penalty: f32) {
    let mut seen: Vec<u32> = ids.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

fn apply_temperature(logits: &mut [f32], temperature: f32) {
    logits.iter_mut().for_each(|logit| *logit /= temperature);
}

/// Keeps the k largest logits and those equal to the smallest of them.
fn keep_top_k(logits: &mut [f32], k: usize, order: &mut Vec<u32>) {
    if k >= logits.len() {
        return;
    }
    order.clear();
    order.extend(0..logits.len() as u32);
    let (_, least, _) = order.select_nth_unstable_by(k - 1, descending(logits));
    let least = logits[*least as usize];
    logits.iter_mut().filter(|logit| **logit < least).for_each(|logit| *logit = f32::NEG_INFINITY);
}

/// Keeps the smallest set of most likely tokens whose probabilities reach p, at least one. Holtzman et al. 2019.
fn keep_top_p(logits: &mut [f32], p: f64, order: &mut Vec<u32>) {
    sort_descending(logits, order);
    let probabilities = softmax(logits);
    // From the least likely on: as long as the sum stays within 1 − p, tokens go.
    let mut sum = 0.0;
    for &index in order.iter().skip(1).rev() {
        sum += probabilities[index as usize];
        if sum > 1.0 - p {
            return;
        }
        logits[index as usize] = f32::NEG_INFINITY;
    }
}

/// Sorts the indices of tokens that are not removed by their logits.
fn sort_descending(logits: &[f32], order: &mut Vec<u32>) {
    order.clear();
    order.extend((0..logits.len() as u32).filter(|&index| logits[index as usize] > f32::NEG_INFINITY));
    order.sort_unstable_by(descending(logits));
}

/// Orders indices by their logits, largest first, equal ones by index.
fn descending(logits: &[f32]) -> impl FnMut(&u32, &u32) -> Ordering {
    |a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Returns the token at which the running sum of probabilities passes `point`, in [0, 1).
fn draw(logits: &[f32], point: f64) -> u32 {
    let mut sum = 0.0;
    let mut last = 0;
    for (index, probability) in softmax(logits).into_iter().enumerate() {
        if probability > 0.0 {
            sum += probability;
            last = index as u32;
            if point < sum {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::TensorFile;
    use std::path::Path;

    fn golden(name: &str) -> Vec<Vec<f32>> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/sampling/golden.safetensors");
        let file = TensorFile::open(&path).expect("committed");
        let info = file.info(name).expect("there");
        let mut bytes = vec![0; info.shape.iter().product::<usize>() * 4];
        file.read(info, 0, &mut bytes).expect("read");
        let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        numbers.chunks(info.shape[1]).map(<[f32]>::to_vec).collect()
    }

    fn ids() -> Vec<Vec<u32>> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/sampling/golden.safetensors");
        let file = TensorFile::open(&path).expect("committed");
        let info = file.info("input_ids").expect("there");
        let mut bytes = vec![0; info.shape.iter().product::<usize>() * 8];
        file.read(info, 0, &mut bytes).expect("read");
        let ids: Vec<u32> = bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();
        ids.chunks(info.shape[1]).map(<[u32]>::to_vec).collect()
    }

    /// Every processor gives the very bits that Hugging Face gives.
    #[test]
    fn processors_agree_with_hugging_face() {
        let check = |name: &str, process: &dyn Fn(&mut Vec<f32>, &[u32])| {
            for ((mut logits, ids), expected) in golden("logits").into_iter().zip(ids()).zip(golden(name)) {
                process(&mut logits, &ids);
                assert_eq!(logits, expected, "{name}");
            }
        };
        check("temperature_0.7", &|logits, _| apply_temperature(logits, 0.7));
        check("top_k_20", &|logits, _| keep_top_k(logits, 20, &mut Vec::new()));
        check("top_p_0.9", &|logits, _| keep_top_p(logits, 0.9, &mut Vec::new()));
        check("repetition_1.3", &|logits, ids| penalize_repetition(logits, ids, 1.3));
    }

    fn sampling(temperature: f64) -> Sampling {
        Sampling { max_tokens: 1, temperature, top_p: 1.0, top_k: 0, repetition_penalty: 1.0, seed: 5 }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(Sampler::new(sampling(0.0), 0).next(&[0.0, 2.0, 2.0, -1.0], &[]), 1);
        assert_eq!(Sampler::new(sampling(0.0), 0).next(&[f32::NEG_INFINITY; 20], &[]), 0);
        for (first, second) in [(0, 1), (3, 19), (15, 16), (16, 36), (35, 36)] {
            let mut logits: Vec<f32> = (0..37).map(|i| -1.0 - i as f32).collect();
            (logits[first], logits[second]) = (0.0, -0.0);
            assert_eq!(Sampler::new(sampling(0.0), 0).next(&logits, &[]), first as u32, "{first}, {second}");
        }
    }

    #[test]
    fn next_to_no_temperature_is_none() {
        for temperature in [1e-300, 1e-40, 1e-31, 1e-29] {
            assert_eq!(Sampler::new(sampling(temperature), 0).next(&[0.0, 30.0, 29.0, -4.0], &[]), 1);
        }
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [0.0_f32, f32::NEG_INFINITY, 3.0_f32.ln()];
        let mut sampler = Sampler::new(sampling(1.0), 0);
        let drawn: Vec<u32> = (0..4000).map(|_| sampler.next(&logits, &[])).collect();
        let share = drawn.iter().filter(|id| **id == 2).count() as f64 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
        assert!(!drawn.contains(&1));
        let mut again = Sampler::new(sampling(1.0), 0);
        assert!(drawn.iter().all(|id| *id == again.next(&logits, &[])));
        let mut other = Sampler::new(sampling(1.0), 1);
        assert!(drawn.iter().any(|id| *id != other.next(&logits, &[])));
    }
}
