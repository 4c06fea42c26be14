//! `[data]`: Criteo's logs as they come, and the records of facebook and MLPerf.

use super::{
    super::{Key, lens},
    common::{buffer, max_ind_range, on_error, paths, row_transform, tables},
};
use crate::{
    data::preprocess::criteo::TABLES,
    data::source::paths::is_pattern,
    workload::{
        CriteoSet, CriteoShuffle,
        DataConfig::{Bin40, CriteoTsv},
        DenseTransform, RecordShuffle,
        parse::key::key,
    },
};

pub(super) fn criteo_tsv() -> Vec<Key> {
    vec![
        key("data.set", lens!(data; CriteoTsv(d) => &mut d.set)).says(
            "`kaggle`: one file, cut into 7 \"days\"; `terabyte`: one file a day. The last day is \
             for evaluation",
        ),
        key("data.paths", lens!(data; CriteoTsv(d) => &mut d.paths))
            .check(|paths, w| {
                let CriteoTsv(d) = &w.data else { return Ok(()) };
                let n = paths.len();
                // How many those are is known when they are opened.
                if paths.iter().any(|path| is_pattern(path) || path.is_dir()) {
                    return Ok(());
                }
                match d.set {
                    CriteoSet::Kaggle if n != 1 => Err(format!(
                        "names {n} files; must name one, train.txt, with set = \"kaggle\""
                    )),
                    CriteoSet::Terabyte if n < 2 => Err(format!(
                        "names {n} file(s); must name the day files in order, at least 2, since the last one is for evaluation"
                    )),
                    _ => Ok(()),
                }
            })
            .says(
                "The file, or the day files in order, or their folder or a pattern \
                 (`logs/day_*.gz`), which means them in the order of their numbers; packed ones are \
                 unpacked while reading",
            ),
        max_ind_range(lens!(data; CriteoTsv(d) => &mut d.max_ind_range)).says("Ids modulo this"),
        key("data.sub_sample_rate", lens!(data; CriteoTsv(d) => &mut d.sub_sample_rate))
            .or(0.0)
            .within(0.0..1.0)
            .says("Share of negative samples left out"),
        key("data.shuffle", lens!(data; CriteoTsv(d) => &mut d.shuffle))
            .or(CriteoShuffle::Total)
            .says(
                "Order of training samples: `total` (all days together), `day` (within each day), \
                 `none`",
            ),
        on_error(lens!(data; CriteoTsv(d) => &mut d.on_error)),
        key("data.seed", lens!(data; CriteoTsv(d) => &mut d.seed))
            .or(123)
            .says("numpy's seed for sub-sampling and shuffling"),
    ]
}

pub(super) fn bin40() -> Vec<Key> {
    vec![
        paths("data.train", lens!(data; Bin40(d) => &mut d.train))
            .says("Training files, a day each; a file is named once"),
        key("data.eval", lens!(data; Bin40(d) => &mut d.eval)).says("Evaluation file"),
        key("data.test", lens!(data; Bin40(d) => &mut d.test))
            .or(None)
            .says("Test file, looked at once, after training"),
        tables(lens!(data; Bin40(d) => &mut d.tables))
            .or(None)
            .or_in_words("by the files")
            .check(|tables, _| match tables {
                Some(tables) if tables.len() != TABLES => Err(format!(
                    "has {} entries; must have {TABLES}, one for each categorical column of bin40",
                    tables.len()
                )),
                _ => Ok(()),
            })
            .says("Rows of each table"),
        max_ind_range(lens!(data; Bin40(d) => &mut d.max_ind_range))
            .says("Ids modulo this; tables then have at most so many rows"),
        row_transform(lens!(data; Bin40(d) => &mut d.dense_transform), DenseTransform::Log1pClamp0),
        key("data.shuffle", lens!(data; Bin40(d) => &mut d.shuffle)).or(RecordShuffle::None).says(
            "Order of training samples, new every epoch, from `train.seed`: `none`, `batch` (whole \
             batches), `day` (samples of each file) or `total` (samples of all files)",
        ),
        buffer(lens!(data; Bin40(d) => &mut d.buffer)),
    ]
}
