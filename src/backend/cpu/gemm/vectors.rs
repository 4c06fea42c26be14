//! Loops over vectors, for layers with one output and for sums of partial results. No packing, no
//! rounding.

use super::simd::Simd;

/// `R` rows at a time share the loads of `w`.
#[inline(always)]
unsafe fn dot<S: Simd, const R: usize>(
    n: usize,
    x: *const f32,
    stride: usize,
    w: *const f32,
) -> [f32; R] {
    // SAFETY: the caller's pointers.
    unsafe {
        let mut sums = [S::zero(); R];
        for i in (0..n).step_by(S::LANES) {
            let left = n - i;
            let y = S::load_up_to(w.add(i), left);
            for (r, s) in sums.iter_mut().enumerate() {
                *s = S::mul_add(S::load_up_to(x.add(r * stride + i), left), y, *s);
            }
        }
        sums.map(|s| S::sum(s))
    }
}

#[inline(always)]
pub(super) unsafe fn dots<S: Simd>(
    rows: usize,
    n: usize,
    (x, x_stride): (*const f32, usize),
    w: *const f32,
    bias: f32,
    relu: bool,
    (y, y_stride): (*mut f32, usize),
) {
    let finish = |z: f32| if relu && z + bias < 0.0 { 0.0 } else { z + bias };
    // SAFETY: the caller's pointers.
    unsafe {
        for r in (0..rows / 4 * 4).step_by(4) {
            let four = dot::<S, 4>(n, x.add(r * x_stride), x_stride, w);
            for (i, z) in four.into_iter().enumerate() {
                *y.add((r + i) * y_stride) = finish(z);
            }
        }
        for r in rows / 4 * 4..rows {
            let [z] = dot::<S, 1>(n, x.add(r * x_stride), x_stride, w);
            *y.add(r * y_stride) = finish(z);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn outer<S: Simd>(
    rows: usize,
    n: usize,
    (g, g_stride): (*const f32, usize),
    w: *const f32,
    gate: Option<(*const f32, usize, f32)>,
    add: bool,
    (dx, dx_stride): (*mut f32, usize),
) {
    // SAFETY: the caller's pointers; without a gate `w` stands in for the pointer that is not read.
    unsafe {
        for r in 0..rows {
            let scale = S::splat(*g.add(r * g_stride));
            let to = dx.add(r * dx_stride);
            for i in (0..n).step_by(S::LANES) {
                let left = n - i;
                let mut z = S::mul(scale, S::load_up_to(w.add(i), left));
                if let Some((gate, stride, factor)) = gate {
                    z = S::gate(
                        S::mul(z, S::splat(factor)),
                        S::load_up_to(gate.add(r * stride + i), left),
                    );
                }
                if add {
                    z = S::add(S::load_up_to(to.add(i), left), z);
                }
                S::store_up_to(to.add(i), left, z);
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn weighted_sum<S: Simd>(
    rows: usize,
    n: usize,
    (g, g_stride): (*const f32, usize),
    (x, x_stride): (*const f32, usize),
    to: *mut f32,
) {
    /// Registers that hold sums at once.
    const WIDE: usize = 8;
    // SAFETY: the caller's pointers.
    unsafe {
        let wide = WIDE * S::LANES;
        for i in (0..n / wide * wide).step_by(wide) {
            let mut sums = [S::zero(); WIDE];
            for r in 0..rows {
                let scale = S::splat(*g.add(r * g_stride));
                for (v, s) in sums.iter_mut().enumerate() {
                    *s = S::mul_add(scale, S::load(x.add(r * x_stride + i + v * S::LANES)), *s);
                }
            }
            for (v, s) in sums.into_iter().enumerate() {
                S::store(to.add(i + v * S::LANES), s);
            }
        }
        for i in (n / wide * wide..n).step_by(S::LANES) {
            let mut sum = S::zero();
            for r in 0..rows {
                sum = S::mul_add(
                    S::splat(*g.add(r * g_stride)),
                    S::load_up_to(x.add(r * x_stride + i), n - i),
                    sum,
                );
            }
            S::store_up_to(to.add(i), n - i, sum);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn sum_parts<S: Simd>(
    parts: usize,
    n: usize,
    from: *const f32,
    stride: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's pointers.
    unsafe {
        for i in (0..n).step_by(S::LANES) {
            let left = n - i;
            let mut sum = S::load_up_to(from.add(i), left);
            for p in 1..parts {
                sum = S::add(sum, S::load_up_to(from.add(p * stride + i), left));
            }
            S::store_up_to(to.add(i), left, sum);
        }
    }
}
