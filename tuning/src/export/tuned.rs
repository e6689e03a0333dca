//! tuned: a profile of TuneD.
//!
//! TuneD gives an interface to one section of its net plugin alone, so that all of an interface is
//! in one, and has none but those with a device behind them. It sets features that `ethtool -k`
//! shows, by the short names of `ethtool -K` where there are such.

use std::collections::BTreeMap;

use super::{Left, Wanted, line};
use crate::knobs::{Access, Setting};
use crate::site::{Nic, ethtool_word};

pub(super) fn write<'p>(wanted: &[Wanted<'p>], virtual_nics: &[Nic]) -> (String, Vec<Left<'p>>) {
    let (mut sysctls, mut files, mut left) = (String::new(), String::new(), Vec::new());
    let mut nets: BTreeMap<&str, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for wanted in wanted {
        let value = line(wanted.value);
        match place(wanted, virtual_nics) {
            Ok(Place::Sysctl(name)) => sysctls += &format!("{name}={value}\n"),
            Ok(Place::File(path)) => files += &format!("{path}={value}\n"),
            Ok(Place::Net(device, option, words)) => {
                nets.entry(device).or_default().entry(option).or_default().push(words);
            }
            Err(why) => left.push(Left(*wanted, why)),
        }
    }
    let section = |name: &str, body: &str| match body {
        "" => String::new(),
        body => format!("\n[{name}]\n{body}"),
    };
    let mut text = "\n[main]\nsummary=quiclane\n".to_owned();
    text += &(section("sysctl", &sysctls) + &section("sysfs", &files));
    for (device, options) in nets {
        text += &format!("\n[net_{device}]\ntype=net\ndevices={device}\n{STATIC}\n");
        let option =
            |(option, words): (&str, Vec<String>)| format!("{option}={}\n", words.join(" "));
        text += &options.into_iter().map(option).collect::<String>();
    }
    (text, left)
}

/// Where TuneD has it.
enum Place<'p> {
    Sysctl(&'static str),
    File(&'p str),
    /// Interface, option, and what is said there.
    Net(&'p str, &'static str, String),
}

fn place<'p>(wanted: &Wanted<'p>, virtual_nics: &[Nic]) -> Result<Place<'p>, &'static str> {
    let Wanted { site, value, .. } = *wanted;
    let path = site.path.as_deref().filter(|path| path.starts_with("/sys/"));
    let (access, file) = (site.knob.access, path.map(Place::File));
    let Some(nic) = &site.interface else {
        return match access {
            Access::Sysctl(name, _) => Ok(Place::Sysctl(name)),
            _ => file.ok_or("TuneD has no place for it"),
        };
    };
    if !is_plain(&nic.name) {
        return Err("TuneD takes the interface's name for a pattern");
    }
    if virtual_nics.contains(nic) {
        // What needs other settings of the interface would be refused.
        let file = file.filter(|_| wanted.turn() <= 0);
        return file.ok_or("TuneD leaves virtual interfaces alone");
    }
    let net = |option, words| Ok(Place::Net(&nic.name, option, words));
    match (access, site.knob.id) {
        (Access::Feature(name), _) => {
            let name = feature(name).ok_or("TuneD does not find this feature")?;
            net("features", format!("{name} {value}"))
        }
        (Access::Device(Setting { option, word, .. }), _) => {
            net(group(option), format!("{word} {}", ethtool_word(word, value)))
        }
        (_, "mtu") => net("mtu", value.to_owned()),
        (_, "tx_queue_length") => net("txqueuelen", value.to_owned()),
        _ => file.ok_or("TuneD has no place for it"),
    }
}

/// What TuneD makes of the names that `ethtool -k` prints.
fn feature(name: &'static str) -> Option<&'static str> {
    match name {
        "rx-checksum" => Some("rx"),
        "rx-gro" => Some("gro"),
        "rx-hashing" => Some("rxhash"),
        "rx-lro" => Some("lro"),
        "rx-ntuple-filter" => Some("ntuple"),
        // Printed below another one, after a tab, which TuneD takes for a part of the name.
        "tx-checksum-ip-generic" => None,
        name => Some(name),
    }
}

fn group(option: char) -> &'static str {
    match option {
        'G' => "ring",
        'L' => "channels",
        _ => "coalesce",
    }
}

/// TuneD's lists and patterns, and its own file, know other letters by other meanings.
fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Where TuneD tunes by load, it slows down the link of an interface that rests.
const STATIC: &str = "dynamic=0";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::export::Format;
    use crate::export::tests::{change, kept, nic, of_nic, plan};
    use crate::knobs::{Knob, Reach};

    /// What TuneD takes for what, as far as we have it: options of its net plugin, and their words.
    /// Of `features` they are what it makes of the lines of `ethtool -k` without a tab.
    const NET: [(&str, &[&str]); 6] = [
        ("channels", &["rx", "tx", "other", "combined"]),
        ("coalesce", &["adaptive-rx", "adaptive-tx", "rx-usecs", "rx-frames", "tx-usecs"]),
        (
            "features",
            &[
                "gro",
                "lro",
                "ntuple",
                "rx",
                "rx-gro-list",
                "rx-udp-gro-forwarding",
                "rxhash",
                "tx-udp-segmentation",
            ],
        ),
        ("mtu", &[]),
        ("ring", &["rx", "tx", "rx-mini", "rx-jumbo"]),
        ("txqueuelen", &[]),
    ];

    type Section = BTreeMap<String, String>;

    /// As TuneD reads its file.
    fn parsed(text: &str) -> BTreeMap<String, Section> {
        let mut sections: BTreeMap<String, Section> = BTreeMap::new();
        let mut last = String::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[') {
                last = name.strip_suffix(']').unwrap().to_owned();
                assert!(sections.insert(last.clone(), Section::new()).is_none(), "{last} twice");
                continue;
            }
            let (name, value) = line.split_once('=').unwrap();
            assert!(!value.contains('#'), "the rest is a comment: {line}");
            let before = sections.get_mut(&last).unwrap().insert(name.into(), value.into());
            assert_eq!(before, None, "only the last one counts: {line}");
        }
        sections
    }

    /// What TuneD would do with a profile, `device option word` and value; it fails on what it
    /// would not do.
    fn done(text: &str, virtual_nics: &[Nic]) -> BTreeMap<String, String> {
        let (mut done, mut devices) = (BTreeMap::new(), BTreeSet::new());
        for (name, mut section) in parsed(text) {
            let kind = section.remove("type").unwrap_or(name);
            if kind != "net" {
                assert!(["main", "sysctl", "sysfs"].contains(&kind.as_str()), "no plugin {kind}");
                let inside = |path: &String| kind != "sysfs" || path.starts_with("/sys/");
                assert!(section.keys().all(inside), "{section:?}");
                done.extend(section);
                continue;
            }
            let device = section.remove("devices").unwrap();
            assert!(is_plain(&device) && !virtual_nics.contains(&nic(&device)), "{device}");
            assert!(devices.insert(device.clone()), "{device} has another section already");
            assert_eq!(section.remove("dynamic").as_deref(), Some("0"));
            for (option, text) in section {
                let (_, known) = NET.into_iter().find(|(name, _)| *name == option).unwrap();
                if known.is_empty() {
                    done.insert(format!("{device} {option}"), text);
                    continue;
                }
                let words: Vec<&str> = text.split(' ').collect();
                for pair in words.chunks(2) {
                    assert!(known.contains(&pair[0]), "{option}: {}", pair[0]);
                    let before =
                        done.insert(format!("{device} {option} {}", pair[0]), pair[1].into());
                    assert_eq!(before, None, "{text}");
                }
            }
        }
        done
    }

    /// Everything that can be set of an interface, but for interrupts.
    fn everything(device: &str) -> Vec<crate::plan::Change> {
        let knobs = Knob::all().filter(|knob| knob.reach == Reach::Interface);
        let knobs = knobs.filter(|knob| knob.access.form().is_some() && knob.id != "irq_affinity");
        knobs.map(|knob| of_nic(knob.id, device, knob.candidates[0])).collect()
    }

    #[test]
    fn an_interface_has_one_section_that_tuned_takes_word_by_word() {
        let mut plan = plan([everything("eth0"), everything("wan-1.7")].concat());
        plan.kept = vec![kept(of_nic("gro", "lan", "on"))];
        let path = Some("/proc/sys/net/core/rmem_max");
        plan.changes.push(change("rmem_max", None, path, "9"));
        let text = plan.export(Format::Tuned).text;
        let done = done(&text, &[]);
        for (what, value) in [
            ("eth0 features gro", "on"),
            ("eth0 features rx", "on"),
            ("eth0 features tx-udp-segmentation", "on"),
            ("eth0 coalesce adaptive-rx", "off"),
            ("eth0 coalesce rx-usecs", "0"),
            ("eth0 ring rx", "128"),
            ("wan-1.7 ring tx", "256"),
            ("wan-1.7 channels combined", "1"),
            ("eth0 mtu", "1500"),
            ("eth0 txqueuelen", "1000"),
            ("lan features gro", "on"),
            ("/sys/class/net/eth0/threaded", "0"),
            ("net.core.rmem_max", "9"),
        ] {
            assert_eq!(done.get(what).map(String::as_str), Some(value), "{what}: {done:#?}");
        }
        // Nothing is lost: what is not done is said.
        let lost = "tx_checksum = on (ethtool -k eth0: tx-checksum-ip-generic)";
        assert!(text.contains(&format!("# not here: {lost}: TuneD does not find")), "{text}");
        let said = text.matches("\n# not here: ").count();
        assert_eq!((said, done.len() + said - 1), (2, plan.changes.len() + plan.kept.len()));
    }

    #[test]
    fn of_virtual_interfaces_only_files_are_set() {
        let mut plan = plan(everything("veth0"));
        plan.virtual_nics = vec![nic("veth0")];
        let text = plan.export(Format::Tuned).text;
        let done = done(&text, &plan.virtual_nics);
        assert_eq!(done.get("/sys/class/net/veth0/mtu").map(String::as_str), Some("1500"));
        let why = "TuneD leaves virtual interfaces alone";
        let gro = format!("# not here: gro = on (ethtool -k veth0: rx-gro): {why}\n");
        assert!(text.contains(&gro), "{text}");
        let said = text.matches("\n# not here: ").count();
        assert_eq!(done.len() + said - 1, plan.changes.len());
        // Without GRO a veth refuses it.
        plan.changes = vec![of_nic("threaded_napi", "veth0", "1")];
        let text = plan.export(Format::Tuned).text;
        assert!(text.contains("threaded_napi = 1 (") && !text.contains("[sysfs]"), "{text}");
    }
}
