//! Criteo's click logs as facebook's program prepares them (facebookresearch/dlrm, data_utils.py:
//! `getCriteoAdData`, and dlrm_data_pytorch.py: `CriteoDataset`, in memory, that is without
//! `--memory-map`):
//! - what is missing is 0;
//! - ids are hexadecimal, `% max_ind_range` if set, then numbered 0, 1, ... in order of first
//!   appearance over all days in order;
//! - negative integers become 0 (and `ln(x + 1)` is taken when samples are handed out);
//! - with sub-sampling, a line of label 0 is dropped if its `u ~ U[0, 1)` is below the rate; each
//!   line of any label draws one `u`.
//!
//! Where the original fails or goes wrong, this differs: ids of 2^31 and more are kept (there they
//! overflow an int32), and malformed lines are refused or skipped. A skipped line draws nothing and
//! counts nowhere.

mod blocks;
mod columns;
mod line;

use super::{
    super::DataError,
    Lines,
    numbering::{Budget, Numbering},
};
use crate::{
    data::source::config::{CriteoSet, CriteoTsvConfig, OnError},
    random::numpy::RandomState,
};
use std::ops::Range;

pub use blocks::Blocks;
pub use columns::{BadLine, Columns};
pub(in crate::data) use line::hexadecimal;
pub use line::{Line, parse};

/// Integer columns.
pub const DENSE: usize = 13;
/// Categorical columns.
pub const TABLES: usize = 26;
/// Bytes of a sample in facebook's and MLPerf's binary files: label and columns, 32 bits each.
pub const RECORD: usize = 4 * (1 + DENSE + TABLES);
/// Parts of equal size into which the one Kaggle file is cut.
const KAGGLE_DAYS: u64 = 7;

/// The name of a column, I1 first.
pub(in crate::data) fn column_name(column: usize) -> String {
    match column.checked_sub(DENSE) {
        None => format!("I{}", column + 1),
        Some(j) => format!("C{}", j + 1),
    }
}

/// All samples of a log, row by row, 157 bytes each.
#[derive(Debug, Default)]
pub struct Samples {
    /// Integers, at least 0.
    pub dense: Vec<[i32; DENSE]>,
    /// Contiguous ids.
    pub ids: Vec<[u32; TABLES]>,
    /// 0 or 1.
    pub labels: Vec<u8>,
    /// Different ids of each column.
    pub rows: [usize; TABLES],
    /// The samples of each day.
    pub days: Vec<Range<usize>>,
    /// Lines left out because they are malformed.
    pub skipped: u64,
}

/// Reads and encodes all files in one pass. `numpy` is drawn from for sub-sampling alone.
///
/// # Errors
/// If a file cannot be read, or a line is malformed and `config.on_error` says so.
pub fn read(config: &CriteoTsvConfig, numpy: &mut RandomState) -> Result<Samples, DataError> {
    let mut encoder = Encoder::new(config, numpy);
    let mut ends = vec![0];
    for path in &config.paths {
        let mut lines = Lines::open(path)?;
        let mut parsed = Line::default();
        while let Some(text) = lines.next_line()? {
            match (parse(text, &mut parsed), config.on_error) {
                (Ok(()), _) => encoder.push(&parsed)?,
                (Err(_), OnError::Skip) => encoder.samples.skipped += 1,
                (Err(what), OnError::Fail) => return Err(lines.malformed(what)),
            }
        }
        ends.push(encoder.samples.labels.len());
    }
    let Encoder { mut samples, maps, kept, .. } = encoder;
    samples.rows = maps.map(|m| m.ids() as usize);
    if config.set == CriteoSet::Kaggle {
        ends = slice_ends(kept.lines).map(|end| kept.before(end)).collect();
    }
    samples.days = ends.windows(2).map(|e| e[0]..e[1]).collect();
    Ok(samples)
}

/// The borders of Kaggle's "days": equal numbers of lines, the first ones one more if it does not
/// come out even.
pub(super) fn slice_ends(lines: u64) -> impl Iterator<Item = u64> {
    (0..=KAGGLE_DAYS).map(move |d| d * (lines / KAGGLE_DAYS) + d.min(lines % KAGGLE_DAYS))
}

struct Encoder<'a> {
    sub_sample_rate: f64,
    numpy: &'a mut RandomState,
    budget: Budget,
    maps: [Numbering; TABLES],
    kept: KeptLines,
    samples: Samples,
}

impl<'a> Encoder<'a> {
    fn new(config: &CriteoTsvConfig, numpy: &'a mut RandomState) -> Self {
        Encoder {
            sub_sample_rate: config.sub_sample_rate,
            numpy,
            // The samples take more than the ids do.
            budget: Budget::new(u64::MAX),
            maps: std::array::from_fn(|_| Numbering::new(config.max_ind_range)),
            kept: KeptLines::default(),
            samples: Samples::default(),
        }
    }

    fn push(&mut self, line: &Line) -> Result<(), DataError> {
        let drop = self.sub_sample_rate > 0.0
            && self.numpy.random_sample() < self.sub_sample_rate
            && line.label == 0;
        self.kept.push(!drop);
        if drop {
            return Ok(());
        }
        if self.samples.labels.len() == u32::MAX as usize {
            return Err(DataError::Invalid(format!(
                "the logs hold more than {} samples, the most that fit",
                u32::MAX
            )));
        }
        let mut ids = line.ids;
        for (j, (id, map)) in ids.iter_mut().zip(&mut self.maps).enumerate() {
            *id = map.number_one(*id, &self.budget).map_err(|_| {
                DataError::Invalid(format!(
                    "C{} has more than 2^31 different ids; fold them with data.max_ind_range",
                    j + 1
                ))
            })?;
        }
        self.samples.ids.push(ids);
        self.samples.dense.push(line.dense.map(|x| x.max(0)));
        self.samples.labels.push(line.label);
        Ok(())
    }
}

/// Which lines were kept, a bit each: the Kaggle slices are cut by line, before sub-sampling, and
/// are known only at the end.
#[derive(Default)]
struct KeptLines {
    bits: Vec<u64>,
    lines: u64,
}

impl KeptLines {
    fn push(&mut self, kept: bool) {
        if self.lines.is_multiple_of(64) {
            self.bits.push(0);
        }
        if let Some(last) = self.bits.last_mut() {
            *last |= u64::from(kept) << (self.lines % 64);
        }
        self.lines += 1;
    }

    /// KeptLines lines among the first `n`.
    fn before(&self, n: u64) -> usize {
        let (words, bits) = ((n / 64) as usize, n % 64);
        let whole: usize = self.bits[..words].iter().map(|w| w.count_ones() as usize).sum();
        whole + if bits == 0 { 0 } else { (self.bits[words] << (64 - bits)).count_ones() as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn kept_counts(lines in prop::collection::vec(any::<bool>(), 0..300)) {
            let mut kept = KeptLines::default();
            lines.iter().for_each(|&k| kept.push(k));
            for n in 0..=lines.len() {
                prop_assert_eq!(kept.before(n as u64), lines[..n].iter().filter(|&&k| k).count());
            }
        }

        #[test]
        fn slices_cover_the_lines_and_differ_by_one_at_most(lines in 0u64..100) {
            let ends: Vec<_> = slice_ends(lines).collect();
            prop_assert_eq!((ends[0], ends[7]), (0, lines));
            let sizes: Vec<_> = ends.windows(2).map(|e| e[1] - e[0]).collect();
            prop_assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] - sizes[6] <= 1);
        }
    }
}
