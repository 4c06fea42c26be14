//! Initial values of parameters.

use crate::random::numpy::RandomState;

/// Where initial values come from.
#[derive(Debug, Clone)]
pub enum InitSource {
    /// Counter-based: each element is a function of (seed, parameter, position), so tables fill in parallel.
    Philox {
        /// The run's seed.
        seed: u64,
    },
    /// numpy's legacy generator, drawn from in the order of [`ModelSpec::params`], in f64 and then narrowed, as facebook's program does.
    Numpy(RandomState),
}
