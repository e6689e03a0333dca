//! machine tells this host from others: what a result is true for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::host::{facts, read};

/// Names and values.
pub(super) fn fingerprint(place: &str) -> Vec<(String, String)> {
    let mut all = facts();
    all.push((BUILD, build()));
    all.push(("place", place.to_owned()));
    all.push(("virtualisation", virtualisation(&read("/proc/cpuinfo"))));
    all.push(("mitigations", mitigations()));
    all.push(("clock", read("/sys/devices/system/clocksource/clocksource0/current_clocksource")));
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let none = || "none, the host decides".to_owned();
    all.push(("frequency governor", if governor.is_empty() { none() } else { governor }));
    let memory = read("/proc/meminfo").lines().next().unwrap_or_default().to_owned();
    all.push(("memory", memory.trim_start_matches("MemTotal:").trim().to_owned()));
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What has to be the same for a run to go on: names and both values of what is not.
pub(super) fn differences(
    then: &[(String, String)],
    now: &[(String, String)],
) -> Vec<(String, String, String)> {
    let other = |(name, value): &(String, String)| {
        let now = now.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone());
        let now = now.unwrap_or_default();
        (now != *value).then(|| (name.clone(), value.clone(), now))
    };
    then.iter().filter_map(other).collect()
}

/// Why figures of before and after `name` changed cannot be compared.
pub(super) fn incomparable(name: &str) -> &'static str {
    match name {
        "program" | BUILD => {
            "another build of quiclane began this run, and figures of two builds are not \
             comparable; go on with that one, or begin another file"
        }
        "place" | "mitigations" | "clock" | "frequency governor" | "cores for this process" => {
            "figures of before and after are not comparable; set it as it was, or begin another \
             file"
        }
        _ => "figures of two hosts are not comparable; begin another file",
    }
}

/// Which program it is, of all with the same version.
fn build() -> String {
    let about = std::env::current_exe().and_then(fs::metadata);
    about.map_or_else(
        |_| "not known".into(),
        |about| format!("{} bytes, {}.{:09}", about.len(), about.mtime(), about.mtime_nsec()),
    )
}

fn virtualisation(cpuinfo: &str) -> String {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag == "hypervisor") {
        return "none seen".into();
    }
    let vendor = read("/sys/class/dmi/id/sys_vendor");
    match vendor.is_empty() {
        true => "a virtual machine".into(),
        false => format!("a virtual machine ({vendor})"),
    }
}

fn mitigations() -> String {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return "not known".into();
    };
    let mut counts = [0, 0];
    for entry in entries.flatten() {
        let text = read(&entry.path().to_string_lossy());
        counts[0] += u32::from(text.starts_with("Mitigation"));
        counts[1] += u32::from(text.starts_with("Vulnerable"));
    }
    format!("{} in force, {} vulnerabilities without", counts[0], counts[1])
}

/// Which build of the program it is.
const BUILD: &str = "build";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_host_is_noticed() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let then = [pair("kernel", "1"), pair("processor", "x")];
        let now = [pair("kernel", "2"), pair("processor", "x")];
        let other = ("kernel".to_owned(), "1".to_owned(), "2".to_owned());
        assert_eq!(differences(&then, &now), [other]);
        assert!(differences(&then, &then).is_empty());
        assert!(!fingerprint("here").iter().any(|(_, value)| value.is_empty()));
    }

    #[test]
    fn another_build_is_no_other_host() {
        assert!(incomparable(BUILD).contains("figures of two builds"));
        assert!(incomparable("program").contains("figures of two builds"));
        assert!(incomparable("place").contains("before and after"));
        assert!(incomparable("processor").contains("figures of two hosts"));
        // The names are those that a fingerprint has.
        let names: Vec<_> = fingerprint("x").into_iter().map(|(name, _)| name).collect();
        for name in ["program", BUILD, "place", "mitigations", "clock", "frequency governor"] {
            assert!(names.iter().any(|of| of == name), "{name}");
        }
    }

    #[test]
    fn a_virtual_machine_is_told_by_its_processor() {
        assert_eq!(virtualisation("flags\t\t: fpu vme\n"), "none seen");
        assert!(virtualisation("flags\t: fpu hypervisor\n").starts_with("a virtual machine"));
    }
}
