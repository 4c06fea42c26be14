//! How popular the ids of each column are, as far as it is known before they are read.

use crate::{
    batch::Schema,
    data::{
        locality::IdsProfile,
        source::{
            mean_ids,
            planted::{self, Law},
        },
    },
    engine::cost::ColumnIds,
    stats::{Popular, zipf},
    workload::{DataConfig, Workload},
};
use serde::{Deserialize, Serialize};

/// How it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Popularity {
    /// It is not, of one column at least.
    #[default]
    Unknown,
    /// Planted data are drawn by a law.
    Law,
    /// Ids of such data have been counted (`--ids-profile`).
    Counted,
}

/// The laws of planted data.
pub(super) fn laws(data: &DataConfig) -> Option<Vec<Law>> {
    match data {
        DataConfig::Planted(planted) => planted::laws(planted).ok(),
        _ => None,
    }
}

/// Chances of the ids of a column that is drawn by `law`.
pub(super) fn of_law(law: &Law) -> Vec<Popular> {
    let mut chances = zipf(law.values, law.exponent, 1.0 - law.missing);
    chances.push(Popular { chance: law.missing, ids: 1.0 });
    chances
}

/// The ids of each column: from how often they were asked for in `profile`, else, of planted data, by
/// the laws that they are drawn by, else their number alone.
pub fn column_ids(
    workload: &Workload,
    schema: &Schema,
    profile: Option<&IdsProfile>,
) -> (Popularity, Vec<ColumnIds>) {
    let means = mean_ids(&workload.data, schema);
    let laws = laws(&workload.data);
    let counted = |column: &str| {
        let of = profile?.of(column).filter(|of| of.accesses > 0)?;
        let all = of.accesses as f64;
        let popular = |&(c, n): &(u64, u64)| Popular { chance: c as f64 / all, ids: n as f64 };
        Some(of.counts.iter().map(popular).collect())
    };
    let drawn = |k: usize| laws.as_ref()?.get(k).map(of_law);
    let of = |(k, mean): (usize, f64)| {
        let chances: Option<Vec<Popular>> = match profile {
            Some(_) => counted(&schema.tables[k].name),
            None => drawn(k),
        };
        ColumnIds { mean, chances: chances.unwrap_or_default() }
    };
    let ids: Vec<ColumnIds> = means.into_iter().enumerate().map(of).collect();
    let how = match profile {
        _ if ids.iter().any(|column| column.chances.is_empty()) => Popularity::Unknown,
        Some(_) => Popularity::Counted,
        None => Popularity::Law,
    };
    (how, ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::parse;

    fn of(data: &str, profile: Option<&IdsProfile>) -> (Popularity, Vec<ColumnIds>) {
        let text = format!(
            r#"
            workload.name = "a"
            data = {{ {data} }}
            model = {{ kind = "dlrm", dim = 8, bottom = [8], top = [1] }}
            train.batch_size = 10
            optimizer = {{ kind = "sgd", learning_rate = 0.1 }}
            "#
        );
        let w = parse::resolve("w.toml".as_ref(), text, &[]).unwrap().workload;
        let schema = w.data_schema().unwrap().unwrap();
        column_ids(&w, &schema, profile)
    }

    const PLANTED: &str = r#"source = "planted", preset = "custom", tables = [5000, 3], exponents = [1.05, 0.0], hotness = [4, 1]"#;

    #[test]
    fn planted_ids_have_the_chances_of_their_law() {
        let (how, ids) = of(PLANTED, None);
        assert_eq!(how, Popularity::Law);
        let sum = |k: usize| ids[k].chances.iter().map(|p| p.chance * p.ids).sum::<f64>();
        for (k, mean, rows) in [(0, 4.0, 5000.0), (1, 1.0, 3.0)] {
            assert_eq!(ids[k].mean, mean);
            assert!((sum(k) - 1.0).abs() < 1e-9, "{}", sum(k));
            let rooms = ids[k].chances.iter().filter(|p| p.chance > 0.0).map(|p| p.ids);
            assert_eq!(rooms.sum::<f64>(), rows);
        }
        let (most, next) = (ids[0].chances[0].chance, ids[0].chances[1].chance);
        assert!((most / next - 2f64.powf(1.05)).abs() < 1e-9);
    }

    #[test]
    fn counted_ids_have_the_chances_of_their_counts_and_come_first() {
        let text = r#"{"samples": 8, "tables": [
            {"table": "C2", "accesses": 8, "counts": [[2, 3], [1, 2]]},
            {"table": "C1", "accesses": 32, "counts": [[1, 32]]}
        ]}"#;
        let mut profile: IdsProfile = serde_json::from_str(text).unwrap();
        let (how, ids) = of(PLANTED, Some(&profile));
        assert_eq!((how, ids[0].chances.len(), ids[0].mean), (Popularity::Counted, 1, 4.0));
        let popular = |chance, ids| Popular { chance, ids };
        assert_eq!(ids[1].chances, [popular(0.25, 3.0), popular(0.125, 2.0)]);
        // A column that was not counted is not known, whatever it is of the others.
        profile.tables.pop();
        let (how, ids) = of(PLANTED, Some(&profile));
        assert_eq!((how, ids[0].chances.len()), (Popularity::Unknown, 0));
    }

    #[test]
    fn of_other_data_only_the_number_of_ids_is_known() {
        let random = r#"source = "numpy_random", dense = 4, tables = [100, 50], samples = 100"#;
        let (how, ids) = of(random, None);
        assert_eq!(how, Popularity::Unknown);
        assert!(ids.len() == 2 && ids.iter().all(|i| i.chances.is_empty() && i.mean > 0.0));
    }
}
