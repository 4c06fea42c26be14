//! Rows that a checkpoint has in segments of a row file ([`crate::embedding::cached`]) instead of
//! tensors of its own: what is written of them. docs/checkpoints.md describes the files.

use super::{CheckpointError, Form, Shard, Tensor, write::plain, write::write};
use crate::{
    embedding::cached::{RecordLayout, SealedRows},
    model::init::RowInit,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file that says what records hold.
pub(super) const ROWS: &str = "rows.json";
/// What the files are called that say where each row's newest record is.
const PLACES: &str = "rows";

/// What the rows of a tensor begin with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begins {
    /// Each is drawn by its number.
    Drawn(RowInit),
    /// All numbers are this.
    All(f32),
}

impl Begins {
    /// Sets `out` to what row `row` begins with.
    ///
    /// # Panics
    /// If `out` is not as wide as a row that is drawn.
    pub fn fill(&self, row: u64, out: &mut [f32]) {
        match self {
            Begins::Drawn(init) => init.fill(row, out),
            Begins::All(value) => out.fill(*value),
        }
    }
}

/// A tensor whose rows are in records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowTensor {
    /// Its name.
    pub name: String,
    /// What its rows are while they have no record.
    pub begins: Begins,
}

/// The tensors of a column, in the order of a record's fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowColumn {
    /// The column's number, which its records have.
    pub column: u32,
    /// Rows of each of the tensors.
    pub rows: usize,
    /// Their names and initial values.
    pub tensors: Vec<RowTensor>,
}

/// rows.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    /// How records lie in segments.
    pub layout: RecordLayout,
    /// Numbers of the segments.
    pub segments: Vec<u32>,
    /// The columns whose rows are in them.
    pub columns: Vec<RowColumn>,
}

/// The file of a segment.
pub(super) fn segment_name(number: u32) -> String {
    format!("segment-{number:05}.rows")
}

/// The tensor of the places of a column's rows.
pub(super) fn places_name(column: u32) -> String {
    format!("{column}.places")
}

/// Rows that a checkpoint is to refer to.
#[derive(Debug)]
pub struct SavedRows {
    /// Where they are.
    pub sealed: SealedRows,
    /// What they are of: of each column that has places.
    pub columns: Vec<RowColumn>,
}

impl SavedRows {
    /// Whether it has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|c| c.tensors.iter().any(|t| t.name == name))
    }

    /// Puts the segments into a folder, and what they hold and where.
    pub(super) fn put(
        &self,
        folder: &Path,
        shard_bytes: u64,
    ) -> Result<Vec<Shard>, CheckpointError> {
        let SavedRows { sealed, columns } = self;
        let of = |c: &RowColumn| Tensor {
            name: places_name(c.column),
            form: Form::U32,
            shape: vec![c.rows],
        };
        let tensors: Vec<Tensor> = columns.iter().map(of).collect();
        let places: Vec<&[u32]> = sealed.places.iter().flatten().map(Vec::as_slice).collect();
        let mut read = |i: usize, first: usize, out: &mut [f32]| {
            let places = &places[i][first..];
            out.iter_mut().zip(places).for_each(|(o, &place)| *o = f32::from_bits(place));
            Ok(())
        };
        let mut files = write(folder, PLACES, &tensors, shard_bytes, &mut read)?;
        for (number, segment) in &sealed.segments {
            let name = segment_name(*number);
            let path = folder.join(&name);
            let put = segment.put(&path);
            let (bytes, blake3) = put.map_err(|source| CheckpointError::Write { path, source })?;
            files.push(Shard { name, bytes, blake3 });
        }
        let head = Head {
            layout: sealed.layout.clone(),
            segments: sealed.segments.iter().map(|(number, _)| *number).collect(),
            columns: columns.clone(),
        };
        let text = serde_json::to_string_pretty(&head);
        let text =
            text.map_err(|e| CheckpointError::Write { path: folder.join(ROWS), source: e.into() })?;
        files.push(plain(folder, ROWS, (text + "\n").as_bytes())?);
        Ok(files)
    }
}
