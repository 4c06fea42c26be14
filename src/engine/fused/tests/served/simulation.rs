//! Plain training by late gradients, and orders in which they come.

use super::*;
use crate::optim::rules::{self as formulas, Step};
use std::collections::{BTreeMap, VecDeque};

/// A step: its number, and for each server the versions that it had pulled and was applied to.
pub type Trace = (u64, Vec<(u64, u64)>);

/// Lets requests of workers through in a given order, as long as there is one.
pub struct Ordered {
    pub inner: Threads,
    pub order: RefCell<VecDeque<usize>>,
}

impl Comm for Ordered {
    fn rank(&self) -> usize {
        self.inner.rank()
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    fn begin(
        &self,
        what: What,
        send: Vec<Parcel>,
        receive: Vec<Parcel>,
    ) -> Result<Flight, CommError> {
        self.inner.begin(what, send, receive)
    }
    fn progress(&self) {
        self.inner.progress();
    }
    fn finish(
        &self,
        flight: Flight,
        patience: Patience,
    ) -> Result<(Vec<Parcel>, Vec<Parcel>), CommError> {
        self.inner.finish(flight, patience)
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

pub const WORKERS: usize = 3;
pub const STEPS: u64 = 24;

/// Workers in the order in which they pull and push, until the last batch has been handed out; which
/// of them get those at the end is not drawn.
pub fn drawn(seed: u64) -> VecDeque<usize> {
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
pub struct Numbers {
    pub params: Vec<Vec<f32>>,
    pub state: Vec<Vec<f32>>,
}

impl Numbers {
    pub fn of(e: &dyn Engine) -> Self {
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
pub fn simulate(config: &EngineConfig, homes: &Homes, trace: &[Trace]) -> Numbers {
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
            let applied = |(_, of): &&Trace| of[server].1 as usize + 1 == versions.len();
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

pub fn len(number: u64) -> usize {
    1 + (number as usize * 7) % 40
}
