//! Standard output and standard error: a reader that goes away or a full disk never ends a command
//! before its work is done. The first thing that could not be shown is remembered, and the
//! command's exit code tells of it.

use super::{Exit, Failure, say};
use crate::host::{atomic_file, descriptors};
use std::{
    fmt,
    io::{self, ErrorKind, Write},
    path::Path,
    process::ExitCode,
    sync::OnceLock,
};

/// [`print!`] that cannot fail.
macro_rules! out {
    ($($what:tt)*) => {{
        let _ = $crate::cli::terminal::out(format_args!($($what)*));
    }};
}

/// [`println!`] that cannot fail.
macro_rules! outln {
    () => { out!("\n") };
    ($($what:tt)*) => { out!("{}\n", format_args!($($what)*)) };
}

/// [`eprintln!`] that cannot fail.
macro_rules! errln {
    ($($what:tt)*) => { $crate::cli::terminal::err(format_args!("{}\n", format_args!($($what)*))) };
}

/// Exit code where the reader of the output went away: 128 + SIGPIPE, as shells have it.
pub(super) const CLOSED: u8 = 141;

/// The first line that could not be written.
static LOST: OnceLock<Lost> = OnceLock::new();

struct Lost {
    stream: Stream,
    error: io::Error,
}

#[derive(Clone, Copy)]
enum Stream {
    Output,
    Error,
}

impl Stream {
    fn write(self, what: fmt::Arguments<'_>) -> io::Result<()> {
        let descriptor = match self {
            Stream::Output => 1,
            Stream::Error => 2,
        };
        descriptors::check(descriptor)?;
        // In one piece, between the lines of others.
        let text = what.to_string();
        match self {
            Stream::Output => {
                let mut to = io::stdout().lock();
                to.write_all(text.as_bytes())?;
                to.flush()
            }
            Stream::Error => io::stderr().lock().write_all(text.as_bytes()),
        }
    }

    /// Writes, or remembers why that is not possible.
    fn show(self, what: fmt::Arguments<'_>) -> io::Result<()> {
        self.write(what).inspect_err(|e| {
            let error =
                e.raw_os_error().map_or_else(|| e.kind().into(), io::Error::from_raw_os_error);
            let _ = LOST.set(Lost { stream: self, error });
        })
    }
}

/// Writes to standard output, for the macros `out!` and `outln!`.
///
/// # Errors
/// If it cannot be written, for those who would stop then; the exit code tells of it anyway.
pub(super) fn out(what: fmt::Arguments<'_>) -> io::Result<()> {
    Stream::Output.show(what)
}

/// Writes to standard error, for the macro `errln!`.
pub(super) fn err(what: fmt::Arguments<'_>) {
    let _ = Stream::Error.show(what);
}

/// Tells of an output that was written: on standard error where standard output is that file.
pub(super) fn tell_of(output: &Path, text: &str) {
    if atomic_file::is_stdout(output) {
        errln!("{text}");
    } else {
        outln!("{text}");
    }
}

/// The end of a command: says what went wrong, or what of the output was lost. A verdict keeps its
/// exit code, whoever could not read the reasons.
pub(super) fn end(done: Result<Exit, Failure>) -> ExitCode {
    ExitCode::from(match done {
        Ok(Exit::Done) => lost().unwrap_or(Exit::Done as u8),
        Ok(exit) => {
            lost();
            exit as u8
        }
        // Nobody is there to be told.
        Err(Failure::Closed) => CLOSED,
        Err(failure) => {
            say::say_error(&failure);
            failure.code()
        }
    })
}

/// The exit code where something could not be shown, which is said unless its reader went away.
pub(super) fn lost() -> Option<u8> {
    let Lost { stream, error } = LOST.get()?;
    if error.kind() == ErrorKind::BrokenPipe {
        return Some(CLOSED);
    }
    let name = match stream {
        Stream::Output => "standard output",
        Stream::Error => "standard error",
    };
    let failure = Failure::Output(format!("cannot write to {name}: {error}"));
    say::say_error(&failure);
    Some(failure.code())
}
