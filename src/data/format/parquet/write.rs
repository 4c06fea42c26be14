//! Writing of parquet files.

use super::{super::Writer, table::one_line};
use crate::{
    batch::Bags,
    data::{
        DataError,
        rows::{Hotness, Layout, Numbers, Rows, io, wrong},
    },
};
use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    data_type::{DataType, DoubleType, FloatType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{Type, TypePtr},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Rows of a row group: 20 MB of Criteo's columns in memory, and enough groups in a file for their
/// order to be shuffled.
const ROW_GROUP: usize = 1 << 16;

/// Writes a file, compressed by Snappy as pyarrow, Spark and Petastorm have it.
pub struct ParquetWriter {
    path: PathBuf,
    file: SerializedFileWriter<File>,
    layout: Layout,
    waiting: Rows,
}

impl ParquetWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be written, or two columns have one name.
    pub fn create(path: &Path, layout: &Layout) -> Result<Self, DataError> {
        layout.check_names(path)?;
        let file = File::create(path).map_err(io(path))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let schema = schema(layout).map_err(|e| wrong(path, one_line(&e)))?;
        let file = SerializedFileWriter::new(file, schema, Arc::new(properties))
            .map_err(|e| wrong(path, one_line(&e)))?;
        Ok(ParquetWriter {
            path: path.to_owned(),
            file,
            layout: layout.clone(),
            waiting: Rows::new(layout),
        })
    }

    /// Writes the rows that wait as a row group.
    pub(crate) fn spill(&mut self) -> Result<(), DataError> {
        let written = put_group(&mut self.file, &self.layout, &self.waiting);
        self.waiting.clear();
        written.map_err(|e| wrong(&self.path, format!("cannot be written: {}", one_line(&e))))
    }
}

impl Writer for ParquetWriter {
    fn write(&mut self, rows: &Rows) -> Result<(), DataError> {
        let all = &mut self.waiting;
        all.labels.extend_from_slice(&rows.labels);
        all.dense.extend_from_slice(&rows.dense);
        for (to, from) in all.ids.iter_mut().zip(&rows.ids) {
            (0..rows.len()).for_each(|i| to.push(from.bag(i).iter().copied()));
        }
        if all.len() >= ROW_GROUP { self.spill() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<(), DataError> {
        if !self.waiting.is_empty() {
            self.spill()?;
        }
        let ParquetWriter { path, file, .. } = *self;
        file.close()
            .map(drop)
            .map_err(|e| wrong(&path, format!("cannot be written: {}", one_line(&e))))
    }
}

fn schema(layout: &Layout) -> Result<TypePtr, ParquetError> {
    let plain = |name: &str, physical, repetition| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .build()
            .map(Arc::new)
    };
    let dense = match layout.numbers {
        Numbers::Int32 => Physical::INT32,
        Numbers::Float32 => Physical::FLOAT,
        Numbers::Float64 => Physical::DOUBLE,
    };
    let mut fields = vec![plain(&layout.label, Physical::FLOAT, Repetition::REQUIRED)?];
    for name in &layout.dense {
        fields.push(plain(name, dense, Repetition::OPTIONAL)?);
    }
    for column in &layout.ids {
        fields.push(match column.hotness {
            Hotness::One => plain(&column.name, Physical::INT64, Repetition::OPTIONAL)?,
            // Three levels, as the format's specification asks for: the list, its entries, an
            // entry.
            Hotness::Fixed(_) | Hotness::Any => {
                let entry = plain("element", Physical::INT64, Repetition::REQUIRED)?;
                let entries = Type::group_type_builder("list")
                    .with_repetition(Repetition::REPEATED)
                    .with_fields(vec![entry])
                    .build()?;
                let list =
                    Type::group_type_builder(&column.name).with_repetition(Repetition::REQUIRED);
                Arc::new(
                    list.with_logical_type(Some(LogicalType::List))
                        .with_fields(vec![Arc::new(entries)])
                        .build()?,
                )
            }
        });
    }
    Ok(Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?))
}

fn put_group(
    file: &mut SerializedFileWriter<File>,
    layout: &Layout,
    rows: &Rows,
) -> Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    put::<FloatType>(&mut group, &rows.labels, None, None)?;
    let width = layout.dense.len();
    for k in 0..width {
        let column = rows.dense.iter().skip(k).step_by(width);
        let there: Vec<i16> = column.clone().map(|x| i16::from(!x.is_nan())).collect();
        let values = column.copied().filter(|x| !x.is_nan());
        match layout.numbers {
            Numbers::Int32 => put::<Int32Type>(
                &mut group,
                &values.map(|x| x as i32).collect::<Vec<_>>(),
                Some(&there),
                None,
            )?,
            Numbers::Float32 => put::<FloatType>(
                &mut group,
                &values.map(|x| x as f32).collect::<Vec<_>>(),
                Some(&there),
                None,
            )?,
            Numbers::Float64 => {
                put::<DoubleType>(&mut group, &values.collect::<Vec<_>>(), Some(&there), None)?
            }
        }
    }
    for (column, bags) in layout.ids.iter().zip(&rows.ids) {
        match column.hotness {
            Hotness::One => {
                let there: Vec<i16> =
                    (0..rows.len()).map(|i| i16::from(!bags.bag(i).is_empty())).collect();
                let values: Vec<i64> = (0..rows.len())
                    .filter_map(|i| bags.bag(i).first().copied().map(i64::from))
                    .collect();
                put::<Int64Type>(&mut group, &values, Some(&there), None)?;
            }
            Hotness::Fixed(_) | Hotness::Any => {
                let values: Vec<i64> = bags.indices.iter().copied().map(i64::from).collect();
                let (defs, reps) = levels(bags, rows.len());
                put::<Int64Type>(&mut group, &values, Some(&defs), Some(&reps))?;
            }
        }
    }
    group.close().map(drop)
}

/// Definition and repetition levels of lists: an empty one has a single level of its own.
fn levels(bags: &Bags, n: usize) -> (Vec<i16>, Vec<i16>) {
    let (mut defs, mut reps) =
        (Vec::with_capacity(bags.indices.len()), Vec::with_capacity(bags.indices.len()));
    for i in 0..n {
        match bags.bag(i).len() {
            0 => {
                defs.push(0);
                reps.push(0);
            }
            many => {
                defs.extend(std::iter::repeat_n(1, many));
                reps.extend((0..many).map(|k| i16::from(k > 0)));
            }
        }
    }
    (defs, reps)
}

fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    defs: Option<&[i16]>,
    reps: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
    column.typed::<T>().write_batch(values, defs, reps)?;
    column.close()
}
