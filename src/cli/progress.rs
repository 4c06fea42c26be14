//! What a person or a program sees of a run while it goes on.

use super::{columns, preparing::Preparing, terminal};
use crate::{
    checkpoint::CheckpointError,
    data::{Facts, preprocess::prepare, source::prepared::News},
    host::escape::visible,
    train::{
        TrainError,
        events::{CheckpointEvent, EvalEvent, Listener, Outcome, Resumption, RunFacts, StepEvent},
    },
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{ErrorKind, IsTerminal},
    path::Path,
    time::{Duration, Instant},
};

/// Seconds between plain progress lines in a pipe.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Seconds over which the shown throughput and loss are averaged.
const WINDOW: f64 = 2.0;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// A bar on a terminal, plain lines in a pipe.
    Auto,
    /// Nothing.
    Quiet,
    /// One JSON object a line on standard output: `run_start`, `eval`, `run_stop`, and a `step`
    /// about once a second.
    Json,
}

/// Shows progress.
pub struct Progress {
    sink: Sink,
    facts: Option<RunFacts>,
    evals: Vec<(f64, f64)>,
    window: Window,
    clock: Instant,
    last_line: Instant,
    preparing: Option<Preparing>,
}

enum Sink {
    Bar(ProgressBar),
    Plain,
    Json,
    Quiet,
}

/// Sums since the last refresh.
#[derive(Default)]
struct Window {
    samples: f64,
    seconds: f64,
    loss: f64,
    rate: f64,
    mean_loss: f64,
}

impl Window {
    fn add(&mut self, s: &StepEvent) {
        self.samples += f64::from(s.samples);
        self.seconds += s.seconds;
        self.loss += f64::from(s.loss) * f64::from(s.samples);
        if self.seconds >= WINDOW || self.rate == 0.0 {
            self.rate = self.samples / self.seconds.max(1e-9);
            self.mean_loss = self.loss / self.samples.max(1.0);
            if self.seconds >= WINDOW {
                (self.samples, self.seconds, self.loss) = (0.0, 0.0, 0.0);
            }
        }
    }
}

impl Progress {
    /// A new display.
    pub fn new(show: Show) -> Self {
        let sink = match show {
            Show::Quiet => Sink::Quiet,
            Show::Json => Sink::Json,
            Show::Auto if std::io::stderr().is_terminal() => Sink::Bar(bar()),
            Show::Auto => Sink::Plain,
        };
        let now = Instant::now();
        Progress {
            sink,
            facts: None,
            evals: Vec::new(),
            window: Window::default(),
            clock: now,
            last_line: now,
            preparing: None,
        }
    }

    /// Seconds until the target is expected, from the trend of AUC over the logarithm of samples;
    /// `None` while unknown.
    fn eta(&self, samples: f64) -> Option<f64> {
        let facts = self.facts.as_ref()?;
        let rate = (self.window.rate > 0.0).then_some(self.window.rate)?;
        let left = (facts.max_steps as f64 / facts.steps_per_epoch as f64
            * facts.train_samples as f64
            - samples)
            .max(0.0);
        let to_target = facts
            .target_auc
            .and_then(|t| samples_to(&self.evals, t))
            .map(|n| (n - samples).max(0.0));
        Some(to_target.map_or(left, |n| n.min(left)) / rate)
    }

    fn line(&self, step: &StepEvent, samples: f64) -> String {
        let auc = self.evals.last().map_or_else(|| "-".into(), |e| format!("{:.5}", e.1));
        let eta = self.eta(samples).map_or_else(|| "-".into(), clock);
        format!(
            "step {}  {} samples/s  loss {:.4}  AUC {auc}  ETA {eta}",
            step.step,
            thousands(self.window.rate.round() as u64),
            self.window.mean_loss
        )
    }

    fn samples_done(&self, step: &StepEvent) -> f64 {
        self.facts
            .as_ref()
            .map_or(0.0, |f| step.step as f64 / f.steps_per_epoch as f64 * f.train_samples as f64)
    }

    fn preparing_as_json(&mut self, news: &News<'_>) -> std::io::Result<()> {
        let event = match news {
            News::Waits(folder) => serde_json::json!({"event": "prepare_wait", "folder": folder}),
            News::Begins(begins) => serde_json::json!({"event": "prepare_start", "plan": begins}),
            News::Goes(_) if self.last_line.elapsed() < Duration::from_secs(1) => return Ok(()),
            News::Goes(progress) => {
                self.last_line = Instant::now();
                let (what, bytes, total) = match *progress {
                    prepare::Progress::Encode { bytes, total, .. } => ("encoding", bytes, total),
                    prepare::Progress::Other { what, bytes, total } => (what, bytes, total),
                };
                serde_json::json!({"event": "prepare", "what": what, "bytes": bytes, "total": total})
            }
            News::Interrupted(folder) => {
                serde_json::json!({"event": "prepare_interrupted", "folder": folder})
            }
            News::Ready(ready) => serde_json::json!({
                "event": "prepare_stop",
                "folder": ready.folder,
                "made": ready.made(),
                "seconds": ready.seconds,
            }),
        };
        Self::json(&event)
    }

    /// Shows a line. Without a reader there is nothing to go on for; another error is told at the
    /// end.
    fn json(value: &serde_json::Value) -> std::io::Result<()> {
        match terminal::out(format_args!("{value}\n")) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(e),
            _ => Ok(()),
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:14} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message("opening the data, making the model");
    bar
}

impl Listener for Progress {
    fn init_start(&mut self) -> std::io::Result<()> {
        match &self.sink {
            Sink::Bar(b) => b.tick(),
            Sink::Plain => errln!("opening the data, making the model"),
            _ => {}
        }
        Ok(())
    }

    fn preparing(&mut self, news: &News<'_>) -> std::io::Result<()> {
        match &self.sink {
            Sink::Quiet => return Ok(()),
            Sink::Json => return self.preparing_as_json(news),
            Sink::Bar(b) if self.preparing.is_none() => b.finish_and_clear(),
            Sink::Bar(_) | Sink::Plain => {}
        }
        self.preparing.get_or_insert_with(|| Preparing::new(false)).hear(news);
        if let (News::Ready(_), Sink::Bar(old)) = (news, &mut self.sink) {
            // Its place was taken by the other's.
            *old = bar();
            old.tick();
        }
        Ok(())
    }

    fn data_ready(&mut self, facts: &Facts) -> std::io::Result<()> {
        let lines =
            || columns::told(facts).into_iter().for_each(|line| errln!("{}", visible(&line)));
        match &self.sink {
            Sink::Bar(b) => b.suspend(lines),
            Sink::Plain => lines(),
            Sink::Json | Sink::Quiet => {}
        }
        Ok(())
    }

    fn run_start(&mut self, facts: &RunFacts) -> std::io::Result<()> {
        self.clock = Instant::now();
        self.facts = Some(facts.clone());
        match &self.sink {
            Sink::Bar(b) => b.set_length(facts.max_steps),
            Sink::Plain => {
                let target = facts.targets().map_or_else(String::new, |t| format!(", target {t}"));
                errln!("training: at most {} steps{target}", facts.max_steps);
            }
            Sink::Json => Self::json(&serde_json::json!({"event": "run_start", "facts": facts}))?,
            Sink::Quiet => {}
        }
        Ok(())
    }

    fn step(&mut self, step: &StepEvent) -> std::io::Result<()> {
        self.window.add(step);
        let due = match &self.sink {
            Sink::Quiet => false,
            Sink::Bar(_) => self.last_line.elapsed() > Duration::from_millis(150),
            Sink::Json => self.last_line.elapsed() > Duration::from_secs(1),
            Sink::Plain => self.last_line.elapsed() > PLAIN_EVERY,
        };
        if !due {
            return Ok(());
        }
        self.last_line = Instant::now();
        let line = self.line(step, self.samples_done(step));
        match &self.sink {
            Sink::Bar(b) => {
                b.set_position(step.step);
                b.set_message(line);
            }
            Sink::Plain => errln!("{line}"),
            Sink::Json => {
                Self::json(
                    &serde_json::json!({"event": "step", "samples_per_second": self.window.rate, "step": step}),
                )?;
            }
            Sink::Quiet => {}
        }
        Ok(())
    }

    fn eval_stop(&mut self, e: &EvalEvent) -> std::io::Result<()> {
        self.evals.push((e.samples as f64, e.quality.auc));
        match &self.sink {
            Sink::Bar(b) => b.tick(),
            Sink::Plain => errln!(
                "step {}  {} samples  AUC {:.5}  log loss {:.5}  {:.1} s",
                e.step,
                thousands(e.samples),
                e.quality.auc,
                e.quality.logloss,
                e.elapsed
            ),
            Sink::Json => Self::json(&serde_json::json!({"event": "eval", "eval": e}))?,
            Sink::Quiet => {}
        }
        Ok(())
    }

    fn checkpoint(&mut self, saved: &CheckpointEvent) -> std::io::Result<()> {
        match &self.sink {
            Sink::Json => {
                Self::json(&serde_json::json!({"event": "checkpoint", "checkpoint": saved}))
            }
            _ => Ok(()),
        }
    }

    fn checkpoint_failed(&mut self, step: u64, why: &CheckpointError) -> std::io::Result<()> {
        let line = format!("warning: no checkpoint after step {step}: {why}; training goes on");
        match &self.sink {
            Sink::Bar(b) => b.suspend(|| errln!("{}", visible(&line))),
            _ => errln!("{}", visible(&line)),
        }
        Ok(())
    }

    fn failure_left(&mut self, folder: &Path) -> std::io::Result<()> {
        let run = folder.parent().unwrap_or(folder).display().to_string();
        let line = format!(
            "the model and the batch are in {}/failure; dlrm-bench replay does that step again",
            run
        );
        match &self.sink {
            Sink::Bar(b) => b.suspend(|| errln!("{}", visible(&line))),
            Sink::Json => {
                Self::json(&serde_json::json!({"event": "failure", "folder": folder}))?;
            }
            Sink::Plain | Sink::Quiet => errln!("{}", visible(&line)),
        }
        Ok(())
    }

    fn failure_lost(&mut self, why: &TrainError) -> std::io::Result<()> {
        let line = format!("warning: what led to this cannot be kept: {why}");
        match &self.sink {
            Sink::Bar(b) => b.suspend(|| errln!("{}", visible(&line))),
            _ => errln!("{}", visible(&line)),
        }
        Ok(())
    }

    fn resumed(&mut self, from: &Resumption) -> std::io::Result<()> {
        let line = format!("going on after step {}", thousands(from.step));
        match &self.sink {
            Sink::Bar(b) => {
                b.set_position(from.step);
                b.suspend(|| errln!("{line}"));
            }
            Sink::Plain => errln!("{line}"),
            Sink::Json => Self::json(&serde_json::json!({"event": "resumed", "from": from}))?,
            Sink::Quiet => {}
        }
        Ok(())
    }

    fn run_stop(&mut self, outcome: &Outcome) -> std::io::Result<()> {
        match &self.sink {
            Sink::Bar(b) => b.finish_and_clear(),
            Sink::Json => {
                Self::json(&serde_json::json!({"event": "run_stop", "outcome": outcome}))?
            }
            _ => {}
        }
        Ok(())
    }
}

/// Samples at which the least-squares line of AUC over ln(samples) through the last evaluations
/// meets `target`.
fn samples_to(evals: &[(f64, f64)], target: f64) -> Option<f64> {
    let last = &evals[evals.len().saturating_sub(4)..];
    if last.len() < 2 {
        return None;
    }
    let n = last.len() as f64;
    let (mx, my) = last.iter().fold((0.0, 0.0), |(x, y), e| (x + e.0.ln() / n, y + e.1 / n));
    let (mut sxy, mut sxx) = (0.0, 0.0);
    for e in last {
        sxy += (e.0.ln() - mx) * (e.1 - my);
        sxx += (e.0.ln() - mx).powi(2);
    }
    let slope = sxy / sxx;
    (slope > 1e-9).then(|| (mx + (target - my) / slope).exp()).filter(|n| n.is_finite())
}

/// `3:05` or `1:02:03`.
pub(super) fn clock(seconds: f64) -> String {
    let s = seconds.round().min(359_999.0) as u64;
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{}:{:02}", s / 60, s % 60)
    }
}

/// `1,234 things`, or `1 thing`.
pub(super) fn counted(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trend_finds_the_sample_that_meets_the_target() {
        let evals: Vec<(f64, f64)> =
            [1e5, 2e5, 4e5].iter().map(|&n: &f64| (n, 0.3 + 0.03 * n.ln())).collect();
        let n = samples_to(&evals, 0.75).unwrap();
        assert!((0.3 + 0.03 * n.ln() - 0.75).abs() < 1e-9);
        assert_eq!(samples_to(&evals[..1], 0.75), None);
        assert_eq!(samples_to(&[(1e5, 0.7), (2e5, 0.6)], 0.75), None);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5.4, 185.0, 3723.0].map(clock), ["0:05", "3:05", "1:02:03"]);
    }
}
