//! Every key that a workload file may hold, section by section, in the order in which they are
//! written. What reads, writes, explains and documents a workload goes through this list.

mod comm;
mod data;
mod embedding;
mod ids;
mod model;
mod prepared;
mod rules;
mod run;
mod training;

use super::{
    key::{Fallback, Key, Setting},
    value::join_or,
    words::FORMATS,
};
use std::sync::LazyLock;

/// Sections in the order in which they are written.
pub const SECTIONS: [&str; 14] = [
    "workload",
    "data",
    "loader",
    "model",
    "engine",
    "embedding",
    "comm",
    "train",
    "optimizer",
    "schedule",
    "eval",
    "target",
    "checkpoint",
    "mlperf",
];

/// Sections that may have a table `otherwise`, and what it holds.
pub const OTHERWISE: [(&str, &str); 8] = [
    (
        "data",
        "A whole other `[data]`, taken when an environment variable that a path of `[data]` names is not set",
    ),
    ("model", KEYS_OR_SECTION),
    ("train", KEYS_OF_SECTION),
    ("optimizer", KEYS_OR_SECTION),
    ("schedule", KEYS_OR_SECTION),
    (
        "eval",
        "Keys that stand in for those of the section when `[data.otherwise]` is taken; `every`, `every_steps` and `every_epochs` for one another",
    ),
    (
        "target",
        "Keys that stand in for those of the section when `[data.otherwise]` is taken; `auc`, `share_of_best` and `accuracy` for one another",
    ),
    ("mlperf", KEYS_OF_SECTION),
];
const KEYS_OF_SECTION: &str =
    "Keys that stand in for those of the section when `[data.otherwise]` is taken";
const KEYS_OR_SECTION: &str = "Keys that stand in for those of the section when `[data.otherwise]` is taken; with a `kind` among them it is the whole section";

/// No batch is larger than this: positions in a batch are 32-bit.
const MAX_BATCH: usize = 1 << 24;

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    [
        run::workload(),
        data::keys(),
        run::loader(),
        model::keys(),
        run::engine(),
        embedding::keys(),
        comm::keys(),
        training::train(),
        training::optimizer(),
        training::schedule(),
        training::eval(),
        training::target(),
        run::checkpoint(),
        run::mlperf(),
    ]
    .into_iter()
    .flatten()
    .collect()
});

/// Where a value lies: `lens!(SECTION; PATTERN => REFERENCE)`, nothing where the pattern is not met.
macro_rules! lens {
    ($section:ident; $pattern:pat $(if $guard:expr)? => $place:expr) => {
        |w| {
            #[allow(unreachable_patterns)]
            match &mut w.$section {
                $pattern $(if $guard)? => Some($place),
                _ => None,
            }
        }
    };
}
use lens;

/// All keys. A name stands here once for each group of settings under which it means the same.
pub(super) fn all() -> &'static [Key] {
    &KEYS
}

/// Those of a section.
pub(super) fn of_section(section: &str) -> impl Iterator<Item = &'static Key> {
    all().iter().filter(move |k| k.facts.name.split_once('.').is_some_and(|(s, _)| s == section))
}

/// Those called `name`, `section.key`.
pub(super) fn called(name: &str) -> impl Iterator<Item = &'static Key> {
    all().iter().filter(move |k| k.facts.name == name)
}

/// The names of all keys, each once.
pub(super) fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in all() {
        if !names.contains(&key.facts.name) {
            names.push(key.facts.name);
        }
    }
    names
}

/// What the table `[section.otherwise]` holds, if the section may have one.
pub(super) fn otherwise(section: &str) -> Option<&'static str> {
    OTHERWISE.iter().find(|(s, _)| *s == section).map(|(_, says)| *says)
}

/// Keys that say the same in other words: where one stands in for its section's, these do not stay.
pub(super) fn rivals(key: &str) -> impl Iterator<Item = &'static str> {
    const GROUPS: [&[&str]; 2] = [
        &["target.auc", "target.share_of_best", "target.accuracy"],
        &["eval.every", "eval.every_steps", "eval.every_epochs"],
    ];
    let group = GROUPS.iter().find(|group| group.contains(&key)).copied().unwrap_or_default();
    group.iter().copied().filter(move |other| *other != key)
}

/// Whether there is such a key.
pub(super) fn exists(name: &str) -> bool {
    called(name).next().is_some()
}

/// Keys that have a meaning under one setting.
fn under(
    key: &'static str,
    words: &'static [&'static str],
    keys: impl IntoIterator<Item = Key>,
) -> Vec<Key> {
    keys.into_iter().map(|k| k.under(&[Setting { key, words }])).collect()
}

/// Words that the key `name` may be.
fn words(name: &str) -> Vec<&'static str> {
    called(name).flat_map(|k| k.facts.words.iter().copied()).collect()
}

/// The settings under which a key has a meaning, with all words for which it does; none if it
/// always has one.
pub(super) fn settings(name: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut settings: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    for key in called(name) {
        if key.facts.when.is_empty() {
            return Vec::new();
        }
        for setting in &key.facts.when {
            let at = settings.iter().position(|(k, _)| *k == setting.key).unwrap_or_else(|| {
                settings.push((setting.key, Vec::new()));
                settings.len() - 1
            });
            settings[at].1.extend(setting.words);
        }
    }
    // A key that means something for each word has that of the key that holds the words.
    let all = |key: &str, given: &[&str]| {
        let words = words(key);
        !words.is_empty() && words.iter().all(|w| given.contains(w))
    };
    match &settings[..] {
        [(key, given)] if all(key, given) => self::settings(key),
        _ => settings,
    }
}

/// Whether a key that is left out counts as one of `words`.
pub(super) fn by_default(name: &str, words: &[&str]) -> bool {
    called(name).any(|k| match &k.facts.fallback {
        Fallback::Value(value) => value.as_str().is_some_and(|v| words.contains(&v)),
        _ => false,
    })
}

/// The settings under which `name` has a meaning, as a message tells them; empty = it always has.
/// `means` tells of another key whether it has a meaning already.
pub(super) fn home(name: &str, means: &mut dyn FnMut(&str) -> bool) -> String {
    let mut tell = |(key, words): &(&'static str, Vec<&'static str>)| match &words[..] {
        [] => (*key).to_owned(),
        words => {
            let setting = format!("{key} = {}", either(key, words));
            if means(key) || !by_default(key, words) {
                return setting;
            }
            // Who leaves the other key out would not see what is missing.
            match home(key, means).as_str() {
                "" => setting,
                above => format!("{above} with {setting}"),
            }
        }
    };
    settings(name).iter().map(&mut tell).collect::<Vec<_>>().join(" or ")
}

/// Words that a key may be, those of all formats in one.
fn either(key: &str, words: &[&str]) -> String {
    let formats = key == "data.source" && FORMATS.iter().all(|f| words.contains(f));
    let own = words.iter().filter(|w| !(formats && FORMATS.contains(w)));
    let mut told: Vec<String> = own.map(|w| format!("\"{w}\"")).collect();
    if formats {
        told.push("a format's word".to_owned());
    }
    join_or(&told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_a_section_and_says_what_it_means() {
        for key in all() {
            let f = &key.facts;
            let section = f.name.split_once('.').map(|(s, _)| s);
            assert!(section.is_some_and(|s| SECTIONS.contains(&s)), "{}", f.name);
            assert!(!f.says.is_empty() && !f.says.ends_with('.'), "{}", f.name);
            for setting in &f.when {
                let known = words(setting.key);
                assert!(exists(setting.key), "{}: {}", f.name, setting.key);
                assert_eq!(setting.key.split('.').next(), section, "{}", f.name);
                assert!(setting.words.iter().all(|w| known.contains(w)), "{}: {setting:?}", f.name);
            }
        }
    }

    #[test]
    fn settings_are_told_as_they_would_be_typed() {
        for (name, told) in [
            ("train.epochs", ""),
            ("model.mlp_init", ""),
            ("model.hidden", r#"model.kind = "deepfm""#),
            ("loader.slice", "loader.queue"),
            ("data.mu", r#"data.distribution = "gaussian""#),
            (
                "data.hotness",
                r#"data.preset = "custom" or data.recipe = "mlperf-v2" or data.source = "parquet" or a format's word"#,
            ),
            ("data.train", r#"data.source = "csv", "bin40", "parquet" or a format's word"#),
            ("data.id_stride", r#"data.source = "parquet""#),
            ("model.cross_rank", r#"model.interaction = "cross""#),
            ("model.pad_to", r#"model.kind = "dlrm" with model.interaction = "dot""#),
            ("engine.loss_scale", r#"engine.precision = "fp16""#),
            (
                "engine.loss_scale_growth_steps",
                r#"engine.precision = "fp16" with engine.loss_scaling = "dynamic""#,
            ),
        ] {
            assert_eq!(home(name, &mut |_| false), told, "{name}");
        }
        let dlrm = home("model.pad_to", &mut |key| key == "model.interaction");
        assert_eq!(dlrm, r#"model.interaction = "dot""#);
    }
}
