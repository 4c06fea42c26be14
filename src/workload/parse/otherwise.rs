//! `[data.otherwise]`: what to train on where the data themselves are not at hand.

use super::{
    error::{Origin, WorkloadError},
    keys,
    tree::Tree,
    value::{expand, variables},
    words::Words,
};
use crate::workload::{Workload, unfit_name};
use toml_edit::{Array, Value};

/// What to do where an environment variable that a path of `[data]` names is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Take `[data.otherwise]`, if there is one.
    TakeOtherwise,
    /// Refuse the workload.
    Refuse,
}

/// That `[data.otherwise]` was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instead {
    /// The environment variables that are not set.
    pub variables: Vec<String>,
    /// The workload's own name.
    pub of: String,
}

/// Which of the two a workload is, and the other one, which is checked all the same.
pub(super) struct Choice {
    pub used: Tree,
    /// As the file has it, and with what `--set` changes; with a stand-in for each environment
    /// variable that is not set. Empty if there is no other one.
    pub unused: Vec<Tree>,
    pub instead: Option<Vec<String>>,
}

/// Chooses between `[data]` and `[data.otherwise]`; refuses what has no effect with that.
/// `all` is `file` with what `--set` changes.
pub(super) fn choose(file: &Tree, all: Tree, missing: Missing) -> Result<Choice, WorkloadError> {
    if !all.has_otherwise("data") {
        return match keys::OTHERWISE.iter().find(|(section, _)| all.has_otherwise(section)) {
            Some((section, _)) => {
                let what = "is taken together with [data.otherwise], which is missing; must say there what to train on";
                Err(all.otherwise_error(section, what.to_owned()))
            }
            None => Ok(Choice { used: all, unused: Vec::new(), instead: None }),
        };
    }
    let named = named(&all);
    let unset: Vec<String> = named.iter().filter(|name| !is_set(name)).cloned().collect();
    if named.is_empty() && !all.set_keys().any(of_data) {
        let what = "is never taken, since no path of [data] names an environment variable; must be ${NAME} in one";
        return Err(all.otherwise_error("data", what.to_owned()));
    }
    let (own, otherwise) = (all.clone(), all.otherwise());
    if unset.is_empty() || missing == Missing::Refuse {
        if let (Some(key), true) = (all.otherwise_set_keys().next(), unset.is_empty()) {
            let why = match &named[..] {
                [] => "no path of [data] names an environment variable".to_owned(),
                names => format!("{} set", list(names)),
            };
            let what = format!("has no effect, since {why}, so that [data] is taken");
            return Err(no_effect(&given(key), what));
        }
        let unused = vec![filled(&file.otherwise()), filled(&otherwise)];
        return Ok(Choice { used: own, unused, instead: None });
    }
    if let Some(key) = all.set_keys().find(|key| of_data(key)) {
        let told = not_set(&unset);
        let what = format!(
            "has no effect, since {told}, so that [data.otherwise] is taken; use --set {}",
            given(key)
        );
        return Err(no_effect(key, what));
    }
    // What stands for the whole section gives way to a single key that is set.
    for (key, entry) in all.otherwise_given().filter(|(_, e)| e.origin == Origin::Set) {
        if otherwise.get(key).is_none_or(|kept| kept.given != entry.given) {
            let what = format!("has no effect beside --set {key}; leave one of them out");
            return Err(no_effect(&entry.given, what));
        }
    }
    let unused = vec![filled(file), filled(&own)];
    Ok(Choice { used: otherwise, unused, instead: Some(unset) })
}

impl Instead {
    /// Calls `w` by what it is trained on, never by the data that are not there, but where `--set`
    /// gave a name; and keeps in it why.
    pub(super) fn name(
        w: &mut Workload,
        tree: &Tree,
        variables: Vec<String>,
    ) -> Result<Self, WorkloadError> {
        let (of, source) = (w.workload.name.clone(), w.data.word());
        if tree.origin("workload.name") != Origin::Set {
            w.workload.name = format!("{of}-{source}");
            if let Some(why) = unfit_name(&w.workload.name) {
                let what = format!(
                    "becomes {:?} with [data.otherwise], which {why}; must be shorter",
                    w.workload.name
                );
                return Err(tree.error("workload.name", what));
            }
        }
        if tree.origin("workload.description") != Origin::Set {
            w.workload.description =
                format!("{of} on {source} data, since {}", not_set(&variables));
        }
        w.workload.without = Some(variables.clone());
        Ok(Instead { variables, of })
    }

    /// Why: `CRITEO_1TB is not set`.
    pub fn why(&self) -> String {
        not_set(&self.variables)
    }
}

/// `A is not set`, `A and B are not set`.
fn not_set(names: &[String]) -> String {
    format!("{} not set", list(names))
}

/// `A is`, `A and B are`.
fn list(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        [first @ .., last] => format!("{} and {last} are", first.join(", ")),
        [] => String::new(),
    }
}

fn no_effect(key: &str, what: String) -> WorkloadError {
    WorkloadError::InOverride { key: key.to_owned(), what }
}

/// `data.otherwise.seed` for `data.seed`.
fn given(key: &str) -> String {
    key.replacen('.', ".otherwise.", 1)
}

fn of_data(key: &str) -> bool {
    key.starts_with("data.")
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !value.is_empty())
}

/// Whether the values of `key` are paths, in which variables are looked for.
fn is_path(key: &str) -> bool {
    keys::called(key).any(|k| ["path", "list of paths"].contains(&k.facts.type_name.as_str()))
}

/// The environment variables that paths of `[data]` name, each once.
fn named(tree: &Tree) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let values = tree.values("data").filter(|(key, _)| is_path(key));
    for name in values.flat_map(|(_, value)| texts(value)).flat_map(variables) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text.value()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The tree with a stand-in for each variable of `[data]` that is not set, so that all else of it can
/// be checked.
fn filled(tree: &Tree) -> Tree {
    let stand_in = |text: &str| {
        let value = |name: &str| Some(std::env::var(name).unwrap_or_else(|_| name.to_owned()));
        expand(text, &|name| value(name).map(|v| if v.is_empty() { name.to_owned() } else { v }))
            // What is wrong with it is said when it is read.
            .unwrap_or_else(|_| text.to_owned())
    };
    tree.with_values("data", &|key, value| match value {
        value if !is_path(key) => value.clone(),
        Value::String(text) => Value::from(stand_in(text.value())),
        Value::Array(list) => {
            let made =
                |v: &Value| v.as_str().map_or_else(|| v.clone(), |t| Value::from(stand_in(t)));
            Value::Array(list.iter().map(made).collect::<Array>())
        }
        other => other.clone(),
    })
}
