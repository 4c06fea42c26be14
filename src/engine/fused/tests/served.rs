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
        Comm, CommError, Parcel, Patience, What,
        threads::{self, Threads},
    },
    engine::{
        SumOrder,
        ranks::{
            RanksConfig, dismiss, follow,
            server::{Homes, ServedEngine, ServerConfig, lead, refusal},
        },
    },
    optim::rules::{self as formulas, Step},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    thread,
    time::Duration,
};

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
    dismiss(&first, RanksConfig { timeout: TIMEOUT }).unwrap();
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
            let got = on_server(&config, (server(2, Some(0)), 1), SEED, plain, |e| {
                seen(e, &config.model, &LENS[..3])
            });
            assert_eq!(got, want, "{config:?}");
        }
    }
}

/// Lets requests of workers through in a given order, as long as there is one.
struct Ordered {
    inner: Threads,
    order: RefCell<VecDeque<usize>>,
}

impl Comm for Ordered {
    fn rank(&self) -> usize {
        self.inner.rank()
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    fn transfer(
        &self,
        what: What,
        patience: Patience,
        send: &mut Vec<Parcel>,
        receive: &mut Vec<Parcel>,
    ) -> Result<(), CommError> {
        self.inner.transfer(what, patience, send, receive)
    }
    fn arrived(&self, what: What, ranks: &[usize]) -> Result<Option<usize>, CommError> {
        let mut order = self.order.borrow_mut();
        let (Some(&next), true) = (order.front(), ranks.len() > 1) else {
            return self.inner.arrived(what, ranks);
        };
        let found = self.inner.arrived(what, &[next])?;
        if found.is_some() {
            order.pop_front();
        }
        Ok(found)
    }
    fn host(&self, rank: usize) -> String {
        self.inner.host(rank)
    }
    fn know_hosts(&self, hosts: Vec<String>) {
        self.inner.know_hosts(hosts);
    }
    fn fail(&self, message: &str) {
        self.inner.fail(message);
    }
    fn library(&self) -> String {
        self.inner.library()
    }
}

const WORKERS: usize = 3;
const STEPS: u64 = 24;

/// Workers in the order in which they pull and push, until the last batch has been handed out; which
/// of them get those at the end is not drawn.
fn drawn(seed: u64) -> VecDeque<usize> {
    let draw = Philox::new(seed, Stream::Shuffle, 1);
    let (mut order, mut has_pulled, mut left) =
        (VecDeque::new(), [false; WORKERS], STEPS as usize - WORKERS);
    for event in 0.. {
        let worker = draw.block(event)[0] as usize % WORKERS;
        order.push_back(worker);
        if has_pulled[worker] {
            left -= 1;
            if left == 0 {
                return order;
            }
        }
        has_pulled[worker] = !has_pulled[worker];
    }
    order
}

/// Parameters and state by tensor, with what updates them.
#[derive(Clone)]
struct Numbers {
    params: Vec<Vec<f32>>,
    state: Vec<Vec<f32>>,
}

impl Numbers {
    fn of(e: &dyn Engine) -> Self {
        let read = |i: usize, len: usize| {
            let mut out = vec![0.0; len];
            e.read_from(i, 0, &mut out).unwrap();
            out
        };
        let read_state = |i: usize, len: usize| {
            let mut out = vec![0.0; len];
            e.read_state(i, 0, &mut out).unwrap();
            out
        };
        Numbers {
            params: e.params().iter().enumerate().map(|(i, p)| read(i, p.len())).collect(),
            state: e
                .optimizer_state()
                .iter()
                .enumerate()
                .map(|(i, s)| read_state(i, s.len()))
                .collect(),
        }
    }

    /// Applies the gradient of parameter `param`, of `rows` only if it is a table.
    fn apply(
        &mut self,
        e: &dyn Engine,
        step: &Step,
        param: usize,
        g: &[f32],
        rows: Option<&[u32]>,
    ) {
        let of: Vec<usize> =
            (0..self.state.len()).filter(|&s| e.optimizer_state()[s].param == param).collect();
        let mut state: Vec<Vec<f32>> =
            of.iter().map(|&s| std::mem::take(&mut self.state[s])).collect();
        let n = e.params()[param].shape[0];
        let p = &mut self.params[param];
        state.resize(2, Vec::new());
        let [s0, s1] = &mut state[..] else { unreachable!() };
        match rows {
            None => formulas::update(step, p, g, s0, s1),
            Some(rows) => {
                for &row in rows {
                    let part = |len: usize| row as usize * len / n..(row as usize + 1) * len / n;
                    let (a, b, c) = (part(p.len()), part(s0.len()), part(s1.len()));
                    formulas::update_row(step, &mut p[a.clone()], &g[a], &mut s0[b], &mut s1[c]);
                }
            }
        }
        for (&s, values) in of.iter().zip(state) {
            self.state[s] = values;
        }
    }
}

/// Plain training by late gradients: step by step as the versions say that each had pulled and was
/// applied to.
fn simulate(config: &EngineConfig, homes: &Homes, trace: &[(u64, Vec<(u64, u64)>)]) -> Numbers {
    let mut engine = engine(config);
    let specs = engine.params().to_vec();
    // Of each server all versions so far, with the tensors of others left as they were.
    let mut versions: Vec<Vec<Numbers>> = vec![vec![Numbers::of(&engine)]; homes.servers];
    let mut gradients = BTreeMap::new();
    while versions.iter().any(|v| v.len() <= trace.len()) {
        let before: usize = versions.iter().map(Vec::len).sum();
        for (number, of_servers) in trace {
            let there =
                |(s, (pulled, _)): (usize, &(u64, u64))| versions[s].len() > *pulled as usize;
            if gradients.contains_key(number) || !of_servers.iter().enumerate().all(there) {
                continue;
            }
            for index in 0..specs.len() {
                let home = homes.of[index];
                let from = &versions[home][of_servers[home].0 as usize];
                engine.write(index, &from.params[index]).unwrap();
            }
            let all = engine.gradients(&batch(&config.model, *number, len(*number))).unwrap().1;
            gradients.insert(*number, all);
        }
        for (server, versions) in versions.iter_mut().enumerate() {
            let applied =
                |(_, of): &&(u64, Vec<(u64, u64)>)| of[server].1 as usize + 1 == versions.len();
            let Some((number, _)) = trace.iter().find(applied) else { continue };
            let Some(gradients) = gradients.get(number) else { continue };
            let step = Step::new(&config.optimizer.rule, RATE, versions.len() as u64);
            let mut next = versions.last().unwrap().clone();
            let of_step = batch(&config.model, *number, len(*number));
            let tables = config.model.table_specs();
            let mut of_tables = tables.iter();
            for (index, spec) in specs.iter().enumerate() {
                let rows = (spec.kind == ParamKind::Table).then(|| {
                    let mut rows = of_step.bags[of_tables.next().unwrap().column].indices.clone();
                    rows.sort_unstable();
                    rows.dedup();
                    rows
                });
                if homes.of[index] == server {
                    next.apply(&engine, &step, index, &gradients[index], rows.as_deref());
                }
            }
            versions.push(next);
        }
        assert!(versions.iter().map(Vec::len).sum::<usize>() > before, "{trace:?}");
    }
    let mut last = versions[0].last().unwrap().clone();
    for (server, versions) in versions.iter().enumerate().skip(1) {
        let of = versions.last().unwrap();
        for index in (0..specs.len()).filter(|&i| homes.of[i] == server) {
            last.params[index].clone_from(&of.params[index]);
        }
        for (index, spec) in engine.optimizer_state().iter().enumerate() {
            if homes.of[spec.param] == server {
                last.state[index].clone_from(&of.state[index]);
            }
        }
    }
    last
}

fn len(number: u64) -> usize {
    1 + (number as usize * 7) % 40
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
            let late = |(_, of): &(u64, Vec<(u64, u64)>)| {
                of.iter().map(|(pulled, found)| found - pulled).max().unwrap()
            };
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
    let sorted = |mut trace: Vec<(u64, Vec<(u64, u64)>)>| {
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
    fn transfer(
        &self,
        what: What,
        patience: Patience,
        send: &mut Vec<Parcel>,
        receive: &mut Vec<Parcel>,
    ) -> Result<(), CommError> {
        if what == What::Pulled {
            thread::sleep(Duration::from_millis(40));
        }
        self.0.transfer(what, patience, send, receive)
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
