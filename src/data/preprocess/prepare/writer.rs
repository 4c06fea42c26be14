//! A thread that writes records while the next ones are encoded.

use super::{
    PrepareError,
    state::growing::{Growing, Written},
};
use std::{
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::{Scope, ScopedJoinHandle},
};

enum Message {
    Records(Vec<u8>),
    /// Bring all to the disk, and say how far it counts.
    Sync(Sender<Written>),
}

/// Writes to a file; ends with its first error.
pub struct Writer<'scope> {
    to: SyncSender<Message>,
    empty: Receiver<Vec<u8>>,
    errors: Receiver<PrepareError>,
    thread: ScopedJoinHandle<'scope, Option<Growing>>,
}

impl<'scope> Writer<'scope> {
    /// Goes on behind what is in `file`.
    pub fn start(scope: &'scope Scope<'scope, '_>, mut file: Growing) -> Self {
        let (to, from) = sync_channel(1);
        let (recycled, empty) = channel();
        let (failed, errors) = channel();
        let thread = scope.spawn(move || {
            for message in from {
                let done = match message {
                    Message::Records(records) => {
                        let done = file.append(&records);
                        // The other side may be gone.
                        let _ = recycled.send(records);
                        done
                    }
                    Message::Sync(answer) => file.sync().map(|written| {
                        let _ = answer.send(written);
                    }),
                };
                if let Err(e) = done {
                    let _ = failed.send(e);
                    return None;
                }
            }
            Some(file)
        });
        Writer { to, empty, errors, thread }
    }

    /// Memory of records that are written.
    pub fn buffer(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_default()
    }

    /// Writes records behind all others.
    pub fn send(&self, records: Vec<u8>) -> Result<(), PrepareError> {
        self.to.send(Message::Records(records)).map_err(|_| self.error())
    }

    /// Waits until all is on disk, and tells how far the file counts.
    pub fn sync(&self) -> Result<Written, PrepareError> {
        let (answer, wait) = channel();
        self.to.send(Message::Sync(answer)).map_err(|_| self.error())?;
        wait.recv().map_err(|_| self.error())
    }

    /// The same, at the end.
    pub fn finish(self) -> Result<Written, PrepareError> {
        let written = self.sync()?;
        drop(self.to);
        // It has nothing left to do that could fail.
        let _ = self.thread.join();
        Ok(written)
    }

    fn error(&self) -> PrepareError {
        let gone = || PrepareError::Disk("the thread that writes records is gone".into());
        self.errors.recv().unwrap_or_else(|_| gone())
    }
}
