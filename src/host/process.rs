//! Child processes that end with their parent and take what they started with them.

use std::{
    io,
    process::{Child, Command},
};

/// Makes the program that `command` starts the leader of a process group of its own, for
/// [`kill_group`]. On Linux it is killed when the thread that started it ends.
pub fn isolate(command: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
        #[cfg(target_os = "linux")]
        {
            use nix::sys::{prctl::set_pdeathsig, signal::Signal};
            // SAFETY: between fork and exec the closure makes one system call, which takes
            // numbers, and neither allocates nor locks.
            unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        }
    }
    #[cfg(not(unix))]
    let _ = command;
}

/// Whether `child` has ended. On Linux it is not waited for, so that its number stays its own.
///
/// # Errors
/// If the system does not know the child.
pub fn has_ended(child: &mut Child) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use nix::{
            errno::Errno,
            sys::wait::{Id, WaitPidFlag as Flag, WaitStatus, waitid},
        };
        match waitid(Id::Pid(id(child)), Flag::WEXITED | Flag::WNOHANG | Flag::WNOWAIT) {
            Err(Errno::EINTR) => Ok(false),
            status => Ok(status? != WaitStatus::StillAlive),
        }
    }
    #[cfg(not(target_os = "linux"))]
    Ok(child.try_wait()?.is_some())
}

/// Kills the process group that `child` leads, see [`isolate`], where any of it is left.
pub fn kill_group(child: &mut Child) {
    #[cfg(unix)]
    let _ = nix::sys::signal::killpg(id(child), nix::sys::signal::Signal::SIGKILL);
    #[cfg(not(unix))]
    let _ = child.kill();
}

#[cfg(unix)]
fn id(child: &Child) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(child.id().cast_signed())
}

/// Makes this process the parent of every descendant whose own parent ends, for [`end_orphans`].
/// Does nothing on systems other than Linux.
pub fn adopt_orphans() {
    // A kernel that refuses leaves orphans to init, as ever.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Kills and waits for all children of this process, of which none may be of use any more. Gives up
/// on those that the system does not end within a second.
pub fn end_orphans() {
    #[cfg(target_os = "linux")]
    for _ in 0..500 {
        use nix::sys::{
            signal::{Signal, kill},
            wait::{WaitPidFlag, waitpid},
        };
        let orphans = children();
        if orphans.is_empty() {
            return;
        }
        for orphan in orphans {
            let _ = kill(orphan, Signal::SIGKILL);
            let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The children of all threads of this process.
#[cfg(target_os = "linux")]
fn children() -> Vec<nix::unistd::Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
    let text: String = lists.collect();
    let numbers = text.split_whitespace().filter_map(|n| n.parse().ok());
    numbers.map(nix::unistd::Pid::from_raw).collect()
}
