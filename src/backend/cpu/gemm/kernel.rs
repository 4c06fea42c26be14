//! The inner loops, written once over [`Simd`] and compiled once for each instruction set.
//!
//! A *tile* is up to `MR` rows of the result, a *panel* up to `NR` columns. Packed operands are what the tile kernel streams
//! through: the first operand as `[k][LANES]` a tile (rows beyond the tile's are padding), the second as `[k][NR]` a panel.

use super::simd::Simd;

/// What happens to a tile when its sum is complete.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish {
    /// Nothing: store it.
    Store,
    /// Adds `bias[column]`, then ReLU if asked for.
    Bias {
        /// Bias of the tile's first column.
        bias: *const f32,
        relu: bool,
    },
    /// Zero where the gate's element is not positive.
    Gate {
        /// Gate of the tile's first element.
        gate: *const f32,
        stride: usize,
    },
}

impl Finish {
    /// The same for the tile that starts at this row and column.
    pub fn at(self, row: usize, col: usize) -> Self {
        match self {
            Finish::Store => Finish::Store,
            Finish::Bias { bias, relu } => Finish::Bias { bias: bias.wrapping_add(col), relu },
            Finish::Gate { gate, stride } => Finish::Gate { gate: gate.wrapping_add(row * stride + col), stride },
        }
    }
}

/// One tile by one panel, over `k` terms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub rows: usize,
    pub cols: usize,
    pub k: usize,
    /// Packed `[k][LANES]`.
    pub a: *const f32,
    /// Packed `[k][NR]`.
    pub b: *const f32,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Add to what `c` holds.
    pub accumulate: bool,
    pub finish: Finish,
}

/// The inner loops of one instruction set.
///
/// # Safety
/// The machine must have the instruction set, and pointers must be valid for the elements that the arguments describe.
pub(super) trait Kernel: Simd {
    /// Computes a tile of `1..=MR` rows and `1..=NR` columns.
    unsafe fn tile(t: &Tile);

    /// Packs `rows <= LANES` rows of `k` consecutive elements, `from[r * stride + i]`, as `to[i * step + r]`; rows up to `LANES`
    /// are filled with zeros.
    unsafe fn pack_transposed(rows: usize, k: usize, from: *const f32, stride: usize, to: *mut f32, step: usize);

    /// Packs `cols` columns of `k` rows, `from[i * stride + c]`, into blocks of `width` columns: column `c` becomes
    /// `to[c / width * block + i * step + c % width]`. `width <= step`, `step` is `LANES` or `NR`; a block's columns up to `step`
    /// are filled with zeros.
    unsafe fn pack_rows(k: usize, cols: usize, from: (*const f32, usize), width: usize, to: (*mut f32, usize), block: usize);

    /// Adds the sum over `k` of a packed first operand to `to[..rows]`.
    unsafe fn add_packed_sums(rows: usize, k: usize, a: *const f32, to: *mut f32);

    /// `y[r * y_stride] = act(<x[r], w> + bias)` for rows of `n` elements.
    unsafe fn dots(rows: usize, n: usize, x: (*const f32, usize), w: *const f32, bias: f32, relu: bool, y: (*mut f32, usize));

    /// `dx[r] = g[r * stride] * w`, gated, for rows of `n` elements.
    unsafe fn outer(
        rows: usize,
        n: usize,
        g: (*const f32, usize),
        w: *const f32,
        gate: Option<(*const f32, usize)>,
        dx: (*mut f32, usize),
    );

    /// `to[..n] = sum_r g[r * stride] * x[r]`, in the order of the rows.
    unsafe fn weighted_sum(rows: usize, n: usize, g: (*const f32, usize), x: (*const f32, usize), to: *mut f32);

    /// `to[i] = sum_p parts[p * stride + i]` for `n` elements, in the order of the parts.
    unsafe fn sum_parts(parts: usize, n: usize, from: *const f32, stride: usize, to: *mut f32);
}

/// Terms of a tile during which a cache line can arrive.
const FAR: usize = 32;

#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const V: usize>(t: &Tile) {
    // SAFETY: the caller's pointers; `V` registers hold the tile's columns.
    unsafe {
        // What the end will need comes while the sums are made, if they take long enough.
        for r in 0..if t.k < FAR { 0 } else { M } {
            for at in [0, S::LANES, V * S::LANES - 1] {
                S::prefetch(t.c.wrapping_add(r * t.c_stride + at));
                if let Finish::Gate { gate, stride } = t.finish {
                    S::prefetch(gate.wrapping_add(r * stride + at));
                }
            }
        }
        let mut acc = [[S::zero(); V]; M];
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.k {
            let mut column = [S::zero(); V];
            for (v, x) in column.iter_mut().enumerate() {
                *x = S::load(b.add(v * S::LANES));
            }
            for (r, row) in acc.iter_mut().enumerate() {
                let x = S::splat(*a.add(r));
                for (sum, y) in row.iter_mut().zip(column) {
                    *sum = S::mul_add(x, y, *sum);
                }
            }
            a = a.add(S::LANES);
            b = b.add(S::NR);
        }
        for (r, row) in acc.into_iter().enumerate() {
            for (v, mut z) in row.into_iter().enumerate() {
                let (at, n) = (v * S::LANES, t.cols - v * S::LANES);
                let c = t.c.add(r * t.c_stride + at);
                if t.accumulate {
                    z = S::add(S::load_up_to(c, n), z);
                }
                match t.finish {
                    Finish::Store => {}
                    Finish::Bias { bias, relu } => {
                        z = S::add(z, S::load_up_to(bias.add(at), n));
                        z = if relu { S::relu(z) } else { z };
                    }
                    Finish::Gate { gate, stride } => z = S::gate(z, S::load_up_to(gate.add(r * stride + at), n)),
                }
                S::store_up_to(c, n, z);
            }
        }
    }
}

#[inline(always)]
unsafe fn pack_transposed<S: Simd, const LANES: usize>(
    rows: usize,
    k: usize,
    from: *const f32,
    stride: usize,
    to: *mut f32,
    step: usize,
) {
    // SAFETY: rows beyond `rows` and elements beyond `k` are not read; `LANES == S::LANES`.
    unsafe {
        for i in (0..k).step_by(LANES) {
            let n = (k - i).min(LANES);
            let mut block = [S::zero(); LANES];
            for (r, x) in block.iter_mut().enumerate() {
                if r < rows {
                    *x = S::load_up_to(from.add(r * stride + i), n);
                }
            }
            S::transpose(block.as_mut_ptr());
            for (j, x) in block.into_iter().enumerate() {
                if j < n {
                    S::store(to.add((i + j) * step), x);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn pack_rows<S: Simd>(
    k: usize,
    cols: usize,
    (from, stride): (*const f32, usize),
    width: usize,
    (to, step): (*mut f32, usize),
    block: usize,
) {
    // SAFETY: columns beyond `cols` are not read; a block's rows are `step` wide.
    unsafe {
        for i in 0..k {
            let row = from.add(i * stride);
            let (mut c, mut at) = (0, to.add(i * step));
            while c < cols {
                let n = width.min(cols - c);
                S::store(at, S::load_up_to(row.add(c), n));
                if step > S::LANES {
                    let rest = n.saturating_sub(S::LANES);
                    S::store(at.add(S::LANES), S::load_up_to(row.wrapping_add(c + S::LANES), rest));
                }
                c += n;
                at = at.wrapping_add(block);
            }
        }
    }
}

#[inline(always)]
unsafe fn add_packed_sums<S: Simd>(rows: usize, k: usize, a: *const f32, to: *mut f32) {
    // SAFETY: `a` is packed `[k][LANES]`.
    unsafe {
        let mut sums = [S::zero(); 4];
        for i in 0..k / 4 {
            for (j, s) in sums.iter_mut().enumerate() {
                *s = S::add(*s, S::load(a.add((4 * i + j) * S::LANES)));
            }
        }
        for i in k / 4 * 4..k {
            sums[0] = S::add(sums[0], S::load(a.add(i * S::LANES)));
        }
        let sum = S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]));
        S::store_up_to(to, rows, S::add(S::load_up_to(to, rows), sum));
    }
}

/// `R` rows at a time share the loads of `w`.
#[inline(always)]
unsafe fn dot<S: Simd, const R: usize>(n: usize, x: *const f32, stride: usize, w: *const f32) -> [f32; R] {
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
unsafe fn dots<S: Simd>(
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
unsafe fn outer<S: Simd>(
    rows: usize,
    n: usize,
    (g, g_stride): (*const f32, usize),
    w: *const f32,
    gate: Option<(*const f32, usize)>,
    (dx, dx_stride): (*mut f32, usize),
) {
    // SAFETY: the caller's pointers; without a gate `w` stands in for the pointer that is not read.
    unsafe {
        for r in 0..rows {
            let scale = S::splat(*g.add(r * g_stride));
            let to = dx.add(r * dx_stride);
            for i in (0..n).step_by(S::LANES) {
                let left = n - i;
                let mut z = S::mul_add(scale, S::load_up_to(w.add(i), left), S::zero());
                if let Some((gate, stride)) = gate {
                    z = S::gate(z, S::load_up_to(gate.add(r * stride + i), left));
                }
                S::store_up_to(to.add(i), left, z);
            }
        }
    }
}

#[inline(always)]
unsafe fn weighted_sum<S: Simd>(
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
                sum = S::mul_add(S::splat(*g.add(r * g_stride)), S::load_up_to(x.add(r * x_stride + i), n - i), sum);
            }
            S::store_up_to(to.add(i), n - i, sum);
        }
    }
}

#[inline(always)]
unsafe fn sum_parts<S: Simd>(parts: usize, n: usize, from: *const f32, stride: usize, to: *mut f32) {
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

/// Compiles the inner loops for an instruction set: its tile heights, then the attributes that enable it.
macro_rules! kernel {
    ($isa:ident, [$($rows:literal)*] $(, #[$feature:meta])*) => {
        impl $isa {
            $(#[$feature])*
            unsafe fn tile_of<const M: usize, const V: usize>(t: &Tile) {
                // SAFETY: as the caller's.
                unsafe { tile::<$isa, M, V>(t) }
            }
        }

        // SAFETY (all blocks): as the caller's.
        impl Kernel for $isa {
            unsafe fn tile(t: &Tile) {
                unsafe {
                    match (t.rows, t.cols > $isa::LANES) {
                        $(($rows, false) => $isa::tile_of::<$rows, 1>(t),
                        ($rows, true) => $isa::tile_of::<$rows, 2>(t),)*
                        _ => unreachable!("tiles of {} rows are not made", t.rows),
                    }
                }
            }

            $(#[$feature])*
            unsafe fn pack_transposed(rows: usize, k: usize, from: *const f32, stride: usize, to: *mut f32, step: usize) {
                unsafe { pack_transposed::<$isa, { $isa::LANES }>(rows, k, from, stride, to, step) }
            }

            $(#[$feature])*
            unsafe fn pack_rows(
                k: usize, cols: usize, from: (*const f32, usize), width: usize, to: (*mut f32, usize), block: usize,
            ) {
                unsafe { pack_rows::<$isa>(k, cols, from, width, to, block) }
            }

            $(#[$feature])*
            unsafe fn add_packed_sums(rows: usize, k: usize, a: *const f32, to: *mut f32) {
                unsafe { add_packed_sums::<$isa>(rows, k, a, to) }
            }

            $(#[$feature])*
            unsafe fn dots(
                rows: usize, n: usize, x: (*const f32, usize), w: *const f32, bias: f32, relu: bool, y: (*mut f32, usize),
            ) {
                unsafe { dots::<$isa>(rows, n, x, w, bias, relu, y) }
            }

            $(#[$feature])*
            unsafe fn outer(
                rows: usize, n: usize, g: (*const f32, usize), w: *const f32, gate: Option<(*const f32, usize)>,
                dx: (*mut f32, usize),
            ) {
                unsafe { outer::<$isa>(rows, n, g, w, gate, dx) }
            }

            $(#[$feature])*
            unsafe fn weighted_sum(rows: usize, n: usize, g: (*const f32, usize), x: (*const f32, usize), to: *mut f32) {
                unsafe { weighted_sum::<$isa>(rows, n, g, x, to) }
            }

            $(#[$feature])*
            unsafe fn sum_parts(parts: usize, n: usize, from: *const f32, stride: usize, to: *mut f32) {
                unsafe { sum_parts::<$isa>(parts, n, from, stride, to) }
            }
        }
    };
}

use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

kernel!(Portable, [1 2 3 4]);
#[cfg(target_arch = "x86_64")]
kernel!(Avx2, [1 2 3 4 5 6], #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
kernel!(Avx512, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], #[target_feature(enable = "avx512f,avx2,fma")]);
