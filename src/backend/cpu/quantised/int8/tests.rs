use super::*;
use crate::backend::{
    Linear, QuantisedLayers,
    cpu::{
        gemm::Gemm,
        quantised::Layers,
        testing::{Numbers, bits, machines},
    },
};
use crate::npz;
use proptest::prelude::*;
use std::{collections::HashMap, path::Path};

fn reference() -> Option<HashMap<String, npz::Array>> {
    let path = Path::new("../shared/reference/quantised/dynamic_linear.npz");
    if !path.exists() {
        eprintln!("skipped: {} is missing", path.display());
        return None;
    }
    Some(npz::read(path))
}

fn floats(of: &HashMap<String, npz::Array>, name: &str) -> Vec<f32> {
    of[name].values.iter().map(|&v| v as f32).collect()
}

/// A layer's outputs on one machine.
fn run(
    kind: QuantisedLayers,
    (isa, threads): (Isa, usize),
    s: LinearShape,
    (x, stride): (&[f32], usize),
    (w, bias, relu): (&[f32], Option<&[f32]>, bool),
) -> Vec<f32> {
    let pool = Pool::new(threads);
    let mut gemm = Gemm::new(isa, crate::backend::Precision::Fp32, threads, &[]).unwrap();
    let mut layers = Layers::new(kind);
    layers.add(7, [s.output, s.input]).unwrap();
    layers.edit(7, &mut |to| to.copy_from_slice(w));
    layers.plan(&mut gemm, s).unwrap();
    assert_eq!(layers.bytes(), kind.bytes([s.output, s.input]));
    let layer = Linear { weight: 7, bias: None, inputs: s.input, outputs: s.output };
    let mut y = vec![f32::NAN; s.batch * (s.output + 1)];
    let on = (&pool, isa, &mut gemm);
    let to = RowsMut::new(&mut y, s.output + 1);
    layers.forward(on, layer, (Rows::new(x, stride), s.batch), (bias, relu), to);
    assert!(y.chunks_exact(s.output + 1).all(|row| row[s.output].is_nan()), "written into a gap");
    y.chunks_exact(s.output + 1).flat_map(|row| row[..s.output].to_vec()).collect()
}

/// PyTorch's own weights and outputs: every bit of int8; of f16 what another order of sums leaves.
#[test]
fn layers_have_the_outputs_of_the_operators_of_pytorch() {
    let Some(of) = reference() else { return };
    for i in 0..3 {
        let [x, w, b] = ["x", "w", "b"].map(|name| floats(&of, &format!("{name}{i}")));
        let (batch, input) = (of[&format!("x{i}")].shape[0], of[&format!("x{i}")].shape[1]);
        let output = b.len();
        let s = LinearShape { batch, input, output };
        let mut weight = Weight::zeros(output, input).unwrap();
        weight.quantise(&w);
        assert_eq!([weight.scale], floats(&of, &format!("w{i}_scale"))[..]);
        let codes = weight.codes.chunks_exact(padded(input)).flat_map(|row| &row[..input]);
        let codes: Vec<f64> = codes.map(|&c| f64::from(c)).collect();
        assert_eq!(codes, of[&format!("w{i}_int8")].values);
        for machine in machines() {
            let layer = (&w[..], Some(&b[..]), false);
            let got = run(QuantisedLayers::Int8, machine, s, (&x, input), layer);
            assert_eq!(bits(&got), bits(&floats(&of, &format!("y{i}_int8"))), "{machine:?}");
            let got = run(QuantisedLayers::Fp16, machine, s, (&x, input), layer);
            for (got, want) in got.iter().zip(floats(&of, &format!("y{i}_fp16"))) {
                assert!((got - want).abs() <= 1e-6, "{machine:?}: {got} {want}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Plain loops, of whole numbers and of f64; every instruction set and thread count.
    #[test]
    fn any_shape_agrees_with_plain_loops(
        batch in 1usize..80, input in 1usize..100, output in 1usize..140, gap in 0usize..3,
        size in prop::sample::select(vec![1e-6f32, 0.1, 1.0, 300.0]), shift in -2f32..2.0, relu: bool, biased: bool, seed: u64,
    ) {
        let s = LinearShape { batch, input, output };
        let mut numbers = Numbers::new(seed);
        let stride = input + gap;
        let x: Vec<f32> = numbers.floats(batch * stride).iter().map(|v| size * (v + shift)).collect();
        let (w, b) = (numbers.floats(output * input), numbers.floats(output));
        let bias = biased.then_some(&b[..]);
        let rows: Vec<&[f32]> = x.chunks_exact(stride).map(|row| &row[..input]).collect();
        // The formulas, in f64 but for what is kept in f32.
        let min = rows.iter().copied().flatten().fold(0f32, |a, &v| a.min(v));
        let max = rows.iter().copied().flatten().fold(0f32, |a, &v| a.max(v));
        let scale = InputScale::of(min, max);
        let most = w.iter().fold(0f32, |a, v| a.max(v.abs()));
        let w_scale = most / 127.5;
        let code = |v: f32| f64::from(v.mul_add(1.0 / scale.scale, scale.zero as f32)).round_ties_even();
        let w_code = |v: f32| f64::from(v * (1.0 / w_scale)).round_ties_even().clamp(-128.0, 127.0);
        prop_assert!((0..=127).contains(&scale.zero));
        prop_assert!(rows.iter().copied().flatten().all(|&v| (0.0..=128.0).contains(&code(v))));
        let with_bias = |n: usize| bias.map_or(0.0, |b| b[n]);
        let end = |v: f32| if relu { v.max(0.0) } else { v };
        let mut first: Option<Vec<u32>> = None;
        for machine in machines() {
            let layer = (&w[..], bias, relu);
            let got = run(QuantisedLayers::Int8, machine, s, (&x, stride), layer);
            match &first {
                Some(bits_before) => prop_assert!(bits_before == &bits(&got), "{:?}", machine),
                None => {
                    for (r, row) in rows.iter().enumerate() {
                        for (n, w) in w.chunks_exact(input).enumerate() {
                            let sum: f64 = row.iter().zip(w)
                                .map(|(&x, &w)| (code(x) - f64::from(scale.zero)) * w_code(w)).sum();
                            let want = end((sum as f32).mul_add(scale.scale * w_scale, with_bias(n)));
                            prop_assert_eq!(got[r * output + n], want);
                        }
                    }
                    first = Some(bits(&got));
                }
            }
            let got = run(QuantisedLayers::Fp16, machine, s, (&x, stride), layer);
            for (r, row) in rows.iter().enumerate() {
                for (n, w) in w.chunks_exact(input).enumerate() {
                    let term = |(&x, &w): (&f32, &f32)| f64::from(x) * half::f16::from_f32(w).to_f64();
                    let sum: f64 = row.iter().zip(w).map(term).sum::<f64>() + f64::from(with_bias(n));
                    let all: f64 = row.iter().zip(w).map(|t| term(t).abs()).sum::<f64>() + 1.0;
                    let want = if relu { sum.max(0.0) } else { sum };
                    let off = (f64::from(got[r * output + n]) - want).abs();
                    prop_assert!(off <= 1e-6 * all, "{:?}: off by {}", machine, off);
                }
            }
        }
    }

    /// A weight comes back within half a step.
    #[test]
    fn weights_are_within_half_a_step(input in 1usize..50, output in 1usize..9, size in 1e-3f32..1e3, seed: u64) {
        let w: Vec<f32> = Numbers::new(seed).floats(input * output).iter().map(|v| v * size).collect();
        for (kind, step) in [(QuantisedLayers::Int8, 1.01 / 127.5), (QuantisedLayers::Fp16, 1.0 / 1024.0)] {
            let mut layers = Layers::new(kind);
            layers.add(0, [output, input]).unwrap();
            layers.edit(0, &mut |to| to.copy_from_slice(&w));
            let most = w.iter().fold(0f32, |a, v| a.max(v.abs()));
            let from = input / 2;
            let mut out = vec![0.0; w.len() - from];
            layers.read(0, from, &mut out);
            // The greatest lies half a step beyond the last code.
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.51 * step * most + 1e-7;
            prop_assert!(out.iter().zip(&w[from..]).all(near), "{:?}", kind);
        }
    }
}

#[test]
fn scales_of_inputs_are_those_of_pytorch_at_the_edges() {
    let of = |min, max| InputScale::of(min, max);
    // Nothing but zeros, and what has no inverse.
    assert_eq!(of(0.0, 0.0), InputScale { scale: 0.1, zero: 0 });
    assert_eq!(of(0.0, 1e-44), InputScale { scale: 0.1, zero: 0 });
    // Zero always has a code.
    assert_eq!(of(1.0, 127.0), InputScale { scale: 1.0, zero: 0 });
    assert_eq!(of(-127.0, -1.0), InputScale { scale: 1.0, zero: 127 });
    assert_eq!(of(-27.0, 100.0), InputScale { scale: 1.0, zero: 27 });
    // Scales below 6.1e-5 are cut off.
    assert_eq!(of(0.0, 1e-4), InputScale { scale: 6.1e-5, zero: 0 });
    assert_eq!(of(-1e-4, 0.0), InputScale { scale: 6.1e-5, zero: 127 });
    assert_eq!(of(-1e-4, 1e-4).scale, 6.1e-5);
    assert!((63..=64).contains(&of(-1e-4, 1e-4).zero));
    assert!(of(-1.0, f32::INFINITY).scale.is_nan());
}

#[test]
fn what_is_no_number_does_not_get_lost() {
    let s = LinearShape { batch: 2, input: 3, output: 2 };
    let (x, w) = ([1.0, -2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0, 5.0, -6.0]);
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bad_x = x;
        bad_x[4] = bad;
        let mut bad_w = w;
        bad_w[1] = bad;
        for machine in machines() {
            for (x, w) in [(bad_x, w), (x, bad_w)] {
                let got = run(QuantisedLayers::Int8, machine, s, (&x, 3), (&w, None, true));
                assert!(got.iter().all(|v| v.is_nan()), "{got:?}");
                let got = run(QuantisedLayers::Fp16, machine, s, (&x, 3), (&w, None, false));
                assert!(got.iter().any(|v| !v.is_finite()), "{got:?}");
            }
        }
    }
    let error = Weight::zeros(1, MOST_INPUTS + 1).unwrap_err().to_string();
    assert!(error.contains("65537 inputs") && error.contains("at most 65536"), "{error}");
}
