//! Cache lines asked for ahead of use.

/// Asks for the cache line at `p` ahead of use. Any address will do.
#[inline(always)]
pub(crate) fn prefetch<T>(p: *const T) {
    // SAFETY: a prefetch never faults.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for `len` numbers at `p`, at most eight cache lines of them (the hardware goes on by
/// itself).
#[inline(always)]
pub(crate) fn prefetch_row<T>(p: *const T, len: usize) {
    let line = LINE / size_of::<T>();
    let mut at = 0;
    while at < len.min(8 * line) {
        prefetch(p.wrapping_add(at));
        at += line;
    }
}
