//! Panics of other people's code that are expected, caught, and not shown.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    /// Whether this thread is within [`caught`].
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// The answer of `call`, or `None` if it panics, of which nothing is shown. What it may have left
/// half done must not be used any more.
///
/// Panics elsewhere are shown as before, those of other threads at the same time included.
pub fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let shown = take_hook();
        set_hook(Box::new(move |info| {
            // A thread that is ending has no such word any more.
            if !WITHIN.try_with(Cell::get).unwrap_or(false) {
                shown(info);
            }
        }));
    });
    let before = WITHIN.replace(true);
    let answer = catch_unwind(AssertUnwindSafe(call));
    WITHIN.set(before);
    answer.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_has_no_answer() {
        assert_eq!(caught(|| 3), Some(3));
        assert_eq!(caught(|| assert_eq!(1, 2)), None);
        assert_eq!(caught(|| (caught(|| panic!("inner")), WITHIN.get())), Some((None::<()>, true)));
        assert!(!WITHIN.get());
    }
}
