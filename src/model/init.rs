//! Initial values of parameters.

use super::{
    DlrmSpec, EmbeddingInit, MlpInit, ModelSpec, ParamKind, ParamSpec, Part, TableSpec, Trick,
};
use crate::{
    host::{pool::Pool, wide},
    random::{
        numpy::RandomState,
        philox::{Philox, Stream, unit_f32},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    f64::consts::TAU,
    sync::atomic::{AtomicBool, Ordering},
};

/// Where initial values come from.
#[derive(Debug, Clone)]
pub enum InitSource {
    /// Counter-based: each element is a function of (seed, parameter, position), so tables fill in
    /// parallel.
    Philox {
        /// The run's seed.
        seed: u64,
    },
    /// numpy's legacy generator, drawn from in the order of [`ModelSpec::params`], in f64 and then
    /// narrowed, as facebook's program does.
    Numpy {
        /// The generator.
        state: RandomState,
        /// The run's seed. What facebook's program draws from torch's generator
        /// ([`ModelSpec::drawn_by_torch`]) is drawn as by Philox, so that numpy's stream stays the
        /// original's.
        seed: u64,
    },
}

/// The distribution of one parameter's elements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Distribution {
    Constant(f32),
    Uniform {
        low: f64,
        high: f64,
    },
    Normal {
        std: f64,
    },
    /// Normal, drawn again while beyond two standard deviations (of the uncut distribution).
    Truncated {
        std: f64,
    },
}

/// Elements a thread fills at a time; a multiple of 4 so that chunks hold whole Philox blocks.
const CHUNK: usize = 1 << 16;

/// Fills the parameters of a model, one after another.
#[derive(Debug)]
pub struct Initializer<'a> {
    distributions: Vec<Distribution>,
    /// Parameters that numpy's generator does not draw.
    by_torch: Vec<bool>,
    source: InitSource,
    stop: Option<&'a AtomicBool>,
    /// Tables that are left as they are.
    left: Vec<String>,
}

impl<'a> Initializer<'a> {
    /// An initialiser of `model`'s parameters.
    pub fn new(model: &ModelSpec, source: InitSource) -> Self {
        let (mlp, embedding) = match model {
            ModelSpec::Dlrm(m) => (m.mlp_init, m.embedding_init),
            ModelSpec::DeepFm(m) => (m.mlp_init, m.embedding_init),
        };
        let (params, tables, mut table, mut fan_in) = (model.params(), model.table_specs(), 0, 1);
        let by_torch = params.iter().map(|p| model.drawn_by_torch(&p.name)).collect();
        let distributions = params
            .iter()
            .map(|p| match p.kind {
                ParamKind::Weight => {
                    fan_in = p.shape[1];
                    weight_distribution(p.init.unwrap_or(mlp), p.shape[0], fan_in)
                }
                // A bias follows its weight.
                ParamKind::Bias => bias_distribution(p.init.unwrap_or(mlp), p.shape[0], fan_in),
                ParamKind::Table => {
                    table += 1;
                    let uneven = model.uneven_init(&tables[table - 1]);
                    uneven.unwrap_or(embedding_distribution(embedding, p.shape[0], p.shape[1]))
                }
                ParamKind::FieldWeight => embedding_distribution(embedding, p.shape[0], p.shape[1]),
                ParamKind::RowWeight | ParamKind::Scale | ParamKind::RunningVar => {
                    Distribution::Constant(1.0)
                }
                ParamKind::Shift | ParamKind::RunningMean => Distribution::Constant(0.0),
            })
            .collect();
        Initializer { distributions, by_torch, source, stop: None, left: Vec::new() }
    }

    /// Fills no more once `stop` is set: parameters are left as they are, and whoever set it does
    /// not use the model.
    #[must_use]
    pub fn until(self, stop: &'a AtomicBool) -> Self {
        Initializer { stop: Some(stop), ..self }
    }

    /// Does not fill these tables from now on: their rows are asked for one by one
    /// ([`Initializer::rows`]).
    pub fn leave(&mut self, tables: Vec<String>) {
        self.left.extend(tables);
    }

    /// Whether a parameter is filled.
    pub fn fills(&self, spec: &ParamSpec) -> bool {
        !self.left.contains(&spec.name)
    }

    /// What single rows of table `index` begin with, which has `dim` columns; `None` if they come
    /// from numpy's generator, of which every number follows from those before.
    ///
    /// # Panics
    /// If the model has no parameter `index`.
    pub fn rows(&self, index: usize, dim: usize) -> Option<RowInit> {
        let seed = match self.source {
            InitSource::Numpy { .. } if !self.by_torch[index] => return None,
            InitSource::Philox { seed } | InitSource::Numpy { seed, .. } => seed,
        };
        let distribution = self.distributions[index];
        Some(RowInit { draw: Draw { seed, parameter: index as u64, distribution }, dim })
    }

    /// The seed, if all values are functions of it and of their place.
    pub fn seed(&self) -> Option<u64> {
        match self.source {
            InitSource::Philox { seed } => Some(seed),
            InitSource::Numpy { .. } => None,
        }
    }

    /// Whether it has been stopped.
    pub fn stopped(&self) -> bool {
        is_set(self.stop)
    }

    /// Fills `out` with the initial values of parameter `index`, row-major. To be called for all of
    /// [`ModelSpec::params`] in order, since numpy's generator moves on with each; values from
    /// Philox depend on `index` alone. Neither depends on the number of threads.
    ///
    /// # Panics
    /// If the model has no parameter `index`, or `out` is not `spec.len()` long.
    pub fn fill(&mut self, index: usize, spec: &ParamSpec, out: &mut [f32], pool: &Pool) {
        assert_eq!(out.len(), spec.len(), "buffer of {}", spec.name);
        self.fill_part(index, spec, 0, out, pool);
    }

    /// The same for elements `at..` of a parameter that is filled part by part, in order.
    ///
    /// # Panics
    /// If the model has no parameter `index`, the part does not lie inside it, or `at` is not a
    /// multiple of 4.
    pub fn fill_part(
        &mut self,
        index: usize,
        spec: &ParamSpec,
        at: usize,
        out: &mut [f32],
        pool: &Pool,
    ) {
        assert!(
            at.is_multiple_of(4) && at + out.len() <= spec.len(),
            "part at {at} of {}",
            spec.name
        );
        let (distribution, stop) = (self.distributions[index], self.stop);
        if is_set(stop) || !self.fills(spec) {
            return;
        }
        match &mut self.source {
            _ if matches!(distribution, Distribution::Constant(_)) => {
                out.fill(if distribution == Distribution::Constant(1.0) { 1.0 } else { 0.0 })
            }
            InitSource::Numpy { state, .. } if !self.by_torch[index] => {
                for part in out.chunks_mut(CHUNK).take_while(|_| !is_set(stop)) {
                    part.iter_mut().for_each(|x| *x = from_numpy(state, distribution) as f32);
                }
            }
            InitSource::Philox { seed } | InitSource::Numpy { seed, .. } => {
                let draw = Draw { seed: *seed, parameter: index as u64, distribution };
                pool.for_each_chunk(out, CHUNK, |chunk, _, part| {
                    if !is_set(stop) {
                        draw.fill((at + chunk * CHUNK) as u128, part);
                    }
                });
            }
        }
    }
}

fn is_set(stop: Option<&AtomicBool>) -> bool {
    stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
}

/// `m` = fan out, `n` = fan in; sources of the formulas are named at [`MlpInit`].
fn weight_distribution(init: MlpInit, m: usize, n: usize) -> Distribution {
    let (fans, n) = ((m + n) as f64, n as f64);
    match init {
        MlpInit::Facebook | MlpInit::XavierNormal => {
            Distribution::Normal { std: (2.0 / fans).sqrt() }
        }
        MlpInit::Uniform01 => Distribution::Uniform { low: 0.0, high: 1.0 },
        MlpInit::GlorotUniform => symmetric((6.0 / fans).sqrt()),
        MlpInit::TorchLinear => symmetric((1.0 / n).sqrt()),
    }
}

fn bias_distribution(init: MlpInit, m: usize, n: usize) -> Distribution {
    match init {
        MlpInit::Facebook => Distribution::Normal { std: (1.0 / m as f64).sqrt() },
        MlpInit::Uniform01 => Distribution::Uniform { low: 0.0, high: 1.0 },
        MlpInit::XavierNormal | MlpInit::GlorotUniform => Distribution::Constant(0.0),
        MlpInit::TorchLinear => symmetric((1.0 / n as f64).sqrt()),
    }
}

fn embedding_distribution(init: EmbeddingInit, rows: usize, dim: usize) -> Distribution {
    match init {
        EmbeddingInit::UniformSqrtInvRows => symmetric((1.0 / rows as f64).sqrt()),
        EmbeddingInit::Normal { std } => Distribution::Normal { std: f64::from(std) },
        EmbeddingInit::TruncatedNormal => {
            Distribution::Truncated { std: 1.0 / (dim as f64).sqrt() }
        }
    }
}

impl ModelSpec {
    /// Whether facebook's program draws a parameter from torch's generator, not from numpy's: what
    /// its tricks bring along.
    pub fn drawn_by_torch(&self, name: &str) -> bool {
        [".weight_q", ".weight_r", ".proj.weight"].iter().any(|end| name.ends_with(end))
    }

    /// The distribution of a table whose initialiser has a quirk.
    fn uneven_init(&self, table: &TableSpec) -> Option<Distribution> {
        match self {
            ModelSpec::Dlrm(DlrmSpec { trick: Trick::Qr(qr), tables, .. })
                if qr.init_quirk && table.part != Part::Whole =>
            {
                let low = (1.0 / tables[table.column] as f64).sqrt();
                Some(Distribution::Uniform { low, high: 1.0 })
            }
            _ => None,
        }
    }
}

fn symmetric(bound: f64) -> Distribution {
    Distribution::Uniform { low: -bound, high: bound }
}

/// One number from numpy's generator, as `numpy.random.uniform` and `numpy.random.normal` make it.
fn from_numpy(state: &mut RandomState, distribution: Distribution) -> f64 {
    match distribution {
        Distribution::Constant(c) => f64::from(c),
        Distribution::Uniform { low, high } => state.uniform(low, high),
        Distribution::Normal { std } => state.normal(0.0, std),
        Distribution::Truncated { std } => loop {
            let z = state.standard_normal();
            if z.abs() <= 2.0 {
                return std * z;
            }
        },
    }
}

/// Initial values of the rows of one table, each a function of its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowInit {
    draw: Draw,
    dim: usize,
}

impl RowInit {
    /// Elements of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Sets `out` to what row `row` begins with: what [`Initializer::fill`] gives it in a table that
    /// is filled as a whole.
    ///
    /// # Panics
    /// If `out` has not `dim` elements.
    pub fn fill(&self, row: u64, out: &mut [f32]) {
        assert_eq!(out.len(), self.dim, "a row");
        // A key of 64 bits times the dimension has more.
        let start = u128::from(row) * self.dim as u128;
        // Whole blocks of four are drawn.
        let before = (start % 4) as usize;
        if before == 0 {
            return self.draw.fill(start, out);
        }
        let mut blocks = vec![0.0; before + self.dim];
        self.draw.fill(start - before as u128, &mut blocks);
        out.copy_from_slice(&blocks[before..]);
    }
}

/// One parameter drawn from Philox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Draw {
    seed: u64,
    parameter: u64,
    distribution: Distribution,
}

impl Draw {
    /// Words for the `attempt`-th try; all but truncated distributions need only the first, and none
    /// comes to 256. `beyond` are the bits of a place above its lower 64: fewer than 24, since no
    /// table is that wide.
    fn words(&self, attempt: u64, beyond: u64) -> Philox {
        Philox::new(self.seed, Stream::Init, self.parameter | attempt << 32 | beyond << 40)
    }

    /// Fills elements `start..start + out.len()`; `start` is a multiple of 4.
    fn fill(&self, start: u128, out: &mut [f32]) {
        let block = start / 4;
        let (words, position) = (self.words(0, (block >> 64) as u64), block as u64);
        match self.distribution {
            Distribution::Constant(c) => out.fill(c),
            Distribution::Uniform { low, high } => {
                let (low, width) = (low as f32, (high - low) as f32);
                wide(
                    #[inline(always)]
                    || words.fill_with(position, out, |w| low + width * unit_f32(w)),
                );
            }
            Distribution::Normal { std } => {
                standard_normals(words, position, out);
                out.iter_mut().for_each(|z| *z *= std as f32);
            }
            Distribution::Truncated { std } => {
                standard_normals(words, position, out);
                for (i, z) in out.iter_mut().enumerate() {
                    let mut attempt = 1;
                    while z.abs() > 2.0 {
                        let place = start + i as u128;
                        let words = self.words(attempt, (place >> 64) as u64);
                        let again = normal_block(words.block(place as u64));
                        *z = again.into_iter().find(|z| z.abs() <= 2.0).unwrap_or(*z);
                        attempt += 1;
                    }
                    *z *= std as f32;
                }
            }
        }
    }
}

fn standard_normals(words: Philox, position: u64, out: &mut [f32]) {
    for (b, part) in out.chunks_mut(4).enumerate() {
        for (o, z) in
            part.iter_mut().zip(normal_block(words.block(position.wrapping_add(b as u64))))
        {
            *o = z;
        }
    }
}

/// Four standard normal numbers from four words (Box & Muller 1958). libm's functions, unlike the
/// platform's, give the same bits everywhere.
fn normal_block(w: [u32; 4]) -> [f32; 4] {
    let [a, b] = normal_pair(w[0], w[1]);
    let [c, d] = normal_pair(w[2], w[3]);
    [a, b, c, d]
}

fn normal_pair(w0: u32, w1: u32) -> [f32; 2] {
    // (0, 1): never the logarithm of 0. The largest value is sqrt(2 * 33 * ln 2) = 6.8.
    let u = (w0 as f32 + 0.5) * (1.0 / 4_294_967_296.0);
    // An angle of 24 bits in [-pi, pi).
    let angle = (unit_f32(w1) - 0.5) * TAU as f32;
    let radius = (-2.0 * libm::logf(u)).max(0.0).sqrt();
    let (sin, cos) = libm::sincosf(angle);
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        DeepFmSpec, DlrmQuirks, DlrmSpec, Interaction, Pooling, Qr, QrOperation, Trick,
    };

    fn dlrm(mlp_init: MlpInit, embedding_init: EmbeddingInit) -> ModelSpec {
        ModelSpec::Dlrm(DlrmSpec {
            dense: 13,
            dense_pad_to: 1,
            tables: vec![20_001, 3],
            dim: 5,
            bottom: vec![301, 5],
            top: vec![77, 1],
            interaction: Interaction::Dot { self_interaction: false, pad_to: 1 },
            pooling: Pooling::WeightedFixed,
            trick: Trick::None,
            mlp_init,
            embedding_init,
            batch_norm: false,
            quirks: DlrmQuirks::default(),
        })
    }

    fn fill_all(model: &ModelSpec, source: InitSource, threads: usize) -> Vec<Vec<f32>> {
        let (mut init, pool) = (Initializer::new(model, source), Pool::new(threads));
        let specs = model.params();
        let fill = |(i, p): (usize, &ParamSpec)| {
            let mut out = vec![f32::NAN; p.len()];
            init.fill(i, p, &mut out, &pool);
            out
        };
        specs.iter().enumerate().map(fill).collect()
    }

    fn numpy(seed: u32) -> InitSource {
        InitSource::Numpy { state: RandomState::new(seed), seed: 7 }
    }

    fn moments(x: &[f32]) -> (f64, f64) {
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (mean, (x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn philox_does_not_depend_on_threads_but_on_the_seed() {
        for distribution in [
            EmbeddingInit::UniformSqrtInvRows,
            EmbeddingInit::Normal { std: 0.1 },
            EmbeddingInit::TruncatedNormal,
        ] {
            let model = dlrm(MlpInit::Facebook, distribution);
            let one = fill_all(&model, InitSource::Philox { seed: 5 }, 1);
            assert_eq!(one, fill_all(&model, InitSource::Philox { seed: 5 }, 3));
            assert_ne!(one[0], fill_all(&model, InitSource::Philox { seed: 6 }, 1)[0]);
        }
    }

    /// Mean, standard deviation and largest value of a big table of each distribution, from either
    /// source.
    #[test]
    fn tables_have_the_stated_distribution() {
        let bound = (1.0f64 / 20_001.0).sqrt();
        // Standard deviation of a normal distribution cut at two of its own:
        // sqrt(1 - 2 * 2 * phi(2) / (2 * Phi(2) - 1)) = 0.87963.
        let cases = [
            (EmbeddingInit::UniformSqrtInvRows, bound / 3f64.sqrt(), bound),
            (EmbeddingInit::Normal { std: 0.1 }, 0.1, 0.7),
            (EmbeddingInit::TruncatedNormal, 0.87963 / 5f64.sqrt(), 2.0 / 5f64.sqrt()),
        ];
        for (distribution, std, largest) in cases {
            for source in [InitSource::Philox { seed: 1 }, numpy(1)] {
                let x = &fill_all(&dlrm(MlpInit::Facebook, distribution), source, 2)[0];
                let (m, s) = moments(x);
                assert!(
                    m.abs() < 4.0 * std / (x.len() as f64).sqrt(),
                    "{distribution:?}: mean {m}"
                );
                assert!((s / std - 1.0).abs() < 0.01, "{distribution:?}: std {s}, {std} expected");
                assert!(
                    x.iter().all(|&v| f64::from(v).abs() <= largest * (1.0 + 1e-6)),
                    "{distribution:?}"
                );
            }
        }
    }

    /// Row by row a table has the bits that it has as a whole, whatever its width.
    #[test]
    fn rows_by_themselves_are_those_of_the_whole() {
        for init in [
            EmbeddingInit::UniformSqrtInvRows,
            EmbeddingInit::Normal { std: 0.1 },
            EmbeddingInit::TruncatedNormal,
        ] {
            for dim in [1, 3, 4, 5, 8] {
                let ModelSpec::Dlrm(mut spec) = dlrm(MlpInit::Facebook, init) else {
                    unreachable!()
                };
                (spec.tables, spec.dim, spec.bottom) = (vec![7, 50], dim, vec![dim]);
                let model = ModelSpec::Dlrm(spec);
                let whole = fill_all(&model, InitSource::Philox { seed: 3 }, 2);
                let init = Initializer::new(&model, InitSource::Philox { seed: 3 });
                let rows = init.rows(1, dim).unwrap();
                let mut row = vec![f32::NAN; dim];
                for (k, want) in whole[1].chunks(dim).enumerate() {
                    rows.fill(k as u64, &mut row);
                    assert_eq!(row, want, "{dim} {k}");
                }
            }
        }
        let model = dlrm(MlpInit::Facebook, EmbeddingInit::TruncatedNormal);
        assert!(Initializer::new(&model, numpy(1)).rows(0, 5).is_none());
    }

    /// Rows of keys of 64 bits: each its own, also where numbers of elements have more bits, and
    /// those of small numbers are as ever.
    #[test]
    fn rows_of_large_numbers_are_their_own() {
        for init in [EmbeddingInit::UniformSqrtInvRows, EmbeddingInit::TruncatedNormal] {
            let model = dlrm(MlpInit::Facebook, init);
            let initializer = Initializer::new(&model, InitSource::Philox { seed: 3 });
            for dim in [4, 5, 16, 1 << 12] {
                let rows = initializer.rows(1, dim).unwrap();
                let of = |row: u64| {
                    let mut out = vec![f32::NAN; dim];
                    rows.fill(row, &mut out);
                    assert!(out.iter().all(|x| x.is_finite()));
                    out.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
                };
                // 2^62 rows of 16 elements are 2^64 blocks of four.
                let numbers = [0, 1, 1 << 62, 1 << 63, 3 << 62, (1 << 62) + 1, u64::MAX];
                let all: std::collections::HashSet<Vec<u32>> = numbers.map(of).into();
                assert_eq!(all.len(), numbers.len(), "{dim}");
                assert_eq!(of(u64::MAX), of(u64::MAX));
            }
        }
    }

    #[test]
    fn layers_have_the_stated_distribution() {
        let (m, n) = (301.0f64, 13.0f64);
        let normal = (2.0 / (m + n)).sqrt();
        let cases = [
            (MlpInit::Facebook, 0.0, normal, Some((1.0 / m).sqrt())),
            (MlpInit::Uniform01, 0.5, 12f64.sqrt().recip(), Some(12f64.sqrt().recip())),
            (MlpInit::XavierNormal, 0.0, normal, None),
            (MlpInit::GlorotUniform, 0.0, (2.0 / (m + n)).sqrt(), None),
            (MlpInit::TorchLinear, 0.0, (1.0 / (3.0 * n)).sqrt(), Some((1.0 / (3.0 * n)).sqrt())),
        ];
        for (distribution, mean, weight_std, bias_std) in cases {
            for source in [InitSource::Philox { seed: 1 }, numpy(1)] {
                let model = dlrm(distribution, EmbeddingInit::UniformSqrtInvRows);
                let all = fill_all(&model, source, 2);
                let at = |name: &str| {
                    model.params().iter().position(|p| p.name == name).map(|i| &all[i])
                };
                let (w_mean, w_std) = moments(at("bot_l.0.weight").unwrap());
                assert!(
                    (w_mean - mean).abs() < 0.02 && (w_std / weight_std - 1.0).abs() < 0.05,
                    "{distribution:?}: {w_mean} {w_std}"
                );
                let bias = at("bot_l.0.bias").unwrap();
                match bias_std {
                    Some(std) => {
                        assert!((moments(bias).1 / std - 1.0).abs() < 0.15, "{distribution:?}")
                    }
                    None => assert!(bias.iter().all(|&b| b == 0.0)),
                }
                assert!(at("v_W_l.0").unwrap().iter().all(|&v| v == 1.0));
            }
        }
    }

    /// By numpy the tables of the quotient-remainder trick are left to Philox, so that all else has
    /// the original's numbers; each has the bound of a table of its size, unless the quirk is asked
    /// for.
    #[test]
    fn what_torch_draws_leaves_numpys_stream_alone() {
        let with = |threshold, init_quirk| {
            let model = dlrm(MlpInit::Facebook, EmbeddingInit::UniformSqrtInvRows);
            let ModelSpec::Dlrm(mut spec) = model else { unreachable!() };
            spec.pooling = Pooling::Sum;
            let operation = QrOperation::Mult;
            spec.trick = Trick::Qr(Qr { operation, threshold, collisions: 4, init_quirk });
            spec.tables = vec![3, 20_001];
            ModelSpec::Dlrm(spec)
        };
        let ends =
            |x: &[f32]| x.iter().fold((f32::MAX, f32::MIN), |e, &v| (e.0.min(v), e.1.max(v)));
        for source in [numpy(1), InitSource::Philox { seed: 7 }] {
            let all = fill_all(&with(10, false), source, 2);
            let (low, high) = ends(&all[1]);
            let bound = (1.0f32 / 5001.0).sqrt();
            assert!((low + bound).abs() < 1e-3 * bound && (high - bound).abs() < 1e-3 * bound);
            let (low, high) = ends(&all[2]);
            assert!(-0.5 < low && low < -0.3 && 0.3 < high && high < 0.5, "{low} {high}");
        }
        let (low, high) = ends(&fill_all(&with(10, true), numpy(1), 2)[1]);
        assert!(low > (1.0f32 / 20_001.0).sqrt() && low < 0.01 && high > 0.99 && high < 1.0);
        // The table of three rows comes first, then the layers, as in a model of it alone.
        let ModelSpec::Dlrm(mut alone) = with(10, false) else { unreachable!() };
        (alone.tables, alone.trick) = (vec![3], Trick::None);
        let (all, alone) = (
            fill_all(&with(10, false), numpy(1), 2),
            fill_all(&ModelSpec::Dlrm(alone), numpy(1), 1),
        );
        assert!(all[0] == alone[0] && all[3..7] == alone[1..5]);
    }

    #[test]
    fn batch_norm_starts_as_the_identity() {
        let model = ModelSpec::DeepFm(DeepFmSpec {
            tables: vec![7],
            dense: 2,
            dim: 4,
            hidden: vec![6],
            batch_norm: true,
            dropout: 0.0,
            embedding_l2: 0.0,
            mlp_init: MlpInit::XavierNormal,
            embedding_init: EmbeddingInit::Normal { std: 1e-4 },
        });
        let all = fill_all(&model, InitSource::Philox { seed: 1 }, 1);
        for (p, x) in model.params().iter().zip(&all) {
            match p.kind {
                ParamKind::Scale | ParamKind::RunningVar => assert!(x.iter().all(|&v| v == 1.0)),
                ParamKind::Shift | ParamKind::RunningMean | ParamKind::Bias => {
                    assert!(x.iter().all(|&v| v == 0.0))
                }
                _ => assert!(x.iter().all(|&v| v != 0.0), "{}", p.name),
            }
        }
    }

    /// `python dlrm_s_pytorch.py --arch-embedding-size=4-3-2 ...` without `--debug-mode` draws its
    /// parameters first: expected numbers from numpy 2.4.6, seed 123, uniform(-0.5, 0.5, (4, 2)),
    /// uniform(-sqrt(1/3), sqrt(1/3), (3, 2)), normal(0, sqrt(2/7), (3, 4)), normal(0, sqrt(1/3),
    /// 3).
    #[test]
    fn numpy_draws_in_facebook_order() {
        let ModelSpec::Dlrm(mut spec) = dlrm(MlpInit::Facebook, EmbeddingInit::UniformSqrtInvRows)
        else {
            unreachable!()
        };
        (spec.dense, spec.tables, spec.dim, spec.bottom) = (4, vec![4, 3], 2, vec![3, 2]);
        let all = fill_all(&ModelSpec::Dlrm(spec), numpy(123), 2);
        assert_eq!(all[0][..3], NUMPY_TABLE_0);
        assert_eq!(all[1][4..], NUMPY_TABLE_1);
        assert_eq!(all[4][9..], NUMPY_WEIGHT);
        assert_eq!(all[5], NUMPY_BIAS);
    }

    const NUMPY_TABLE_0: [f32; 3] = [0.19646919, -0.21386066, -0.27314854];
    const NUMPY_TABLE_1: [f32; 2] = [-0.07093066, -0.5084402];
    const NUMPY_WEIGHT: [f32; 3] = [0.79682976, -0.50022423, 0.6285071];
    const NUMPY_BIAS: [f32; 3] = [-0.72392833, -0.368206, 0.5237174];
}
