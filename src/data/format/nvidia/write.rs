//! Writing of a split.

use super::{
    LABEL, NUMERICAL, category,
    spec::{Channels, Chunk, Feature, NAME, Spec},
    spec_file,
};
use crate::{
    data::{
        DataError,
        format::Writer,
        rows::{Layout, RowRef, Rows, io, wrong},
    },
    host::atomic_file,
};
use half::f16;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// Writes a split and its part of the feature spec. What is missing becomes 0; dense values are
/// rounded to 16 bits.
///
/// Columns get NVIDIA's names, `num_0` and `cat_0.bin` and so on, which its programs take for
/// granted.
pub struct NvidiaWriter {
    path: PathBuf,
    layout: Layout,
    label: BufWriter<File>,
    numerical: BufWriter<File>,
    ids: Vec<Category>,
    rows: u64,
    /// Whether a feature spec with other columns is replaced.
    replaces: bool,
}

/// A categorical column.
struct Category {
    file: BufWriter<File>,
    /// Ids and bytes of each, if that is known beforehand.
    known: Option<(u64, usize)>,
    largest: u32,
}

impl NvidiaWriter {
    /// Starts the split in the folder `path`, which is made if need be. The cardinalities of its
    /// columns are those that the feature spec beside it has for other splits; if there are none,
    /// one more than the largest ids.
    ///
    /// # Errors
    /// If a file cannot be written, a column may hold other than one id, or the other splits have
    /// other columns.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        let cardinalities = match others(path)? {
            Some(spec) => Some(cardinalities(&spec, layout, path)?),
            None => None,
        };
        NvidiaWriter::start(path, layout, cardinalities, false)
    }

    /// The same with cardinalities that are known beforehand; a feature spec that is there is
    /// replaced when the split is complete, unless it holds other splits with the same ones.
    ///
    /// # Errors
    /// As [`NvidiaWriter::create`].
    pub fn with_cardinalities(
        path: &Path,
        layout: &Layout,
        cardinalities: &[u64],
    ) -> Result<Self, DataError> {
        NvidiaWriter::start(path, layout, Some(cardinalities.to_vec()), true)
    }

    fn start(
        path: &Path,
        layout: &Layout,
        cardinalities: Option<Vec<u64>>,
        replaces: bool,
    ) -> Result<Self, DataError> {
        super::super::capacity::check_single(layout, path, "NVIDIA's split binary")?;
        if path.file_name().is_some_and(|n| n.to_str().is_none()) {
            return Err(wrong(path, format!("{NAME} holds the names of splits; must be UTF-8")));
        }
        fs::create_dir_all(path).map_err(io(path))?;
        let create = |name: &str| {
            let file = path.join(name);
            Ok(BufWriter::with_capacity(1 << 17, File::create(&file).map_err(io(file))?))
        };
        let mut ids = Vec::new();
        for k in 0..layout.ids.len() {
            let known = match &cardinalities {
                Some(all) => Some((all[k], size(path, k, all[k])?)),
                None => None,
            };
            ids.push(Category { file: create(&category(k))?, known, largest: 0 });
        }
        Ok(NvidiaWriter {
            label: create(LABEL)?,
            numerical: create(NUMERICAL)?,
            ids,
            path: path.to_owned(),
            layout: layout.clone(),
            rows: 0,
            replaces,
        })
    }

    /// What the other splits have fixed by now: their spec and the cardinalities.
    ///
    /// # Errors
    /// If this split does not fit.
    fn settled(&self) -> Result<Option<(Spec, Vec<u64>)>, DataError> {
        let Some(spec) = others(&self.path)? else { return Ok(None) };
        let known: Option<Vec<u64>> = self.ids.iter().map(|to| to.known.map(|(n, _)| n)).collect();
        if self.replaces {
            let same = |n: &[u64]| {
                spec.channel_spec == channels(&self.layout)
                    && spec.feature_spec == features(&self.layout, n)
            };
            return Ok(known.filter(|n| same(n)).map(|n| (spec, n)));
        }
        let found = cardinalities(&spec, &self.layout, &self.path)?;
        for ((to, column), &n) in self.ids.iter().zip(&self.layout.ids).zip(&found) {
            match to.known {
                Some((known, _)) if known != n => {
                    let what = format!(
                        "column {} has {n} ids by the other splits, but had {known} when this one was begun; write it anew",
                        column.name
                    );
                    return Err(wrong(&self.path, what));
                }
                None if self.rows > 0 && u64::from(to.largest) >= n => {
                    let what = format!(
                        "column {} holds {}; must be below {n}, {BY_OTHERS}",
                        column.name, to.largest
                    );
                    return Err(wrong(&self.path, what));
                }
                _ => {}
            }
        }
        Ok(Some((spec, found)))
    }
}

/// Why an id is too large.
const BY_OTHERS: &str =
    "its cardinality by the other splits; write the one with the largest ids first";

/// The spec beside the split in the folder `path`, without that; `None` if there is none, or no
/// other split.
fn others(path: &Path) -> Result<Option<Spec>, DataError> {
    let mut spec = Spec::read(&path.with_file_name(NAME))?;
    if let Some(spec) = &mut spec {
        spec.source_spec.remove(&atomic_file::name(path));
    }
    Ok(spec.filter(|s| !s.source_spec.is_empty()))
}

/// The cardinalities of the splits of `spec`, which lies beside the folder `path`.
///
/// # Errors
/// If it says other than what is written of `layout`.
fn cardinalities(spec: &Spec, layout: &Layout, path: &Path) -> Result<Vec<u64>, DataError> {
    let at = path.with_file_name(NAME);
    let Channels { categorical, label, numerical } = &spec.channel_spec;
    if (numerical.len(), categorical.len()) != (layout.dense.len(), layout.ids.len()) {
        let what = format!(
            "the splits there have {} dense and {} categorical columns, but there are {} and {}; must be equal",
            numerical.len(),
            categorical.len(),
            layout.dense.len(),
            layout.ids.len()
        );
        return Err(wrong(&at, what));
    }
    // `Spec::read` has seen that each has one.
    let all: Vec<u64> =
        categorical.iter().map(|c| spec.feature_spec[c].cardinality.unwrap_or(0)).collect();
    // Columns may have other names than those of NVIDIA's programs.
    let Channels { categorical: ids, label: labels, numerical: dense } = channels(layout);
    let written = features(layout, &all);
    let theirs = label.iter().chain(numerical).chain(categorical);
    for (column, ours) in theirs.zip(labels.iter().chain(&dense).chain(&ids)) {
        let (there, here) = (&spec.feature_spec[column].dtype, &written[ours].dtype);
        if there != here {
            let what = format!(
                "column {column} is of type {there}, but is written as {here}; must be equal; use another folder"
            );
            return Err(wrong(&at, what));
        }
    }
    Ok(all)
}

/// Bytes of an id of a column with so many: NVIDIA's `get_categorical_feature_type`.
///
/// # Errors
/// If there are more than its files hold.
pub fn size(path: &Path, k: usize, cardinality: u64) -> Result<usize, DataError> {
    match cardinality {
        n if n < i8::MAX as u64 => Ok(1),
        n if n < i16::MAX as u64 => Ok(2),
        n if n < i32::MAX as u64 => Ok(4),
        n => {
            let what = format!(
                "{n} ids are too many; must be below {}, since NVIDIA's files hold no larger",
                i32::MAX
            );
            Err(wrong(&path.join(category(k)), what))
        }
    }
}

fn channels(layout: &Layout) -> Channels {
    Channels {
        categorical: (0..layout.ids.len()).map(category).collect(),
        label: vec!["label".into()],
        numerical: (0..layout.dense.len()).map(|k| format!("num_{k}")).collect(),
    }
}

fn features(layout: &Layout, cardinalities: &[u64]) -> BTreeMap<String, Feature> {
    let Channels { categorical, label, numerical } = channels(layout);
    let plain = |dtype: &str| Feature { cardinality: None, dtype: dtype.into() };
    let of = |&n: &u64| Feature {
        cardinality: Some(n),
        dtype: if n < i8::MAX as u64 {
            "int8"
        } else if n < i16::MAX as u64 {
            "int16"
        } else {
            "int32"
        }
        .into(),
    };
    categorical
        .into_iter()
        .zip(cardinalities.iter().map(of))
        .chain(label.into_iter().map(|c| (c, plain("bool"))))
        .chain(numerical.into_iter().map(|c| (c, plain("float16"))))
        .collect()
}

impl Writer for NvidiaWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let first = self.rows + 1;
        self.rows += rows.len() as u64;
        let file = |name: &str| self.path.join(name);
        let labels =
            rows.labels.iter().try_for_each(|&y| self.label.write_all(&[u8::from(y != 0.0)]));
        labels.map_err(|e| io(file(LABEL))(e))?;
        for i in 0..rows.len() {
            for (&x, name) in rows.dense_row(i).iter().zip(&self.layout.dense) {
                let narrow = f16::from_f64(if x.is_nan() { 0.0 } else { x });
                if !narrow.is_finite() {
                    let what = format!(
                        "column {name} is {x}; must be at most {}, since NVIDIA's files hold fractions of 16 bits (as ln(x + 3), \
                         --dense-transform log_plus3)",
                        f16::MAX
                    );
                    return Err(RowRef { path: &self.path, row: first + i as u64 }.error(what));
                }
                self.numerical
                    .write_all(&narrow.to_le_bytes())
                    .map_err(|e| io(file(NUMERICAL))(e))?;
            }
        }
        for (k, (to, column)) in self.ids.iter_mut().zip(&self.layout.ids).enumerate() {
            for i in 0..rows.len() {
                let id = rows.id(k, i);
                let below = to.known.map_or(i32::MAX as u64, |(n, _)| n);
                if u64::from(id) >= below {
                    let why = if to.known.is_some() {
                        BY_OTHERS
                    } else {
                        "since NVIDIA's files hold no larger id"
                    };
                    let what =
                        format!("column {} is {id}; must be below {below}, {why}", column.name);
                    return Err(RowRef { path: &self.path, row: first + i as u64 }.error(what));
                }
                to.largest = to.largest.max(id);
                let size = to.known.map_or(4, |(_, size)| size);
                to.file
                    .write_all(&id.to_le_bytes()[..size])
                    .map_err(|e| io(self.path.join(category(k)))(e))?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), DataError> {
        self.label.flush().map_err(io(self.path.join(LABEL)))?;
        self.numerical.flush().map_err(io(self.path.join(NUMERICAL)))?;
        // Another process may have written splits since this one was begun.
        let settled = self.settled()?;
        let mut cardinalities = Vec::new();
        for (k, mut to) in std::mem::take(&mut self.ids).into_iter().enumerate() {
            let path = self.path.join(category(k));
            to.file.flush().map_err(io(&path))?;
            let cardinality = match to.known {
                Some((n, _)) => n,
                None => {
                    let own = if self.rows == 0 { 0 } else { u64::from(to.largest) + 1 };
                    let n = settled.as_ref().map_or(own, |(_, all)| all[k]);
                    narrow(&path, size(&self.path, k, n)?).map_err(io(&path))?;
                    n
                }
            };
            cardinalities.push(cardinality);
        }
        let name = atomic_file::name(&self.path);
        let mut spec = settled.map(|(spec, _)| spec).unwrap_or_else(|| Spec {
            channel_spec: channels(&self.layout),
            feature_spec: features(&self.layout, &cardinalities),
            ..Spec::default()
        });
        let chunks = chunks(&name, spec.channel_spec.clone());
        spec.source_spec.insert(name, chunks);
        spec.write(&spec_file(&self.path))
    }
}

/// The files of a split.
fn chunks(split: &str, channels: Channels) -> Vec<Chunk> {
    let Channels { categorical, label, numerical } = channels;
    let chunk = |features: Vec<String>, file: &str| Chunk::new(features, format!("{split}/{file}"));
    let mut chunks = vec![chunk(label, LABEL)];
    if !numerical.is_empty() {
        chunks.push(chunk(numerical, NUMERICAL));
    }
    chunks.extend(categorical.into_iter().enumerate().map(|(k, c)| chunk(vec![c], &category(k))));
    chunks
}

/// The text of a feature spec of splits that this program names as [`NvidiaWriter`] does.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn feature_spec(
    splits: &[&str],
    layout: &Layout,
    cardinalities: &[u64],
) -> Result<String, DataError> {
    let spec = Spec {
        channel_spec: channels(layout),
        feature_spec: features(layout, cardinalities),
        source_spec: splits
            .iter()
            .map(|&split| (split.to_owned(), chunks(split, channels(layout))))
            .collect(),
        ..Spec::default()
    };
    spec.text(Path::new(NAME))
}

/// Takes the upper bytes of the 32-bit numbers of a file away, which are 0.
fn narrow(path: &Path, size: usize) -> std::io::Result<()> {
    if size == 4 {
        return Ok(());
    }
    let waiting = atomic_file::temporary(path);
    let mut from = BufReader::with_capacity(1 << 17, File::open(path)?);
    let mut to = BufWriter::with_capacity(1 << 17, File::create(&waiting)?);
    let (mut buffer, mut left) = ([0; 1 << 12], from.get_ref().metadata()?.len());
    while left > 0 {
        let part = &mut buffer[..left.min(1 << 12) as usize];
        from.read_exact(part)?;
        part.chunks_exact(4).try_for_each(|id| to.write_all(&id[..size]))?;
        left -= part.len() as u64;
    }
    to.flush()?;
    fs::rename(waiting, path)
}
