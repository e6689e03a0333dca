//! machine tells this host from others: what a result is true for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::host::{facts, read};

/// Names and values.
pub(super) fn fingerprint(place: &str) -> Vec<(String, String)> {
    let mut all = facts();
    all.push(("build", build()));
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
    fn a_virtual_machine_is_told_by_its_processor() {
        assert_eq!(virtualisation("flags\t\t: fpu vme\n"), "none seen");
        assert!(virtualisation("flags\t: fpu hypervisor\n").starts_with("a virtual machine"));
    }
}
