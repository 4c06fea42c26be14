//! Parquet files of a recipe: columns of numbers without nulls, row groups of [`GROUP`] rows,
//! packed by Snappy.

use crate::data::preprocess::prepare::{
    PlannedFile, PrepareError,
    shuffle::records::{BATCH, Record, Records},
    state::growing::{Growing, Written},
    worker::Advance,
};
use parquet::{
    basic::{Compression, Repetition, Type as Physical},
    data_type::{DataType, FloatType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{Type, TypePtr},
};
use std::{io::Write, path::Path, sync::Arc};

/// Rows of a row group.
const GROUP: usize = 1 << 16;
const _: () = assert!(GROUP.is_multiple_of(BATCH));

/// Names of columns: those of FLOAT come first, then those of INT64.
#[derive(Debug, Clone)]
pub struct Columns {
    pub floats: Vec<String>,
    pub longs: Vec<String>,
}

impl Columns {
    /// The most bytes of files of so many rows in all: values as they are, dictionaries that did
    /// not pay, and what else is in a file.
    pub fn most_bytes(&self, rows: u64, files: u64) -> u64 {
        // A number of a dictionary may take two bytes, whatever the value takes.
        let values = rows * (6 * self.floats.len() + 10 * self.longs.len()) as u64;
        values + rows.div_ceil(GROUP as u64) * (16 << 10) + files * (20 << 10)
    }
}

/// The values of rows that wait to be written, column by column.
#[derive(Debug)]
pub struct Waiting {
    pub floats: Vec<Vec<f32>>,
    pub longs: Vec<Vec<i64>>,
}

/// Writes the samples of `records` to a new file, one row each; `push` appends the values of a
/// sample to `columns`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write(
    path: &Path,
    mut records: Records,
    columns: &Columns,
    advance: Advance,
    mut push: impl FnMut(Record, &mut Waiting),
) -> Result<Written, PrepareError> {
    let failed = |e: ParquetError| PrepareError::write(path)(std::io::Error::other(e.to_string()));
    let mut table = Table::new(Growing::create(path)?, columns).map_err(failed)?;
    loop {
        let batch = records.next()?;
        let n = batch.len();
        if n == 0 {
            return table.finish().map_err(failed)?.sync();
        }
        table.append(batch, &mut push).map_err(failed)?;
        advance(n as u64)?;
    }
}

/// Estimates the sizes of files, of `most` rows at the most, where they are not certain: writes as
/// many of `records` to memory, and takes what they need per row for larger files. `records` are at
/// most a row group.
pub fn estimate<'a>(
    records: impl ExactSizeIterator<Item = Record<'a>> + Clone,
    columns: &Columns,
    most: u64,
    files: &mut [PlannedFile],
    mut push: impl FnMut(Record, &mut Waiting),
) {
    let n = records.len() as u64;
    let mut bytes = |rows: u64| -> Option<u64> {
        let mut table = Table::new(Vec::new(), columns).ok()?;
        table.append(records.clone().take(rows as usize), &mut push).ok()?;
        Some(table.finish().ok()?.len() as u64)
    };
    if n == 0 {
        return;
    }
    let (Some(one), Some(all)) = (bytes(1), bytes(n)) else { return };
    let mut file = |rows: u64| match rows {
        0 => Some(0),
        _ if rows < n => bytes(rows),
        // Each file has names and places of columns, whatever is in it.
        _ => Some(one + ((all - one) as f64 * rows as f64 / n as f64) as u64),
    };
    for planned in files.iter_mut().filter(|f| !f.exact && f.samples > 0) {
        let full = planned.samples / most;
        let of_full = if full > 0 { file(most) } else { Some(0) };
        planned.about =
            of_full.zip(file(planned.samples % most)).map(|(of_full, rest)| full * of_full + rest);
    }
}

/// A file of rows.
struct Table<W: Write + Send> {
    file: SerializedFileWriter<W>,
    waiting: Waiting,
    rows: usize,
}

impl<W: Write + Send> Table<W> {
    fn new(out: W, columns: &Columns) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = SerializedFileWriter::new(out, schema(columns)?, Arc::new(properties))?;
        let waiting = Waiting {
            floats: vec![Vec::new(); columns.floats.len()],
            longs: vec![Vec::new(); columns.longs.len()],
        };
        Ok(Table { file, waiting, rows: 0 })
    }

    /// Appends samples, of which [`GROUP`] make a row group; all calls but the last one with a part
    /// of them that comes out even.
    fn append<'a>(
        &mut self,
        records: impl ExactSizeIterator<Item = Record<'a>>,
        push: &mut impl FnMut(Record, &mut Waiting),
    ) -> Result<(), ParquetError> {
        self.rows += records.len();
        records.for_each(|record| push(record, &mut self.waiting));
        if self.rows >= GROUP { self.put() } else { Ok(()) }
    }

    fn put(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        self.waiting
            .floats
            .iter_mut()
            .try_for_each(|values| column::<W, FloatType>(&mut group, values))?;
        self.waiting
            .longs
            .iter_mut()
            .try_for_each(|values| column::<W, Int64Type>(&mut group, values))?;
        self.rows = 0;
        group.close().map(drop)
    }

    fn finish(mut self) -> Result<W, ParquetError> {
        if self.rows > 0 {
            self.put()?;
        }
        self.file.into_inner()
    }
}

fn schema(columns: &Columns) -> Result<TypePtr, ParquetError> {
    let floats = columns.floats.iter().map(|name| (name, Physical::FLOAT));
    let longs = columns.longs.iter().map(|name| (name, Physical::INT64));
    let field = |(name, physical): (&String, Physical)| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .build()
            .map(Arc::new)
    };
    let fields = floats.chain(longs).map(field).collect::<Result<_, _>>()?;
    Ok(Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?))
}

/// Writes the next column, and empties it.
fn column<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &mut Vec<T::T>,
) -> Result<(), ParquetError> {
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
    column.typed::<T>().write_batch(values, None, None)?;
    values.clear();
    column.close()
}
