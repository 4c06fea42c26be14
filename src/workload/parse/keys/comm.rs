//! `[comm]`: how ranks work together.

use super::Key;
use crate::{
    engine::{
        SumOrder,
        ranks::{Exchange, Gpus, server::CommMode},
    },
    workload::{
        Workload,
        parse::key::{Setting, above, key, split},
    },
};

/// More seconds than this are a slip.
const DAY: f64 = 86_400.0;

/// More servers than this are a slip.
const MAX_SERVERS: usize = 1 << 16;

/// The setting under which there are servers.
const SERVED: Setting = Setting { key: "comm.mode", words: &["parameter_server"] };

fn served(w: &Workload) -> bool {
    w.comm.mode == CommMode::ParameterServer
}

/// `[comm]`
pub(super) fn keys() -> Vec<Key> {
    vec![
        // Not written where it is not asked for, as it was not before there were servers.
        split(
            "comm.mode",
            |_| true,
            |w| served(w).then_some(w.comm.mode),
            |w, mode| w.comm.mode = mode,
        )
        .or(CommMode::Synchronous)
        .says(
            "Who computes with parameters of whom (docs/ranks.md). `synchronous`: all ranks work on \
             one batch, which one update follows. `parameter_server`: rank 0 leads, some ranks are \
             servers that have the parameters, and each of the others works on a batch of its own, \
             whose gradients are applied as they come (asynchronous SGD)",
        ),
        key("comm.servers", |w| served(w).then_some(&mut w.comm.servers))
            .or(Some(1))
            .when(&[SERVED])
            .within(1..=MAX_SERVERS)
            .says("Ranks that have the parameters: tables whole, dense parameters shared out"),
        key("comm.staleness", |w| served(w).then_some(&mut w.comm.staleness))
            .or(None)
            .when(&[SERVED])
            .says(
                "The most updates that may lie between the parameters that a gradient was computed \
                 from and those that it is applied to: no batch is handed out that could pass it. 0 is \
                 one batch at a time; any number where it is left out",
            ),
        // Not written where it is not asked for, as it was not before there were ranks.
        split(
            "comm.sum",
            |_| true,
            |w| (!w.comm.sum.is_rank()).then_some(w.comm.sum),
            |w, sum| w.comm.sum = sum,
        )
        .or(SumOrder::Rank)
        .says(
            "In which order gradients of dense parameters are summed over the ranks that `mpirun` \
             starts (docs/ranks.md). `rank`: in that of the ranks, so that the same number of them \
             gives the same bits. `tree`: over 16 slices of the batch as a binary tree, so that 1, 2, 4, 8 \
             and 16 ranks give the same bits; layers then compute on slices, which costs speed",
        ),
        split(
            "comm.overlap",
            |_| true,
            |w| w.comm.overlap.then_some(true),
            |w, on| w.comm.overlap = on,
        )
        .or(false)
        .says(
            "Whether ranks compute layers while messages to others are under way, with the same bits \
             (docs/ranks.md says where it pays)",
        ),
        split(
            "comm.split_rows",
            |_| true,
            |w| w.comm.split_rows.then_some(true),
            |w, on| w.comm.split_rows = on,
        )
        .or(false)
        .says(
            "Whether rows of a column that is more work than a rank's mean are dealt out to several \
             ranks (docs/ranks.md). Sums of ids of one bag are then to rounding those of one rank",
        ),
        split(
            "comm.replicate_small",
            |_| true,
            |w| w.comm.replicate_small.then_some(true),
            |w, on| w.comm.replicate_small = on,
        )
        .or(false)
        .says(
            "Whether all ranks have the tables of columns with few rows, at most half as many as a \
             rank has samples of a batch (docs/ranks.md): their gradients are summed by row, and no \
             vectors are sent. Tables are then to rounding those of one rank",
        ),
        split(
            "comm.gpus",
            |_| true,
            |w| (!w.comm.gpus.is_own()).then_some(w.comm.gpus),
            |w, gpus| w.comm.gpus = gpus,
        )
        .or(Gpus::Own)
        .says(
            "Whose GPUs are, where several ranks train on them: rank `k` of a host takes that of `engine.device` \
             plus `k`. `own`: each rank has one of its own, and more ranks than GPUs are refused. `shared`: ranks take \
             turns, which is a trial of ranks and no way to be faster",
        ),
        split(
            "comm.exchange",
            |_| true,
            |w| (!w.comm.exchange.is_host()).then_some(w.comm.exchange),
            |w, exchange| w.comm.exchange = exchange,
        )
        .or(Exchange::Host)
        .says(
            "Which way vectors and gradients take between ranks on GPUs. `host`: through the memory of their hosts and \
             MPI. `nccl`: from GPU to GPU by NCCL, whose library must be there (docs/cuda.md), with the same bits; \
             not tried on real GPUs",
        ),
        key("comm.timeout_seconds", |w| Some(&mut w.comm.timeout_seconds))
            .or(None)
            .or_in_words("300")
            .within(above(0.0))
            .check(|seconds, _| match seconds {
                Some(s) if *s > DAY => Err(format!("is {s}; must be at most {DAY}, a day")),
                _ => Ok(()),
            })
            .says("How long one rank waits for another before the run ends and says for whom"),
    ]
}
