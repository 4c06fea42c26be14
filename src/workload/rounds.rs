//! Which rounds of MLPerf Training have which benchmark.

/// Benchmarks of MLPerf that logs are written for, with the rounds that have them, oldest first.
pub(crate) const ROUNDS: [(&str, &[&str]); 2] = [
    ("dlrm", &["0.7", "1.0", "1.1", "2.0", "2.1"]),
    ("dlrm_dcnv2", &["3.0", "3.1", "4.0", "4.1", "5.0", "5.1", "6.0"]),
];

/// The ruleset of a round, as MLPerf's checker names it: `5.1.0` of `5.1`.
pub(crate) fn ruleset(round: &str) -> String {
    format!("{round}.0")
}

/// Refuses a round that does not have `benchmark`, with what would be right.
pub(super) fn refusal(benchmark: &str, round: &str) -> Result<(), String> {
    match ROUNDS.iter().find(|(name, _)| *name == benchmark) {
        None => Err(format!("is \"{round}\", but no round has {benchmark}; remove it")),
        Some((_, rounds)) if rounds.contains(&round) => Ok(()),
        Some((_, rounds)) => Err(format!(
            "is \"{round}\", which does not have {benchmark}; must be one of {}",
            rounds.join(", ")
        )),
    }
}
