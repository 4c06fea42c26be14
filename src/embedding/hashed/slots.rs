//! Which key has which slot.

use hashbrown::HashTable;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

/// A map of keys. Nobody goes through it in its own order.
pub(super) type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<Fold>>;

/// A hash of one number: the two halves of a product, folded. Keys are hashes or counted ids, and
/// nobody gains by making them collide.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(u64::from(b)));
    }

    fn write_u64(&mut self, x: u64) {
        let product = u128::from(self.0 ^ x ^ 0x9E37_79B9_7F4A_7C15) * 0xD1B5_4A32_D192_ED03;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(key: u64) -> u64 {
    let mut fold = Fold::default();
    fold.write_u64(key);
    fold.0
}

/// A slot: its key, how often that was seen, and the last step that saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Slot {
    pub key: u64,
    pub freq: u64,
    /// From 1; 0 where no key has the slot.
    pub version: u64,
}

/// Bytes of a key at most: its slot, and its number in an index that is at least 7/16 full, with a byte
/// of its hash.
pub const KEY_BYTES: usize = size_of::<Slot>() + (size_of::<u32>() + 1) * 16 / 7 + 1;

/// Keys with a slot. The next key gets the lowest slot that is free.
///
/// The index holds numbers of slots, not keys: a key is compared in its slot, which is read anyway
/// to count that it was seen.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: BinaryHeap<Reverse<u32>>,
    capacity: usize,
}

impl Slots {
    /// Room for so many keys.
    pub fn new(capacity: usize) -> Self {
        let (index, slots, free) = (HashTable::new(), Vec::new(), BinaryHeap::new());
        Slots { index, slots, free, capacity }
    }

    /// The slot of a key, if it has one.
    #[inline]
    pub fn get(&self, key: u64) -> Option<u32> {
        self.index.find(hash(key), |&slot| self.slots[slot as usize].key == key).copied()
    }

    /// Step `version` has seen the key of a slot so often.
    #[inline]
    pub fn see(&mut self, slot: u32, times: u64, version: u64) {
        let slot = &mut self.slots[slot as usize];
        slot.freq = slot.freq.saturating_add(times);
        slot.version = version;
    }

    /// Gives a key without one a slot, in step `version`; `None` if all are taken.
    pub fn add(&mut self, key: u64, version: u64) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(Reverse(slot)) => slot,
            None if self.slots.len() < self.capacity => {
                self.slots.push(Slot::default());
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        self.slots[slot as usize] = Slot { key, freq: 0, version };
        self.put(slot);
        Some(slot)
    }

    /// Has a slot found by its key.
    fn put(&mut self, slot: u32) {
        let slots = &self.slots;
        let hash_of = |&slot: &u32| hash(slots[slot as usize].key);
        self.index.insert_unique(hash_of(&slot), slot, hash_of);
    }

    /// Takes a slot away from its key.
    pub fn remove(&mut self, slot: u32) {
        if let Some(key) = self.key(slot) {
            if let Ok(found) = self.index.find_entry(hash(key), |&other| other == slot) {
                found.remove();
            }
            self.slots[slot as usize] = Slot::default();
            self.free.push(Reverse(slot));
        }
    }

    /// Slots that have ever been taken: `0..high`.
    pub fn high(&self) -> usize {
        self.slots.len()
    }

    /// Keys with a slot.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The key of a slot, if one has it.
    pub fn key(&self, slot: u32) -> Option<u64> {
        let slot = &self.slots[slot as usize];
        (slot.version > 0).then_some(slot.key)
    }

    /// All up to [`Slots::high`].
    pub fn all(&self) -> &[Slot] {
        &self.slots
    }

    /// The `n`-th slot of `rows` that no key has.
    pub fn spare(&self, n: usize, rows: usize) -> Option<u32> {
        let fresh = rows - self.high();
        match n.checked_sub(fresh) {
            None => Some((self.high() + n) as u32),
            Some(n) => self.free.as_slice().get(n).map(|slot| slot.0),
        }
    }

    /// These slots; `None` if two have one key.
    pub fn of(capacity: usize, all: Vec<Slot>) -> Option<Self> {
        let mut slots = Slots::new(capacity);
        slots.index.reserve(all.iter().filter(|s| s.version > 0).count(), |_| 0);
        slots.slots = all;
        for slot in 0..slots.slots.len() as u32 {
            match slots.key(slot) {
                Some(key) if slots.get(key).is_some() => return None,
                Some(_) => slots.put(slot),
                None => slots.free.push(Reverse(slot)),
            }
        }
        Some(slots)
    }
}
