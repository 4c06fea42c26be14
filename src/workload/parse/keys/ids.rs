//! `data.ids`: whether ids are rows of tables or keys of any 64 bits.

use super::{Key, under};
use crate::workload::{
    DataConfig::Files,
    IdKind, Workload,
    parse::{key::split, words::FORMATS},
};

pub(super) fn keys() -> Vec<Key> {
    let own = ids(
        |w| !matches!(w.data, Files(_)) && w.data.ids().is_some(),
        |w| w.data.ids().filter(|ids| !ids.is_rows() && !matches!(w.data, Files(_))),
    );
    let formats = ids(
        |w| matches!(w.data, Files(_)),
        |w| w.data.ids().filter(|ids| !ids.is_rows() && matches!(w.data, Files(_))),
    );
    let mut keys = under("data.source", &["planted", "prepared", "csv", "parquet"], [own]);
    keys.extend(under("data.source", &FORMATS, [formats]));
    keys
}

fn ids(applies: fn(&Workload) -> bool, get: fn(&Workload) -> Option<IdKind>) -> Key {
    // Not written where they are rows, as it was not before they could be something else.
    split("data.ids", applies, get, |w, ids| w.data.set_ids(ids)).or(IdKind::Rows).says(
        "`rows`: each is the number of a row of its table. `keys`: any numbers of 64 bits, with a \
         sign or without one, which tables that grow (`embedding.store = \"hashed\"`) take as they \
         are: hashes need no modulo. Where `data.tables` is left out, tables are sized by the \
         different ids of the training split, for which all of it is read once. Ids of `csv` are \
         then the numbers that stand there, 0 where nothing does; planted ids are hashed",
    )
}
