//! The workload files that the program carries within itself, by name, so that they can be run where
//! there is no checkout.

use super::parse::{WorkloadError, nearest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fs, io, path::Path};

/// A workload file of `workloads/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// Its name: that of the file without `.toml`, and `workload.name` in it.
    pub name: &'static str,
    /// The file as it is.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(Shipped {
            name: $name,
            text: include_str!(concat!("../../workloads/", $name, ".toml")),
        }),+]
    };
}

/// All of them, by name.
pub const SHIPPED: &[Shipped] = shipped![
    "adult",
    "ascend-full",
    "ascend-performance",
    "deeprec",
    "deeprec-ev",
    "deeprec-normalized",
    "deeprec-planted",
    "deeprec-readme",
    "facebook-random",
    "facebook-readme",
    "frappe-deepfm",
    "fuxictr-deepfm",
    "kaggle",
    "mlperf-v1",
    "mlperf-v2",
    "nvidia",
    "oneflow-deepfm",
    "oneflow-deepfm-plateau",
    "oneflow-dlrm",
    "quickstart",
    "terabyte",
];

/// Other names, each with the name of what it means.
pub const OTHER_NAMES: &[(&str, &str)] =
    &[("facebook-kaggle", "kaggle"), ("facebook-terabyte", "terabyte")];

impl Shipped {
    /// The one that is called `name`, among others.
    pub fn named(name: &str) -> Option<&'static Shipped> {
        let name = OTHER_NAMES.iter().find(|(other, _)| *other == name).map_or(name, |(_, n)| n);
        SHIPPED.iter().find(|s| s.name == name)
    }

    /// The one that `place` means: no file is there, and it is the name of one.
    pub fn meant(place: &Path) -> Option<&'static Shipped> {
        // A folder is no workload, whatever its name.
        let named = Shipped::named(place.to_str()?)?;
        (!place.exists() || place.is_dir()).then_some(named)
    }
}

/// Reads the workload at `place`: the file, or where there is none the one of the program that has
/// this name.
///
/// # Errors
/// If there is neither, or the file cannot be read; the message names what was likely meant.
pub fn read(place: &Path) -> Result<Vec<u8>, WorkloadError> {
    if let Some(shipped) = Shipped::meant(place) {
        return Ok(shipped.text.as_bytes().to_vec());
    }
    fs::read(place).map_err(|e| WorkloadError::Unreadable {
        place: place.display().to_string(),
        what: unreadable(place, &e),
    })
}

fn unreadable(place: &Path, error: &io::Error) -> String {
    let mut what = format!("cannot be read: {error}");
    if error.kind() != io::ErrorKind::NotFound {
        return what;
    }
    let stem = place.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    if place.components().count() == 1 && place.extension().is_none() {
        return format!("no such file, and {}", unknown(stem));
    }
    if let Some(near) = near(stem) {
        what += &format!("; did you mean {near}, a workload of the program?");
    }
    what
}

/// That no workload of the program is called `name`, with what was likely meant.
pub fn unknown(name: &str) -> String {
    let next = match near(name) {
        Some(near) => format!("did you mean {near}?"),
        None => "dlrm-bench workloads lists their names".to_owned(),
    };
    format!("no workload of the program is called {name:?}; {next}")
}

/// All names that workloads of the program go by.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|s| s.name).chain(OTHER_NAMES.iter().map(|(other, _)| *other))
}

fn near(name: &str) -> Option<&'static str> {
    nearest(name, names())
}

/// Where a workload's text came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSource {
    /// The file's name without its folder, or the name of a workload of the program.
    pub name: String,
    /// Whether it is the text that the program carries, wherever it was read.
    pub shipped: bool,
    /// SHA-256 of the text, in hexadecimal.
    pub sha256: String,
}

impl TextSource {
    /// Of `text` as it was read at `place`.
    pub fn new(place: &Path, text: &str) -> Self {
        TextSource {
            name: place.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            shipped: SHIPPED.iter().any(|s| s.text == text),
            sha256: Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::parse;
    use std::path::PathBuf;

    /// As in the folder, none missing, in order, and named as they name themselves.
    #[test]
    fn every_workload_file_is_carried_under_its_own_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
        // By name, not by file: a name may be the beginning of another one.
        files.sort_by_key(|f| f.file_stem().map(ToOwned::to_owned));
        let names: Vec<_> =
            files.iter().map(|f| f.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, SHIPPED.iter().map(|s| s.name).collect::<Vec<_>>());
        for (file, shipped) in files.iter().zip(SHIPPED) {
            assert_eq!(shipped.text, fs::read_to_string(file).unwrap());
            let about = parse::about(shipped.text).unwrap();
            assert_eq!(about.0, shipped.name);
            assert!(!about.1.is_empty(), "{}", shipped.name);
        }
    }

    #[test]
    fn names_are_read_and_what_is_neither_is_told_the_nearest() {
        let kaggle = include_str!("../../workloads/kaggle.toml").as_bytes();
        for name in ["kaggle", "facebook-kaggle"] {
            assert_eq!(read(Path::new(name)).unwrap(), kaggle);
        }
        for (other, name) in OTHER_NAMES {
            assert!(!SHIPPED.iter().any(|s| s.name == *other), "{other}");
            assert_eq!(Shipped::named(other).map(|s| s.name), Some(*name));
        }
        let error = |place: &str| read(Path::new(place)).unwrap_err().to_string();
        assert_eq!(
            error("terabite"),
            "terabite: no such file, and no workload of the program is called \"terabite\"; did you mean terabyte?"
        );
        assert!(error("nothing-like-it").ends_with("dlrm-bench workloads lists their names"));
        let file = error("no/folder/kaggel.toml");
        assert!(file.starts_with("no/folder/kaggel.toml: cannot be read: "), "{file}");
        assert!(file.ends_with("; did you mean kaggle, a workload of the program?"), "{file}");
        assert!(error("no/my-own.toml").ends_with(')'));
    }

    #[test]
    fn a_text_is_known_wherever_it_lies() {
        let text = SHIPPED[0].text;
        let own = TextSource::new(Path::new("/home/me/adult.toml"), text);
        assert_eq!((own.name.as_str(), own.shipped, own.sha256.len()), ("adult.toml", true, 64));
        assert!(!TextSource::new(Path::new("adult"), &format!("{text}#")).shipped);
    }
}
