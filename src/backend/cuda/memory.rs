//! Buffers of f32 and of batches in a GPU's memory.

use super::{
    driver::{
        Address, Driver, Memory, bytes_of, bytes_of_mut,
        gemm::{BitMask, Number},
        stream::{Event, Staging, Stream},
    },
    first_rows::{FirstRows, too_many},
    planted::{Places, Planted},
};
use crate::{
    backend::{BackendError, Mat, MatMut, Result, Window},
    batch::{BatchLimits, CheckedBatch, Span},
    embedding::sixteen,
    host::pool::{Pool, SharedMut},
};
use std::{
    cell::Cell,
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};

/// What the rows of a bit mask are a multiple of: 16 bytes.
const BITS: usize = 128;

/// Rows of dense features that a thread copies at a time.
const BLOCK: usize = 1024;

/// A buffer of f32, or of the 16-bit numbers that products read.
#[derive(Debug)]
pub struct Floats {
    memory: Memory,
    len: usize,
    number: Number,
    /// Whether products read it: then the product that fills it may leave a bit for each element
    /// that its ReLU let pass.
    operand: bool,
    /// Those bits: bit `k` is element `k`'s.
    mask: Option<Memory>,
    /// The matrix that they speak of, and its rows. Any other write to the buffer ends that.
    masked: Cell<Option<(Window, usize)>>,
}

impl Floats {
    /// Zeros.
    pub(super) fn zeros(driver: &Rc<dyn Driver>, len: usize, what: &str) -> Result<Self> {
        Floats::new(driver, len, Number::F32, false, what)
    }

    /// Zeros in the numbers that products read.
    pub(super) fn operands(
        driver: &Rc<dyn Driver>,
        len: usize,
        number: Number,
        what: &str,
    ) -> Result<Self> {
        Floats::new(driver, len, number, true, what)
    }

    fn new(
        driver: &Rc<dyn Driver>,
        len: usize,
        number: Number,
        operand: bool,
        what: &str,
    ) -> Result<Self> {
        let bytes = len.checked_mul(number.bytes());
        let bytes = bytes
            .ok_or_else(|| BackendError::Memory { what: what.to_string(), bytes: u64::MAX })?;
        Ok(Floats {
            memory: Memory::zeros(driver, bytes, what)?,
            len,
            number,
            operand,
            mask: None,
            masked: Cell::new(None),
        })
    }

    /// Elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where `n` elements of f32 from `at` on are.
    ///
    /// # Panics
    /// If there are not so many, or they are no f32.
    pub(super) fn at(&self, at: usize, n: usize) -> Address {
        assert_eq!(self.number, Number::F32, "numbers of an operand where an operation takes f32");
        self.address(at, n)
    }

    fn address(&self, at: usize, n: usize) -> Address {
        assert!(at + n <= self.len, "{n} elements from {at} on, of {}", self.len);
        self.memory.at() + (at * self.number.bytes()) as Address
    }

    /// Copies `from` to elements `at..`, rounded to the nearest if these are 16-bit numbers.
    pub(super) fn write(&mut self, driver: &dyn Driver, at: usize, from: &[f32]) -> Result<()> {
        self.masked.set(None);
        let to = self.address(at, from.len());
        let narrow = |f: fn(f32) -> u16| from.iter().map(|&x| f(x)).collect::<Vec<_>>();
        match self.number {
            Number::F32 => driver.to_device(to, bytes_of(from)),
            Number::Bf16 => driver.to_device(to, bytes_of(&narrow(sixteen::to_bf16))),
            Number::F16 => driver.to_device(to, bytes_of(&narrow(sixteen::to_f16))),
        }
    }

    /// Copies elements `at..` out, after everything asked for before is done.
    pub(super) fn read(&self, driver: &dyn Driver, at: usize, to: &mut [f32]) -> Result<()> {
        let from = self.address(at, to.len());
        let widen: fn(u16) -> f32 = match self.number {
            Number::F32 => return driver.to_host(from, bytes_of_mut(to)),
            Number::Bf16 => sixteen::from_bf16,
            Number::F16 => sixteen::from_f16,
        };
        let mut narrow = vec![0u16; to.len()];
        driver.to_host(from, bytes_of_mut(&mut narrow))?;
        to.iter_mut().zip(narrow).for_each(|(to, x)| *to = widen(x));
        Ok(())
    }
}

/// A matrix as kernels take it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Of the first element.
    pub at: Address,
    /// Elements from one row to the next.
    pub stride: u32,
    pub rows: u32,
    pub cols: u32,
    pub number: Number,
}

impl Place {
    fn new(buffer: &Floats, window: Window, rows: usize) -> Place {
        let Window { at, stride, cols } = window;
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + cols };
        assert!(stride >= cols || rows <= 1, "rows of {cols} columns every {stride}");
        let number = buffer.number;
        Place {
            at: buffer.address(at, needed),
            stride: stride as u32,
            rows: rows as u32,
            cols: cols as u32,
            number,
        }
    }

    /// For operations that know f32 alone.
    fn floats(self) -> Place {
        assert_eq!(self.number, Number::F32, "numbers of an operand where an operation takes f32");
        self
    }

    /// Whether elements can be read and written in pieces of 16 bytes, wherever a piece begins at a
    /// multiple of its elements.
    pub(super) fn in_pieces(self) -> bool {
        self.at.is_multiple_of(16)
            && (self.stride as usize * self.number.bytes()).is_multiple_of(16)
    }
}

impl Mat<'_, Floats> {
    /// A matrix of f32.
    pub(super) fn place(&self) -> Place {
        self.operand().floats()
    }

    /// A matrix of any numbers.
    pub(super) fn operand(&self) -> Place {
        Place::new(self.buf, self.window, self.rows)
    }

    /// The bits of the elements that a ReLU let pass, if a product has left them.
    pub(super) fn mask(&self) -> Option<BitMask> {
        let (window, rows) = self.buf.masked.get()?;
        let known = window == self.window && self.rows <= rows;
        self.buf.mask.as_ref().filter(|_| known).map(|m| bits(m, window))
    }
}

/// The bits of the elements of a window.
fn bits(mask: &Memory, window: Window) -> BitMask {
    BitMask { at: mask.at() + (window.at / 8) as Address, stride: window.stride }
}

impl MatMut<'_, Floats> {
    /// A matrix of f32, about to be written.
    pub(super) fn place(&self) -> Place {
        self.operand().floats()
    }

    /// A matrix of any numbers, about to be written.
    pub(super) fn operand(&self) -> Place {
        self.buf.masked.set(None);
        Place::new(self.buf, self.window, self.rows)
    }

    /// Where a product may leave the bits of the elements that its ReLU lets pass. Only where the
    /// library takes such bits: whole rows of an operand, every multiple of 128 elements. Made when
    /// first asked for.
    pub(super) fn mask(&mut self, driver: &Rc<dyn Driver>) -> Result<Option<BitMask>> {
        let Window { at, stride, cols } = self.window;
        let (buf, whole) = (
            &mut *self.buf,
            stride - cols < BITS && stride.is_multiple_of(BITS) && at.is_multiple_of(BITS),
        );
        if !(buf.operand && whole) {
            return Ok(None);
        }
        if buf.mask.is_none() {
            buf.mask = Some(Memory::zeros(driver, buf.len.div_ceil(8), "bits of activations")?);
        }
        Ok(buf.mask.as_ref().map(|m| bits(m, self.window)))
    }

    /// Says that the bits are there now.
    pub(super) fn set_masked(&mut self) {
        self.buf.masked.set(Some((self.window, self.rows)));
    }
}

/// Batches on the device at a time: one to compute on, one on its way.
const SLOTS: usize = 2;

/// Room for a batch: 32-bit words, which come over in one piece.
#[derive(Debug)]
struct Slot {
    /// `[dense [len, dense_width] | labels [len] | first id of each table, and their number |
    /// offsets [tables, len + 1] | ids | what the ids stand for]`.
    words: Floats,
    staging: Staging,
    /// Recorded when all readers of the words are done.
    free: Event,
}

/// Form of a batch: it alone decides where the parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Samples.
    pub len: usize,
    /// Whether each bag has exactly one id; then there are no offsets.
    pub one_hot: bool,
    /// Whether ids are slots, and the rows that they stand for are beside them ([`Bags::ids`]).
    pub stands_for: bool,
}

/// Batches on their way and one to compute on.
#[derive(Debug)]
pub struct Input {
    dense_columns: usize,
    pub(super) dense_width: usize,
    max_batch: usize,
    pub(super) tables: usize,
    /// Samples of the present batch.
    pub(super) len: usize,
    one_hot: bool,
    stands_for: bool,
    slots: [Slot; SLOTS],
    /// Which of them has the present batch.
    present: usize,
    /// The tables' rows.
    pub(super) rows: FirstRows,
    /// The rows that they stand for, if they do.
    stood_for: Option<FirstRows>,
    /// Most ids of a sample, all tables together.
    hotness: usize,
    /// Most ids of a batch.
    pub(super) max_ids: usize,
    /// Occurrences by row: keys and samples, twice each, and counters.
    pub(super) sorted: Memory,
}

impl Input {
    /// Room for batches within `limits`.
    pub(super) fn new(
        driver: &Rc<dyn Driver>,
        limits: &BatchLimits,
        dense_width: usize,
    ) -> Result<Self> {
        let (tables, max_batch) = (limits.rows.len(), limits.samples);
        let hotness = limits.hotness.iter().sum::<usize>();
        let max_ids = hotness.max(tables) * max_batch;
        let stood_for = (!limits.ids.is_empty()).then(|| FirstRows::new(driver, &limits.ids));
        u32::try_from(max_ids).map_err(|_| too_many("ids in a batch", max_ids))?;
        let bags = tables * (max_batch + 1);
        let all_ids = if stood_for.is_some() { 2 * max_ids } else { max_ids };
        let words = max_batch * (dense_width + 1) + tables + 1 + all_ids + bags;
        let sorted = super::groups::words(max_ids) * size_of::<u32>();
        let slot = || -> Result<Slot> {
            let (words, staging) =
                (Floats::zeros(driver, words, "a batch")?, Staging::new(driver, words)?);
            let free = Event::new(driver)?;
            // Its zeros come first.
            free.record(Stream::Compute)?;
            Ok(Slot { words, staging, free })
        };
        Ok(Input {
            dense_columns: limits.dense,
            dense_width,
            max_batch,
            tables,
            len: 0,
            one_hot: false,
            stands_for: false,
            slots: [slot()?, slot()?],
            present: 0,
            rows: FirstRows::new(driver, &limits.rows)?,
            stood_for: stood_for.transpose()?,
            hotness,
            max_ids,
            sorted: Memory::zeros(driver, sorted, "a batch's ids sorted by row")?,
        })
    }

    /// Brings a batch over, beside what the device is doing: the host's threads put it together in
    /// memory that the device reads.
    ///
    /// # Panics
    /// If it is larger than what there is room for.
    pub(super) fn upload(&mut self, pool: &Pool, batch: CheckedBatch<'_>) -> Result<()> {
        let (n, width, columns, tables) =
            (batch.len, self.dense_width, self.dense_columns, self.tables);
        assert!(
            n <= self.max_batch
                && batch.labels.len() == n
                && batch.bags.len() == tables
                && batch.dense.len() == n * columns
        );
        let several = AtomicBool::new(false);
        pool.run(tables, |k, _| {
            several.fetch_or(!batch.bags[k].is_one_hot(), Ordering::Relaxed);
        });
        let stands_for = batch.bags.iter().any(|b| !b.ids.is_empty());
        self.next(Form { len: n, one_hot: !several.into_inner(), stands_for })?;
        let ids: usize = batch.bags.iter().map(|b| b.indices.len()).sum();
        assert!(
            ids <= self.most_ids() && batch.bags.iter().all(|b| b.offsets.len() == n + 1),
            "{ids} ids"
        );
        assert!(!stands_for || self.stood_for.is_some(), "tables that stand for others");
        let offsets = if self.one_hot { 0 } else { tables * (n + 1) };
        let slot = &mut self.slots[self.present];
        let (dense, rest) = slot.staging.words()?.split_at_mut(n * width);
        let (labels, rest) = rest.split_at_mut(n);
        let (base, rest) = rest.split_at_mut(tables + 1);
        let (all_offsets, rest) = rest.split_at_mut(offsets);
        let stood_for = if stands_for { ids } else { 0 };
        let (all_ids, rest) = rest.split_at_mut(ids);
        let all_stood_for = &mut rest[..stood_for];
        labels.iter_mut().zip(&batch.labels).for_each(|(to, x)| *to = x.to_bits());
        base[0] = 0;
        for (k, bags) in batch.bags.iter().enumerate() {
            base[k + 1] = base[k] + bags.indices.len() as u32;
        }
        let (base, all_ids, all_offsets) =
            (&*base, SharedMut::new(all_ids), SharedMut::new(all_offsets));
        let all_stood_for = SharedMut::new(all_stood_for);
        pool.run(tables, |k, _| {
            let bags = &batch.bags[k];
            // SAFETY: each table has its own ids.
            unsafe { all_ids.slice(base[k] as usize, bags.indices.len()) }
                .copy_from_slice(&bags.indices);
            if stands_for {
                // SAFETY: and what its own stand for.
                unsafe { all_stood_for.slice(base[k] as usize, bags.indices.len()) }
                    .copy_from_slice(bags.ids());
            }
            if offsets > 0 {
                // SAFETY: and its own offsets.
                unsafe { all_offsets.slice(k * (n + 1), n + 1) }.copy_from_slice(&bags.offsets);
            }
        });
        let (dense, blocks) =
            (SharedMut::new(dense), if width > 0 { n.div_ceil(BLOCK) } else { 0 });
        pool.run(blocks, |block, _| {
            for r in block * BLOCK..n.min((block + 1) * BLOCK) {
                // SAFETY: each row belongs to one block.
                let (row, padding) = unsafe { dense.slice(r * width, width) }.split_at_mut(columns);
                row.iter_mut()
                    .zip(&batch.dense[r * columns..])
                    .for_each(|(to, x)| *to = x.to_bits());
                padding.fill(0);
            }
        });
        let words = n * (width + 1) + tables + 1 + offsets + ids + stood_for;
        slot.staging.send(slot.words.at(0, words), words, &slot.free)
    }

    /// Lets the device make the samples of a batch where one would be brought.
    ///
    /// # Panics
    /// If there is no room for them.
    pub(super) fn make(&mut self, driver: &dyn Driver, log: &Planted, span: Span) -> Result<()> {
        assert!(span.len <= self.max_batch && log.tables() == self.tables, "{span:?}");
        self.next(Form { len: span.len, one_hot: log.one_hot(), stands_for: false })?;
        assert!(log.ids(span.len) <= self.most_ids(), "{span:?}");
        let width = self.dense_width;
        let places = Places {
            dense: self.words().at(0, span.len * width),
            width,
            labels: self.labels(),
            id_base: self.id_base(0),
            ids: self.ids(),
            offsets: self.offsets(0),
        };
        log.make(driver, span, places)
    }

    /// Goes on to the next slot, for a batch of this form.
    pub(super) fn next(&mut self, form: Form) -> Result<()> {
        self.slots[self.present].free.record(Stream::Compute)?;
        self.present = (self.present + 1) % SLOTS;
        Form { len: self.len, one_hot: self.one_hot, stands_for: self.stands_for } = form;
        Ok(())
    }

    /// Form of the present batch, and its slot.
    pub(super) fn form(&self) -> (Form, usize) {
        let form = Form { len: self.len, one_hot: self.one_hot, stands_for: self.stands_for };
        (form, self.present)
    }

    /// The words of the present batch; its dense features come first.
    pub(super) fn words(&self) -> &Floats {
        &self.slots[self.present].words
    }

    /// Most ids that a batch of this form has.
    pub(super) fn most_ids(&self) -> usize {
        self.len * if self.one_hot { self.tables } else { self.hotness }
    }

    /// Where the labels are.
    pub(super) fn labels(&self) -> Address {
        self.words().at(self.len * self.dense_width, self.len)
    }

    /// Where the first id of each table from `first` on among all is said.
    pub(super) fn id_base(&self, first: usize) -> Address {
        self.words().at(self.len * (self.dense_width + 1) + first, self.tables + 1 - first)
    }

    /// The rows that those of the present batch are told apart by.
    pub(super) fn told_apart(&self) -> &FirstRows {
        self.stood_for.as_ref().filter(|_| self.stands_for).unwrap_or(&self.rows)
    }

    /// Where the number of ids is said.
    pub(super) fn id_count(&self) -> Address {
        self.words().at(self.len * (self.dense_width + 1) + self.tables, 1)
    }

    /// Where the offsets of the tables from `first` on are; null if each bag has exactly one id.
    pub(super) fn offsets(&self, first: usize) -> Address {
        if self.one_hot {
            return 0;
        }
        let (at, each) = (self.len * (self.dense_width + 1) + self.tables + 1, self.len + 1);
        self.words().at(at + first * each, (self.tables - first) * each)
    }

    /// Where the ids are.
    pub(super) fn ids(&self) -> Address {
        let offsets = if self.one_hot { 0 } else { self.tables * (self.len + 1) };
        let most = if self.stands_for { 2 * self.most_ids() } else { self.most_ids() };
        self.words().at(self.len * (self.dense_width + 1) + self.tables + 1 + offsets, most)
    }

    /// Where the number of ids is said behind which there is what each of them stands for; null if
    /// they stand for themselves.
    pub(super) fn behind(&self) -> Address {
        if self.stands_for { self.id_count() } else { 0 }
    }
}
