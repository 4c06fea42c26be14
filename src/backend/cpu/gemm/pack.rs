//! Copies operands into the order in which the inner loop reads them, and sums what is packed.

use super::{format::Format, simd::Simd};

#[inline(always)]
pub(super) unsafe fn pack_transposed<S: Simd, F: Format<S>, const LANES: usize>(
    rows: usize,
    k: usize,
    from: *const f32,
    stride: usize,
    to: *mut f32,
    step: usize,
) {
    // SAFETY: rows beyond `rows` and terms beyond `k` are not read; `LANES == S::LANES`.
    unsafe {
        for i in (0..k).step_by(F::TERMS * LANES) {
            let n = (k - i).min(F::TERMS * LANES);
            let words = n.div_ceil(F::TERMS);
            let mut block = [S::zero(); LANES];
            for (r, x) in block.iter_mut().enumerate() {
                if r < rows {
                    let at = from.add(r * stride + i);
                    let low = S::load_up_to(at, n);
                    let high = if F::TERMS == 1 {
                        S::zero()
                    } else {
                        S::load_up_to(at.wrapping_add(LANES), n.saturating_sub(LANES))
                    };
                    *x = F::pack(low, high);
                }
            }
            S::transpose(block.as_mut_ptr());
            for (j, x) in block.into_iter().enumerate() {
                if j < words {
                    S::store(to.add((i / F::TERMS + j) * step), x);
                }
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn pack_rows<S: Simd, F: Format<S>>(
    k: usize,
    cols: usize,
    from: (*const f32, usize),
    width: usize,
    (to, step): (*mut f32, usize),
    block: usize,
) {
    // SAFETY: as the caller's.
    unsafe {
        if step == S::LANES {
            pack_rows_of::<S, F, 1>(k, cols, from, width, to, block);
        } else {
            pack_rows_of::<S, F, 2>(k, cols, from, width, to, block);
        }
    }
}

/// The same with `R` registers a block.
#[inline(always)]
unsafe fn pack_rows_of<S: Simd, F: Format<S>, const R: usize>(
    k: usize,
    cols: usize,
    (from, stride): (*const f32, usize),
    width: usize,
    to: *mut f32,
    block: usize,
) {
    let step = R * S::LANES;
    // Blocks that can be read in whole registers; what these read beyond a block is padding.
    let whole = if cols < step { 0 } else { ((cols - step) / width + 1).min(cols / width) };
    // SAFETY: columns beyond `cols` and rows beyond `k` are not read; a block's rows are `step`
    // wide.
    unsafe {
        for i in (0..k).step_by(F::TERMS) {
            let first = from.add(i * stride);
            // A row that is not there is read up to its element 0, that is not at all.
            let (second, there) = (first.wrapping_add(stride), F::TERMS == 2 && i + 1 < k);
            let (mut c, mut at) = (0, to.add(i / F::TERMS * step));
            if F::TERMS == 1 || there {
                for _ in 0..whole {
                    for r in 0..R {
                        let low = S::load(first.add(c + r * S::LANES));
                        let high = if F::TERMS == 1 {
                            S::zero()
                        } else {
                            S::load(second.add(c + r * S::LANES))
                        };
                        S::store(at.add(r * S::LANES), F::zip(low, high));
                    }
                    c += width;
                    at = at.wrapping_add(block);
                }
            }
            while c < cols {
                let n = width.min(cols - c);
                for r in 0..R {
                    let (lane, left) = (r * S::LANES, n.saturating_sub(r * S::LANES));
                    let low = S::load_up_to(first.wrapping_add(c + lane), left);
                    let high = if F::TERMS == 1 {
                        S::zero()
                    } else {
                        S::load_up_to(second.wrapping_add(c + lane), if there { left } else { 0 })
                    };
                    S::store(at.add(lane), F::zip(low, high));
                }
                c += n;
                at = at.wrapping_add(block);
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn add_packed_sums<S: Simd, F: Format<S>>(
    rows: usize,
    words: usize,
    a: *const f32,
    to: *mut f32,
) {
    // SAFETY: `a` is packed `[words][LANES]`.
    unsafe {
        let mut sums = [S::zero(); 4];
        for i in 0..words / 4 {
            for (j, s) in sums.iter_mut().enumerate() {
                *s = F::add_terms(*s, S::load(a.add((4 * i + j) * S::LANES)));
            }
        }
        for i in words / 4 * 4..words {
            sums[0] = F::add_terms(sums[0], S::load(a.add(i * S::LANES)));
        }
        let sum = S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]));
        S::store_up_to(to, rows, S::add(S::load_up_to(to, rows), sum));
    }
}
