//! Reads and writes at places of a file, by any thread, without a position that they share.

use std::{fs::File, io};

/// Fills `out` with what stands at byte `at`.
pub(crate) fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, out, at);
    #[cfg(windows)]
    return all(out.len(), at, |done, at| {
        std::os::windows::fs::FileExt::seek_read(file, &mut out[done..], at)
    });
    #[cfg(not(any(unix, windows)))]
    return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{file:?} {out:?} {at}")));
}

/// Writes all of `bytes` from byte `at` on.
pub(crate) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, at);
    #[cfg(windows)]
    return all(bytes.len(), at, |done, at| {
        std::os::windows::fs::FileExt::seek_write(file, &bytes[done..], at)
    });
    #[cfg(not(any(unix, windows)))]
    return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{file:?} {bytes:?} {at}")));
}

/// Goes on until `len` bytes are done.
#[cfg(windows)]
fn all(
    len: usize,
    at: u64,
    mut some: impl FnMut(usize, u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        match some(done, at + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => done += n,
        }
    }
    Ok(())
}
