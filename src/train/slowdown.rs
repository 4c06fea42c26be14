//! A planted slowdown, to show that the gate finds it. Only in builds made with
//! `DLRM_BENCH_BUILD_TEST_SLOWDOWN` set, whose version says so; the share is then taken from
//! `DLRM_BENCH_TEST_SLOWDOWN` when the program runs (`5` makes each step take 5 % longer).

use std::{sync::OnceLock, time::Instant};

/// Waits until the step that began at `began` has taken its planted share longer.
pub(super) fn wait(began: Instant) {
    static SHARE: OnceLock<f64> = OnceLock::new();
    let percent = || std::env::var("DLRM_BENCH_TEST_SLOWDOWN").ok()?.parse::<f64>().ok();
    let share = *SHARE.get_or_init(|| percent().unwrap_or(0.0) / 100.0);
    let until = began.elapsed().mul_f64(1.0 + share.max(0.0));
    // Sleeping is not exact enough for a share of some milliseconds.
    while began.elapsed() < until {
        std::hint::spin_loop();
    }
}
