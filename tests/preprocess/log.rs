//! Made-up logs.

use proptest::prelude::*;

pub const DENSE: usize = 13;
pub const TABLES: usize = 26;

/// A line of a log.
#[derive(Debug, Clone)]
pub struct Line {
    pub label: u8,
    pub dense: Vec<Option<i32>>,
    pub ids: Vec<Option<u32>>,
}

impl Line {
    pub fn text(&self) -> String {
        let mut text = self.label.to_string();
        self.dense.iter().for_each(|x| text += &x.map_or("\t".into(), |x| format!("\t{x}")));
        self.ids.iter().for_each(|x| text += &x.map_or("\t".into(), |x| format!("\t{x:08x}")));
        text
    }
}

pub fn lines(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Line>> {
    let dense = prop::collection::vec(prop::option::weighted(0.8, -3i32..100_000), DENSE);
    let ids = prop::collection::vec(
        prop::option::weighted(0.8, prop_oneof![0u32..60, any::<u32>()]),
        TABLES,
    );
    prop::collection::vec(
        (0u8..2, dense, ids).prop_map(|(label, dense, ids)| Line { label, dense, ids }),
        n,
    )
}

/// `n` lines like those of the real logs: long tails of ids, fields missing, a few negative
/// numbers; 250 bytes each.
pub fn realistic(n: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    let mut text = String::new();
    for _ in 0..n {
        text += if next() % 4 == 0 { "1" } else { "0" };
        for _ in 0..DENSE {
            let bits = next() % 20;
            match next() % 6 {
                0 => text += "\t",
                1 => text += &format!("\t-{}", 1 + next() % 2),
                _ => text += &format!("\t{}", next() % (1 << bits)),
            }
        }
        for _ in 0..TABLES {
            let bits = next() % 17;
            let rank = next() % (1 << bits);
            match next() % 9 {
                0 => text += "\t",
                _ => text += &format!("\t{:08x}", (rank as u32).wrapping_mul(0x9e37_79b1)),
            }
        }
        text += "\n";
    }
    text
}

/// `n` lines with ids of which none comes twice in a column, and as many different integers as a
/// field can hold.
pub fn different_ids(n: u32) -> String {
    let line = |i: u32| {
        let ids: String = (0..TABLES as u32)
            .map(|c| format!("\t{:08x}", i.wrapping_mul(0x9e37_79b1).rotate_left(c)))
            .collect();
        let dense: String = (0..DENSE as u32)
            .map(|c| format!("\t{}", i.wrapping_mul(0x85eb_ca6b).rotate_left(c) >> 1))
            .collect();
        format!("{}{dense}{ids}\n", i % 2)
    };
    (0..n).map(line).collect()
}
