//! Rows that come and go beside steps in flight: what a cache of rows brings in and takes out. The
//! host waits for no step: rows come on the stream of copies, and a kernel puts them in their places
//! when the steps before are done; rows that go are gathered by a kernel, and their copy is waited
//! for when they are asked for.

use super::{
    driver::{
        Address, Driver, Memory,
        stream::{Event, Staging, Stream},
    },
    rows,
    tables::Tables,
};
use crate::backend::{MovedRows, Result};
use std::{ops::Range, rc::Rc};

/// Words of a room: 16 MiB. A row with its number fits into the least.
const WORDS: usize = if cfg!(test) { 1 << 11 } else { 1 << 22 };

/// Bytes of all rooms, on the device and as much of the host's memory.
pub const MOVING_BYTES: u64 = 3 * 4 * WORDS as u64;

/// Room for rows on their way, on either side.
#[derive(Debug)]
struct Room {
    staging: Staging,
    memory: Memory,
    /// Recorded when all readers of the memory are done.
    free: Event,
}

impl Room {
    fn new(driver: &Rc<dyn Driver>) -> Result<Self> {
        let (staging, memory) = (
            Staging::new(driver, WORDS)?,
            Memory::zeros(driver, WORDS * size_of::<u32>(), "rows on their way")?,
        );
        let free = Event::new(driver)?;
        // Its zeros come first.
        free.record(Stream::Compute)?;
        Ok(Room { staging, memory, free })
    }

    fn at(&self, word: usize) -> Address {
        self.memory.at() + (word * size_of::<u32>()) as Address
    }
}

/// Some rows of a piece: which piece, which of its rows, their numbers a row, and where the rows'
/// numbers and their values are in a room.
#[derive(Debug, Clone)]
struct Part {
    piece: usize,
    rows: Range<usize>,
    width: usize,
    numbers: usize,
    values: usize,
}

impl Part {
    fn numbers(&self) -> Range<usize> {
        self.numbers..self.numbers + self.rows.len()
    }

    fn values(&self) -> Range<usize> {
        self.values..self.values + self.rows.len() * self.width
    }
}

/// What a room is filled with: the numbers of all rows, then their values.
#[derive(Debug)]
struct Load {
    parts: Vec<Part>,
    numbers: usize,
    all: usize,
}

impl Load {
    fn new(mut parts: Vec<Part>) -> Self {
        let numbers = parts.iter().map(|part| part.rows.len()).sum();
        let (mut number, mut all) = (0, numbers);
        for part in &mut parts {
            (part.numbers, part.values) = (number, all);
            (number, all) = (part.numbers().end, part.values().end);
        }
        Load { parts, numbers, all }
    }
}

/// Rooms, made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// For rows that come: one is filled while the other is emptied.
    coming: Vec<Room>,
    turn: usize,
    going: Option<Room>,
    /// Rows that have gone, but for those in these words of the room.
    gone: Vec<f32>,
    left: Range<usize>,
}

impl Moving {
    /// Sets rows, after the steps that have begun.
    pub(super) fn write(
        &mut self,
        driver: &Rc<dyn Driver>,
        tables: &mut [Tables],
        pieces: &[(MovedRows<'_>, &[f32])],
    ) -> Result<()> {
        for (rows, values) in pieces {
            let set = &mut tables[rows.set];
            let (table, what, width) = rows::place(set, rows.of);
            set.check_rows(table, rows.numbers, values.len(), width);
            if what == 0 {
                set.touch_one(table);
            }
        }
        let all: Vec<MovedRows<'_>> = pieces.iter().map(|(rows, _)| *rows).collect();
        for load in cut(tables, &all) {
            while self.coming.len() < 2 {
                self.coming.push(Room::new(driver)?);
            }
            let room = &mut self.coming[self.turn];
            self.turn = 1 - self.turn;
            let words = room.staging.words()?;
            for part in &load.parts {
                let (rows, values) = pieces[part.piece];
                words[part.numbers()].copy_from_slice(&rows.numbers[part.rows.clone()]);
                let values = values[part.rows.start * part.width..].iter();
                words[part.values()].iter_mut().zip(values).for_each(|(to, x)| *to = x.to_bits());
            }
            room.staging.send(room.memory.at(), load.all, &room.free)?;
            for part in &load.parts {
                let rows = &pieces[part.piece].0;
                let (numbers, values) = (room.at(part.numbers), room.at(part.values));
                rows::set(&**driver, &tables[rows.set], rows.of, part.rows.len(), numbers, values)?;
            }
            room.free.record(Stream::Compute)?;
        }
        Ok(())
    }

    /// Begins to copy rows out, as they are after the steps that have begun.
    pub(super) fn begin_read(
        &mut self,
        driver: &Rc<dyn Driver>,
        tables: &[Tables],
        pieces: &[MovedRows<'_>],
    ) -> Result<()> {
        self.gone.clear();
        self.left = 0..0;
        for rows in pieces {
            let set = &tables[rows.set];
            let (table, _, width) = rows::place(set, rows.of);
            set.check_rows(table, rows.numbers, rows.numbers.len() * width, width);
        }
        for load in cut(tables, pieces) {
            // What has no room with the others goes before them.
            self.take()?;
            if self.going.is_none() {
                self.going = Some(Room::new(driver)?);
            }
            let Some(room) = &mut self.going else { continue };
            let words = room.staging.words()?;
            for part in &load.parts {
                words[part.numbers()]
                    .copy_from_slice(&pieces[part.piece].numbers[part.rows.clone()]);
            }
            room.staging.send(room.memory.at(), load.numbers, &room.free)?;
            for part in &load.parts {
                let rows = &pieces[part.piece];
                let (numbers, values) = (room.at(part.numbers), room.at(part.values));
                rows::get(&**driver, &tables[rows.set], rows.of, part.rows.len(), numbers, values)?;
            }
            room.staging.fetch_part(room.memory.at(), load.numbers..load.all)?;
            room.free.record(Stream::Compute)?;
            self.left = load.numbers..load.all;
        }
        Ok(())
    }

    /// Takes what is in the room, once it is there.
    fn take(&mut self) -> Result<()> {
        let left = std::mem::take(&mut self.left);
        if let Some(room) = self.going.as_mut().filter(|_| !left.is_empty()) {
            self.gone.extend(room.staging.words()?[left].iter().map(|&x| f32::from_bits(x)));
        }
        Ok(())
    }

    /// The rows that were asked for last, one after another.
    pub(super) fn read(&mut self, out: &mut Vec<f32>) -> Result<()> {
        self.take()?;
        std::mem::swap(out, &mut self.gone);
        self.gone.clear();
        Ok(())
    }
}

/// Pieces in parts, as many together as fit into a room.
fn cut(tables: &[Tables], pieces: &[MovedRows<'_>]) -> Vec<Load> {
    let (mut loads, mut parts, mut words) = (Vec::new(), Vec::new(), 0);
    for (piece, rows) in pieces.iter().enumerate() {
        let width = rows::place(&tables[rows.set], rows.of).2;
        let mut first = 0;
        while first < rows.numbers.len() {
            let n = ((WORDS - words) / (width + 1)).min(rows.numbers.len() - first);
            if n == 0 {
                loads.push(Load::new(std::mem::take(&mut parts)));
                words = 0;
                continue;
            }
            parts.push(Part { piece, rows: first..first + n, width, numbers: 0, values: 0 });
            words += n * (width + 1);
            first += n;
        }
    }
    if !parts.is_empty() {
        loads.push(Load::new(parts));
    }
    loads
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
