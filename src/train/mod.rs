//! The loop: batches, steps, evaluation, stop rules, and who is told of it.

pub mod events;
