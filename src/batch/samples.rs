//! A mini-batch, laid out as the engines read it.

/// The ids of one categorical column for a whole batch: sample `b` owns
/// `indices[offsets[b]..offsets[b + 1]]` (compressed sparse rows). A bag may be empty.
///
/// Where a table holds some rows of a larger one, `indices` are its rows, slots, and `ids` are the
/// rows of the larger one that they stand for: numbers that go by the row go by those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bags {
    /// Row numbers, all bags one after another.
    pub indices: Vec<u32>,
    /// `B + 1` positions into `indices`, starting with 0.
    pub offsets: Vec<u32>,
    /// What each of `indices` stands for; empty where they stand for themselves.
    pub ids: Vec<u32>,
}

impl Bags {
    /// Bags of ids that stand for themselves.
    pub fn new(indices: Vec<u32>, offsets: Vec<u32>) -> Self {
        Bags { indices, offsets, ids: Vec::new() }
    }

    /// What each of the indices stands for.
    pub fn ids(&self) -> &[u32] {
        if self.ids.is_empty() { &self.indices } else { &self.ids }
    }

    /// The ids of sample `b`.
    pub fn bag(&self, b: usize) -> &[u32] {
        &self.indices[self.offsets[b] as usize..self.offsets[b + 1] as usize]
    }

    /// Whether every bag holds exactly one id (so that `indices[b]` belongs to sample `b`).
    pub fn is_one_hot(&self) -> bool {
        self.indices.len() + 1 == self.offsets.len()
            && self.offsets.iter().enumerate().all(|(i, &o)| o as usize == i)
    }

    /// Empties the bags, keeping their memory; follow with [`Bags::push`] for each sample.
    pub fn clear(&mut self) {
        self.indices.clear();
        self.ids.clear();
        self.offsets.clear();
        self.offsets.push(0);
    }

    /// Appends one sample's ids.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.indices.extend(ids);
        self.offsets.push(self.indices.len() as u32);
    }
}

/// `B` samples: dense features `[B, D]`, one [`Bags`] a table, labels `[B]`.
///
/// Buffers are reused: a source clears and refills them, and nothing is allocated once the largest
/// batch has been seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Number of samples.
    pub len: usize,
    /// Dense features after the named transform, row-major `[B, D]`.
    pub dense: Vec<f32>,
    /// One entry a categorical column, in schema order.
    pub bags: Vec<Bags>,
    /// Labels `[B]`: 0 or 1 for click logs, any value in [0, 1] for facebook's random data.
    pub labels: Vec<f32>,
}

impl Batch {
    /// An empty batch with room for `samples` samples of `schema`.
    pub fn with_capacity(schema: &super::Schema, samples: usize) -> Self {
        Batch {
            len: 0,
            dense: Vec::with_capacity(samples * schema.dense),
            bags: schema
                .tables
                .iter()
                .map(|t| {
                    let mut offsets = Vec::with_capacity(samples + 1);
                    offsets.push(0);
                    Bags::new(Vec::with_capacity(samples * t.max_hotness), offsets)
                })
                .collect(),
            labels: Vec::with_capacity(samples),
        }
    }

    /// Appends the samples of another batch of the same columns.
    pub fn append(&mut self, other: &Batch) {
        self.len += other.len;
        self.dense.extend_from_slice(&other.dense);
        self.labels.extend_from_slice(&other.labels);
        for (to, from) in self.bags.iter_mut().zip(&other.bags) {
            let start = to.indices.len() as u32;
            to.indices.extend_from_slice(&from.indices);
            to.offsets.extend(from.offsets.iter().skip(1).map(|end| start + end));
        }
    }

    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.dense.clear();
        self.labels.clear();
        self.bags.iter_mut().for_each(Bags::clear);
    }
}
