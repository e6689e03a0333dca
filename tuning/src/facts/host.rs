//! host reads what the kernel says about the machine and about itself.

use std::collections::BTreeMap;

use super::files::{Files, number_list};

/// The machine and its kernel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Host {
    pub(crate) kernel: Kernel,
    /// kernel.unprivileged_bpf_disabled; `None` on a kernel without eBPF.
    pub(crate) unprivileged_bpf_disabled: Option<u32>,
    /// net.core.bpf_jit_enable; only root may read it.
    pub(crate) bpf_jit: Option<u32>,
    /// kernel.io_uring_disabled, since Linux 6.6.
    pub(crate) uring_disabled: Option<u32>,
    /// What the kernel tells the time with.
    pub(crate) clock_source: Option<String>,
    /// Maker and product of the machine, where the firmware tells.
    pub(crate) machine: Option<String>,
    /// Whether the CPU says that it belongs to a hypervisor.
    pub(crate) virtual_machine: bool,
    /// Thousandths of all CPU time since boot that the hypervisor gave to others.
    pub(crate) stolen_permille: u64,
    /// Governor: the CPUs under it.
    pub(crate) governors: BTreeMap<String, Vec<usize>>,
    /// CPUs that share a core, for cores with more than one.
    pub(crate) siblings: Vec<Vec<usize>>,
    /// The CPUs of each NUMA node.
    pub(crate) nodes: BTreeMap<usize, Vec<usize>>,
    /// CPUs that the scheduler leaves alone.
    pub(crate) isolated: Vec<usize>,
}

/// A version as `uname -r` writes it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) version: (u32, u32, u32),
}

impl Kernel {
    pub(crate) fn new(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
        Self { release: release.to_owned(), version: (next(), next(), next()) }
    }

    /// Whether it is `major.minor` or later.
    pub(crate) fn since(&self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor, 0)
    }
}

impl Host {
    pub(crate) fn read(files: &Files) -> Self {
        let cpus = number_list(&files.text("/sys/devices/system/cpu/online").unwrap_or_default());
        let release = files.text("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            kernel: Kernel::new(&release),
            unprivileged_bpf_disabled: files.value("/proc/sys/kernel/unprivileged_bpf_disabled"),
            bpf_jit: files.value("/proc/sys/net/core/bpf_jit_enable"),
            uring_disabled: files.value("/proc/sys/kernel/io_uring_disabled"),
            clock_source: files.text(CLOCK_SOURCE),
            machine: machine(files),
            virtual_machine: is_virtual(&files.text("/proc/cpuinfo").unwrap_or_default()),
            stolen_permille: stolen(&files.text("/proc/stat").unwrap_or_default()),
            governors: governors(files, &cpus),
            siblings: siblings(files, &cpus),
            nodes: nodes(files),
            isolated: number_list(
                &files.text("/sys/devices/system/cpu/isolated").unwrap_or_default(),
            ),
        }
    }
}

const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

fn machine(files: &Files) -> Option<String> {
    let part = |name: &str| files.text(&format!("/sys/class/dmi/id/{name}"));
    let parts: Vec<String> = [part("sys_vendor"), part("product_name")]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn is_virtual(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_ascii_whitespace().any(|flag| flag == "hypervisor")
}

/// The eighth number of the first line of /proc/stat, against the sum of the first eight.
fn stolen(stat: &str) -> u64 {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let times: Vec<u64> =
        line.split_ascii_whitespace().take(8).map_while(|time| time.parse().ok()).collect();
    let total: u64 = times.iter().sum();
    times.get(7).map_or(0, |stolen| stolen * 1_000 / total.max(1))
}

fn governors(files: &Files, cpus: &[usize]) -> BTreeMap<String, Vec<usize>> {
    let mut governors: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for cpu in cpus {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        if let Some(governor) = files.text(&path) {
            governors.entry(governor).or_default().push(*cpu);
        }
    }
    governors
}

fn siblings(files: &Files, cpus: &[usize]) -> Vec<Vec<usize>> {
    let mut cores: Vec<Vec<usize>> = cpus
        .iter()
        .filter_map(|cpu| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            Some(number_list(&files.text(&path)?))
        })
        .filter(|siblings| siblings.len() > 1)
        .collect();
    cores.sort();
    cores.dedup();
    cores
}

fn nodes(files: &Files) -> BTreeMap<usize, Vec<usize>> {
    let folder = "/sys/devices/system/node";
    let node = |name: &String| {
        let number = name.strip_prefix("node")?.parse().ok()?;
        let cpus = number_list(&files.text(&format!("{folder}/{name}/cpulist"))?);
        Some((number, cpus))
    };
    files.names(folder).iter().filter_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_every_distribution_are_understood() {
        for (release, version) in [
            ("6.18.44-fc-v595", (6, 18, 44)),
            ("7.0.0-14-generic", (7, 0, 0)),
            ("5.15.0-1053-aws", (5, 15, 0)),
            ("6.1-rc3", (6, 1, 0)),
            ("", (0, 0, 0)),
        ] {
            assert_eq!(Kernel::new(release).version, version, "{release}");
        }
        assert!(Kernel::new("6.1.0").since(6, 1) && !Kernel::new("5.19.17").since(6, 1));
    }

    #[test]
    fn stolen_time_is_a_share() {
        assert_eq!(stolen("cpu  600 0 100 200 0 0 0 100 0 0\ncpu0 1 1"), 100);
        assert_eq!(stolen("cpu  600 0 100"), 0);
        assert_eq!(stolen(""), 0);
    }

    #[test]
    fn hypervisors_are_seen_by_a_flag() {
        assert!(is_virtual("processor : 0\nflags : fpu hypervisor lm\n"));
        assert!(!is_virtual("flags : fpu lm\n") && !is_virtual(""));
    }
}
