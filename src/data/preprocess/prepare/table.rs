//! Parquet files of a recipe: columns of numbers without nulls, row groups of [`GROUP`] rows, packed by Snappy.

use super::{
    PrepareError,
    make::Turn,
    records::{BATCH, Record, Records},
    state::{Growing, Written},
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
use std::{path::Path, sync::Arc};

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
    /// The most bytes of files of so many rows in all: values as they are, dictionaries that did not pay, and what else is in a file.
    pub fn most_bytes(&self, rows: u64, files: u64) -> u64 {
        let values = rows * (4 * self.floats.len() + 8 * self.longs.len()) as u64;
        values * 5 / 4 + rows.div_ceil(GROUP as u64) * (16 << 10) + files * (20 << 10)
    }
}

/// The values of rows that wait to be written, column by column.
#[derive(Debug)]
pub struct Waiting {
    pub floats: Vec<Vec<f32>>,
    pub longs: Vec<Vec<i64>>,
}

/// Writes the samples of `records` to a new file, one row each; `push` appends the values of a sample to `columns`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write(
    path: &Path,
    mut records: Records,
    columns: &Columns,
    turn: Turn,
    mut push: impl FnMut(Record, &mut Waiting),
) -> Result<Written, PrepareError> {
    let failed = |e: ParquetError| PrepareError::write(path)(std::io::Error::other(e.to_string()));
    let out = Growing::open(path, &Written::default(), |_| Ok(()))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut file = schema(columns).and_then(|s| SerializedFileWriter::new(out, s, Arc::new(properties))).map_err(failed)?;
    let mut waiting = Waiting { floats: vec![Vec::new(); columns.floats.len()], longs: vec![Vec::new(); columns.longs.len()] };
    let mut rows = 0;
    loop {
        let batch = records.next()?;
        let n = batch.len();
        batch.for_each(|record| push(record, &mut waiting));
        rows += n;
        turn(n as u64)?;
        if rows >= GROUP || n == 0 && rows > 0 {
            put(&mut file, &waiting).map_err(failed)?;
            waiting.floats.iter_mut().for_each(Vec::clear);
            waiting.longs.iter_mut().for_each(Vec::clear);
            rows = 0;
        }
        if n == 0 {
            return file.into_inner().map_err(failed)?.sync();
        }
    }
}

fn schema(columns: &Columns) -> Result<TypePtr, ParquetError> {
    let floats = columns.floats.iter().map(|name| (name, Physical::FLOAT));
    let longs = columns.longs.iter().map(|name| (name, Physical::INT64));
    let field = |(name, physical): (&String, Physical)| {
        Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED).build().map(Arc::new)
    };
    let fields = floats.chain(longs).map(field).collect::<Result<_, _>>()?;
    Ok(Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?))
}

fn put(file: &mut SerializedFileWriter<Growing>, waiting: &Waiting) -> Result<(), ParquetError> {
    fn one<T: DataType>(group: &mut SerializedRowGroupWriter<'_, Growing>, values: &[T::T]) -> Result<(), ParquetError> {
        let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
        column.typed::<T>().write_batch(values, None, None)?;
        column.close()
    }
    let mut group = file.next_row_group()?;
    waiting.floats.iter().try_for_each(|values| one::<FloatType>(&mut group, values))?;
    waiting.longs.iter().try_for_each(|values| one::<Int64Type>(&mut group, values))?;
    group.close().map(drop)
}
