//! Steps that are noted down and repeated as a whole: one request instead of a hundred.
//!
//! What is noted down has the addresses and shapes of its step in it, so there is a graph for each
//! form of a batch and for each slot that batches come in. All else that changes from step to step
//! is in the device's memory.

use super::{
    driver::{Driver, stream::Graph},
    memory::Form,
};
use crate::backend::{BackendError, Result};
use std::{env, ffi::OsStr, rc::Rc};

/// Turns graphs off, so that profilers and error messages name single operations.
const SWITCH: &str = "DLRM_BENCH_CUDA_GRAPHS";

/// Whether the environment asks for graphs, which it does unless it says otherwise.
///
/// # Errors
/// If it says something else.
pub(super) fn asked_for() -> Result<bool> {
    says(env::var_os(SWITCH).as_deref())
}

fn says(switch: Option<&OsStr>) -> Result<bool> {
    match switch.map(OsStr::to_string_lossy).as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => {
            Err(BackendError::Device(format!("{SWITCH} is {other:?}; it may be on or off")))
        }
    }
}

/// Graphs kept at most; the oldest goes first.
const KEPT: usize = 8;

/// What a graph is good for: the form of a batch, and its slot.
type Key = (Form, usize);

/// The graphs of a training.
#[derive(Debug)]
pub(super) struct Graphs {
    driver: Rc<dyn Driver>,
    wanted: bool,
    kept: Vec<(Key, Graph)>,
    /// Pieces of memory given back before the first of them was made.
    freed: u64,
    /// The form of the last step.
    last: Option<Form>,
    /// Steps repeated so far.
    pub(super) replays: u64,
    /// Why a step could not be noted down.
    failed: Option<BackendError>,
}

/// How a step is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Operation by operation.
    Singly,
    /// Noted down, then repeated.
    Capture,
    /// As it was noted down.
    Replay,
}

impl Graphs {
    /// None yet, and none ever if they are not `wanted`.
    pub(super) fn new(driver: &Rc<dyn Driver>, wanted: bool) -> Self {
        Graphs {
            driver: Rc::clone(driver),
            wanted,
            kept: Vec::new(),
            freed: 0,
            last: None,
            replays: 0,
            failed: None,
        }
    }

    /// How the next step is to be done. The first of a form is done singly: it finds out how much
    /// scratch space it takes. The second in a row is noted down; so the short last batch of an
    /// epoch never is.
    pub(super) fn way(&mut self, key: Key) -> Way {
        // A graph uses memory that may be gone.
        if self.freed != self.driver.freed() {
            self.kept.clear();
        }
        let again = self.last.replace(key.0) == Some(key.0);
        if !self.wanted {
            Way::Singly
        } else if self.kept.iter().any(|(k, _)| *k == key) {
            Way::Replay
        } else if again {
            Way::Capture
        } else {
            Way::Singly
        }
    }

    /// Notes down `work`. `false` if it cannot be noted down, and nothing was done: then none is
    /// ever again, and [`Graphs::note`] says why.
    pub(super) fn capture(&mut self, key: Key, work: impl FnOnce() -> Result<()>) -> bool {
        match Graph::capture(&self.driver, work) {
            Ok(graph) => {
                if self.kept.len() == KEPT {
                    self.kept.remove(0);
                }
                self.kept.push((key, graph));
                self.freed = self.driver.freed();
            }
            Err(e) => (self.wanted, self.failed) = (false, Some(e)),
        }
        self.wanted
    }

    /// How steps were done, for the record; scripts/gpu-check.py reads the number.
    pub(super) fn note(&self) -> String {
        match &self.failed {
            Some(e) => format!(
                "CUDA graphs: {} steps repeated; then a step could not be noted down: {e}",
                self.replays
            ),
            None if self.wanted => format!("CUDA graphs: {} steps repeated", self.replays),
            None => "CUDA graphs: off".into(),
        }
    }

    /// Repeats what was noted down for this key.
    pub(super) fn replay(&mut self, key: Key) -> Result<()> {
        self.replays += 1;
        match self.kept.iter().find(|(k, _)| *k == key) {
            // SAFETY: no memory was given back since; what is in use otherwise is what
            // `Backend::repeat` was given.
            Some((_, graph)) => unsafe { graph.replay() },
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_on_or_off() {
        assert!(says(None).unwrap() && says(Some(OsStr::new("on"))).unwrap());
        assert!(!says(Some(OsStr::new("off"))).unwrap());
        let error = says(Some(OsStr::new("no"))).unwrap_err().to_string();
        assert_eq!(error, "DLRM_BENCH_CUDA_GRAPHS is \"no\"; it may be on or off");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_step_that_cannot_be_noted_down_is_told_of() {
        for driver in crate::backend::cuda::testing::devices() {
            let memory = crate::backend::cuda::driver::Memory::zeros(&driver, 4, "a test").unwrap();
            let key = (Form { len: 1, one_hot: true, stands_for: false }, 0);
            let mut graphs = Graphs::new(&driver, true);
            assert_eq!([graphs.way(key), graphs.way(key)], [Way::Singly, Way::Capture]);
            assert!(graphs.capture(key, || driver.zero(memory.at(), 4)));
            assert_eq!(graphs.way(key), Way::Replay);
            graphs.replay(key).unwrap();
            assert_eq!(graphs.note(), "CUDA graphs: 1 steps repeated");
            // No graph can hold that the host waits.
            let other = (key.0, 1);
            assert_eq!(graphs.way(other), Way::Capture);
            assert!(!graphs.capture(other, || driver.synchronize()));
            assert_eq!([graphs.way(key), graphs.way(other)], [Way::Singly; 2]);
            let note = graphs.note();
            assert!(
                note.starts_with(
                    "CUDA graphs: 1 steps repeated; then a step could not be noted down: "
                ),
                "{note}"
            );
            assert!(
                driver.device().name != "emulated"
                    || note.ends_with("waiting is asked for during a capture"),
                "{note}"
            );
            assert_eq!(Graphs::new(&driver, false).note(), "CUDA graphs: off");
        }
    }
}
