//! Raw text files in stretches of whole lines, read and unpacked ahead by a thread of its own.

use super::super::DataError;
use super::{
    lines::{BYTE_ORDER_MARK, describe, is_gzip},
    unpack::Unpacked,
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::Scope,
};

/// The least that a stretch holds. A longer line is cut here; it is malformed either way.
pub const SMALLEST: usize = 64 << 10;

/// Where to go on in a file: bytes of its unpacked text before the place, and lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The file, counted from 0.
    pub file: usize,
    /// Bytes of text before it.
    pub offset: u64,
    /// Lines before it.
    pub line: u64,
}

/// Whole lines of a file.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Where the text starts.
    pub start: Position,
    /// Where the next one starts.
    pub end: Position,
    /// The lines, each with its end but perhaps the file's last.
    pub text: Vec<u8>,
    /// Bytes of the file as it lies there that are read.
    pub raw: u64,
}

/// The files' text; ends with the first error.
pub struct Chunks {
    full: Receiver<Result<Chunk, DataError>>,
    empty: Sender<Vec<u8>>,
}

impl Chunks {
    /// Reads `files` from `from` on by stretches of about `size` bytes. At most three of them are
    /// in memory. Packed files are unpacked by `unpackers` threads.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        files: &'scope [PathBuf],
        from: Position,
        size: usize,
        unpackers: usize,
    ) -> Chunks {
        let (to, full) = sync_channel(1);
        let (empty, recycled) = channel();
        scope.spawn(move || {
            let size = size.max(SMALLEST);
            for (file, path) in files.iter().enumerate().skip(from.file) {
                let from =
                    if file == from.file { from } else { Position { file, ..Position::default() } };
                // Nobody listens any more if a sending fails.
                let text = Text::open(path, from, unpackers);
                if !send_file(text, size, &to, &recycled) {
                    return;
                }
            }
        });
        Chunks { full, empty }
    }

    /// The next stretch; `None` after the last file.
    ///
    /// # Errors
    /// If a file cannot be read, or is gzip that ends early or is damaged.
    pub fn next(&self) -> Result<Option<Chunk>, DataError> {
        self.full.recv().ok().transpose()
    }

    /// Gives a stretch's memory back.
    pub fn recycle(&self, chunk: Chunk) {
        // The thread may have read everything.
        let _ = self.empty.send(chunk.text);
    }
}

fn send_file(
    text: Result<Text, DataError>,
    size: usize,
    to: &SyncSender<Result<Chunk, DataError>>,
    recycled: &Receiver<Vec<u8>>,
) -> bool {
    let mut text = match text {
        Ok(text) => text,
        Err(e) => {
            let _ = to.send(Err(e));
            return false;
        }
    };
    loop {
        let mut buffer = recycled.try_recv().unwrap_or_default();
        match text.next(size, &mut buffer) {
            Ok(None) => return true,
            Ok(Some((start, end))) => {
                let raw = text.raw.load(Ordering::Relaxed);
                if to.send(Ok(Chunk { start, end, text: buffer, raw })).is_err() {
                    return false;
                }
            }
            Err(e) => {
                let _ = to.send(Err(e));
                return false;
            }
        }
    }
}

/// The unpacked text of one file.
struct Text {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    packed: bool,
    /// Bytes taken from the file as it lies there.
    raw: Arc<AtomicU64>,
    at: Position,
    /// The start of a line that was read with the stretch before.
    rest: Vec<u8>,
    ended: bool,
}

impl Text {
    fn open(path: &Path, from: Position, unpackers: usize) -> Result<Text, DataError> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let packed = is_gzip(path).map_err(io)?;
        let raw = Arc::new(AtomicU64::new(if packed { 0 } else { from.offset }));
        let reader: Box<dyn Read + Send> = if packed {
            let mut text = Unpacked::open(path, unpackers, Arc::clone(&raw)).map_err(io)?;
            io::copy(&mut (&mut text).take(from.offset), &mut io::sink()).map_err(io)?;
            Box::new(text)
        } else {
            let mut inner = File::open(path).map_err(io)?;
            inner.seek(SeekFrom::Start(from.offset)).map_err(io)?;
            Box::new(Counted { inner, bytes: Arc::clone(&raw) })
        };
        Ok(Text {
            path: path.to_owned(),
            reader,
            packed,
            raw,
            at: from,
            rest: Vec::new(),
            ended: false,
        })
    }

    /// Fills `buffer` with the next whole lines and tells where they start and where the next ones
    /// do; `None` at the file's end.
    fn next(
        &mut self,
        size: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<(Position, Position)>, DataError> {
        buffer.clear();
        buffer.append(&mut self.rest);
        self.read(size.saturating_sub(buffer.len()), buffer)?;
        // A mark of the byte order at the start of a file is no text.
        if self.at.offset == 0 && buffer.starts_with(BYTE_ORDER_MARK) {
            buffer.drain(..BYTE_ORDER_MARK.len());
            self.at.offset = BYTE_ORDER_MARK.len() as u64;
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        let start = self.at;
        let mut dropped = 0;
        match buffer.iter().rposition(|&b| b == b'\n') {
            // The last line of a file may lack its end.
            Some(_) if self.ended => {}
            Some(feed) => {
                self.rest.extend_from_slice(&buffer[feed + 1..]);
                buffer.truncate(feed + 1);
            }
            None if !self.ended => dropped = self.drop_line(buffer)?,
            None => {}
        }
        let lines = buffer.iter().filter(|&&b| b == b'\n').count() as u64
            + u64::from(!buffer.ends_with(b"\n"));
        self.at.offset += buffer.len() as u64 + dropped;
        self.at.line += lines;
        Ok(Some((start, self.at)))
    }

    /// Keeps the start of a line that is too long, and passes over the rest of it. Tells by how
    /// many bytes the place in the file moves further than the buffer says.
    fn drop_line(&mut self, buffer: &mut Vec<u8>) -> Result<u64, DataError> {
        let mut passed = (buffer.len() - SMALLEST.min(buffer.len())) as u64;
        buffer.truncate(SMALLEST);
        let mut more = Vec::new();
        loop {
            self.read(SMALLEST, &mut more)?;
            if let Some(feed) = more.iter().position(|&b| b == b'\n') {
                self.rest.extend_from_slice(&more[feed + 1..]);
                buffer.push(b'\n');
                return Ok(passed + feed as u64);
            }
            passed += more.len() as u64;
            more.clear();
            if self.ended {
                return Ok(passed);
            }
        }
    }

    /// Appends `more` bytes, fewer only at the file's end.
    fn read(&mut self, more: usize, buffer: &mut Vec<u8>) -> Result<(), DataError> {
        if self.ended {
            return Ok(());
        }
        buffer.reserve(more);
        match (&mut self.reader).take(more as u64).read_to_end(buffer) {
            Ok(n) => {
                self.ended = n < more;
                Ok(())
            }
            Err(e) if self.packed => {
                // What could be unpacked tells the line that was reached.
                let line = 1 + self.at.line + buffer.iter().filter(|&&b| b == b'\n').count() as u64;
                Err(DataError::Malformed { path: self.path.clone(), line, what: describe(&e) })
            }
            Err(source) => Err(DataError::Io { path: self.path.clone(), source }),
        }
    }
}

/// Counts what passes.
struct Counted {
    inner: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(to)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Lines of a file, malformed ones too: counted as fast as it can be read and unpacked, by
/// `unpackers` threads.
///
/// # Errors
/// If it cannot be read, or is gzip that ends early or is damaged.
pub fn count_lines(
    path: &Path,
    unpackers: usize,
    mut tell: impl FnMut(u64),
) -> Result<u64, DataError> {
    let mut text = Text::open(path, Position::default(), unpackers)?;
    let mut buffer = Vec::new();
    let mut lines = 0;
    while let Some((_, end)) = text.next(1 << 20, &mut buffer)? {
        lines = end.line;
        tell(text.raw.load(Ordering::Relaxed));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    /// Everything of all files.
    fn read_all(files: &[PathBuf], from: Position, size: usize) -> Result<Vec<Chunk>, DataError> {
        // Packed files by one thread and by two.
        let unpackers = 1 + size % 2;
        std::thread::scope(|scope| {
            let chunks = Chunks::start(scope, files, from, size, unpackers);
            let mut all = Vec::new();
            while let Some(chunk) = chunks.next()? {
                all.push(chunk);
            }
            Ok(all)
        })
    }

    fn joined(chunks: &[Chunk]) -> Vec<u8> {
        chunks.iter().flat_map(|c| c.text.clone()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn every_byte_comes_once_and_from_every_place_on(
            lengths in prop::collection::vec(prop_oneof![30 => 0usize..300, 1 => 50_000usize..60_000], 1..700),
            whole: bool, marked: bool, packed: bool,
        ) {
            let mut text = Vec::new();
            for (i, n) in lengths.iter().enumerate() {
                text.extend(std::iter::repeat_n(b'a' + (i % 26) as u8, *n));
                text.push(b'\n');
            }
            if !whole {
                text.pop();
                text.push(b'.');
            }
            let mut bytes = if marked { BYTE_ORDER_MARK.to_vec() } else { vec![] };
            bytes.extend_from_slice(&text);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("day_0");
            std::fs::write(&path, if packed { gzip(&bytes) } else { bytes }).unwrap();
            let files = [path];
            let chunks = read_all(&files, Position::default(), SMALLEST + usize::from(marked)).unwrap();
            prop_assert!(joined(&chunks) == text);
            prop_assert_eq!(count_lines(&files[0], 2, |_| ()).unwrap(), lengths.len() as u64);
            prop_assert_eq!(chunks.last().unwrap().end.line, lengths.len() as u64);
            for (i, chunk) in chunks.iter().enumerate() {
                prop_assert!(i + 1 == chunks.len() || chunk.text.ends_with(b"\n") && chunk.end == chunks[i + 1].start);
                let rest = read_all(&files, chunk.end, SMALLEST).unwrap();
                prop_assert!(joined(&rest) == joined(&chunks[i + 1..]));
            }
        }
    }

    #[test]
    fn a_line_without_end_is_cut_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("binary");
        let long = vec![b'x'; 5 * SMALLEST + 17];
        for (tail, lines) in [(&b"\nnext\n"[..], 3), (b"", 2), (b"\n", 2)] {
            std::fs::write(&path, [b"first\n", &long[..], tail].concat()).unwrap();
            let chunks =
                read_all(std::slice::from_ref(&path), Position::default(), SMALLEST).unwrap();
            let text = joined(&chunks);
            assert!(text.len() < 2 * SMALLEST && text.starts_with(b"first\nxxx"));
            assert!(tail.len() < 2 || text.ends_with(b"xxx\nnext\n"));
            let end = chunks.last().unwrap().end;
            assert_eq!((end.line, end.offset), (lines, std::fs::metadata(&path).unwrap().len()));
        }
    }

    #[test]
    fn damaged_gzip_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("day_0.gz");
        let text: String = (0..20_000).map(|i| format!("{}\n", i * 7919 % 100_003)).collect();
        let packed = gzip(text.as_bytes());
        std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
        let error = count_lines(&path, 2, |_| ()).unwrap_err().to_string();
        assert!(
            error.contains("day_0.gz:")
                && error.ends_with("the gzip data end early; the file is not complete"),
            "{error}"
        );
    }
}
