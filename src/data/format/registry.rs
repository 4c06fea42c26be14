//! The formats, an entry each.

use super::{
    Format, Reader, Writer, bin40, capacity::Capacity, columns::Columns, criteo, csv, fuxictr,
    hugectr, intermediate, libsvm, npz, numpy, nvidia, parquet, sidecar, torchrec,
};
use crate::data::{DataError, rows::Layout};
use std::path::{Path, PathBuf};

type Open = fn(&Path, &Columns) -> Result<Box<dyn Reader>, DataError>;
type Create = fn(&Path, &Layout) -> Result<Box<dyn Writer>, DataError>;

/// What is known of a format.
pub(super) struct Entry {
    pub format: Format,
    /// Its word on the command line.
    pub word: &'static str,
    /// Whether columns of its files can be chosen.
    pub named: bool,
    pub open: Open,
    pub create: Create,
    /// The files of a data set, those that say what the others are last.
    pub files: fn(&Path, &Layout) -> Vec<PathBuf>,
    /// The one of them that several data sets share.
    pub shared: Option<&'static str>,
    /// Ids of a sample in a column of such a file.
    pub capacity: fn(&Path) -> Capacity,
    /// Whether the columns are those of Criteo's logs.
    pub criteo: bool,
    /// Whether models are trained on its files through its reader; the others have a source of
    /// their own.
    pub trained: bool,
}

/// How many formats are trained on through their readers.
const COUNT: usize = {
    let (mut n, mut i) = (0, 0);
    while i < FORMATS.len() {
        n += FORMATS[i].trained as usize;
        i += 1;
    }
    n
};

/// The formats that models are trained on through their readers, by the words of `data.source`.
pub const TRAINED: [(&str, Format); COUNT] = {
    let (mut all, mut n, mut i) = ([("", Format::Npz); COUNT], 0, 0);
    while i < FORMATS.len() {
        if FORMATS[i].trained {
            all[n] = (FORMATS[i].word, FORMATS[i].format);
            n += 1;
        }
        i += 1;
    }
    all
};

/// The entry of `format`.
pub(super) fn of(format: Format) -> &'static Entry {
    // A test sees that each has one.
    FORMATS.iter().find(|f| f.format == format).unwrap_or(&FORMATS[0])
}

fn one(path: &Path, _: &Layout) -> Vec<PathBuf> {
    vec![path.to_owned()]
}

fn described(path: &Path, _: &Layout) -> Vec<PathBuf> {
    vec![path.to_owned(), sidecar::beside(path)]
}

/// All formats, in the order in which help lists them.
pub(super) const FORMATS: &[Entry] = &[
    Entry {
        format: Format::Bin40,
        word: "bin40",
        named: false,
        open: |path, columns| Ok(Box::new(bin40::Bin40Reader::open(path, columns.to_id())?)),
        create: |path, layout| Ok(Box::new(bin40::Bin40Writer::create(path, layout)?)),
        files: one,
        shared: None,
        capacity: |_| Capacity::One,
        criteo: true,
        trained: false,
    },
    Entry {
        format: Format::Parquet,
        word: "parquet",
        named: true,
        open: |path, columns| match path.is_dir() {
            true => Ok(Box::new(parquet::Shards::open(path, columns)?)),
            false => Ok(Box::new(parquet::ParquetReader::open(path, columns)?)),
        },
        create: |path, layout| Ok(Box::new(parquet::ParquetWriter::create(path, layout)?)),
        files: |path, layout| parquet::files_of(path).unwrap_or_else(|_| one(path, layout)),
        shared: None,
        capacity: |_| Capacity::Any,
        criteo: false,
        trained: false,
    },
    Entry {
        format: Format::Npz,
        word: "npz",
        named: false,
        open: |path, columns| Ok(Box::new(npz::open(path, columns.to_id())?)),
        create: |path, layout| {
            Ok(Box::new(npz::NpzWriter::create(path, npz::Stage::Processed, layout)?))
        },
        files: one,
        shared: None,
        capacity: |_| Capacity::One,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::NpzDay,
        word: "npz-day",
        named: false,
        open: |path, columns| Ok(Box::new(npz::open(path, columns.to_id())?)),
        create: |path, layout| Ok(Box::new(npz::NpzWriter::create(path, npz::Stage::Day, layout)?)),
        files: one,
        shared: None,
        capacity: |_| Capacity::One,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::NpzReordered,
        word: "npz-reordered",
        named: false,
        open: |path, columns| Ok(Box::new(npz::open(path, columns.to_id())?)),
        create: |path, layout| {
            Ok(Box::new(npz::NpzWriter::create(path, npz::Stage::Reordered, layout)?))
        },
        files: one,
        shared: None,
        capacity: |_| Capacity::One,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::Intermediate,
        word: "npy-intermediate",
        named: false,
        open: |path, columns| Ok(Box::new(intermediate::open(path, columns.to_id())?)),
        create: |path, layout| {
            Ok(Box::new(intermediate::IntermediateWriter::create(path, layout)?))
        },
        files: |path, _| intermediate::files(path),
        shared: None,
        capacity: |_| Capacity::One,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::Numpy,
        word: "numpy",
        named: true,
        open: |path, columns| Ok(Box::new(numpy::NumpyReader::open(path, columns)?)),
        create: |path, layout| Ok(Box::new(numpy::NumpyWriter::create(path, layout)?)),
        files: described,
        shared: None,
        capacity: |_| Capacity::Fixed,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::TorchRec,
        word: "torchrec",
        named: false,
        open: |path, columns| Ok(Box::new(torchrec::open(path, columns.to_id())?)),
        create: |path, layout| Ok(Box::new(torchrec::TorchRecWriter::create(path, layout)?)),
        files: torchrec::files,
        shared: None,
        capacity: |_| Capacity::Fixed,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::Nvidia,
        word: "nvidia",
        named: false,
        open: |path, columns| Ok(Box::new(nvidia::NvidiaReader::open(path, columns.to_id())?)),
        create: |path, layout| Ok(Box::new(nvidia::NvidiaWriter::create(path, layout)?)),
        files: nvidia::files,
        shared: Some(nvidia::NAME),
        capacity: |_| Capacity::One,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::HugeCtr,
        word: "hugectr",
        named: false,
        open: |path, _| Ok(Box::new(hugectr::HugeCtrReader::open(path)?)),
        create: |path, layout| Ok(Box::new(hugectr::HugeCtrWriter::create(path, layout)?)),
        files: described,
        shared: None,
        capacity: |_| Capacity::Fixed,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::FuxiCtr,
        word: "fuxictr",
        named: false,
        open: |path, columns| Ok(Box::new(fuxictr::FuxiReader::open(path, columns.range)?)),
        create: |path, layout| Ok(Box::new(fuxictr::FuxiWriter::create(path, layout)?)),
        files: |path, _| fuxictr::files(path),
        shared: Some(fuxictr::NAME),
        capacity: fuxictr::capacity,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::Criteo,
        word: "criteo",
        named: false,
        open: |path, _| Ok(Box::new(criteo::CriteoReader::open(path)?)),
        create: |path, layout| Ok(Box::new(criteo::CriteoWriter::create(path, layout)?)),
        files: one,
        shared: None,
        capacity: |_| Capacity::One,
        criteo: true,
        trained: false,
    },
    Entry {
        format: Format::Csv,
        word: "csv",
        named: true,
        open: |path, columns| Ok(Box::new(csv::CsvReader::named(path, columns)?)),
        create: |path, layout| {
            Ok(Box::new(csv::CsvWriter::create(path, layout, csv::Dialect::Named)?))
        },
        files: one,
        shared: None,
        capacity: |_| Capacity::One,
        criteo: false,
        trained: false,
    },
    Entry {
        format: Format::DeepRec,
        word: "deeprec",
        named: false,
        open: |path, _| Ok(Box::new(csv::CsvReader::deeprec(path)?)),
        create: |path, layout| {
            Ok(Box::new(csv::CsvWriter::create(path, layout, csv::Dialect::DeepRec)?))
        },
        files: one,
        shared: None,
        capacity: |_| Capacity::One,
        criteo: true,
        trained: true,
    },
    Entry {
        format: Format::LibSvm,
        word: "libsvm",
        named: true,
        open: |path, columns| {
            Ok(Box::new(libsvm::LibSvmReader::open(path, libsvm::Base::LibSvm, columns)?))
        },
        create: |path, layout| {
            Ok(Box::new(libsvm::LibSvmWriter::create(path, libsvm::Base::LibSvm, layout)?))
        },
        files: described,
        shared: None,
        capacity: |_| Capacity::Any,
        criteo: false,
        trained: true,
    },
    Entry {
        format: Format::LibFm,
        word: "libfm",
        named: true,
        open: |path, columns| {
            Ok(Box::new(libsvm::LibSvmReader::open(path, libsvm::Base::LibFm, columns)?))
        },
        create: |path, layout| {
            Ok(Box::new(libsvm::LibSvmWriter::create(path, libsvm::Base::LibFm, layout)?))
        },
        files: described,
        shared: None,
        capacity: |_| Capacity::Any,
        criteo: false,
        trained: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_one_entry_and_is_documented() {
        let documentation = include_str!("../../../docs/data-formats.md");
        for (i, entry) in FORMATS.iter().enumerate() {
            assert_eq!(
                (of(entry.format).word, Format::named(entry.word)),
                (entry.word, Some(entry.format))
            );
            assert!(FORMATS[..i].iter().all(|f| f.word != entry.word && f.format != entry.format));
            assert!(documentation.contains(&format!("| `{}` |", entry.word)), "{}", entry.word);
        }
        // The last of the enum, which is counted from 0.
        assert_eq!(FORMATS.len(), Format::FuxiCtr as usize + 1);
    }
}
