//! How often and how soon ids come again: what caches and memory see of a table's lookups.
//!
//! [`Profile`] measures it, [`AccessPattern`] holds it (also as facebook's files),
//! [`LruTrace`] draws ids that behave like it, and [`zipf_exponent`] fits the law that planted data
//! follow.

mod counts;
mod fenwick;
mod pattern;
mod scan;
mod stack;
mod trace;
mod zipf_fit;

pub use counts::IdsProfile;
pub use pattern::AccessPattern;
pub use scan::{profile_file, profile_source};
pub use stack::Profile;
pub use trace::LruTrace;
pub use zipf_fit::zipf_exponent;
