//! The book (`mdbook build`): each page of docs/ is in it, and what it refers to is there.

use std::{collections::BTreeSet, fs, path::Path};

/// Targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn pages(folder: &str) -> impl Iterator<Item = String> + use<> {
    let below = docs().join(folder);
    let names = fs::read_dir(below).unwrap().map(|e| e.unwrap().file_name());
    let folder = folder.to_owned();
    let pages = names.map(|n| n.into_string().unwrap()).filter(|n| n.ends_with(".md"));
    pages.map(move |name| format!("{folder}{name}"))
}

#[test]
fn every_page_is_in_the_book() {
    let summary = fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<String> = links(&summary).map(str::to_owned).collect();
    let there: BTreeSet<String> =
        pages("").chain(pages("tasks/")).filter(|n| n != "SUMMARY.md").collect();
    assert_eq!(listed, there);
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of_docs = pages("").chain(pages("tasks/")).map(|n| docs().join(n));
    let of_root = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|n| root.join(n));
    let mut looked_at = 0;
    for page in of_docs.chain(of_root) {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).filter(|l| !l.contains("://") && !l.is_empty()) {
            // Code has brackets and braces, too.
            if link.contains([' ', '`', '\n', '"', '|', ',']) || !link.contains(['.', '#', '/']) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if anchor.is_empty() {
                continue;
            }
            let heads = fs::read_to_string(&target).unwrap();
            let heads: Vec<String> =
                heads.lines().filter(|l| l.starts_with('#')).map(anchor_of).collect();
            assert!(heads.iter().any(|h| h == anchor), "{}: {link}: {heads:?}", page.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 10, "{looked_at}");
}

/// As GitHub and mdBook name a heading.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
