//! Folds with the same share of positives in each, as scikit-learn 0.19.1 draws them
//! (sklearn/model_selection/_split.py, `StratifiedKFold` with `shuffle=True`, on `KFold`): the
//! published split of Criteo_x4 needs that version, since later ones draw otherwise. Each class is
//! shuffled by numpy's generator, label 0 first, and cut into folds of equal size, the first ones
//! one larger.

use super::{
    order::{ORDERED, Part, deal, random_keys},
    partition,
    permutation::Permutation,
    records::{Form, Records},
};
use crate::{
    data::preprocess::prepare::{
        PrepareError, Randomize, Tell,
        state::{checkpoint::Checkpoint, growing::Growing},
        worker::{RECORDS, Worker},
    },
    random::numpy::RandomState,
};
use std::{
    fs::File,
    io::{BufReader, Read},
    path::PathBuf,
};

/// Folds.
pub const FOLDS: usize = 10;

/// Samples of the parts of Criteo_x4: the first fold is for testing, the second one for validation.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub test: u64,
    pub val: u64,
    pub train: u64,
}

/// What is known of [`Sizes`] before the labels are: of each class the first folds are one larger.
pub fn most(samples: u64) -> Sizes {
    let fold = (samples.div_ceil(FOLDS as u64) + 1).min(samples);
    Sizes { test: fold, val: fold, train: samples - samples / FOLDS as u64 * 2 }
}

/// Puts all samples into [`ORDERED`]: `test`, `val`, then `train`, shuffled or fold by fold.
///
/// # Errors
/// If a part has no samples, or memory does not suffice; or as [`deal`].
pub fn order(
    worker: &Worker,
    checkpoint: &mut Checkpoint,
    tell: Tell,
) -> Result<Sizes, PrepareError> {
    if checkpoint.find(ORDERED).is_none() {
        let (samples, positives) = (checkpoint.tally.total(), checkpoint.tally.positives);
        let seed = checkpoint.parameters.seed;
        let mut folds = Folds::draw(worker, [samples - positives, positives], seed)?;
        let (path, of_fold) = deal_folds(worker, samples, &mut folds)?;
        drop(folds);
        let mut parts: Vec<Part> =
            of_fold.iter().map(|&samples| Part { samples, sorted: false }).collect();
        let sizes = [of_fold[0], of_fold[1], of_fold[2..].iter().sum()];
        worker.refuse_empty(&[("test", sizes[0]), ("val", sizes[1]), ("train", sizes[2])])?;
        if checkpoint.parameters.randomize != Randomize::None {
            parts.truncate(2);
            parts.push(Part { samples: sizes[2], sorted: true });
        }
        let (keys, last) = (random_keys(seed), parts.len() - 1);
        let mut folds =
            File::open(&path).map(BufReader::new).map_err(PrepareError::write(&path))?;
        let go = |sample| {
            let mut fold = [0];
            folds.read_exact(&mut fold).map_err(PrepareError::write(&path))?;
            Ok((usize::from(fold[0]).min(last), keys(sample)?))
        };
        let written = deal(worker, Form::Raw, RECORDS[0], &parts, go, ORDERED, tell)?;
        partition::remove(&[path])?;
        checkpoint.sizes = sizes.into();
        checkpoint.mark_written(worker, ORDERED, written)?;
    }
    worker.drop_records(checkpoint, 0)?;
    let &[test, val, train] = &checkpoint.sizes[..] else { return Err(worker.unusable()) };
    Ok(Sizes { test, val, train })
}

/// Writes the fold of each sample to a file, a byte each. Tells its path, and how many samples each
/// fold has.
fn deal_folds(
    worker: &Worker,
    samples: u64,
    folds: &mut Folds,
) -> Result<(PathBuf, [u64; FOLDS]), PrepareError> {
    let path = worker.path("folds.u8");
    let mut out = Growing::create(&path)?;
    let mut records = Records::open(&worker.path(RECORDS[0]), Form::Raw, 0, samples)?;
    let (mut of_fold, mut bytes) = ([0; FOLDS], Vec::new());
    loop {
        worker.interrupted()?;
        let batch = records.next()?;
        if batch.len() == 0 {
            return Ok((path, of_fold));
        }
        bytes.clear();
        for record in batch {
            let fold = folds.next(record.label())?;
            of_fold[usize::from(fold)] += 1;
            bytes.push(fold);
        }
        out.append(&bytes)?;
    }
}

/// Tells folds, by labels of 0 and 1 in order of the samples.
struct Folds {
    /// Of each class: the places that its samples are shuffled to, and how many places there are.
    classes: [(Permutation, u64); 2],
}

impl Folds {
    /// For so many samples of label 0 and of label 1.
    fn draw(worker: &Worker, counts: [u64; 2], seed: u32) -> Result<Self, PrepareError> {
        let mut numpy = RandomState::new(seed);
        let mut class = |name, count: u64| {
            // A class without samples draws nothing; of fewer samples than folds the original
            // shuffles as many as there are folds.
            let places = if count == 0 { 0 } else { count.max(FOLDS as u64) };
            Ok::<_, PrepareError>((
                Permutation::shuffled(worker, name, places, &mut numpy, 8)?,
                places,
            ))
        };
        Ok(Folds { classes: [class("negative", counts[0])?, class("positive", counts[1])?] })
    }

    /// The fold of the next sample of this label.
    fn next(&mut self, label: u8) -> Result<u8, PrepareError> {
        let (places, all) = &mut self.classes[usize::from(label)];
        Ok(fold(u64::from(places.next()?), *all))
    }
}

/// The fold of a place among so many: all have equally many, the first ones one more if it does not
/// come out even.
fn fold(place: u64, places: u64) -> u8 {
    let (size, larger) = (places / FOLDS as u64, places % FOLDS as u64);
    let in_larger = larger * (size + 1);
    (if place < in_larger { place / (size + 1) } else { larger + (place - in_larger) / size }) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_equal_ranges_of_places() {
        for places in [10, 11, 19, 20, 1234] {
            let of: Vec<u8> = (0..places).map(|place| fold(place, places)).collect();
            assert!(of.is_sorted());
            for fold in 0..FOLDS as u64 {
                let size = of.iter().filter(|&&f| u64::from(f) == fold).count() as u64;
                assert_eq!(size, places / 10 + u64::from(fold < places % 10), "{places}");
            }
        }
    }
}
