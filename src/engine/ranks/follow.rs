//! All ranks but the first: they do what rank 0 says.

use super::{
    RankDevices, TableShare,
    message::{Command, Cut, HEAD},
    rank_engine::{Open, RankEngine, meet, open},
    rows_of, server,
};
use crate::{
    batch::{Batch, Samples},
    comm::{Comm, CommError, Parcel, Patience, What, words_text},
    engine::{EngineConfig, EngineError, EnginePosition},
    model::init::{InitSource, Initializer},
};
use serde::{Deserialize, Serialize};
use std::{rc::Rc, time::Duration};

/// How many times longer than for a message a rank waits for the next command.
const LONGER: u32 = 10;

/// What an engine of another rank is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setup {
    /// The whole model.
    pub config: EngineConfig,
    /// The ranks that have the tables of each column.
    pub owners: Vec<Vec<usize>>,
    /// How long one rank waits for another, in milliseconds.
    pub timeout_ms: u64,
    /// Whether layers are computed while messages are under way.
    pub overlap: bool,
    /// What ranks compute on.
    pub devices: RankDevices,
    /// Where initial values come from.
    pub init: SetupInit,
}

/// Where initial values come from.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SetupInit {
    /// Functions of this seed.
    Philox {
        /// The run's seed.
        seed: u64,
    },
    /// Rank 0 sends them.
    Sent,
}

/// An engine with what belongs to it.
struct Part {
    engine: Box<dyn RankEngine>,
    share: TableShare,
    dense: usize,
    batch: Batch,
    predictions: Vec<f32>,
}

/// Follows rank 0 until it says that this rank may leave.
///
/// # Errors
/// Whatever keeps this rank from going on. Then the others have been told.
pub fn follow(comm: &Rc<dyn Comm>) -> Result<(), EngineError> {
    follow_by(comm, &open)
}

/// The same, with this rank's engine made by `open`.
pub(crate) fn follow_by(comm: &Rc<dyn Comm>, open: &Open<'_>) -> Result<(), EngineError> {
    let mut part: Option<Part> = None;
    loop {
        match next(comm, &mut part, open) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) => {
                // Whoever has failed first has told all others.
                if !matches!(e, EngineError::Ranks(CommError::Failed { .. })) {
                    comm.fail(&e.to_string());
                }
                return Err(e);
            }
        }
    }
}

/// Waits for a command and does it; `false` if it was the last one.
fn next(
    comm: &Rc<dyn Comm>,
    part: &mut Option<Part>,
    open: &Open<'_>,
) -> Result<bool, EngineError> {
    // Without a model rank 0 may read data for hours; with one it may judge, or write to a slow disk,
    // for longer than a step's messages take.
    let patience = match part.as_ref().map(|p| p.share.patience) {
        Some(Patience::For(time)) => Patience::For(time * LONGER),
        _ => Patience::Unlimited,
    };
    let get = |what, words, patience| {
        let mut parcel = vec![Parcel { rank: 0, words: vec![0; words] }];
        comm.transfer(what, patience, &mut Vec::new(), &mut parcel)?;
        Ok::<_, CommError>(parcel.swap_remove(0).words)
    };
    let head = get(What::Command, HEAD, patience)?;
    let (command, words) = Command::read(&head).ok_or_else(|| {
        EngineError::Unsupported("rank 0 says what this program does not know".into())
    })?;
    let content = if words > 0 { get(What::Content, words, patience)? } else { Vec::new() };
    match (command, part.as_mut()) {
        (Command::Exit, _) => return Ok(false),
        (Command::Close, _) => *part = None,
        (Command::Serve, _) => {
            // The memory of the old one first.
            *part = None;
            return server::follow(comm, &content);
        }
        (Command::Setup, _) => {
            // The memory of the old one first.
            *part = None;
            // Rank 0 says what keeps all from training together, and what comes of it.
            *part = Part::new(comm, &content, open)?;
        }
        (_, None) => return Err(EngineError::Unsupported("rank 0 has not made a model".into())),
        (command, Some(part)) => part.obey(command, &content)?,
    }
    Ok(true)
}

impl Part {
    /// A rank's part; `None` if ranks cannot train together.
    fn new(
        comm: &Rc<dyn Comm>,
        content: &[u32],
        open: &Open<'_>,
    ) -> Result<Option<Self>, EngineError> {
        let setup: Setup = serde_json::from_str(&words_text(content)).map_err(|e| {
            EngineError::Unsupported(format!("the model of rank 0 is not understood: {e}"))
        })?;
        let Setup { config, owners, timeout_ms, overlap, devices, init } = setup;
        let patience = Patience::For(Duration::from_millis(timeout_ms));
        let share = TableShare { comm: Rc::clone(comm), owners, patience, overlap };
        let mut opened = match init {
            SetupInit::Philox { seed } => {
                let mut init = Initializer::new(&config.model, InitSource::Philox { seed });
                open(&config, &share, devices, Some(&mut init))?
            }
            SetupInit::Sent => open(&config, &share, devices, None)?,
        };
        let dense = config.batch_limits().dense;
        let met = meet(&share, &mut opened, devices)?;
        let engine = opened.engine;
        let part = Part { engine, share, dense, batch: Batch::default(), predictions: Vec::new() };
        Ok(met.ok().map(|()| part))
    }

    fn obey(&mut self, command: Command, content: &[u32]) -> Result<(), EngineError> {
        let Part { engine, share, dense, batch, predictions } = self;
        let comm = &*share.comm;
        let cut =
            Cut { rank: comm.rank(), ranks: comm.size(), owners: &share.owners, dense: *dense };
        let send = |what, words: Vec<u32>| {
            let mut parcel = vec![Parcel { rank: 0, words }];
            comm.transfer(what, share.patience, &mut parcel, &mut Vec::new())
        };
        match command {
            Command::Step(context) => {
                cut.unpack(content, batch);
                engine.begin_step(Samples::Host(batch), context)?;
                match engine.finished(true) {
                    // That of rank 0 says so too, and what comes of it.
                    Ok(_) | Err(EngineError::NotFinite { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            Command::Predict => {
                cut.unpack(content, batch);
                predictions.resize(batch.len, 0.0);
                engine.predict(batch, predictions)?;
                let own = rows_of(cut.rank, cut.ranks, batch.len);
                let words = predictions[own].iter().map(|x| x.to_bits()).collect();
                send(What::Predictions, words)?;
            }
            Command::Read(tensor, numbers) => {
                let mut values = vec![0.0; numbers.len];
                tensor.read(&**engine, numbers.first, &mut values)?;
                send(What::Values, values.iter().map(|x| x.to_bits()).collect())?;
            }
            Command::Write(tensor, numbers) => {
                let values: Vec<f32> = content.iter().map(|w| f32::from_bits(*w)).collect();
                tensor.write(&mut **engine, numbers.first, &values)?;
            }
            Command::GoOn => {
                let from: EnginePosition =
                    serde_json::from_str(&words_text(content)).map_err(|e| {
                        EngineError::Unsupported(format!("rank 0's place is not understood: {e}"))
                    })?;
                engine.go_on(from)?;
            }
            Command::Setup | Command::Serve | Command::Close | Command::Exit => {}
        }
        Ok(())
    }
}
