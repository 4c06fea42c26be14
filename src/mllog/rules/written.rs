//! The round that a log is of, by what the log itself says. MLPerf's logs name none; ours may.

use super::rounds::{ROUNDS, Round};
use crate::mllog::parse;
use serde_json::Value;

/// What the metadata of `submission_benchmark` call the ruleset that a log was written for; a word
/// of ours, which MLPerf's checker passes over.
pub const RULESET: &str = "ruleset";

/// The ruleset that `log` says it was written for, if it is one of those known here.
pub fn stated(log: &[u8]) -> Option<&'static str> {
    let mut events = parse::lines(log).filter_map(|l| l.event.ok());
    let event = events.find(|e| e.key == "submission_benchmark")?;
    let said = event.metadata.as_ref()?.get(RULESET).and_then(Value::as_str)?;
    ROUNDS.iter().map(|r| r.ruleset).find(|r| *r == said)
}

/// When the results of each round were published (mlcommons.org), in seconds since 1970. The next
/// published results are those of runs that were made after it.
const PUBLISHED: [(&str, f64); 11] = [
    ("0.7.0", 1_595_980_800.0), // 2020-07-29
    ("1.0.0", 1_625_011_200.0), // 2021-06-30
    ("1.1.0", 1_638_316_800.0), // 2021-12-01
    ("2.0.0", 1_656_460_800.0), // 2022-06-29
    ("2.1.0", 1_667_952_000.0), // 2022-11-09
    ("3.0.0", 1_687_824_000.0), // 2023-06-27
    ("3.1.0", 1_699_401_600.0), // 2023-11-08
    ("4.0.0", 1_718_150_400.0), // 2024-06-12
    ("4.1.0", 1_731_456_000.0), // 2024-11-13
    ("5.0.0", 1_748_995_200.0), // 2025-06-04
    ("5.1.0", 1_762_905_600.0), // 2025-11-12
];

/// Clocks that were set show no earlier time, in seconds since 1970 (2020-01-01).
const FIRST: f64 = 1_577_836_800.0;

/// The ruleset of the round that was under way when `log` was written; `None` if the log has no
/// such time or a later one than is known here, or if that round does not have its benchmark.
pub fn when_written(log: &[u8]) -> Option<&'static str> {
    let (mut benchmark, mut began) = (None, None);
    for event in parse::lines(log).filter_map(|l| l.event.ok()) {
        match event.key.as_str() {
            "submission_benchmark" if benchmark.is_none() => {
                benchmark = event.text().map(str::to_owned);
            }
            "run_start" if began.is_none() => began = Some(event.time_ms / 1e3),
            _ => {}
        }
        if benchmark.is_some() && began.is_some() {
            break;
        }
    }
    of_time(&benchmark?, began.filter(|t| *t >= FIRST)?)
}

fn of_time(benchmark: &str, seconds: f64) -> Option<&'static str> {
    let of_benchmark = |r: &&Round| r.benchmark == benchmark;
    let (ruleset, _) = PUBLISHED.iter().find(|(_, published)| seconds < *published)?;
    ROUNDS.iter().find(|r| r.ruleset == *ruleset).filter(of_benchmark).map(|r| r.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_ends_when_its_results_are_published() {
        let day = 86400.0;
        for (ruleset, published) in PUBLISHED {
            let benchmark = if ruleset < "3" { "dlrm" } else { "dlrm_dcnv2" };
            assert_eq!(of_time(benchmark, published - 30.0 * day), Some(ruleset));
            assert_ne!(of_time(benchmark, published + day), Some(ruleset));
        }
        assert!(PUBLISHED.windows(2).all(|w| w[0].1 < w[1].1));
        // Rounds without a date are newer than those with one.
        let dated = ROUNDS.iter().map(|r| r.ruleset).take(PUBLISHED.len());
        assert!(dated.eq(PUBLISHED.iter().map(|(ruleset, _)| *ruleset)));
        assert_eq!(of_time("dlrm_dcnv2", 1.8e9), None);
        // A benchmark that had gone by then, or had not come.
        assert_eq!((of_time("dlrm", 1.8e9), of_time("dlrm_dcnv2", 1.6e9)), (None, None));
        assert_eq!(of_time("deepfm", 1.8e9), None);
    }

    #[test]
    fn a_log_without_a_time_tells_nothing() {
        let log = |ms: f64| {
            format!(
                ":::MLLOG {{\"time_ms\": {ms}, \"key\": \"submission_benchmark\", \"value\": \"dlrm\", \"metadata\": {{}}}}\n\
                 :::MLLOG {{\"time_ms\": {ms}, \"key\": \"run_start\", \"value\": null, \"metadata\": {{}}}}\n"
            )
        };
        assert_eq!(when_written(log(1.634e12).as_bytes()), Some("1.1.0"));
        for ms in [0.0, 5e6, -1e12] {
            assert_eq!(when_written(log(ms).as_bytes()), None);
        }
        assert_eq!(when_written(b""), None);
        let without_start = log(1.634e12);
        assert_eq!(when_written(without_start.lines().next().unwrap().as_bytes()), None);
    }
}
