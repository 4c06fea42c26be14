//! A parameter server: with one worker the bits of one rank; with several just what a plain
//! simulation gets that applies late gradients in the same order.

use super::{
    ranks::{LENS, alone, bits, seen},
    *,
};
use crate::{
    backend::StepContext,
    batch::Samples,
    comm::{
        Comm, CommError, Flight, Parcel, Patience, What,
        threads::{self, Threads},
    },
    engine::{
        SumOrder,
        ranks::{
            RanksConfig, dismiss, follow,
            server::{Homes, ServedEngine, ServerConfig, lead, refusal},
        },
    },
};
use simulation::{Numbers, Ordered, STEPS, Trace, WORKERS, drawn, len, simulate};
use std::{cell::RefCell, rc::Rc, thread, time::Duration};

mod simulation;

const TIMEOUT: Duration = Duration::from_secs(60);
const RATE: f64 = 0.05;

fn plain(_: usize, comm: Threads) -> Rc<dyn Comm> {
    Rc::new(comm)
}

fn server(servers: usize, bound: Option<u64>) -> ServerConfig {
    ServerConfig { servers, bound, timeout: TIMEOUT }
}

/// Lets `f` use an engine of servers and workers, which are threads.
fn on_server<T>(
    config: &EngineConfig,
    (server, workers): (ServerConfig, usize),
    source: InitSource,
    wrap: impl Fn(usize, Threads) -> Rc<dyn Comm> + Copy + Send + 'static,
    f: impl FnOnce(&mut ServedEngine) -> T,
) -> T {
    let mut all = threads::ranks(1 + server.servers + workers).into_iter();
    let first: Rc<dyn Comm> = Rc::new(all.next().unwrap());
    let others: Vec<_> = (1..)
        .zip(all)
        .map(|(rank, comm)| {
            thread::spawn(move || follow(&wrap(rank, comm)).map_err(|e| e.to_string()))
        })
        .collect();
    let homes = Homes::new(config, server.servers);
    let mut init = Initializer::new(&config.model, source);
    let mut engine = lead(Rc::clone(&first), config, server, homes, &mut init).unwrap();
    let done = f(&mut engine);
    drop(engine);
    dismiss(&first, RanksConfig::within(TIMEOUT)).unwrap();
    others.into_iter().for_each(|other| other.join().unwrap().unwrap());
    done
}

const SEED: InitSource = InitSource::Philox { seed: 11 };

/// All models that a parameter server trains.
fn all_models() -> impl Iterator<Item = ModelSpec> {
    models()
        .into_iter()
        .filter(|model| !matches!(model, ModelSpec::Dlrm(m) if m.quirks.batch_stats_in_eval))
}

#[test]
fn one_worker_has_the_bits_of_one_rank_with_every_model_and_rule() {
    let (models, rules) = (all_models().collect::<Vec<_>>(), rules());
    for i in 0..models.len().max(rules.len()) {
        let config = config(models[i % models.len()].clone(), rules[i % rules.len()], 1 + i % 2);
        let want = alone(&config, &LENS);
        let (servers, bound) = (1 + i % 3, [Some(0), None][i / 2 % 2]);
        let got = on_server(&config, (server(servers, bound), 1), SEED, plain, |e| {
            let seen = seen(e, &config.model, &LENS);
            let served = e.served().unwrap();
            assert_eq!((served.staleness, served.batches), (vec![5], vec![5]));
            seen
        });
        assert_eq!(got, want, "{servers} servers, {config:?}");
    }
}

#[test]
fn every_form_of_rows_and_every_rule_has_the_bits_of_one_rank() {
    let forms = [
        (RowKind::Fp32, Precision::Fp32, None, None),
        (RowKind::Bf16, Precision::Bf16, None, None),
        (RowKind::Fp16, Precision::Fp32, None, Some(12)),
        (RowKind::Bf16Split, Precision::Bf16, None, None),
        (RowKind::Fp32, Precision::Fp32, Some(0.05), None),
    ];
    for (i, rule) in rules().into_iter().enumerate() {
        for (k, (rows, precision, clip_norm, micro_batch)) in forms.into_iter().enumerate() {
            let model = match (i + k) % 2 {
                0 => dlrm(
                    Interaction::Dot { self_interaction: false, pad_to: 8 },
                    Pooling::WeightedLearned,
                ),
                _ => deepfm(false, 0.5, DENSE),
            };
            let mut config = EngineConfig {
                embedding_rows: rows,
                precision,
                micro_batch,
                ..config(model, rule, 1)
            };
            config.optimizer.clip_norm = clip_norm;
            if let (Some(_), ModelSpec::DeepFm(m)) = (clip_norm, &mut config.model) {
                m.embedding_l2 = 0.0;
            }
            let want = alone(&config, &LENS[..3]);
            let got = on_server(&config, (server(2, Some(0)), 2), SEED, plain, |e| {
                seen(e, &config.model, &LENS[..3])
            });
            assert_eq!(got, want, "{config:?}");
        }
    }
}

#[test]
fn late_gradients_in_a_drawn_order_are_what_a_plain_simulation_has() {
    let rules = [0, 1, 2, 4, 6].map(|i| rules()[i]);
    assert!(matches!(rules[4], OptimizerSpec::AdamAsync(_)));
    for (seed, rule) in (0..).zip(rules) {
        let mut model = if seed % 2 == 0 {
            dlrm(Interaction::Dot { self_interaction: false, pad_to: 1 }, Pooling::Mean)
        } else {
            deepfm(false, 0.0, DENSE)
        };
        if let ModelSpec::DeepFm(m) = &mut model {
            m.embedding_l2 = 0.0;
        }
        let config = config(model, rule, 1);
        for servers in [1, 2] {
            let config_of = server(servers, None);
            let wrap = move |rank: usize, inner: Threads| -> Rc<dyn Comm> {
                if rank != 1 {
                    return Rc::new(inner);
                }
                let order = drawn(seed).into_iter().map(|w| 1 + servers + w).collect();
                Rc::new(Ordered { inner, order: RefCell::new(order) })
            };
            let (got, trace, served) = on_server(&config, (config_of, WORKERS), SEED, wrap, |e| {
                for number in 1..=STEPS {
                    let b = batch(&config.model, number, len(number));
                    e.begin_step(Samples::Host(&b), StepContext::at_rate(RATE)).unwrap();
                }
                let mut ends = Vec::new();
                while let Some(end) = e.finished(true).unwrap() {
                    ends.push(end.start.number);
                }
                assert_eq!(ends, (1..=STEPS).collect::<Vec<_>>(), "each step once, as they end");
                (Numbers::of(e), e.trace(), e.served().unwrap())
            });
            assert_eq!(served.staleness.iter().sum::<u64>(), STEPS);
            assert_eq!(served.batches.iter().sum::<u64>(), STEPS);
            assert!(served.staleness.len() > 2, "some come late: {served:?}");
            let late =
                |(_, of): &Trace| of.iter().map(|(pulled, found)| found - pulled).max().unwrap();
            for (staleness, &n) in (0..).zip(&served.staleness) {
                assert_eq!(trace.iter().filter(|t| late(t) == staleness).count() as u64, n);
            }
            let want = simulate(&config, &Homes::new(&config, servers), &trace);
            for (index, spec) in config.model.params().iter().enumerate() {
                let (got, want) = (bits(&got.params[index]), bits(&want.params[index]));
                assert_eq!(got, want, "{} by {rule:?}", spec.name);
            }
            for (index, spec) in config.optimizer_state().iter().enumerate() {
                let (got, want) = (bits(&got.state[index]), bits(&want.state[index]));
                assert_eq!(got, want, "{} by {rule:?}", spec.name);
            }
        }
    }
}

#[test]
fn the_drawn_order_is_that_of_the_pushes() {
    let config = config(dlrm(Interaction::Cat, Pooling::Sum), OptimizerSpec::SGD, 1);
    let run = || {
        let wrap = |rank: usize, inner: Threads| -> Rc<dyn Comm> {
            let order = drawn(3).into_iter().map(|w| 2 + w).collect();
            match rank {
                1 => Rc::new(Ordered { inner, order: RefCell::new(order) }),
                _ => Rc::new(inner),
            }
        };
        on_server(&config, (server(1, None), WORKERS), SEED, wrap, |e| {
            for number in 1..=STEPS {
                let b = batch(&config.model, number, len(number));
                e.begin_step(Samples::Host(&b), StepContext::at_rate(RATE)).unwrap();
            }
            while e.finished(true).unwrap().is_some() {}
            e.trace()
        })
    };
    // Those after which nothing is left to hand out are not drawn.
    let drawn = STEPS as usize - WORKERS;
    let sorted = |mut trace: Vec<Trace>| {
        trace.sort_by_key(|(_, of)| of[0].1);
        let of = trace.into_iter().take(drawn).map(|(_, of)| of[0]);
        of.collect::<Vec<_>>()
    };
    assert_eq!(sorted(run()), sorted(run()));
}

/// Takes its time over what it has pulled.
struct Slow(Threads);

impl Comm for Slow {
    fn rank(&self) -> usize {
        self.0.rank()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn begin(
        &self,
        what: What,
        send: Vec<Parcel>,
        receive: Vec<Parcel>,
    ) -> Result<Flight, CommError> {
        if what == What::Pulled {
            thread::sleep(Duration::from_millis(40));
        }
        self.0.begin(what, send, receive)
    }
    fn progress(&self) {
        self.0.progress();
    }
    fn finish(
        &self,
        flight: Flight,
        patience: Patience,
    ) -> Result<(Vec<Parcel>, Vec<Parcel>), CommError> {
        self.0.finish(flight, patience)
    }
    fn arrived(&self, what: What, ranks: &[usize]) -> Result<Option<usize>, CommError> {
        self.0.arrived(what, ranks)
    }
    fn host(&self, rank: usize) -> String {
        self.0.host(rank)
    }
    fn know_hosts(&self, hosts: Vec<String>) {
        self.0.know_hosts(hosts);
    }
    fn fail(&self, message: &str) {
        self.0.fail(message);
    }
    fn library(&self) -> String {
        self.0.library()
    }
}

#[test]
fn a_slow_worker_takes_fewer_batches_and_no_bound_is_passed() {
    let config = config(dlrm(Interaction::Cat, Pooling::Sum), rules()[1], 1);
    for bound in [None, Some(2), Some(1), Some(0)] {
        let wrap = |rank: usize, inner: Threads| -> Rc<dyn Comm> {
            if rank == 3 { Rc::new(Slow(inner)) } else { Rc::new(inner) }
        };
        let served = on_server(&config, (server(1, bound), 3), SEED, wrap, |e| {
            for number in 1..=20 {
                let b = batch(&config.model, number, 30);
                e.begin_step(Samples::Host(&b), StepContext::at_rate(RATE)).unwrap();
            }
            while e.finished(true).unwrap().is_some() {}
            e.served().unwrap()
        });
        assert_eq!(served.staleness.iter().sum::<u64>(), 20);
        match bound {
            Some(most) => assert!(served.staleness.len() as u64 <= most + 1, "{served:?}"),
            None => {
                // Ranks 2 and 4 go round while it sleeps.
                let (slow, fast) = (served.batches[1], served.batches[0].min(served.batches[2]));
                assert!(2 * slow < fast, "{served:?}");
                assert!(served.staleness.len() > 3, "{served:?}");
            }
        }
    }
}

#[test]
fn numbers_of_one_stream_and_of_a_checkpoint_reach_the_servers() {
    use crate::random::numpy::RandomState;
    let config = config(qr(QrOperation::Mult, 6), rules()[1], 1);
    let source = || InitSource::Numpy { state: RandomState::new(3), seed: 3 };
    let mut init = Initializer::new(&config.model, source());
    let mut first = FusedEngine::new(&config, &mut init).unwrap();
    let want = seen(&mut first, &config.model, &LENS[..2]);
    let start =
        on_server(&config, (server(2, None), 2), source(), plain, |e| seen(e, &config.model, &[]));
    assert_eq!(start.before, want.before);
    let position = first.position().unwrap();
    let more = seen(&mut first, &config.model, &LENS[2..4]);
    let got =
        on_server(&config, (server(2, None), 1), InitSource::Philox { seed: 1 }, plain, |e| {
            let values = |bits: &[u32]| bits.iter().map(|b| f32::from_bits(*b)).collect::<Vec<_>>();
            for (i, bits) in want.params.iter().enumerate() {
                e.write(i, &values(bits)).unwrap();
            }
            for (i, bits) in want.state.iter().enumerate() {
                e.write_state(i, 0, &values(bits)).unwrap();
            }
            e.go_on(position).unwrap();
            assert_eq!(e.position().unwrap(), position);
            seen(e, &config.model, &LENS[2..4])
        });
    assert_eq!(got, more);
}

#[test]
fn a_loss_that_is_no_number_is_told_of_with_its_step_and_changes_nothing() {
    let config = config(dlrm(Interaction::Cat, Pooling::Sum), OptimizerSpec::SGD, 1);
    on_server(&config, (server(1, Some(0)), 2), SEED, plain, |e| {
        let good = seen(e, &config.model, &LENS[..2]);
        let mut bad = batch(&config.model, 5, 20);
        bad.labels[19] = f32::NAN;
        e.begin_step(Samples::Host(&bad), StepContext::at_rate(RATE)).unwrap();
        assert!(matches!(e.finished(true), Err(EngineError::NotFinite { step: 3, .. })));
        let after = seen(e, &config.model, &[]);
        assert_eq!((after.params, after.state), (good.params, good.state));
        assert_eq!(seen(e, &config.model, &[9]).losses.len(), 1, "and it goes on");
    });
}

#[test]
fn what_a_parameter_server_cannot_do_is_refused() {
    let plain = config(dlrm(Interaction::Cat, Pooling::Sum), OptimizerSpec::SGD, 1);
    assert_eq!(refusal(&plain, server(2, None), 4), None);
    let said = |config: &EngineConfig| refusal(config, server(1, None), 3).unwrap();
    let few = refusal(&plain, server(2, None), 3).unwrap();
    assert!(few.contains("at least 4 ranks") && few.ends_with("mpirun -n 4"), "{few}");
    let tree = EngineConfig { sum_order: SumOrder::Tree, ..plain.clone() };
    assert!(said(&tree).contains("comm.sum"));
    let scaled = LossScaleSpec::Dynamic { initial: 8.0, growth_steps: 2 };
    assert!(said(&EngineConfig { loss_scale: scaled, ..plain.clone() }).contains("loss_scale"));
    let mut clipped = EngineConfig { model: deepfm(false, 0.0, 0), ..plain.clone() };
    clipped.optimizer.clip_norm = Some(1.0);
    assert!(said(&clipped).contains("embedding_l2"));
    for (quirk, name) in [
        (EngineConfig { last_part_only: true, ..plain.clone() }, "fb.grad-accum-drops"),
        (EngineConfig { tables_by_ranks: true, ..plain }, "fb.table-gradients-by-ranks"),
    ] {
        assert!(said(&quirk).contains(name));
    }
}

#[test]
fn a_server_or_a_worker_that_cannot_go_on_is_named() {
    let config = config(dlrm(Interaction::Cat, Pooling::Sum), OptimizerSpec::SGD, 1);
    for lost in [1, 2] {
        let mut all = threads::ranks(3).into_iter();
        let first: Rc<dyn Comm> = Rc::new(all.next().unwrap());
        let others: Vec<_> = (1..)
            .zip(all)
            .map(|(rank, comm)| {
                thread::spawn(move || match rank == lost {
                    true => comm.fail("cannot allocate 1 bytes for tables"),
                    false => drop(follow(&plain(rank, comm))),
                })
            })
            .collect();
        let mut init = Initializer::new(&config.model, SEED);
        let homes = Homes::new(&config, 1);
        let failed = lead(first, &config, server(1, None), homes, &mut init);
        let error = failed.err().unwrap().to_string();
        assert_eq!(error, format!("rank {lost} (host here): cannot allocate 1 bytes for tables"));
        others.into_iter().for_each(|other| other.join().unwrap());
    }
}
