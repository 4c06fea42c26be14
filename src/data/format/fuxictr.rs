//! FuxiCTR's prepared data (fuxictr/features.py, preprocess/): csv, parquet, npz or h5, told by the ending of the file's name, and beside it
//! `feature_map.json`, which says what each column is and how many ids it has. Ids count from 0, which stands for padding.
//!
//! All files of a folder share the map.

use super::{
    Reader, Writer,
    arrays::{ArchiveWriter, ArraysReader},
    columns::Columns,
    csv,
    parquet::{ParquetReader, ParquetWriter},
    sidecar::Largest,
};
use crate::data::{
    DataError,
    rows::{Hotness, Layout, Place, Rows, io, wrong},
    whole,
};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// The map's name.
pub const NAME: &str = "feature_map.json";
/// A larger map is none.
const LARGEST: u64 = 256 << 20;

/// The files of a set at `path`, the last of them the map, which other sets share.
pub fn files(path: &Path) -> Vec<PathBuf> {
    vec![path.to_owned(), map_file(path)]
}

/// Where the map of a file is written: beside it, under a temporary name as long as the file has one.
fn map_file(path: &Path) -> PathBuf {
    let map = path.with_file_name(NAME);
    if whole::is_temporary(path) { whole::temporary(&map) } else { map }
}

/// What the files hold.
struct FeatureMap {
    columns: Columns,
    /// Ids of each categorical column.
    vocabularies: Vec<u64>,
}

impl FeatureMap {
    fn read(path: &Path) -> Result<Option<Self>, DataError> {
        let length = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(io(path))?.len(),
        };
        if length > LARGEST {
            return Err(wrong(path, format!("{length} bytes are too many for a feature map")));
        }
        let text = std::fs::read(path).map_err(io(path))?;
        let map: Value = serde_json::from_slice(&text).map_err(|e| wrong(path, format!("no feature map of FuxiCTR's: {e}")))?;
        FeatureMap::parse(&map).map(Some).map_err(|what| wrong(path, format!("no feature map of FuxiCTR's: {what}")))
    }

    fn parse(map: &Value) -> Result<Self, String> {
        let labels = match &map["labels"] {
            Value::Array(labels) => labels.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            // Version 1 has one.
            _ => map["label_name"].as_str().or(map["labels"].as_str()).map(str::to_owned).into_iter().collect::<Vec<_>>(),
        };
        let [label] = &labels[..] else { return Err(format!("it names {} labels; must name one", labels.len())) };
        // A list of objects of one feature each; version 1 has one object of all, or calls it otherwise.
        let features: Vec<(&String, &Value)> = match map.get("features").or_else(|| map.get("feature_specs")) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_object).flatten().collect(),
            Some(Value::Object(all)) => all.iter().collect(),
            _ => return Err("it has no features".into()),
        };
        let mut columns = Columns { label: Some(label.clone()), only: true, ..Columns::default() };
        let mut vocabularies = Vec::new();
        for (name, spec) in features {
            match spec["type"].as_str() {
                Some("numeric") => columns.dense.push(name.clone()),
                Some("categorical" | "sequence") => {
                    columns.categorical.push(name.clone());
                    let ids = spec["vocab_size"].as_u64().ok_or_else(|| format!("feature {name} has no vocab_size"))?;
                    vocabularies.push(ids);
                }
                Some("meta") => {}
                other => {
                    let shown = other.unwrap_or("none");
                    return Err(format!("feature {name} is of type {shown}; must be numeric, categorical, sequence or meta"));
                }
            }
        }
        Ok(FeatureMap { columns, vocabularies })
    }

    /// The map of `layout`.
    fn value(layout: &Layout, dataset: &str, vocabularies: &[u64]) -> Value {
        let one = |name: &String, spec: Value| Value::Object(Map::from_iter([(name.clone(), spec)]));
        let mut features: Vec<Value> = layout.dense.iter().map(|n| one(n, json!({"source": "", "type": "numeric"}))).collect();
        let mut width = layout.dense.len();
        for (column, ids) in layout.ids.iter().zip(vocabularies) {
            features.push(one(
                &column.name,
                match column.hotness {
                    Hotness::One => {
                        width += 1;
                        json!({"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": ids})
                    }
                    Hotness::Fixed(n) => {
                        width += n;
                        json!({"source": "", "type": "sequence", "padding_idx": 0, "max_len": n, "vocab_size": ids})
                    }
                    Hotness::Any => json!({"source": "", "type": "sequence", "padding_idx": 0, "vocab_size": ids}),
                },
            ));
        }
        json!({
            "dataset_id": dataset,
            "num_fields": layout.dense.len() + layout.ids.len(),
            "total_features": layout.dense.len() as u64 + vocabularies.iter().sum::<u64>(),
            "input_length": width,
            "labels": [layout.label],
            "features": features,
        })
    }
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
        match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => Ok(Form::Csv),
            Some("parquet") => Ok(Form::Parquet),
            Some("npz") => Ok(Form::Npz),
            Some("h5" | "hdf5") => Ok(Form::H5),
            _ => Err(wrong(path, "FuxiCTR's files are csv, parquet, npz or h5; the name must end so")),
        }
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
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let map = path.with_file_name(NAME);
        let found = FeatureMap::read(&map)?;
        let FeatureMap { columns, vocabularies } =
            found.ok_or_else(|| wrong(path, format!("there is no {NAME} beside it, which says what the columns are")))?;
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

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        self.inner.read(n, rows)?;
        for ((bags, column), &ids) in rows.ids.iter().zip(&self.inner.layout().ids).zip(&self.vocabularies) {
            if let Some(at) = bags.indices.iter().position(|&id| u64::from(id) >= ids) {
                let row = bags.offsets.partition_point(|&end| end as usize <= at) as u64;
                let what =
                    format!("column {} is {}; must be below {ids}, its vocab_size in {NAME}", column.name, bags.indices[at]);
                return Err(Place { path: &self.path, row: self.next + row }.error(what));
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
    /// What the map has by now.
    vocabularies: Vec<u64>,
    known: Rows,
}

impl FuxiWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written, or its form cannot hold the columns, or the folder's feature map has others.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        let map = path.with_file_name(NAME);
        let mut vocabularies = vec![0; layout.ids.len()];
        if let Some(there) = FeatureMap::read(&map)? {
            let same = there.columns.label.as_ref() == Some(&layout.label)
                && there.columns.dense == layout.dense
                && there.columns.categorical.iter().eq(layout.ids.iter().map(|c| &c.name));
            if !same {
                return Err(wrong(&map, "has other columns than these samples; write them to another folder"));
            }
            vocabularies = there.vocabularies;
        }
        let inner: Box<dyn Writer> = match Form::of(path)? {
            Form::Csv => Box::new(csv::CsvWriter::create(path, layout, csv::Dialect::Named)?),
            Form::Parquet => Box::new(ParquetWriter::create(path, layout)?),
            Form::Npz => Box::new(ArchiveWriter::create(path, layout)?),
            Form::H5 => write_h5(path, layout)?,
        };
        let (largest, known) = (Largest::new(layout), Rows::new(layout));
        Ok(FuxiWriter { path: path.to_owned(), inner, layout: layout.clone(), largest, vocabularies, known })
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
        let FuxiWriter { path, inner, layout, largest, vocabularies, .. } = *self;
        inner.finish()?;
        // 0 is there in any case: it stands for padding.
        let vocabularies: Vec<u64> = vocabularies.into_iter().zip(largest.rows()).map(|(a, b)| a.max(b).max(1)).collect();
        let folder = std::path::absolute(&path).ok().and_then(|p| Some(p.parent()?.file_name()?.to_string_lossy().into_owned()));
        let map = FeatureMap::value(&layout, &folder.unwrap_or_default(), &vocabularies);
        let at = map_file(&path);
        let mut text = serde_json::to_vec_pretty(&map).map_err(|e| wrong(&at, e.to_string()))?;
        text.push(b'\n');
        whole::write(&at, &text).map_err(io(&at))
    }
}

#[cfg(test)]
mod tests;
