//! What lies on the disk while data are prepared, so that a killed run goes on where it was.

pub mod checkpoint;
pub mod existing;
pub mod growing;
pub mod resolve;
pub mod spill;
