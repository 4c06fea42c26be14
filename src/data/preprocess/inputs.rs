//! Which raw files are meant, in which order, and whether they are still the same.

use super::{super::DataError, lines::unprepared};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Bytes at a file's start and at its end that are looked at to know it again.
const PROBE: u64 = 1 << 20;

/// A raw file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size as it lies there, packed or not.
    pub bytes: u64,
    /// BLAKE3 of its size, its first and its last MiB: enough to tell another file, cheap for a
    /// terabyte.
    pub probe: String,
    /// When it was last written to, in microseconds since 1970 began: tells a change between its
    /// ends. `None` where files have no such time, and in manifests of older versions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub modified: Option<u64>,
}

impl Input {
    /// Looks at a file.
    ///
    /// # Errors
    /// If it cannot be read, is no file, or is empty.
    pub fn probe(path: &Path) -> Result<Input, DataError> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(DataError::Invalid(format!("{}: is no file", path.display())));
        }
        let bytes = meta.len();
        if bytes == 0 {
            return Err(DataError::Invalid(format!(
                "{}: is empty; a log has a line a sample",
                path.display()
            )));
        }
        let mut first = [0; 6];
        let read = file.read(&mut first).map_err(io)?;
        if let Some(what) = unprepared(&first[..read]) {
            return Err(DataError::Invalid(format!("{}: {what}", path.display())));
        }
        file.rewind().map_err(io)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes.to_le_bytes());
        let mut add = |hasher: &mut blake3::Hasher| -> io::Result<()> {
            let mut part = Vec::new();
            (&mut file).take(PROBE).read_to_end(&mut part)?;
            hasher.update(&part);
            file.seek(SeekFrom::Start(bytes.saturating_sub(PROBE)))?;
            Ok(())
        };
        add(&mut hasher).and_then(|()| add(&mut hasher)).map_err(io)?;
        let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.and_then(|since| since.as_micros().try_into().ok());
        Ok(Input {
            path: path.to_owned(),
            bytes,
            probe: hasher.finalize().to_hex().to_string(),
            modified,
        })
    }

    /// How files that were read differ from those that are there now, wherever they lie; `None` if
    /// they are the same.
    pub fn difference(read: &[Input], now: &[Input]) -> Option<String> {
        let ends = |inputs: &[Input]| {
            inputs.iter().map(|i| (i.bytes, i.probe.clone())).collect::<Vec<_>>()
        };
        if ends(read) != ends(now) {
            return Some("other raw files, or they have changed".into());
        }
        let (then, now) = read
            .iter()
            .zip(now)
            .find(|(a, b)| a.modified.zip(b.modified).is_some_and(|(a, b)| a != b))?;
        let micros = then.modified?;
        Some(format!(
            "{now} as it was at another time (if nothing in it has changed, give it that time back: touch -d @{}.{:06} {now})",
            micros / 1_000_000,
            micros % 1_000_000,
            now = now.path.display(),
        ))
    }
}

/// The raw files that several names mean: of one name as [`find`], of more each a file.
///
/// # Errors
/// As [`find`].
pub fn find_all(raw: &[String]) -> Result<Vec<PathBuf>, DataError> {
    match raw {
        [one] => find(one),
        many => in_order(&many.join(" "), many.iter().map(PathBuf::from).collect()),
    }
}

/// The raw files that `raw` names: a file; a folder with `train.txt` or with `day_0`, `day_1`, ...
/// (each perhaps with `.gz`); or a pattern (`logs/day_*.gz`). In the order of the numbers in their
/// names.
///
/// # Errors
/// If there are none, or a day is missing or there twice.
pub fn find(raw: &str) -> Result<Vec<PathBuf>, DataError> {
    let invalid = |what: String| Err(DataError::Invalid(format!("{raw}: {what}")));
    let path = Path::new(raw);
    if path.is_dir() {
        return folder(path);
    }
    match path.metadata() {
        Ok(_) => return Ok(vec![path.to_owned()]),
        Err(source) if !raw.contains(['*', '?', '[']) => {
            return Err(DataError::Io { path: path.to_owned(), source });
        }
        Err(_) => {}
    }
    let matches = match glob::glob(raw) {
        Ok(matches) => matches,
        Err(e) => return invalid(format!("is no pattern: {e}")),
    };
    let mut files = Vec::new();
    for entry in matches {
        let path =
            entry.map_err(|e| DataError::Io { path: e.path().to_owned(), source: e.into() })?;
        if path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return invalid("no file is called so".into());
    }
    in_order(raw, files)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let mut days = Vec::new();
    let mut kaggle = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = name.strip_suffix(".gz").unwrap_or(&name);
        if stem == "train.txt" {
            kaggle.push(file);
        } else if stem
            .strip_prefix("day_")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        {
            days.push(file);
        }
    }
    let shown = path.display();
    match (kaggle.len(), days.len()) {
        (0, 0) => Err(DataError::Invalid(format!(
            "{shown}: holds neither train.txt nor day_0, day_1, ... (each perhaps with .gz); name the file, or a pattern"
        ))),
        (1, 0) => Ok(kaggle),
        (0, _) => in_order(&shown.to_string(), days),
        (2, 0) => Err(DataError::Invalid(format!(
            "{shown}: holds both train.txt and train.txt.gz; name the one that is meant"
        ))),
        _ => Err(DataError::Invalid(format!(
            "{shown}: holds both train.txt and days; name the file, or a pattern"
        ))),
    }
}

/// By the last number in the name, which must count up by one.
fn in_order(raw: &str, files: Vec<PathBuf>) -> Result<Vec<PathBuf>, DataError> {
    if files.len() == 1 {
        return Ok(files);
    }
    let mut numbered = Vec::with_capacity(files.len());
    for path in files {
        match number(&path) {
            Some(n) => numbered.push((n, path)),
            None => {
                return Err(DataError::Invalid(format!(
                    "{raw}: {} has no number; days are called day_0, day_1, ...",
                    path.display()
                )));
            }
        }
    }
    numbered.sort();
    for pair in numbered.windows(2) {
        let ((a, first), (b, second)) = (&pair[0], &pair[1]);
        if a == b {
            let (first, second) = (first.display(), second.display());
            return Err(DataError::Invalid(format!(
                "{raw}: {first} and {second} are the same day; name the one that is meant"
            )));
        }
        if *b != a + 1 {
            return Err(DataError::Invalid(format!(
                "{raw}: day {} is missing between {} and {}",
                a + 1,
                first.display(),
                second.display()
            )));
        }
    }
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// What is to be known of days that were found: `day_3` and `day_4` are a set that lacks the first
/// three. One file that was named is what was meant.
pub fn first_days_missing(raw: &[String], days: &[PathBuf]) -> Option<String> {
    let named = raw.len() == 1 && days.len() == 1 && Path::new(&raw[0]) == days[0];
    let of_criteo = |day: &&PathBuf| {
        day.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"day_"))
    };
    let first = days.first().filter(of_criteo).filter(|_| !named)?;
    let (last, shown) = (number(first)?.checked_sub(1)?, first.display());
    Some(match last {
        0 => format!("{shown} is the first of the days; day 0 is not among them"),
        last => format!("{shown} is the first of the days; days 0 to {last} are not among them"),
    })
}

/// The last run of digits in a file's name, endings left out.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = stem.split_once('.').map_or(stem, |(stem, _)| stem);
    let end = stem.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = stem[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |i| i + stem[i..].chars().next().map_or(1, char::len_utf8));
    stem[start..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: Result<Vec<PathBuf>, DataError>) -> Result<Vec<String>, String> {
        let name = |p: PathBuf| p.file_name().unwrap().to_string_lossy().into_owned();
        found.map(|v| v.into_iter().map(name).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn days_come_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let raw = folder.path().display().to_string();
        assert!(names(find(&raw)).unwrap_err().contains("holds neither train.txt nor day_0"));
        for day in 8..12 {
            fs::write(at(&format!("day_{day}.gz")), "x").unwrap();
        }
        fs::write(at("notes.txt"), "x").unwrap();
        let days: Vec<String> = (8..12).map(|d| format!("day_{d}.gz")).collect();
        assert_eq!(names(find(&raw)), Ok(days.clone()));
        let said = |raw: &str| first_days_missing(&[raw.to_owned()], &find(raw).unwrap());
        assert!(
            said(&raw)
                .unwrap()
                .ends_with("day_8.gz is the first of the days; days 0 to 7 are not among them")
        );
        assert_eq!(said(&format!("{raw}/day_9.gz")), None, "it was named");
        assert!(said(&format!("{raw}/day_1?.gz")).unwrap().contains("days 0 to 9"));
        assert_eq!(names(find(&format!("{raw}/day_*"))), Ok(days));
        assert_eq!(names(find(&format!("{raw}/day_9.gz"))), Ok(vec!["day_9.gz".into()]));
        assert!(
            names(find(&format!("{raw}/day_x*"))).unwrap_err().contains("no file is called so")
        );
        assert!(names(find(&format!("{raw}/none"))).unwrap_err().contains("none: "));
        assert!(names(find(&format!("{raw}/*"))).unwrap_err().contains("notes.txt has no number"));
        fs::write(at("day_10"), "x").unwrap();
        assert!(names(find(&raw)).unwrap_err().contains("are the same day"));
        fs::remove_file(at("day_10")).unwrap();
        fs::remove_file(at("day_10.gz")).unwrap();
        assert!(names(find(&raw)).unwrap_err().contains("day 10 is missing between"));
        fs::write(at("train.txt"), "x").unwrap();
        assert!(names(find(&raw)).unwrap_err().contains("holds both train.txt and days"));
    }

    #[test]
    fn a_changed_file_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.txt");
        let time =
            |seconds: u64| UNIX_EPOCH + std::time::Duration::from_millis(seconds * 1000 + 250);
        let look = |bytes: &[u8], seconds| {
            fs::write(&path, bytes).unwrap();
            File::options().append(true).open(&path).unwrap().set_modified(time(seconds)).unwrap();
            Input::probe(&path)
        };
        let mut bytes = vec![7; 3 << 20];
        let first = [look(&bytes, 1000).unwrap()];
        let now =
            |bytes: &[u8], seconds| Input::difference(&first, &[look(bytes, seconds).unwrap()]);
        assert_eq!(now(&bytes, 1000), None);
        let other = Some("other raw files, or they have changed".to_owned());
        *bytes.last_mut().unwrap() = 8;
        assert_eq!(now(&bytes, 1000), other);
        bytes.pop();
        assert_eq!(now(&bytes, 1000), other);
        assert_eq!(Input::difference(&first, &[]), other);
        // Between its ends; the same bytes may have come again.
        let mut bytes = vec![7; 3 << 20];
        bytes[3 << 19] = 9;
        let shown = path.display();
        let at_another_time = format!(
            "{shown} as it was at another time (if nothing in it has changed, give it that time back: touch -d @1000.250000 {shown})"
        );
        assert_eq!(now(&bytes, 1001), Some(at_another_time));
        // Older manifests tell no time.
        let old = [Input { modified: None, ..first[0].clone() }];
        assert_eq!(Input::difference(&old, &[look(&[7; 3 << 20], 1002).unwrap()]), None);
        assert!(
            look(b"", 1)
                .unwrap_err()
                .to_string()
                .ends_with("train.txt: is empty; a log has a line a sample")
        );
        assert!(Input::probe(folder.path()).is_err());
    }
}
