//! From ids in a file to rows of tables.

use super::super::DataError;

/// Sizes of the tables, and what is done to ids before.
pub(super) struct Ids {
    /// Rows of each table.
    pub rows: Vec<usize>,
    /// Ids modulo this (facebook's `--max-ind-range`, at reading).
    pub range: Option<u32>,
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

    /// What is wrong with `id`, for a message that names the column before.
    #[cold]
    pub fn beyond(&self, k: usize, id: u32) -> String {
        let (row, rows) = (self.range.map_or(id, |r| id % r), self.rows[k]);
        format!(
            "is {row}; must be below {rows}, the rows of its table (data.tables; data.max_ind_range takes ids modulo a number)"
        )
    }
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
            let of = Ids { rows: vec![rows], range };
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
