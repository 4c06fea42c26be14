//! `run --format facebook`: what dlrm_s_pytorch.py of facebookresearch/dlrm prints, for scripts that
//! read it.

mod debug;
mod numpy;
mod torch;

use super::{Failure, terminal};
use crate::{
    engine::Engine,
    host::local_time::hour_and_minute,
    model::ModelSpec,
    train::{
        Finished,
        events::{EvalEvent, Listener, Outcome, RunFacts, StepEvent},
    },
    workload::Workload,
};
use clap::Args;
use std::{
    io::{self, ErrorKind},
    sync::atomic::AtomicBool,
};

/// Options of the original, by its names.
#[derive(Debug, Clone, Args)]
pub struct FacebookArgs {
    /// With --format facebook: a line every N steps
    #[arg(long, value_name = "N", default_value_t = 1, requires = "format", value_parser = super::whole::<u64, 1, { u32::MAX as u64 }>, help_heading = "As dlrm_s_pytorch.py")]
    pub print_freq: u64,
    /// Milliseconds of a step in that line, which are -1 otherwise
    #[arg(long, requires = "format", help_heading = "As dlrm_s_pytorch.py")]
    pub print_time: bool,
    /// The time of day behind that line
    #[arg(long, requires = "format", help_heading = "As dlrm_s_pytorch.py")]
    pub print_wall_time: bool,
    /// After a test recall, precision, F1, AP, AUC and accuracy, not the
    /// accuracy alone
    #[arg(long, requires = "format", help_heading = "As dlrm_s_pytorch.py")]
    pub mlperf_logging: bool,
    /// Print the sizes, all batches, and all parameters before and after (of a
    /// DLRM)
    #[arg(long, requires = "format", help_heading = "As dlrm_s_pytorch.py")]
    pub debug_mode: bool,
    /// Digits behind the point of parameters
    #[arg(long, value_name = "N", default_value_t = 5, requires = "debug_mode", value_parser = super::whole::<usize, 1, 12>, help_heading = "As dlrm_s_pytorch.py")]
    pub print_precision: usize,
}

/// Prints a run as it goes on.
pub(super) struct Facebook {
    args: FacebookArgs,
    /// Steps of an epoch, and of this run's if it has fewer.
    steps: u64,
    steps_per_epoch: u64,
    /// Steps, seconds, samples and sum of their losses since the last line.
    since: (u64, f64, f64, f64),
    /// The last step told of.
    last: Option<StepEvent>,
    best: (f64, f64),
}

impl Facebook {
    /// For a run of `workload`; prints what comes before it.
    ///
    /// # Errors
    /// If batches are to be printed and cannot be read, or the model is none of the original's.
    pub fn begin(
        args: &FacebookArgs,
        workload: &Workload,
        stop: &AtomicBool,
    ) -> Result<Self, Failure> {
        if args.debug_mode {
            debug::before(workload, stop)?;
        }
        Ok(Facebook {
            args: args.clone(),
            steps: 0,
            steps_per_epoch: 1,
            since: (0, 0.0, 0.0, 0.0),
            last: None,
            best: (0.0, 0.0),
        })
    }

    /// Prints what comes behind a run.
    ///
    /// # Errors
    /// If the parameters cannot be read from the device.
    pub fn end(&self, finished: &Finished) -> Result<(), Failure> {
        let ModelSpec::Dlrm(_) = &finished.config.model else { return Ok(()) };
        if self.args.debug_mode {
            let text = debug::parameters(&*finished.engine, self.args.print_precision)
                .map_err(|e| Failure::Internal(e.to_string()))?;
            out!("updated parameters (weights and bias):\n{text}");
        }
        Ok(())
    }

    /// The 1-based number of a step in its epoch.
    fn within_epoch(&self, step: &StepEvent) -> u64 {
        step.step - step.epoch * self.steps_per_epoch
    }

    /// Prints the line of the steps since the last one.
    fn finished(&mut self) -> io::Result<()> {
        let Some(step) = self.last.filter(|_| self.since.0 > 0) else { return Ok(()) };
        let (steps, seconds, samples, loss) = std::mem::take(&mut self.since);
        let time = if self.args.print_time { 1e3 * seconds / steps as f64 } else { -1.0 };
        let wall = match self.args.print_wall_time {
            true => {
                let (hour, minute) = hour_and_minute();
                format!(" ({hour:02}:{minute:02})")
            }
            false => String::new(),
        };
        let (number, of, epoch) = (self.within_epoch(&step), self.steps, step.epoch);
        print(format_args!(
            "Finished training it {number}/{of} of epoch {epoch}, {time:.2} ms/it, loss {:.6}{wall}\n",
            loss / samples
        ))
    }
}

/// Without a reader there is nothing to go on for; another error is told at the end.
fn print(line: std::fmt::Arguments<'_>) -> io::Result<()> {
    match terminal::out(line) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(e),
        _ => Ok(()),
    }
}

impl Listener for Facebook {
    fn model_ready(&mut self, engine: &dyn Engine) -> io::Result<()> {
        if !self.args.debug_mode {
            return Ok(());
        }
        let text =
            debug::parameters(engine, self.args.print_precision).map_err(io::Error::other)?;
        print(format_args!("initial parameters (weights and bias):\n{text}"))
    }

    fn run_start(&mut self, facts: &RunFacts) -> io::Result<()> {
        self.steps_per_epoch = facts.steps_per_epoch;
        self.steps = facts.steps_per_epoch.min(facts.max_steps);
        Ok(())
    }

    fn step(&mut self, step: &StepEvent) -> io::Result<()> {
        let samples = f64::from(step.samples);
        let (steps, seconds, seen, loss) = self.since;
        self.since = (
            steps + 1,
            seconds + step.seconds,
            seen + samples,
            loss + f64::from(step.loss) * samples,
        );
        self.last = Some(*step);
        let number = self.within_epoch(step);
        if number.is_multiple_of(self.args.print_freq) || number == self.steps {
            self.finished()?;
        }
        Ok(())
    }

    fn eval_start(&mut self, _progress: f64) -> io::Result<()> {
        // The original prints both at a test.
        self.finished()?;
        let Some(step) = &self.last else { return Ok(()) };
        let (number, of, epoch) = (self.within_epoch(step), self.steps, step.epoch);
        print(format_args!("Testing at - {number}/{of} of epoch {epoch},\n"))
    }

    fn eval_stop(&mut self, eval: &EvalEvent) -> io::Result<()> {
        let q = &eval.quality;
        self.best = (self.best.0.max(q.auc), self.best.1.max(q.accuracy));
        let (auc, accuracy) = self.best;
        if !self.args.mlperf_logging {
            return print(format_args!(
                " accuracy {:3.3} %, best {:3.3} %\n",
                100.0 * q.accuracy,
                100.0 * accuracy
            ));
        }
        print(format_args!(
            "recall {:.4}, precision {:.4}, f1 {:.4}, ap {:.4}, auc {:.4}, best auc {auc:.4}, accuracy {:3.3} %, best accuracy {:3.3} %\n",
            q.recall,
            q.precision,
            q.f1,
            q.average_precision,
            q.auc,
            100.0 * q.accuracy,
            100.0 * accuracy
        ))
    }

    fn run_stop(&mut self, _outcome: &Outcome) -> io::Result<()> {
        self.finished()
    }
}
