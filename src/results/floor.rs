//! How fast a training step could be at best on a machine: its work (`engine::cost`) over
//! the machine's measured ceilings.
//!
//! Real steps cannot reach it: phases do not overlap here, but nothing else is counted either
//! (loss, grouping of ids, copies, a row that is read again). Where it is not known how popular ids are, each is
//! taken to be another row, and all rows to be equally popular; if few ids make up most of the data, caches may
//! then beat the floor of embedding and update.

use crate::{
    backend::Precision,
    engine::{
        Phase,
        cost::{Cost, Part, Stream, Visits},
    },
    system::{Ceilings, Machine, RowCeiling},
    train::Popularity,
};
use serde::{Deserialize, Serialize};

/// The floor of a training step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// Samples of the step.
    pub batch: usize,
    /// Seconds of all phases together.
    pub seconds: f64,
    /// Samples a second at best.
    pub samples_per_second: f64,
    /// Seconds by phase, those with any.
    pub phases: Vec<PhaseFloor>,
    /// How it is known which rows are visited how often.
    #[serde(default)]
    pub popularity: Popularity,
}

/// The floor of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseFloor {
    /// Its name.
    pub phase: String,
    /// Seconds a step.
    pub seconds: f64,
}

impl Floor {
    /// Work over ceilings:
    ///
    /// - mlp, interaction: operations over operations a second in registers, of bf16 where `mlp`
    ///   multiplies those;
    /// - embedding: for each table, rows over random rows read a second;
    /// - update: the same with rows updated, and bytes of what moves as a whole over the bandwidth
    ///   of a copy.
    ///
    /// The rows that are visited most often, as many as the largest cache of `machine` holds, are
    /// taken to be in it, and so are dense parameters that fit.
    pub fn of(
        cost: &Cost,
        popularity: Popularity,
        batch: usize,
        ceilings: &Ceilings,
        machine: &Machine,
    ) -> Self {
        let cache = ceilings
            .cache
            .unwrap_or_else(|| machine.cpu.caches.iter().map(|c| c.size).max().unwrap_or(0));
        let lookups = visits(&cost.lookups, cache, |v, cached| {
            row_seconds(rows(ceilings, cached), v.bytes, |r| r.gather)
        });
        let updates = visits(&cost.updates, cache, |v, cached| {
            row_seconds(rows(ceilings, cached), v.bytes, |r| r.update)
        });
        let streams: f64 = cost
            .streams
            .iter()
            .filter(|s| s.resident > cache)
            .map(|s: &Stream| s.moved / ceilings.copy)
            .sum();
        let faster = match cost.precision {
            Precision::Fp32 => None,
            Precision::Tf32 => ceilings.flops_tf32,
            Precision::Bf16 => ceilings.flops_bf16,
            // On the CPU f16 is widened before it is multiplied.
            Precision::Fp16 => ceilings.flops_f16,
        };
        let products = faster.unwrap_or(ceilings.flops_f32);
        // A GPU's interaction may use the units of its products; that of the CPU computes in f32.
        let interaction = if ceilings.gpu.is_some() { products } else { ceilings.flops_f32 };
        let phases = [
            (Phase::Embedding, lookups),
            (Phase::Mlp, cost.mlp_flops / products),
            (
                Phase::Interaction,
                cost.interaction_products / products + cost.interaction_flops / interaction,
            ),
            (Phase::Update, updates + streams),
        ];
        let seconds: f64 = phases.iter().map(|(_, s)| s).sum();
        let phases = phases.iter().filter(|(_, s)| *s > 0.0);
        Floor {
            batch,
            seconds,
            samples_per_second: batch as f64 / seconds,
            phases: phases
                .map(|(p, s)| PhaseFloor { phase: super::record::word(p), seconds: *s })
                .collect(),
            popularity,
        }
    }

    /// Share of the floor that a phase reached which took `seconds` for `samples` samples; `None`
    /// for a phase without a floor.
    pub fn share(&self, phase: &str, samples: u64, seconds: f64) -> Option<f64> {
        let floor = self.phases.iter().find(|p| p.phase == phase)?.seconds;
        Some(floor * samples as f64 / self.batch as f64 / seconds).filter(|s| s.is_finite())
    }
}

fn rows(ceilings: &Ceilings, cached: bool) -> &[RowCeiling] {
    if cached { &ceilings.rows_in_cache } else { &ceilings.rows }
}

/// Seconds of all visits, the rows that are visited most often for their bytes in the cache.
fn visits(all: &[Visits], cache: u64, seconds: impl Fn(&Visits, bool) -> f64) -> f64 {
    struct Rows {
        part: Part,
        in_cache: f64,
        in_memory: f64,
    }
    let mut rows = Vec::new();
    for v in all {
        let (in_cache, in_memory) = (seconds(v, true), seconds(v, false));
        let whole = [Part { resident: v.resident as f64, rows: v.rows }];
        let parts = if v.parts.is_empty() { &whole[..] } else { &v.parts };
        rows.extend(parts.iter().map(|&part| Rows { part, in_cache, in_memory }));
    }
    let often = |r: &Rows| r.part.rows / r.part.resident.max(1.0);
    rows.sort_by(|a, b| often(b).total_cmp(&often(a)));
    let mut room = cache as f64;
    let each = rows.iter().map(|r| {
        let held = (room / r.part.resident.max(1.0)).min(1.0);
        room -= held * r.part.resident;
        r.part.rows * (held * r.in_cache + (1.0 - held) * r.in_memory)
    });
    each.sum()
}

/// Seconds of a visit to a row of `bytes`, on the line through the two sizes that were measured.
fn row_seconds(measured: &[RowCeiling], bytes: u64, rate: impl Fn(&RowCeiling) -> f64) -> f64 {
    let (Some(small), Some(large)) = (measured.first(), measured.last()) else { return 0.0 };
    let (t, slope) = (1.0 / rate(small), 1.0 / rate(large) - 1.0 / rate(small));
    let lines = |b: u64| b.div_ceil(64) as f64;
    let beyond = (lines(bytes) - lines(small.bytes)).max(0.0)
        / (lines(large.bytes) - lines(small.bytes)).max(1.0);
    t + slope.max(0.0) * beyond
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceilings() -> Ceilings {
        let row = |bytes, gather, update| RowCeiling { bytes, gather, update };
        Ceilings {
            gpu: None,
            threads: 1,
            instruction_set: "portable".into(),
            flops_f32: 1e9,
            flops_bf16: Some(4e9),
            flops_tf32: None,
            flops_f16: None,
            cache: None,
            read: 1e9,
            copy: 2e9,
            rows: vec![row(64, 1e6, 0.5e6), row(512, 1e6 / 8.0, 1e6 / 16.0)],
            rows_in_cache: vec![row(64, 1e8, 1e8), row(512, 1e8, 1e8)],
            memory: 1,
        }
    }

    #[test]
    fn work_over_ceilings() {
        let mut machine = Machine::inspect();
        machine.cpu.caches.iter_mut().for_each(|c| c.size = 640);
        if machine.cpu.caches.is_empty() {
            return;
        }
        let large = Visits { resident: 1 << 30, rows: 100.0, bytes: 128, parts: vec![] };
        let small = Visits { resident: 640, rows: 10.0, bytes: 64, parts: vec![] };
        let cost = Cost {
            mlp_flops: 2e9,
            precision: Precision::Bf16,
            interaction_products: 0.0,
            interaction_flops: 0.5e9,
            lookups: vec![large.clone(), small],
            updates: vec![large],
            streams: vec![
                Stream { resident: 600, moved: 1e9 },
                Stream { resident: 4000, moved: 8e9 },
            ],
        };
        let law = Popularity::Law;
        let floor = Floor::of(&cost, law, 64, &ceilings(), &machine);
        assert_eq!(floor.popularity, law);
        let seconds: Vec<_> = floor.phases.iter().map(|p| (p.phase.as_str(), p.seconds)).collect();
        // 100 rows of two lines at 2 us, 10 at 10 ns; 100 updates at 4 us and 8 GB at 2 GB/s.
        let want = [
            ("embedding", 200e-6 + 0.1e-6),
            ("mlp", 0.5),
            ("interaction", 0.5),
            ("update", 400e-6 + 4.0),
        ];
        for (got, want) in seconds.iter().zip(&want) {
            assert!(got.0 == want.0 && (got.1 / want.1 - 1.0).abs() < 1e-9, "{got:?} {want:?}");
        }
        assert!((floor.samples_per_second * floor.seconds - 64.0).abs() < 1e-9);
        // A GPU has a cache and products of its own.
        let gpu = Ceilings {
            gpu: Some("a GPU".into()),
            cache: Some(640),
            flops_f16: Some(8e9),
            ..ceilings()
        };
        let f16 = Cost { precision: Precision::Fp16, ..cost.clone() };
        let there = Floor::of(&f16, law, 64, &gpu, &machine);
        let seconds: Vec<_> = there.phases.iter().map(|p| p.seconds).collect();
        for (got, want) in seconds.iter().zip([200e-6 + 0.1e-6, 0.25, 0.0625, 400e-6 + 4.0]) {
            assert!((got / want - 1.0).abs() < 1e-9, "{got} {want}");
        }
        assert_eq!(floor.share("mlp", 128, 8.0), Some(0.125));
        assert_eq!((floor.share("loss", 128, 8.0), floor.share("mlp", 0, 0.0)), (None, None));
    }

    /// Two tables share a cache of 300 bytes: of the first, whose rows differ, the popular one and then
    /// half of the rest; nothing of the second, whose rows are visited less often.
    #[test]
    fn the_rows_that_are_visited_most_often_are_in_the_cache() {
        let part = |resident, rows| Part { resident, rows };
        let skewed = Visits {
            resident: 500,
            rows: 3.0,
            bytes: 100,
            parts: vec![part(400.0, 2.0), part(100.0, 1.0)],
        };
        let even = Visits { resident: 1000, rows: 4.0, bytes: 100, parts: vec![] };
        let seconds = |_: &Visits, cached| if cached { 1.0 } else { 10.0 };
        let of = |all: &[Visits], cache| visits(all, cache, seconds);
        let both = [even.clone(), skewed.clone()];
        assert_eq!(of(&both, 300), 1.0 + 1.0 + 10.0 + 40.0);
        assert_eq!(of(&both, 0), 70.0);
        assert_eq!(of(&both, 1500), 7.0);
        // Nine tenths of a table without parts.
        assert!((of(&[even], 900) - (3.6 + 4.0)).abs() < 1e-9);
    }

    #[test]
    fn rows_between_and_beyond_the_measured_sizes() {
        let c = ceilings();
        for (bytes, micros) in
            [(4, 1.0), (64, 1.0), (65, 2.0), (256, 4.0), (512, 8.0), (1024, 16.0)]
        {
            let t = row_seconds(&c.rows, bytes, |r| r.gather);
            assert!((t * 1e6 - micros).abs() < 1e-9, "{bytes}: {t}");
        }
    }
}
