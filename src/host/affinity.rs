//! Binding threads to cores.

/// Binds the calling thread to the `n`-th (modulo their number) of the cores that it may run on
/// now. Where the system has no such call, or refuses, the thread stays free: that costs speed at
/// most.
#[cfg(target_os = "linux")]
pub fn pin(n: usize) {
    // SAFETY: a set of cores is plain bits; both calls get its size, and thread 0 is the caller.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut allowed) != 0 {
            return;
        }
        let count = libc::CPU_COUNT(&allowed).max(1) as usize;
        let cores = (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &allowed));
        if let Some(core) = cores.into_iter().nth(n % count) {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core, &mut one);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &one);
        }
    }
}

/// Other systems place threads by themselves.
#[cfg(not(target_os = "linux"))]
pub fn pin(_n: usize) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn a_pinned_thread_has_one_core() {
        std::thread::spawn(|| {
            super::pin(usize::MAX);
            // SAFETY: as above.
            let count = unsafe {
                let mut allowed: libc::cpu_set_t = std::mem::zeroed();
                assert_eq!(
                    libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut allowed),
                    0
                );
                libc::CPU_COUNT(&allowed)
            };
            assert_eq!(count, 1);
        })
        .join()
        .unwrap();
    }
}
