//! The hardware: the few operations that layers need, for each kind of device.

pub mod cpu;
