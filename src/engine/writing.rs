//! Parameters written part by part, for engines that have them elsewhere.

use super::{Engine, EngineError, FillPart};
use crate::{host::pool::Pool, model::init::Initializer};

/// Numbers that are written at once.
const PART: usize = 1 << 20;

/// [`Engine::write_with`] by [`Engine::write_from`].
pub(super) fn write_with<E: Engine + ?Sized>(
    engine: &mut E,
    index: usize,
    f: &mut FillPart<'_>,
) -> Result<(), EngineError> {
    let all = engine.params()[index].len();
    let mut values = Vec::new();
    for first in (0..all).step_by(PART) {
        values.clear();
        values.resize(PART.min(all - first), 0.0);
        f(first, &mut values);
        engine.write_from(index, first, &values)?;
    }
    Ok(())
}

/// Writes the initial values of all parameters, which come from one stream of numbers.
pub(super) fn write_initial(
    engine: &mut impl Engine,
    init: &mut Initializer,
) -> Result<(), EngineError> {
    let pool = Pool::new(1);
    for index in 0..engine.params().len() {
        if init.stopped() {
            break;
        }
        let spec = engine.params()[index].clone();
        engine.write_with(index, &mut |first, part| {
            init.fill_part(index, &spec, first, part, &pool);
        })?;
    }
    Ok(())
}
