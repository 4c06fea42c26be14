//! `feature_map.json`.

use crate::data::{
    DataError,
    format::columns::Columns,
    rows::{Hotness, Layout, io, wrong},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::Path};

/// A larger map is none.
const LARGEST: u64 = 256 << 20;

/// What the files hold.
pub(super) struct FeatureMap {
    pub columns: Columns,
    /// Ids of each categorical column.
    pub vocabularies: Vec<u64>,
    kinds: Vec<Kind>,
    text: Vec<u8>,
}

/// What a sample has of a categorical column.
#[derive(Debug, Clone, Copy)]
enum Kind {
    One,
    /// At most so many ids, if that is known.
    Sequence(Option<u64>),
}

impl FeatureMap {
    /// Reads the map at `path`; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read or is none.
    pub fn read(path: &Path) -> Result<Option<Self>, DataError> {
        let length = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(io(path))?.len(),
        };
        if length > LARGEST {
            return Err(wrong(path, format!("{length} bytes are too many for a feature map")));
        }
        let text = std::fs::read(path).map_err(io(path))?;
        let map: Value = serde_json::from_slice(&text)
            .map_err(|e| wrong(path, format!("no feature map of FuxiCTR's: {e}")))?;
        let parsed = FeatureMap::parse(&map).map(|map| Some(FeatureMap { text, ..map }));
        parsed.map_err(|what| wrong(path, format!("no feature map of FuxiCTR's: {what}")))
    }

    fn parse(map: &Value) -> Result<Self, String> {
        let labels = match &map["labels"] {
            Value::Array(labels) => {
                labels.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            // Version 1 has one.
            _ => map["label_name"]
                .as_str()
                .or(map["labels"].as_str())
                .map(str::to_owned)
                .into_iter()
                .collect::<Vec<_>>(),
        };
        let [label] = &labels[..] else {
            return Err(format!("it names {} labels; must name one", labels.len()));
        };
        // A list of objects of one feature each; version 1 has one object of all, or calls it
        // otherwise.
        let features: Vec<(&String, &Value)> =
            match map.get("features").or_else(|| map.get("feature_specs")) {
                Some(Value::Array(list)) => {
                    list.iter().filter_map(Value::as_object).flatten().collect()
                }
                Some(Value::Object(all)) => all.iter().collect(),
                _ => return Err("it has no features".into()),
            };
        let mut columns = Columns { label: Some(label.clone()), only: true, ..Columns::default() };
        let (mut vocabularies, mut kinds) = (Vec::new(), Vec::new());
        for (name, spec) in features {
            match spec["type"].as_str() {
                Some("numeric") => columns.dense.push(name.clone()),
                Some(kind @ ("categorical" | "sequence")) => {
                    kinds.push(if kind == "sequence" {
                        Kind::Sequence(spec["max_len"].as_u64())
                    } else {
                        Kind::One
                    });
                    columns.categorical.push(name.clone());
                    let ids = spec["vocab_size"]
                        .as_u64()
                        .ok_or_else(|| format!("feature {name} has no vocab_size"))?;
                    vocabularies.push(ids);
                }
                Some("meta") => {}
                other => {
                    let shown = other.unwrap_or("none");
                    return Err(format!(
                        "feature {name} is of type {shown}; must be numeric, categorical, sequence or meta"
                    ));
                }
            }
        }
        Ok(FeatureMap { columns, vocabularies, kinds, text: Vec::new() })
    }

    /// Refuses samples of other columns.
    ///
    /// # Errors
    /// What the map has.
    pub fn check(&self, layout: &Layout) -> Result<(), String> {
        let same = self.columns.label.as_ref() == Some(&layout.label)
            && self.columns.dense == layout.dense
            && self.columns.categorical.iter().eq(layout.ids.iter().map(|c| &c.name));
        if !same {
            return Err("has other columns than these samples; write them to another folder".into());
        }
        for (column, kind) in layout.ids.iter().zip(&self.kinds) {
            let there = match (kind, column.hotness) {
                (Kind::One, Hotness::One)
                | (Kind::Sequence(None), Hotness::Fixed(_))
                | (Kind::Sequence(_), Hotness::Any) => {
                    continue;
                }
                (Kind::Sequence(Some(n)), Hotness::Fixed(ids)) if *n == ids as u64 => continue,
                (Kind::Sequence(Some(1)), Hotness::One) => continue,
                (Kind::One, _) => "categorical, of one id".to_owned(),
                (Kind::Sequence(Some(n)), _) => format!("a sequence of {n} ids"),
                (Kind::Sequence(None), _) => "a sequence".to_owned(),
            };
            let here = match column.hotness {
                Hotness::One => "one id".to_owned(),
                Hotness::Fixed(n) => format!("{n} ids"),
                Hotness::Any => "any number of ids".to_owned(),
            };
            let what = format!(
                "column {} is {there}, but these samples hold {here}; must be equal; use another folder",
                column.name
            );
            return Err(what);
        }
        Ok(())
    }

    /// The text of the map with room for more ids of the columns of `layout`, and all else as it
    /// is.
    pub fn raised(&self, layout: &Layout, vocabularies: &[u64]) -> serde_json::Result<Vec<u8>> {
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        for ((column, &there), &here) in layout.ids.iter().zip(&self.vocabularies).zip(vocabularies)
        {
            if here > there {
                wanted.insert(&column.name, here);
            }
        }
        if wanted.is_empty() {
            return Ok(self.text.clone());
        }
        let mut map: Value = serde_json::from_slice(&self.text)?;
        // Columns that share a table of embeddings have as many ids: that of the table's own
        // column, in which the others find theirs.
        let shared: Vec<(String, String)> = features(&mut map)
            .filter_map(|(name, spec)| {
                Some((name.clone(), spec["share_embedding"].as_str()?.to_owned()))
            })
            .collect();
        let mut tables: BTreeMap<&str, u64> = BTreeMap::new();
        let table = |name: &str| {
            shared.iter().find(|(sharer, _)| sharer == name).map(|(_, table)| &**table)
        };
        for (&name, &ids) in &wanted {
            let most = tables.entry(table(name).unwrap_or(name)).or_default();
            *most = ids.max(*most);
        }
        let mut more = 0;
        for (name, spec) in features(&mut map) {
            let Some(&ids) = tables.get(table(name).unwrap_or(name)) else { continue };
            if let Some(there) = spec.get_mut("vocab_size")
                && let Some(n) = there.as_u64().filter(|n| *n < ids)
            {
                (more, *there) = (more + (ids - n), ids.into());
            }
        }
        if let Some(total) = map.get_mut("total_features")
            && let Some(n) = total.as_u64()
        {
            *total = n.saturating_add(more).into();
        }
        text(&map)
    }

    /// The map of `layout`.
    pub fn value(layout: &Layout, dataset: &str, vocabularies: &[u64]) -> Value {
        let one =
            |name: &String, spec: Value| Value::Object(Map::from_iter([(name.clone(), spec)]));
        let mut features: Vec<Value> =
            layout.dense.iter().map(|n| one(n, json!({"source": "", "type": "numeric"}))).collect();
        let mut width = layout.dense.len();
        for (column, ids) in layout.ids.iter().zip(vocabularies) {
            features.push(one(
                &column.name,
                match column.hotness {
                    Hotness::One => {
                        width += 1;
                        json!({"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": ids})
                    }
                    Hotness::Fixed(n) => {
                        width += n;
                        json!({"source": "", "type": "sequence", "padding_idx": 0, "max_len": n, "vocab_size": ids})
                    }
                    Hotness::Any => json!({"source": "", "type": "sequence", "padding_idx": 0, "vocab_size": ids}),
                },
            ));
        }
        json!({
            "dataset_id": dataset,
            "num_fields": layout.dense.len() + layout.ids.len(),
            "total_features": layout.dense.len() as u64 + vocabularies.iter().sum::<u64>(),
            "input_length": width,
            "labels": [layout.label],
            "features": features,
        })
    }
}

/// The features of a map, which are a list of objects of one each or, in version 1, an object of
/// all.
fn features(map: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    let key = if map.get("features").is_some() { "features" } else { "feature_specs" };
    let list = match map.get_mut(key) {
        Some(Value::Array(list)) => &mut list[..],
        Some(all) => std::slice::from_mut(all),
        None => &mut [],
    };
    list.iter_mut().filter_map(Value::as_object_mut).flatten()
}

/// The text of a map.
pub(super) fn text(map: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(map)?;
    text.push(b'\n');
    Ok(text)
}
