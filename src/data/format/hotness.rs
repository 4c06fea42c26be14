//! How many ids the samples of a file hold, for formats that have to know it before the first of
//! them.

use super::{Capacity, Format, Reader, capacity, holding};
use crate::data::{
    DataError,
    rows::{Hotness, Layout, RowRef, Rows},
};
use std::path::Path;

/// Looks at all rows of a file whose columns hold any number of ids.
pub struct Counter<'a> {
    /// The file.
    path: &'a Path,
    format: Format,
    capacity: Capacity,
    layout: Layout,
    /// Of each column: ids of a row and its number. Of rows that hold one or none, it is one that
    /// holds one if there is one.
    first: Vec<Option<(usize, u64)>>,
    rows: u64,
}

impl<'a> Counter<'a> {
    /// For rows of `layout` in the file `from` that are to become the data set `to` of `format`;
    /// `None` if there is nothing to count.
    pub fn new(from: &'a Path, layout: &Layout, to: &Path, format: Format) -> Option<Self> {
        let capacity = capacity(to, format);
        let first = vec![None; layout.ids.len()];
        (Capacity::needed(layout) == Capacity::Any && capacity < Capacity::Any).then(|| Counter {
            path: from,
            format,
            capacity,
            layout: layout.clone(),
            first,
            rows: 0,
        })
    }

    /// Takes rows into account.
    ///
    /// # Errors
    /// If the format has no room for the ids of one of them.
    pub fn add(&mut self, rows: &Rows) -> Result<(), DataError> {
        for (k, bags) in
            rows.ids.iter().enumerate().filter(|&(k, _)| self.layout.ids[k].hotness == Hotness::Any)
        {
            for i in 0..rows.len() {
                let (ids, row) = (bags.bag(i).len(), self.rows + i as u64 + 1);
                let (first, at) = *self.first[k].get_or_insert((ids, row));
                if self.capacity == Capacity::One && ids > 1 {
                    return Err(self.refuse(
                        k,
                        row,
                        &format!("holds {ids} ids, and {} holds one a column", self.format.word()),
                    ));
                }
                if ids != first && ids.max(first) > 1 {
                    let word = self.format.word();
                    let what = format!(
                        "holds {ids} ids, but {first} in row {at}, and {word} holds as many in every row"
                    );
                    return Err(self.refuse(k, row, &what));
                }
                if ids > first {
                    self.first[k] = Some((ids, row));
                }
            }
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    fn refuse(&self, k: usize, row: u64, what: &str) -> DataError {
        let name = &self.layout.ids[k].name;
        RowRef { path: self.path, row }
            .error(format!("column {name} {what}; {}", holding(&self.layout)))
    }

    /// The columns with as many ids as have been found in every row.
    pub fn layout(mut self) -> Layout {
        for (column, first) in self.layout.ids.iter_mut().zip(self.first) {
            if column.hotness == Hotness::Any {
                let ids = first.map_or(0, |(ids, _)| ids);
                column.hotness = if ids > 1 { Hotness::Fixed(ids) } else { Hotness::One };
            }
        }
        self.layout
    }
}

/// The samples of another reader, whose columns are known to be those of a layout.
pub struct Counted {
    from: Box<dyn Reader>,
    layout: Layout,
}

impl Counted {
    /// Passes the samples of `from` on as those of `layout`, which [`Counter::layout`] has found.
    pub fn new(from: Box<dyn Reader>, layout: Layout) -> Self {
        Counted { from, layout }
    }
}

impl Reader for Counted {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        self.from.len()
    }

    fn told(&self) -> &[String] {
        self.from.told()
    }

    fn texts(&self) -> Vec<usize> {
        self.from.texts()
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        self.from.read(n, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Numbers;
    use proptest::prelude::*;

    proptest! {
        /// However the rows are cut into pieces.
        #[test]
        fn what_is_counted_is_what_every_row_has(
            counts in prop::collection::vec((0usize..3, prop_oneof![Just(2usize), Just(2), 1..4usize]), 0..9),
            chunk in 1usize..5,
            single: bool,
        ) {
            let layout = Layout::numbered(0, Numbers::Int32, [Hotness::Any, Hotness::One, Hotness::Any]);
            let (to, format) = if single { ("a.csv", Format::Csv) } else { ("a.raw", Format::HugeCtr) };
            let mut counter = Counter::new(Path::new("f"), &layout, Path::new(to), format).unwrap();
            let mut said = Ok(());
            for part in counts.chunks(chunk) {
                let mut rows = Rows::new(&layout);
                for &(a, b) in part {
                    rows.labels.push(0.0);
                    rows.ids[0].push(vec![7; a]);
                    rows.ids[1].push([1]);
                    rows.ids[2].push(vec![8; b]);
                }
                said = said.and_then(|()| counter.add(&rows));
            }
            let column = |of: &dyn Fn(&(usize, usize)) -> usize| {
                let all: Vec<usize> = counts.iter().map(of).collect();
                match all.iter().max() {
                    None | Some(0 | 1) => Some(Hotness::One),
                    Some(&n) if !single && all.iter().all(|&m| m == n) => Some(Hotness::Fixed(n)),
                    _ => None,
                }
            };
            match (column(&|c| c.0), column(&|c| c.1)) {
                (Some(a), Some(b)) => {
                    prop_assert!(said.is_ok());
                    let found: Vec<Hotness> = counter.layout().ids.iter().map(|c| c.hotness).collect();
                    prop_assert_eq!(found, [a, Hotness::One, b]);
                }
                _ => prop_assert!(said.is_err()),
            }
        }
    }

    #[test]
    fn nothing_is_counted_where_there_is_room_or_all_is_known() {
        let any = Layout::numbered(0, Numbers::Int32, [Hotness::Any]);
        let known = Layout::numbered(0, Numbers::Int32, [Hotness::One, Hotness::Fixed(3)]);
        let counts = |layout: &Layout, to: &str, format| {
            Counter::new(Path::new("f"), layout, Path::new(to), format).is_some()
        };
        assert!(
            !counts(&any, "a.parquet", Format::Parquet)
                && !counts(&any, "a.parquet", Format::FuxiCtr)
        );
        assert!(
            !counts(&known, "a.raw", Format::HugeCtr) && counts(&any, "a.npz", Format::FuxiCtr)
        );
    }
}
