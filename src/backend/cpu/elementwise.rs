//! What is left of element by element work once the matrix products have their fused ends.

use super::{
    gemm::{Rows, RowsMut},
    simd::{Kernel, Lanes, launch},
};
use crate::{
    backend::Join,
    host::{
        Isa,
        pool::{Pool, SharedMut},
    },
};
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

/// Elements of a chunk, about: enough to pay for handing it out.
const CHUNK: usize = 1 << 14;

/// Hands all rows of a matrix with `cols` columns to `work`, some at a time, in parallel.
pub(super) fn for_rows(pool: &Pool, rows: usize, cols: usize, work: impl Fn(Range<usize>) + Sync) {
    let step = (CHUNK / cols.max(1)).max(1);
    pool.run(rows.div_ceil(step), |chunk, _| work(chunk * step..rows.min((chunk + 1) * step)));
}

/// Zero in `dx` wherever the activation `x` is not above zero; both `[rows, cols]`.
pub fn relu_backward(
    pool: &Pool,
    isa: Isa,
    rows: usize,
    cols: usize,
    x: Rows<'_>,
    dx: RowsMut<'_>,
) {
    let (stride, dx) = (dx.stride, SharedMut::new(dx.data));
    for_rows(pool, rows, cols, |rows| launch(isa, ReluBackward { rows, cols, x, dx, stride }));
}

struct ReluBackward<'a> {
    rows: Range<usize>,
    cols: usize,
    x: Rows<'a>,
    dx: SharedMut<f32>,
    stride: usize,
}

impl Kernel for ReluBackward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { self.dx.slice(r * self.stride, self.cols) };
            for (g, &a) in row.iter_mut().zip(&self.x.data[r * self.x.stride..][..self.cols]) {
                *g = if a > 0.0 { *g } else { 0.0 };
            }
        }
    }
}

/// `to = x`, both `[rows, cols]`.
pub fn copy(pool: &Pool, (rows, cols): (usize, usize), x: Rows<'_>, to: RowsMut<'_>) {
    let (stride, to) = (to.stride, SharedMut::new(to.data));
    for_rows(pool, rows, cols, |rows| {
        for r in rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { to.slice(r * stride, cols) };
            row.copy_from_slice(&x.data[r * x.stride..][..cols]);
        }
    });
}

/// `to += x`, both `[rows, cols]`.
pub fn add(pool: &Pool, isa: Isa, (rows, cols): (usize, usize), x: Rows<'_>, to: RowsMut<'_>) {
    let (stride, to) = (to.stride, SharedMut::new(to.data));
    for_rows(pool, rows, cols, |rows| launch(isa, Add { rows, cols, x, to, stride }));
}

struct Add<'a> {
    rows: Range<usize>,
    cols: usize,
    x: Rows<'a>,
    to: SharedMut<f32>,
    stride: usize,
}

impl Kernel for Add<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { self.to.slice(r * self.stride, self.cols) };
            for (to, x) in row.iter_mut().zip(&self.x.data[r * self.x.stride..][..self.cols]) {
                *to += x;
            }
        }
    }
}

/// `out = a * b + c`, or `a * b`, all `[rows, cols]`.
pub fn multiply_add(
    pool: &Pool,
    isa: Isa,
    (rows, cols): (usize, usize),
    factors: [Rows<'_>; 2],
    term: Option<Rows<'_>>,
    out: RowsMut<'_>,
) {
    let (stride, out) = (out.stride, SharedMut::new(out.data));
    for_rows(pool, rows, cols, |rows| {
        launch(isa, MultiplyAdd { rows, cols, factors, term, out, stride });
    });
}

struct MultiplyAdd<'a> {
    rows: Range<usize>,
    cols: usize,
    factors: [Rows<'a>; 2],
    term: Option<Rows<'a>>,
    out: SharedMut<f32>,
    stride: usize,
}

impl<'a> Kernel for MultiplyAdd<'a> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            let row = |x: Rows<'a>| &x.data[r * x.stride..][..self.cols];
            let [a, b] = self.factors.map(row);
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let out = unsafe { self.out.slice(r * self.stride, self.cols) };
            match self.term.map(row) {
                Some(c) => {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = a[i] * b[i] + c[i];
                    }
                }
                None => {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = a[i] * b[i];
                    }
                }
            }
        }
    }
}

/// `db = a * g`, `da = b * g`, to which `join` is added; all `[rows, cols]`.
pub fn multiply_add_backward(
    pool: &Pool,
    isa: Isa,
    (rows, cols): (usize, usize),
    factors: [Rows<'_>; 2],
    g: Rows<'_>,
    (da, join): (RowsMut<'_>, Join),
    db: RowsMut<'_>,
) {
    let da = (SharedMut::new(da.data), da.stride);
    let db = (SharedMut::new(db.data), db.stride);
    for_rows(pool, rows, cols, |rows| {
        launch(isa, MultiplyAddBackward { rows, cols, factors, g, da, db, join });
    });
}

struct MultiplyAddBackward<'a> {
    rows: Range<usize>,
    cols: usize,
    factors: [Rows<'a>; 2],
    g: Rows<'a>,
    da: (SharedMut<f32>, usize),
    db: (SharedMut<f32>, usize),
    join: Join,
}

impl Kernel for MultiplyAddBackward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            let row = |x: Rows<'_>| x.data[r * x.stride..][..self.cols].as_ptr();
            let (a, b, g) = (row(self.factors[0]), row(self.factors[1]), row(self.g));
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let (da, db) = unsafe {
                (
                    self.da.0.slice(r * self.da.1, self.cols),
                    self.db.0.slice(r * self.db.1, self.cols),
                )
            };
            for i in 0..self.cols {
                // SAFETY: the rows hold `cols` elements.
                let (a, b, g) = unsafe { (*a.add(i), *b.add(i), *g.add(i)) };
                let own = if self.join.sum { b * g + g } else { b * g };
                db[i] = a * g;
                da[i] = if self.join.there { da[i] + own } else { own };
            }
        }
    }
}

/// Multiplies `[rows, cols]` by `factor`.
pub fn scale(pool: &Pool, isa: Isa, rows: usize, cols: usize, factor: f32, x: RowsMut<'_>) {
    let (stride, x) = (x.stride, SharedMut::new(x.data));
    for_rows(pool, rows, cols, |rows| launch(isa, Scale { rows, cols, factor, x, stride }));
}

struct Scale {
    rows: Range<usize>,
    cols: usize,
    factor: f32,
    x: SharedMut<f32>,
    stride: usize,
}

impl Kernel for Scale {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            // SAFETY: rows do not overlap, and each belongs to one chunk.
            let row = unsafe { self.x.slice(r * self.stride, self.cols) };
            row.iter_mut().for_each(|v| *v *= self.factor);
        }
    }
}

/// Whether no element of `[rows, cols]` is infinite or NaN.
pub fn all_finite(pool: &Pool, isa: Isa, rows: usize, cols: usize, x: Rows<'_>) -> bool {
    let finite = AtomicBool::new(true);
    for_rows(pool, rows, cols, |rows| launch(isa, AllFinite { rows, cols, x, finite: &finite }));
    finite.into_inner()
}

struct AllFinite<'a> {
    rows: Range<usize>,
    cols: usize,
    x: Rows<'a>,
    finite: &'a AtomicBool,
}

impl Kernel for AllFinite<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for r in self.rows {
            let row = &self.x.data[r * self.x.stride..][..self.cols];
            // An exponent of all ones is that of infinity and NaN.
            let odd = row
                .iter()
                .fold(0u32, |odd, v| odd | u32::from(v.to_bits() & 0x7f80_0000 == 0x7f80_0000));
            if odd != 0 {
                self.finite.store(false, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_is_found_wherever_it_stands() {
        for isa in crate::backend::cpu::testing::isas() {
            for (at, odd) in [(0, f32::NAN), (37, f32::INFINITY), (1233, f32::NEG_INFINITY)] {
                let mut x = vec![f32::MAX; 100 * 13];
                assert!(all_finite(&Pool::new(2), isa, 100, 12, Rows::new(&x, 13)));
                x[at] = odd;
                assert!(!all_finite(&Pool::new(2), isa, 100, 12, Rows::new(&x, 13)));
                x[at] = -0.0;
                x[12] = f32::NAN;
                assert!(
                    all_finite(&Pool::new(2), isa, 100, 12, Rows::new(&x, 13)),
                    "what lies between rows does not count"
                );
            }
        }
    }

    #[test]
    fn products_and_their_gradients_are_those_of_plain_loops() {
        use crate::backend::cpu::testing::{Numbers, bits, machines};
        let (rows, cols) = (300, 71);
        let mut numbers = Numbers::new(8);
        let mut matrix = |gap: usize| (numbers.floats(rows * (cols + gap)), cols + gap);
        let (a, b, c, g, start) = (matrix(0), matrix(3), matrix(1), matrix(2), matrix(4));
        let at = |m: &(Vec<f32>, usize), r: usize, i: usize| m.0[r * m.1 + i];
        for join in [(false, false), (false, true), (true, false), (true, true)] {
            let join = Join { there: join.0, sum: join.1 };
            let mut first = None;
            for (isa, threads) in machines() {
                let pool = Pool::new(threads);
                let mut out = vec![f32::NAN; rows * cols];
                let (mut da, mut db) = (start.0.clone(), vec![f32::NAN; rows * cols]);
                let [a_rows, b_rows, c_rows] = [&a, &b, &c].map(|m| Rows::new(&m.0, m.1));
                let factors = [a_rows, b_rows];
                let (mut copied, mut product) = (out.clone(), out.clone());
                copy(&pool, (rows, cols), c_rows, RowsMut::new(&mut copied, cols));
                let to = RowsMut::new(&mut product, cols);
                multiply_add(&pool, isa, (rows, cols), factors, None, to);
                let to = RowsMut::new(&mut out, cols);
                multiply_add(&pool, isa, (rows, cols), factors, Some(c_rows), to);
                for (i, x) in copied.iter().enumerate() {
                    assert_eq!(*x, at(&c, i / cols, i % cols));
                    let plain = at(&a, i / cols, i % cols) * at(&b, i / cols, i % cols);
                    assert_eq!(product[i], plain);
                }
                let g_rows = Rows::new(&g.0, g.1);
                let to = (RowsMut::new(&mut da, start.1), join);
                let to_b = RowsMut::new(&mut db, cols);
                multiply_add_backward(&pool, isa, (rows, cols), factors, g_rows, to, to_b);
                for (r, i) in (0..rows).flat_map(|r| (0..cols).map(move |i| (r, i))) {
                    let (a, b, c, g) = (at(&a, r, i), at(&b, r, i), at(&c, r, i), at(&g, r, i));
                    assert_eq!(out[r * cols + i], a * b + c);
                    assert_eq!(db[r * cols + i], a * g);
                    let own = if join.sum { b * g + g } else { b * g };
                    let want = if join.there { at(&start, r, i) + own } else { own };
                    assert_eq!(da[r * start.1 + i], want);
                }
                let all = [bits(&out), bits(&da), bits(&db)];
                assert!(*first.get_or_insert_with(|| all.clone()) == all, "{isa:?} {threads}");
            }
        }
    }

    #[test]
    fn relu_backward_clears_what_relu_cut() {
        let x = [1.0, 0.0, -1.0, 9.0, 2.0, 3.0, 0.0, 9.0];
        let mut g = [5.0f32; 8];
        relu_backward(&Pool::new(1), Isa::best(), 2, 3, Rows::new(&x, 4), RowsMut::new(&mut g, 4));
        assert_eq!(g, [5.0, 0.0, 0.0, 5.0, 5.0, 5.0, 0.0, 5.0]);
    }
}
