//! Who started this process as one of several: what the launchers of MPI programs leave in the
//! environment, and where their library lies.

use std::{
    env,
    path::{Path, PathBuf},
};

/// A launcher, by the variables that it sets.
#[derive(Debug, Clone, Copy)]
pub struct Launcher {
    /// Its name.
    pub name: &'static str,
    /// The variable that holds how many ranks there are.
    pub size: &'static str,
    /// One that is set beside it, if the first may also be set where nothing was launched.
    pub beside: Option<&'static str>,
}

/// The launchers that are known. `SLURM_NTASKS` is also set in a batch script, outside every step.
pub const LAUNCHERS: [Launcher; 3] = [
    Launcher { name: "Open MPI's mpirun", size: "OMPI_COMM_WORLD_SIZE", beside: None },
    // MPICH's, Intel's, and srun with PMI.
    Launcher { name: "an mpirun that speaks PMI", size: "PMI_SIZE", beside: None },
    Launcher { name: "srun", size: "SLURM_STEP_NUM_TASKS", beside: Some("SLURM_PROCID") },
];

/// The launcher that started this process as one of several ranks, and how many.
pub fn launched() -> Option<(Launcher, usize)> {
    launched_by(|name| env::var(name).ok())
}

fn launched_by(variable: impl Fn(&str) -> Option<String>) -> Option<(Launcher, usize)> {
    LAUNCHERS.into_iter().find_map(|launcher| {
        let size = variable(launcher.size)?.trim().parse().ok().filter(|size| *size > 1)?;
        launcher.beside.is_none_or(|name| variable(name).is_some()).then_some((launcher, size))
    })
}

/// File names of the library, newest interfaces last: that which a launcher belongs to is beside it.
const NAMES: [&str; 5] =
    ["libmpi.so.40", "libmpi.so.12", "libmpi_abi.so.1", "libmpi_abi.so.0", "libmpi.so"];

/// Where the library may be, best first: what `named` says, beside the launcher that is found in
/// `PATH`, where the loader looks.
pub(super) fn libraries(named: Option<&str>) -> Vec<String> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let launchers = ["mpirun", "mpiexec"];
    let found = env::split_paths(&path)
        .flat_map(|folder| launchers.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    let mut folders: Vec<PathBuf> = Vec::new();
    for file in found.iter().flat_map(|f| [Some(f.clone()), f.canonicalize().ok()]).flatten() {
        if let Some(root) = file.parent().and_then(Path::parent) {
            folders.extend(["lib", "lib64"].map(|lib| root.join(lib)));
        }
    }
    let beside = folders.iter().flat_map(|folder| NAMES.map(|name| folder.join(name)));
    let beside = beside.filter(|file| file.is_file()).map(|file| file.display().to_string());
    beside.chain(NAMES.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_is_known_by_its_variables() {
        let with = |set: &'static [(&str, &str)]| {
            let of = move |name: &str| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            };
            launched_by(of).map(|(launcher, size)| (launcher.name, size))
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("OMPI_COMM_WORLD_SIZE", "4")]), Some(("Open MPI's mpirun", 4)));
        assert_eq!(with(&[("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(with(&[("PMI_SIZE", "2")]), Some(("an mpirun that speaks PMI", 2)));
        assert_eq!(with(&[("SLURM_STEP_NUM_TASKS", "8")]), None);
        let step = with(&[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "3")]);
        assert_eq!(step, Some(("srun", 8)));
        // Of a batch script.
        assert_eq!(with(&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")]), None);
    }

    #[test]
    fn a_library_that_is_named_is_the_only_one() {
        assert_eq!(libraries(Some("/opt/mpi/libmpi.so")), ["/opt/mpi/libmpi.so"]);
        assert!(libraries(None).iter().any(|name| name == "libmpi.so.40"));
    }
}
