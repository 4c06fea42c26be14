//! `data.ids`: whether ids are rows of tables or keys of any 64 bits.

use super::{Key, under};
use crate::workload::{
    IdKind,
    parse::{key::split, words::FORMATS},
};

pub(super) fn keys() -> Vec<Key> {
    let mut keys = under("data.source", &["planted", "prepared", "csv", "parquet"], [ids()]);
    keys.extend(under("data.source", &FORMATS, [ids()]));
    keys
}

fn ids() -> Key {
    // Not written where they are rows, as it was not before they could be something else.
    split(
        "data.ids",
        |w| w.data.ids().is_some(),
        |w| w.data.ids().filter(|ids| !ids.is_rows()),
        |w, ids| w.data.set_ids(ids),
    )
    .or(IdKind::Rows)
    .says(
        "`rows`: each is the number of a row of its table. `keys`: any numbers of 64 bits, with a \
         sign or without one, which tables that grow (`embedding.store = \"hashed\"`) take as they \
         are: hashes need no modulo. Where `data.tables` is left out, tables are sized by the \
         different ids of the training split, for which all of it is read once. Ids of `csv` are then the numbers that stand there, \
         0 where nothing does; planted ids are hashed",
    )
}
