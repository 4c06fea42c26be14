//! What a person sees of data that are prepared before a run.

use super::{
    Exit, Failure,
    bar::Bar,
    progress::{clock, thousands},
};
use crate::{
    data::{
        preprocess::prepare::Progress,
        source::prepared::{Begins, News},
    },
    train::memory::shown,
    workload::Workload,
};
use std::sync::atomic::AtomicBool;

/// Shows it: lines, and a bar or plain progress.
pub(super) struct Preparing {
    bar: Bar,
    quiet: bool,
}

impl Preparing {
    /// Shows nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Preparing { bar: Bar::new(quiet), quiet }
    }

    /// Shows what is told.
    pub fn hear(&self, news: &News<'_>) {
        if self.quiet {
            return;
        }
        match news {
            News::Waits(folder) => {
                errln!("waiting for another process that prepares {}", folder.display())
            }
            News::Begins(begins) => {
                if let Some(missing) = &begins.missing {
                    errln!("note: {missing}");
                }
                errln!("{}", begin_line(begins));
            }
            News::Goes(Progress::Encode { bytes, total, samples }) => {
                self.bar.tell("encoding", *bytes, *total, Some(*samples))
            }
            News::Goes(Progress::Other { what, bytes, total }) => {
                self.bar.tell(what, *bytes, *total, None)
            }
            News::Interrupted(folder) => {
                self.bar.finish();
                errln!("interrupted; the next run goes on with {}", folder.display());
            }
            News::Ready(ready) => {
                self.bar.finish();
                errln!("{}", ready.sentence());
            }
        }
    }

    /// Has the data of a workload prepared, if they are to be and are not; what ends the command if
    /// they cannot be.
    ///
    /// # Errors
    /// As preparing.
    pub fn prepare(
        quiet: bool,
        workload: &Workload,
        stop: &AtomicBool,
    ) -> Result<Option<Exit>, Failure> {
        let show = Preparing::new(quiet);
        let done = workload.prepare_data(stop, &mut |news| show.hear(news))?;
        Ok((!done).then_some(Exit::Interrupted))
    }
}

/// What will be done, in one line.
fn begin_line(b: &Begins) -> String {
    let goes_on = if b.resumed { "going on with preparing" } else { "preparing" };
    let files = if b.raw_files == 1 { "raw file" } else { "raw files" };
    let seconds = b.seconds.map_or(String::new(), |seconds| {
        format!("; reading takes about {}, shuffling and writing come after it", clock(seconds))
    });
    format!(
        "{goes_on} {} {files} ({}) by {} in {}: about {} will be written, at most {} at once{seconds}",
        thousands(b.raw_files as u64),
        shown(b.raw_bytes),
        b.recipe,
        b.folder.display(),
        shown(b.bytes),
        shown(b.peak_bytes)
    )
}
