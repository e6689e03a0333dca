//! export writes a plan as files that other programs apply at every boot.
//!
//! What is wanted is written, whether this host has it already or not; what this host does not have
//! or must not have is left out, with its reason as a comment.

use crate::knobs::Access;
use crate::plan::Plan;
use crate::site::Site;

/// Who is to apply it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// sysctl.d: the kernel's settings alone.
    Sysctl,
    /// A rule of udev: the files and features of interfaces, when they appear.
    Udev,
    /// A unit of systemd that runs the plain commands.
    Systemd,
    /// A profile of TuneD.
    Tuned,
}

/// A file to be put where its reader looks for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Export {
    /// Its name.
    pub name: &'static str,
    /// Where it belongs, and the command that makes it act.
    pub install: &'static str,
    /// Its content.
    pub text: String,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sysctl, Self::Udev, Self::Systemd, Self::Tuned];

    /// As `--format` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sysctl => "sysctl",
            Self::Udev => "udev",
            Self::Systemd => "systemd",
            Self::Tuned => "tuned",
        }
    }

    const fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::Sysctl => ("90-quiclane.conf", "/etc/sysctl.d/; then: sysctl --system"),
            Self::Udev => (
                "90-quiclane.rules",
                "/etc/udev/rules.d/; then: udevadm control --reload && udevadm trigger -s net",
            ),
            Self::Systemd => (
                "quiclane-tune.service",
                "/etc/systemd/system/; then: systemctl enable --now quiclane-tune",
            ),
            Self::Tuned => (
                "tuned.conf",
                "/etc/tuned/profiles/quiclane/ (older TuneD: /etc/tuned/quiclane/); then: \
                 tuned-adm profile quiclane",
            ),
        }
    }
}

impl Plan {
    /// The plan as a file for `format`.
    #[must_use]
    pub fn export(&self, format: Format) -> Export {
        let (name, install) = format.file();
        let wanted = self.wanted();
        let (body, left) = match format {
            Format::Sysctl => sysctl(&wanted),
            Format::Udev => udev(&wanted),
            Format::Systemd => (systemd(&wanted), Vec::new()),
            Format::Tuned => tuned(&wanted),
        };
        let mut text = format!("# quiclane tune export: {}\n# {install}\n", line(&self.asked));
        for wanted in left {
            let place = line(&wanted.site.place());
            text += &format!("# not here: {} = {} ({place})\n", wanted.site.knob.id, wanted.value);
        }
        for kept in self.kept.iter().filter(|kept| !kept.reason.is_fulfilled()) {
            let reason = line(kept.reason.text());
            text += &format!("# left out: {} = {}: {reason}\n", kept.knob, line(&kept.wanted));
        }
        Export { name, install, text: text + &body }
    }

    /// What holds once the plan is applied.
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let changes = self.changes.iter().map(|change| Wanted {
            site: &change.site,
            value: &change.to,
            why: &change.why,
        });
        let kept = self.kept.iter().filter(|kept| kept.reason.is_fulfilled());
        let kept = kept.filter_map(|kept| {
            let (site, value) = (kept.site.as_ref()?, kept.value.as_deref()?);
            Some(Wanted { site, value, why: "already so on this host" })
        });
        changes.chain(kept).collect()
    }
}

/// A place and what it is to be.
struct Wanted<'p> {
    site: &'p Site,
    value: &'p str,
    why: &'p str,
}

/// As one line: nothing that was typed in or read can begin another one.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn sysctl<'p>(wanted: &'p [Wanted<'p>]) -> (String, Vec<&'p Wanted<'p>>) {
    let (mut text, mut left) = (String::new(), Vec::new());
    for wanted in wanted {
        match wanted.site.knob.access {
            Access::Sysctl(name, _) => {
                text += &format!("\n# {}\n{name} = {}\n", line(wanted.why), line(wanted.value));
            }
            _ => left.push(wanted),
        }
    }
    (text, left)
}

/// Attributes of the interface's folder are set by udev itself; for the rest it runs the command.
fn udev<'p>(wanted: &'p [Wanted<'p>]) -> (String, Vec<&'p Wanted<'p>>) {
    let (mut text, mut left) = (String::new(), Vec::new());
    for wanted in wanted {
        let Some(nic) = &wanted.site.interface else {
            left.push(wanted);
            continue;
        };
        let folder = format!("/sys/class/net/{}/", nic.name);
        let path = wanted.site.path.as_deref();
        let action = match path.map(|path| path.strip_prefix(&folder)) {
            Some(Some(attribute)) => format!("ATTR{{{attribute}}}=\"{}\"", quoted(wanted.value)),
            // An interrupt has another number at the next boot.
            Some(None) => {
                left.push(wanted);
                continue;
            }
            None => format!("RUN+=\"{}\"", quoted(&program(&wanted.site.command(wanted.value)))),
        };
        let name = quoted(&literal(&nic.name));
        text += &format!(
            "\n# {}\n{ACTIONS}, SUBSYSTEM==\"net\", KERNEL==\"{name}\", {action}\n",
            line(wanted.why)
        );
    }
    (text, left)
}

fn systemd(wanted: &[Wanted<'_>]) -> String {
    let mut text = "\n[Unit]\nDescription=quiclane tune\nAfter=network.target\n\n[Service]\n\
                    Type=oneshot\nRemainAfterExit=yes\n"
        .to_owned();
    for wanted in wanted {
        // Of a leading dash a failure is no failure of the unit: a device may be absent one day.
        let command = line(&wanted.site.command(wanted.value)).replace('%', "%%");
        let command = command.replace('\\', "\\\\").replace('$', "$$").replace('"', "\\\"");
        text += &format!("# {}\nExecStart=-/bin/sh -c \"{command}\"\n", line(wanted.why));
    }
    text + "\n[Install]\nWantedBy=multi-user.target\n"
}

fn tuned<'p>(wanted: &'p [Wanted<'p>]) -> (String, Vec<&'p Wanted<'p>>) {
    let (mut sysctls, mut files, mut nets, mut left) =
        (String::new(), String::new(), String::new(), Vec::new());
    for (at, wanted) in wanted.iter().enumerate() {
        let value = line(wanted.value);
        match (wanted.site.knob.access, &wanted.site.path, &wanted.site.interface) {
            (Access::Sysctl(name, _), ..) => sysctls += &format!("{name}={value}\n"),
            (_, Some(path), _) if path.starts_with("/sys/") => {
                files += &format!("{}={value}\n", line(path));
            }
            (Access::Feature(name), _, Some(nic)) => {
                nets += &net(at, &nic.name, "features", &format!("{name} {value}"));
            }
            (Access::Device(setting), _, Some(nic)) => {
                let kind = match setting.option {
                    'G' => "ring",
                    'L' => "channels",
                    _ => "coalesce",
                };
                let command = wanted.site.command(wanted.value);
                let word = command.rsplit(' ').next().unwrap_or_default();
                nets += &net(at, &nic.name, kind, &format!("{} {word}", setting.word));
            }
            _ => left.push(wanted),
        }
    }
    let section = |name: &str, body: &str| match body {
        "" => String::new(),
        body => format!("\n[{name}]\n{body}"),
    };
    let main = "\n[main]\nsummary=quiclane\n";
    let text = format!("{main}{}{}{nets}", section("sysctl", &sysctls), section("sysfs", &files));
    (text, left)
}

/// TuneD takes one list of devices for each section of its net plugin.
fn net(at: usize, device: &str, key: &str, value: &str) -> String {
    format!("\n[net_{at}]\ntype=net\ndevices={}\n{key}={value}\n", line(device))
}

/// For a string of a rule of udev: its own substitutions begin with these.
fn quoted(text: &str) -> String {
    line(text).replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$").replace('%', "%%")
}

/// An interface that is renamed comes a second time, as moved; a trigger is a change.
const ACTIONS: &str = "ACTION==\"add|change|move\"";

/// Names of interfaces may have what is a pattern for udev.
fn literal(name: &str) -> String {
    let one = |c: char| if "*?[".contains(c) { format!("[{c}]") } else { c.to_string() };
    name.chars().map(one).collect()
}

/// udev runs no shell and knows no PATH.
fn program(command: &str) -> String {
    format!("/usr/sbin/{command}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::SCHEMA;
    use crate::form::Form;
    use crate::knobs::Knob;
    use crate::plan::{Change, Kept};
    use crate::site::Nic;
    use crate::wish::Reason;

    fn site(id: &str, path: Option<&str>) -> Site {
        let knob = Knob::by_id(id).unwrap();
        let interface = path
            .is_none_or(|path| path.contains("eth0"))
            .then(|| Nic { name: "eth0".into(), index: 2 });
        Site { knob, interface, path: path.map(str::to_owned) }
    }

    fn plan() -> Plan {
        let change = |id, path, to: &str| Change {
            site: site(id, path),
            from: "0".into(),
            to: to.into(),
            why: "why\nnot".into(),
            form: Form::AnyWord,
        };
        let rmem = Some("/proc/sys/net/core/rmem_max");
        let flush = Some("/sys/class/net/eth0/gro_flush_timeout");
        let thp = Some("/sys/kernel/mm/transparent_hugepage/defrag");
        let kept = |id: &'static str, reason, site| Kept {
            knob: id,
            interface: None,
            place: "there".into(),
            value: Some("1".into()),
            wanted: "1".into(),
            reason,
            site,
        };
        let demux = site("udp_early_demux", Some("/proc/sys/net/ipv4/udp_early_demux"));
        Plan {
            schema: SCHEMA,
            asked: "profile throughput".into(),
            changes: vec![
                change("rmem_max", rmem, "16777216"),
                change("gro", None, "on"),
                change("rx_usecs", None, "8"),
                change("gro_flush_timeout", flush, "20000"),
                change("huge_pages_defrag", thp, "never"),
                change("irq_affinity", Some("/proc/irq/4/eth0"), "1"),
            ],
            kept: vec![
                kept("udp_early_demux", Reason::Already, Some(demux)),
                kept("governor", Reason::Absent, None),
            ],
            traps: Vec::new(),
        }
    }

    #[test]
    fn each_reader_gets_what_it_can_apply_and_hears_of_the_rest() {
        let text = |format| plan().export(format).text;
        let sysctl = text(Format::Sysctl);
        for words in [
            "\nnet.core.rmem_max = 16777216\n",
            "\nnet.ipv4.udp_early_demux = 1\n",
            "# not here: gro = on",
            "# left out: governor = 1: not on this host",
            "# why not\n",
        ] {
            assert!(sysctl.contains(words), "{words}:\n{sysctl}");
        }
        let udev = text(Format::Udev);
        for words in [
            "KERNEL==\"eth0\", ATTR{gro_flush_timeout}=\"20000\"\n",
            "RUN+=\"/usr/sbin/ethtool -K eth0 rx-gro on\"\n",
            "# not here: rmem_max",
            "# not here: irq_affinity",
        ] {
            assert!(udev.contains(words), "{words}:\n{udev}");
        }
        let systemd = text(Format::Systemd);
        for words in [
            "ExecStart=-/bin/sh -c \"sysctl -w net.core.rmem_max=16777216\"\n",
            "ExecStart=-/bin/sh -c \"echo never > /sys/kernel/mm/transparent_hugepage/defrag\"\n",
            "ExecStart=-/bin/sh -c \"ethtool -C eth0 rx-usecs 8\"\n",
        ] {
            assert!(systemd.contains(words), "{words}:\n{systemd}");
        }
        let tuned = text(Format::Tuned);
        for words in [
            "[sysctl]\nnet.core.rmem_max=16777216\nnet.ipv4.udp_early_demux=1\n",
            "[sysfs]\n/sys/class/net/eth0/gro_flush_timeout=20000\n",
            "devices=eth0\nfeatures=rx-gro on\n",
            "coalesce=rx-usecs 8\n",
            "# not here: irq_affinity",
        ] {
            assert!(tuned.contains(words), "{words}:\n{tuned}");
        }
    }

    #[test]
    fn names_are_names_and_no_patterns_or_commands() {
        let mut plan = plan();
        plan.changes.retain(|change| change.site.knob.id == "gro");
        plan.changes[0].site.interface = Some(Nic { name: "e*$(a)\"".into(), index: 2 });
        let udev = plan.export(Format::Udev).text;
        assert!(udev.contains("KERNEL==\"e[*]$$(a)\\\"\""), "{udev}");
        let systemd = plan.export(Format::Systemd).text;
        assert!(systemd.contains("ethtool -K 'e*$$(a)\\\"' rx-gro on\"\n"), "{systemd}");
    }

    #[test]
    fn every_file_says_where_it_belongs() {
        for format in Format::ALL {
            let export = plan().export(format);
            assert!(export.text.starts_with("# quiclane tune export: profile throughput\n# /etc/"));
            assert!(export.install.contains("then: "), "{format:?}");
        }
    }
}
