//! From what `dlrm-bench run` is told to the workloads that are to be run.

use super::RunArgs;
use crate::{
    cli::{
        Failure, MAX_SEED,
        ranks::First,
        ready,
        resume::{self, Resume},
        sweep::Plan,
    },
    data::locality::IdsProfile,
    workload::{
        Missing, Origin, Resolved, parse,
        short::{self, Given, Short},
        sweep::Axis,
    },
};
use std::path::Path;

/// What is to be run.
pub(super) enum Asked {
    /// A workload, once or with several seeds.
    One(Box<Resolved>),
    /// Several workloads.
    Sweep(Plan),
}

impl Asked {
    fn one(resolved: Resolved) -> Self {
        Asked::One(Box::new(resolved))
    }
}

impl RunArgs {
    /// How often ids of a workload's data are asked for, if somebody has counted them.
    pub(in crate::cli) fn ids_of(&self, of: &Resolved) -> Result<Option<IdsProfile>, Failure> {
        let Some(path) = &self.ids_profile else { return Ok(None) };
        let profile = IdsProfile::read(path)?;
        let schema = of.workload.data_schema()?;
        let config = schema.map(|schema| of.workload.engine_config(&schema)).transpose()?;
        let spec = config.as_ref().map(|config| config.cached.as_ref());
        match spec.unwrap_or_default() {
            None if config.is_some() => {
                let path = path.display();
                errln!("--ids-profile {path}: all rows are in memory, and no hits to be expected");
            }
            None => {}
            Some(spec) => {
                let mut outside = spec.columns.iter().filter(|c| !c.fits());
                if let Some(c) = outside.find(|c| profile.of(&c.name).is_none()) {
                    return Err(Failure::Input(format!(
                        "{}: has no table {}; must be a profile of this workload's data",
                        path.display(),
                        c.name
                    )));
                }
            }
        }
        Ok(Some(profile))
    }

    /// What is to be run, with all overrides, on this machine. The workload's file is read this once.
    pub(super) fn asked(&self, ranks: Option<&First>) -> Result<Asked, Failure> {
        let missing = if self.strict_data { Missing::Refuse } else { Missing::TakeOtherwise };
        let mut set = self.overrides();
        if let Some(per_rank) = self.batch_size_per_rank {
            let all = per_rank * ranks.map_or(1, |first| first.team.members.len());
            set.push(format!("train.batch_size={all}"));
        }
        let file = match (&self.workload, &self.resume) {
            (Some(file), None | Some(None)) => file,
            (None, Some(Some(folder))) if set.is_empty() && self.steps.is_none() => {
                let hint = "name the one that holds its workload.toml, or put the workload before --resume";
                return resume::workload_of(folder, hint).map(Asked::one);
            }
            (None, Some(Some(_))) => {
                return Err(Failure::Usage(
                    "a run goes on as it was begun; leave out --set, --engine, --device, --threads, --seed and --steps"
                        .to_owned(),
                ));
            }
            (Some(_), Some(Some(_))) => {
                return Err(Failure::Usage(
                    "--resume FOLDER goes on with the workload in that folder; leave out the workload, or FOLDER"
                        .to_owned(),
                ));
            }
            (None, None | Some(None)) => {
                return Err(Failure::Usage(
                    "which run? Name the workload before --resume, or a run's folder after it"
                        .to_owned(),
                ));
            }
        };
        let text = parse::text(file)?;
        let axes = self.axes(file, &text, &set)?;
        let resolve = |of_point: &[String]| {
            let mut set = self.shortened(&text, [&set[..], of_point].concat())?;
            let resolve = |set| ready::resolve(file, text.clone(), set, missing, self.quiet);
            let (resolved, told) = resolve(set.clone())?;
            let nobody_says =
                matches!(resolved.origin.get("engine.threads"), None | Some(Origin::Default));
            match ranks.filter(|_| nobody_says) {
                Some(first) => {
                    set.push(format!("engine.threads={}", first.team.threads()));
                    resolve(set)
                }
                None => Ok((resolved, told)),
            }
        };
        if axes.is_empty() {
            let (resolved, told) = resolve(&[])?;
            ready::say(&told);
            return Ok(Asked::one(resolved));
        }
        self.fits_a_sweep(&axes)?;
        let plan = Plan::new(axes, resolve, |w| self.seeds_from(w.train.seed))?;
        Ok(Asked::Sweep(plan))
    }

    /// The axes of a sweep: those of the command line, and those of the file whose keys nothing else
    /// sets.
    fn axes(&self, file: &Path, text: &str, set: &[String]) -> Result<Vec<Axis>, Failure> {
        let sets =
            |key: &str| set.iter().any(|s| s.split_once('=').is_some_and(|(k, _)| k.trim() == key));
        for (i, axis) in self.sweep.iter().enumerate() {
            let wrong = if self.sweep[..i].iter().any(|a| a.key == axis.key) {
                "is swept twice; give all its values in one --sweep"
            } else if sets(&axis.key) {
                "is set and swept; leave one of them out"
            } else {
                continue;
            };
            return Err(Failure::Usage(format!("--sweep {}: {wrong}", axis.key)));
        }
        let of_line = |key: &str| self.sweep.iter().find(|a| a.key == key);
        let of_file = parse::axes(file, text)?.into_iter().filter(|a| !sets(&a.key));
        // The file's order, with the values of the command line.
        let mut axes: Vec<Axis> = of_file.map(|a| of_line(&a.key).cloned().unwrap_or(a)).collect();
        for axis in &self.sweep {
            if !axes.iter().any(|a| a.key == axis.key) {
                axes.push(axis.clone());
            }
        }
        Ok(axes)
    }

    /// Refuses what a sweep cannot do.
    fn fits_a_sweep(&self, axes: &[Axis]) -> Result<(), Failure> {
        let single = [
            ("--loader-only", self.loader_only),
            ("--reference", self.reference.is_some()),
            ("--trace", self.trace.is_some()),
            ("--profile", self.profile),
            ("--format", self.format.is_some()),
        ];
        if let Some((option, _)) = single.into_iter().find(|(_, given)| *given) {
            return Err(Failure::Usage(format!(
                "{option} is for one workload, and this is a sweep; leave it out, or give each swept key one value by --set"
            )));
        }
        let seeds = self.runs > 1 || !self.seeds.is_empty();
        if seeds && axes.iter().any(|a| a.key == "train.seed") {
            return Err(Failure::Usage(
                "train.seed is swept, so that its values are the seeds; leave out --runs and --seeds"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The overrides `set` of the workload `text`, with those of `--steps` behind them.
    fn shortened(&self, text: &str, set: Vec<String>) -> Result<Vec<String>, Failure> {
        let Some(steps) = self.steps else { return Ok(set) };
        let short = Short { steps, evaluates: false, labelled: true };
        let own = Given::new(text, &set).overrides(short);
        match short::in_vain(&set, &own) {
            None => Ok([set, own].concat()),
            Some(key) => Err(Failure::Usage(format!(
                "--steps {steps} trains so many steps without evaluation and target, so that {key} has no effect; leave one of them out"
            ))),
        }
    }

    /// The run that is to go on, if one is to.
    pub(in crate::cli) fn resume(&self, resolved: &Resolved) -> Result<Option<Resume>, Failure> {
        if self.resume.is_some() && (self.runs > 1 || !self.seeds.is_empty()) {
            return Err(Failure::Usage(
                "--resume cannot be used with --runs or --seeds, but for a sweep; it goes on with one run"
                    .to_owned(),
            ));
        }
        match &self.resume {
            None => Ok(None),
            Some(Some(folder)) => resume::in_folder(folder, resolved).map(Some),
            Some(None) => {
                if !resolved.workload.checkpoint.is_on() {
                    return Err(Failure::Usage(
                        "this workload writes no checkpoints; say when, as in --set checkpoint.every_steps=1000"
                            .to_owned(),
                    ));
                }
                let found = resume::newest(&self.results, resolved)?;
                if found.is_none() && !self.quiet {
                    errln!(
                        "no run of this workload below {} can go on; a new one begins",
                        self.results.display()
                    );
                }
                Ok(found)
            }
        }
    }

    /// Values that are replaced; those of options of their own come after every `--set`.
    fn overrides(&self) -> Vec<String> {
        let mut set = self.set.clone();
        set.extend(self.engine.as_ref().map(|e| format!("engine.kind={e}")));
        set.extend(self.device.as_ref().map(|d| format!("engine.device=\"{d}\"")));
        set.extend(self.threads.map(|n| format!("engine.threads={n}")));
        // One seed of a list is that of the one run.
        let only = self.seeds.first().filter(|_| self.seeds.len() == 1).copied();
        set.extend(self.seed.or(only).map(|n| format!("train.seed={n}")));
        set
    }

    /// Seeds of all runs; those that are not given count up from `first`.
    pub(super) fn seeds_from(&self, first: u64) -> Result<Vec<u64>, Failure> {
        let seeds = match &self.seeds {
            seeds if seeds.is_empty() => {
                let runs = u64::from(self.runs);
                if first > MAX_SEED - (runs - 1) {
                    return Err(Failure::Usage(format!(
                        "{runs} seeds from {first} on pass {MAX_SEED}, the largest; begin with a smaller one"
                    )));
                }
                (first..first + runs).collect()
            }
            seeds => seeds.clone(),
        };
        let mut sorted: Vec<u64> = seeds.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => Err(Failure::Usage(format!(
                "seed {} twice; runs of a series need different seeds",
                twice[0]
            ))),
            None => Ok(seeds),
        }
    }
}
