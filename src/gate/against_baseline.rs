//! This program against what was recorded before.

use super::{
    Baseline, Outcome, Program, Session, Settings, SideReport, SliceError, Verdict, conclude,
    interleaved::version,
    pace::{Clock, Probe, slice_steps},
    quality::{self, Checked},
    slice::{Slice, Slicer, Task},
    verdict::{look, median},
};
use crate::{
    host::atomic_file::Lock,
    results::ResultsError,
    stats::{Decision, LOOKS, Sequential},
};
use std::{path::Path, sync::atomic::Ordering, thread, time::Duration};

/// The fewest slices of a recording.
const FEWEST: usize = 5;
/// The fewest slices of a comparison.
const FEWEST_COMPARED: f64 = 3.0;

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
    conclude(&mut verdict, &clock, done)?;
    Ok(verdict)
}

fn compare(
    v: &mut Verdict,
    clock: &mut Clock,
    program: &Program,
    baseline: &Baseline,
    s: &Settings<'_>,
) -> Result<(), SliceError> {
    let slicer = Slicer::new(s, clock);
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
    let asked = (baseline.quality_steps, baseline.auc);
    let needed = FEWEST_COMPARED * first.wall_seconds;
    let checked = quality::check(v, clock, &slicer, (None, program), asked, needed, s)?;
    if matches!(checked, Checked::Decided) {
        return Ok(());
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
        let slice = within(clock, longest, || slicer.run(program, task))?;
        let more = slice.is_some();
        if let Some(slice) = slice {
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
                (s.tell)(&format!(
                    "{} slices, {:.0} s: {}",
                    new.len(),
                    clock.seconds(),
                    look(&finding)
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

/// Runs a slice if it fits into the budget; `None` if not, or if it had to be killed at its end.
fn within(
    clock: &Clock,
    longest: f64,
    run: impl FnOnce() -> Result<Slice, SliceError>,
) -> Result<Option<Slice>, SliceError> {
    if !clock.fits(longest) {
        return Ok(None);
    }
    match run() {
        Err(SliceError::Late(_)) => Ok(None),
        slice => slice.map(Some),
    }
}

/// Records `program` for the whole budget: adds a session to the baseline in `path`, or makes it.
/// Of two that record into one file, one waits for the other.
///
/// # Errors
/// If a slice cannot be run, fewer than 5 fit into the budget, or the file cannot be written or
/// belongs to another workload or machine.
pub fn record(
    program: &Program,
    path: &Path,
    settings: &Settings<'_>,
) -> Result<Baseline, SliceError> {
    let _lock = lock(path, settings)?;
    let refused = |e: ResultsError| SliceError::Cause { code: 65, what: e.to_string() };
    let old = if path.exists() { Some(Baseline::read(path).map_err(refused)?) } else { None };
    let clock = Clock::start(settings.budget);
    let slicer = Slicer::new(settings, &clock);
    let steps = match &old {
        Some(b) => b.slice_steps,
        None => {
            let mut probe = Probe::of(&slicer, program, true)?;
            if let Some(outlier) = probe.again(&slicer, program, true)? {
                (settings.tell)(&outlier);
            }
            slice_steps(&[&probe], settings.budget, clock.left(), FEWEST)
        }
    };
    let task = Task::Time { steps, ceilings: true };
    let first = slicer.run(program, task)?;
    efficiency(&first)?;
    let mut baseline = match old {
        Some(b) => {
            if let Some(why) = b.difference(&first.record) {
                let what = format!("{}: {why}; remove it to start anew", path.display());
                return Err(SliceError::Cause { code: 65, what });
            }
            b
        }
        None => {
            let steps_for_auc = settings.quality_steps;
            let auc = if steps_for_auc > 0 && program.given().evaluates() {
                slicer.run(program, Task::Evaluate { steps: steps_for_auc })?.auc
            } else {
                None
            };
            let quality = auc.map_or(0, |_| steps_for_auc);
            Baseline::new(&first.record, steps, quality, auc)
        }
    };
    let mut session = Session {
        version: version(&first.record),
        samples_per_second: Vec::new(),
        efficiency: Vec::new(),
    };
    let mut longest = first.wall_seconds;
    while let Some(slice) = within(&clock, longest, || slicer.run(program, task))? {
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
    baseline.write(path).map_err(|e| SliceError::Cause { code: 74, what: e.to_string() })?;
    Ok(baseline)
}

/// The right to write `path`, once nobody else has it.
fn lock(path: &Path, settings: &Settings<'_>) -> Result<Lock, SliceError> {
    let mut told = false;
    loop {
        let lock = Lock::of(path).map_err(|e| SliceError::Cause {
            code: 74,
            what: format!("cannot write {}: {e}", path.display()),
        })?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        if settings.stop.load(Ordering::Relaxed) {
            return Err(SliceError::Interrupted);
        }
        if !told {
            (settings.tell)(&format!("waiting for another gate that records {}", path.display()));
            told = true;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn efficiency(slice: &Slice) -> Result<f64, SliceError> {
    slice.efficiency.ok_or_else(|| {
        SliceError::Failed(
            "the record has no floor: the machine's ceilings could not be measured".into(),
        )
    })
}
