//! `[data]`: the sources and the keys of each.

mod common;
mod criteo;
mod files;
mod made;

use super::{Key, ids, prepared, under};
use crate::workload::parse::{key::key, words::FORMATS};
pub(super) use common::{buffer, row_by_row};

/// `[data]`
pub(super) fn keys() -> Vec<Key> {
    let source = key("data.source", |w| Some(&mut w.data)).says(
        "`planted` (endless click log with a known truth), `numpy_random` (facebook's random \
         generator), `criteo_tsv` (raw Criteo logs, held in memory), `prepared` (raw Criteo logs, \
         made into files by the first run), `csv` (text with a header line), `bin40` (facebook's and MLPerf's binary records), `parquet`, or the word of another format of \
         [data-formats.md](data-formats.md)",
    );
    let mut keys = vec![source];
    keys.extend(ids::keys());
    keys.extend(under("data.source", &["planted"], made::planted()));
    keys.extend(under("data.source", &["numpy_random"], made::numpy_random()));
    keys.extend(under("data.source", &["criteo_tsv"], criteo::criteo_tsv()));
    keys.extend(prepared::keys());
    keys.extend(under("data.source", &["csv"], files::csv()));
    keys.extend(under("data.source", &["bin40"], criteo::bin40()));
    keys.extend(under("data.source", &["parquet"], files::parquet()));
    keys.extend(under("data.source", &FORMATS, files::formats()));
    keys
}
