//! `[embedding]`: where rows live.

use super::{
    cached::CachedStore,
    hashed::{HashedConfig, HashedStore},
};
use crate::host::Size;
use serde::Serialize;
use std::path::PathBuf;

/// Where rows live.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(tag = "store", rename_all = "snake_case")]
pub enum StoreConfig {
    /// A row for each id, from the start.
    #[default]
    Resident,
    /// A row for each id, in a file; some of them in memory.
    Cached(CachedStore),
    /// Tables that grow.
    Hashed(HashedStore),
    /// [`StoreConfig::Resident`] where memory suffices, else [`StoreConfig::Cached`]: a machine decides.
    Auto(AutoStore),
}

/// What a file of rows may be if there is one.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct AutoStore {
    /// As [`CachedStore::disk`].
    pub disk: Option<Size>,
    /// As [`CachedStore::path`].
    pub path: Option<PathBuf>,
}

impl StoreConfig {
    /// Whether all rows are in memory from the start.
    pub fn is_resident(&self) -> bool {
        *self == StoreConfig::Resident
    }

    /// What is cached, and where the others are, if some are.
    pub fn cached(&self) -> Option<&CachedStore> {
        match self {
            StoreConfig::Cached(store) => Some(store),
            StoreConfig::Resident | StoreConfig::Hashed(_) | StoreConfig::Auto(_) => None,
        }
    }

    /// The same of rows for ids or for keys.
    pub fn file(&self) -> Option<CachedStore> {
        match self {
            StoreConfig::Cached(store) => Some(store.clone()),
            StoreConfig::Hashed(HashedStore { tier, resident, .. }) => {
                let tier = tier.clone()?;
                Some(CachedStore { resident: resident.clone(), ..tier })
            }
            StoreConfig::Resident | StoreConfig::Auto(_) => None,
        }
    }

    /// How tables grow, if they do.
    pub fn hashed(&self) -> Option<&HashedConfig> {
        match self {
            StoreConfig::Hashed(store) => Some(&store.config),
            StoreConfig::Resident | StoreConfig::Cached(_) | StoreConfig::Auto(_) => None,
        }
    }

    /// The same, to change.
    pub fn hashed_mut(&mut self) -> Option<&mut HashedConfig> {
        match self {
            StoreConfig::Hashed(store) => Some(&mut store.config),
            StoreConfig::Resident | StoreConfig::Cached(_) | StoreConfig::Auto(_) => None,
        }
    }
}
