//! Numbers raw ids in the order in which they first appear, in little memory: 8 bytes a slot of a
//! table that is at most seven tenths full, or 4 bytes for each id that there can be, whichever is
//! less.

use crate::host::prefetch;
use std::sync::atomic::{AtomicU64, Ordering};

/// Ids whose places are asked for ahead of use.
const AHEAD: usize = 32;
/// Slots of the smallest table.
const SMALLEST: usize = 1 << 10;

/// Bytes that several numberings may take together.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    taken: AtomicU64,
}

impl Budget {
    /// Nothing taken yet.
    pub fn new(limit: u64) -> Self {
        Budget { limit, taken: AtomicU64::new(0) }
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |taken: u64| taken.checked_add(bytes).filter(|&t| t <= self.limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Why a numbering cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There is no memory left in the budget.
    Memory,
    /// There are 2^31 different ids, more than the 32-bit integers of the formats hold.
    Ids,
}

/// The most bytes that a table of so many ids (below `range`) has taken of a budget once it has
/// grown.
pub fn most_bytes(ids: u64, range: Option<u32>) -> u64 {
    let slots = (ids.saturating_mul(10)).div_ceil(7).next_power_of_two();
    let hashed = if slots > SMALLEST as u64 { slots.saturating_mul(8) } else { 0 };
    range.filter(|&r| r > 0).map_or(hashed, |range| hashed.min(4 * u64::from(range)))
}

/// Stands for the number of an id that has none.
pub const NONE: u32 = u32::MAX;

/// Numbers 0, 1, ... for raw ids below `range` (any if `None`).
pub struct Numbering {
    range: Option<u32>,
    slots: Slots,
    len: u32,
}

enum Slots {
    /// Open addressing: the id in the lower half, its number plus 1 in the upper; 0 is free. A
    /// power of two of them.
    Hashed(Vec<u64>),
    /// Number plus 1 at the id's place; 0 is none.
    Direct(Vec<u32>),
}

impl Slots {
    fn bytes(&self) -> u64 {
        match self {
            Slots::Hashed(slots) => 8 * slots.len() as u64,
            Slots::Direct(slots) => 4 * slots.len() as u64,
        }
    }
}

impl Numbering {
    /// The ids of a list, numbered by their places in it; `None` if they do not fit into `budget`
    /// or one is there twice.
    pub fn of(ids: &[u32], budget: &Budget) -> Option<Self> {
        let mut numbering = Numbering::new(None);
        let fits = numbering.reserve(ids.len(), budget).is_ok();
        (fits && numbering.restore(ids, budget) == Ok(true)).then_some(numbering)
    }

    /// Makes room for so many ids at once: as much as a table takes that has grown to them. For a
    /// numbering without ids.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn reserve(&mut self, ids: usize, budget: &Budget) -> Result<(), Full> {
        let mut slots = SMALLEST;
        while ids * 10 > slots * 7 {
            slots *= 2;
            if let Some(range) = self.direct(slots) {
                if !budget.take(u64::from(range) * 4) {
                    return Err(Full::Memory);
                }
                self.slots = Slots::Direct(vec![0; range as usize]);
                return Ok(());
            }
        }
        if slots > SMALLEST {
            if !budget.take(8 * slots as u64) {
                return Err(Full::Memory);
            }
            self.slots = Slots::Hashed(vec![0; slots]);
        }
        Ok(())
    }

    /// The range, if a place for each id in it takes no more than so many slots.
    fn direct(&self, slots: usize) -> Option<u32> {
        self.range.filter(|&range| u64::from(range) * 4 <= slots as u64 * 8)
    }

    /// No ids. Takes 8 KiB, whatever the budget.
    pub fn new(range: Option<u32>) -> Self {
        Numbering {
            range: range.filter(|&r| r > 0),
            slots: Slots::Hashed(vec![0; SMALLEST]),
            len: 0,
        }
    }

    /// Different ids so far.
    pub fn ids(&self) -> u32 {
        self.len
    }

    /// Appends the numbers of `raw` (taken modulo the range) to `numbers`, and what is new, in
    /// order, to `fresh`.
    ///
    /// # Errors
    /// If the ids do not fit. What was numbered before stays.
    pub fn number(
        &mut self,
        raw: &[u32],
        numbers: &mut Vec<u32>,
        fresh: &mut Vec<u32>,
        budget: &Budget,
    ) -> Result<(), Full> {
        numbers.reserve(raw.len());
        let mut folded = [0; AHEAD];
        for raw in raw.chunks(AHEAD) {
            self.look_ahead(raw, &mut folded);
            for &id in &folded[..raw.len()] {
                let number = match self.find(id) {
                    Some(n) => n,
                    None => {
                        self.insert(id, budget)?;
                        fresh.push(id);
                        self.len - 1
                    }
                };
                numbers.push(number);
            }
        }
        Ok(())
    }

    /// Appends the numbers of `raw` (taken modulo the range), [`NONE`] for those without one.
    pub fn look_up(&self, raw: &[u32], numbers: &mut Vec<u32>) {
        let mut folded = [0; AHEAD];
        for raw in raw.chunks(AHEAD) {
            self.look_ahead(raw, &mut folded);
            numbers.extend(folded[..raw.len()].iter().map(|&id| self.find(id).unwrap_or(NONE)));
        }
    }

    /// The number of an id, if it has one.
    pub fn get(&self, raw: u32) -> Option<u32> {
        self.find(self.fold(raw))
    }

    /// An id modulo the range.
    pub fn fold(&self, raw: u32) -> u32 {
        self.range.map_or(raw, |range| raw % range)
    }

    /// Takes ids modulo the range, and asks for their places in memory.
    fn look_ahead(&self, raw: &[u32], folded: &mut [u32; AHEAD]) {
        for (id, &raw) in folded.iter_mut().zip(raw) {
            *id = self.range.map_or(raw, |range| raw % range);
            match &self.slots {
                Slots::Direct(slots) => prefetch(&slots[*id as usize]),
                Slots::Hashed(slots) => prefetch(&slots[place(slots, *id)]),
            }
        }
    }

    /// All ids (modulo the range) with their numbers, in no order.
    pub fn entries(&self) -> Box<dyn Iterator<Item = (u32, u32)> + '_> {
        match &self.slots {
            Slots::Hashed(slots) => Box::new(
                slots.iter().filter(|&&e| e != 0).map(|&e| (e as u32, (e >> 32) as u32 - 1)),
            ),
            Slots::Direct(slots) => {
                Box::new(slots.iter().zip(0..).filter(|(e, _)| **e != 0).map(|(e, id)| (id, e - 1)))
            }
        }
    }

    /// The number of one raw id, taken modulo the range; a new one if it has none.
    ///
    /// # Errors
    /// As [`Numbering::number`].
    pub fn number_one(&mut self, raw: u32, budget: &Budget) -> Result<u32, Full> {
        let id = self.range.map_or(raw, |range| raw % range);
        match self.find(id) {
            Some(number) => Ok(number),
            None => self.insert(id, budget).map(|()| self.len - 1),
        }
    }

    fn find(&self, id: u32) -> Option<u32> {
        match &self.slots {
            Slots::Direct(slots) => slots[id as usize].checked_sub(1),
            Slots::Hashed(slots) => find(slots, id).ok(),
        }
    }

    /// Numbers ids that are all new, as [`Numbering::number`] told them; false if one is not new.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn restore(&mut self, fresh: &[u32], budget: &Budget) -> Result<bool, Full> {
        let (mut numbers, mut again) = (Vec::new(), Vec::new());
        self.number(fresh, &mut numbers, &mut again, budget)?;
        Ok(again == fresh)
    }

    fn insert(&mut self, id: u32, budget: &Budget) -> Result<(), Full> {
        if self.len > i32::MAX as u32 {
            return Err(Full::Ids);
        }
        if let Slots::Hashed(slots) = &self.slots
            && (self.len as usize + 1) * 10 > slots.len() * 7
        {
            self.grow(budget)?;
        }
        let entry = self.len + 1;
        match &mut self.slots {
            Slots::Direct(slots) => slots[id as usize] = entry,
            Slots::Hashed(slots) => {
                if let Err(free) = find(slots, id) {
                    slots[free] = u64::from(entry) << 32 | u64::from(id);
                }
            }
        }
        self.len += 1;
        Ok(())
    }

    /// Doubles the table, or goes over to the one that has a place for every id.
    fn grow(&mut self, budget: &Budget) -> Result<(), Full> {
        let Slots::Hashed(old) = &self.slots else { return Ok(()) };
        let doubled = 2 * old.len();
        let direct = self.direct(doubled);
        let bytes = direct.map_or(doubled as u64 * 8, |range| u64::from(range) * 4);
        if !budget.take(bytes) {
            return Err(Full::Memory);
        }
        let entries = old.iter().filter(|&&e| e != 0).map(|&e| (e as u32, (e >> 32) as u32));
        let grown = match direct {
            Some(range) => {
                let mut slots = vec![0; range as usize];
                entries.for_each(|(id, number)| slots[id as usize] = number);
                Slots::Direct(slots)
            }
            None => {
                let mut slots = vec![0; doubled];
                for (id, number) in entries {
                    if let Err(free) = find(&slots, id) {
                        slots[free] = u64::from(number) << 32 | u64::from(id);
                    }
                }
                Slots::Hashed(slots)
            }
        };
        if old.len() > SMALLEST {
            budget.give(self.slots.bytes());
        }
        self.slots = grown;
        Ok(())
    }
}

/// Where an id is looked for first: upper bits of one multiplication. Raw ids are hashes already,
/// but small ones after a modulo must spread as well.
#[inline]
fn place(slots: &[u64], id: u32) -> usize {
    (u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (slots.len() - 1)
}

/// The number of `id`, or the free slot where it belongs.
#[inline]
fn find(slots: &[u64], id: u32) -> Result<u32, usize> {
    let mask = slots.len() - 1;
    let mut at = place(slots, id);
    loop {
        match slots[at] {
            0 => return Err(at),
            entry if entry as u32 == id => return Ok((entry >> 32) as u32 - 1),
            _ => at = (at + 1) & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn numbers_follow_first_appearance(
            raw in prop::collection::vec(prop_oneof![any::<u32>(), 0u32..500], 0..5000),
            range in prop::option::of(prop_oneof![1u32..2000, any::<u32>()]),
            cut in any::<prop::sample::Index>(),
        ) {
            let range = range.filter(|&r| r > 0);
            let mut map = HashMap::new();
            let mut plain = |x: u32| { let next = map.len() as u32; *map.entry(range.map_or(x, |r| x % r)).or_insert(next) };
            let expected: Vec<u32> = raw.iter().map(|&x| plain(x)).collect();
            let budget = Budget::new(1 << 30);
            let (mut numbering, mut numbers, mut fresh) = (Numbering::new(range), vec![], vec![]);
            let (head, tail) = raw.split_at(cut.index(raw.len() + 1));
            numbering.number(head, &mut numbers, &mut fresh, &budget).unwrap();
            // As after a restart.
            let mut again = Numbering::new(range);
            prop_assert_eq!(again.restore(&fresh, &budget), Ok(true));
            let mut reserved = Numbering::new(range);
            prop_assert_eq!(reserved.reserve(fresh.len(), &budget), Ok(()));
            prop_assert_eq!(reserved.restore(&fresh, &budget), Ok(true));
            prop_assert_eq!(reserved.slots.bytes(), again.slots.bytes());
            let mut entries: Vec<_> = reserved.entries().map(|(id, number)| (number, id)).collect();
            entries.sort_unstable();
            prop_assert_eq!(entries, (0..).zip(fresh.iter().copied()).collect::<Vec<(u32, u32)>>());
            let mut known = vec![];
            reserved.look_up(&raw, &mut known);
            for (&known, &number) in known.iter().zip(&expected) {
                prop_assert_eq!(known, if (number as usize) < fresh.len() { number } else { NONE });
            }
            again.number(tail, &mut numbers, &mut fresh, &budget).unwrap();
            let mut one_by_one = Numbering::new(range);
            let ones: Result<Vec<u32>, Full> = raw.iter().map(|&x| one_by_one.number_one(x, &budget)).collect();
            prop_assert_eq!(ones.as_ref(), Ok(&expected));
            prop_assert_eq!(numbers, expected);
            prop_assert_eq!((again.ids() as usize, fresh.len()), (map.len(), map.len()));
            if !fresh.is_empty() {
                prop_assert_eq!(Numbering::new(range).restore(&[fresh[0], fresh[0]], &budget), Ok(false));
            }
        }
    }

    #[test]
    fn memory_is_counted_and_its_end_is_told() {
        let budget = Budget::new(100_000);
        let (mut numbering, mut numbers, mut fresh) = (Numbering::new(None), vec![], vec![]);
        let raw: Vec<u32> = (0..100_000).collect();
        assert_eq!(numbering.number(&raw, &mut numbers, &mut fresh, &budget), Err(Full::Memory));
        // 8192 slots take 64 KiB, and 128 KiB more would be too many.
        assert_eq!((fresh.len(), budget.taken.load(Ordering::Relaxed)), (8192 * 7 / 10, 64 << 10));
        // A place for every id takes 40 kB.
        let (mut numbering, mut fresh) = (Numbering::new(Some(10_000)), vec![]);
        assert_eq!(numbering.number(&raw, &mut vec![], &mut fresh, &Budget::new(100_000)), Ok(()));
        assert!(fresh.len() == 10_000 && numbering.slots.bytes() == 40_000);
    }
}
