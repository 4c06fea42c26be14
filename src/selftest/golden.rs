//! The runs of facebookresearch/dlrm that need no data set, and the numbers that they print.

use crate::workload::shipped::Shipped;
use std::sync::LazyLock;

/// What the original prints of each run.
const NUMBERS: &str = include_str!("facebook/numbers.txt");

macro_rules! runs {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("facebook/", $name, ".toml")))),+]
    };
}

/// Workloads beside those that are shipped, by name.
const RUNS: &[(&str, &str)] = runs![
    "adagrad",
    "bce_sgd",
    "lr_schedule",
    "mse_cat",
    "rwsadagrad",
    "tiny_cat_debug",
    "tiny_debug",
    "tiny_self_debug",
    "two_epochs",
    "wbce",
    "weighted_fixed",
];

/// A run of a reference program.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// Its name, that of its workload.
    pub name: &'static str,
    /// The workload file (TOML).
    pub workload: &'static str,
    /// The loss of each iteration, printed with [`Golden::LOSS_DIGITS`].
    pub losses: Vec<f64>,
    /// All parameters before the first update, printed with [`Golden::PARAMETER_DIGITS`]: tables,
    /// then weight and bias of each layer, bottom before top. Empty where they are not printed.
    pub initial: Vec<f64>,
    /// The same after the last update.
    pub updated: Vec<f64>,
}

impl Golden {
    /// Digits behind the point of a printed loss.
    pub const LOSS_DIGITS: usize = 6;
    /// Digits behind the point of a printed parameter (numpy drops zeros at the end).
    pub const PARAMETER_DIGITS: usize = 5;

    fn new(name: &'static str) -> Option<Self> {
        let own = RUNS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
        let workload = own.or_else(|| Shipped::named(name).map(|s| s.text))?;
        let (losses, initial, updated) = (Vec::new(), Vec::new(), Vec::new());
        Some(Golden { name, workload, losses, initial, updated })
    }
}

/// All runs with their numbers.
pub fn golden() -> &'static [Golden] {
    static GOLDEN: LazyLock<Vec<Golden>> = LazyLock::new(|| read(NUMBERS));
    &GOLDEN
}

/// Reads `[name]` and, below it, words with their numbers, over any number of lines.
fn read(text: &'static str) -> Vec<Golden> {
    let mut all: Vec<Golden> = Vec::new();
    let mut of = "";
    for word in text.lines().filter(|l| !l.starts_with('#')).flat_map(str::split_whitespace) {
        if let Some(name) = word.strip_prefix('[').and_then(|w| w.strip_suffix(']')) {
            all.extend(Golden::new(name));
            continue;
        }
        let Ok(number) = word.parse() else {
            of = word;
            continue;
        };
        let Some(run) = all.last_mut() else { continue };
        match of {
            "losses" => run.losses.push(number),
            "initial" => run.initial.push(number),
            _ => run.updated.push(number),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_its_workload_and_its_numbers() {
        let all = golden();
        assert_eq!(all.len(), RUNS.len() + 1);
        assert_eq!(all.len(), NUMBERS.lines().filter(|l| l.starts_with('[')).count());
        for run in all {
            assert!(run.losses.len() >= 3, "{}", run.name);
            assert!(run.workload.contains(&format!("name = {:?}", run.name)), "{}", run.name);
            assert!(run.initial.is_empty() || run.initial.len() == run.updated.len());
        }
        let numbers: usize =
            all.iter().map(|r| r.losses.len() + r.initial.len() + r.updated.len()).sum();
        assert_eq!(numbers, 12 + 180 + 2 * (90 + 90 + 106) + 90);
        assert!(NUMBERS.lines().all(|l| {
            l.starts_with(['#', '[', ' '])
                || l.is_empty()
                || l.contains("losses ")
                || l.starts_with("initial ")
                || l.starts_with("updated ")
        }));
    }
}
