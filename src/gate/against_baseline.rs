//! This program against what was recorded before.

use super::{
    Baseline, Clock, Outcome, Program, Session, Settings, SideReport, SliceError, Verdict,
    interleaved::{version, worse},
    slice::{Slice, Slicer, Task},
    slice_steps,
    verdict::median,
};
use crate::stats::{Decision, LOOKS, Sequential};
use std::path::Path;

/// The fewest slices of a recording.
const FEWEST: usize = 5;

/// Compares `program` with the baseline in `path`: the share of the floor that each reached, which
/// a slower machine does not change much.
///
/// # Errors
/// If a slice cannot be run for a reason that is no verdict.
pub fn against_baseline(
    program: &Program,
    path: &Path,
    settings: &Settings<'_>,
) -> Result<Verdict, SliceError> {
    let mut verdict = Verdict::new("baseline", settings.criteria, settings.budget.as_secs_f64());
    verdict.a.what = path.display().to_string();
    verdict.b = SideReport::of(program);
    let baseline = match Baseline::read(path) {
        Ok(baseline) => baseline,
        Err(e) => {
            verdict.decide(Outcome::NoBaseline, format!("{e}; make one with gate --record"));
            return Ok(verdict);
        }
    };
    let mut clock = Clock::start(settings.budget);
    let done = compare(&mut verdict, &mut clock, program, &baseline, settings);
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
    program: &Program,
    baseline: &Baseline,
    s: &Settings<'_>,
) -> Result<(), SliceError> {
    let slicer = Slicer { scratch: &s.scratch, stop: s.stop };
    let task = Task::Time { steps: baseline.slice_steps, ceilings: true };
    let first = slicer.run(program, task)?;
    (v.workload, v.system) =
        (Some(first.record.workload.name.clone()), Some(first.record.system.clone()));
    v.b.version = Some(version(&first.record));
    let rates = baseline.sessions.iter().flat_map(|s| &s.samples_per_second).copied().collect();
    v.a = SideReport {
        version: baseline.sessions.last().map(|s| s.version.clone()),
        samples_per_second: median(rates),
        efficiency: median(baseline.efficiency()),
        auc: baseline.auc,
        ..std::mem::take(&mut v.a)
    };
    if let Some(reason) = baseline.difference(&first.record) {
        v.decide(Outcome::NotComparable, reason);
        return Ok(());
    }
    if baseline.sessions.len() < 3 {
        let n = baseline.sessions.len();
        v.notes.push(format!("the baseline has {n} recording session(s); what differs between sessions is not in the interval"));
    }
    if baseline.quality_steps > 0 {
        v.b.auc = slicer.run(program, Task::Evaluate { steps: baseline.quality_steps })?.auc;
        if let Some(reason) = worse(baseline.auc, v.b.auc, baseline.quality_steps, s.max_auc_drop) {
            v.decide(Outcome::QualityFailure, reason);
            return Ok(());
        }
    }
    clock.compare();
    slices(v, clock, &slicer, program, (task, baseline), s)?;
    v.conclude("3 slices");
    Ok(())
}

/// Runs slices until the budget is used up or a look decides.
fn slices(
    v: &mut Verdict,
    clock: &Clock,
    slicer: &Slicer<'_>,
    program: &Program,
    (task, baseline): (Task, &Baseline),
    s: &Settings<'_>,
) -> Result<(), SliceError> {
    let stats = |e: crate::stats::StatsError| SliceError::Failed(e.to_string());
    let mut sequential = Sequential::new(s.criteria).map_err(stats)?;
    let (old, mut new) = (baseline.efficiency(), Vec::new());
    let (mut longest, mut looked) = (0.0f64, 0.0);
    loop {
        let more = clock.fits(longest);
        if more {
            let slice = slicer.run(program, task)?;
            longest = longest.max(slice.wall_seconds);
            new.push(efficiency(&slice)?);
            v.slices.push(slice.report("b", v.units as u64));
            v.units += 1;
        }
        let due = if more {
            LOOKS.into_iter().rev().find(|&l| l < 1.0 && l <= clock.share()).unwrap_or(0.0)
        } else {
            1.0
        };
        if due > looked {
            looked = due;
            if let Some(finding) = sequential.look_unpaired(&old, &new, due).map_err(stats)? {
                v.finding = Some(finding);
                let so_far = super::verdict::change(finding.slowdown);
                (s.tell)(&format!(
                    "{} slices, {:.0} s: {so_far}, {:?}",
                    new.len(),
                    clock.seconds(),
                    finding.decision
                ));
                if finding.decision != Decision::Undecided {
                    return Ok(());
                }
            }
        }
        if !more {
            return Ok(());
        }
    }
}

/// Records `program` for the whole budget: adds a session to the baseline in `path`, or makes it.
///
/// # Errors
/// If a slice cannot be run, fewer than 5 fit into the budget, or the file cannot be written or
/// belongs to another workload or machine.
pub fn record(
    program: &Program,
    path: &Path,
    settings: &Settings<'_>,
) -> Result<Baseline, SliceError> {
    let failed = |e: crate::results::ResultsError| SliceError::Failed(e.to_string());
    let old = if path.exists() { Some(Baseline::read(path).map_err(failed)?) } else { None };
    let slicer = Slicer { scratch: &settings.scratch, stop: settings.stop };
    let clock = Clock::start(settings.budget);
    let steps = match &old {
        Some(b) => b.slice_steps,
        None => slice_steps(&slicer, program, true, settings.budget)?.0,
    };
    let task = Task::Time { steps, ceilings: true };
    let first = slicer.run(program, task)?;
    let mut baseline = match old {
        Some(b) => match b.difference(&first.record) {
            Some(why) => {
                return Err(SliceError::Failed(format!(
                    "{}: {why}; remove it to start anew",
                    path.display()
                )));
            }
            None => b,
        },
        None => {
            let quality = settings.quality_steps;
            let evaluated = if quality > 0 {
                slicer.run(program, Task::Evaluate { steps: quality })?.auc
            } else {
                None
            };
            Baseline::new(&first.record, steps, quality, evaluated)
        }
    };
    let mut session = Session {
        version: version(&first.record),
        samples_per_second: Vec::new(),
        efficiency: Vec::new(),
    };
    let mut longest = first.wall_seconds;
    while clock.fits(longest) {
        let slice = slicer.run(program, task)?;
        longest = longest.max(slice.wall_seconds);
        session.samples_per_second.push(slice.samples_per_second);
        session.efficiency.push(efficiency(&slice)?);
    }
    let n = session.efficiency.len();
    if n < FEWEST {
        return Err(SliceError::TooFew(format!(
            "{n} of at least {FEWEST} slices fitted into the budget; give a longer --budget"
        )));
    }
    baseline.sessions.push(session);
    baseline.write(path).map_err(failed)?;
    Ok(baseline)
}

fn efficiency(slice: &Slice) -> Result<f64, SliceError> {
    slice.efficiency.ok_or_else(|| {
        SliceError::Failed(
            "the record has no floor: the machine's ceilings could not be measured".into(),
        )
    })
}
