//! Messages between emulated devices, whose ranks are threads of one process. As on a real one an
//! exchange takes its turn in its stream, which goes no further before all of it has come; and what
//! a library could not tell is an error here: a piece meets one of the same size in the same
//! exchange, or the exchange comes to nothing.

use super::{Pieces, Streams, Task, has, rules::broken};
use crate::backend::{
    Result,
    cuda::driver::{
        Address,
        link::{ID_BYTES, Id, Link, Piece},
        stream::Stream,
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long ranks wait for each other at the start.
const MEETING: Duration = Duration::from_secs(60);

/// A piece on its way: of which exchange of its sender, and its bytes.
type Letter = (u64, Vec<u8>);

/// What ranks share.
#[derive(Debug, Default)]
struct Post {
    state: Mutex<Mail>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Mail {
    there: Vec<bool>,
    came: usize,
    /// By sender and receiver.
    letters: BTreeMap<(usize, usize), VecDeque<Letter>>,
    aborted: bool,
}

/// All posts, by what ranks find together by.
static POSTS: Mutex<BTreeMap<Id, Arc<Post>>> = Mutex::new(BTreeMap::new());

/// A new id.
pub(super) fn id() -> Id {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; ID_BYTES];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    id
}

/// An exchange that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    post: Arc<Post>,
    rank: usize,
    number: u64,
    send: Vec<Piece>,
    receive: Vec<Piece>,
    sent: bool,
}

impl Exchange {
    /// Does what can be done; whether all is done, or what is wrong.
    pub(super) fn poll(&mut self) -> std::result::Result<bool, String> {
        let mut mail = self.post.state.lock().unwrap();
        if !std::mem::replace(&mut self.sent, true) {
            for piece in &self.send {
                // SAFETY: whoever asked has promised so many words of the device's memory.
                let words =
                    unsafe { std::slice::from_raw_parts(piece.at as *const u8, 4 * piece.words) };
                let letters = mail.letters.entry((self.rank, piece.rank)).or_default();
                letters.push_back((self.number, words.to_vec()));
            }
        }
        let (me, number) = (self.rank, self.number);
        while let Some(piece) = self.receive.last() {
            let letters = mail.letters.entry((piece.rank, me)).or_default();
            let Some((of, bytes)) = letters.pop_front() else {
                let given_up = || Err("ranks have given up their exchanges".to_owned());
                return if mail.aborted { given_up() } else { Ok(false) };
            };
            if of != number || bytes.len() != 4 * piece.words {
                return Err(format!(
                    "rank {} sends {} words in its exchange {of}, and rank {me} expects {} in its exchange {number}",
                    piece.rank,
                    bytes.len() / 4,
                    piece.words
                ));
            }
            // SAFETY: whoever asked has promised so many words of the device's memory.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), piece.at as *mut u8, bytes.len());
            }
            self.receive.pop();
        }
        Ok(true)
    }
}

/// One rank's end.
#[derive(Debug)]
pub(super) struct Linked {
    post: Arc<Post>,
    id: Id,
    streams: Rc<RefCell<Streams>>,
    memory: Rc<RefCell<Pieces>>,
    rank: usize,
    begun: Cell<u64>,
}

impl Linked {
    /// Waits until all ranks are there.
    pub(super) fn join(
        streams: &Rc<RefCell<Streams>>,
        memory: &Rc<RefCell<Pieces>>,
        id: Id,
        (rank, size): (usize, usize),
    ) -> Result<Self> {
        let post = Arc::clone(POSTS.lock().unwrap().entry(id).or_default());
        let mut mail = post.state.lock().unwrap();
        if mail.there.is_empty() {
            mail.there = vec![false; size];
        }
        if mail.there.len() != size || rank >= size || mail.there[rank] {
            return Err(broken(format!("rank {rank} of {size} comes to {:?}", mail.there)));
        }
        mail.there[rank] = true;
        mail.came += 1;
        post.changed.notify_all();
        let missing = |mail: &mut Mail| mail.came < mail.there.len();
        let (mail, late) = post.changed.wait_timeout_while(mail, MEETING, missing).unwrap();
        if late.timed_out() {
            return Err(broken(format!("some ranks have not come: {:?}", mail.there)));
        }
        drop(mail);
        let (streams, memory) = (Rc::clone(streams), Rc::clone(memory));
        Ok(Linked { post, id, streams, memory, rank, begun: Cell::new(0) })
    }

    fn check_pieces(&self, pieces: &[Piece]) -> Result<()> {
        let size = self.post.state.lock().unwrap().there.len();
        for (k, piece) in pieces.iter().enumerate() {
            has(&self.memory.borrow(), piece.at, 4 * piece.words, "an exchange", false)?;
            let twice = pieces[..k].iter().any(|other| other.rank == piece.rank);
            if twice || piece.rank == self.rank || piece.rank >= size || piece.words == 0 {
                return Err(broken(format!("an exchange of {size} ranks with {pieces:?}")));
            }
        }
        Ok(())
    }
}

impl Link for Linked {
    unsafe fn exchange(&self, send: &[Piece], receive: &[Piece]) -> Result<()> {
        self.streams.borrow_mut().not_captured("an exchange between ranks")?;
        self.check_pieces(send)?;
        self.check_pieces(receive)?;
        let end = |p: &Piece| p.at + 4 * p.words as Address;
        let meet = |a: &Piece, b: &Piece| a.at < end(b) && b.at < end(a);
        for (k, piece) in receive.iter().enumerate() {
            if send.iter().chain(&receive[..k]).any(|other| meet(piece, other)) {
                return Err(broken("what is received overlaps another piece".into()));
            }
        }
        if self.post.state.lock().unwrap().aborted {
            return Err(broken("an exchange after ranks have given up".into()));
        }
        let number = self.begun.get() + 1;
        self.begun.set(number);
        let (post, rank) = (Arc::clone(&self.post), self.rank);
        let (send, receive) = (send.to_vec(), receive.to_vec());
        let exchange = Exchange { post, rank, number, send, receive, sent: false };
        self.streams.borrow_mut().ask(Stream::Compute, Task::Exchange(exchange))
    }

    /// Lets the device go on, which nothing else does while its host only looks.
    fn check(&self) -> Result<()> {
        self.streams.borrow_mut().look(Stream::Compute);
        self.streams.borrow().found()
    }

    fn abort(&self) {
        self.post.state.lock().unwrap().aborted = true;
        self.streams.borrow_mut().look(Stream::Compute);
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        let mut mail = self.post.state.lock().unwrap();
        mail.there[self.rank] = false;
        if mail.there.iter().any(|there| *there) {
            return;
        }
        POSTS.lock().unwrap().remove(&self.id);
        let left = mail.letters.values().any(|letters| !letters.is_empty());
        assert!(!left || mail.aborted || std::thread::panicking(), "pieces that nobody received");
    }
}
