//! A message from whichever rank is first: what asynchronous work waits for.

use super::{Comm, CommError, Patience, What, pause::Pauses};
use std::time::Instant;

/// Waits until a parcel of this kind has come from one of `ranks`, and returns which; of several the
/// first as listed. `None` if none has come within `patience`.
///
/// # Errors
/// If a rank has failed.
pub fn first(
    comm: &dyn Comm,
    what: What,
    ranks: &[usize],
    patience: Patience,
) -> Result<Option<usize>, CommError> {
    let began = Instant::now();
    let mut pauses = Pauses::default();
    loop {
        let found = comm.arrived(what, ranks)?;
        let over = matches!(patience, Patience::For(most) if began.elapsed() > most);
        if found.is_some() || over {
            return Ok(found);
        }
        pauses.pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::{Parcel, threads};
    use std::time::Duration;

    #[test]
    fn who_has_sent_is_found_and_nothing_is_lost() {
        let mut all = threads::ranks(3).into_iter();
        let (a, b, c) = (all.next().unwrap(), all.next().unwrap(), all.next().unwrap());
        let wait = Patience::For(Duration::from_millis(20));
        assert_eq!(first(&a, What::StepEnd, &[1, 2], wait), Ok(None));
        let send = |from: &threads::Threads, what, word| {
            let mut parcel = vec![Parcel { rank: 0, words: vec![word] }];
            from.transfer(what, wait, &mut parcel, &mut Vec::new()).unwrap();
        };
        send(&b, What::Values, 1);
        send(&c, What::StepEnd, 2);
        // What is of another kind waits for whoever wants it.
        assert_eq!(first(&a, What::StepEnd, &[1, 2], wait), Ok(Some(2)));
        assert_eq!(first(&a, What::StepEnd, &[1, 2], wait), Ok(Some(2)), "it is only looked at");
        for (rank, what, word) in [(1, What::Values, 1), (2, What::StepEnd, 2)] {
            let mut parcel = vec![Parcel { rank, words: vec![0] }];
            a.transfer(what, wait, &mut Vec::new(), &mut parcel).unwrap();
            assert_eq!(parcel[0].words, [word]);
        }
        assert_eq!(first(&a, What::StepEnd, &[1, 2], wait), Ok(None));
        c.fail("no memory");
        assert!(matches!(
            first(&a, What::StepEnd, &[1], wait),
            Err(CommError::Failed { rank: 2, .. })
        ));
    }
}
