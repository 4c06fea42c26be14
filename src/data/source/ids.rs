//! From ids in a file to rows of tables.

use super::{
    super::{
        DataError,
        rows::{Hotness, IdColumn, Layout, RowRef},
    },
    config::IdKind,
};
use crate::batch::Bags;
use std::ops::Range;

/// Sizes of the tables, and what is done to ids before.
pub(super) struct Ids {
    /// Rows of each table.
    pub rows: Vec<usize>,
    /// Ids modulo this (facebook's `--max-ind-range`, at reading).
    pub range: Option<u32>,
    /// Whether ids have 64 bits and are no rows: they stay as they are.
    pub keys: bool,
}

impl Ids {
    /// Makes rows of table `k` of `ids`, which have 31 bits: one of 32 was negative, and is taken
    /// modulo the range without a sign, if there is one.
    ///
    /// # Errors
    /// Which of them has more bits and stays as it is, or is a row that the table does not have.
    #[inline]
    pub fn rows(&self, k: usize, ids: &mut [u32]) -> Result<(), usize> {
        let first =
            |ids: &[u32], limit: u32| ids.iter().position(|&id| id > limit).unwrap_or_default();
        let largest = |ids: &[u32]| ids.iter().copied().fold(0, u32::max);
        if self.range.is_none() && largest(ids) > i32::MAX as u32 {
            return Err(first(ids, i32::MAX as u32));
        }
        self.wide_rows(k, ids)
    }

    /// The same for ids of 32 bits.
    ///
    /// # Errors
    /// Which of them is a row that the table does not have.
    #[inline]
    pub fn wide_rows(&self, k: usize, ids: &mut [u32]) -> Result<(), usize> {
        if let Some(range) = self.range {
            ids.iter_mut().for_each(|id| *id %= range);
        }
        // One comparison for all of them: the loop has no branch.
        match ids.iter().copied().fold(0, u32::max) as usize >= self.rows[k] && !ids.is_empty() {
            true => {
                Err(ids.iter().position(|&row| row as usize >= self.rows[k]).unwrap_or_default())
            }
            false => Ok(()),
        }
    }

    /// Appends the ids that `rows` of `from` hold in `column`, which is table `k`, to `to`, as rows
    /// of it; where one is missing, it is 0. A row holds at most `most`; `place` tells where it is.
    ///
    /// # Errors
    /// If a row holds more, or an id is a row that the table does not have.
    #[expect(clippy::too_many_arguments, reason = "one column's part of what a source knows")]
    pub fn put<'a>(
        &self,
        k: usize,
        column: &IdColumn,
        most: usize,
        from: &Bags,
        rows: Range<usize>,
        to: &mut Bags,
        place: impl Fn(usize) -> RowRef<'a>,
    ) -> Result<(), DataError> {
        let (start, n) = (to.indices.len(), rows.len());
        if from.is_one_hot() {
            to.extend_from(from, rows.clone());
            to.offsets.extend(start as u32 + 1..=(start + n) as u32);
        } else {
            for i in rows.clone() {
                let bag = from.bag(i);
                if bag.len() > most {
                    let (name, ids) = (&column.name, bag.len());
                    let what = format!(
                        "column {name} holds {ids} ids; must be at most {most} (data.hotness)"
                    );
                    return Err(place(i).error(what));
                }
                let missing = bag.is_empty() && column.hotness == Hotness::One;
                to.push_keys(from.bag_keys(i).chain(missing.then_some(0)));
            }
        }
        if self.keys {
            return Ok(());
        }
        if let Err(at) = self.wide_rows(k, &mut to.indices[start..]) {
            // Which row the id at this place belongs to: as many bags have ended before it.
            let i = to.offsets[to.offsets.len() - n..]
                .partition_point(|&end| end as usize <= start + at);
            let what = self.beyond(k, to.indices[start + at]);
            return Err(place(rows.start + i).error(format!("column {} {what}", column.name)));
        }
        Ok(())
    }

    /// What is wrong with `id`, for a message that names the column before.
    #[cold]
    pub fn beyond(&self, k: usize, id: u32) -> String {
        let (row, rows) = (self.range.map_or(id, |r| id % r), self.rows[k]);
        format!(
            "is {row}; must be below {rows}, the rows of its table (data.tables; data.max_ind_range takes ids modulo a number)"
        )
    }
}

/// What is told of tables whose sizes are not given.
pub(super) fn sized_by(ids: IdKind) -> &'static str {
    match ids {
        IdKind::Rows => "rows of the tables by the largest ids in the files",
        IdKind::Keys => "rows of the tables by the different ids of the training split",
    }
}

/// Refuses sizes of other than all tables of `layout`.
///
/// # Errors
/// If `data.tables` or `data.hotness` has more or fewer entries than there are categorical columns.
pub(super) fn check_lengths(
    layout: &Layout,
    tables: Option<&[usize]>,
    hotness: Option<&[usize]>,
) -> Result<(), DataError> {
    let n = layout.ids.len();
    for (key, list) in [("data.tables", tables), ("data.hotness", hotness)] {
        if let Some(given) = list.map(<[usize]>::len).filter(|&len| len != n) {
            let names = layout.ids.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(DataError::Invalid(format!(
                "{key} has {given} entries; must have {n}, one for each categorical column ({names})"
            )));
        }
    }
    Ok(())
}

/// The error that a transform looks at the whole training split. The workload's reader refuses it
/// before, with file and line.
pub(super) fn untransformed() -> DataError {
    DataError::Invalid(
        "data.dense_transform must be raw, log1p_clamp0, log_plus2, log_plus3 or log_sq_bucket for these files".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_at_once_as_one_by_one(
            ids in prop::collection::vec(prop_oneof![0u32..60, any::<u32>()], 0..40),
            rows in 1usize..60,
            range in prop::option::of(1u32..80),
        ) {
            let of = Ids { rows: vec![rows], range, keys: false };
            let one = |&id: &u32| Some(range.map_or(id, |r| id % r)).filter(|&row| (row as usize) < rows);
            let want: Result<Vec<u32>, usize> = ids.iter().enumerate().map(|(i, id)| one(id).ok_or(i)).collect();
            let mut wide = ids.clone();
            prop_assert_eq!(of.wide_rows(0, &mut wide).map(|()| wide), want.clone());
            let mut narrow = ids.clone();
            let got = of.rows(0, &mut narrow).map(|()| narrow);
            match ids.iter().position(|&id| range.is_none() && id > i32::MAX as u32) {
                Some(i) => prop_assert_eq!(got, Err(i)),
                None => prop_assert_eq!(got, want),
            }
        }
    }
}
