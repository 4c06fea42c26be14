//! facebook's arrays of a day that is being shuffled (data_utils.py with `--memory-map`, first
//! pass): `PREFIX_intermediate_y.npy` `[n]`, the labels, `PREFIX_intermediate_d.npy` `[n, 13]`, the
//! counts, and `PREFIX_intermediate_s.npy` `[n, 26]`, the contiguous ids; all of float64.

use super::{
    Writer,
    matrices::{Ids, Matrices, part},
};
use crate::data::{
    DataError,
    ids::ToId,
    npy::{Array, ArrayWriter, Type},
    rows::{Layout, Rows, io},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// Endings that name such a set of files: labels, dense columns, ids.
pub const ENDINGS: [&str; 3] =
    ["_intermediate_y.npy", "_intermediate_d.npy", "_intermediate_s.npy"];

/// The files of the set named by `path`: any of its files, or what they have in common.
pub fn files(path: &Path) -> Vec<PathBuf> {
    ENDINGS.iter().map(|e| part(path, &ENDINGS, e)).collect()
}

/// Opens the files.
///
/// # Errors
/// If one is missing or damaged, or they differ in their numbers of rows.
pub fn open(path: &Path, to: ToId) -> Result<Matrices, DataError> {
    let paths = files(path);
    let open = |k: usize, name| Array::open(&paths[k], name);
    let (labels, dense) =
        (open(0, "the array of labels")?, open(1, "the array of dense features")?);
    Matrices::new("y", labels, dense, Ids::Together(open(2, "the array of ids")?), to)
}

/// Writes a set. What is missing becomes 0.
pub struct IntermediateWriter {
    paths: Vec<PathBuf>,
    /// In the order of the paths.
    arrays: [ArrayWriter; 3],
    rows: u64,
}

impl IntermediateWriter {
    /// Starts the files.
    ///
    /// # Errors
    /// If they cannot be written, or a column may hold other than one id.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        super::capacity::check_single(layout, path, "facebook's set of arrays")?;
        let paths = files(path);
        let array = |k: usize, width: Option<usize>| {
            let width = width.map(|n| n as u64);
            File::create(&paths[k])
                .and_then(|f| ArrayWriter::new(f, Type::F64, width))
                .map_err(io(&paths[k]))
        };
        let arrays = [
            array(0, None)?,
            array(1, Some(layout.dense.len()))?,
            array(2, Some(layout.ids.len()))?,
        ];
        Ok(IntermediateWriter { paths, arrays, rows: 0 })
    }
}

impl Writer for IntermediateWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        self.rows += rows.len() as u64;
        let [labels, dense, ids] = &mut self.arrays;
        let put = |to: &mut ArrayWriter, x: f64| to.write(&x.to_le_bytes());
        rows.labels.iter().try_for_each(|&y| put(labels, y.into())).map_err(io(&self.paths[0]))?;
        let known = |x: f64| if x.is_nan() { 0.0 } else { x };
        rows.dense.iter().try_for_each(|&x| put(dense, known(x))).map_err(io(&self.paths[1]))?;
        let all = (0..rows.len()).flat_map(|i| (0..rows.ids.len()).map(move |k| rows.id(k, i)));
        all.map(f64::from).try_for_each(|id| put(ids, id)).map_err(io(&self.paths[2]))
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        let IntermediateWriter { paths, arrays, rows } = *self;
        arrays
            .into_iter()
            .zip(paths)
            .try_for_each(|(array, path)| array.finish(rows).map(drop).map_err(io(path)))
    }
}
