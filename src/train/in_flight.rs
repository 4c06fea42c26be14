//! Steps that were begun and that listeners have not been told of: a device may compute beside the
//! host, some steps behind it.

use super::{TrainError, events::StepEvent};
use crate::{
    backend::StepEnd,
    engine::{Engine, EngineError},
    optim::LossScale,
};
use std::{collections::VecDeque, time::Instant};

/// What the host knows of a step when it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    /// 1-based.
    pub step: u64,
    /// 0-based.
    pub epoch: u64,
    /// Samples of its batch.
    pub samples: u32,
    /// Rate of its update.
    pub learning_rate: f64,
    /// Seconds that it waited for its batch.
    pub data_wait: f64,
}

/// The steps, oldest first.
#[derive(Debug)]
pub(super) struct StepsInFlight {
    begun: VecDeque<InFlight>,
    ends: Vec<StepEnd>,
    /// When the last one was known to be done, or the clock went on after a pause.
    mark: Instant,
}

impl StepsInFlight {
    pub(super) fn new() -> Self {
        StepsInFlight {
            begun: VecDeque::with_capacity(8),
            ends: Vec::with_capacity(8),
            mark: Instant::now(),
        }
    }

    /// Lets the clock of the next step begin now, unless steps are in flight, whose time goes on.
    pub(super) fn restart_clock(&mut self) {
        if self.begun.is_empty() {
            self.mark = Instant::now();
        }
    }

    #[cfg(test_slowdown)]
    pub(super) fn mark(&self) -> Instant {
        self.mark
    }

    pub(super) fn push(&mut self, begun: InFlight) {
        self.begun.push_back(begun);
    }

    /// Calls `tell` for each step that is done, with the loss scale after it; with `wait` for all
    /// that were begun. The seconds of a step are those from when the step before was known to be
    /// done; steps that are found done together share them.
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
            for end in self.ends.drain(..) {
                let Some(InFlight { step, epoch, samples, learning_rate, data_wait }) =
                    self.begun.pop_front()
                else {
                    break;
                };
                self.mark = now;
                let event = StepEvent {
                    step,
                    epoch,
                    samples,
                    loss: end.loss,
                    learning_rate,
                    seconds,
                    data_wait,
                };
                tell(&event, scaled.then_some(end.loss_scale))?;
            }
            match failed {
                Some(e) => return Err(self.why(e)),
                None if wait && !self.begun.is_empty() => {}
                None => return Ok(()),
            }
        }
    }

    /// What an engine's error means to the run: a loss that is not finite is the oldest step's.
    fn why(&mut self, error: EngineError) -> TrainError {
        match (error, self.begun.pop_front()) {
            (EngineError::NotFinite { value, .. }, Some(InFlight { step, learning_rate, .. })) => {
                self.begun.clear();
                TrainError::Loss { loss: value as f32, step, rate: learning_rate }
            }
            (error, _) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{Batch, Samples},
        engine::PhaseClock,
        model::ParamSpec,
    };
    use std::time::Duration;

    /// Is done with a step when `lag` more have begun, or somebody waits; its loss is its number,
    /// and `bad`'s is not one.
    struct Lagging {
        lag: u64,
        bad: u64,
        begun: u64,
        told: u64,
    }

    impl Engine for Lagging {
        fn name(&self) -> &'static str {
            "lagging"
        }
        fn params(&self) -> &[ParamSpec] {
            &[]
        }
        fn read(&self, _: usize, _: &mut [f32]) -> Result<(), EngineError> {
            Ok(())
        }
        fn write(&mut self, _: usize, _: &[f32]) -> Result<(), EngineError> {
            Ok(())
        }
        fn begin_step(&mut self, _: Samples<'_>, _: f64) -> Result<(), EngineError> {
            self.begun += 1;
            Ok(())
        }
        fn finished(&mut self, wait: bool) -> Result<Option<StepEnd>, EngineError> {
            if self.told == self.begun || !(wait || self.begun - self.told > self.lag) {
                return Ok(None);
            }
            self.told += 1;
            if self.told == self.bad {
                return Err(EngineError::NotFinite {
                    what: "the loss",
                    value: f64::NAN,
                    step: self.told,
                });
            }
            let loss_scale = LossScale { scale: 1.0, skipped_steps: 0 };
            Ok(Some(StepEnd {
                number: self.told,
                loss: self.told as f32,
                loss_scale,
                updates: self.told,
            }))
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

    fn begin(engine: &mut Lagging, in_flight: &mut StepsInFlight, step: u64) {
        engine.begin_step(Samples::Host(&Batch::default()), 0.1).unwrap();
        in_flight.push(InFlight {
            step,
            epoch: 0,
            samples: 10,
            learning_rate: step as f64,
            data_wait: 0.0,
        });
    }

    #[test]
    fn every_step_is_told_once_in_order_and_no_second_is_lost() {
        for lag in [0, 1, 3] {
            let mut engine = Lagging { lag, bad: 0, begun: 0, told: 0 };
            let began = Instant::now();
            let (mut in_flight, mut events) = (StepsInFlight::new(), Vec::new());
            for step in 1..=12 {
                in_flight.restart_clock();
                std::thread::sleep(Duration::from_millis(2));
                begin(&mut engine, &mut in_flight, step);
                let mut tell = |e: &StepEvent, scale: Option<LossScale>| {
                    assert!(scale.is_none());
                    events.push(*e);
                    Ok(())
                };
                in_flight.tell(&mut engine, step == 12, &mut tell).unwrap();
                assert_eq!(
                    events.len() as u64,
                    if step == 12 { 12 } else { step.saturating_sub(lag) }
                );
            }
            let all = began.elapsed().as_secs_f64();
            assert!(
                events
                    .iter()
                    .zip(1..)
                    .all(|(e, step)| e.step == step && e.loss == step as f32 && e.seconds > 0.0)
            );
            let told: f64 = events.iter().map(|e| e.seconds).sum();
            assert!(told <= all && told >= 0.024, "{told} of {all}");
        }
    }

    #[test]
    fn a_loss_that_is_no_number_comes_with_its_step_and_rate_after_those_before_it() {
        let mut engine = Lagging { lag: 2, bad: 3, begun: 0, told: 0 };
        let (mut in_flight, mut steps) = (StepsInFlight::new(), Vec::new());
        (1..=5).for_each(|step| begin(&mut engine, &mut in_flight, step));
        let failed = in_flight.tell(&mut engine, true, |e, _| {
            steps.push(e.step);
            Ok(())
        });
        assert!(
            matches!(failed, Err(TrainError::Loss { loss, step: 3, rate }) if loss.is_nan() && rate == 3.0)
        );
        assert_eq!(steps, [1, 2]);
    }
}
