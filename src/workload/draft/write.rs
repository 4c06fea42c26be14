//! The text of a workload, with what was guessed and why as comments.

use super::{Files, Found, Kind, Role, Roles, Wishes, roles::brief};
use crate::{
    data::survey::{Column, Holds},
    host::escape::visible,
};
use serde_json::Value as Json;

/// Of so many samples one is held out for evaluation, where there is no file for it. Where that
/// leaves one class only, as where labels take turns, the next one is tried.
pub const HOLD_OUT: [u32; 3] = [10, 11, 7];
/// The same for few rows.
const FEW_HOLD_OUT: [u32; 3] = [5, 4, 3];
/// Rows below which they are few.
const FEW_ROWS: u64 = 200;
/// More different categories than this are hashed rather than numbered in memory.
const NUMBERED: u64 = 5_000_000;
/// Rows of a table whose ids are hashes, and of one of parquet whose ids are far apart.
const HASHED: u64 = 1_000_000;
/// Ids of parquet from here on do not each have a row.
const LARGEST: f64 = 10_000_000.0;

/// A workload to be written.
#[derive(Debug, Clone)]
pub struct Draft {
    name: String,
    found: Found,
    roles: Roles,
    kind: Kind,
    hash: Option<u32>,
    /// Columns as they were asked for, of files that say themselves what they have.
    asked: String,
}

impl Draft {
    /// The workload `name` for the files that were found.
    ///
    /// # Errors
    /// As [`Roles::guess`], and if the model does not fit the columns.
    pub fn new(name: String, found: Found, wishes: &Wishes) -> Result<Self, String> {
        let roles = Roles::guess(&found.survey, found.files, wishes)?;
        let text = matches!(found.files, Files::Text { .. });
        // The days of a date are a number, which is trained on where it can be scaled.
        let days = text && !roles.of(&found.survey, Role::Date).is_empty();
        let dense = roles.of(&found.survey, Role::Dense).len() + usize::from(days);
        let words = text
            || roles
                .of(&found.survey, Role::Categorical)
                .iter()
                .any(|(c, _)| c.holds == Holds::Text);
        let kind = match wishes.model {
            Some(Kind::Dlrm) if dense == 0 => {
                return Err("a DLRM needs at least one dense column, and there is none; use --model deepfm, or name columns with --dense".to_owned());
            }
            Some(kind) => kind,
            None if dense == 0 => Kind::DeepFm,
            None => Kind::Dlrm,
        };
        if wishes.hash.is_some() && !words {
            return Err("--hash is about text, and the files have no category of it".to_owned());
        }
        let named = |key, names: &[String]| match names.is_empty() {
            true => String::new(),
            false => list(key, names.iter().map(|n| (n.as_str(), ""))),
        };
        let asked = named("dense", &wishes.dense)
            + &named("categorical", &wishes.categorical)
            + &named("ignore", &wishes.ignore);
        Ok(Draft { name, found, roles, kind, hash: wishes.hash, asked })
    }

    /// What each column is for.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// The files.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The model.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What may be held out, in the order in which it is to be tried; nothing where there is a file
    /// for evaluation.
    pub fn hold_outs(&self) -> Vec<Option<u32>> {
        let every = if self.rows() < FEW_ROWS { FEW_HOLD_OUT } else { HOLD_OUT };
        match self.found.eval {
            Some(_) => vec![None],
            None => every.map(Some).to_vec(),
        }
    }

    /// The workload file.
    pub fn to_toml(&self, hold_out: Option<u32>) -> String {
        let mut out = String::new();
        let train = &self.found.train[0].display().to_string();
        out += &format!(
            "# Written by `dlrm-bench init` for {}; comments say what was guessed, and why.\n",
            visible(train)
        );
        out += &format!("[workload]\nname = {}\n\n[data]\n", quoted(&self.name));
        self.files(hold_out, &mut out);
        self.label(&mut out);
        self.columns(&mut out);
        self.model(&mut out);
        self.training(&mut out);
        out
    }

    fn rows(&self) -> u64 {
        self.found.survey.rows
    }

    fn of(&self, role: Role) -> Vec<(&Column, &str)> {
        self.roles.of(&self.found.survey, role)
    }

    /// Source, files and how they are cut.
    fn files(&self, hold_out: Option<u32>, out: &mut String) {
        let path = |path: &std::path::Path| quoted(&path.display().to_string());
        let rows = self.rows();
        match self.found.files {
            Files::Text { .. } => {
                let train = match &self.found.train[..] {
                    [one] => path(one),
                    many => {
                        let all: Vec<String> = many.iter().map(|p| path(p)).collect();
                        format!("[{}]", all.join(", "))
                    }
                };
                *out += &format!("source = \"csv\"\n# {rows} samples.\ntrain = {train}\n");
            }
            Files::Parquet | Files::Described(_) => {
                let source = match self.found.files {
                    Files::Described(format) => format.word(),
                    _ => "parquet",
                };
                let all: Vec<String> = self.found.train.iter().map(|p| path(p)).collect();
                *out += &format!(
                    "source = \"{source}\"\n# {rows} samples.\ntrain = [{}]\n",
                    all.join(", ")
                );
            }
        }
        match (&self.found.eval, hold_out) {
            (Some(eval), _) => *out += &format!("eval = {}\n", path(eval)),
            (None, every) => {
                let every = every.unwrap_or(HOLD_OUT[0]);
                *out += &format!(
                    "# No file for evaluation was named: of each {every} samples the last one is for it.\nhold_out = {every}\n"
                );
            }
        }
        if let Some(test) = &self.found.test {
            *out += &format!("test = {}\n", path(test));
        }
        let Files::Text { delimiter, header } = self.found.files else { return };
        if delimiter != ',' {
            *out += &format!("delimiter = {}\n", quoted(&delimiter.to_string()));
        }
        if !header {
            let names: Vec<&str> = self.found.survey.columns.iter().map(|c| &*c.name).collect();
            *out += "# The first line holds a sample, so the columns have no names but these; change them at will.\n";
            *out += &list("columns", names.iter().map(|n| (*n, "")));
        }
    }

    fn label(&self, out: &mut String) {
        let label = &self.roles.label;
        let name = &self.found.survey.columns[label.column].name;
        for why in &label.why {
            *out += &format!("# {}\n", visible(why));
        }
        if let Some(share) = label.share {
            *out += &format!("# {:.2}% of the labels are 1.\n", 100.0 * share);
        }
        if matches!(self.found.files, Files::Described(_)) {
            return;
        }
        *out += &format!("label = {}\n", quoted(name));
        if !label.positive.is_empty() {
            let values: Vec<String> = label.positive.iter().map(|v| quoted(v)).collect();
            *out += &format!("positive = [{}]\n", values.join(", "));
        }
    }

    /// The columns that are learnt from, and those that are not.
    fn columns(&self, out: &mut String) {
        if matches!(self.found.files, Files::Described(_)) {
            return self.described(out);
        }
        let text = matches!(self.found.files, Files::Text { .. });
        let dense = self.of(Role::Dense);
        let named = |columns: Vec<(&Column, &str)>| -> Vec<(String, String)> {
            columns.iter().map(|(c, why)| (c.name.clone(), (*why).to_owned())).collect()
        };
        let list_of = |key: &str, columns: &[(String, String)]| {
            list(key, columns.iter().map(|(name, why)| (name.as_str(), why.as_str())))
        };
        let dates = self.of(Role::Date);
        if !dense.is_empty() || (text && !dates.is_empty()) {
            if dense.iter().chain(&dates).any(|(c, _)| c.missing > 0) {
                *out += "# Where a number is missing it is 0.\n";
            }
            // Days since 1970 are far from 0 and close to one another.
            let (transform, why) = match text && !dates.is_empty() {
                true => ("standard", "Each column to mean 0 and deviation 1.".to_owned()),
                false => transform(&dense, text),
            };
            if !dense.is_empty() {
                *out += &list_of("dense", &named(dense));
            }
            *out += &format!("# {why}\ndense_transform = \"{transform}\"\n");
        }
        if !dates.is_empty() {
            *out += &date_features(&dates, text);
            *out += &list_of("dates", &named(dates));
        }
        let categorical = self.of(Role::Categorical);
        if !categorical.is_empty() {
            *out += &self.categories(&categorical, text);
            *out += &list_of("categorical", &named(categorical));
        }
        let ignored = named(self.of(Role::Ignored));
        if !ignored.is_empty() {
            *out += &list_of("ignore", &ignored);
        }
        if !text {
            *out +=
                "# Samples lie in the order of the files; they are shuffled through a buffer.\n";
            *out += &format!("buffer = {}\n", self.rows().clamp(1, 1 << 16));
        }
    }

    /// The columns of files that say themselves what they are.
    fn described(&self, out: &mut String) {
        *out += "# The files say which column is what:\n";
        let dense = self.of(Role::Dense);
        for (what, columns) in [("dense", &dense), ("categorical", &self.of(Role::Categorical))] {
            for (c, why) in columns {
                *out += &format!("#   {what} {}: {}\n", visible(&c.name), visible(why));
            }
        }
        if !self.asked.is_empty() {
            *out += &self.asked;
        }
        if !dense.is_empty() {
            let (transform, why) = transform(&dense, false);
            *out += &format!("# {why}\ndense_transform = \"{transform}\"\n");
        }
        let far = self
            .of(Role::Categorical)
            .into_iter()
            .find(|(c, _)| c.range.is_some_and(|(_, most)| most >= LARGEST));
        *out += &match far {
            Some((c, _)) => format!(
                "# Ids of column {} are too large for a row each: they are taken modulo a number.\nmax_ind_range = {HASHED}\n",
                visible(&c.name)
            ),
            None => "# A table has a row for each id up to the largest in the files.\n".to_owned(),
        };
        *out += "# Samples lie in the order of the files; they are shuffled through a buffer.\n";
        *out += &format!("buffer = {}\n", self.rows().clamp(1, 1 << 16));
    }

    /// How values become rows of tables.
    fn categories(&self, categorical: &[(&Column, &str)], text: bool) -> String {
        let different: u64 = categorical.iter().map(|(c, _)| c.distinct).sum();
        if !text {
            let words = categorical.iter().any(|(c, _)| c.holds == Holds::Text);
            let hashed = match (words, self.hash) {
                (true, Some(n)) => format!("# Text is hashed to rows.\nhash_buckets = [{n}]\n"),
                (true, None) => "# Text is numbered by the training samples.\n".to_owned(),
                (false, _) => String::new(),
            };
            let numbers = |c: &Column| c.holds != Holds::Text;
            let far = |c: &Column| {
                let far = c.range.is_some_and(|(min, max)| min < 0.0 || max >= LARGEST);
                c.holds == Holds::Hashes || (numbers(c) && far)
            };
            return hashed
                + &match categorical.iter().find(|(c, _)| far(c)) {
                    Some((c, _)) => format!(
                        "# Numbers of column {} are too large for a row each: ids are these modulo a number.\nmax_ind_range = {HASHED}\n",
                        visible(&c.name)
                    ),
                    None if categorical.iter().any(|(c, _)| numbers(c)) => {
                        "# A table has a row for each number up to the largest in the files.\n"
                            .to_owned()
                    }
                    None => String::new(),
                };
        }
        if let Some(buckets) = self.hash {
            return format!("# Values are hashed to rows.\nhash_buckets = [{buckets}]\n");
        }
        if different > NUMBERED {
            let buckets = |c: &Column| (2 * c.distinct).clamp(16, HASHED).to_string();
            let all: Vec<String> = categorical.iter().map(|(c, _)| buckets(c)).collect();
            return format!(
                "# {different} values are many to number in memory: they are hashed, to at most {HASHED} rows a table.\nhash_buckets = [{}]\n",
                all.join(", ")
            );
        }
        let rare = |c: &Column| c.distinct > 1000 && c.distinct > self.rows() / 10;
        match categorical.iter().find(|(c, _)| rare(c)) {
            Some((c, _)) => format!(
                "# Values are numbered, {different} in all; those that came once, of which column {} has many, share a row.\nmin_count = 2\n",
                visible(&c.name)
            ),
            None => format!(
                "# Values are numbered, {different} in all; a table has one row more, for those that training never saw.\n"
            ),
        }
    }

    fn model(&self, out: &mut String) {
        let tables = self.of(Role::Categorical).len() + self.of(Role::Date).len();
        let small = self.rows() < 20_000;
        let dim = if small { 8 } else { 16 };
        match self.kind {
            Kind::Dlrm => {
                let why = match tables {
                    0 => "There are no categories, so this is a plain network of the numbers",
                    _ => "Numbers and categories meet in dot products",
                };
                let (bottom, top) = if small { (32, "[64, 1]") } else { (64, "[128, 64, 1]") };
                *out += &format!(
                    "\n# {why}; sizes by the number of samples.\n[model]\nkind = \"dlrm\"\ndim = {dim}\nbottom = [{bottom}, {dim}]\ntop = {top}\n"
                );
            }
            Kind::DeepFm => {
                let why = match self.of(Role::Dense).len() {
                    0 => "There are no numbers, which a DLRM needs",
                    _ => "As was asked for",
                };
                let hidden = if small { "[64, 64]" } else { "[256, 256]" };
                *out += &format!(
                    "\n# {why}; sizes by the number of samples.\n[model]\nkind = \"deepfm\"\ndim = {dim}\nhidden = {hidden}\n"
                );
            }
        }
    }

    fn training(&self, out: &mut String) {
        let rows = self.rows();
        let (batch, epochs) = match rows {
            0..=1_999 => (32, 10),
            2_000..=199_999 => (128, 10),
            200_000..=1_999_999 => (512, 4),
            _ => (2048, 1),
        };
        let optimizer = match self.kind {
            Kind::Dlrm => "kind = \"adagrad\"\nlearning_rate = 0.02",
            Kind::DeepFm => "kind = \"adam\"\nlearning_rate = 0.001",
        };
        *out += &format!(
            "\n[train]\nbatch_size = {batch}\nepochs = {epochs}\n\n[optimizer]\n{optimizer}\n"
        );
        let every = if epochs == 1 { "0.1" } else { "1.0" };
        *out += &format!(
            "\n# Training ends after two evaluations in a row that are no better than the best, which is kept.\n[eval]\nevery_epochs = {every}\nbatch_size = {}\npatience = 2\nrestore_best = true\n",
            (8 * batch).min(8192)
        );
        *out += "\n# What AUC can be had is known when it has been trained once:\n# [target]\n# auc = 0.8\n";
    }
}

/// What is made of dates: the hour only where there is one.
fn date_features(dates: &[(&Column, &str)], text: bool) -> String {
    let mut features = vec!["day_of_week", "day_of_month", "month_of_year"];
    if dates.iter().any(|(c, _)| c.clock) {
        features.insert(0, "hour_of_day");
    }
    if text {
        features.push("days_since_epoch");
    }
    let days = if text { ", and the days since 1970 as a number" } else { "" };
    let clock = match dates.iter().any(|(c, _)| c.clock) {
        true => "",
        false => "; none has a time of day",
    };
    let features: Vec<String> = features.into_iter().map(quoted).collect();
    format!(
        "# Of each date categories are made{days}{clock}.\ndate_features = [{}]\n",
        features.join(", ")
    )
}

/// The transform of the dense columns, and why.
fn transform(dense: &[(&Column, &str)], text: bool) -> (&'static str, String) {
    let ranges = || dense.iter().filter_map(|(c, _)| c.range.map(|(min, max)| (*c, min, max)));
    let negative = ranges().any(|(_, min, _)| min < 0.0);
    let long = ranges().find(|(c, min, max)| *min >= 0.0 && *max > 50.0 && *max > 20.0 * c.mean);
    match (negative, long) {
        (false, Some((c, _, max))) => (
            "log1p_clamp0",
            format!(
                "None is negative, and some are far above their mean ({}: {}, {}), as counts are: logarithms.",
                visible(&c.name),
                brief(max),
                brief(c.mean)
            ),
        ),
        _ if text => ("standard", "Each column to mean 0 and deviation 1.".to_owned()),
        (true, _) => match ranges().all(|(_, min, max)| min >= -10.0 && max <= 10.0) {
            true => ("raw", "All are small.".to_owned()),
            false => (
                "log1p_clamp0",
                "Logarithms, since some are large; negative ones become 0, which csv files can do without.".to_owned(),
            ),
        },
        _ if ranges().all(|(_, _, max)| max <= 10.0) => ("raw", "All are small.".to_owned()),
        _ => ("log1p_clamp0", "Logarithms, since some are large.".to_owned()),
    }
}

/// `text` as a string of TOML, in one line: JSON's are such, but for one character.
fn quoted(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A list of names, each on a line of its own with what is said of it, or all in one where nothing
/// is said.
fn list<'a>(key: &str, names: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let names: Vec<(String, &str)> = names.map(|(name, why)| (quoted(name), why)).collect();
    if names.iter().all(|(_, why)| why.is_empty()) {
        let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
        return format!("{key} = [{}]\n", names.join(", "));
    }
    let width = names.iter().map(|(name, _)| name.chars().count() + 1).max().unwrap_or(0).min(40);
    let line = |(name, why): &(String, &str)| {
        format!("    {:<width$}  # {}\n", format!("{name},"), visible(why))
    };
    format!("{key} = [\n{}]\n", names.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_lists_are_toml_whatever_they_hold() {
        for text in [
            "a",
            "a \"b\"",
            "tab\there",
            "\u{7f}\u{1}",
            "line\nend",
            "\\",
            "",
            "it's",
            "ümlaut",
            "#",
        ] {
            let written = list("names", [(text, "why"), ("other", "")].into_iter());
            let table: toml_edit::DocumentMut = written.parse().unwrap();
            let names = table["names"].as_array().unwrap();
            assert_eq!(names.get(0).unwrap().as_str(), Some(text), "{written}");
            assert_eq!((names.len(), written.lines().count()), (2, 4), "{written}");
        }
        assert_eq!(list("a", [("x", ""), ("y", "")].into_iter()), "a = [\"x\", \"y\"]\n");
    }
}
