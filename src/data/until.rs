//! Work that is given up when somebody asks for it.

use super::DataError;
use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
};

/// Between looks whether the work is to end.
const PAUSE: Duration = Duration::from_millis(50);

/// What `work` comes to, unless `stop` is set meanwhile: then `None`, at once. The work goes on
/// behind it until its end, or the program's, so it must leave nothing that anybody would find.
///
/// # Errors
/// As `work`, and if no thread can be started for it.
pub fn until<T: Send + 'static>(
    stop: &AtomicBool,
    work: impl FnOnce() -> Result<T, DataError> + Send + 'static,
) -> Result<Option<T>, DataError> {
    let (done, result) = channel();
    std::thread::Builder::new()
        .name("data".into())
        .spawn(move || {
            // Nobody may wait for it any more.
            let _ = done.send(work());
        })
        .map_err(|source| DataError::Io { path: "thread that opens the data".into(), source })?;
    loop {
        match result.recv_timeout(PAUSE) {
            Ok(result) => return result.map(Some),
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(DataError::Invalid("the thread that opens the data panicked".into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_ends_by_itself_or_is_given_up() {
        let stop = AtomicBool::new(false);
        assert_eq!(until(&stop, || Ok(7)).unwrap(), Some(7));
        let wrong = || Err::<u8, _>(DataError::Invalid("wrong".into()));
        assert_eq!(until(&stop, wrong).unwrap_err().to_string(), "wrong");
        let (wait, never) = channel::<()>();
        stop.store(true, Ordering::Relaxed);
        let since = Instant::now();
        let waits = move || {
            let _ = never.recv();
            Ok(7)
        };
        assert_eq!(until(&stop, waits).unwrap(), None);
        assert!(since.elapsed() < Duration::from_secs(5));
        drop(wait);
    }
}
