//! systemd: a unit that runs the plain commands once their interfaces are there.
//!
//! A shell reads them from the unit: every one is tried, and the unit fails if any did, with the
//! names of their knobs.

use std::collections::BTreeSet;

use super::{Wanted, line};

pub(super) fn write(wanted: &[Wanted<'_>]) -> String {
    let mut text = "\n[Unit]\nDescription=quiclane tune\n".to_owned();
    let devices = devices(wanted);
    if !devices.is_empty() {
        text += &format!("Wants={devices}\n");
    }
    text += format!("After=network.target {devices}").trim_end();
    text += "\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             # The shell tries every line; what fails is named at the end, and fails the unit.\n\
             StandardInput=data\nExecStart=/bin/sh\n";
    for Wanted { site, value, why } in wanted {
        let command = format!("{} || failed=\"$failed {}\"", site.command(value), site.knob.id);
        text += &format!("# {}\n{}", line(why), input(&command));
    }
    text += &input("[ -z \"$failed\" ] || { echo \"not set:$failed\" >&2; exit 1; }");
    text + "\n[Install]\nWantedBy=multi-user.target\n"
}

/// The interfaces as systemd knows them.
fn devices(wanted: &[Wanted<'_>]) -> String {
    let names = wanted.iter().filter_map(|wanted| wanted.site.interface.as_ref());
    // udev tells systemd nothing of loopback, which is always there.
    let names = names.map(|nic| nic.name.as_str()).filter(|name| *name != "lo");
    let unit = |name| format!("sys-subsystem-net-devices-{}.device", escaped(name));
    names.collect::<BTreeSet<_>>().into_iter().map(unit).collect::<Vec<_>>().join(" ")
}

/// As systemd-escape writes it.
fn escaped(name: &str) -> String {
    let one = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    name.bytes().map(one).collect()
}

/// A line for the shell: systemd reads escapes in it, and names of its own.
fn input(command: &str) -> String {
    format!("StandardInputText={}\n", line(command).replace('\\', "\\\\").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Format;
    use crate::export::tests::{change, of_nic, plan};

    #[test]
    fn it_waits_for_its_interfaces() {
        let path = Some("/proc/sys/net/core/rmem_max");
        let sysctl = || change("rmem_max", None, path, "1");
        let heads = |changes| {
            let text = plan(changes).export(Format::Systemd).text;
            let is_head = |line: &&str| line.starts_with("Wants=") || line.starts_with("After=");
            text.lines().filter(is_head).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(heads(vec![sysctl()]), ["After=network.target"]);
        assert_eq!(heads(vec![of_nic("gro", "lo", "on")]), ["After=network.target"]);
        let eth0 = "sys-subsystem-net-devices-eth0.device";
        let vlan = "sys-subsystem-net-devices-my\\x2dlan.7.device";
        let two = ["gro", "rx_usecs"].map(|id| of_nic(id, "my-lan.7", "1"));
        let changes = [&two[..], &[sysctl(), of_nic("mtu", "eth0", "1400")]].concat();
        let expected =
            [format!("Wants={eth0} {vlan}"), format!("After=network.target {eth0} {vlan}")];
        assert_eq!(heads(changes), expected);
    }

    #[test]
    fn names_are_escaped_as_systemd_does() {
        // What `systemd-escape` says.
        assert_eq!(escaped("a.b-c_9@\u{e9}$\\"), "a.b\\x2dc_9\\x40\\xc3\\xa9\\x24\\x5c");
    }

    #[test]
    fn the_shell_gets_what_was_meant() {
        assert_eq!(input("a \\ %i $b \"c\""), "StandardInputText=a \\\\ %%i $b \"c\"\n");
    }
}
