//! numpy's legacy generator (`numpy.random.RandomState`, MT19937), bit for bit.

/// State of the generator.
#[derive(Debug, Clone)]
pub struct RandomState {}
