//! Inputs out of seeds and words: the same ones for the same number, on any machine.
//!
//! It learns nothing of the code it feeds but whether an input was accepted: such inputs are parents more often.

use crate::{Outcome, corpus::Corpus};

/// Bytes of one input, at most.
pub const INPUT_BYTES_MAX: usize = 4096;

/// Inputs that are parents beside the seeds.
const PARENTS_MAX: usize = 256;

/// Mutations of one input beside the first, at most.
const MUTATIONS_MAX: u32 = 8;

/// A generator of Marsaglia's, xorshift64*: enough to choose by, and a few lines instead of a dependency.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a; the state must not be zero.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = seed.to_le_bytes().into_iter().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325, mix);
        Self(hash | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `bound`, itself excluded; 0 if it is 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(((self.next() >> 32) * bound as u64) >> 32).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len()))
    }

    /// A piece of `text`, mostly short.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = if self.below(4) == 0 { length - start } else { 16.min(length - start) };
        start..start + self.below(longest + 1)
    }
}

/// The inputs of one run.
#[derive(Clone, Debug)]
pub struct Engine {
    corpus: Corpus,
    random: Random,
    parents: Vec<Vec<u8>>,
    /// Seeds given out as they are.
    given: usize,
}

impl Engine {
    /// Starts with the seeds themselves. `seed` and `name` decide everything that follows.
    pub fn new(corpus: Corpus, seed: u64, name: &str) -> Self {
        Self { corpus, random: Random::new(seed, name), parents: Vec::new(), given: 0 }
    }

    /// Replaces `input` by the next one.
    pub fn next(&mut self, input: &mut Vec<u8>) {
        input.clear();
        if let Some(seed) = self.corpus.seeds.get(self.given) {
            self.given += 1;
            return input.extend_from_slice(seed);
        }
        input.extend_from_slice(parent(&self.corpus, &self.parents, &mut self.random));
        // One half of the inputs gets one mutation, a quarter two, and so on.
        for _ in 0..=self.random.next().trailing_zeros().min(MUTATIONS_MAX) {
            self.mutate(input);
            input.truncate(INPUT_BYTES_MAX);
        }
    }

    /// Hears what became of the input, and may keep it as a parent.
    pub fn learn(&mut self, input: &[u8], outcome: Outcome) {
        let odds = match outcome {
            Outcome::Accepted => 8,
            Outcome::Refused => 64,
        };
        if self.random.below(odds) != 0 {
            return;
        }
        if self.parents.len() < PARENTS_MAX {
            self.parents.push(input.to_vec());
        } else {
            let at = self.random.below(PARENTS_MAX);
            if let Some(parent) = self.parents.get_mut(at) {
                parent.clear();
                parent.extend_from_slice(input);
            }
        }
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.below(input.len() + 1);
        match random.below(12) {
            0 => {
                let bit = 1 << random.below(8);
                input.get_mut(at).into_iter().for_each(|byte| *byte ^= bit);
            }
            1 => {
                let value = random.byte();
                input.get_mut(at).into_iter().for_each(|byte| *byte = value);
            }
            2 => input.insert(at, random.byte()),
            3 => drop(input.drain(random.range(input.len()))),
            4 => {
                let piece = input.get(random.range(input.len())).unwrap_or_default().to_vec();
                drop(input.splice(at..at, piece));
            }
            5 => {
                let piece = input.get(random.range(input.len())).unwrap_or_default();
                let many = piece.repeat(random.below(40));
                drop(input.splice(at..at, many));
            }
            6 | 7 => {
                let word = random.one_of(&self.corpus.words).cloned().unwrap_or_default();
                drop(input.splice(at..at, word));
            }
            8 => {
                let word = random.one_of(&self.corpus.words).cloned().unwrap_or_default();
                let end = input.len().min(at + word.len());
                drop(input.splice(at..end, word));
            }
            9 => number(input, at, random),
            10 => {
                let other = parent(&self.corpus, &self.parents, random);
                let piece = other.get(random.range(other.len())).unwrap_or_default();
                drop(input.splice(at..at, piece.iter().copied()));
            }
            _ => {
                let other = parent(&self.corpus, &self.parents, random);
                input.truncate(at);
                input.extend_from_slice(other.get(random.below(other.len() + 1)..).unwrap_or_default());
            }
        }
    }
}

/// A seed or an input kept, one as likely as the other.
fn parent<'a>(corpus: &'a Corpus, parents: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    let from = if parents.is_empty() || random.below(2) == 0 { &corpus.seeds } else { parents };
    random.one_of(from).map_or(&[], Vec::as_slice)
}

/// The first run of digits from `at` on becomes a number at the edge of something.
fn number(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    const EDGES: [&str; 12] = [
        "0",
        "-1",
        "1",
        "255",
        "65536",
        "4294967295",
        "4294967296",
        "9223372036854775808",
        "18446744073709551616",
        "1e400",
        "0.5",
        "00",
    ];
    let digits = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = input.iter().skip(at).position(digits).map(|start| start + at) else { return };
    let length = input.iter().skip(start).take_while(|byte| digits(byte)).count();
    let edge = random.one_of(&EDGES).map_or("", |edge| *edge);
    drop(input.splice(start..start + length, edge.bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(seed: u64, name: &str) -> Vec<Vec<u8>> {
        let corpus =
            Corpus { seeds: vec![b"one 17".to_vec(), b"two".to_vec()], words: vec![b"word".to_vec()] };
        let mut engine = Engine::new(corpus, seed, name);
        let mut input = Vec::new();
        let outcome = |index| if index % 3 == 0 { Outcome::Accepted } else { Outcome::Refused };
        let mut next = |index| {
            engine.next(&mut input);
            engine.learn(&input, outcome(index));
            input.clone()
        };
        (0..2000).map(&mut next).collect()
    }

    #[test]
    fn inputs_depend_on_seed_and_name_alone_and_begin_with_the_seeds() {
        let first = inputs(1, "a");
        assert_eq!(first, inputs(1, "a"));
        assert_eq!(first[..2], [b"one 17".to_vec(), b"two".to_vec()]);
        assert_ne!(first, inputs(2, "a"));
        assert_ne!(first, inputs(1, "b"));
    }

    #[test]
    fn inputs_differ_and_stay_short() {
        let mut inputs = inputs(1, "a");
        assert!(inputs.iter().all(|input| input.len() <= INPUT_BYTES_MAX));
        inputs.sort_unstable();
        inputs.dedup();
        assert!(inputs.len() > 1000, "{}", inputs.len());
    }
}
