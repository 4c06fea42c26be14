//! Sparse text: `label index:value index:value ...`, a line a sample. libsvm counts indices from 1,
//! libfm (libFM 1.4.2 manual) from 0; what is not there is 0. After a `#` comes a comment. Labels
//! are 1 and 0, or 1 and -1.
//!
//! All columns share the indices: the dense ones come first, one each, then the ids of each
//! categorical column, one after another, with how often the sample holds them as their value.
//! Which index begins a column is in a description beside the file. Without one, the user names the
//! indices of dense columns and the first ones of categorical columns; if nothing is named, all
//! indices are one column of ids.

use super::{
    Reader, Writer,
    columns::Columns,
    sidecar::{Largest, Sidecar},
    spool::Spool,
    text::TextWriter,
};
use crate::data::{
    DataError,
    preprocess::{Lines, lines::shown},
    rows::{Hotness, IdColumn, Layout, Numbers, RowRef, Rows, io, wrong},
};
use std::path::{Path, PathBuf};

/// Name of the only column where nothing is known.
const FEATURES: &str = "features";
/// Samples that hold one id more often than this are a slip.
const MOST: f64 = 65536.0;
/// Ids of a sample beyond this are a slip, too, as in a description beside a file.
const MOST_IDS: usize = 1 << 20;
/// Ids that are passed on together, but for one sample more: a few lines can stand for many.
const CHUNK_IDS: usize = 1 << 22;

/// The two ways to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// From 0.
    LibFm,
    /// From 1.
    LibSvm,
}

impl Base {
    fn first(self) -> u64 {
        u64::from(self == Base::LibSvm)
    }

    fn name(self) -> &'static str {
        match self {
            Base::LibFm => "libfm",
            Base::LibSvm => "libsvm",
        }
    }
}

/// What an index stands for: a dense column, or an id of a categorical one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Feature {
    Dense(usize),
    Id(usize, u64),
}

/// The columns by their indices.
#[derive(Debug)]
struct Columned {
    layout: Layout,
    /// Index of each dense column with its number, in order of the indices.
    dense: Vec<(u64, usize)>,
    /// First index of each categorical column with its number, in order of the indices.
    ids: Vec<(u64, usize)>,
    /// One more than the largest index, where that is known.
    end: Option<u64>,
    /// Ids modulo this.
    range: Option<u32>,
    /// Whether ids may have 64 bits.
    keys: bool,
}

impl Columned {
    fn described(sidecar: &Sidecar, base: Base, columns: &Columns) -> Self {
        let layout = sidecar.layout(Numbers::Float64);
        let start = base.first() + layout.dense.len() as u64;
        let starts = sidecar.categorical.iter().scan(start, |next, c| {
            let at = *next;
            *next += c.rows;
            Some(at)
        });
        let ids: Vec<(u64, usize)> = starts.zip(0..).collect();
        let end = start + sidecar.categorical.iter().map(|c| c.rows).sum::<u64>();
        let dense = (base.first()..start).zip(0..).collect();
        Columned { dense, ids, end: Some(end), layout, range: columns.range, keys: columns.keys }
    }

    /// By the indices that the user names.
    fn named(path: &Path, columns: &Columns, base: Base) -> Result<Self, DataError> {
        if columns.label.is_some() || !columns.ignore.is_empty() {
            return Err(wrong(
                path,
                format!(
                    "{} has no names: only --dense and --categorical take indices",
                    base.name()
                ),
            ));
        }
        let indices = |names: &[String]| -> Result<Vec<(u64, usize)>, DataError> {
            let index = |n: &String| n.parse().ok().filter(|&i| i >= base.first() && i < 1 << 62);
            let found: Result<Vec<u64>, DataError> = names
                .iter()
                .map(|n| {
                    index(n).ok_or_else(|| {
                        wrong(
                            path,
                            format!("column {n} is no index; must be {} or more", base.first()),
                        )
                    })
                })
                .collect();
            let mut found: Vec<(u64, usize)> = found?.into_iter().zip(0..).collect();
            found.sort_unstable();
            Ok(found)
        };
        let (dense, mut ids) = (indices(&columns.dense)?, indices(&columns.categorical)?);
        let mut all: Vec<u64> = dense.iter().chain(&ids).map(|(i, _)| *i).collect();
        all.sort_unstable();
        if let Some(twice) = all.windows(2).find(|w| w[0] == w[1]) {
            return Err(wrong(path, format!("index {} has two roles; name each once", twice[0])));
        }
        let mut layout = Layout {
            label: "label".into(),
            dense: columns.dense.clone(),
            numbers: Numbers::Float64,
            ids: columns
                .categorical
                .iter()
                .map(|n| IdColumn { name: n.clone(), hotness: Hotness::Any })
                .collect(),
        };
        if ids.is_empty() {
            ids.push((base.first(), 0));
            layout.ids.push(IdColumn { name: FEATURES.into(), hotness: Hotness::Any });
        }
        Ok(Columned { layout, dense, ids, end: None, range: columns.range, keys: columns.keys })
    }

    fn find(&self, index: u64) -> Option<Feature> {
        if let Ok(at) = self.dense.binary_search_by_key(&index, |d| d.0) {
            return Some(Feature::Dense(self.dense[at].1));
        }
        if self.end.is_some_and(|end| index >= end) {
            return None;
        }
        // Columns without ids begin where the next one does, which is the one meant.
        let (start, k) =
            self.ids[..self.ids.partition_point(|&(start, _)| start <= index)].last()?;
        let id = self.range.map_or(index - start, |range| (index - start) % u64::from(range));
        (self.keys || u32::try_from(id).is_ok()).then_some(Feature::Id(*k, id))
    }
}

/// Reads a file, packed by gzip or not.
pub struct LibSvmReader {
    lines: Lines,
    columns: Columned,
    base: Base,
}

impl LibSvmReader {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, or columns are named by something else than indices.
    pub fn open(path: &Path, base: Base, columns: &Columns) -> Result<Self, DataError> {
        let columns = match Sidecar::read(path)? {
            Some(sidecar) if columns.chooses_none() && sidecar.columns() => {
                let rows = sidecar
                    .categorical
                    .iter()
                    .try_fold(sidecar.dense.len() as u64 + 1, |n, c| n.checked_add(c.rows));
                if rows.is_none_or(|n| n > 1 << 62) {
                    return Err(wrong(
                        &super::sidecar::beside(path),
                        "the columns together have too many ids",
                    ));
                }
                Columned::described(&sidecar, base, columns)
            }
            _ => Columned::named(path, columns, base)?,
        };
        Ok(LibSvmReader { lines: Lines::open(path)?, columns, base })
    }
}

impl Columned {
    /// Takes a line without its comment as a row.
    fn take(&self, line: &[u8], base: Base, rows: &mut Rows) -> Result<(), String> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let label = words.next().unwrap_or_default();
        let label = match number(label) {
            Some(1.0) => 1.0,
            Some(0.0 | -1.0) => 0.0,
            _ => return Err(format!("the label is {}; must be 0 or 1, or -1 or 1", shown(label))),
        };
        let first = rows.dense.len();
        // What has not been named yet is not a number.
        rows.dense.resize(first + self.layout.dense.len(), f64::NAN);
        let mut ids_in_all = 0;
        // The ids of all columns in the order of the line; those of a column follow one another
        // once sorted.
        for word in words {
            let cut = word.iter().position(|&c| c == b':').map(|at| (&word[..at], &word[at + 1..]));
            let pair = cut.and_then(|(index, value)| Some((whole(index)?, number(value)?)));
            let (index, value) =
                pair.ok_or_else(|| format!("there is {}; must be index:value", shown(word)))?;
            if index < base.first() {
                return Err(format!(
                    "there is index {index}; {} counts from {}",
                    base.name(),
                    base.first()
                ));
            }
            match self.find(index) {
                None => {
                    let last = self.end.map_or(u64::from(u32::MAX), |end| end - 1);
                    return Err(format!(
                        "there is index {index}; must be at most {last}, by the columns"
                    ));
                }
                Some(Feature::Dense(k)) => {
                    let x = &mut rows.dense[first + k];
                    if !x.is_nan() {
                        let name = &self.layout.dense[k];
                        return Err(format!(
                            "index {index}, which is dense column {name}, is there twice; must be there once"
                        ));
                    }
                    *x = value;
                }
                Some(Feature::Id(k, id)) => {
                    if value.fract() != 0.0 || !(0.0..=MOST).contains(&value) {
                        return Err(format!(
                            "index {index} of column {} has value {value}; must be 1, or how often the sample holds the id (name \
                             dense columns with --dense)",
                            self.layout.ids[k].name
                        ));
                    }
                    ids_in_all += value as usize;
                    if ids_in_all > MOST_IDS {
                        return Err(format!(
                            "there are more than {MOST_IDS} ids; must be at most as many a sample"
                        ));
                    }
                    rows.ids[k].extend_keys(std::iter::repeat_n(id, value as usize));
                }
            }
        }
        rows.dense[first..].iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = 0.0);
        for (bags, column) in rows.ids.iter_mut().zip(&self.layout.ids) {
            let ids = bags.indices.len() - bags.offsets.last().map_or(0, |&o| o as usize);
            let (right, fits) = match column.hotness {
                Hotness::One => ("at most 1".to_owned(), ids <= 1),
                Hotness::Fixed(n) => (format!("{n}"), ids == n),
                Hotness::Any => (String::new(), true),
            };
            if !fits {
                return Err(format!("column {} has {ids} ids; must have {right}", column.name));
            }
            bags.push([]);
        }
        rows.labels.push(label);
        Ok(())
    }
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|x: &f64| x.is_finite())
}

fn whole(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|t| !t.starts_with('+'))?.parse().ok()
}

impl Reader for LibSvmReader {
    fn layout(&self) -> &Layout {
        &self.columns.layout
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        while rows.len() < n && rows.ids.iter().map(|b| b.indices.len()).sum::<usize>() < CHUNK_IDS
        {
            let Some(line) = self.lines.next_line()? else { break };
            let line = line.split(|&c| c == b'#').next().unwrap_or_default();
            if line.trim_ascii().is_empty() {
                continue;
            }
            if let Err(what) = self.columns.take(line, self.base, rows) {
                return Err(self.lines.malformed(what));
            }
        }
        Ok(())
    }
}

/// Writes a file and the description of its columns. A dense value that is missing, or 0, is left
/// out; so are missing ids.
pub struct LibSvmWriter {
    path: PathBuf,
    text: TextWriter,
    layout: Layout,
    base: Base,
    waiting: Spool,
    largest: Largest,
    rows: u64,
}

impl LibSvmWriter {
    /// Starts a file. Samples wait in another one, since the indices of a column depend on the
    /// largest ids of those before.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path, base: Base, layout: &Layout) -> Result<Self, DataError> {
        Ok(LibSvmWriter {
            path: path.to_owned(),
            text: TextWriter::create(path)?,
            layout: layout.clone(),
            base,
            waiting: Spool::beside(path).map_err(io(path))?,
            largest: Largest::new(layout),
            rows: 0,
        })
    }
}

impl Writer for LibSvmWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        for i in 0..rows.len() {
            self.rows += 1;
            let place = RowRef { path: &self.path, row: self.rows };
            for (&x, name) in rows.dense_row(i).iter().zip(&self.layout.dense) {
                place.finite(name, x, self.base.name())?;
            }
            let ids: usize = rows.ids.iter().map(|bags| bags.bag(i).len()).sum();
            if ids > MOST_IDS {
                let format = self.base.name();
                return Err(place.error(format!(
                    "has {ids} ids; must have at most {MOST_IDS}, since {format} reads no more"
                )));
            }
        }
        for (k, bags) in rows.ids.iter().enumerate() {
            bags.indices.iter().for_each(|&id| self.largest.see(k, id));
        }
        self.waiting.write(rows).map_err(io(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<(), DataError> {
        let LibSvmWriter { path, mut text, layout, base, waiting, largest, .. } = *self;
        let sidecar = Sidecar::new(&layout, largest.rows());
        let starts: Vec<u64> = Columned::described(&sidecar, base, &Columns::default())
            .ids
            .iter()
            .map(|(start, _)| *start)
            .collect();
        let mut bag = Vec::new();
        let line = |rows: &Rows, i: usize, text: &mut TextWriter, bag: &mut Vec<u32>| {
            text.whole(rows.labels[i]);
            for (&x, index) in rows.dense_row(i).iter().zip(base.first()..) {
                if !x.is_nan() && x != 0.0 {
                    text.whole(format_args!(" {index}:"));
                    text.number(x, layout.numbers);
                }
            }
            for (bags, start) in rows.ids.iter().zip(&starts) {
                bag.clear();
                bag.extend_from_slice(bags.bag(i));
                // Indices ascend, each once.
                bag.sort_unstable();
                for same in bag.chunk_by(|a, b| a == b) {
                    text.whole(format_args!(" {}:{}", start + u64::from(same[0]), same.len()));
                }
            }
            text.end()
        };
        waiting
            .drain(&layout, |rows| {
                (0..rows.len())
                    .try_for_each(|i| line(rows, i, &mut text, &mut bag))
                    .map_err(Failed::Data)
            })
            .map_err(|e| match e {
                Failed::Data(e) => e,
                Failed::Spool(e) => io(&path)(e),
            })?;
        text.finish()?;
        sidecar.write(&path)
    }
}

enum Failed {
    Data(DataError),
    Spool(std::io::Error),
}

impl From<std::io::Error> for Failed {
    fn from(e: std::io::Error) -> Self {
        Failed::Spool(e)
    }
}

#[cfg(test)]
mod tests;
