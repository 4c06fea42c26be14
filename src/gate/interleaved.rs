//! Two programs (or workloads) on this machine, slice by slice in turns.

use super::{
    Clock, Outcome, Program, Settings, SideReport, SliceError, Verdict, coin,
    slice::{Needed, Slice, Slicer, Task},
    slice_steps,
};
use crate::stats::{self, Decision, LOOKS, Sequential};
use toml_edit::{DocumentMut, Item};

/// Compares `b` (new) with `a` (old): blocks of four slices, in the order a b b a or b a a b as a
/// coin decides.
///
/// # Errors
/// If a slice cannot be run for a reason that is no verdict.
pub fn interleaved(
    a: &Program,
    b: &Program,
    settings: &Settings<'_>,
) -> Result<Verdict, SliceError> {
    let mut verdict = Verdict::new("a_b", settings.criteria, settings.budget.as_secs_f64());
    let mut clock = Clock::start(settings.budget);
    (verdict.a, verdict.b) = (SideReport::of(a), SideReport::of(b));
    let done = compare(&mut verdict, &mut clock, a, b, settings);
    verdict.seconds = clock.seconds();
    match done {
        Err(SliceError::Quality(what)) => verdict.decide(Outcome::QualityFailure, what),
        other => other?,
    }
    Ok(verdict)
}

fn compare(
    v: &mut Verdict,
    clock: &mut Clock,
    a: &Program,
    b: &Program,
    s: &Settings<'_>,
) -> Result<(), SliceError> {
    let slicer = Slicer { scratch: &s.scratch, stop: s.stop };
    let (steps_a, probe_a) = slice_steps(&slicer, a, false, s.budget)?;
    let (steps_b, probe_b) = slice_steps(&slicer, b, false, s.budget)?;
    (v.workload, v.system) =
        (Some(probe_b.record.workload.name.clone()), Some(probe_b.record.system.clone()));
    for (side, probe) in [(&mut v.a, &probe_a), (&mut v.b, &probe_b)] {
        side.version = Some(version(&probe.record));
    }
    if let Some(reason) = difference(&probe_a, &probe_b) {
        v.decide(Outcome::NotComparable, reason);
        return Ok(());
    }
    if probe_b.record.versions.profile == "debug" {
        v.notes.push("both are debug builds, whose speed says little of a release's".into());
    }
    if s.quality_steps > 0 {
        let task = Task::Evaluate { steps: s.quality_steps };
        v.a.auc = slicer.run(a, task)?.auc;
        v.b.auc = slicer.run(b, task)?.auc;
        if let Some(reason) = worse(v.a.auc, v.b.auc, s.quality_steps, s.max_auc_drop) {
            v.decide(Outcome::QualityFailure, reason);
            return Ok(());
        }
    }
    clock.compare();
    let ratios = blocks(v, clock, &slicer, [(a, steps_a), (b, steps_b)], s)?;
    v.units = ratios;
    let fewest = stats::fewest(1.0 - s.criteria.confidence);
    v.conclude(&format!("{fewest} blocks of four slices"));
    Ok(())
}

/// Runs blocks until the budget is used up or a look decides; the number of blocks.
fn blocks(
    v: &mut Verdict,
    clock: &Clock,
    slicer: &Slicer<'_>,
    sides: [(&Program, u64); 2],
    s: &Settings<'_>,
) -> Result<usize, SliceError> {
    let failed = |e: stats::StatsError| SliceError::Failed(e.to_string());
    let mut sequential = Sequential::new(s.criteria).map_err(failed)?;
    let mut ratios: Vec<f64> = Vec::new();
    let (mut longest, mut looked) = (0.0f64, 0.0);
    loop {
        let more = clock.fits(longest);
        if more {
            let began = clock.seconds();
            ratios.push(block(v, slicer, sides, ratios.len() as u64, s)?);
            longest = longest.max(clock.seconds() - began);
        }
        // The last look comes when no block fits any more.
        let due = if more {
            LOOKS.into_iter().rev().find(|&l| l < 1.0 && l <= clock.share()).unwrap_or(0.0)
        } else {
            1.0
        };
        if due > looked {
            looked = due;
            if let Some(finding) = sequential.look_paired(&ratios, due).map_err(failed)? {
                v.finding = Some(finding);
                let so_far = super::verdict::change(finding.slowdown);
                (s.tell)(&format!(
                    "{} blocks, {:.0} s: {so_far}, {:?}",
                    ratios.len(),
                    clock.seconds(),
                    finding.decision
                ));
                if finding.decision != Decision::Undecided {
                    return Ok(ratios.len());
                }
            }
        }
        if !more {
            return Ok(ratios.len());
        }
    }
}

/// Runs a block; ln(rate of b / rate of a).
fn block(
    v: &mut Verdict,
    slicer: &Slicer<'_>,
    sides: [(&Program, u64); 2],
    block: u64,
    s: &Settings<'_>,
) -> Result<f64, SliceError> {
    let order = if coin(s.seed, block) { [1, 0, 0, 1] } else { [0, 1, 1, 0] };
    let mut log = 0.0;
    for side in order {
        let (program, steps) = sides[side];
        let slice = slicer.run(program, Task::Time { steps, ceilings: false })?;
        v.slices.push(slice.report(["a", "b"][side], block));
        log += [-0.5, 0.5][side] * slice.samples_per_second.ln();
    }
    Ok(log)
}

/// Why the two do not do the same work; `None` if they do.
fn difference(a: &Slice, b: &Slice) -> Option<String> {
    if let Some(key) =
        ["data", "model"].iter().find_map(|section| differing(&a.workload, &b.workload, section))
    {
        return Some(format!("the two sides differ in {key}, so they do not do the same work"));
    }
    let (a, b) = (&a.record.versions.profile, &b.record.versions.profile);
    (a != b).then(|| format!("a is a {a} build and b a {b} build"))
}

/// The first key of `section` that both have, with different values. A key that only one has may be
/// new in its program.
fn differing(a: &DocumentMut, b: &DocumentMut, section: &str) -> Option<String> {
    let (a, b) = (a.get(section)?.as_table()?, b.get(section)?.as_table()?);
    let text = |item: &Item| item.to_string().trim().to_owned();
    let differs =
        a.iter().find(|(key, value)| b.get(key).is_some_and(|other| text(value) != text(other)));
    differs.map(|(key, _)| format!("{section}.{key}"))
}

/// Why the AUC of b after `steps` steps is too small; a drop of `most` is none.
pub(super) fn worse(a: Option<f64>, b: Option<f64>, steps: u64, most: f64) -> Option<String> {
    let (a, b) = (a?, b?);
    (b < a - most)
        .then(|| format!("after {steps} steps the AUC is {b:.5}, that of the old side {a:.5}; it may be at most {most} smaller"))
}

pub(super) fn version(record: &Needed) -> String {
    let commit =
        record.versions.git_commit.as_ref().map_or_else(String::new, |c| format!(" ({c})"));
    format!("{}{commit}", record.versions.dlrm_bench)
}

fn shown(program: &Program) -> String {
    let set: String = program.set.iter().map(|s| format!(" --set {s}")).collect();
    format!("{} {}{set}", program.binary.display(), program.workload.display())
}

impl SideReport {
    pub(super) fn of(program: &Program) -> Self {
        SideReport { what: shown(program), ..SideReport::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_differs_by_data_and_model_only() {
        let parse = |text: &str| text.parse::<DocumentMut>().unwrap();
        let a = parse("[data]\nrows = 10\n[model]\ndim = 8\n[train]\nbatch_size = 4");
        let b = parse("[data]\nrows   = 10\nnew = 1\n[model]\ndim = 16\n[train]\nbatch_size = 8");
        assert_eq!(differing(&a, &b, "data"), None);
        assert_eq!(differing(&a, &b, "model"), Some("model.dim".into()));
    }
}
