//! Whether the process was started with standard output and standard error open. Rust's runtime
//! opens /dev/null in their place before `main`, so that all that is written would be lost unsaid.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether standard output (1) or standard error (2) was closed.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

#[cfg(target_os = "linux")]
extern "C" fn look() {
    for (descriptor, closed) in (0..).zip(&CLOSED) {
        // SAFETY: asks for the flags of a number, which need not be an open file.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
        closed.store(flags == -1, Ordering::Relaxed);
    }
}

/// Called by the C library before Rust's runtime.
// SAFETY: the section holds addresses of functions without arguments, as this is one; `look` needs
// nothing of the runtime.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Refuses to write to a standard descriptor that was closed when the process began.
///
/// # Errors
/// If it was: "Bad file descriptor".
pub fn check(descriptor: usize) -> io::Result<()> {
    if CLOSED.get(descriptor).is_some_and(|c| c.load(Ordering::Relaxed)) {
        #[cfg(target_os = "linux")]
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(())
}
