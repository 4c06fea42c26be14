//! `run --sweep`: several workloads in turns, and what they came to.

mod plan;

pub(super) use plan::Plan;

use super::{
    Exit, Failure,
    compare::width,
    progress::{Show, clock, counted, thousands},
    ranks::First,
    run::{Ran, RunArgs, Seat, one},
    run_output::Closed,
    series::{sum_up, with_seed},
};
use crate::{
    host::escape::visible,
    report::sweep as tables,
    results::{
        RunRecord,
        record::{self, Series},
        sweep::{Point, Sweep, SweepFolder},
        table::Row,
        tree::{self, Ending},
        write_file,
    },
    stats,
    system::forget_peak_memory,
    train::events::{Outcome, StopReason},
};
use std::{
    collections::HashMap,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// Runs of a sweep that are over, by point and round.
type Done = HashMap<(usize, usize), DoneRun>;

struct DoneRun {
    /// Its name.
    id: String,
    folder: PathBuf,
}

/// Runs all points of `plan`, round after round, then sums up. A run whose loss is not a number
/// counts as one that missed the target; a point that does not fit the memory or its data is left
/// out with the reason. Any other failure, and an interruption, ends the sweep, which can go on by
/// `--resume`.
pub(super) fn sweep(
    args: &RunArgs,
    ranks: Option<&First>,
    plan: &Plan,
    show: Show,
    stop: &AtomicBool,
) -> Result<Exit, Failure> {
    let (folder, mut sweep, mut done) = begin(args, plan)?;
    let order = plan.order();
    say_begin(show, plan, folder.path(), order.len(), done.len());
    let runner = Runner { args, ranks, plan, folder: &folder, show, stop };
    let ended = runner.all(&order, &mut sweep, &mut done);
    let missing = order.iter().filter(|at| !done.contains_key(*at)).count();
    let left_out =
        |at: &&(usize, usize)| sweep.points[at.0].failed.is_some() && !done.contains_key(*at);
    sweep.complete = missing == order.iter().filter(left_out).count();
    let rows = sum_up_points(plan, &mut sweep, &done, folder.path())?;
    let written = publish(&folder, &sweep, !args.no_plots);
    say_end(args, &sweep, &folder, order.len() - missing, order.len());
    ended.and(written)?;
    let good = |(point, row): (&Point, &Option<Row>)| {
        let finished = |r: &Row| r.each.iter().all(|r| r.ending == Ending::Finished);
        point.failed.is_none()
            && row.as_ref().is_some_and(|r| r.seconds_to_target.is_some() || finished(r))
    };
    Ok(match stop.load(Ordering::Relaxed) {
        true => Exit::Interrupted,
        false if sweep.points.iter().zip(&rows).all(good) => Exit::Done,
        false => Exit::Fails,
    })
}

/// The sweep's folder, and what is done of it: nothing, or with `--resume` what the newest sweep of
/// these points has finished.
fn begin(args: &RunArgs, plan: &Plan) -> Result<(SweepFolder, Sweep, Done), Failure> {
    let id = plan.id();
    let found = match args.resume {
        Some(_) => SweepFolder::newest(&args.results, &id)?,
        None => None,
    };
    if args.resume.is_some() && found.is_none() && !args.quiet {
        errln!(
            "no sweep of these points, seeds and this program below {} can go on; a new one begins",
            visible(&args.results.display().to_string())
        );
    }
    let points = plan.points.iter();
    let points = points.map(|p| Point { settings: p.settings.clone(), ..Point::default() });
    let name = plan.first().workload.workload.name.clone();
    let mut sweep = Sweep::new(id, name, plan.keys.clone(), plan.rounds);
    sweep.points = points.collect();
    match found {
        Some((folder, old)) => {
            let done = finished(plan, folder.path());
            sweep.started = old.started;
            Ok((folder, sweep, done))
        }
        None => {
            let folder = SweepFolder::create(&args.results, &sweep.id)?;
            folder.write(&sweep)?;
            Ok((folder, sweep, Done::new()))
        }
    }
}

/// Runs below `folder` that came to an end, each by the workload that it was a run of.
fn finished(plan: &Plan, folder: &Path) -> Done {
    let mut wanted: HashMap<String, (usize, usize)> = HashMap::new();
    for (p, point) in plan.points.iter().enumerate() {
        for (round, &seed) in point.seeds.iter().enumerate() {
            let resolved = with_seed(&point.resolved, seed);
            wanted.insert(resolved.workload.sha256(), (p, round));
        }
    }
    // What cannot be read is missing.
    let runs = tree::read(&[folder.display().to_string()]).runs;
    let ended = runs.into_iter().filter(|run| run.ending != Ending::Unfinished);
    ended
        .filter_map(|run| {
            let folder = PathBuf::from(run.path);
            let record = record::read(&folder.join("run.json")).ok()?;
            let at = *wanted.get(&record.workload.sha256)?;
            Some((at, DoneRun { id: record.run, folder }))
        })
        .collect()
}

/// Which run of how many.
struct Place {
    run: usize,
    runs: usize,
    /// Its point and its round, from 0.
    at: (usize, usize),
    /// Seconds until all are done, where that can be told.
    eta: Option<f64>,
}

/// Seconds of runs so far, by point.
#[derive(Default)]
struct Clock(Vec<(usize, f64)>);

impl Clock {
    fn add(&mut self, point: usize, seconds: f64) {
        self.0.push((point, seconds));
    }

    /// Seconds that runs of these points will take: as long as others of the point did, or else of
    /// all points; `None` before the first.
    fn left(&self, points: &[usize]) -> Option<f64> {
        let mean = |of: &dyn Fn(usize) -> bool| {
            let seconds: Vec<f64> =
                self.0.iter().filter(|(p, _)| of(*p)).map(|(_, s)| *s).collect();
            stats::mean(&seconds)
        };
        let all = mean(&|_| true)?;
        Some(points.iter().map(|point| mean(&|p| p == *point).unwrap_or(all)).sum())
    }
}

/// What runs of a sweep share.
struct Runner<'a> {
    args: &'a RunArgs,
    ranks: Option<&'a First>,
    plan: &'a Plan,
    folder: &'a SweepFolder,
    show: Show,
    stop: &'a AtomicBool,
}

impl Runner<'_> {
    /// All runs in this order that are not done, until one fails that is to end the sweep.
    fn all(
        &self,
        order: &[(usize, usize)],
        sweep: &mut Sweep,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let mut clock = Clock::default();
        for (n, &at) in order.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let open =
                |at: &(usize, usize)| !done.contains_key(at) && sweep.points[at.0].failed.is_none();
            if !open(&at) {
                continue;
            }
            let left: Vec<usize> = order[n..].iter().filter(|at| open(at)).map(|at| at.0).collect();
            let eta = clock.left(&left);
            let place = Place { run: n + 1, runs: order.len(), at, eta };
            let began = Instant::now();
            let first = done.iter().filter(|(of, _)| of.0 == at.0).min_by_key(|(of, _)| of.1);
            let first = first.map(|(_, run)| run.id.clone());
            match self.run(&place, first) {
                Ok(Some((run, line))) => {
                    clock.add(at.0, began.elapsed().as_secs_f64());
                    self.say_result(&line, clock.left(&left[1..]));
                    done.insert(at, run);
                }
                Ok(None) => {}
                Err(failure @ (Failure::Memory(_) | Failure::Workload(_))) => {
                    let what = failure.to_string();
                    errln!("error: {}: {}", self.plan.points[at.0].shown(), visible(&what));
                    sweep.points[at.0].failed = Some(what);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// One run, of the point's series that the run called `first` began, and what it came to in a
    /// line; `None` if it was interrupted.
    fn run(
        &self,
        place: &Place,
        first: Option<String>,
    ) -> Result<Option<(DoneRun, String)>, Failure> {
        let (point, round) = (&self.plan.points[place.at.0], place.at.1);
        let seed = point.seeds[round];
        self.say_run(place, seed);
        forget_peak_memory();
        let rounds = self.plan.rounds;
        let series = Series { id: first, run: round + 1, runs: rounds };
        let seat = Seat {
            root: self.folder.path(),
            series: Some(series).filter(|_| rounds > 1),
            resume: None,
            ranks: self.ranks,
        };
        // In a pipe the line that ends a run says all.
        let show = match self.show {
            Show::Auto if !std::io::stderr().is_terminal() => Show::Quiet,
            show => show,
        };
        let resolved = with_seed(&point.resolved, seed);
        let Ran { closed: Closed { record, folder, lost }, outcome } =
            one(self.args, &resolved, show, self.stop, seat)?;
        let came_to = match outcome {
            Ok(outcome) if outcome.reason == StopReason::Interrupted => return Ok(None),
            Ok(outcome) => came_to(&record, &outcome),
            Err(failure @ Failure::Quality(_)) => format!(", {failure}"),
            Err(failure) => return Err(failure),
        };
        let (run, runs) = (place.run, place.runs);
        let line = format!("run {run} of {runs}: {}, seed {seed}{came_to}", point.shown());
        match lost {
            Some(failure) => Err(failure),
            None => Ok(Some((DoneRun { id: record.run, folder: folder.path().to_owned() }, line))),
        }
    }

    fn say_run(&self, place: &Place, seed: u64) {
        let (point, points) = (place.at.0, self.plan.points.len());
        let shown = self.plan.points[point].shown();
        match self.show {
            Show::Auto if std::io::stderr().is_terminal() => errln!(
                "run {} of {}, point {} of {points}: {shown}, seed {seed}{}",
                place.run,
                place.runs,
                point + 1,
                eta(place.eta)
            ),
            Show::Json => outln!(
                "{}",
                serde_json::json!({
                    "event": "sweep_run", "run": place.run, "runs": place.runs, "point": point + 1,
                    "points": points, "settings": self.plan.points[point].settings, "seed": seed,
                    "eta_seconds": place.eta,
                })
            ),
            Show::Auto | Show::Quiet => {}
        }
    }

    /// Says the line that ends a run; `left` are seconds until all are done.
    fn say_result(&self, line: &str, left: Option<f64>) {
        if let Show::Auto = self.show {
            let terminal = std::io::stderr().is_terminal();
            let left = left.filter(|s| *s > 0.0 && !terminal);
            outln!("{}{}", visible(line), eta(left));
        }
    }
}

/// Throughput, quality and seconds of a run, to go on a line.
fn came_to(record: &RunRecord, outcome: &Outcome) -> String {
    let rate = record.throughput.as_ref().map_or(String::new(), |t| {
        let rate = t.steady.as_ref().map_or(t.training, |s| s.mean);
        format!(", {} samples/s", thousands(rate.round() as u64))
    });
    let auc = outcome.kept_eval().map_or(String::new(), |e| format!(", AUC {:.5}", e.quality.auc));
    format!("{rate}{auc}, {:.1} s", outcome.seconds)
}

fn eta(seconds: Option<f64>) -> String {
    seconds.map_or(String::new(), |s| format!(", ETA {}", clock(s)))
}

fn say_begin(show: Show, plan: &Plan, folder: &Path, runs: usize, done: usize) {
    let at = folder.display().to_string();
    match show {
        Show::Auto => {
            let done = match done {
                0 => String::new(),
                n if n == runs => "; all of them are done".to_owned(),
                n => format!("; {n} of them are done"),
            };
            errln!("{}{done}; in {}", plan.size(), visible(&at));
        }
        Show::Json => outln!(
            "{}",
            serde_json::json!({
                "event": "sweep_start", "points": plan.points.len(), "runs": runs, "done": done, "folder": at,
            })
        ),
        Show::Quiet => {}
    }
}

/// Fills in what the points came to, and gives their rows.
fn sum_up_points(
    plan: &Plan,
    sweep: &mut Sweep,
    done: &Done,
    root: &Path,
) -> Result<Vec<Option<Row>>, Failure> {
    let mut rows = Vec::new();
    for (p, point) in sweep.points.iter_mut().enumerate() {
        let folders =
            (0..plan.rounds).filter_map(|round| Some(done.get(&(p, round))?.folder.clone()));
        let folders: Vec<PathBuf> = folders.collect();
        let within = |f: &PathBuf| f.strip_prefix(root).unwrap_or(f).display().to_string();
        point.folders = folders.iter().map(within).collect();
        rows.push(if folders.is_empty() { None } else { Some(sum_up(&folders)?) });
    }
    sweep.sum_up(&rows);
    Ok(rows)
}

/// Writes `sweep.json`, the table and the picture.
fn publish(folder: &SweepFolder, sweep: &Sweep, plots: bool) -> Result<(), Failure> {
    folder.write(sweep)?;
    let at = |name: &str| folder.path().join(name);
    write_file(&at("sweep.md"), tables::markdown(sweep).as_bytes())?;
    let csv = tables::csv(sweep).map_err(|e| Failure::Internal(format!("no CSV: {e}")))?;
    write_file(&at("sweep.csv"), csv.as_bytes())?;
    if plots {
        tables::draw(folder.path(), sweep)?;
    }
    Ok(())
}

fn say_end(args: &RunArgs, sweep: &Sweep, folder: &SweepFolder, done: usize, runs: usize) {
    if args.json {
        let line = serde_json::json!({
            "event": "sweep_stop", "interrupted": !sweep.complete, "done": done, "runs": runs, "sweep": sweep,
        });
        outln!("{line}");
    } else {
        out!("\n{}", tables::text(sweep, width()));
        outln!("\nresults     {}/", visible(&folder.path().display().to_string()));
    }
    if !sweep.complete {
        errln!(
            "{} of {} done; the same command with --resume goes on",
            done,
            counted(runs as u64, "run")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_to_come_take_as_long_as_those_of_their_point() {
        let mut clock = Clock::default();
        assert_eq!(clock.left(&[0, 1]), None);
        clock.add(0, 2.0);
        clock.add(1, 4.0);
        clock.add(0, 3.0);
        assert_eq!(clock.left(&[0, 1, 2]), Some(2.5 + 4.0 + 3.0));
        assert_eq!(clock.left(&[]), Some(0.0));
    }
}
