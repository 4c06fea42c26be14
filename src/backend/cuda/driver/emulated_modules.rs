//! The kernels of the emulated device, as libraries of this machine: built by its C++ compiler, on
//! request with a call before each access to memory, by which races are found.

use crate::backend::{
    BackendError, Result,
    cuda::driver::{Launch, Source},
};
use libloading::Library;
use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_void},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

type Entry = unsafe extern "C" fn(*const u32, *const u32, u32, *mut *mut c_void);

/// What looks for races in a library.
#[derive(Debug, Clone, Copy)]
struct Watch {
    schedule: unsafe extern "C" fn(u64),
    report: unsafe extern "C" fn() -> *const c_char,
    seed: u64,
}

/// A source's library. Kernels have static memory: one launch at a time, whoever asks.
#[derive(Debug, Default)]
struct Module {
    library: OnceLock<Library>,
    turn: Mutex<()>,
}

/// A kernel that can be started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    module: &'static Module,
    entry: Entry,
    watch: Option<Watch>,
}

/// The library of a source, watched or not; it stays to the end of the process.
fn module(source: &'static Source, watched: bool) -> &'static Module {
    static MODULES: Mutex<BTreeMap<(&str, bool), &'static Module>> = Mutex::new(BTreeMap::new());
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    modules.entry((source.name, watched)).or_insert_with(|| Box::leak(Box::default()))
}

/// The compiler's name, if there is one.
pub(crate) fn compiler() -> Option<&'static str> {
    static FOUND: OnceLock<Option<&str>> = OnceLock::new();
    let works = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    *FOUND.get_or_init(|| ["c++", "g++", "clang++"].into_iter().find(works))
}

/// A kernel of a source; with a seed, one that is watched for races.
pub(super) fn kernel(source: &'static Source, name: &str, seed: Option<u64>) -> Result<Kernel> {
    let missing = |e| BackendError::Device(format!("{}.cu has no kernel {name}: {e}", source.name));
    let module = module(source, seed.is_some());
    let library = module.library.get_or_init(|| load(&build(source, seed.is_some())));
    // SAFETY: every kernel has such an entry (EMULATE); libraries stay loaded.
    let entry = unsafe { library.get::<Entry>(format!("emulated_{name}").as_bytes()) };
    let entry = *entry.map_err(missing)?;
    let watch = match seed {
        None => None,
        // SAFETY: every library that is watched has these two (emulated.h, emulated_races.cpp).
        Some(seed) => unsafe {
            let schedule = *library.get(b"emulated_schedule").map_err(missing)?;
            let report = *library.get(b"emulated_report").map_err(missing)?;
            Some(Watch { schedule, report, seed })
        },
    };
    Ok(Kernel { module, entry, watch })
}

impl Kernel {
    /// Does a launch, the `number`-th of its device, and says what races it has.
    ///
    /// # Safety
    /// The arguments must be the kernel's, and lead it to memory that it may use so.
    pub(super) unsafe fn run(
        &self,
        launch: &Launch,
        args: &[Vec<u128>],
        number: u64,
    ) -> Option<String> {
        let _one = self.module.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut args: Vec<*mut c_void> =
            args.iter().map(|a| a.as_ptr().cast_mut().cast()).collect();
        let (grid, block) = (launch.grid.as_ptr(), launch.block.as_ptr());
        // SAFETY: the caller's promise; nobody else is in the library meanwhile, and a report is a
        // string that stays until the next is asked for.
        unsafe {
            if let Some(watch) = &self.watch {
                // 0 would be the plain order.
                let seed = watch.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                (watch.schedule)(seed.max(1));
            }
            (self.entry)(grid, block, launch.shared, args.as_mut_ptr());
            let found = CStr::from_ptr((self.watch?.report)());
            (!found.is_empty()).then(|| found.to_string_lossy().into_owned())
        }
    }
}

const OPTIONS: [&str; 6] =
    ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-ffp-contract=off", "-w"];

/// The source as a library of this machine, built unless an earlier test has done so.
fn build(source: &Source, watched: bool) -> PathBuf {
    const RACES: [(&str, &str); 2] = [
        ("emulated_races.h", include_str!("emulated_races.h")),
        ("emulated_races.cpp", include_str!("emulated_races.cpp")),
    ];
    let kernels = source.text();
    let names = kernels.lines().filter_map(|l| l.strip_prefix("KERNEL ")?.split('(').next());
    let device = concat!(include_str!("emulated.h"), include_str!("emulated_mma.h"));
    let entries: String = names.map(|n| format!("EMULATE({n})\n")).collect();
    let text = format!("{device}{kernels}{entries}");
    let mut hash = blake3::Hasher::new();
    hash.update(text.as_bytes());
    if watched {
        RACES.iter().for_each(|(_, text)| {
            hash.update(text.as_bytes());
        });
    }
    let hash = hash.finalize().to_hex();
    // One for each user: nobody else may write to it.
    // SAFETY: takes nothing, and cannot fail.
    let user = unsafe { libc::getuid() };
    let folder = std::env::temp_dir().join(format!("dlrm-bench-emulated-{user}"));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{}-{hash}.so", source.name));
    if path.exists() {
        return path;
    }
    let work = tempfile::tempdir_in(&folder).unwrap();
    let compile = |args: &[&str]| {
        let mut command = Command::new(compiler().unwrap());
        let out = command.current_dir(&work).args(OPTIONS).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{}.cu: {said}", source.name);
    };
    std::fs::write(work.path().join("k.cpp"), text).unwrap();
    if watched {
        for (name, text) in RACES {
            std::fs::write(work.path().join(name), text).unwrap();
        }
        // The library behind the option is not linked: emulated_races.cpp is what is called.
        compile(&["-O1", "-DWATCHED", "-fsanitize=thread", "-c", "k.cpp", "-o", "k.o"]);
        compile(&["-O2", "-c", "emulated_races.cpp", "-o", "races.o"]);
        compile(&["-shared", "k.o", "races.o", "-o", "k.so"]);
    } else {
        compile(&["-O1", "-shared", "k.cpp", "-o", "k.so"]);
    }
    std::fs::rename(work.path().join("k.so"), &path).unwrap();
    path
}

fn load(path: &Path) -> Library {
    // SAFETY: initialisers of the library touch nothing but its own memory.
    unsafe { Library::new(path) }.unwrap()
}
