//! xdp judges whether an XDP program of ours could be attached to an interface, and how.

use quiclane_ebpf::Mode;

use super::interface::scope;
use crate::ask::Rung;
use crate::facts::Interface;
use crate::finding::Finding;
use crate::shell::word;

/// What is known about native XDP before it is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Support {
    Native,
    /// The driver has none: programs run on packets that the stack has already wrapped.
    GenericOnly,
    Unknown,
}

/// Whether a program of ours could get on it in this mode, and else why not.
pub(super) fn possible(interface: &Interface, mode: Mode) -> Result<(), String> {
    if let Some(program) = interface.programs.first() {
        return Err(format!("already has the XDP program {program}"));
    }
    if mode == Mode::Generic {
        return Ok(());
    }
    if support(interface) == Support::GenericOnly {
        return Err("has no native XDP".into());
    }
    if is_too_large(interface) {
        return Err(format!("has an MTU of {}", interface.link.mtu));
    }
    Ok(())
}

/// Whether a frame does not fit a page, in a driver that gives programs no frames of several.
fn is_too_large(interface: &Interface) -> bool {
    let fragments = interface.xdp.is_some_and(|features| features.fragments());
    interface.link.mtu > FRAME_BYTES_MAX && !fragments
}

/// The command that makes it [`possible`]; where none does, the one that does without it.
pub(super) fn remedy(interface: &Interface, mode: Mode) -> String {
    let name = word(&interface.link.name);
    if let Some(program) = interface.programs.first() {
        return take_off(interface, program.mode);
    }
    match support(interface) {
        Support::GenericOnly if mode == Mode::Native => {
            format!("quiclane serve --steering xdp-generic --interface {name}")
        }
        _ => format!("ip link set dev {name} mtu 1500"),
    }
}

/// `asked`: the rung that was asked for by name, if this is where it would put its program.
pub(super) fn check(interface: &Interface, asked: Option<Rung>) -> Vec<Finding> {
    let checks = [
        Some(mode(interface)),
        Some(program(interface)),
        mtu(interface),
        lro(interface),
        channels(interface),
    ];
    let in_the_way: &[&str] = match asked {
        Some(Rung::Xdp) => &["xdp", "xdp_program", "xdp_mtu", "xdp_channels"],
        Some(Rung::XdpGeneric) => &["xdp_program"],
        Some(Rung::Reuseport | Rung::Cbpf | Rung::Hash) | None => &[],
    };
    let judge = |finding: Finding| match in_the_way.contains(&finding.id) {
        true => finding.in_the_way(),
        false => finding,
    };
    checks.into_iter().flatten().map(judge).collect()
}

/// What the kernel says of the driver, since Linux 6.3; before that what is known of it.
fn support(interface: &Interface) -> Support {
    if let Some(features) = interface.xdp {
        return if features.native() { Support::Native } else { Support::GenericOnly };
    }
    let driver = interface.device.driver.as_deref().unwrap_or_default();
    match interface.link.kind.as_str() {
        _ if interface.link.loopback => Support::GenericOnly,
        "veth" | "tun" => Support::Native,
        "bridge" | "vlan" | "wireguard" | "vxlan" | "dummy" => Support::GenericOnly,
        _ if NATIVE_DRIVERS.contains(&driver) => Support::Native,
        _ => Support::Unknown,
    }
}

fn mode(interface: &Interface) -> Finding {
    let id = "xdp";
    let why = "native XDP sees a packet before the kernel spends anything on it";
    match support(interface) {
        Support::Native => {
            let said = match interface.xdp {
                Some(_) => "says its driver",
                None => "by its driver's name",
            };
            Finding::ok(id, scope(interface), format!("native XDP, {said}"), why)
        }
        Support::Unknown => {
            let found =
                "unknown until attached: this kernel does not tell, the driver is not known";
            Finding::ok(id, scope(interface), found, why)
        }
        // On loopback nobody expects more.
        Support::GenericOnly if interface.link.loopback => {
            Finding::ok(id, scope(interface), "generic XDP only, as on every loopback", why)
        }
        Support::GenericOnly => {
            Finding::warning(id, scope(interface), "the driver has generic XDP only", why)
        }
    }
}

fn program(interface: &Interface) -> Finding {
    let id = "xdp_program";
    let why =
        "an interface has one XDP program; we never replace another's, and take the next rung";
    let programs = &interface.programs;
    if programs.is_empty() {
        return Finding::ok(id, scope(interface), "no XDP program is attached", why);
    }
    let described: Vec<String> = programs
        .iter()
        .map(|program| {
            let name = program.name.as_deref().unwrap_or("name not known");
            format!("id {} ({name}), {}", program.id, program.mode.name())
        })
        .collect();
    let found = format!("an XDP program is attached: {}", described.join("; "));
    let finding = Finding::warning(id, scope(interface), found, why);
    match programs.first() {
        Some(program) => finding.mend(take_off(interface, program.mode)),
        None => finding,
    }
}

/// A bpf_link cannot be told from a netlink attachment from outside.
fn take_off(interface: &Interface, mode: Mode) -> String {
    let mode = match mode {
        Mode::Native => "xdpdrv",
        Mode::Generic => "xdpgeneric",
        Mode::Hardware => "xdpoffload",
    };
    let name = word(&interface.link.name);
    format!("ip link set dev {name} {mode} off || bpftool link show  # a link goes with its owner")
}

fn mtu(interface: &Interface) -> Option<Finding> {
    if support(interface) == Support::GenericOnly {
        return None;
    }
    let (id, mtu) = ("xdp_mtu", interface.link.mtu);
    let why = "a frame that does not fit a page, between about 3,000 and 3,506 bytes, reaches XDP \
               in pieces, which not every driver can hand over";
    if !is_too_large(interface) {
        let pieces = if mtu > FRAME_BYTES_MAX { ", which the driver takes in pieces" } else { "" };
        return Some(Finding::ok(id, scope(interface), format!("MTU {mtu}{pieces}"), why));
    }
    let found = format!("MTU {mtu} is too large for native XDP with this driver");
    let mend = format!("ip link set dev {} mtu 1500", word(&interface.link.name));
    Some(Finding::warning(id, scope(interface), found, why).mend(mend))
}

fn lro(interface: &Interface) -> Option<Finding> {
    let lro = interface.offloads?.lro && support(interface) != Support::GenericOnly;
    let why = "merged TCP packets fit no XDP program: drivers refuse it or switch LRO off by \
               themselves; QUIC gains nothing from LRO";
    let mend = format!("ethtool -K {} lro off", word(&interface.link.name));
    lro.then(|| Finding::warning("xdp_lro", scope(interface), "LRO is on", why).mend(mend))
}

/// ENA keeps a send queue for XDP beside each channel, so only half of the channels may be used.
fn channels(interface: &Interface) -> Option<Finding> {
    let channels = interface.channels?;
    if interface.device.driver.as_deref() != Some("ena") {
        return None;
    }
    let (id, half) = ("xdp_channels", channels.max / 2);
    let found = format!("{} of {} channels in use", channels.now, channels.max);
    let why = "ena attaches XDP only when at most half of the channels are in use";
    if channels.now <= half {
        return Some(Finding::ok(id, scope(interface), found, why));
    }
    let mend = format!("ethtool -L {} combined {}", word(&interface.link.name), half.max(1));
    Some(Finding::warning(id, scope(interface), found, why).mend(mend))
}

/// What most drivers take: ena and mlx5 3,498, veth 3,506; i40e and ixgbe somewhat less.
const FRAME_BYTES_MAX: u32 = 3_498;

/// Drivers with native XDP in Linux 6.1, for kernels that do not tell (before 6.3).
const NATIVE_DRIVERS: [&str; 23] = [
    "atlantic",
    "bnxt_en",
    "cpsw",
    "dpaa2-eth",
    "ena",
    "enetc",
    "fsl_dpaa",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "nfp",
    "qede",
    "sfc",
    "stmmac",
    "virtio_net",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Channels, Facts, XdpFeatures};
    use crate::finding::Status;
    use crate::recorded;

    fn eth0(change: impl FnOnce(&mut Interface)) -> Interface {
        let Facts { interfaces, .. } = recorded::bare_metal();
        let mut eth0 = interfaces.by_name("eth0").unwrap().clone();
        change(&mut eth0);
        eth0
    }

    /// Whether it takes a program in native and in generic mode.
    fn both(interface: &Interface) -> (bool, bool) {
        let takes = |mode| possible(interface, mode).is_ok();
        (takes(Mode::Native), takes(Mode::Generic))
    }

    #[test]
    fn what_keeps_the_rung_asked_for_away_is_a_problem() {
        let taken = eth0(|one| one.programs = vec![recorded::program("cil_xdp_entry")]);
        let bridge = eth0(|one| one.xdp = Some(XdpFeatures(0)));
        let jumbo = eth0(|one| (one.link.mtu, one.xdp) = (9_000, Some(XdpFeatures(1))));
        for (interface, problems) in
            [(&taken, [true, true]), (&bridge, [true, false]), (&jumbo, [true, false])]
        {
            let worst = |asked| check(interface, asked).iter().map(|one| one.status).max();
            assert_eq!(worst(None), Some(Status::Warning));
            for (rung, problem) in [Rung::Xdp, Rung::XdpGeneric].into_iter().zip(problems) {
                let expected = if problem { Status::Problem } else { Status::Warning };
                assert_eq!(worst(Some(rung)), Some(expected), "{rung:?} {interface:?}");
            }
        }
    }

    #[test]
    fn the_kernel_is_believed_before_the_table() {
        assert_eq!(support(&eth0(|_| {})), Support::Native);
        assert_eq!(support(&eth0(|one| one.xdp = Some(XdpFeatures(0)))), Support::GenericOnly);
        assert_eq!(support(&eth0(|one| one.xdp = None)), Support::Native, "mlx5_core is known");
        let unknown = eth0(|one| {
            one.xdp = None;
            one.device.driver = Some("homemade".into());
        });
        assert_eq!(support(&unknown), Support::Unknown);
        assert!(mode(&unknown).found.starts_with("unknown until attached"));
        let bridge = eth0(|one| {
            one.xdp = None;
            one.link.kind = "bridge".into();
        });
        assert_eq!(mode(&bridge).status, Status::Warning);
        assert_eq!(both(&bridge), (false, true));
    }

    #[test]
    fn loopback_has_what_it_can_have() {
        let facts = recorded::bare_metal();
        let lo = facts.interfaces.by_name("lo").unwrap();
        assert!(check(lo, None).iter().all(|finding| finding.status == Status::Ok));
        assert_eq!(both(lo), (false, true));
    }

    #[test]
    fn another_program_is_named_and_in_the_way() {
        let mut taken = eth0(|one| {
            one.programs = vec![recorded::program("cil_xdp_entry")];
        });
        let finding = program(&taken);
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.ends_with("id 42 (cil_xdp_entry), native"), "{}", finding.found);
        assert!(finding.mend.unwrap().starts_with("ip link set dev eth0 xdpdrv off"));
        assert_eq!(both(&taken), (false, false));
        taken.programs[0].name = None;
        assert!(program(&taken).found.contains("name not known"));
        assert_eq!(program(&eth0(|_| {})).status, Status::Ok);
    }

    #[test]
    fn jumbo_frames_keep_native_xdp_away() {
        let jumbo = eth0(|one| (one.link.mtu, one.xdp) = (9_000, Some(XdpFeatures(1))));
        let finding = mtu(&jumbo).unwrap();
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.mend.unwrap(), "ip link set dev eth0 mtu 1500");
        assert_eq!(both(&jumbo), (false, true));
        assert_eq!(mtu(&eth0(|one| one.link.mtu = 3_498)).unwrap().status, Status::Ok);
        let in_pieces = eth0(|one| one.link.mtu = 9_000);
        assert_eq!(mtu(&in_pieces).unwrap().status, Status::Ok);
        assert_eq!(both(&in_pieces), (true, true));
    }

    #[test]
    fn lro_is_in_the_way() {
        assert_eq!(lro(&eth0(|_| {})), None);
        let merging = eth0(|one| one.offloads.as_mut().unwrap().lro = true);
        assert_eq!(lro(&merging).unwrap().mend.unwrap(), "ethtool -K eth0 lro off");
    }

    #[test]
    fn ena_wants_half_of_its_channels_free() {
        assert_eq!(channels(&eth0(|_| {})), None);
        let ena = |now| {
            eth0(|one| {
                one.device.driver = Some("ena".into());
                one.channels = Some(Channels { now, max: 8, combined: true });
            })
        };
        assert_eq!(channels(&ena(4)).unwrap().status, Status::Ok);
        let finding = channels(&ena(5)).unwrap();
        assert_eq!(finding.mend.unwrap(), "ethtool -L eth0 combined 4");
    }
}
