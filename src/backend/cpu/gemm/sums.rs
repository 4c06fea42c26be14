//! Sums that gradients share: over the samples of packed tiles, and of partial sums in their order.

use super::{
    kernel::Kernel,
    plan::{Blocks, share},
};
use crate::host::pool::{Pool, SharedMut};
use std::ops::Range;

/// Elements of partial sums that are worth a chunk.
const SUM_CHUNK: usize = 1 << 14;

/// Adds a block's sums over the samples to `db`, or sets them.
///
/// # Safety
/// `a` holds the packed tiles, whose elements of `db` are the caller's alone.
pub(super) unsafe fn add_sums<K: Kernel>(
    (m, tiles): (&Blocks, Range<usize>),
    (a, a_stride): (*const f32, usize),
    terms: usize,
    set: bool,
    db: &SharedMut<f32>,
) {
    for t in tiles.clone() {
        let (row, rows) = m.get(t);
        // SAFETY: as the caller's.
        unsafe {
            let to = db.slice(row, rows);
            if set {
                to.fill(0.0);
            }
            K::add_packed_sums(
                rows,
                terms.div_ceil(K::TERMS),
                a.add((t - tiles.start) * a_stride),
                to.as_mut_ptr(),
            );
        }
    }
}

/// Sums consecutive parts of `to.len()` elements in their order.
pub(super) fn sum_parts<K: Kernel>(
    pool: &Pool,
    parts: usize,
    from: SharedMut<f32>,
    to: &mut [f32],
) {
    let n = to.len();
    let (chunks, to) = (n.div_ceil(SUM_CHUNK), SharedMut::new(to));
    pool.run(chunks, |chunk, _| {
        let range = share(n, chunks, chunk);
        // SAFETY: the parts lie behind `from`; chunks write disjoint ranges.
        unsafe {
            let to = to.slice(range.start, range.len());
            K::sum_parts(parts, range.len(), from.as_ptr().add(range.start), n, to.as_mut_ptr());
        }
    });
}
