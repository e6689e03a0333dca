//! network reads the settings and counters of this network namespace that quiclane feels.

use super::files::Files;

/// The network namespace of this process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Network {
    /// net.core.rmem_max; absent in namespaces of kernels before 6.7.
    pub(crate) recv_buffer_max: Option<u64>,
    /// net.core.wmem_max
    pub(crate) send_buffer_max: Option<u64>,
    /// First and last of net.ipv4.ip_local_port_range.
    pub(crate) local_ports: Option<(u16, u16)>,
    /// Where connection tracking is loaded.
    pub(crate) conntrack: Option<Conntrack>,
    /// net.core.netdev_max_backlog
    pub(crate) backlog_max: Option<u64>,
    /// Packets that did not fit a CPU's backlog since boot.
    pub(crate) backlog_drops: u64,
}

/// The table of tracked flows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Conntrack {
    pub(crate) entries: u64,
    pub(crate) entries_max: u64,
}

impl Network {
    pub(crate) fn read(files: &Files) -> Self {
        let entries_max = files.value("/proc/sys/net/netfilter/nf_conntrack_max");
        let entries = files.value("/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or(0);
        Self {
            recv_buffer_max: files.value("/proc/sys/net/core/rmem_max"),
            send_buffer_max: files.value("/proc/sys/net/core/wmem_max"),
            local_ports: files
                .text("/proc/sys/net/ipv4/ip_local_port_range")
                .and_then(|text| ports(&text)),
            conntrack: entries_max.map(|entries_max| Conntrack { entries, entries_max }),
            backlog_max: files.value("/proc/sys/net/core/netdev_max_backlog"),
            backlog_drops: drops(&files.text("/proc/net/softnet_stat").unwrap_or_default()),
        }
    }
}

fn ports(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The second column, in hexadecimal, of one line for each CPU.
fn drops(softnet_stat: &str) -> u64 {
    let column = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    softnet_stat.lines().filter_map(column).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::Tree;

    #[test]
    fn settings_and_counters_are_read() {
        let tree = Tree::new(&[
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "12\n"),
            ("proc/net/softnet_stat", "0000ff 0000000a 00000001\n000001 00000010 00000000\n"),
        ]);
        let network = Network::read(&tree.files());
        assert_eq!(network.recv_buffer_max, Some(212_992));
        assert_eq!(network.send_buffer_max, None);
        assert_eq!(network.local_ports, Some((32_768, 60_999)));
        assert_eq!(network.conntrack, Some(Conntrack { entries: 12, entries_max: 262_144 }));
        assert_eq!(network.backlog_drops, 26);
        assert_eq!(Network::read(&Tree::new(&[]).files()), Network::default());
    }
}
