//! What the program was built from; build.rs fills it in.

use serde::{Deserialize, Serialize};

/// Versions of the program and of what it was built with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// This crate.
    pub dlrm_bench: String,
    /// Git commit of the sources, `-dirty` appended if they were changed; `None` if built outside a
    /// repository.
    pub git_commit: Option<String>,
    /// The compiler, as `rustc --version` names it.
    pub rustc: Option<String>,
    /// candle-core.
    pub candle: Option<String>,
    /// `release` or `debug`; only release builds are worth timing.
    pub profile: String,
    /// Target triple.
    pub target: String,
    /// Features of this crate that were on, in order of the alphabet; empty in records of programs
    /// that did not say.
    #[serde(default)]
    pub features: Vec<String>,
    /// Flags for the compiler (`RUSTFLAGS`), `-C target-cpu=native` say; `None` without.
    #[serde(default)]
    pub rustflags: Option<String>,
    /// Level of optimisation, `3` say.
    #[serde(default)]
    pub opt_level: Option<String>,
    /// Hash of the sources, which tells builds of one commit apart where files were changed.
    #[serde(default)]
    pub sources: Option<String>,
}

impl Versions {
    /// Of this program.
    pub fn this() -> Self {
        Versions {
            dlrm_bench: if cfg!(test_slowdown) {
                concat!(env!("CARGO_PKG_VERSION"), "+test-slowdown")
            } else {
                env!("CARGO_PKG_VERSION")
            }
            .into(),
            git_commit: option_env!("DLRM_BENCH_GIT_COMMIT").map(Into::into),
            rustc: option_env!("DLRM_BENCH_RUSTC").map(Into::into),
            candle: option_env!("DLRM_BENCH_CANDLE").map(Into::into),
            profile: env!("DLRM_BENCH_PROFILE").into(),
            target: env!("DLRM_BENCH_TARGET").into(),
            features: env!("DLRM_BENCH_FEATURES").split_whitespace().map(Into::into).collect(),
            rustflags: Some(env!("DLRM_BENCH_RUSTFLAGS")).filter(|f| !f.is_empty()).map(Into::into),
            opt_level: Some(env!("DLRM_BENCH_OPT_LEVEL").into()),
            sources: option_env!("DLRM_BENCH_SOURCES").map(Into::into),
        }
    }

    /// Label and value of each fact, for people.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let known = |x: &Option<String>| x.clone().unwrap_or_else(|| "unknown".into());
        vec![
            ("dlrm-bench", format!("{} ({}, {})", self.dlrm_bench, self.profile, self.target)),
            ("Git commit", known(&self.git_commit)),
            ("Compiler", known(&self.rustc)),
            ("candle", known(&self.candle)),
            (
                "Features",
                if self.features.is_empty() { "none".into() } else { self.features.join(" ") },
            ),
            ("Compiler flags", self.rustflags.clone().unwrap_or_else(|| "none".into())),
        ]
    }
}
