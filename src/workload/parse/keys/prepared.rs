//! The keys of `data.source = "prepared"`: its own, and the settings of the recipes, as these
//! declare them (`data/preprocess/prepare/settings.rs`).

use super::{
    Key, Setting,
    data::{buffer, row_by_row},
    lens, under,
};
use crate::{
    data::preprocess::prepare::{
        Files, LEAST_MEMORY, Recipe,
        settings::{self, Kind, SETTINGS, as_keys},
    },
    host::Size,
    workload::{
        DataConfig::Prepared,
        DenseTransform, GroupShuffle, PreparedConfig, RecordShuffle, Workload,
        parse::{
            error::WorkloadError,
            key::{Access, Facts, Fallback, key, split},
            schema::json as to_json,
            tree::Tree,
            value::{TomlValue, join_or, no_such_word},
        },
    },
};
use serde_json::{Value as Json, json};
use toml_edit::Value;

/// Whether the recipe writes files of records.
fn of_records(config: &PreparedConfig) -> bool {
    matches!(config.recipe.reading().files, Files::Records)
}

/// Whether it writes parquet files of many row groups.
fn of_parquet(config: &PreparedConfig) -> bool {
    matches!(config.recipe.reading().files, Files::Parquet { .. })
}

/// Whether ids in its files are hashes, or as in the log.
fn hashed(config: &PreparedConfig) -> bool {
    (config.recipe.reading().hashed)(&config.parameters)
}

/// The setting of a recipe for which `right` holds.
fn recipes(right: fn(&PreparedConfig) -> bool) -> Vec<Setting> {
    let all = Recipe::ALL.iter().filter(|&&recipe| right(&PreparedConfig::of(recipe)));
    let words: Vec<&'static str> = all.map(|recipe| recipe.name()).collect();
    vec![Setting { key: "data.recipe", words: words.leak() }]
}

pub(super) fn keys() -> Vec<Key> {
    let mut keys = under("data.source", &["prepared"], what());
    keys.extend(SETTINGS.iter().map(declared));
    keys.extend(under("data.source", &["prepared"], how()));
    keys.push(
        key("data.shuffle", lens!(data; Prepared(d) if of_records(d) => &mut d.shuffle))
            .or(RecordShuffle::None)
            .when(&recipes(of_records))
            .check(|shuffle, _| match shuffle {
                RecordShuffle::Day => Err(
                    "is \"day\", but the training days lie in one file; must be \"none\", \"batch\" or \"total\" (data.randomize = \"day\" shuffles each day once)"
                        .to_owned(),
                ),
                _ => Ok(()),
            })
            .says(
                "Order of training samples, new every epoch, from `train.seed`, beside that of \
                 `data.randomize`: `none`, `batch` (whole batches, `--mlperf-bin-shuffle`) or \
                 `total`",
            ),
    );
    keys.push(
        key("data.shuffle", lens!(data; Prepared(d) if of_parquet(d) => &mut d.groups))
            .or(GroupShuffle::None)
            .when(&recipes(of_parquet))
            .says(
                "Order of training samples, new every epoch, from `train.seed`, beside that of \
                 `data.randomize`: `none` or `row_group`",
            ),
    );
    keys.extend(under(
        "data.source",
        &["prepared"],
        [buffer(lens!(data; Prepared(d) => &mut d.buffer))],
    ));
    keys
}

/// What is prepared, and where.
fn what() -> Vec<Key> {
    vec![
        split(
            "data.recipe",
            |w| matches!(w.data, Prepared(_)),
            |w| match &w.data {
                Prepared(d) => Some(d.recipe),
                _ => None,
            },
            |w, recipe| {
                let ids = w.data.ids().unwrap_or_default();
                w.data = Prepared(PreparedConfig { ids, ..PreparedConfig::of(recipe) });
            },
        )
        .says(
            "Whose preparation of which log: a recipe of \
             [preprocessing.md](preprocessing.md#recipes)",
        ),
        key("data.raw", lens!(data; Prepared(d) => &mut d.raw))
            .not_empty("names no log; must name a file, a folder, a pattern, or several files")
            .says(
                "The log, as `data preprocess` finds it: a file, a folder with `train.txt` or with \
                 `day_0`, `day_1` and so on, a pattern, or several files; plain or `.gz`. Of days \
                 the last one is for evaluation",
            ),
        key("data.cache", lens!(data; Prepared(d) => &mut d.cache))
            .or(None)
            .or_in_words("beside the log, or the user's cache")
            .says(
                "Folder in which the prepared files get a folder of their own, called by the \
                 recipe and a hash of its settings and of the log; or a folder that \
                 `data preprocess` has made. Without it: `dlrm-bench-cache` in the folder of the \
                 log if that can be written to, else in the user's cache folder",
            ),
        key("data.memory", lens!(data; Prepared(d) => &mut d.memory))
            .or(Size(2 << 30))
            .check(|memory, _| match memory.0 < LEAST_MEMORY {
                true => Err(format!("is {memory}; must be at least {}", Size(LEAST_MEMORY))),
                false => Ok(()),
            })
            .says("Memory that preparing may take. The files do not depend on it"),
    ]
}

/// How the prepared files are read.
fn how() -> Vec<Key> {
    vec![
        key("data.id_range", lens!(data; Prepared(d) => &mut d.id_range))
            .or(None)
            .within_as(1.., "at least 1; leave it out for no limit")
            .check(|range, w| match &w.data {
                Prepared(d) if range.is_none() && hashed(d) && d.ids.is_rows() => Err(format!(
                    "missing; must be given, since the ids that {} writes are hashes or as in the log, which a table has to take modulo its rows (data.ids = \"keys\" for tables that grow)",
                    d.recipe.name()
                )),
                _ => Ok(()),
            })
            .says(
                "Ids of the prepared files modulo this, and tables of at most so many rows: for \
                 recipes whose ids are hashes or as in the log (`oneflow-deepfm`, `deeprec`, \
                 `oneflow-dlrm` with `max_ind_range` 0), which need it, or to try any with \
                 smaller tables",
            ),
        row_by_row(key("data.dense_transform", lens!(data; Prepared(d) => &mut d.dense_transform)).or_by(
            |w| match &w.data {
                Prepared(d) => Some(d.recipe.reading().transform),
                _ => Some(DenseTransform::Raw),
            },
            "the recipe's",
        ))
        .says(
            "Of dense columns of the prepared files, as for `bin40`. The recipe's: `log1p_clamp0` \
             for facebook's, `mlperf-v1` and `oneflow-dlrm`, `raw` for the others, which store \
             logarithms or have none",
        ),
    ]
}

/// A setting of some recipes as a key.
fn declared(setting: &'static settings::Setting) -> Key {
    let recipes: Vec<&'static str> = setting.recipes().map(Recipe::name).collect();
    let (type_name, schema, words): (String, Json, Vec<&'static str>) = match setting.kind {
        Kind::Count(most) => {
            (u64::type_name(), json!({"type": "integer", "minimum": 0, "maximum": most}), vec![])
        }
        Kind::Share => (
            f64::type_name(),
            json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1}),
            vec![],
        ),
        Kind::Word(words) => {
            let words: Vec<_> = words.iter().map(|w| w.0).collect();
            let quoted: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
            (join_or(&quoted), json!({"enum": words}), words)
        }
        Kind::PerTable => (Vec::<u32>::type_name(), Vec::<u32>::schema(), vec![]),
    };
    let (name, says) = (format!("data.{}", setting.name), setting.says.to_owned());
    Key {
        facts: Facts {
            name: name.leak(),
            when: vec![Setting { key: "data.recipe", words: recipes.leak() }],
            type_name,
            range: String::new(),
            fallback: Fallback::Follows(setting.default),
            words,
            says: says.leak(),
            schema,
        },
        access: Box::new(RecipeKey(setting)),
    }
}

struct RecipeKey(&'static settings::Setting);

impl RecipeKey {
    fn key(&self) -> String {
        format!("data.{}", self.0.name)
    }

    /// The value that was given, or what is wrong with it.
    fn parse(&self, given: &Value) -> Result<Json, String> {
        match self.0.kind {
            Kind::Count(most) => match u64::from_toml(given)? {
                n if n > most => Err(format!("is {n}; must be at most {most}")),
                n => Ok(n.into()),
            },
            Kind::Share => match f64::from_toml(given)? {
                x if !(0.0..1.0).contains(&x) => Err(format!("is {x}; must be from 0 to below 1")),
                x => Ok(x.into()),
            },
            Kind::Word(words) => {
                let words: Vec<&str> = words.iter().map(|w| w.0).collect();
                let word = words.iter().find(|w| given.as_str() == Some(w));
                Ok((*word.ok_or_else(|| no_such_word(given, &words))?).into())
            }
            Kind::PerTable => {
                Vec::<u32>::from_toml(given)?;
                Ok(to_json(given))
            }
        }
    }
}

impl Access for RecipeKey {
    fn applies(&self, w: &mut Workload) -> bool {
        matches!(&w.data, Prepared(d) if d.recipe.takes().contains(&self.0.name))
    }

    fn follows(&self) -> bool {
        false
    }

    fn read(&self, tree: &Tree, w: &mut Workload) -> Result<(), WorkloadError> {
        let (key, Prepared(d)) = (self.key(), &mut w.data) else { return Ok(()) };
        // Without it there is what the recipe has.
        let Some(entry) = tree.get(&key) else { return Ok(()) };
        let put = self.parse(&entry.value).and_then(|value| self.0.put(&mut d.parameters, value));
        put.map_err(|what| tree.error(&key, what))?;
        let right = d.parameters.check(d.recipe);
        right.map_err(|e| tree.error(&key, as_keys(&e.to_string())))
    }

    fn write(&self, w: &mut Workload) -> Option<Value> {
        let Prepared(d) = &w.data else { return None };
        d.recipe.takes().contains(&self.0.name).then(|| toml(&self.0.of(&d.parameters)))
    }
}

/// A setting's value in TOML.
fn toml(value: &Json) -> Value {
    match value {
        Json::String(word) => Value::from(word.as_str()),
        Json::Array(list) => list.iter().map(toml).collect::<toml_edit::Array>().into(),
        Json::Number(n) if n.is_f64() => Value::from(n.as_f64().unwrap_or_default()),
        // No setting has more than 32 bits.
        number => Value::from(number.as_i64().unwrap_or_default()),
    }
}
