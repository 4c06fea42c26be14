//! Where prepared data lie.

use crate::data::{
    DataError, manifest,
    preprocess::{inputs::Input, prepare::settings::SETTINGS},
    source::config::PreparedConfig,
};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// The folder of prepared data in the folder of the log.
const BESIDE: &str = "dlrm-bench-cache";
/// Digits of the hash in a folder's name.
const DIGITS: usize = 12;

/// The folder in which data of `config` are, or will be made. The log's files are `raw`.
///
/// # Errors
/// If there is no place for it.
pub fn folder(config: &PreparedConfig, raw: &[Input]) -> Result<PathBuf, DataError> {
    let name = name(config, raw);
    let folder = match &config.cache {
        // What `data preprocess` has made; whether it is what is meant is seen by its manifest.
        Some(made) if made.join(manifest::NAME).is_file() => made.clone(),
        Some(cache) => cache.join(name),
        None => default(raw, &name)?,
    };
    std::path::absolute(&folder).map_err(|source| DataError::Io { path: folder, source })
}

/// Without a cache that is named: beside the log, or in the user's cache; where the data are
/// already, else where they can be written.
fn default(raw: &[Input], name: &str) -> Result<PathBuf, DataError> {
    let log = raw.first().and_then(|input| input.path.parent()).unwrap_or(Path::new("."));
    let log = if log.as_os_str().is_empty() { Path::new(".") } else { log };
    let beside = log.join(BESIDE).join(name);
    let user = etcetera::choose_base_strategy().ok().map(|base| {
        etcetera::BaseStrategy::cache_dir(&base).join("dlrm-bench/prepared").join(name)
    });
    let there = [Some(&beside), user.as_ref()].into_iter().flatten().find(|path| path.is_dir());
    if let Some(there) = there {
        return Ok(there.clone());
    }
    let holds = log.join(BESIDE);
    if writable(if holds.is_dir() { &holds } else { log }) {
        return Ok(beside);
    }
    user.ok_or_else(|| {
        let log = log.display();
        DataError::Invalid(format!(
            "{log} cannot be written to, and there is no folder for a user's caches; name one (data.cache)"
        ))
    })
}

/// Whether files can be made in a folder. Leaves none.
fn writable(folder: &Path) -> bool {
    tempfile::tempfile_in(folder).is_ok()
}

/// `facebook-terabyte-1a2b3c4d5e6f`: the recipe, and a hash of its settings and of what the raw
/// files hold, wherever they lie and whenever they were written.
fn name(config: &PreparedConfig, raw: &[Input]) -> String {
    let takes = SETTINGS.iter().filter(|s| config.recipe.takes().contains(&s.name));
    let settings: Map<String, Value> =
        takes.map(|s| (s.name.to_owned(), s.of(&config.parameters))).collect();
    let files: Vec<(u64, &str)> = raw.iter().map(|i| (i.bytes, i.probe.as_str())).collect();
    let all = json!([config.recipe.name(), settings, files]).to_string();
    let hash = blake3::hash(all.as_bytes()).to_hex();
    format!("{}-{}", config.recipe.name(), &hash[..DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::prepare::Recipe;

    fn input(path: &Path, probe: &str) -> Input {
        Input { path: path.to_owned(), bytes: 7, probe: probe.into(), modified: None }
    }

    #[test]
    fn names_differ_by_recipe_settings_and_content_alone() {
        let config = PreparedConfig::of(Recipe::FacebookTerabyte);
        let raw = [input(Path::new("a"), "1"), input(Path::new("b"), "2")];
        let first = name(&config, &raw);
        assert!(first.starts_with("facebook-terabyte-") && first.len() == 18 + DIGITS, "{first}");
        let elsewhere = [input(Path::new("x/a"), "1"), input(Path::new("x/b"), "2")];
        assert_eq!(first, name(&config, &elsewhere));
        let mut others =
            vec![name(&config, &raw[..1]), name(&config, &[raw[1].clone(), raw[0].clone()])];
        let mut other = config.clone();
        other.parameters.seed = 4;
        others.push(name(&other, &raw));
        others.push(name(&PreparedConfig::of(Recipe::MlperfV1), &raw));
        assert!(!others.contains(&first));
        // What does not change the files.
        other = config.clone();
        (other.memory, other.id_range) = (crate::host::Size(1), Some(9));
        assert_eq!(first, name(&other, &raw));
    }

    #[test]
    fn the_folder_is_beside_the_log_or_where_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("day_0");
        let raw = [input(&log, "1")];
        let mut config = PreparedConfig::of(Recipe::Deeprec);
        let beside = folder(&config, &raw).unwrap();
        assert_eq!(beside.parent(), Some(&*dir.path().join(BESIDE)));
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "something was left");
        let cache = dir.path().join("cache");
        config.cache = Some(cache.clone());
        assert_eq!(folder(&config, &raw).unwrap().parent(), Some(&*cache));
        std::fs::create_dir(&cache).unwrap();
        std::fs::write(cache.join(manifest::NAME), "{}").unwrap();
        assert_eq!(folder(&config, &raw).unwrap(), cache);
    }
}
