//! What a command says beside its work.

use crate::{host::escape::visible, results::tree::Found};
use std::fmt::Display;

/// One line that tells what is wrong, whatever the names in it.
pub(super) fn say_error(what: impl Display) {
    errln!("error: {}", visible(&what.to_string()));
}

/// One line that a reader of the results should know.
pub(super) fn say_note(what: impl Display) {
    errln!("note: {}", visible(&what.to_string()));
}

/// Names what could not be read and counts what was passed over.
pub(super) fn say_found(found: &Found) {
    found.problems.iter().for_each(say_error);
    found.notes().iter().for_each(say_note);
}
