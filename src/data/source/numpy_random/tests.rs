use super::*;
use proptest::prelude::*;

fn config(tables: &[usize], dense: usize, samples: u64, k: usize) -> NumpyRandomConfig {
    NumpyRandomConfig {
        tables: tables.to_vec(),
        dense,
        samples,
        indices_per_lookup: k,
        fixed_indices: false,
        distribution: RandomIds::Uniform,
        round_targets: false,
        seed: 5,
    }
}

/// Bags drawn from a file, as `generate_synthetic_input_batch` draws them: the file is read anew
/// for each.
#[test]
fn traces_are_drawn_as_facebook_draws_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dist_emb_0.log");
    let pattern =
        AccessPattern::new(vec![4, 9, 1, 7, 3], vec![0, 1, 2, 5], vec![0.3, 0.6, 0.7, 1.0])
            .unwrap();
    std::fs::write(&file, pattern.to_text()).unwrap();
    let trace = |restart| RandomIds::Trace { files: vec![file.clone()], padding: true, restart };
    // The second table is too small for the trace's ids.
    let faithful =
        NumpyRandomConfig { distribution: trace(TraceRestart::Bag), ..config(&[10, 5], 2, 7, 6) };
    let mut data = open(&faithful, DrawOrder::default(), 3).unwrap();
    let note = "table 1: the trace holds ids up to 9; all are taken modulo the table's 5 rows";
    assert_eq!(data.facts.notes, [note]);
    let (mut state, mut found) =
        (RandomState::new(5), Batch::with_capacity(data.train.schema(), 3));
    for (start, n) in [(0, 3), (3, 3), (6, 1)] {
        data.train.fill(0, start, n, &mut found).unwrap();
        let dense: Vec<f32> = (0..2 * n).map(|_| state.random_sample() as f32).collect();
        assert_eq!(found.dense, dense);
        for (bags, rows) in found.bags.iter().zip([10u32, 5]) {
            for b in 0..n {
                let size = (state.random_sample() * f64::from(rows.min(6)))
                    .round_ties_even()
                    .max(1.0) as usize;
                let mut stream = LruTrace::new(Arc::new(pattern.clone()), true);
                let drawn: std::collections::BTreeSet<u32> =
                    (0..size).map(|_| stream.next(state.random_sample())).collect();
                assert_eq!(bags.bag(b), drawn.into_iter().map(|id| id % rows).collect::<Vec<_>>());
            }
        }
        // The targets.
        for _ in 0..n {
            state.random_sample();
        }
    }

    // One stream an epoch: later bags do not begin with the trace's first id, and epochs are alike.
    let mut data = open(
        &NumpyRandomConfig { distribution: trace(TraceRestart::Epoch), ..faithful },
        DrawOrder::default(),
        3,
    )
    .unwrap();
    let mut bags = |epoch| {
        let mut batch = Batch::with_capacity(data.train.schema(), 7);
        data.train.fill(epoch, 0, 7, &mut batch).unwrap();
        batch.bags
    };
    let first = bags(0);
    assert!((1..7).any(|b| !first[0].bag(b).contains(&4)), "{first:?}");
    assert_eq!(first, bags(1));
    std::fs::write(&file, "1\n").unwrap();
    let error = open(
        &NumpyRandomConfig { distribution: trace(TraceRestart::Bag), ..config(&[10], 2, 7, 6) },
        DrawOrder::default(),
        3,
    );
    assert!(error.err().unwrap().to_string().contains("1 lines with numbers; 3 are right"));
}

/// Number of ids, a checksum of them in drawing order, sum of dense features, sum of targets, next
/// number of the stream.
fn fingerprint(config: &NumpyRandomConfig, batch_size: usize) -> (u64, u64, f64, f64, f64) {
    let mut data =
        open(config, DrawOrder { data_first: true, targets_last: false }, batch_size).unwrap();
    let mut batch = Batch::default();
    batch.bags.resize_with(config.tables.len(), Default::default);
    let (mut count, mut hash, mut dense, mut targets) = (0, 0, 0.0, 0.0);
    for start in (0..config.samples).step_by(batch_size) {
        let n = (config.samples - start).min(batch_size as u64) as usize;
        data.train.fill(0, start, n, &mut batch).unwrap();
        for (t, bags) in batch.bags.iter().enumerate() {
            for &id in &bags.indices {
                count += 1;
                hash = (hash * 31 + u64::from(id) * 7 + t as u64) % 1_000_000_007;
            }
        }
        batch.dense.iter().for_each(|&x| dense += f64::from(x));
        batch.labels.iter().for_each(|&x| targets += f64::from(x));
    }
    (count, hash, dense, targets, data.numpy.unwrap().random_sample())
}

/// Expected: the same loops written with numpy 2.4.6 and seed 5. The last number shows that not one
/// draw more or less was made.
#[test]
fn data_equal_numpy() {
    let gaussian = |mu, sigma, min, max| RandomIds::Gaussian { mu, sigma, min, max };
    let a = NumpyRandomConfig { round_targets: true, ..config(&[97, 1, 5], 3, 23, 6) };
    assert_eq!(fingerprint(&a, 5), (129, 430917303, 37.23125113919377, 13.0, 0.006608107989574563));
    let b = NumpyRandomConfig {
        fixed_indices: true,
        distribution: gaussian(None, 4.0, 2.0, 25.0),
        ..config(&[40, 30], 1, 17, 7)
    };
    assert_eq!(
        fingerprint(&b, 4),
        (238, 969142196, 7.8524371311068535, 8.76264302432537, 0.7646026501940553)
    );
    let c = NumpyRandomConfig {
        round_targets: true,
        distribution: gaussian(Some(3.0), 9.0, 0.0, 8.0),
        ..config(&[40, 30, 9], 0, 17, 5)
    };
    assert_eq!(fingerprint(&c, 17), (105, 196666500, 0.0, 8.0, 0.4381688926061602));
    let d = NumpyRandomConfig { fixed_indices: true, ..config(&[3, 1000], 2, 31, 5) };
    assert_eq!(
        fingerprint(&d, 10),
        (230, 740567869, 30.48070101812482, 16.54624889884144, 0.6724082824575307)
    );
}

proptest! {
    /// What a source answers depends on the range alone, not on what was asked before; bags respect
    /// the schema.
    #[test]
    fn any_range_at_any_time(samples in 1u64..40, unit in 1usize..9, last: bool, asks in prop::collection::vec((0u64..40, 0usize..20), 1..8)) {
        let c = config(&[7, 1, 300], 2, samples, 4);
        let order = DrawOrder { targets_last: last, ..DrawOrder::default() };
        let open = || open(&c, order, unit).unwrap();
        let (schema, mut whole, mut part) = (schema(&c), Batch::default(), Batch::default());
        whole.bags.resize_with(3, Default::default);
        part.bags.resize_with(3, Default::default);
        open().train.fill(0, 0, samples as usize, &mut whole).unwrap();
        let mut eval = open().eval;
        for (start, n) in asks {
            let start = start.min(samples);
            let n = n.min((samples - start) as usize);
            eval.fill(1, start, n, &mut part).unwrap();
            let s = start as usize;
            prop_assert_eq!(&part.labels[..], &whole.labels[s..s + n]);
            prop_assert_eq!(&part.dense[..], &whole.dense[2 * s..2 * (s + n)]);
            for ((p, w), t) in part.bags.iter().zip(&whole.bags).zip(&schema.tables) {
                for i in 0..n {
                    prop_assert_eq!(p.bag(i), w.bag(s + i));
                    prop_assert!((1..=t.max_hotness).contains(&p.bag(i).len()));
                    prop_assert!(p.bag(i).iter().all(|&id| (id as usize) < t.rows));
                }
            }
        }
    }
}

#[test]
fn impossible_settings_are_refused() {
    let gaussian = |min, max| NumpyRandomConfig {
        distribution: RandomIds::Gaussian { mu: None, sigma: 1.0, min, max },
        ..config(&[9, 4], 1, 1, 1)
    };
    for (c, batch, what) in [
        (config(&[4], 1, 0, 1), 1, "at least 1"),
        (config(&[4], 1, 1, 0), 1, "at least 1"),
        (config(&[4], 1, 1, 1), 0, "at least 1"),
        (config(&[4, 0], 1, 1, 1), 1, "table 1 has 0 rows"),
        (gaussian(0.0, 4.0), 1, "do not fit table 1; its rows are 0 to 3"),
        (gaussian(-1.0, 3.0), 1, "do not fit table 0"),
        (gaussian(f64::NAN, 3.0), 1, "do not fit table 0"),
    ] {
        let error = open(&c, DrawOrder::default(), batch).err().unwrap().to_string();
        assert!(error.contains(what), "{error}");
    }
}
