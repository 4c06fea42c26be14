//! Control of training steps on a GPU: the host starts a step and reads its result some steps
//! later, without waiting in between.

use super::{
    driver::{
        Address, Driver, Launch, Memory, Plain, Source, bytes_of, bytes_of_mut, stream::Staging,
    },
    launch::launch,
    rules,
};
use crate::{
    backend::{InFlight, Position, Result, StepContext, StepControl, StepStart, StepSums, Update},
    optim::{LossScale, LossScaleSpec, LossScaler, OptimizerSpec, ScalerState, rules::CONSTANTS},
};
use std::{mem::offset_of, rc::Rc};

pub(super) static SOURCE: Source = Source {
    name: "step_control",
    parts: &[
        include_str!("common/common.cuh"),
        rules::FORMULAS,
        include_str!("common/rules.cuh"),
        include_str!("step_control.cu"),
    ],
};

/// Most steps in flight (`AHEAD` in step_control.cu): enough that the GPU always finds a next one.
pub(super) const AHEAD: usize = 3;

/// `Step` of rules.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Constants {
    kind: u32,
    c: [f32; CONSTANTS],
    scale: f32,
    key: [u32; 2],
    number: [u32; 2],
    on: u32,
    unused: u32,
}
// SAFETY: sixteen numbers of 32 bits.
unsafe impl Plain for Constants {}

impl Constants {
    fn of(update: &Update) -> Self {
        let (seed, number) = update.noise;
        let words = |x: u64| [x as u32, (x >> 32) as u32];
        Constants {
            kind: update.step.formula as u32,
            c: update.step.constants,
            scale: update.scale,
            key: words(seed),
            number: words(number),
            ..Constants::default()
        }
    }
}

/// `StepState` of step_control.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct State {
    answer: Answer,
    used: f64,
    squares: f64,
    losses: f64,
    good: u64,
    first: u64,
    overflow: u32,
    unused: u32,
    step: Constants,
    candidates: [Constants; AHEAD],
}
// SAFETY: numbers, those of 64 bits on even places.
unsafe impl Plain for State {}

/// Its beginning: the result that the host reads.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Answer {
    number: u64,
    skipped: u64,
    updates: u64,
    scale: f64,
    loss: f32,
    stopped: u32,
}

/// `Plan` of step_control.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Plan {
    number: u64,
    first: u64,
    candidates: [Constants; AHEAD],
}
// SAFETY: two numbers of 64 bits, then numbers of 32 bits, an even number of them.
unsafe impl Plain for Plan {}

/// `Rules` of step_control.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Rules {
    clip: f64,
    least: f64,
    most: f64,
    growth: u64,
    scaling: u32,
    clips: u32,
}
// SAFETY: four numbers of 64 bits, two of 32.
unsafe impl Plain for Rules {}

/// A training on a GPU.
#[derive(Debug)]
pub(super) struct StepState {
    driver: Rc<dyn Driver>,
    control: StepControl,
    state: Memory,
    /// Results on their way to the host, in turn.
    answers: [Staging; AHEAD],
    /// The step that has begun and not ended.
    start: StepStart,
    /// Which of the results is the oldest.
    oldest: usize,
    in_flight: InFlight,
    /// Updates done at the end of the last step whose result the host has.
    updates: u64,
}

impl StepState {
    /// Room for one, as if it began with plain gradient descent.
    pub(super) fn new(driver: &Rc<dyn Driver>) -> Result<Self> {
        let answer = || Staging::new(driver, size_of::<Answer>() / size_of::<u32>());
        let mut step = StepState {
            driver: Rc::clone(driver),
            control: StepControl {
                rule: OptimizerSpec::SGD,
                clip_norm: None,
                loss_scale: LossScaleSpec::Off,
                seed: 0,
            },
            state: Memory::zeros(driver, size_of::<State>(), "the control of training steps")?,
            answers: [answer()?, answer()?, answer()?],
            start: StepStart { number: 0, samples: 0, context: StepContext::at_rate(0.0) },
            oldest: 0,
            in_flight: InFlight::new(AHEAD),
            updates: 0,
        };
        step.begin(&step.control.clone())?;
        Ok(step)
    }

    /// Begins a training.
    pub(super) fn begin(&mut self, control: &StepControl) -> Result<()> {
        while self.fetch_result(true)? {}
        self.in_flight.clear();
        self.control = *control;
        let loss_scale = LossScaler::new(control.loss_scale).position();
        self.go_on(Position { updates: 0, loss_scale })
    }

    /// Goes on where another training stood; no step computes.
    pub(super) fn go_on(&mut self, from: Position) -> Result<()> {
        self.updates = from.updates;
        let ScalerState { scale: LossScale { scale, skipped_steps: skipped }, good_steps } =
            from.loss_scale;
        let state = State {
            answer: Answer { scale, skipped, updates: from.updates, ..Answer::default() },
            used: scale,
            good: good_steps,
            ..State::default()
        };
        self.driver.to_device(self.state.at(), bytes_of(&[state]))
    }

    /// Where the training stands; no step computes.
    pub(super) fn position(&self) -> Result<Position> {
        let State { answer: Answer { scale, skipped, updates, .. }, good, .. } = self.read()?;
        let scale = LossScale { scale, skipped_steps: skipped };
        Ok(Position { updates, loss_scale: ScalerState { scale, good_steps: good } })
    }

    /// Begins a step.
    ///
    /// # Panics
    /// If [`AHEAD`] steps compute.
    pub(super) fn begin_step(&mut self, start: StepStart) -> Result<()> {
        let StepStart { number, context, .. } = start;
        let computing = self.in_flight.computing();
        assert!(computing < AHEAD, "step {number} begins while {AHEAD} compute");
        self.start = start;
        // Each step before this one may overflow, or not.
        let surely = if self.control.loss_scale == LossScaleSpec::Off { computing } else { 0 };
        let first = self.updates + surely as u64;
        let mut candidates = [Constants::default(); AHEAD];
        for (update, constants) in (first + 1..).zip(&mut candidates[..=computing - surely]) {
            let update = self.control.update(context.learning_rate, update, 1.0);
            *constants = Constants::of(&update);
        }
        let (plan, state) = (Plan { number, first, candidates }, self.state.at());
        launch!(&*self.driver, SOURCE, "begin_step", SINGLE, plan, state)
    }

    /// What is counted of the step so far; waits for it.
    pub(super) fn sums(&self) -> Result<StepSums> {
        let State { losses, squares, overflow, .. } = self.read()?;
        Ok(StepSums { losses, squares, overflow: overflow != 0 })
    }

    /// Puts other sums in their place. As in loss.cu a loss that is not finite stops the training.
    pub(super) fn set_sums(&self, sums: StepSums) -> Result<()> {
        let mut state = self.read()?;
        (state.losses, state.squares) = (sums.losses, sums.squares);
        state.overflow = sums.overflow.into();
        state.answer.loss = (sums.losses / self.start.samples as f64) as f32;
        state.answer.stopped |= u32::from(!state.answer.loss.is_finite());
        self.driver.to_device(self.state.at(), bytes_of(&[state]))
    }

    fn read(&self) -> Result<State> {
        let mut state = [State::default()];
        self.driver.to_host(self.state.at(), bytes_of_mut(&mut state))?;
        Ok(state[0])
    }

    /// Decides on the update.
    pub(super) fn decide_update(&self) -> Result<()> {
        let (least, most) = LossScaleSpec::RANGE.into_inner();
        let (scaling, growth) = match self.control.loss_scale {
            LossScaleSpec::Off => (0, 0),
            LossScaleSpec::Static { .. } => (1, 0),
            LossScaleSpec::Dynamic { growth_steps, .. } => (2, growth_steps),
        };
        let (clip, clips) =
            (self.control.clip_norm.unwrap_or(0.0), u32::from(self.control.clip_norm.is_some()));
        let (rules, state) = (Rules { clip, least, most, growth, scaling, clips }, self.state.at());
        launch!(&*self.driver, SOURCE, "decide_update", SINGLE, rules, state)
    }

    /// Ends the step: its result is on the way.
    pub(super) fn end_step(&mut self) -> Result<()> {
        self.answers[(self.oldest + self.in_flight.computing()) % AHEAD].fetch(self.state.at())?;
        self.in_flight.add(self.start);
        Ok(())
    }

    /// The steps whose results nobody has taken.
    pub(super) fn in_flight(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    /// Fetches the result of the oldest step that computes.
    pub(super) fn fetch_result(&mut self, wait: bool) -> Result<bool> {
        let answer = &mut self.answers[self.oldest];
        if self.in_flight.computing() == 0 || !(wait || answer.is_done()?) {
            return Ok(false);
        }
        let words = answer.words()?;
        let long = |k: usize| u64::from(words[k]) | u64::from(words[k + 1]) << 32;
        let (loss, updates) = (f32::from_bits(words[8]), long(4));
        let loss_scale = LossScale { skipped_steps: long(2), scale: f64::from_bits(long(6)) };
        self.in_flight.end(loss, loss_scale, updates);
        (self.oldest, self.updates) = ((self.oldest + 1) % AHEAD, updates);
        Ok(true)
    }

    /// Goes on after a loss that was not finite.
    pub(super) fn resume(&self) -> Result<()> {
        self.driver.zero(self.stopped(), size_of::<u32>())
    }

    /// The run's seed.
    pub(super) fn seed(&self) -> u64 {
        self.control.seed
    }

    /// Where the number of the step is.
    pub(super) fn number(&self) -> Address {
        self.state.at() + (offset_of!(State, answer) + offset_of!(Answer, number)) as Address
    }

    /// Where its loss is.
    pub(super) fn loss(&self) -> Address {
        self.state.at() + (offset_of!(State, answer) + offset_of!(Answer, loss)) as Address
    }

    /// Where its samples' losses are added up, in f64.
    pub(super) fn losses(&self) -> Address {
        self.state.at() + offset_of!(State, losses) as Address
    }

    /// Where the flag is that a loss was not finite.
    pub(super) fn stopped(&self) -> Address {
        self.state.at() + (offset_of!(State, answer) + offset_of!(Answer, stopped)) as Address
    }

    /// Where the loss scale of the step is, in f64.
    pub(super) fn loss_scale(&self) -> Address {
        self.state.at() + offset_of!(State, used) as Address
    }

    /// Where squares are added up, in f64.
    pub(super) fn squares(&self) -> Address {
        self.state.at() + offset_of!(State, squares) as Address
    }

    /// Where the flag is that a gradient is not finite.
    pub(super) fn overflow(&self) -> Address {
        self.state.at() + offset_of!(State, overflow) as Address
    }

    /// Where the update is, once decided (`Step` of rules.cuh).
    pub(super) fn update(&self) -> Address {
        self.state.at() + offset_of!(State, step) as Address
    }
}

/// One thread.
const SINGLE: Launch = Launch { grid: [1; 3], block: [1; 3], shared: 0 };
