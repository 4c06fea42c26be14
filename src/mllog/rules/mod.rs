//! What MLPerf asks of a training log, as tables: which keys, how often, with what values, in what
//! order.
//!
//! The facts are those of mlcommons/logging (package `mlperf-logging` 4.1.68,
//! `compliance_checker/training_*`), rulesets 0.7.0 to 6.0.0, and our own
//! `rules/deepfm_common.yaml`. A rule is a row; a round ([`rounds::ROUNDS`]) is a choice of tables.

mod benchmarks;
mod common;
pub mod rounds;
mod written;

pub use rounds::{ROUNDS, Round, RuleSet};
pub use written::{RULESET, stated, when_written};

use serde::Serialize;

/// What is asked of one key.
#[derive(Debug)]
pub struct Rule {
    /// The key.
    pub key: &'static str,
    /// How many lines may have it.
    pub count: Count,
    /// What holds for each of its lines.
    pub checks: &'static [Check],
}

const fn rule(key: &'static str, count: Count, checks: &'static [Check]) -> Rule {
    Rule { key, count, checks }
}

/// How many lines of a log have a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// One. More of them with the same value are only warned of.
    Once,
    /// One or more.
    AtLeastOnce,
    /// One or more of this key or of that one.
    ThisOr(&'static str),
    /// Any number.
    Any,
}

/// What must hold for a line of a key.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// The value is not the empty string.
    NotEmpty,
    /// The value is neither null, false, 0 nor empty.
    Given,
    /// The value is this number.
    Is(f64),
    /// The value is one of these words.
    OneOf(&'static [&'static str]),
    /// The value is a number above 0.
    Positive,
    /// The value is a number, 0 or above.
    NotNegative,
    /// The value is a number from 0 to 1.
    Share,
    /// The value is a whole number.
    Whole,
    /// The value is a whole number, 0 or above, or a string that holds one.
    Seed,
    /// The value is true or false.
    Flag,
    /// The metadata hold one of these.
    Has(&'static [&'static str]),
    /// The metadata hold this, neither null nor empty.
    HasGiven(&'static str),
    /// Where the metadata hold the first, they hold the second.
    HasWith(&'static str, &'static str),
    /// Where the metadata hold this, it is a number above 0.
    HasPositive(&'static str),
    /// Where the metadata hold this, it is a number, 0 or above.
    HasNotNegative(&'static str),
    /// The metadata hold this, with one of these words.
    HasOneOf(&'static str, &'static [&'static str]),
    /// A line of that key stands before this one.
    After(&'static str),
    /// No line of that key stands before this one.
    Before(&'static str),
    /// An interval of this name (`eval` of `eval_start` and `eval_stop`) is open.
    Within(&'static str),
    /// No interval of this name is open.
    Outside(&'static str),
    /// `epoch_num` is that of the open interval of this name.
    SameEpoch(&'static str),
    /// The line comes soon enough after the first `init_start`: see [`InitLimit`].
    InitInTime,
    /// The line's time is not before that of the first `init_start`.
    InitForward,
}

/// Numbers of which at least one evaluation must reach one: `from <= x < to`, or `<= to` if `to`
/// belongs to them.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Least AUC; `None` = any.
    pub from: Option<f64>,
    /// Whether 1.0 is allowed.
    pub perfect: bool,
}

impl Target {
    /// Whether `auc` is in it.
    pub fn met_by(&self, auc: f64) -> bool {
        self.from.is_none_or(|from| auc >= from)
            && if self.perfect { auc <= 1.0 } else { auc < 1.0 }
    }
}

/// How long a run may take from the first `init_start` to `init_stop`, in minutes.
#[derive(Debug, Clone, Copy)]
pub enum InitLimit {
    /// The same for all.
    Minutes(u64),
    /// By division, which must then be known by the time.
    ByDivision {
        /// Closed.
        closed: u64,
        /// Open.
        open: u64,
    },
}

/// Which rules a run was made under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Division {
    /// The reference's model and hyperparameters.
    Closed,
    /// Anything that trains to the task's end.
    Open,
}

impl Division {
    /// The division called `name` in logs.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "closed" => Some(Division::Closed),
            "open" => Some(Division::Open),
            _ => None,
        }
    }

    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Division::Closed => "closed",
            Division::Open => "open",
        }
    }
}
