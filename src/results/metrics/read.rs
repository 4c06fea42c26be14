//! Reads `metrics.parquet`.

use super::{Column, Metrics, schema};
use crate::results::ResultsError;
use parquet::{
    basic::Type as Physical,
    column::reader::get_typed_column_reader,
    data_type::{DataType, DoubleType, FloatType, Int64Type},
    errors::ParquetError,
    file::reader::{FileReader, RowGroupReader, SerializedFileReader},
    schema::types::SchemaDescriptor,
};
use std::path::Path;

/// Reads a `metrics.parquet`.
///
/// # Errors
/// If the file cannot be read or lacks a column.
pub fn read(path: &Path) -> Result<Metrics, ResultsError> {
    // Read whole: the reader would open the file anew for each column, and tell of a lack of
    // descriptors as if the file were at fault.
    let bytes = std::fs::read(path).map_err(ResultsError::read(path))?;
    let all = || -> Result<Metrics, ParquetError> {
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes))?;
        let columns = reader.metadata().file_metadata().schema_descr();
        let names = |s: &SchemaDescriptor| -> Vec<(String, Physical)> {
            s.columns().iter().map(|c| (c.name().to_owned(), c.physical_type())).collect()
        };
        let expected = names(&SchemaDescriptor::new(schema()?));
        let found = names(columns);
        if found.len() < expected.len() - YOUNG || !expected.starts_with(&found) {
            let names: Vec<_> = expected.iter().map(|(name, _)| name.as_str()).collect();
            return Err(ParquetError::General(format!("the columns must be {}", names.join(", "))));
        }
        let mut rows = Metrics::default();
        for i in 0..reader.num_row_groups() {
            read_group(&*reader.get_row_group(i)?, &mut rows)?;
        }
        Ok(rows)
    };
    all().map_err(|e| {
        ResultsError::malformed(path, format!("not a metrics file of this program: {e}"))
    })
}

/// Columns at the end that files of older programs lack.
const YOUNG: usize = 12;

fn read_group(group: &dyn RowGroupReader, rows: &mut Metrics) -> Result<(), ParquetError> {
    let n = usize::try_from(group.metadata().num_rows())
        .map_err(|e| ParquetError::General(e.to_string()))?;
    for (index, (_, column)) in rows.columns().into_iter().enumerate() {
        match column {
            Column::Whole(cells) => drop(get::<Int64Type>(group, index, n, cells)?),
            Column::Single(cells) => drop(get::<FloatType>(group, index, n, cells)?),
            Column::Double(cells) => drop(get::<DoubleType>(group, index, n, cells)?),
            Column::Optional(cells) if index >= group.num_columns() => {
                cells.resize(cells.len() + n, None);
            }
            Column::Optional(cells) => {
                let mut values = Vec::new();
                let levels = get::<DoubleType>(group, index, n, &mut values)?;
                let mut values = values.into_iter();
                let cell = |&level: &i16| if level == 1 { values.next() } else { None };
                cells.extend(levels.iter().map(cell));
            }
        }
    }
    Ok(())
}

/// Appends a column's values and returns its definition levels (empty for a column without missing
/// values).
fn get<T: DataType>(
    group: &dyn RowGroupReader,
    index: usize,
    rows: usize,
    values: &mut Vec<T::T>,
) -> Result<Vec<i16>, ParquetError> {
    let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
    let mut levels = Vec::new();
    let (records, ..) = reader.read_records(rows, Some(&mut levels), None, values)?;
    if records != rows {
        return Err(ParquetError::General(format!("column {index} has {records} of {rows} rows")));
    }
    Ok(levels)
}
