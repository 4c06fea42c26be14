use super::*;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn config(preset: &str) -> PlantedConfig {
    PlantedConfig { train_samples: 1 << 20, eval_samples: 20_000, ..PlantedConfig::of(preset) }
}

fn custom(tables: &[usize], hotness: &[usize], dense: usize) -> PlantedConfig {
    PlantedConfig {
        tables: tables.to_vec(),
        hotness: hotness.to_vec(),
        dense: Some(dense),
        ..config("custom")
    }
}

fn read(source: &mut dyn Source, epoch: u64, start: u64, n: usize) -> Batch {
    let mut batch = Batch::with_capacity(source.schema(), n);
    source.fill(epoch, start, n, &mut batch).unwrap();
    batch
}

/// Sample `i` of a batch, as numbers that can be compared.
fn sample(batch: &Batch, i: usize) -> (Vec<u32>, Vec<Vec<u32>>, u32) {
    let d = batch.dense.len() / batch.len;
    let dense = batch.dense[i * d..(i + 1) * d].iter().map(|x| x.to_bits()).collect();
    (dense, batch.bags.iter().map(|b| b.bag(i).to_vec()).collect(), batch.labels[i].to_bits())
}

/// Any change of these hashes changes the data set: results stop being comparable with earlier
/// ones.
#[test]
fn the_first_samples_never_change() {
    for (preset, golden) in [
        ("criteo_kaggle", "097fd271770568d9c3c8ef76e79826a97afa742b141d4b54c9da1b6601534b5b"),
        ("criteo_terabyte", "bd54e1f0fe09a02655b7e0f23c05f0f4466d99b7c14319414063b7f93cf2774a"),
    ] {
        let mut data = open(&config(preset)).unwrap();
        let mut hash = Sha256::new();
        for source in [&mut data.train, &mut data.eval] {
            let batch = read(source.as_mut(), 0, 0, 1000);
            batch.dense.iter().for_each(|x| hash.update(x.to_le_bytes()));
            batch.bags.iter().flat_map(|b| &b.indices).for_each(|x| hash.update(x.to_le_bytes()));
            batch.labels.iter().for_each(|x| hash.update(x.to_le_bytes()));
        }
        hash.update(data.facts.best_auc.unwrap().to_le_bytes());
        let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden, "{preset}");
    }
}

#[test]
fn ids_follow_the_exponents_that_were_asked_for() {
    let asked = [0.0, 0.5, 1.0, 1.7];
    let mut data =
        open(&PlantedConfig { exponents: asked.to_vec(), ..custom(&[500; 4], &[], 1) }).unwrap();
    let batch = read(data.train.as_mut(), 0, 0, 40_000);
    for (bags, q) in batch.bags.iter().zip(asked) {
        let mut profile = crate::data::locality::Profile::default();
        bags.indices.iter().for_each(|&id| profile.access(id));
        let found = crate::data::locality::zipf_exponent(&profile.frequencies(), 500).unwrap();
        // Sorting by frequency makes chance look like order, most of all where there is none.
        assert!((found - q).abs() < if q == 0.0 { 0.15 } else { 0.05 }, "{found} instead of {q}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_range_holds_the_same_samples(
        tables in prop::collection::vec((1usize..3000, 1usize..4), 0..5),
        dense in 1usize..6,
        start in 0u64..10_000,
        n in 1usize..300,
        at in 0usize..300,
    ) {
        let (rows, hotness): (Vec<_>, Vec<_>) = tables.into_iter().unzip();
        let mut data = open(&custom(&rows, &hotness, dense)).unwrap();
        let whole = read(data.train.as_mut(), 0, start, n);
        prop_assert_eq!(whole.len, n);
        prop_assert_eq!(whole.dense.len(), n * dense);
        for (t, bags) in whole.bags.iter().enumerate() {
            prop_assert_eq!(bags.offsets.len(), n + 1);
            prop_assert_eq!(bags.indices.len(), n * hotness[t]);
            prop_assert!(bags.indices.iter().all(|&id| (id as usize) < rows[t]));
        }
        let i = at % n;
        let one = read(data.train.as_mut(), 0, start + i as u64, 1);
        prop_assert_eq!(sample(&one, 0), sample(&whole, i));
        // The log goes on from epoch to epoch; the evaluation split stays what it is.
        let len = data.train.len().unwrap();
        prop_assert_eq!(sample(&read(data.train.as_mut(), 1, i as u64, 1), 0), sample(&read(data.train.as_mut(), 0, len + i as u64, 1), 0));
        prop_assert_eq!(read(data.eval.as_mut(), 1, 0, n), read(data.eval.as_mut(), 0, 0, n));
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let spec = Spec::new(&config("criteo_kaggle")).unwrap();
    let log = Log::new(&spec, 9);
    let (mut fast, mut plain) = (log.new_block(), log.new_block());
    for first in [0, 1000, u64::MAX - 20] {
        log.fill(Split::Train, first, &mut fast);
        log.fill_portable(Split::Train, first, &mut plain);
        assert_eq!(fast.ids, plain.ids);
        assert_eq!(fast.dense, plain.dense);
        assert_eq!(fast.probabilities.map(f64::to_bits), plain.probabilities.map(f64::to_bits));
        assert_eq!(fast.labels, plain.labels);
    }
}

#[test]
fn splits_and_seeds_share_no_samples() {
    let mut seen = std::collections::HashSet::new();
    for seed in [1, 2] {
        let mut data = open(&PlantedConfig { seed, ..config("criteo_kaggle") }).unwrap();
        for source in [&mut data.train, &mut data.eval] {
            let batch = read(source.as_mut(), 0, 0, 5000);
            for i in 0..batch.len {
                assert!(seen.insert(sample(&batch, i)), "seed {seed}, sample {i} is there twice");
            }
        }
    }
}

#[test]
fn presets_meet_their_positive_rate_whatever_the_seed() {
    for (preset, rate) in [("criteo_kaggle", 0.256), ("criteo_terabyte", 0.032)] {
        for seed in [1, 7, 1 << 40] {
            let mut data =
                open(&PlantedConfig { seed, eval_samples: 100_000, ..config(preset) }).unwrap();
            let base = data.facts.base_rate.unwrap();
            let train = read(data.train.as_mut(), 0, 0, 100_000).labels.iter().sum::<f32>() / 1e5;
            assert!((base - rate).abs() < 0.02 * rate + 0.004, "{preset} {seed}: {base}");
            assert!(
                (f64::from(train) - rate).abs() < 0.02 * rate + 0.004,
                "{preset} {seed}: {train}"
            );
        }
    }
    let data = open(&PlantedConfig {
        positive_rate: Some(0.5),
        eval_samples: 50_000,
        ..config("criteo_kaggle")
    })
    .unwrap();
    assert!((data.facts.base_rate.unwrap() - 0.5).abs() < 0.01);
}

#[test]
fn missing_values_and_caps() {
    let mut data =
        open(&PlantedConfig { max_rows: Some(1000), ..config("criteo_kaggle") }).unwrap();
    assert!(data.train.schema().tables.iter().all(|t| t.rows <= 1000));
    let batch = read(data.train.as_mut(), 0, 0, 50_000);
    let missing =
        |t: usize| batch.bags[t].indices.iter().filter(|&&id| id == 0).count() as f64 / 5e4;
    for (t, share) in [(2, 0.03), (5, 0.13), (18, 0.45), (21, 0.80)] {
        assert!((missing(t) - share).abs() < 0.01, "column {t}: {}", missing(t));
    }
    let zeros = |d: usize| {
        batch.dense.iter().skip(d).step_by(13).filter(|&&x| x == 0.0).count() as f64 / 5e4
    };
    // I12: 78% missing, and more than half of the rest are counts of 0.
    assert!(zeros(11) > 0.85 && zeros(4) < 0.10, "{} {}", zeros(11), zeros(4));
    assert!(batch.dense.iter().all(|&x| (0.0..=15.01).contains(&x)));
}

#[test]
fn wrong_settings_say_what_would_be_right() {
    let base = custom(&[10, 20], &[], 2);
    let cases = [
        (
            PlantedConfig { preset: "kaggle".into(), ..base.clone() },
            "criteo_kaggle, criteo_terabyte or custom",
        ),
        (
            PlantedConfig { preset: "criteo_kaggle".into(), ..base.clone() },
            "belong to preset \"custom\"",
        ),
        (PlantedConfig { hotness: vec![1], ..base.clone() }, "1 entries for 2 tables"),
        (PlantedConfig { hotness: vec![1, 0], ..base.clone() }, "data.hotness[1] = 0"),
        (PlantedConfig { exponents: vec![1.0], ..base.clone() }, "1 entries for 2 tables"),
        (
            PlantedConfig { exponents: vec![1.0, f64::NAN], ..base.clone() },
            "data.exponents[1] = NaN",
        ),
        (PlantedConfig { tables: vec![10, 0], ..base.clone() }, "data.tables[1] = 0"),
        (PlantedConfig { tables: vec![1 << 33], ..base.clone() }, "data.tables[0] = 8589934592"),
        (PlantedConfig { tables: vec![], dense: Some(0), ..base.clone() }, "at least one column"),
        (PlantedConfig { max_rows: Some(0), ..base.clone() }, "data.max_rows = 0"),
        (PlantedConfig { positive_rate: Some(1.0), ..base.clone() }, "data.positive_rate = 1"),
        (PlantedConfig { train_samples: 0, ..base.clone() }, "data.train_samples = 0"),
        (PlantedConfig { eval_samples: 0, ..base.clone() }, "data.eval_samples = 0"),
        (PlantedConfig { eval_samples: 1, ..base.clone() }, "take more samples"),
        (
            PlantedConfig { eval_samples: 1 << 40, ..base.clone() },
            "data.eval_samples = 1099511627776",
        ),
    ];
    for (config, part) in cases {
        let error = open(&config).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}
