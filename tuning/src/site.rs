//! site is where a knob is on this host: one file, or one feature of one interface.
//!
//! A knob has no site where the kernel or the driver does not have it, and several where there are
//! several CPUs, queues or interfaces.

use serde::{Deserialize, Serialize};

use crate::facts::{Files, interrupt_numbers};
use crate::knobs::{Access, Care, Knob, Reach, Setting};
use crate::shell::word;

/// A network interface, as it is known by the journal too.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its number; another interface of the same name has another one.
    pub index: u32,
}

/// Where a knob is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Site {
    /// What is there.
    pub knob: &'static Knob,
    /// The interface that it belongs to.
    pub interface: Option<Nic>,
    /// The file, for what is one.
    pub path: Option<String>,
}

impl Site {
    /// All places of `knob` on a host with these files and interfaces. Interfaces' files are left
    /// out unless `sysfs_is_ours`: /sys may show another network namespace.
    pub(crate) fn all(
        knob: &'static Knob,
        files: &Files,
        nics: &[Nic],
        sysfs_is_ours: bool,
    ) -> Vec<Self> {
        let at = |interface: Option<&Nic>, path: Option<String>| Self {
            knob,
            interface: interface.cloned(),
            path,
        };
        match knob.access {
            Access::Sysctl(name, _) => {
                let path = sysctl_path(name);
                files.exists(&path).then(|| at(None, Some(path))).into_iter().collect()
            }
            Access::File(pattern, _) if knob.reach != Reach::Interface => {
                expand(files, pattern).into_iter().map(|path| at(None, Some(path))).collect()
            }
            Access::File(pattern, _) => {
                let nics = nics.iter().filter(|_| sysfs_is_ours);
                let paths = |nic: &Nic| -> Vec<Self> {
                    let paths = of_interface(files, pattern, &nic.name);
                    paths.into_iter().map(|path| at(Some(nic), Some(path))).collect()
                };
                nics.flat_map(paths).collect()
            }
            Access::Feature(_) | Access::Device(_) => {
                nics.iter().map(|nic| at(Some(nic), None)).collect()
            }
            Access::Flag(_) | Access::Engine(_) | Access::Tool(_) | Access::Boot(..) => Vec::new(),
        }
    }

    /// That of a sysctl, whether it exists or not.
    pub(crate) fn sysctl(id: &str) -> Option<Self> {
        let knob = Knob::by_id(id)?;
        let Access::Sysctl(name, _) = knob.access else { return None };
        Some(Self { knob, interface: None, path: Some(sysctl_path(name)) })
    }

    /// Where it is, to be read: a path, or the words of a command.
    #[must_use]
    pub fn place(&self) -> String {
        match (&self.path, self.knob.access) {
            (Some(path), _) => path.clone(),
            (None, Access::Feature(name)) => format!("ethtool -k {}: {name}", self.nic()),
            (None, Access::Device(Setting { option, word, .. })) => {
                format!("ethtool -{} {}: {word}", option.to_ascii_lowercase(), self.nic())
            }
            (None, access) => access.place(),
        }
    }

    /// The plain command that sets it to `value`.
    #[must_use]
    pub fn command(&self, value: &str) -> String {
        let nic = self.nic();
        match (self.knob.access, &self.path) {
            (Access::Sysctl(name, _), _) => format!("sysctl -w {name}={}", word(value)),
            (Access::Feature(name), _) => format!("ethtool -K {nic} {name} {value}"),
            (Access::Device(Setting { option, word, .. }), _) => {
                format!("ethtool -{option} {nic} {word} {}", ethtool_word(word, value))
            }
            (_, Some(path)) => format!("echo {} > {}", word(value), word(path)),
            (access, None) => access.place(),
        }
    }

    /// Whether the interface may be away for a moment when it is set.
    pub(crate) fn resets_link(&self) -> bool {
        self.knob.care == Care::LinkReset
    }

    fn nic(&self) -> String {
        self.interface.as_ref().map_or_else(String::new, |nic| word(&nic.name).into_owned())
    }
}

/// ethtool says on and off where netlink has a number.
pub(crate) fn ethtool_word<'v>(name: &str, value: &'v str) -> &'v str {
    match (name, value) {
        ("adaptive-rx", "0") => "off",
        ("adaptive-rx", "1") => "on",
        (_, value) => value,
    }
}

fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

fn of_interface(files: &Files, pattern: &str, name: &str) -> Vec<String> {
    // A name of an interface can be no path: the kernel refuses slashes. What was asked for by
    // hand may have one.
    if name.contains(['/', '*']) || name.starts_with('.') {
        return Vec::new();
    }
    if pattern.contains("{irq}") {
        let numbers = interrupt_numbers(files, &format!("/sys/class/net/{name}"));
        let paths = numbers.iter().map(|number| pattern.replace("{irq}", number));
        return paths.filter(|path| files.exists(path)).collect();
    }
    expand(files, &pattern.replace("{interface}", name))
}

/// The files that `pattern` stands for, where `*` is any number.
fn expand(files: &Files, pattern: &str) -> Vec<String> {
    let Some((front, back)) = pattern.split_once('*') else {
        return files.exists(pattern).then(|| pattern.to_owned()).into_iter().collect();
    };
    let (folder, before) = front.rsplit_once('/').unwrap_or(("", front));
    let (after, rest) = back.split_once('/').map_or((back, ""), |(after, rest)| (after, rest));
    let number =
        |name: &String| name.strip_prefix(before)?.strip_suffix(after)?.parse::<u32>().ok();
    let mut names: Vec<(u32, String)> =
        files.names(folder).into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    names.sort();
    let deeper = |(_, name): (u32, String)| match rest {
        "" => expand(files, &format!("{folder}/{name}")),
        rest => expand(files, &format!("{folder}/{name}/{rest}")),
    };
    names.into_iter().flat_map(deeper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::Tree;

    fn knob(id: &str) -> &'static Knob {
        Knob::by_id(id).unwrap()
    }

    #[test]
    fn a_knob_is_where_its_files_are() {
        let tree = Tree::new(&[
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state0/disable", "0\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "0\n"),
            ("sys/devices/system/cpu/cpu10/cpuidle/state0/disable", "0\n"),
            ("sys/devices/system/cpu/cpu2/cpuidle/state0/disable", "0\n"),
            ("sys/devices/system/cpu/cpuidle/state0/disable", "0\n"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n"),
            ("sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
            ("sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
            ("proc/irq/41/smp_affinity_list", "0\n"),
        ]);
        let nics = [Nic { name: "eth0".into(), index: 2 }, Nic { name: "../x".into(), index: 3 }];
        let paths = |id, ours| -> Vec<String> {
            let sites = Site::all(knob(id), &tree.files(), &nics, ours);
            sites.iter().map(Site::place).collect()
        };
        assert_eq!(paths("rmem_max", true), ["/proc/sys/net/core/rmem_max"]);
        assert!(paths("wmem_max", true).is_empty());
        let cpus = "/sys/devices/system/cpu";
        let idle = ["cpu0/cpuidle/state0", "cpu0/cpuidle/state1", "cpu2/cpuidle/state0"];
        let mut idle = idle.map(|at| format!("{cpus}/{at}/disable")).to_vec();
        idle.push(format!("{cpus}/cpu10/cpuidle/state0/disable"));
        assert_eq!(paths("idle_state_disable", true), idle);
        let queues = "/sys/class/net/eth0/queues";
        let rps = [format!("{queues}/rx-0/rps_cpus"), format!("{queues}/rx-1/rps_cpus")];
        assert_eq!(paths("rps_cpus", true), rps);
        assert!(paths("rps_cpus", false).is_empty(), "another namespace's");
        assert_eq!(paths("irq_affinity", true), ["/proc/irq/41/smp_affinity_list"]);
        assert_eq!(paths("gro", false).len(), 2);
        assert!(paths("mitigations", true).is_empty() && paths("io", true).is_empty());
    }

    #[test]
    fn commands_can_be_pasted() {
        let command = |id, path: Option<&str>, value| {
            let interface = Some(Nic { name: "eth 0".into(), index: 2 });
            Site { knob: knob(id), interface, path: path.map(str::to_owned) }.command(value)
        };
        assert_eq!(command("rmem_max", None, "5"), "sysctl -w net.core.rmem_max=5");
        assert_eq!(command("udp_mem", None, "1 2 3"), "sysctl -w net.ipv4.udp_mem='1 2 3'");
        assert_eq!(command("gro", None, "on"), "ethtool -K 'eth 0' rx-gro on");
        assert_eq!(command("ring_rx", None, "256"), "ethtool -G 'eth 0' rx 256");
        assert_eq!(command("adaptive_rx", None, "1"), "ethtool -C 'eth 0' adaptive-rx on");
        assert_eq!(command("huge_pages", Some("/a"), "never"), "echo never > /a");
    }
}
