//! recorded holds hosts as they were found: files, interfaces and what the kernel answered.

use std::fs;

use quiclane_ebpf::{ForeignProgram, Mode, Program};

use crate::facts::{
    Buffers, Channels, Ebpf, Facts, Files, Host, Interface, Interfaces, Journey, Link, Network,
    Offloads, Peer, Process, Targets, Trials, Verified, XdpFeatures,
};

/// A folder that stands in for `/`.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn files(&self) -> Files {
        Files::at(self.0.path())
    }

    fn facts(&self, interfaces: Interfaces, ebpf: Ebpf, trials: Trials) -> Facts {
        let files = self.files();
        let program = "/usr/local/bin/quiclane".to_owned();
        let process = Process { program, ..Process::read(&files) };
        let (host, network) = (Host::read(&files), Network::read(&files));
        assert_eq!(files.take_unread(), []);
        Facts { host, process, network, interfaces, ebpf, trials, unread: Vec::new() }
    }
}

/// Root on a server with eight CPUs in four cores, one node and an mlx5 card with eight queues.
pub(crate) fn bare_metal() -> Facts {
    bare_metal_with(|_| {})
}

pub(crate) fn bare_metal_with(change: impl FnOnce(&Tree)) -> Facts {
    let tree = Tree::new(BARE_METAL);
    for cpu in 0..8 {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        let siblings = format!("{},{}\n", cpu % 4, cpu % 4 + 4);
        tree.write(&format!("{folder}/topology/thread_siblings_list"), &siblings);
        tree.write(&format!("{folder}/cpufreq/scaling_governor"), "performance\n");
    }
    change(&tree);
    let mut eth0 = Interface {
        link: Link { mtu: 1_500, ..link(2, "eth0", "") },
        offloads: Some(Offloads {
            gro: true,
            lro: false,
            send_checksum: true,
            udp_segmentation: true,
        }),
        channels: Some(Channels { now: 8, max: 63, combined: true }),
        xdp: Some(XdpFeatures(0x2b)),
        ..Interface::default()
    };
    eth0.device.driver = Some("mlx5_core".into());
    eth0.device.node = Some(0);
    eth0.device.recv_queues = 8;
    eth0.device.interrupts = (40..48).zip(0..).map(|(irq, cpu)| (irq, vec![cpu])).collect();
    let interfaces = interfaces(vec![loopback(), eth0], "eth0");
    tree.facts(interfaces, ebpf(), trials(4 << 20))
}

/// An unprivileged container on a virtual machine: four CPUs with a quota of one and a half, one
/// end of a veth, no io_uring.
pub(crate) fn container() -> Facts {
    let tree = Tree::new(CONTAINER);
    let mut veth = Interface {
        link: Link { mtu: 1_500, peer: Some(Peer::Elsewhere), ..link(2, "eth0", "veth") },
        offloads: Some(Offloads { send_checksum: true, ..Offloads::default() }),
        channels: Some(Channels { now: 1, max: 1, combined: false }),
        xdp: Some(XdpFeatures(0x23)),
        ..Interface::default()
    };
    veth.device.recv_queues = 1;
    let interfaces = interfaces(vec![loopback(), veth], "eth0");
    let why = "creating BPF maps: not permitted: grant CAP_BPF and CAP_NET_ADMIN (sudo)";
    let ebpf = Ebpf { xdp: Err(why.to_owned()), reuseport: Err(why.to_owned()) };
    let uring = Err("io_uring_setup was refused: Operation not permitted".to_owned());
    tree.facts(interfaces, ebpf, Trials { uring, rings: Ok(0), ..trials(212_992) })
}

/// Root on a host with both ends of a veth pair, as `ip link add` leaves them, and a firewall
/// that tracks connections.
pub(crate) fn veth_host() -> Facts {
    let tree = Tree::new(BARE_METAL);
    tree.write("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
    tree.write("proc/sys/net/netfilter/nf_conntrack_count", "117\n");
    let end = |index, name, peer| {
        let mut end = Interface {
            link: Link { mtu: 1_500, peer: Some(Peer::Here(peer)), ..link(index, name, "veth") },
            offloads: Some(Offloads { send_checksum: true, ..Offloads::default() }),
            channels: Some(Channels { now: 1, max: 1, combined: false }),
            xdp: Some(XdpFeatures(0x23)),
            ..Interface::default()
        };
        end.device.recv_queues = 1;
        end
    };
    let all = vec![loopback(), end(3, "veth0", 4), end(4, "veth1", 3)];
    let interfaces = interfaces(all, "veth0");
    tree.facts(interfaces, ebpf(), trials(4 << 20))
}

fn interfaces(all: Vec<Interface>, chosen: &str) -> Interfaces {
    let chosen = vec![chosen.to_owned()];
    let targets = Targets { names: chosen.clone(), notes: Vec::new() };
    Interfaces { all, chosen, targets }
}

fn link(index: u32, name: &str, kind: &str) -> Link {
    let (name, kind) = (name.to_owned(), kind.to_owned());
    Link { index, name, kind, up: true, send_queues: 1, ..Link::default() }
}

fn loopback() -> Interface {
    Interface {
        link: Link { loopback: true, mtu: 65_536, ..link(1, "lo", "") },
        offloads: Some(Offloads { gro: true, send_checksum: true, ..Offloads::default() }),
        xdp: Some(XdpFeatures(0)),
        ..Interface::default()
    }
}

/// A program of somebody else in a driver.
pub(crate) fn program(name: &str) -> ForeignProgram {
    ForeignProgram { mode: Mode::Native, id: 42, name: Some(name.to_owned()) }
}

/// Both programs are taken.
fn ebpf() -> Ebpf {
    let taken = |program, instructions| Ok(Verified { program, instructions: Some(instructions) });
    Ebpf { xdp: taken(Program::Steer, 13_439), reuseport: taken(Program::Select, 4_912) }
}

fn trials(granted: usize) -> Trials {
    Trials {
        uring: Ok(()),
        rings: Ok(8),
        train: Ok(Journey { left_whole: true, arrived_whole: true, intact: true }),
        buffers: Some(Buffers { asked: 4 << 20, recv: granted, send: granted }),
        cbpf: Ok(()),
        listen: Vec::new(),
    }
}

const BARE_METAL: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
    ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/net/core/bpf_jit_enable", "1\n"),
    ("proc/sys/net/core/rmem_max", "212992\n"),
    ("proc/sys/net/core/wmem_max", "212992\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/net/softnet_stat", "00001f2c 00000000 00000001 00000000\n"),
    ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme de pse tsc msr lm\n"),
    ("proc/stat", "cpu  84212 12 40211 99112233 812 0 331 0 0 0\ncpu0 1 0 1 9 0 0 0 0 0 0\n"),
    (
        "proc/self/status",
        "Name:\tquiclane\nCapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\n\
         CapBnd:\t000001ffffffffff\nCpus_allowed_list:\t0-7\n",
    ),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1024                 524288               files     \n\
         Max locked memory         8388608              8388608              bytes     \n",
    ),
    ("proc/self/uid_map", "         0          0 4294967295\n"),
    ("proc/self/cgroup", "0::/user.slice/session-1.scope\n"),
    ("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/devices/system/cpu/online", "0-7\n"),
    ("sys/devices/system/cpu/isolated", "\n"),
    ("sys/devices/system/node/node0/cpulist", "0-7\n"),
    ("sys/class/dmi/id/sys_vendor", "Dell Inc.\n"),
    ("sys/class/dmi/id/product_name", "PowerEdge R640\n"),
];

const CONTAINER: &[(&str, &str)] = &[
    (".dockerenv", ""),
    ("proc/sys/kernel/osrelease", "6.8.0-1021-aws\n"),
    ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/net/softnet_stat", "00001f2c 00000000 00000001 00000000\n"),
    ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme tsc msr hypervisor lm\n"),
    ("proc/stat", "cpu  84212 12 40211 99112233 812 0 331 9001 0 0\n"),
    (
        "proc/self/status",
        "Name:\tquiclane\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n\
         Cpus_allowed_list:\t0-3\n",
    ),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1048576              1048576              files     \n\
         Max locked memory         8388608              8388608              bytes     \n",
    ),
    ("proc/self/uid_map", "         0          0 4294967295\n"),
    ("proc/self/cgroup", "0::/\n"),
    ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n"),
    ("sys/class/dmi/id/product_name", "c6i.xlarge\n"),
];
