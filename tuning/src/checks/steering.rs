//! steering finds the best rung of the ladder that this process could stand on, and why no higher.

use super::{privileges, xdp};
use crate::facts::{Capability, Facts};
use crate::finding::{Finding, Scope};

/// The rungs, best first: where each works, or why not.
#[derive(Debug)]
pub(super) struct Ladder([(&'static str, Result<String, String>); 5]);

impl Ladder {
    pub(super) fn climb(facts: &Facts) -> Self {
        let reuseport = facts.ebpf.reuseport.clone().map(|_| String::new());
        let cbpf = facts.trials.cbpf.clone().map(|()| String::new());
        Self([
            ("xdp", on_interfaces(facts, xdp::native)),
            ("xdp-generic", on_interfaces(facts, xdp::generic)),
            ("reuseport", reuseport),
            ("cbpf", cbpf),
            ("hash", Ok(String::new())),
        ])
    }

    /// The best rung, with the interfaces it works on.
    pub(super) fn best(&self) -> String {
        let best = self.0.iter().find_map(|(name, outcome)| Some((name, outcome.as_ref().ok()?)));
        best.map(|(name, on)| format!("{name}{on}")).unwrap_or_default()
    }

    pub(super) fn check(&self, facts: &Facts) -> Finding {
        let (id, scope) = ("steering", Scope::Process);
        let why = "the higher the rung, the earlier a packet is on its worker's core; on every \
                   rung connections survive a new address";
        let best = self.best();
        let reasons = self.reasons();
        if reasons.is_empty() {
            return Finding::ok(id, scope, format!("up to {best}"), why);
        }
        let found = format!("up to {best}; {}", reasons.join("; "));
        let finding = Finding::warning(id, scope, found, why);
        match privileges::enough(&facts.process, &facts.ebpf) {
            true => finding,
            false => finding.mend(privileges::grant(&facts.process)),
        }
    }

    /// Why not the rungs above the best one; neighbours with the same reason share a line.
    fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<(Vec<&str>, &str)> = Vec::new();
        let above = self
            .0
            .iter()
            .map_while(|(name, outcome)| Some((*name, outcome.as_ref().err()?.as_str())));
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

/// The chosen interfaces on which `possible` holds; each reason for a no is named once.
fn on_interfaces(
    facts: &Facts,
    possible: impl Fn(&crate::facts::Interface) -> Result<(), String>,
) -> Result<String, String> {
    facts.ebpf.xdp.clone()?;
    facts.ebpf.reuseport.clone()?;
    if !facts.process.effective.has(Capability::NetAdmin) {
        return Err("attaching takes cap_net_admin".into());
    }
    let (mut on, mut reasons) = (Vec::new(), Vec::new());
    for interface in facts.interfaces.present() {
        let name = &interface.link.name;
        match possible(interface) {
            Ok(()) => on.push(name.as_str()),
            Err(reason) => reasons.push(format!("{name} {reason}")),
        }
    }
    match (on.is_empty(), reasons.is_empty()) {
        (false, _) => Ok(format!(" on {}", on.join(", "))),
        (true, false) => Err(reasons.join(", ")),
        (true, true) => Err("there is no interface to attach it to".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;
    use crate::recorded;

    #[test]
    fn bare_metal_reaches_the_top() {
        let facts = recorded::bare_metal();
        let ladder = Ladder::climb(&facts);
        assert_eq!(ladder.best(), "xdp on eth0");
        assert_eq!(ladder.check(&facts).status, Status::Ok);
    }

    #[test]
    fn each_step_down_has_its_reason() {
        let mut facts = recorded::bare_metal();
        facts.interfaces.all[1].xdp = Some(crate::facts::XdpFeatures(0));
        let ladder = Ladder::climb(&facts);
        assert_eq!(ladder.best(), "xdp-generic on eth0");
        let finding = ladder.check(&facts);
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.contains("xdp: eth0 has no native XDP"), "{}", finding.found);

        facts.process.effective.0 &= !(1 << Capability::NetAdmin as u8);
        let ladder = Ladder::climb(&facts);
        assert_eq!(ladder.best(), "reuseport");
        let finding = ladder.check(&facts);
        let reason = "xdp, xdp-generic: attaching takes cap_net_admin";
        assert!(finding.found.contains(reason), "{}", finding.found);
        assert!(finding.mend.is_some());

        facts.ebpf.reuseport = Err("loading: Operation not permitted".into());
        assert_eq!(Ladder::climb(&facts).best(), "cbpf");
        facts.trials.cbpf = Err("refused".into());
        assert_eq!(Ladder::climb(&facts).best(), "hash");
    }

    #[test]
    fn without_interfaces_there_is_no_xdp() {
        let mut facts = recorded::bare_metal();
        for chosen in [vec![], vec!["nosuch".to_owned()]] {
            facts.interfaces.chosen = chosen;
            let ladder = Ladder::climb(&facts);
            assert_eq!(ladder.best(), "reuseport");
            let found = ladder.check(&facts).found;
            assert!(found.contains("xdp, xdp-generic: there is no interface"), "{found}");
        }
    }
}
