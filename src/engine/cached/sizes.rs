//! How large tables are of which some rows are in memory.

use super::tensors::record;
use crate::{
    batch::Schema,
    embedding::{
        RowKind,
        cached::{CachedSpec, CachedStore, RowSizes},
        hashed::HashedSpec,
    },
    engine::{EngineConfig, EngineKind, tables_mut},
};

impl EngineConfig {
    /// What the engine behind is made from, whose tables have some of the rows.
    pub fn behind(&self) -> EngineConfig {
        let mut config = self.clone();
        if let Some(spec) = config.cached.take() {
            config.stand_for = config.model.tables().to_vec();
            *tables_mut(&mut config.model) = spec.columns.iter().map(|c| c.slots).collect();
        }
        config
    }

    /// The parameters that have a row a key of tables that grow.
    pub(in crate::engine) fn growing(&self, spec: &HashedSpec) -> Vec<String> {
        let tables = self.model.table_specs().into_iter();
        tables.filter(|t| !spec.columns[t.column].resident).map(|t| t.name).collect()
    }

    /// The parameters that have a row an id of columns that are not all in memory.
    pub(in crate::engine) fn outside(&self, spec: &CachedSpec) -> Vec<String> {
        let tables = self.model.table_specs().into_iter();
        tables.filter(|t| !spec.columns[t.column].fits()).map(|t| t.name).collect()
    }

    /// Sizes tables that are cached. `together` samples are the most whose rows must be in memory
    /// at one time.
    ///
    /// # Errors
    /// The key, and a sentence, if memory or disk are too small, or tables differ in width.
    pub fn cache(
        &mut self,
        kind: EngineKind,
        store: &CachedStore,
        schema: &Schema,
        together: usize,
    ) -> Result<(), (&'static str, String)> {
        let rows = match kind {
            EngineKind::Fused => self.embedding_rows,
            // It keeps f32, whatever is asked for.
            EngineKind::Candle => RowKind::Fp32,
        };
        let record = record(self, rows).map_err(|e| ("embedding.store", e.to_string()))?;
        let memory = record.fields().iter().map(|f| f.width * f.kind.bytes()).sum();
        let sizes = RowSizes { memory, packed: record.bytes() };
        self.cached = Some(CachedSpec::new(store, schema, sizes, together)?);
        Ok(())
    }
}
