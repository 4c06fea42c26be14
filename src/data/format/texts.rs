//! From text in categorical columns to ids.

use std::sync::Arc;

/// Makes ids of text.
pub trait Texts: Send + Sync {
    /// The id of a text in categorical column `k`, or of none where there is none; `None` where the
    /// value stays missing.
    fn id(&self, k: usize, text: Option<&[u8]>) -> Option<u32>;

    /// Rows of the table of column `k`; one more than the largest id.
    fn rows(&self, k: usize) -> usize;
}

/// What makes ids of text, as a choice that whoever opens a file makes: two are equal if they are
/// one.
#[derive(Clone)]
pub struct TextIds(pub Arc<dyn Texts>);

impl std::fmt::Debug for TextIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TextIds")
    }
}

impl PartialEq for TextIds {
    fn eq(&self, other: &TextIds) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TextIds {}

/// Ids that tell texts apart and do nothing else.
pub struct Fingerprints;

impl Texts for Fingerprints {
    fn id(&self, _k: usize, text: Option<&[u8]>) -> Option<u32> {
        Some(text.map_or(0, |text| (farmhash::fingerprint64(text) >> 32) as u32))
    }

    fn rows(&self, _k: usize) -> usize {
        1 << 32
    }
}
