//! The phase clock: where a step's time goes.

use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for the loader.
    DataWait,
    /// Embedding lookup, forward and gradient.
    Embedding,
    /// Matrix products of the MLPs with their fused epilogues.
    Mlp,
    /// Feature interaction (dot, cat, factorisation machine).
    Interaction,
    /// Loss and its gradient.
    Loss,
    /// Communication between ranks.
    Comm,
    /// Optimizer, dense and sparse.
    Update,
}

/// A stretch of time that belongs to one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lap {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub from: Instant,
    /// When it ended.
    pub to: Instant,
}

impl Phase {
    /// All phases in the order of a step.
    pub const ALL: [Phase; 7] = [
        Phase::DataWait,
        Phase::Embedding,
        Phase::Mlp,
        Phase::Interaction,
        Phase::Loss,
        Phase::Comm,
        Phase::Update,
    ];

    /// As it is written in records: `data_wait`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::DataWait => "data_wait",
            Phase::Embedding => "embedding",
            Phase::Mlp => "mlp",
            Phase::Interaction => "interaction",
            Phase::Loss => "loss",
            Phase::Comm => "comm",
            Phase::Update => "update",
        }
    }
}

/// Accumulates seconds by phase. One time stamp a switch, so the cost is some 20 ns each.
#[derive(Debug, Clone)]
pub struct PhaseClock {
    seconds: [f64; 7],
    since: Instant,
    /// Each lap of its own, where somebody asked for them.
    laps: Option<Vec<Lap>>,
}

impl Default for PhaseClock {
    fn default() -> Self {
        PhaseClock { seconds: [0.0; 7], since: Instant::now(), laps: None }
    }
}

impl PhaseClock {
    /// Starts the stop watch without charging the time before to any phase.
    pub fn start(&mut self) {
        self.since = Instant::now();
    }

    /// Charges the time since the last call of `start` or `lap` to `phase`.
    pub fn lap(&mut self, phase: Phase) {
        let now = Instant::now();
        self.seconds[phase as usize] += (now - self.since).as_secs_f64();
        if let Some(laps) = &mut self.laps {
            match laps.last_mut() {
                Some(last) if last.phase == phase && last.to == self.since => last.to = now,
                _ => laps.push(Lap { phase, from: self.since, to: now }),
            }
        }
        self.since = now;
    }

    /// Keeps each lap from now on, for [`PhaseClock::take_laps`]. Allocates.
    pub fn keep_laps(&mut self) {
        self.laps = Some(Vec::new());
    }

    /// The laps since [`PhaseClock::keep_laps`], in their order; none are kept any more.
    pub fn take_laps(&mut self) -> Vec<Lap> {
        self.laps.take().unwrap_or_default()
    }

    /// Charges `seconds` that were measured elsewhere.
    pub fn charge(&mut self, phase: Phase, seconds: f64) {
        self.seconds[phase as usize] += seconds;
    }

    /// Seconds charged to `phase` so far.
    pub fn seconds(&self, phase: Phase) -> f64 {
        self.seconds[phase as usize]
    }

    /// Forgets all charges.
    pub fn reset(&mut self) {
        self.seconds = [0.0; 7];
    }
}
