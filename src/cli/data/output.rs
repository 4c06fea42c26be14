//! From a reader to a file that appears whole or not at all.

use super::{
    super::{Failure, progress::thousands, terminal},
    NO_SAMPLE,
};
use crate::{
    data::{
        DataError,
        format::{self, Format, Reader, hotness::Counter},
        rows::{Layout, Rows, wrong},
    },
    host::atomic_file::{self, Lock, create_folders, publish, temporary},
    train::memory::shown,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Between looks whether another process is through with a file.
const PAUSE: Duration = Duration::from_millis(20);

/// Where to write, and how.
pub(super) struct Output<'a> {
    pub path: &'a Path,
    /// What the samples are read of, for messages.
    pub from: &'a Path,
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
        let files = format::files(self.path, self.format, layout);
        if files.len() > 1 && atomic_file::is_written_through(self.path) {
            return Err(Failure::Usage(format!(
                "{} is no regular file, but data of this format are {} files; name a new file",
                self.path.display(),
                files.len()
            )));
        }
        let there = files
            .into_iter()
            .find(|f| f.exists() && !format::is_shared(f, self.format))
            .filter(|f| !atomic_file::is_written_through(f));
        match there {
            Some(file) if !self.force => Err(Failure::Usage(format!(
                "{} is there already; --force writes over it",
                file.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Passes all rows of `reader` on; refuses to write over a file that is there already, or that
    /// another process is writing. They go to files of other names in the same folder, which take
    /// their names at the end.
    pub fn write(&self, reader: &mut dyn Reader, stop: &AtomicBool) -> Result<Written, Failure> {
        let layout = reader.layout();
        self.check(layout)?;
        let _held = self.hold(layout)?;
        // Whoever had it before may have put them there.
        self.check(layout)?;
        let through = atomic_file::is_written_through(self.path);
        let waiting = if through { atomic_file::waiting(self.path) } else { temporary(self.path) };
        let files = |path: &Path| format::files(path, self.format, layout);
        let pairs: Vec<(PathBuf, PathBuf)> =
            files(&waiting).into_iter().zip(files(self.path)).collect();
        let folder = self.folder(layout);
        let bar = self.bar(reader.len());
        let mut shared = None;
        let done = self.copy(reader, &waiting, stop, &bar, &mut shared);
        bar.finish_and_clear();
        let written = match done {
            Ok(Some(rows)) => self.publish_all(&pairs).map(|bytes| Written::Whole { rows, bytes }),
            Ok(None) => Ok(Written::Interrupted),
            Err(e) => Err(self.failure(e, &waiting, &pairs)),
        };
        if !matches!(written, Ok(Written::Whole { .. })) {
            // A shared file that waits may be that of another process.
            for (file, _) in pairs
                .iter()
                .filter(|(_, to)| shared.is_some() || !format::is_shared(to, self.format))
            {
                // It may never have come to be.
                let _ = fs::remove_file(file);
            }
        }
        // Where a data set is a folder, its files have been moved out of the one in which they
        // waited.
        if folder && waiting.is_dir() {
            let _ = fs::remove_dir_all(&waiting);
        }
        written
    }

    /// Reads all rows of `reader`, unless the file is there already, and counts their ids if there is
    /// a `counter`: the columns with as many as each row has; `None` if `stop` was set.
    pub fn count(
        &self,
        mut reader: Box<dyn Reader>,
        mut counter: Option<Counter>,
        stop: &AtomicBool,
    ) -> Result<Option<Layout>, Failure> {
        self.check(reader.layout())?;
        let layout = reader.layout().clone();
        let bar = self.bar(reader.len());
        let (chunk, mut rows) = (format::chunk(reader.layout()), Rows::new(reader.layout()));
        let mut all = || {
            while !stop.load(Ordering::Relaxed) {
                reader.read(chunk, &mut rows)?;
                if rows.is_empty() {
                    return Ok(true);
                }
                counter.iter_mut().try_for_each(|counter| counter.add(&rows))?;
                bar.inc(rows.len() as u64);
            }
            Ok(false)
        };
        let counted: Result<bool, DataError> = all();
        bar.finish_and_clear();
        Ok(counted?.then(|| counter.map_or(layout, Counter::layout)))
    }

    /// Whether a data set is a folder.
    fn folder(&self, layout: &Layout) -> bool {
        format::files(self.path, self.format, layout)
            .iter()
            .any(|f| f != self.path && f.starts_with(self.path))
    }

    /// Keeps other processes from writing the same files.
    fn hold(&self, layout: &Layout) -> Result<Held, Failure> {
        let failed =
            |e: io::Error| Failure::Output(format!("cannot write {}: {e}", self.path.display()));
        let mut held = Held { lock: None, made: Vec::new() };
        if atomic_file::is_written_through(self.path) {
            return Ok(held);
        }
        // A set of files has several names, but one first file.
        let mut first = format::files(self.path, self.format, layout)
            .into_iter()
            .next()
            .unwrap_or_else(|| self.path.to_owned());
        if self.folder(layout) {
            first = self.path.to_owned();
            let parent = first.parent().unwrap_or(Path::new(""));
            let missing = |p: &&Path| !p.as_os_str().is_empty() && !p.exists();
            held.made = parent.ancestors().take_while(missing).map(Path::to_owned).collect();
            if !held.made.is_empty() {
                create_folders(parent).map_err(failed)?;
            }
        }
        held.lock = Lock::of(&first).map_err(failed)?;
        if held.lock.is_none() {
            let what = format!(
                "{}: another process is writing it; wait for its end, or choose another name",
                self.path.display()
            );
            return Err(Failure::Usage(what));
        }
        Ok(held)
    }

    /// Waits until no other process is about to write the file that the data set shares with
    /// others; `None` if `stop` was set.
    fn hold_shared(&self, stop: &AtomicBool) -> Result<Option<Lock>, DataError> {
        let Some(file) = format::shared(self.path, self.format) else { return Ok(None) };
        while !stop.load(Ordering::Relaxed) {
            if let Some(lock) = Lock::of(&file)
                .map_err(|source| DataError::Io { path: temporary(&file), source })?
            {
                return Ok(Some(lock));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// The rows passed on, unless `stop` was set; from the end on, `shared` keeps others from the
    /// file that they share with this.
    fn copy(
        &self,
        reader: &mut dyn Reader,
        path: &Path,
        stop: &AtomicBool,
        bar: &ProgressBar,
        shared: &mut Option<Lock>,
    ) -> Result<Option<u64>, DataError> {
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
        if done == 0 {
            return Err(wrong(self.from, NO_SAMPLE));
        }
        *shared = self.hold_shared(stop)?;
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        writer.finish()?;
        Ok(Some(done))
    }

    /// Gives each file its name and adds up their bytes. A kill leaves the old set, the new one, or
    /// one that lacks a file and is not read; never parts of both, or data without the file that
    /// says what they are.
    fn publish_all(&self, pairs: &[(PathBuf, PathBuf)]) -> Result<u64, Failure> {
        let failed = |to: &Path, e: io::Error| {
            Failure::Output(format!("cannot write {}: {e}", to.display()))
        };
        let mut bytes = 0;
        // All that is likely to fail, before the old set goes.
        for (from, to) in pairs {
            let folder =
                to.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), create_folders);
            let free = if to.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(()) };
            let ready = folder
                .and(free)
                .and_then(|()| File::open(from))
                .and_then(|f| f.sync_all().and_then(|()| f.metadata()));
            bytes += ready.map_err(|e| failed(to, e))?.len();
        }
        for step in steps(pairs, self.format) {
            step.go().map_err(|e| failed(step.to, e))?;
        }
        Ok(bytes)
    }

    /// Shows nothing where nobody looks.
    fn bar(&self, rows: Option<u64>) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match rows {
            Some(n) => (
                ProgressBar::new(n),
                "{elapsed_precise} {bar:20} {human_pos} of {human_len} rows, {per_sec}, {eta} left",
            ),
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
            DataError::Row { path, row, what } => {
                DataError::Row { path: own(&path).unwrap_or(path), row, what }.into()
            }
            DataError::File { path, what } => {
                DataError::File { path: own(&path).unwrap_or(path), what }.into()
            }
            e => e.into(),
        }
    }
}

/// What is done to a file of a set that takes its place.
struct Step<'a> {
    /// Where it waits; without it, the old file is taken away.
    from: Option<&'a Path>,
    to: &'a Path,
}

impl Step<'_> {
    fn go(&self) -> io::Result<()> {
        match self.from {
            Some(from) => publish(from, self.to),
            None => match fs::remove_file(self.to) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
        }
    }
}

/// How a set takes its place: the old one goes, unless one rename does it all, and files that say
/// what the others are come first and go last.
fn steps(pairs: &[(PathBuf, PathBuf)], format: Format) -> Vec<Step<'_>> {
    let own = || pairs.iter().map(|(_, to)| to).filter(|to| !format::is_shared(to, format));
    let several = own().count() > 1;
    let removals = own().filter(|_| several).map(|to| Step { from: None, to });
    removals.chain(pairs.iter().rev().map(|(from, to)| Step { from: Some(from), to })).collect()
}

/// What keeps other processes out, and the folders that were made to hold it.
struct Held {
    lock: Option<Lock>,
    /// The innermost first.
    made: Vec<PathBuf>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lock = None;
        for folder in &self.made {
            // Only if nothing came to be in it.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Says `1,234 rows, 5.6 MB: out.bin`, and what else is to be told of the file; on standard error
/// where standard output is that file.
pub(super) fn summary(path: &Path, rows: u64, bytes: u64, more: &str) {
    let text = format!("{} rows, {}: {}{more}", thousands(rows), shown(bytes), path.display());
    terminal::tell_of(path, &text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        format::columns::Columns,
        rows::{Hotness, Numbers},
    };

    /// As many samples as ids, which are all the same.
    fn samples(layout: &Layout, n: u32) -> Rows {
        let mut rows = Rows::new(layout);
        for _ in 0..n {
            rows.labels.push(0.0);
            rows.dense.extend(layout.dense.iter().map(|_| f64::from(n)));
            rows.ids.iter_mut().for_each(|bags| bags.push([n]));
        }
        rows
    }

    #[test]
    fn a_kill_between_the_steps_leaves_no_mixture() {
        let layout = Layout::numbered(2, Numbers::Int32, [Hotness::One; 3]);
        for (format, name) in [
            (Format::LibSvm, "a.libsvm"),
            (Format::Numpy, "a.npy"),
            (Format::HugeCtr, "a.raw"),
            (Format::TorchRec, "a_dense.npy"),
            (Format::Intermediate, "a_intermediate_y.npy"),
            (Format::Nvidia, "train"),
            (Format::FuxiCtr, "train.csv"),
            (Format::Csv, "a.csv"),
        ] {
            for done in 0.. {
                let dir = tempfile::tempdir().unwrap();
                let put = |path: &Path, n: u32| {
                    let mut writer = format::create(path, format, &layout).unwrap();
                    writer.write(&samples(&layout, n)).unwrap();
                    writer.finish().unwrap();
                };
                let path = dir.path().join(name);
                // The old set is there, or nothing is.
                let force = done % 2 == 0;
                if force {
                    put(&path, 3);
                }
                let waiting = temporary(&path);
                put(&waiting, 4);
                let files = |path: &Path| format::files(path, format, &layout);
                let pairs: Vec<(PathBuf, PathBuf)> =
                    files(&waiting).into_iter().zip(files(&path)).collect();
                let output = Output { path: &path, from: &path, format, force, quiet: true };
                let all = steps(&pairs, format);
                fs::create_dir_all(pairs[0].1.parent().unwrap()).unwrap();
                all.iter().take(done / 2).for_each(|step| step.go().unwrap());
                let found =
                    format::open(&path, format, &Columns::default()).and_then(|mut reader| {
                        let mut rows = Rows::new(reader.layout());
                        reader.read(99, &mut rows)?;
                        Ok((reader.layout().ids.len(), rows.ids[0].indices.clone()))
                    });
                let end = done / 2 >= all.len();
                match found {
                    Ok((columns, ids)) => {
                        let old = force && ids == [3; 3];
                        assert!(
                            columns == 3 && (old && !end || ids == [4; 4]),
                            "{name}, {done}: {columns} {ids:?}"
                        );
                    }
                    Err(e) => assert!(!end, "{name}, {done}: {e}"),
                }
                if end {
                    // And all at once.
                    put(&waiting, 5);
                    output.publish_all(&pairs).unwrap();
                    break;
                }
            }
        }
    }
}
