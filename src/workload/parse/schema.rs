//! The JSON schema of a workload file, for editors and other programs.

use super::{
    key::{Fallback, Key, Setting},
    keys,
};
use crate::workload::sweep;
use serde_json::{Map, Value as Json, json};

/// A JSON schema (draft 7) of workload files. It knows every key, type, range, word, and under
/// which settings a key has a meaning, but no relation between numbers and no file.
pub fn schema() -> Json {
    let mut sections: Map<String, Json> =
        keys::SECTIONS.iter().map(|s| ((*s).to_owned(), with_otherwise(s))).collect();
    let required: Vec<String> = sections
        .iter()
        .filter(|(_, schema)| schema.get("required").is_some())
        .map(|(name, _)| name.clone())
        .collect();
    sections.insert(sweep::SECTION.to_owned(), sweep());
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A workload of dlrm-bench",
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": sections,
    })
}

/// Lists of values by key: `"train.batch_size" = [512, 2048]`, or tables of such lists by section.
fn sweep() -> Json {
    let list = json!({"type": "array", "minItems": 1, "uniqueItems": true});
    let sections = keys::SECTIONS.join("|");
    json!({
        "type": "object",
        "description": "Values for keys, as \"train.batch_size\" = [512, 2048]: `dlrm-bench run` trains all combinations",
        "minProperties": 1,
        "additionalProperties": false,
        "patternProperties": {
            format!("^({sections})\\.[a-z0-9_.]+$"): list,
            format!("^({sections})$"): {"type": "object", "minProperties": 1},
        },
    })
}

/// [`schema`] as text, as docs/workload.schema.json holds it.
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}

/// A section, with the table that stands in for it where it may have one: other data are a whole
/// `[data]`; of other sections there may be any keys, since only both together are one.
fn with_otherwise(name: &str) -> Json {
    let mut schema = section(name);
    if let Some(says) = keys::otherwise(name) {
        let at = |key: &str| json!({"$ref": format!("#/properties/{name}{key}")});
        let mut table = match name {
            "data" => json!({"allOf": [at(""), {"not": {"required": ["otherwise"]}}]}),
            _ => {
                let properties = schema["properties"].as_object().into_iter().flatten();
                let keys: Map<String, Json> = properties
                    .map(|(key, _)| (key.clone(), at(&format!("/properties/{key}"))))
                    .collect();
                json!({"type": "object", "additionalProperties": false, "properties": keys})
            }
        };
        table["description"] = says.into();
        schema["properties"]["otherwise"] = table;
    }
    schema
}

fn section(name: &str) -> Json {
    let keys: Vec<&Key> = keys::of_section(name).collect();
    let mut properties = Map::new();
    // Conditions, and the keys that have no meaning without them.
    let mut without: Vec<(Json, Map<String, Json>)> = Vec::new();
    for full in keys::names() {
        let Some(short) = full.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else {
            continue;
        };
        properties.insert(short.to_owned(), property(full));
        if let Some(condition) = meaningful(full) {
            let at = without.iter().position(|(c, _)| *c == condition).unwrap_or_else(|| {
                without.push((condition, Map::new()));
                without.len() - 1
            });
            without[at].1.insert(short.to_owned(), false.into());
        }
    }
    let mut rules: Vec<Json> = without
        .into_iter()
        .map(|(condition, keys)| json!({"if": condition, "else": {"properties": keys}}))
        .collect();
    // What keys are under one set of settings.
    let mut done: Vec<&[Setting]> = vec![&[]];
    for key in &keys {
        let when = &key.facts.when[..];
        if !done.contains(&when) {
            done.push(when);
            rules.push(json!({"if": any_of(when), "then": body(&keys, when)}));
        }
    }
    let mut schema = json!({"type": "object", "additionalProperties": false});
    schema["properties"] = properties.into();
    if let Some(required) = body(&keys, &[]).get("required") {
        schema["required"] = required.clone();
    }
    if !rules.is_empty() {
        schema["allOf"] = rules.into();
    }
    schema
}

/// What is said of the keys that have a meaning under `when`.
fn body(keys: &[&Key], when: &[Setting]) -> Json {
    let here = || keys.iter().filter(|k| k.facts.when == when);
    let mut body = Map::new();
    let properties: Map<String, Json> =
        here().map(|k| (short(k.facts.name).to_owned(), k.facts.schema.clone())).collect();
    body.insert("properties".to_owned(), properties.into());
    let required: Vec<&str> = here()
        .filter(|k| matches!(k.facts.fallback, Fallback::Required))
        .map(|k| short(k.facts.name))
        .collect();
    if !required.is_empty() {
        body.insert("required".to_owned(), required.into());
    }
    body.into()
}

/// A key whatever the others say.
fn property(name: &str) -> Json {
    let mut schemas: Vec<Json> = Vec::new();
    let mut meanings: Vec<&str> = Vec::new();
    for key in keys::called(name) {
        if !schemas.contains(&key.facts.schema) {
            schemas.push(key.facts.schema.clone());
        }
        if !meanings.contains(&key.facts.says) {
            meanings.push(key.facts.says);
        }
    }
    let mut property =
        if let [one] = &schemas[..] { one.clone() } else { json!({"anyOf": schemas}) };
    property["description"] = meanings.join("; or: ").into();
    if let (Some(key), None) = (keys::called(name).next(), keys::called(name).nth(1))
        && let Fallback::Value(value) = &key.facts.fallback
    {
        property["default"] = json(value);
    }
    property
}

/// The condition under which a key has a meaning; `None` if it always has one.
fn meaningful(name: &str) -> Option<Json> {
    let whens: Vec<&[Setting]> = keys::called(name).map(|k| &k.facts.when[..]).collect();
    if whens.contains(&&[][..]) {
        return None;
    }
    Some(any_of(&whens.concat()))
}

fn any_of(settings: &[Setting]) -> Json {
    match settings {
        [one] => condition(one),
        all => json!({"anyOf": all.iter().map(condition).collect::<Vec<_>>()}),
    }
}

/// Whether a setting is made: its key has one of the words, and a meaning itself.
fn condition(setting: &Setting) -> Json {
    let key = short(setting.key);
    let mut this = json!({});
    if !setting.words.is_empty() {
        this["properties"] = json!({key: {"enum": setting.words}});
    }
    // A key that is left out has its default.
    if setting.words.is_empty() || !keys::by_default(setting.key, setting.words) {
        this["required"] = json!([key]);
    }
    match meaningful(setting.key) {
        Some(above) => json!({"allOf": [above, this]}),
        None => this,
    }
}

/// A key's name within its section. Settings are of the section of the key that they are for.
fn short(name: &'static str) -> &'static str {
    name.split_once('.').map_or(name, |(_, short)| short)
}

/// A TOML value as JSON.
pub(super) fn json(value: &toml_edit::Value) -> Json {
    use toml_edit::Value::*;
    match value {
        String(s) => s.value().as_str().into(),
        Integer(n) => (*n.value()).into(),
        Float(x) => (*x.value()).into(),
        Boolean(b) => (*b.value()).into(),
        Array(list) => list.iter().map(json).collect(),
        InlineTable(table) => table.iter().map(|(k, v)| (k.to_owned(), json(v))).collect(),
        Datetime(date) => date.value().to_string().into(),
    }
}
