//! Products of two small matrices a sample, far too small for a general matrix product: `P [left,
//! inner]` by `Q [inner, right]`, each row-major in a row of a matrix of the batch.

use super::{
    gemm::{Rows, RowsMut},
    simd::{Kernel, Lanes, launch, load_up_to, store_up_to},
};
use crate::{
    backend::ProductShape,
    host::{
        Isa,
        pool::{Pool, SharedMut},
    },
};

/// Samples of a chunk.
const BLOCK: usize = 16;

fn check(what: &str, samples: usize, width: usize, len: usize, stride: usize) {
    let needed = if samples == 0 { 0 } else { (samples - 1) * stride + width };
    assert!(
        len >= needed && (stride >= width || samples <= 1),
        "{what}: {samples} rows of {width} do not fit"
    );
}

/// Rows of both factors, and of what is behind `at` columns of the product's matrix.
fn check_all(
    s: ProductShape,
    samples: usize,
    factors: [(usize, usize); 2],
    out: (usize, usize, usize),
) {
    let (len, stride, at) = out;
    check("left factors", samples, s.left * s.inner, factors[0].0, factors[0].1);
    check("right factors", samples, s.inner * s.right, factors[1].0, factors[1].1);
    check("products", samples, at + s.left * s.right, len, stride);
}

/// `out = concat[x, P Q]`; `x` has `cols` columns.
pub fn forward(
    pool: &Pool,
    isa: Isa,
    samples: usize,
    s: ProductShape,
    (x, cols): (Rows<'_>, usize),
    [p, q]: [Rows<'_>; 2],
    out: RowsMut<'_>,
) {
    check("x", samples, cols, x.data.len(), x.stride);
    let factors = [(p.data.len(), p.stride), (q.data.len(), q.stride)];
    check_all(s, samples, factors, (out.data.len(), out.stride, cols));
    let (stride, out) = (out.stride, SharedMut::new(out.data));
    pool.run(samples.div_ceil(BLOCK), |chunk, _| {
        for b in chunk * BLOCK..samples.min((chunk + 1) * BLOCK) {
            // SAFETY: each row belongs to one chunk.
            let row = unsafe { out.slice(b * stride, cols + s.left * s.right) };
            row[..cols].copy_from_slice(&x.data[b * x.stride..][..cols]);
            let (p, q) = (&p.data[b * p.stride..], &q.data[b * q.stride..]);
            let a = (&p[..s.left * s.inner], s.inner, 1);
            launch(isa, Multiply { shape: s, a, b: q, to: &mut row[cols..] });
        }
    });
}

/// `dP = G Q^T` and `dQ = P^T G`, where `G` is behind the first `at` columns of `dout`.
pub fn backward(
    pool: &Pool,
    isa: Isa,
    samples: usize,
    s: ProductShape,
    [p, q]: [Rows<'_>; 2],
    (dout, at): (Rows<'_>, usize),
    [dp, dq]: [RowsMut<'_>; 2],
) {
    let factors = [(p.data.len(), p.stride), (q.data.len(), q.stride)];
    check_all(s, samples, factors, (dout.data.len(), dout.stride, at));
    let gradients = [(dp.data.len(), dp.stride), (dq.data.len(), dq.stride)];
    check_all(s, samples, gradients, (dout.data.len(), dout.stride, at));
    let (dp, dq) = ((SharedMut::new(dp.data), dp.stride), (SharedMut::new(dq.data), dq.stride));
    pool.run(samples.div_ceil(BLOCK), |chunk, _| {
        for b in chunk * BLOCK..samples.min((chunk + 1) * BLOCK) {
            // SAFETY: each row belongs to one chunk.
            let (dp, dq) = unsafe {
                (dp.0.slice(b * dp.1, s.left * s.inner), dq.0.slice(b * dq.1, s.inner * s.right))
            };
            let g = &dout.data[b * dout.stride + at..][..s.left * s.right];
            let (p, q) = (&p.data[b * p.stride..], &q.data[b * q.stride..]);
            launch(isa, Dots { shape: s, a: g, b: &q[..s.inner * s.right], to: dp });
            // Transposed: element (i, k) is at k * inner + i.
            let shape = ProductShape { left: s.inner, inner: s.left, right: s.right };
            let a = (&p[..s.left * s.inner], 1, s.inner);
            launch(isa, Multiply { shape, a, b: g, to: dq });
        }
    });
}

/// `to = A B`: element `(i, k)` of `A` at `i * a.1 + k * a.2`, `B` and `to` row-major.
struct Multiply<'a> {
    shape: ProductShape,
    a: (&'a [f32], usize, usize),
    b: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let ProductShape { left, inner, right } = self.shape;
        assert!(self.b.len() >= inner * right && self.to.len() >= left * right);
        for i in 0..left {
            for j in (0..right).step_by(L::N) {
                // SAFETY: columns `j..right` of rows below `inner` and `left`.
                unsafe {
                    let mut sum = L::splat(0.0);
                    for k in 0..inner {
                        let x = L::splat(self.a.0[i * self.a.1 + k * self.a.2]);
                        let y = load_up_to::<L>(self.b.as_ptr().add(k * right + j), right - j);
                        sum = L::fma(x, y, sum);
                    }
                    store_up_to::<L>(self.to.as_mut_ptr().add(i * right + j), right - j, sum);
                }
            }
        }
    }
}

/// `to [left, inner] = A B^T`, `A [left, right]`, `B [inner, right]`.
struct Dots<'a> {
    shape: ProductShape,
    a: &'a [f32],
    b: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Dots<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let ProductShape { left, inner, right } = self.shape;
        assert!(self.a.len() >= left * right && self.b.len() >= inner * right);
        for (i, row) in self.to.chunks_exact_mut(inner).take(left).enumerate() {
            for (k, to) in row.iter_mut().enumerate() {
                // SAFETY: columns below `right` of rows `i` and `k`.
                *to = unsafe {
                    let mut sum = L::splat(0.0);
                    for j in (0..right).step_by(L::N) {
                        let x = load_up_to::<L>(self.a.as_ptr().add(i * right + j), right - j);
                        let y = load_up_to::<L>(self.b.as_ptr().add(k * right + j), right - j);
                        sum = L::fma(x, y, sum);
                    }
                    L::sum(sum)
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::testing::{Numbers, bits, close, machines};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn any_shape_agrees_with_plain_loops(
            samples in 1usize..50, left in 1usize..20, inner in 1usize..40, right in 1usize..40, cols in 0usize..20,
            gap in 0usize..3, seed: u64,
        ) {
            let s = ProductShape { left, inner, right };
            let mut numbers = Numbers::new(seed);
            let mut matrix = |width: usize| (numbers.floats(samples * (width + gap)), width + gap);
            let (x, p, q) = (matrix(cols), matrix(left * inner), matrix(inner * right));
            let (g, width) = (matrix(cols + left * right), cols + left * right);
            let wide = |m: &(Vec<f32>, usize), b: usize, at: usize| f64::from(m.0[b * m.1 + at]);
            let mut first: Option<(Isa, Vec<Vec<u32>>)> = None;
            for (isa, threads) in machines() {
                let pool = Pool::new(threads);
                let nans = |m: &(Vec<f32>, usize)| vec![f32::NAN; m.0.len()];
                let (mut out, mut dp, mut dq) = (nans(&g), nans(&p), nans(&q));
                let factors = [Rows::new(&p.0, p.1), Rows::new(&q.0, q.1)];
                let from = (Rows::new(&x.0, x.1), cols);
                forward(&pool, isa, samples, s, from, factors, RowsMut::new(&mut out, g.1));
                let to = [RowsMut::new(&mut dp, p.1), RowsMut::new(&mut dq, q.1)];
                backward(&pool, isa, samples, s, factors, (Rows::new(&g.0, g.1), cols), to);
                for b in 0..samples {
                    let row = &out[b * g.1..][..g.1];
                    prop_assert_eq!(&row[..cols], &x.0[b * x.1..][..cols]);
                    prop_assert!(row[width..].iter().all(|v| v.is_nan()), "written into a gap");
                    let sum = |n: usize, f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
                    for (i, j) in (0..left).flat_map(|i| (0..right).map(move |j| (i, j))) {
                        let want = sum(inner, &|k| wide(&p, b, i * inner + k) * wide(&q, b, k * right + j));
                        close(&[row[cols + i * right + j]], &[want], inner as f64, "product");
                    }
                    let g = |i: usize, j: usize| wide(&g, b, cols + i * right + j);
                    for (i, k) in (0..left).flat_map(|i| (0..inner).map(move |k| (i, k))) {
                        let want = sum(right, &|j| g(i, j) * wide(&q, b, k * right + j));
                        close(&[dp[b * p.1 + i * inner + k]], &[want], right as f64, "dP");
                    }
                    for (k, j) in (0..inner).flat_map(|k| (0..right).map(move |j| (k, j))) {
                        let want = sum(left, &|i| wide(&p, b, i * inner + k) * g(i, j));
                        close(&[dq[b * q.1 + k * right + j]], &[want], left as f64, "dQ");
                    }
                }
                let all = vec![bits(&out), bits(&dp), bits(&dq)];
                match &first {
                    Some((other, bits)) if *other == isa => prop_assert!(bits == &all, "{} threads", threads),
                    _ => first = Some((isa, all)),
                }
            }
        }
    }
}
