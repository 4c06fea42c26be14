//! The engine of one rank: on the CPU, or on a GPU of its host.

use super::TableShare;
use crate::{
    backend::{Backend, Device, Precision, cuda::driver::real},
    comm::{self, Patience, What, text_words, words_text},
    engine::{Engine, EngineConfig, EngineError, FusedEngine},
    model::{ModelSpec, init::Initializer},
};
use serde::{Deserialize, Serialize};

/// Whose the GPUs of a host are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpus {
    /// Each is of one rank.
    #[default]
    Own,
    /// Ranks may have one together.
    Shared,
}

impl Gpus {
    /// Whether it is the default.
    pub fn is_own(&self) -> bool {
        *self == Gpus::Own
    }
}

/// Which way messages take between ranks on GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exchange {
    /// Through the memory of their hosts, and MPI.
    #[default]
    Host,
    /// From GPU to GPU, by NCCL.
    Nccl,
}

impl Exchange {
    /// Whether it is the default.
    pub fn is_host(&self) -> bool {
        *self == Exchange::Host
    }
}

/// What ranks compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankDevices {
    /// The CPU, or the GPU of the first rank of each host; the others of a host have those behind it.
    pub device: Device,
    /// Whose GPUs are.
    pub gpus: Gpus,
    /// Which way messages take between them.
    pub exchange: Exchange,
}

impl RankDevices {
    /// Each rank computes on its host's processors.
    pub const CPU: RankDevices =
        RankDevices { device: Device::Cpu, gpus: Gpus::Own, exchange: Exchange::Host };

    /// What several ranks cannot do there; `None` if they can train this model.
    pub fn refusal(&self, config: &EngineConfig, ranks: usize) -> Option<String> {
        let batch_norm = match &config.model {
            ModelSpec::Dlrm(m) => m.batch_norm,
            ModelSpec::DeepFm(m) => m.batch_norm,
        };
        let sixteen = matches!(config.precision, Precision::Bf16 | Precision::Fp16);
        match self.device {
            Device::Cpu => None,
            Device::Cuda(_) if batch_norm && ranks > 1 => Some(
                "model.batch_norm: on GPUs a rank does not learn the statistics of other ranks' samples; use engine.device = \"cpu\", or one rank".into(),
            ),
            Device::Cuda(_) if config.replicate_small && sixteen => Some(
                "comm.replicate_small: GPUs would round its sums to 16 bits with this engine.precision; use \"fp32\" or \"tf32\", or leave it out".into(),
            ),
            Device::Cuda(_) => None,
            Device::Npu(_) | Device::Auto => Some(format!(
                "engine.device = \"{}\": {ranks} ranks train on \"cpu\" or \"cuda:N\" (the GPU of each host's first rank)",
                self.device
            )),
        }
    }
}

/// What is asked of a rank's engine beside what any engine does.
pub(crate) trait RankEngine: Engine {
    /// Training batches seen.
    fn batches(&self) -> u64;

    /// Waits for the steps that have begun.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] if the loss of one is not finite; its result is not taken.
    fn settle(&mut self) -> Result<(), EngineError>;

    /// What would carry messages from its device to others.
    ///
    /// # Errors
    /// What is missing.
    fn link_library(&self) -> Result<String, EngineError>;

    /// From now on messages go from device to device. All ranks do this at the same time.
    ///
    /// # Errors
    /// If others do not come, or the library fails.
    fn link(&mut self, share: &TableShare) -> Result<(), EngineError>;
}

impl<B: Backend> RankEngine for FusedEngine<B> {
    fn batches(&self) -> u64 {
        FusedEngine::batches(self)
    }

    fn settle(&mut self) -> Result<(), EngineError> {
        self.await_steps()
    }

    fn link_library(&self) -> Result<String, EngineError> {
        Ok(self.backend().link_library()?)
    }

    fn link(&mut self, share: &TableShare) -> Result<(), EngineError> {
        Ok(self.backend_mut().link_ranks(&*share.comm, share.patience)?)
    }
}

/// A rank's engine, and what it is on.
pub(crate) struct Opened {
    /// The engine.
    pub engine: Box<dyn RankEngine>,
    /// By what the GPU is told from all others; empty without one.
    pub gpu: String,
}

/// Makes the engine of a rank: filled by the initial values, or zeros without them.
pub(crate) type Open<'a> = dyn Fn(
        &EngineConfig,
        &TableShare,
        RankDevices,
        Option<&mut Initializer>,
    ) -> Result<Opened, EngineError>
    + 'a;

/// The [`Open`] of all but tests.
pub(crate) fn open(
    config: &EngineConfig,
    share: &TableShare,
    devices: RankDevices,
    init: Option<&mut Initializer>,
) -> Result<Opened, EngineError> {
    let comm = &*share.comm;
    if let Some(what) = devices.refusal(config, comm.size()) {
        return Err(EngineError::Unsupported(what));
    }
    let Device::Cuda(first) = devices.device else {
        let part = Box::new(FusedEngine::ranked(config, share, init)?);
        return Ok(Opened { engine: part, gpu: String::new() });
    };
    let hosts: Vec<String> = (0..comm.size()).map(|rank| comm.host(rank)).collect();
    let there = real::devices()?.len();
    let ordinal = gpu_of(&hosts, comm.rank(), (first, there), devices.gpus)
        .map_err(EngineError::Unsupported)?;
    let engine = FusedEngine::ranked_on_gpu(ordinal, config, share, init)?;
    let gpu = engine.gpu().uuid.clone();
    Ok(Opened { engine: Box::new(engine), gpu })
}

/// The GPU of a rank on a host that has `there`, of which the first rank has number `first`.
fn gpu_of(
    hosts: &[String],
    rank: usize,
    (first, there): (u32, usize),
    gpus: Gpus,
) -> Result<u32, String> {
    let host = &hosts[rank];
    let before = hosts[..rank].iter().filter(|h| *h == host).count();
    let ranks = hosts.iter().filter(|h| *h == host).count();
    let free = there.saturating_sub(first as usize);
    // A launcher that gives each rank a GPU shows it no other one (CUDA_VISIBLE_DEVICES). Should it
    // be one and the same, `same_gpu` finds out.
    if first == 0 && there == 1 {
        return Ok(0);
    }
    match gpus {
        Gpus::Own if before < free => Ok(first + before as u32),
        Gpus::Shared if free > 0 => Ok(first + (before % free) as u32),
        _ => Err(format!(
            "host {host} has {ranks} rank(s) and {there} GPU(s), of which they use those from cuda:{first} on; start as many ranks as there are GPUs, or let ranks share them with comm.gpus = \"shared\""
        )),
    }
}

/// Words in which a rank says what it is on: the name of its GPU, 40 bytes, and what would carry
/// messages, or why nothing would.
const SEAT_WORDS: usize = 11 + 128;

/// Waits until all have made their engines, and lets messages go from GPU to GPU if they are to. All
/// ranks come to the same: `Err` within says what keeps them all from training together.
pub(super) fn meet(
    share: &TableShare,
    opened: &mut Opened,
    devices: RankDevices,
) -> Result<Result<(), String>, EngineError> {
    let comm = &*share.comm;
    let linked = devices.exchange == Exchange::Nccl && comm.size() > 1;
    let carrier = match linked.then(|| opened.engine.link_library()) {
        None => String::new(),
        Some(Ok(library)) => format!("+{library}"),
        Some(Err(e)) => format!("-{e}"),
    };
    let mut words = text_words(&opened.gpu);
    words.resize(11, 0);
    words.extend(text_words(&carrier));
    words.resize(SEAT_WORDS, 0);
    let all = comm::all_gather(comm, What::Greeting, Patience::Unlimited, &words)?;
    let hosts: Vec<String> = (0..comm.size()).map(|rank| comm.host(rank)).collect();
    let of = |part: fn(&[u32]) -> &[u32]| all.iter().map(|words| words_text(part(words))).collect();
    let (gpus, carriers): (Vec<String>, Vec<String>) = (of(|w| &w[..11]), of(|w| &w[11..]));
    if let Some(what) = misfit(&hosts, &gpus, &carriers, devices.gpus) {
        return Ok(Err(what));
    }
    if linked {
        opened.engine.link(share)?;
    }
    Ok(Ok(()))
}

/// What keeps ranks on these hosts and GPUs from training together.
fn misfit(hosts: &[String], names: &[String], carriers: &[String], gpus: Gpus) -> Option<String> {
    if let Some((a, b)) = same_gpu(hosts, names).filter(|_| gpus == Gpus::Own) {
        return Some(format!(
            "ranks {a} and {b} of host {} have the same GPU; start as many ranks as there are GPUs, or let ranks share them with comm.gpus = \"shared\"",
            hosts[a]
        ));
    }
    let without = carriers.iter().enumerate().find_map(|(k, c)| Some((k, c.strip_prefix('-')?)));
    if let Some((rank, why)) = without {
        return Some(format!("rank {rank} (host {}): {why}", hosts[rank]));
    }
    let other = carriers.iter().position(|c| *c != carriers[0])?;
    let named = |rank: usize| carriers[rank].trim_start_matches('+');
    Some(format!(
        "rank {other} (host {}) has {}, and rank 0 has {}; install the same one everywhere",
        hosts[other],
        named(other),
        named(0)
    ))
}

/// Two ranks of one host that have the same GPU.
fn same_gpu(hosts: &[String], gpus: &[String]) -> Option<(usize, usize)> {
    let there = || gpus.iter().zip(hosts).enumerate().filter(|(_, (gpu, _))| !gpu.is_empty());
    there().find_map(|(rank, of)| {
        let (before, _) = there().find(|(other, same)| *other < rank && *same == of)?;
        Some((before, rank))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn ranks_of_a_host_have_its_gpus_in_turn() {
        let hosts = names(&["a", "b", "a", "a", "b"]);
        let all = |first, there, gpus| -> Vec<_> {
            (0..5).map(|rank| gpu_of(&hosts, rank, (first, there), gpus)).collect()
        };
        assert_eq!(all(0, 8, Gpus::Own), [0, 0, 1, 2, 1].map(Ok));
        assert_eq!(all(2, 8, Gpus::Own), [2, 2, 3, 4, 3].map(Ok));
        assert_eq!(all(0, 2, Gpus::Shared), [0, 0, 1, 0, 1].map(Ok));
        assert_eq!(all(1, 3, Gpus::Shared), [1, 1, 2, 1, 2].map(Ok));
        // Each sees its own alone.
        assert_eq!(all(0, 1, Gpus::Own), [0; 5].map(Ok));
        let refused = all(0, 2, Gpus::Own);
        assert_eq!(refused[..3], [0, 0, 1].map(Ok));
        assert_eq!(
            refused[3].clone().unwrap_err(),
            "host a has 3 rank(s) and 2 GPU(s), of which they use those from cuda:0 on; start as many ranks as there are GPUs, or let ranks share them with comm.gpus = \"shared\""
        );
        assert!(all(3, 2, Gpus::Shared).iter().all(Result::is_err));
    }

    #[test]
    fn two_ranks_with_one_gpu_are_found() {
        let hosts = names(&["a", "a", "b", "b"]);
        let same = |gpus: &[&str]| same_gpu(&hosts, &names(gpus));
        assert_eq!(same(&["x", "y", "x", "y"]), None);
        assert_eq!(same(&["x", "y", "z", "z"]), Some((2, 3)));
        assert_eq!(same(&["", "", "", ""]), None);
    }

    #[test]
    fn ranks_that_do_not_fit_are_named() {
        let (hosts, none) = (names(&["a", "b"]), names(&["", ""]));
        let said = |carriers: &[&str]| misfit(&hosts, &none, &names(carriers), Gpus::Own);
        assert_eq!((said(&["", ""]), said(&["+NCCL 2.28.9", "+NCCL 2.28.9"])), (None, None));
        assert_eq!(
            said(&["+NCCL 2.28.9", "-cannot find libnccl.so.2"]).unwrap(),
            "rank 1 (host b): cannot find libnccl.so.2"
        );
        assert_eq!(
            said(&["+NCCL 2.28.9", "+NCCL 2.32.3"]).unwrap(),
            "rank 1 (host b) has NCCL 2.32.3, and rank 0 has NCCL 2.28.9; install the same one everywhere"
        );
    }
}
