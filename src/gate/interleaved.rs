//! Two programs (or workloads) on this machine, slice by slice in turns.

use super::{
    Outcome, Program, Settings, SideReport, SliceError, Verdict, coin, conclude,
    pace::{Clock, Probe, SLICE_SECONDS, alike, slice_seconds, slice_steps},
    quality::{self, Checked},
    slice::{Needed, Slice, Slicer, Task},
    verdict::{self, seconds},
};
use crate::stats::{self, Decision, LOOKS, Sequential};
use std::collections::BTreeSet;
use toml_edit::{DocumentMut, Item, TableLike, Value};

/// Slices of a block.
const BLOCK: usize = 4;

/// Seconds of training that a comparison needs at least for a verdict of this confidence.
pub fn least_seconds(confidence: f64) -> f64 {
    (BLOCK * stats::fewest(1.0 - confidence)) as f64 * SLICE_SECONDS.0
}

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
    let done = compare(&mut verdict, &mut clock, [a, b], settings);
    conclude(&mut verdict, &clock, done)?;
    Ok(verdict)
}

fn compare(
    v: &mut Verdict,
    clock: &mut Clock,
    sides: [&Program; 2],
    s: &Settings<'_>,
) -> Result<(), SliceError> {
    let slicer = Slicer::new(s, clock);
    let mut probes = [Probe::of(&slicer, sides[0], false)?, Probe::of(&slicer, sides[1], false)?];
    let record = &probes[1].slice.record;
    (v.workload, v.system) = (Some(record.workload.name.clone()), Some(record.system.clone()));
    if record.versions.profile == "debug" {
        v.notes.push("these are debug builds, whose speed says little of a release's".into());
    }
    for (side, probe) in [&mut v.a, &mut v.b].into_iter().zip(&probes) {
        side.version = Some(version(&probe.slice.record));
    }
    match difference(sides, [&probes[0].slice, &probes[1].slice]) {
        Difference::Work(reason) => {
            v.decide(Outcome::NotComparable, reason);
            return Ok(());
        }
        Difference::Defaults(keys) if keys.is_empty() => {}
        Difference::Defaults(keys) => v.notes.push(format!(
            "only one of the two programs has {}, which nobody set",
            keys.join(", ")
        )),
    }
    if !alike(&probes[0], &probes[1]) {
        for ((probe, side), name) in probes.iter_mut().zip(sides).zip(["a", "b"]) {
            let outlier = probe.again(&slicer, side, false)?;
            v.notes.extend(outlier.map(|what| format!("{name}: {what}")));
        }
    }
    let [probe_a, probe_b] = &probes;
    let fewest = stats::fewest(1.0 - s.criteria.confidence);
    let steps = |left| slice_steps(&[probe_a, probe_b], s.budget, left, BLOCK * fewest);
    let block = |steps| 2.0 * (slice_seconds(probe_a, steps) + slice_seconds(probe_b, steps));
    let needed = fewest as f64 * block(steps(clock.left()));
    // The first process may have found nothing in the system's caches.
    let starting = (BLOCK * fewest) as f64 * probe_a.around.min(probe_b.around);
    if starting > 1.5 * clock.left() {
        let reason = format!(
            "{fewest} blocks of four slices, the fewest for a verdict, take about {} here, {} for starting processes alone, but {} of {} are left; give a longer --budget, {:.0}s say",
            seconds(needed),
            seconds(starting),
            seconds(clock.left()),
            seconds(s.budget.as_secs_f64()),
            (2.0 * needed + clock.seconds()).ceil(),
        );
        v.decide(Outcome::NotEnoughEvidence, reason);
        return Ok(());
    }
    let asked = (s.quality_steps, None);
    let checked = quality::check(v, clock, &slicer, (Some(sides[0]), sides[1]), asked, needed, s)?;
    if matches!(checked, Checked::Decided) {
        return Ok(());
    }
    clock.compare();
    let steps = steps(clock.left());
    (s.tell)(&format!(
        "slices of {steps} steps, {:.1} s a block, time for about {:.0} of at least {fewest} blocks",
        block(steps),
        (clock.left() / block(steps)).floor()
    ));
    v.units = blocks(v, clock, &slicer, (sides, steps), s)?;
    v.conclude(&format!("{fewest} blocks of four slices"));
    Ok(())
}

/// Runs blocks until the budget is used up or a look decides; the number of blocks.
fn blocks(
    v: &mut Verdict,
    clock: &Clock,
    slicer: &Slicer<'_>,
    (sides, steps): ([&Program; 2], u64),
    s: &Settings<'_>,
) -> Result<usize, SliceError> {
    let failed = |e: stats::StatsError| SliceError::Failed(e.to_string());
    let mut sequential = Sequential::new(s.criteria).map_err(failed)?;
    let mut ratios: Vec<f64> = Vec::new();
    let (mut longest, mut looked) = (0.0f64, 0.0);
    loop {
        let mut more = clock.fits(longest);
        if more {
            let began = clock.seconds();
            match block(v, slicer, (sides, steps), ratios.len() as u64, s) {
                // What there is has to do.
                Err(SliceError::Late(what)) => {
                    v.notes.push(format!("the last block was cut short: {what}"));
                    more = false;
                }
                ratio => {
                    ratios.push(ratio?);
                    (s.tell)(&verdict::so_far(&ratios, clock.left() / (clock.seconds() - began)));
                }
            }
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
                (s.tell)(&format!(
                    "{} blocks, {:.0} s: {}",
                    ratios.len(),
                    clock.seconds(),
                    verdict::look(&finding)
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
    (sides, steps): ([&Program; 2], u64),
    block: u64,
    s: &Settings<'_>,
) -> Result<f64, SliceError> {
    let order = if coin(s.seed, block) { [1, 0, 0, 1] } else { [0, 1, 1, 0] };
    let mut log = 0.0;
    for side in order {
        let slice = slicer.run(sides[side], Task::Time { steps, ceilings: false })?;
        v.slices.push(slice.report(["a", "b"][side], block));
        log += [-0.5, 0.5][side] * slice.samples_per_second.ln();
    }
    Ok(log)
}

/// How the work of two sides differs.
enum Difference {
    /// In what was asked for: they cannot be compared.
    Work(String),
    /// At most in keys that only one of two different programs knows, and that nobody set.
    Defaults(Vec<String>),
}

fn difference(programs: [&Program; 2], [a, b]: [&Slice; 2]) -> Difference {
    let differ =
        |key: &str| format!("the two sides differ in {key}, so they do not do the same work");
    let mut one_sided = Vec::new();
    for section in ["data", "model", "loader"] {
        match differing(&a.workload, &b.workload, section) {
            Keys::Unlike(key) => return Difference::Work(differ(&key)),
            Keys::OneSided(keys) => one_sided.extend(keys),
        }
    }
    // One program writes down the same keys for the same work; another may know new ones.
    let same_program = programs[0].binary() == programs[1].binary();
    let set = |key: &String| same_program || programs.iter().any(|p| p.given().has(key));
    if let Some(key) = one_sided.iter().find(|key| set(key)) {
        return Difference::Work(differ(key));
    }
    let (x, y) = (&a.record, &b.record);
    if x.workload.quirks != y.workload.quirks {
        return Difference::Work(differ("workload.quirks"));
    }
    if let (Some(x), Some(y)) = (&x.facts, &y.facts)
        && x != y
    {
        return Difference::Work(format!(
            "a read {} training samples and b {}, so they do not do the same work",
            x.train_samples, y.train_samples
        ));
    }
    let (x, y) = (&x.versions.profile, &y.versions.profile);
    if x != y {
        return Difference::Work(format!("a is a {x} build and b a {y} build"));
    }
    Difference::Defaults(one_sided)
}

/// How a section differs.
#[derive(Debug, PartialEq)]
enum Keys {
    /// This key has different values.
    Unlike(String),
    /// All keys that both have are equal; these only one has.
    OneSided(Vec<String>),
}

fn differing(a: &DocumentMut, b: &DocumentMut, section: &str) -> Keys {
    let table = |document: &DocumentMut| -> Vec<(String, Item)> {
        let table = document.get(section).and_then(Item::as_table_like);
        let items = table.into_iter().flat_map(TableLike::iter);
        items.map(|(key, item)| (key.to_owned(), item.clone())).collect()
    };
    let (a, b) = (table(a), table(b));
    let of = |side: &[(String, Item)], key: &str| {
        side.iter().find(|(k, _)| k == key).map(|(_, item)| item.clone())
    };
    // How far batches are read ahead changes how fast the work is done, and not what it is.
    let all = a.iter().chain(&b).map(|(key, _)| key.as_str());
    let keys: BTreeSet<&str> = all.filter(|key| *key != "prefetch").collect();
    let mut one_sided = Vec::new();
    for key in keys {
        match (of(&a, key), of(&b, key)) {
            (Some(x), Some(y)) if same(&x, &y) => {}
            (Some(_), Some(_)) => return Keys::Unlike(format!("{section}.{key}")),
            _ => one_sided.push(format!("{section}.{key}")),
        }
    }
    Keys::OneSided(one_sided)
}

/// Whether two items mean the same, however they are written.
fn same(a: &Item, b: &Item) -> bool {
    fn values(a: &Value, b: &Value) -> bool {
        let number = |v: &Value| v.as_float().or_else(|| v.as_integer().map(|n| n as f64));
        match (a, b) {
            (Value::Integer(a), Value::Integer(b)) => a.value() == b.value(),
            (Value::String(a), Value::String(b)) => a.value() == b.value(),
            (Value::Boolean(a), Value::Boolean(b)) => a.value() == b.value(),
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| values(a, b))
            }
            _ => match (number(a), number(b)) {
                (Some(a), Some(b)) => a == b,
                _ => a.to_string().trim() == b.to_string().trim(),
            },
        }
    }
    match (a.as_value(), b.as_value()) {
        (Some(a), Some(b)) => values(a, b),
        _ => a.to_string().trim() == b.to_string().trim(),
    }
}

pub(super) fn version(record: &Needed) -> String {
    let commit =
        record.versions.git_commit.as_ref().map_or_else(String::new, |c| format!(" ({c})"));
    format!("{}{commit}", record.versions.dlrm_bench)
}

impl SideReport {
    pub(super) fn of(program: &Program) -> Self {
        SideReport { what: program.shown(), ..SideReport::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_written_differently_are_the_same() {
        let parse = |text: &str| text.parse::<DocumentMut>().unwrap();
        let a = parse("[data]\nrows = 10\nq = [0.1, 1]\ns = 'x'\n[model]\ndim = 8");
        let b = parse(
            "[data]\nq = [0.10, 1.0] # as before\nrows   = 1_0\ns = \"x\"\n[model]\ndim = 16\n[train]\nx = 1",
        );
        assert_eq!(differing(&a, &b, "data"), Keys::OneSided(vec![]));
        assert_eq!(differing(&a, &b, "model"), Keys::Unlike("model.dim".into()));
        let c = parse("[data]\nrows = 10\nq = [0.1]\ns = 'x'");
        assert_eq!(differing(&a, &c, "data"), Keys::Unlike("data.q".into()));
    }

    #[test]
    fn what_only_one_side_has_is_found_on_either() {
        let parse = |text: &str| text.parse::<DocumentMut>().unwrap();
        let a = parse("[data]\nrows = 10\nold = 1");
        let b = parse("[data]\nrows = 10\nnew = 1");
        let both = Keys::OneSided(vec!["data.new".into(), "data.old".into()]);
        assert_eq!(
            (differing(&a, &b, "data"), differing(&b, &a, "data")),
            (both, Keys::OneSided(vec!["data.new".into(), "data.old".into()]))
        );
        let none = Keys::OneSided(vec!["data.old".into(), "data.rows".into()]);
        assert_eq!(differing(&a, &parse(""), "data"), none);
    }
}
