//! Signals to programs that tests have started.

use std::process::Child;

/// Sends `signal`, as `libc::SIGTERM`: by the system's call, since not every machine has a program
/// for it.
pub fn send(child: &Child, signal: libc::c_int) {
    let id = child.id().try_into().unwrap();
    // SAFETY: takes two numbers; nobody has waited for the child, so its number is no other
    // program's.
    let sent = unsafe { libc::kill(id, signal) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}
