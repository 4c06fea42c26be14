//! Reading of a split.

use super::spec::{NAME, Spec};
use crate::{
    data::{
        DataError,
        format::Reader,
        ids::ToId,
        npy::Type,
        rows::{Hotness, IdColumn, Layout, Numbers, RowRef, Rows, io, wrong},
    },
    host::atomic_file,
};
use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Component, Path, PathBuf},
};

/// Reads a split.
pub struct NvidiaReader {
    layout: Layout,
    files: Vec<Part>,
    /// Ids of each categorical column.
    cardinalities: Vec<u64>,
    to: ToId,
    rows: u64,
    next: u64,
    /// What was left out.
    told: Vec<String>,
}

/// One file.
struct Part {
    path: PathBuf,
    file: BufReader<File>,
    fields: Vec<Field>,
    /// Bytes of a row.
    width: usize,
    bytes: Vec<u8>,
}

/// A column in a file.
struct Field {
    role: Role,
    of: Type,
    /// Byte of the row.
    at: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Label,
    Dense(usize),
    Id(usize),
}

impl NvidiaReader {
    /// Opens the split whose folder is `path`.
    ///
    /// # Errors
    /// If the feature spec beside it or a file that it names is missing or damaged, or the files
    /// differ in their numbers of rows.
    pub fn open(path: &Path, to: ToId) -> Result<Self, DataError> {
        let at = path.with_file_name(NAME);
        let spec = match Spec::read(&at)? {
            Some(spec) => spec,
            None if path.join(NAME).is_file() => {
                let splits = Spec::read(&path.join(NAME))?
                    .map(|s| s.source_spec.into_keys().collect::<Vec<_>>());
                let splits = splits.unwrap_or_default().join(", ");
                return Err(wrong(
                    path,
                    format!("holds several splits; name the folder of one: {splits}"),
                ));
            }
            None => {
                return Err(wrong(
                    path,
                    format!(
                        "there is no {NAME} beside it; must be the folder of a split, such as data/train"
                    ),
                ));
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(chunks) = spec.source_spec.get(&*name) else {
            let splits = spec.source_spec.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(wrong(&at, format!("there is no split {name}; the splits are {splits}")));
        };
        let channels = &spec.channel_spec;
        let layout = Layout {
            label: channels.label[0].clone(),
            dense: channels.numerical.clone(),
            numbers: numbers(&spec),
            ids: channels
                .categorical
                .iter()
                .map(|c| IdColumn { name: c.clone(), hotness: Hotness::One })
                .collect(),
        };
        let roles: Vec<(&String, Role)> = channels
            .label
            .iter()
            .map(|c| (c, Role::Label))
            .chain(channels.numerical.iter().zip(0..).map(|(c, k)| (c, Role::Dense(k))))
            .chain(channels.categorical.iter().zip(0..).map(|(c, k)| (c, Role::Id(k))))
            .collect();
        let mut files = Vec::new();
        for chunk in chunks {
            let (mut fields, mut width) = (Vec::new(), 0);
            for column in &chunk.features {
                let feature = spec.feature_spec.get(column).and_then(|f| Type::named(&f.dtype));
                let of = feature.ok_or_else(|| {
                    wrong(&at, format!("feature_spec does not say what column {column} is"))
                })?;
                fields.extend(roles.iter().filter(|(c, _)| *c == column).map(|(_, role)| Field {
                    role: *role,
                    of,
                    at: width,
                }));
                width += of.size();
            }
            let file = Path::new(&chunk.files[0]);
            if !file.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
                return Err(wrong(
                    &at,
                    format!("file {:?} does not lie beside the spec", chunk.files[0]),
                ));
            }
            let path = path.with_file_name(file);
            let file = BufReader::with_capacity(1 << 16, File::open(&path).map_err(io(&path))?);
            files.push(Part { path, file, fields, width, bytes: Vec::new() });
        }
        for (column, role) in &roles {
            match files.iter().flat_map(|f| &f.fields).filter(|f| f.role == *role).count() {
                1 => {}
                n => {
                    return Err(wrong(
                        &at,
                        format!("column {column} is in {n} files of split {name}; must be in one"),
                    ));
                }
            }
        }
        let rows = rows(&files)?;
        let told = strays(path, &files).map_err(io(path))?;
        // `Spec::read` has seen that there are some.
        let cardinalities = channels
            .categorical
            .iter()
            .map(|c| spec.feature_spec[c].cardinality.unwrap_or(0))
            .collect();
        Ok(NvidiaReader { layout, files, cardinalities, to, rows, next: 0, told })
    }
}

/// Data files in the folder of a split that the spec does not name, in a sentence.
fn strays(split: &Path, named: &[Part]) -> std::io::Result<Vec<String>> {
    let is_named = |file: &Path| named.iter().any(|part| part.path.file_name() == file.file_name());
    let mut strays = Vec::new();
    // The spec may keep all files elsewhere.
    for entry in split.is_dir().then(|| split.read_dir()).transpose()?.into_iter().flatten() {
        let file = entry?.path();
        let data = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("bin"));
        if data && !atomic_file::is_temporary(&file) && !is_named(&file) {
            strays.push(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    strays.sort();
    let is = if strays.len() == 1 { "is" } else { "are" };
    let told = format!("{NAME} does not name {}, which {is} not read", strays.join(", "));
    Ok((!strays.is_empty()).then_some(told).into_iter().collect())
}

/// What holds the numbers of all dense columns.
fn numbers(spec: &Spec) -> Numbers {
    let types = || {
        spec.channel_spec.numerical.iter().filter_map(|c| Type::named(&spec.feature_spec[c].dtype))
    };
    if types().all(|t| matches!(t, Type::Bool | Type::Int(1 | 2 | 4) | Type::Unsigned(1 | 2))) {
        Numbers::Int32
    } else if types().all(|t| {
        matches!(t, Type::F16 | Type::F32 | Type::Bool | Type::Int(1 | 2) | Type::Unsigned(1 | 2))
    }) {
        Numbers::Float32
    } else {
        Numbers::Float64
    }
}

/// Rows of all files.
fn rows(files: &[Part]) -> Result<u64, DataError> {
    let mut found: Option<(u64, &Path)> = None;
    for part in files {
        let metadata = part.file.get_ref().metadata().map_err(io(&part.path))?;
        let (bytes, width) = (metadata.len(), part.width as u64);
        if !metadata.is_file() || bytes % width != 0 {
            let what = format!(
                "{bytes} bytes are no whole number of rows of {width}; is the file cut short?"
            );
            return Err(wrong(&part.path, what));
        }
        match found {
            Some((rows, first)) if rows != bytes / width => {
                let what = format!(
                    "{} rows, but {rows} in {}; must be equal (is a file cut short?)",
                    bytes / width,
                    first.display()
                );
                return Err(wrong(&part.path, what));
            }
            _ => found = Some((bytes / width, &part.path)),
        }
    }
    Ok(found.map_or(0, |(rows, _)| rows))
}

impl Reader for NvidiaReader {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn len(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn told(&self) -> &[String] {
        &self.told
    }

    fn read(&mut self, n: usize, rows: &mut Rows) -> Result<(), DataError> {
        rows.clear();
        let n = (self.rows - self.next).min(n as u64) as usize;
        rows.labels.resize(n, 0.0);
        let width = self.layout.dense.len();
        rows.dense.resize(n * width, 0.0);
        for part in &mut self.files {
            part.bytes.resize(n * part.width, 0);
            part.file.read_exact(&mut part.bytes).map_err(io(&part.path))?;
            let place = |i: usize| RowRef { path: &part.path, row: self.next + i as u64 + 1 };
            for field in &part.fields {
                let elements = part
                    .bytes
                    .chunks_exact(part.width)
                    .map(|row| &row[field.at..field.at + field.of.size()])
                    .enumerate();
                match field.role {
                    Role::Label => {
                        for (i, bytes) in elements {
                            rows.labels[i] =
                                place(i).label(&self.layout.label, field.of.number(bytes))?;
                        }
                    }
                    Role::Dense(k) => elements
                        .for_each(|(i, bytes)| rows.dense[i * width + k] = field.of.number(bytes)),
                    Role::Id(k) => {
                        let name = &self.layout.ids[k].name;
                        for (i, bytes) in elements {
                            let id = place(i).id(name, field.of.id(bytes, self.to))?;
                            if let Some(id) = id
                                && id >= self.cardinalities[k]
                            {
                                let below = self.cardinalities[k];
                                return Err(place(i)
                                    .error(format!("column {name} is {id}; must be below {below}, its cardinality in {NAME}")));
                            }
                            rows.ids[k].push_keys(id);
                        }
                    }
                }
            }
        }
        self.next += n as u64;
        Ok(())
    }
}
