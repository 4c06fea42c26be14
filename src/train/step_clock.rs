//! The clock of training steps: turns the results that a device hands back, some steps late, into
//! events with seconds.

use super::{TrainError, events::StepEvent};
use crate::{
    backend::StepEnd,
    engine::{Engine, EngineError},
    optim::LossScale,
};
use std::time::{Duration, Instant};

/// When the last result came.
#[derive(Debug)]
pub(super) struct StepClock {
    /// When the last result was known, or the clock went on after a pause.
    mark: Instant,
    /// Results that came together.
    ends: Vec<StepEnd>,
}

impl StepClock {
    /// A clock that starts now.
    pub(super) fn new() -> Self {
        StepClock { mark: Instant::now(), ends: Vec::with_capacity(8) }
    }

    /// Starts the next step's seconds now, unless steps are in flight, whose time goes on.
    pub(super) fn restart(&mut self, engine: &mut dyn Engine) {
        if engine.in_flight() == 0 {
            self.mark = Instant::now();
        }
    }

    /// Leaves out what has just been waited for.
    pub(super) fn pause(&mut self, took: Duration) {
        self.mark += took;
    }

    #[cfg(test_slowdown)]
    pub(super) fn mark(&self) -> Instant {
        self.mark
    }

    /// Calls `tell` for each step whose result is known, with the loss scale after it; with `wait`
    /// for all in flight. A step's seconds begin when the result before it was known; results that
    /// come together share them.
    ///
    /// # Errors
    /// [`TrainError::Loss`] at a loss that is not finite; errors of the engine and of `tell`.
    pub(super) fn tell(
        &mut self,
        engine: &mut dyn Engine,
        wait: bool,
        mut tell: impl FnMut(&StepEvent, Option<LossScale>) -> std::io::Result<()>,
    ) -> Result<(), TrainError> {
        loop {
            self.ends.clear();
            let mut failed = None;
            loop {
                match engine.finished(wait && self.ends.is_empty()) {
                    Ok(Some(end)) => self.ends.push(end),
                    Ok(None) => break,
                    Err(e) => {
                        failed = Some(e);
                        break;
                    }
                }
            }
            let now = Instant::now();
            let seconds = (now - self.mark).as_secs_f64() / self.ends.len().max(1) as f64;
            let scaled = engine.loss_scale().is_some();
            for StepEnd { start, loss, loss_scale, .. } in self.ends.drain(..) {
                self.mark = now;
                let event = StepEvent {
                    step: start.number,
                    epoch: start.context.epoch,
                    samples: start.samples as u32,
                    loss,
                    learning_rate: start.context.learning_rate,
                    seconds,
                    data_wait: start.context.data_wait,
                };
                tell(&event, scaled.then_some(loss_scale))?;
            }
            match failed {
                Some(e) => return Err(failed_step(e)),
                None if wait && engine.in_flight() > 0 => {}
                None => return Ok(()),
            }
        }
    }
}

/// The error of a step.
pub(super) fn failed_step(e: EngineError) -> TrainError {
    match e {
        EngineError::NotFinite { value, step, learning_rate: rate, .. } => {
            TrainError::Loss { loss: value as f32, step, rate }
        }
        e => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{InFlight, StepContext, StepStart},
        batch::{Batch, Samples},
        engine::{EnginePosition, FillPart, PhaseClock, StateSpec},
        model::ParamSpec,
    };
    use std::time::Duration;

    /// Is done with a step when `lag` more have begun, or somebody waits; its loss is its number,
    /// and `bad`'s is not one.
    struct Lagging {
        lag: usize,
        bad: u64,
        begun: u64,
        steps: InFlight,
    }

    impl Lagging {
        fn new(lag: usize, bad: u64) -> Self {
            Lagging { lag, bad, begun: 0, steps: InFlight::new(lag + 1) }
        }
    }

    impl Engine for Lagging {
        fn name(&self) -> &'static str {
            "lagging"
        }
        fn params(&self) -> &[ParamSpec] {
            &[]
        }
        fn read_from(&self, _: usize, _: usize, _: &mut [f32]) -> Result<(), EngineError> {
            Ok(())
        }
        fn write_with(&mut self, _: usize, _: &mut FillPart<'_>) -> Result<(), EngineError> {
            Ok(())
        }
        fn write_from(&mut self, _: usize, _: usize, _: &[f32]) -> Result<(), EngineError> {
            Ok(())
        }
        fn optimizer_state(&self) -> &[StateSpec] {
            &[]
        }
        fn read_state(&self, _: usize, _: usize, _: &mut [f32]) -> Result<(), EngineError> {
            Ok(())
        }
        fn write_state(&mut self, _: usize, _: usize, _: &[f32]) -> Result<(), EngineError> {
            Ok(())
        }
        fn position(&mut self) -> Result<EnginePosition, EngineError> {
            Err(EngineError::Unsupported("this engine only counts".into()))
        }
        fn go_on(&mut self, _: EnginePosition) -> Result<(), EngineError> {
            Ok(())
        }
        fn begin_step(
            &mut self,
            samples: Samples<'_>,
            context: StepContext,
        ) -> Result<(), EngineError> {
            self.begun += 1;
            let start = StepStart { number: self.begun, samples: samples.len(), context };
            self.steps.add(start);
            Ok(())
        }
        fn in_flight(&mut self) -> usize {
            self.steps.len()
        }
        fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>, EngineError> {
            if self.steps.is_empty() || !(wait || self.steps.len() > self.lag) {
                return Ok(None);
            }
            let step = self.begun + 1 - self.steps.len() as u64;
            self.steps.end(step as f32, LossScale { scale: 1.0, skipped_steps: 0 }, step);
            let end = self.steps.take_oldest().unwrap();
            if step == self.bad {
                return Err(EngineError::NotFinite {
                    what: "the loss",
                    value: f64::NAN,
                    step,
                    learning_rate: end.start.context.learning_rate,
                });
            }
            Ok(Some(end))
        }
        fn predict(&mut self, _: &Batch, _: &mut [f32]) -> Result<(), EngineError> {
            Ok(())
        }
        fn gradients(&mut self, _: &Batch) -> Result<(f32, Vec<Vec<f32>>), EngineError> {
            Ok((0.0, Vec::new()))
        }
        fn phases(&mut self) -> Option<&mut PhaseClock> {
            None
        }
    }

    /// Begins step `step`, whose rate and epoch are its number.
    fn begin(engine: &mut Lagging, step: u64) {
        let batch = Batch { len: 10, ..Batch::default() };
        let context = StepContext { learning_rate: step as f64, epoch: step, data_wait: 0.5 };
        engine.begin_step(Samples::Host(&batch), context).unwrap();
    }

    #[test]
    fn every_step_is_told_once_in_order_and_no_second_is_lost() {
        for lag in [0, 1, 3] {
            let mut engine = Lagging::new(lag, 0);
            let began = Instant::now();
            let (mut clock, mut events) = (StepClock::new(), Vec::new());
            for step in 1..=12 {
                clock.restart(&mut engine);
                std::thread::sleep(Duration::from_millis(2));
                begin(&mut engine, step);
                let mut tell = |e: &StepEvent, scale: Option<LossScale>| {
                    assert!(scale.is_none());
                    events.push(*e);
                    Ok(())
                };
                clock.tell(&mut engine, step == 12, &mut tell).unwrap();
                assert_eq!(
                    events.len() as u64,
                    if step == 12 { 12 } else { step.saturating_sub(lag as u64) }
                );
            }
            let all = began.elapsed().as_secs_f64();
            assert!(
                events
                    .iter()
                    .zip(1..)
                    .all(|(e, step)| e.step == step && e.loss == step as f32 && e.seconds > 0.0)
            );
            assert!(events.iter().all(|e| (e.epoch, e.samples, e.data_wait) == (e.step, 10, 0.5)
                && e.learning_rate == e.step as f64));
            let told: f64 = events.iter().map(|e| e.seconds).sum();
            assert!(told <= all && told >= 0.024, "{told} of {all}");
        }
    }

    #[test]
    fn a_loss_that_is_no_number_comes_with_its_step_and_rate_after_those_before_it() {
        let mut engine = Lagging::new(2, 3);
        let (mut clock, mut steps) = (StepClock::new(), Vec::new());
        (1..=5).for_each(|step| begin(&mut engine, step));
        let failed = clock.tell(&mut engine, true, |e, _| {
            steps.push(e.step);
            Ok(())
        });
        assert!(
            matches!(failed, Err(TrainError::Loss { loss, step: 3, rate }) if loss.is_nan() && rate == 3.0)
        );
        assert_eq!(steps, [1, 2]);
    }
}
