//! What each source is told: the keys of `[data]`.

use super::paths::Paths;
use crate::{
    data::{
        format::Format,
        preprocess::prepare::{Parameters, Recipe},
    },
    host::Size,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[data]`: the source and its own keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum DataConfig {
    /// Endless learnable click log with a known truth.
    Planted(PlantedConfig),
    /// facebook's random generator.
    NumpyRandom(NumpyRandomConfig),
    /// Raw Criteo logs.
    CriteoTsv(CriteoTsvConfig),
    /// Raw logs, prepared once and then read from files.
    Prepared(PreparedConfig),
    /// Text with a header line.
    Csv(CsvConfig),
    /// Binary records of 160 bytes.
    Bin40(Bin40Config),
    /// Parquet files.
    Parquet(ParquetConfig),
    /// Files of any other format.
    Files(FilesConfig),
}

impl DataConfig {
    /// What the ids of the data are, where a source has a choice.
    pub fn ids(&self) -> Option<IdKind> {
        match self {
            DataConfig::Planted(c) => Some(c.ids),
            DataConfig::Prepared(c) => Some(c.ids),
            DataConfig::Csv(c) => Some(c.ids),
            DataConfig::Parquet(c) => Some(c.ids),
            DataConfig::Files(c) => Some(c.ids),
            DataConfig::NumpyRandom(_) | DataConfig::CriteoTsv(_) | DataConfig::Bin40(_) => None,
        }
    }

    /// Says what they are, where there is a choice.
    pub fn set_ids(&mut self, to: IdKind) {
        match self {
            DataConfig::Planted(c) => c.ids = to,
            DataConfig::Prepared(c) => c.ids = to,
            DataConfig::Csv(c) => c.ids = to,
            DataConfig::Parquet(c) => c.ids = to,
            DataConfig::Files(c) => c.ids = to,
            DataConfig::NumpyRandom(_) | DataConfig::CriteoTsv(_) | DataConfig::Bin40(_) => {}
        }
    }

    /// Whether ids are keys of 64 bits.
    pub fn has_keys(&self) -> bool {
        self.ids() == Some(IdKind::Keys)
    }
}

/// What ids of data are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdKind {
    /// Numbers of rows of tables.
    #[default]
    Rows,
    /// Any numbers of 64 bits: keys of tables that grow.
    Keys,
}

impl IdKind {
    /// Whether they are what they are unless something else is said.
    pub fn is_rows(&self) -> bool {
        *self == IdKind::Rows
    }
}

/// Planted data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlantedConfig {
    /// Cardinalities, exponents and truth: `criteo_kaggle`, `criteo_terabyte`, or `custom` with the
    /// keys below.
    pub preset: String,
    /// No table has more rows than this.
    pub max_rows: Option<usize>,
    /// Lower `max_rows` to what fits into memory, before the data are opened; off once that is done.
    pub fit_memory: bool,
    /// Rows of each table (preset `custom`).
    pub tables: Vec<usize>,
    /// Ids a sample holds in each table; empty = 1 each.
    pub hotness: Vec<usize>,
    /// Exponent of Zipf's law of each table (preset `custom`); empty = by its size.
    pub exponents: Vec<f64>,
    /// Dense columns.
    pub dense: Option<usize>,
    /// Samples of a training "epoch"; the log is endless, this only gives the unit.
    pub train_samples: u64,
    /// Samples of the evaluation split.
    pub eval_samples: u64,
    /// Seed of the truth and of the samples; not the run's seed, so that runs with several seeds
    /// see one data set.
    pub seed: u64,
    /// Share of positive labels; `None` = the preset's.
    pub positive_rate: Option<f64>,
    /// What ids are.
    #[serde(skip_serializing_if = "IdKind::is_rows")]
    pub ids: IdKind,
}

impl PlantedConfig {
    /// A preset with every other key as it is when a workload file leaves it out.
    pub fn of(preset: &str) -> Self {
        PlantedConfig {
            preset: preset.into(),
            max_rows: None,
            fit_memory: false,
            tables: Vec::new(),
            hotness: Vec::new(),
            exponents: Vec::new(),
            dense: None,
            train_samples: 40_000_000,
            eval_samples: 200_000,
            seed: 1,
            positive_rate: None,
            ids: IdKind::Rows,
        }
    }
}

/// facebook's random data (`--data-generation=random`).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NumpyRandomConfig {
    /// Rows of each table.
    pub tables: Vec<usize>,
    /// Dense columns.
    pub dense: usize,
    /// `--data-size`.
    pub samples: u64,
    /// `--num-indices-per-lookup`.
    pub indices_per_lookup: usize,
    /// `--num-indices-per-lookup-fixed`.
    pub fixed_indices: bool,
    /// `--rand-data-dist`.
    pub distribution: RandomIds,
    /// `--round-targets`.
    pub round_targets: bool,
    /// `--numpy-rand-seed`.
    pub seed: u32,
}

/// How random ids are drawn.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RandomIds {
    /// `round(u * (rows - 1))`, duplicates removed.
    #[default]
    Uniform,
    /// Normal, clipped to `[min, max]`, truncated, duplicates removed.
    Gaussian {
        /// Mean; the middle of the range if `None`.
        mu: Option<f64>,
        /// Standard deviation.
        sigma: f64,
        /// Lower bound.
        min: f64,
        /// Upper bound.
        max: f64,
    },
    /// As the accesses that a file describes (`--data-generation=synthetic`), duplicates removed,
    /// modulo the table's rows.
    Trace {
        /// One file for each table, or one for all.
        files: Vec<PathBuf>,
        /// No new ids once as many were drawn as the largest stack distance
        /// (`--data-trace-enable-padding`).
        padding: bool,
        /// When what has been drawn is forgotten.
        restart: TraceRestart,
    },
}

/// When a trace begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceRestart {
    /// With every bag, as facebook's program does: only what happens within a bag follows the file.
    Bag,
    /// At the start of an epoch: bags of a table follow one another as in the file's trace.
    Epoch,
}

/// Raw Criteo logs, facebook's preprocessing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CriteoTsvConfig {
    /// `kaggle`: one file cut into 7 "days"; `terabyte`: one file a day.
    pub set: CriteoSet,
    /// The file (kaggle) or the day files in order (terabyte); `.gz` is unpacked while reading.
    /// `${NAME}` takes the environment's value.
    pub paths: Vec<PathBuf>,
    /// Ids modulo this before they are numbered; `None` = off.
    pub max_ind_range: Option<u32>,
    /// Share of negatives dropped.
    pub sub_sample_rate: f64,
    /// Order of training samples.
    pub shuffle: CriteoShuffle,
    /// Malformed lines.
    pub on_error: OnError,
    /// numpy's seed for shuffling and sub-sampling.
    pub seed: u32,
}

/// Which of Criteo's logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CriteoSet {
    /// Criteo Kaggle display advertising challenge.
    #[default]
    Kaggle,
    /// Criteo 1TB click logs.
    Terabyte,
}

/// `--data-randomize`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CriteoShuffle {
    /// All training days together.
    #[default]
    Total,
    /// Within each day.
    Day,
    /// Not at all.
    None,
}

/// Raw logs that are prepared as an original program does, once, and then read from the files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreparedConfig {
    /// Whose preparation.
    pub recipe: Recipe,
    /// Its settings.
    pub parameters: Parameters,
    /// The log: a file, a folder of days, a pattern, or several files.
    pub raw: Vec<PathBuf>,
    /// Where folders of prepared data lie; `None` = beside the logs, or in the user's cache.
    pub cache: Option<PathBuf>,
    /// Memory that preparing may take.
    pub memory: Size,
    /// Ids of the prepared files modulo this; `None` = off.
    pub id_range: Option<u32>,
    /// What ids are.
    #[serde(skip_serializing_if = "IdKind::is_rows")]
    pub ids: IdKind,
    /// Transform of the dense columns of the prepared files.
    pub dense_transform: DenseTransform,
    /// Order of training samples in files of records, new every epoch.
    pub shuffle: RecordShuffle,
    /// Order of the row groups of parquet files, new every epoch.
    pub groups: GroupShuffle,
    /// Samples of a buffer through which training samples pass after that; `None` = off.
    pub buffer: Option<usize>,
}

impl PreparedConfig {
    /// A recipe with the settings of its original, of which nothing else is said.
    pub fn of(recipe: Recipe) -> Self {
        PreparedConfig {
            recipe,
            parameters: recipe.parameters(),
            raw: Vec::new(),
            cache: None,
            memory: Size(2 << 30),
            id_range: None,
            ids: IdKind::Rows,
            dense_transform: DenseTransform::Raw,
            shuffle: RecordShuffle::None,
            groups: GroupShuffle::None,
            buffer: None,
        }
    }
}

/// What to do with a malformed line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Stop and name file and line.
    #[default]
    Fail,
    /// Leave it out, count it, say so in the record.
    Skip,
}

/// Text with a header line.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CsvConfig {
    /// Training files.
    pub train: Paths,
    /// Evaluation files; none = what is held out.
    pub eval: Paths,
    /// What of the training files is for evaluation.
    #[serde(flatten)]
    pub held_out: HeldOut,
    /// Test files.
    pub test: Paths,
    /// Column with the label.
    pub label: String,
    /// Values of the label column that mean 1, all others 0; if empty the labels are numbers from 0
    /// to 1.
    pub positive: Vec<String>,
    /// Numeric columns.
    pub dense: Vec<String>,
    /// Categorical columns; empty = all that are neither label, nor dense, nor ignored.
    pub categorical: Vec<String>,
    /// Columns that are not read.
    pub ignore: Vec<String>,
    /// Columns with dates and times, of which features are made.
    pub dates: Option<Vec<String>>,
    /// The features of each of them; `None` = [`DateFeature::ALL`].
    pub date_features: Option<Vec<DateFeature>>,
    /// Words that say that a value is missing, besides nothing; `None` = those of pandas, R and
    /// others.
    pub missing: Option<Vec<String>>,
    /// Column names where the file has no header line (Adult).
    pub columns: Option<Vec<String>>,
    /// Transform of dense columns.
    pub dense_transform: DenseTransform,
    /// What is taken off each dense column and what the rest is divided by, with
    /// [`DenseTransform::MinRange`]; one of each for each column.
    pub dense_min: Vec<f64>,
    /// See there.
    pub dense_range: Vec<f64>,
    /// Rarer values than this become the unknown id 0.
    pub min_count: u32,
    /// Rows of each table, or of all if it is one: ids are hashes of the values modulo these. `None`
    /// = ids are numbers of the training file's values.
    pub hash_buckets: Option<Vec<usize>>,
    /// What stands for an empty categorical field; `None` = it is a value as it is.
    pub missing_category: Option<String>,
    /// What ids are.
    #[serde(skip_serializing_if = "IdKind::is_rows")]
    pub ids: IdKind,
    /// Field separator.
    pub delimiter: char,
    /// Lines that start with this character are left out.
    pub comment: Option<char>,
    /// New order of training samples every epoch (seeded by `train.seed`).
    pub shuffle: bool,
    /// Malformed lines.
    pub on_error: OnError,
}

impl CsvConfig {
    /// Columns of dates, and the features that are made of each.
    pub fn dates(&self) -> (&[String], &[DateFeature]) {
        let features = self.date_features.as_deref().unwrap_or(&DateFeature::ALL);
        (self.dates.as_deref().unwrap_or_default(), features)
    }

    /// Dense columns, those of dates among them.
    pub fn dense_columns(&self) -> usize {
        let (dates, features) = self.dates();
        self.dense.len() + dates.len() * features.iter().filter(|f| f.is_dense()).count()
    }
}

/// What of the training files is held out for evaluation, where there are no files for that.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HeldOut {
    /// Of each so many samples of the training files the last one; `None` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_out: Option<u32>,
    /// A share of the samples by hashes of the rows; with `split_by` the last ones. `None` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_share: Option<f64>,
    /// The column by which the last ones are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_by: Option<String>,
}

impl HeldOut {
    /// Whether something is held out.
    pub fn any(&self) -> bool {
        self.hold_out.is_some() || self.eval_share.is_some()
    }
}

/// What a model is told of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DateFeature {
    /// 0 to 23, a category.
    HourOfDay,
    /// 0 (Monday) to 6, a category.
    DayOfWeek,
    /// 1 to 31, a category.
    DayOfMonth,
    /// 1 to 12, a category.
    MonthOfYear,
    /// Whole days since 1970-01-01, a number.
    DaysSinceEpoch,
}

impl DateFeature {
    /// All of them.
    pub const ALL: [DateFeature; 5] = [
        DateFeature::HourOfDay,
        DateFeature::DayOfWeek,
        DateFeature::DayOfMonth,
        DateFeature::MonthOfYear,
        DateFeature::DaysSinceEpoch,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            DateFeature::HourOfDay => "hour_of_day",
            DateFeature::DayOfWeek => "day_of_week",
            DateFeature::DayOfMonth => "day_of_month",
            DateFeature::MonthOfYear => "month_of_year",
            DateFeature::DaysSinceEpoch => "days_since_epoch",
        }
    }

    /// The one whose word is `word`.
    pub fn named(word: &str) -> Option<DateFeature> {
        DateFeature::ALL.into_iter().find(|f| f.word() == word)
    }

    /// What its column is called, of the column `date`.
    pub fn column(self, date: &str) -> String {
        format!("{date}.{}", self.word())
    }
}

/// facebook's and MLPerf's binary records: a label, 13 counts and 26 ids of 32 bits each.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Bin40Config {
    /// Training files, one after another: a day each.
    pub train: Vec<PathBuf>,
    /// Evaluation file.
    pub eval: PathBuf,
    /// Test file.
    pub test: Option<PathBuf>,
    /// Rows of each of the 26 tables; `None` = one more than the largest id in the files.
    pub tables: Option<Vec<usize>>,
    /// Ids modulo this; `None` = off.
    pub max_ind_range: Option<u32>,
    /// Transform of the counts.
    pub dense_transform: DenseTransform,
    /// Order of training samples.
    pub shuffle: RecordShuffle,
    /// Samples of a buffer through which training samples pass after that; `None` = off.
    pub buffer: Option<usize>,
}

/// Order of records of one size, all new every epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordShuffle {
    /// As in the files.
    #[default]
    None,
    /// Whole batches (`--mlperf-bin-shuffle`).
    Batch,
    /// Samples of each file, files one after another (`--data-randomize=day`).
    Day,
    /// Samples of all files (`--data-randomize=total`).
    Total,
}

/// Parquet files.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ParquetConfig {
    /// Training files, and folders of some.
    pub train: Vec<PathBuf>,
    /// Evaluation files; empty = what is held out.
    pub eval: Vec<PathBuf>,
    /// What of the training files is for evaluation.
    #[serde(flatten)]
    pub held_out: HeldOut,
    /// Test files; empty = none.
    pub test: Vec<PathBuf>,
    /// Column with the label; `None` = the first of the usual names that is there.
    pub label: Option<String>,
    /// Values of the label that mean 1, all others 0; if empty the labels are the numbers 0 and 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub positive: Vec<String>,
    /// Dense columns; empty = those of fractions and those called `I1`, `I2`, ...
    pub dense: Vec<String>,
    /// Categorical columns; empty = all others.
    pub categorical: Vec<String>,
    /// Columns that are not read.
    pub ignore: Vec<String>,
    /// Columns with dates and times, of which features are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dates: Option<Vec<String>>,
    /// The features of each of them; `None` = [`DateFeature::ALL`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_features: Option<Vec<DateFeature>>,
    /// Rarer values of text than this become the unknown id 0; `None` = none is rare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_count: Option<u32>,
    /// Rows of the table of each column of text, or of all if it is one, whose values are hashed
    /// then; `None` = they are numbered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_buckets: Option<Vec<usize>>,
    /// Words of text that say that a value is missing; `None` = only nothing says so, in dates also
    /// those of pandas, R and Hive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// What stands for a null of text; `None` = the empty text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_category: Option<String>,
    /// Rows of each table; `None` = one more than the largest id in the files.
    pub tables: Option<Vec<usize>>,
    /// The most ids of a sample in each table; `None` = as many as the files hold.
    pub hotness: Option<Vec<usize>>,
    /// Ids of column k (from 0) start at k times this.
    pub id_stride: u32,
    /// Ids modulo this; `None` = off.
    pub max_ind_range: Option<u32>,
    /// What ids are.
    #[serde(skip_serializing_if = "IdKind::is_rows")]
    pub ids: IdKind,
    /// Transform of the dense columns.
    pub dense_transform: DenseTransform,
    /// Order of training samples.
    pub shuffle: GroupShuffle,
    /// Samples of a buffer through which training samples pass after that; `None` = off.
    pub buffer: Option<usize>,
}

/// Files of a format that have no source of their own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilesConfig {
    /// What they are.
    pub format: Format,
    /// Training files, each by the name that `data inspect` takes.
    pub train: Vec<PathBuf>,
    /// Evaluation files; empty = what is held out.
    pub eval: Vec<PathBuf>,
    /// What of the training files is for evaluation.
    #[serde(flatten)]
    pub held_out: HeldOut,
    /// Test files; empty = none.
    pub test: Vec<PathBuf>,
    /// Column with the label, where columns have names; `None` = as the files have it.
    pub label: Option<String>,
    /// Dense columns; empty = as the files have them.
    pub dense: Vec<String>,
    /// Categorical columns; empty = as the files have them.
    pub categorical: Vec<String>,
    /// Columns that are not read.
    pub ignore: Vec<String>,
    /// Rows of each table; `None` = one more than the largest id in the files.
    pub tables: Option<Vec<usize>>,
    /// The most ids of a sample in each table; `None` = as many as the files hold.
    pub hotness: Option<Vec<usize>>,
    /// Ids modulo this; `None` = off.
    pub max_ind_range: Option<u32>,
    /// What ids are.
    #[serde(skip_serializing_if = "IdKind::is_rows")]
    pub ids: IdKind,
    /// Transform of the dense columns.
    pub dense_transform: DenseTransform,
    /// Samples of a buffer through which training samples pass; `None` = off.
    pub buffer: Option<usize>,
}

impl FilesConfig {
    /// Files of `format` of which nothing else is said.
    pub fn of(format: Format) -> Self {
        FilesConfig {
            format,
            train: Vec::new(),
            eval: Vec::new(),
            held_out: HeldOut::default(),
            test: Vec::new(),
            label: None,
            dense: Vec::new(),
            categorical: Vec::new(),
            ignore: Vec::new(),
            tables: None,
            hotness: None,
            max_ind_range: None,
            ids: IdKind::Rows,
            dense_transform: DenseTransform::Raw,
            buffer: None,
        }
    }
}

/// Order of the row groups of parquet files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupShuffle {
    /// As in the files.
    #[default]
    None,
    /// Row groups of all files in a new order every epoch (Petastorm's `shuffle_row_groups`).
    RowGroup,
}

/// Named transforms of dense features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DenseTransform {
    /// As they are.
    #[default]
    Raw,
    /// `ln(max(x, 0) + 1)` (facebook).
    Log1pClamp0,
    /// `ln(x + 2)` (OneFlow).
    LogPlus2,
    /// `ln(x + 3)` (NVIDIA, TorchRec).
    LogPlus3,
    /// `floor(ln(x)^2)` above 2, cut to a whole number below (FuxiCTR).
    LogSqBucket,
    /// `(x - min) / (max - min)` over the training split.
    MinMax,
    /// `(x - mean) / std` over the training split.
    Standard,
    /// `(x - min) / range` with given numbers, of csv only (DeepRec).
    MinRange,
}

impl DenseTransform {
    /// Whether it takes more than a number to apply it: what its column holds, or what is given for
    /// it.
    pub fn of_column(self) -> bool {
        matches!(self, DenseTransform::MinMax | DenseTransform::Standard | DenseTransform::MinRange)
    }
}
