//! Sources, one file a format.

pub mod numpy_random;
