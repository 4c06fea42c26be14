//! Predictions in a file, row by row: `label` and `prediction`, in the order of the samples, as csv or
//! parquet.

use crate::host::atomic_file::{publish, waiting};
use parquet::{
    basic::{Compression, Repetition, Type as Physical},
    data_type::FloatType,
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Rows that go to a parquet file together.
const ROW_GROUP: usize = 1 << 20;

/// The columns, in order.
const COLUMNS: [&str; 2] = ["label", "prediction"];

/// A file of predictions, which takes its name when it is whole.
pub struct Predictions {
    path: PathBuf,
    waiting: PathBuf,
    to: To,
}

enum To {
    Csv(BufWriter<File>),
    Parquet { file: Box<SerializedFileWriter<File>>, rows: [Vec<f32>; 2] },
}

impl Predictions {
    /// Will write to `path`, in the format of its ending.
    ///
    /// # Errors
    /// If the ending is of no format, or the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let ending = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
        let parquet = match ending.as_deref() {
            Some("csv") => false,
            Some("parquet") => true,
            _ => {
                let what = "must end in .csv or .parquet, which says the format";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        };
        let waiting = waiting(path);
        let file = File::create(&waiting)?;
        let to = if parquet {
            let field = |name| {
                let field = Type::primitive_type_builder(name, Physical::FLOAT);
                Ok(Arc::new(field.with_repetition(Repetition::REQUIRED).build()?))
            };
            let fields = COLUMNS.into_iter().map(field).collect::<Result<Vec<_>, ParquetError>>();
            let schema = fields
                .and_then(|f| Type::group_type_builder("predictions").with_fields(f).build())
                .map_err(io::Error::other)?;
            let properties =
                WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            let file = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
                .map_err(io::Error::other)?;
            To::Parquet { file: Box::new(file), rows: Default::default() }
        } else {
            let mut file = BufWriter::new(file);
            writeln!(file, "{}", COLUMNS.join(","))?;
            To::Csv(file)
        };
        Ok(Predictions { path: path.to_owned(), waiting, to })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn add(&mut self, predictions: &[f32], labels: &[f32]) -> io::Result<()> {
        match &mut self.to {
            To::Csv(file) => labels
                .iter()
                .zip(predictions)
                // The shortest decimals that are these f32.
                .try_for_each(|(label, prediction)| writeln!(file, "{label},{prediction}")),
            To::Parquet { file, rows } => {
                rows[0].extend_from_slice(labels);
                rows[1].extend_from_slice(predictions);
                if rows[0].len() >= ROW_GROUP { spill(file, rows) } else { Ok(()) }
            }
        }
    }

    /// Writes what is left, and puts the file in its place.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        match &mut self.to {
            To::Csv(file) => file.flush()?,
            To::Parquet { file, rows } => {
                spill(file, rows)?;
                file.finish().map_err(io::Error::other)?;
            }
        }
        publish(&self.waiting, &self.path)
    }
}

fn spill(file: &mut SerializedFileWriter<File>, rows: &mut [Vec<f32>; 2]) -> io::Result<()> {
    let mut put = || -> Result<(), ParquetError> {
        let mut group = file.next_row_group()?;
        for values in rows.iter_mut() {
            if let Some(mut column) = group.next_column()? {
                column.typed::<FloatType>().write_batch(values, None, None)?;
                column.close()?;
            }
            values.clear();
        }
        group.close().map(|_| ())
    };
    put().map_err(io::Error::other)
}

impl Drop for Predictions {
    fn drop(&mut self) {
        // Once published it has another name.
        let _ = fs::remove_file(&self.waiting);
    }
}
