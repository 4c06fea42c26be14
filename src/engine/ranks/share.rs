//! Rows of a table that a rank has.
//!
//! Rows are dealt out in turn, so that ids that are frequent because they are low (as after a sort by
//! frequency) do not all come to one rank.

use super::is_everywhere;
use std::ops::Range;

/// The rows of a table whose number, divided by that of ranks that share it, leaves this rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    rest: usize,
    of: usize,
}

impl Share {
    /// All rows.
    pub const WHOLE: Share = Share { rest: 0, of: 1 };

    /// That of `rank` among the ranks that a column's tables are dealt out to; `None` if it has none.
    pub fn of(owners: &[usize], rank: usize) -> Option<Self> {
        if is_everywhere(owners) {
            return Some(Share::WHOLE);
        }
        let rest = owners.iter().position(|&owner| owner == rank)?;
        Some(Share { rest, of: owners.len() })
    }

    /// Whether it is not the whole table.
    pub fn is_cut(self) -> bool {
        self.of > 1
    }

    /// How many of `rows` rows.
    pub fn rows(self, rows: usize) -> usize {
        (rows + self.of - 1 - self.rest) / self.of
    }

    /// Whether a row is one of them.
    pub fn has(self, row: u32) -> bool {
        row as usize % self.of == self.rest
    }

    /// Which of them a row is.
    pub fn slot(self, row: u32) -> u32 {
        row / self.of as u32
    }

    /// The row that one of them is.
    pub fn row(self, slot: usize) -> usize {
        slot * self.of + self.rest
    }

    /// Of `numbers` of a table with `width` numbers a row those in these rows: pieces of `numbers`,
    /// counted from its first one, in order. They lie one behind the other where the rows are, from
    /// [`Share::first`] on.
    pub fn pieces(
        self,
        width: usize,
        numbers: Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> + Clone {
        let Range { start, end } = numbers;
        let slots = self.slot_from(start / width)..self.slot_from(end.div_ceil(width));
        slots.map(move |slot| {
            let row = self.row(slot) * width;
            row.max(start) - start..(row + width).min(end) - start
        })
    }

    /// Where the first of these numbers is.
    pub fn first(self, width: usize, numbers: &Range<usize>) -> usize {
        let slot = self.slot_from(numbers.start / width);
        slot * width + numbers.start.saturating_sub(self.row(slot) * width)
    }

    /// The first of these rows from `row` on.
    fn slot_from(self, row: usize) -> usize {
        row.saturating_sub(self.rest).div_ceil(self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_is_in_one_place(
            rows in 1_usize..40, width in 1_usize..7, ranks in 1_usize..6, a in 0_usize..300, b in 0_usize..300,
        ) {
            let all = rows * width;
            let (start, end) = (a.min(b).min(all), a.max(b).min(all));
            let owners: Vec<usize> = (0..ranks).map(|r| r + 3).collect();
            let mut seen = vec![0; end - start];
            let mut rows_in_all = 0;
            for rank in 3..3 + ranks {
                let share = Share::of(&owners, rank).unwrap();
                rows_in_all += share.rows(rows);
                let mut at = share.first(width, &(start..end));
                for piece in share.pieces(width, start..end) {
                    for i in piece {
                        seen[i] += 1;
                        let number = start + i;
                        let row = number / width;
                        prop_assert!(share.has(row as u32));
                        let slot = share.slot(row as u32) as usize;
                        prop_assert!(slot < share.rows(rows));
                        prop_assert_eq!(share.row(slot), row);
                        prop_assert_eq!(at, slot * width + number % width);
                        at += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|&n| n == 1), "{:?}", seen);
            prop_assert_eq!(rows_in_all, rows);
            prop_assert_eq!(Share::of(&owners, 0), None);
        }
    }
}
