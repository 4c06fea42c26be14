//! One column of a row group, read piece by piece, whatever type its numbers have.

use crate::{
    batch::Bags,
    data::{
        DataError, dates,
        ids::{EXACT, ToId},
        preprocess::{fields::Words, lines::shown as quoted},
        quiet::caught,
        rows::{RowRef, wrong},
        source::config::DateFeature,
    },
};
use parquet::{
    basic::{ConvertedType, IntType, LogicalType, TimeUnit, Type as Physical},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{BoolType, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type},
    errors::{ParquetError, Result},
    schema::types::ColumnDescriptor,
};
use std::path::Path;

/// Calls into the parquet crate. It looks at most of what it reads, but takes some of it on trust,
/// and a damaged file must not end the program.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    // Whatever was half done is given up with the error.
    caught(call).unwrap_or_else(|| Err(ParquetError::General("the file is damaged".into())))
}

/// Whether `x` is too large to be anything but a hash: a dense value would not be what stands in
/// the file.
pub(super) fn beyond_numbers(x: i64, unsigned: bool) -> bool {
    let magnitude = if unsigned { x as u64 } else { x.unsigned_abs() };
    magnitude > EXACT
}

/// A column that is read.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// Number among all leaves of the file.
    pub index: usize,
    /// Name of the column.
    pub name: String,
    /// Whether it holds lists.
    pub list: bool,
    /// Whether it holds whole numbers without a sign, all bits of which count (pandas' uint32 and
    /// uint64).
    pub unsigned: bool,
    /// What is made of its values.
    pub made: Made,
    /// Words of text that say that a value is missing; `None` = only nothing says so, in dates also
    /// the words that pandas and others have for it.
    pub missing: Option<Words>,
    /// Definition level of a value that is there.
    max_def: i16,
}

/// What is made of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// They are numbers, and stay so.
    Numbers,
    /// They are text.
    Text,
    /// They are dates in this form; a feature of each, or the moment in seconds since 1970.
    Date(Form, Option<DateFeature>),
}

/// How a column holds dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// So many of a unit make a second, since 1970.
    PerSecond(i64),
    /// Days since 1970.
    Days,
    /// Text, or whole numbers as text has them.
    Text,
}

impl Leaf {
    /// Column `index`, described by `d`.
    ///
    /// # Errors
    /// If it holds no numbers, or what a program stores as numbers (a date, a decimal fraction), or
    /// lists of lists.
    pub fn new(
        path: &Path,
        index: usize,
        d: &ColumnDescriptor,
    ) -> std::result::Result<Self, DataError> {
        let name = d.path().parts().first().cloned().unwrap_or_default();
        let refuse = |what: String, advice: &str| {
            let what =
                format!("column {name} {what}; must be numbers, or lists of them for ids{advice}");
            Err(wrong(path, what))
        };
        if !matches!(
            d.physical_type(),
            Physical::BOOLEAN
                | Physical::INT32
                | Physical::INT64
                | Physical::FLOAT
                | Physical::DOUBLE
        ) {
            let text = match is_text(d) {
                true => {
                    " (text is trained on as it is with data.source = \"parquet\", and is no number in other formats)"
                }
                false => "",
            };
            return refuse(format!("is of type {}", d.physical_type()), text);
        }
        if let Some(other) = other_meaning(d) {
            let dates = match Form::of(d) {
                Some(_) => " (--dates, in a workload data.dates, makes features of dates)",
                None => "",
            };
            return refuse(format!("is of type {other}, stored as {}", d.physical_type()), dates);
        }
        let (depth, list) = (d.path().parts().len(), d.max_rep_level() == 1);
        // A list is three levels deep as the format asks for, or two or one as older programs write
        // it.
        if d.max_rep_level() > 1 || depth > 3 || (depth > 1 && !list) {
            return refuse("is nested".to_owned(), "");
        }
        let unsigned = matches!(
            (d.physical_type(), d.converted_type(), d.logical_type_ref()),
            (Physical::INT32, ConvertedType::UINT_32, _)
                | (Physical::INT64, ConvertedType::UINT_64, _)
                | (
                    Physical::INT32,
                    _,
                    Some(LogicalType::Integer(IntType { bit_width: 32, is_signed: false }))
                )
                | (
                    Physical::INT64,
                    _,
                    Some(LogicalType::Integer(IntType { bit_width: 64, is_signed: false }))
                )
        );
        let (made, max_def) = (Made::Numbers, d.max_def_level());
        Ok(Leaf { index, name, list, unsigned, made, missing: None, max_def })
    }

    /// Column `index`, described by `d`, if it is one of text.
    pub fn text(index: usize, d: &ColumnDescriptor) -> Option<Self> {
        let name = is_text(d).then(|| d.path().parts().first().cloned())??;
        let (made, max_def) = (Made::Text, d.max_def_level());
        Some(Leaf { index, name, list: false, unsigned: false, made, missing: None, max_def })
    }

    /// `feature` of column `index`, described by `d`, if it is one of dates; the moment itself where
    /// none is named.
    pub fn date(index: usize, d: &ColumnDescriptor, feature: Option<DateFeature>) -> Option<Self> {
        let plain = d.path().parts().len() == 1 && d.max_rep_level() == 0;
        let form = Form::of(d).filter(|_| plain)?;
        let column = d.path().parts().first()?;
        let name = feature.map_or_else(|| column.clone(), |f| f.column(column));
        let (made, max_def) = (Made::Date(form, feature), d.max_def_level());
        Some(Leaf { index, name, list: false, unsigned: false, made, missing: None, max_def })
    }

    /// Whether it holds text, of categories or dates.
    pub fn is_worded(&self) -> bool {
        matches!(self.made, Made::Text | Made::Date(Form::Text, _))
    }

    /// Rows of the table that the values of a date need; its ids are one more than the feature, 0
    /// where it is missing. `None` of other columns.
    pub fn date_rows(&self) -> Option<u32> {
        match self.made {
            Made::Date(_, Some(feature)) => Some(feature.most() + 2),
            Made::Date(_, None) | Made::Numbers | Made::Text => None,
        }
    }
}

/// Whether a column is one of text, and not of lists of it.
pub(super) fn is_text(d: &ColumnDescriptor) -> bool {
    let text = matches!(d.logical_type_ref(), Some(LogicalType::String | LogicalType::Enum));
    d.path().parts().len() == 1
        && d.physical_type() == Physical::BYTE_ARRAY
        && (text || matches!(d.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM))
}

impl Form {
    /// How the column that `d` describes holds dates, if it may.
    pub fn of(d: &ColumnDescriptor) -> Option<Form> {
        let whole = matches!(d.physical_type(), Physical::INT32 | Physical::INT64);
        match (d.logical_type_ref(), d.converted_type()) {
            _ if is_text(d) => Some(Form::Text),
            (Some(LogicalType::Date), _) | (None, ConvertedType::DATE) => Some(Form::Days),
            (Some(LogicalType::Timestamp(t)), _) => Some(Form::PerSecond(match t.unit {
                TimeUnit::MILLIS => 1_000,
                TimeUnit::MICROS => 1_000_000,
                TimeUnit::NANOS => 1_000_000_000,
            })),
            (None, ConvertedType::TIMESTAMP_MILLIS) => Some(Form::PerSecond(1_000)),
            (None, ConvertedType::TIMESTAMP_MICROS) => Some(Form::PerSecond(1_000_000)),
            (None | Some(LogicalType::Integer(_)), _) if whole && other_meaning(d).is_none() => {
                Some(Form::Text)
            }
            _ => None,
        }
    }
}

/// What the numbers of a column stand for, where that is not the numbers themselves: 125 may be
/// 1.25, or a day.
fn other_meaning(d: &ColumnDescriptor) -> Option<String> {
    let converted = d.converted_type();
    match d.logical_type_ref() {
        // Unknown is a column of nulls.
        None | Some(LogicalType::Integer(_) | LogicalType::Unknown) => {}
        Some(LogicalType::Decimal(_)) => return Some("DECIMAL".into()),
        Some(LogicalType::Date) => return Some("DATE".into()),
        Some(LogicalType::Time(_)) => return Some("TIME".into()),
        Some(LogicalType::Timestamp(_)) => return Some("TIMESTAMP".into()),
        Some(_) if converted == ConvertedType::NONE => return Some("no number".into()),
        Some(_) => return Some(converted.to_string()),
    }
    let whole = matches!(
        converted,
        ConvertedType::NONE
            | ConvertedType::INT_8
            | ConvertedType::INT_16
            | ConvertedType::INT_32
            | ConvertedType::INT_64
            | ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64
    );
    (!whole).then(|| converted.to_string())
}

/// Whether values of the type are fractions.
pub(super) fn fraction(physical: Physical) -> bool {
    matches!(physical, Physical::FLOAT | Physical::DOUBLE)
}

/// A reader of one column of one row group with its buffers.
pub(super) struct Column {
    defs: Vec<i16>,
    reps: Vec<i16>,
    values: Values,
}

enum Values {
    Bool(Typed<BoolType>),
    I32(Typed<Int32Type>),
    I64(Typed<Int64Type>),
    F32(Typed<FloatType>),
    F64(Typed<DoubleType>),
    Bytes(Typed<ByteArrayType>),
    /// Neither numbers nor text; [`Leaf::new`] lets no such column through.
    Other,
}

struct Typed<T: DataType> {
    reader: ColumnReaderImpl<T>,
    buffer: Vec<T::T>,
}

impl<T: DataType> Typed<T> {
    fn new(reader: ColumnReaderImpl<T>) -> Self {
        Typed { reader, buffer: Vec::new() }
    }

    /// Reads `n` rows into the buffer.
    fn read(&mut self, n: usize, defs: &mut Vec<i16>, reps: &mut Vec<i16>) -> Result<usize> {
        self.buffer.clear();
        Ok(self.reader.read_records(n, Some(defs), Some(reps), &mut self.buffer)?.0)
    }
}

/// Calls `$body` with the typed reader.
macro_rules! typed {
    ($values:expr, $t:ident => $body:expr, $other:expr) => {
        match $values {
            Values::Bool($t) => $body,
            Values::I32($t) => $body,
            Values::I64($t) => $body,
            Values::F32($t) => $body,
            Values::F64($t) => $body,
            Values::Bytes($t) => $body,
            Values::Other => $other,
        }
    };
}

impl Column {
    /// Takes over the reader of a row group's column.
    pub fn new(reader: ColumnReader) -> Self {
        let values = match reader {
            ColumnReader::BoolColumnReader(r) => Values::Bool(Typed::new(r)),
            ColumnReader::Int32ColumnReader(r) => Values::I32(Typed::new(r)),
            ColumnReader::Int64ColumnReader(r) => Values::I64(Typed::new(r)),
            ColumnReader::FloatColumnReader(r) => Values::F32(Typed::new(r)),
            ColumnReader::DoubleColumnReader(r) => Values::F64(Typed::new(r)),
            ColumnReader::ByteArrayColumnReader(r) => Values::Bytes(Typed::new(r)),
            _ => Values::Other,
        };
        Column { defs: Vec::new(), reps: Vec::new(), values }
    }

    /// Passes over `skip` rows, and reads the next `n` into the buffers.
    ///
    /// # Errors
    /// If the file is damaged, or there are not as many.
    pub fn advance(&mut self, skip: usize, n: usize) -> Result<()> {
        let short = || ParquetError::General("it ends early".into());
        guarded(|| {
            if skip > 0 && typed!(&mut self.values, t => t.reader.skip_records(skip)?, 0) != skip {
                return Err(short());
            }
            self.defs.clear();
            self.reps.clear();
            let (defs, reps) = (&mut self.defs, &mut self.reps);
            let read = typed!(&mut self.values, t => t.read(n, defs, reps)?, 0);
            if read == n { Ok(()) } else { Err(short()) }
        })
    }

    /// The rows read last as numbers, to every `stride`-th place of `out`; NaN where null. `place`
    /// tells the place of a row.
    ///
    /// # Errors
    /// If a whole number is beyond those that a fraction of 64 bits holds.
    pub fn numbers<'a>(
        &self,
        leaf: &Leaf,
        out: &mut [f64],
        stride: usize,
        place: impl Fn(usize) -> RowRef<'a>,
    ) -> std::result::Result<(), DataError> {
        if let Made::Date(form, feature) = leaf.made {
            return self.dates(leaf, form, out.len().div_ceil(stride), place, |row, moment| {
                let number = |seconds| feature.map_or(seconds, |f| f.of(seconds)) as f64;
                out[row * stride] = moment.map_or(f64::NAN, number);
            });
        }
        if let Values::I64(t) = &self.values
            && let Some(at) = t.buffer.iter().position(|&x| beyond_numbers(x, leaf.unsigned))
        {
            // The row of this value: as many before it have one.
            let there = |(_, def): &(usize, &i16)| leaf.max_def == 0 || **def == leaf.max_def;
            let row = self.defs.iter().enumerate().filter(there).nth(at).map_or(at, |(row, _)| row);
            let x = t.buffer[at];
            let x = if leaf.unsigned { (x as u64).to_string() } else { x.to_string() };
            let name = &leaf.name;
            let what = format!(
                "column {name} is {x}; must be at most 2^53 in magnitude as a dense value; hashes are ids (--categorical {name}, \
                 --max-ind-range N; in a workload data.categorical, data.max_ind_range)"
            );
            return Err(place(row).error(what));
        }
        let out = out.iter_mut().step_by(stride);
        match &self.values {
            Values::Bool(t) => self.spread(leaf, &t.buffer, out, |x| f64::from(u8::from(x))),
            Values::I32(t) if leaf.unsigned => {
                self.spread(leaf, &t.buffer, out, |x| f64::from(x as u32))
            }
            Values::I32(t) => self.spread(leaf, &t.buffer, out, f64::from),
            // No number with another sign is left.
            Values::I64(t) => self.spread(leaf, &t.buffer, out, |x| x as f64),
            Values::F32(t) => self.spread(leaf, &t.buffer, out, f64::from),
            Values::F64(t) => self.spread(leaf, &t.buffer, out, |x| x),
            Values::Bytes(_) | Values::Other => {}
        }
        Ok(())
    }

    /// The moments of the `n` rows read last, in seconds since 1970, to `take`.
    fn dates<'a>(
        &self,
        leaf: &Leaf,
        form: Form,
        n: usize,
        place: impl Fn(usize) -> RowRef<'a>,
        mut take: impl FnMut(usize, Option<i64>),
    ) -> std::result::Result<(), DataError> {
        let moment = |x: i64| match form {
            Form::PerSecond(unit) => Some(x.div_euclid(unit)),
            Form::Days => x.checked_mul(86_400),
            Form::Text => dates::of_number(x),
        };
        let whole = |x: i64| moment(x).ok_or_else(|| x.to_string());
        let usual = Words::new(None);
        let words = leaf.missing.as_ref().unwrap_or(&usual);
        let mut values = 0;
        for row in 0..n {
            if leaf.max_def > 0 && self.defs.get(row).is_some_and(|&def| def != leaf.max_def) {
                take(row, None);
                continue;
            }
            // What is there, or how it is shown.
            let found = match &self.values {
                Values::I32(t) => t.buffer.get(values).map(|&x| whole(x.into()).map(Some)),
                Values::I64(t) => t.buffer.get(values).map(|&x| whole(x).map(Some)),
                Values::Bytes(t) => t.buffer.get(values).map(|text| match text.data() {
                    text if words.missing(text) => Ok(None),
                    text => dates::parse(text).map(Some).ok_or_else(|| quoted(text)),
                }),
                _ => None,
            };
            let Some(found) = found else { break };
            values += 1;
            let found = found.map_err(|shown| {
                let name = &leaf.name;
                let what = format!("column {name} is {shown}; must be {}", dates::FORMS);
                place(row).error(what)
            });
            take(row, found?);
        }
        Ok(())
    }

    /// The texts of the rows read last, to `take`; `None` where null, or where a word says so.
    pub fn texts(&self, leaf: &Leaf, mut take: impl FnMut(Option<&[u8]>)) {
        let Values::Bytes(t) = &self.values else { return };
        let mut values = t.buffer.iter().map(|text| {
            let missing = leaf.missing.as_ref().is_some_and(|words| words.missing(text.data()));
            Some(text.data()).filter(|_| !missing)
        });
        if self.plain(leaf, t.buffer.len()) {
            values.for_each(take);
            return;
        }
        for &def in &self.defs {
            take(if def == leaf.max_def { values.next().flatten() } else { None });
        }
    }

    fn spread<'a, V: Copy>(
        &self,
        leaf: &Leaf,
        values: &[V],
        out: impl Iterator<Item = &'a mut f64>,
        to: impl Fn(V) -> f64,
    ) {
        // Nothing is null.
        if leaf.max_def == 0 || values.len() == self.defs.len() {
            out.zip(values).for_each(|(o, &v)| *o = to(v));
            return;
        }
        let mut values = values.iter();
        for (o, &def) in out.zip(&self.defs) {
            *o = match def == leaf.max_def {
                true => values.next().map_or(f64::NAN, |&v| to(v)),
                false => f64::NAN,
            };
        }
    }

    /// The rows read last as bags of ids, appended to `bags`; none where null. `place` tells the
    /// place of a row, `to` makes ids of the numbers.
    pub fn ids<'a>(
        &self,
        leaf: &Leaf,
        to: ToId,
        bags: &mut Bags,
        place: impl Fn(usize) -> RowRef<'a>,
    ) -> std::result::Result<(), DataError> {
        if let Made::Date(form, feature) = leaf.made {
            let rows = if self.defs.is_empty() {
                typed!(&self.values, t => t.buffer.len(), 0)
            } else {
                self.defs.len()
            };
            return self.dates(leaf, form, rows, place, |_, moment| {
                bags.push(moment.map(|s| feature.map_or(0, |f| f.of(s) as u32 + 1)));
            });
        }
        let ToId { offset, range, .. } = to;
        let id = |row: usize, x: i64| place(row).id(&leaf.name, to.whole(x, leaf.unsigned));
        let some = |row: usize, x: i64| id(row, x).map(Some);
        let narrow = |row: usize, x: i32| {
            let x = i64::from(x);
            place(row).id(&leaf.name, to.narrow(x, 4)).map(Some)
        };
        let fraction = |row: usize, x: f64| place(row).id(&leaf.name, to.fraction(x));
        match &self.values {
            Values::I64(t)
                if self.plain(leaf, t.buffer.len())
                    && t.buffer.iter().fold(0, |all, &x| all | x.wrapping_sub(offset)) >> 32
                        == 0 =>
            {
                // All are ids, as one look at all of them has shown: the loop has no branch.
                let start = bags.indices.len();
                bags.indices.extend(t.buffer.iter().map(|&x| x.wrapping_sub(offset) as u32));
                bags.offsets.extend(start as u32 + 1..=(start + t.buffer.len()) as u32);
                if let Some(range) = range {
                    bags.indices[start..].iter_mut().for_each(|id| *id %= range);
                }
                Ok(())
            }
            Values::Bool(t) => self.gather(leaf, &t.buffer, bags, |r, x| some(r, i64::from(x))),
            Values::I32(t) if leaf.unsigned => {
                self.gather(leaf, &t.buffer, bags, |r, x| some(r, i64::from(x as u32)))
            }
            Values::I32(t) => self.gather(leaf, &t.buffer, bags, narrow),
            Values::I64(t) => self.gather(leaf, &t.buffer, bags, some),
            Values::F32(t) => self.gather(leaf, &t.buffer, bags, |r, x| fraction(r, f64::from(x))),
            Values::F64(t) => self.gather(leaf, &t.buffer, bags, fraction),
            Values::Bytes(_) | Values::Other => Ok(()),
        }
    }

    /// Whether each of the rows read last has one of the `values`.
    fn plain(&self, leaf: &Leaf, values: usize) -> bool {
        leaf.max_def == 0 || (!leaf.list && values == self.defs.len())
    }

    fn gather<V: Copy>(
        &self,
        leaf: &Leaf,
        values: &[V],
        bags: &mut Bags,
        id: impl Fn(usize, V) -> std::result::Result<Option<u64>, DataError>,
    ) -> std::result::Result<(), DataError> {
        if self.plain(leaf, values.len()) {
            bags.indices.reserve(values.len());
            bags.offsets.reserve(values.len());
            for (row, &v) in values.iter().enumerate() {
                bags.push_keys(id(row, v)?);
            }
            return Ok(());
        }
        // A level with repetition 0 begins a row; one of the full definition level has a value.
        let mut values = values.iter();
        let mut row = 0;
        for (i, &def) in self.defs.iter().enumerate() {
            if i > 0 && (!leaf.list || self.reps.get(i) == Some(&0)) {
                bags.push([]);
                row += 1;
            }
            if def == leaf.max_def
                && let Some(&v) = values.next()
            {
                bags.extend_keys(id(row, v)?);
            }
        }
        if !self.defs.is_empty() {
            bags.push([]);
        }
        Ok(())
    }
}
