use super::*;
use crate::backend::cpu::testing::{Numbers, bits, close, isas};
use proptest::prelude::*;

/// `R` of one sample in f64.
fn plain_forward(n: usize, d: usize, self_interaction: bool, t: &[f64]) -> Vec<f64> {
    let mut r = t[..d].to_vec();
    for i in 0..n {
        for j in 0..i + usize::from(self_interaction) {
            r.push((0..d).map(|k| t[i * d + k] * t[j * d + k]).sum());
        }
    }
    r
}

/// `dT` of one sample in f64.
fn plain_backward(n: usize, d: usize, self_interaction: bool, t: &[f64], dr: &[f64]) -> Vec<f64> {
    let mut dt = vec![0.0; n * d];
    dt[..d].copy_from_slice(&dr[..d]);
    let mut pair = d;
    for i in 0..n {
        for j in 0..i + usize::from(self_interaction) {
            for k in 0..d {
                dt[i * d + k] += dr[pair] * t[j * d + k];
                dt[j * d + k] += dr[pair] * t[i * d + k];
            }
            pair += 1;
        }
    }
    dt
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

struct Case {
    samples: usize,
    n: usize,
    d: usize,
    self_interaction: bool,
    pad: usize,
    gap: usize,
}

/// Forward and backward; what must not be written is NaN before and after.
fn run(c: &Case, isa: Isa, threads: usize, t: &[f32], dr: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let pool = Pool::new(threads);
    let mut dot = Dot::new(c.n, c.d, c.self_interaction, threads);
    let (cols, t_stride) = (dot.width() + c.pad, c.n * c.d + c.gap);
    let mut r = vec![f32::NAN; c.samples * (cols + c.gap)];
    let mut dt = vec![f32::NAN; c.samples * t_stride];
    for _ in 0..2 {
        dot.forward(
            &pool,
            isa,
            c.samples,
            Rows::new(t, t_stride),
            cols,
            RowsMut::new(&mut r, cols + c.gap),
        );
        let dr = Rows::new(dr, cols + c.gap);
        dot.backward(
            &pool,
            isa,
            c.samples,
            Rows::new(t, t_stride),
            dr,
            RowsMut::new(&mut dt, t_stride),
        );
    }
    (r, dt)
}

fn check(c: &Case, seed: u64) {
    let width = Dot::new(c.n, c.d, c.self_interaction, 1).width();
    let (t_stride, r_stride) = (c.n * c.d + c.gap, width + c.pad + c.gap);
    let mut numbers = Numbers::new(seed);
    let (t, dr) = (numbers.floats(c.samples * t_stride), numbers.floats(c.samples * r_stride));
    for isa in isas() {
        let (r, dt) = run(c, isa, 1, &t, &dr);
        for b in 0..c.samples {
            let t = wide(&t[b * t_stride..][..c.n * c.d]);
            let got = &r[b * r_stride..][..r_stride];
            close(&got[..width], &plain_forward(c.n, c.d, c.self_interaction, &t), c.d as f64, "R");
            assert!(
                got[width..width + c.pad].iter().all(|&v| v == 0.0)
                    && got[width + c.pad..].iter().all(|v| v.is_nan())
            );
            let want = plain_backward(
                c.n,
                c.d,
                c.self_interaction,
                &t,
                &wide(&dr[b * r_stride..][..width]),
            );
            let got = &dt[b * t_stride..][..t_stride];
            close(&got[..c.n * c.d], &want, c.n as f64, "dT");
            assert!(got[c.n * c.d..].iter().all(|v| v.is_nan()));
        }
        for threads in if isa == Isa::best() { 2..4 } else { 0..0 } {
            let (r2, dt2) = run(c, isa, threads, &t, &dr);
            assert!(bits(&r) == bits(&r2) && bits(&dt) == bits(&dt2), "{threads} threads");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape_agrees_with_plain_loops(
        samples in 1usize..70, n in 1usize..40, d in 1usize..40, self_interaction: bool, pad in 0usize..9, gap in 0usize..3, seed: u64
    ) {
        check(&Case { samples, n, d, self_interaction, pad, gap }, seed);
    }
}

#[test]
fn the_shapes_of_the_workloads_agree_with_plain_loops() {
    for (n, d) in [
        (27, 16),
        (27, 128),
        (9, 64),
        (27, 64),
        (27, 10),
        (4, 2),
        (1, 1),
        (1, 3),
        (2, 1),
        (16, 16),
        (17, 33),
        (33, 15),
    ] {
        for self_interaction in [false, true] {
            check(&Case { samples: 35, n, d, self_interaction, pad: 1, gap: 0 }, 7);
        }
    }
}

#[test]
fn the_gradient_is_that_of_the_forward() {
    let (n, d, h) = (5, 3, 1e-5);
    for self_interaction in [false, true] {
        let mut numbers = Numbers::new(3);
        let t = wide(&numbers.floats(n * d));
        let dr = wide(&numbers.floats(Dot::new(n, d, self_interaction, 1).width()));
        let value = |t: &[f64]| {
            plain_forward(n, d, self_interaction, t)
                .iter()
                .zip(&dr)
                .map(|(a, b)| a * b)
                .sum::<f64>()
        };
        let dt = plain_backward(n, d, self_interaction, &t, &dr);
        for i in 0..n * d {
            let (mut up, mut down) = (t.clone(), t.clone());
            up[i] += h;
            down[i] -= h;
            let slope = (value(&up) - value(&down)) / (2.0 * h);
            assert!((slope - dt[i]).abs() < 1e-8, "{i}: {slope} and {}", dt[i]);
        }
    }
}

#[test]
fn a_gradient_written_past_the_caches_has_the_same_bits() {
    // Aligned to cache lines, and not: a gap of 1 moves every row.
    for gap in [0, 1] {
        let (n, d, self_interaction) = (2, 1024, false);
        let whole = Case { samples: STREAM / (n * d) + 3, n, d, self_interaction, pad: 0, gap };
        let (t_stride, r_stride) = (n * d + gap, d + 1 + gap);
        let mut numbers = Numbers::new(9);
        let t = numbers.floats(whole.samples * t_stride);
        let dr = numbers.floats(whole.samples * r_stride);
        for isa in isas() {
            let (_, dt) = run(&whole, isa, 2, &t, &dr);
            let half = whole.samples / 2;
            for (first, samples) in [(0, half), (half, whole.samples - half)] {
                let part = Case { samples, ..whole };
                let (from, to) = (first * t_stride, (first + samples) * t_stride);
                let (_, expected) = run(
                    &part,
                    isa,
                    2,
                    &t[from..to],
                    &dr[first * r_stride..(first + samples) * r_stride],
                );
                assert_eq!(bits(&dt[from..to]), bits(&expected));
            }
        }
    }
}
