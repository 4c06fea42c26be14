//! Ranks that are processes, started by `mpirun`, `srun` or the like; messages go by MPI.
//!
//! libmpi is loaded when a program is found to be launched, so that building needs none and one
//! binary serves Open MPI, MPICH, Intel MPI and the standard interface of MPI 5. Only messages
//! between two ranks are used: a wait for a collective could not say for whom it waits.

mod abi;
mod alive;
mod launcher;

use super::{
    Comm, CommError, Flight, Parcel, Patience, What, pause::Pauses, text_words, words_text,
};
use abi::{Functions, Handle, Status};
use std::{
    cell::{Cell, RefCell},
    ffi::{c_char, c_int, c_void},
    mem,
    ptr::null_mut,
    time::Instant,
};

pub use launcher::{Launcher, launched};

/// Words of a message at most: counts are ints, and bytes are counted.
const MOST: usize = 1 << 28;
/// The tag of what a rank says that cannot go on; others are those of [`What`], from 1.
const FAILURE: c_int = 0;
/// Words of such a message at most.
const FAILURE_WORDS: usize = 256;

/// Why MPI cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MpiError {
    /// No library was found.
    #[error(
        "this process was started by {launcher} as one of {size} ranks, and no MPI library can be loaded (tried {tried}); name it by DLRM_BENCH_MPI=/path/to/libmpi.so: {why}"
    )]
    NoLibrary {
        /// Who started it.
        launcher: &'static str,
        /// Ranks.
        size: usize,
        /// The names that were tried.
        tried: String,
        /// What the loader said last.
        why: String,
    },
    /// Launcher and library do not know of each other: each process would train alone.
    #[error(
        "{launcher} has started {launched} ranks, but {library} sees {seen}: it is another MPI's library; use that MPI's launcher, or name the launcher's library by DLRM_BENCH_MPI=/path/to/libmpi.so{hint}"
    )]
    OtherLauncher {
        /// Who started the ranks.
        launcher: &'static str,
        /// How many.
        launched: usize,
        /// The library.
        library: String,
        /// How many it knows of.
        seen: usize,
        /// What else may help.
        hint: &'static str,
    },
    /// Anything that the library says.
    #[error("{0}")]
    Library(String),
}

/// The ranks of `MPI_COMM_WORLD`.
pub struct Mpi {
    mpi: Functions,
    rank: usize,
    size: usize,
    library: String,
    hosts: RefCell<Vec<String>>,
    /// Transfers that have been begun. What is in flight is never freed, whatever happens.
    flights: RefCell<Vec<Transfer>>,
    begun: Cell<u64>,
    /// Whether a transfer has failed.
    broken: Cell<bool>,
}

/// A transfer that has been begun.
struct Transfer {
    number: u64,
    what: What,
    send: Vec<Parcel>,
    receive: Vec<Parcel>,
    /// What has not gone or come yet.
    pieces: Vec<Piece>,
    /// What was wrong with one of them.
    error: Option<CommError>,
}

/// Part of a parcel on its way.
struct Piece {
    request: Handle,
    /// The other rank.
    rank: usize,
    sends: bool,
    /// Words that are expected, or sent.
    words: usize,
    /// Words that came.
    came: usize,
}

impl Mpi {
    /// Joins the other ranks, if this process was launched as one of several.
    ///
    /// # Errors
    /// If there is no library, or it is not the launcher's.
    pub fn join() -> Result<Option<Self>, MpiError> {
        let Some((launcher, launched)) = launched() else { return Ok(None) };
        let named = std::env::var("DLRM_BENCH_MPI").ok();
        let tried = launcher::libraries(named.as_deref());
        let mut why = String::new();
        let found = tried.iter().find_map(|name| match Functions::load(name) {
            Ok(found) => Some(found),
            Err(e) => {
                why = e.to_string();
                None
            }
        });
        let Some(mpi) = found else {
            let (launcher, tried) = (launcher.name, tried.join(", "));
            return Err(MpiError::NoLibrary { launcher, size: launched, tried, why });
        };
        let joined = Self::init(mpi)?;
        if joined.size == launched {
            return Ok(Some(joined));
        }
        let hint =
            if launcher.name == "srun" { " (with srun try --mpi=pmix or --mpi=pmi2)" } else { "" };
        Err(MpiError::OtherLauncher {
            launcher: launcher.name,
            launched,
            library: joined.library.clone(),
            seen: joined.size,
            hint,
        })
    }

    fn init(mpi: Functions) -> Result<Self, MpiError> {
        let world = mpi.constants.world;
        let (mut provided, mut rank, mut size) = (0, 0, 0);
        // SAFETY: MPI-2 and later take no arguments of main; all other pointers are to locals of the
        // types that the functions write.
        unsafe {
            let wanted = mpi.constants.serialized;
            let code = (mpi.init_thread)(null_mut(), null_mut(), wanted, &mut provided);
            if code != 0 {
                return Err(MpiError::Library(format!("MPI_Init_thread failed with code {code}")));
            }
            (mpi.set_errhandler)(world, mpi.constants.errors_return);
            (mpi.comm_rank)(world, &mut rank);
            (mpi.comm_size)(world, &mut size);
        }
        let library = version(&mpi);
        let (rank, size) = (rank as usize, size as usize);
        let hosts = RefCell::new(vec!["unknown".to_owned(); size]);
        Ok(Mpi {
            mpi,
            rank,
            size,
            library,
            hosts,
            flights: RefCell::default(),
            begun: Cell::new(0),
            broken: Cell::new(false),
        })
    }

    /// Leaves the other ranks; all of them do.
    pub fn finalize(&self) {
        if !self.broken.get() && self.flights.borrow().is_empty() {
            // SAFETY: no request is in flight.
            unsafe { (self.mpi.finalize)() };
        }
    }

    /// Whether ranks do not hear each other any more.
    pub fn broken(&self) -> bool {
        self.broken.get()
    }

    /// Ends the processes of all ranks with this exit code.
    pub fn abort(&self, code: i32) -> ! {
        // SAFETY: MPI is initialised and not finalised.
        unsafe { (self.mpi.abort)(self.mpi.constants.world, code) };
        std::process::exit(code)
    }

    /// An error of the library as text.
    fn check(&self, code: c_int) -> Result<(), CommError> {
        if code == 0 {
            return Ok(());
        }
        let mut text = [0_u8; 1024];
        let mut len = 0;
        // SAFETY: the buffer is longer than the longest text of each library (512).
        unsafe { (self.mpi.error_string)(code, text.as_mut_ptr().cast::<c_char>(), &mut len) };
        let text = String::from_utf8_lossy(&text[..(len as usize).min(text.len())]);
        Err(CommError::Library(format!("{}: {text}", self.library)))
    }

    /// Asks for all parts of a parcel to be sent or received.
    fn post(
        &self,
        what: What,
        parcel: &mut Parcel,
        sends: bool,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), CommError> {
        let Functions { constants, isend, irecv, .. } = &self.mpi;
        let (peer, tag) = (parcel.rank as c_int, what as c_int + 1);
        for part in parcel.words.chunks_mut(MOST) {
            let mut request = 0;
            let (at, bytes) = (part.as_mut_ptr().cast::<c_void>(), (4 * part.len()) as c_int);
            // SAFETY: the words stay where they are until their request is done, or for ever if
            // that does not happen (`flights`); there are so many bytes.
            let code = unsafe {
                match sends {
                    true => {
                        isend(at, bytes, constants.byte, peer, tag, constants.world, &mut request)
                    }
                    false => {
                        irecv(at, bytes, constants.byte, peer, tag, constants.world, &mut request)
                    }
                }
            };
            self.check(code)?;
            pieces.push(Piece {
                request,
                rank: parcel.rank,
                sends,
                words: part.len(),
                came: part.len(),
            });
        }
        Ok(())
    }

    /// Whether a piece has gone or come.
    fn done(&self, piece: &mut Piece) -> Result<bool, CommError> {
        let mut status: Status = [0; 16];
        let mut flag = 0;
        // SAFETY: the request is one that `post` has made and that was not done before.
        self.check(unsafe { (self.mpi.test)(&mut piece.request, &mut flag, &mut status) })?;
        if flag != 0 && !piece.sends {
            let mut bytes = 0;
            // SAFETY: the status is that of a receive which is done.
            self.check(unsafe {
                (self.mpi.get_count)(&status, self.mpi.constants.byte, &mut bytes)
            })?;
            piece.came = bytes as usize / 4;
        }
        Ok(flag != 0)
    }

    /// Whether a message of this tag has come from a rank.
    fn is_there(&self, rank: usize, tag: c_int) -> Result<bool, CommError> {
        let (world, from) = (self.mpi.constants.world, rank as c_int);
        let (mut there, mut status): (c_int, Status) = (0, [0; 16]);
        // SAFETY: pointers to locals.
        self.check(unsafe { (self.mpi.iprobe)(from, tag, world, &mut there, &mut status) })?;
        Ok(there != 0)
    }

    /// What another rank has said that cannot go on.
    fn failure(&self) -> Result<Option<CommError>, CommError> {
        let world = self.mpi.constants.world;
        for rank in super::others(self) {
            if !self.is_there(rank, FAILURE)? {
                continue;
            }
            let from = rank as c_int;
            let mut words = vec![0_u32; FAILURE_WORDS];
            let (mut request, byte) = (0, self.mpi.constants.byte);
            let (at, bytes) = (words.as_mut_ptr().cast::<c_void>(), (4 * words.len()) as c_int);
            // SAFETY: the message is there, and no longer than the buffer, which lives until it is
            // received.
            unsafe {
                self.check((self.mpi.irecv)(at, bytes, byte, from, FAILURE, world, &mut request))?;
                let (mut done, mut status): (c_int, Status) = (0, [0; 16]);
                while done == 0 {
                    self.check((self.mpi.test)(&mut request, &mut done, &mut status))?;
                }
            }
            let (host, message) = (self.host(rank), words_text(&words));
            return Ok(Some(CommError::Failed { rank, host, message }));
        }
        Ok(None)
    }

    /// Looks for pieces of a transfer that are done.
    fn settle(&self, transfer: &mut Transfer) {
        let Transfer { what, pieces, error, .. } = transfer;
        pieces.retain_mut(|piece| match self.done(piece) {
            Ok(true) if piece.came != piece.words => {
                let (rank, got, want) = (piece.rank, piece.came, piece.words);
                let host = self.host(rank);
                error.get_or_insert(CommError::Size { rank, host, what: *what, got, want });
                false
            }
            Ok(done) => !done,
            Err(e) => {
                error.get_or_insert(e);
                true
            }
        });
    }

    /// Waits for all pieces of a transfer.
    fn wait(&self, transfer: &mut Transfer, patience: Patience) -> Result<(), CommError> {
        let (began, what) = (Instant::now(), transfer.what);
        let mut pauses = Pauses::default();
        loop {
            self.settle(transfer);
            if let Some(error) = transfer.error.take() {
                return Err(error);
            }
            let Some(piece) = transfer.pieces.first() else { return Ok(()) };
            if !pauses.pause() {
                continue;
            }
            if let Some(failed) = self.failure()? {
                return Err(failed);
            }
            let (rank, sends) = (piece.rank, !piece.sends);
            self.answer(rank, sends)?;
            let waited = began.elapsed();
            if matches!(patience, Patience::For(most) if waited > most) {
                let ((rank, sends), seconds) = (self.culprit(rank, sends)?, waited.as_secs());
                return Err(CommError::Late { rank, host: self.host(rank), what, sends, seconds });
            }
        }
    }

    /// After this there is no other transfer, and what is in flight stays where it is: some of it
    /// may still be on its way, whenever it arrives.
    fn give_up(&self, transfer: Transfer) {
        self.broken.set(true);
        self.flights.borrow_mut().push(transfer);
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        mem::forget(mem::take(self.flights.get_mut()));
    }
}

/// What a library calls itself: its first line, without what follows a comma.
fn version(mpi: &Functions) -> String {
    let mut text = vec![0_u8; 8192 + 1];
    let mut len = 0;
    // SAFETY: the buffer is as long as the longest text of each library (8192).
    unsafe { (mpi.library_version)(text.as_mut_ptr().cast::<c_char>(), &mut len) };
    let text = String::from_utf8_lossy(&text[..(len as usize).min(8192)]).into_owned();
    let lines: Vec<&str> = text.lines().map(|l| l.trim_matches('\0').trim()).collect();
    // MPICH gives a table: `MPICH Version:      5.0.2`.
    let first = lines.first().copied().unwrap_or_default();
    let short = first.split(',').next().unwrap_or(first).replace("Version:", " ");
    short.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Comm for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn begin(
        &self,
        what: What,
        send: Vec<Parcel>,
        receive: Vec<Parcel>,
    ) -> Result<Flight, CommError> {
        if self.broken.get() {
            return Err(CommError::Library("messages have failed before".into()));
        }
        let number = self.begun.get();
        self.begun.set(number + 1);
        let pieces = Vec::with_capacity(send.len() + receive.len());
        let mut transfer = Transfer { number, what, send, receive, pieces, error: None };
        let Transfer { send, receive, pieces, .. } = &mut transfer;
        let posted = receive
            .iter_mut()
            .try_for_each(|parcel| self.post(what, parcel, false, pieces))
            .and_then(|()| {
                send.iter_mut().try_for_each(|parcel| self.post(what, parcel, true, pieces))
            });
        if let Err(e) = posted {
            self.give_up(transfer);
            return Err(e);
        }
        self.flights.borrow_mut().push(transfer);
        Ok(Flight(number))
    }

    fn progress(&self) {
        let mut flights = self.flights.borrow_mut();
        flights.iter_mut().for_each(|transfer| self.settle(transfer));
    }

    fn finish(
        &self,
        Flight(number): Flight,
        patience: Patience,
    ) -> Result<(Vec<Parcel>, Vec<Parcel>), CommError> {
        let mut flights = self.flights.borrow_mut();
        let Some(at) = flights.iter().position(|transfer| transfer.number == number) else {
            return Err(CommError::Library("messages have failed before".into()));
        };
        let mut transfer = flights.remove(at);
        drop(flights);
        match self.wait(&mut transfer, patience) {
            Ok(()) => Ok((transfer.send, transfer.receive)),
            Err(e) => {
                self.give_up(transfer);
                Err(e)
            }
        }
    }

    fn arrived(&self, what: What, ranks: &[usize]) -> Result<Option<usize>, CommError> {
        let looked = self.look(what as c_int + 1, ranks);
        if looked.is_err() {
            self.broken.set(true);
        }
        looked
    }

    fn host(&self, rank: usize) -> String {
        self.hosts.borrow()[rank].clone()
    }

    fn know_hosts(&self, hosts: Vec<String>) {
        *self.hosts.borrow_mut() = hosts;
    }

    fn fail(&self, message: &str) {
        let mut end = message.len().min(4 * (FAILURE_WORDS - 2));
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let mut words = text_words(&message[..end]);
        let (world, byte) = (self.mpi.constants.world, self.mpi.constants.byte);
        for rank in super::others(self) {
            let mut request = 0;
            // SAFETY: the words are never freed, whenever the message goes.
            unsafe {
                let at = words.as_mut_ptr().cast::<c_void>();
                let bytes = (4 * words.len()) as c_int;
                (self.mpi.isend)(at, bytes, byte, rank as c_int, FAILURE, world, &mut request);
                // A look lets a library go on with what it has to send.
                let (mut done, mut status) = (0, [0; 16]);
                (self.mpi.test)(&mut request, &mut done, &mut status);
            }
        }
        mem::forget(words);
    }

    fn library(&self) -> String {
        self.library.clone()
    }
}
