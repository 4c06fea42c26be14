//! The submission's files.

use super::{Entry, Package};
use crate::{host::atomic_file, results::ResultsError};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

impl Package {
    /// Writes `dir/ORG/`, which must not be there yet, whole or not at all.
    ///
    /// # Errors
    /// If it is there, or a file cannot be read or written.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, ResultsError> {
        let folder = dir.join(&self.org);
        // A link that leads nowhere is there too.
        if folder.symlink_metadata().is_ok() {
            let source = std::io::Error::new(
                ErrorKind::AlreadyExists,
                "it is there already; remove it, or choose another -o",
            );
            return Err(ResultsError::Write { path: folder, source });
        }
        atomic_file::create_folders(dir).map_err(ResultsError::write(dir))?;
        // A folder of its own, which nobody has left anything in; taken away again if it fails.
        let hidden = tempfile::Builder::new()
            .prefix(&format!(".tmp-{}-", self.org))
            .permissions(fs::Permissions::from_mode(0o777))
            .tempdir_in(dir)
            .map_err(ResultsError::write(dir))?;
        self.fill(hidden.path())?;
        // Named only when the disk has all of it, and done only when the disk has the name.
        atomic_file::sync_tree(hidden.path())
            .and_then(|()| fs::rename(hidden.path(), &folder))
            .map_err(ResultsError::write(&folder))?;
        // Renamed, it is not to be removed.
        let _ = hidden.keep();
        atomic_file::sync_folder(dir).map_err(ResultsError::write(&folder))?;
        Ok(folder)
    }

    fn fill(&self, root: &Path) -> Result<(), ResultsError> {
        for (name, description) in &self.systems {
            let path = root.join("systems").join(format!("{name}.json"));
            let text = serde_json::to_string_pretty(description)
                .map_err(|e| ResultsError::malformed(&path, e.to_string()))?;
            put(&path, format!("{text}\n").as_bytes())?;
        }
        for entry in &self.entries {
            let name = entry.benchmark.name;
            let results = root.join("results").join(&entry.system).join(name);
            for (i, run) in entry.runs.iter().enumerate() {
                put(&results.join(format!("result_{i}.txt")), &run.log)?;
            }
            let code = root.join("benchmarks").join(name).join("implementations/dlrm-bench");
            put(&code.join(format!("{}.md", entry.system)), entry.how_to_run().as_bytes())?;
            let workload = entry.runs[0].folder.join("workload.toml");
            let text = fs::read(&workload).map_err(ResultsError::read(&workload))?;
            put(&code.join(format!("{}.toml", entry.system)), &text)?;
        }
        Ok(())
    }
}

impl Entry {
    /// What one needs to run it again.
    fn how_to_run(&self) -> String {
        let record = &self.runs[0].record;
        let (name, system) = (self.benchmark.name, &self.system);
        let seeds: Vec<_> = self.runs.iter().map(|r| r.record.workload.seed.to_string()).collect();
        let mut text = format!("# {name} on {system}\n\n");
        if let Some(benchmark) = self.benchmark.rule_file {
            text += &format!(
                "No MLPerf round has this benchmark; its rules are those of dlrm-bench's `{benchmark}`.\n\n"
            );
        }
        text += &format!("Program: dlrm-bench {}", record.versions.dlrm_bench);
        if let Some(commit) = &record.versions.git_commit {
            text += &format!(", commit {commit}");
        }
        text += &format!(" ({})\n\n", record.versions.target);
        text += &format!(
            "```\ndlrm-bench run {system}.toml --seed SEED\n```\n\nSeeds, in order of `result_<n>.txt`: {}.\n",
            seeds.join(", ")
        );
        text
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), ResultsError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(ResultsError::write(folder))?;
    }
    fs::write(path, bytes).map_err(ResultsError::write(path))
}
