//! Segments in memory and in the file against a plain map.

use super::super::{
    CachedColumn, CachedSpec, CachedStore, Field, Reads, Record, RowFileError, RowSizes, RowStore,
    log::{LEAST_RECORDS, Log, Owner, file_bytes},
};
use crate::{
    batch::{Column, Schema},
    embedding::RowKind,
    host::Size,
};
use proptest::prelude::*;
use std::{collections::HashMap, path::Path};

/// Where the newest record of each row is.
#[derive(Default)]
struct Map(HashMap<u32, u32>);

impl Owner for Map {
    fn is_at(&self, _: u32, row: u32, place: u32) -> bool {
        self.0.get(&row) == Some(&place)
    }

    fn moved(&mut self, _: u32, row: u32, place: u32) {
        self.0.insert(row, place);
    }
}

/// Bytes of a record and of what it keeps.
const RECORD: u64 = 32;
const PACKED: usize = 20;

fn put(log: &mut Log, map: &mut Map, row: u32, value: u8) -> Result<(), RowFileError> {
    if let Some(old) = map.0.remove(&row) {
        log.forget(old);
    }
    let place = log.append((0, row), &mut |out| out.fill(value), map)?;
    map.moved(0, row, place);
    Ok(())
}

/// A record by a read of its own, or with those of other rows, as steps read them.
fn get(log: &mut Log, map: &Map, row: u32) -> u8 {
    let (place, bytes) = (map.0[&row], &mut Vec::new());
    let read = match log
        .fetch(&[place])
        .unwrap()
        .filter(|_| row.is_multiple_of(2) && !log.in_memory(place))
    {
        Some(fetch) => {
            fetch.wait();
            log.fetched(&fetch, 0, (0, row), bytes).unwrap()
        }
        None => log.read(place, (0, row), bytes).unwrap(),
    };
    assert!(read.len() == PACKED && read.iter().all(|&b| b == read[0]));
    read[0]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What was written last is read, wherever it has gone meanwhile, and rewriting finds it there.
    #[test]
    fn the_newest_of_each_row_is_kept_in_memory_or_in_the_file(
        writes in prop::collection::vec((0u32..40, any::<u8>(), 0u8..4), 1..1200),
        memory in 16u64..120,
        disk in 64u64..120,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut log =
            Log::behind_memory(folder.path(), memory * RECORD, disk * RECORD, PACKED, Reads::default()).unwrap();
        let (mut map, mut want) = (Map::default(), HashMap::new());
        for (row, value, how) in writes {
            match map.0.get(&row).copied() {
                Some(place) if how == 0 => {
                    log.rewrite(place, (0, row), &mut |out| out.fill(value)).unwrap()
                }
                _ => put(&mut log, &mut map, row, value).unwrap(),
            }
            want.insert(row, value);
            prop_assert!(log.bytes_in_files() <= disk * RECORD);
        }
        for (row, value) in want {
            prop_assert_eq!(get(&mut log, &map, row), value);
        }
    }
}

/// Only what memory has no room for is written, and counted; without a file nothing is made.
#[test]
fn memory_is_filled_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut log =
        Log::behind_memory(folder.path(), 64 * RECORD, 64 * RECORD, PACKED, Reads::default())
            .unwrap();
    let mut map = Map::default();
    // 16 segments of 4 in memory.
    (0..64).for_each(|row| put(&mut log, &mut map, row, row as u8).unwrap());
    assert!(log.written_of.is_empty() && (0..64).all(|row| log.in_memory(map.0[&row])));
    put(&mut log, &mut map, 64, 64).unwrap();
    assert_eq!(log.written_of, [4 * RECORD]);
    // The oldest have gone.
    let gone: Vec<u32> = (0..65).filter(|row| !log.in_memory(map.0[row])).collect();
    assert_eq!(gone, [0, 1, 2, 3]);
    // As many as there is room for; one segment is kept to clean into.
    let full =
        (65..200).find_map(|row| Some((row, put(&mut log, &mut map, row, row as u8).err()?)));
    let (row, error) = full.unwrap();
    assert_eq!(row, 31 * 4);
    assert!(error.to_string().contains("all its 2KiB hold rows that are in use"), "{error}");
    (0..row).for_each(|row| assert_eq!(get(&mut log, &map, row), row as u8));

    let nowhere = folder.path().join("nowhere");
    let mut log = Log::behind_memory(&nowhere, 200 * RECORD, 0, PACKED, Reads::default()).unwrap();
    let mut map = Map::default();
    // It is cleaned in memory.
    for n in 0..2000u32 {
        put(&mut log, &mut map, n * 7 % 90, n as u8).unwrap();
    }
    for n in 1910..2000u32 {
        assert_eq!(get(&mut log, &map, n * 7 % 90), n as u8);
    }
    assert!(!nowhere.exists() && log.written_of.is_empty());
}

fn schema(rows: usize) -> Schema {
    let tables = vec![Column { name: "C0".to_owned(), rows, max_hotness: 1 }];
    Schema { dense: 0, tables }
}

/// The GPU's memory has slots of bare rows, the host's records, and the file what is left; by hand.
#[test]
fn budgets_of_three_kinds_of_memory() {
    let sizes = RowSizes { memory: 100, packed: PACKED };
    let spec = |device_cache, cache, disk: Option<u64>| {
        let store = CachedStore {
            cache: Size(cache),
            device_cache: Some(Size(device_cache)),
            disk: disk.map(Size),
            ..CachedStore::default()
        };
        CachedSpec::new(&store, &schema(1000), sizes, 10)
    };
    let (all, least) = (file_bytes(1000, PACKED), LEAST_RECORDS * RECORD);
    let given = spec(5_099, 10_000, None).unwrap();
    assert_eq!(given.columns[0].slots, 50);
    assert_eq!((given.host, given.disk), (Some(10_000), all - 10_000));
    // Memory for all: no file. Little less: the least that a file has.
    let given = spec(5_000, 1 << 30, None).unwrap();
    assert_eq!((given.host, given.disk), (Some(all), 0));
    assert_eq!(spec(5_000, all - 1, None).unwrap().disk, least);
    assert_eq!(spec(5_000, 10_000, Some(9_000)).unwrap().disk, 9_000);
    for (refused, key) in [
        (spec(999, 10_000, None), "embedding.device_cache"),
        (spec(5_000, least - 1, None), "embedding.cache"),
        (spec(5_000, 10_000, Some(least - 1)), "embedding.disk"),
    ] {
        let (named, what) = refused.unwrap_err();
        assert!(named == key && what.contains("must be at least"), "{named}: {what}");
    }
}

/// Rows that come back are counted by where they come from: memory, the file, or neither.
#[test]
fn rows_from_memory_and_from_the_file_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let counts = |host, disk| {
        let columns = vec![CachedColumn { name: "C0".to_owned(), rows: 200, slots: 4 }];
        let folder: &Path = folder.path();
        let (folder, reads) = (folder.to_owned(), Reads::default());
        let spec = CachedSpec { cache: 0, host, disk, columns, folder, reads };
        let record = Record::new(vec![Field { width: 5, kind: RowKind::Fp32 }]);
        let mut store = RowStore::new(&spec, record).unwrap();
        let mut bytes = Vec::new();
        // Each row twice, the second time long after.
        for row in (0..100u32).chain(0..100) {
            let mut resolved = store.begin(true).unwrap();
            assert!(store.resolve(&mut resolved, 0, &[row]));
            for e in resolved.evicted(0) {
                let fill = &mut |_: &Record, out: &mut [u8]| out.fill(e.row as u8);
                store.keep(0, e.row, fill).unwrap();
            }
            store.fetch(&mut resolved).unwrap();
            if let Some(read) = store.fetched(&resolved, 0, 0, &mut bytes).unwrap() {
                assert_eq!(read, [row as u8; 20]);
            }
            store.arrived(&mut resolved);
            store.dirty(&resolved);
            store.release(resolved);
        }
        let c = store.counts(0).unwrap();
        assert_eq!((c.misses, c.bytes_read), (200, c.reads * RECORD));
        [c.host_reads, c.reads, c.bytes_written / RECORD]
    };
    assert_eq!(counts(None, 400 * RECORD), [0, 100, 196]);
    assert_eq!(counts(Some(400 * RECORD), 0), [100, 0, 0]);
    // Of 16 segments of 4 the oldest go: what comes back is in the file by then.
    let [memory, file, written] = counts(Some(64 * RECORD), 400 * RECORD);
    assert!(memory == 0 && file == 100 && (100..196).contains(&written), "{file} {written}");
}
