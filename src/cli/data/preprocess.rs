//! `dlrm-bench data preprocess`.

use super::{
    super::{
        Exit, Failure,
        bar::Bar,
        examples,
        progress::{counted, thousands},
        run::stop_flag,
        threads,
    },
    settings::SettingArgs,
};
use crate::{
    data::{
        manifest::Manifest,
        preprocess::{
            inputs,
            prepare::{
                self, Done, Job, OutputState, Plan, PlannedFile, PrepareError, Progress, Recipe,
            },
        },
    },
    host::{Isa, Size},
    system::peak_memory,
};
use clap::{Args, ValueEnum, builder::PossibleValue};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench data preprocess facebook-kaggle train.txt -o kaggle --plan
  dlrm-bench data preprocess facebook-kaggle train.txt -o kaggle
  dlrm-bench data preprocess mlperf-v1 criteo_1tb/ -o mlperf --memory 16GiB
  dlrm-bench data preprocess oneflow-deepfm train.txt.gz -o deepfm
  dlrm-bench data verify kaggle

docs/preprocessing.md explains recipes, files and what can go wrong.";

/// Make encoded samples of raw click logs, as an original program does
///
/// Reads the logs once, in memory that does not grow with them, on all cores.
/// Killed or interrupted, the same command goes on where it was. The folder
/// gets the original's files and manifest.json with sizes, checksums and
/// counts; the same command on it once more checks them and leaves them alone.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct PreprocessArgs {
    /// Whose preparation of which log
    pub recipe: Recipe,
    /// The log: a file, a folder of days, or a pattern in quotes; .gz or not
    #[arg(required = true)]
    pub raw: Vec<String>,
    /// Folder for the output
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Print the bytes to be written, and the time of reading by a sample,
    /// and refuse what a run would; counts the lines, and writes nothing
    #[arg(long)]
    pub plan: bool,
    /// Memory that may be taken, as in 2GiB or 512MiB
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub memory: Size,
    /// Threads, 0 = all cores. The output does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = threads)]
    pub threads: usize,
    #[command(flatten)]
    pub settings: SettingArgs,
    /// Seconds of work that a kill may cost, at most
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub checkpoint: u64,
    /// The plan or the manifest as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

// As the one list of recipes has them.
impl ValueEnum for Recipe {
    fn value_variants<'a>() -> &'a [Self] {
        Recipe::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.about()))
    }
}

impl PreprocessArgs {
    fn job(&self) -> Result<Job, Failure> {
        let recipe = self.recipe;
        let parameters = self.settings.parameters(recipe)?;
        Ok(Job {
            recipe,
            parameters,
            raw: inputs::find_all(&self.raw)?,
            output: self.output.clone(),
            memory: self.memory.0,
            threads: match self.threads {
                0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
                n => n,
            },
            isa: Isa::detect().map_err(|e| Failure::Usage(e.to_string()))?,
            checkpoint: Duration::from_secs(self.checkpoint),
        })
    }
}

/// Runs the command.
pub(super) fn run(args: &PreprocessArgs) -> Result<Exit, Failure> {
    let job = args.job()?;
    if let Some(missing) = inputs::first_days_missing(&args.raw, &job.raw) {
        errln!("note: {missing}");
    }
    let bar = Bar::new(args.quiet || args.json);
    let show = |progress: Progress| match progress {
        Progress::Encode { bytes, total, samples } => {
            bar.tell("encoding", bytes, total, Some(samples))
        }
        Progress::Other { what, bytes, total } => bar.tell(what, bytes, total, None),
    };
    if args.plan {
        let plan = prepare::plan(&job, &show)?;
        bar.finish();
        out!("{}", if args.json { json(&plan)? } else { plan_lines(&plan, &job) });
        prepare::refuse_small_disk(&job, &plan)?;
        return Ok(Exit::Done);
    }
    let stop = stop_flag()?;
    let start = Instant::now();
    let done = prepare::run(&job, &stop, &mut |progress| show(progress));
    bar.finish();
    let (manifest, how) = match done {
        Ok(Done::Prepared { manifest, resumed }) => {
            (manifest, if resumed { "made, from where an earlier run was" } else { "made" })
        }
        Ok(Done::Verified(manifest)) => {
            (manifest, "was there already, from the same log, and is whole")
        }
        Err(PrepareError::Interrupted) => {
            errln!("{}", PrepareError::Interrupted);
            return Ok(Exit::Interrupted);
        }
        Err(e) => return Err(e.into()),
    };
    if manifest.splits.iter().all(|s| s.samples == 0) {
        let skipped = counted(manifest.skipped_lines, "malformed line");
        return Err(Failure::Input(format!(
            "{}: the log holds no sample ({skipped}); must hold at least one",
            job.output.display()
        )));
    }
    out!(
        "{}",
        if args.json { json(&manifest)? } else { summary(&manifest, &job, how, start.elapsed()) }
    );
    Ok(Exit::Done)
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string(value).map_err(|e| Failure::Internal(e.to_string()))? + "\n")
}

fn plan_lines(plan: &Plan, job: &Job) -> String {
    let p = &job.parameters;
    let fewer = if p.sub_sample_rate > 0.0 { "; sub-sampling will make it less" } else { "" };
    let mut lines = format!(
        "{} lines, {} bytes of raw files\n",
        thousands(plan.lines),
        thousands(plan.raw_bytes)
    );
    for PlannedFile { name, files, bytes, exact, about, .. } in &plan.files {
        let (size, most) = match about {
            Some(about) => {
                (format!("about {}", thousands(*about)), format!("; at most {}", thousands(*bytes)))
            }
            None if *exact => (thousands(*bytes), String::new()),
            None => (thousands(*bytes), ", or less".into()),
        };
        let many =
            if *files == 1 { String::new() } else { format!(", {} files", thousands(*files)) };
        lines += &format!("{size:>19} bytes  {}{many}{most}\n", job.output.join(name).display());
    }
    let about: u64 = plan.files.iter().map(|f| f.about.unwrap_or(f.bytes)).sum();
    let all = match plan.files.iter().all(|f| f.exact) {
        true => "in all".into(),
        false if about < plan.bytes() => format!("in all at most, about {}", thousands(about)),
        false => "in all at most".to_owned(),
    };
    lines += &format!(
        "{:>19} bytes {all}, and {} of some kB{fewer}\n",
        thousands(plan.bytes()),
        crate::data::manifest::NAME
    );
    let free = prepare::free(&job.output)
        .map_or_else(String::new, |n| format!("; {} are free there", thousands(n)));
    let likely = match plan.likely_peak_bytes < plan.peak_bytes {
        true => format!(
            "; {} if new ids come no more often than at the start of each file",
            thousands(plan.likely_peak_bytes)
        ),
        false => String::new(),
    };
    lines += &format!(
        "at most {} bytes on the disk at once{likely}{free}\n",
        thousands(plan.peak_bytes)
    );
    if let Some(seconds) = plan.seconds {
        lines += &format!(
            "reading and encoding takes about {seconds:.0} s on {} threads, by {} samples; shuffling and writing come after it\n",
            job.threads,
            thousands(plan.sampled)
        );
    }
    match plan.output {
        OutputState::Empty => {}
        OutputState::Unfinished => {
            lines += "work was begun in this folder and goes on from there\n"
        }
        OutputState::Finished => lines += "these data are there already; a run only checks them\n",
    }
    lines
}

fn summary(manifest: &Manifest, job: &Job, how: &str, elapsed: Duration) -> String {
    let mut lines = format!("{}: {how}\n", job.output.display());
    for split in &manifest.splits {
        lines += &format!("{:>15} samples  {}\n", thousands(split.samples), split.file);
    }
    let ids: u64 = manifest.columns.iter().filter_map(|c| c.ids).sum();
    let seconds = elapsed.as_secs_f64();
    let ids = if ids > 0 { format!(", {} different ids", thousands(ids)) } else { String::new() };
    lines += &format!("{:.4}% positive{ids}, {seconds:.1} s\n", 100.0 * manifest.label_rate);
    if let Some(bytes) = peak_memory() {
        lines += &format!("{} MiB of memory at most\n", bytes.div_ceil(1 << 20));
    }
    for (n, thing, what) in [
        (manifest.skipped_lines, "malformed line", "left out"),
        (manifest.dropped_samples, "negative", "dropped"),
    ] {
        if n > 0 {
            lines += &format!("{} {what}\n", counted(n, thing));
        }
    }
    lines
}

impl From<PrepareError> for Failure {
    fn from(e: PrepareError) -> Self {
        match e {
            PrepareError::Data(e) => e.into(),
            PrepareError::Manifest(e) => e.into(),
            PrepareError::Usage(what) => Failure::Usage(what),
            PrepareError::Stale(what) => Failure::Input(what),
            PrepareError::Memory(what) => Failure::Memory(what),
            PrepareError::Write { .. } | PrepareError::Disk(_) => Failure::Output(e.to_string()),
            PrepareError::Interrupted => Failure::Internal(e.to_string()),
        }
    }
}
