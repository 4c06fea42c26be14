//! A workload written back as a file: every key that has a value, in a fixed order.

use super::words::*;
use crate::{
    model::{EmbeddingInit, Interaction, LossKind, MlpInit},
    optim::{LossScaleSpec, ScheduleSpec, rules},
    workload::*,
};
use std::path::PathBuf;
use toml_edit::{Array, Value};

/// Keys and values of the section being written.
#[derive(Default)]
struct Section(Keys);

impl Section {
    fn put(&mut self, key: &'static str, value: &(impl ToToml + ?Sized)) {
        if let Some(value) = value.to_toml() {
            self.0.push((key, value));
        }
    }
}

/// A value that may be written; `None` leaves the key out.
trait ToToml {
    fn to_toml(&self) -> Option<Value>;
}

macro_rules! to_toml {
    ($($t:ty: $f:expr;)+) => {$(
        impl ToToml for $t {
            fn to_toml(&self) -> Option<Value> {
                let f: fn(&$t) -> Value = $f;
                Some(f(self))
            }
        }
    )+};
}
to_toml! {
    // Whole numbers come from a file or a default, both within i64.
    usize: |n| Value::from(*n as i64);
    u64: |n| Value::from(*n as i64);
    u32: |n| Value::from(i64::from(*n));
    f64: |x| Value::from(*x);
    // The shortest decimal that is this f32, rather than the digits of its f64.
    f32: |x| Value::from(x.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(*x)));
    bool: |b| Value::from(*b);
    char: |c| Value::from(c.to_string());
    String: |s| Value::from(s.as_str());
    PathBuf: |p| Value::from(p.to_string_lossy().as_ref());
}

impl ToToml for str {
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(self))
    }
}

impl<T: ToToml> ToToml for Option<T> {
    fn to_toml(&self) -> Option<Value> {
        self.as_ref()?.to_toml()
    }
}

impl<T: ToToml> ToToml for [T] {
    fn to_toml(&self) -> Option<Value> {
        Some(Value::Array(self.iter().filter_map(T::to_toml).collect::<Array>()))
    }
}

impl<T: ToToml> ToToml for Vec<T> {
    fn to_toml(&self) -> Option<Value> {
        self[..].to_toml()
    }
}

impl<T: Words> ToToml for T {
    fn to_toml(&self) -> Option<Value> {
        Some(Value::from(self.word()))
    }
}

/// One section's keys and values, in order.
pub(super) type Keys = Vec<(&'static str, Value)>;

/// All sections with their keys and values; a section without keys is left out.
pub(super) fn sections(w: &Workload) -> Vec<(&'static str, Keys)> {
    type Write<'a> = &'a dyn Fn(&mut Section);
    let all: [(&str, Write); 11] = [
        ("workload", &|s| about(s, &w.workload)),
        ("data", &|s| data(s, &w.data)),
        ("loader", &|s| loader(s, &w.loader)),
        ("model", &|s| model(s, &w.model)),
        ("engine", &|s| engine(s, &w.engine)),
        ("train", &|s| train(s, &w.train)),
        ("optimizer", &|s| optimizer(s, &w.optimizer)),
        ("schedule", &|s| schedule(s, &w.schedule)),
        ("eval", &|s| eval(s, &w.eval)),
        ("target", &|s| target(s, &w.target)),
        ("mlperf", &|s| mlperf(s, &w.mlperf)),
    ];
    let written = all.map(|(name, write)| {
        let mut section = Section::default();
        write(&mut section);
        (name, section.0)
    });
    written.into_iter().filter(|(_, keys)| !keys.is_empty()).collect()
}

fn about(s: &mut Section, w: &About) {
    s.put("name", &w.name);
    s.put("description", &w.description);
    s.put("quirks", &w.quirks);
}

fn data(s: &mut Section, data: &DataConfig) {
    match data {
        DataConfig::Planted(d) => {
            s.put("source", &SourceWord::Planted);
            s.put("preset", &d.preset);
            s.put("max_rows", &d.max_rows);
            if d.preset == PresetWord::Custom.word() {
                s.put("tables", &d.tables);
                s.put("hotness", &d.hotness);
                s.put(
                    "exponents",
                    &Some(&d.exponents[..]).filter(|e| !e.is_empty()).map(<[f64]>::to_vec),
                );
            }
            s.put("dense", &d.dense);
            s.put("train_samples", &d.train_samples);
            s.put("eval_samples", &d.eval_samples);
            s.put("positive_rate", &d.positive_rate);
            s.put("seed", &d.seed);
        }
        DataConfig::NumpyRandom(d) => numpy_random(s, d),
        DataConfig::CriteoTsv(d) => {
            s.put("source", &SourceWord::CriteoTsv);
            s.put("set", &d.set);
            s.put("paths", &d.paths);
            s.put("max_ind_range", &d.max_ind_range);
            s.put("sub_sample_rate", &d.sub_sample_rate);
            s.put("shuffle", &d.shuffle);
            s.put("on_error", &d.on_error);
            s.put("seed", &d.seed);
        }
        DataConfig::Csv(d) => csv(s, d),
        DataConfig::Bin40(d) => {
            s.put("source", &SourceWord::Bin40);
            s.put("train", &d.train);
            s.put("eval", &d.eval);
            s.put("test", &d.test);
            s.put("tables", &d.tables);
            s.put("max_ind_range", &d.max_ind_range);
            s.put("dense_transform", &d.dense_transform);
            s.put("shuffle", &d.shuffle);
            s.put("buffer", &d.buffer);
        }
        DataConfig::Parquet(d) => parquet(s, d),
        DataConfig::Files(d) => files(s, d),
    }
}

fn numpy_random(s: &mut Section, d: &NumpyRandomConfig) {
    s.put("source", &SourceWord::NumpyRandom);
    s.put("tables", &d.tables);
    s.put("dense", &d.dense);
    s.put("samples", &d.samples);
    s.put("indices_per_lookup", &d.indices_per_lookup);
    s.put("fixed_indices", &d.fixed_indices);
    match &d.distribution {
        RandomIds::Uniform => s.put("distribution", &IdsWord::Uniform),
        RandomIds::Gaussian { mu, sigma, min, max } => {
            s.put("distribution", &IdsWord::Gaussian);
            s.put("mu", mu);
            s.put("sigma", sigma);
            s.put("min", min);
            s.put("max", max);
        }
        RandomIds::Trace { files, padding, restart } => {
            s.put("distribution", &IdsWord::Trace);
            s.put("traces", files);
            s.put("trace_padding", padding);
            s.put("trace_restart", restart);
        }
    }
    s.put("round_targets", &d.round_targets);
    s.put("seed", &d.seed);
}

fn csv(s: &mut Section, d: &CsvConfig) {
    s.put("source", &SourceWord::Csv);
    s.put("train", &d.train);
    s.put("eval", &d.eval);
    s.put("test", &d.test);
    s.put("columns", &d.columns);
    s.put("label", &d.label);
    s.put("positive", &d.positive);
    s.put("dense", &d.dense);
    s.put("categorical", &d.categorical);
    s.put("ignore", &d.ignore);
    s.put("dense_transform", &d.dense_transform);
    s.put("min_count", &d.min_count);
    s.put("delimiter", &d.delimiter);
    s.put("comment", &d.comment);
    s.put("shuffle", &d.shuffle);
    s.put("on_error", &d.on_error);
}

fn parquet(s: &mut Section, d: &ParquetConfig) {
    s.put("source", &SourceWord::Parquet);
    s.put("train", &d.train);
    s.put("eval", &d.eval);
    s.put("test", &d.test);
    s.put("label", &d.label);
    s.put("dense", &d.dense);
    s.put("categorical", &d.categorical);
    s.put("ignore", &d.ignore);
    s.put("tables", &d.tables);
    s.put("hotness", &d.hotness);
    s.put("id_stride", &d.id_stride);
    s.put("max_ind_range", &d.max_ind_range);
    s.put("dense_transform", &d.dense_transform);
    s.put("shuffle", &d.shuffle);
    s.put("buffer", &d.buffer);
}

fn files(s: &mut Section, d: &FilesConfig) {
    s.put("source", &SourceWord::Files(d.format));
    s.put("train", &d.train);
    s.put("eval", &d.eval);
    s.put("test", &d.test);
    s.put("label", &d.label);
    s.put("dense", &d.dense);
    s.put("categorical", &d.categorical);
    s.put("ignore", &d.ignore);
    s.put("tables", &d.tables);
    s.put("hotness", &d.hotness);
    s.put("max_ind_range", &d.max_ind_range);
    s.put("dense_transform", &d.dense_transform);
    s.put("buffer", &d.buffer);
}

fn loader(s: &mut Section, l: &LoaderSection) {
    s.put("shards", &l.shards.map(|s| s.of));
    s.put("shard", &l.shards.map(|s| s.shard));
    s.put("queue", &l.queue.as_ref().map(|q| q.path.clone()));
    s.put("slice", &l.queue.as_ref().map(|q| q.slice));
    s.put("prefetch", &l.prefetch);
}

fn model(s: &mut Section, model: &ModelConfig) {
    match model {
        ModelConfig::Dlrm {
            dim,
            bottom,
            top,
            interaction,
            pooling,
            dense_pad_to,
            mlp_init,
            embedding_init,
            init_rng,
        } => {
            s.put("kind", &ModelWord::Dlrm);
            s.put("dim", dim);
            s.put("bottom", bottom);
            s.put("top", top);
            match interaction {
                Interaction::Cat => s.put("interaction", &InteractionWord::Cat),
                Interaction::Projection { branches: [first, second] } => {
                    s.put("interaction", &InteractionWord::Projection);
                    s.put("branch1", first);
                    s.put("branch2", second);
                }
                Interaction::Cross { layers, rank } => {
                    s.put("interaction", &InteractionWord::Cross);
                    s.put("cross_layers", layers);
                    s.put("cross_rank", rank);
                }
                Interaction::Dot { itself, pad_to } => {
                    s.put("interaction", &InteractionWord::Dot);
                    s.put("self_interaction", itself);
                    s.put("pad_to", pad_to);
                }
            }
            s.put("pooling", pooling);
            s.put("dense_pad_to", dense_pad_to);
            inits(s, *mlp_init, *embedding_init, *init_rng);
        }
        ModelConfig::DeepFm {
            dim,
            hidden,
            batch_norm,
            dropout,
            embedding_l2,
            mlp_init,
            embedding_init,
            init_rng,
        } => {
            s.put("kind", &ModelWord::DeepFm);
            s.put("dim", dim);
            s.put("hidden", hidden);
            s.put("batch_norm", batch_norm);
            s.put("dropout", dropout);
            s.put("embedding_l2", embedding_l2);
            inits(s, *mlp_init, *embedding_init, *init_rng);
        }
    }
}

fn inits(s: &mut Section, mlp: MlpInit, embedding: EmbeddingInit, rng: InitRng) {
    s.put("mlp_init", &mlp);
    match embedding {
        EmbeddingInit::UniformSqrtInvRows => {
            s.put("embedding_init", &EmbeddingInitWord::UniformSqrtInvRows)
        }
        EmbeddingInit::TruncatedNormal => {
            s.put("embedding_init", &EmbeddingInitWord::TruncatedNormal)
        }
        EmbeddingInit::Normal { std } => {
            s.put("embedding_init", &EmbeddingInitWord::Normal);
            s.put("embedding_init_std", &std);
        }
    }
    s.put("init_rng", &rng);
}

fn engine(s: &mut Section, e: &EngineSection) {
    s.put("kind", &e.kind);
    s.put("device", &e.device.to_string());
    s.put("threads", &e.threads);
    s.put("pin_threads", &e.pin_threads);
    if e.kind == EngineKind::Fused {
        s.put("precision", &e.precision);
        s.put("embedding_rows", &e.embedding_rows);
    }
    match e.loss_scale {
        LossScaleSpec::Off => {}
        LossScaleSpec::Static { scale } => {
            s.put("loss_scaling", &LossScalingWord::Static);
            s.put("loss_scale", &scale);
        }
        LossScaleSpec::Dynamic { initial, growth_steps } => {
            s.put("loss_scaling", &LossScalingWord::Dynamic);
            s.put("loss_scale", &initial);
            s.put("loss_scale_growth_steps", &growth_steps);
        }
    }
}

fn train(s: &mut Section, t: &TrainSection) {
    s.put("batch_size", &t.batch_size);
    s.put("epochs", &t.epochs);
    s.put("max_steps", &t.max_steps);
    s.put("drop_last", &t.drop_last);
    s.put("seed", &t.seed);
    match t.loss.kind {
        LossKind::Bce => s.put("loss", &LossWord::Bce),
        LossKind::Mse => s.put("loss", &LossWord::Mse),
        LossKind::Wbce { weights } => {
            s.put("loss", &LossWord::Wbce);
            s.put("loss_weights", &weights[..]);
        }
    }
    s.put("loss_clamp", &t.loss.clamp);
}

fn optimizer(s: &mut Section, o: &OptimizerConfig) {
    s.put("kind", o.rule.kind());
    for (key, value) in o.rule.settings() {
        match value {
            rules::Value::Number(x) => s.put(key.name, &x),
            rules::Value::Count(n) => s.put(key.name, &n),
            rules::Value::Flag(b) => s.put(key.name, &b),
            rules::Value::Word(word) => s.put(key.name, word),
        }
    }
    s.put("learning_rate", &o.learning_rate);
    s.put("clip_norm", &o.clip_norm);
}

fn schedule(s: &mut Section, schedule: &ScheduleSpec) {
    match schedule {
        ScheduleSpec::Constant => s.put("kind", &ScheduleWord::Constant),
        // `plateau_quirk` is written as a quirk, in [workload].
        ScheduleSpec::FacebookPolicy {
            warmup_steps,
            decay_start_step,
            decay_steps,
            plateau_quirk: _,
        } => {
            s.put("kind", &ScheduleWord::FacebookPolicy);
            s.put("warmup_steps", warmup_steps);
            s.put("decay_start_step", decay_start_step);
            s.put("decay_steps", decay_steps);
        }
        ScheduleSpec::WarmupPolynomial {
            warmup_steps,
            decay_start_step,
            decay_steps,
            power,
            end_rate,
        } => {
            s.put("kind", &ScheduleWord::WarmupPolynomial);
            s.put("warmup_steps", warmup_steps);
            s.put("decay_start_step", decay_start_step);
            s.put("decay_steps", decay_steps);
            s.put("power", power);
            s.put("end_rate", end_rate);
        }
        ScheduleSpec::MultiStep { milestones, gamma, min_rate } => {
            s.put("kind", &ScheduleWord::MultiStep);
            s.put("milestones", milestones);
            s.put("gamma", gamma);
            s.put("min_rate", min_rate);
        }
        ScheduleSpec::ReduceOnPlateau { factor, patience, min_delta, min_rate } => {
            s.put("kind", &ScheduleWord::ReduceOnPlateau);
            s.put("factor", factor);
            s.put("patience", patience);
            s.put("min_delta", min_delta);
            s.put("min_rate", min_rate);
        }
    }
}

fn eval(s: &mut Section, e: &EvalSection) {
    match e.every {
        EvalEvery::Steps(n) => s.put("every_steps", &n),
        EvalEvery::Epochs(x) => s.put("every_epochs", &x),
        EvalEvery::AtEnd => s.put("every", &EveryWord::End),
        EvalEvery::Never => s.put("every", &EveryWord::Never),
    }
    s.put("batch_size", &e.batch_size);
    s.put("patience", &e.patience);
    s.put("min_delta", &e.min_delta);
    s.put("monitor", &e.monitor);
    s.put("restore_best", &e.restore_best);
}

fn target(s: &mut Section, t: &TargetSection) {
    s.put("auc", &t.auc);
    s.put("share_of_best", &t.share_of_best);
}

fn mlperf(s: &mut Section, m: &MlperfSection) {
    s.put("benchmark", &m.benchmark);
    s.put("division", &m.division);
    s.put("org", &m.org);
    s.put("platform", &m.platform);
    s.put("status", &m.status);
}
