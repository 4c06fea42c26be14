//! Slices of the training samples that several processes take from one file, as DeepRec's WorkQueue
//! (docs, `WorkQueue(works, num_epochs, ..., num_slices)`) deals them out: whoever is faster takes
//! more. The file says which slice is next, so that processes may come, go, be killed and go on. A
//! slice counts as done when it is taken.

use super::{
    DataError,
    rows::{io, wrong},
};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The line that begins each such file.
const FIRST: &str = "dlrm-bench work queue 1";
/// Digits of each number: all that 64 bits can have, so that a number takes the same place whatever
/// it is.
const DIGITS: usize = 20;

/// Some consecutive samples of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// From 0.
    pub epoch: u64,
    /// The first sample.
    pub start: u64,
    /// Samples.
    pub n: u64,
}

/// A queue of slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkQueue {
    path: PathBuf,
    /// Samples of an epoch, and of a slice.
    samples: u64,
    slice: u64,
    epochs: u64,
}

impl WorkQueue {
    /// The queue in the file at `path`, which is made by whoever comes first, for `epochs` epochs
    /// of `samples` in slices of `slice`.
    pub fn new(path: &Path, samples: u64, slice: u64, epochs: u64) -> Self {
        WorkQueue { path: path.to_owned(), samples, slice: slice.max(1), epochs }
    }

    /// The next slice, which no other process will get; `None` after the last.
    ///
    /// # Errors
    /// If the file cannot be read or written, or is of other data.
    pub fn take(&self) -> Result<Option<Slice>, DataError> {
        let failed = |e| io(&self.path)(e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(failed)?;
        // Held until the file is closed, by the system if the process is killed.
        file.lock().map_err(failed)?;
        let next = self.read(&mut file)?;
        let (slices, text) = (self.samples.div_ceil(self.slice), self.text(next.saturating_add(1)));
        if slices == 0 || next / slices >= self.epochs {
            return Ok(None);
        }
        // One write of as many bytes as are there: a process that is killed has taken the slice or
        // not.
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(text.as_bytes()))
            .map_err(failed)?;
        let start = next % slices * self.slice;
        Ok(Some(Slice { epoch: next / slices, start, n: self.slice.min(self.samples - start) }))
    }

    /// The error that nothing is left.
    pub fn empty(&self) -> DataError {
        wrong(&self.path, "all slices of this queue have been taken; delete the file to begin anew")
    }

    fn text(&self, next: u64) -> String {
        let (samples, slice) = (self.samples, self.slice);
        format!(
            "{FIRST}\nsamples {samples:0DIGITS$}\nslice   {slice:0DIGITS$}\nnext    {next:0DIGITS$}\n"
        )
    }

    /// The number of slices that have been taken.
    fn read(&self, file: &mut File) -> Result<u64, DataError> {
        let whole = self.text(0).len();
        let mut bytes = Vec::new();
        file.take(whole as u64 + 1).read_to_end(&mut bytes).map_err(io(&self.path))?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let text = String::from_utf8_lossy(&bytes);
        let number = |name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        let found = (number("samples"), number("slice"), number("next"));
        match found {
            (Some(samples), Some(slice), Some(next))
                if text.len() == whole && text.starts_with(FIRST) =>
            {
                if (samples, slice) == (self.samples, self.slice) {
                    return Ok(next);
                }
                let what = format!(
                    "deals out {samples} samples in slices of {slice}, but here are {} in slices of {}; delete it to begin anew",
                    self.samples, self.slice
                );
                Err(wrong(&self.path, what))
            }
            _ => Err(wrong(
                &self.path,
                "is no work queue; delete it, or name another file in loader.queue",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_each_slice_once_and_a_new_process_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let queue = WorkQueue::new(&path, 103, 10, 3);
        let first = queue.take().unwrap();
        assert_eq!(first, Some(Slice { epoch: 0, start: 0, n: 10 }));
        let taken: Vec<Vec<Slice>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| std::iter::from_fn(|| queue.take().unwrap()).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for mine in &taken {
            assert!(mine.windows(2).all(|w| (w[0].epoch, w[0].start) < (w[1].epoch, w[1].start)));
        }
        let mut all: Vec<Slice> = taken.into_iter().flatten().chain(first).collect();
        all.sort_by_key(|s| (s.epoch, s.start));
        let want = (0..3).flat_map(|epoch| {
            (0..11).map(move |i| Slice { epoch, start: 10 * i, n: if i == 10 { 3 } else { 10 } })
        });
        assert_eq!(all, want.collect::<Vec<_>>());
        assert_eq!(queue.take().unwrap(), None);
        // More epochs are more slices of the same queue.
        assert_eq!(
            WorkQueue { epochs: 4, ..queue }.take().unwrap(),
            Some(Slice { epoch: 3, start: 0, n: 10 })
        );
    }

    #[test]
    fn other_files_are_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let queue = WorkQueue::new(&path, 100, 10, 1);
        queue.take().unwrap();
        let other = WorkQueue { samples: 90, ..queue.clone() }.take().unwrap_err().to_string();
        assert!(
            other.ends_with("deals out 100 samples in slices of 10, but here are 90 in slices of 10; delete it to begin anew")
        );
        let good = std::fs::read(&path).unwrap();
        for bad in [&b"x"[..], &good[..good.len() - 2], &[&good[..], b"\n"].concat()] {
            std::fs::write(&path, bad).unwrap();
            assert!(queue.take().unwrap_err().to_string().contains("is no work queue; delete it"));
        }
        assert_eq!(
            WorkQueue::new(dir.path(), 1, 1, 1).take().unwrap_err().to_string().lines().count(),
            1
        );
        assert_eq!(WorkQueue::new(&path.with_extension("x"), 0, 1, 1).take().unwrap(), None);
    }
}
