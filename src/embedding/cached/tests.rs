//! Rows, slots and the file against a plain map, with segments of a few records.

use super::{
    log::{LEAST_RECORDS, Log, Owner, file_bytes, least_bytes},
    *,
};
use crate::{
    batch::{Column, Schema},
    embedding::RowKind,
    host::{
        Size,
        positioned::{read_at, write_at},
    },
};
use proptest::prelude::*;
use std::collections::HashMap;

fn fields() -> Record {
    let field = |width, kind| Field { width, kind };
    Record::new(vec![
        field(3, RowKind::Bf16),
        field(1, RowKind::Fp32),
        field(2, RowKind::Fp16),
        field(3, RowKind::Bf16Split),
    ])
}

#[test]
fn a_record_keeps_what_its_form_can() {
    let record = fields();
    assert_eq!(record.bytes(), 6 + 4 + 4 + 12);
    let mut payload = vec![0; record.bytes()];
    let values = [&[1.5f32, -0.25, 1.0 + 1.0 / 512.0][..], &[0.1], &[2.0, 1e-3], &[0.1, 0.2, 0.3]];
    for (field, values) in values.iter().enumerate() {
        record.set(field, 0, values, &mut payload);
    }
    record.set(3, 1, &[7.5], &mut payload);
    let get = |field: usize| {
        let mut out = vec![0.0; record.fields()[field].width];
        record.get(field, &payload, &mut out);
        out
    };
    // 1 + 1/512 lies half way between two bf16, and goes to the even one.
    assert_eq!(get(0), [1.5, -0.25, 1.0]);
    assert_eq!((get(1), get(3)), (vec![0.1], vec![0.1, 7.5, 0.3]));
    assert_eq!(get(2), [2.0, half::f16::from_f32(1e-3).to_f32()]);
}

fn schema(rows: &[usize], hotness: usize) -> Schema {
    let column =
        |(k, &rows): (usize, &usize)| Column { name: format!("C{k}"), rows, max_hotness: hotness };
    Schema { dense: 0, tables: rows.iter().enumerate().map(column).collect() }
}

fn store(cache: u64, disk: Option<u64>) -> CachedStore {
    CachedStore { cache: Size(cache), disk: disk.map(Size), ..CachedStore::default() }
}

/// Small tables are in memory whole, the others share the rest; by hand.
#[test]
fn memory_is_shared_as_water_is() {
    let sizes = RowSizes { memory: 100 - SLOT_BYTES, packed: 88 };
    let spec = |cache, disk| {
        let schema = schema(&[1000, 30, 500, 4], 2);
        CachedSpec::new(&store(cache, disk), &schema, sizes, 10)
    };
    let slots = |cache| spec(cache, None).unwrap().columns.iter().map(|c| c.slots).collect();
    // 234 rows: 4 and 30 whole, 100 each for the others.
    let all: Vec<Vec<usize>> = [23_400, 23_599, 103_400, 153_400, 1 << 40].map(slots).to_vec();
    assert_eq!(all[0], [100, 30, 100, 4]);
    assert_eq!(all[1], all[0]);
    assert_eq!(all[2], [500, 30, 500, 4]);
    assert_eq!((&all[3], &all[4]), (&vec![1000, 30, 500, 4], &all[3]));
    // Two batches of 10 samples and 2 ids: 20 rows of three tables, 4 of one.
    assert_eq!(slots(6_400), [20, 20, 20, 4]);
    let (key, what) = spec(6_399, None).unwrap_err();
    assert_eq!(key, "embedding.cache");
    assert!(what.contains("must be at least 6400"), "{what}");
    // The file has room for the rows of the two that do not fit.
    assert_eq!(spec(23_400, None).unwrap().disk, file_bytes(1500, 88));
    assert_eq!(spec(103_400, Some(20_000)).unwrap().disk, 20_000);
    let (key, what) = spec(23_400, Some(100 * LEAST_RECORDS - 1)).unwrap_err();
    assert_eq!((key, least_bytes(88)), ("embedding.disk", 100 * LEAST_RECORDS));
    assert!(what.contains("must be at least 6400"), "{what}");
}

/// Where the newest record of each row is.
#[derive(Default)]
struct Map(HashMap<(u32, u32), u32>);

impl Owner for Map {
    fn is_at(&self, column: u32, row: u32, place: u32) -> bool {
        self.0.get(&(column, row)) == Some(&place)
    }

    fn moved(&mut self, column: u32, row: u32, place: u32) {
        self.0.insert((column, row), place);
    }
}

fn put(log: &mut Log, map: &mut Map, of: (u32, u32), value: u8) -> Result<(), RowFileError> {
    // It is not kept while it is written again.
    if let Some(old) = map.0.remove(&of) {
        log.forget(old);
    }
    let place = log.append(of, &mut |out| out.fill(value), map)?;
    map.moved(of.0, of.1, place);
    Ok(())
}

fn get(log: &Log, map: &Map, of: (u32, u32)) -> Result<Vec<u8>, RowFileError> {
    Ok(log.read(map.0[&of], of, &mut Vec::new())?.to_vec())
}

/// The same of several rows, read beside training.
fn get_all(log: &mut Log, map: &Map, of: &[(u32, u32)]) -> Result<Vec<Vec<u8>>, RowFileError> {
    let places: Vec<u32> = of.iter().map(|of| map.0[of]).collect();
    let fetch = log.fetch(&places)?.unwrap();
    fetch.wait();
    let one = |(n, &of)| Ok(log.fetched(&fetch, n, of, &mut Vec::new())?.to_vec());
    of.iter().enumerate().map(one).collect()
}

const PACKED: usize = 20;

const READS: [Reads; 2] = [Reads::Ring, Reads::Threads];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What was written last is read, however often the file is cleaned, and it does not grow beyond
    /// what it may. What a checkpoint refers to stays, whatever is written afterwards.
    #[test]
    fn the_log_keeps_the_newest_of_each_row(
        writes in prop::collection::vec((0u32..2, 0u32..25, any::<u8>(), 0u8..40), 1..900),
        records in 64u64..200,
        reads in prop::sample::select(&READS[..]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let disk = records * 32 + 5;
        let mut log = Log::new(folder.path(), disk, PACKED, reads).unwrap();
        let (mut map, mut want) = (Map::default(), HashMap::new());
        let mut sealed = Vec::new();
        for (column, row, value, how) in writes {
            let of = (column, row);
            if how == 0 {
                let segments: HashMap<u32, _> = log.seal().unwrap().into_iter().collect();
                sealed.push((segments, map.0.clone(), want.clone()));
            }
            match map.0.get(&of).copied() {
                Some(place) if how < 10 && !log.is_sealed(place) => {
                    log.rewrite(place, of, &mut |out| out.fill(value)).unwrap()
                }
                _ => put(&mut log, &mut map, of, value).unwrap(),
            }
            want.insert(of, value);
            prop_assert!(log.bytes() <= disk);
        }
        let all: Vec<(u32, u32)> = want.keys().copied().collect();
        let fetched = get_all(&mut log, &map, &all).unwrap();
        for (of, fetched) in all.iter().zip(fetched) {
            prop_assert_eq!(&get(&log, &map, *of).unwrap(), &vec![want[of]; PACKED]);
            prop_assert_eq!(fetched, vec![want[of]; PACKED]);
        }
        for (segments, places, want) in sealed {
            for (of, place) in places {
                let (segment, n) = (place / log.per_segment(), place % log.per_segment());
                let mut record = [0; 32];
                let file = segments[&segment].file();
                read_at(file, &mut record, u64::from(n) * 32).unwrap();
                prop_assert_eq!(&record[12..], &[want[&of]; PACKED][..]);
                prop_assert_eq!(&record[4..12], &[of.0, of.1].map(u32::to_le_bytes).concat()[..]);
            }
        }
        // Nothing has a name in the folder.
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// Records that stay are moved along when the file is full of others that are dead; when none is
/// dead, it says so.
#[test]
fn a_full_file_is_cleaned_and_then_says_so() {
    READS.into_iter().for_each(fills);
}

fn fills(reads: Reads) {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path(), 64 * 32, PACKED, reads).unwrap();
    let mut map = Map::default();
    // 16 segments of 4; one is kept free. A quarter stays as it is.
    (0..15).for_each(|row| put(&mut log, &mut map, (0, row), row as u8).unwrap());
    for n in 0..400u32 {
        put(&mut log, &mut map, (1, n % 40), n as u8).unwrap();
    }
    let written: u64 = log.written_of.iter().sum();
    assert!(written > 5 * log.bytes(), "{written} {}", log.bytes());
    for row in 0..15 {
        assert_eq!(get(&log, &map, (0, row)).unwrap(), [row as u8; PACKED]);
    }
    let mut more = (0..40).map(|row| put(&mut log, &mut map, (2, row), 1));
    let error = more.find_map(Result::err).unwrap().to_string();
    assert!(error.contains("is full: all its 2KiB hold rows that are in use"), "{error}");
    assert!(error.contains("embedding.disk") && error.lines().count() == 1, "{error}");
}

/// A record that is not what was written is refused, in one line, wherever it is read; so are a
/// file that ends early and a folder that cannot be had.
#[test]
fn damage_is_found() {
    READS.into_iter().for_each(damages);
}

fn damages(reads: Reads) {
    let folder = tempfile::tempdir().unwrap();
    let make = || {
        let mut log = Log::new(folder.path(), 64 * 32, PACKED, reads).unwrap();
        let mut map = Map::default();
        (0..40).for_each(|row| put(&mut log, &mut map, (0, row), 9).unwrap());
        (log, map)
    };
    for byte in [0, 4, 8, 12, 31] {
        let (mut log, mut map) = make();
        let (file, at) = log.in_file(map.0[&(0, 3)]);
        write_at(&file, &[0xAA], at + byte).unwrap();
        let error = get(&log, &map, (0, 3)).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("row 3 of column 0"), "{error}");
        assert_eq!(error.lines().count(), 1);
        assert!(get(&log, &map, (0, 4)).is_ok());
        let fetched = get_all(&mut log, &map, &[(0, 4), (0, 3)]).unwrap_err().to_string();
        assert_eq!(fetched, error);
        assert!(get_all(&mut log, &map, &[(0, 4), (0, 5)]).is_ok());
        // Cleaning moves none that is damaged: what does not name its row is lost.
        for n in 0..400u32 {
            if let Err(e) = put(&mut log, &mut map, (1, n % 10), 1) {
                assert!(e.to_string().contains("damaged"), "{e}");
                break;
            }
        }
        assert!(get(&log, &map, (0, 3)).is_err());
    }
    let (mut log, map) = make();
    log.in_file(map.0[&(0, 3)]).0.set_len(7).unwrap();
    let error = get(&log, &map, (0, 3)).unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.contains("last checkpoint"), "{error}");
    // What begins behind its end, and what goes beyond it.
    for row in [3, 0] {
        let fetched = get_all(&mut log, &map, &[(0, row)]).unwrap_err().to_string();
        assert_eq!(fetched, error);
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Log::new(&file.join("in"), 4096, PACKED, Reads::Ring).unwrap_err().to_string();
    assert!(error.contains("cannot be made") && error.lines().count() == 1, "{error}");
}

/// More records than the kernel is given at a time, of several batches at once, from a file that the
/// disk has; and a store that is dropped while they are read.
#[test]
fn many_are_read_at_once() {
    for reads in READS {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(folder.path(), 1 << 20, PACKED, reads).unwrap();
        let mut map = Map::default();
        let rows = 20_000;
        (0..rows).for_each(|row| put(&mut log, &mut map, (0, row), (row % 251) as u8).unwrap());
        log.in_file(0);
        let of = |k: u32| (0..1500).map(|n| (0, (n * 7919 + k * 977) % rows)).collect::<Vec<_>>();
        let places = |k| of(k).iter().map(|of| map.0[of]).collect::<Vec<_>>();
        let all: Vec<_> = (0..5).map(|k| log.fetch(&places(k)).unwrap().unwrap()).collect();
        for (k, fetch) in all.iter().enumerate().rev() {
            fetch.wait();
            for (n, of) in of(k as u32).into_iter().enumerate() {
                let got = log.fetched(fetch, n, of, &mut Vec::new()).unwrap().to_vec();
                assert_eq!(got, [(of.1 % 251) as u8; PACKED]);
            }
        }
        let kept: Vec<_> = (0..40).map(|k| log.fetch(&places(k)).unwrap().unwrap()).collect();
        drop(log);
        drop(kept);
    }
}

/// Where the kernel has io_uring, it is used unless threads are asked for.
#[test]
fn it_is_told_who_reads() {
    assert_eq!(ReadBy::here(Reads::Threads), ReadBy::Threads);
    assert_eq!(ReadBy::Threads.to_string(), "16 threads");
    let refused = ReadBy::without(&std::io::Error::from_raw_os_error(1)).to_string();
    assert_eq!(refused, "16 threads instead of io_uring: the system does not allow it");
    let folder = tempfile::tempdir().unwrap();
    let by =
        |reads| Log::new(folder.path(), 4096, PACKED, reads).unwrap().read_by().unwrap().clone();
    assert_eq!(READS.map(by), READS.map(ReadBy::here));
}

/// A store that plays the engine too: what is in its slots.
struct Play {
    store: RowStore,
    slots: Vec<Vec<[f32; 2]>>,
    bytes: Vec<u8>,
}

const PLAY_ROWS: [usize; 3] = [60, 9, 40];

impl Play {
    fn new(folder: &std::path::Path, slots: [usize; 3], disk: u64, reads: Reads) -> Self {
        let column =
            |k: usize| CachedColumn { name: format!("C{k}"), rows: PLAY_ROWS[k], slots: slots[k] };
        let spec = CachedSpec {
            cache: 0,
            host: None,
            disk,
            columns: (0..3).map(column).collect(),
            folder: folder.to_owned(),
            reads,
        };
        let record = Record::new(vec![Field { width: 2, kind: RowKind::Fp32 }]);
        let store = RowStore::new(&spec, record).unwrap();
        Play { store, slots: slots.map(|n| vec![[0.0; 2]; n]).to_vec(), bytes: Vec::new() }
    }

    fn initial(column: usize, row: u32) -> [f32; 2] {
        [column as f32 + 0.5, row as f32]
    }

    fn value(&mut self, column: usize, row: u32) -> [f32; 2] {
        let mut out = [0.0; 2];
        match self.store.locate(column, row) {
            Where::Slot(slot) => return self.slots[column][slot as usize],
            Where::File(place) => {
                let read = self.store.read(column, row, place, &mut self.bytes).unwrap();
                Record::new(vec![Field { width: 2, kind: RowKind::Fp32 }]).get(0, read, &mut out);
            }
            Where::Initial => return Play::initial(column, row),
        }
        out
    }

    fn step(&mut self, ids: &[Vec<u32>; 3], trains: bool, want: &mut [Vec<[f32; 2]>]) {
        let mut resolved = self.store.begin(trains).unwrap();
        for (column, ids) in ids.iter().enumerate() {
            assert!(self.store.resolve(&mut resolved, column, ids));
            for e in resolved.evicted(column) {
                let values = self.slots[column][e.slot as usize];
                let fill = &mut |r: &Record, out: &mut [u8]| r.set(0, 0, &values, out);
                self.store.keep(column, e.row, fill).unwrap();
            }
        }
        self.store.fetch(&mut resolved).unwrap();
        for column in 0..3 {
            for (n, i) in resolved.inserts(column).to_vec().into_iter().enumerate() {
                let value = self.value(column, i.row);
                let mut fetched = Play::initial(column, i.row);
                if let Some(read) =
                    self.store.fetched(&resolved, column, n, &mut self.bytes).unwrap()
                {
                    self.store.record().get(0, read, &mut fetched);
                }
                assert_eq!(fetched, value);
                self.slots[column][i.slot as usize] = value;
            }
        }
        self.store.arrived(&mut resolved);
        if trains {
            self.store.dirty(&resolved);
        }
        for (column, ids) in ids.iter().enumerate() {
            let slots = if self.store.caches(column) { &resolved.slots[column] } else { ids };
            assert_eq!(slots.len(), ids.len());
            for (&slot, &id) in slots.iter().zip(ids) {
                let row = &mut self.slots[column][slot as usize];
                assert_eq!(*row, want[column][id as usize]);
                if trains {
                    row[0] += 1.0;
                    want[column][id as usize][0] += 1.0;
                }
            }
        }
        self.store.release(resolved);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is read and changed, with any number of slots and a file that is cleaned again and
    /// again: each row has what was made of it.
    #[test]
    fn rows_are_what_was_made_of_them(
        steps in prop::collection::vec(
            (prop::collection::vec(0u32..60, 0..8), prop::collection::vec(0u32..9, 0..5),
             prop::collection::vec(0u32..40, 0..8), any::<bool>()), 1..120),
        slots in (8usize..60, 8usize..40),
        reads in prop::sample::select(&READS[..]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        // 100 rows of 20 bytes, and little more.
        let mut play = Play::new(folder.path(), [slots.0, 9, slots.1], 130 * 20, reads);
        let rows = |c: usize| (0..PLAY_ROWS[c]).map(move |r| Play::initial(c, r as u32)).collect();
        let mut want: Vec<Vec<[f32; 2]>> = (0..3).map(rows).collect();
        // All rows of the second are in memory, where something else fills them.
        play.slots[1] = want[1].clone();
        for (a, b, c, trains) in steps {
            play.step(&[a, b, c], trains, &mut want);
        }
        for (column, rows) in want.iter().enumerate() {
            for (row, want) in rows.iter().enumerate() {
                prop_assert_eq!(&play.value(column, row as u32), want);
            }
        }
    }
}

/// The clock, by hand: a row that was read again stays when its turn comes, one that an evaluation
/// reads goes, and one that is held never does.
#[test]
fn the_clock_passes_over_rows_that_were_read_again() {
    use super::slots::{Slots, Used};
    let mut slots = Slots::new(10, 3);
    let mut seen = |ids: &[u32], trains: bool| {
        let (mut out, mut used) = (Vec::new(), Used::default());
        let enough = slots.resolve(ids, 1, trains, &mut out, &mut used).is_some();
        used.inserts.iter().for_each(|i| slots.arrived(i.slot));
        slots.release(&used.held, 1);
        enough.then_some(out)
    };
    assert_eq!(seen(&[7, 8, 9], true), Some(vec![0, 1, 2]));
    // 7 is read again in training, 8 in an evaluation.
    assert_eq!(seen(&[7], true), Some(vec![0]));
    assert_eq!(seen(&[8], false), Some(vec![1]));
    assert_eq!(seen(&[1], true), Some(vec![1]));
    // 9 is held; 7 has lost its mark.
    assert_eq!(seen(&[9, 2, 3], true), Some(vec![2, 0, 1]));
    assert_eq!(seen(&[4, 5, 6, 7], true), None);
}
