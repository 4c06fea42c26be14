//! Who reads the row file.

use super::{ring::Ring, threads::READERS};
use std::{
    fmt,
    io::{self, ErrorKind},
};

/// Who is to read the row file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    /// io_uring, if the system has it and lets us; else threads.
    #[default]
    Ring,
    /// Threads.
    Threads,
}

/// Who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadBy {
    /// io_uring.
    Ring,
    /// Threads, as was asked for.
    Threads,
    /// Threads, since there is no io_uring here, and why.
    Instead(String),
}

impl ReadBy {
    /// Whom `reads` comes to on this system.
    pub fn here(reads: Reads) -> Self {
        match reads {
            Reads::Threads => ReadBy::Threads,
            Reads::Ring => match Ring::new() {
                Ok(_) => ReadBy::Ring,
                Err(e) => ReadBy::without(&e),
            },
        }
    }

    /// Threads, since io_uring cannot be had.
    pub(super) fn without(why: &io::Error) -> Self {
        // These say what a system has or allows; the text of the rest says more.
        let why = match why.kind() {
            ErrorKind::PermissionDenied => "the system does not allow it".to_owned(),
            ErrorKind::Unsupported => "the system does not have it".to_owned(),
            _ => why.to_string(),
        };
        ReadBy::Instead(why)
    }
}

impl fmt::Display for ReadBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadBy::Ring => write!(f, "io_uring"),
            ReadBy::Threads => write!(f, "{READERS} threads"),
            ReadBy::Instead(why) => write!(f, "{READERS} threads instead of io_uring: {why}"),
        }
    }
}
