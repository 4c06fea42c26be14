//! Moves finished files to the output folder, and writes the manifest that describes them.

use super::{
    PrepareError, Progress, Tell,
    state::checkpoint::{Checkpoint, OutputFile, Stage},
    worker::Worker,
};
use crate::{
    data::{
        manifest::{ColumnFacts, FileFacts, Manifest, Split, hash},
        preprocess::criteo::column_name,
    },
    host::atomic_file,
};
use std::{fs::OpenOptions, path::Path};

/// Moves all files to the output folder, then writes the manifest. After a kill it can be called
/// again.
///
/// # Errors
/// If a file cannot be moved, or one that was moved before a kill is not as it was written.
pub fn publish(
    worker: &Worker,
    checkpoint: &Checkpoint,
    tell: Tell,
) -> Result<Manifest, PrepareError> {
    let job = worker.job;
    let Stage::Publish { output } = &checkpoint.stage else { return Err(worker.unusable()) };
    for OutputFile { name, from, written } in &output.files {
        let from = worker.path(from);
        let to = job.output.join(name);
        if from.exists() {
            move_file(&from, &to, written.bytes).map_err(PrepareError::write(&to))?;
            continue;
        }
        // It was moved before a kill.
        let (mut bytes, total) = (0, written.bytes);
        let found = hash(&to, &mut |n| {
            bytes += n;
            tell(Progress::Other { what: "verifying", bytes, total });
        });
        if found.map_err(PrepareError::write(&to))? != written.blake3 {
            let work = worker.work.display();
            return Err(PrepareError::Stale(format!(
                "{}: is not as it was written; delete it and {work} to begin anew",
                to.display()
            )));
        }
    }
    let Checkpoint { recipe, parameters, inputs, tally, .. } = checkpoint;
    let mut manifest = Manifest::new(recipe.name(), parameters.named(*recipe), inputs.clone());
    let split = |(name, file, samples): &(String, String, u64)| Split {
        name: name.clone(),
        file: file.clone(),
        samples: *samples,
    };
    manifest.splits = output.splits.iter().map(split).collect();
    manifest.label_rate = tally.positives as f64 / tally.total() as f64;
    manifest.skipped_lines = tally.skipped;
    manifest.dropped_samples = tally.lines - tally.total();
    for (column, &missing) in tally.missing.iter().enumerate() {
        let name = column_name(column);
        let ids = output.ids.iter().find(|(of, _)| *of == name).map(|(_, ids)| *ids);
        manifest.columns.push(ColumnFacts { name, ids, missing });
    }
    let file = |f: &OutputFile| FileFacts {
        name: f.name.clone(),
        bytes: f.written.bytes,
        blake3: f.written.blake3.clone(),
    };
    manifest.files = output.files.iter().map(file).collect();
    manifest.write(&job.output).map_err(PrepareError::write(&job.output))?;
    Ok(manifest)
}

fn move_file(from: &Path, to: &Path, bytes: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(from)?;
    if file.metadata()?.len() != bytes {
        file.set_len(bytes)?;
    }
    if let Some(folder) = to.parent() {
        atomic_file::create_folders(folder)?;
    }
    atomic_file::publish(from, to)
}
