//! What control groups leave to this process: the tightest limit of all that it is in.
//!
//! A process is in a group and so in all groups above it (SLURM: `/slurm/uid_0/job_1/step_0`), each
//! with limits of its own. Version 2 has one tree, version 1 one for each controller; both may be
//! mounted. A container may see its group as the root of the mount, whatever `/proc/self/cgroup`
//! says, so the root is looked at too.

use super::linux::{line, quota};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Limits of version 1 above this mean that there is none.
const NO_LIMIT: u64 = 1 << 60;

/// What this process may use where control groups limit it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Processors' worth of time.
    pub cpu: Option<f64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of it that are free for use; files in the page cache give way and count as free.
    pub memory_free: Option<u64>,
}

impl Limits {
    /// Of this process.
    pub fn here() -> Self {
        Limits::below(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
    }

    /// From the process's list of groups, and where their trees are mounted.
    fn below(list: &Path, mount: &Path) -> Self {
        let mut limits = Limits::default();
        all_groups(list, mount).iter().for_each(|folder| limits.tighten(folder));
        limits
    }

    /// Takes the limits of one group into account.
    fn tighten(&mut self, group: &Path) {
        let number = |name: &str| line(group.join(name))?.parse::<u64>().ok();
        let least = |old: Option<u64>, new: u64| Some(old.map_or(new, |old| old.min(new)));
        let v1 = || {
            let (quota, period) = ("cpu.cfs_quota_us", "cpu.cfs_period_us");
            Some(format!("{} {}", line(group.join(quota))?, line(group.join(period))?))
        };
        if let Some(cpu) = line(group.join("cpu.max")).or_else(v1).and_then(|text| quota(&text)) {
            self.cpu = Some(self.cpu.map_or(cpu, |old| old.min(cpu)));
        }
        let Some(limit) = number("memory.max")
            .or_else(|| number("memory.limit_in_bytes"))
            .filter(|&limit| limit < NO_LIMIT)
        else {
            return;
        };
        self.memory = least(self.memory, limit);
        let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"));
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let of = |name: &str| {
            let value = stat.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|v| v.trim().parse::<u64>().ok())
        };
        let files = ["total_inactive_file", "total_active_file"].map(of);
        let files = match files {
            [None, None] => ["inactive_file", "active_file"].map(of),
            files => files,
        };
        let files: u64 = files.into_iter().flatten().sum();
        let held = used.unwrap_or(0).saturating_sub(files);
        self.memory_free = least(self.memory_free, limit.saturating_sub(held));
    }
}

/// The group and all above it up to the root of the mount, those that are there.
fn groups(root: &Path, group: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut folder = root.to_owned();
    for part in Path::new(group).components() {
        // `..` leads out of what a container sees.
        if let Component::Normal(name) = part {
            folder.push(name);
            found.push(folder.clone());
        }
    }
    found.retain(|folder| folder.is_dir());
    found
}

/// Folders of all groups that the process with this list is in, in every tree below `mount`.
fn all_groups(list: &Path, mount: &Path) -> Vec<PathBuf> {
    let list = fs::read_to_string(list).unwrap_or_default();
    if list.is_empty() {
        return vec![mount.to_owned()];
    }
    let mut all = Vec::new();
    for entry in list.lines() {
        // `4:cpu,cpuacct:/a/b`, version 2 `0::/a/b`.
        let mut fields = entry.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let mounts: Vec<PathBuf> = match controllers {
            "" => vec![mount.to_owned(), mount.join("unified")],
            names => {
                let each = names.split(',').map(|name| mount.join(name));
                std::iter::once(mount.join(names)).chain(each).collect()
            }
        };
        all.extend(mounts.iter().flat_map(|root| groups(root, group)));
    }
    all
}

/// Microseconds for which the limit of a group has held this process back so far, that of the group
/// that did so for longest; `None` where no group counts it.
pub(super) fn held_back() -> Option<u64> {
    held_back_below(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
}

fn held_back_below(list: &Path, mount: &Path) -> Option<u64> {
    let of = |group: PathBuf| throttled(&fs::read_to_string(group.join("cpu.stat")).ok()?);
    all_groups(list, mount).into_iter().filter_map(of).max()
}

/// Of `cpu.stat`, version 2 or 1: microseconds.
fn throttled(stat: &str) -> Option<u64> {
    let of = |name: &str| {
        let value = stat.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse::<u64>().ok()
    };
    of("throttled_usec").or_else(|| of("throttled_time").map(|nanos| nanos / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_held_back_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (list, mount) = (dir.path().join("list"), dir.path().join("cgroup"));
        for (folder, text) in [
            ("", "usage_usec 3\n"),
            ("slurm", "nr_periods 9\nnr_throttled 2\nthrottled_usec 7500\n"),
            ("slurm/job", "throttled_usec 20\n"),
            ("other", "throttled_usec 99999\n"),
            ("cpu,cpuacct/old", "nr_throttled 2\nthrottled_time 8000000\n"),
        ] {
            fs::create_dir_all(mount.join(folder)).unwrap();
            fs::write(mount.join(folder).join("cpu.stat"), text).unwrap();
        }
        for (text, want) in [
            ("0::/slurm/job\n", Some(7500)),
            ("0::/slurm\n3:cpu,cpuacct:/old\n", Some(8000)),
            ("0::/\n", None),
        ] {
            fs::write(&list, text).unwrap();
            assert_eq!(held_back_below(&list, &mount), want, "{text}");
        }
    }

    /// A tree of groups with these files, and a process in these groups.
    fn limits(list: &str, files: &[(&str, &str)]) -> Limits {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("cgroup");
        for (name, text) in files {
            let path = mount.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::write(dir.path().join("list"), list).unwrap();
        Limits::below(&dir.path().join("list"), &mount)
    }

    #[test]
    fn the_tightest_group_of_version_2_holds() {
        let files = [
            ("cpu.max", "max 100000\n"),
            ("slurm/memory.max", "8589934592\n"),
            ("slurm/memory.current", "8000000000\n"),
            ("slurm/memory.stat", "anon 1\ninactive_file 3000000000\nactive_file 1000000000\n"),
            ("slurm/cpu.max", "150000 100000\n"),
            ("slurm/job/memory.max", "1073741824\n"),
            ("slurm/job/memory.current", "73741824\n"),
            ("slurm/job/cpu.max", "400000 100000\n"),
            ("slurm/job/step/memory.max", "max\n"),
            ("other/memory.max", "1\n"),
        ];
        let of = |group: &str| limits(&format!("0::{group}\n"), &files);
        let expected =
            Limits { cpu: Some(1.5), memory: Some(1 << 30), memory_free: Some(1_000_000_000) };
        assert_eq!(of("/slurm/job/step"), expected);
        let above = of("/slurm");
        assert_eq!((above.memory, above.memory_free), (Some(8 << 30), Some(4_589_934_592)));
        assert_eq!(of("/"), Limits::default());
        // What is outside the container, or of another process, does not count.
        assert_eq!(of("/../../job"), Limits::default());
    }

    #[test]
    fn controllers_of_version_1_have_a_tree_each() {
        let list = "4:memory:/slurm/job\n3:cpu,cpuacct:/slurm/job\n1:name=systemd:/x\n";
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/slurm/memory.limit_in_bytes", "1073741824\n"),
            ("memory/slurm/memory.usage_in_bytes", "500000000\n"),
            ("memory/slurm/memory.stat", "inactive_file 5\ntotal_inactive_file 100000000\n"),
            ("memory/slurm/job/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cpu,cpuacct/slurm/cpu.cfs_quota_us", "50000\n"),
            ("cpu,cpuacct/slurm/cpu.cfs_period_us", "100000\n"),
            ("cpu,cpuacct/slurm/job/cpu.cfs_quota_us", "-1\n"),
            ("cpu,cpuacct/slurm/job/cpu.cfs_period_us", "100000\n"),
        ];
        let expected =
            Limits { cpu: Some(0.5), memory: Some(1 << 30), memory_free: Some(673_741_824) };
        assert_eq!(limits(list, &files), expected);
        // Both versions beside each other: the tighter one.
        let hybrid = [&files[..], &[("unified/u/cpu.max", "20000 100000\n")]].concat();
        assert_eq!(limits(&format!("{list}0::/u\n"), &hybrid).cpu, Some(0.2));
    }

    #[test]
    fn a_container_sees_its_group_as_the_root() {
        let files = [("memory.max", "1000\n"), ("memory.current", "2000\n")];
        let found = limits("0::/docker/abc\n", &files);
        assert_eq!((found.memory, found.memory_free), (Some(1000), Some(0)));
        assert_eq!(limits("", &files).memory, Some(1000));
        assert_eq!(limits("nonsense", &[]), Limits::default());
    }
}
