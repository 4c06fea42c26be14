use super::*;
use crate::{
    backend::cpu::testing::{Numbers, bits, checked, close, machines},
    batch::Bags,
    embedding::{RowKind, RowTable},
    optim::OptimizerSpec,
};
use proptest::prelude::*;

const POOLINGS: [Pooling; 4] =
    [Pooling::Sum, Pooling::Mean, Pooling::WeightedFixed, Pooling::WeightedLearned];

/// Tables with random rows and row weights.
fn set(
    numbers: &mut Numbers,
    kind: RowKind,
    rows: &[usize],
    dim: usize,
    pooling: Pooling,
) -> TableSet {
    let mut set = TableSet::new(kind, rows, dim, pooling, &OptimizerSpec::SGD).unwrap();
    for table in &mut set.tables {
        table.edit(64, |_, part| part.fill_with(|| numbers.float()));
    }
    for weights in set.weights.iter_mut().flat_map(|w| &mut w.tables) {
        weights.values_mut().fill_with(|| numbers.float());
    }
    set
}

fn plain(set: &TableSet, bags: &[Bags], samples: usize) -> Vec<f64> {
    let mut out = Vec::new();
    let seen = |t: &RowTable| {
        let mut values = vec![0.0; t.elements()];
        t.seen(0, &mut values);
        values
    };
    let tables: Vec<Vec<f32>> = set.tables.iter().map(seen).collect();
    for b in 0..samples {
        for (k, table) in tables.iter().enumerate() {
            let bag = bags[k].bag(b);
            for c in 0..set.dim {
                let weight = |id: u32| match &set.weights {
                    Some(w) => f64::from(w.tables[k].values()[id as usize]),
                    None if set.pooling == Pooling::Mean => 1.0 / bag.len() as f64,
                    None => 1.0,
                };
                out.push(
                    bag.iter()
                        .map(|&id| weight(id) * f64::from(table[id as usize * set.dim + c]))
                        .sum(),
                );
            }
        }
    }
    out
}

fn check(set: &TableSet, bags: &[Bags], samples: usize, gap: usize) {
    let width = set.tables.len() * set.dim;
    let rows: Vec<usize> = set.tables.iter().map(RowTable::rows).collect();
    let stride = width + gap;
    let want = plain(set, bags, samples);
    let mut first: Option<Vec<u32>> = None;
    for (isa, threads) in machines() {
        let mut out = vec![f32::NAN; samples * stride];
        let bags = checked(bags, &rows);
        forward(&Pool::new(threads), isa, set, bags, RowsMut::new(&mut out, stride));
        for b in 0..samples {
            close(&out[b * stride..][..width], &want[b * width..][..width], 10.0, "pooled");
            assert!(
                out[b * stride + width..][..gap].iter().all(|v| v.is_nan()),
                "what lies between is left alone"
            );
        }
        let all = bits(&out);
        assert!(first.get_or_insert_with(|| all.clone()) == &all, "{isa:?}, {threads} threads");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(15))]
    #[test]
    fn any_shape_agrees_with_plain_loops(
        samples in 1usize..600, dim in 1usize..40, tables in 1usize..4, hotness in 0usize..6, gap in 0usize..3, seed: u64
    ) {
        let mut numbers = Numbers::new(seed);
        let rows: Vec<usize> = (0..tables).map(|_| 1 + numbers.below(50)).collect();
        let bags: Vec<Bags> = rows.iter().map(|&r| numbers.bags(samples, r, hotness)).collect();
        for pooling in POOLINGS {
            for kind in RowKind::ALL {
                check(&set(&mut numbers, kind, &rows, dim, pooling), &bags, samples, gap);
            }
        }
    }
}

#[test]
fn the_dimensions_of_the_workloads_agree_with_plain_loops() {
    for dim in [1, 2, 10, 16, 64, 128, 130] {
        for hotness in [0, 4] {
            let mut numbers = Numbers::new(dim as u64);
            let bags = [numbers.bags(300, 1000, hotness), numbers.bags(300, 7, hotness)];
            for pooling in POOLINGS {
                for kind in RowKind::ALL {
                    check(&set(&mut numbers, kind, &[1000, 7], dim, pooling), &bags, 300, 0);
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "bags of tables of [8] rows")]
fn bags_of_larger_tables_are_refused() {
    let set = set(&mut Numbers::new(1), RowKind::Bf16, &[7], 3, Pooling::Sum);
    let mut bags = Bags::default();
    bags.clear();
    bags.push([7]);
    let (bags, rows) = ([bags], [8]);
    let mut out = [0.0; 3];
    let out = RowsMut::new(&mut out, 3);
    forward(&Pool::new(1), Isa::best(), &set, checked(&bags, &rows), out);
}
