//! Memory for large buffers: zeros from the system, on huge pages where there is enough of it to
//! fill one. Kernels walk across rows that lie kilobytes apart, so that on 4 KiB pages each step is
//! a page of its own to translate.

use crate::backend::{BackendError, Result};
use memmap2::MmapMut;
use std::{marker::PhantomData, ops::Deref, ptr::NonNull};

/// A cache line, and a whole AVX-512 register.
const LINE: usize = 64;

/// Size and alignment of a huge page on x86-64 and on aarch64 with 4 KiB pages.
const HUGE_PAGE: usize = 2 << 20;

/// Floats in a mapping of their own, the first at a cache line; or, within [`Lent`], somebody
/// else's.
#[derive(Debug)]
pub struct Pages {
    at: NonNull<f32>,
    len: usize,
    /// Kept for its memory.
    _map: Option<MmapMut>,
}
// SAFETY: the memory belongs to this value, as a `Vec`'s does, or is borrowed by a `Lent`, which
// hands out shared references only.
unsafe impl Send for Pages {}
// SAFETY: as above; `&Pages` gives `&[f32]` and nothing else.
unsafe impl Sync for Pages {}

impl Pages {
    /// `len` zeros; `what` names their purpose should memory run out.
    ///
    /// # Errors
    /// If the system refuses the memory.
    pub fn zeros(len: usize, what: &str) -> Result<Self> {
        let refuse =
            |bytes: usize| BackendError::Memory { what: what.to_string(), bytes: bytes as u64 };
        let bytes =
            len.checked_mul(size_of::<f32>()).filter(|&b| b < isize::MAX as usize - HUGE_PAGE);
        let bytes = bytes.ok_or_else(|| refuse(usize::MAX))?;
        let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { LINE };
        let mut map = MmapMut::map_anon(bytes + align).map_err(|_| refuse(bytes))?;
        if bytes >= HUGE_PAGE {
            // Only advice: without huge pages everything still works.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let start = map.as_ptr().align_offset(align).min(align);
        let at = NonNull::from(&mut map[start..]).cast();
        Ok(Pages { at, len, _map: Some(map) })
    }

    /// The elements.
    pub fn get(&self) -> &[f32] {
        // SAFETY: `len` floats lie at `at`, aligned: in the mapping, which the system zeroed, or in
        // a slice that outlives this value.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    /// The elements, to change.
    pub fn get_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `get`; `&mut self` makes the reference the only one, since nobody has a
        // `&mut Pages` of a slice that is lent.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

/// A slice that is read where [`Pages`] are wanted.
#[derive(Debug)]
pub struct Lent<'a> {
    pages: Pages,
    owner: PhantomData<&'a [f32]>,
}

impl<'a> Lent<'a> {
    /// Lends a slice.
    pub fn new(slice: &'a [f32]) -> Self {
        let pages = Pages { at: NonNull::from(slice).cast(), len: slice.len(), _map: None };
        Lent { pages, owner: PhantomData }
    }
}

impl Deref for Lent<'_> {
    type Target = Pages;

    fn deref(&self) -> &Pages {
        &self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_aligned_and_refused_by_name() {
        for len in [0, 1, 17, HUGE_PAGE / 4 - 1, HUGE_PAGE / 4 + 5] {
            let mut pages = Pages::zeros(len, "a test").unwrap();
            assert!(pages.get().len() == len && pages.get().iter().all(|&v| v == 0.0));
            assert_eq!(
                pages.get().as_ptr() as usize % if len * 4 >= HUGE_PAGE { HUGE_PAGE } else { LINE },
                0
            );
            pages.get_mut().fill(1.0);
        }
        for len in [usize::MAX, usize::MAX / 8, 1 << 55] {
            let error = Pages::zeros(len, "activations").unwrap_err().to_string();
            assert!(error.contains("for activations"), "{error}");
        }
    }
}
