//! What workers and servers tell each other, and how a batch travels to a worker. What rank 0 says
//! goes by [`super::super::message`].

use super::super::message::HEAD;
use crate::{
    backend::{StepContext, StepStart, StepSums},
    batch::{Bags, Batch},
    engine::EngineError,
};
use std::ops::Range;

/// Numbers of requests, beyond those of rank 0's commands.
const PULL: u32 = 40;
const PUSH: u32 = 41;

/// What a worker asks of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Request {
    /// Hand parameters out: dense ones if they are wanted, and the rows that follow.
    Pull {
        /// Whether they are.
        dense: bool,
    },
    /// Apply the gradients that follow, of the rows that were pulled last.
    Push(StepStart, StepSums),
}

pub(super) fn put(words: &mut [u32], x: u64) {
    (words[0], words[1]) = (x as u32, (x >> 32) as u32);
}

pub(super) fn get(words: &[u32]) -> u64 {
    u64::from(words[0]) | u64::from(words[1]) << 32
}

impl Request {
    /// A head for content of so many words.
    pub fn head(self, content: usize) -> Vec<u32> {
        let mut head = vec![0; HEAD];
        put(&mut head[1..], content as u64);
        match self {
            Request::Pull { dense } => (head[0], head[3]) = (PULL, dense.into()),
            Request::Push(start, sums) => {
                (head[0], head[3]) = (PUSH, start.samples as u32);
                put(&mut head[4..], start.number);
                put(&mut head[6..], start.context.learning_rate.to_bits());
                put(&mut head[8..], sums.losses.to_bits());
                put(&mut head[10..], sums.squares.to_bits());
            }
        }
        head
    }

    /// What a head says, and how many words of content follow; `None` if it is no request.
    pub fn read(head: &[u32]) -> Option<(Self, usize)> {
        let double = |at: usize| f64::from_bits(get(&head[at..]));
        let request = match head[0] {
            PULL => Request::Pull { dense: head[3] != 0 },
            PUSH => Request::Push(
                StepStart {
                    number: get(&head[4..]),
                    samples: head[3] as usize,
                    context: StepContext::at_rate(double(6)),
                },
                StepSums { losses: double(8), squares: double(10), overflow: false },
            ),
            _ => return None,
        };
        Some((request, get(&head[1..]) as usize))
    }
}

/// Takes words off a message, one piece after another.
pub(super) struct Pieces<'a>(pub &'a [u32]);

impl<'a> Pieces<'a> {
    /// The next `n` words.
    ///
    /// # Errors
    /// If the message is too short: the other end knows another model.
    pub fn take(&mut self, n: usize) -> Result<&'a [u32], EngineError> {
        let short = || EngineError::Unsupported("a message is shorter than it says".into());
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `n` numbers.
    ///
    /// # Errors
    /// As [`Pieces::take`].
    pub fn numbers(&mut self, n: usize) -> Result<&'a [f32], EngineError> {
        Ok(bytemuck::cast_slice(self.take(n)?))
    }
}

/// Adds `n` zeros to the words of a message, to be set as numbers.
pub(super) fn room(words: &mut Vec<u32>, n: usize) -> &mut [f32] {
    let at = words.len();
    words.resize(at + n, 0);
    bytemuck::cast_slice_mut(&mut words[at..])
}

/// Adds some samples of a batch to a message: how many; ids of each column, and whether each bag has
/// one; labels and dense features; offsets (unless each bag has one id) and ids of each column.
pub(super) fn pack(batch: &Batch, samples: Range<usize>, words: &mut Vec<u32>) {
    let dense = batch.dense.len() / batch.len.max(1);
    let ids =
        |bags: &Bags| bags.offsets[samples.start] as usize..bags.offsets[samples.end] as usize;
    words.push(samples.len() as u32);
    for bags in &batch.bags {
        words.extend([ids(bags).len() as u32, bags.is_one_hot().into()]);
    }
    words.extend(batch.labels[samples.clone()].iter().map(|x| x.to_bits()));
    let dense = &batch.dense[samples.start * dense..samples.end * dense];
    words.extend(dense.iter().map(|x| x.to_bits()));
    for bags in &batch.bags {
        if !bags.is_one_hot() {
            let first = bags.offsets[samples.start];
            words.extend(bags.offsets[samples.start..=samples.end].iter().map(|o| o - first));
        }
        words.extend_from_slice(&bags.indices[ids(bags)]);
    }
}

/// Takes a batch of so many columns off a message.
///
/// # Errors
/// As [`Pieces::take`].
pub(super) fn unpack(
    pieces: &mut Pieces<'_>,
    (columns, dense): (usize, usize),
    batch: &mut Batch,
) -> Result<(), EngineError> {
    let len = pieces.take(1)?[0] as usize;
    let heads = pieces.take(2 * columns)?;
    batch.len = len;
    for (to, n) in [(&mut batch.labels, len), (&mut batch.dense, len * dense)] {
        to.clear();
        to.extend_from_slice(pieces.numbers(n)?);
    }
    batch.bags.resize_with(columns, Bags::default);
    for (bags, head) in batch.bags.iter_mut().zip(heads.chunks(2)) {
        bags.offsets.clear();
        match head[1] {
            0 => bags.offsets.extend_from_slice(pieces.take(len + 1)?),
            _ => bags.offsets.extend(0..=len as u32),
        }
        bags.indices.clear();
        bags.indices.extend_from_slice(pieces.take(head[0] as usize)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_what_they_were_told() {
        let context = StepContext::at_rate(0.1);
        let start = StepStart { number: 1 << 40, samples: 7, context };
        let sums = StepSums { losses: 3.5, squares: 1e-9, overflow: false };
        for request in [
            Request::Pull { dense: true },
            Request::Pull { dense: false },
            Request::Push(start, sums),
        ] {
            assert_eq!(Request::read(&request.head(1 << 33)), Some((request, 1 << 33)));
        }
        assert_eq!(Request::read(&[3; HEAD]), None, "a command of rank 0");
    }

    #[test]
    fn some_samples_of_a_batch_arrive_as_a_batch() {
        let bags = |indices: &[u32], offsets: &[u32]| Bags::new(indices.to_vec(), offsets.to_vec());
        let batch = Batch {
            len: 3,
            dense: (0..6).map(|i| i as f32).collect(),
            bags: vec![bags(&[4, 5, 6], &[0, 1, 2, 3]), bags(&[1, 2, 3, 4], &[0, 3, 3, 4])],
            labels: vec![1.0, 0.0, 1.0],
        };
        let (mut words, mut got) = (Vec::new(), Batch::default());
        let mut sent = |samples: Range<usize>| {
            words.clear();
            pack(&batch, samples, &mut words);
            unpack(&mut Pieces(&words), (2, 2), &mut got).unwrap();
            got.clone()
        };
        assert_eq!(sent(0..3), batch);
        let tail = sent(1..3);
        assert_eq!(
            (tail.len, &tail.dense[..], &tail.labels[..]),
            (2, &[2., 3., 4., 5.][..], &[0., 1.][..])
        );
        assert_eq!(tail.bags, [bags(&[5, 6], &[0, 1, 2]), bags(&[4], &[0, 0, 1])]);
        assert_eq!(sent(1..1).len, 0);
        words.truncate(3);
        assert!(unpack(&mut Pieces(&words), (2, 2), &mut got).is_err());
    }
}
