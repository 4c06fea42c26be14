//! `dlrm-bench data verify`.

use super::super::{Exit, Failure, bar::Bar, examples, progress::thousands};
use crate::data::manifest::{Manifest, ManifestError, NAME};
use clap::Args;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  dlrm-bench data verify prepared/
  dlrm-bench data verify prepared/manifest.json --json";

/// Check prepared data against their manifest
///
/// Reads every file that the manifest names and compares its size and its
/// BLAKE3 with what was written; says which are damaged, and how. The exit code
/// is 1 if one is.
#[derive(Debug, Args)]
#[command(after_help = examples(EXAMPLES))]
pub struct VerifyArgs {
    /// The folder, or its manifest.json
    pub path: PathBuf,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Runs the command.
pub(super) fn run(args: &VerifyArgs) -> Result<Exit, Failure> {
    let folder = match args.path.file_name() {
        Some(name) if name == NAME => args.path.parent().unwrap_or(Path::new("")),
        _ => &args.path,
    };
    let Some(manifest) = Manifest::read(folder)? else {
        return Err(Failure::Input(format!(
            "{}: has no {NAME}, so nothing tells what should be there",
            folder.display()
        )));
    };
    let samples: u64 = manifest.splits.iter().map(|s| s.samples).sum();
    if manifest.files.is_empty() || samples == 0 {
        let lacks = if samples == 0 { "samples" } else { "files" };
        return Err(Failure::Input(format!(
            "{}: {NAME} tells of no {lacks}, so there is nothing to check",
            folder.display()
        )));
    }
    let bar = Bar::new(args.quiet || args.json);
    let (mut bytes, total) = (0, manifest.bytes());
    let damaged = manifest.verify(folder, |n| {
        bytes += n;
        bar.tell("verifying", bytes, total, None);
    });
    bar.finish();
    if args.json {
        let answer = serde_json::json!({"whole": damaged.is_empty(), "damaged": damaged, "manifest": manifest});
        outln!("{answer}");
    } else {
        for damage in &damaged {
            outln!("{}: {}", folder.join(&damage.file).display(), damage.what);
        }
        if damaged.is_empty() {
            let (files, samples) = (manifest.files.len(), thousands(samples));
            outln!(
                "{}: {files} files, {} bytes, {samples} samples, as they were written by {} ({})",
                folder.display(),
                thousands(total),
                manifest.made_by,
                manifest.recipe
            );
        } else {
            outln!(
                "{}: damaged files: {} of {}",
                folder.display(),
                damaged.len(),
                manifest.files.len()
            );
        }
    }
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::Fails })
}

impl From<ManifestError> for Failure {
    fn from(e: ManifestError) -> Self {
        Failure::Input(e.to_string())
    }
}
