//! process reads what this process may do: capabilities, limits, cores and its share of them.

use super::files::{Files, number_list};

/// This process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Process {
    /// The program file, for setcap.
    pub(crate) program: String,
    pub(crate) effective: Capabilities,
    /// What it could have at most; a container has less here.
    pub(crate) bounding: Capabilities,
    /// Whether its user IDs are mapped: its capabilities then do not count for the whole host.
    pub(crate) user_namespace: bool,
    /// Whether files give it no capabilities (setcap) and sudo does nothing for it.
    pub(crate) no_new_privileges: bool,
    /// Whether it runs in a container, so that what it lacks is granted from outside.
    pub(crate) container: bool,
    /// Whether systemd runs services here.
    pub(crate) systemd: bool,
    /// RLIMIT_NOFILE.
    pub(crate) open_files: Option<Limit>,
    /// RLIMIT_MEMLOCK in bytes.
    pub(crate) locked_bytes: Option<Limit>,
    /// CPUs it may run on.
    pub(crate) cores: Vec<usize>,
    /// Thousandths of a CPU that its control group may use.
    pub(crate) quota_millicpus: Option<u64>,
}

/// A resource limit; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Limit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// A set of capabilities, as in /proc/PID/status.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Capabilities(pub(crate) u64);

/// The capabilities that make a difference here, by their bit in linux/capability.h.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Capability {
    NetBindService = 10,
    NetAdmin = 12,
    NetRaw = 13,
    SysAdmin = 21,
    SysNice = 23,
    Perfmon = 38,
    Bpf = 39,
}

impl Capability {
    pub(crate) const ALL: [Self; 7] = [
        Self::Bpf,
        Self::NetAdmin,
        Self::NetRaw,
        Self::NetBindService,
        Self::SysNice,
        Self::Perfmon,
        Self::SysAdmin,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NetBindService => "cap_net_bind_service",
            Self::NetAdmin => "cap_net_admin",
            Self::NetRaw => "cap_net_raw",
            Self::SysAdmin => "cap_sys_admin",
            Self::SysNice => "cap_sys_nice",
            Self::Perfmon => "cap_perfmon",
            Self::Bpf => "cap_bpf",
        }
    }
}

impl Capabilities {
    /// CAP_SYS_ADMIN covers CAP_BPF and CAP_PERFMON, which were split off it in Linux 5.8.
    pub(crate) fn has(self, capability: Capability) -> bool {
        let bit = |capability: Capability| self.0 & (1 << capability as u8) != 0;
        let covered = matches!(capability, Capability::Bpf | Capability::Perfmon);
        bit(capability) || (covered && bit(Capability::SysAdmin))
    }

    /// Those of [`Capability::ALL`] that are in the set.
    pub(crate) fn names(self) -> Vec<&'static str> {
        Capability::ALL.into_iter().filter(|one| self.has(*one)).map(Capability::name).collect()
    }
}

impl Process {
    pub(crate) fn read(files: &Files) -> Self {
        let status = files.text("/proc/self/status").unwrap_or_default();
        let limits = files.text("/proc/self/limits").unwrap_or_default();
        let capabilities = |name| {
            let mask = field(&status, name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
            Capabilities(mask.unwrap_or(0))
        };
        Self {
            program: String::new(),
            effective: capabilities("CapEff:"),
            bounding: capabilities("CapBnd:"),
            user_namespace: is_mapped(&files.text("/proc/self/uid_map").unwrap_or_default()),
            no_new_privileges: field(&status, "NoNewPrivs:") == Some("1"),
            container: is_container(files),
            systemd: files.exists("/run/systemd/system"),
            open_files: limit(&limits, "Max open files"),
            locked_bytes: limit(&limits, "Max locked memory"),
            cores: number_list(field(&status, "Cpus_allowed_list:").unwrap_or_default()),
            quota_millicpus: quota(files),
        }
    }
}

fn field<'t>(status: &'t str, name: &str) -> Option<&'t str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The first user namespace maps all IDs to themselves.
fn is_mapped(uid_map: &str) -> bool {
    let numbers: Vec<&str> = uid_map.split_ascii_whitespace().collect();
    !numbers.is_empty() && numbers != ["0", "0", "4294967295"]
}

/// By the files that Docker, podman and systemd-nspawn leave, or by the name of the control group.
fn is_container(files: &Files) -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    let groups = files.text("/proc/self/cgroup").unwrap_or_default();
    marks.into_iter().any(|path| files.exists(path))
        || CONTAINER_GROUPS.into_iter().any(|name| groups.contains(name))
}

/// Parts of the paths of containers' control groups. `docker.service` is the daemon's.
const CONTAINER_GROUPS: [&str; 8] = [
    "/docker/",
    "/docker-",
    "/kubepods",
    "/libpod-",
    "/lxc/",
    "/lxc.payload",
    "/crio-",
    "/cri-containerd-",
];

fn limit(limits: &str, name: &str) -> Option<Limit> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let number = |word: &str| match word {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    let mut words = line.split_ascii_whitespace();
    Some(Limit { soft: number(words.next()?)?, hard: number(words.next()?)? })
}

/// The smallest quota on the way from the process's control group to the root, of either version.
fn quota(files: &Files) -> Option<u64> {
    let groups = files.text("/proc/self/cgroup")?;
    let path = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => Some(("/sys/fs/cgroup", path.to_owned())),
            _ if controllers.split(',').any(|one| one == "cpu") => {
                Some(("/sys/fs/cgroup/cpu", path.to_owned()))
            }
            _ => None,
        }
    };
    let mut least: Option<u64> = None;
    for (mount, path) in groups.lines().filter_map(path) {
        let mut path = path.as_str();
        loop {
            let folder = format!("{mount}{}", path.trim_end_matches('/'));
            least = [least, quota_of(files, &folder)].into_iter().flatten().min();
            match path.rsplit_once('/') {
                Some((parent, child)) if !(parent.is_empty() && child.is_empty()) => path = parent,
                _ => break,
            }
        }
    }
    least
}

fn quota_of(files: &Files, folder: &str) -> Option<u64> {
    let (quota, period) = match files.text(&format!("{folder}/cpu.max")) {
        Some(text) => {
            let (quota, period) = text.split_once(' ')?;
            (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
        }
        None => (
            files.value(&format!("{folder}/cpu.cfs_quota_us"))?,
            files.value(&format!("{folder}/cpu.cfs_period_us"))?,
        ),
    };
    Some(quota.saturating_mul(1_000) / period.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::Tree;

    #[test]
    fn capabilities_are_bits() {
        let all = Capabilities(0x0000_01ff_feff_ffff);
        assert!(Capability::ALL.into_iter().all(|one| all.has(one)));
        let docker = Capabilities(0x0000_0000_a804_25fb);
        assert_eq!(docker.names(), ["cap_net_raw", "cap_net_bind_service"]);
        let old = Capabilities(1 << 21);
        assert!(old.has(Capability::Bpf) && !old.has(Capability::NetAdmin));
    }

    #[test]
    fn status_and_limits_are_read() {
        let tree = Tree::new(&[
            (
                "proc/self/status",
                "Name:\tquiclane\nCapEff:\t0000008000001000\nCapBnd:\t000001ffffffffff\n\
                 Cpus_allowed_list:\t0-1,4\n",
            ),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max locked memory         8388608              unlimited            bytes     \n\
                 Max open files            1024                 524288               files     \n",
            ),
            ("proc/self/uid_map", "         0          0 4294967295\n"),
        ]);
        let process = Process::read(&tree.files());
        assert_eq!(process.effective.names(), ["cap_bpf", "cap_net_admin", "cap_perfmon"][..2]);
        assert_eq!(process.cores, [0, 1, 4]);
        assert_eq!(process.open_files, Some(Limit { soft: 1_024, hard: 524_288 }));
        assert_eq!(process.locked_bytes, Some(Limit { soft: 8 << 20, hard: u64::MAX }));
        assert!(!process.user_namespace);
        assert!(is_mapped("0 1000 1") && !is_mapped(""));
    }

    #[test]
    fn containers_are_known_by_their_marks() {
        let is = |path, text| is_container(&Tree::new(&[(path, text)]).files());
        assert!(is(".dockerenv", "") && is("run/.containerenv", "engine=podman\n"));
        let group = "proc/self/cgroup";
        assert!(is(group, "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope\n"));
        assert!(is(group, "0::/system.slice/docker-0123.scope\n"));
        assert!(!is(group, "0::/user.slice/user-1000.slice/session-1.scope\n"));
        assert!(!is(group, "0::/system.slice/docker.service\n"));
        let tree = Tree::new(&[("proc/self/status", "NoNewPrivs:\t1\n")]);
        assert!(Process::read(&tree.files()).no_new_privileges);
    }

    #[test]
    fn the_smallest_quota_on_the_way_up_counts() {
        let tree = Tree::new(&[
            ("proc/self/cgroup", "0::/pod/box\n"),
            ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/pod/box/cpu.max", "max 100000\n"),
        ]);
        assert_eq!(quota(&tree.files()), Some(1_500));
    }

    #[test]
    fn a_container_sees_its_group_as_the_root() {
        let two = Tree::new(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
        ]);
        assert_eq!(quota(&two.files()), Some(500));
        let one = Tree::new(&[
            ("proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/docker/1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "-1\n"),
        ]);
        assert_eq!(quota(&one.files()), Some(2_000));
        assert_eq!(quota(&Tree::new(&[]).files()), None);
    }
}
