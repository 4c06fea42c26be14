//! Tables of rows made by hand.

use super::*;
use crate::{report::tests::comparison, results::table::Options};

fn widest(text: &str) -> usize {
    text.lines().map(|l| l.chars().count()).max().unwrap_or(0)
}

#[test]
fn text_fits_any_width_and_breaks_no_number() {
    let c = comparison(&Options::default());
    let numbers = ["13.55M ±3.9%", "15.25M ±3.9%", "253.2k", "0.0187", "0.744", "0.80294"];
    for width in [40, 60, 80, 100, 200] {
        let text = text(&c, width);
        assert!(widest(&text) <= width, "{width}:\n{text}");
        for number in numbers {
            assert!(text.contains(number), "{width}, {number}:\n{text}");
        }
    }
    // Wide enough for one table a group.
    assert_eq!(text(&c, 200).lines().filter(|l| l.starts_with("system")).count(), 2);
}

#[test]
fn what_is_not_comparable_says_so() {
    let c = comparison(&Options::default());
    let text = text(&c, 120);
    assert!(
        text.contains(
            "not comparable with the first table: other target: AUC 0.70000, not AUC 0.80275"
        ),
        "{text}"
    );
    let markdown = markdown(&c);
    assert!(markdown.contains("Not comparable with the first table: other target"), "{markdown}");
    assert!(markdown.lines().any(|l| l.starts_with("| big\\_one | 13.55M ±3.9% |")), "{markdown}");
    let columns = |l: &str| l.replace("\\|", "").matches('|').count();
    let tables: Vec<&str> = markdown.lines().filter(|l| l.starts_with('|')).collect();
    assert!(
        tables.len() == 7
            && columns(tables[0]) == columns(tables[1])
            && columns(tables[1]) == columns(tables[3])
    );
}

#[test]
fn csv_has_every_row_with_full_numbers() {
    let text = csv(&comparison(&Options::default())).unwrap();
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let heads = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let cell = |row: usize, head: &str| {
        rows[row].get(heads.iter().position(|h| h == head).unwrap()).unwrap().to_owned()
    };
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (cell(0, "label"), cell(0, "end_to_end")),
        ("big_one".to_owned(), "13546810".to_owned())
    );
    assert_eq!(
        (cell(1, "end_to_end_low"), cell(1, "seconds_to_target")),
        (String::new(), "13628.28".to_owned())
    );
    assert!(cell(2, "apart").starts_with("other target"));
}
