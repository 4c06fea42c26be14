//! Where CUDA's libraries are: beside the driver there must be NVRTC and cuBLASLt, in a toolkit, a
//! PyTorch installation, or wherever `LD_LIBRARY_PATH` leads; and NCCL where ranks send by it.

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Names folders that are looked into before all others, as `PATH` does.
pub const FOLDER: &str = "DLRM_BENCH_CUDA_LIB";

/// A library that this program loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// The compiler of kernels, with the files that it opens itself.
    Nvrtc,
    /// Matrix products.
    CublasLt,
    /// Messages between GPUs.
    Nccl,
}

impl Library {
    /// Files to load, the ones that others need first; each may end in any version.
    fn files(self) -> &'static [&'static str] {
        match self {
            Library::Nvrtc => &["libnvrtc-builtins.so", "libnvrtc.so"],
            Library::CublasLt => &["libcublasLt.so"],
            Library::Nccl => &["libnccl.so"],
        }
    }

    /// The file that this program needs itself.
    pub fn file(self) -> &'static str {
        match self {
            Library::Nvrtc => "libnvrtc.so",
            Library::CublasLt => "libcublasLt.so",
            Library::Nccl => "libnccl.so",
        }
    }

    /// The Python package that has it.
    pub fn package(self) -> &'static str {
        match self {
            Library::Nvrtc => "nvidia-cuda-nvrtc",
            Library::CublasLt => "nvidia-cublas",
            Library::Nccl => "nvidia-nccl-cu13",
        }
    }

    /// The major version that is asked for: that of the bindings, which for NCCL is its own.
    fn major(self) -> &'static str {
        match self {
            Library::Nvrtc | Library::CublasLt => MAJOR,
            Library::Nccl => "2",
        }
    }

    /// How one comes by it.
    fn source(self) -> String {
        match self {
            Library::Nvrtc | Library::CublasLt => {
                format!(
                    "install CUDA {MAJOR}'s toolkit, or `pip install {}=={MAJOR}.*`",
                    self.package()
                )
            }
            Library::Nccl => format!("`pip install {}`, or install NCCL", self.package()),
        }
    }
}

/// A library that cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot find {}.{}: {}; looked in {}; {FOLDER} may name another folder",
    library.file(), library.major(), library.source(), listed(looked)
)]
pub struct MissingLibrary {
    library: Library,
    looked: Vec<PathBuf>,
}

/// A library of another CUDA than the bindings are made for, which the system's search finds before
/// the one that was loaded: the bindings ask for a file without a version first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the system finds {file} of CUDA {major} before {file}.{MAJOR}: take its folder out of LD_LIBRARY_PATH, or the link that has no version",
    file = library.file()
)]
pub struct OtherVersion {
    library: Library,
    major: usize,
}

/// Whether the library that is called is the one that was meant, by the major version that it says
/// itself.
///
/// # Errors
/// If it is another.
pub fn check_major(library: Library, major: usize) -> Result<(), OtherVersion> {
    if MAJOR.parse() == Ok(major) { Ok(()) } else { Err(OtherVersion { library, major }) }
}

/// The major version that the bindings are made for.
const MAJOR: &str = "13";

fn listed(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    if folders.is_empty() {
        "no folder, since none of the usual ones exist".into()
    } else {
        folders.join(", ")
    }
}

/// Loads a library with all that it needs, for the whole process; once.
///
/// # Errors
/// If it is nowhere, naming the folders that were searched.
pub fn load(library: Library) -> Result<(), MissingLibrary> {
    static LOADED: [OnceLock<Result<(), MissingLibrary>>; 3] =
        [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    LOADED[library as usize].get_or_init(|| find_and_load(library)).clone()
}

fn find_and_load(library: Library) -> Result<(), MissingLibrary> {
    let folders = folders();
    for folder in &folders {
        let files: Option<Vec<PathBuf>> =
            library.files().iter().map(|file| versioned(folder, file, library.major())).collect();
        // The library asks for its helpers by name alone: those that are in memory already are
        // found anywhere.
        if files.is_some_and(|files| files.iter().all(|file| open(file))) {
            return Ok(());
        }
    }
    // The system's own search, which knows of folders that only its cache lists.
    if library.files().iter().all(|file| {
        open(Path::new(&format!("{file}.{}", library.major()))) || open(Path::new(file))
    }) {
        return Ok(());
    }
    Err(MissingLibrary { library, looked: folders })
}

/// The header beside a library of NCCL's, as its wheel has it.
#[cfg(test)]
pub(super) fn nccl_header() -> Option<PathBuf> {
    folders().into_iter().find_map(|lib| {
        let header = lib.parent()?.join("include/nccl.h");
        header.is_file().then_some(header)
    })
}

/// NCCL's library, loaded, for its functions to be looked up.
///
/// # Errors
/// If it is nowhere, naming the folders that were searched.
pub fn open_nccl() -> Result<libloading::Library, MissingLibrary> {
    load(Library::Nccl)?;
    // By the name that it has itself, under which it is in memory, wherever it came from.
    let name = format!("{}.{}", Library::Nccl.file(), Library::Nccl.major());
    // SAFETY: it is loaded already.
    unsafe { libloading::Library::new(name) }
        .map_err(|_| MissingLibrary { library: Library::Nccl, looked: folders() })
}

/// The file in a folder whose version is this major version, or begins with it.
fn versioned(folder: &Path, file: &str, major: &str) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version =
                path.file_name()?.to_str()?.strip_prefix(file)?.strip_prefix('.')?.to_owned();
            (version == major || version.starts_with(&format!("{major}."))).then_some(path)
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

/// Opens a library for good, its symbols for all.
fn open(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: NVIDIA's libraries have no initialisers that care who loads them.
        match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                std::mem::forget(library);
                true
            }
            Err(_) => false,
        }
    }
    #[cfg(not(unix))]
    {
        // SAFETY: as above.
        unsafe { libloading::Library::new(path) }.map(std::mem::forget).is_ok()
    }
}

/// Folders that may hold the libraries and exist, likeliest first.
fn folders() -> Vec<PathBuf> {
    let named = env::var_os(FOLDER);
    let mut folders: Vec<PathBuf> = named.iter().flat_map(env::split_paths).collect();
    folders.extend(env::var_os("LD_LIBRARY_PATH").iter().flat_map(env::split_paths));
    for root in ["CUDA_HOME", "CUDA_PATH"] {
        folders.extend(env::var_os(root).map(|root| PathBuf::from(root).join("lib64")));
    }
    folders.push("/usr/local/cuda/lib64".into());
    let virtual_env = env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let on_path = env::var_os("PATH");
    // `bin/python3` in a folder means that its `lib` has packages.
    let interpreters =
        on_path.iter().flat_map(env::split_paths).filter(|bin| bin.join("python3").exists());
    let mut roots: Vec<PathBuf> = virtual_env
        .into_iter()
        .chain(interpreters.filter_map(|b| b.parent().map(Path::to_owned)))
        .collect();
    roots.extend(env::var_os("HOME").map(|home| PathBuf::from(home).join(".local")));
    for root in roots {
        for lib in ["lib", "lib64"] {
            folders.extend(nvidia_packages(&root.join(lib)));
        }
    }
    folders.retain(|folder| folder.is_dir());
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// `python3*/{site,dist}-packages/nvidia/*/lib` below a folder of libraries.
fn nvidia_packages(lib: &Path) -> Vec<PathBuf> {
    let children = |folder: &Path| -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|e| Some(e.ok()?.path()))
            .collect();
        all.sort();
        all
    };
    let pythons = children(lib)
        .into_iter()
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python3")));
    let packages = pythons.flat_map(|p| [p.join("site-packages"), p.join("dist-packages")]);
    packages.flat_map(|p| children(&p.join("nvidia"))).map(|p| p.join("lib")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_by_version_and_packages_by_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("python3.12/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&lib).unwrap();
        for file in [
            "libnvrtc.so.12",
            "libnvrtc.so.13",
            "libnvrtc.so.130",
            "libnvrtc-builtins.so.13.0",
            "libnvrtc.alt.so.13",
        ] {
            std::fs::write(lib.join(file), "").unwrap();
        }
        assert_eq!(nvidia_packages(dir.path()), std::slice::from_ref(&lib));
        assert_eq!(versioned(&lib, "libnvrtc.so", MAJOR), Some(lib.join("libnvrtc.so.13")));
        assert_eq!(
            versioned(&lib, "libnvrtc-builtins.so", MAJOR),
            Some(lib.join("libnvrtc-builtins.so.13.0"))
        );
        assert_eq!(versioned(&lib, "libcublasLt.so", MAJOR), None);
        assert_eq!(versioned(&lib, "libnvrtc.so", "12"), Some(lib.join("libnvrtc.so.12")));
    }

    #[test]
    fn a_library_of_another_major_version_is_refused() {
        assert_eq!(check_major(Library::Nvrtc, 13), Ok(()));
        let refused = check_major(Library::CublasLt, 12).unwrap_err().to_string();
        assert!(
            refused.contains("finds libcublasLt.so of CUDA 12 before libcublasLt.so.13"),
            "{refused}"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_package_and_where_it_was_sought() {
        let missing =
            MissingLibrary { library: Library::CublasLt, looked: vec!["/a".into(), "/b".into()] };
        let text = missing.to_string();
        assert!(
            text.contains("libcublasLt.so.13")
                && text.contains("nvidia-cublas==13.*")
                && text.contains("/a, /b"),
            "{text}"
        );
        let missing = MissingLibrary { library: Library::Nccl, looked: Vec::new() };
        let text = missing.to_string();
        assert!(
            text.starts_with("cannot find libnccl.so.2: `pip install nvidia-nccl-cu13`"),
            "{text}"
        );
    }
}
