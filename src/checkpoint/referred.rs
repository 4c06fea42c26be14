//! Rows that a checkpoint has in segments of a row file: reading them, as the tensors that they are
//! of, or handing the segments to a store that goes on with them.

use super::{
    CheckpointError, Form, Shard, Tensors,
    rows::{Begins, Head, ROWS, RowColumn, places_name, segment_name},
};
use crate::{
    embedding::{
        RowKind,
        cached::{AdoptedRows, Field, Record, RecordLayout, SegmentFile},
    },
    host::MappedFile,
};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

/// The rows that a checkpoint refers to.
#[derive(Debug)]
pub struct ReferredRows {
    head: Head,
    /// What a record holds.
    record: Record,
    /// Each of its fields by itself.
    fields: Vec<Record>,
    /// Bytes of one in a segment.
    bytes: usize,
    /// The segments by their numbers.
    segments: BTreeMap<u32, Segment>,
    /// Where the rows of each column are.
    places: Tensors,
    /// Shape of each tensor, by column and field.
    shapes: Vec<Vec<[usize; 2]>>,
}

#[derive(Debug)]
struct Segment {
    map: MappedFile,
    /// To be had once more, to write beside it.
    file: Arc<SegmentFile>,
}

impl ReferredRows {
    /// Those of the checkpoint in a folder, whose files are what they were; `None` if it refers to
    /// none.
    pub(super) fn open(folder: &Path, files: &[Shard]) -> Result<Option<Self>, CheckpointError> {
        if !files.iter().any(|f| f.name == ROWS) {
            return Ok(None);
        }
        let path = folder.join(ROWS);
        let damaged = |what: String| CheckpointError::Damaged { path: path.clone(), what };
        let unreadable = |source| CheckpointError::Read { path: path.clone(), source };
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let head: Head = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let record = Record::new(head.layout.fields.clone());
        let bytes = head.layout.record_bytes();
        let mut segments = BTreeMap::new();
        for &number in &head.segments {
            let name = segment_name(number);
            let shard = files.iter().find(|f| f.name == name);
            let shard = shard.ok_or_else(|| damaged(format!("names {name}, which is missing")))?;
            let at = folder.join(&name);
            let map = MappedFile::open(&at);
            let file = SegmentFile::open(&at, (shard.bytes, &shard.blake3));
            let both = map.and_then(|map| Ok(Segment { map, file: Arc::new(file?) }));
            let segment =
                both.map_err(|source| CheckpointError::Read { path: at.clone(), source })?;
            segment.map.at_random();
            segments.insert(number, segment);
        }
        let places = files.iter().filter(|f| is_of_places(&f.name)).map(|f| folder.join(&f.name));
        let places = Tensors::open(&places.collect::<Vec<_>>())?;
        let shape = |c: &RowColumn| {
            head.layout.fields.iter().map(|f| [c.rows, f.width]).collect::<Vec<_>>()
        };
        let shapes = head.columns.iter().map(shape).collect();
        let fields = head.layout.fields.iter().map(|&f| Record::new(vec![f])).collect();
        let all = ReferredRows { record, fields, bytes, segments, places, shapes, head };
        all.check().map_err(damaged)?;
        Ok(Some(all))
    }

    /// Whether all places are those of records.
    fn check(&self) -> Result<(), String> {
        let per_segment = self.head.layout.per_segment;
        if per_segment == 0 {
            return Err("has segments without records".to_owned());
        }
        let records = |s: &Segment| (s.map.bytes().len() / self.bytes) as u64;
        let most = self.segments.keys().last().map_or(0, |&n| n as usize + 1);
        let mut used = vec![0; most];
        self.segments.iter().for_each(|(&n, s)| used[n as usize] = records(s));
        for c in &self.head.columns {
            let wrong = || format!("does not say where the rows of column {} are", c.column);
            let fits = |(t, f): (&super::RowTensor, &Field)| match &t.begins {
                Begins::Drawn(init) => init.dim() == f.width,
                Begins::All(_) => true,
            };
            let fields = &self.head.layout.fields;
            if c.tensors.len() != fields.len() || !c.tensors.iter().zip(fields).all(fits) {
                return Err(format!("says what column {} holds, and not in what form", c.column));
            }
            let places = self.places(c).ok_or_else(wrong)?;
            let is_there = |place: u32| {
                let (segment, n) = (place / per_segment, place % per_segment);
                used.get(segment as usize).is_some_and(|&used| u64::from(n) < used)
            };
            if places.len() != c.rows || !places.iter().all(|p| p == 0 || is_there(p - 1)) {
                return Err(wrong());
            }
        }
        Ok(())
    }

    fn places(&self, column: &RowColumn) -> Option<Places<'_>> {
        self.places.numbers(&places_name(column.column)).map(Places)
    }

    /// Names of the tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.head.columns.iter().flat_map(|c| c.tensors.iter().map(|t| t.name.as_str()))
    }

    /// The tensor of a name.
    pub(super) fn get(&self, name: &str) -> Option<RowView<'_>> {
        let columns = self.head.columns.iter().enumerate();
        let (at, field) = columns
            .into_iter()
            .find_map(|(at, c)| Some((at, c.tensors.iter().position(|t| t.name == name)?)))?;
        let column = &self.head.columns[at];
        let places = self.places(column)?;
        Some(RowView { rows: self, shape: &self.shapes[at][field], column, field, places })
    }

    /// How records lie in the segments.
    pub fn layout(&self) -> &RecordLayout {
        &self.head.layout
    }

    /// What the segments hold.
    pub fn columns(&self) -> &[RowColumn] {
        &self.head.columns
    }

    /// All of it for a store of so many columns.
    pub fn adopted(&self, columns: usize) -> AdoptedRows<'_> {
        let mut places: Vec<Option<Vec<u32>>> = vec![None; columns];
        for c in &self.head.columns {
            if let Some(out) = places.get_mut(c.column as usize) {
                *out = self.places(c).map(|places| places.iter().collect());
            }
        }
        let segment = |(&number, s): (&u32, &Segment)| {
            (number, Arc::clone(&s.file), (s.map.bytes().len() / self.bytes) as u32)
        };
        let segments = self.segments.iter().map(segment).collect();
        AdoptedRows { layout: &self.head.layout, segments, places }
    }
}

/// Whether a file says where rows are.
pub(super) fn is_of_places(name: &str) -> bool {
    name == "rows.safetensors" || name.starts_with("rows-") && name.ends_with(".safetensors")
}

/// The places of a column's rows, and one each.
#[derive(Debug, Clone, Copy)]
struct Places<'a>(&'a [u8]);

impl Places<'_> {
    fn len(self) -> usize {
        self.0.len() / 4
    }

    fn at(self, row: usize) -> u32 {
        let b = &self.0[4 * row..][..4];
        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }

    fn iter(self) -> impl Iterator<Item = u32> {
        (0..self.len()).map(move |row| self.at(row))
    }
}

/// A tensor whose rows are in records.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowView<'a> {
    rows: &'a ReferredRows,
    pub shape: &'a [usize; 2],
    column: &'a RowColumn,
    field: usize,
    places: Places<'a>,
}

impl RowView<'_> {
    fn kind(&self) -> RowKind {
        self.rows.record.fields()[self.field].kind
    }

    /// The form of its numbers.
    pub fn form(&self) -> Form {
        match self.kind() {
            RowKind::Bf16 => Form::Bf16,
            RowKind::Fp16 => Form::F16,
            RowKind::Fp32 | RowKind::Bf16Split => Form::F32,
        }
    }

    /// Copies numbers `first..` out.
    pub fn copy(&self, first: usize, out: &mut [f32]) {
        let width = self.shape[1];
        let (mut row, mut bytes) = (vec![0.0; width], Vec::new());
        let mut done = 0;
        while done < out.len() {
            let (number, at) = ((first + done) / width, (first + done) % width);
            let n = (width - at).min(out.len() - done);
            self.read(number, &mut row, &mut bytes);
            out[done..done + n].copy_from_slice(&row[at..at + n]);
            done += n;
        }
    }

    fn read(&self, row: usize, out: &mut [f32], bytes: &mut Vec<u8>) {
        let ReferredRows { head, record, fields, bytes: length, segments, .. } = self.rows;
        let place = self.places.at(row).checked_sub(1);
        let found = place.and_then(|place| {
            let (segment, n) = (place / head.layout.per_segment, place % head.layout.per_segment);
            let all = segments.get(&segment)?.map.bytes();
            RecordLayout::payload(&all[n as usize * length..][..*length])
        });
        match found {
            Some(payload) => record.get(self.field, payload, out),
            None => {
                self.column.tensors[self.field].begins.fill(row as u64, out);
                // In the form in which it is kept.
                let of = &fields[self.field];
                bytes.resize(of.bytes(), 0);
                of.set(0, 0, out, bytes);
                of.get(0, bytes, out);
            }
        }
    }
}
