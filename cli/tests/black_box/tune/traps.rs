//! traps: what is in the way on a host is said, with the way round it.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use serde_json::Value;

use super::host::{DEMUX, Host, MTU, inside, mount_read_only, unmount};
use crate::command::line;

#[test]
fn traps_are_explained() {
    inside("tune::traps::traps_are_explained", |host| {
        // A veth without GRO has nothing that a thread could poll.
        let plan = line("tune plan --interface veth0 --set threaded_napi=1").stdout;
        assert!(plan.contains("a veth polls only with gro on"), "{plan}");
        let plan = line("tune plan --interface veth0 --set gro=on --set threaded_napi=1").stdout;
        assert!(plan.contains("2 changes"), "{plan}");
        let plan = line("tune plan --interface lo --set threaded_napi=1").stdout;
        assert!(plan.contains("loopback has no NAPI"), "{plan}");
        let plan = line("tune plan --interface veth0 --set mtu=9000").stdout;
        assert!(plan.contains("--allow-link-reset"), "{plan}");
        let plan = line("tune plan --set udp_rmem_min=5").stdout;
        assert!(plan.contains("raised, never lowered"), "{plan}");
        ["/proc/sys", "/sys"].into_iter().for_each(mount_read_only);
        let apply = host.tune(
            "apply --interface veth0 --set udp_early_demux=0 --set mtu=1400 \
             --allow-link-reset",
        );
        assert_eq!(apply.code, 1);
        assert!(apply.stderr.contains("nothing can be set: mounted read-only"), "{apply:?}");
        // ethtool needs no file system.
        let apply = host.tune("apply --interface veth0 --set udp_early_demux=0 --set gro=on");
        assert_eq!(apply.code, 1);
        assert!(apply.stdout.contains("REFUSED: mounted read-only"), "{apply:?}");
        assert!(apply.stdout.contains("gro (veth0): off -> on  (interface)  set"), "{apply:?}");
        assert_eq!(host.tune("revert").code, 0);
    });
}

/// The traps with this name.
fn traps(host: &Host, id: &str) -> Vec<Value> {
    let picture = host.tune("show --json --interface veth0").json();
    picture["traps"].as_array().unwrap().iter().filter(|trap| trap["id"] == id).cloned().collect()
}

#[test]
fn each_read_only_file_system_is_a_trap_of_its_own() {
    inside("tune::traps::each_read_only_file_system_is_a_trap_of_its_own", |host| {
        let found = || -> Vec<String> {
            let traps = traps(host, "read_only").into_iter();
            traps.map(|trap| trap["found"].as_str().unwrap().to_owned()).collect()
        };
        let text = |path| format!("{path} is mounted read-only, as in a container");
        for (folder, path) in [("/proc/sys", DEMUX), ("/sys", MTU)] {
            assert!(found().is_empty(), "{:?}", found());
            mount_read_only(folder);
            assert_eq!(found(), [text(path)]);
            unmount(folder);
        }
        ["/proc/sys", "/sys"].into_iter().for_each(mount_read_only);
        assert_eq!(found(), [text(DEMUX), text(MTU)]);
        let shown = host.tune("show --interface veth0").stdout;
        assert!(shown.contains(&text(MTU)) && shown.contains("on the host, or in a"), "{shown}");
    });
}

#[test]
fn buffers_belong_to_the_host_of_a_container() {
    inside("tune::traps::buffers_belong_to_the_host_of_a_container", |host| {
        let said = || {
            let trap = traps(host, "buffers_of_host").pop().unwrap_or_default();
            let found = trap["found"].as_str().unwrap_or_default();
            let place = found.starts_with("/proc/sys/net/core/rmem_max ");
            place && trap["mend"].as_str().unwrap().ends_with("outside of the container")
        };
        assert!(said());
        // As containers have it.
        mount_read_only("/proc/sys");
        assert!(said());
    });
}
