//! export: the files are taken by those they are for, and do what `apply` would do.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::host::{DEMUX, inside, mount, read};
use crate::command::{line, skip};

#[test]
fn exports_are_written_to_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new");
    let formats = "--format sysctl --format udev --format systemd --format tuned";
    let flags = format!("--set udp_early_demux=0 {formats} --dir {}", dir.display());
    let export = line(&format!("tune export {flags}"));
    assert_eq!(export.code, 0, "{export:?}");
    assert_eq!(export.stdout.matches(": put it into /etc/").count(), 4, "{export:?}");
    let unit = fs::read_to_string(dir.join("quiclane-tune.service")).unwrap();
    assert!(unit.contains("sysctl -w net.ipv4.udp_early_demux=0"), "{unit}");
    for name in ["90-quiclane.conf", "90-quiclane.rules", "tuned.conf"] {
        assert!(dir.join(name).exists(), "{name}");
    }
}

/// Writes what `flags` ask for to `folder`.
fn export(folder: &Path, flags: &str) {
    let dir = folder.display();
    let export = line(&format!("tune export --interface veth0 {flags} --dir {dir}"));
    assert_eq!(export.code, 0, "{export:?}");
}

/// What a program says, if it is there.
fn ask(program: &str, arguments: &[&str]) -> Option<(Output, String)> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    Some((output, String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn systemd_takes_the_unit() {
    let test = "tune::export::systemd_takes_the_unit";
    if ask("systemd-analyze", &["--version"]).is_none() {
        return skip(test, "needs systemd-analyze");
    }
    inside(test, |_| {
        let folder = tempfile::tempdir().unwrap();
        export(folder.path(), "--set gro=on --set udp_early_demux=0 --format systemd");
        let path = folder.path().join("quiclane-tune.service");
        // It complains of what it does not know, and ends well.
        let complaint = |path: &PathBuf| {
            let (_, text) = ask("systemd-analyze", &["verify", path.to_str().unwrap()]).unwrap();
            text.lines().filter(|line| line.contains("quiclane-tune")).collect::<String>()
        };
        assert_eq!(complaint(&path), "");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("StandardInputText=", "StandardInputTexts=")).unwrap();
        assert!(complaint(&path).contains("StandardInputTexts"), "it looks at nothing");
    });
}

#[test]
fn the_unit_tries_everything_and_fails_if_anything_did() {
    let test = "tune::export::the_unit_tries_everything_and_fails_if_anything_did";
    if ask("sysctl", &["--version"]).is_none() {
        return skip(test, "needs sysctl");
    }
    inside(test, |_| {
        let folder = tempfile::tempdir().unwrap();
        let flags = "--set tx_queue_length=500 --set udp_early_demux=0 --format systemd";
        export(folder.path(), flags);
        let unit = fs::read_to_string(folder.path().join("quiclane-tune.service")).unwrap();
        let device = "sys-subsystem-net-devices-veth0.device\n";
        assert!(unit.contains(&format!("\nAfter=network.target {device}")), "{unit}");
        let start = || {
            let mut shell = Command::new("/bin/sh")
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = shell.stdin.take().unwrap();
            for line in unit.lines().filter_map(|line| line.strip_prefix("StandardInputText=")) {
                writeln!(input, "{line}").unwrap();
            }
            drop(input);
            let output = shell.wait_with_output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        assert_eq!(start().0, Some(0), "{unit}");
        assert_eq!(read("/sys/class/net/veth0/tx_queue_len"), "500\n");
        assert_eq!(read(DEMUX), "0\n");
        fs::write(DEMUX, "1").unwrap();
        let delete = ["link", "delete", "veth0"];
        assert!(Command::new("ip").args(delete).status().unwrap().success());
        let (code, said) = start();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.ends_with("\nnot set: tx_queue_length\n"), "{said}");
        assert_eq!(read(DEMUX), "0\n", "what comes after it");
    });
}

const THREADS: &str = "--set threaded_napi=1 --set gro=on --set gro_flush_timeout=5000 \
                       --format udev";

#[test]
fn udev_starts_threads_once_there_is_something_to_poll() {
    let test = "tune::export::udev_starts_threads_once_there_is_something_to_poll";
    if ask("udevadm", &["--version"]).is_none() {
        return skip(test, "needs udevadm");
    }
    inside(test, |host| {
        // No rules but ours.
        for folder in ["/run", "/etc/udev/rules.d", "/usr/lib/udev/rules.d"] {
            if Path::new(folder).exists() {
                mount(&["-t", "tmpfs", "tmpfs", folder]);
            }
        }
        let folder = Path::new("/run/udev/rules.d");
        export(folder, THREADS);
        let test = ["test", "--action=change", "/sys/class/net/veth0"];
        let (output, text) = ask("udevadm", &test).unwrap();
        assert!(output.status.success(), "{text}");
        // What it would run; the rest is what it thinks of.
        let runs = String::from_utf8(output.stdout).unwrap();
        let write = "/bin/sh -c 'echo $1 > $0' /sys/class/net/veth0/threaded 1";
        let gro = runs.find("/usr/sbin/ethtool -K veth0 rx-gro on").unwrap();
        assert!(runs.find(write).unwrap() > gro, "{text}");
        let threaded = "/sys/class/net/veth0/threaded";
        let run = || Command::new("sh").args(["-c", write]).status().unwrap().success();
        assert_eq!((run(), read(threaded).as_str()), (false, "0\n"), "{text}");
        assert_eq!(host.tune("apply --interface veth0 --set gro=on").code, 0);
        assert_eq!((run(), read(threaded).as_str()), (true, "1\n"));
    });
}

#[test]
fn tuned_is_not_asked_for_what_it_leaves_alone() {
    inside("tune::export::tuned_is_not_asked_for_what_it_leaves_alone", |_| {
        let flags = "--interface veth0 --allow-link-reset --set gro=on --set mtu=1400";
        let text = line(&format!("tune export {flags} --format tuned")).stdout;
        let why = "TuneD leaves virtual interfaces alone";
        let gro = format!("\n# not here: gro = on (ethtool -k veth0: rx-gro): {why}\n");
        assert!(text.contains(&gro) && !text.contains("[net"), "{text}");
        assert!(text.contains("\n[sysfs]\n/sys/class/net/veth0/mtu=1400"), "{text}");
    });
}
