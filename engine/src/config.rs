//! config is everything a user can choose, as plain data with safe defaults.
//!
//! [`Plan`](crate::Plan) turns it into decisions once; workers never see a `Config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use quiclane_datapath::RingMode;

use crate::tls::ServerTls;

/// What to run and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the engine serves; `None` for a pure client, which opens its own sockets.
    pub server: Option<ServerConfig>,
    /// Threads, each with its own socket, endpoint and app. 0 (default): one per allowed core.
    /// At most 255, because the connection ID has one byte for it.
    pub workers: usize,
    /// Cores to pin the workers to, in worker order; empty (default): the allowed cores in order
    /// when there are enough of them, else no pinning.
    pub cores: Vec<usize>,
    /// How datagrams enter and leave.
    pub io: Io,
    /// How rings are set up where there are any.
    pub ring: Ring,
    /// Limits of each connection and worker.
    pub limits: Limits,
    /// Transport settings of each connection.
    pub transport: Transport,
    /// Makes connection IDs, spreading and quinn-proto's choices reproducible. For simulations
    /// only: a predictable server can be attacked.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: None,
            workers: 0,
            cores: Vec::new(),
            io: Io::Auto,
            ring: Ring::default(),
            limits: Limits::default(),
            transport: Transport::default(),
            seed: None,
        }
    }
}

/// The server half of a [`Config`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Addresses to listen on; port 0 takes a free one. An IPv6 wildcard also takes IPv4.
    pub listen: Vec<SocketAddr>,
    /// Certificate, key and application protocols.
    pub tls: ServerTls,
    /// How a packet finds its worker.
    pub steering: Steering,
    /// Where the XDP rungs attach, and what they do.
    pub xdp: Xdp,
    /// Gives up every capability of the process once sockets and programs are in place, before the
    /// workers start. For programs that do nothing else with them. Root then refuses a `state_dir`
    /// with files of another user, which it could not read any more. Default off.
    pub drop_capabilities: bool,
    /// When to make a client prove its address before anything is spent on it.
    pub retry: Retry,
    /// Where the master key and the epoch live; `None`: in memory, so resets and tokens do not
    /// survive a restart.
    pub state_dir: Option<PathBuf>,
    /// How long packets of a process that is gone are recognised, and answered with a stateless
    /// reset, from the first start after it. Default 1 h: as long as a client may keep a dead
    /// connection alive. A low byte of the epoch serves again after that time.
    pub retired_for: Duration,
    /// The operator's QUIC-LB server ID, 0 to 8 bytes, at the front of every connection ID.
    pub server_id: Vec<u8>,
}

impl ServerConfig {
    /// A server on `listen` with everything else at its default.
    #[must_use]
    pub fn new(listen: SocketAddr, tls: ServerTls) -> Self {
        Self {
            listen: vec![listen],
            tls,
            steering: Steering::Auto,
            xdp: Xdp::default(),
            drop_capabilities: false,
            retry: Retry::Auto,
            state_dir: None,
            retired_for: Duration::from_secs(3_600),
            server_id: Vec::new(),
        }
    }
}

/// Datapath choice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Io {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring or fail.
    Uring,
    /// epoll with recvmmsg and sendmmsg.
    Epoll,
}

/// How the io_uring of each worker is set up. What differs from the default is there to be
/// measured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ring {
    /// When completions are made.
    pub mode: RingMode,
    /// Buffers of 66 KiB for received trains, a power of two. `None` (default): 8 for a server, so
    /// that all stay in the cache, and 32 for a client, whose sockets share them.
    pub receive_buffers: Option<u16>,
}

/// Steering choice; each rung works without the ones above it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Steering {
    /// The best rung this host allows.
    #[default]
    Auto,
    /// XDP in the driver, in front of [`Steering::Reuseport`]: junk never reaches the network
    /// stack. Needs CAP_BPF, CAP_NET_ADMIN and a driver that has it; faster with CAP_PERFMON.
    Xdp,
    /// XDP in the network stack, for every driver.
    XdpGeneric,
    /// An eBPF program on the reuseport group reads and verifies connection IDs, and spreads those
    /// that clients choose. Needs CAP_BPF and CAP_NET_ADMIN.
    Reuseport,
    /// A classic BPF program on the reuseport group reads the worker byte of short headers.
    Cbpf,
    /// The kernel's hash of addresses and ports; strays are tossed between workers.
    Hash,
}

/// Settings of the XDP rungs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Xdp {
    /// Interfaces to attach to, all of them or none; empty (default): the owners of the listen
    /// addresses, loopback left out, as many as are possible.
    pub interfaces: Vec<String>,
    /// Moves each frame to the core of its worker (CPUMAP). Default off: it pays only where the
    /// device has fewer receive queues than there are workers.
    pub redirect: bool,
    /// How many first flights get through.
    pub budgets: Budgets,
}

/// How many first flights XDP lets through: the datagrams of clients that know no connection ID of
/// ours (Initials, 0-RTT, other versions), and the Initials of those that do.
///
/// What is over a budget is dropped and counted: `quiclane_ebpf_frames_total`, with the reason
/// `prefix_budget`, `initial_budget` or `proven_budget`. The rungs without XDP keep no budgets;
/// there [`Limits::half_open_retry`] and [`Limits::half_open`] hold floods off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budgets {
    /// First datagrams a second from one source prefix, as many at once; `None`: no limit, at most
    /// [`Budgets::RATE_MAX`]. Default 20,000: a load generator or a large NAT behind one prefix; a
    /// handshake opens with one to three. More lets one network take more of the workers, less
    /// makes clients behind a common address wait for each other.
    pub prefix_initials_per_s: Option<u32>,
    /// The same from all sources together. Default 200,000: more than the workers of one host can
    /// answer. More reaches the workers' own limits, less refuses honest clients in a flood.
    pub initials_per_s: Option<u32>,
    /// Initials a second that carry a connection ID of ours, from all sources: after a Retry or our
    /// first flight. Default 200,000, apart from the others, so that a flood of first Initials
    /// cannot starve clients that have proved their address.
    pub proven_initials_per_s: Option<u32>,
    /// The leading bits of an IPv4 address that make a source prefix: 0 (all are one) to 32.
    /// Default 24, the longest prefix that is routed on the Internet. More gives each owner of many
    /// addresses many budgets, less makes neighbours share one.
    pub prefix_bits_v4: u8,
    /// The same of an IPv6 address: 0 to 64. Default 56, what a household gets (RFC 6177); with 64
    /// it has 256 budgets.
    pub prefix_bits_v6: u8,
}

impl Budgets {
    /// The programs count in nanoseconds from packet to packet: above this rate they round by more
    /// than a hundredth. No host receives as many.
    pub const RATE_MAX: u32 = 10_000_000;
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            prefix_initials_per_s: Some(20_000),
            initials_per_s: Some(200_000),
            proven_initials_per_s: Some(200_000),
            prefix_bits_v4: 24,
            prefix_bits_v6: 56,
        }
    }
}

/// When the server answers a first Initial with Retry (RFC 9000 section 8.1.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Retry {
    /// Never.
    Off,
    /// While a worker has more than [`Limits::half_open_retry`] unfinished handshakes.
    #[default]
    Auto,
    /// Always.
    Always,
}

/// Limits, each counted when it is reached.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections per worker, closing ones included. Default 100,000: about 4 GiB with idle
    /// connections at 37 KiB each; more costs memory, less refuses clients.
    pub connections: usize,
    /// Unfinished incoming handshakes per worker above which [`Retry::Auto`] sends Retry.
    /// Default 256: a burst of honest clients passes, a flood of spoofed ones costs no TLS.
    pub half_open_retry: usize,
    /// Unfinished incoming handshakes per worker; further Initials are dropped. Default 4,096.
    pub half_open: usize,
    /// From the first packet to a complete handshake. Default 10 s (s2n-quic's), because
    /// quinn-proto has none and a slow peer would hold its memory for ever.
    pub handshake_deadline: Duration,
    /// Connection IDs issued to a peer that wait to be sent. Default 64: a peer that retires them
    /// without acknowledging anything would grow that queue without bound.
    pub issued_cids_unacknowledged: u64,
    /// Stateless resets a second that all workers of a server send together, as many at once; 0:
    /// none. Default 200,000, far more than a restart of a large server needs.
    pub resets_per_s: u32,
    /// The same for one source prefix, a /24 or a /56. Default 20,000: ten thousand connections
    /// behind one address learn of a restart at once.
    pub prefix_resets_per_s: u32,
    /// Datagrams a worker's mailbox holds for strays tossed by siblings. Default 4,096; beyond
    /// it they are dropped, as a full socket buffer would.
    pub toss_mailbox: usize,
    /// Send slots per worker, 64 KiB each. Default 64.
    pub send_slots: usize,
    /// Kernel socket buffers per socket, each direction, in bytes. Default 4 MiB: holds about
    /// 2,900 full-size datagrams; the kernel's own default of 208 KiB holds 92.
    pub socket_buffer_bytes: usize,
    /// Datagrams of a train that is sent (UDP_SEGMENT). Default 128, what kernels take at most; 1
    /// sends each on its own. Fewer only to measure what trains are worth.
    pub gso_segments: usize,
    /// Whether a server receives trains (UDP_GRO). Default on; off only to measure what it is
    /// worth.
    pub gro: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            half_open_retry: 256,
            half_open: 4_096,
            handshake_deadline: Duration::from_secs(10),
            issued_cids_unacknowledged: 64,
            resets_per_s: 200_000,
            prefix_resets_per_s: 20_000,
            toss_mailbox: 4_096,
            send_slots: 64,
            socket_buffer_bytes: 4 << 20,
            gso_segments: 128,
            gro: true,
        }
    }
}

/// QUIC transport settings of each connection (RFC 9000 section 18.2).
#[derive(Clone, Debug)]
pub struct Transport {
    /// Bidirectional streams the peer may have open. Default 100, at most 100,000. quinn-proto
    /// allocates the table up front: 1,000 costs 76 KiB and 20 us a connection.
    pub streams_bidi: u32,
    /// Unidirectional streams the peer may have open. Default 10, at most 100,000.
    pub streams_uni: u32,
    /// Bytes a peer may have in flight on one stream. Default 1 MiB.
    pub stream_receive_window: u32,
    /// Bytes a peer may have in flight on all streams. Default 4 MiB; quinn-proto's is unlimited,
    /// so 100 streams could fill memory.
    pub receive_window: u32,
    /// Unacknowledged bytes kept for retransmission. Default 4 MiB: more pushes a bulk sender out
    /// of the CPU cache (16 MiB cost 5 % here), less stalls it.
    pub send_window: u64,
    /// Silence after which a connection is dropped. Default 30 s.
    pub idle_timeout: Duration,
    /// Keep-alive interval; `None` (default) sends none.
    pub keep_alive: Option<Duration>,
    /// Bytes of received datagrams (RFC 9221) kept for the app. Default 256 KiB.
    pub datagram_receive_bytes: usize,
    /// Bytes of datagrams waiting to be sent. Default 256 KiB.
    pub datagram_send_bytes: usize,
    /// UDP payload bytes assumed to pass at once, from 1,200. Default 1,200.
    pub initial_mtu: u16,
    /// The largest UDP payload path MTU discovery (RFC 8899) tries; equal to `initial_mtu` turns
    /// discovery off. `None` (default) fills Ethernet's frames: 1,472 with IPv4, 1,452 with IPv6.
    /// What comes may have any size: peers are told 65,527 (max_udp_payload_size).
    pub mtu_max: Option<u16>,
    /// Congestion control.
    pub congestion: Congestion,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            streams_bidi: 100,
            streams_uni: 10,
            stream_receive_window: 1 << 20,
            receive_window: 4 << 20,
            send_window: 4 << 20,
            idle_timeout: Duration::from_secs(30),
            keep_alive: None,
            datagram_receive_bytes: 256 << 10,
            datagram_send_bytes: 256 << 10,
            initial_mtu: 1_200,
            mtu_max: None,
            congestion: Congestion::Cubic,
        }
    }
}

/// Congestion controllers: those of quinn-proto, and one of ours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Congestion {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 9002 section 7.
    NewReno,
    /// BBR, experimental in quinn-proto.
    Bbr,
    /// A fixed rate, whatever is lost: for paths whose capacity is known, and to load servers with
    /// senders that do not yield. No citizen of a shared network.
    Brutal {
        /// Bytes a second.
        bytes_per_s: u64,
    },
}
