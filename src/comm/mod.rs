//! Messages between the ranks of one training.
//!
//! There is one operation, a transfer: some parcels go out, some come in, and it ends when all have.
//! Between its [beginning](Comm::begin) and its [end](Comm::finish) a rank may compute. Who sends
//! what to whom follows from the model and the batch, so both ends know sizes beforehand; all else
//! (exchanges, sums, gathers) is made of it, and so is bitwise the same over every library.

mod first;
pub mod links;
mod mpi;
mod norms;
mod pause;
mod team;
#[cfg(test)]
pub(crate) mod threads;

pub use first::first;
pub use mpi::{Launcher, Mpi, MpiError, launched};
pub use norms::NormRanks;
pub use team::{Member, Team};

use std::time::Duration;

/// Words of 32 bits from or to a rank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parcel {
    /// The other rank.
    pub rank: usize,
    /// What is sent, or room for just what is received.
    pub words: Vec<u32>,
}

/// What parcels hold. Both ends of a transfer name the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// What rank 0 wants done next.
    Command,
    /// What belongs to a command: samples, values.
    Content,
    /// Pooled vectors of tables.
    Pooled,
    /// Their gradients.
    PooledGradients,
    /// Gradients of dense parameters.
    Gradients,
    /// Sums of these.
    Sums,
    /// Losses, norms and overflows of a step.
    StepSums,
    /// Predictions.
    Predictions,
    /// Values of a parameter, or of optimizer state.
    Values,
    /// What a rank is, at the start.
    Greeting,
    /// A message that is timed.
    Trial,
    /// Statistics of a batch normalisation, and sums of its backward pass.
    Norms,
    /// Parameters that a server hands out.
    Pulled,
    /// What has come of gradients that a server was sent.
    Applied,
    /// The end of a worker's step.
    StepEnd,
}

impl What {
    /// As told.
    pub fn name(self) -> &'static str {
        match self {
            What::Command => "the next command",
            What::Content => "what belongs to a command",
            What::Pooled => "pooled vectors",
            What::PooledGradients => "gradients of pooled vectors",
            What::Gradients => "gradients of dense parameters",
            What::Sums => "sums of gradients",
            What::StepSums => "losses and norms",
            What::Predictions => "predictions",
            What::Values => "values of a parameter",
            What::Greeting => "a greeting",
            What::Trial => "a message that is timed",
            What::Norms => "sums of a batch normalisation",
            What::Pulled => "pulled parameters",
            What::Applied => "the receipt of gradients",
            What::StepEnd => "the end of a step",
        }
    }
}

/// How long a transfer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// So long.
    For(Duration),
    /// As long as it takes: rank 0 prepares data.
    Unlimited,
}

/// Why ranks cannot go on together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// A rank has not sent, or not taken, its part in time.
    #[error("rank {rank} (host {host}) has {} {} for {seconds} s", if *.sends { "not sent" } else { "not taken" }, .what.name())]
    Late {
        /// That rank.
        rank: usize,
        /// Where it runs.
        host: String,
        /// What is missing.
        what: What,
        /// Whether it should have sent it, and not taken it.
        sends: bool,
        /// Seconds that it was waited for.
        seconds: u64,
    },
    /// A rank has said that it cannot go on.
    #[error("rank {rank} (host {host}): {message}")]
    Failed {
        /// That rank.
        rank: usize,
        /// Where it runs.
        host: String,
        /// What it said.
        message: String,
    },
    /// Ranks do not agree on the size of a parcel.
    #[error("rank {rank} (host {host}) sent {got} words of {}, and {want} were expected", .what.name())]
    Size {
        /// The sender.
        rank: usize,
        /// Where it runs.
        host: String,
        /// What it sent.
        what: What,
        /// Words that came.
        got: usize,
        /// Words that should have come.
        want: usize,
    },
    /// A rank runs another program.
    #[error(
        "rank {rank} (host {host}) runs another program, {theirs}, and this is {ours}; install the same one everywhere"
    )]
    Program {
        /// That rank.
        rank: usize,
        /// Where it runs.
        host: String,
        /// Its program.
        theirs: String,
        /// This one.
        ours: String,
    },
    /// Messages that go from GPU to GPU have not come.
    #[error("{} from GPU to GPU have not come for {seconds} s; the library that carries them does not say which rank is late", .what.name())]
    Stuck {
        /// What is missing.
        what: What,
        /// Seconds that it was waited for.
        seconds: u64,
    },
    /// The library that carries messages.
    #[error("{0}")]
    Library(String),
}

/// A transfer that has been begun, by its number.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a transfer that is not finished blocks other ranks"]
pub struct Flight(u64);

/// The ranks of a training, seen by one of them.
pub trait Comm {
    /// This one, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Begins to send and to receive parcels, at most one a rank each way. A parcel to receive is as
    /// long as what is sent. Of one kind, transfers meet in the order in which they are begun.
    ///
    /// # Errors
    /// Those of the library. After an error there is no other transfer.
    fn begin(
        &self,
        what: What,
        send: Vec<Parcel>,
        receive: Vec<Parcel>,
    ) -> Result<Flight, CommError>;

    /// Lets what is under way go on: a library may move messages only while it is called.
    fn progress(&self);

    /// Waits until all parcels of a transfer have gone and come, and returns them: those that were
    /// sent, and those that were received.
    ///
    /// # Errors
    /// Names the rank that is late, has failed, or sent another number of words. After an error
    /// there is no other transfer.
    fn finish(
        &self,
        flight: Flight,
        patience: Patience,
    ) -> Result<(Vec<Parcel>, Vec<Parcel>), CommError>;

    /// Begins a transfer and finishes it.
    ///
    /// # Errors
    /// As [`Comm::finish`]. Then both lists are empty.
    fn transfer(
        &self,
        what: What,
        patience: Patience,
        send: &mut Vec<Parcel>,
        receive: &mut Vec<Parcel>,
    ) -> Result<(), CommError> {
        let flight = self.begin(what, std::mem::take(send), std::mem::take(receive))?;
        (*send, *receive) = self.finish(flight, patience)?;
        Ok(())
    }

    /// The first of `ranks`, as listed, from which a parcel of this kind has come that nobody has
    /// received yet; `None` if there is none now. Does not wait.
    ///
    /// # Errors
    /// If a rank has failed.
    fn arrived(&self, what: What, ranks: &[usize]) -> Result<Option<usize>, CommError>;

    /// The host that a rank runs on, once ranks have greeted each other.
    fn host(&self, rank: usize) -> String;

    /// Notes the hosts of all ranks.
    fn know_hosts(&self, hosts: Vec<String>);

    /// Tells all other ranks that this one cannot go on; their next transfers fail with `message`.
    fn fail(&self, message: &str);

    /// The library that carries messages, with its version.
    fn library(&self) -> String;
}

/// The other ranks, in order.
pub fn others(comm: &dyn Comm) -> impl Iterator<Item = usize> + use<> {
    let (rank, size) = (comm.rank(), comm.size());
    (0..size).filter(move |&r| r != rank)
}

/// Sends `own`, of the same length everywhere, to all others, and returns the words of all ranks, in
/// their order.
///
/// # Errors
/// As [`Comm::transfer`].
pub fn all_gather(
    comm: &dyn Comm,
    what: What,
    patience: Patience,
    own: &[u32],
) -> Result<Vec<Vec<u32>>, CommError> {
    let mut send: Vec<Parcel> =
        others(comm).map(|rank| Parcel { rank, words: own.to_vec() }).collect();
    let mut receive: Vec<Parcel> =
        others(comm).map(|rank| Parcel { rank, words: vec![0; own.len()] }).collect();
    comm.transfer(what, patience, &mut send, &mut receive)?;
    let mut all: Vec<Vec<u32>> = receive.into_iter().map(|p| p.words).collect();
    all.insert(comm.rank(), own.to_vec());
    Ok(all)
}

/// Text as words: its length in bytes, then the bytes.
pub fn text_words(text: &str) -> Vec<u32> {
    let bytes = text.as_bytes();
    let word = |part: &[u8]| {
        let mut word = [0; 4];
        word[..part.len()].copy_from_slice(part);
        u32::from_le_bytes(word)
    };
    std::iter::once(bytes.len() as u32).chain(bytes.chunks(4).map(word)).collect()
}

/// The text of such words; what is no UTF-8 is shown as such.
pub fn words_text(words: &[u32]) -> String {
    let Some((&len, words)) = words.split_first() else { return String::new() };
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).take(len as usize).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
