//! steering finds the rung of the ladder that this process could stand on, and why no higher.

use quiclane_ebpf::Mode;

use super::{privileges, xdp};
use crate::ask::{Ask, Rung};
use crate::facts::{Capability, Facts, Interface};
use crate::finding::{Finding, Scope};

/// The rungs, best first: where each works, or why not.
#[derive(Debug)]
pub(super) struct Ladder {
    rungs: [(Rung, Result<String, String>); 5],
    asked: Option<Rung>,
}

impl Ladder {
    pub(super) fn climb(facts: &Facts, ask: &Ask) -> Self {
        let reuseport = facts.ebpf.reuseport.clone().map(|_| String::new());
        let cbpf = facts.trials.cbpf.clone().map(|()| String::new());
        let rungs = [
            (Rung::Xdp, on_interfaces(facts, ask, Mode::Native)),
            (Rung::XdpGeneric, on_interfaces(facts, ask, Mode::Generic)),
            (Rung::Reuseport, reuseport),
            (Rung::Cbpf, cbpf),
            (Rung::Hash, Ok(String::new())),
        ];
        Self { rungs, asked: ask.steering }
    }

    /// What a server takes: the best rung, or the one asked for, with its interfaces.
    pub(super) fn choice(&self) -> String {
        match self.asked.map(|asked| (asked, self.outcome(asked))) {
            None => self.best(),
            Some((asked, Ok(on))) => format!("{}{on}", asked.name()),
            Some((asked, Err(_))) => format!("{} refused", asked.name()),
        }
    }

    /// The best rung, with the interfaces it works on.
    fn best(&self) -> String {
        let works = |(rung, outcome): &(Rung, Result<String, String>)| {
            Some(format!("{}{}", rung.name(), outcome.as_ref().ok()?))
        };
        self.rungs.iter().find_map(works).unwrap_or_default()
    }

    fn outcome(&self, wanted: Rung) -> Result<&str, &str> {
        let found = self.rungs.iter().find(|(rung, _)| *rung == wanted);
        match found.map(|(_, outcome)| outcome) {
            Some(Ok(on)) => Ok(on),
            Some(Err(why)) => Err(why),
            None => Err("there is no such rung"),
        }
    }

    pub(super) fn check(&self, facts: &Facts, ask: &Ask) -> Finding {
        let (id, scope) = ("steering", Scope::Process);
        if let Some(asked) = self.asked {
            return self.check_asked(asked, facts, ask);
        }
        let why = "the higher the rung, the earlier a packet is on its worker's core; on every \
                   rung connections survive a new address";
        let best = self.best();
        let reasons = self.reasons();
        if reasons.is_empty() {
            return Finding::ok(id, scope, format!("up to {best}"), why);
        }
        let found = format!("up to {best}; {}{}", reasons.join("; "), self.without_effect(ask));
        let finding = Finding::warning(id, scope, found, why);
        match privileges::enough(facts, ask) {
            true => finding,
            false => finding.mend(privileges::grant(&facts.process)),
        }
    }

    /// The rung that was asked for by name, or nothing.
    fn check_asked(&self, asked: Rung, facts: &Facts, ask: &Ask) -> Finding {
        let (id, scope) = ("steering", Scope::Process);
        let why = "a rung that is asked for by name is taken or the server does not start; with \
                   --steering auto it takes the next one that works";
        match self.outcome(asked) {
            Ok(on) => Finding::ok(id, scope, format!("{}{on}, as asked for", asked.name()), why),
            Err(reason) => {
                let (name, best) = (asked.name(), self.best());
                let found = format!("{name} was asked for: {reason}; here works {best}");
                let finding = Finding::problem(id, scope, found, why);
                match self.remedy(asked, facts, ask) {
                    Some(command) => finding.mend(command),
                    None => finding,
                }
            }
        }
    }

    /// The command that makes the rung asked for possible; where none does, the one that does
    /// without it.
    fn remedy(&self, asked: Rung, facts: &Facts, ask: &Ask) -> Option<String> {
        if !privileges::enough(facts, ask) {
            return Some(privileges::grant(&facts.process));
        }
        if !asked.is_xdp() || facts.ebpf.xdp.is_err() || facts.ebpf.reuseport.is_err() {
            return None;
        }
        let mode = mode(asked);
        let targets = &facts.interfaces.targets.names;
        if targets.is_empty() {
            return Some(format!("quiclane serve --steering {} --interface NAME", asked.name()));
        }
        let in_the_way = |name: &String| match facts.interfaces.by_name(name) {
            None => Some("ip link show".to_owned()),
            Some(interface) => match xdp::possible(interface, mode) {
                Ok(()) => None,
                Err(_) => Some(xdp::remedy(interface, mode)),
            },
        };
        targets.iter().find_map(in_the_way)
    }

    /// What was asked for and does nothing on the best rung, if that is without XDP.
    fn without_effect(&self, ask: &Ask) -> String {
        let mut flags: Vec<String> =
            ask.interfaces.iter().map(|name| format!("--interface {name}")).collect();
        flags.extend(ask.redirect.then(|| "--xdp-redirect cpu".to_owned()));
        let works = |(_, outcome): &&(Rung, Result<String, String>)| outcome.is_ok();
        let is_xdp = self.rungs.iter().find(works).is_some_and(|(rung, _)| rung.is_xdp());
        match flags.is_empty() || is_xdp {
            true => String::new(),
            false => format!("; without effect: {}", flags.join(", ")),
        }
    }

    /// Why not the rungs above the best one; neighbours with the same reason share a line.
    fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<(Vec<&str>, &str)> = Vec::new();
        let above = self
            .rungs
            .iter()
            .map_while(|(rung, outcome)| Some((rung.name(), outcome.as_ref().err()?.as_str())));
        for (name, reason) in above {
            match reasons.last_mut() {
                Some((names, last)) if *last == reason => names.push(name),
                _ => reasons.push((vec![name], reason)),
            }
        }
        let line = |(names, reason): &(Vec<&str>, &str)| format!("{}: {reason}", names.join(", "));
        reasons.iter().map(line).collect()
    }
}

/// The interfaces on which a server puts its program in this mode; each reason for a no is named
/// once.
fn on_interfaces(facts: &Facts, ask: &Ask, mode: Mode) -> Result<String, String> {
    facts.ebpf.xdp.clone()?;
    facts.ebpf.reuseport.clone()?;
    if !facts.process.effective.has(Capability::NetAdmin) {
        return Err("attaching takes cap_net_admin".into());
    }
    let targets = &facts.interfaces.targets;
    let attach = |name: &String, mode| match facts.interfaces.by_name(name) {
        Some(interface) => possible(interface, mode),
        None => Err(format!("there is no interface {name}")),
    };
    let refused = |mode| -> Vec<String> {
        targets.names.iter().filter_map(|name| attach(name, mode).err()).collect()
    };
    // All in the mode asked for; or all that were named, in one mode or the other; or some.
    let everywhere = match (ask.steering, ask.interfaces.is_empty()) {
        (Some(_), _) => refused(mode),
        (None, false) => refused(Mode::Generic),
        (None, true) => Vec::new(),
    };
    if !everywhere.is_empty() {
        return Err(everywhere.join(", "));
    }
    let (on, others): (Vec<&String>, Vec<&String>) =
        targets.names.iter().partition(|name| attach(name, mode).is_ok());
    if on.is_empty() {
        return Err([refused(mode), targets.notes.clone()].concat().join(", "));
    }
    // With auto the server takes for each interface what it has.
    let is_auto = ask.steering.is_none() && mode == Mode::Native;
    let generic = |name: &&&String| is_auto && attach(name, Mode::Generic).is_ok();
    let others: Vec<&String> = others.iter().filter(generic).copied().collect();
    let places = [(mode, on), (Mode::Generic, others)];
    let place = |(mode, names): &(Mode, Vec<&String>)| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        (!names.is_empty()).then(|| format!("{mode} on {}", names.join(", ")))
    };
    let places: Vec<String> = places.iter().filter_map(place).collect();
    Ok(format!(" ({})", places.join("; ")))
}

/// Whether a program of ours could get on the interface, and else why not, with its name.
fn possible(interface: &Interface, mode: Mode) -> Result<(), String> {
    xdp::possible(interface, mode).map_err(|reason| format!("{} {reason}", interface.link.name))
}

/// Where the program of an XDP rung runs.
fn mode(rung: Rung) -> Mode {
    if rung == Rung::Xdp { Mode::Native } else { Mode::Generic }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Targets;
    use crate::finding::Status;
    use crate::recorded;

    fn auto(facts: &Facts) -> (String, Finding) {
        let ask = Ask::default();
        let ladder = Ladder::climb(facts, &ask);
        (ladder.choice(), ladder.check(facts, &ask))
    }

    fn asked(facts: &Facts, steering: Rung) -> (String, Finding) {
        let ask = Ask { steering: Some(steering), ..Ask::default() };
        let ladder = Ladder::climb(facts, &ask);
        (ladder.choice(), ladder.check(facts, &ask))
    }

    /// A second interface beside `eth0`, without native XDP.
    fn with_bridge() -> Facts {
        let mut facts = recorded::bare_metal();
        let mut bridge = facts.interfaces.all[1].clone();
        bridge.link.name = "br0".into();
        bridge.xdp = Some(crate::facts::XdpFeatures(0));
        facts.interfaces.all.push(bridge);
        facts.interfaces.targets.names.push("br0".into());
        facts
    }

    #[test]
    fn bare_metal_reaches_the_top() {
        let (choice, finding) = auto(&recorded::bare_metal());
        assert_eq!((choice.as_str(), finding.status), ("xdp (native on eth0)", Status::Ok));
    }

    #[test]
    fn each_step_down_has_its_reason() {
        let mut facts = recorded::bare_metal();
        facts.interfaces.all[1].xdp = Some(crate::facts::XdpFeatures(0));
        let (choice, finding) = auto(&facts);
        assert_eq!(choice, "xdp-generic (generic on eth0)");
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.contains("xdp: eth0 has no native XDP"), "{}", finding.found);

        facts.process.effective.0 &= !(1 << Capability::NetAdmin as u8);
        let (choice, finding) = auto(&facts);
        assert_eq!(choice, "reuseport");
        let reason = "xdp, xdp-generic: attaching takes cap_net_admin";
        assert!(finding.found.contains(reason), "{}", finding.found);
        assert!(finding.mend.is_some());

        facts.ebpf.reuseport = Err("loading: Operation not permitted".into());
        assert_eq!(auto(&facts).0, "cbpf");
        facts.trials.cbpf = Err("refused".into());
        assert_eq!(auto(&facts).0, "hash");
    }

    #[test]
    fn without_interfaces_there_is_no_xdp() {
        let mut facts = recorded::bare_metal();
        let none = Targets { names: Vec::new(), notes: vec!["127.0.0.1 is on lo".into()] };
        let unknown = Targets { names: vec!["nosuch".into()], notes: Vec::new() };
        for (targets, words) in [(none, "127.0.0.1 is on lo"), (unknown, "no interface nosuch")] {
            facts.interfaces.targets = targets;
            let (choice, finding) = auto(&facts);
            assert_eq!(choice, "reuseport");
            let (found, both) = (finding.found, "xdp, xdp-generic: ");
            assert!(found.contains(both) && found.contains(words), "{found}");
        }
    }

    #[test]
    fn a_rung_by_name_is_had_everywhere_or_a_problem() {
        let facts = with_bridge();
        assert_eq!(auto(&facts).0, "xdp (native on eth0; generic on br0)");
        let (choice, finding) = asked(&facts, Rung::Xdp);
        assert_eq!((choice.as_str(), finding.status), ("xdp refused", Status::Problem));
        assert!(finding.found.starts_with("xdp was asked for: br0 has no"), "{}", finding.found);
        let mend = "quiclane serve --steering xdp-generic --interface br0";
        assert_eq!(finding.mend.as_deref(), Some(mend));
        let (choice, finding) = asked(&facts, Rung::XdpGeneric);
        assert_eq!(
            (choice.as_str(), finding.status),
            ("xdp-generic (generic on eth0, br0)", Status::Ok)
        );
        for rung in [Rung::Reuseport, Rung::Cbpf, Rung::Hash] {
            let (choice, finding) = asked(&facts, rung);
            assert_eq!((choice.as_str(), finding.status), (rung.name(), Status::Ok));
        }
    }

    #[test]
    fn named_interfaces_are_taken_all_or_none() {
        let mut facts = with_bridge();
        let interfaces = vec!["eth0".to_owned(), "br0".to_owned()];
        let ask = Ask { interfaces, ..Ask::default() };
        let choice = Ladder::climb(&facts, &ask).choice();
        assert_eq!(choice, "xdp (native on eth0; generic on br0)");
        let program = recorded::program("cil_xdp_entry");
        facts.interfaces.all[2].programs = vec![program];
        let ladder = Ladder::climb(&facts, &ask);
        assert_eq!(ladder.choice(), "reuseport");
        let found = ladder.check(&facts, &ask).found;
        assert!(found.ends_with("; without effect: --interface eth0, --interface br0"), "{found}");
        let moving = Ask { redirect: true, ..Ask::default() };
        let found = Ladder::climb(&with_bridge(), &moving).check(&facts, &moving).found;
        assert!(!found.contains("without effect"), "{found}");
    }

    #[test]
    fn a_problem_comes_with_the_command_that_mends_it() {
        let mend = |facts: &Facts, rung| {
            let finding = asked(facts, rung).1;
            assert_eq!(finding.status, Status::Problem, "{finding:?}");
            finding.mend
        };
        let mut facts = recorded::bare_metal();
        facts.interfaces.all[1].link.mtu = 9_000;
        facts.interfaces.all[1].xdp = Some(crate::facts::XdpFeatures(1));
        assert_eq!(mend(&facts, Rung::Xdp).unwrap(), "ip link set dev eth0 mtu 1500");
        facts.interfaces.all[1].programs = vec![recorded::program("cil_xdp_entry")];
        for rung in [Rung::Xdp, Rung::XdpGeneric] {
            let off = "ip link set dev eth0 xdpdrv off";
            assert!(mend(&facts, rung).unwrap().starts_with(off));
        }
        facts.interfaces.targets.names.clear();
        let serve = "quiclane serve --steering xdp-generic --interface NAME";
        assert_eq!(mend(&facts, Rung::XdpGeneric).unwrap(), serve);
        facts.trials.cbpf = Err("refused".into());
        assert_eq!(mend(&facts, Rung::Cbpf), None);
        let nobody = recorded::container();
        for rung in [Rung::Xdp, Rung::XdpGeneric, Rung::Reuseport] {
            assert!(mend(&nobody, rung).unwrap().starts_with("docker run --cap-add BPF"));
        }
    }
}
