//! Ranks on GPUs, which are emulated, each rank's its own: against one such GPU.

use super::{
    placed::cuttable,
    ranks::{LENS, Seen, TIMEOUT, lead_ranks, near, seen, tables_alike, without_batch_norm},
    *,
};
use crate::{
    backend::cuda::driver::{Driver, emulated::Emulated},
    engine::{
        SumOrder, TableShare,
        ranks::{
            Exchange, Gpus, Opened, RankDevices, RankedEngine, RanksConfig, follow_by, lead_by,
        },
    },
};
use std::rc::Rc;

type Init<'a, 'b> = Option<&'a mut Initializer<'b>>;

/// What makes the engine of a rank, on any thread.
trait Made:
    Fn(&EngineConfig, &TableShare, RankDevices, Init<'_, '_>) -> Result<Opened, EngineError>
    + Copy
    + Send
    + 'static
{
}

impl<F> Made for F where
    F: Fn(&EngineConfig, &TableShare, RankDevices, Init<'_, '_>) -> Result<Opened, EngineError>
        + Copy
        + Send
        + 'static
{
}

/// A rank's engine on a GPU of its own that is `bare` or not ([`Emulated::open`]).
fn open(bare: bool) -> impl Made {
    move |config: &EngineConfig, share: &TableShare, _: RankDevices, init: Init<'_, '_>| {
        let driver = Emulated::open(bare).expect("a compiler");
        let part = Box::new(FusedEngine::ranked_on_driver(&driver, config, share, init)?);
        Ok(Opened { engine: part, gpu: format!("GPU-{}", share.comm.rank()) })
    }
}

/// Lets `f` use an engine on `ranks` ranks.
fn on_ranks<T>(
    config: &EngineConfig,
    (ranks, bare, exchange): (usize, bool, Exchange),
    f: impl FnOnce(&mut RankedEngine) -> T,
) -> T {
    let open = open(bare);
    let gpus = RanksConfig {
        devices: RankDevices { device: crate::backend::Device::Cuda(0), gpus: Gpus::Own, exchange },
        ..TIMEOUT
    };
    lead_ranks(
        config,
        ranks,
        move |comm| follow_by(comm, &open),
        |comm, placement| {
            let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 11 });
            lead_by(comm, config, gpus, placement, &mut init, &open)
        },
        f,
    )
}

fn ranked(config: &EngineConfig, on: (usize, bool, Exchange), lens: &[usize]) -> Seen {
    on_ranks(config, on, |e| seen(e, &config.model, lens))
}

fn alone(config: &EngineConfig, bare: bool, lens: &[usize]) -> Seen {
    let driver: Rc<dyn Driver> = Emulated::open(bare).expect("a compiler");
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 11 });
    let mut e = FusedEngine::on_driver(&driver, config, &mut init).unwrap();
    seen(&mut e, &config.model, lens)
}

fn there() -> bool {
    Emulated::open(false).is_some()
}

#[test]
fn ranks_on_gpus_have_the_tables_of_one_by_rank() {
    if !there() {
        return;
    }
    for (i, model) in without_batch_norm().enumerate() {
        let bare = i % 2 == 1;
        let mut config = config(model, rules()[(i + 3) % rules().len()], 1);
        config.embedding_rows = [RowKind::Fp32, RowKind::Bf16][i / 2 % 2];
        config.precision = [Precision::Fp32, Precision::Bf16, Precision::Fp32][i % 3];
        let one = alone(&config, bare, &LENS[..1]);
        let ranks = 2 + i % 3;
        let got = ranked(&config, (ranks, bare, Exchange::Host), &LENS[..1]);
        assert_eq!(got.before, one.before, "{ranks} ranks");
        assert_eq!(got.losses, one.losses, "{ranks} ranks");
        tables_alike(&config.model, &got, &one);
        near(&got, &one, 1e-4);
        // Which way messages take changes no bit, of whatever comes of them.
        let [host, nccl] =
            [Exchange::Host, Exchange::Nccl].map(|way| ranked(&config, (ranks, bare, way), &LENS));
        assert_eq!(host, nccl, "{ranks} ranks, {config:?}");
    }
}

#[test]
fn ranks_on_gpus_have_the_bits_of_one_as_a_tree() {
    if !there() {
        return;
    }
    let scale = LossScaleSpec::Dynamic { initial: 65_536.0, growth_steps: 2 };
    for (i, rule) in rules().into_iter().enumerate() {
        let bare = i % 2 == 0;
        let model = without_batch_norm().nth(i % without_batch_norm().count()).unwrap();
        let mut config = config(model, rule, 1);
        config.sum_order = SumOrder::Tree;
        let forms = [
            (RowKind::Fp32, Precision::Fp32, LossScaleSpec::Off),
            (RowKind::Bf16, Precision::Bf16, LossScaleSpec::Off),
            (RowKind::Fp16, Precision::Fp16, scale),
        ];
        (config.embedding_rows, config.precision, config.loss_scale) = forms[i % forms.len()];
        let want = alone(&config, bare, &LENS);
        let ranks = [2, 4][i / 2 % 2];
        let way = [Exchange::Host, Exchange::Nccl][i / 4 % 2];
        let got = ranked(&config, (ranks, bare, way), &LENS);
        assert_eq!(got, want, "{ranks} ranks, {way:?}, {config:?}");
    }
}

#[test]
fn rows_that_ranks_on_gpus_share_are_those_of_one() {
    if !there() {
        return;
    }
    let mut tried = 0;
    for (i, model) in cuttable().into_iter().enumerate() {
        let plain = config(model, rules()[i % 2], 1);
        if plain.moves_all_rows() {
            continue;
        }
        tried += 1;
        let cut = EngineConfig { split_rows: true, ..plain.clone() };
        let bare = i % 2 == 0;
        let one = alone(&plain, bare, &LENS[..1]);
        near(&ranked(&cut, (4, bare, Exchange::Host), &LENS[..1]), &one, 1e-4);
        let [host, nccl] =
            [Exchange::Host, Exchange::Nccl].map(|way| ranked(&cut, (5, bare, way), &LENS));
        assert_eq!(host, nccl, "{cut:?}");
    }
    assert!(tried > 1, "models whose rows can be shared");
}

#[test]
fn small_tables_of_all_ranks_on_gpus_are_those_of_one() {
    if !there() {
        return;
    }
    let plain = config(dlrm(Interaction::Cat, Pooling::Sum), rules()[1], 1);
    let everywhere = EngineConfig { replicate_small: true, ..plain.clone() };
    let one = alone(&plain, false, &LENS[..1]);
    near(&ranked(&everywhere, (2, false, Exchange::Host), &LENS[..1]), &one, 1e-4);
    let [host, nccl] =
        [Exchange::Host, Exchange::Nccl].map(|way| ranked(&everywhere, (2, true, way), &LENS));
    assert_eq!(host, nccl);
    let devices = RankDevices { device: crate::backend::Device::Cuda(0), ..RankDevices::CPU };
    let rounded = EngineConfig { precision: Precision::Bf16, ..everywhere };
    let refused = devices.refusal(&rounded, 2).unwrap();
    assert!(refused.starts_with("comm.replicate_small"), "{refused}");
}

#[test]
fn a_loss_that_is_no_number_stops_ranks_on_gpus_alike() {
    if !there() {
        return;
    }
    let config = config(dlrm(Interaction::Cat, Pooling::Sum), rules()[3], 1);
    for exchange in [Exchange::Host, Exchange::Nccl] {
        on_ranks(&config, (3, false, exchange), |e| stops_alike(e, &config));
    }
}

fn stops_alike(e: &mut RankedEngine, config: &EngineConfig) {
    let good = seen(e, &config.model, &LENS[..2]);
    let context = crate::backend::StepContext::at_rate(0.05);
    let mut bad = batch(&config.model, 5, 20);
    // Of a sample of the last rank.
    bad.labels[19] = f32::NAN;
    e.begin_step(crate::batch::Samples::Host(&bad), context).unwrap();
    // Nobody has asked what came of it, and nobody goes on.
    let next = batch(&config.model, 6, 20);
    let refused = e.begin_step(crate::batch::Samples::Host(&next), context);
    assert!(matches!(refused, Err(EngineError::NotFinite { step: 3, .. })));
    assert!(matches!(e.finished(true), Err(EngineError::NotFinite { step: 3, .. })));
    let after = seen(e, &config.model, &[]);
    assert_eq!((after.params, after.state), (good.params, good.state));
    assert_eq!(seen(e, &config.model, &[9]).losses.len(), 1);
}

/// A rank's engine on the CPU that says that it is on this GPU.
fn on_the_cpu(gpu: &'static str) -> impl Made {
    move |config: &EngineConfig, share: &TableShare, _: RankDevices, init: Init<'_, '_>| {
        let part = Box::new(FusedEngine::ranked(config, share, init)?);
        Ok(Opened { engine: part, gpu: gpu.into() })
    }
}

#[test]
fn ranks_with_one_gpu_and_batch_normalisation_are_refused() {
    let refused = |config: &EngineConfig, gpu: &'static str| {
        let open = on_the_cpu(gpu);
        let gpus = RankDevices {
            device: crate::backend::Device::Cuda(0),
            gpus: Gpus::Own,
            exchange: Exchange::Host,
        };
        let said = |gpus| {
            lead_ranks(
                config,
                2,
                move |comm| follow_by(comm, &open),
                |comm, placement| {
                    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 1 });
                    let ranks = RanksConfig { devices: gpus, ..TIMEOUT };
                    Ok(lead_by(comm, config, ranks, placement, &mut init, &open))
                },
                |made| made.as_ref().err().map(ToString::to_string),
            )
        };
        (said(gpus), said(RankDevices { gpus: Gpus::Shared, ..gpus }))
    };
    let plain = config(dlrm(Interaction::Cat, Pooling::Sum), OptimizerSpec::SGD, 1);
    let same = "ranks 0 and 1 of host here have the same GPU; start as many ranks as there are GPUs, or let ranks share them with comm.gpus = \"shared\"";
    assert_eq!(refused(&plain, "GPU-7"), (Some(same.into()), None));
    let normalised = EngineConfig { model: deepfm(true, 0.0, 0), ..plain };
    let (own, shared) = refused(&normalised, "GPU-7");
    assert!(own == shared && own.unwrap().starts_with("model.batch_norm: on GPUs"));
}
