//! How the progress of work on files is shown.

use super::progress::thousands;
use crate::train::memory::shown;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time between plain progress lines in a pipe.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// A bar on a terminal, plain lines in a pipe, or nothing.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    plain: bool,
    state: Mutex<State>,
}

struct State {
    what: String,
    since: Instant,
    told: Instant,
}

impl Bar {
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (!quiet && terminal).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            let template =
                "{elapsed_precise} {bar:14} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        let now = Instant::now();
        Bar {
            bar,
            plain: !quiet && !terminal,
            state: Mutex::new(State { what: String::new(), since: now, told: now }),
        }
    }

    /// `bytes` of `total` are done of `what`; `samples` so far, if they are counted.
    pub fn tell(&self, what: &str, bytes: u64, total: u64, samples: Option<u64>) {
        // Nothing in it that a panic could leave half done.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let new = state.what != what;
        if new {
            (state.what, state.since) = (what.to_owned(), Instant::now());
        }
        if let Some(bar) = &self.bar {
            if new {
                bar.reset();
            }
            bar.set_length(total);
            bar.set_position(bytes.min(total));
            bar.set_message(match samples {
                Some(n) => format!("{what}, {} samples", thousands(n)),
                None => what.to_owned(),
            });
        } else if self.plain && (new || state.told.elapsed() > PLAIN_EVERY) {
            state.told = Instant::now();
            let share = if total == 0 { 1.0 } else { bytes as f64 / total as f64 };
            let elapsed = state.since.elapsed().as_secs_f64();
            let left = if new || share == 0.0 {
                String::new()
            } else {
                format!("  ETA {:.0} s", elapsed / share * (1.0 - share))
            };
            let samples =
                samples.map_or_else(String::new, |n| format!("  {} samples", thousands(n)));
            errln!("{what}: {:.0}% of {}{samples}{left}", 100.0 * share, shown(total));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
