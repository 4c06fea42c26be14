//! Which key has which slot.

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

/// Keys with a slot. The next key gets the lowest slot that is free.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    places: KeyMap<u32>,
    /// By slot; `None` where one is free again.
    keys: Vec<Option<u64>>,
    free: BinaryHeap<Reverse<u32>>,
    capacity: usize,
}

impl Slots {
    /// Room for so many keys.
    pub fn new(capacity: usize) -> Self {
        let (places, keys, free) = (KeyMap::default(), Vec::new(), BinaryHeap::new());
        Slots { places, keys, free, capacity }
    }

    /// The slot of a key, if it has one.
    #[inline]
    pub fn get(&self, key: u64) -> Option<u32> {
        self.places.get(&key).copied()
    }

    /// Gives a key without one a slot; `None` if all are taken.
    pub fn add(&mut self, key: u64) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(Reverse(slot)) => slot,
            None if self.keys.len() < self.capacity => {
                self.keys.push(None);
                self.keys.len() as u32 - 1
            }
            None => return None,
        };
        self.keys[slot as usize] = Some(key);
        self.places.insert(key, slot);
        Some(slot)
    }

    /// Takes a slot away from its key.
    pub fn remove(&mut self, slot: u32) {
        if let Some(key) = self.keys[slot as usize].take() {
            self.places.remove(&key);
            self.free.push(Reverse(slot));
        }
    }

    /// Slots that have ever been taken: `0..high`.
    pub fn high(&self) -> usize {
        self.keys.len()
    }

    /// Keys with a slot.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The keys by slot, up to [`Slots::high`].
    pub fn keys(&self) -> &[Option<u64>] {
        &self.keys
    }

    /// The `n`-th slot of `rows` that no key has.
    pub fn spare(&self, n: usize, rows: usize) -> Option<u32> {
        let fresh = rows - self.high();
        match n.checked_sub(fresh) {
            None => Some((self.high() + n) as u32),
            Some(n) => self.free.as_slice().get(n).map(|slot| slot.0),
        }
    }

    /// Slots with these keys.
    pub fn of(capacity: usize, keys: Vec<Option<u64>>) -> Self {
        let mut slots = Slots::new(capacity);
        for (slot, key) in keys.iter().enumerate() {
            match key {
                Some(key) => _ = slots.places.insert(*key, slot as u32),
                None => slots.free.push(Reverse(slot as u32)),
            }
        }
        Slots { keys, ..slots }
    }
}
