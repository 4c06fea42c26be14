//! Programs that the system keeps from io_uring, as the seccomp filters of containers do.

use std::{io, os::unix::process::CommandExt, process::Command};

/// What such a program says of who reads.
pub const TOLD: &str = "16 threads instead of io_uring: the system does not allow it";

/// Lets the system calls of io_uring fail in a program that is to be started, with EPERM.
pub fn refuse(command: &mut Command) {
    let instruction =
        |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let returns = libc::BPF_RET | libc::BPF_K;
    // Jumps: to the next if it holds, else over one. io_uring_setup, io_uring_enter and io_uring_register are 425 to 427 on every architecture;
    // the number of the call comes first in seccomp_data.
    let filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 425, 1),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 427, 1),
        instruction(returns, libc::SECCOMP_RET_ALLOW, 0),
        instruction(returns, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0),
    ];
    let install = move || {
        let program =
            libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: takes numbers; what it sets holds for this process and those that it starts.
        let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: the kernel copies the program, which lives until then.
        let refused = unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if set == 0 && refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(install) };
}
