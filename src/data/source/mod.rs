//! Sources, one file a format.

pub mod criteo_tsv;
pub mod numpy_random;
