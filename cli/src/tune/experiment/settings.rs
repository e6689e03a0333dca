//! settings makes arms of knobs: flags of quiclane where the engine decides, values of the host
//! where the kernel does. What has neither is listed with the reason.

use quiclane_tuning::experiment::{Arm, Skipped, Trouble};
use quiclane_tuning::{Access, Care, Knob};

use super::bench::RealBench;

/// Knobs with the values to try, as `--knob` takes them.
pub(super) type Set = Vec<(String, String)>;

/// The arms, and what is none.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) arms: Vec<Arm>,
    pub(super) skipped: Vec<Skipped>,
}

impl Settings {
    /// Of what was asked for by name: all of it has to be measurable.
    pub(super) fn asked(sets: &[Set], bench: &RealBench<'_>) -> Result<Self, String> {
        let mut settings = Self::default();
        for set in sets {
            let arm = arm(set, bench.place.is_private())?;
            if settings.arms.iter().any(|before| before.name == arm.name) {
                return Err(format!("--knob {} is given twice: leave one out", arm.name));
            }
            let arm = checked(arm.clone(), bench)
                .map_err(|why| format!("--knob {}: not measurable here: {why}", arm.name))?;
            settings.arms.push(arm);
        }
        Ok(settings)
    }

    /// Of every candidate of every knob, and of what acts only together.
    ///
    /// # Errors
    /// When somebody interrupts it.
    pub(super) fn all(bench: &RealBench<'_>) -> Result<Self, Trouble> {
        let mut settings = Self::default();
        for knob in Knob::all() {
            if let Some(why) = out_of_question(knob, bench.place.is_private()) {
                settings.skipped.push(Skipped { name: knob.id.into(), why });
                continue;
            }
            for candidate in knob.candidates {
                let name = format!("{}={candidate}", knob.id);
                if let Some(why) = pointless(knob, candidate) {
                    settings.skipped.push(Skipped { name, why });
                    continue;
                }
                bench.go_on()?;
                settings.take(name, &[(knob.id, candidate)], bench);
            }
        }
        for set in TOGETHER {
            let name =
                set.iter().map(|(id, value)| format!("{id}={value}")).collect::<Vec<_>>().join(",");
            bench.go_on()?;
            settings.take(name, set, bench);
        }
        Ok(settings)
    }

    fn take(&mut self, name: String, set: &[(&str, &str)], bench: &RealBench<'_>) {
        let owned = |(id, value): &(&str, &str)| ((*id).to_owned(), (*value).to_owned());
        let set: Vec<_> = set.iter().map(owned).collect();
        let same = |arm: &Arm| {
            let of = |other: &&Arm| {
                (&other.serve, &other.load, &other.set) == (&arm.serve, &arm.load, &arm.set)
            };
            self.arms.iter().find(of).map(|other| format!("that is {}", other.name))
        };
        let arm = arm(&set, bench.place.is_private());
        let arm = arm.and_then(|arm| same(&arm).map_or(Ok(arm), Err));
        match arm.and_then(|arm| checked(arm, bench)) {
            Ok(arm) => self.arms.push(arm),
            Err(why) => self.skipped.push(Skipped { name, why }),
        }
    }
}

/// What does nothing, or harm, alone: the second is what makes the first act.
const TOGETHER: [&[(&str, &str)]; 10] = [
    &[("gro", "on"), ("reuseport_steering", "xdp")],
    &[("gro", "on"), ("threaded_napi", "1")],
    &[("gro", "on"), ("gro_flush_timeout", "20000")],
    &[("gro", "on"), ("gro_flush_timeout", "20000"), ("defer_hard_irqs", "2")],
    &[("gro", "on"), ("busy_poll", "50"), ("busy_read", "50"), ("io", "epoll")],
    &[("rps_flow_entries", "32768"), ("rps_flow_count", "32768")],
    &[("adaptive_rx", "0"), ("rx_usecs", "8")],
    &[("mtu", "9000"), ("datagram_size", "8952")],
    &[("udp_gro", "off"), ("gso_segments", "1")],
    &[("rmem_max", "16777216"), ("socket_buffer", "16m")],
];

/// What cannot show in a cell by itself, and why: asked for by name it is measured all the same.
const INERT: [(&str, &str); 10] = [
    ("rmem_default", "quiclane asks for buffers of its own: socket_buffer"),
    ("wmem_default", "quiclane asks for buffers of its own: socket_buffer"),
    ("local_ports", "which port a client gets decides about nothing in a cell"),
    ("rps_default_mask", "only interfaces that are yet to come heed it"),
    ("default_qdisc", "only interfaces that are yet to come heed it"),
    ("rps_flow_entries", "it acts only together with rps_flow_count"),
    ("rps_flow_count", "it acts only together with rps_flow_entries"),
    ("huge_page_pool", "quiclane asks for no page of the pool"),
    ("bpf_stats", "it only costs"),
    ("xdp_redirect", "frames of a veth have no checksums when they are moved, and are lost"),
];

/// Why no value of a knob can be measured.
fn out_of_question(knob: &Knob, is_private: bool) -> Option<String> {
    match knob.access {
        Access::Engine(how) => Some(format!("the engine decides: {how}")),
        Access::Tool(command) => Some(format!("another program changes it: {command}")),
        Access::Boot(_, parameter) => Some(format!("only a boot changes it: {parameter}")),
        _ if knob.care == Care::LinkReset && !is_private => Some("it may take a link down".into()),
        _ => None,
    }
}

/// Why a candidate is no arm.
fn pointless(knob: &Knob, candidate: &str) -> Option<String> {
    let is_flag = matches!(knob.access, Access::Flag(_));
    // What only a user knows is in capitals, as in a usage.
    let is_placeholder =
        candidate.rsplit('=').next()?.chars().all(|letter| letter.is_ascii_uppercase());
    if is_flag && candidate == knob.default {
        return Some("that is what quiclane does by itself".into());
    }
    if is_flag && is_placeholder {
        return Some(format!("a value of your own: --knob {}={candidate}", knob.id));
    }
    INERT.iter().find(|(id, _)| *id == knob.id).map(|(_, why)| (*why).to_owned())
}

fn arm(set: &[(String, String)], is_private: bool) -> Result<Arm, String> {
    let name = set.iter().map(|(id, value)| format!("{id}={value}")).collect::<Vec<_>>().join(",");
    let mut arm = Arm { name, ..Arm::baseline() };
    let mut about = Vec::new();
    for (id, value) in set {
        let knob = Knob::by_id(id)
            .ok_or_else(|| format!("there is no knob {id:?}: `quiclane tune show` lists them"))?;
        if let Some(why) = out_of_question(knob, is_private) {
            return Err(format!("{id} is not measurable here: {why}"));
        }
        about.push(knob.mechanism);
        let Access::Flag(usage) = knob.access else {
            arm.set.push((id.clone(), value.clone()));
            continue;
        };
        let mut words = usage.split(' ');
        let (command, flag) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let flags = if command == "load" { &mut arm.load } else { &mut arm.serve };
        flags.extend([flag.to_owned(), value.clone()]);
    }
    // A server that falls back to epoll, or to a steering without XDP, has nothing to measure.
    for (flag, needs) in [("--ring-", ["--io", "uring"]), ("--xdp-", ["--steering", "xdp"])] {
        let is_there = arm.serve.iter().any(|word| word.starts_with(flag));
        if is_there && !arm.serve.contains(&needs[0].to_owned()) {
            arm.serve.extend(needs.map(str::to_owned));
        }
    }
    arm.about = about.join("; ");
    Ok(arm)
}

/// `arm`, if this host can have it.
fn checked(arm: Arm, bench: &RealBench<'_>) -> Result<Arm, String> {
    if !arm.set.is_empty() {
        if let Some(kept) = bench.host.kept(&arm.set)? {
            return Err(kept);
        }
        // Once for a moment: what may not be set here is known before anything is measured.
        bench.host.apply(&arm.set, TRIAL_S)?;
        bench.host.revert(&arm.set)?;
    }
    if !arm.serve.is_empty() {
        bench.try_server(&arm)?;
    }
    Ok(arm)
}

/// Far longer than setting a value and putting it back takes, seconds.
const TRIAL_S: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &[(&str, &str)]) -> Set {
        text.iter().map(|(id, value)| ((*id).into(), (*value).into())).collect()
    }

    #[test]
    fn knobs_of_the_engine_are_flags_and_others_are_set() {
        let set_of = [("io", "epoll"), ("gro", "on"), ("connected_sockets", "per-core")];
        let arm = arm(&set(&set_of), false);
        let arm = arm.unwrap();
        assert_eq!(arm.name, "io=epoll,gro=on,connected_sockets=per-core");
        assert_eq!(arm.serve, ["--io", "epoll"]);
        assert_eq!(arm.load, ["--sockets", "per-core"]);
        assert_eq!(arm.set, set(&[("gro", "on")]));
        let arm = super::arm(&set(&[("ring_buffers", "16")]), false).unwrap();
        assert_eq!(arm.serve, ["--ring-buffers", "16", "--io", "uring"]);
        let arm = super::arm(&set(&[("xdp_redirect", "cpu")]), false).unwrap();
        assert_eq!(arm.serve, ["--xdp-redirect", "cpu", "--steering", "xdp"]);
    }

    #[test]
    fn what_cannot_be_measured_says_why() {
        for (id, words) in [
            ("mitigations", "boot"),
            ("zerocopy", "engine"),
            ("conntrack", "another program"),
            ("ring_rx", "link down"),
            ("nosuch", "tune show"),
        ] {
            let why = arm(&set(&[(id, "1")]), false).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        assert!(arm(&set(&[("mtu", "9000")]), true).is_ok(), "nobody else is on that link");
    }

    #[test]
    fn what_says_nothing_is_no_arm() {
        for (id, candidate, expected) in [
            ("pacing", "brutal=RATE", Some("a value of your own: --knob pacing=brutal=RATE")),
            ("worker_cores", "LIST", Some("a value of your own: --knob worker_cores=LIST")),
            ("pacing", "cubic", Some("that is what quiclane does by itself")),
            ("pacing", "bbr", None),
            ("rmem_default", "4194304", Some(INERT[0].1)),
            ("rmem_max", "16777216", None),
        ] {
            let knob = Knob::by_id(id).unwrap();
            assert!(knob.candidates.contains(&candidate), "{id}={candidate}");
            assert_eq!(pointless(knob, candidate).as_deref(), expected, "{id}={candidate}");
        }
        for (id, _) in INERT {
            assert!(Knob::by_id(id).is_some(), "{id}");
        }
    }

    #[test]
    fn what_acts_only_together_is_made_of_knobs() {
        for together in TOGETHER {
            arm(&set(together), true).unwrap();
        }
    }

    #[test]
    fn flags_of_knobs_are_a_command_and_a_flag() {
        for knob in Knob::all() {
            let Access::Flag(usage) = knob.access else { continue };
            let words: Vec<&str> = usage.split(' ').collect();
            assert!(["serve", "load"].contains(&words[0]), "{usage}");
            assert!(words[1].starts_with("--"), "{usage}");
        }
    }
}
