//! A text of many lines, read on all threads: cut into blocks at line ends, each read into columns
//! of its own. The borders do not depend on the number of threads.

use super::{Columns, columns::BadLine};
use crate::{
    data::source::config::OnError,
    host::{Isa, pool::Pool, text::Separators},
    random::numpy::RandomState,
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// About how many bytes a block has: few enough for a core's own cache.
const BLOCK: usize = 128 << 10;

/// Reads texts; keeps its memory from one to the next.
pub struct Blocks {
    isa: Isa,
    on_error: OnError,
    blocks: Vec<Block>,
    used: usize,
    /// One a thread.
    scratch: Vec<Mutex<Separators>>,
}

#[derive(Default)]
struct Block {
    range: Range<usize>,
    columns: Columns,
    bad: Option<BadLine>,
    /// Which lines sub-sampling leaves.
    keep: Vec<bool>,
}

impl Blocks {
    /// Reads with `threads` threads at most.
    pub fn new(isa: Isa, on_error: OnError, threads: usize) -> Self {
        Blocks {
            isa,
            on_error,
            blocks: Vec::new(),
            used: 0,
            scratch: (0..threads).map(|_| Mutex::default()).collect(),
        }
    }

    /// Reads `text`, whole lines, in place of the last one. The pool has no more threads than were
    /// said.
    ///
    /// # Errors
    /// The first malformed line, if they are not to be skipped.
    pub fn fill(&mut self, pool: &Pool, text: &[u8]) -> Result<(), BadLine> {
        self.cut(text);
        let (isa, on_error, scratch) = (self.isa, self.on_error, &self.scratch);
        pool.for_each_chunk(&mut self.blocks[..self.used], 1, |_, thread, block| {
            // Scratch space holds nothing that a panic could leave half done.
            let mut separators = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            for Block { range, columns, bad, .. } in block {
                *bad = columns.fill(&text[range.clone()], isa, on_error, &mut separators).err();
            }
        });
        let mut before = 0;
        for block in &mut self.blocks[..self.used] {
            if let Some(bad) = block.bad.take() {
                return Err(BadLine { index: before + bad.index, ..bad });
            }
            before += block.columns.lines;
        }
        Ok(())
    }

    /// Drops lines of label 0 whose `u ~ U[0, 1)` is below `rate`; each line of any label draws
    /// one, in order. Appends to `kept` a byte for each line, 1 = kept.
    pub fn sub_sample(
        &mut self,
        pool: &Pool,
        rate: f64,
        numpy: &mut RandomState,
        kept: &mut Vec<u8>,
    ) {
        for Block { columns, keep, .. } in &mut self.blocks[..self.used] {
            keep.clear();
            // Drawn whatever the label is.
            keep.extend(columns.labels.iter().map(|&label| {
                let low = numpy.random_sample() < rate;
                !(low && label == 0)
            }));
            kept.extend(keep.iter().map(|&k| u8::from(k)));
        }
        pool.for_each_chunk(&mut self.blocks[..self.used], 1, |_, _, block| {
            block.iter_mut().for_each(|Block { columns, keep, .. }| columns.keep(keep));
        });
    }

    /// What was read, in order.
    pub fn columns(&self) -> impl Iterator<Item = &Columns> + Clone {
        self.blocks[..self.used].iter().map(|b| &b.columns)
    }

    fn cut(&mut self, text: &[u8]) {
        self.used = 0;
        let mut start = 0;
        while start < text.len() {
            let far = (start + BLOCK).min(text.len());
            let end =
                text[far..].iter().position(|&b| b == b'\n').map_or(text.len(), |n| far + n + 1);
            if self.used == self.blocks.len() {
                self.blocks.push(Block::default());
            }
            self.blocks[self.used].range = start..end;
            self.used += 1;
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: usize, spoilt: &[usize]) -> String {
        let line = |i: usize| match spoilt.contains(&i) {
            true => format!("line {i}\n"),
            false => format!(
                "{}\t{}{}\n",
                i % 2,
                "\t".repeat(12),
                format!("\t{:08x}", i * 7919).repeat(26)
            ),
        };
        (0..lines).map(line).collect()
    }

    #[test]
    fn blocks_hold_all_lines_in_order_on_any_number_of_threads() {
        let text = text(5000, &[100, 4000]);
        let mut whole = Columns::default();
        whole
            .fill(text.as_bytes(), Isa::Portable, OnError::Skip, &mut Separators::default())
            .unwrap();
        assert_eq!((whole.len(), whole.skipped), (4998, 2));
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads);
            let mut blocks = Blocks::new(Isa::best(), OnError::Skip, threads);
            for _ in 0..2 {
                blocks.fill(&pool, text.as_bytes()).unwrap();
                assert!(blocks.columns().count() > 5);
                let ids: Vec<u32> = blocks.columns().flat_map(|c| c.ids[25].clone()).collect();
                assert_eq!(ids, whole.ids[25]);
                assert_eq!(blocks.columns().map(|c| c.skipped).sum::<u64>(), 2);
            }
            let bad = Blocks::new(Isa::best(), OnError::Fail, threads)
                .fill(&pool, text.as_bytes())
                .unwrap_err();
            assert_eq!((bad.index, &bad.what[..9]), (100, "1 columns"));
        }
    }
}
