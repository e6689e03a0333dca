//! What the tests share: two namespaces joined by a veth pair, raw frames, what was counted.
//!
//! ```text
//!   client's namespace                    server's namespace: that of the test's process
//!   veth1 198.51.100.1..8 ------------- veth0 192.0.2.1, 2001:db8::1
//!         2001:db8:7::1..8                  XDP
//! ```

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use quiclane::clock::now;
use quiclane::metrics::WorkerSnapshot;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::common::Served;

/// Where the server is; the fixtures' frames go there.
pub(crate) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The same for IPv6.
pub(crate) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The server's port.
pub(crate) const PORT: u16 = 4433;
/// How many addresses of each family the client has.
pub(crate) const CLIENT_ADDRESSES: u8 = 8;

/// One of the client's addresses, counted from 0, in the family of the server's.
pub(crate) fn client_address(server: IpAddr, number: u8) -> IpAddr {
    let number = 1 + number % CLIENT_ADDRESSES;
    match server {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, number).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, number.into()).into(),
    }
}

/// Runs `body` in a process in a network namespace of its own, one test at a time: they count
/// packets, and some measure time. `test` is the name that this binary knows the test by.
pub(crate) fn inside(test: &str, body: impl FnOnce()) {
    if env::var(INSIDE).as_deref() == Ok(test) {
        body();
        return;
    }
    let isolated = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh", program]);
        command
    };
    if !isolated("true").output().is_ok_and(|output| output.status.success()) {
        let why = "needs root for network namespaces, `unshare` and `ip`";
        assert!(env::var("CI").as_deref() != Ok("true"), "{test}: {why}");
        println!("skipped: {test}: {why}");
        return;
    }
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut command = isolated(env::current_exe().unwrap().to_str().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(INSIDE, test).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}:\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "{test} is not the name of a test:\n{text}\n{errors}");
    print!("{text}");
}

/// A veth pair between this process's namespace and one for clients.
pub(crate) struct Link {
    client: File,
    /// Holds the client's namespace; ends when its standard input does, so at the latest with us.
    holder: Child,
}

impl Link {
    /// The pair with the server's addresses. The client has none, so its side is silent.
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let process = holder.id();
        let client = File::open(format!("/proc/{process}/ns/net")).unwrap();
        let link = Self { client, holder };
        // A strict host would drop what arrives by another device than its answer leaves by.
        set("ipv4/conf/all/rp_filter", "0");
        set("ipv4/conf/default/rp_filter", "0");
        link.in_client(|| set("ipv6/conf/default/disable_ipv6", "1"));
        link.plug();
        link
    }

    /// The pair with addresses for clients.
    pub(crate) fn with_clients() -> Self {
        let link = Self::new();
        link.address_clients();
        link
    }

    /// Makes the pair.
    fn plug(&self) {
        let queues = "numrxqueues 2 numtxqueues 2 mtu 2000";
        let process = self.holder.id();
        ip(&format!(
            "link add veth0 address 02:00:00:00:00:01 {queues} type veth \
             peer name veth1 address 02:00:00:00:00:02 {queues} netns {process}"
        ));
        // Routes that belong to an address come back with the interface.
        set("ipv6/conf/veth0/keep_addr_on_down", "1");
        ip(&format!("address add {SERVER_V4} peer 198.51.100.0/24 dev veth0"));
        ip(&format!("address add {SERVER_V6}/32 dev veth0 nodad"));
        ip("link set veth0 up");
        self.in_client(|| ip("link set veth1 up"));
    }

    /// Removes the pair for a while and makes it again.
    pub(crate) fn replug(&self, after: Duration) {
        ip("link delete veth0");
        thread::sleep(after);
        self.plug();
        self.address_clients();
    }

    fn address_clients(&self) {
        self.in_client(|| {
            set("ipv6/conf/veth1/disable_ipv6", "0");
            for number in 0..CLIENT_ADDRESSES {
                let [v4, v6] = [SERVER_V4.into(), SERVER_V6.into()]
                    .map(|server| client_address(server, number));
                ip(&format!("address add {v4} peer 192.0.2.0/24 dev veth1"));
                ip(&format!("address add {v6}/32 dev veth1 nodad"));
            }
        });
    }

    /// Runs `work` in the client's namespace; sockets made there stay there.
    pub(crate) fn in_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let namespace = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.client.as_fd(), namespace).unwrap();
            work()
        };
        // A thread of its own: it does not come back.
        thread::scope(|scope| scope.spawn(enter).join()).unwrap()
    }

    /// An address that the client's packets leave for as they do for the server, and that none of
    /// them reaches: the other end of their cable is down.
    pub(crate) fn nowhere(&self) -> SocketAddr {
        self.in_client(|| {
            ip("link add nowhere type veth peer name down");
            ip("address add 203.0.113.1/24 dev nowhere");
            ip("link set nowhere up");
            ip("neigh add 203.0.113.2 lladdr 02:00:00:00:00:03 dev nowhere nud permanent");
        });
        SocketAddr::from(([203, 0, 113, 2], PORT))
    }

    /// Frames of the client's that never came to the server's programs: the queue of the cable was
    /// full, or there was no memory for them.
    pub(crate) fn lost(&self) -> u64 {
        let column = |device: &str, at| {
            let devices = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let line = devices.lines().find_map(|line| line.trim_start().strip_prefix(device));
            line.unwrap().split_ascii_whitespace().nth(at).unwrap().parse::<u64>().unwrap()
        };
        // Eight columns of what was received and eight of what was sent, of which the fourth is
        // what was dropped.
        self.in_client(|| column("veth1:", 8 + 3)) + column("veth0:", 3)
    }

    /// A UDP socket of the client's on `address`.
    pub(crate) fn client_socket(&self, address: IpAddr) -> UdpSocket {
        self.in_client(|| UdpSocket::bind((address, 0)).unwrap())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Both fail only if it is over already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A packet socket on the client's end of the veth pair.
pub(crate) struct Frames {
    socket: Socket,
    veth1: SockAddr,
}

impl Frames {
    pub(crate) fn open(link: &Link) -> Self {
        let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = link.in_client(|| Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap());
        // The address of a device, which no safe code writes down, comes with any frame from it.
        ip("neigh replace 198.51.100.7 lladdr 02:00:00:00:00:02 dev veth0 nud permanent");
        let peer = UdpSocket::bind((SERVER_V4, 0)).unwrap();
        peer.send_to(b"here", "198.51.100.7:9").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (_, veth1) = socket.recv_from(&mut [MaybeUninit::uninit(); 100]).unwrap();
        Self { socket, veth1 }
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = self.socket.send_to(frame, &self.veth1);
        assert_eq!(sent.unwrap_or_else(|e| panic!("{} bytes: {e}", frame.len())), frame.len());
    }
}

/// Frames by what became of them in XDP, without those of which there are none.
pub(crate) type Counted = BTreeMap<&'static str, u64>;

/// What the XDP program counted so far.
pub(crate) fn counted(server: &Served) -> Counted {
    let kernel = server.engine().metrics().kernel().unwrap();
    let counts = kernel.frames.into_iter().map(|frames| (frames.reason, frames.count));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// How the selecting program chose so far.
pub(crate) fn selected(server: &Served) -> Counted {
    let kernel = server.engine().metrics().kernel().unwrap();
    kernel.selections.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// What was counted since `before`.
pub(crate) fn since(now: &Counted, before: &Counted) -> Counted {
    let before = |name| before.get(name).copied().unwrap_or(0);
    now.iter().map(|(name, n)| (*name, n - before(name))).filter(|(_, n)| *n > 0).collect()
}

/// Looks again and again until there is something; `None`: not within what a slow machine needs.
pub(crate) fn poll<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let start = now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() > Duration::from_secs(10) {
            return found;
        }
        thread::sleep(Duration::from_micros(20));
    }
}

/// A worker's share of something.
pub(crate) fn of_workers(
    snapshots: &[WorkerSnapshot],
    field: impl Fn(&WorkerSnapshot) -> u64,
) -> Vec<u64> {
    snapshots.iter().map(field).collect()
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// Sets one of the namespace's settings.
pub(crate) fn set(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{name}"), value).unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Set in the namespace to the name of the test.
const INSIDE: &str = "QUICLANE_NAMESPACES_INSIDE";
/// Every protocol, from linux/if_ether.h.
const ETH_P_ALL: u16 = 3;
