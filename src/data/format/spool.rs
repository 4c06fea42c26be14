//! Samples that wait in a file without a name, for formats that must know all of them before the
//! first can be written.

use crate::{
    batch::Bags,
    data::rows::{Layout, Rows},
};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

/// Samples on their way into a spool.
pub(super) struct Spool {
    file: BufWriter<File>,
    chunks: u64,
}

impl Spool {
    /// A spool in the folder of `path`.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Spool {
            file: BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(folder)?),
            chunks: 0,
        })
    }

    /// Appends samples.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, rows: &Rows) -> io::Result<()> {
        self.chunks += 1;
        let file = &mut self.file;
        file.write_all(&(rows.len() as u64).to_le_bytes())?;
        rows.labels.iter().try_for_each(|y| file.write_all(&y.to_le_bytes()))?;
        rows.dense.iter().try_for_each(|x| file.write_all(&x.to_le_bytes()))?;
        for Bags { indices, offsets, .. } in &rows.ids {
            file.write_all(&(indices.len() as u64).to_le_bytes())?;
            indices.iter().chain(offsets).try_for_each(|n| file.write_all(&n.to_le_bytes()))?;
        }
        Ok(())
    }

    /// Passes all samples on, in the order in which they came.
    ///
    /// # Errors
    /// If they cannot be read, or `take` fails.
    pub fn drain<E: From<io::Error>>(
        self,
        layout: &Layout,
        mut take: impl FnMut(&Rows) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut rows = Rows::new(layout);
        for _ in 0..self.chunks {
            rows.clear();
            let n = u64::from_le_bytes(word(&mut file)?) as usize;
            for _ in 0..n {
                rows.labels.push(f32::from_le_bytes(word(&mut file)?));
            }
            for _ in 0..n * layout.dense.len() {
                rows.dense.push(f64::from_le_bytes(word(&mut file)?));
            }
            for Bags { indices, offsets, .. } in &mut rows.ids {
                offsets.clear();
                let ids = u64::from_le_bytes(word(&mut file)?);
                for _ in 0..ids {
                    indices.push(u32::from_le_bytes(word(&mut file)?));
                }
                for _ in 0..=n {
                    offsets.push(u32::from_le_bytes(word(&mut file)?));
                }
            }
            take(&rows)?;
        }
        Ok(())
    }
}

fn word<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
