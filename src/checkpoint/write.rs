//! Writes files of safetensors, part by part as tensors come from a device; the crate writes from
//! memory only.

use super::{CheckpointError, Tensor};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    ops::Range,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

/// Numbers that are read from a device at once.
const PART: usize = 1 << 20;
/// Bytes of a file, unless a single tensor is larger.
pub(super) const SHARD_BYTES: u64 = 4 << 30;

/// A file of a checkpoint, as its manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of it, hexadecimal.
    pub blake3: String,
}

/// Copies numbers of a tensor out: its place in the list, the first number, where to.
pub type ReadPart<'a> = dyn FnMut(usize, usize, &mut [f32]) -> io::Result<()> + 'a;

/// Writes tensors to `<stem>.safetensors`, or to `<stem>-00001-of-0000N.safetensors` and so on where
/// they take more than `shard_bytes`, with `<stem>.safetensors.index.json` as transformers' has it.
pub(super) fn write(
    folder: &Path,
    stem: &str,
    tensors: &[Tensor],
    shard_bytes: u64,
    read: &mut ReadPart<'_>,
) -> Result<Vec<Shard>, CheckpointError> {
    let files = split(tensors, shard_bytes);
    let mut shards = Vec::with_capacity(files.len() + 1);
    let name = |k: usize| match files.len() {
        1 => format!("{stem}.safetensors"),
        n => format!("{stem}-{:05}-of-{n:05}.safetensors", k + 1),
    };
    for (k, range) in files.iter().enumerate() {
        let (name, first) = (name(k), range.start);
        let mut read = |i: usize, at: usize, out: &mut [f32]| read(first + i, at, out);
        let path = folder.join(&name);
        let written = write_one(&path, &tensors[range.clone()], &mut read);
        let (bytes, blake3) = written.map_err(|source| CheckpointError::Write { path, source })?;
        shards.push(Shard { name, bytes, blake3 });
    }
    if files.len() > 1 {
        let of = |(k, range): (usize, &Range<usize>)| {
            tensors[range.clone()].iter().map(move |t| (t.name.clone(), k)).collect::<Vec<_>>()
        };
        let map: BTreeMap<String, String> =
            files.iter().enumerate().flat_map(of).map(|(t, k)| (t, name(k))).collect();
        let total: u64 = tensors.iter().map(Tensor::bytes).sum();
        let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": map});
        let text = format!("{index:#}\n");
        shards.push(plain(folder, &format!("{stem}.safetensors.index.json"), text.as_bytes())?);
    }
    Ok(shards)
}

/// Writes a small file, and brings it to the disk.
pub(super) fn plain(folder: &Path, name: &str, bytes: &[u8]) -> Result<Shard, CheckpointError> {
    let path = folder.join(name);
    let put = File::create(&path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    put.map_err(|source| CheckpointError::Write { path, source })?;
    let blake3 = blake3::hash(bytes).to_hex().to_string();
    Ok(Shard { name: name.to_owned(), bytes: bytes.len() as u64, blake3 })
}

/// Consecutive tensors that share a file; there is at least one file.
fn split(tensors: &[Tensor], most: u64) -> Vec<Range<usize>> {
    let (mut files, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        if i > first && bytes + tensor.bytes() > most {
            files.push(first..i);
            (first, bytes) = (i, 0);
        }
        bytes += tensor.bytes();
    }
    files.push(first..tensors.len());
    files
}

/// Writes tensors to one file of safetensors, which `read` copies out.
///
/// # Errors
/// If it cannot be written, or two tensors have one name.
pub fn write_file(path: &Path, tensors: &[Tensor], read: &mut ReadPart<'_>) -> io::Result<()> {
    write_one(path, tensors, read).map(|_| ())
}

/// Length and hash of what was written.
fn write_one(
    path: &Path,
    tensors: &[Tensor],
    read: &mut ReadPart<'_>,
) -> io::Result<(u64, String)> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut at = 0;
    for t in tensors {
        let offsets = [at, at + t.bytes()];
        at = offsets[1];
        let about =
            serde_json::json!({"dtype": t.form.word(), "shape": t.shape, "data_offsets": offsets});
        if header.insert(t.name.clone(), about).is_some() {
            let what = format!("two tensors are called {}", t.name);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    }
    let mut header = serde_json::to_vec(&header)?;
    // Numbers begin at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.extend(header);
    let file = File::create(path)?;
    // One thread copies out of the device, the other hashes and writes: buffers go round.
    std::thread::scope(|scope| {
        let (full, to_write) = sync_channel(AHEAD);
        let (spent, empty) = sync_channel(AHEAD + 2);
        let writer = scope.spawn(move || put(file, &to_write, &spent));
        let copied = copy(tensors, read, head, &full, &empty);
        drop(full);
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
        copied.and(written)
    })
}

/// Buffers that wait to be written.
const AHEAD: usize = 2;

/// Hands out the bytes of a file, until nobody takes them.
fn copy(
    tensors: &[Tensor],
    read: &mut ReadPart<'_>,
    head: Vec<u8>,
    full: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut open = full.send(head).is_ok();
    let mut values = Vec::new();
    for (i, t) in tensors.iter().enumerate() {
        for at in (0..t.len()).step_by(PART) {
            if !open {
                // The other side says why.
                return Ok(());
            }
            values.resize(PART.min(t.len() - at), 0.0);
            read(i, at, &mut values)?;
            let mut bytes = empty.try_recv().unwrap_or_default();
            t.form.put(&values, &mut bytes);
            open = full.send(bytes).is_ok();
        }
    }
    Ok(())
}

/// Writes all that comes, brings it to the disk, and gives the buffers back.
fn put(
    mut file: File,
    full: &Receiver<Vec<u8>>,
    spent: &SyncSender<Vec<u8>>,
) -> io::Result<(u64, String)> {
    let mut hash = blake3::Hasher::new();
    let mut length = 0;
    for bytes in full {
        hash.update(&bytes);
        length += bytes.len() as u64;
        file.write_all(&bytes)?;
        // Nobody may be left who wants it.
        let _ = spent.try_send(bytes);
    }
    file.sync_all()?;
    Ok((length, hash.finalize().to_hex().to_string()))
}

#[cfg(test)]
mod tests {
    use super::{super::Form, *};

    #[test]
    fn a_tensor_larger_than_a_file_gets_one_of_its_own() {
        let of = |len: usize| Tensor { name: len.to_string(), form: Form::F32, shape: vec![len] };
        let tensors = [of(1), of(2), of(100), of(3)];
        assert_eq!(split(&tensors, 20), [0..2, 2..3, 3..4]);
        let one = |tensors: &[Tensor]| match &split(tensors, 1 << 20)[..] {
            [all] => all.clone(),
            more => panic!("{more:?}"),
        };
        assert_eq!((one(&tensors), one(&[])), (0..4, 0..0));
    }
}
