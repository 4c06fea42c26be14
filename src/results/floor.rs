//! How fast a training step could be at best on a machine: its work (`engine::cost`) over
//! the machine's measured ceilings.
//!
//! Real steps cannot reach it: phases do not overlap here, but nothing else is counted either
//! (loss, grouping of ids, copies). Ids are taken to be drawn evenly; where few ids make up most of
//! the data, caches may beat the floor of embedding and update.

use crate::{
    backend::Precision,
    engine::{
        Phase,
        cost::{Cost, Stream, Visits},
    },
    system::{Ceilings, Machine, RowCeiling},
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
    /// The smallest tables, as many as the largest cache of `machine` holds, are taken to be in it,
    /// and so are dense parameters that fit.
    pub fn of(cost: &Cost, batch: usize, ceilings: &Ceilings, machine: &Machine) -> Self {
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

/// Seconds of all visits, the smallest tables in the cache.
fn visits(all: &[Visits], cache: u64, seconds: impl Fn(&Visits, bool) -> f64) -> f64 {
    let mut by_size: Vec<&Visits> = all.iter().collect();
    by_size.sort_by_key(|v| v.resident);
    let mut held = 0;
    let each = by_size.into_iter().map(|v| {
        held += v.resident;
        v.rows * seconds(v, held <= cache)
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
        machine.cpu.caches.iter_mut().for_each(|c| c.size = 1000);
        if machine.cpu.caches.is_empty() {
            return;
        }
        let large = Visits { resident: 1 << 30, rows: 100.0, bytes: 128 };
        let small = Visits { resident: 640, rows: 10.0, bytes: 64 };
        let cost = Cost {
            mlp_flops: 2e9,
            precision: Precision::Bf16,
            interaction_products: 0.0,
            interaction_flops: 0.5e9,
            lookups: vec![large, small],
            updates: vec![large],
            streams: vec![
                Stream { resident: 900, moved: 1e9 },
                Stream { resident: 4000, moved: 8e9 },
            ],
        };
        let floor = Floor::of(&cost, 64, &ceilings(), &machine);
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
            cache: Some(2000),
            flops_f16: Some(8e9),
            ..ceilings()
        };
        let there =
            Floor::of(&Cost { precision: Precision::Fp16, ..cost.clone() }, 64, &gpu, &machine);
        let seconds: Vec<_> = there.phases.iter().map(|p| p.seconds).collect();
        for (got, want) in seconds.iter().zip([200e-6 + 0.1e-6, 0.25, 0.0625, 400e-6 + 4.0]) {
            assert!((got / want - 1.0).abs() < 1e-9, "{got} {want}");
        }
        assert_eq!(floor.share("mlp", 128, 8.0), Some(0.125));
        assert_eq!((floor.share("loss", 128, 8.0), floor.share("mlp", 0, 0.0)), (None, None));
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
