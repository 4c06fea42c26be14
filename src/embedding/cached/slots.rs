//! Which row of a table is in which slot, and where the others are.

use std::collections::HashMap;

/// Bytes of the host's memory for a slot: its row, that row's place in the file, its marks.
pub const SLOT_BYTES: usize = 9;

/// No row, no place.
const NONE: u32 = u32::MAX;

/// A batch uses the slot. Three batches may at one time.
pub(super) const HOLDS: [u8; 3] = [1, 2, 4];
const HELD: u8 = 7;
/// Training has read it since the hand of the clock was here.
const REFERENCED: u8 = 8;
/// The file does not have what is in it.
const DIRTY: u8 = 16;
/// What belongs in it has not been put there yet.
const PENDING: u8 = 32;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Nowhere: it is what it began with.
    Initial,
    /// In a slot of the engine.
    Slot(u32),
    /// At this place of the file.
    File(u32),
}

/// In an index of 32 bits a row: 0 is nowhere, so that memory is taken as rows are met.
const IN_FILE: u32 = 1 << 31;

impl Where {
    fn packed(self) -> u32 {
        match self {
            Where::Initial => 0,
            Where::Slot(slot) => slot + 1,
            Where::File(place) => place | IN_FILE,
        }
    }

    fn of(packed: u32) -> Self {
        match packed {
            0 => Where::Initial,
            p if p & IN_FILE != 0 => Where::File(p & !IN_FILE),
            p => Where::Slot(p - 1),
        }
    }

    fn at(place: u32) -> Self {
        if place == NONE { Where::Initial } else { Where::File(place) }
    }
}

/// A row that is to be put into a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insert {
    /// The row.
    pub row: u32,
    /// The slot.
    pub slot: u32,
}

/// Where a row comes from that is to be put into a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nowhere: it is what it began with.
    Initial,
    /// Memory, where its record is when it is put there.
    Memory,
    /// The file: it is this of the records that are being read.
    File(u32),
}

/// What a batch does to the slots of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Used {
    /// The slots that it reads, each once.
    pub held: Vec<u32>,
    /// Rows that come in.
    pub inserts: Vec<Insert>,
    /// Where each of them comes from.
    pub fetched: Vec<Origin>,
    /// Rows that go, and must be kept before others come into their slots.
    pub evicted: Vec<Insert>,
}

/// The slots of one table.
#[derive(Debug)]
pub(super) struct Slots {
    /// By row.
    index: Vec<u32>,
    /// By slot.
    rows: Vec<u32>,
    places: Vec<u32>,
    marks: Vec<u8>,
    /// Slots that have ever been taken: `0..taken`.
    taken: usize,
    /// Where the hand of the clock is.
    hand: usize,
    /// Slots of rows that have left them, and whose values are still there and not kept yet.
    pub leaving: HashMap<u32, u32>,
    /// Ids of training batches, and those of them whose row was not in memory.
    pub ids: u64,
    pub misses: u64,
}

impl Slots {
    pub fn new(rows: usize, slots: usize) -> Self {
        Slots {
            index: vec![0; rows],
            rows: vec![NONE; slots],
            places: vec![NONE; slots],
            marks: vec![0; slots],
            taken: 0,
            hand: 0,
            leaving: HashMap::new(),
            ids: 0,
            misses: 0,
        }
    }

    /// Where a row's newest values are.
    pub fn locate(&self, row: u32) -> Where {
        match Where::of(self.index[row as usize]) {
            Where::Slot(slot) if self.marks[slot as usize] & PENDING != 0 => {
                Where::at(self.places[slot as usize])
            }
            Where::Initial if !self.leaving.is_empty() => {
                self.leaving.get(&row).map_or(Where::Initial, |&slot| Where::Slot(slot))
            }
            place => place,
        }
    }

    /// Where the newest record of a row is, if it has one.
    pub fn place(&self, row: u32) -> Option<u32> {
        match Where::of(self.index[row as usize]) {
            Where::Slot(slot) => Some(self.places[slot as usize]).filter(|&place| place != NONE),
            Where::File(place) => Some(place),
            Where::Initial => None,
        }
    }

    /// Sets it.
    pub fn set_place(&mut self, row: u32, place: u32) {
        match Where::of(self.index[row as usize]) {
            Where::Slot(slot) => self.places[slot as usize] = place,
            _ => self.index[row as usize] = Where::File(place).packed(),
        }
    }

    /// Gives the ids of a batch slots, which it holds by `hold`. Training marks what it reads.
    /// `None` if there are too few.
    pub fn resolve(
        &mut self,
        ids: &[u32],
        hold: u8,
        trains: bool,
        out: &mut Vec<u32>,
        used: &mut Used,
    ) -> Option<()> {
        out.clear();
        // What is there is held before anything has to go.
        for &id in ids {
            if let Where::Slot(slot) = Where::of(self.index[id as usize]) {
                let marks = &mut self.marks[slot as usize];
                if *marks & hold == 0 {
                    used.held.push(slot);
                }
                *marks |= hold | if trains { REFERENCED } else { 0 };
            }
        }
        for &id in ids {
            let slot = match Where::of(self.index[id as usize]) {
                Where::Slot(slot) => slot,
                from => self.insert(id, from, hold, used)?,
            };
            out.push(slot);
        }
        if trains {
            self.ids += ids.len() as u64;
            self.misses += used.inserts.len() as u64;
        }
        Some(())
    }

    fn insert(&mut self, row: u32, from: Where, hold: u8, used: &mut Used) -> Option<u32> {
        let slot = self.victim()?;
        let at = slot as usize;
        let (old, place) = (self.rows[at], self.places[at]);
        if old != NONE {
            let dirty = self.marks[at] & DIRTY != 0;
            // A dirty one has no place before it is written.
            self.index[old as usize] =
                if dirty { Where::Initial } else { Where::at(place) }.packed();
            if dirty {
                used.evicted.push(Insert { row: old, slot });
            }
        }
        self.rows[at] = row;
        self.places[at] = if let Where::File(place) = from { place } else { NONE };
        self.marks[at] = hold | PENDING;
        self.index[row as usize] = Where::Slot(slot).packed();
        used.held.push(slot);
        used.inserts.push(Insert { row, slot });
        Some(slot)
    }

    /// A slot that nobody holds: one that was never taken, else the next one behind the clock's
    /// hand that training has not read since the hand was there last.
    fn victim(&mut self) -> Option<u32> {
        if self.taken < self.rows.len() {
            self.taken += 1;
            return Some(self.taken as u32 - 1);
        }
        for _ in 0..2 * self.marks.len() {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.marks.len();
            let marks = &mut self.marks[slot];
            if *marks & HELD != 0 {
                continue;
            }
            if *marks & REFERENCED == 0 {
                return Some(slot as u32);
            }
            *marks &= !REFERENCED;
        }
        None
    }

    /// What belongs in the slot is there.
    pub fn arrived(&mut self, slot: u32) {
        self.marks[slot as usize] &= !PENDING;
    }

    /// What is in the slot is about to change; the place of its record, which is old then.
    pub fn dirty(&mut self, slot: u32) -> Option<u32> {
        self.marks[slot as usize] |= DIRTY;
        let place = std::mem::replace(&mut self.places[slot as usize], NONE);
        Some(place).filter(|&place| place != NONE)
    }

    /// The rows in slots that have been changed since they came.
    pub fn changed(&self) -> Vec<Insert> {
        let slots = (0..).zip(self.rows.iter().zip(&self.marks));
        let changed = slots.filter(|(_, (_, marks))| **marks & DIRTY != 0);
        changed.map(|(slot, (&row, _))| Insert { row, slot }).collect()
    }

    /// What is in the slot has been kept.
    pub fn clean(&mut self, slot: u32) {
        self.marks[slot as usize] &= !DIRTY;
    }

    /// A row that is in no slot has no record any more.
    pub fn forget_place(&mut self, row: u32) {
        self.index[row as usize] = Where::Initial.packed();
    }

    /// Of each row the place of its newest record and one, 0 if it has none.
    pub fn places(&self) -> Vec<u32> {
        let rows = 0..self.index.len() as u32;
        rows.map(|row| self.place(row).map_or(0, |place| place + 1)).collect()
    }

    /// How many rows there are.
    pub fn row_count(&self) -> usize {
        self.index.len()
    }

    /// A batch needs its slots no longer.
    pub fn release(&mut self, slots: &[u32], hold: u8) {
        slots.iter().for_each(|&slot| self.marks[slot as usize] &= !hold);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The row in a slot.
    pub fn row(&self, slot: u32) -> u32 {
        self.rows[slot as usize]
    }
}
