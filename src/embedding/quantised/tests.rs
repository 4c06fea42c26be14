use super::*;
use crate::npz;
use proptest::prelude::*;

fn table(kind: QuantisedRows, values: &[f32], dim: usize) -> QuantisedTable {
    let mut all = quantised_tables(kind, &[values.len() / dim], dim, "a test").unwrap();
    let width = kind.row_bytes(dim);
    let to = all[0].rows_mut(0, values.len() / dim).chunks_exact_mut(width);
    to.zip(values.chunks_exact(dim)).for_each(|(to, x)| kind.quantise(x, to));
    all.remove(0)
}

/// PyTorch's own bytes.
#[test]
fn rows_have_the_bytes_of_the_operators_of_pytorch() {
    let path = std::path::Path::new("../shared/reference/quantised/quantised_embeddings.npz");
    if !path.exists() {
        eprintln!("skipped: {} is missing", path.display());
        return;
    }
    let of = npz::read(path);
    for (table_name, suffix) in [("table", ""), ("table128", "_128")] {
        let of_table = &of[table_name];
        let dim = of_table.shape[1];
        let values: Vec<f32> = of_table.values.iter().map(|&v| v as f32).collect();
        for (kind, name) in [(QuantisedRows::Int8, "packed8"), (QuantisedRows::Int4, "packed4")] {
            let ours = table(kind, &values, dim);
            let want = &of[&format!("{name}{suffix}")];
            assert_eq!(want.shape, [ours.rows(), kind.row_bytes(dim)]);
            for (r, want) in want.values.chunks_exact(kind.row_bytes(dim)).enumerate() {
                let want: Vec<u8> = want.iter().map(|&v| v as u8).collect();
                assert_eq!(ours.bytes.row(r), want, "{name}{suffix}, row {r}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Codes are as near as they can be; a row of f16's scale reaches a little less far.
    #[test]
    fn elements_are_within_half_a_step(
        dim in 1usize..40, rows in 1usize..5, size in 1e-3f32..1e3, x in prop::collection::vec(-1f32..1.0, 160),
    ) {
        let values: Vec<f32> = x[..dim * rows].iter().map(|v| v * size).collect();
        for kind in QuantisedRows::ALL {
            let table = table(kind, &values, dim);
            let mut out = vec![0.0; values.len()];
            table.read(0, &mut out);
            for (r, x) in values.chunks_exact(dim).enumerate() {
                let min = x.iter().copied().fold(f32::INFINITY, f32::min);
                let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let (levels, rounding) = match kind {
                    QuantisedRows::Int8 => (255.0, 1e-6),
                    // Of scale and bias, 11 bits each.
                    QuantisedRows::Int4 => (15.0, 1e-3),
                };
                let most = 0.51 * (max - min) / levels + rounding * (max.abs() + min.abs()) + 1e-7;
                for (c, x) in x.iter().enumerate() {
                    let got = out[r * dim + c];
                    prop_assert!((got - x).abs() <= most, "{kind:?}: {got} for {x}, at most {most} off");
                    let mut one = [0.0];
                    table.read(r * dim + c, &mut one);
                    prop_assert_eq!(one[0].to_bits(), got.to_bits());
                }
            }
            prop_assert_eq!(table.bytes().len(), rows * kind.row_bytes(dim));
        }
    }
}

#[test]
fn what_is_no_number_does_not_get_lost() {
    for kind in QuantisedRows::ALL {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut out = [0.0; 6];
            table(kind, &[1.0, 2.0, 3.0, 1.0, bad, 3.0], 3).read(0, &mut out);
            assert!(out[..3].iter().all(|v| v.is_finite()) && out[3..].iter().all(|v| v.is_nan()));
        }
        assert!(!kind.smaller(1) && kind.smaller(4));
    }
}
