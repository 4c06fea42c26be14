//! `[embedding]`: where rows live, and which keys have one.

use super::{Key, Setting, lens, under};
use crate::{
    embedding::{
        StoreConfig,
        cached::CachedStore,
        hashed::{FilterConfig, HashedConfig, HashedStore},
    },
    workload::parse::key::{above, key, split},
};

/// More rows of a table than this have no number.
const MOST_ROWS: usize = 1 << 31;

/// `[embedding]`
pub(super) fn keys() -> Vec<Key> {
    // Not written where tables do not grow, as it was not before they could.
    let mut keys = vec![
        split(
            "embedding.store",
            |_| true,
            |w| (!w.embedding.is_resident()).then(|| w.embedding.clone()),
            |w, store| w.embedding = store,
        )
        .or(StoreConfig::Resident)
        .says(
            "`resident`: a table has a row for each id of its column, made before training. \
             `hashed`: it grows, an id gets a row when training first meets it, as in DeepRec's \
             EmbeddingVariable. Where both have the same initial values, and no clipping or \
             rounding goes by the place of a row, their bits are the same. `cached`: a table has a \
             row for each id, in a file, and those that are read in memory; the bits are those of \
             `resident`. `auto`: `resident` if the run then takes at most three quarters of the \
             memory that is free, else `cached`, with a cache of what of that is left; what it came \
             to is kept in its stead",
        ),
    ];
    keys.extend(under("embedding.store", &["cached"], cached()));
    keys.extend(under("embedding.store", &["auto"], auto()));
    keys.push(resident());
    keys.extend(under("embedding.store", &["hashed"], sizes()));
    keys.extend(tiers());
    keys.extend(filters());
    keys.extend(under("embedding.store", &["hashed"], eviction()));
    keys
}

fn cached() -> Vec<Key> {
    vec![
        key("embedding.cache", lens!(embedding; StoreConfig::Cached(c) => &mut c.cache)).says(
            "Memory for rows with their optimizer state. Small tables are in it whole, the others \
             share the rest (OneFlow: `cache_memory_budget_mb`). With `embedding.device_cache` it \
             is that of the host, for rows that are not in a GPU's",
        ),
        key(
            "embedding.device_cache",
            lens!(embedding; StoreConfig::Cached(c) => &mut c.device_cache),
        )
        .or(None)
        .or_in_words("none: a CPU's rows are in the host's memory; a GPU must be given some")
        .says(
            "A GPU's memory for rows with their optimizer state, shared as `embedding.cache` \
                 is. The others are in the host's, and beyond that in the file (OneFlow: \
                 `device_memory_budget_mb_per_rank`)",
        ),
        key("embedding.disk", lens!(embedding; StoreConfig::Cached(c) => &mut c.disk))
            .or(None)
            .or_in_words("what all rows take, and a quarter more")
            .says("The most that the file of the other rows may take. A run ends that needs more"),
        key("embedding.path", lens!(embedding; StoreConfig::Cached(c) => &mut c.path))
            .or(None)
            .or_in_words("`dlrm-bench/rows` in the user's cache folder")
            .says(
                "Folder of that file, which has no name in it and is gone when the run ends \
                 (OneFlow: `persistent_path`)",
            ),
    ]
}

/// Tables of another store. Not written where there are none, as it was not before there could be some.
fn resident() -> Key {
    split(
        "embedding.resident",
        |w| matches!(w.embedding, StoreConfig::Cached(_) | StoreConfig::Hashed(_)),
        |w| match &w.embedding {
            StoreConfig::Cached(CachedStore { resident, .. })
            | StoreConfig::Hashed(HashedStore { resident, .. }) => {
                (!resident.is_empty()).then(|| resident.clone())
            }
            _ => None,
        },
        |w, columns| match &mut w.embedding {
            StoreConfig::Cached(CachedStore { resident, .. })
            | StoreConfig::Hashed(HashedStore { resident, .. }) => *resident = columns,
            _ => {}
        },
    )
    .when(&[Setting { key: "embedding.store", words: &["cached", "hashed"] }])
    .or(Vec::new())
    .or_in_words("none")
    .says(
        "Categorical columns whose tables have a row for each id in memory from the start, whatever \
         the others have",
    )
}

/// The file that there may be.
fn auto() -> Vec<Key> {
    vec![
        key("embedding.disk", lens!(embedding; StoreConfig::Auto(a) => &mut a.disk))
            .or(None)
            .or_in_words("what all rows take, and a quarter more")
            .says("As with `cached`, if it comes to that"),
        key("embedding.path", lens!(embedding; StoreConfig::Auto(a) => &mut a.path))
            .or(None)
            .or_in_words("`dlrm-bench/rows` in the user's cache folder")
            .says("As with `cached`, if it comes to that"),
    ]
}

/// Where rows of tables that grow are, if not all are in memory.
fn tiers() -> Vec<Key> {
    let given = &[Setting { key: "embedding.cache", words: &[] }];
    macro_rules! tier {
        ($field:ident) => {
            lens!(embedding; StoreConfig::Hashed(HashedStore { tier: Some(CachedStore { $field, .. }), .. }) => $field)
        };
    }
    let hashed = &[Setting { key: "embedding.store", words: &["hashed"] }];
    vec![
        split(
            "embedding.cache",
            |w| w.embedding.hashed().is_some(),
            |w| match &w.embedding {
                StoreConfig::Hashed(h) => h.tier.as_ref().map(|tier| Some(tier.cache)),
                _ => None,
            },
            |w, cache| {
                if let StoreConfig::Hashed(h) = &mut w.embedding {
                    h.tier = cache.map(|cache| CachedStore { cache, ..CachedStore::default() });
                }
            },
        )
        .when(hashed)
        .or(None)
        .or_in_words("all rows are in memory")
        .says(
            "Memory for rows with their optimizer state, beyond which they are in a file, as with \
             `cached` (DeepRec: `storage_size` of its first tier). The bits are those of rows that \
             are all in memory",
        ),
        key("embedding.disk", tier!(disk))
            .when(given)
            .or(None)
            .or_in_words("what all rows take, and a quarter more")
            .says("As with `cached`"),
        key("embedding.path", tier!(path))
            .when(given)
            .or(None)
            .or_in_words("`dlrm-bench/rows` in the user's cache folder")
            .says("As with `cached`"),
    ]
}

fn sizes() -> Vec<Key> {
    vec![
        key("embedding.capacity", lens!(embedding; StoreConfig::Hashed(h) => &mut h.capacity))
            .or(None)
            .or_in_words("the ids of the column")
            .not_empty("is empty; must hold at least one number of rows")
            .within_as(1..=MOST_ROWS, "rows, from 1 to 2147483648")
            .says(
                "Rows of a table at most, one number for each categorical column or one for all. A run ends that needs more. On a CPU memory is taken as \
                 rows come (but for optimizer state that does not begin with zeros), elsewhere at \
                 the start",
            ),
        key(
            "embedding.default_value_dim",
            lens!(embedding; StoreConfig::Hashed(h) => &mut h.config.default_value_dim),
        )
        .or(None)
        .within_as(1..=1 << 31, "from 1 to 2147483648; leave it out for a row of its own")
        .says(
            "A new row begins as one of so many initial rows, number id modulo this (DeepRec: \
             4096); left out, as the row that its id has in a resident table",
        ),
    ]
}

fn filters() -> Vec<Key> {
    let filtered = &[Setting { key: "embedding.filter", words: &["counter", "bloom"] }];
    let bloom = &[Setting { key: "embedding.filter", words: &["bloom"] }];
    let hashed = &[Setting { key: "embedding.store", words: &["hashed"] }];
    vec![
        key("embedding.filter", lens!(embedding; StoreConfig::Hashed(h) => &mut h.config.filter))
            .when(hashed)
            .or(FilterConfig::None)
            .says(
                "Which ids get a row: `none` keeps none out, `counter` counts every id, `bloom` \
                 counts in a Bloom filter, which may count others along. An id without a row reads \
                 `embedding.default_value_no_permission` and learns nothing; in the step that gives \
                 it one it reads that still, and learns",
            ),
        key(
            "embedding.filter_freq",
            lens!(embedding; StoreConfig::Hashed(HashedStore {
                config: HashedConfig { filter: FilterConfig::Counter { freq } | FilterConfig::Bloom { freq, .. }, .. }, ..
            }) => freq),
        )
        .when(filtered)
        .within_as(1..=1 << 62, "at least 1")
        .says("An id gets a row once training has seen it so often"),
        // Not written where it is 0, as it was not before it could be something else.
        split(
            "embedding.default_value_no_permission",
            |w| w.embedding.hashed().is_some_and(|h| !h.filter.is_none()),
            |w| {
                let value = w.embedding.hashed()?.default_value_no_permission;
                (value != 0.0).then_some(f64::from(value))
            },
            |w, value| {
                if let Some(h) = w.embedding.hashed_mut() {
                    h.default_value_no_permission = value as f32;
                }
            },
        )
        .when(filtered)
        .or(0.0)
        .within_as(-1e6..=1e6, "from -1000000 to 1000000")
        .says("What an id without a row reads, in each element of it (DeepRec: 0.0)"),
        key(
            "embedding.bloom_keys",
            lens!(embedding; StoreConfig::Hashed(HashedStore {
                config: HashedConfig { filter: FilterConfig::Bloom { keys, .. }, .. }, ..
            }) => keys),
        )
        .when(bloom)
        .within_as(1..=1 << 40, "from 1 to 2^40")
        .says("Ids that a table's filter is made for (DeepRec: `max_element_size`)"),
        key(
            "embedding.false_positive",
            lens!(embedding; StoreConfig::Hashed(HashedStore {
                config: HashedConfig { filter: FilterConfig::Bloom { false_positive, .. }, .. }, ..
            }) => false_positive),
        )
        .when(bloom)
        .or(0.01)
        .within_as(1e-12..=0.5, "from 1e-12 to 0.5")
        .says("Chance that one of so many ids is counted too often"),
        key(
            "embedding.counter_bits",
            lens!(embedding; StoreConfig::Hashed(HashedStore {
                config: HashedConfig { filter: FilterConfig::Bloom { counter_bits, .. }, .. }, ..
            }) => counter_bits),
        )
        .when(bloom)
        .or(64)
        .check(|bits, w| {
            if ![8, 16, 32, 64].contains(bits) {
                return Err(format!("is {bits}; must be 8, 16, 32 or 64"));
            }
            let freq = w.embedding.hashed().map_or(0, |h| h.filter.freq());
            match freq.checked_shr(*bits).unwrap_or(0) {
                0 => Ok(()),
                _ => Err(format!(
                    "is {bits}, in which embedding.filter_freq, {freq}, does not fit; must be wider"
                )),
            }
        })
        .says("Bits of a counter of the filter: 8, 16, 32 or 64"),
    ]
}

fn eviction() -> Vec<Key> {
    vec![
        key(
            "embedding.steps_to_live",
            lens!(embedding; StoreConfig::Hashed(h) => &mut h.config.steps_to_live),
        )
        .or(None)
        .within_as(1.., "at least 1; leave it out for ever")
        .says(
            "Rows are dropped that no step has touched for more than so many (DeepRec: \
             `GlobalStepEvict`), and ids are forgotten that a filter counts",
        ),
        key(
            "embedding.l2_threshold",
            lens!(embedding; StoreConfig::Hashed(h) => &mut h.config.l2_threshold),
        )
        .or(None)
        .within(above(0.0))
        .says("Rows are dropped of which half the sum of squares is below this (DeepRec: `L2WeightEvict`)"),
        key(
            "embedding.evict_every_steps",
            lens!(embedding; StoreConfig::Hashed(h) => &mut h.config.evict_every_steps),
        )
        .or(None)
        .or_in_words("`checkpoint.every_steps`")
        .within_as(1.., "at least 1")
        .check(|every, w| match (every, w.embedding.hashed()) {
            (Some(_), Some(h)) if !h.evicts() => Err(
                "has no effect, for no rows are dropped; give embedding.steps_to_live or embedding.l2_threshold, or remove it".to_owned()
            ),
            _ => Ok(()),
        })
        .says("Rows are dropped after so many steps each; DeepRec does it when it saves"),
    ]
}
