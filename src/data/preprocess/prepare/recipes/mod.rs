//! The systems whose data preparation is reproduced. One file holds all that is a system's own: for
//! each recipe a [`Definition`] (name, settings and their defaults) and [`Steps`] (what is written,
//! and how). The list below is all that names them; the command line, help and manifests follow
//! from it.

mod deeprec;
mod facebook;
mod fuxictr;
mod mlperf_v2;
mod nvidia;
mod oneflow;
mod parameters;
mod reading;
pub mod settings;
mod table;
mod vocabulary;

pub use mlperf_v2::ROWS as MLPERF_V2_ROWS;
pub use parameters::{MultiHot, NullId, Parameters, Randomize, setting};
pub use reading::{Evaluation, Files, Reading};

use super::{
    Job, PlannedFile, PrepareError, Tell,
    shuffle::records::Form,
    state::{
        checkpoint::{Checkpoint, RecipeOutput},
        spill::NewShare,
    },
    survey::Survey,
    worker::Worker,
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, str::FromStr};

/// Every recipe with its definition, in the order in which help lists them.
macro_rules! recipes {
    ($($(#[doc = $doc:literal])+ $recipe:ident = $definition:path;)+) => {
        /// A system's data preparation that is reproduced.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(into = "&'static str", try_from = "String")]
        pub enum Recipe {
            $($(#[doc = $doc])+ $recipe),+
        }

        impl Recipe {
            /// All of them.
            pub const ALL: &'static [Recipe] = &[$(Recipe::$recipe),+];

            const fn definition(self) -> &'static Definition {
                match self {
                    $(Recipe::$recipe => &$definition),+
                }
            }
        }
    };
}

recipes! {
    /// facebookresearch/dlrm, bench/dlrm_s_criteo_kaggle.sh.
    FacebookKaggle = facebook::KAGGLE;
    /// facebookresearch/dlrm, bench/dlrm_s_criteo_terabyte.sh.
    FacebookTerabyte = facebook::TERABYTE;
    /// facebookresearch/dlrm, bench/run_and_time.sh, MLPerf training rounds 0.7 to 2.1.
    MlperfV1 = facebook::MLPERF_V1;
    /// facebookresearch/dlrm, torchrec_dlrm, MLPerf training rounds 3.0 and later.
    MlperfV2 = mlperf_v2::MLPERF_V2;
    /// Oneflow-Inc/models, RecommenderSystems/dlrm/tools/criteo1t_parquet.scala.
    OneflowDlrm = oneflow::DLRM;
    /// Oneflow-Inc/models, RecommenderSystems/deepfm/tools/deepfm_parquet.scala.
    OneflowDeepfm = oneflow::DEEPFM;
    /// DeepRec-AI/DeepRec, modelzoo/DLRM.
    Deeprec = deeprec::DEEPREC;
    /// reczoo/FuxiCTR with the settings of BARS' DeepFM_criteo_x4_001.
    FuxictrCriteoX4 = fuxictr::CRITEO_X4;
    /// NVIDIA/DeepLearningExamples, PyTorch/Recommendation/DLRM.
    Nvidia = nvidia::NVIDIA;
}

/// What a recipe is.
struct Definition {
    /// Its name on the command line and in manifests.
    name: &'static str,
    /// A line for help: which log, whose program, what comes out of it.
    about: &'static str,
    /// Whether the log is one file, which is cut by lines, and not one file a day.
    one_file: bool,
    /// How samples lie on the disk between reading and the output.
    form: Form,
    /// The least integer that it can take, if not all.
    least_integer: Option<i32>,
    /// Names of the settings that it takes ([`setting`]).
    takes: &'static [&'static str],
    /// What the original's scripts set.
    parameters: Parameters,
    /// How what it writes is trained on.
    reading: Reading,
    /// What is done beside reading the log.
    steps: &'static dyn Steps,
}

/// What a recipe does beside reading the log.
pub(super) trait Steps: Sync {
    /// # Errors
    /// If settings do not go together.
    fn check(&self, _parameters: &Parameters) -> Result<(), PrepareError> {
        Ok(())
    }

    /// What will be written, for a log of `lines` in each file, whose values are new as often as
    /// `new` says.
    fn plan(&self, job: &Job, lines: &[u64], new: &NewShare) -> PlannedOutput;

    /// Looks at all samples, if the sizes of the files become known only by that.
    fn survey(&self, _job: &Job) -> Option<Box<dyn Survey>> {
        None
    }

    /// Estimates the sizes of files of which only the most is known, by some samples from the start
    /// of the log, as they lie on the disk ([`Form`]).
    fn estimate(&self, _job: &Job, _records: &[u8], _new: &NewShare, _files: &mut [PlannedFile]) {}

    /// Writes the files to the folder of unfinished work, and skips those that were written before
    /// a kill ([`Worker::write_files`]).
    ///
    /// # Errors
    /// If they cannot be written; after an interruption what is done is not lost.
    fn write(
        &self,
        worker: &Worker,
        checkpoint: &mut Checkpoint,
        tell: Tell,
    ) -> Result<RecipeOutput, PrepareError>;
}

/// What a recipe will write.
pub(super) struct PlannedOutput {
    /// Its files, or folders of files.
    pub files: Vec<PlannedFile>,
    /// The most bytes on the disk at once.
    pub peak: u64,
}

impl Recipe {
    /// Its name on the command line and in manifests, as `facebook-kaggle`.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// A line for help: which log, whose program, what comes out of it.
    pub fn about(self) -> &'static str {
        self.definition().about
    }

    /// Whether the log is one file, which is cut by lines, and not one file a day.
    pub fn one_file(self) -> bool {
        self.definition().one_file
    }

    /// Names of the settings that it takes ([`setting`]).
    pub fn takes(self) -> &'static [&'static str] {
        self.definition().takes
    }

    /// What the original's scripts set.
    pub fn parameters(self) -> Parameters {
        self.definition().parameters
    }

    /// How what it writes is trained on.
    pub fn reading(self) -> &'static Reading {
        &self.definition().reading
    }

    pub(super) fn form(self) -> Form {
        self.definition().form
    }

    pub(super) fn least_integer(self) -> Option<i32> {
        self.definition().least_integer
    }

    pub(super) fn steps(self) -> &'static dyn Steps {
        self.definition().steps
    }

    /// # Errors
    /// If it does not take so many raw files.
    pub fn check_files(self, raw: &[PathBuf]) -> Result<(), PrepareError> {
        match (self.one_file(), raw.len()) {
            (true, 1) | (false, 2..) => Ok(()),
            (true, n) => Err(PrepareError::Usage(format!(
                "{}: the log is one file, train.txt, but {n} are named",
                self.name()
            ))),
            (false, n) => Err(PrepareError::Usage(format!(
                "{}: the log has 2 days or more (the last one is for testing), but {n} file is named; give a folder or a pattern",
                self.name()
            ))),
        }
    }
}

/// Samples (or lines) of all days but the last, and of the last.
fn train_and_last(days: &[u64]) -> (u64, u64) {
    let last = days.last().copied().unwrap_or(0);
    (days.iter().sum::<u64>() - last, last)
}

/// There is no recipe of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is '{0}'; must be one of {names}",
    names = Recipe::ALL.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ")
)]
pub struct UnknownRecipe(pub String);

impl FromStr for Recipe {
    type Err = UnknownRecipe;

    fn from_str(name: &str) -> Result<Self, UnknownRecipe> {
        let found = Recipe::ALL.iter().find(|recipe| recipe.name() == name);
        found.copied().ok_or_else(|| UnknownRecipe(name.into()))
    }
}

impl TryFrom<String> for Recipe {
    type Error = UnknownRecipe;

    fn try_from(name: String) -> Result<Self, UnknownRecipe> {
        name.parse()
    }
}

impl From<Recipe> for &'static str {
    fn from(recipe: Recipe) -> Self {
        recipe.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_found_by_their_names_and_take_only_settings_that_there_are() {
        let there_are = serde_json::to_value(Parameters::BASE).unwrap();
        for &recipe in Recipe::ALL {
            assert_eq!(recipe.name().parse(), Ok(recipe));
            assert_eq!(serde_json::to_value(recipe).unwrap(), recipe.name());
            assert_eq!(serde_json::from_value(recipe.name().into()).ok(), Some(recipe));
            assert!(recipe.takes().contains(&setting::ON_ERROR), "{recipe:?}");
            assert!(recipe.takes().iter().all(|name| there_are.get(name).is_some()), "{recipe:?}");
            assert!(recipe.parameters().check(recipe).is_ok(), "{recipe:?}");
        }
        let unknown = "kaggle".parse::<Recipe>().unwrap_err().to_string();
        assert!(unknown.starts_with("is 'kaggle'; must be one of facebook-kaggle, "), "{unknown}");
    }
}
