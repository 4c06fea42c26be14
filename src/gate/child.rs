//! A child process with an end: it is killed with all that it started when its time is over or the
//! gate is to stop, and what it says cannot fill the memory.

use crate::host::process::{adopt_orphans, end_orphans, has_ended, isolate, kill_group};
use std::{
    io::{self, Read},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// How often a child is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Of what a child writes to stderr, this many bytes are kept: the last ones.
const TAIL: usize = 64 << 10;

/// How a child came to its end.
pub(super) enum End {
    /// By itself.
    Exit(ExitStatus),
    /// Its time was over.
    Late,
    /// The gate is to stop.
    Stopped,
}

/// A child that is over.
pub(super) struct Ended {
    pub end: End,
    /// Seconds from its start.
    pub seconds: f64,
    /// The last of what it wrote to stderr.
    pub said: String,
}

/// Runs `command` until it ends, `deadline`, or `stop` is set. Nothing that it started survives it.
///
/// # Errors
/// If it cannot be started.
pub(super) fn run(
    command: &mut Command,
    deadline: Instant,
    stop: &AtomicBool,
) -> io::Result<Ended> {
    adopt_orphans();
    isolate(command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let (tail, done) = follow(child.stderr.take());
    let late = loop {
        match has_ended(&mut child) {
            // Whatever is wrong with looking, waiting tells.
            Ok(true) | Err(_) => break None,
            Ok(false) if stop.load(Ordering::Relaxed) => break Some(End::Stopped),
            Ok(false) if Instant::now() >= deadline => break Some(End::Late),
            Ok(false) => thread::sleep(POLL),
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    kill_group(&mut child);
    let status = child.wait()?;
    end_orphans();
    // Whoever got away and holds the pipe is not waited for.
    let _ = done.recv_timeout(Duration::from_secs(1));
    let said = tail.lock().unwrap_or_else(PoisonError::into_inner);
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(TAIL)..]).into_owned();
    Ok(Ended { end: late.unwrap_or(End::Exit(status)), seconds, said })
}

/// Reads `from` to its end and keeps the last of it; the receiver hears of the end.
fn follow(from: Option<impl Read + Send + 'static>) -> (Arc<Mutex<Vec<u8>>>, mpsc::Receiver<()>) {
    let (tell, done) = mpsc::channel::<()>();
    let tail = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&tail);
    thread::spawn(move || {
        let _tell = tell;
        let Some(mut from) = from else { return };
        let mut chunk = [0; 8192];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&chunk[..n]);
            if kept.len() > 4 * TAIL {
                let old = kept.len() - TAIL;
                kept.drain(..old);
            }
        }
    });
    (tail, done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_flood_is_kept() {
        let flood = io::repeat(b'x').take(50 << 20).chain(&b"error: the end"[..]);
        let (tail, done) = follow(Some(flood));
        assert!(done.recv_timeout(Duration::from_secs(60)).is_err());
        let tail = tail.lock().unwrap();
        assert!(tail.ends_with(b"error: the end"));
        assert!((TAIL..=5 * TAIL).contains(&tail.len()) && tail.capacity() < 16 * TAIL);
    }
}
