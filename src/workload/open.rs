//! The data that a workload asks for.

use super::{DataConfig, Quirk, Workload};
use crate::{
    batch::Schema,
    data::{
        DataError, Dataset,
        loader::{DEPTH, Plan},
        source::{self, DrawOrder, OpenSettings, prepared::News},
    },
};
use std::sync::atomic::AtomicBool;

impl Workload {
    /// Opens the data.
    ///
    /// # Errors
    /// If a file cannot be read or is malformed, or the data do not fit what is asked for.
    pub fn open_data(&self) -> Result<Dataset, DataError> {
        source::open(&self.data, &self.open_settings())
    }

    /// [`Workload::open_data`], given up when `stop` is set: then `None`, at once. `tell` hears of
    /// data that are prepared first.
    ///
    /// # Errors
    /// As [`Workload::open_data`].
    pub fn open_data_until(
        &self,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(&News<'_>),
    ) -> Result<Option<Dataset>, DataError> {
        source::open_until(&self.data, self.open_settings(), stop, tell)
    }

    /// Has data prepared that are to be prepared and are not; whether that was done, or `stop` was
    /// set before.
    ///
    /// # Errors
    /// As [`Workload::open_data`].
    pub fn prepare_data(
        &self,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(&News<'_>),
    ) -> Result<bool, DataError> {
        let ready = source::prepare(&self.data, self.engine.threads, stop, tell)?;
        Ok(ready.is_some() || !matches!(self.data, DataConfig::Prepared(_)))
    }

    fn open_settings(&self) -> OpenSettings {
        let has = |quirk| self.workload.quirks.contains(&quirk);
        OpenSettings {
            batch_size: self.train.batch_size,
            seed: self.train.seed,
            threads: self.engine.threads,
            shards: self.loader.shards,
            draw: DrawOrder {
                data_first: has(Quirk::FbDebugDataFirst),
                targets_last: has(Quirk::FbTargetsLast),
            },
        }
    }

    /// The columns, where they are known before any data is read.
    ///
    /// # Errors
    /// If the data do not fit what is asked for.
    pub fn data_schema(&self) -> Result<Option<Schema>, DataError> {
        source::schema(&self.data)
    }

    /// Which batches the loader makes for training.
    pub fn loader_plan(&self) -> Plan {
        let (t, l) = (&self.train, &self.loader);
        Plan {
            skip: 0,
            batch_size: t.batch_size,
            epochs: t.epochs,
            drop_last: t.drop_last,
            max_batches: t.max_steps,
            prefetch: l.prefetch.unwrap_or(DEPTH),
            queue: l.queue.clone(),
        }
    }
}
