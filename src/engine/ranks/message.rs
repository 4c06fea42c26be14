//! What rank 0 tells the others: a head of a fixed size, and maybe content behind it.

use super::{Share, is_everywhere, rows_of};
use crate::{
    backend::StepContext,
    batch::{Bags, Batch},
    engine::TensorId,
};
use std::ops::Range;

/// Words of a head.
pub(super) const HEAD: usize = 12;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Command {
    /// Make an engine; the content is a [`super::follow::Setup`].
    Setup,
    /// Train on the samples that follow.
    Step(StepContext),
    /// Predict them, and send the predictions of this rank's.
    Predict,
    /// Send numbers of a tensor.
    Read(TensorId, Numbers),
    /// Set numbers of a tensor to those that follow.
    Write(TensorId, Numbers),
    /// Go on from where the content says that training stood.
    GoOn,
    /// Forget the engine.
    Close,
    /// Leave.
    Exit,
    /// Be a server or a worker; the content is a setup of [`super::server`].
    Serve,
}

/// Some numbers of a tensor, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The first.
    pub first: usize,
    /// How many.
    pub len: usize,
}

fn put(head: &mut [u32], x: u64) {
    (head[0], head[1]) = (x as u32, (x >> 32) as u32);
}

fn get(head: &[u32]) -> u64 {
    u64::from(head[0]) | u64::from(head[1]) << 32
}

impl Command {
    /// A head for content of so many words.
    pub fn head(self, content: usize) -> Vec<u32> {
        let mut head = vec![0; HEAD];
        put(&mut head[1..], content as u64);
        head[0] = match self {
            Command::Setup => 1,
            Command::Step(context) => {
                put(&mut head[3..], context.learning_rate.to_bits());
                put(&mut head[5..], context.epoch);
                2
            }
            Command::Predict => 3,
            Command::Read(tensor, numbers) => tensor_head(&mut head, tensor, numbers, 4),
            Command::Write(tensor, numbers) => tensor_head(&mut head, tensor, numbers, 6),
            Command::GoOn => 8,
            Command::Close => 9,
            Command::Exit => 10,
            Command::Serve => 11,
        };
        head
    }

    /// What a head says, and how many words of content follow; `None` if this program does not know
    /// the command.
    pub fn read(head: &[u32]) -> Option<(Self, usize)> {
        let numbers = || Numbers { first: get(&head[5..]) as usize, len: get(&head[7..]) as usize };
        let index = get(&head[3..]) as usize;
        let command = match head[0] {
            1 => Command::Setup,
            2 => Command::Step(StepContext {
                epoch: get(&head[5..]),
                ..StepContext::at_rate(f64::from_bits(get(&head[3..])))
            }),
            3 => Command::Predict,
            4 => Command::Read(TensorId::Parameter(index), numbers()),
            5 => Command::Read(TensorId::State(index), numbers()),
            6 => Command::Write(TensorId::Parameter(index), numbers()),
            7 => Command::Write(TensorId::State(index), numbers()),
            8 => Command::GoOn,
            9 => Command::Close,
            10 => Command::Exit,
            11 => Command::Serve,
            _ => return None,
        };
        Some((command, get(&head[1..]) as usize))
    }
}

/// Fills the head of a tensor's command and returns its number: `code`, or the next one for state.
fn tensor_head(head: &mut [u32], tensor: TensorId, numbers: Numbers, code: u32) -> u32 {
    let (index, code) = match tensor {
        TensorId::Parameter(index) => (index, code),
        TensorId::State(index) => (index, code + 1),
    };
    put(&mut head[3..], index as u64);
    put(&mut head[5..], numbers.first as u64);
    put(&mut head[7..], numbers.len as u64);
    code
}

/// Who needs what of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut<'a> {
    /// The rank.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
    /// The ranks that have each column's tables.
    pub owners: &'a [Vec<usize>],
    /// Dense columns.
    pub dense: usize,
}

impl Cut<'_> {
    /// Which ids of each column the rank needs.
    fn needs(&self) -> impl Iterator<Item = Needs> + use<'_> {
        self.owners.iter().map(|owners| match Share::of(owners, self.rank) {
            _ if is_everywhere(owners) => Needs::Samples,
            None => Needs::None,
            Some(share) if share.is_cut() => Needs::Rows(share),
            Some(_) => Needs::All,
        })
    }

    /// Writes a rank's part of a batch as words: samples, ids of each of its columns; labels and dense
    /// features of its samples; offsets (unless each bag has one id) and ids of its columns.
    pub fn pack(&self, batch: &Batch, words: &mut Vec<u32>) {
        let own = rows_of(self.rank, self.ranks, batch.len);
        words.clear();
        words.push(batch.len as u32);
        let columns = || batch.bags.iter().zip(self.needs()).filter(|(_, p)| *p != Needs::None);
        for (bags, part) in columns() {
            words.extend(match part {
                Needs::All => [bags.indices.len() as u32, bags.is_one_hot().into()],
                part => [part.count(bags, &own) as u32, 0],
            });
        }
        words.extend(batch.labels[own.clone()].iter().map(|x| x.to_bits()));
        let dense = &batch.dense[own.start * self.dense..own.end * self.dense];
        words.extend(dense.iter().map(|x| x.to_bits()));
        for (bags, part) in columns() {
            if part == Needs::All {
                if !bags.is_one_hot() {
                    words.extend_from_slice(&bags.offsets);
                }
                words.extend_from_slice(&bags.indices);
                continue;
            }
            let mut ids = 0;
            words.push(0);
            words.extend((0..batch.len).map(|b| {
                ids += part.of(bags, b, &own).count() as u32;
                ids
            }));
            words.extend((0..batch.len).flat_map(|b| part.of(bags, b, &own)));
        }
    }

    /// The batch of such words: what they do not have is zero, and bags of other ranks' columns are
    /// empty.
    pub fn unpack(&self, words: &[u32], batch: &mut Batch) {
        let columns = self.needs().filter(|needs| *needs != Needs::None).count();
        let len = words[0] as usize;
        let own = rows_of(self.rank, self.ranks, len);
        let (heads, mut rest) = words[1..].split_at(2 * columns);
        let mut take = |n: usize| {
            let (taken, left) = rest.split_at(n);
            rest = left;
            taken
        };
        let mut heads = heads.chunks(2);
        batch.len = len;
        let fill = |to: &mut Vec<f32>, width: usize, from: &[u32]| {
            to.clear();
            to.resize(own.start * width, 0.0);
            to.extend(from.iter().map(|w| f32::from_bits(*w)));
            to.resize(len * width, 0.0);
        };
        fill(&mut batch.labels, 1, take(own.len()));
        fill(&mut batch.dense, self.dense, take(own.len() * self.dense));
        batch.bags.resize_with(self.owners.len(), Bags::default);
        for (bags, part) in batch.bags.iter_mut().zip(self.needs()) {
            empty(bags);
            let head = if part == Needs::None { None } else { heads.next() };
            let Some(&[ids, one_hot]) = head else {
                bags.offsets.resize(len + 1, 0);
                continue;
            };
            match one_hot {
                0 => bags.offsets.extend_from_slice(take(len + 1)),
                _ => bags.offsets.extend(0..=len as u32),
            }
            bags.indices.extend_from_slice(take(ids as usize));
            part.stand(bags);
        }
    }

    /// The same of a batch that is here already.
    pub fn take(&self, batch: &Batch, to: &mut Batch) {
        to.len = batch.len;
        for (to, from) in [(&mut to.labels, &batch.labels), (&mut to.dense, &batch.dense)] {
            to.clear();
            to.extend_from_slice(from);
        }
        to.bags.resize_with(self.owners.len(), Bags::default);
        let own = rows_of(self.rank, self.ranks, batch.len);
        for ((to, from), part) in to.bags.iter_mut().zip(&batch.bags).zip(self.needs()) {
            empty(to);
            if part == Needs::All {
                to.indices.extend_from_slice(&from.indices);
                to.offsets.extend_from_slice(&from.offsets);
                continue;
            }
            to.offsets.push(0);
            (0..batch.len).for_each(|b| to.push(part.of(from, b, &own)));
            part.stand(to);
        }
    }
}

/// Ids of a column that a rank needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// None: other ranks have its tables.
    None,
    /// All: it has all rows.
    All,
    /// Those of rows that it has.
    Rows(Share),
    /// Those of its own samples: all ranks have its tables.
    Samples,
}

impl Needs {
    /// Those of sample `b`, if `own` are the rank's samples.
    fn of<'a>(
        self,
        bags: &'a Bags,
        b: usize,
        own: &Range<usize>,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let any = match self {
            Needs::None => false,
            Needs::All | Needs::Rows(_) => true,
            Needs::Samples => own.contains(&b),
        };
        let bag = if any { bags.bag(b) } else { &[] };
        bag.iter().copied().filter(move |&id| match self {
            Needs::Rows(share) => share.has(id),
            _ => true,
        })
    }

    /// How many there are.
    fn count(self, bags: &Bags, own: &Range<usize>) -> usize {
        (0..bags.offsets.len() - 1).map(|b| self.of(bags, b, own).count()).sum()
    }

    /// From ids to the rows that stand for them where not all rows are.
    fn stand(self, bags: &mut Bags) {
        if let Needs::Rows(share) = self {
            let Bags { indices, ids, .. } = bags;
            ids.extend_from_slice(indices);
            indices.iter_mut().for_each(|id| *id = share.slot(*id));
        }
    }
}

/// Without ids and offsets.
fn empty(bags: &mut Bags) {
    bags.clear();
    bags.offsets.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_what_they_were_told() {
        let numbers = Numbers { first: 1 << 40, len: 7 };
        for command in [
            Command::Setup,
            Command::Step(StepContext { epoch: 3, ..StepContext::at_rate(0.1) }),
            Command::Predict,
            Command::Read(TensorId::State(2), numbers),
            Command::Write(TensorId::Parameter(5), numbers),
            Command::GoOn,
            Command::Close,
            Command::Exit,
            Command::Serve,
        ] {
            assert_eq!(Command::read(&command.head(9)), Some((command, 9)));
        }
        assert_eq!(Command::read(&[77; HEAD]), None);
    }

    #[test]
    fn each_rank_gets_its_columns_and_its_samples() {
        let bags = |indices: &[u32], offsets: &[u32]| Bags::new(indices.to_vec(), offsets.to_vec());
        let batch = Batch {
            len: 3,
            dense: (0..6).map(|i| i as f32).collect(),
            bags: vec![
                bags(&[4, 5, 6], &[0, 1, 2, 3]),
                bags(&[1, 2, 3, 4], &[0, 3, 3, 4]),
                bags(&[9, 8, 7], &[0, 1, 2, 3]),
            ],
            labels: vec![1.0, 0.0, 1.0],
        };
        let empty = || bags(&[], &[0; 4]);
        let owners = [vec![1], vec![0], vec![1]];
        let (mut words, mut got, mut taken) = (Vec::new(), Batch::default(), Batch::default());
        for round in 0..2 {
            let cut = Cut { rank: round % 2, ranks: 2, owners: &owners, dense: 2 };
            cut.pack(&batch, &mut words);
            cut.unpack(&words, &mut got);
            cut.take(&batch, &mut taken);
            let own = rows_of(round % 2, 2, 3);
            for (k, b) in got.bags.iter().enumerate() {
                assert_eq!(
                    *b,
                    if owners[k] == [round % 2] { batch.bags[k].clone() } else { empty() }
                );
            }
            assert_eq!(got.bags, taken.bags);
            assert_eq!((got.len, got.labels.len(), got.dense.len()), (3, 3, 6));
            assert_eq!(got.labels[own.clone()], batch.labels[own.clone()]);
            assert_eq!(
                got.dense[2 * own.start..2 * own.end],
                batch.dense[2 * own.start..2 * own.end]
            );
        }
    }
    #[test]
    fn ids_come_to_the_rank_that_needs_them() {
        let column = Bags::new(vec![4, 5, 6, 4, 9], vec![0, 2, 2, 5]);
        let batch = Batch { len: 3, dense: vec![], bags: vec![column], labels: vec![0.0; 3] };
        let owners = [vec![2, 0]];
        let even = Bags { ids: vec![4, 6, 4], ..Bags::new(vec![2, 3, 2], vec![0, 1, 1, 3]) };
        let odd = Bags { ids: vec![5, 9], ..Bags::new(vec![2, 4], vec![0, 1, 1, 2]) };
        let none = Bags::new(vec![], vec![0; 4]);
        let first = Bags::new(vec![4, 5], vec![0, 2, 2, 2]);
        let last = Bags::new(vec![6, 4, 9], vec![0, 0, 0, 3]);
        let (mut words, mut got, mut taken) = (Vec::new(), Batch::default(), Batch::default());
        let everywhere = [vec![]];
        for (rank, owners, want) in [
            (2, &owners, even),
            (0, &owners, odd),
            (1, &owners, none.clone()),
            (0, &everywhere, first),
            (1, &everywhere, none),
            (2, &everywhere, last),
        ] {
            let cut = Cut { rank, ranks: 3, owners, dense: 0 };
            cut.pack(&batch, &mut words);
            cut.unpack(&words, &mut got);
            cut.take(&batch, &mut taken);
            assert_eq!((&got.bags, &taken.bags), (&vec![want.clone()], &vec![want]), "rank {rank}");
        }
    }
}
