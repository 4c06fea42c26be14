//! What the columns of planted data look like and how much each adds to the truth: presets, and the
//! rules for custom tables.

use crate::data::{DataError, source::config::PlantedConfig};
use std::ops::RangeInclusive;

/// Cardinalities of the Criteo Kaggle data after facebook's preprocessing (no `max_ind_range`).
const KAGGLE_ROWS: [usize; 26] = [
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992,
    5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
];
/// Cardinalities of the Criteo 1TB data, ids modulo 40,000,000 (MLPerf DLRM v1).
pub const CRITEO_1TB_ROWS: [usize; 26] = [
    39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10, 2208,
    11938, 155, 4, 976, 14, 39979771, 25641295, 39664984, 585935, 12972, 108, 36,
];
/// Shares of empty categorical fields, in hundredths; much like those of Criteo's Kaggle log.
const CRITEO_MISSING: [u8; 26] =
    [0, 0, 3, 3, 0, 13, 0, 0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 45, 45, 3, 80, 0, 3, 45, 45];
/// Shares of empty numeric fields, in hundredths, and location and spread of `ln x` of the others;
/// much like Criteo's.
const CRITEO_DENSE: [(u8, f64, f64); 13] = [
    (45, 0.1, 0.75),
    (0, 1.6, 1.3),
    (20, 2.0, 0.75),
    (20, 1.5, 0.6),
    (5, 7.4, 1.6),
    (25, 3.6, 1.0),
    (5, 1.2, 0.8),
    (0, 2.0, 0.7),
    (5, 3.6, 0.95),
    (45, -0.3, 0.35),
    (5, 0.3, 0.5),
    (78, -0.7, 0.7),
    (20, 1.7, 0.65),
];
/// No column is longer: the scattering works in 32 bits.
/// Rows of the largest table.
pub const MAX_ROWS: usize = 1 << 31;
/// Most ids of a sample in a table.
pub const MAX_HOTNESS: usize = 4096;
/// Most dense columns; more are a slip.
pub const MAX_DENSE: usize = 1 << 20;
/// Shares of positive labels that a truth can be made for.
pub const POSITIVE_RATES: RangeInclusive<f64> = 0.001..=0.999;

/// One categorical column.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Distinct ids, the missing one included.
    pub rows: u32,
    /// Ids a sample holds.
    pub hotness: usize,
    /// Share of values that are missing and become id 0. If it is 0, id 0 is a value like any
    /// other.
    pub missing: f64,
    /// Exponent of the Zipf law of the others.
    pub exponent: f64,
}

/// One dense column: `ln x` is logistic with this location and scale, `x` is cut to an integer (so
/// that small counts become 0), and missing values are 0. What is delivered is `ln(x + 1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count {
    /// Share of missing values.
    pub missing: f64,
    /// Median of `ln x`.
    pub location: f64,
    /// Scale of the logistic law; its standard deviation is 1.81 times that, the tail of `x` falls
    /// as `x^(-1/scale)`.
    pub scale: f64,
}

/// A whole planted log, but for its seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Categorical columns.
    pub tables: Vec<Table>,
    /// Dense columns.
    pub dense: Vec<Count>,
    /// Pairs of tables whose latent vectors meet.
    pub pairs: Vec<(usize, usize)>,
    /// Share of positive labels.
    pub positive_rate: f64,
    /// How the truth is made up.
    pub mix: Mix,
}

/// Standard deviations, in logits, of the parts of the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// All weights of single ids together, before [`Mix::total`] is met.
    pub weights: f64,
    /// All pairs together.
    pub pairs: f64,
    /// All dense terms together.
    pub dense: f64,
    /// The logit as a whole; the parts are scaled by a common factor to meet it.
    pub total: f64,
}

impl Spec {
    /// Resolves the `[data]` section.
    ///
    /// # Errors
    /// [`DataError::Invalid`] naming the key and what it may be.
    pub fn new(config: &PlantedConfig) -> Result<Self, DataError> {
        if let Some(dense) = config.dense.filter(|&d| d > MAX_DENSE) {
            return Err(invalid(format!("data.dense = {dense} must be at most {MAX_DENSE}")));
        }
        let criteo_dense = || {
            CRITEO_DENSE.iter().map(|&(m, location, scale)| Count {
                missing: percent(m),
                location,
                scale,
            })
        };
        let (rows, missing, dense, rate): (&[usize], &[u8], Vec<Count>, f64) = match config
            .preset
            .as_str()
        {
            "criteo_kaggle" => (&KAGGLE_ROWS, &CRITEO_MISSING, criteo_dense().collect(), 0.256),
            "criteo_terabyte" => {
                (&CRITEO_1TB_ROWS, &CRITEO_MISSING, criteo_dense().collect(), 0.032)
            }
            "custom" => (
                &config.tables,
                &[],
                criteo_dense().cycle().take(config.dense.unwrap_or(13)).collect(),
                0.256,
            ),
            other => {
                return Err(invalid(format!(
                    "data.preset = \"{other}\" is unknown; use criteo_kaggle, criteo_terabyte or custom"
                )));
            }
        };
        if config.preset != "custom" && !(config.tables.is_empty() && config.dense.is_none()) {
            return Err(invalid(format!(
                "data.tables and data.dense belong to preset \"custom\", not to \"{}\"",
                config.preset
            )));
        }
        let tables = tables(config, rows, missing)?;
        let positive_rate = config.positive_rate.unwrap_or(rate);
        if !POSITIVE_RATES.contains(&positive_rate) {
            return Err(invalid(format!(
                "data.positive_rate = {positive_rate} must lie between 0.001 and 0.999"
            )));
        }
        if tables.is_empty() && dense.is_empty() {
            return Err(invalid(
                "data.tables and data.dense leave nothing to learn from: give at least one column"
                    .into(),
            ));
        }
        for (key, samples) in
            [("train_samples", config.train_samples), ("eval_samples", config.eval_samples)]
        {
            if samples == 0 {
                return Err(invalid(format!("data.{key} = 0 must be at least 1")));
            }
        }
        let pairs = pairs(&tables);
        Ok(Spec { tables, dense, pairs, positive_rate, mix: MIX })
    }
}

fn tables(config: &PlantedConfig, rows: &[usize], missing: &[u8]) -> Result<Vec<Table>, DataError> {
    let cap = config.max_rows.unwrap_or(usize::MAX);
    if cap == 0 {
        return Err(invalid("data.max_rows = 0 must be at least 1".into()));
    }
    if !config.hotness.is_empty() && config.hotness.len() != rows.len() {
        let (h, t) = (config.hotness.len(), rows.len());
        return Err(invalid(format!(
            "data.hotness has {h} entries for {t} tables; give one a table, or none for 1 each"
        )));
    }
    if !config.exponents.is_empty() && config.exponents.len() != rows.len() {
        let (e, t) = (config.exponents.len(), rows.len());
        return Err(invalid(format!(
            "data.exponents has {e} entries for {t} tables; give one a table, or none"
        )));
    }
    let mut tables = Vec::with_capacity(rows.len());
    for (i, &r) in rows.iter().enumerate() {
        let hotness = config.hotness.get(i).copied().unwrap_or(1);
        if !(1..=MAX_HOTNESS).contains(&hotness) {
            return Err(invalid(format!(
                "data.hotness[{i}] = {hotness} must lie between 1 and {MAX_HOTNESS}"
            )));
        }
        if r == 0 || r.min(cap) > MAX_ROWS {
            return Err(invalid(format!(
                "data.tables[{i}] = {r} must lie between 1 and {MAX_ROWS}"
            )));
        }
        let rows = r.min(cap) as u32;
        let missing = if rows > 1 { percent(missing.get(i).copied().unwrap_or(0)) } else { 0.0 };
        let exponent = config.exponents.get(i).copied().unwrap_or_else(|| usual_exponent(rows));
        if !(0.0..=4.0).contains(&exponent) {
            return Err(invalid(format!(
                "data.exponents[{i}] = {exponent} must lie between 0 and 4"
            )));
        }
        tables.push(Table { rows, hotness, missing, exponent: lawful(exponent) });
    }
    Ok(tables)
}

/// Small tables are flatter, large ones steeper, as in real logs: there, a short column is a
/// category (weekday, country), a long one is made of identifiers, few of which are seen often.
fn usual_exponent(rows: u32) -> f64 {
    SMALL + (LARGE - SMALL) * (f64::from(rows).log10() / 7.0).min(1.0)
}

/// The law is written with `1 / (1 - q)` and with `x^-q`: 1 and 0 are only come close to.
fn lawful(q: f64) -> f64 {
    if (q - 1.0).abs() < 0.001 { 1.001 } else { q.max(1e-6) }
}

/// Tables in order of their size; each meets the next one and the one `STRIDE` further on.
fn pairs(tables: &[Table]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..tables.len()).filter(|&t| tables[t].rows > 1).collect();
    order.sort_by_key(|&t| (tables[t].rows, t));
    let mut pairs = Vec::new();
    for (i, &a) in order.iter().enumerate() {
        for distance in [1, STRIDE] {
            if let Some(&b) = order.get(i + distance) {
                pairs.push((a, b));
            }
        }
    }
    pairs
}

fn percent(p: u8) -> f64 {
    f64::from(p) / 100.0
}

fn invalid(what: String) -> DataError {
    DataError::Invalid(what)
}

const SMALL: f64 = 0.6;
const LARGE: f64 = 1.25;
const STRIDE: usize = 5;
const MIX: Mix = Mix { weights: 1.0, pairs: 1.0, dense: 0.7, total: 1.52 };
