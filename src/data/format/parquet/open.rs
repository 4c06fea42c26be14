//! Opening of a parquet file: which of its columns are the label, dense and categorical.

use super::{
    super::{
        columns::{Chosen, Columns},
        leftovers::{self, Leftover},
    },
    column::{Form, Leaf, Made, beyond_numbers, fraction, guarded},
    shared::Shared,
    table::{Table, column, one_line},
};
use crate::data::{
    DataError,
    preprocess::fields::Words,
    rows::{self, Hotness, IdColumn, Layout, Numbers, RowRef, io, repeated, wrong},
};
use parquet::{
    basic::Type as Physical,
    errors::ParquetError,
    file::{
        metadata::FileMetaData,
        reader::{FileReader, SerializedFileReader},
        statistics::Statistics,
    },
    schema::types::SchemaDescriptor,
};
use std::{fs::File, path::Path};

/// A file of which the end has been read.
pub(super) struct Opened {
    pub file: SerializedFileReader<Shared>,
    pub shared: Shared,
    /// The column of each leaf: a column of numbers or a list is one leaf, a struct several.
    pub names: Vec<String>,
    /// The columns that the file's metadata call an index.
    stored: Vec<String>,
}

/// Opens a file.
///
/// # Errors
/// If it cannot be read, is no parquet file, or has two columns of one name.
pub(super) fn open(path: &Path) -> Result<Opened, DataError> {
    let file = File::open(path).map_err(io(path))?;
    let metadata = file.metadata().map_err(io(path))?;
    if metadata.len() == 0 {
        return Err(wrong(path, "the file is empty; must be a parquet file"));
    }
    let shared = Shared::new(file, metadata.len());
    let file = guarded(|| SerializedFileReader::new(shared.clone()));
    let file = file.map_err(|e| wrong(path, format!("no parquet file: {}", one_line(&e))))?;
    let schema = file.metadata().file_metadata().schema_descr();
    let names: Vec<String> =
        schema.columns().iter().filter_map(|c| c.path().parts().first().cloned()).collect();
    if let Some(twice) = repeated(schema.root_schema().get_fields().iter().map(|f| f.name())) {
        return Err(wrong(path, rows::twice(twice)));
    }
    let stored = indices_of(file.metadata().file_metadata());
    Ok(Opened { file, shared, names, stored })
}

impl Opened {
    /// Why leaf `i` is no feature, if it is none.
    pub fn leftover(&self, path: &Path, i: usize) -> Option<Leftover> {
        let schema = self.file.metadata().file_metadata().schema_descr();
        match Leftover::named(&self.names[i]) {
            None if self.stored.contains(&self.names[i]) => Some(Leftover::Index),
            None if Leftover::may_count(&self.names[i]) => {
                let leaf = Leaf::new(path, i, &schema.column(i)).ok().filter(|l| !l.list)?;
                let counts = guarded(|| counts(&self.file, &self.shared, &leaf)).ok()?;
                counts.then_some(Leftover::Counts)
            }
            known => known,
        }
    }
}

impl Table {
    /// Opens a file. Ids of categorical column `k` (from 0) start at `k * stride`, which is taken
    /// off (OneFlow's are numbered through all columns; 0 where each starts at 0); then they are
    /// taken modulo `columns.range`.
    ///
    /// # Errors
    /// If it cannot be read, is no parquet file, or lacks a column or has one of another type.
    pub fn open(path: &Path, columns: &Columns, stride: u32) -> Result<Self, DataError> {
        let opened = open(path)?;
        let leftover = |i: usize| opened.leftover(path, i);
        let (file, names) = (&opened.file, &opened.names);
        let schema = file.metadata().file_metadata().schema_descr();
        let physical = |i: usize| schema.column(i).physical_type();
        let list = |i: usize| schema.column(i).max_rep_level() > 0;
        // OneFlow's files for DeepFM have hashes as I1 and so on, too.
        let hashed = |i: usize| {
            let leaf = Leaf::new(path, i, &schema.column(i)).ok();
            let groups = file.metadata().row_groups().iter();
            let mut extremes = groups.filter_map(|g| match g.columns().get(i)?.statistics()? {
                Statistics::Int64(s) => Some([s.min_opt().copied(), s.max_opt().copied()]),
                _ => None,
            });
            leaf.is_some_and(|leaf| {
                extremes.any(|x| x.into_iter().flatten().any(|x| beyond_numbers(x, leaf.unsigned)))
            })
        };
        let fractions = |i: usize| fraction(physical(i)) && !list(i);
        let mut chosen = columns.choose_among(path, names, fractions, hashed, leftover)?;
        let leaf = |&i: &usize| Leaf::new(path, i, &schema.column(i));
        let text = |&i: &usize| Leaf::text(i, &schema.column(i));
        if columns.texts.is_some() {
            move_dates(&mut chosen, columns, |i| {
                let d = schema.column(i);
                Form::of(&d).is_some_and(|form| form != Form::Text)
                    && Leaf::date(i, &d, None).is_some()
            });
        }
        let mut label = match text(&chosen.label).filter(|_| !columns.positive.is_empty()) {
            Some(label) => label,
            None if text(&chosen.label).is_some() => {
                let what = format!(
                    "the label (column {}) is text; --positive, in a workload data.positive, names the values that mean 1",
                    names[chosen.label]
                );
                return Err(wrong(path, what));
            }
            None => leaf(&chosen.label)?,
        };
        let number = |i: &usize| {
            let moment = || Leaf::date(*i, &schema.column(*i), None).filter(|_| columns.moments);
            leaf(i).or_else(|e| moment().ok_or(e))
        };
        let category = |i: &usize| text(i).filter(|_| columns.text).map_or_else(|| leaf(i), Ok);
        let features = columns.features();
        let mut dense = chosen.dense.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        let mut ids = chosen.categorical.iter().map(category).collect::<Result<Vec<_>, _>>()?;
        for (&i, &feature) in chosen.dates.iter().flat_map(|i| features.iter().map(move |f| (i, f)))
        {
            let date = Leaf::date(i, &schema.column(i), Some(feature)).ok_or_else(|| {
                let name = &names[i];
                wrong(path, format!("column {name} holds no dates; must be of type DATE or TIMESTAMP, text or whole numbers"))
            })?;
            if feature.is_dense() { dense.push(date) } else { ids.push(date) }
        }
        if let Some(missing) = &columns.missing {
            let leaves = [&mut label].into_iter().chain(&mut dense).chain(&mut ids);
            take_words(leaves, missing).map_err(|what| wrong(path, what))?;
        }
        if let Some(list) = [&label].into_iter().chain(&dense).find(|l| l.list) {
            return Err(wrong(
                path,
                format!("column {} holds lists; only categorical columns may", list.name),
            ));
        }
        let hotness = |l: &Leaf| if l.list { Hotness::Any } else { Hotness::One };
        let layout = Layout {
            label: label.name.clone(),
            dense: dense.iter().map(|l| l.name.clone()).collect(),
            numbers: numbers(&dense, schema),
            ids: ids
                .iter()
                .map(|l| IdColumn { name: l.name.clone(), hotness: hotness(l) })
                .collect(),
        };
        let starts = starts(path, file, names.len())?;
        let (path, range, positive) = (path.to_owned(), columns.range, columns.positive.clone());
        let Opened { file, shared, .. } = opened;
        Ok(Table {
            path,
            file,
            shared,
            label,
            dense,
            ids,
            layout,
            starts,
            stride,
            range,
            keys: columns.keys,
            positive,
            texts: columns.texts.clone().map(|texts| texts.0),
            told: chosen.told,
            at: None,
            scratch: Vec::new(),
        })
    }
}

/// Has `words` say in columns of text that a value is missing.
///
/// # Errors
/// If no column is text.
fn take_words<'a>(
    leaves: impl Iterator<Item = &'a mut Leaf>,
    words: &[String],
) -> Result<(), &'static str> {
    let mut any = false;
    for leaf in leaves {
        any |= leaf.is_worded();
        leaf.missing = Some(Words::new(Some(words)));
    }
    any.then_some(()).ok_or(
        "words for what is missing are named (--missing, in a workload data.missing), but no column is text; name none",
    )
}

/// Takes columns that hold dates by their type out of those whose role was guessed.
fn move_dates(chosen: &mut Chosen, columns: &Columns, date: impl Fn(usize) -> bool) {
    if columns.categorical.is_empty() {
        let (dates, other): (Vec<usize>, _) = chosen.categorical.iter().partition(|&&i| date(i));
        chosen.categorical = other;
        chosen.dates.extend(dates);
    }
}

/// The type that holds all dense columns. Whole numbers of 32 bits beside fractions of 32 need 64 to
/// hold both.
fn numbers(dense: &[Leaf], schema: &SchemaDescriptor) -> Numbers {
    let physical = |l: &Leaf| schema.column(l.index).physical_type();
    let int = |l: &Leaf| matches!(physical(l), Physical::BOOLEAN | Physical::INT32) && !l.unsigned;
    let float = |l: &Leaf| matches!(physical(l), Physical::BOOLEAN | Physical::FLOAT);
    match () {
        _ if dense.iter().any(|l| l.made != Made::Numbers) => Numbers::Float64,
        _ if dense.iter().all(int) => Numbers::Int32,
        _ if dense.iter().all(float) => Numbers::Float32,
        _ => Numbers::Float64,
    }
}

/// First row of each row group of a file with so many `columns`, and the number of all rows.
fn starts(
    path: &Path,
    file: &SerializedFileReader<Shared>,
    columns: usize,
) -> Result<Vec<u64>, DataError> {
    let mut starts = vec![0u64];
    for (g, group) in file.metadata().row_groups().iter().enumerate() {
        // The crate takes these for granted when it reads the columns.
        let places = group.columns().iter().flat_map(|c| {
            [Some(c.data_page_offset()), c.dictionary_page_offset(), Some(c.compressed_size())]
        });
        if group.num_columns() != columns || places.flatten().any(|at| at < 0) {
            return Err(wrong(path, format!("row group {g} is damaged: its columns lie nowhere")));
        }
        let rows = u64::try_from(group.num_rows())
            .map_err(|_| wrong(path, "a row group has a negative number of rows"))?;
        starts.push(starts[starts.len() - 1].saturating_add(rows));
    }
    Ok(starts)
}

/// The columns that the file's metadata call an index.
fn indices_of(metadata: &FileMetaData) -> Vec<String> {
    let entries = metadata.key_value_metadata().into_iter().flatten();
    let pandas = entries.filter(|entry| entry.key == leftovers::PANDAS);
    pandas.filter_map(|e| e.value.as_deref()).flat_map(leftovers::indices).collect()
}

/// Whether the first values of column `leaf` count the rows.
fn counts(
    file: &SerializedFileReader<Shared>,
    shared: &Shared,
    leaf: &Leaf,
) -> Result<bool, ParquetError> {
    let mut groups = 0..file.num_row_groups();
    let Some(first) = groups.find(|&g| file.metadata().row_group(g).num_rows() > 0) else {
        return Ok(false);
    };
    let rows = file.metadata().row_group(first).num_rows().min(leftovers::LOOK as i64) as usize;
    let mut column = column(&*file.get_row_group(first)?, shared, leaf)?;
    column.advance(0, rows)?;
    let mut values = vec![f64::NAN; rows];
    let place = |i: usize| RowRef { path: Path::new(""), row: i as u64 };
    // Hashes count nothing.
    if column.numbers(leaf, &mut values, 1, place).is_err() {
        return Ok(false);
    }
    let whole = |&x: &f64| (x.fract() == 0.0).then_some(x as i64);
    Ok(leftovers::counting(&values.iter().map(whole).collect::<Vec<_>>()))
}
