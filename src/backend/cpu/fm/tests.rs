use super::*;
use crate::backend::cpu::testing::{Numbers, bits, close, machines};
use proptest::prelude::*;

/// Sum over all pairs, one by one.
fn plain_forward(fields: usize, dim: usize, v: &[f64]) -> f64 {
    let mut total = 0.0;
    for i in 0..fields {
        for j in 0..i {
            total += (0..dim).map(|k| v[i * dim + k] * v[j * dim + k]).sum::<f64>();
        }
    }
    total
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape_agrees_with_plain_loops(samples in 1usize..150, fields in 1usize..30, dim in 1usize..40, gap in 0usize..3, seed: u64) {
        let mut numbers = Numbers::new(seed);
        let (stride, linear_stride) = (fields * dim + gap, fields + gap);
        let v = numbers.floats(samples * stride);
        let linear = numbers.floats(samples * linear_stride);
        let (start, slopes, dv) = (numbers.floats(samples), numbers.floats(samples), numbers.floats(samples * stride));
        let mut first: Option<(Isa, Vec<Vec<u32>>)> = None;
        for (isa, threads) in machines() {
            let pool = Pool::new(threads);
            let (mut logits, mut got, mut dlinear) = (start.clone(), dv.clone(), vec![f32::NAN; samples * linear_stride]);
            let shape = (fields, dim);
            forward(
                &pool, isa, samples, shape, Rows::new(&v, stride), Rows::new(&linear, linear_stride),
                RowsMut::new(&mut logits, 1),
            );
            backward(
                &pool, isa, samples, shape, Rows::new(&v, stride), Rows::new(&slopes, 1),
                RowsMut::new(&mut got, stride), RowsMut::new(&mut dlinear, linear_stride),
            );
            for b in 0..samples {
                let x = wide(&v[b * stride..][..fields * dim]);
                let sum: f64 = wide(&linear[b * linear_stride..][..fields]).iter().sum();
                let want = f64::from(start[b]) + sum + plain_forward(fields, dim, &x);
                close(&logits[b..=b], &[want], (fields * fields * dim) as f64, "logit");
                let mut want = wide(&dv[b * stride..][..fields * dim]);
                for i in 0..fields {
                    for j in (0..fields).filter(|&j| j != i) {
                        (0..dim).for_each(|k| want[i * dim + k] += f64::from(slopes[b]) * x[j * dim + k]);
                    }
                }
                close(&got[b * stride..][..fields * dim], &want, fields as f64, "dv");
                prop_assert_eq!(bits(&got[b * stride + fields * dim..][..gap]), bits(&dv[b * stride + fields * dim..][..gap]));
                prop_assert!(dlinear[b * linear_stride..][..fields].iter().all(|&g| g == slopes[b]));
                prop_assert!(dlinear[b * linear_stride + fields..][..gap].iter().all(|g| g.is_nan()));
            }
            let all = vec![bits(&logits), bits(&got), bits(&dlinear)];
            match &first {
                Some((other, bits)) if *other == isa => prop_assert!(bits == &all, "{} threads", threads),
                _ => first = Some((isa, all)),
            }
        }
    }
}

#[test]
fn the_gradient_is_that_of_the_forward() {
    let (fields, dim, h) = (4, 3, 1e-5);
    let v = wide(&Numbers::new(5).floats(fields * dim));
    for i in 0..fields * dim {
        let (mut up, mut down) = (v.clone(), v.clone());
        up[i] += h;
        down[i] -= h;
        let slope =
            (plain_forward(fields, dim, &up) - plain_forward(fields, dim, &down)) / (2.0 * h);
        let others: f64 = (0..fields).filter(|&j| j != i / dim).map(|j| v[j * dim + i % dim]).sum();
        assert!((slope - others).abs() < 1e-8);
    }
}
