//! Shapes of launches. They depend on the shapes of the work alone, never on the device, and so do
//! the sums that blocks leave.

use super::driver::Launch;

/// Threads of a block, where nothing asks for another number.
const THREADS: usize = 256;

/// Most blocks in a row; kernels go on with what remains.
const BLOCKS: usize = 1 << 14;

/// Rows whose columns are summed by one thread.
pub(super) const SUM_ROWS: usize = 64;

/// Starts a kernel: driver, source, kernel, shape, arguments.
macro_rules! launch {
    ($driver:expr, $source:expr, $kernel:literal, $launch:expr, $($arg:expr),* $(,)?) => {
        // SAFETY: a launcher passes what the kernel beside it takes, and places whose sizes it has
        // checked.
        unsafe { $driver.launch(&$source, $kernel, $launch, &[$($crate::backend::cuda::driver::arg(&$arg)),*]) }
    };
}
pub(super) use launch;

impl Launch {
    /// Work on `n` elements, some 16 of them a thread at most.
    pub(super) fn all(n: usize) -> Launch {
        Launch {
            grid: [n.div_ceil(THREADS).clamp(1, BLOCKS) as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
        }
    }

    /// As [`Launch::all`] with few enough blocks for their sums to be added by one.
    pub(super) fn sums(n: usize) -> Launch {
        Launch { grid: [n.div_ceil(4 * THREADS).clamp(1, 1024) as u32, 1, 1], ..Launch::all(1) }
    }

    /// One block of many threads.
    pub(super) fn one() -> Launch {
        Launch { grid: [1; 3], block: [1024, 1, 1], shared: 0 }
    }

    /// Work on rows of `cols` columns: as many threads a row as there are columns, more or less.
    pub(super) fn rows(rows: usize, cols: usize) -> Launch {
        Launch::lanes(rows, cols.next_power_of_two().min(THREADS))
    }

    /// As [`Launch::rows`], with several blocks a row (`blockIdx.y`) where there are few rows: one
    /// would leave most of the device idle.
    pub(super) fn wide(rows: usize, cols: usize) -> Launch {
        let rows = Launch::rows(rows, cols);
        let blocks = cols.div_ceil(4 * THREADS).clamp(1, (BLOCKS / rows.grid[0] as usize).max(1));
        Launch { grid: [rows.grid[0], blocks as u32, 1], ..rows }
    }

    /// Work on rows with `lanes` threads each.
    pub(super) fn lanes(rows: usize, lanes: usize) -> Launch {
        let at_once = THREADS / lanes;
        Launch {
            grid: [rows.div_ceil(at_once).clamp(1, BLOCKS) as u32, 1, 1],
            block: [lanes as u32, at_once as u32, 1],
            shared: 0,
        }
    }

    /// Work on columns of blocks of [`SUM_ROWS`] rows.
    pub(super) fn columns(rows: usize, cols: usize) -> Launch {
        let threads = cols.next_power_of_two().clamp(32, 128);
        Launch {
            grid: [rows.div_ceil(SUM_ROWS) as u32, cols.div_ceil(threads) as u32, 1],
            block: [threads as u32, 1, 1],
            shared: 0,
        }
    }

    /// Work with a thread for each of `n` elements.
    pub(super) fn each(n: usize) -> Launch {
        Launch { grid: [n.div_ceil(128).max(1) as u32, 1, 1], block: [128, 1, 1], shared: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_rows_are_shared_among_blocks() {
        assert_eq!(Launch::wide(1, 2_400_000).grid, [1, 2344, 1]);
        assert_eq!(Launch::wide(1, 1 << 30).grid, [1, 1 << 14, 1]);
        assert_eq!(
            (Launch::wide(1, 1024).grid, Launch::wide(1, 1025).grid),
            ([1, 1, 1], [1, 2, 1])
        );
        assert_eq!(
            (Launch::wide(65_536, 3328).grid, Launch::wide(3, 3328).grid),
            ([1 << 14, 1, 1], [3, 4, 1])
        );
    }
}
