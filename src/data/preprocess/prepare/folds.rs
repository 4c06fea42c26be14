//! Folds with the same share of positives in each, as scikit-learn 0.19.1 draws them (sklearn/model_selection/_split.py, `StratifiedKFold` with
//! `shuffle=True`, on `KFold`): the published split of Criteo_x4 needs that version, since later ones draw otherwise. Each class is shuffled by numpy's
//! generator, label 0 first, and cut into folds of equal size, the first ones one larger.

use super::{
    PrepareError, Randomize, Tell,
    order::{ORDERED, Part, deal, random_keys},
    recipe::Form,
    records::Records,
    run::{RECORDS, Worker},
    state::Checkpoint,
};
use crate::random::numpy::RandomState;

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
pub fn order(worker: &Worker, checkpoint: &mut Checkpoint, tell: Tell) -> Result<Sizes, PrepareError> {
    if checkpoint.find(ORDERED).is_none() {
        let samples = checkpoint.tally.total();
        // Labels and folds, a permutation of the larger class.
        worker.enough(6 * samples, "cutting folds")?;
        let seed = checkpoint.parameters.seed;
        let folds = folds(&labels(worker, samples)?, seed);
        let mut parts: Vec<Part> = (0..FOLDS).map(|_| Part { samples: 0, sorted: false }).collect();
        folds.iter().for_each(|&fold| parts[usize::from(fold)].samples += 1);
        let sizes = [parts[0].samples, parts[1].samples, parts[2..].iter().map(|p| p.samples).sum()];
        worker.refuse_empty(&[("test", sizes[0]), ("val", sizes[1]), ("train", sizes[2])])?;
        if checkpoint.parameters.randomize != Randomize::None {
            parts.truncate(2);
            parts.push(Part { samples: sizes[2], sorted: true });
        }
        let keys = random_keys(seed);
        let go = |sample| (usize::from(folds[sample as usize]).min(parts.len() - 1), keys(sample));
        let written = deal(worker, Form::Raw, RECORDS[0], &parts, go, ORDERED, tell)?;
        checkpoint.sizes = sizes.into();
        checkpoint.done(worker, ORDERED, written)?;
    }
    worker.drop_records(checkpoint, 0)?;
    let &[test, val, train] = &checkpoint.sizes[..] else { return Err(worker.unusable()) };
    Ok(Sizes { test, val, train })
}

fn labels(worker: &Worker, samples: u64) -> Result<Vec<u8>, PrepareError> {
    let mut labels = Vec::with_capacity(samples as usize);
    let mut records = Records::open(&worker.path(RECORDS[0]), Form::Raw, 0, samples)?;
    loop {
        worker.interrupted()?;
        let batch = records.next()?;
        if batch.len() == 0 {
            return Ok(labels);
        }
        labels.extend(batch.map(|record| record.label()));
    }
}

/// The fold of each sample, by labels of 0 and 1.
fn folds(labels: &[u8], seed: u32) -> Vec<u8> {
    let mut numpy = RandomState::new(seed);
    let mut of_class = [0, 1].map(|class| {
        let count = labels.iter().filter(|&&y| y == class).count();
        if count == 0 { Vec::new() } else { class_folds(count, &mut numpy) }.into_iter()
    });
    labels.iter().map(|&y| of_class[usize::from(y)].next().unwrap_or(0)).collect()
}

/// The fold of each of `count` samples.
fn class_folds(count: usize, numpy: &mut RandomState) -> Vec<u8> {
    // Of fewer samples than folds the original shuffles as many as there are folds.
    let places = count.max(FOLDS);
    let mut order: Vec<u32> = (0..places as u32).collect();
    numpy.shuffle(&mut order);
    let mut folds = vec![0; count];
    let (size, larger) = (places / FOLDS, places % FOLDS);
    let mut rest = order.as_slice();
    for fold in 0..FOLDS {
        let (members, after) = rest.split_at(size + usize::from(fold < larger));
        rest = after;
        for &member in members {
            if let Some(place) = folds.get_mut(member as usize) {
                *place = fold as u8;
            }
        }
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_have_equal_shares_of_each_class() {
        let labels: Vec<u8> = (0..1234).map(|i| u8::from(i % 7 < 2)).collect();
        let found = folds(&labels, 2018);
        let count = |fold: u8, class: u8| found.iter().zip(&labels).filter(|&(&f, &y)| f == fold && y == class).count();
        let positives = labels.iter().filter(|&&y| y == 1).count();
        for fold in 0..FOLDS as u8 {
            for (class, all) in [(0, labels.len() - positives), (1, positives)] {
                assert_eq!(count(fold, class), all / FOLDS + usize::from(usize::from(fold) < all % FOLDS));
            }
        }
        assert_ne!(folds(&labels, 1), found);
        // Fewer positives than folds.
        assert_eq!(folds(&[1, 0, 1], 5).len(), 3);
        assert!(folds(&[], 5).is_empty());
    }
}
