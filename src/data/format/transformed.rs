//! A file's samples with a transform of their dense columns, for formats that hold logarithms.

use super::Reader;
use crate::data::{
    DataError,
    dense::Dense,
    rows::{Layout, Numbers, RowRef, Rows},
};
use std::path::PathBuf;

/// Passes the samples of another reader on.
pub struct Transformed {
    from: Box<dyn Reader>,
    layout: Layout,
    dense: Dense,
    path: PathBuf,
    done: u64,
}

impl Transformed {
    /// Applies `dense` to what `from` reads of `path`. What is missing counts as 0.
    pub fn new(from: Box<dyn Reader>, dense: Dense, path: PathBuf) -> Self {
        let layout = Layout { numbers: Numbers::Float32, ..from.layout().clone() };
        Transformed { from, layout, dense, path, done: 0 }
    }
}

impl Reader for Transformed {
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
        self.from.read(n, rows)?;
        let width = self.layout.dense.len();
        for (at, x) in rows.dense.iter_mut().enumerate() {
            let y = self.dense.apply(*x).ok_or_else(|| {
                let place = RowRef { path: &self.path, row: self.done + (at / width) as u64 + 1 };
                place.error(format!(
                    "column {} is {x}; must be {}",
                    self.layout.dense[at % width],
                    self.dense.domain()
                ))
            })?;
            *x = f64::from(y);
        }
        self.done += rows.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        format::{
            Format,
            columns::Columns,
            open,
            testing::{drain, write_all},
        },
        source::config::DenseTransform,
    };

    #[test]
    fn logarithms_are_taken_and_what_has_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tsv");
        let layout = Layout::criteo(Numbers::Int32);
        let mut rows = Rows::new(&layout);
        for i in 0..20 {
            rows.labels.push(0.0);
            rows.dense.extend([f64::from(i), f64::NAN].into_iter().cycle().take(13));
            rows.ids.iter_mut().for_each(|b| b.push([]));
        }
        let read = |rows: &Rows| {
            write_all(Format::Criteo, &path, &layout, rows, 99).unwrap();
            let from = open(&path, Format::Criteo, &Columns::default()).unwrap();
            let mut reader =
                Transformed::new(from, Dense::new(DenseTransform::LogPlus3).unwrap(), path.clone());
            assert_eq!(reader.layout().numbers, Numbers::Float32);
            drain(&mut reader, 7)
        };
        let logs = read(&rows).unwrap();
        for i in 0..20 {
            let [of_i, of_0] = [i as f32, 0.0].map(|x| f64::from(libm::logf(x + 3.0)));
            assert_eq!(
                logs.dense_row(i),
                [of_i, of_0].into_iter().cycle().take(13).collect::<Vec<_>>()
            );
        }
        rows.dense[13 * 9 + 2] = -3.0;
        let error = read(&rows).unwrap_err().to_string();
        assert!(
            error.ends_with("a.tsv: row 10: column I3 is -3; must be above -3 for dense_transform = \"log_plus3\""),
            "{error}"
        );
    }
}
