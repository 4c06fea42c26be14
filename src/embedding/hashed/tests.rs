//! Rules of admission and eviction, with numbers worked out by hand.

use super::*;

const IDS: usize = 100;

fn table(config: HashedConfig) -> HashedTable {
    table_of(IDS, config)
}

fn table_of(capacity: usize, config: HashedConfig) -> HashedTable {
    let rows = (capacity + 10).min(IDS) + usize::from(!config.filter.is_none());
    let column = HashedColumn {
        name: "C1".to_owned(),
        ids: IDS,
        any_keys: false,
        resident: false,
        capacity,
        rows,
    };
    HashedTable::new(config, &column)
}

/// Slots of a training batch, and what has become of its keys.
fn step(table: &mut HashedTable, number: u64, ids: &[u32]) -> (Vec<u32>, Changes) {
    let (mut out, mut changes) = (Vec::new(), Changes::default());
    table.resolve(ids.iter().map(|&id| u64::from(id)), number, &mut out, &mut changes).unwrap();
    (out, changes)
}

fn counter(freq: u64) -> HashedConfig {
    HashedConfig { filter: FilterConfig::Counter { freq }, ..HashedConfig::default() }
}

#[test]
fn keys_get_slots_in_the_order_of_the_batches() {
    let mut t = table(HashedConfig::default());
    let (slots, changes) = step(&mut t, 1, &[70, 3, 70, 99]);
    assert_eq!((slots, changes.new), (vec![0, 1, 0, 2], vec![(0, 70), (1, 3), (2, 99)]));
    let (slots, changes) = step(&mut t, 2, &[3, 4]);
    assert_eq!((slots, changes.new), (vec![1, 3], vec![(3, 4)]));
    assert_eq!(t.counts(), TableCounts { rows: 4, admitted: 4, ..TableCounts::default() });
}

#[test]
fn a_full_table_says_so() {
    let mut t = table_of(2, HashedConfig::default());
    step(&mut t, 1, &[5, 6]);
    step(&mut t, 2, &[6, 5]);
    let (mut out, mut changes) = (Vec::new(), Changes::default());
    let full = t.resolve([5, 7].into_iter(), 3, &mut out, &mut changes).unwrap_err().to_string();
    assert!(full.starts_with("the table of column C1 is full: all its 2 rows"), "{full}");
    assert!(full.contains("embedding.capacity"), "{full}");
}

/// Whoever only predicts leaves a table as it is; unknown keys borrow rows that no key has, one for
/// each initial row.
#[test]
fn predictions_borrow_rows() {
    let config = HashedConfig { default_value_dim: Some(4), ..HashedConfig::default() };
    let mut t = table_of(2, config);
    step(&mut t, 1, &[50]);
    let (mut out, mut borrowed) = (Vec::new(), Vec::new());
    t.look_up([9, 50, 13, 8, 9].into_iter(), &mut out, &mut borrowed);
    assert_eq!((&out[..], &borrowed[..]), (&[1, 0, 1, 2, 1][..], &[(1, 1), (2, 0)][..]));
    assert_eq!((t.high(), t.counts().rows), (1, 1));
    // With a filter they read zeros, which the last row has.
    let mut t = table_of(2, counter(1));
    t.look_up([9, 50].into_iter(), &mut out, &mut borrowed);
    assert_eq!((&out[..], borrowed.len(), t.zeros()), (&[12, 12][..], 0, 12));
}

/// filter_freq = 3: 5 is seen twice in step 1 and once in step 2, where it gets its row; 7 once, once
/// and twice.
#[test]
fn a_counter_admits_what_was_seen_often_enough() {
    let mut t = table(counter(3));
    let zeros = t.zeros();
    let (slots, changes) = step(&mut t, 1, &[5, 7, 5]);
    assert_eq!(slots, [zeros; 3]);
    assert!(changes.zeros && changes.new.is_empty() && changes.admitted.is_empty());
    let (slots, changes) = step(&mut t, 2, &[7, 5]);
    assert_eq!((slots, changes.admitted, changes.zeros), (vec![zeros, 0], vec![(0, 5)], true));
    let waiting = TableCounts { rows: 1, admitted: 1, filtered: 4, waiting: 1, evicted: 0 };
    assert_eq!(t.counts(), waiting);
    let (slots, changes) = step(&mut t, 3, &[7, 5, 7]);
    assert_eq!((slots, changes.admitted, changes.zeros), (vec![1, 0, 1], vec![(1, 7)], false));
    let (slots, changes) = step(&mut t, 4, &[7]);
    assert_eq!((slots, changes), (vec![1], Changes::default()));
    let saved = t.save();
    // 5: twice, once and once; 7: once, once, twice and once.
    assert_eq!((saved.keys, saved.freqs, saved.versions), (vec![5, 7], vec![4, 5], vec![3, 4]));
}

/// filter_freq = 1: the first sight gives a row, which reads zeros in that step.
#[test]
fn a_filter_of_one_admits_at_once() {
    let (slots, changes) = step(&mut table(counter(1)), 1, &[5, 5]);
    assert_eq!((slots, changes.admitted, changes.new), (vec![0, 0], vec![(0, 5)], vec![]));
}

/// A Bloom filter does the same as long as no counters are shared; of a key whose counters others
/// have filled it thinks that it was seen, and gives it a row that is read at once.
#[test]
fn a_bloom_filter_admits_by_shared_counters() {
    let bloom = |keys, counter_bits| HashedConfig {
        filter: FilterConfig::Bloom { freq: 3, keys, false_positive: 0.01, counter_bits },
        ..HashedConfig::default()
    };
    let mut t = table(bloom(1 << 20, 8));
    let zeros = t.zeros();
    assert_eq!(step(&mut t, 1, &[5, 7, 5]).0, [zeros; 3]);
    let (slots, changes) = step(&mut t, 2, &[7, 5]);
    assert_eq!((slots, changes.admitted), (vec![zeros, 0], vec![(0, 5)]));
    let (slots, changes) = step(&mut t, 3, &[7, 5]);
    assert_eq!((slots, changes.admitted), (vec![1, 0], vec![(1, 7)]));
    // Ten counters for all of them are soon full.
    let mut t = table(bloom(1, 16));
    for number in 1..4 {
        step(&mut t, number, &[1, 2, 3, 4, 5, 6, 7, 8]);
    }
    let (_, changes) = step(&mut t, 4, &[60]);
    assert!(changes.new.len() == 1 && changes.new[0].1 == 60 && changes.admitted.is_empty());
}

/// steps_to_live = 2: what step 1 saw last is 2 steps old after step 3 and stays, and goes after
/// step 4, be it a row or a count. The lowest slots are taken again first.
#[test]
fn what_no_step_has_seen_is_dropped() {
    let mut t = table(HashedConfig { steps_to_live: Some(2), ..counter(2) });
    step(&mut t, 1, &[5, 5, 6, 6, 8]);
    step(&mut t, 2, &[7, 7]);
    assert!(t.evict(3, &|_| 0.0).is_empty());
    assert_eq!(t.counts().waiting, 1);
    assert_eq!(t.evict(4, &|_| 0.0), [0, 1]);
    let counts = TableCounts { rows: 1, admitted: 3, filtered: 1, evicted: 2, waiting: 0 };
    assert_eq!(t.counts(), counts);
    assert_eq!(t.save().versions, [0, 0, 2]);
    // Counting begins anew.
    let (slots, changes) = step(&mut t, 5, &[8, 6]);
    assert_eq!((slots, changes.admitted), (vec![t.zeros(); 2], vec![]));
    let (slots, _) = step(&mut t, 6, &[6, 8]);
    assert_eq!(slots, [0, 1]);
}

/// Half the sum of squares, 0.5, is below 0.51 and not below 0.5; what waits has no row to judge.
#[test]
fn small_rows_are_dropped() {
    for (threshold, dropped) in [(0.5, vec![]), (0.51, vec![0])] {
        let mut t = table(HashedConfig { l2_threshold: Some(threshold), ..counter(2) });
        step(&mut t, 1, &[5, 5, 6, 6, 8]);
        let half = |slot: u32| [0.5, 3.0][slot as usize];
        assert_eq!(t.evict(9, &half), dropped);
        assert_eq!(t.counts().waiting, 1);
    }
}

#[test]
fn what_was_saved_goes_on_as_it_would_have() {
    let filters = [
        FilterConfig::None,
        FilterConfig::Counter { freq: 3 },
        FilterConfig::Bloom { freq: 2, keys: 9, false_positive: 0.1, counter_bits: 32 },
    ];
    for filter in filters {
        let config = HashedConfig { filter, steps_to_live: Some(4), ..HashedConfig::default() };
        let ids = |n: u64| (0..9).map(|i| ((i * i * n + 3 * i) % 40) as u32).collect::<Vec<_>>();
        let mut t = table(config);
        for n in 1..6 {
            step(&mut t, n, &ids(n));
            t.evict(n, &|_| 0.0);
        }
        let saved = t.save();
        let mut other = table(config);
        other.restore(&saved).unwrap();
        assert_eq!(other.save(), saved);
        for n in 6..20 {
            assert_eq!(step(&mut t, n, &ids(n)), step(&mut other, n, &ids(n)), "{filter:?}");
            assert_eq!(t.evict(n, &|_| 0.0), other.evict(n, &|_| 0.0));
        }
        assert_eq!((other.counts(), other.save()), (t.counts(), t.save()));
    }
}

#[test]
fn what_does_not_fit_is_not_restored() {
    let mut t = table(HashedConfig::default());
    step(&mut t, 1, &[5, 6, 7]);
    let saved = t.save();
    let refused = |capacity, config: HashedConfig, change: &dyn Fn(&mut SavedTable), told: &str| {
        let mut saved = saved.clone();
        change(&mut saved);
        let why = table_of(capacity, config).restore(&saved).unwrap_err();
        assert!(why.contains(told), "{why}");
    };
    let plain = HashedConfig::default();
    refused(2, plain, &|_| (), "embedding.capacity is 2");
    refused(IDS, plain, &|s| s.keys[1] = 100, "the id 100, but 100 ids");
    refused(IDS, plain, &|s| s.keys[1] = 5, "an id twice");
    refused(IDS, plain, &|s| s.freqs.truncate(2), "other numbers");
    let bloom = FilterConfig::Bloom { freq: 2, keys: 9, false_positive: 0.1, counter_bits: 32 };
    refused(IDS, HashedConfig { filter: bloom, ..plain }, &|_| (), "such a Bloom filter");
}
