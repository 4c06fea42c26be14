//! The baseline file: what a program reached before, as shares of what the machine could do.

use super::slice::Needed;
use crate::results::{
    ResultsError,
    identity::{Aspect, Difference, Identity, differences},
    write_file,
};
use serde::{Deserialize, Serialize};
use std::{fs, ops::RangeInclusive, path::Path};

/// Layout of the file.
/// Version 2: floors count the rows that caches hold by how popular they are.
const SCHEMA_VERSION: u32 = 2;
/// More steps than any slice has.
const MOST_STEPS: u64 = 1 << 40;
/// Samples a second that may be true.
const RATES: RangeInclusive<f64> = 1e-6..=1e15;
/// Shares of the floor that may be true. A floor is worked out, so more than 1 is possible.
const SHARES: RangeInclusive<f64> = 1e-9..=1e3;

/// A stored baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Layout of this file.
    pub schema_version: u32,
    /// The workload's name.
    pub workload: String,
    /// Hash of the resolved workload of a slice.
    pub workload_sha256: String,
    /// Steps of a slice; a later comparison takes the same.
    pub slice_steps: u64,
    /// Steps before the AUC was taken; 0 = none was.
    pub quality_steps: u64,
    /// AUC after them.
    pub auc: Option<f64>,
    /// What the machine and the program must be like to be compared.
    pub conditions: Conditions,
    /// What exactly was run, but for the program; empty in baselines of programs that did not say,
    /// which equal nothing.
    #[serde(default)]
    pub identity: Identity,
    /// Each recording.
    pub sessions: Vec<Session>,
}

/// What must be equal for shares of the floor to be compared: other processors reach other shares
/// of their floors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Processor.
    pub cpu: String,
    /// Its logical cores.
    pub logical_cores: usize,
    /// Its instruction sets.
    pub instruction_sets: Vec<String>,
    /// `fused` or `candle`.
    pub engine: String,
    /// Threads that compute.
    pub threads: usize,
    /// Numbers in matrix products.
    pub precision: String,
    /// `release` or `debug`.
    pub profile: String,
}

/// One recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Version and commit of the program.
    pub version: String,
    /// Samples a second of each slice.
    pub samples_per_second: Vec<f64>,
    /// Share of the floor of each slice.
    pub efficiency: Vec<f64>,
}

impl Conditions {
    pub(super) fn of(record: &Needed) -> Self {
        let (cpu, engine) = (&record.machine.cpu, &record.engine);
        Conditions {
            cpu: cpu.model.clone(),
            logical_cores: cpu.logical_cores,
            instruction_sets: cpu.instruction_sets.clone(),
            engine: engine.kind.clone(),
            threads: engine.threads,
            precision: engine.precision.clone(),
            profile: record.versions.profile.clone(),
        }
    }

    /// The first difference, in words.
    fn difference(&self, other: &Self) -> Option<String> {
        let pairs = [
            ("processor", self.cpu.clone(), other.cpu.clone()),
            (
                "number of logical cores",
                self.logical_cores.to_string(),
                other.logical_cores.to_string(),
            ),
            (
                "set of instruction sets",
                self.instruction_sets.join(" "),
                other.instruction_sets.join(" "),
            ),
            ("engine", self.engine.clone(), other.engine.clone()),
            ("number of threads", self.threads.to_string(), other.threads.to_string()),
            ("precision", self.precision.clone(), other.precision.clone()),
            ("build", self.profile.clone(), other.profile.clone()),
        ];
        pairs
            .into_iter()
            .find(|(_, old, new)| old != new)
            .map(|(what, old, new)| format!("the baseline's {what} is {old}, here it is {new}"))
    }
}

/// What must agree for two programs to be compared.
fn compared(record: &Needed) -> Identity {
    record.identity.clone().only(&Aspect::BUT_PROGRAM)
}

impl Baseline {
    pub(super) fn new(
        record: &Needed,
        slice_steps: u64,
        quality_steps: u64,
        auc: Option<f64>,
    ) -> Self {
        Baseline {
            schema_version: SCHEMA_VERSION,
            workload: record.workload.name.clone(),
            workload_sha256: record.workload.sha256.clone(),
            slice_steps,
            quality_steps,
            auc,
            conditions: Conditions::of(record),
            identity: compared(record),
            sessions: Vec::new(),
        }
    }

    /// Why a slice with `record` cannot be compared; `None` if it can.
    pub(super) fn difference(&self, record: &Needed) -> Option<String> {
        if self.workload_sha256 != record.workload.sha256 {
            let (old, new) = (&self.workload, &record.workload.name);
            return Some(format!(
                "the baseline's workload ({old}) resolves to other values than this one ({new})"
            ));
        }
        self.conditions.difference(&Conditions::of(record)).or_else(|| {
            let found = differences(&self.identity, &compared(record));
            let Difference { aspect, fact, a, b } = found.into_iter().next()?;
            let or_unknown = |x: Option<String>| x.unwrap_or_else(|| "unknown".to_owned());
            let (aspect, a, b) = (aspect.name(), or_unknown(a), or_unknown(b));
            Some(format!("the baseline's {fact} ({aspect}) is {a}, here it is {b}"))
        })
    }

    /// Shares of the floor of all slices.
    pub fn efficiency(&self) -> Vec<f64> {
        self.sessions.iter().flat_map(|s| &s.efficiency).copied().collect()
    }

    /// Reads a baseline.
    ///
    /// # Errors
    /// If the file is missing or no baseline.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ResultsError::Read { path: path.into(), source })?;
        let malformed = |what: String| ResultsError::Malformed {
            path: path.into(),
            what: format!("not a baseline: {what}"),
        };
        let baseline: Baseline =
            serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
        match baseline.fault() {
            Some(what) => Err(malformed(what)),
            None => Ok(baseline),
        }
    }

    /// The first value that no recording writes; comparing with it would give nonsense.
    fn fault(&self) -> Option<String> {
        if self.schema_version != SCHEMA_VERSION {
            let found = self.schema_version;
            return Some(format!(
                "schema_version is {found}, but this program reads {SCHEMA_VERSION}, since what shares are of has changed; record it anew"
            ));
        }
        let anew = |what: String| Some(format!("{what}; record it anew"));
        if !(1..=MOST_STEPS).contains(&self.slice_steps) {
            return anew(format!("slice_steps is {}", self.slice_steps));
        }
        match (self.quality_steps, self.auc) {
            (steps, _) if steps > MOST_STEPS => return anew(format!("quality_steps is {steps}")),
            (_, Some(auc)) if !(0.0..=1.0).contains(&auc) => return anew(format!("auc is {auc}")),
            (1.., None) => return anew("auc is missing".into()),
            _ => {}
        }
        for (n, session) in (1..).zip(&self.sessions) {
            let (rates, shares) = (&session.samples_per_second, &session.efficiency);
            if rates.len() != shares.len() {
                return anew(format!(
                    "session {n} has {} rates and {} shares of the floor",
                    rates.len(),
                    shares.len()
                ));
            }
            if let Some(rate) = rates.iter().find(|r| !RATES.contains(*r)) {
                return anew(format!("session {n} has a rate of {rate} samples a second"));
            }
            if let Some(share) = shares.iter().find(|s| !SHARES.contains(*s)) {
                return anew(format!("session {n} has a share of the floor of {share}"));
            }
        }
        if self.efficiency().len() < 3 {
            return anew("it has fewer than 3 slices".into());
        }
        None
    }

    /// Writes the baseline.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let malformed = |e: serde_json::Error| ResultsError::Malformed {
            path: path.into(),
            what: e.to_string(),
        };
        let mut text = serde_json::to_string_pretty(self).map_err(malformed)?;
        text.push('\n');
        write_file(path, text.as_bytes())
    }
}
