//! All tables of a model whose rows do not all fit: slots of each column, and one file.

use super::{
    AdoptedRows, CacheCounts, CachedSpec, ReadBy, Record, RecordLayout, RowFileError, SealedRows,
    io::Fetch,
    log::{Log, Owner},
    slots::{HOLDS, Insert, Origin, Slots, Used, Where},
};
use std::sync::Arc;

/// What a batch has been given: which slots it reads, and what must be put into them first.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Slots of each column's ids, in their order; empty where all rows fit and have their own.
    pub slots: Vec<Vec<u32>>,
    used: Vec<Used>,
    hold: u8,
    /// Whether training reads it.
    trains: bool,
    /// What is being read for it, if anything is.
    fetch: Option<Arc<Fetch>>,
}

impl Resolved {
    /// Rows that are to be put into slots of a column.
    pub fn inserts(&self, column: usize) -> &[Insert] {
        &self.used[column].inserts
    }

    /// Rows that have to be kept before others come into their slots.
    pub fn evicted(&self, column: usize) -> &[Insert] {
        &self.used[column].evicted
    }

    /// The slots that it reads, each once.
    pub fn held(&self, column: usize) -> &[u32] {
        &self.used[column].held
    }
}

/// The tables by column; `None` where all rows fit.
#[derive(Debug)]
struct Tables(Vec<Option<Slots>>);

impl Owner for Tables {
    fn is_at(&self, column: u32, row: u32, place: u32) -> bool {
        let slots = self.0.get(column as usize).and_then(Option::as_ref);
        slots.is_some_and(|slots| slots.place(row) == Some(place))
    }

    fn moved(&mut self, column: u32, row: u32, place: u32) {
        if let Some(slots) = &mut self.0[column as usize] {
            slots.set_place(row, place);
        }
    }
}

/// Where all rows are.
#[derive(Debug)]
pub struct RowStore {
    tables: Tables,
    record: Record,
    /// There is none where all tables fit.
    log: Option<Log>,
    /// Holds that no batch has.
    holds: Vec<u8>,
    spare: Vec<Resolved>,
    /// Of each column, rows that were read for training, all that were, and those for training that
    /// the host's memory had.
    read: Vec<[u64; 3]>,
}

impl RowStore {
    /// Rows as they begin: nothing is in a slot or in the file.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn new(spec: &CachedSpec, record: Record) -> Result<Self, RowFileError> {
        let slots = |c: &super::CachedColumn| (!c.fits()).then(|| Slots::new(c.rows, c.slots));
        let tables = Tables(spec.columns.iter().map(slots).collect());
        let outside = tables.0.iter().any(Option::is_some);
        let memory = spec.host.unwrap_or(0);
        let log =
            || Log::behind_memory(&spec.folder, memory, spec.disk, record.bytes(), spec.reads);
        let log = outside.then(log).transpose()?;
        let read = vec![[0; 3]; spec.columns.len()];
        Ok(RowStore { tables, record, log, holds: HOLDS.to_vec(), spare: Vec::new(), read })
    }

    /// What a record holds.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Who reads the file, if there is one.
    pub fn read_by(&self) -> Option<&ReadBy> {
        self.log.as_ref().and_then(Log::read_by)
    }

    /// Whether some rows of a column are not in memory.
    pub fn caches(&self, column: usize) -> bool {
        self.tables.0[column].is_some()
    }

    /// Begins to give a batch slots; training marks what it reads. `None` if three batches have some.
    pub fn begin(&mut self, trains: bool) -> Option<Resolved> {
        let hold = self.holds.pop()?;
        let columns = self.tables.0.len();
        let mut resolved = self.spare.pop().unwrap_or_default();
        (resolved.hold, resolved.trains) = (hold, trains);
        resolved.slots.resize_with(columns, Vec::new);
        resolved.used.resize_with(columns, Used::default);
        Some(resolved)
    }

    /// Gives the ids of a column slots; `false` if there are too few. What goes must be read out
    /// of the engine and kept ([`RowStore::keep`]) before anything else is done.
    pub fn resolve(&mut self, resolved: &mut Resolved, column: usize, ids: &[u32]) -> bool {
        let Some(slots) = &mut self.tables.0[column] else { return true };
        let Resolved { slots: out, used, hold, trains, .. } = resolved;
        slots.resolve(ids, *hold, *trains, &mut out[column], &mut used[column]).is_some()
    }

    /// Rows of a column leave their slots, where they are found until they are kept.
    pub fn leave(&mut self, column: usize, evicted: &[Insert]) {
        if let Some(slots) = &mut self.tables.0[column] {
            slots.leaving.extend(evicted.iter().map(|e| (e.row, e.slot)));
        }
    }

    /// Keeps a row that has left its slot, as `fill` has it.
    ///
    /// # Errors
    /// If the file is full or cannot be written.
    pub fn keep(
        &mut self,
        column: usize,
        row: u32,
        fill: &mut dyn FnMut(&Record, &mut [u8]),
    ) -> Result<(), RowFileError> {
        let RowStore { tables, record, log, .. } = self;
        let Some(log) = log else { return Ok(()) };
        let place = log.append((column as u32, row), &mut |out| fill(record, out), tables)?;
        tables.moved(column as u32, row, place);
        if let Some(slots) = &mut tables.0[column] {
            slots.leaving.remove(&row);
        }
        Ok(())
    }

    /// Where a row's newest values are.
    pub fn locate(&self, column: usize, row: u32) -> Where {
        self.tables.0[column].as_ref().map_or(Where::Slot(row), |slots| slots.locate(row))
    }

    /// Reads the record of a row at a place of the file.
    ///
    /// # Errors
    /// If that cannot be read, or is damaged.
    pub fn read<'a>(
        &self,
        column: usize,
        row: u32,
        place: u32,
        bytes: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], RowFileError> {
        match &self.log {
            Some(log) => Ok(log.read(place, (column as u32, row), bytes)?),
            None => Ok(bytes),
        }
    }

    /// Changes the record of a row at a place of the file.
    ///
    /// # Errors
    /// If that cannot be read or written, or is damaged.
    pub fn rewrite(
        &mut self,
        column: usize,
        row: u32,
        place: u32,
        change: &mut dyn FnMut(&Record, &mut [u8]),
    ) -> Result<(), RowFileError> {
        let RowStore { tables, record, log, .. } = self;
        let Some(log) = log else { return Ok(()) };
        let of = (column as u32, row);
        if !log.is_sealed(place) {
            return log.rewrite(place, of, &mut |bytes| change(record, bytes));
        }
        let mut bytes = Vec::new();
        let payload = log.read(place, of, &mut bytes)?;
        change(record, payload);
        // It is not kept while it is written again.
        if let Some(slots) = &mut tables.0[column] {
            slots.forget_place(row);
        }
        log.forget(place);
        let now = log.append(of, &mut |out| out.copy_from_slice(payload), tables)?;
        tables.moved(of.0, row, now);
        Ok(())
    }

    /// Rows in slots of a column that the file does not have as they are.
    pub fn changed(&self, column: usize) -> Vec<Insert> {
        self.tables.0[column].as_ref().map_or(Vec::new(), Slots::changed)
    }

    /// They have been kept ([`RowStore::keep`]) and are not changed any more.
    pub fn clean(&mut self, column: usize, rows: &[Insert]) {
        if let Some(slots) = &mut self.tables.0[column] {
            rows.iter().for_each(|i| slots.clean(i.slot));
        }
    }

    /// Hands out where all rows are, none of which is changed: their records stay as they are.
    /// `None` if there is no file.
    ///
    /// # Errors
    /// If what is on its way cannot be written.
    pub fn seal(&mut self) -> Result<Option<SealedRows>, RowFileError> {
        let Some(log) = &mut self.log else { return Ok(None) };
        let segments = log.seal()?;
        let fields = self.record.fields().to_vec();
        let layout = RecordLayout { fields, per_segment: log.per_segment() };
        let places = self.tables.0.iter().map(|slots| Some(slots.as_ref()?.places())).collect();
        Ok(Some(SealedRows { layout, segments, places }))
    }

    /// Goes on with rows of a checkpoint. `false` if there is another kind of file, or none; no row
    /// has been read or kept so far.
    pub fn adopt(&mut self, rows: &AdoptedRows<'_>) -> bool {
        let Some(log) = &mut self.log else { return false };
        let pairs = || self.tables.0.iter().zip(&rows.places);
        let fits = self.tables.0.len() == rows.places.len()
            && pairs().all(|(slots, places)| match (slots, places) {
                (Some(slots), Some(places)) => slots.row_count() == places.len(),
                (None, None) => true,
                _ => false,
            });
        if !fits || rows.layout.fields != self.record.fields() || !log.adopt(rows) {
            return false;
        }
        for (slots, places) in self.tables.0.iter_mut().zip(&rows.places) {
            let (Some(slots), Some(places)) = (slots, places) else { continue };
            for (row, place) in (0..).zip(places) {
                if let Some(place) = place.checked_sub(1) {
                    slots.set_place(row, place);
                    log.remember(place);
                }
            }
        }
        true
    }

    /// Begins to read what a batch's slots lack and the file has. All of its columns have been
    /// resolved, and what had to go has been kept.
    ///
    /// # Errors
    /// If the file has no such place.
    pub fn fetch(&mut self, resolved: &mut Resolved) -> Result<(), RowFileError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let mut places = Vec::new();
        let columns = self.tables.0.iter().zip(&mut resolved.used).zip(&mut self.read);
        for ((slots, used), read) in columns {
            let Some(slots) = slots else { continue };
            let before = places.len();
            used.fetched.clear();
            for i in &used.inserts {
                used.fetched.push(match slots.place(i.row) {
                    None => Origin::Initial,
                    Some(place) if log.in_memory(place) => Origin::Memory,
                    Some(place) => {
                        places.push(place);
                        Origin::File(places.len() as u32 - 1)
                    }
                });
            }
            let n = (places.len() - before) as u64;
            read[1] += n;
            if resolved.trains {
                read[0] += n;
                let here = used.fetched.iter().filter(|&&origin| origin == Origin::Memory);
                read[2] += here.count() as u64;
            }
        }
        resolved.fetch = log.fetch(&places)?;
        Ok(())
    }

    /// The record of insert number `n` of a column; `None` if it has none, and the row is what it
    /// began with. Waits until it has been read.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn fetched<'a>(
        &self,
        resolved: &Resolved,
        column: usize,
        n: usize,
        bytes: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, RowFileError> {
        let (used, row) = (&resolved.used[column], resolved.inserts(column)[n].row);
        let of = (column as u32, row);
        match (used.fetched[n], &self.log, &resolved.fetch) {
            (Origin::File(at), Some(log), Some(fetch)) => {
                fetch.wait();
                Ok(Some(log.fetched(fetch, at as usize, of, bytes)?))
            }
            // It may be elsewhere by now.
            (Origin::Memory, Some(log), _) => {
                let place = self.tables.0[column].as_ref().and_then(|slots| slots.place(row));
                Ok(place.map(|place| log.read(place, of, bytes)).transpose()?.map(|r| &*r))
            }
            _ => Ok(None),
        }
    }

    /// What was to be put into the slots of a batch is there.
    pub fn arrived(&mut self, resolved: &mut Resolved) {
        for (slots, used) in self.tables.0.iter_mut().zip(&mut resolved.used) {
            if let Some(slots) = slots {
                used.inserts.drain(..).for_each(|i| slots.arrived(i.slot));
            }
            used.evicted.clear();
        }
        resolved.fetch = None;
    }

    /// The batch's slots are about to be changed.
    pub fn dirty(&mut self, resolved: &Resolved) {
        for (column, used) in resolved.used.iter().enumerate() {
            used.held.iter().for_each(|&slot| self.dirty_slot(column, slot));
        }
    }

    /// What is in a slot is about to be changed.
    pub fn dirty_slot(&mut self, column: usize, slot: u32) {
        let place = self.tables.0[column].as_mut().and_then(|slots| slots.dirty(slot));
        if let (Some(place), Some(log)) = (place, &mut self.log) {
            log.forget(place);
        }
    }

    /// The batch is done.
    pub fn release(&mut self, mut resolved: Resolved) {
        for (slots, used) in self.tables.0.iter_mut().zip(&mut resolved.used) {
            if let Some(slots) = slots {
                slots.release(&used.held, resolved.hold);
            }
            used.held.clear();
        }
        self.holds.push(resolved.hold);
        self.spare.push(resolved);
    }

    /// What the cache of a column has seen; `None` where all rows fit.
    pub fn counts(&self, column: usize) -> Option<CacheCounts> {
        let (slots, log) = (self.tables.0[column].as_ref()?, self.log.as_ref()?);
        let [reads, all, host_reads] = self.read[column];
        Some(CacheCounts {
            slots: slots.count() as u64,
            hits: slots.ids - slots.misses,
            misses: slots.misses,
            reads,
            host_reads,
            bytes_read: all * log.record(),
            bytes_written: log.written_of.get(column).copied().unwrap_or(0),
        })
    }

    /// The row in a slot of a column.
    pub fn row(&self, column: usize, slot: u32) -> u32 {
        self.tables.0[column].as_ref().map_or(slot, |slots| slots.row(slot))
    }
}
