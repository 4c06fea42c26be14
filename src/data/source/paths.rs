//! The files that a workload's paths mean: files, folders and patterns, in the order of their names
//! with numbers as numbers.

use super::config::DataConfig;
use crate::{
    data::{
        DataError,
        format::parquet::is_parquet,
        preprocess::inputs,
        rows::{io, wrong},
    },
    host::names::natural,
};
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

/// Files, one or several, each named as it is, by its folder or by a pattern. One is written as it
/// is, several as a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths(pub Vec<PathBuf>);

impl Paths {
    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<PathBuf> for Paths {
    fn from(path: PathBuf) -> Self {
        Paths(vec![path])
    }
}

impl From<&str> for Paths {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

impl Serialize for Paths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [] => serializer.serialize_none(),
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

/// Endings of text with fields, in the order in which a folder is searched for them.
const TEXT: [&str; 3] = ["csv", "tsv", "txt"];
/// Endings of what is packed.
const PACKED: [&str; 2] = ["gz", "zst"];

/// Whether a path is a pattern: it has marks of one, and no file is called so.
pub fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[".contains(b)) && !path.exists()
}

/// The same data with the files that its paths mean. Folders stay where a format has its own word
/// for them.
///
/// # Errors
/// If a path means no file, or one file is meant twice.
pub fn expanded(config: &DataConfig) -> Result<DataConfig, DataError> {
    let mut config = config.clone();
    match &mut config {
        DataConfig::CriteoTsv(c) => {
            c.paths = expand(&c.paths, &|folder| inputs::find(&folder.to_string_lossy()))?;
        }
        DataConfig::Csv(c) => {
            for paths in [&mut c.train, &mut c.eval, &mut c.test] {
                paths.0 = text(&paths.0)?;
            }
        }
        DataConfig::Bin40(c) => c.train = plain(&c.train)?,
        DataConfig::Parquet(c) => {
            for paths in [&mut c.train, &mut c.eval, &mut c.test] {
                *paths = plain(paths)?;
            }
        }
        DataConfig::Files(c) => {
            for paths in [&mut c.train, &mut c.eval, &mut c.test] {
                *paths = plain(paths)?;
            }
        }
        DataConfig::Planted(_) | DataConfig::NumpyRandom(_) | DataConfig::Prepared(_) => {}
    }
    Ok(config)
}

/// The files of text that `paths` mean.
///
/// # Errors
/// If one means none, or one file is meant twice.
pub fn text(paths: &[PathBuf]) -> Result<Vec<PathBuf>, DataError> {
    expand(paths, &text_of_folder)
}

/// The files and folders that `paths` mean.
fn plain(paths: &[PathBuf]) -> Result<Vec<PathBuf>, DataError> {
    expand(paths, &|folder| Ok(vec![folder.to_owned()]))
}

/// The files that `paths` mean, where `of_folder` says which files of a folder are meant.
fn expand(
    paths: &[PathBuf],
    of_folder: &dyn Fn(&Path) -> Result<Vec<PathBuf>, DataError>,
) -> Result<Vec<PathBuf>, DataError> {
    let mut all = Vec::new();
    for path in paths {
        let found = if is_pattern(path) { matches(path)? } else { vec![path.clone()] };
        for path in found {
            match path.is_dir() {
                true => all.append(&mut of_folder(&path)?),
                false => all.push(path),
            }
        }
    }
    super::once(&all)?;
    Ok(all)
}

/// A warning where files for evaluation are those of training, too.
pub fn same(train: &[PathBuf], eval: &[PathBuf]) -> Option<String> {
    let canonical = |paths: &[PathBuf]| -> Vec<PathBuf> {
        paths.iter().filter_map(|path| path.canonicalize().ok()).collect()
    };
    let train = canonical(train);
    let at = eval.iter().position(|path| path.canonicalize().is_ok_and(|p| train.contains(&p)))?;
    Some(format!(
        "{} is for evaluation and trained on, so the model is judged by what it has seen; data.eval_share holds a share of the rows out",
        eval[at].display()
    ))
}

/// What a pattern matches; what begins with a dot is nobody's data.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>, DataError> {
    let found = glob::glob(&pattern.to_string_lossy());
    let found = found.map_err(|e| wrong(pattern, format!("is no pattern: {e}")))?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|e| {
            let at = e.path().to_owned();
            DataError::Io { path: at, source: e.into() }
        })?;
        if !path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".")) {
            paths.push(path);
        }
    }
    match paths.is_empty() {
        true => Err(wrong(pattern, "matches no file; must match at least one")),
        false => {
            in_order(&mut paths);
            Ok(paths)
        }
    }
}

/// Puts files in the order of their names, with numbers as numbers.
pub fn in_order(paths: &mut [PathBuf]) {
    paths.sort_by_cached_key(|path| natural(&path.to_string_lossy()));
}

/// The files of text in a folder: those that end in .csv, or if there are none in .tsv, or else in
/// .txt, packed or not.
fn text_of_folder(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found: [Vec<PathBuf>; 3] = Default::default();
    let mut parquet = false;
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let file = entry.map_err(io(folder))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if name.starts_with(['.', '_']) || file.is_dir() {
            continue;
        }
        parquet |= is_parquet(&file);
        let (stem, last) = name.rsplit_once('.').unwrap_or((&name, ""));
        let ending = match PACKED.contains(&last) {
            true => stem.rsplit_once('.').map_or("", |(_, ending)| ending),
            false => last,
        };
        if let Some(k) = TEXT.iter().position(|text| *text == ending) {
            found[k].push(file);
        }
    }
    let Some(mut files) = found.into_iter().find(|files| !files.is_empty()) else {
        let advice = if parquet { " (for .parquet say data.source = \"parquet\")" } else { "" };
        let what = format!(
            "no file in this folder ends in .csv, .tsv or .txt, packed or not; must hold at least one{advice}"
        );
        return Err(wrong(folder, what));
    };
    in_order(&mut files);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_patterns_mean_files_in_the_order_of_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let names = |paths: &[&str]| -> Result<Vec<String>, String> {
            let paths: Vec<PathBuf> = paths.iter().map(|p| at(p)).collect();
            let found = text(&paths).map_err(|e| e.to_string())?;
            let name = |p: &PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
            Ok(found.iter().map(name).collect())
        };
        std::fs::create_dir_all(at("days/deep")).unwrap();
        std::fs::create_dir_all(at("empty")).unwrap();
        for name in ["day10.csv", "day9.csv.gz", "day1.CSV", "a.tsv", "notes", ".x.csv", "_y.csv"] {
            std::fs::write(at("days").join(name), "x").unwrap();
        }
        let all = ["days/day1.CSV", "days/day9.csv.gz", "days/day10.csv"].map(String::from);
        assert_eq!(names(&["days"]).unwrap(), all);
        assert_eq!(names(&["days/day*"]).unwrap(), all);
        assert_eq!(
            names(&["days/day1*.csv", "days/a.tsv"]).unwrap(),
            ["days/day10.csv", "days/a.tsv"]
        );
        assert!(
            names(&["days", "days/a.tsv", "days/day9*"]).unwrap_err().contains("is named twice")
        );
        assert!(
            names(&["days/z*"])
                .unwrap_err()
                .ends_with("days/z*: matches no file; must match at least one")
        );
        assert!(
            names(&["empty"])
                .unwrap_err()
                .contains("no file in this folder ends in .csv, .tsv or .txt")
        );
        // A file that is called like a pattern is meant itself.
        std::fs::write(at("a[1].csv"), "x").unwrap();
        assert_eq!(names(&["a[1].csv"]).unwrap(), ["a[1].csv"]);
    }
}
