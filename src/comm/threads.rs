//! Ranks that are threads of one process, for tests: channels instead of a library.

use super::{Comm, CommError, Flight, Parcel, Patience, What};
use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

type Message = (What, Vec<u32>);
/// The number of a transfer, what it is, what was sent and what is to come.
type Begun = (u64, What, Vec<Parcel>, Vec<Parcel>);

/// One of some ranks.
pub struct Threads {
    rank: usize,
    to: Vec<Sender<Message>>,
    from: Vec<Receiver<Message>>,
    /// What came from each before it was waited for.
    early: RefCell<Vec<Vec<Message>>>,
    /// Transfers that have been begun.
    flights: RefCell<Vec<Begun>>,
    begun: Cell<u64>,
    failure: Arc<Mutex<Option<(usize, String)>>>,
    hosts: RefCell<Vec<String>>,
}

/// All of `size` ranks, each for a thread of its own.
pub fn ranks(size: usize) -> Vec<Threads> {
    let failure = Arc::new(Mutex::new(None));
    let mut to: Vec<Vec<Sender<Message>>> = (0..size).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<Receiver<Message>>> = (0..size).map(|_| Vec::new()).collect();
    for sender in &mut to {
        for receiver in &mut from {
            let (send, receive) = channel();
            sender.push(send);
            receiver.push(receive);
        }
    }
    let ends = to.into_iter().zip(from).enumerate();
    let rank = |(rank, (to, from))| Threads {
        rank,
        to,
        from,
        early: RefCell::new((0..size).map(|_| Vec::new()).collect()),
        flights: RefCell::default(),
        begun: Cell::new(0),
        failure: Arc::clone(&failure),
        hosts: RefCell::new(vec!["here".into(); size]),
    };
    ends.map(rank).collect()
}

impl Threads {
    /// The next message of a kind from a rank.
    fn from(&self, rank: usize, what: What, patience: Patience) -> Result<Vec<u32>, CommError> {
        let early = &mut self.early.borrow_mut()[rank];
        if let Some(at) = early.iter().position(|message| message.0 == what) {
            return Ok(early.remove(at).1);
        }
        let wait = match patience {
            Patience::For(time) => time,
            Patience::Unlimited => Duration::from_secs(60),
        };
        let mut waited = Duration::ZERO;
        let slice = Duration::from_millis(10);
        loop {
            if let Some((rank, message)) = self.failure.lock().unwrap().clone() {
                return Err(CommError::Failed { rank, host: self.host(rank), message });
            }
            match self.from[rank].recv_timeout(slice.min(wait)) {
                Ok((came, words)) if came == what => return Ok(words),
                Ok(message) => early.push(message),
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(slice),
                Err(RecvTimeoutError::Timeout) => {}
            }
            waited += slice;
            if waited > wait {
                let (seconds, host) = (wait.as_secs(), self.host(rank));
                return Err(CommError::Late { rank, host, what, sends: true, seconds });
            }
        }
    }
}

impl Comm for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn begin(
        &self,
        what: What,
        send: Vec<Parcel>,
        receive: Vec<Parcel>,
    ) -> Result<Flight, CommError> {
        for parcel in &send {
            // Whoever has gone is noticed when it should have sent something.
            let _ = self.to[parcel.rank].send((what, parcel.words.clone()));
        }
        let number = self.begun.get();
        self.begun.set(number + 1);
        self.flights.borrow_mut().push((number, what, send, receive));
        Ok(Flight(number))
    }

    fn progress(&self) {}

    fn finish(
        &self,
        Flight(number): Flight,
        patience: Patience,
    ) -> Result<(Vec<Parcel>, Vec<Parcel>), CommError> {
        let mut flights = self.flights.borrow_mut();
        let at = flights.iter().position(|f| f.0 == number).expect("it was begun");
        let (_, what, send, mut receive) = flights.remove(at);
        for parcel in &mut receive {
            let words = self.from(parcel.rank, what, patience)?;
            let (rank, got, want) = (parcel.rank, words.len(), parcel.words.len());
            if got != want {
                return Err(CommError::Size { rank, host: self.host(rank), what, got, want });
            }
            parcel.words = words;
        }
        Ok((send, receive))
    }

    fn arrived(&self, what: What, ranks: &[usize]) -> Result<Option<usize>, CommError> {
        if let Some((rank, message)) = self.failure.lock().unwrap().clone() {
            return Err(CommError::Failed { rank, host: self.host(rank), message });
        }
        let mut early = self.early.borrow_mut();
        let there = |&rank: &usize| {
            early[rank].extend(self.from[rank].try_iter());
            early[rank].iter().any(|(came, _)| *came == what)
        };
        Ok(ranks.iter().copied().find(there))
    }

    fn host(&self, rank: usize) -> String {
        self.hosts.borrow()[rank].clone()
    }

    fn know_hosts(&self, hosts: Vec<String>) {
        *self.hosts.borrow_mut() = hosts;
    }

    fn fail(&self, message: &str) {
        let mut failure = self.failure.lock().unwrap();
        failure.get_or_insert((self.rank, message.to_owned()));
    }

    fn library(&self) -> String {
        "threads".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::{all_gather, text_words, words_text};

    #[test]
    fn all_gather_has_the_words_of_all_in_order() {
        let threads = ranks(3).into_iter().map(|comm| {
            std::thread::spawn(move || {
                let own = [comm.rank() as u32, 7];
                all_gather(&comm, What::StepSums, Patience::Unlimited, &own).unwrap()
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            assert_eq!(thread.join().unwrap(), [[0, 7], [1, 7], [2, 7]]);
        }
    }

    #[test]
    fn transfers_of_several_kinds_are_under_way_at_once() {
        let threads = ranks(2).into_iter().map(|comm| {
            std::thread::spawn(move || {
                let other = 1 - comm.rank();
                let parcel = |word| vec![Parcel { rank: other, words: vec![word] }];
                let begin = |what, word| comm.begin(what, parcel(word), parcel(0)).unwrap();
                let flights =
                    [(What::Pooled, 1), (What::Sums, 2), (What::Sums, 3)].map(|(w, x)| begin(w, x));
                comm.progress();
                let [pooled, first, second] = flights;
                let came = [first, pooled, second]
                    .map(|flight| comm.finish(flight, Patience::Unlimited).unwrap().1[0].words[0]);
                assert_eq!(came, [2, 1, 3]);
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn who_is_late_or_fails_is_named() {
        let all = ranks(2);
        let wait = Patience::For(Duration::from_millis(30));
        let expect = |len| vec![Parcel { rank: 1, words: vec![0; len] }];
        let late = all[0].transfer(What::Pooled, wait, &mut Vec::new(), &mut expect(2));
        assert_eq!(
            late.unwrap_err().to_string(),
            "rank 1 (host here) has not sent pooled vectors for 0 s"
        );
        let mut three = vec![Parcel { rank: 0, words: vec![1, 2, 3] }];
        all[1].transfer(What::Pooled, wait, &mut three, &mut Vec::new()).unwrap();
        let long = all[0].transfer(What::Pooled, wait, &mut Vec::new(), &mut expect(2));
        assert_eq!(
            long.unwrap_err().to_string(),
            "rank 1 (host here) sent 3 words of pooled vectors, and 2 were expected"
        );
        all[1].fail("no memory");
        let failed = all[0].transfer(What::Pooled, wait, &mut Vec::new(), &mut expect(2));
        assert_eq!(failed.unwrap_err().to_string(), "rank 1 (host here): no memory");
    }

    #[test]
    fn text_is_the_same_after_its_journey() {
        for text in ["", "a", "abcd", "Größe — 7"] {
            assert_eq!(words_text(&text_words(text)), text);
        }
    }
}
