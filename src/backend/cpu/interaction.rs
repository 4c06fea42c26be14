//! Dot interaction of DLRM (Naumov et al. 2019; facebookresearch/dlrm: dlrm_s_pytorch.py,
//! `interact_features`).
//!
//! `T [B, n, d]` -> `R = concat[T_0, <T_i, T_j> for i > j]`, row-major over the lower triangle (`i
//! >= j` with `self_interaction`), zeros up to the width of `R`. A sample's matrices are far too small for a
//! general matrix product, so each is kept in registers: forward multiplies blocks of rows of `T`
//! by its transpose, backward blocks of rows of the gradient's triangle by `T`.

use super::{
    gemm::{Rows, RowsMut},
    simd::{Kernel, Lanes, launch, load_up_to},
};
use crate::host::{
    Isa,
    pool::{Pool, SharedMut},
    prefetch,
};

/// Samples of a chunk.
const BLOCK: usize = 32;

/// Rows of a register block, at most.
const ROWS: usize = 8;

/// Rows of a block of two registers' width: with its operands it must fit the registers, of which
/// there are 32 where one has 16 lanes, else 16.
const fn rows_at_once(lanes: usize) -> usize {
    if lanes == 16 { ROWS } else { 6 }
}

/// Terms of forward's sums without a branch between.
const AT_ONCE: usize = 4;

/// Elements of a gradient that no cache keeps until the update reads it: 16 MiB.
const STREAM: usize = 1 << 22;

/// Columns of scratch are padded to the widest register.
const PAD: usize = 16;

/// The interaction of `features` vectors of `dim` elements, with scratch space for each thread.
#[derive(Debug)]
pub struct Dot {
    n: usize,
    d: usize,
    self_interaction: bool,
    /// For each thread, first `T` transposed `[d, padded]`, then the triangle `[n, padded]`.
    scratch: Vec<f32>,
    threads: usize,
}

impl Dot {
    /// Scratch space for `features` (`n`, at least 1) vectors of `dim` (`d`, at least 1) elements
    /// on `threads` threads. `self_interaction` keeps `<T_i, T_i>`.
    pub fn new(features: usize, dim: usize, self_interaction: bool, threads: usize) -> Self {
        assert!(
            features > 0 && dim > 0 && threads > 0,
            "an interaction has vectors, elements and threads"
        );
        let mut dot = Dot { n: features, d: dim, self_interaction, scratch: Vec::new(), threads };
        dot.scratch.resize(threads * dot.scratch_len(), 0.0);
        dot
    }

    /// Elements of an output row before padding.
    pub fn width(&self) -> usize {
        self.d + self.n * (self.n - 1) / 2 + if self.self_interaction { self.n } else { 0 }
    }

    fn padded(&self) -> usize {
        self.n.next_multiple_of(PAD)
    }

    fn scratch_len(&self) -> usize {
        (self.d + self.n) * self.padded()
    }

    /// `T` -> `R`; all `cols` columns of `R` are written. Row `b` of `t` is the `n * d` elements of
    /// sample `b`.
    ///
    /// # Panics
    /// If shapes do not fit, or if the pool has more threads than this has scratch space for.
    pub fn forward(
        &mut self,
        pool: &Pool,
        isa: Isa,
        samples: usize,
        t: Rows<'_>,
        cols: usize,
        out: RowsMut<'_>,
    ) {
        self.check(pool, samples, cols, (t.data.len(), t.stride), (out.data.len(), out.stride));
        let (n, d, self_interaction, padded, len) =
            (self.n, self.d, self.self_interaction, self.padded(), self.scratch_len());
        let scratch = SharedMut::new(&mut self.scratch);
        let shared = SharedMut::new(out.data);
        pool.run(samples.div_ceil(BLOCK), |chunk, thread| {
            let first = chunk * BLOCK;
            launch(
                isa,
                Forward {
                    n,
                    d,
                    self_interaction,
                    padded,
                    samples: BLOCK.min(samples - first),
                    t: t.data.as_ptr().wrapping_add(first * t.stride),
                    t_stride: t.stride,
                    cols,
                    out: shared.as_ptr().wrapping_add(first * out.stride),
                    out_stride: out.stride,
                    transposed: scratch.as_ptr().wrapping_add(thread * len),
                },
            );
        });
    }

    /// `dR` -> `dT`, every element overwritten.
    ///
    /// # Panics
    /// As [`Dot::forward`].
    pub fn backward(
        &mut self,
        pool: &Pool,
        isa: Isa,
        samples: usize,
        t: Rows<'_>,
        dout: Rows<'_>,
        dt: RowsMut<'_>,
    ) {
        self.check(
            pool,
            samples,
            self.width(),
            (t.data.len(), t.stride),
            (dout.data.len(), dout.stride),
        );
        self.check(
            pool,
            samples,
            self.width(),
            (dt.data.len(), dt.stride),
            (dout.data.len(), dout.stride),
        );
        let (n, d, self_interaction, padded, len) =
            (self.n, self.d, self.self_interaction, self.padded(), self.scratch_len());
        let scratch = SharedMut::new(&mut self.scratch);
        let shared = SharedMut::new(dt.data);
        pool.run(samples.div_ceil(BLOCK), |chunk, thread| {
            let first = chunk * BLOCK;
            launch(
                isa,
                Backward {
                    n,
                    d,
                    self_interaction,
                    padded,
                    samples: BLOCK.min(samples - first),
                    t: t.data.as_ptr().wrapping_add(first * t.stride),
                    t_stride: t.stride,
                    dout: dout.data.as_ptr().wrapping_add(first * dout.stride),
                    dout_stride: dout.stride,
                    dt: shared.as_ptr().wrapping_add(first * dt.stride),
                    dt_stride: dt.stride,
                    triangle: scratch.as_ptr().wrapping_add(thread * len + d * padded),
                    stream: samples * n * d >= STREAM,
                },
            );
        });
    }

    fn check(
        &self,
        pool: &Pool,
        samples: usize,
        cols: usize,
        t: (usize, usize),
        r: (usize, usize),
    ) {
        assert!(
            pool.threads() <= self.threads,
            "scratch space for {} threads, the pool has {}",
            self.threads,
            pool.threads()
        );
        assert!(cols >= self.width(), "{cols} columns do not hold {}", self.width());
        for ((len, stride), width) in [(t, self.n * self.d), (r, cols)] {
            let needed = if samples == 0 { 0 } else { (samples - 1) * stride + width };
            assert!(
                len >= needed && (stride >= width || samples <= 1),
                "{samples} rows of {width} do not fit"
            );
        }
    }
}

/// Calls a method with its number of rows as a constant.
macro_rules! with_rows {
    ($rows:expr, $self:ident.$f:ident::<$l:ident, $c:literal>($($arg:expr),*)) => {
        match $rows {
            1 => $self.$f::<$l, 1, $c>($($arg),*),
            2 => $self.$f::<$l, 2, $c>($($arg),*),
            3 => $self.$f::<$l, 3, $c>($($arg),*),
            4 => $self.$f::<$l, 4, $c>($($arg),*),
            5 => $self.$f::<$l, 5, $c>($($arg),*),
            6 => $self.$f::<$l, 6, $c>($($arg),*),
            7 => $self.$f::<$l, 7, $c>($($arg),*),
            _ => $self.$f::<$l, ROWS, $c>($($arg),*),
        }
    };
}

/// `C` registers of the floats at `p`; with `C = 1` only of the `left` that there are. (A closure
/// would not do: it is not compiled for the instruction set unless the compiler happens to inline
/// it.)
#[inline(always)]
unsafe fn read<L: Lanes, const C: usize>(p: *const f32, left: usize) -> [L::V; C] {
    // SAFETY: the caller has `left` floats at `p`, and `C` registers if `C > 1`.
    unsafe {
        if C == 1 {
            return [load_up_to::<L>(p, left); C];
        }
        let mut v = [L::splat(0.0); C];
        for (c, v) in v.iter_mut().enumerate() {
            *v = L::load(p.add(c * L::N));
        }
        v
    }
}

/// Pairs of the rows before row `i`.
#[inline(always)]
fn before(i: usize, self_interaction: bool) -> usize {
    if self_interaction { i * (i + 1) / 2 } else { i * i.wrapping_sub(1) / 2 }
}

struct Forward {
    n: usize,
    d: usize,
    self_interaction: bool,
    padded: usize,
    samples: usize,
    t: *const f32,
    t_stride: usize,
    cols: usize,
    out: *mut f32,
    out_stride: usize,
    transposed: *mut f32,
}

impl Kernel for Forward {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for b in 0..self.samples {
            // SAFETY: `Dot::forward` has checked that all rows lie in their buffers; each chunk has
            // its own samples, and each thread its own scratch.
            unsafe {
                let (t, out) = (self.t.add(b * self.t_stride), self.out.add(b * self.out_stride));
                prefetch_all(t.wrapping_add(self.t_stride), self.n * self.d);
                self.transpose::<L>(t);
                std::ptr::copy_nonoverlapping(t, out, self.d);
                let mut i = 0;
                while i < self.n {
                    let rows = rows_at_once(L::N).min(self.n - i);
                    let pairs = out.add(self.d);
                    // The last columns come first, so that what hangs over the end of a row is
                    // overwritten by the row that follows.
                    let mut end = (i + rows).next_multiple_of(L::N);
                    while end > 0 {
                        if end > L::N {
                            end -= 2 * L::N;
                            with_rows!(rows, self.block::<L, 2>(t, i, end, pairs));
                        } else {
                            end -= L::N;
                            with_rows!(rows, self.block::<L, 1>(t, i, end, pairs));
                        }
                    }
                    i += rows;
                }
                let width = self.d + before(self.n, self.self_interaction);
                std::ptr::write_bytes(out.add(width), 0, self.cols - width);
            }
        }
    }
}

impl Forward {
    #[inline(always)]
    unsafe fn transpose<L: Lanes>(&self, t: *const f32) {
        let mut k = 0;
        while k < self.d {
            let mut j = 0;
            while j < self.n {
                let (rows, cols) = (L::N.min(self.n - j), L::N.min(self.d - k));
                // SAFETY: see `run`: all addresses lie in a row of a checked buffer or in the
                // scratch space.
                unsafe {
                    let to = self.transposed.add(k * self.padded + j);
                    L::transpose(t.add(j * self.d + k), self.d, rows, cols, to, self.padded);
                }
                j += L::N;
            }
            k += L::N;
        }
    }

    /// Products of rows `i..i + R` with columns `j..j + C * N` of the transpose, to their places
    /// among the pairs.
    #[inline(always)]
    unsafe fn block<L: Lanes, const R: usize, const C: usize>(
        &self,
        t: *const f32,
        i: usize,
        j: usize,
        pairs: *mut f32,
    ) {
        // SAFETY: see `run`: all addresses lie in a row of a checked buffer or in the scratch
        // space.
        unsafe {
            let mut acc = [[L::splat(0.0); C]; R];
            let rows = t.add(i * self.d);
            macro_rules! add_terms {
                ($first:expr, $terms:expr) => {
                    for k in $first..$first + $terms {
                        let column = self.transposed.add(k * self.padded + j);
                        let right = read::<L, C>(column, C * L::N);
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let left = L::splat(*rows.add(r * self.d + k));
                            for c in 0..C {
                                acc[c] = L::fma(left, right[c], acc[c]);
                            }
                        }
                    }
                };
            }
            let whole = self.d / AT_ONCE * AT_ONCE;
            for k in (0..whole).step_by(AT_ONCE) {
                add_terms!(k, AT_ONCE);
            }
            for k in whole..self.d {
                add_terms!(k, 1);
            }
            for (r, acc) in acc.iter().enumerate() {
                let of_row = i + r + usize::from(self.self_interaction);
                for (c, &v) in acc.iter().enumerate() {
                    let from = j + c * L::N;
                    let at = before(i + r, self.self_interaction) + from;
                    if from >= of_row {
                        continue;
                    }
                    // What hangs over is overwritten by the rows that follow.
                    if at + L::N <= before(self.n, self.self_interaction) {
                        L::store(pairs.add(at), v);
                    } else {
                        L::store_part(pairs.add(at), of_row - from, v);
                    }
                }
            }
        }
    }
}

struct Backward {
    n: usize,
    d: usize,
    self_interaction: bool,
    padded: usize,
    samples: usize,
    t: *const f32,
    t_stride: usize,
    dout: *const f32,
    dout_stride: usize,
    dt: *mut f32,
    dt_stride: usize,
    /// `[n, padded]`, zero above the diagonal.
    triangle: *mut f32,
    /// Write past the caches.
    stream: bool,
}

impl Kernel for Backward {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for b in 0..self.samples {
            // SAFETY: as in `Forward`.
            unsafe {
                let (t, dt) = (self.t.add(b * self.t_stride), self.dt.add(b * self.dt_stride));
                let dout = self.dout.add(b * self.dout_stride);
                prefetch_all(t.wrapping_add(self.t_stride), self.n * self.d);
                prefetch_all(
                    dout.wrapping_add(self.dout_stride),
                    self.d + before(self.n, self.self_interaction),
                );
                self.expand::<L>(dout.add(self.d));
                let mut i = 0;
                while i < self.n {
                    let rows = rows_at_once(L::N).min(self.n - i);
                    let mut c = 0;
                    while c + 2 * L::N <= self.d {
                        with_rows!(rows, self.block::<L, 2>(t, dout, i, c, dt));
                        c += 2 * L::N;
                    }
                    while c < self.d {
                        with_rows!(rows, self.block::<L, 1>(t, dout, i, c, dt));
                        c += L::N;
                    }
                    i += rows;
                }
            }
        }
        L::fence();
    }
}

/// Asks for the `len` floats at `p`: the rows of one sample are not read in the order that the
/// hardware would foresee.
#[inline(always)]
fn prefetch_all(p: *const f32, len: usize) {
    let mut at = 0;
    while at < len {
        prefetch(p.wrapping_add(at));
        at += PAD;
    }
}

impl Backward {
    /// The packed pairs as a lower triangle, each row on its own. What is above stays zero from the
    /// beginning.
    #[inline(always)]
    unsafe fn expand<L: Lanes>(&self, pairs: *const f32) {
        for i in 0..self.n {
            let of_row = i + usize::from(self.self_interaction);
            // SAFETY: see `run`: all addresses lie in a row of a checked buffer or in the scratch
            // space.
            unsafe {
                let (from, to) = (
                    pairs.add(before(i, self.self_interaction)),
                    self.triangle.add(i * self.padded),
                );
                let mut j = 0;
                while j < of_row {
                    let v = if of_row - j >= L::N {
                        L::load(from.add(j))
                    } else {
                        L::load_part(from.add(j), of_row - j)
                    };
                    L::store(to.add(j), v);
                    j += L::N;
                }
            }
        }
    }

    /// Rows `i..i + R`, columns `c..c + C * N` of `dT = (G + G^T) T`, `G` the triangle; the direct
    /// part goes to row 0. The last register may hang over the end of the row (only with `C = 1`).
    #[inline(always)]
    unsafe fn block<L: Lanes, const R: usize, const C: usize>(
        &self,
        t: *const f32,
        dout: *const f32,
        i: usize,
        c: usize,
        dt: *mut f32,
    ) {
        // SAFETY: see `run`: all addresses lie in a row of a checked buffer or in the scratch
        // space.
        unsafe {
            let part = self.d - c;
            let mut acc = [[L::splat(0.0); C]; R];
            if i == 0 {
                acc[0] = read::<L, C>(dout.add(c), part);
            }
            let g = self.triangle;
            for j in 0..i + R {
                let right = read::<L, C>(t.add(j * self.d + c), part);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let left = L::splat(*g.add((i + r) * self.padded + j));
                    for x in 0..C {
                        acc[x] = L::fma(left, right[x], acc[x]);
                    }
                }
            }
            for j in i..self.n {
                let right = read::<L, C>(t.add(j * self.d + c), part);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let left = L::splat(*g.add(j * self.padded + i + r));
                    for x in 0..C {
                        acc[x] = L::fma(left, right[x], acc[x]);
                    }
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                let to = dt.add((i + r) * self.d + c);
                for (x, &v) in acc.iter().enumerate() {
                    if C > 1 || part >= L::N {
                        if self.stream {
                            L::stream(to.add(x * L::N), v);
                        } else {
                            L::store(to.add(x * L::N), v);
                        }
                    } else {
                        L::store_part(to, part, v);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
