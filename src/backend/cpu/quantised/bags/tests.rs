use super::*;
use crate::{
    backend::cpu::{
        quantised::edit_table,
        testing::{Numbers, bits, checked, machines},
    },
    batch::Bags,
    npz,
};
use proptest::prelude::*;
use std::path::Path;

/// Tables of these values, each of its rows of `set.dim`.
fn filled(kind: QuantisedRows, tables: &[Vec<f32>], dim: usize, pooling: Pooling) -> TableSet {
    let rows: Vec<usize> = tables.iter().map(|t| t.len() / dim).collect();
    let mut set = TableSet::quantised(kind, &rows, dim, pooling).unwrap();
    let pool = Pool::new(2);
    for (table, values) in set.quantised.iter_mut().flatten().zip(tables) {
        // Parts that no row ends at by itself.
        edit_table(&pool, table, dim * 2 + dim / 2, &mut |at, part, _| {
            part.copy_from_slice(&values[at..][..part.len()])
        });
    }
    set
}

/// PyTorch's own bags, every bit.
#[test]
fn bags_have_the_bits_of_the_operators_of_pytorch() {
    let path = Path::new("../shared/reference/quantised/quantised_embeddings.npz");
    if !path.exists() {
        eprintln!("skipped: {} is missing", path.display());
        return;
    }
    let of = npz::read(path);
    let floats = |name: &str| of[name].values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let (ids, starts) = (&of["indices"].values, &of["offsets"].values);
    let bag = |s: usize| {
        let end = starts.get(s + 1).map_or(ids.len(), |&e| e as usize);
        starts[s] as usize..end
    };
    let (table, weights) = (floats("table128"), floats("weights"));
    for (kind, name) in [(QuantisedRows::Int8, "bag8"), (QuantisedRows::Int4, "bag4")] {
        let set = filled(kind, std::slice::from_ref(&table), 128, Pooling::Sum);
        for (isa, threads) in machines() {
            let mut bags = Bags::default();
            bags.clear();
            for s in 0..starts.len() {
                bags.push(ids[bag(s)].iter().map(|&id| id as u32).collect::<Vec<_>>());
            }
            let mut out = vec![f32::NAN; starts.len() * 128];
            let (all, rows) = ([bags], [60]);
            let (pool, to) = (Pool::new(threads), RowsMut::new(&mut out, 128));
            let tables = set.quantised.as_deref().unwrap();
            forward((&pool, isa), &set, tables, checked(&all, &rows), to);
            assert_eq!(bits(&out), bits(&floats(name)), "{name} {isa:?}");
        }
        // Weights there are of places in bags, here of rows: a table with a row for each place.
        let by_place: Vec<f32> =
            ids.iter().flat_map(|&id| table[id as usize * 128..][..128].to_vec()).collect();
        let mut set = filled(kind, &[by_place], 128, Pooling::WeightedFixed);
        let to = &mut set.weights.as_mut().unwrap().tables[0];
        to.values_mut().copy_from_slice(&weights);
        let mut bags = Bags::default();
        bags.clear();
        for s in 0..starts.len() {
            bags.push(bag(s).map(|at| at as u32).collect::<Vec<_>>());
        }
        let mut out = vec![f32::NAN; starts.len() * 128];
        let (all, rows) = ([bags], [ids.len()]);
        let (pool, to) = (Pool::new(1), RowsMut::new(&mut out, 128));
        let tables = set.quantised.as_deref().unwrap();
        forward((&pool, Isa::best()), &set, tables, checked(&all, &rows), to);
        assert_eq!(bits(&out), bits(&floats(&format!("{name}_weighted"))), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_shape_agrees_with_plain_loops(
        samples in 1usize..300, sizes in prop::collection::vec(1usize..60, 1..4), dim in 2usize..37, hotness in 0usize..6,
        pooling in prop::sample::select(vec![Pooling::Sum, Pooling::Mean, Pooling::WeightedFixed, Pooling::WeightedLearned]),
        gap in 0usize..3, column in 0usize..2, seed: u64,
    ) {
        let mut numbers = Numbers::new(seed);
        let values: Vec<Vec<f32>> = sizes.iter().map(|rows| numbers.floats(rows * dim)).collect();
        // Columns before those of the set are of others.
        let all_rows: Vec<usize> = std::iter::repeat_n(3, column).chain(sizes.iter().copied()).collect();
        let bags: Vec<Bags> = all_rows.iter().map(|&rows| numbers.bags(samples, rows, hotness)).collect();
        let stride = sizes.len() * dim + gap;
        for kind in QuantisedRows::ALL {
            let mut set = filled(kind, &values, dim, pooling);
            set.column = column;
            for weights in set.weights.iter_mut().flat_map(|w| &mut w.tables) {
                weights.values_mut().iter_mut().for_each(|w| *w = numbers.float());
            }
            let tables = set.quantised.as_deref().unwrap();
            let mut first: Option<Vec<u32>> = None;
            for (isa, threads) in machines() {
                let mut out = vec![f32::NAN; samples * stride];
                let (pool, to) = (Pool::new(threads), RowsMut::new(&mut out, stride));
                forward((&pool, isa), &set, tables, checked(&bags, &all_rows), to);
                match &first {
                    Some(before) => prop_assert!(before == &bits(&out), "{isa:?} {threads}"),
                    None => first = Some(bits(&out)),
                }
                for s in 0..samples {
                    let row = &out[s * stride..][..stride];
                    prop_assert!(row[sizes.len() * dim..].iter().all(|v| v.is_nan()), "written into a gap");
                    for (k, table) in tables.iter().enumerate() {
                        let bags = &bags[column + k];
                        let ids = &bags.indices[bags.offsets[s] as usize..bags.offsets[s + 1] as usize];
                        let share = if pooling == Pooling::Mean && ids.len() > 1 { ids.len() as f64 } else { 1.0 };
                        for c in 0..dim {
                            let element = |id: u32| {
                                let mut v = [0.0];
                                table.read(id as usize * dim + c, &mut v);
                                let w = set.weights.as_ref().map_or(1.0, |w| w.tables[k].values()[id as usize]);
                                f64::from(v[0]) * f64::from(w)
                            };
                            let want = ids.iter().map(|&id| element(id)).sum::<f64>() / share;
                            let got = f64::from(row[k * dim + c]);
                            // Codes go up to 255 steps of a range of at most 2.
                            prop_assert!((got - want).abs() <= 2e-6 * (1.0 + ids.len() as f64), "{kind:?}: {got} {want}");
                        }
                    }
                }
            }
        }
    }
}
