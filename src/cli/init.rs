//! `dlrm-bench init`.

use super::{
    Exit, Failure, examples,
    progress::{counted, thousands},
    run::stop_flag,
};
use crate::{
    batch::Batch,
    data::{
        DataError, Dataset, Source,
        format::{Format, columns::Columns, found, fuxictr::NAME as FEATURE_MAP, parquet},
        source::paths::{self, is_pattern},
        survey::{Survey, files, text},
        until::until,
    },
    host::escape::visible,
    results::write_file,
    workload::{
        draft::{Draft, Files, Found, Kind, Role, Wishes},
        parse, unfit_name,
    },
};
use clap::{Args, ValueEnum};
use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench init train.csv -o mine.toml
  dlrm-bench init train.csv --eval test.csv --label bought -o mine.toml
  dlrm-bench init survey.tsv --header no --label c9 --positive good,fair
  dlrm-bench init days/ --dates when -o mine.toml
  dlrm-bench init train.libsvm --eval test.libsvm -o mine.toml
  dlrm-bench init part-0.parquet part-1.parquet --model deepfm -o mine.toml
  dlrm-bench run mine.toml";

/// Samples of the evaluation split that are read together when its classes are counted.
const CHUNK: u64 = 1 << 12;

/// Which model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Model {
    /// DLRM
    Dlrm,
    /// DeepFM
    Deepfm,
}

/// Whether the first line holds names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Header {
    /// It holds the names of the columns
    Yes,
    /// It holds a sample
    No,
}

/// Write a workload for one's own data
///
/// Reads text (commas, tabs, semicolons or bars between fields, packed or not),
/// parquet or libsvm files, or a folder of FuxiCTR's once, guesses which column is the label and which are
/// numbers and categories, and writes a workload that trains on them as it is,
/// with what was guessed, and why, as comments. That it can be trained on is
/// tried before it is written.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct InitArgs {
    /// Training files, of text or of parquet, or a folder of some
    #[arg(value_name = "DATA", required = true)]
    data: Vec<PathBuf>,
    /// Samples for evaluation [default: every tenth of DATA or so]
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// The workload to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long, requires = "output")]
    force: bool,
    /// Name of the workload [default: that of the file to write, or of DATA]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The column with the label [default: one called label, click, y, target
    /// or the like, or else the one with two values]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// Values of the label that mean 1, all others mean 0
    #[arg(long, value_name = "VALUES", value_delimiter = ',')]
    positive: Vec<String>,
    /// Columns of numbers [default: those of fractions, and of whole numbers of
    /// more than 20 different values that are not called ids]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    dense: Vec<String>,
    /// Columns of categories [default: all others that tell something]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    categorical: Vec<String>,
    /// Columns of dates and times [default: those that hold nothing else]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    dates: Vec<String>,
    /// Columns to leave out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Whether the first line of text holds names [default: if no field of it is
    /// a number or empty]. Without names columns are called c1, c2 and so on
    #[arg(long, value_enum)]
    header: Option<Header>,
    /// Hash categories of text into tables of N rows instead of numbering them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    hash: Option<u32>,
    /// The model [default: a DLRM where there are numbers, else a DeepFM]
    #[arg(long, value_enum)]
    model: Option<Model>,
}

/// Runs the command.
pub(super) fn run(args: &InitArgs) -> Result<Exit, Failure> {
    if let Some(path) = args.output.as_ref().filter(|path| path.exists() && !args.force) {
        let path = path.display();
        return Err(Failure::Usage(format!("{path} is there already; --force writes over it")));
    }
    let name = name(args)?;
    let stop = stop_flag()?;
    let Some(found) = look(args, &stop)? else { return Ok(Exit::Interrupted) };
    let place = args.data[0].display().to_string();
    if found.survey.rows == 0 {
        return Err(Failure::Input(format!("{place}: holds no sample; must hold at least one")));
    }
    let wishes = wishes(args, &found);
    let draft = Draft::new(name, found, &wishes);
    let draft = draft.map_err(|what| Failure::Usage(format!("{place}: {what}")))?;
    let Some(text) = tried(&draft, args, &stop)? else { return Ok(Exit::Interrupted) };
    let report = report(&draft);
    match &args.output {
        None => {
            errln!("{}", report.trim_end());
            out!("{text}");
        }
        Some(path) => {
            write_file(path, text.as_bytes())?;
            out!("{report}");
            let path = path.display();
            outln!("{:<12}{path}; dlrm-bench run {path} trains on it", "written");
        }
    }
    Ok(Exit::Done)
}

/// What the command line says of the columns and the model; of files that describe themselves, what
/// they say.
fn wishes(args: &InitArgs, found: &Found) -> Wishes {
    if let (Files::Described(_), [label, ..]) = (found.files, &found.survey.columns[..]) {
        let label = Some(label.name.clone());
        return Wishes { label, ..wishes_of(args) };
    }
    wishes_of(args)
}

fn wishes_of(args: &InitArgs) -> Wishes {
    Wishes {
        label: args.label.clone(),
        positive: args.positive.clone(),
        dense: args.dense.clone(),
        categorical: args.categorical.clone(),
        dates: args.dates.clone(),
        ignore: args.ignore.clone(),
        model: args.model.map(|model| match model {
            Model::Dlrm => Kind::Dlrm,
            Model::Deepfm => Kind::DeepFm,
        }),
        hash: args.hash,
    }
}

/// The workload's name: as given, or made of a file's.
fn name(args: &InitArgs) -> Result<String, Failure> {
    if let Some(name) = &args.name {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        return match name.chars().all(plain) && unfit_name(name).is_none() {
            true => Ok(name.clone()),
            false => Err(Failure::Usage(format!(
                "--name {name}: must be letters, digits, '-', '_' and '.', not starting with '.'"
            ))),
        };
    }
    let path = args.output.as_ref().unwrap_or(&args.data[0]);
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.trim_start_matches('.').split('.').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).take(64).collect();
    // A folder named by what has no letter, or by a device.
    Ok(match unfit_name(&name) {
        None if name.chars().any(|c| c.is_ascii_alphanumeric()) => name,
        _ => "own-data".to_owned(),
    })
}

/// Looks at the files; `None` if `stop` was set.
fn look(args: &InitArgs, stop: &AtomicBool) -> Result<Option<Found>, Failure> {
    let first = &args.data[0];
    for path in args.data.iter().chain(&args.eval).filter(|path| !is_pattern(path)) {
        path.metadata().map_err(|source| DataError::Io { path: path.clone(), source })?;
    }
    let text = || paths::text(&args.data).map_err(Failure::from);
    if let Some((train, eval, test)) = fuxictr(args)? {
        let (files, survey) = described(args, std::slice::from_ref(&train), Format::FuxiCtr, stop)?;
        let found = |survey| Found { train: vec![train], eval, test, files, survey };
        return Ok(survey.map(found));
    }
    let (files, survey) = match found::format(first) {
        Ok(format @ (Format::LibSvm | Format::LibFm | Format::FuxiCtr)) => {
            described(args, &args.data, format, stop)?
        }
        // A folder or a pattern of text.
        Err(_) if text().is_ok_and(|files| files.first() != Some(first)) => {
            text_files(args, &text()?, stop)?
        }
        Ok(Format::Parquet) => {
            if args.header.is_some() {
                return Err(Failure::Usage(
                    "--header is about text; parquet files have names".into(),
                ));
            }
            (Files::Parquet, parquet_files(args, stop)?)
        }
        // Criteo's logs end in .tsv like anybody's text.
        Ok(Format::Csv | Format::Criteo) | Err(_) if !first.is_dir() => {
            text_files(args, &text()?, stop)?
        }
        Ok(other) => {
            return Err(Failure::Usage(format!(
                "{}: its columns are known, as of all files of {}; train on it with data.source = \"{}\" (docs/workload-file.md), or convert it to parquet: dlrm-bench data convert",
                first.display(),
                other.word(),
                other.word()
            )));
        }
        Err(e) => return Err(Failure::Usage(e.to_string())),
    };
    let (train, eval, test) = (args.data.clone(), args.eval.clone(), None);
    let found = |survey| Found { train, eval, test, files, survey };
    Ok(survey.map(found))
}

/// Files for training, for evaluation, and for the test.
type Splits = (PathBuf, Option<PathBuf>, Option<PathBuf>);

/// The files of a folder of FuxiCTR's: for training, for evaluation, and for the test.
fn fuxictr(args: &InitArgs) -> Result<Option<Splits>, Failure> {
    let [folder] = &args.data[..] else { return Ok(None) };
    if !folder.join(FEATURE_MAP).is_file() {
        return Ok(None);
    }
    const ENDINGS: [&str; 4] = ["parquet", "csv", "npz", "h5"];
    let file = |name: &str, ending: &str| {
        Some(folder.join(format!("{name}.{ending}"))).filter(|path| path.exists())
    };
    let found = ENDINGS.iter().find_map(|ending| Some((file("train", ending)?, *ending)));
    let (train, ending) = found.ok_or_else(|| {
        let what =
            "holds a feature_map.json, but no train.parquet, train.csv, train.npz or train.h5";
        Failure::Usage(format!("{}: {what}; name the training file", folder.display()))
    })?;
    let eval = args.eval.clone().or_else(|| file("valid", ending));
    Ok(Some((train, eval, file("test", ending))))
}

/// Files that say themselves which column is what.
fn described(
    args: &InitArgs,
    paths: &[PathBuf],
    format: Format,
    stop: &AtomicBool,
) -> Result<(Files, Option<Survey>), Failure> {
    if args.header.is_some()
        || args.hash.is_some()
        || !args.positive.is_empty()
        || !args.dates.is_empty()
    {
        return Err(Failure::Usage(format!(
            "{}: --header, --hash, --positive and --dates are about text; {} holds numbers",
            paths[0].display(),
            format.word()
        )));
    }
    let columns = Columns {
        label: args.label.clone(),
        dense: args.dense.clone(),
        categorical: args.categorical.clone(),
        ignore: args.ignore.clone(),
        ..Columns::default()
    };
    Ok((Files::Described(format), files::survey(paths, format, &columns, stop)?))
}

fn parquet_files(args: &InitArgs, stop: &AtomicBool) -> Result<Option<Survey>, Failure> {
    let mut paths = Vec::new();
    for path in &args.data {
        match path.is_dir() {
            true => paths.append(&mut parquet::files_of(path)?),
            false => paths.push(path.clone()),
        }
    }
    Ok(parquet::survey(&paths, stop)?)
}

fn text_files(
    args: &InitArgs,
    paths: &[PathBuf],
    stop: &AtomicBool,
) -> Result<(Files, Option<Survey>), Failure> {
    let path = &paths[0];
    let cut = text::cut(path, args.header.map(|h| h == Header::Yes))?;
    if criteo(path, cut) {
        return Err(Failure::Usage(format!(
            "{}: is one of Criteo's logs; train on it with CRITEO_KAGGLE={} dlrm-bench run kaggle (dlrm-bench workloads lists others)",
            path.display(),
            path.display()
        )));
    }
    let files = Files::Text { delimiter: cut.delimiter.into(), header: cut.header };
    Ok((files, text::survey(paths, cut, stop)?))
}

/// Whether a file looks like one of Criteo's logs, which have workloads of their own.
fn criteo(path: &Path, cut: text::Cut) -> bool {
    let named = matches!(Format::of(path), Ok(Format::Criteo));
    named && !cut.header && (cut.delimiter, cut.width) == (b'\t', 40)
}

/// The text of the first way to hold samples out with which the workload can be trained; `None` if
/// `stop` was set.
fn tried(draft: &Draft, args: &InitArgs, stop: &AtomicBool) -> Result<Option<String>, Failure> {
    let mut first_failure = None;
    for hold_out in draft.hold_outs() {
        let text = draft.to_toml(hold_out);
        match tries(&text, args, stop) {
            Ok(true) => return Ok(Some(text)),
            Ok(false) => return Ok(None),
            Err(failure @ Failure::Data(DataError::Invalid(_))) => {
                first_failure.get_or_insert(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(first_failure.unwrap_or_else(|| Failure::Internal("nothing was tried".into())))
}

/// Opens the data as a run does; `false` if `stop` was set.
fn tries(text: &str, args: &InitArgs, stop: &AtomicBool) -> Result<bool, Failure> {
    let place = args.output.as_deref().unwrap_or(Path::new("the workload that was drafted"));
    let workload = parse::resolve(place, text.to_owned(), &[])?.workload;
    let Some(data) = workload.open_data_until(stop, &mut |_| ())? else { return Ok(false) };
    workload.engine_config(data.train.schema())?;
    Ok(until(stop, move || both_classes(data))?.is_some())
}

/// Refuses an evaluation split of one class, of which there is no AUC.
fn both_classes(data: Dataset) -> Result<(), DataError> {
    let mut eval: Box<dyn Source> = data.eval;
    let (all, mut seen) = (eval.len().unwrap_or(0), [false; 2]);
    let mut batch = Batch::with_capacity(eval.schema(), 0);
    let mut at = 0;
    while at < all && seen != [true; 2] {
        let n = CHUNK.min(all - at);
        eval.fill(0, at, n as usize, &mut batch)?;
        batch.labels.iter().for_each(|&y| seen[usize::from(y == 1.0)] = true);
        at += n;
    }
    match seen {
        [true, true] => Ok(()),
        _ => Err(DataError::Invalid(format!(
            "all {all} labels for evaluation are alike; must be of both classes (--eval names a file)"
        ))),
    }
}

/// Names that are shown.
const SHOWN: usize = 8;

/// The first names, and how many more there are.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let names: Vec<String> = names.take(SHOWN).map(|name| visible(name).into_owned()).collect();
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// What was found, a line each.
fn report(draft: &Draft) -> String {
    let (found, roles) = (draft.found(), draft.roles());
    let columns = |role: Role| roles.of(&found.survey, role);
    let names = |role: Role| listed(columns(role).iter().map(|(c, _)| c.name.as_str()));
    let mut out = String::new();
    let mut line = |what: &str, text: &str| out += &format!("{what:<12}{text}\n");
    let kind = match found.files {
        Files::Parquet => "parquet".to_owned(),
        Files::Described(format) => format.word().to_owned(),
        Files::Text { delimiter, header } => {
            let first = if header { "names in the first line" } else { "no names" };
            format!("text, {delimiter:?} between fields, {first}")
        }
    };
    let (rows, width) = (thousands(found.survey.rows), found.survey.columns.len());
    line("data", &format!("{rows} samples, {} ({kind})", counted(width as u64, "column")));
    let label = &roles.label;
    let positive = match label.positive.is_empty() {
        true => String::new(),
        false => format!(", {} means 1", listed(label.positive.iter().map(String::as_str))),
    };
    let name = listed([found.survey.columns[label.column].name.as_str()].into_iter());
    let share = label.share.map_or(String::new(), |s| format!(", {:.2}% are 1", 100.0 * s));
    line("label", &format!("{name}{positive}{share}"));
    for (what, role) in [
        ("dense", Role::Dense),
        ("categorical", Role::Categorical),
        ("dates", Role::Date),
        ("left out", Role::Ignored),
    ] {
        let n = columns(role).len();
        if n > 0 {
            line(what, &format!("{n}: {}", names(role)));
        }
    }
    line(
        "model",
        match draft.kind() {
            Kind::Dlrm => "DLRM",
            Kind::DeepFm => "DeepFM",
        },
    );
    out
}
