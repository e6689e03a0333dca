//! host is a host to be tuned: namespaces of network and mounts, with a veth pair, that go away
//! with the test.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::command::{Outcome, line, skip};

/// Runs `body` in namespaces of its own. `test` is the name that this binary knows the test by.
pub(crate) fn inside(test: &str, body: impl FnOnce(&Host)) {
    if env::var(INSIDE).as_deref() == Ok(test) {
        let keeps = tempfile::tempdir().unwrap();
        body(&Host { journal: keeps.path().join("tune"), _keeps: keeps });
        return;
    }
    // /sys anew: it shows the interfaces of the namespace that it was mounted in.
    let script = "mount -t sysfs sysfs /sys && ip link set lo up \
                  && ip link add veth0 type veth peer name veth1 \
                  && ip link set veth0 up && ip link set veth1 up && exec \"$@\"";
    let isolated = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", script, "sh", program]);
        command
    };
    if !isolated("true").output().is_ok_and(|output| output.status.success()) {
        return skip(test, "needs root for namespaces, `unshare`, `mount` and `ip` with veth");
    }
    let mut command = isolated(env::current_exe().unwrap().to_str().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(INSIDE, test).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}:\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "{test} is not the name of a test:\n{text}\n{errors}");
}

/// The host, and a folder for a journal.
pub(crate) struct Host {
    pub(crate) journal: PathBuf,
    _keeps: tempfile::TempDir,
}

impl Host {
    /// Runs `quiclane tune` with a journal of its own.
    pub(crate) fn tune(&self, flags: &str) -> Outcome {
        line(&format!("tune {}", self.with_journal(flags)))
    }

    /// Runs it around `command`.
    pub(crate) fn tune_while(&self, command: &str) -> Outcome {
        line(&self.while_line(command))
    }

    pub(crate) fn while_line(&self, command: &str) -> String {
        format!("tune {} -- {command}", self.with_journal("apply --set udp_early_demux=0"))
    }

    pub(crate) fn with_journal(&self, flags: &str) -> String {
        format!("{flags} --journal {}", self.journal.display())
    }

    /// Everything that [`WISHES`] changes, byte by byte.
    pub(crate) fn state(&self) -> Vec<String> {
        let files = FILES.iter().map(|path| read(path));
        let show = line("tune show --json --interface veth0").json();
        let features = show["knobs"].as_array().unwrap().iter();
        let features =
            features.filter(|row| row["access"] == "feature" || row["access"] == "device");
        files.chain(features.map(|row| row["values"].to_string())).collect()
    }

    /// How many lines the journal has; 0 without one.
    pub(crate) fn records(&self) -> usize {
        let bytes = fs::read(self.journal.join("journal")).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Whether nothing is set.
    pub(crate) fn is_closed(&self) -> bool {
        !self.journal.join("journal").exists()
    }

    /// The guards of this host's journal, by their process.
    pub(crate) fn guards(&self) -> Vec<u32> {
        let asked = format!("tune\0guard\0--journal\0{}\0", self.journal.display());
        let process = |entry: fs::DirEntry| -> Option<u32> {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&command).ends_with(&asked).then_some(number)
        };
        fs::read_dir("/proc").unwrap().filter_map(|entry| process(entry.ok()?)).collect()
    }
}

/// Makes a folder read-only until [`unmount`].
pub(crate) fn mount_read_only(folder: &str) {
    mount(&["--bind", folder, folder]);
    mount(&["-o", "remount,bind,ro", folder]);
}

pub(crate) fn mount(arguments: &[&str]) {
    try_often("mount", arguments);
}

pub(crate) fn unmount(folder: &str) {
    try_often("umount", &[folder]);
}

/// The kernel may still be busy with a mount that has just been made.
fn try_often(program: &str, arguments: &[&str]) {
    let done = (0..5).any(|_| {
        let done = Command::new(program).args(arguments).status().is_ok_and(|done| done.success());
        if !done {
            sleep(Duration::from_millis(50));
        }
        done
    });
    assert!(done, "{program} {arguments:?}");
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) const DEMUX: &str = "/proc/sys/net/ipv4/udp_early_demux";
pub(crate) const MTU: &str = "/sys/class/net/veth0/mtu";

/// Settings of this namespace and its interface, of every kind that there is.
pub(crate) const WISHES: &str = "--interface veth0 --allow-link-reset --set gro=on \
    --set gro_flush_timeout=20000 --set defer_hard_irqs=2 --set threaded_napi=1 \
    --set udp_early_demux=0 --set ip_early_demux=0 --set tx_queue_length=500 --set rps_cpus=3 \
    --set rps_flow_count=4096 --set udp_rmem_min=8192 --set udp_wmem_min=8192 --set mtu=1400 \
    --set tx_checksum=off";

/// How many there are.
pub(crate) const WISHES_COUNT: usize = 13;

const FILES: [&str; 10] = [
    "/sys/class/net/veth0/gro_flush_timeout",
    "/sys/class/net/veth0/napi_defer_hard_irqs",
    "/sys/class/net/veth0/threaded",
    "/sys/class/net/veth0/tx_queue_len",
    "/sys/class/net/veth0/mtu",
    "/sys/class/net/veth0/queues/rx-0/rps_cpus",
    "/sys/class/net/veth0/queues/rx-0/rps_flow_cnt",
    "/proc/sys/net/ipv4/udp_early_demux",
    "/proc/sys/net/ipv4/ip_early_demux",
    "/proc/sys/net/ipv4/udp_rmem_min",
];

/// Set in the namespaces to the name of the test.
const INSIDE: &str = "QUICLANE_TUNE_INSIDE";
