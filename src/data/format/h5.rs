//! HDF5 files of one data set a column, as FuxiCTR's h5 (through libhdf5, which the cargo feature
//! `hdf5` asks for).

use super::{
    Writer,
    arrays::{ArraysReader, Column},
    capacity::check_fixed,
    columns::Columns,
    sidecar::fixed,
};
use crate::data::{
    DataError,
    npy::Type,
    rows::{Hotness, Layout, RowRef, Rows, io, wrong},
};
use hdf5_metno::{
    Dataset, File, SimpleExtents,
    types::{FloatSize, TypeDescriptor},
};
use ndarray::{ArrayView2, s};
use std::path::{Path, PathBuf};

/// Rows of a chunk of a data set.
const CHUNK: usize = 1 << 14;

/// Opens a file.
///
/// # Errors
/// If it cannot be read, or lacks a column, or its columns differ in their numbers of rows.
pub(super) fn open(path: &Path, columns: &Columns) -> Result<ArraysReader, DataError> {
    // The library says little of files that are not there.
    std::fs::File::open(path).map_err(io(path))?;
    let file =
        File::open(path).map_err(|e| wrong(path, format!("no HDF5 file: {}", one_line(&e))))?;
    let names = file.member_names().map_err(|e| wrong(path, one_line(&e)))?;
    ArraysReader::new(path, &names, columns, |name| {
        let data = file
            .dataset(name)
            .map_err(|e| wrong(path, format!("column {name}: {}", one_line(&e))))?;
        Ok(Box::new(DataSet::new(path, name, data)?))
    })
}

/// A column.
struct DataSet {
    path: PathBuf,
    name: String,
    data: Dataset,
    of: Type,
    rows: usize,
    width: usize,
    /// Whether it has two dimensions.
    wide: bool,
    next: usize,
    bytes: Vec<u8>,
}

impl DataSet {
    fn new(path: &Path, name: &str, data: Dataset) -> Result<Self, DataError> {
        let refuse = |what: String| wrong(path, format!("column {name} {what}"));
        let of = data
            .dtype()
            .and_then(|t| t.to_descriptor())
            .map_err(|e| refuse(format!("is of no type known: {}", one_line(&e))))?;
        // Numbers are read as the widest of their kind.
        let of = match of {
            TypeDescriptor::Integer(_) => Type::Int(8),
            TypeDescriptor::Unsigned(_) => Type::Unsigned(8),
            TypeDescriptor::Boolean => Type::Bool,
            TypeDescriptor::Float(FloatSize::U4) => Type::F32,
            TypeDescriptor::Float(_) => Type::F64,
            other => return Err(refuse(format!("is of type {other}; must be numbers"))),
        };
        let (rows, width, wide) = match data.shape()[..] {
            [rows] => (rows, 1, false),
            [rows, width] if (1..=1 << 20).contains(&width) => (rows, width, true),
            ref other => {
                return Err(refuse(format!(
                    "has shape {other:?}; must be one number, or some ids, a row"
                )));
            }
        };
        Ok(DataSet {
            path: path.to_owned(),
            name: name.to_owned(),
            data,
            of,
            rows,
            width,
            wide,
            next: 0,
            bytes: Vec::new(),
        })
    }

    fn slice<T: hdf5_metno::H5Type>(&self, n: usize) -> hdf5_metno::Result<Vec<T>> {
        let range = self.next..self.next + n;
        match self.wide {
            true => Ok(self.data.read_slice_2d::<T, _>(s![range, ..])?.into_raw_vec_and_offset().0),
            false => Ok(self.data.read_slice_1d::<T, _>(s![range])?.into_raw_vec_and_offset().0),
        }
    }
}

impl Column for DataSet {
    fn rows(&self) -> u64 {
        self.rows as u64
    }

    fn width(&self) -> usize {
        self.width
    }

    fn of(&self) -> Type {
        self.of
    }

    fn read(&mut self, n: usize) -> Result<(), DataError> {
        let bytes = match self.of {
            Type::Int(_) => {
                self.slice::<i64>(n).map(|v| v.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            Type::Unsigned(_) => {
                self.slice::<u64>(n).map(|v| v.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            Type::F32 => {
                self.slice::<f32>(n).map(|v| v.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            Type::Bool => self.slice::<bool>(n).map(|v| v.iter().map(|&x| u8::from(x)).collect()),
            _ => self.slice::<f64>(n).map(|v| v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        };
        self.bytes = bytes.map_err(|e| {
            wrong(
                &self.path,
                format!(
                    "column {} cannot be read after row {}: {}",
                    self.name,
                    self.next,
                    one_line(&e)
                ),
            )
        })?;
        self.next += n;
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A message of the library, which may have several lines, in one.
fn one_line(e: &hdf5_metno::Error) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes a file: the label and dense columns of float64, ids of int64. What is missing becomes 0.
pub(super) struct H5Writer {
    path: PathBuf,
    layout: Layout,
    file: File,
    /// Label and dense columns.
    numbers: Vec<Dataset>,
    ids: Vec<Dataset>,
    rows: usize,
}

impl H5Writer {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written, or a column may hold varying numbers of ids.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        check_fixed(layout, path, "h5")?;
        std::fs::File::create(path).map_err(io(path))?;
        let failed = |e: hdf5_metno::Error| io(path)(std::io::Error::other(one_line(&e)));
        let file = File::create(path).map_err(failed)?;
        let single = |name: &String| {
            file.new_dataset::<f64>()
                .chunk(CHUNK)
                .shape(SimpleExtents::resizable([0]))
                .create(name.as_str())
        };
        let many = |n: usize| (CHUNK / n).max(1);
        let mut numbers = vec![single(&layout.label).map_err(failed)?];
        for name in &layout.dense {
            numbers.push(single(name).map_err(failed)?);
        }
        let mut ids = Vec::new();
        for column in &layout.ids {
            let new = file.new_dataset::<i64>();
            let data = match column.hotness {
                Hotness::Fixed(n) => {
                    new.chunk((many(n), n)).shape((0.., n)).create(column.name.as_str())
                }
                _ => new
                    .chunk(CHUNK)
                    .shape(SimpleExtents::resizable([0]))
                    .create(column.name.as_str()),
            };
            ids.push(data.map_err(failed)?);
        }
        Ok(H5Writer { path: path.to_owned(), layout: layout.clone(), file, numbers, ids, rows: 0 })
    }

    fn failed(&self, e: &hdf5_metno::Error) -> DataError {
        io(&self.path)(std::io::Error::other(one_line(e)))
    }
}

impl Writer for H5Writer {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let (first, end) = (self.rows, self.rows + rows.len());
        for (k, data) in self.numbers.iter().enumerate() {
            let of = |i: usize| {
                if k == 0 { f64::from(rows.labels[i]) } else { rows.dense_row(i)[k - 1] }
            };
            let column: Vec<f64> =
                (0..rows.len()).map(of).map(|x| if x.is_nan() { 0.0 } else { x }).collect();
            let put = data.resize(end).and_then(|()| data.write_slice(&column, s![first..end]));
            put.map_err(|e| self.failed(&e))?;
        }
        for (k, (data, column)) in self.ids.iter().zip(&self.layout.ids).enumerate() {
            let mut all: Vec<i64> = Vec::new();
            for i in 0..rows.len() {
                let place = RowRef { path: &self.path, row: (first + i) as u64 + 1 };
                all.extend(
                    fixed(column, rows.ids[k].bag(i))
                        .map_err(|what| place.error(what))?
                        .into_iter()
                        .map(i64::from),
                );
            }
            let put = match column.hotness {
                Hotness::Fixed(n) => data.resize((end, n)).and_then(|()| {
                    let view = ArrayView2::from_shape((rows.len(), n), &all)
                        .map_err(|e| hdf5_metno::Error::from(e.to_string()))?;
                    data.write_slice(view, s![first..end, ..])
                }),
                _ => data.resize(end).and_then(|()| data.write_slice(&all, s![first..end])),
            };
            put.map_err(|e| self.failed(&e))?;
        }
        self.rows = end;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        self.file.flush().map_err(|e| self.failed(&e))
    }
}
