//! Every path of this machine against plain products in f64, on odd shapes and strides.

use super::*;
use proptest::prelude::*;

/// Values in [-1, 1), some of them exactly zero, from a small generator.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            let v = (s >> 40) as f32 / (1 << 23) as f32 - 1.0;
            if s.is_multiple_of(11) { 0.0 } else { v }
        })
        .collect()
}

/// Operands of one layer; matrices of the batch have gaps of `gap` elements between their rows,
/// filled with `NAN`.
struct Case {
    s: LinearShape,
    stride_in: usize,
    stride_out: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
    dz: Vec<f32>,
    /// What a data gradient is added to.
    start: Vec<f32>,
    /// Bits of a dropout.
    bits: Vec<u8>,
}

/// What the three passes gave, gaps included.
#[derive(PartialEq, Debug)]
struct Results {
    y: Vec<f32>,
    y_relu: Vec<f32>,
    /// Without a bias; a ReLU where the input's width is a multiple of 3.
    y_bare: Vec<f32>,
    dx: Vec<f32>,
    dx_masked: Vec<f32>,
    /// Added to the layer's input.
    dx_added: Vec<f32>,
    dw: Vec<f32>,
    dw_bare: Vec<f32>,
    db: Vec<f32>,
}

fn gapped(rows: usize, width: usize, stride: usize, seed: u64) -> Vec<f32> {
    let mut m = values(rows * stride, seed);
    m.chunks_mut(stride).for_each(|row| row[width..].fill(f32::NAN));
    m
}

impl Case {
    fn new(batch: usize, input: usize, output: usize, gap: usize, seed: u64) -> Self {
        let s = LinearShape { batch, input, output };
        let (stride_in, stride_out) = (input + gap, output + 2 * gap);
        Case {
            s,
            stride_in,
            stride_out,
            x: gapped(batch, input, stride_in, seed),
            w: values(input * output, seed + 1),
            b: values(output, seed + 2),
            dz: gapped(batch, output, stride_out, seed + 3),
            start: gapped(batch, input, stride_in, seed + 5),
            bits: values(batch * (output.div_ceil(16) * 2 + gap), seed + 4)
                .iter()
                .map(|v| (v.to_bits() >> 3) as u8)
                .collect(),
        }
    }

    /// A dropout for every other case.
    fn mask(&self) -> Option<Mask<'_>> {
        let stride = self.bits.len() / self.s.batch.max(1);
        (self.s.output > 1 && self.s.input.is_multiple_of(2)).then_some(Mask {
            bits: &self.bits,
            stride,
            factor: 1.25,
        })
    }

    fn run(&self, isa: Isa, precision: Precision, threads: usize) -> Results {
        let pool = Pool::new(threads);
        let mut gemm = Gemm::new(isa, precision, threads, &[self.s]).unwrap();
        let (s, si, so) = (self.s, self.stride_in, self.stride_out);
        // Outputs start as NANs: whatever is not written stays one.
        let nans = |n: usize| vec![f32::NAN; n];
        let mut r = Results {
            y: nans(s.batch * so),
            y_relu: nans(s.batch * so),
            y_bare: nans(s.batch * so),
            dx: nans(s.batch * si),
            dx_masked: nans(s.batch * si),
            dx_added: self.start.clone(),
            dw: nans(s.input * s.output),
            dw_bare: nans(s.input * s.output),
            db: nans(s.output),
        };
        let (x, dz) = (Rows::new(&self.x, si), Rows::new(&self.dz, so));
        gemm.linear_forward(
            &pool,
            s,
            x,
            &self.w,
            Some(&self.b),
            After::default(),
            RowsMut::new(&mut r.y, so),
        );
        gemm.linear_forward(
            &pool,
            s,
            x,
            &self.w,
            Some(&self.b),
            After { relu: true, dropout: self.mask() },
            RowsMut::new(&mut r.y_relu, so),
        );
        gemm.linear_forward(
            &pool,
            s,
            x,
            &self.w,
            None,
            After { relu: self.s.input.is_multiple_of(3), dropout: None },
            RowsMut::new(&mut r.y_bare, so),
        );
        gemm.linear_backward_data(&pool, s, dz, &self.w, Onto::Set, RowsMut::new(&mut r.dx, si));
        gemm.linear_backward_data(
            &pool,
            s,
            dz,
            &self.w,
            Onto::Add,
            RowsMut::new(&mut r.dx_added, si),
        );
        gemm.linear_backward_data(
            &pool,
            s,
            dz,
            &self.w,
            Onto::Gate(Gate { activation: x, factor: 2.0 }),
            RowsMut::new(&mut r.dx_masked, si),
        );
        gemm.linear_backward_weight(&pool, s, dz, x, &mut r.dw, Some(&mut r.db));
        gemm.linear_backward_weight(&pool, s, dz, x, &mut r.dw_bare, None);
        r
    }

    /// The same with the operands rounded as a precision asks for.
    fn rounded(&self, precision: Precision) -> Case {
        let round = |m: &Vec<f32>| -> Vec<f32> {
            let to = match precision {
                _ if self.s.output == 1 => |v| v,
                Precision::Fp32 | Precision::Tf32 => |v| v,
                Precision::Bf16 => |v| half::bf16::from_f32(v).to_f32(),
                Precision::Fp16 => |v| half::f16::from_f32(v).to_f32(),
            };
            m.iter().map(|&v: &f32| to(v)).collect()
        };
        Case {
            x: round(&self.x),
            w: round(&self.w),
            dz: round(&self.dz),
            b: self.b.clone(),
            start: self.start.clone(),
            bits: self.bits.clone(),
            ..*self
        }
    }

    fn x(&self, r: usize, i: usize) -> f64 {
        f64::from(self.x[r * self.stride_in + i])
    }

    fn dz(&self, r: usize, j: usize) -> f64 {
        f64::from(self.dz[r * self.stride_out + j])
    }

    fn w(&self, j: usize, i: usize) -> f64 {
        f64::from(self.w[j * self.s.input + i])
    }

    fn verify(&self, got: &Results) {
        let LinearShape { batch, input, output } = self.s;
        for r in 0..batch {
            for j in 0..self.stride_out {
                let at = r * self.stride_out + j;
                if j >= output {
                    assert!(
                        got.y[at].is_nan() && got.y_relu[at].is_nan() && got.y_bare[at].is_nan(),
                        "forward wrote into a gap at {r},{j}"
                    );
                    continue;
                }
                let z = (0..input).map(|i| self.x(r, i) * self.w(j, i)).sum::<f64>()
                    + f64::from(self.b[j]);
                close(got.y[at], z, input, || format!("y[{r},{j}] of {:?}", self.s));
                let bare = z - f64::from(self.b[j]);
                let bare = if input.is_multiple_of(3) { bare.max(0.0) } else { bare };
                close(got.y_bare[at], bare, input, || format!("bare y[{r},{j}] of {:?}", self.s));
                let relu = match self.mask() {
                    Some(m) if m.bits[r * m.stride + j / 8] >> (j % 8) & 1 == 0 => 0.0,
                    Some(m) => z.max(0.0) * f64::from(m.factor),
                    None => z.max(0.0),
                };
                close(got.y_relu[at], relu, 4 * input, || {
                    format!("relu y[{r},{j}] of {:?}", self.s)
                });
            }
            for i in 0..self.stride_in {
                let at = r * self.stride_in + i;
                if i >= input {
                    assert!(
                        got.dx[at].is_nan()
                            && got.dx_masked[at].is_nan()
                            && got.dx_added[at].is_nan(),
                        "data gradient wrote into a gap at {r},{i}"
                    );
                    continue;
                }
                let d = (0..output).map(|j| self.dz(r, j) * self.w(j, i)).sum::<f64>();
                close(got.dx[at], d, output, || format!("dx[{r},{i}] of {:?}", self.s));
                let added = f64::from(self.start[at]) + d;
                close(got.dx_added[at], added, output + 1, || {
                    format!("added dx[{r},{i}] of {:?}", self.s)
                });
                let masked = if self.x(r, i) > 0.0 { 2.0 * got.dx[at] } else { 0.0 };
                assert_eq!(got.dx_masked[at], masked, "masked dx[{r},{i}] of {:?}", self.s);
            }
        }
        for j in 0..output {
            for i in 0..input {
                let d = (0..batch).map(|r| self.dz(r, j) * self.x(r, i)).sum::<f64>();
                close(got.dw[j * input + i], d, batch, || format!("dw[{j},{i}] of {:?}", self.s));
            }
            let row = j * input..(j + 1) * input;
            assert_eq!(got.dw[row.clone()], got.dw_bare[row], "dw without db, {:?}", self.s);
            let d = (0..batch).map(|r| self.dz(r, j)).sum::<f64>();
            close(got.db[j], d, batch, || format!("db[{j}] of {:?}", self.s));
        }
    }
}

/// Terms are below 1 in size: the rounding of a sum of `terms` of them stays below `terms` times
/// the spacing at its size.
fn close(got: f32, want: f64, terms: usize, what: impl Fn() -> String) {
    let tolerance = f64::from(f32::EPSILON) * (terms as f64 + 4.0);
    assert!((f64::from(got) - want).abs() <= tolerance, "{}: {got} instead of {want}", what());
}

fn paths() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

fn verify_everywhere(case: &Case) {
    for precision in Precision::ALL {
        let rounded = case.rounded(precision);
        for isa in paths() {
            let one = case.run(isa, precision, 1);
            rounded.verify(&one);
            for threads in [2, 3] {
                same_bits(&one, &case.run(isa, precision, threads));
            }
        }
    }
}

fn same_bits(a: &Results, b: &Results) {
    let bits = |r: &Results| -> Vec<u32> {
        [&r.y, &r.y_relu, &r.y_bare, &r.dx, &r.dx_masked, &r.dx_added, &r.dw, &r.dw_bare, &r.db]
            .into_iter()
            .flatten()
            .map(|v| v.to_bits())
            .collect()
    };
    assert!(bits(a) == bits(b), "results depend on the number of threads");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn random_shapes_match_plain_products(
        batch in 1usize..200, input in 1usize..130, output in 1usize..130, gap in 0usize..9, seed in 0u64..1000,
    ) {
        verify_everywhere(&Case::new(batch, input, output, gap, seed));
    }

    #[test]
    fn thin_shapes_match_plain_products(
        batch in 1usize..700, input in 1usize..600, output in 1usize..4, gap in 0usize..3, seed in 0u64..1000,
    ) {
        verify_everywhere(&Case::new(batch, input, output, gap, seed));
    }
}

#[test]
fn shapes_of_the_models_match_plain_products() {
    for (batch, input, output) in [
        (1, 13, 512),
        (129, 13, 512),
        (257, 64, 16),
        (33, 479, 1025),
        (1025, 367, 33),
        (4095, 5, 1),
    ] {
        verify_everywhere(&Case::new(batch, input, output, 3, 7));
    }
}

/// Layers too large for plain products: with a random `v`, `dW v = dZ^T (X v)`, and so forward and the
/// data gradient (Freivalds' check). Inputs of these weight gradients are packed for all chunks, of
/// the second layer in two parts.
#[test]
fn large_layers_agree_with_projections() {
    for (batch, input, output) in [(601, 260, 401), (2101, 1030, 257)] {
        let case = Case::new(batch, input, output, 3, 11);
        let wide = |m: &[f32]| m.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (of_inputs, of_outputs) = (wide(&values(input, 5)), wide(&values(output, 6)));
        for precision in Precision::ALL {
            let rounded = case.rounded(precision);
            // Of matrices `[rows, cols]` with their strides: the product with a vector, from either side.
            let right =
                |m: &[f32], (rows, cols, stride): (usize, usize, usize), v: &[f64]| -> Vec<f64> {
                    let row = |r| m[r * stride..][..cols].iter().zip(v);
                    (0..rows).map(|r| row(r).map(|(&m, &v)| f64::from(m) * v).sum()).collect()
                };
            let left = |m: &[f32], (rows, cols, stride): (usize, usize, usize), v: &[f64]| {
                let mut sums = vec![0.0; cols];
                for (r, v) in v.iter().enumerate().take(rows) {
                    for (sum, &m) in sums.iter_mut().zip(&m[r * stride..][..cols]) {
                        *sum += f64::from(m) * v;
                    }
                }
                sums
            };
            let x = (batch, input, case.stride_in);
            let dz = (batch, output, case.stride_out);
            let w = (output, input, input);
            let bias: f64 = case.b.iter().zip(&of_outputs).map(|(&b, &u)| f64::from(b) * u).sum();
            let y = right(&rounded.x, x, &left(&rounded.w, w, &of_outputs));
            let y: Vec<f64> = y.iter().map(|y| y + bias).collect();
            let dx = right(&rounded.dz, dz, &right(&rounded.w, w, &of_inputs));
            let dw = left(&rounded.dz, dz, &right(&rounded.x, x, &of_inputs));
            // The second would take the plainest path too long.
            for isa in paths().filter(|&isa| batch < 1000 || isa == Isa::best()) {
                let one = case.run(isa, precision, 1);
                let near = |got: Vec<f64>, want: &[f64], terms: usize, width: usize, what: &str| {
                    let tolerance = 8.0 * f64::from(f32::EPSILON) * ((terms * width) as f64).sqrt();
                    let far = got
                        .iter()
                        .zip(want)
                        .position(|(g, w)| g.is_nan() || (g - w).abs() > tolerance);
                    assert_eq!(
                        far,
                        None,
                        "{what} of {:?} in {precision:?} by {}",
                        case.s,
                        isa.name()
                    );
                };
                near(right(&one.y, dz, &of_outputs), &y, input, output, "y");
                near(right(&one.dx, x, &of_inputs), &dx, output, input, "dx");
                near(right(&one.dw, w, &of_inputs), &dw, batch, input, "dw");
                same_bits(&one, &case.run(isa, precision, 3));
            }
        }
    }
}

#[test]
fn an_empty_batch_gives_zero_gradients() {
    let case = Case::new(0, 5, 3, 0, 1);
    for isa in paths() {
        let r = case.run(isa, Precision::Bf16, 2);
        assert!(r.dw.iter().chain(&r.dw_bare).chain(&r.db).all(|&v| v == 0.0));
    }
}

/// Infinity, NaN and numbers that overflow on rounding end as what they should be, on every path.
#[test]
fn odd_numbers_survive_rounding() {
    let s = LinearShape { batch: 1, input: 3, output: 2 };
    for isa in paths() {
        for (precision, x, want) in [
            (Precision::Fp16, 65_519.0, 65_504.0),
            (Precision::Fp16, 65_520.0, f32::INFINITY),
            (Precision::Fp16, -1e9, f32::NEG_INFINITY),
            (Precision::Fp16, 2f32.powi(-24), 2f32.powi(-24)),
            (Precision::Fp16, 2f32.powi(-26), 0.0),
            (Precision::Bf16, 1.0 + 1.0 / 256.0, 1.0),
            (Precision::Bf16, 1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0),
            (Precision::Bf16, f32::MAX, f32::INFINITY),
            (Precision::Bf16, f32::NEG_INFINITY, f32::NEG_INFINITY),
            (Precision::Bf16, f32::NAN, f32::NAN),
            (Precision::Bf16, f32::from_bits(0x7f80_0001), f32::NAN),
            (Precision::Bf16, f32::from_bits(0xffff_ffff), f32::NAN),
        ] {
            let mut y = [0.0; 2];
            let mut gemm = Gemm::new(isa, precision, 1, &[s]).unwrap();
            let w = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
            let (x, pool) = ([x, 0.0, 0.0], Pool::new(1));
            gemm.linear_forward(
                &pool,
                s,
                Rows::new(&x, 3),
                &w,
                Some(&[0.0; 2]),
                After::default(),
                RowsMut::new(&mut y, 2),
            );
            let same = |got: f32| got == want || got.is_nan() && want.is_nan();
            assert!(
                y.into_iter().all(same),
                "{} {precision:?} of {}: {y:?} instead of {want}",
                isa.name(),
                x[0]
            );
        }
    }
}
