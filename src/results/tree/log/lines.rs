//! Which lines of a log are about its run, and where that begins and ends.

use crate::mllog::parse::{self, Event};

/// How far apart the ranks of one run may begin, in milliseconds; what begins later is another
/// attempt.
const RANKS: f64 = 10_000.0;

/// How far ranks' clocks and the order of their lines may differ, in milliseconds.
const JITTER: f64 = 1_000.0;

/// The lines of one run. A log into which a run was started again holds those of the last attempt.
#[derive(Debug)]
pub(super) struct Lines {
    /// Every event, with its line.
    all: Vec<(usize, Event)>,
    /// Where those of the run begin.
    from: usize,
    start: usize,
    stop: Option<usize>,
    /// Oddities, a sentence each.
    pub warnings: Vec<String>,
}

impl Lines {
    /// Reads the lines of a log.
    ///
    /// # Errors
    /// If there is no run in it, or more than one, or its clock tells no time.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("an empty file; must be an MLPerf log".into());
        }
        let (mut all, mut broken) = (Vec::new(), Vec::new());
        for line in parse::lines(bytes) {
            match line.event {
                Ok(event) => all.push((line.number, event)),
                Err(e) => broken.push(format!("line {}: {e}", line.number)),
            }
        }
        let mut warnings = match broken.as_slice() {
            [] => Vec::new(),
            [first] => vec![format!("{first}; passed over")],
            [first, more @ ..] => {
                vec![format!("{first}; passed over, as were {} other lines", more.len())]
            }
        };
        if all.is_empty() {
            return Err(broken
                .into_iter()
                .next()
                .unwrap_or_else(|| "no line with :::MLLOG; must be an MLPerf log".into()));
        }
        let start = last_attempt(&all)?;
        let from = beginning(&all, start);
        if let Some((line, _)) = all[..from].iter().find(|(_, e)| e.key == "init_start") {
            warnings.push(format!(
                "started again in line {}: the attempt that began in line {line} is passed over",
                all[from].0
            ));
        }
        let stop = all.iter().rposition(|(_, e)| e.key == "run_stop").filter(|&stop| stop > start);
        let lines = Lines { all, from, start, stop, warnings };
        lines.check_clock()?;
        Ok(lines)
    }

    /// Milliseconds at `run_start`.
    pub fn start_ms(&self) -> f64 {
        self.all[self.start].1.time_ms
    }

    /// The last `run_stop`.
    pub fn stop(&self) -> Option<&Event> {
        self.stop.map(|i| &self.all[i].1)
    }

    /// Seconds from `run_start` to `run_stop`; above 0.
    pub fn seconds(&self) -> Option<f64> {
        self.stop().map(|stop| (stop.time_ms - self.start_ms()) / 1e3)
    }

    /// All events of the run, what led to it and what follows it.
    pub fn own(&self) -> impl Iterator<Item = &Event> {
        self.all[self.from..].iter().map(|(_, e)| e)
    }

    /// Events from `run_start` to `run_stop`, with their lines.
    pub fn during(&self) -> &[(usize, Event)] {
        &self.all[self.start..self.stop.unwrap_or(self.all.len())]
    }

    /// Events behind `run_stop`.
    pub fn behind(&self) -> &[(usize, Event)] {
        self.stop.map_or(&[], |stop| &self.all[stop..])
    }

    /// What the events of `key` say first: those of the run, or else those of an earlier attempt,
    /// since what starts a run again may write its head only once.
    pub fn first<T>(&self, key: &str, what: impl Fn(&Event) -> Option<T>) -> Option<T> {
        let earlier = self.all[..self.from].iter().map(|(_, e)| e);
        self.own().chain(earlier).filter(|e| e.key == key).find_map(what)
    }

    /// The first value of `key` that is a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.first(key, Event::number)
    }

    /// The first value of `key` that is text.
    pub fn text(&self, key: &str) -> Option<String> {
        self.first(key, |e| e.text().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned))
    }

    /// Refuses a clock by which nothing can be timed.
    fn check_clock(&self) -> Result<(), String> {
        let mut latest = (self.all[self.start].0, self.start_ms());
        let mut seen: Vec<(Option<f64>, Option<f64>)> = Vec::new();
        for (line, event) in self.during().iter().filter(|(_, e)| e.key == "eval_accuracy") {
            // Other ranks may write the same late.
            let evaluation = (mark(event), event.number());
            if seen.contains(&evaluation) {
                continue;
            }
            seen.push(evaluation);
            latest = later(latest, (*line, event.time_ms), JITTER)?;
        }
        let Some(stop) = self.stop else { return Ok(()) };
        let (line, stop) = (self.all[stop].0, self.all[stop].1.time_ms);
        later(latest, (line, stop), JITTER)?;
        let start = (self.all[self.start].0, self.start_ms());
        later(start, (line, stop), 0.0)?;
        if stop == start.1 {
            return Err(format!(
                "line {line}: the clock stands still: time_ms of run_stop is that of run_start in line {}",
                start.0
            ));
        }
        let evaluations = self.during().iter().filter(|(_, e)| e.key == "eval_accuracy");
        let times: Vec<f64> = evaluations.map(|(_, e)| e.time_ms).collect();
        if seen.len() > 2 && times.iter().all(|&t| t == times[0]) {
            return Err(format!(
                "the clock stands still: all {} evaluations have time_ms {}",
                seen.len(),
                times[0]
            ));
        }
        Ok(())
    }
}

/// The later of two lines and their times.
fn later(before: (usize, f64), now: (usize, f64), jitter: f64) -> Result<(usize, f64), String> {
    if now.1 < before.1 - jitter {
        return Err(format!(
            "line {}: the clock goes back by {:.3} s from line {}; no times can be told",
            now.0,
            (before.1 - now.1) / 1e3,
            before.0
        ));
    }
    Ok(if now.1 > before.1 { now } else { before })
}

/// How far training is, as the metadata of an evaluation say it.
pub(super) fn mark(event: &Event) -> Option<f64> {
    event.meta_number("epoch_num").or_else(|| event.meta_number("samples_count"))
}

/// The first `run_start` of the last attempt. Ranks that all write double their lines side by side;
/// a start behind what only a running training writes, or long after the first, is another one.
fn last_attempt(all: &[(usize, Event)]) -> Result<usize, String> {
    const RUNNING: [&str; 5] =
        ["eval_start", "eval_stop", "eval_accuracy", "epoch_stop", "block_stop"];
    const READY: [&str; 2] = ["init_start", "init_stop"];
    let starts: Vec<usize> = (0..all.len()).filter(|&i| all[i].1.key == "run_start").collect();
    let Some(&first) = starts.first() else {
        return Err("no run_start: training never began".into());
    };
    let mut start = first;
    for pair in starts.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let between =
            |keys: &[&str]| all[a..b].iter().any(|(_, e)| keys.iter().any(|key| *key == e.key));
        if between(&["run_stop"]) {
            return Err(format!(
                "line {}: a second run_start after run_stop; one file must hold one run",
                all[b].0
            ));
        }
        let apart = (all[b].1.time_ms - all[a].1.time_ms).abs();
        if between(&RUNNING) || apart > RANKS || (between(&READY) && apart > JITTER) {
            start = b;
        }
    }
    Ok(start)
}

/// Where the lines of the attempt that starts at `start` begin.
fn beginning(all: &[(usize, Event)], start: usize) -> usize {
    let is_head =
        |key: &str| key.starts_with("submission_") || ["cache_clear", "init_start"].contains(&key);
    // Behind an attempt that had begun to train.
    let trained = all[..start].iter().rposition(|(_, e)| {
        e.key == "run_start"
            || ["epoch_", "block_", "eval_accuracy", "eval_st"].iter().any(|k| e.key.starts_with(k))
    });
    if let Some(last) = trained {
        return (last + 1..start).find(|&i| is_head(&all[i].1.key)).unwrap_or(start);
    }
    // Behind one that had not: its init_start is long before that of this one.
    let inits: Vec<usize> = (0..start).filter(|&i| all[i].1.key == "init_start").collect();
    let again = inits
        .windows(2)
        .rev()
        .find(|pair| (all[pair[1]].1.time_ms - all[pair[0]].1.time_ms).abs() > RANKS);
    again.map_or(0, |pair| {
        let mut from = pair[1];
        while from > pair[0] + 1 && is_head(&all[from - 1].1.key) {
            from -= 1;
        }
        from
    })
}
