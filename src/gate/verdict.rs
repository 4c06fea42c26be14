//! What the gate says: for programs (`verdict.json`) and for people (`summary.md`).

use crate::{
    host::escape::{markdown, visible},
    stats::{Criteria, Decision, Finding},
    system::{Grade, Noise},
};
use serde::Serialize;
use std::fmt::Write;

/// The gate's answer. Its number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Surely not slower by the threshold.
    NoRegression = 0,
    /// Surely slower by more than the tolerance.
    Regression = 1,
    /// There is no baseline, or it cannot be read.
    NoBaseline = 2,
    /// The two sides do not do the same work, or not on the same kind of machine.
    NotComparable = 3,
    /// A loss is not a number, or the AUC got worse.
    QualityFailure = 4,
    /// Neither is sure.
    NotEnoughEvidence = 5,
}

/// The gate's answer and all it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Layout of this file, 1.
    pub schema_version: u32,
    /// The answer.
    pub verdict: Outcome,
    /// The process's exit code.
    pub exit_code: u8,
    /// Why, in a sentence.
    pub reason: String,
    /// `a_b` or `baseline`.
    pub mode: &'static str,
    /// The workload's name, where a slice was run.
    pub workload: Option<String>,
    /// The machine, where a slice was run.
    pub system: Option<String>,
    /// What counts as slower, and how sure one has to be.
    pub criteria: Criteria,
    /// Seconds that were allowed.
    pub budget_seconds: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Slowdown and its bounds; `None` if there were too few slices.
    pub finding: Option<Finding>,
    /// Blocks of four slices (interleaved), or slices (against a baseline), that were compared.
    pub units: usize,
    /// The old side, or the baseline.
    pub a: SideReport,
    /// The new side.
    pub b: SideReport,
    /// Every slice, in order of time.
    pub slices: Vec<SliceReport>,
    /// Seconds of the budget that went into comparing the AUC; `None` if it was not.
    pub quality_seconds: Option<f64>,
    /// Why the AUC was not compared, though that was asked for.
    pub unchecked: Option<String>,
    /// What one should know.
    pub notes: Vec<String>,
    /// How quiet the machine was meanwhile.
    pub noise: Option<Noise>,
}

/// One side.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SideReport {
    /// What was run, or the baseline's file.
    pub what: String,
    /// Version and commit.
    pub version: Option<String>,
    /// Median samples a second of its slices, after warm-up, evaluation excluded.
    pub samples_per_second: Option<f64>,
    /// Median share of the floor of its slices.
    pub efficiency: Option<f64>,
    /// AUC after the steps for quality.
    pub auc: Option<f64>,
}

/// One slice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SliceReport {
    /// `a` or `b`.
    pub side: String,
    /// Its block, from 0.
    pub block: u64,
    /// Samples a second.
    pub samples_per_second: f64,
    /// Share of the floor.
    pub efficiency: Option<f64>,
    /// Seconds of the whole process.
    pub seconds: f64,
}

/// How many times as long a comparison must be for a verdict, if what it has found stays: bounds
/// come closer with the square root of the time. `None` if that cannot be said, or is beyond a
/// hundred times.
fn needed(f: &Finding, c: &Criteria) -> Option<f64> {
    let (low, high) = (f.slowdown - f.low?, f.high? - f.slowdown);
    // Until the upper bound is below the threshold, or the lower one above the tolerance.
    let until = |width: f64, room: f64| (room > 0.0).then(|| (width / room).powi(2));
    let ways = [until(high, c.threshold - f.slowdown), until(low, f.slowdown - c.tolerance)];
    let times = ways.into_iter().flatten().fold(f64::INFINITY, f64::min);
    (1.0..=100.0).contains(&times).then_some(1.2 * times)
}

/// What the blocks say so far, by their median: `block 7 of about 19: 0.8% slower so far`.
pub(super) fn so_far(ratios: &[f64], more: f64) -> String {
    let n = ratios.len();
    let slowdown = median(ratios.to_vec()).map_or(0.0, |log| 1.0 - log.exp());
    let all = n as f64 + more.floor();
    format!("block {n} of about {all:.0} at most: {} so far", change(slowdown))
}

/// What a look at the data has found.
pub(super) fn look(f: &Finding) -> String {
    let decision = match f.decision {
        Decision::Regression => "surely slower",
        Decision::NoRegression => "surely no regression",
        Decision::Undecided => "not sure yet",
    };
    format!("{}, {decision}", change(f.slowdown))
}

impl Verdict {
    /// A verdict in the making: not enough evidence, without any.
    pub(super) fn new(mode: &'static str, criteria: Criteria, budget_seconds: f64) -> Self {
        Verdict {
            schema_version: 1,
            verdict: Outcome::NotEnoughEvidence,
            exit_code: Outcome::NotEnoughEvidence as u8,
            reason: String::new(),
            mode,
            workload: None,
            system: None,
            criteria,
            budget_seconds,
            seconds: 0.0,
            finding: None,
            units: 0,
            a: SideReport::default(),
            b: SideReport::default(),
            slices: Vec::new(),
            quality_seconds: None,
            unchecked: None,
            notes: Vec::new(),
            noise: None,
        }
    }

    pub(super) fn decide(&mut self, verdict: Outcome, reason: String) {
        (self.verdict, self.exit_code, self.reason) = (verdict, verdict as u8, reason);
    }

    /// The same on a machine of this grade: where that is worse than the least that is allowed,
    /// nothing is said of the speed.
    #[must_use]
    pub fn on_machine(mut self, noise: Noise, least: Option<Grade>) -> Self {
        let of_speed = matches!(self.verdict, Outcome::NoRegression | Outcome::Regression);
        if let Some(least) = least.filter(|&least| of_speed && noise.grade > least) {
            let reason = format!(
                "the machine was not quiet, grade {}; {least} or better is asked for",
                noise.sentence()
            );
            self.decide(Outcome::NotEnoughEvidence, reason);
        } else if noise.grade >= Grade::C {
            self.notes.push(format!("The machine was not quiet, grade {}.", noise.sentence()));
        }
        self.noise = Some(noise);
        self
    }

    /// Turns the finding into the answer, and fills the sides' medians.
    pub(super) fn conclude(&mut self, fewest: &str) {
        for (side, name) in [(&mut self.a, "a"), (&mut self.b, "b")] {
            let of = |value: &dyn Fn(&SliceReport) -> Option<f64>| {
                median(self.slices.iter().filter(|s| s.side == name).filter_map(value).collect())
            };
            side.samples_per_second =
                side.samples_per_second.or_else(|| of(&|s| Some(s.samples_per_second)));
            side.efficiency = side.efficiency.or_else(|| of(&|s| s.efficiency));
        }
        let Some(f) = self.finding else {
            let reason = format!(
                "{} of at least {fewest} fitted into {}; give a longer --budget",
                self.units,
                seconds(self.budget_seconds)
            );
            return self.decide(Outcome::NotEnoughEvidence, reason);
        };
        self.note_outliers();
        let c = &self.criteria;
        let (verdict, reason) = match f.decision {
            Decision::Regression => (
                Outcome::Regression,
                format!("{}, surely more than {}", change(f.slowdown), percent(c.tolerance)),
            ),
            Decision::NoRegression if self.unchecked.is_some() => {
                let why = self.unchecked.as_deref().unwrap_or_default();
                (Outcome::NotEnoughEvidence, format!("{}, but {why}", change(f.slowdown)))
            }
            Decision::NoRegression => {
                let bound = f.high.map_or_else(String::new, |h| {
                    format!(": a slowdown is surely below {}", percent(h.max(0.0)))
                });
                (Outcome::NoRegression, format!("{}{bound}", change(f.slowdown)))
            }
            Decision::Undecided => (
                Outcome::NotEnoughEvidence,
                format!(
                    "{}, but it may be anything from {} to {}; {} or a quieter machine would tell",
                    change(f.slowdown),
                    f.low.map_or("unknown".into(), change),
                    f.high.map_or("unknown".into(), change),
                    match needed(&f, c) {
                        Some(times) => {
                            let most = (times * self.budget_seconds / 10.0).ceil() * 10.0;
                            format!("with this noise a --budget of about {most:.0}s")
                        }
                        None => "a longer --budget".to_owned(),
                    }
                ),
            ),
        };
        self.decide(verdict, reason);
    }

    /// Says how many slices were far from their side's others. They stay in: signed ranks and
    /// logarithms bear them.
    fn note_outliers(&mut self) {
        for side in ["a", "b"] {
            let of_side = self.slices.iter().filter(|s| s.side == side);
            let rates: Vec<f64> = of_side.map(|s| s.samples_per_second).collect();
            let far = outliers(&rates);
            if far > 0 {
                let all = rates.len();
                self.notes.push(format!(
                    "{far} of {all} slices of {side} were far from the others, as if something else had used the machine"
                ));
            }
        }
    }

    /// The summary as Markdown, to be shown as a comment: it always has the same shape, so "fine"
    /// and "not run" look different.
    pub fn markdown(&self) -> String {
        // Sentences are ours, but quote keys and values; names are as somebody gave them.
        let sentence = |text: &str| visible(text).replace('<', "&lt;");
        let reason = sentence(&capital(&self.reason));
        let mut out = format!("## Throughput gate: {}\n\n{reason}.\n\n", self.title());
        let number =
            |x: Option<f64>, digits: usize| x.map_or("-".into(), |x| format!("{x:.digits$}"));
        out += "| side | what | version | samples/s (median) | share of floor | AUC |\n|---|---|---|---|---|---|\n";
        for (name, s) in [("a (old)", &self.a), ("b (new)", &self.b)] {
            let version = s.version.as_deref().map_or("-".into(), markdown);
            let (rate, share, auc) =
                (number(s.samples_per_second, 0), number(s.efficiency, 3), number(s.auc, 5));
            let _ = writeln!(
                out,
                "| {name} | {} | {version} | {rate} | {share} | {auc} |",
                markdown(&s.what)
            );
        }
        out += "\n| | |\n|---|---|\n";
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "| {name} | {value} |");
        };
        let sure = |x: Option<f64>| x.map_or("unknown".into(), percent);
        if let Some(f) = &self.finding {
            row(
                "slowdown (negative: faster)",
                format!("{}, surely from {} to {}", percent(f.slowdown), sure(f.low), sure(f.high)),
            );
            row("smallest detectable slowdown", f.detectable.map_or("none".into(), percent));
        }
        let c = &self.criteria;
        row("threshold, tolerance", format!("{}, {}", percent(c.threshold), percent(c.tolerance)));
        row("confidence of each bound, over all looks", percent(c.confidence));
        let units = if self.mode == "a_b" { "blocks of four slices" } else { "slices" };
        row(
            "measured",
            format!(
                "{} {units} in {} of {}",
                self.units,
                seconds(self.seconds),
                seconds(self.budget_seconds)
            ),
        );
        if let Some(spent) = self.quality_seconds {
            let share = percent(spent / self.budget_seconds);
            row("AUC check", format!("{}, {share} of the budget", seconds(spent)));
        }
        if let (Some(workload), Some(system)) = (&self.workload, &self.system) {
            row("workload, machine", markdown(&format!("{workload}, {system}")));
        }
        for note in self.unchecked.iter().chain(&self.notes) {
            let _ = write!(out, "\nNote: {}.\n", sentence(note));
        }
        out
    }

    /// The verdict in words.
    pub fn title(&self) -> &'static str {
        match self.verdict {
            Outcome::NoRegression => "no regression",
            Outcome::Regression => "regression",
            Outcome::NoBaseline => "no baseline",
            Outcome::NotComparable => "not comparable",
            Outcome::QualityFailure => "quality failure",
            Outcome::NotEnoughEvidence => "not enough evidence",
        }
    }
}

/// How many rates are further from the median than five standard deviations, worked out from the
/// median deviation, and than a tenth.
fn outliers(rates: &[f64]) -> usize {
    let Some(middle) = median(rates.to_vec()) else { return 0 };
    let deviations: Vec<f64> = rates.iter().map(|r| (r / middle).ln().abs()).collect();
    let spread = 1.4826 * median(deviations.clone()).unwrap_or(0.0);
    deviations.iter().filter(|d| **d > 0.1 && **d > 5.0 * spread).count()
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[values.len() / 2]) / 2.0)
}

/// `2.5%`.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.2}", 100.0 * share);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}%", if text == "-0" { "0" } else { text })
}

/// `2.5% slower`, `1% faster`.
pub(super) fn change(slowdown: f64) -> String {
    let word = if slowdown >= 0.0 { "slower" } else { "faster" };
    format!("{} {word}", percent(slowdown.abs()))
}

pub(super) fn seconds(s: f64) -> String {
    format!("{s:.0} s")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(decision: Decision) -> Finding {
        Finding {
            slowdown: 0.0512,
            low: Some(0.03),
            high: Some(0.0741),
            detectable: Some(0.0282),
            alpha: 0.002,
            decision,
        }
    }

    fn verdict(finding: Option<Finding>) -> Verdict {
        let mut v = Verdict::new(
            "a_b",
            Criteria { threshold: 0.03, tolerance: 0.005, confidence: 0.99 },
            120.0,
        );
        (v.finding, v.units, v.seconds) = (finding, 12, 60.4);
        v.conclude("7 blocks");
        v
    }

    #[test]
    fn a_machine_that_is_not_quiet_enough_has_no_verdict_on_speed() {
        let noise = |grade| Noise { grade, findings: Vec::new(), usage: None };
        let of = |decision, grade, least| {
            let judged = verdict(Some(finding(decision))).on_machine(noise(grade), least);
            assert_eq!(judged.exit_code, judged.verdict as u8);
            (judged.verdict, judged.notes.len())
        };
        let (slower, not) = (Decision::Regression, Decision::NoRegression);
        assert_eq!(of(slower, Grade::B, Some(Grade::B)), (Outcome::Regression, 0));
        assert_eq!(of(slower, Grade::C, Some(Grade::B)), (Outcome::NotEnoughEvidence, 0));
        assert_eq!(of(not, Grade::F, Some(Grade::D)), (Outcome::NotEnoughEvidence, 0));
        assert_eq!(of(not, Grade::F, None), (Outcome::NoRegression, 1));
        let mut wrong = verdict(None);
        wrong.decide(Outcome::QualityFailure, "worse".to_owned());
        let wrong = wrong.on_machine(noise(Grade::F), Some(Grade::A));
        assert_eq!(wrong.verdict, Outcome::QualityFailure);
    }

    #[test]
    fn an_undecided_comparison_names_the_budget_that_would_decide() {
        let of = |slowdown: f64, low: f64, high: f64| {
            let finding = finding(Decision::Undecided);
            let (low, high) = (Some(low), Some(high));
            verdict(Some(Finding { slowdown, low, high, ..finding })).reason
        };
        // The upper bound is to come down to 3%: from 0.04 off to 0.02 off, four times as long, and
        // a fifth more.
        let said = of(0.01, -0.03, 0.05);
        assert!(
            said.contains("with this noise a --budget of about 580s or a quieter machine"),
            "{said}"
        );
        // Twice the threshold: the lower bound is to come up to 0.5%.
        assert!(of(0.06, -0.05, 0.17).contains("of about 580s"), "{}", of(0.06, -0.05, 0.17));
        let near = of(0.0299, 0.004, 0.9);
        assert!(near.contains("--budget of about 160s"), "{near}");
        let without = verdict(Some(Finding { high: None, ..finding(Decision::Undecided) })).reason;
        assert!(
            without.contains("; a longer --budget or a quieter machine would tell"),
            "{without}"
        );
    }

    #[test]
    fn blocks_tell_their_median() {
        let log = |slower: f64| (1.0f64 - slower).ln();
        assert_eq!(
            so_far(&[log(0.5), log(0.02), log(0.01)], 4.7),
            "block 3 of about 7 at most: 2% slower so far"
        );
    }

    #[test]
    fn codes_are_those_of_the_documentation() {
        let codes: Vec<u8> = [Decision::NoRegression, Decision::Regression, Decision::Undecided]
            .map(|d| verdict(Some(finding(d))).exit_code)
            .into();
        assert_eq!(codes, [0, 1, 5]);
        let none = verdict(None);
        assert_eq!(none.exit_code, 5);
        assert_eq!(
            none.reason,
            "12 of at least 7 blocks fitted into 120 s; give a longer --budget"
        );
        assert_eq!(
            [
                Outcome::NoBaseline as u8,
                Outcome::NotComparable as u8,
                Outcome::QualityFailure as u8
            ],
            [2, 3, 4]
        );
    }

    #[test]
    fn names_from_outside_are_no_markup() {
        let mut v = verdict(Some(finding(Decision::Regression)));
        v.a.what = "a|b\u{1b}[2J".into();
        v.b.version = Some("<img src=x> [x](http://x)".into());
        v.notes = vec!["x\n# y <b>".into()];
        let text = v.markdown();
        assert!(text.contains(r"| a\|b\\u{1b}\[2J |"), "{text}");
        assert!(!text.contains("<img") && !text.contains("](http://"), "{text}");
        assert!(text.contains(r"Note: x\u{a}# y &lt;b>."), "{text}");
    }

    #[test]
    fn the_summary_says_what_a_person_needs() {
        let text = verdict(Some(finding(Decision::Regression))).markdown();
        assert!(
            text.starts_with(
                "## Throughput gate: regression\n\n5.12% slower, surely more than 0.5%.\n"
            ),
            "{text}"
        );
        for piece in [
            "surely from 3% to 7.41%",
            "| 2.82% |",
            "| 3%, 0.5% |",
            "12 blocks of four slices in 60 s of 120 s",
        ] {
            assert!(text.contains(piece), "{piece}: {text}");
        }
        let json = serde_json::to_value(verdict(Some(finding(Decision::NoRegression)))).unwrap();
        assert_eq!(
            (json["verdict"].as_str(), json["exit_code"].as_u64()),
            (Some("no_regression"), Some(0))
        );
    }

    #[test]
    fn an_auc_that_was_not_compared_is_no_pass() {
        let mut v = verdict(None);
        (v.finding, v.unchecked) = (Some(finding(Decision::NoRegression)), Some("no AUC".into()));
        v.conclude("7 blocks");
        assert_eq!((v.exit_code, v.reason.as_str()), (5, "5.12% slower, but no AUC"));
        v.finding = Some(finding(Decision::Regression));
        v.conclude("7 blocks");
        assert_eq!(v.exit_code, 1);
    }

    #[test]
    fn slices_far_from_the_others_are_counted() {
        assert_eq!(outliers(&[]), 0);
        assert_eq!(outliers(&[100.0, 101.0, 99.0, 100.5, 20.0, 100.0, 99.5]), 1);
        assert_eq!(outliers(&[100.0, 101.0, 99.0, 100.5, 95.0]), 0, "near");
        assert_eq!(outliers(&[10.0, 20.0, 40.0, 80.0]), 0, "all scatter");
    }

    #[test]
    fn shares_for_people() {
        assert_eq!(
            [0.03, 0.005, -0.00001, 0.99, 0.12345].map(percent),
            ["3%", "0.5%", "0%", "99%", "12.35%"]
        );
        assert_eq!([change(0.02), change(-0.01)], ["2% slower", "1% faster"]);
        assert_eq!(
            (median(vec![3.0, 1.0, 2.0]), median(vec![2.0, 1.0]), median(vec![])),
            (Some(2.0), Some(1.5), None)
        );
    }
}
