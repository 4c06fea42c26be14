//! `dlrm-bench data`: everything about data but training on them; one file a command.

mod convert;
mod generate;
mod inspect;
mod output;
mod preprocess;
mod profile;
mod profile_cache;
mod settings;
mod tables;
mod verify;

use super::{EXIT_CODES, Exit, Failure};
use crate::{
    data::{
        DataError,
        dense::Dense,
        format::{
            self, Format, Reader,
            columns::Columns,
            found,
            texts::{TextIds, Texts},
            transformed::Transformed,
        },
        source::config::DateFeature,
        until::until,
    },
    workload::DenseTransform,
};
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

/// Prepare, convert, make, check and look at data
///
/// docs/data-formats.md describes the formats. They are told by the endings of
/// file names, or named by their words.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct DataArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Preprocess(preprocess::PreprocessArgs),
    Verify(verify::VerifyArgs),
    Convert(convert::ConvertArgs),
    Inspect(inspect::InspectArgs),
    Generate(generate::GenerateArgs),
    Profile(profile::ProfileArgs),
}

/// Runs the command.
pub(super) fn run(args: &DataArgs) -> Result<Exit, Failure> {
    match &args.command {
        Command::Preprocess(args) => preprocess::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Profile(args) => profile::run(args),
    }
}

/// Which columns to read, for formats whose files name them.
#[derive(Debug, Args)]
struct ColumnArgs {
    /// The column with the label, 0 or 1 [default: label, clicked, click or y,
    /// whichever is there]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// Dense columns, as in --dense age,price, in libsvm and numpy by number
    /// [default: those of fractions, and I1, I2, ...]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    dense: Vec<String>,
    /// Categorical columns [default: all others]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    categorical: Vec<String>,
    /// Columns to leave out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Values of the label that mean 1, as in --positive yes; all others mean 0
    #[arg(long, value_name = "VALUES", value_delimiter = ',')]
    positive: Vec<String>,
    /// Columns of csv and parquet with dates and times, of which features are
    /// made as in training
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    dates: Vec<String>,
    /// Those features [default: all of them]
    #[arg(long, value_name = "WORDS", value_delimiter = ',', value_parser = date_features(), requires = "dates")]
    date_features: Vec<String>,
    /// Words that say that a value is missing, besides nothing, in csv and in
    /// text of parquet [default: in csv, and in dates, NaN, NA, N/A, null, None,
    /// <NA>, \N]
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    missing: Vec<String>,
    /// Ids modulo N, in parquet with all of their 64 bits: hashes, too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_ind_range: Option<u32>,
}

impl ColumnArgs {
    /// Whether any is given.
    fn any(&self) -> bool {
        self.label.is_some()
            || self.max_ind_range.is_some()
            || [
                &self.dense,
                &self.categorical,
                &self.ignore,
                &self.positive,
                &self.dates,
                &self.missing,
            ]
            .into_iter()
            .any(|names| !names.is_empty())
    }

    fn columns(&self) -> Columns {
        Columns {
            label: self.label.clone(),
            dense: self.dense.clone(),
            categorical: self.categorical.clone(),
            ignore: self.ignore.clone(),
            positive: self.positive.clone(),
            dates: (
                self.dates.clone(),
                self.date_features.iter().filter_map(|word| DateFeature::named(word)).collect(),
            ),
            missing: (!self.missing.is_empty()).then(|| self.missing.clone()),
            range: self.max_ind_range,
            ..Columns::default()
        }
    }
}

/// Text in categorical columns.
#[derive(Debug, Args)]
struct TextArgs {
    /// Categorical columns of csv that are text although their first lines hold
    /// none [default: those with text in the first 100 lines]
    #[arg(long = "text", value_name = "NAMES", value_delimiter = ',')]
    worded: Vec<String>,
}

/// Opens a file whose categorical columns may be text, of which `texts` makes ids.
fn open_text(
    path: &Path,
    format: Format,
    (columns, text): (&ColumnArgs, &TextArgs),
    texts: Arc<dyn Texts>,
    stop: &AtomicBool,
) -> Result<Option<Box<dyn Reader>>, DataError> {
    let columns = Columns {
        worded: text.worded.clone(),
        text: true,
        texts: Some(TextIds(texts)),
        ..columns.columns()
    };
    let path = path.to_owned();
    until(stop, move || format::open(&path, format, &columns))
}

/// Takes the word of a feature of dates.
fn date_features() -> PossibleValuesParser {
    PossibleValuesParser::new(DateFeature::ALL.map(DateFeature::word))
}

/// What is done to the dense columns on their way.
#[derive(Debug, Args)]
struct TransformArgs {
    /// Transform the dense columns, for formats that hold logarithms: ln(x + 1)
    /// with negative x as 0 (facebook, OneFlow), ln(x + 2), ln(x + 3)
    /// (TorchRec, NVIDIA), or floor(ln(x)^2) above 2 (FuxiCTR)
    #[arg(long, value_name = "WORD", value_parser = ["raw", "log1p_clamp0", "log_plus2", "log_plus3", "log_sq_bucket"], default_value = "raw")]
    dense_transform: String,
}

impl TransformArgs {
    /// The samples that `reader` reads of `path`, transformed.
    fn apply(&self, reader: Box<dyn Reader>, path: &Path) -> Box<dyn Reader> {
        let transform = match self.dense_transform.as_str() {
            "log1p_clamp0" => Dense::new(DenseTransform::Log1pClamp0),
            "log_plus2" => Dense::new(DenseTransform::LogPlus2),
            "log_plus3" => Dense::new(DenseTransform::LogPlus3),
            "log_sq_bucket" => Dense::new(DenseTransform::LogSqBucket),
            _ => None,
        };
        match transform {
            Some(dense) => Box::new(Transformed::new(reader, dense, path.to_owned())),
            None => reader,
        }
    }
}

/// What is wrong with a file that would make an empty result.
const NO_SAMPLE: &str = "holds no sample; must hold at least one";

/// The failure that the file at `path` holds no sample.
fn empty(path: &Path) -> Failure {
    Failure::Input(format!("{}: {NO_SAMPLE}", path.display()))
}

/// Says what is to be known of the file at `path`.
fn tell(path: &Path, notes: &[String]) {
    notes.iter().for_each(|note| errln!("note: {}: {note}", path.display()));
}

/// Takes the word of a format.
fn formats() -> PossibleValuesParser {
    PossibleValuesParser::new(Format::words())
}

/// The format that `word` names, or the one that the name of the file to write tells.
fn format(path: &Path, word: Option<&str>, option: &str) -> Result<Format, Failure> {
    let found = word.and_then(Format::named).map_or_else(|| Format::of(path), Ok);
    found.map_err(|e| Failure::Usage(format!("{e}, or name the format with {option}")))
}

/// Opens a file to read; `None` if `stop` was set meanwhile.
fn open(
    path: &Path,
    format: Format,
    columns: &ColumnArgs,
    stop: &AtomicBool,
) -> Result<Option<Box<dyn Reader>>, DataError> {
    let (path, columns) = (path.to_owned(), columns.columns());
    until(stop, move || format::open(&path, format, &columns))
}

/// The format that `word` names, or the one that a file to read is found to have.
fn input(path: &Path, word: Option<&str>) -> Result<Format, Failure> {
    // Sets of files are named by what their names have in common, which may be no file.
    if path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
        return Err(Failure::Input(format!(
            "{}: is empty; a file of samples has at least one",
            path.display()
        )));
    }
    let found = word.and_then(Format::named).map_or_else(|| found::format(path), Ok);
    found.map_err(|e| match path.is_dir() {
        true => Failure::Usage(e.to_string()),
        false => Failure::Usage(format!("{e}, or name the format with --from")),
    })
}
