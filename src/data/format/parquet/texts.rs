//! From text in categorical columns to ids.

/// Makes ids of text.
pub trait Texts: Send + Sync {
    /// The id of a text in categorical column `k`; of none where it is null.
    fn id(&self, k: usize, text: Option<&[u8]>) -> u32;

    /// Rows of the table of column `k`; one more than the largest id.
    fn rows(&self, k: usize) -> usize;
}

/// Ids that tell texts apart and do nothing else.
pub struct Fingerprints;

impl Texts for Fingerprints {
    fn id(&self, _k: usize, text: Option<&[u8]>) -> u32 {
        text.map_or(0, |text| (farmhash::fingerprint64(text) >> 32) as u32)
    }

    fn rows(&self, _k: usize) -> usize {
        1 << 32
    }
}
