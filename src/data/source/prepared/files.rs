//! How the files of each recipe are read: which are for training and which for evaluation, with
//! which tables.

use crate::data::{
    DataError,
    manifest::{Manifest, Split},
    preprocess::{
        criteo::{DENSE, TABLES},
        prepare::{Evaluation, Files, Recipe, setting},
    },
    source::config::{Bin40Config, DataConfig, FilesConfig, ParquetConfig, PreparedConfig},
};
use std::path::{Path, PathBuf};

fn split<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a Split> {
    manifest.splits.iter().find(|split| split.name == name)
}

/// Samples of the evaluation split.
pub fn eval_samples(recipe: Recipe, manifest: &Manifest) -> Option<u64> {
    match recipe.reading().evaluation {
        Evaluation::Halves => manifest.splits.last().map(|day| day.samples.div_ceil(2)),
        Evaluation::Parts(eval, _) => split(manifest, eval).map(|split| split.samples),
    }
}

/// The paths of training, evaluation and test files or folders.
struct Paths {
    train: Vec<PathBuf>,
    eval: PathBuf,
    test: Option<PathBuf>,
}

impl Paths {
    fn of(recipe: Recipe, folder: &Path, manifest: &Manifest) -> Result<Paths, DataError> {
        let at = |split: &Split| folder.join(&split.file);
        let missing = |what: &str| {
            DataError::Invalid(format!("{}: its manifest names no {what}", folder.display()))
        };
        let (eval, test) = match recipe.reading().evaluation {
            Evaluation::Parts(eval, test) => (eval, test),
            Evaluation::Halves => {
                let (last, days) = manifest.splits.split_last().ok_or_else(|| missing("day"))?;
                let train = days.iter().map(at).collect();
                return Ok(Paths { train, eval: at(last), test: Some(at(last)) });
            }
        };
        let part = |name: &str| {
            split(manifest, name).map(at).ok_or_else(|| missing(&format!("part {name}")))
        };
        let test = test.filter(|test| split(manifest, test).is_some_and(|s| s.samples > 0));
        Ok(Paths {
            train: vec![part("train")?],
            eval: part(eval)?,
            test: test.map(part).transpose()?,
        })
    }
}

/// The source of the prepared files in `folder`, and what it is told.
///
/// # Errors
/// If the manifest lacks a part of the data.
pub fn of(
    config: &PreparedConfig,
    folder: &Path,
    manifest: &Manifest,
) -> Result<DataConfig, DataError> {
    let paths = Paths::of(config.recipe, folder, manifest)?;
    let tables = rows(config, manifest);
    let (eval, tests) = (vec![paths.eval.clone()], paths.test.iter().cloned().collect());
    let (max_ind_range, ids, buffer) = (config.id_range, config.ids, config.buffer);
    let dense_transform = config.dense_transform;
    let numbered = |letter: char, n: usize| -> Vec<String> {
        (1..=n).map(|k| format!("{letter}{k}")).collect()
    };
    Ok(match config.recipe.reading().files {
        Files::Records => DataConfig::Bin40(Bin40Config {
            train: paths.train,
            eval: paths.eval,
            test: paths.test,
            tables,
            max_ind_range,
            dense_transform,
            shuffle: config.shuffle,
            buffer,
        }),
        Files::Parquet { all_ids, stride } => {
            let (integers, categories) = (numbered('I', DENSE), numbered('C', TABLES));
            let (dense, categorical) = match all_ids {
                true => (Vec::new(), [integers, categories].concat()),
                false => (integers, categories),
            };
            DataConfig::Parquet(ParquetConfig {
                train: paths.train,
                eval,
                test: tests,
                label: Some("label".into()),
                dense,
                categorical,
                tables,
                id_stride: stride(&config.parameters),
                max_ind_range,
                ids,
                dense_transform,
                shuffle: config.groups,
                buffer,
                ..ParquetConfig::default()
            })
        }
        Files::Format(format) => DataConfig::Files(FilesConfig {
            train: paths.train,
            eval,
            test: tests,
            tables,
            hotness: hotness(config),
            max_ind_range,
            ids,
            dense_transform,
            buffer,
            ..FilesConfig::of(format)
        }),
    })
}

/// The most ids of a sample in each table, where a recipe has several.
fn hotness(config: &PreparedConfig) -> Option<Vec<usize>> {
    let takes = config.recipe.takes().contains(&setting::HOTNESS);
    takes.then(|| config.parameters.hotness.map(|n| n as usize).into())
}

/// Rows of the tables, where they are known without a look at the files: by the ids that were
/// numbered, or by what they are taken modulo.
fn rows(config: &PreparedConfig, manifest: &Manifest) -> Option<Vec<usize>> {
    let most = config.id_range.map(|range| range as usize);
    let capped = |rows: usize| rows.min(most.unwrap_or(usize::MAX));
    if config.recipe.takes().contains(&setting::TABLE_ROWS) {
        // Ids are taken modulo these.
        return Some(config.parameters.table_rows.map(|rows| capped(rows as usize)).into());
    }
    let reading = config.recipe.reading();
    if (reading.hashed)(&config.parameters) {
        let all_ids = matches!(reading.files, Files::Parquet { all_ids: true, .. });
        let columns = if all_ids { DENSE + TABLES } else { TABLES };
        return most.map(|most| vec![most; columns]);
    }
    let ids: Vec<usize> =
        manifest.columns.iter().filter_map(|c| c.ids).map(|ids| capped(ids as usize)).collect();
    (!ids.is_empty()).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest with these parts, of 3 samples each.
    fn manifest(recipe: Recipe, parts: &[&str]) -> Manifest {
        let mut manifest = Manifest::new(recipe.name(), Default::default(), vec![]);
        let split = |name: &&str| Split { name: (*name).into(), file: (*name).into(), samples: 3 };
        manifest.splits = parts.iter().map(split).collect();
        manifest
    }

    #[test]
    fn every_recipe_has_parts_for_training_and_evaluation() {
        for &recipe in Recipe::ALL {
            let parts: &[&str] = match recipe {
                Recipe::MlperfV2 => &["day_0", "day_1", "day_2"],
                Recipe::Deeprec => &["train", "eval"],
                Recipe::FuxictrCriteoX4 => &["train", "valid", "test"],
                Recipe::Nvidia => &["train", "test"],
                _ => &["train", "val", "test"],
            };
            let manifest = manifest(recipe, parts);
            let config = PreparedConfig::of(recipe);
            let paths = Paths::of(recipe, Path::new("d"), &manifest).unwrap();
            let mut all = paths.train.clone();
            all.extend([paths.eval.clone()].into_iter().chain(paths.test.clone()));
            let named: Vec<PathBuf> = parts.iter().map(|p| Path::new("d").join(p)).collect();
            assert!(named.iter().all(|path| all.contains(path)), "{recipe:?}: {all:?}");
            let samples = eval_samples(recipe, &manifest);
            assert_eq!(samples, Some(if recipe == Recipe::MlperfV2 { 2 } else { 3 }));
            assert!(of(&config, Path::new("d"), &manifest).is_ok());
        }
        let empty = manifest(Recipe::Deeprec, &["train"]);
        let refused = of(&PreparedConfig::of(Recipe::Deeprec), Path::new("d"), &empty).unwrap_err();
        assert_eq!(refused.to_string(), "d: its manifest names no part eval");
    }
}
