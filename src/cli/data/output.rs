//! From a reader to a file that appears whole or not at all.

use super::super::{Failure, progress::thousands};
use crate::{
    data::{
        DataError,
        format::{self, Format, Reader},
        rows::{Layout, Rows},
        whole::{publish, temporary},
    },
    train::memory::shown,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// Where to write, and how.
pub(super) struct Output<'a> {
    pub path: &'a Path,
    pub format: Format,
    /// Write over what is there.
    pub force: bool,
    /// Show no progress.
    pub quiet: bool,
}

/// How writing ended.
pub(super) enum Written {
    /// So many rows and bytes.
    Whole { rows: u64, bytes: u64 },
    /// `stop` was set; nothing is left.
    Interrupted,
}

impl Output<'_> {
    /// Refuses a file that is there already.
    fn check(&self, layout: &Layout) -> Result<(), Failure> {
        let there =
            format::files(self.path, self.format, layout).into_iter().find(|f| f.exists() && !format::is_shared(f, self.format));
        match there {
            Some(file) if !self.force => {
                Err(Failure::Usage(format!("{} is there already; --force writes over it", file.display())))
            }
            _ => Ok(()),
        }
    }

    /// Passes all rows of `reader` on; refuses to write over a file that is there already. They go to files of other names in the same folder, which take their names at the end.
    pub fn write(&self, reader: &mut dyn Reader, stop: &AtomicBool) -> Result<Written, Failure> {
        let layout = reader.layout();
        self.check(layout)?;
        let waiting = temporary(self.path);
        let files = |path: &Path| format::files(path, self.format, layout);
        let pairs: Vec<(PathBuf, PathBuf)> = files(&waiting).into_iter().zip(files(self.path)).collect();
        let bar = self.bar(reader.len());
        let done = self.copy(reader, &waiting, stop, &bar);
        bar.finish_and_clear();
        let written = match done {
            Ok(Some(rows)) => publish_all(&pairs).map(|bytes| Written::Whole { rows, bytes }),
            Ok(None) => Ok(Written::Interrupted),
            Err(e) => Err(self.failure(e, &waiting, &pairs)),
        };
        if !matches!(written, Ok(Written::Whole { .. })) {
            for (file, _) in &pairs {
                // It may never have come to be.
                let _ = fs::remove_file(file);
            }
        }
        // Where a data set is a folder, its files have been moved out of the one in which they waited.
        if waiting.is_dir() {
            let _ = fs::remove_dir(&waiting);
        }
        written
    }

    /// The rows passed on, unless `stop` was set.
    fn copy(&self, reader: &mut dyn Reader, path: &Path, stop: &AtomicBool, bar: &ProgressBar) -> Result<Option<u64>, DataError> {
        let mut rows = Rows::new(reader.layout());
        let mut writer = format::create(path, self.format, reader.layout())?;
        let (chunk, mut done) = (format::chunk(reader.layout()), 0);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            reader.read(chunk, &mut rows)?;
            if rows.is_empty() {
                break;
            }
            writer.write(&rows)?;
            done += rows.len() as u64;
            bar.set_position(done);
        }
        writer.finish()?;
        Ok(Some(done))
    }

    /// Shows nothing where nobody looks.
    fn bar(&self, rows: Option<u64>) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match rows {
            Some(n) => (ProgressBar::new(n), "{elapsed_precise} {bar:20} {human_pos} of {human_len} rows, {per_sec}, {eta} left"),
            None => (ProgressBar::no_length(), "{elapsed_precise} {human_pos} rows, {per_sec}"),
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        }
    }

    /// Names the file as the user does: nobody asked for the temporary one.
    fn failure(&self, e: DataError, waiting: &Path, pairs: &[(PathBuf, PathBuf)]) -> Failure {
        let own = |path: &Path| {
            let file = pairs.iter().find(|(from, _)| from == path).map(|(_, to)| to.clone());
            file.or_else(|| (path == waiting).then(|| self.path.to_owned()))
        };
        match e {
            DataError::Io { path, source } => match own(&path) {
                Some(path) => Failure::Output(format!("cannot write {}: {source}", path.display())),
                None => DataError::Io { path, source }.into(),
            },
            DataError::Row { path, row, what } => DataError::Row { path: own(&path).unwrap_or(path), row, what }.into(),
            DataError::File { path, what } => DataError::File { path: own(&path).unwrap_or(path), what }.into(),
            e => e.into(),
        }
    }
}

/// Gives each file its name and adds up their bytes.
fn publish_all(pairs: &[(PathBuf, PathBuf)]) -> Result<u64, Failure> {
    let mut bytes = 0;
    for (from, to) in pairs {
        let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), fs::create_dir_all);
        let put = folder.and_then(|()| fs::metadata(from)).and_then(|m| publish(from, to).map(|()| m.len()));
        bytes += put.map_err(|e| Failure::Output(format!("cannot write {}: {e}", to.display())))?;
    }
    Ok(bytes)
}

/// `1,234 rows, 5.6 MB: out.bin`.
pub(super) fn summary(path: &Path, rows: u64, bytes: u64) -> String {
    format!("{} rows, {}: {}", thousands(rows), shown(bytes), path.display())
}
