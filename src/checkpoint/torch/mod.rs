//! Files of PyTorch (`torch.save`, since 1.6): a zip with a pickle in it, and the numbers of each
//! tensor as a file of the zip beside it, stored as they are.
//!
//! facebookresearch/dlrm writes a dictionary (dlrm_s_pytorch.py, `--save-model`): `state_dict` has the
//! parameters, `opt_state_dict` what the optimizer's own `state_dict` says, the rest are counters.

mod object;
mod pickle;
mod read;
mod write;

pub(super) use read::read;

pub use pickle::Pickled;
pub use write::write;

use serde::{Deserialize, Serialize};

/// Where facebook's dictionary has the parameters.
pub const PARAMETERS: &str = "state_dict";
/// Where it has the optimizer's state.
pub const OPTIMIZER: &str = "opt_state_dict";

/// What facebook's dictionary has beside parameters and the optimizer's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Epochs of the whole training.
    pub nepochs: i64,
    /// Batches of an epoch.
    pub nbatches: i64,
    /// Batches of a test.
    pub nbatches_test: i64,
    /// The epoch, from 0.
    pub epoch: i64,
    /// Batches of it that are done.
    pub iter: i64,
    /// Mean loss since the last line that was printed; `None` = not known.
    pub train_loss: Option<f64>,
    /// Loss that was summed up since then.
    pub total_loss: Option<f64>,
    /// Accuracy of the last test, a share; `None` = not known.
    pub test_acc: Option<f64>,
}

/// One way of keeping an optimizer's state: torch's word for a tensor beside each parameter, and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateWord {
    /// Our update rule.
    pub rule: &'static str,
    /// Torch's word.
    pub torch: &'static str,
    /// Ours: what stands behind the parameter's name.
    pub ours: &'static str,
    /// Whether it is said of tables alone (`Some(true)`), of all else, or of every parameter
    /// (`None`).
    pub tables: Option<bool>,
}

/// All state of rules that torch or facebook's program have (torch/optim/adagrad.py, adam.py;
/// facebookresearch/dlrm: optim/rwsadagrad.py).
pub const STATE_WORDS: [StateWord; 5] = {
    const fn word(
        rule: &'static str,
        torch: &'static str,
        ours: &'static str,
        tables: Option<bool>,
    ) -> StateWord {
        StateWord { rule, torch, ours, tables }
    }
    [
        word("adagrad", "sum", "sum_of_squares", None),
        word("rowwise_adagrad", "momentum", "sum_of_mean_squares", Some(true)),
        word("rowwise_adagrad", "sum", "sum_of_mean_squares", Some(false)),
        word("adam", "exp_avg", "first_moment", None),
        word("adam", "exp_avg_sq", "second_moment", None),
    ]
};

/// Whether the optimizer knows a parameter of this name: running statistics are none of its.
pub fn is_trained(name: &str) -> bool {
    !["running_mean", "running_var", "num_batches_tracked"].iter().any(|end| name.ends_with(end))
}
