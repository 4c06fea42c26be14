//! What may be set about recipes, declared once: the flags of `data preprocess` and the keys of
//! `data.source = "prepared"` are made of this list.

use super::{Parameters, Recipe, setting};
use crate::data::preprocess::criteo::TABLES;
use serde_json::Value;

/// What values a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number up to this.
    Count(u64),
    /// A share, from 0 to below 1.
    Share,
    /// One of these words, each with its meaning.
    Word(&'static [(&'static str, &'static str)]),
    /// A whole number for each of the 26 tables.
    PerTable,
}

/// A setting of one or more recipes.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// As manifests and workload files call it; a flag has `-` for `_`.
    pub name: &'static str,
    /// What help calls its value.
    pub value: &'static str,
    /// What values it has.
    pub kind: Kind,
    /// What it means.
    pub says: &'static str,
    /// Its default in words.
    pub default: &'static str,
}

/// The default of settings in which recipes differ.
const OF_RECIPE: &str = "the recipe's";

/// All settings, in the order in which help lists them.
pub static SETTINGS: [Setting; 11] = [
    Setting {
        name: setting::ON_ERROR,
        value: "HOW",
        kind: Kind::Word(&[
            ("fail", "Stop and name file and line"),
            ("skip", "Leave it out and count it"),
        ]),
        says: "Malformed lines: stop and name the line, or leave it out and count it",
        default: "fail",
    },
    Setting {
        name: setting::RANGE,
        value: "N",
        kind: Kind::Count(u32::MAX as u64),
        says: "Ids modulo this before anything else is done with them, 0 = off",
        default: OF_RECIPE,
    },
    Setting {
        name: setting::SUB_SAMPLE,
        value: "SHARE",
        kind: Kind::Share,
        says: "Share of negatives to drop",
        default: "0",
    },
    Setting {
        name: setting::RANDOMIZE,
        value: "HOW",
        kind: Kind::Word(&[
            ("none", "As in the log"),
            ("day", "Each day shuffled"),
            ("total", "Dealt to days at random, then each day shuffled"),
        ]),
        says: "Order of training samples",
        default: OF_RECIPE,
    },
    Setting {
        name: setting::SEED,
        value: "N",
        kind: Kind::Count(u32::MAX as u64),
        says: "Seed of what is drawn: samples, folds, order",
        default: OF_RECIPE,
    },
    Setting {
        name: setting::NULL_ID,
        value: "WHICH",
        kind: Kind::Word(&[
            ("own", "An id of its own in each column (criteo1t_parquet.scala)"),
            ("next", "The first id of the next column (criteo1t_parquet.py)"),
        ]),
        says: "What a missing id becomes, for oneflow-dlrm",
        default: "own",
    },
    Setting {
        name: setting::MIN_COUNT,
        value: "N",
        kind: Kind::Count(u32::MAX as u64),
        says: "How often a value must occur to have an id",
        default: OF_RECIPE,
    },
    Setting {
        name: setting::TABLE_ROWS,
        value: "ROWS",
        kind: Kind::PerTable,
        says: "Rows of the 26 tables, as in 40000000,39060,..., for mlperf-v2",
        default: OF_RECIPE,
    },
    Setting {
        name: setting::HOTNESS,
        value: "IDS",
        kind: Kind::PerTable,
        says: "Ids of a sample in the 26 tables, as in 3,2,1,..., for mlperf-v2",
        default: OF_RECIPE,
    },
    Setting {
        name: setting::MULTI_HOT,
        value: "HOW",
        kind: Kind::Word(&[("uniform", "All alike"), ("pareto", "Small ones more often")]),
        says: "How ids are drawn, for mlperf-v2",
        default: "uniform",
    },
    Setting {
        name: setting::SHARD_ROWS,
        value: "N",
        kind: Kind::Count(1 << 31),
        says: "Samples of a parquet file",
        default: "4194304",
    },
];

impl Setting {
    /// The flag, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The recipes that take it.
    pub fn recipes(&self) -> impl Iterator<Item = Recipe> {
        Recipe::ALL.iter().copied().filter(|recipe| recipe.takes().contains(&self.name))
    }

    /// Its value: a number, a word, or a list of numbers. What is off is 0.
    pub fn of(&self, parameters: &Parameters) -> Value {
        let mut all = serde_json::to_value(parameters).unwrap_or_default();
        match all[self.name].take() {
            Value::Null => 0.into(),
            value => value,
        }
    }

    /// Sets it to a value of its kind.
    ///
    /// # Errors
    /// What is wrong with the value, as a phrase that follows its name.
    pub fn put(&self, parameters: &mut Parameters, value: Value) -> Result<(), String> {
        if self.kind == Kind::PerTable {
            let n = value.as_array().map_or(0, Vec::len);
            if n != TABLES {
                return Err(format!("has {n} numbers; must be {TABLES}, one for each table"));
            }
        }
        let off = self.name == setting::RANGE && value == 0;
        let refused = |e: serde_json::Error| format!("cannot be {value}: {e}");
        let mut all = serde_json::to_value(*parameters).map_err(refused)?;
        all[self.name] = if off { Value::Null } else { value.clone() };
        *parameters = serde_json::from_value(all).map_err(refused)?;
        Ok(())
    }
}

/// A message about flags with the keys of `[data]` in their place.
pub fn as_keys(message: &str) -> String {
    let mut flags: Vec<(String, &str)> = SETTINGS.iter().map(|s| (s.flag(), s.name)).collect();
    flags.push(("memory".into(), "memory"));
    flags.iter().fold(message.to_owned(), |text, (flag, name)| {
        text.replace(&format!("--{flag}"), &format!("data.{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_a_setting_that_some_recipe_takes() {
        let parameters = Recipe::Deeprec.parameters();
        let all = serde_json::to_value(parameters).unwrap();
        assert_eq!(all.as_object().unwrap().len(), SETTINGS.len());
        for setting in &SETTINGS {
            assert!(setting.recipes().next().is_some(), "{}", setting.name);
            let mut same = parameters;
            setting.put(&mut same, setting.of(&parameters)).unwrap();
            assert_eq!(same, parameters, "{}", setting.name);
            if let Kind::Word(words) = setting.kind {
                for (word, _) in words {
                    setting.put(&mut same, (*word).into()).unwrap();
                    assert_eq!(setting.of(&same), *word);
                }
            }
        }
        for name in Recipe::ALL.iter().flat_map(|r| r.takes()) {
            assert!(SETTINGS.iter().any(|s| s.name == *name), "{name}");
        }
    }

    #[test]
    fn what_is_off_is_zero_and_lists_are_counted() {
        let by_name = |name| SETTINGS.iter().find(|s| s.name == name).unwrap();
        let mut parameters = Recipe::FacebookTerabyte.parameters();
        by_name(setting::RANGE).put(&mut parameters, 0.into()).unwrap();
        assert_eq!(parameters.max_ind_range, None);
        assert_eq!(by_name(setting::RANGE).of(&parameters), 0);
        let short = by_name(setting::HOTNESS).put(&mut parameters, vec![3, 1].into());
        assert_eq!(short, Err("has 2 numbers; must be 26, one for each table".into()));
        assert_eq!(
            as_keys("give more with --memory, or --max-ind-range 7"),
            "give more with data.memory, or data.max_ind_range 7"
        );
    }
}
