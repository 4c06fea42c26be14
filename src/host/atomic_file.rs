//! Files that appear whole or not at all: written under another name in the same folder, brought to
//! the disk, then renamed.
//!
//! A symbolic link stays and its target is replaced. What is no regular file (a device, a pipe, a
//! descriptor such as `/dev/stdout`) is written through, never replaced. A file that is replaced
//! keeps its permissions and its owner.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Seek, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// What names of unfinished files begin with.
const PREFIX: &str = ".tmp-";

/// Links that are followed at most, as on Linux.
const MAX_LINKS: usize = 40;

/// Writes `bytes` to `path` so that a reader, or a crash, finds the old file or the new one, never
/// a part. Of several processes that write the same file, one waits for the other.
///
/// # Errors
/// If it cannot be written; then the old file is still there, and nothing of the new one.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = match Target::of(path)? {
        Target::File(path) => path,
        Target::Through(through) => return through.write_all(bytes),
    };
    let temporary = temporary(&path);
    let mut file = loop {
        match held(&temporary, File::lock) {
            Ok(Some(file)) => break file,
            Ok(None) => {}
            Err(e) if only_in_place(&e, &path) => return in_place(&path, &mut &*bytes),
            Err(e) => return Err(e),
        }
    };
    // A kill may have left a part of another.
    let put = file
        .set_len(0)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| publish(&temporary, &path));
    put.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Lets `fill` write a file under another name (with the ending of `path`), then puts it in the
/// place of `path`, or through it.
///
/// # Errors
/// If `fill` fails, or the file cannot be put in its place; nothing is left of it then.
pub fn replace(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let waiting = waiting(path);
    // Made before it is filled: what is wrong with the folder is said in the system's words,
    // whoever fills it.
    let put =
        File::create(&waiting).and_then(|_| fill(&waiting)).and_then(|()| publish(&waiting, path));
    put.inspect_err(|_| {
        // It may never have come to be.
        let _ = fs::remove_file(&waiting);
    })
}

/// A file whose room on the disk is taken before it is written, so that it can be written when the
/// disk is full.
#[derive(Debug)]
pub struct Reserved {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Reserved {
    /// Takes `bytes` bytes for the file `path`, under another name.
    ///
    /// # Errors
    /// If there is no room.
    pub fn new(path: &Path, bytes: usize) -> io::Result<Self> {
        let temporary = temporary(path);
        let file = File::create(&temporary)?;
        let reserved = Reserved { path: path.to_owned(), temporary, file };
        // Zeros that are written, since a hole takes no room.
        (&reserved.file).write_all(&vec![0; bytes])?;
        reserved.file.sync_all()?;
        Ok(reserved)
    }

    /// Writes `bytes` into the room that was taken, gives back what is left of it, and puts the
    /// file in its place.
    ///
    /// # Errors
    /// If it cannot be written or moved; nothing is left of it then.
    pub fn publish(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(io::SeekFrom::Start(0))?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        publish(&self.temporary, &self.path)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Once published it has another name.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Where output goes.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// A regular file, or none yet; links are followed.
    File(PathBuf),
    Through(Through),
}

/// What is written through.
#[derive(Debug, PartialEq, Eq)]
enum Through {
    /// This process's own standard output.
    Stdout,
    Stderr,
    /// A device, a pipe, a socket, another descriptor.
    Path(PathBuf),
}

impl Target {
    fn of(path: &Path) -> io::Result<Target> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let Ok(found) = fs::symlink_metadata(&path) else { return Ok(Target::File(path)) };
            let kind = found.file_type();
            if !kind.is_symlink() {
                let regular = kind.is_file() || kind.is_dir();
                let target =
                    if regular { Target::File } else { |p| Target::Through(Through::Path(p)) };
                return Ok(target(path));
            }
            if let Some(through) = descriptor(&path) {
                return Ok(Target::Through(through));
            }
            let target = fs::read_link(&path)?;
            path = path.parent().unwrap_or(Path::new("")).join(target);
        }
        Err(io::Error::other("too many symbolic links"))
    }
}

/// The open file that a link of /proc stands for: not its target's name counts but the descriptor,
/// which may be in the middle of the file, or of one without a name.
fn descriptor(link: &Path) -> Option<Through> {
    let folder = fs::canonicalize(link.parent()?).ok()?;
    if !folder.starts_with("/proc") || !folder.ends_with("fd") {
        return None;
    }
    let own = fs::canonicalize("/proc/self/fd").is_ok_and(|own| own == folder);
    Some(match link.file_name().and_then(|n| n.to_str()) {
        Some("1") if own => Through::Stdout,
        Some("2") if own => Through::Stderr,
        _ => Through::Path(link.to_owned()),
    })
}

impl Through {
    fn open(self) -> io::Result<Box<dyn Write>> {
        Ok(match self {
            Through::Stdout => Box::new(io::stdout()),
            Through::Stderr => Box::new(io::stderr()),
            Through::Path(path) => Box::new(OpenOptions::new().append(true).open(path)?),
        })
    }

    fn write_all(self, bytes: &[u8]) -> io::Result<()> {
        let mut to = self.open()?;
        to.write_all(bytes)?;
        to.flush()
    }
}

/// Whether `path` is a device, a pipe, a descriptor: nothing is lost by writing to it, so it may be
/// "there already".
pub fn is_written_through(path: &Path) -> bool {
    matches!(Target::of(path), Ok(Target::Through(_)))
}

/// Whether `path` is this process's standard output: other lines do not belong there then.
pub fn is_stdout(path: &Path) -> bool {
    matches!(Target::of(path), Ok(Target::Through(Through::Stdout)))
}

/// The name under which the output for `path` is prepared: beside it, or beside the target of a
/// link; for what is written through in the folder for temporary files. It has the ending of
/// `path`, by which some writers go.
pub fn waiting(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    match Target::of(path) {
        Ok(Target::File(target)) if target.extension() == path.extension() => temporary(&target),
        Ok(Target::Through(_)) => {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let id = std::process::id();
            std::env::temp_dir().join(format!("{PREFIX}{id}-{number}-{name}"))
        }
        _ => temporary(path),
    }
}

/// Whether a file can only be written where it is: the folder takes no new file, or the file itself
/// is mounted.
fn only_in_place(error: &io::Error, path: &Path) -> bool {
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy) && path.is_file()
}

fn in_place(path: &Path, from: &mut dyn io::Read) -> io::Result<()> {
    let mut to = OpenOptions::new().write(true).truncate(true).open(path)?;
    io::copy(from, &mut to)?;
    to.sync_all()
}

/// The right to write a file, of which one process at a time has it. It is a locked file beside it,
/// which goes when this is dropped, and keeps nobody out if a kill leaves it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// The right to write `path`, which need not be there; `None` if another process has it.
    ///
    /// # Errors
    /// If the file beside it cannot be made.
    pub fn of(path: &Path) -> io::Result<Option<Lock>> {
        let mut name = temporary(path).into_os_string();
        name.push(".lock");
        let path = PathBuf::from(name);
        let mut taken = false;
        loop {
            let lock = |file: &File| match file.try_lock() {
                Ok(()) => Ok(()),
                Err(TryLockError::WouldBlock) => {
                    taken = true;
                    Ok(())
                }
                Err(TryLockError::Error(e)) => Err(e),
            };
            let file = held(&path, lock)?;
            if taken {
                return Ok(None);
            }
            if let Some(file) = file {
                return Ok(Some(Lock { path, _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is unlocked: nobody else can have made another in its place.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens `path`, which is made if need be, and passes it through `lock`; `None` if whoever had it
/// before moved it or took it away meanwhile.
fn held(path: &Path, lock: impl FnOnce(&File) -> io::Result<()>) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match lock(&file) {
        Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(None),
        // Some file systems of networks have no locks.
        Err(e) if e.kind() != ErrorKind::Unsupported => return Err(e),
        _ => {}
    }
    Ok(is_at(&file, path).then_some(file))
}

/// Whether the open `file` is what lies at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let at = |m: &fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if at(&a) == at(&b))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// The name under which `path` is written: in the same folder, hidden, with the same ending (image
/// writers go by it).
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(PREFIX);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Whether `path` is one of [`temporary`].
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

/// The last part of a path, or the one that it will have when it is moved to its place.
pub fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(PREFIX).unwrap_or(&name).to_owned()
}

/// Moves a finished file to its place once the disk has it, and returns when the disk has that too.
/// Where it is to be written through, its bytes are, and it goes.
///
/// # Errors
/// If it cannot be brought to the disk or moved.
pub fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    let path = match Target::of(path)? {
        Target::File(path) => path,
        Target::Through(through) => {
            let mut to = through.open()?;
            io::copy(&mut File::open(temporary)?, &mut to)?;
            to.flush()?;
            return fs::remove_file(temporary);
        }
    };
    let file = File::open(temporary)?;
    if let Some(old) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) {
        keep_access(temporary, &old)?;
    }
    file.sync_all()?;
    match fs::rename(temporary, &path) {
        // The target of a link may lie on another disk.
        Err(e) if e.kind() == ErrorKind::CrossesDevices => {
            let beside = self::temporary(&path);
            let moved = fs::copy(temporary, &beside)
                .and_then(|_| File::open(&beside)?.sync_all())
                .and_then(|()| fs::rename(&beside, &path));
            moved.inspect_err(|_| {
                let _ = fs::remove_file(&beside);
            })?;
            fs::remove_file(temporary)?;
        }
        Err(e) if only_in_place(&e, &path) => {
            in_place(&path, &mut &file)?;
            fs::remove_file(temporary)?;
        }
        renamed => renamed?,
    }
    sync_folder(path.parent().unwrap_or(Path::new("")))
}

/// Brings the names in a folder to the disk; a file that is new there is safe only then.
///
/// # Errors
/// If the disk fails. Systems that cannot do this to a folder are taken not to need it.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(folder) = File::open(folder) else { return Ok(()) };
    match folder.sync_all() {
        Err(e) if !matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Err(e),
        _ => Ok(()),
    }
}

/// Brings a folder with all files and folders below it to the disk.
///
/// # Errors
/// If one of them cannot be read, or the disk fails.
pub fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (entry, kind) = entry.and_then(|e| e.file_type().map(|kind| (e, kind)))?;
        match kind {
            kind if kind.is_dir() => sync_tree(&entry.path())?,
            kind if kind.is_file() => File::open(entry.path())?.sync_all()?,
            _ => {}
        }
    }
    sync_folder(folder)
}

/// Makes a folder and those above it, and brings their names to the disk.
///
/// # Errors
/// If one of them cannot be made.
pub fn create_folders(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
        .collect();
    fs::create_dir_all(folder)?;
    missing.iter().try_for_each(|made| sync_folder(made.parent().unwrap_or(Path::new(""))))
}

/// Gives a file the owner, where that is allowed, and the permissions of the one that it replaces.
#[cfg(unix)]
fn keep_access(path: &Path, old: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let new = fs::metadata(path)?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        let _ = chown(path, Some(old.uid()), Some(old.gid()));
    }
    if new.permissions() == old.permissions() {
        return Ok(());
    }
    fs::set_permissions(path, old.permissions())
}

#[cfg(not(unix))]
fn keep_access(path: &Path, old: &fs::Metadata) -> io::Result<()> {
    fs::set_permissions(path, old.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_may_write_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        // As a kill leaves them.
        fs::write(temporary(&path), [7; 99]).unwrap();
        fs::write(dir.path().join(".tmp-a.bin.lock"), "").unwrap();
        let lock = Lock::of(&path).unwrap().unwrap();
        assert!(Lock::of(&path).unwrap().is_none());
        assert!(Lock::of(&dir.path().join("b.bin")).unwrap().is_some());
        drop(lock);
        drop(Lock::of(&path).unwrap().unwrap());
        std::thread::scope(|scope| {
            for i in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    (0..20).for_each(|_| write(path, &vec![i; 1000 * usize::from(i) + 1]).unwrap())
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(
            bytes.len() == 1000 * usize::from(bytes[0]) + 1 && bytes.iter().all(|b| *b == bytes[0])
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(Lock::of(&dir.path().join("none/a")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
