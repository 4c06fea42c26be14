//! Gzip unpacked as it is read: by one thread, or by several that begin at places where a block of
//! the packed data seems to start, and whose guesses are confirmed in order (rapidgzip). What is
//! read is the same.

use flate2::bufread::MultiGzDecoder;
use rapidgzip_core::{Decoder, DecoderReader, ReadAt};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Buffer for packed data.
const PACKED: usize = 1 << 20;
/// Memory that a thread takes: packed and unpacked pieces, and places that are not known yet.
pub const MEMORY: u64 = 32 << 20;

/// The text of a gzip file.
pub struct Unpacked {
    path: PathBuf,
    from: From,
    /// Bytes of text so far.
    passed: u64,
    /// Bytes of the file that have been read.
    raw: Arc<AtomicU64>,
}

enum From {
    One(MultiGzDecoder<BufReader<Counted>>),
    Several(DecoderReader),
}

impl Unpacked {
    /// Opens a file, to be unpacked by as many as `threads` threads. `raw` is told how far it has
    /// been read.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, threads: usize, raw: Arc<AtomicU64>) -> io::Result<Self> {
        let file =
            || Ok::<_, io::Error>(Counted { file: File::open(path)?, raw: Arc::clone(&raw) });
        // Where not even the first header is whole, one thread tells what is wrong.
        let several = match threads {
            0 | 1 => None,
            n => Decoder::builder()
                .decoder_threads(n)
                .build()
                .map_err(io::Error::other)?
                .reader(file()?)
                .ok(),
        };
        let from = match several {
            Some(several) => From::Several(several),
            None => {
                raw.store(0, Ordering::Relaxed);
                From::One(one(file()?))
            }
        };
        Ok(Unpacked { path: path.to_owned(), from, passed: 0, raw })
    }
}

fn one(file: Counted) -> MultiGzDecoder<BufReader<Counted>> {
    MultiGzDecoder::new(BufReader::with_capacity(PACKED, file))
}

impl Read for Unpacked {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.from {
            From::One(from) => from.read(to),
            From::Several(from) => match from.read(to) {
                Ok(n) => Ok(n),
                // One thread tells what is wrong, and where, or that nothing is.
                Err(_) => {
                    self.raw.store(0, Ordering::Relaxed);
                    let mut from =
                        one(Counted { file: File::open(&self.path)?, raw: Arc::clone(&self.raw) });
                    io::copy(&mut (&mut from).take(self.passed), &mut io::sink())?;
                    let read = from.read(to);
                    self.from = From::One(from);
                    read
                }
            },
        };
        self.passed += *read.as_ref().unwrap_or(&0) as u64;
        read
    }
}

/// A file that tells how far it has been read.
struct Counted {
    file: File,
    raw: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(to)?;
        self.raw.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl ReadAt for Counted {
    fn len(&self) -> io::Result<u64> {
        ReadAt::len(&self.file)
    }

    fn read_at(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(offset, to)?;
        self.raw.fetch_max(offset + n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    /// Text of words that come again, as in a log.
    fn text(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut text = Vec::with_capacity(bytes + 20);
        while text.len() < bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = (state >> 40) >> (state % 23);
            let _ = write!(text, "{word:x}{}", if state.is_multiple_of(40) { '\n' } else { '\t' });
        }
        text.truncate(bytes);
        text
    }

    fn packed(text: &[u8], level: u32) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::new(level));
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    /// The text, and what is said at its end.
    fn read(path: &Path, threads: usize, piece: usize) -> (Vec<u8>, Option<String>) {
        let mut from = Unpacked::open(path, threads, Arc::default()).unwrap();
        let (mut all, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return (all, None),
                Ok(n) => all.extend_from_slice(&buffer[..n]),
                Err(e) => return (all, Some(e.to_string())),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Members of all kinds one behind the other, whole, cut short or spoilt: any number of
        /// threads reads what one reads, and says what one says.
        #[test]
        fn any_number_of_threads_reads_the_same(
            members in prop::collection::vec((0usize..3_000_000, 0u32..10, any::<u64>()), 1..4),
            threads in 2usize..5,
            piece in 1_000usize..200_000,
            cut in prop::option::of(any::<prop::sample::Index>()),
            spoilt in prop::option::of((any::<prop::sample::Index>(), 1u8..)),
            tail in prop_oneof![4 => Just(&b""[..]), 1 => Just(&[0; 9][..]), 1 => Just(&b"text"[..])],
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("day_0.gz");
            let mut bytes: Vec<u8> = members.iter().flat_map(|&(n, level, seed)| packed(&text(n, seed), level)).collect();
            bytes.extend_from_slice(tail);
            if let Some((at, by)) = spoilt {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            std::fs::write(&path, &bytes).unwrap();
            let (plain, what) = read(&path, 1, piece);
            let (text, said) = read(&path, threads, piece);
            prop_assert_eq!(&said, &what);
            // How much comes before an error depends on how much is asked for at once.
            let n = text.len().min(plain.len());
            prop_assert!(text[..n] == plain[..n] && (said.is_some() || text.len() == plain.len()));
        }
    }

    #[test]
    fn a_file_cut_within_its_header_is_what_one_thread_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day_0.gz");
        let whole = packed(b"0\t1\n", 6);
        for n in 0..whole.len() {
            std::fs::write(&path, &whole[..n]).unwrap();
            assert_eq!(read(&path, 3, 1000), read(&path, 1, 1000), "{n} bytes");
        }
    }

    #[test]
    fn a_header_with_everything_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day_0.gz");
        let mut packer = GzBuilder::new()
            .filename("day_0")
            .comment("a log")
            .extra(vec![1; 300])
            .write(Vec::new(), Compression::fast());
        let text = text(9_000_000, 3);
        packer.write_all(&text).unwrap();
        std::fs::write(&path, packer.finish().unwrap()).unwrap();
        let raw = Arc::new(AtomicU64::new(0));
        let mut all = Vec::new();
        Unpacked::open(&path, 3, Arc::clone(&raw)).unwrap().read_to_end(&mut all).unwrap();
        assert!(all == text);
        assert_eq!(raw.load(Ordering::Relaxed), std::fs::metadata(&path).unwrap().len());
    }
}
