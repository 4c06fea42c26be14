//! Tensors in files of safetensors (huggingface/safetensors), mapped: a header in JSON, then the
//! numbers of all tensors one behind another. The crate reads the header.

use super::{CheckpointError, ReferredRows, changed_name, referred::RowView, rows_name};
use crate::host::MappedFile;
use safetensors::{Dtype, SafeTensors};
use std::{collections::BTreeMap, ops::Range, path::PathBuf};

/// How numbers are kept in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// f32.
    F32,
    /// bf16: all numbers are such.
    Bf16,
    /// f16: all numbers are such.
    F16,
    /// u32, for numbers of rows; in memory an f32 of the same bits.
    U32,
}

impl Form {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Form::F32 | Form::U32 => 4,
            Form::Bf16 | Form::F16 => 2,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Form::F32 => "F32",
            Form::Bf16 => "BF16",
            Form::F16 => "F16",
            Form::U32 => "U32",
        }
    }

    fn of(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::F32 => Form::F32,
            Dtype::BF16 => Form::Bf16,
            Dtype::F16 => Form::F16,
            Dtype::U32 => Form::U32,
            _ => return None,
        })
    }

    pub(super) fn put(self, values: &[f32], bytes: &mut Vec<u8>) {
        bytes.resize(values.len() * self.bytes(), 0);
        let pairs = bytes.chunks_exact_mut(self.bytes()).zip(values);
        match self {
            Form::F32 | Form::U32 => {
                pairs.for_each(|(b, v)| b.copy_from_slice(&v.to_bits().to_le_bytes()))
            }
            Form::Bf16 => {
                pairs.for_each(|(b, &v)| b.copy_from_slice(&half::bf16::from_f32(v).to_le_bytes()))
            }
            Form::F16 => {
                pairs.for_each(|(b, &v)| b.copy_from_slice(&half::f16::from_f32(v).to_le_bytes()))
            }
        }
    }

    fn take(self, bytes: &[u8], out: &mut [f32]) {
        let two = |b: &[u8]| [b[0], b[1]];
        match self {
            Form::F32 | Form::U32 => {
                out.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(o, b)| {
                    *o = f32::from_bits(u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                })
            }
            Form::Bf16 => out
                .iter_mut()
                .zip(bytes.chunks_exact(2))
                .for_each(|(o, b)| *o = half::bf16::from_le_bytes(two(b)).to_f32()),
            Form::F16 => out
                .iter_mut()
                .zip(bytes.chunks_exact(2))
                .for_each(|(o, b)| *o = half::f16::from_le_bytes(two(b)).to_f32()),
        }
    }
}

/// A tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// How it is kept.
    pub form: Form,
    /// Its dimensions; the numbers are row-major.
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Numbers.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.len() * self.form.bytes()) as u64
    }
}

/// Tensors in files, mapped, or read from files of other formats.
#[derive(Debug, Default)]
pub struct Tensors {
    files: Vec<Bytes>,
    places: BTreeMap<String, Place>,
    /// Those that are in records of a row file.
    rows: Option<Box<ReferredRows>>,
}

/// The bytes of a file.
#[derive(Debug)]
enum Bytes {
    Mapped(MappedFile),
    /// Numbers of f32 that were read from elsewhere.
    Owned(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map.bytes(),
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// Where a tensor is.
#[derive(Debug)]
struct Place {
    file: usize,
    form: Form,
    shape: Vec<usize>,
    /// Of its first byte.
    at: usize,
    /// The rows that are to be read elsewhere.
    changed: Option<Changed>,
}

/// Rows of a tensor that another one has.
#[derive(Debug)]
struct Changed {
    /// The bytes of their numbers, ascending.
    rows: Range<usize>,
    /// The bytes of what is in them.
    values: Range<usize>,
    file: [usize; 2],
}

impl Tensors {
    /// Maps files of safetensors, whoever wrote them. Tensors of other types than f32, bf16, f16
    /// and u32 are passed over.
    ///
    /// # Errors
    /// If a file cannot be read or is none.
    pub fn open(paths: &[PathBuf]) -> Result<Self, CheckpointError> {
        let mut all = Tensors::default();
        for path in paths {
            let map = MappedFile::open(path)
                .map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
            let no_tensors = |e: &dyn std::fmt::Display| CheckpointError::Damaged {
                path: path.clone(),
                what: format!("is no whole file of safetensors: {e}"),
            };
            let (header, metadata) =
                SafeTensors::read_metadata(map.bytes()).map_err(|e| no_tensors(&e))?;
            for (name, info) in metadata.tensors() {
                let (begin, end) = info.data_offsets;
                let Some(form) = Form::of(info.dtype) else { continue };
                let at = 8 + header + begin;
                if 8 + header + end > map.bytes().len() {
                    return Err(no_tensors(&format!("{name} ends behind it")));
                }
                let (shape, file) = (info.shape.clone(), all.files.len());
                all.places.insert(name, Place { file, form, shape, at, changed: None });
            }
            all.files.push(Bytes::Mapped(map));
        }
        Ok(all)
    }

    /// Adds a tensor of f32 that was read from elsewhere.
    pub(super) fn add(&mut self, name: String, shape: Vec<usize>, values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let file = self.files.len();
        self.files.push(Bytes::Owned(bytes));
        self.places.insert(name, Place { file, form: Form::F32, shape, at: 0, changed: None });
    }

    /// Adds the bytes of a file; its number for [`Tensors::place`].
    pub(super) fn map(&mut self, file: MappedFile) -> usize {
        self.files.push(Bytes::Mapped(file));
        self.files.len() - 1
    }

    /// Adds a tensor whose numbers are in a file from byte `at` on; `false` if the file ends before
    /// them.
    pub(super) fn place(
        &mut self,
        name: String,
        file: usize,
        form: Form,
        shape: Vec<usize>,
        at: usize,
    ) -> bool {
        let bytes = shape.iter().try_fold(form.bytes(), |n, &d| n.checked_mul(d));
        let end = bytes.and_then(|n| n.checked_add(at));
        if end.is_none_or(|end| end > self.files[file].all().len()) {
            return false;
        }
        self.places.insert(name, Place { file, form, shape, at, changed: None });
        true
    }

    /// Takes a tensor out.
    pub(super) fn remove(&mut self, name: &str) {
        self.places.remove(name);
    }

    /// Names of all tensors, but for those of whole numbers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let of_numbers = self.places.iter().filter(|(_, place)| place.form != Form::U32);
        let in_rows = self.rows.iter().flat_map(|rows| rows.names());
        of_numbers.map(|(name, _)| name.as_str()).chain(in_rows)
    }

    /// Adds the tensors of a row file's records.
    ///
    /// # Errors
    /// If there is one of a name already.
    pub(super) fn refer(&mut self, rows: ReferredRows) -> Result<(), String> {
        if let Some(twice) = rows.names().find(|name| self.places.contains_key(*name)) {
            return Err(format!("has the tensor {twice} twice"));
        }
        self.rows = Some(Box::new(rows));
        Ok(())
    }

    /// The rows that are in records of a row file, if some are.
    pub fn referred(&self) -> Option<&ReferredRows> {
        self.rows.as_deref()
    }

    /// The bytes of a tensor of whole numbers.
    pub(super) fn numbers(&self, name: &str) -> Option<&[u8]> {
        let place = self.places.get(name).filter(|place| place.form == Form::U32)?;
        let len: usize = place.shape.iter().product();
        self.files[place.file].all().get(place.at..place.at + 4 * len)
    }

    /// A tensor; `None` if there is none of that name, or it is one of whole numbers: their bits
    /// are no parameters.
    pub fn get(&self, name: &str) -> Option<View<'_>> {
        if let Some(rows) = self.rows.as_ref().and_then(|rows| rows.get(name)) {
            let (form, shape) = (rows.form(), &rows.shape[..]);
            return Some(View { form, shape, bytes: &[], changed: None, rows: Some(rows) });
        }
        let place = self.places.get(name).filter(|place| place.form != Form::U32)?;
        let Place { file, form, shape, at, changed } = place;
        let len: usize = shape.iter().product();
        let bytes = &self.files[*file].all()[*at..][..len * form.bytes()];
        let changed =
            changed.as_ref().map(|Changed { rows, values, file: [of_rows, of_values] }| {
                let rows = &self.files[*of_rows].all()[rows.clone()];
                ChangedRows { rows, values: &self.files[*of_values].all()[values.clone()] }
            });
        Some(View { form: *form, shape, bytes, changed, rows: None })
    }

    /// Adds the tensors of a base that these are the changes of: of each of the base's that has
    /// changed rows here ([`super::changes`]) these are read here.
    ///
    /// # Errors
    /// If they are no rows of the base in ascending order, with a value for each number.
    pub(super) fn over(&mut self, base: Tensors) -> Result<(), String> {
        let first = self.files.len();
        self.files.extend(base.files);
        for (name, mut place) in base.places {
            place.file += first;
            let (rows, values) = (rows_name(&name), changed_name(&name));
            if let (Some(rows), Some(values)) =
                (self.places.remove(&rows), self.places.remove(&values))
            {
                let n = rows.shape.iter().product::<usize>();
                let cols = place.shape.iter().skip(1).product::<usize>();
                let wrong = || format!("the changed rows of {name} are no rows of its base");
                let fits = rows.form == Form::U32
                    && values.form == place.form
                    && values.shape.first() == Some(&n)
                    && values.shape.get(1..) == place.shape.get(1..);
                if !fits {
                    return Err(wrong());
                }
                let changed = Changed {
                    rows: rows.at..rows.at + 4 * n,
                    values: values.at..values.at + n * cols * values.form.bytes(),
                    file: [rows.file, values.file],
                };
                let all = &self.files[rows.file].all()[changed.rows.clone()];
                let ascending = (1..n).all(|k| row_at(all, k - 1) < row_at(all, k));
                let last = n.checked_sub(1).map(|k| row_at(all, k));
                if !ascending || last.is_some_and(|row| Some(&row) >= place.shape.first()) {
                    return Err(wrong());
                }
                place.changed = Some(changed);
            }
            self.places.entry(name).or_insert(place);
        }
        Ok(())
    }
}

/// Number `k` of a list of rows.
fn row_at(rows: &[u8], k: usize) -> usize {
    let b = &rows[4 * k..][..4];
    u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize
}

/// A tensor of a file.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// How it is kept.
    pub form: Form,
    /// Its dimensions.
    pub shape: &'a [usize],
    bytes: &'a [u8],
    changed: Option<ChangedRows<'a>>,
    /// Where its rows are, if they are in records.
    rows: Option<RowView<'a>>,
}

/// Rows that are read elsewhere.
#[derive(Debug, Clone, Copy)]
struct ChangedRows<'a> {
    rows: &'a [u8],
    values: &'a [u8],
}

impl View<'_> {
    /// Copies numbers `first..` out.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn copy(&self, first: usize, out: &mut [f32]) {
        if let Some(rows) = &self.rows {
            return rows.copy(first, out);
        }
        let width = self.form.bytes();
        self.form.take(&self.bytes[first * width..][..out.len() * width], out);
        let Some(ChangedRows { rows, values }) = self.changed.filter(|_| !out.is_empty()) else {
            return;
        };
        let (n, cols) = (rows.len() / 4, self.shape[1..].iter().product::<usize>());
        let end = first + out.len();
        let begin = partition(n, |k| row_at(rows, k) < first / cols);
        for k in begin..n {
            let row = row_at(rows, k);
            // It may reach over either end.
            let (from, to) = ((row * cols).max(first), ((row + 1) * cols).min(end));
            if from >= to {
                break;
            }
            let at = (k * cols + from - row * cols) * width;
            let part = &mut out[from - first..to - first];
            self.form.take(&values[at..][..part.len() * width], part);
        }
    }

    /// Numbers of the rows that were changed since the base, ascending; none if there is no base.
    pub fn changed_rows(&self) -> impl Iterator<Item = u32> {
        let rows = self.changed.map_or(&[][..], |changed| changed.rows);
        (0..rows.len() / 4).map(|k| row_at(rows, k) as u32)
    }
}

/// The first of `0..n` for which `before` does not hold; it holds for none behind that.
fn partition(n: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::{
        super::write::{write, write_file},
        *,
    };
    use proptest::prelude::*;

    fn form() -> impl Strategy<Value = Form> {
        prop::sample::select(vec![Form::F32, Form::Bf16, Form::F16])
    }

    /// A number that every form keeps.
    fn number(tensor: usize, at: usize) -> f32 {
        ((tensor * 31 + at * 7) % 256) as f32 - 128.0
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// What is written comes back, in one file or several, and the crate agrees.
        #[test]
        fn tensors_come_back(
            shapes in prop::collection::vec((form(), prop::collection::vec(0usize..9, 0..3)), 0..7),
            most in 1u64..300,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let tensors: Vec<Tensor> = shapes
                .into_iter()
                .enumerate()
                .map(|(i, (form, shape))| Tensor { name: format!("t.{i}"), form, shape })
                .collect();
            let mut read = |i: usize, first: usize, out: &mut [f32]| {
                out.iter_mut().enumerate().for_each(|(k, o)| *o = number(i, first + k));
                Ok(())
            };
            let shards = write(dir.path(), "model", &tensors, most, &mut read).unwrap();
            for shard in &shards {
                let bytes = std::fs::read(dir.path().join(&shard.name)).unwrap();
                prop_assert_eq!(bytes.len() as u64, shard.bytes);
                prop_assert_eq!(blake3::hash(&bytes).to_hex().to_string(), shard.blake3.clone());
            }
            let paths: Vec<PathBuf> = shards
                .iter()
                .filter(|s| s.name.ends_with(".safetensors"))
                .map(|s| dir.path().join(&s.name))
                .collect();
            prop_assert!(paths.len() == 1 || shards.len() == paths.len() + 1);
            let all = Tensors::open(&paths).unwrap();
            prop_assert_eq!(all.names().count(), tensors.len());
            for (i, tensor) in tensors.iter().enumerate() {
                let view = all.get(&tensor.name).unwrap();
                prop_assert_eq!((view.form, view.shape), (tensor.form, &tensor.shape[..]));
                let first = tensor.len() / 2;
                let mut values = vec![0.0; tensor.len() - first];
                view.copy(first, &mut values);
                let want: Vec<f32> = (first..tensor.len()).map(|at| number(i, at)).collect();
                prop_assert_eq!(values, want);
            }
            for path in &paths {
                let bytes = std::fs::read(path).unwrap();
                prop_assert!(SafeTensors::deserialize(&bytes).is_ok());
                // A file that ends early is no whole one.
                if bytes.len() > 9 {
                    std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
                    let cut = Tensors::open(std::slice::from_ref(path));
                    prop_assert!(matches!(cut, Err(CheckpointError::Damaged { .. })), "{:?}", cut);
                }
            }
        }
    }

    #[test]
    fn whole_numbers_are_no_parameters() {
        let dir = tempfile::tempdir().unwrap();
        let tensor = |name: &str, form| Tensor { name: name.into(), form, shape: vec![2] };
        let tensors = [tensor("a", Form::F32), tensor("b", Form::U32)];
        let path = dir.path().join("x.safetensors");
        let mut ones = |_: usize, _: usize, out: &mut [f32]| {
            out.fill(1.0);
            Ok(())
        };
        write_file(&path, &tensors, &mut ones).unwrap();
        let all = Tensors::open(&[path]).unwrap();
        assert_eq!(all.names().collect::<Vec<_>>(), ["a"]);
        assert!(all.get("a").is_some() && all.get("b").is_none());
    }
}
