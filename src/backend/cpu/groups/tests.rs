use super::*;
use crate::backend::cpu::testing::{Numbers, checked};
use proptest::prelude::*;

fn check(rows: &[usize], hotness: &[usize], samples: usize, bags: &[Bags]) {
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads);
        let mut groups = Groups::new(rows, hotness, samples, threads);
        for _ in 0..2 {
            groups.sort(&pool, checked(bags, rows));
            for (k, bags) in bags.iter().enumerate() {
                let mut want = Vec::new();
                for b in 0..samples {
                    want.extend(bags.bag(b).iter().map(|&id| (u64::from(id) << 32) | b as u64));
                }
                want.sort();
                assert!(groups.keys(k) == want, "table {k} of {} rows, {threads} threads", rows[k]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn occurrences_come_out_sorted(samples in 1usize..500, tables in 1usize..5, hotness in 0usize..5, seed: u64) {
        let mut numbers = Numbers::new(seed);
        // From a handful of rows to more than two digits hold.
        let rows: Vec<usize> = (0..tables).map(|_| 1 + numbers.below(1 << (1 + numbers.clone().below(25)))).collect();
        let bags: Vec<Bags> = rows.iter().map(|&r| numbers.bags(samples, r, hotness)).collect();
        check(&rows, &vec![hotness.max(1); tables], samples, &bags);
    }
}

#[test]
fn the_edges_of_digits_and_large_tables_come_out_sorted() {
    let mut numbers = Numbers::new(11);
    for rows in [1, 2, 2048, 2049, 1 << 22, (1 << 22) + 1, u32::MAX as usize + 1] {
        let mut bags = numbers.bags(100, rows, 3);
        bags.push([(rows - 1) as u32, 0, (rows - 1) as u32]);
        check(&[rows], &[3], 101, &[bags]);
    }
}

#[test]
fn a_table_sorted_in_parts_comes_out_sorted() {
    let mut numbers = Numbers::new(12);
    for rows in [3, 1000, 5_000_000] {
        let bags = numbers.bags(3000, rows, 80);
        check(&[rows, 5], &[80, 1], 3000, &[bags, numbers.bags(3000, 5, 0)]);
    }
}

#[test]
#[should_panic(expected = "bags of tables of [6] rows")]
fn bags_of_larger_tables_are_refused() {
    let mut bags = Bags::default();
    bags.clear();
    bags.push([5]);
    Groups::new(&[5], &[1], 1, 1).sort(&Pool::new(1), checked(&[bags], &[6]));
}

#[test]
fn a_table_is_cut_where_it_is_more_than_a_threads_share_and_the_largest_comes_first() {
    let work = |hotness: &[usize], threads| {
        Groups::new(&vec![1000; hotness.len()], hotness, 2000, threads).work
    };
    assert_eq!(work(&[100, 100, 100], 2), [(0, 0), (1, 0), (2, 0)]);
    assert_eq!(work(&[100], 2), [(0, 0), (0, 1)]);
    assert_eq!(work(&[1, 100, 2], 1), [(1, 0), (2, 0), (0, 0)]);
    // Three tables for eight threads; parts smaller than 65,536 ids are not worth it.
    assert_eq!(
        work(&[1, 100, 100], 8),
        [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3), (0, 0)]
    );
}
