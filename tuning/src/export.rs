//! export writes a plan as files that other programs apply at every boot.
//!
//! What is wanted is written, whether this host has it already or not; what this host does not have
//! or must not have, and what the reader cannot set, is left out, with its reason as a comment.

mod sysctl;
mod systemd;
mod tuned;
mod udev;

use crate::plan::Plan;
use crate::site::Site;
use crate::wish;

/// Who is to apply it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// sysctl.d: the kernel's settings alone.
    Sysctl,
    /// A rule of udev: the files and features of interfaces, when they appear.
    Udev,
    /// A unit of systemd that runs the plain commands, and fails if one of them does.
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
        let (moving, wanted): (Vec<_>, Vec<_>) =
            self.wanted().into_iter().partition(Wanted::is_interrupt);
        let (body, mut left) = match format {
            Format::Sysctl => sysctl::write(&wanted),
            Format::Udev => udev::write(&wanted),
            Format::Systemd => (systemd::write(&wanted), Vec::new()),
            Format::Tuned => tuned::write(&wanted, &self.virtual_nics),
        };
        left.extend(moving.into_iter().map(|wanted| Left(wanted, "another boot, another number")));
        let mut text = format!("# quiclane tune export: {}\n# {install}\n", line(&self.asked));
        for Left(Wanted { site, value, .. }, why) in left {
            let place = line(&site.place());
            text += &format!("# not here: {} = {value} ({place}): {why}\n", site.knob.id);
        }
        for kept in self.kept.iter().filter(|kept| !kept.reason.is_fulfilled()) {
            let reason = line(kept.reason.text());
            text += &format!("# left out: {} = {}: {reason}\n", kept.knob, line(&kept.wanted));
        }
        Export { name, install, text: text + &body }
    }

    /// What holds once the plan is applied, in the order in which it is set.
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
        let mut wanted: Vec<Wanted<'_>> = changes.chain(kept).collect();
        // What is so already may not be so at the next boot.
        wanted.sort_by_key(Wanted::turn);
        wanted
    }
}

/// A place and what it is to be.
#[derive(Clone, Copy)]
struct Wanted<'p> {
    site: &'p Site,
    value: &'p str,
    why: &'p str,
}

impl Wanted<'_> {
    /// See [`wish::turn`].
    fn turn(&self) -> i8 {
        wish::turn(self.site.knob.id, self.value)
    }

    /// Whether its place is an interrupt, which has another number at the next boot.
    fn is_interrupt(&self) -> bool {
        self.site.path.as_ref().is_some_and(|path| path.starts_with("/proc/irq/"))
    }
}

/// What a reader cannot set, and why.
struct Left<'p>(Wanted<'p>, &'static str);

/// As one line: nothing that was typed in or read can begin another one.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::SCHEMA;
    use crate::form::Form;
    use crate::knobs::{Access, Knob};
    use crate::plan::{Change, Kept};
    use crate::site::Nic;
    use crate::wish::Reason;

    pub(super) fn nic(name: &str) -> Nic {
        Nic { name: name.into(), index: 2 }
    }

    /// That a knob of `device`, or of none, is to be `to`; `path` is of files alone.
    pub(super) fn change(id: &str, device: Option<&str>, path: Option<&str>, to: &str) -> Change {
        let (knob, path) = (Knob::by_id(id).unwrap(), path.map(str::to_owned));
        let site = Site { knob, interface: device.map(nic), path };
        Change {
            site,
            from: "0".into(),
            to: to.into(),
            why: "why\nnot".into(),
            form: Form::AnyWord,
            by_hand: false,
        }
    }

    pub(super) fn of_nic(id: &str, device: &str, to: &str) -> Change {
        let path = match Knob::by_id(id).unwrap().access {
            Access::File(path, _) => Some(path.replace("{interface}", device).replace('*', "0")),
            _ => None,
        };
        change(id, Some(device), path.as_deref(), to)
    }

    pub(super) fn plan(changes: Vec<Change>) -> Plan {
        let asked = "profile throughput".into();
        let (kept, traps, virtual_nics) = (Vec::new(), Vec::new(), Vec::new());
        Plan { schema: SCHEMA, asked, changes, kept, traps, virtual_nics }
    }

    /// That it is so already.
    pub(super) fn kept(change: Change) -> Kept {
        let Change { site, to, .. } = change;
        Kept {
            knob: site.knob.id,
            interface: None,
            place: site.place(),
            value: Some(to.clone()),
            wanted: to,
            reason: Reason::Already,
            site: Some(site),
            by_hand: false,
        }
    }

    /// One of everything.
    fn mixed() -> Plan {
        let rmem = Some("/proc/sys/net/core/rmem_max");
        let demux = Some("/proc/sys/net/ipv4/udp_early_demux");
        let thp = Some("/sys/kernel/mm/transparent_hugepage/defrag");
        let irq = Some("/proc/irq/40/smp_affinity_list");
        let mut plan = plan(vec![
            change("rmem_max", None, rmem, "16777216"),
            of_nic("gro", "eth0", "on"),
            of_nic("rx_usecs", "eth0", "8"),
            of_nic("gro_flush_timeout", "eth0", "20000"),
            change("huge_pages_defrag", None, thp, "never"),
            change("irq_affinity", Some("eth0"), irq, "1"),
        ]);
        let absent = kept(change("governor", None, None, "1"));
        plan.kept = vec![
            kept(change("udp_early_demux", None, demux, "1")),
            Kept { value: None, reason: Reason::Absent, site: None, ..absent },
        ];
        plan
    }

    #[test]
    fn each_reader_gets_what_it_can_apply_and_hears_of_the_rest() {
        let text = |format| mixed().export(format).text;
        let sysctl = text(Format::Sysctl);
        for words in [
            "\nnet.core.rmem_max = 16777216\n",
            "\nnet.ipv4.udp_early_demux = 1\n",
            "# not here: gro = on (ethtool -k eth0: rx-gro): it is no sysctl\n",
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
        ] {
            assert!(udev.contains(words), "{words}:\n{udev}");
        }
        let systemd = text(Format::Systemd);
        for words in [
            "=sysctl -w net.core.rmem_max=16777216 || failed=\"$failed rmem_max\"\n",
            "=echo never > /sys/kernel/mm/transparent_hugepage/defrag || failed=",
            "=ethtool -C eth0 rx-usecs 8 || failed=",
        ] {
            assert!(systemd.contains(words), "{words}:\n{systemd}");
        }
        let tuned = text(Format::Tuned);
        for words in [
            "[sysctl]\nnet.core.rmem_max=16777216\nnet.ipv4.udp_early_demux=1\n",
            "[sysfs]\n/sys/class/net/eth0/gro_flush_timeout=20000\n",
            "devices=eth0\ndynamic=0\ncoalesce=rx-usecs 8\nfeatures=gro on\n",
        ] {
            assert!(tuned.contains(words), "{words}:\n{tuned}");
        }
    }

    #[test]
    fn an_interrupt_is_not_known_by_its_number_after_a_boot() {
        for format in Format::ALL {
            let text = mixed().export(format).text;
            let at: Vec<&str> = text.lines().filter(|line| line.contains("/proc/irq/")).collect();
            let path = "/proc/irq/40/smp_affinity_list";
            let why = "another boot, another number";
            assert_eq!(at, [format!("# not here: irq_affinity = 1 ({path}): {why}")], "{format:?}");
        }
    }

    #[test]
    fn what_is_so_today_comes_in_its_turn_too() {
        let mut plan = plan(vec![of_nic("threaded_napi", "veth0", "1")]);
        plan.kept = vec![kept(of_nic("gro", "veth0", "on"))];
        for format in [Format::Udev, Format::Systemd] {
            let text = plan.export(format).text;
            assert!(text.find("rx-gro on") < text.find("/threaded"), "{format:?}: {text}");
        }
    }

    #[test]
    fn names_are_names_and_no_patterns_or_commands() {
        let plan = plan(vec![of_nic("gro", "e*$(a)\"", "on")]);
        let udev = plan.export(Format::Udev).text;
        assert!(udev.contains("KERNEL==\"e[*]$$(a)\\\"\""), "{udev}");
        let systemd = plan.export(Format::Systemd).text;
        assert!(systemd.contains("=ethtool -K 'e*$(a)\"' rx-gro on || failed="), "{systemd}");
        let tuned = plan.export(Format::Tuned).text;
        assert!(tuned.contains("# not here: gro = on (") && !tuned.contains("[net"), "{tuned}");
    }

    #[test]
    fn every_file_says_where_it_belongs() {
        for format in Format::ALL {
            let export = mixed().export(format);
            assert!(export.text.starts_with("# quiclane tune export: profile throughput\n# /etc/"));
            assert!(export.install.contains("then: "), "{format:?}");
        }
    }
}
