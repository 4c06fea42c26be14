//! FuxiCTR's prepared data (fuxictr/features.py, preprocess/): csv, parquet, npz or h5, told by the
//! ending of the file's name, and beside it `feature_map.json`, which says what each column is and
//! how many ids it has. Ids count from 0, which stands for padding.
//!
//! All files of a folder share the map.

mod map;

use super::{
    Capacity, Reader, Writer,
    arrays::{ArchiveWriter, ArraysReader},
    columns::Columns,
    csv,
    parquet::{ParquetReader, ParquetWriter},
    sidecar::Largest,
};
use crate::{
    data::{
        DataError,
        rows::{Hotness, Layout, RowRef, Rows, io, wrong},
    },
    host::atomic_file,
};
use map::FeatureMap;
use std::path::{Path, PathBuf};

/// The map's name.
pub const NAME: &str = "feature_map.json";

/// The files of a set at `path`, the last of them the map, which other sets share.
pub fn files(path: &Path) -> Vec<PathBuf> {
    vec![path.to_owned(), map_file(path)]
}

/// Where the map of a file is written: beside it, under a temporary name as long as the file has
/// one.
fn map_file(path: &Path) -> PathBuf {
    let map = path.with_file_name(NAME);
    if atomic_file::is_temporary(path) { atomic_file::temporary(&map) } else { map }
}

/// The form of a file.
enum Form {
    Csv,
    Parquet,
    Npz,
    H5,
}

impl Form {
    fn of(path: &Path) -> Result<Form, DataError> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Ok(Form::Csv),
            Some("parquet") => Ok(Form::Parquet),
            Some("npz") => Ok(Form::Npz),
            Some("h5" | "hdf5") => Ok(Form::H5),
            _ => Err(wrong(
                path,
                "FuxiCTR's files are csv, parquet, npz or h5; the name must end so",
            )),
        }
    }
}

/// Ids of a sample in a column of the file at `path`.
pub fn capacity(path: &Path) -> Capacity {
    match Form::of(path) {
        Ok(Form::Csv) => Capacity::One,
        Ok(Form::Npz | Form::H5) => Capacity::Fixed,
        // Another name is refused when the file is made.
        Ok(Form::Parquet) | Err(_) => Capacity::Any,
    }
}

/// Reads a file.
pub struct FuxiReader {
    path: PathBuf,
    inner: Box<dyn Reader>,
    vocabularies: Vec<u64>,
    next: u64,
}

impl FuxiReader {
    /// Opens a file.
    ///
    /// # Errors
    /// If it or the feature map beside it cannot be read, or a column is missing.
    pub fn open(path: &Path, range: Option<u32>) -> Result<Self, DataError> {
        let map = path.with_file_name(NAME);
        let found = FeatureMap::read(&map)?;
        let FeatureMap { columns, vocabularies, .. } = found.ok_or_else(|| {
            wrong(path, format!("there is no {NAME} beside it, which says what the columns are"))
        })?;
        let columns = Columns { range, ..columns };
        let inner: Box<dyn Reader> = match Form::of(path)? {
            Form::Csv => Box::new(csv::CsvReader::named(path, &columns)?),
            Form::Parquet => Box::new(ParquetReader::open(path, &columns)?),
            Form::Npz => Box::new(ArraysReader::npz(path, &columns)?),
            Form::H5 => read_h5(path, &columns)?,
        };
        Ok(FuxiReader { path: path.to_owned(), inner, vocabularies, next: 0 })
    }
}

#[cfg(feature = "hdf5")]
fn read_h5(path: &Path, columns: &Columns) -> Result<Box<dyn Reader>, DataError> {
    Ok(Box::new(super::h5::open(path, columns)?))
}

#[cfg(feature = "hdf5")]
fn write_h5(path: &Path, layout: &Layout) -> Result<Box<dyn Writer>, DataError> {
    Ok(Box::new(super::h5::H5Writer::create(path, layout)?))
}

#[cfg(not(feature = "hdf5"))]
fn read_h5(path: &Path, _: &Columns) -> Result<Box<dyn Reader>, DataError> {
    Err(wrong(path, NO_HDF5))
}

#[cfg(not(feature = "hdf5"))]
fn write_h5(path: &Path, _: &Layout) -> Result<Box<dyn Writer>, DataError> {
    Err(wrong(path, NO_HDF5))
}

#[cfg(not(feature = "hdf5"))]
const NO_HDF5: &str = "this program was built without HDF5; build it with `cargo build --release --features hdf5` (needs libhdf5-dev), or use parquet or npz";

impl Reader for FuxiReader {
    fn layout(&self) -> &Layout {
        self.inner.layout()
    }

    fn len(&self) -> Option<u64> {
        self.inner.len()
    }

    fn told(&self) -> &[String] {
        self.inner.told()
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        self.inner.read(n, rows)?;
        for ((bags, column), &ids) in
            rows.ids.iter().zip(&self.inner.layout().ids).zip(&self.vocabularies)
        {
            if let Some(at) = bags.indices.iter().position(|&id| u64::from(id) >= ids) {
                let row = bags.offsets.partition_point(|&end| end as usize <= at) as u64;
                let what = format!(
                    "column {} is {}; must be below {ids}, its vocab_size in {NAME}",
                    column.name, bags.indices[at]
                );
                return Err(RowRef { path: &self.path, row: self.next + row }.error(what));
            }
        }
        self.next += rows.len() as u64;
        Ok(())
    }
}

/// Writes a file and the feature map of its folder. What is missing becomes 0.
pub struct FuxiWriter {
    path: PathBuf,
    inner: Box<dyn Writer>,
    layout: Layout,
    largest: Largest,
    known: Rows,
}

impl FuxiWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written, or its form cannot hold the columns, or the folder's feature map
    /// has others.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        let map = path.with_file_name(NAME);
        if let Some(there) = FeatureMap::read(&map)? {
            there.check(layout).map_err(|what| wrong(&map, what))?;
        }
        let inner: Box<dyn Writer> = match Form::of(path)? {
            Form::Csv => Box::new(csv::CsvWriter::create(path, layout, csv::Dialect::Named)?),
            Form::Parquet => Box::new(ParquetWriter::create(path, layout)?),
            Form::Npz => Box::new(ArchiveWriter::create(path, layout)?),
            Form::H5 => write_h5(path, layout)?,
        };
        let (largest, known) = (Largest::new(layout), Rows::new(layout));
        Ok(FuxiWriter { path: path.to_owned(), inner, layout: layout.clone(), largest, known })
    }
}

impl Writer for FuxiWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        self.known.clone_from(rows);
        self.known.dense.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = 0.0);
        for (k, (to, column)) in self.known.ids.iter_mut().zip(&self.layout.ids).enumerate() {
            if column.hotness == Hotness::One && !to.is_one_hot() {
                to.clear();
                (0..rows.len()).for_each(|i| to.push([rows.id(k, i)]));
            }
            to.indices.iter().for_each(|&id| self.largest.see(k, id));
        }
        self.inner.write(&self.known)
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        let FuxiWriter { path, inner, layout, largest, .. } = *self;
        inner.finish()?;
        // 0 is there in any case: it stands for padding.
        let vocabularies: Vec<u64> = largest.rows().map(|n| n.max(1)).collect();
        let (at, map) = (map_file(&path), path.with_file_name(NAME));
        // Another process may have written files since this one was begun.
        let text = match FeatureMap::read(&map)? {
            Some(there) => {
                there.check(&layout).map_err(|what| wrong(&map, what))?;
                there.raised(&layout, &vocabularies)
            }
            None => {
                let folder = std::path::absolute(&path).ok();
                let folder = folder
                    .and_then(|p| Some(p.parent()?.file_name()?.to_string_lossy().into_owned()));
                map::text(&FeatureMap::value(&layout, &folder.unwrap_or_default(), &vocabularies))
            }
        };
        atomic_file::write(&at, &text.map_err(|e| wrong(&at, e.to_string()))?).map_err(io(&at))
    }
}

#[cfg(test)]
mod tests;
