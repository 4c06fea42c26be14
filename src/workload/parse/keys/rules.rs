//! The keys of the update rules, as the rules themselves declare them (`optim/rules`).

use super::{Key, Setting};
use crate::{
    optim::{
        OptimizerSpec,
        rules::{self, Value as Is},
    },
    workload::{
        Workload,
        parse::{
            error::WorkloadError,
            key::{Access, Facts, Fallback},
            tree::Tree,
            value::{TomlValue, join_or, no_such_word},
        },
    },
};
use serde_json::{Value as Json, json};
use toml_edit::Value;

/// A key of some rules.
struct RuleKey {
    kinds: Vec<&'static str>,
    key: &'static rules::Key,
}

/// Every rule's keys; what several rules say alike is one key.
pub(super) fn keys() -> Vec<Key> {
    let mut all: Vec<RuleKey> = Vec::new();
    for rule in OptimizerSpec::all() {
        for key in rule.keys {
            match all.iter_mut().find(|k| alike(k.key, key)) {
                Some(known) => known.kinds.push(rule.kind),
                None => all.push(RuleKey { kinds: vec![rule.kind], key }),
            }
        }
    }
    all.into_iter().map(RuleKey::declared).collect()
}

fn alike(a: &rules::Key, b: &rules::Key) -> bool {
    (a.path, (a.default)(), a.range.says, a.about) == (b.path, (b.default)(), b.range.says, b.about)
}

impl RuleKey {
    fn declared(self) -> Key {
        let key = self.key;
        let default = (key.default)();
        let range = match default {
            Is::Number(_) | Is::Count(_) if key.range.says != rules::Range::ANY.says => {
                key.range.says
            }
            _ => "",
        };
        let (type_name, mut schema): (String, Json) = match default {
            Is::Number(_) => (f64::type_name(), f64::schema()),
            Is::Count(_) => (u64::type_name(), u64::schema()),
            Is::Flag(_) => (bool::type_name(), bool::schema()),
            Is::Word(_) => {
                let quoted: Vec<_> = key.words.iter().map(|w| format!("`{w}`")).collect();
                (join_or(&quoted), json!({"enum": key.words}))
            }
        };
        if !range.is_empty() {
            limit(&mut schema, key.range.holds);
        }
        let kinds: &'static [&'static str] = self.kinds.clone().leak();
        let about = key.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        Key {
            facts: Facts {
                name: key.path,
                when: vec![Setting { key: "optimizer.kind", words: kinds }],
                type_name,
                range: range.to_owned(),
                fallback: written(default).map_or(Fallback::Off, Fallback::Value),
                words: key.words.to_vec(),
                says: about.leak(),
                schema,
            },
            access: Box::new(self),
        }
    }

    /// What the key has in a rule.
    fn value(&self, rule: &OptimizerSpec) -> Option<Is> {
        rule.settings().find(|(key, _)| key.path == self.key.path).map(|(_, value)| value)
    }

    /// The value that was given, or what is wrong with it.
    fn parse(&self, given: &Value) -> Result<Is, String> {
        let (key, range) = (self.key, self.key.range);
        let within = |x: f64, shown: String| match (range.holds)(x) {
            true => Ok(()),
            false => Err(format!("is {shown}; must be {}", range.says)),
        };
        Ok(match (key.default)() {
            Is::Number(_) => {
                let x = f64::from_toml(given)?;
                within(x, x.to_string())?;
                Is::Number(x)
            }
            Is::Count(_) => {
                let n = u64::from_toml(given)?;
                within(n as f64, n.to_string())?;
                Is::Count(n)
            }
            Is::Flag(_) => Is::Flag(bool::from_toml(given)?),
            Is::Word(_) => {
                let word = key.words.iter().find(|w| given.as_str() == Some(w));
                Is::Word(word.ok_or_else(|| no_such_word(given, key.words))?)
            }
        })
    }
}

impl Access for RuleKey {
    fn applies(&self, w: &mut Workload) -> bool {
        self.kinds.contains(&w.optimizer.rule.kind())
    }

    fn follows(&self) -> bool {
        false
    }

    fn read(&self, tree: &Tree, w: &mut Workload) -> Result<(), WorkloadError> {
        let value = match tree.get(self.key.path) {
            Some(entry) => {
                self.parse(&entry.value).map_err(|what| tree.error(self.key.path, what))?
            }
            None => (self.key.default)(),
        };
        let old = w.optimizer.rule;
        let others = |key: &rules::Key| {
            old.settings().find(|(k, _)| k.path == key.path).map_or((key.default)(), |(_, v)| v)
        };
        w.optimizer.rule = OptimizerSpec::read(old.kind(), &mut |key| {
            Ok::<_, WorkloadError>(if key.path == self.key.path { value } else { others(key) })
        })?;
        Ok(())
    }

    fn write(&self, w: &mut Workload) -> Option<Value> {
        self.applies(w).then(|| self.value(&w.optimizer.rule)).flatten().and_then(written)
    }
}

fn written(value: Is) -> Option<Value> {
    match value {
        Is::Number(x) => x.to_toml(),
        Is::Count(n) => n.to_toml(),
        Is::Flag(b) => b.to_toml(),
        Is::Word(word) => word.to_owned().to_toml(),
    }
}

/// Adds a range to a schema. A rule's range is a function; it begins at 0 or ends at 1, or neither.
fn limit(schema: &mut Json, holds: fn(f64) -> bool) {
    let lower = if holds(0.0) { "minimum" } else { "exclusiveMinimum" };
    let upper = if holds(1.0) { "maximum" } else { "exclusiveMaximum" };
    if !holds(-f64::MIN_POSITIVE) {
        schema[lower] = 0.into();
    }
    if !holds(2.0) {
        schema[upper] = 1.into();
    }
}
