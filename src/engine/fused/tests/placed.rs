//! Rows that several ranks share, and small tables that all of them have, against one rank.

use super::{
    ranks::{LENS, Seen, alone, bits, near, on_ranks, ranked, seen},
    *,
};
use crate::engine::ranks::place;

/// Models whose rows several ranks may share.
pub(super) fn cuttable() -> Vec<ModelSpec> {
    let dot = Interaction::Dot { self_interaction: true, pad_to: 8 };
    vec![
        dlrm(dot, Pooling::Sum),
        dlrm(Interaction::Cat, Pooling::WeightedLearned),
        deepfm(false, 0.5, DENSE),
    ]
}

#[test]
fn rows_that_ranks_share_are_those_of_one_rank() {
    let shares = |config: &EngineConfig, ranks| {
        let placement = place(config, ranks, None).unwrap();
        placement.owners.iter().map(Vec::len).max().unwrap()
    };
    for (i, model) in cuttable().into_iter().enumerate() {
        for (k, rule) in rules().into_iter().enumerate() {
            let plain = config(model.clone(), rule, 1 + i % 2);
            if plain.moves_all_rows() {
                continue;
            }
            let config = EngineConfig { split_rows: true, ..plain.clone() };
            let ranks = [4, 5, 7, 8][(i + k) % 4];
            assert!(shares(&config, ranks) > 1 && shares(&plain, ranks) == 1);
            let (start, one) = (alone(&plain, &[]), alone(&plain, &LENS[..1]));
            let got = ranked(&config, ranks, &[]);
            assert_eq!((&got.params, &got.state), (&start.params, &start.state));
            near(&ranked(&config, ranks, &LENS[..1]), &one, 1e-4);
            let got = ranked(&config, ranks, &LENS);
            assert_eq!(got, ranked(&config, ranks, &LENS), "not reproducible");
            near(&got, &alone(&plain, &LENS), 0.02);
        }
    }
}

#[test]
fn shared_rows_are_rounded_by_the_numbers_that_they_have_in_the_table() {
    let mut plain = config(cuttable().remove(0), OptimizerSpec::SGD, 1);
    plain.embedding_rows = RowKind::Bf16;
    let config = EngineConfig { split_rows: true, ..plain.clone() };
    let (got, want) = (ranked(&config, 4, &LENS[..1]), alone(&plain, &LENS[..1]));
    let tables = |seen: &Seen| -> Vec<u32> {
        let all = config.model.params().into_iter().zip(seen.params.clone());
        all.filter(|(p, _)| p.kind == ParamKind::Table).flat_map(|(_, bits)| bits).collect()
    };
    let (got, want) = (tables(&got), tables(&want));
    // A sum in another order may fall to the other side of a draw.
    let differ = got.iter().zip(&want).filter(|(a, b)| a != b).count();
    assert!(50 * differ < want.len(), "{differ} of {}", want.len());
}

#[test]
fn numbers_written_to_shared_rows_are_read_back() {
    let model = dlrm(Interaction::Cat, Pooling::WeightedLearned);
    let config = EngineConfig { split_rows: true, ..config(model, rules()[1], 1) };
    on_ranks(&config, 5, InitSource::Philox { seed: 11 }, |e| {
        for index in 0..e.params().len() {
            let len = e.params()[index].len();
            let values: Vec<f32> = (0..len).map(|i| (index * 1000 + i) as f32).collect();
            // Parts that end within rows.
            for first in (0..len).step_by(13) {
                e.write_from(index, first, &values[first..len.min(first + 13)]).unwrap();
            }
            for first in 0..len {
                let mut out = vec![0.0; 7.min(len - first)];
                e.read_from(index, first, &mut out).unwrap();
                assert_eq!(out, values[first..][..out.len()], "{index} from {first}");
            }
        }
    });
}

#[test]
fn small_tables_that_all_ranks_have_are_those_of_one_rank() {
    let mut models = cuttable();
    models.remove(1);
    models.push(dlrm(Interaction::Cat, Pooling::Mean));
    for (i, model) in models.into_iter().enumerate() {
        for (k, rule) in rules().into_iter().enumerate() {
            let plain = config(model.clone(), rule, 1 + i % 2);
            if plain.moves_all_rows() {
                continue;
            }
            let ranks = [2, 3, 4][(i + k) % 3];
            // With rows that ranks share beside them, where they may.
            let split_rows = k % 2 == 0 && i < 2;
            let config = EngineConfig { replicate_small: true, split_rows, ..plain.clone() };
            let everywhere = place(&config, ranks, None).unwrap().everywhere;
            assert_eq!(everywhere, if ranks == 2 { vec![0, 2] } else { vec![2] });
            let (start, one) = (alone(&plain, &[]), alone(&plain, &LENS[..1]));
            let got = ranked(&config, ranks, &[]);
            assert_eq!((&got.params, &got.state), (&start.params, &start.state));
            assert_eq!(got.before, start.before);
            near(&ranked(&config, ranks, &LENS[..1]), &one, 1e-4);
            let got = ranked(&config, ranks, &LENS);
            assert_eq!(got, ranked(&config, ranks, &LENS), "not reproducible");
            near(&got, &alone(&plain, &LENS), 0.02);
        }
    }
}

#[test]
fn every_rank_has_the_same_copy_of_small_tables() {
    let model = dlrm(Interaction::Cat, Pooling::Sum);
    let mut config = EngineConfig { replicate_small: true, ..config(model, rules()[1], 1) };
    config.embedding_rows = RowKind::Bf16;
    // Predictions of samples that each rank computes with its own copy.
    let twice = |b: &Batch| {
        let mut b = b.clone();
        for bags in &mut b.bags {
            let (ids, ends) = (bags.indices.clone(), bags.offsets[1..].to_vec());
            bags.offsets.extend(ends.iter().map(|end| end + ids.len() as u32));
            bags.indices.extend(ids);
        }
        (b.dense, b.labels) = (b.dense.repeat(2), b.labels.repeat(2));
        b.len *= 2;
        b
    };
    on_ranks(&config, 2, InitSource::Philox { seed: 11 }, |e| {
        seen(e, &config.model, &LENS);
        let b = twice(&batch(&config.model, 5, 20));
        let mut out = vec![0.0; 40];
        e.predict(&b, &mut out).unwrap();
        assert_eq!(bits(&out[..20]), bits(&out[20..]));
    });
}
