//! The format of data that are there: what lies beside a file may tell more than its name.

use super::{Format, fuxictr, nvidia, parquet};
use crate::data::{
    DataError,
    manifest::{self, Manifest},
    rows::wrong,
};
use std::path::Path;

/// The format of a file, or of a folder that is read as one file.
///
/// # Errors
/// If nothing tells it, or a folder is to be named by its parts; the message says what would be
/// right.
pub fn format(path: &Path) -> Result<Format, DataError> {
    if path.is_dir() && !nvidia::beside_spec(path) {
        return folder(path);
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    // A manifest that cannot be read is nobody's business here.
    let recipe = Manifest::read(parent).ok().flatten().filter(|manifest| {
        let name = path.file_name().unwrap_or_default();
        manifest.files.iter().any(|f| Path::new(&f.name) == name)
    });
    // Its text has no header, which csv files have.
    if recipe.is_some_and(|manifest| manifest.recipe == "deeprec") {
        return Ok(Format::DeepRec);
    }
    match Format::of(path)? {
        // Other files may lie beside a feature map too: its own have the columns that it names.
        Format::Csv | Format::Parquet | Format::Npz
            if parent.join(fuxictr::NAME).is_file()
                && fuxictr::FuxiReader::open(path, None).is_ok() =>
        {
            Ok(Format::FuxiCtr)
        }
        format => Ok(format),
    }
}

fn folder(path: &Path) -> Result<Format, DataError> {
    if let Ok(Some(manifest)) = Manifest::read(path) {
        let mut parts: Vec<&str> = manifest.splits.iter().map(|split| &split.file[..]).collect();
        parts.dedup();
        let (parts, name) = (parts.join(", "), manifest::NAME);
        return Err(wrong(
            path,
            format!("is a folder of prepared data; name a part of it: {parts} ({name} tells)"),
        ));
    }
    if path.join(nvidia::NAME).is_file() {
        return Err(wrong(
            path,
            format!("holds a {}; name a folder of samples that lies beside it", nvidia::NAME),
        ));
    }
    match parquet::files_of(path) {
        Err(DataError::File { what, .. }) if what == parquet::NONE => {
            Err(wrong(path, "is a folder without parquet files; name a file"))
        }
        Err(e @ DataError::Io { .. }) => Err(e),
        // What else is wrong is said when it is opened.
        _ => Ok(Format::Parquet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        format::testing,
        manifest::{FileFacts, Split},
        rows::{Hotness, Layout, Numbers, Rows},
    };
    use std::{collections::BTreeMap, fs};

    #[test]
    fn what_lies_beside_tells() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let found = |name: &str| format(&at(name)).map_err(|e| e.to_string());
        for name in [
            "a.csv",
            "a.parquet",
            "shards/b.parquet",
            "shards/_SUCCESS",
            "empty/notes",
            "train.txt",
            "day_3.gz",
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "x").unwrap();
        }
        assert_eq!(
            (found("a.csv"), found("a.parquet"), found("shards")),
            (Ok(Format::Csv), Ok(Format::Parquet), Ok(Format::Parquet))
        );
        assert_eq!(
            (found("train.txt"), found("day_3.gz")),
            (Ok(Format::Criteo), Ok(Format::Criteo))
        );
        assert!(
            found("empty")
                .unwrap_err()
                .ends_with("empty: is a folder without parquet files; name a file")
        );
        assert!(found("notes.txt").unwrap_err().contains("the name does not tell the format"));
        let layout = Layout::numbered(1, Numbers::Int32, [Hotness::One]);
        let mut rows = Rows::new(&layout);
        (rows.labels, rows.dense) = (vec![1.0], vec![2.0]);
        rows.ids[0].push([3]);
        for name in ["fuxi/a.csv", "fuxi/a.parquet"] {
            fs::create_dir_all(at("fuxi")).unwrap();
            testing::write_all(Format::FuxiCtr, &at(name), &layout, &rows, 4).unwrap();
            assert_eq!(found(name), Ok(Format::FuxiCtr));
        }
        // Of other columns than the map's, or of none.
        fs::write(at("fuxi/b.csv"), "y,x\n1,2\n").unwrap();
        fs::write(at("fuxi/b.parquet"), "x").unwrap();
        assert_eq!(
            (found("fuxi/b.csv"), found("fuxi/b.parquet")),
            (Ok(Format::Csv), Ok(Format::Parquet))
        );
        assert_eq!(found("none.h5"), Ok(Format::FuxiCtr));

        let mut manifest = Manifest::new("deeprec", BTreeMap::new(), vec![]);
        manifest.files = vec![FileFacts { name: "a.csv".into(), bytes: 1, blake3: String::new() }];
        manifest.splits =
            ["train", "a.csv"].map(|f| Split { name: f.into(), file: f.into(), samples: 1 }).into();
        manifest.write(dir.path()).unwrap();
        assert_eq!((found("a.csv"), found("c.tsv")), (Ok(Format::DeepRec), Ok(Format::Criteo)));
        assert!(found("").unwrap_err().ends_with(
            "is a folder of prepared data; name a part of it: train, a.csv (manifest.json tells)"
        ));
    }
}
