//! Records are read into a batch without an allocation, once the largest batch has been seen.

#[path = "support/counting.rs"]
mod counting;

use dlrm_bench::{
    batch::Batch,
    data::{
        format::{Format, create},
        rows::{Layout, Numbers, Rows},
        source::{DrawOrder, OpenSettings, bin40},
    },
    workload::{Bin40Config, DenseTransform, RecordShuffle},
};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

#[test]
fn reading_records_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, layout) = (dir.path().join("a.bin"), Layout::criteo(Numbers::Int32));
    let mut rows = Rows::new(&layout);
    for i in 0..1000u32 {
        rows.labels.push((i % 2) as f32);
        rows.dense.extend([f64::from(i * 7); 13]);
        rows.ids.iter_mut().for_each(|b| b.push([i % 50]));
    }
    let mut writer = create(&path, Format::Bin40, &layout).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
    let draw = DrawOrder::default();
    let settings = OpenSettings { batch_size: 64, seed: 1, threads: 1, shards: None, draw };
    let config = Bin40Config {
        train: vec![path.clone()],
        eval: path,
        test: None,
        tables: Some(vec![40; 26]),
        max_ind_range: Some(40),
        dense_transform: DenseTransform::Log1pClamp0,
        shuffle: RecordShuffle::Batch,
        buffer: None,
    };
    let made = counting::fewest(|| {
        let mut source = bin40::open(&config, &settings).unwrap().train;
        let mut batch = Batch::with_capacity(source.schema(), 64);
        source.fill(0, 0, 64, &mut batch).unwrap();
        let before = counting::calls();
        for epoch in 0..3 {
            for start in (0..1000).step_by(64) {
                source.fill(epoch, start, 64.min(1000 - start as usize), &mut batch).unwrap();
            }
        }
        counting::calls() - before
    });
    assert_eq!(made, 0);
}
