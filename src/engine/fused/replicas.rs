//! Small tables that every rank has, so that nobody waits for their vectors.
//!
//! Each rank pools the ids of its own samples. Backward it sums their gradients by row, and these
//! sums are added up over ranks. Each rank then updates its copy from them, as from a batch with a
//! sample for each row, and so all copies stay the same, bit by bit.

use super::{
    FusedEngine, Pass,
    embedding::{Embedding, Of},
    engine::await_room,
    network::Network,
    samples::Checked,
    store::ALIGN,
    sums::Sums,
};
use crate::{
    backend::{Backend, Result, StepStart, Window},
    batch::{Bags, Batch, Samples},
    comm::Comm,
    engine::{
        EngineConfig, EngineError, NO_LOG, Phase, TableShare,
        ranks::{is_everywhere, rows_of},
    },
    model::{ModelSpec, Pooling},
};
use std::rc::Rc;

/// A column whose tables all ranks have.
struct Column {
    number: usize,
    rows: usize,
    /// Where in the buffer it is counted how often each row was met.
    counts: usize,
}

/// A table of such a column.
struct Table {
    set: usize,
    /// Its place among the tables of the set.
    place: usize,
    dim: usize,
    column: usize,
    rows: usize,
    /// Where in the buffer its sums are.
    sums: usize,
}

/// All such tables, and what is summed for them in a step.
pub(crate) struct Replicas<B: Backend> {
    comm: Rc<dyn Comm>,
    columns: Vec<Column>,
    tables: Vec<Table>,
    mean: bool,
    /// Sums of gradients by row, and how often rows were met, on the device and here.
    buffer: B::Floats,
    values: Vec<f32>,
    total: Sums,
    /// Gradients of one table's vectors; scratch space.
    vectors: Vec<f32>,
    /// The batch with a sample for each row.
    batch: Batch,
}

impl Table {
    /// Its columns of the set's vectors.
    fn window(&self, embedding: &Embedding) -> Window {
        embedding.window.columns(self.place * self.dim, self.dim)
    }
}

impl<B: Backend> Replicas<B> {
    /// The tables that `share` gives to all ranks; `None` if there are none.
    pub fn new(backend: &mut B, config: &EngineConfig, share: &TableShare) -> Result<Option<Self>> {
        let specs = config.model.table_specs();
        let everywhere = |column: usize| is_everywhere(&share.owners[column]);
        let (mut columns, mut tables, mut len) = (Vec::<Column>::new(), Vec::new(), 0);
        for (set, s) in config.model.table_sets().into_iter().enumerate() {
            for (place, table) in s.tables.iter().enumerate() {
                let (column, rows) = (specs[*table].column, specs[*table].rows);
                if !everywhere(column) {
                    continue;
                }
                tables.push(Table { set, place, dim: s.dim, column, rows, sums: len });
                len += rows * s.dim;
                if columns.iter().all(|c| c.number != column) {
                    columns.push(Column { number: column, rows, counts: len });
                    len += rows;
                }
            }
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let len = len.next_multiple_of(ALIGN);
        Ok(Some(Replicas {
            comm: Rc::clone(&share.comm),
            columns,
            tables,
            mean: matches!(&config.model, ModelSpec::Dlrm(m) if m.pooling == Pooling::Mean),
            buffer: backend.zeros(len, "sums of small tables' gradients")?,
            values: vec![0.0; len],
            total: Sums::new(Rc::clone(&share.comm), share.patience, config.sum_order),
            vectors: Vec::new(),
            batch: Batch::default(),
        }))
    }

    /// Sums the gradients of this rank's samples by row, and then over all ranks.
    fn sum(&mut self, backend: &mut B, network: &mut Network<B>, batch: &Batch) -> Result<()> {
        let Replicas { comm, columns, tables, mean, buffer, values, total, vectors, .. } = self;
        let own = rows_of(comm.rank(), comm.size(), batch.len);
        values.fill(0.0);
        for column in &*columns {
            let bags = &batch.bags[column.number];
            let ids = own.clone().flat_map(|b| bags.bag(b));
            ids.for_each(|&id| values[column.counts + id as usize] += 1.0);
        }
        network.pooled_mut(Of::Gradients, &mut |embedding, gradients| {
            for table in tables.iter().filter(|table| table.set == embedding.set) {
                vectors.resize(own.len() * table.dim, 0.0);
                let window = table.window(&embedding).from_row(own.start);
                backend.read_mat(window.of(&*gradients, own.len()), vectors)?;
                let bags = &batch.bags[table.column];
                for (b, gradient) in own.clone().zip(vectors.chunks(table.dim)) {
                    let bag = bags.bag(b);
                    let factor = if *mean { 1.0 / bag.len() as f32 } else { 1.0 };
                    for &id in bag {
                        let to = &mut values[table.sums + id as usize * table.dim..][..table.dim];
                        to.iter_mut().zip(gradient).for_each(|(x, g)| *x += factor * g);
                    }
                }
            }
            Ok(())
        })?;
        backend.write(buffer, 0, values)?;
        total.begin(backend, buffer, 0..values.len())?;
        total.finish(backend, buffer)?;
        backend.read(buffer, 0, values)
    }

    /// Makes the batch with a sample for each row of these tables, beside the ids of the others, and
    /// puts the sums where the gradients of these samples are.
    fn spread(&mut self, backend: &mut B, network: &mut Network<B>, from: &Batch) -> Result<()> {
        let Replicas { columns, tables, values, batch, .. } = self;
        let rows = columns.iter().map(|column| column.rows);
        batch.len = rows.fold(from.len, usize::max);
        batch.dense.resize(from.dense.len() / from.len * batch.len, 0.0);
        batch.labels.resize(batch.len, 0.0);
        batch.bags.resize_with(from.bags.len(), Bags::default);
        for (number, (to, from)) in batch.bags.iter_mut().zip(&from.bags).enumerate() {
            to.clear();
            if let Some(column) = columns.iter().find(|column| column.number == number) {
                let counts = &values[column.counts..][..column.rows];
                let ids = (0..).zip(counts).map(|(id, count)| (*count > 0.0).then_some(id));
                ids.for_each(|id| to.push(id));
            } else {
                to.indices.extend_from_slice(&from.indices);
                to.ids.extend_from_slice(&from.ids);
                to.offsets.extend_from_slice(&from.offsets[1..]);
            }
            to.offsets.resize(batch.len + 1, to.indices.len() as u32);
        }
        network.pooled_mut(Of::Gradients, &mut |embedding, gradients| {
            for table in tables.iter().filter(|table| table.set == embedding.set) {
                let to = table.window(&embedding).of_mut(&mut *gradients, table.rows);
                backend.write_mat(to, &values[table.sums..][..table.rows * table.dim])?;
            }
            Ok(())
        })
    }
}

impl<B: Backend> FusedEngine<B> {
    /// A training step of a rank with small tables that all have.
    pub(super) fn step_with_replicas(
        &mut self,
        samples: Samples<'_>,
        start: StepStart,
    ) -> std::result::Result<(), EngineError> {
        let host = samples.host().ok_or_else(|| EngineError::Unsupported(NO_LOG.into()))?;
        let FusedEngine {
            backend,
            store,
            network,
            parts,
            limits,
            input,
            config,
            clock,
            replicas,
            ..
        } = self;
        let Some(replicas) = replicas else { return Ok(()) };
        let samples = Checked::<B>::Host(limits.check(host)?);
        await_room(backend)?;
        clock.start();
        {
            let batch = samples.bring(backend, None, input)?;
            backend.begin_step(start)?;
            let (batch, rows) = (B::borrow(&batch), start.samples);
            let mut pass =
                Pass { backend, store, batch, first: 0, rows, training: true, comm: None };
            parts.differentiate(&mut pass, network, clock)?;
        }
        replicas.sum(backend, network, host)?;
        replicas.spread(backend, network, host)?;
        clock.lap(Phase::Comm);
        let rows = replicas.batch.len;
        let samples = Checked::<B>::Host(limits.check(&replicas.batch)?);
        let mut batch = samples.bring(backend, None, input)?;
        backend.group_rows(&mut batch)?;
        let batch = B::borrow(&batch);
        let mut pass = Pass { backend, store, batch, first: 0, rows, training: true, comm: None };
        Self::update(&mut pass, network, parts.ranks.as_ref(), config)?;
        clock.lap(Phase::Update);
        Ok(backend.end_step()?)
    }
}
