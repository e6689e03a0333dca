//! obstacle says why a value cannot act on this host, whatever the kernel lets one write.

use crate::checks::kernel_defect;
use crate::facts::{Files, Glance};
use crate::finding::Status;
use crate::site::Site;

/// Why `value` at `site` does nothing. `gro`: what it is going to be on that interface, if it is to
/// change.
pub(crate) fn obstacle(
    site: &Site,
    value: &str,
    glance: &Glance,
    files: &Files,
    gro: Option<bool>,
) -> Option<String> {
    match (site.knob.id, value) {
        ("threaded_napi" | "defer_hard_irqs" | "gro_flush_timeout", value) if value != "0" => {
            nothing_polls(site, glance, gro)
        }
        ("udp_segmentation", "on") => {
            let defect = kernel_defect(&glance.host, &glance.interfaces)?;
            (defect.status == Status::Problem).then_some(defect.found)
        }
        ("halt_poll_ns", _) => another_idle_governor(files),
        _ => None,
    }
}

/// Why a profile does better without `value` at `site`.
pub(crate) fn unwise(site: &Site, value: &str, glance: &Glance) -> Option<String> {
    let interface =
        site.interface.as_ref().and_then(|nic| glance.interfaces.by_index(nic.index))?;
    let holds_back = ["gro_flush_timeout", "defer_hard_irqs"].contains(&site.knob.id);
    (holds_back && value != "0" && interface.link.kind == "veth").then(|| {
        "a veth has no interrupts to save: trains only wait (4 to 9 % less, measured)".to_owned()
    })
}

fn nothing_polls(site: &Site, glance: &Glance, gro: Option<bool>) -> Option<String> {
    let interface =
        site.interface.as_ref().and_then(|nic| glance.interfaces.by_index(nic.index))?;
    let gro = gro.unwrap_or_else(|| interface.offloads.is_some_and(|now| now.gro));
    let polls = gro || !interface.programs.is_empty();
    match (interface.link.loopback, interface.link.kind.as_str()) {
        (true, _) => Some("loopback has no NAPI".to_owned()),
        (false, "veth") if !polls => {
            Some("a veth polls only with gro on or an XDP program".to_owned())
        }
        _ => None,
    }
}

/// The parameter is there as soon as the module is, and is written and read in vain.
fn another_idle_governor(files: &Files) -> Option<String> {
    let of = |name: &str| Some(files.text(&format!("{CPUIDLE}/{name}"))?.trim().to_owned());
    let governor = of("current_governor").or_else(|| of("current_governor_ro"))?;
    let driver = of("current_driver").unwrap_or_default();
    let acts = governor == "haltpoll" && driver != "none";
    (!acts).then(|| {
        format!("not in use: {CPUIDLE} has governor {governor:?}, not haltpoll; driver {driver:?}")
    })
}

/// How idle CPUs wait.
const CPUIDLE: &str = "/sys/devices/system/cpu/cpuidle";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Offloads;
    use crate::knobs::Knob;
    use crate::recorded::{self, Tree, veth_host};
    use crate::site::Nic;

    #[test]
    fn what_polls_when_idle_is_asked() {
        let site = Site { knob: Knob::by_id("halt_poll_ns").unwrap(), interface: None, path: None };
        let why = |governor, driver| {
            let folder = "sys/devices/system/cpu/cpuidle";
            let tree = Tree::new(&[
                (&format!("{folder}/current_governor"), governor),
                (&format!("{folder}/current_driver"), driver),
            ]);
            obstacle(&site, "0", &Glance::default(), &tree.files(), None)
        };
        assert!(why("menu\n", "intel_idle\n").unwrap().contains("\"menu\", not haltpoll"));
        assert!(why("haltpoll\n", "none\n").is_some());
        assert!(why("haltpoll\n", "haltpoll\n").is_none());
    }

    #[test]
    fn threads_need_something_to_poll() {
        let files = Tree::new(&[]).files();
        let facts = veth_host();
        let mut glance = Glance {
            host: facts.host.clone(),
            process: facts.process.clone(),
            interfaces: facts.interfaces.clone(),
            unread: Vec::new(),
        };
        let knob = Knob::by_id("threaded_napi").unwrap();
        let site = |name: &str, index| {
            let interface = Some(Nic { name: name.into(), index });
            Site { knob, interface, path: None }
        };
        let why = |name, index, gro| obstacle(&site(name, index), "1", &glance, &files, gro);
        assert!(why("veth0", 3, None).unwrap().contains("gro on"));
        assert!(why("veth0", 3, Some(true)).is_none());
        assert!(why("lo", 1, Some(true)).unwrap().contains("loopback"));
        assert!(obstacle(&site("veth0", 3), "0", &glance, &files, None).is_none());
        // What is on now and is to be off is no help.
        let on = Offloads { gro: true, ..Offloads::default() };
        glance.interfaces.all.iter_mut().for_each(|interface| interface.offloads = Some(on));
        let why = |gro| obstacle(&site("veth0", 3), "1", &glance, &files, gro);
        assert!(why(None).is_none());
        assert!(why(Some(false)).unwrap().contains("gro on"));
        let knob = Knob::by_id("gro_flush_timeout").unwrap();
        let interface = Some(Nic { name: "lo".into(), index: 1 });
        let site = Site { knob, interface, path: None };
        let why = obstacle(&site, "20000", &glance, &files, None);
        assert_eq!(why.as_deref(), Some("loopback has no NAPI"));
    }

    #[test]
    fn profiles_hold_nothing_back_on_a_veth() {
        let facts = veth_host();
        let interfaces = facts.interfaces.clone();
        let glance = Glance { host: facts.host.clone(), interfaces, ..Glance::default() };
        let why = |id, name: &str, index, value| {
            let interface = Some(Nic { name: name.into(), index });
            unwise(&Site { knob: Knob::by_id(id).unwrap(), interface, path: None }, value, &glance)
        };
        assert!(why("gro_flush_timeout", "veth0", 3, "20000").unwrap().contains("no interrupts"));
        assert!(why("defer_hard_irqs", "veth0", 3, "2").is_some());
        assert!(why("gro_flush_timeout", "veth0", 3, "0").is_none());
        assert!(why("gro", "veth0", 3, "on").is_none());
        assert!(why("gro_flush_timeout", "eth0", 2, "20000").is_none());
    }

    #[test]
    fn trains_are_not_asked_of_a_kernel_that_breaks_them() {
        let files = Tree::new(&[]).files();
        let mut facts = recorded::bare_metal_with(|tree| {
            tree.write("proc/sys/kernel/osrelease", "7.0.3");
        });
        let interfaces = std::mem::take(&mut facts.interfaces);
        let glance = Glance { host: facts.host.clone(), interfaces, ..Glance::default() };
        let knob = Knob::by_id("udp_segmentation").unwrap();
        let interface = Some(Nic { name: "eth0".into(), index: 2 });
        let site = Site { knob, interface, path: None };
        assert!(obstacle(&site, "on", &glance, &files, None).unwrap().contains("GSO is broken"));
        assert!(obstacle(&site, "off", &glance, &files, None).is_none());
    }
}
