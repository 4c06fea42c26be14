//! A graph that is being put together: operations, tensors, inputs (onnx/onnx: onnx/onnx.proto,
//! docs/Operators.md, operator set 18).

use crate::host::protobuf::Message;

/// Element types (`TensorProto.DataType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// f32.
    Float = 1,
    /// i64.
    Int64 = 7,
}

/// A value that flows through the graph, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(pub String);

/// An attribute of an operation.
#[derive(Debug, Clone, Copy)]
pub enum Attribute {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f32),
    /// Text.
    Text(&'static str),
    /// Whole numbers.
    Ints(&'static [u64]),
}

/// A tensor that is part of the model.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// A parameter of f32, by its name.
    Parameter(String, Vec<usize>),
    /// Whole numbers of a name, in one dimension.
    Ints(String, Vec<i64>),
    /// A number without dimensions.
    Float(String, f32),
}

/// A graph.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Message>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
    constants: Vec<Constant>,
}

/// A dimension that is not known, or is.
#[derive(Debug, Clone, Copy)]
pub enum Dim<'a> {
    /// Called so.
    Free(&'a str),
    /// So many.
    Fixed(usize),
}

impl Graph {
    /// Adds an operation of one output.
    pub fn node(
        &mut self,
        op: &'static str,
        inputs: &[&Value],
        attributes: &[(&'static str, Attribute)],
    ) -> Value {
        // Names of parameters and columns do not begin with this.
        let name = format!("/{}_{op}", self.nodes.len());
        self.named(op, inputs, attributes, name)
    }

    /// Adds an operation whose output has this name.
    pub fn named(
        &mut self,
        op: &'static str,
        inputs: &[&Value],
        attributes: &[(&'static str, Attribute)],
        output: String,
    ) -> Value {
        let mut node = Message::default();
        for input in inputs {
            node = node.bytes(1, input.0.as_bytes());
        }
        node = node.bytes(2, output.as_bytes()).bytes(3, output.as_bytes()).bytes(4, op.as_bytes());
        for (name, value) in attributes {
            let of = Message::default().bytes(1, name.as_bytes());
            let of = match value {
                Attribute::Float(x) => of.float(2, *x).number(20, 1),
                Attribute::Int(n) => of.number(3, *n as u64).number(20, 2),
                Attribute::Text(text) => of.bytes(4, text.as_bytes()).number(20, 3),
                Attribute::Ints(numbers) => of.packed(8, numbers.iter().copied()).number(20, 7),
            };
            node = node.message(5, &of);
        }
        self.nodes.push(node);
        Value(output)
    }

    /// An input of the model.
    pub fn input(&mut self, name: &str, kind: Kind, dims: &[Dim<'_>]) -> Value {
        self.inputs.push(info(name, kind, dims));
        Value(name.to_owned())
    }

    /// Makes `value` an output of the model.
    pub fn output(&mut self, value: &Value, kind: Kind, dims: &[Dim<'_>]) {
        self.outputs.push(info(&value.0, kind, dims));
    }

    /// A parameter of the model.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> Value {
        self.constant(Constant::Parameter(name.to_owned(), shape.to_vec()))
    }

    /// Whole numbers in one dimension.
    pub fn ints(&mut self, numbers: &[i64]) -> Value {
        let words: Vec<String> = numbers.iter().take(4).map(ToString::to_string).collect();
        let name = match numbers.len() {
            0..=4 => format!("/ints_{}", words.join("_")),
            n => format!("/ints_{n}_{}", &hash(numbers)[..16]),
        };
        self.constant(Constant::Ints(name, numbers.to_vec()))
    }

    /// A number.
    pub fn float(&mut self, x: f32) -> Value {
        self.constant(Constant::Float(format!("/float_{x}"), x))
    }

    /// Each tensor is there once.
    fn constant(&mut self, constant: Constant) -> Value {
        let name = constant.name().to_owned();
        if !self.constants.contains(&constant) {
            self.constants.push(constant);
        }
        Value(name)
    }

    /// All tensors.
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// The graph called `name`, but for its tensors, which come behind in field 5.
    pub fn message(&self, name: &str) -> Message {
        let mut graph = Message::default();
        for node in &self.nodes {
            graph = graph.message(1, node);
        }
        graph = graph.bytes(2, name.as_bytes());
        for input in &self.inputs {
            graph = graph.message(11, input);
        }
        for output in &self.outputs {
            graph = graph.message(12, output);
        }
        graph
    }
}

impl Constant {
    /// Its name.
    pub fn name(&self) -> &str {
        let (Constant::Parameter(name, _) | Constant::Ints(name, _) | Constant::Float(name, _)) =
            self;
        name
    }
}

fn hash(numbers: &[i64]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().to_string()
}

/// `ValueInfoProto`.
fn info(name: &str, kind: Kind, dims: &[Dim<'_>]) -> Message {
    let mut shape = Message::default();
    for dim in dims {
        let dim = match dim {
            Dim::Fixed(n) => Message::default().number(1, *n as u64),
            Dim::Free(name) => Message::default().bytes(2, name.as_bytes()),
        };
        shape = shape.message(1, &dim);
    }
    let tensor = Message::default().number(1, kind as u64).message(2, &shape);
    let of = Message::default().message(1, &tensor);
    Message::default().bytes(1, name.as_bytes()).message(2, &of)
}
