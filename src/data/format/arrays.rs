//! Files of one array a column, `[n]` or, for columns of several ids, `[n, h]`: FuxiCTR's npz and
//! h5 (preprocess.py: `save_npz`, `save_h5`; in sequences, short ones are filled up with 0).

use super::{Reader, columns::Columns};
use crate::data::{
    DataError,
    ids::ToId,
    npy::{Array, Type},
    npz,
    rows::{Hotness, IdColumn, Layout, Numbers, RowRef, Rows, io, wrong},
};
use std::path::{Path, PathBuf};

/// A column.
pub(super) trait Column: Send {
    /// Rows.
    fn rows(&self) -> u64;
    /// Elements of a row.
    fn width(&self) -> usize;
    /// What they are.
    fn of(&self) -> Type;
    /// Reads the next `n` rows, which there must be.
    fn read(&mut self, n: usize) -> Result<(), DataError>;
    /// The bytes of the rows read last.
    fn bytes(&self) -> &[u8];
}

impl Column for Array {
    fn rows(&self) -> u64 {
        Array::rows(self)
    }

    fn width(&self) -> usize {
        Array::width(self)
    }

    fn of(&self) -> Type {
        Array::of(self)
    }

    fn read(&mut self, n: usize) -> Result<(), DataError> {
        Array::read(self, n)
    }

    fn bytes(&self) -> &[u8] {
        Array::bytes(self)
    }
}

/// Reads the columns of a file.
pub(super) struct ArraysReader {
    path: PathBuf,
    layout: Layout,
    label: Box<dyn Column>,
    dense: Vec<Box<dyn Column>>,
    ids: Vec<Box<dyn Column>>,
    to: ToId,
    next: u64,
}

impl ArraysReader {
    /// Opens an archive of numpy's.
    ///
    /// # Errors
    /// If it cannot be read, or lacks a column, or its columns differ in their numbers of rows.
    pub fn npz(path: &Path, columns: &Columns) -> Result<Self, DataError> {
        let names = npz::names(path)?;
        ArraysReader::new(path, &names, columns, |name| {
            let array = npz::member(path, name)?
                .ok_or_else(|| wrong(path, format!("there is no array {name}")))?;
            Ok(Box::new(array))
        })
    }

    /// The columns called `names`, each opened by `open`.
    ///
    /// # Errors
    /// As [`ArraysReader::npz`].
    pub fn new(
        path: &Path,
        names: &[String],
        columns: &Columns,
        open: impl Fn(&str) -> Result<Box<dyn Column>, DataError>,
    ) -> Result<Self, DataError> {
        // What is damaged is named when it is opened as a column.
        let fraction =
            |i: usize| open(&names[i]).is_ok_and(|c| c.of().fraction() && c.width() == 1);
        let (chosen, to) = (columns.choose(path, names, fraction)?, columns.to_id());
        let open = |&i: &usize| open(&names[i]);
        let label = open(&chosen.label)?;
        let dense = chosen.dense.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let ids = chosen.categorical.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let name = |&i: &usize| names[i].clone();
        let single = [chosen.label]
            .into_iter()
            .chain(chosen.dense.iter().copied())
            .zip([&label].into_iter().chain(&dense));
        for (i, column) in single {
            if column.width() != 1 {
                return Err(wrong(
                    path,
                    format!("column {} is {} wide; only ids may be", names[i], column.width()),
                ));
            }
        }
        if let Some((&i, _)) =
            chosen.categorical.iter().zip(&ids).find(|(_, column)| column.width() == 0)
        {
            return Err(wrong(
                path,
                format!("column {} has no ids a row; must have one or more", names[i]),
            ));
        }
        let all = chosen.dense.iter().zip(&dense).chain(chosen.categorical.iter().zip(&ids));
        for (&i, column) in all {
            if column.rows() != label.rows() {
                let (n, rows) = (column.rows(), label.rows());
                return Err(wrong(
                    path,
                    format!("column {} has {n} rows and the label {rows}; must be equal", names[i]),
                ));
            }
        }
        let hotness =
            |c: &dyn Column| if c.width() == 1 { Hotness::One } else { Hotness::Fixed(c.width()) };
        let layout = Layout {
            label: name(&chosen.label),
            dense: chosen.dense.iter().map(name).collect(),
            numbers: numbers(&dense),
            ids: chosen
                .categorical
                .iter()
                .zip(&ids)
                .map(|(i, c)| IdColumn { name: name(i), hotness: hotness(&**c) })
                .collect(),
        };
        Ok(ArraysReader { path: path.to_owned(), layout, label, dense, ids, to, next: 0 })
    }
}

/// What holds the numbers of all columns.
fn numbers(columns: &[Box<dyn Column>]) -> Numbers {
    let mut all = columns.iter().map(|c| super::matrices::numbers(c.of()));
    let Some(first) = all.next() else { return Numbers::Int32 };
    all.fold(first, |a, b| if a == b { a } else { Numbers::Float64 })
}

impl Reader for ArraysReader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        Some(self.label.rows())
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        let n = (self.label.rows() - self.next).min(n as u64) as usize;
        let place = |i: usize| RowRef { path: &self.path, row: self.next + i as u64 + 1 };
        self.label.read(n)?;
        let of = self.label.of();
        for (i, bytes) in self.label.bytes().chunks_exact(of.size()).enumerate() {
            rows.labels.push(place(i).label(&self.layout.label, of.number(bytes))?);
        }
        let width = self.dense.len();
        rows.dense.resize(n * width, 0.0);
        for (k, column) in self.dense.iter_mut().enumerate() {
            column.read(n)?;
            let of = column.of();
            let places = rows.dense[k.min(n * width)..].iter_mut().step_by(width);
            places
                .zip(column.bytes().chunks_exact(of.size()))
                .for_each(|(to, bytes)| *to = of.number(bytes));
        }
        for ((column, bags), name) in self.ids.iter_mut().zip(&mut rows.ids).zip(&self.layout.ids) {
            column.read(n)?;
            let (of, width) = (column.of(), column.width());
            for (i, row) in column.bytes().chunks_exact(of.size() * width).enumerate() {
                for id in row.chunks_exact(of.size()) {
                    bags.extend_keys(place(i).id(&name.name, of.id(id, self.to))?);
                }
                place(i).full(name, bags)?;
            }
        }
        self.next += n as u64;
        Ok(())
    }
}

/// Writes an archive of numpy's: the label and dense columns of float64, ids of int64. What is
/// missing becomes 0.
pub(super) struct ArchiveWriter {
    path: PathBuf,
    layout: Layout,
    members: Vec<npz::Member>,
    rows: u64,
}

impl ArchiveWriter {
    /// Starts an archive.
    ///
    /// # Errors
    /// If it cannot be written, or a column may hold varying numbers of ids.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        super::capacity::check_fixed(layout, path, "npz")?;
        let member =
            |name: &String, of, width| npz::Member::new(path, name, of, width).map_err(io(path));
        let mut members = vec![member(&layout.label, Type::F64, None)?];
        for name in &layout.dense {
            members.push(member(name, Type::F64, None)?);
        }
        for column in &layout.ids {
            let width = if let Hotness::Fixed(n) = column.hotness { Some(n as u64) } else { None };
            members.push(member(&column.name, Type::Int(8), width)?);
        }
        Ok(ArchiveWriter { path: path.to_owned(), layout: layout.clone(), members, rows: 0 })
    }
}

impl super::Writer for ArchiveWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let path = &self.path;
        let (singles, ids) = self.members.split_at_mut(1 + self.layout.dense.len());
        for (k, to) in singles.iter_mut().enumerate() {
            for i in 0..rows.len() {
                let x = if k == 0 { rows.labels[i].into() } else { rows.dense_row(i)[k - 1] };
                to.write(&if x.is_nan() { 0.0 } else { x }.to_le_bytes()).map_err(io(path))?;
            }
        }
        for ((to, column), bags) in ids.iter_mut().zip(&self.layout.ids).zip(&rows.ids) {
            for i in 0..rows.len() {
                let place = RowRef { path, row: self.rows + i as u64 + 1 };
                for id in
                    super::sidecar::fixed(column, bags.bag(i)).map_err(|what| place.error(what))?
                {
                    to.write(&i64::from(id).to_le_bytes()).map_err(io(path))?;
                }
            }
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        let ArchiveWriter { path, members, rows, .. } = *self;
        npz::pack(&path, npz::Packing::Stored, members.into_iter().map(|m| (m, rows)))
            .map_err(io(&path))
    }
}
