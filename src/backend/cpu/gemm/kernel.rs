//! The inner loops, written once over [`Simd`] and compiled once for each instruction set.
//!
//! A *tile* is up to `MR` rows of the result, a *panel* up to `NR` columns. Packed operands are what the tile kernel streams
//! through, in words of 32 bits that hold [`Kernel::TERMS`] terms of the sum: the first operand as `[words][LANES]` a tile (rows
//! beyond the tile's are padding), the second as `[words][NR]` a panel.

use super::{
    format::{Bf16, F16, F32, Format},
    simd::Simd,
};

/// What happens to a tile when its sum is complete.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish {
    /// Nothing: store it.
    Store,
    /// Adds `bias[column]`, then ReLU if asked for, then dropout if there are bits.
    Bias {
        /// Bias of the tile's first column.
        bias: *const f32,
        relu: bool,
        /// Bit of the tile's first element; null without dropout.
        bits: *const u8,
        /// Bytes from one row of bits to the next.
        stride: usize,
        /// What elements whose bit is set are multiplied by; the others become zero.
        factor: f32,
    },
    /// Zero where the gate's element is not positive, else times `factor`.
    Gate {
        /// Gate of the tile's first element.
        gate: *const f32,
        stride: usize,
        factor: f32,
    },
}

impl Finish {
    /// The same for the tile that starts at this row and column.
    pub fn at(self, row: usize, col: usize) -> Self {
        match self {
            Finish::Store => Finish::Store,
            Finish::Bias { bias, relu, bits, stride, factor } => {
                // Panels begin at whole bytes.
                let bits = if bits.is_null() { bits } else { bits.wrapping_add(row * stride + col / 8) };
                Finish::Bias { bias: bias.wrapping_add(col), relu, bits, stride, factor }
            }
            Finish::Gate { gate, stride, factor } => Finish::Gate { gate: gate.wrapping_add(row * stride + col), stride, factor },
        }
    }
}

/// One tile by one panel, over `words` packed words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub rows: usize,
    pub cols: usize,
    pub words: usize,
    /// Packed `[words][LANES]`.
    pub a: *const f32,
    /// Packed `[words][NR]`.
    pub b: *const f32,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Add to what `c` holds.
    pub accumulate: bool,
    pub finish: Finish,
}

/// The inner loops of one instruction set and one format of packed words.
///
/// # Safety
/// The machine must have the instruction set, and pointers must be valid for the elements that the arguments describe.
pub(super) trait Kernel {
    /// The registers.
    type S: Simd;
    /// Words in a register.
    const LANES: usize = Self::S::LANES;
    /// Rows of the largest tile.
    const MR: usize = Self::S::MR;
    /// Columns of a panel.
    const NR: usize = Self::S::NR;
    /// Terms of the sum that a packed word holds.
    const TERMS: usize;

    /// Computes a tile of `1..=MR` rows and `1..=NR` columns.
    unsafe fn tile(t: &Tile);

    /// Packs `rows <= LANES` rows of `k` consecutive terms, `from[r * stride + i]`: term `i` of row `r` goes to word
    /// `to[i / TERMS * step + r]`. Rows up to `LANES` and terms of the last word beyond `k` are zeros.
    unsafe fn pack_transposed(rows: usize, k: usize, from: *const f32, stride: usize, to: *mut f32, step: usize);

    /// Packs `cols` columns of `k` terms, `from[i * stride + c]`, into blocks of `width` columns: term `i` of column `c` goes to
    /// word `to[c / width * block + i / TERMS * step + c % width]`. `width <= step`, `step` is `LANES` or `NR`; a block's columns up to
    /// `step` and terms of the last word beyond `k` are zeros.
    unsafe fn pack_rows(k: usize, cols: usize, from: (*const f32, usize), width: usize, to: (*mut f32, usize), block: usize);

    /// Adds the sum of all terms in `words` words of a packed first operand to `to[..rows]`.
    unsafe fn add_packed_sums(rows: usize, words: usize, a: *const f32, to: *mut f32);

    /// `y[r * y_stride] = act(<x[r], w> + bias)` for rows of `n` elements.
    unsafe fn dots(rows: usize, n: usize, x: (*const f32, usize), w: *const f32, bias: f32, relu: bool, y: (*mut f32, usize));

    /// `dx[r] = g[r * stride] * w`, gated as [`Finish::Gate`] says, for rows of `n` elements.
    unsafe fn outer(
        rows: usize,
        n: usize,
        g: (*const f32, usize),
        w: *const f32,
        gate: Option<(*const f32, usize, f32)>,
        dx: (*mut f32, usize),
    );

    /// `to[..n] = sum_r g[r * stride] * x[r]`, in the order of the rows.
    unsafe fn weighted_sum(rows: usize, n: usize, g: (*const f32, usize), x: (*const f32, usize), to: *mut f32);

    /// `to[i] = sum_p parts[p * stride + i]` for `n` elements, in the order of the parts.
    unsafe fn sum_parts(parts: usize, n: usize, from: *const f32, stride: usize, to: *mut f32);
}

/// Words of a tile during which a cache line can arrive.
const FAR: usize = 32;

#[inline(always)]
unsafe fn tile<S: Simd, F: Format<S>, const M: usize, const V: usize>(t: &Tile) {
    // SAFETY: the caller's pointers; `V` registers hold the tile's columns.
    unsafe {
        // What the end will need comes while the sums are made, if they take long enough.
        for r in 0..if t.words < FAR { 0 } else { M } {
            for at in [0, S::LANES, V * S::LANES - 1] {
                S::prefetch(t.c.wrapping_add(r * t.c_stride + at));
                if let Finish::Gate { gate, stride, .. } = t.finish {
                    S::prefetch(gate.wrapping_add(r * stride + at));
                }
            }
        }
        let mut acc = [[S::zero(); V]; M];
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.words {
            let mut column = [S::zero(); V];
            for (v, x) in column.iter_mut().enumerate() {
                *x = S::load(b.add(v * S::LANES));
            }
            for (r, row) in acc.iter_mut().enumerate() {
                let x = S::splat(*a.add(r));
                for (sum, y) in row.iter_mut().zip(column) {
                    *sum = F::mul_add(x, y, *sum);
                }
            }
            a = a.add(S::LANES);
            b = b.add(S::NR);
        }
        if t.cols == V * S::LANES {
            finish_whole::<S, M, V>(t, acc);
        } else {
            finish_part::<S, M, V>(t, acc);
        }
    }
}

/// The end of a tile whose registers are all full: one branch, then straight code. (Sums come by value: a reference would make the
/// compiler keep them in memory, within the inner loop too.)
#[inline(always)]
unsafe fn finish_whole<S: Simd, const M: usize, const V: usize>(t: &Tile, mut acc: [[S::V; V]; M]) {
    // SAFETY: as the caller's.
    unsafe {
        if t.accumulate {
            for (r, row) in acc.iter_mut().enumerate() {
                for (v, z) in row.iter_mut().enumerate() {
                    *z = S::add(S::load(t.c.add(r * t.c_stride + v * S::LANES)), *z);
                }
            }
        }
        match t.finish {
            Finish::Store => {}
            Finish::Bias { bias, relu, bits, stride, factor } => {
                let mut b = [S::zero(); V];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = S::load(bias.add(v * S::LANES));
                }
                for row in acc.iter_mut() {
                    for (z, b) in row.iter_mut().zip(b) {
                        *z = S::add(*z, b);
                    }
                }
                if relu {
                    for row in acc.iter_mut() {
                        for z in row.iter_mut() {
                            *z = S::relu(*z);
                        }
                    }
                }
                if !bits.is_null() {
                    let factor = S::splat(factor);
                    for (r, row) in acc.iter_mut().enumerate() {
                        for (v, z) in row.iter_mut().enumerate() {
                            *z = S::keep(S::mul(*z, factor), bits.add(r * stride), v * S::LANES);
                        }
                    }
                }
            }
            Finish::Gate { gate, stride, factor } => {
                let factor = S::splat(factor);
                for (r, row) in acc.iter_mut().enumerate() {
                    for (v, z) in row.iter_mut().enumerate() {
                        *z = S::gate(S::mul(*z, factor), S::load(gate.add(r * stride + v * S::LANES)));
                    }
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, &z) in row.iter().enumerate() {
                S::store(t.c.add(r * t.c_stride + v * S::LANES), z);
            }
        }
    }
}

/// The end of a tile whose last registers are not full.
#[inline(always)]
unsafe fn finish_part<S: Simd, const M: usize, const V: usize>(t: &Tile, acc: [[S::V; V]; M]) {
    // SAFETY: as the caller's; registers beyond the tile's columns are not stored.
    unsafe {
        for (r, row) in acc.iter().enumerate() {
            for (v, &sum) in row.iter().enumerate() {
                let (at, n) = (v * S::LANES, t.cols - v * S::LANES);
                let c = t.c.add(r * t.c_stride + at);
                let mut z = if t.accumulate { S::add(S::load_up_to(c, n), sum) } else { sum };
                match t.finish {
                    Finish::Store => {}
                    Finish::Bias { bias, relu, bits, stride, factor } => {
                        z = S::add(z, S::load_up_to(bias.add(at), n));
                        z = if relu { S::relu(z) } else { z };
                        if !bits.is_null() {
                            z = S::keep(S::mul(z, S::splat(factor)), bits.add(r * stride), at);
                        }
                    }
                    Finish::Gate { gate, stride, factor } => {
                        z = S::gate(S::mul(z, S::splat(factor)), S::load_up_to(gate.add(r * stride + at), n));
                    }
                }
                S::store_up_to(c, n, z);
            }
        }
    }
}

#[inline(always)]
unsafe fn pack_transposed<S: Simd, F: Format<S>, const LANES: usize>(
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
                    let high =
                        if F::TERMS == 1 { S::zero() } else { S::load_up_to(at.wrapping_add(LANES), n.saturating_sub(LANES)) };
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
unsafe fn pack_rows<S: Simd, F: Format<S>>(
    k: usize,
    cols: usize,
    (from, stride): (*const f32, usize),
    width: usize,
    (to, step): (*mut f32, usize),
    block: usize,
) {
    // SAFETY: columns beyond `cols` and rows beyond `k` are not read; a block's rows are `step` wide.
    unsafe {
        for i in (0..k).step_by(F::TERMS) {
            let first = from.add(i * stride);
            // A row that is not there is read up to its element 0, that is not at all.
            let (second, there) = (first.wrapping_add(stride), F::TERMS == 2 && i + 1 < k);
            let (mut c, mut at) = (0, to.add(i / F::TERMS * step));
            while c < cols {
                let n = width.min(cols - c);
                for (lane, left) in [(0, n), (S::LANES, n.saturating_sub(S::LANES))] {
                    if lane < step {
                        let low = S::load_up_to(first.wrapping_add(c + lane), left);
                        let high = if F::TERMS == 1 {
                            S::zero()
                        } else {
                            S::load_up_to(second.wrapping_add(c + lane), if there { left } else { 0 })
                        };
                        S::store(at.add(lane), F::zip(low, high));
                    }
                }
                c += n;
                at = at.wrapping_add(block);
            }
        }
    }
}

#[inline(always)]
unsafe fn add_packed_sums<S: Simd, F: Format<S>>(rows: usize, words: usize, a: *const f32, to: *mut f32) {
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
    gate: Option<(*const f32, usize, f32)>,
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
                    z = S::gate(S::mul(z, S::splat(factor)), S::load_up_to(gate.add(r * stride + i), left));
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

/// Compiles the inner loops for a name: its registers, its format, its tile heights, then the attributes that enable them.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $simd:ty, $format:ty, [$($rows:literal)*] $(, #[$feature:meta])?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(in crate::backend::cpu::gemm) struct $name;

        impl $name {
            $(#[$feature])?
            unsafe fn tile_of<const M: usize, const V: usize>(t: &Tile) {
                // SAFETY: as the caller's.
                unsafe { tile::<$simd, $format, M, V>(t) }
            }
        }

        // SAFETY (all blocks): as the caller's.
        impl Kernel for $name {
            type S = $simd;
            const TERMS: usize = <$format as Format<$simd>>::TERMS;

            unsafe fn tile(t: &Tile) {
                unsafe {
                    match (t.rows, t.cols > <$simd>::LANES) {
                        $(($rows, false) => $name::tile_of::<$rows, 1>(t),
                        ($rows, true) => $name::tile_of::<$rows, 2>(t),)*
                        _ => unreachable!("tiles of {} rows are not made", t.rows),
                    }
                }
            }

            $(#[$feature])?
            unsafe fn pack_transposed(rows: usize, k: usize, from: *const f32, stride: usize, to: *mut f32, step: usize) {
                unsafe { pack_transposed::<$simd, $format, { <$simd>::LANES }>(rows, k, from, stride, to, step) }
            }

            $(#[$feature])?
            unsafe fn pack_rows(
                k: usize, cols: usize, from: (*const f32, usize), width: usize, to: (*mut f32, usize), block: usize,
            ) {
                unsafe { pack_rows::<$simd, $format>(k, cols, from, width, to, block) }
            }

            $(#[$feature])?
            unsafe fn add_packed_sums(rows: usize, words: usize, a: *const f32, to: *mut f32) {
                unsafe { add_packed_sums::<$simd, $format>(rows, words, a, to) }
            }

            $(#[$feature])?
            unsafe fn dots(
                rows: usize, n: usize, x: (*const f32, usize), w: *const f32, bias: f32, relu: bool, y: (*mut f32, usize),
            ) {
                unsafe { dots::<$simd>(rows, n, x, w, bias, relu, y) }
            }

            $(#[$feature])?
            unsafe fn outer(
                rows: usize, n: usize, g: (*const f32, usize), w: *const f32, gate: Option<(*const f32, usize, f32)>,
                dx: (*mut f32, usize),
            ) {
                unsafe { outer::<$simd>(rows, n, g, w, gate, dx) }
            }

            $(#[$feature])?
            unsafe fn weighted_sum(rows: usize, n: usize, g: (*const f32, usize), x: (*const f32, usize), to: *mut f32) {
                unsafe { weighted_sum::<$simd>(rows, n, g, x, to) }
            }

            $(#[$feature])?
            unsafe fn sum_parts(parts: usize, n: usize, from: *const f32, stride: usize, to: *mut f32) {
                unsafe { sum_parts::<$simd>(parts, n, from, stride, to) }
            }
        }
    };
}

/// Names of the kernels, one for each instruction set and format.
pub(super) mod kernels {
    #[cfg(target_arch = "x86_64")]
    use super::super::{avx2::Avx2, avx512::Avx512, format::Bf16Pairs};
    use super::{super::portable::Portable, *};

    kernel!(PortableF32, Portable, F32, [1 2 3 4]);
    kernel!(PortableBf16, Portable, Bf16, [1 2 3 4]);
    kernel!(PortableF16, Portable, F16, [1 2 3 4]);

    /// The AVX2 kernels.
    #[cfg(target_arch = "x86_64")]
    macro_rules! avx2 {
        ($name:ident, $format:ty) => { kernel!($name, Avx2, $format, [1 2 3 4 5 6], #[target_feature(enable = "avx2,fma,f16c")]); };
    }
    /// The AVX-512 kernels.
    #[cfg(target_arch = "x86_64")]
    macro_rules! avx512 {
        ($name:ident, $format:ty, $features:literal) => {
            kernel!($name, Avx512, $format, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], #[target_feature(enable = $features)]);
        };
    }
    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use super::*;
        avx2!(Avx2F32, F32);
        avx2!(Avx2Bf16, Bf16);
        avx2!(Avx2F16, F16);
        avx512!(Avx512F32, F32, "avx512f,avx2,fma");
        avx512!(Avx512Bf16, Bf16, "avx512f,avx2,fma");
        avx512!(Avx512F16, F16, "avx512f,avx2,fma");
        avx512!(Avx512Bf16Pairs, Bf16Pairs, "avx512f,avx512bw,avx512bf16,avx2,fma");
    }
    #[cfg(target_arch = "x86_64")]
    pub(in crate::backend::cpu::gemm) use x86::*;
}
