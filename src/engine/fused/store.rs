//! Where parameters live: all dense ones in one buffer (so that an update is one sweep), gradients
//! in a second of the same layout, running statistics in a third, tables in sets of equal width.

use crate::{
    backend::{Backend, BackendError, ONLY_PREDICTS, Result, RowsOf, TableState},
    engine::{StateSpec, TensorId},
    host::pool::Pool,
    model::{ModelSpec, ParamKind, ParamSpec, SetSpec},
    optim::OptimizerSpec,
};

/// Dense parameters start at multiples of this many elements (64 bytes), and their buffer ends at
/// one.
pub(crate) const ALIGN: usize = 16;

/// Where a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At an offset in the buffer of dense parameters.
    Dense(usize),
    /// At an offset in the buffer of running statistics.
    Running(usize),
    /// A weight that the device keeps itself, by its number.
    Device(usize),
    /// Table `index` of set `set`.
    Table {
        /// The set.
        set: usize,
        /// The table.
        index: usize,
    },
    /// Row weights of table `index` of set `set`.
    RowWeight {
        /// The set.
        set: usize,
        /// The table.
        index: usize,
    },
}

/// Where a buffer of optimizer state is.
enum StatePlace {
    /// At an offset in the buffer of dense parameters' state.
    Dense(usize),
    /// Beside a table of a set.
    Table(usize, TableState),
}

impl Place {
    /// Where buffer `buffer` of the state beside a parameter is.
    fn state(self, buffer: usize) -> StatePlace {
        match self {
            Place::Dense(at) | Place::Running(at) | Place::Device(at) => StatePlace::Dense(at),
            Place::Table { set, index } => {
                StatePlace::Table(set, TableState { table: index, of_weights: false, buffer })
            }
            Place::RowWeight { set, index } => {
                StatePlace::Table(set, TableState { table: index, of_weights: true, buffer })
            }
        }
    }
}

/// Places of all parameters of a model.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The parameters, in the model's order.
    pub specs: Vec<ParamSpec>,
    /// Place of each.
    pub places: Vec<Place>,
    /// Elements of the dense buffer.
    pub dense: usize,
    /// Elements of the buffer of running statistics.
    pub running: usize,
}

impl Layout {
    /// Lays out a model's parameters. A table, and the weights of its rows, are where its set is;
    /// weights of fully connected layers with the other dense parameters, unless the device `keeps`
    /// them.
    pub fn new(model: &ModelSpec, keeps: bool) -> Self {
        let (specs, sets) = (model.params(), model.table_sets());
        let place = |table: usize| {
            let of = |set: &SetSpec| set.tables.iter().position(|&t| t == table);
            let found = sets.iter().enumerate().find_map(|(set, s)| Some((set, of(s)?)));
            found.expect("every table is in a set")
        };
        let (mut dense, mut running, mut tables, mut row_weights) = (0, 0, 0, 0);
        let mut places = Vec::with_capacity(specs.len());
        for (number, spec) in specs.iter().enumerate() {
            places.push(match spec.kind {
                ParamKind::Weight if keeps => Place::Device(number),
                ParamKind::Weight
                | ParamKind::Bias
                | ParamKind::FieldWeight
                | ParamKind::Scale
                | ParamKind::Shift => {
                    let at = dense;
                    dense += spec.len().next_multiple_of(ALIGN);
                    Place::Dense(at)
                }
                ParamKind::RunningMean | ParamKind::RunningVar => {
                    let at = running;
                    running += spec.len().next_multiple_of(ALIGN);
                    Place::Running(at)
                }
                ParamKind::Table => {
                    let (set, index) = place(tables);
                    tables += 1;
                    Place::Table { set, index }
                }
                ParamKind::RowWeight => {
                    let (set, index) = place(row_weights);
                    row_weights += 1;
                    Place::RowWeight { set, index }
                }
            });
        }
        Layout { specs, places, dense, running }
    }

    /// Offset of a dense parameter or running statistic in its buffer, or the number of a weight
    /// that the device keeps.
    ///
    /// # Panics
    /// If the model has no such parameter.
    pub fn offset(&self, name: &str) -> usize {
        let index = self.specs.iter().position(|s| s.name == name);
        match index.map(|i| self.places[i]) {
            Some(Place::Dense(at) | Place::Running(at) | Place::Device(at)) => at,
            _ => panic!("the model has no dense parameter {name}"),
        }
    }
}

/// Changes part of a parameter: the parameter, the part's first element, its values, threads to
/// work with.
pub(crate) type Edit<'a> = dyn FnMut(&ParamSpec, usize, &mut [f32], &Pool) + 'a;

/// The parameters of a model on a device, with gradients and optimizer state.
pub(crate) struct Store<B: Backend> {
    /// Places by parameter.
    pub layout: Layout,
    /// All dense parameters.
    pub params: B::Floats,
    /// Their gradients.
    pub grads: B::Floats,
    /// Their optimizer state.
    pub state: Vec<B::Floats>,
    /// Running statistics of batch normalisation.
    pub running: B::Floats,
    /// Sets of tables.
    pub tables: Vec<B::Tables>,
}

impl<B: Backend> Store<B> {
    /// Buffers for `layout`, all zeros but the optimizer's initial state.
    pub fn new(
        backend: &mut B,
        layout: Layout,
        tables: Vec<B::Tables>,
        rule: &OptimizerSpec,
    ) -> Result<Self> {
        for (spec, place) in layout.specs.iter().zip(&layout.places) {
            if let (Place::Device(number), [outputs, inputs]) = (*place, &spec.shape[..]) {
                backend.add_weight(number, [*outputs, *inputs])?;
            }
        }
        let params = backend.zeros(layout.dense, "dense parameters")?;
        let grads = backend.zeros(layout.dense, "gradients of dense parameters")?;
        let running = backend.zeros(layout.running, "running statistics")?;
        let mut state = Vec::new();
        for initial in rule.state().dense() {
            let mut buffer = backend.zeros(layout.dense, "optimizer state of dense parameters")?;
            backend.fill(&mut buffer, initial)?;
            state.push(buffer);
        }
        Ok(Store { layout, params, grads, state, running, tables })
    }

    /// Lets `f` change parameter `index`, given its present values, in consecutive parts:
    /// `f(parameter, first element, part, pool)`.
    pub fn edit(&mut self, backend: &mut B, index: usize, f: &mut Edit<'_>) -> Result<()> {
        let spec = &self.layout.specs[index];
        match self.layout.places[index] {
            Place::Table { set, index } => {
                backend.with_table(&mut self.tables[set], index, &mut |at, v, pool| {
                    f(spec, at, v, pool)
                })
            }
            Place::RowWeight { set, index } => {
                backend.with_row_weights(&mut self.tables[set], index, &mut |v, pool| {
                    f(spec, 0, v, pool)
                })
            }
            Place::Device(number) => {
                backend.with_weight(number, &mut |v, pool| f(spec, 0, v, pool))
            }
            place @ (Place::Dense(at) | Place::Running(at)) => {
                let buffer = if matches!(place, Place::Dense(_)) {
                    &mut self.params
                } else {
                    &mut self.running
                };
                let mut values = vec![0.0; spec.len()];
                backend.read(buffer, at, &mut values)?;
                f(spec, 0, &mut values, backend.host_pool());
                backend.write(buffer, at, &values)
            }
        }
    }

    /// Sets elements `first..` of parameter `index`, which the device does not keep itself; there
    /// are so many.
    pub fn write(
        &mut self,
        backend: &mut B,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        match self.layout.places[index] {
            Place::Dense(at) => backend.write(&mut self.params, at + first, values),
            Place::Running(at) => backend.write(&mut self.running, at + first, values),
            Place::Table { set, index } => {
                backend.write_table(&mut self.tables[set], index, first, values)
            }
            Place::RowWeight { set, index } => {
                backend.with_row_weights(&mut self.tables[set], index, &mut |all, _| {
                    all[first..][..values.len()].copy_from_slice(values)
                })
            }
            Place::Device(_) => Err(BackendError::Device(ONLY_PREDICTS.into())),
        }
    }

    /// Copies elements `first..` of parameter `index` out.
    pub fn read(&self, backend: &B, index: usize, first: usize, out: &mut [f32]) -> Result<()> {
        match self.layout.places[index] {
            Place::Dense(at) => backend.read(&self.params, at + first, out),
            Place::Running(at) => backend.read(&self.running, at + first, out),
            Place::Device(number) => backend.read_weight(number, first, out),
            Place::Table { set, index } => backend.read_table(&self.tables[set], index, first, out),
            Place::RowWeight { set, index } => {
                backend.read_row_weights(&self.tables[set], index, first, out)
            }
        }
    }

    /// The set that has rows of a parameter, or of a tensor of state, and what they are there; `None`
    /// if those are no rows of a table.
    pub fn rows_of(&self, of: TensorId, state: &[StateSpec]) -> Option<(usize, RowsOf)> {
        match of {
            TensorId::Parameter(index) => match self.layout.places[index] {
                Place::Table { set, index } => Some((set, RowsOf::Values(index))),
                Place::RowWeight { set, index } => Some((set, RowsOf::Weights(index))),
                Place::Dense(_) | Place::Running(_) | Place::Device(_) => None,
            },
            TensorId::State(index) => {
                let spec = &state[index];
                match self.layout.places[spec.param].state(spec.buffer) {
                    StatePlace::Table(set, state) => Some((set, RowsOf::State(state))),
                    StatePlace::Dense(_) => None,
                }
            }
        }
    }

    /// Copies numbers `first..` of a tensor of the optimizer's state out.
    pub fn read_state(
        &self,
        backend: &B,
        spec: &StateSpec,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        match self.layout.places[spec.param].state(spec.buffer) {
            StatePlace::Dense(at) => backend.read(&self.state[spec.buffer], at + first, out),
            StatePlace::Table(set, state) => {
                backend.read_state(&self.tables[set], state, first, out)
            }
        }
    }

    /// Sets numbers `first..` of a tensor of the optimizer's state.
    pub fn write_state(
        &mut self,
        backend: &mut B,
        spec: &StateSpec,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        match self.layout.places[spec.param].state(spec.buffer) {
            StatePlace::Dense(at) => {
                backend.write(&mut self.state[spec.buffer], at + first, values)
            }
            StatePlace::Table(set, state) => {
                backend.write_state(&mut self.tables[set], state, first, values)
            }
        }
    }
}
