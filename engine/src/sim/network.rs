//! network is everything between the sockets of a simulation.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use quiclane_datapath::{Ecn, Meta, SocketId, Transmit, Waker};
use quiclane_wire::{Key, Layout, SHORT_HEADER_CID_AT, siphash64};

use super::faults::{Delivery, Faults};
use super::random::Random;
use crate::clock::VirtualTime;

pub(super) struct Network {
    time: VirtualTime,
    random: Random,
    faults: Faults,
    counts: BTreeMap<&'static str, u64>,
    flying: BinaryHeap<Flying>,
    launched: u64,
    listeners: BTreeMap<SocketAddr, Listener>,
    datapaths: Vec<Port>,
    /// Outside address of each client socket, and the way back.
    outside: BTreeMap<SocketAddr, SocketAddr>,
    inside: BTreeMap<SocketAddr, (usize, SocketId)>,
    next_port: u16,
    next_rebind: Option<Instant>,
    /// Bytes from and to addresses that nobody owns.
    spoofed: BTreeMap<SocketAddr, (u64, u64)>,
    trace: u64,
    start: Instant,
}

struct Listener {
    delivery: Delivery,
    layout: Layout,
    sockets: Vec<(usize, SocketId)>,
}

struct Port {
    host: IpAddr,
    waker: Waker,
    sockets: Vec<Option<Socket>>,
    alive: bool,
}

struct Socket {
    local: SocketAddr,
    queue: VecDeque<Datagram>,
}

struct Datagram {
    bytes: Vec<u8>,
    source: SocketAddr,
    target: SocketAddr,
    ecn: Option<Ecn>,
}

struct Flying {
    at: Instant,
    order: u64,
    datagram: Datagram,
}

impl Network {
    pub(super) fn new(seed: u64, faults: Faults, time: VirtualTime) -> Self {
        let start = time.now();
        let every = faults.rebind_every;
        Self {
            random: Random::new(seed, "network"),
            next_rebind: (!every.is_zero()).then(|| start + every),
            faults,
            counts: BTreeMap::new(),
            flying: BinaryHeap::new(),
            launched: 0,
            listeners: BTreeMap::new(),
            datapaths: Vec::new(),
            outside: BTreeMap::new(),
            inside: BTreeMap::new(),
            next_port: 1_024,
            spoofed: BTreeMap::new(),
            trace: seed,
            start,
            time,
        }
    }

    pub(super) fn add_datapath(&mut self, host: IpAddr, waker: Waker) -> usize {
        self.datapaths.push(Port { host, waker, sockets: Vec::new(), alive: true });
        self.datapaths.len() - 1
    }

    pub(super) fn remove_datapath(&mut self, index: usize) {
        self.datapaths[index].alive = false;
        for socket in 0..self.datapaths[index].sockets.len() {
            self.close(index, SocketId(u32::try_from(socket).unwrap_or(u32::MAX)));
        }
    }

    pub(super) fn add_listeners(
        &mut self,
        addresses: &[SocketAddr],
        delivery: Delivery,
        layout: Layout,
    ) {
        for address in addresses {
            let listener = Listener { delivery, layout, sockets: Vec::new() };
            self.listeners.insert(*address, listener);
        }
    }

    pub(super) fn open(&mut self, index: usize, local: SocketAddr) -> SocketId {
        let port = &mut self.datapaths[index];
        let free = port.sockets.iter().position(Option::is_none).unwrap_or(port.sockets.len());
        if free == port.sockets.len() {
            port.sockets.push(None);
        }
        let socket = SocketId(u32::try_from(free).unwrap_or(u32::MAX));
        let local = if let Some(listener) = self.listeners.get_mut(&local) {
            listener.sockets.push((index, socket));
            local
        } else {
            let local = self.unused_address(index);
            self.outside.insert(local, local);
            self.inside.insert(local, (index, socket));
            local
        };
        let queue = VecDeque::new();
        self.datapaths[index].sockets[free] = Some(Socket { local, queue });
        socket
    }

    pub(super) fn close(&mut self, index: usize, socket: SocketId) {
        let Some(closed) = self.socket(index, socket).take() else { return };
        for listener in self.listeners.values_mut() {
            listener.sockets.retain(|other| *other != (index, socket));
        }
        if let Some(outside) = self.outside.remove(&closed.local) {
            self.inside.remove(&outside);
        }
    }

    pub(super) fn local_addr(&self, index: usize, socket: SocketId) -> Option<SocketAddr> {
        let sockets = &self.datapaths[index].sockets;
        sockets.get(socket.0 as usize)?.as_ref().map(|socket| socket.local)
    }

    /// Moves every client socket of the host `ip` to a new outside address.
    pub(super) fn rebind(&mut self, ip: IpAddr) {
        let locals: Vec<_> =
            self.outside.keys().filter(|local| local.ip() == ip).copied().collect();
        for local in locals {
            let Some(old) = self.outside.get(&local).copied() else { continue };
            let Some(owner) = self.inside.remove(&old) else { continue };
            let new = self.unused_address(owner.0);
            self.outside.insert(local, new);
            self.inside.insert(new, owner);
            self.note("rebind");
        }
    }

    /// Puts a datagram on the wire; false when the sending kernel refuses it.
    pub(super) fn send(&mut self, index: usize, transmit: &Transmit, bytes: &[u8]) -> bool {
        let Some(local) = self.local_addr(index, transmit.socket) else { return false };
        if self.hit(self.faults.send_error) {
            self.note("send_error");
            return false;
        }
        if bytes.len() > self.faults.mtu {
            self.note("too_big");
            return false;
        }
        if let Some((_, to)) = self.spoofed.get_mut(&transmit.target) {
            *to += bytes.len() as u64;
        }
        let source = self.outside.get(&local).copied().unwrap_or(local);
        let (target, ecn) = (transmit.target, transmit.ecn);
        self.launch(Datagram { bytes: bytes.to_vec(), source, target, ecn });
        true
    }

    pub(super) fn inject(&mut self, source: SocketAddr, target: SocketAddr, bytes: &[u8]) {
        self.spoofed.entry(source).or_default();
        self.launch(Datagram { bytes: bytes.to_vec(), source, target, ecn: None });
    }

    /// Takes what can be received at once from one socket: datagrams of one sender with the same
    /// length and ECN mark, as GRO merges them.
    pub(super) fn take_train(&mut self, index: usize, train: &mut Vec<u8>) -> Option<Meta> {
        train.clear();
        let sockets = &mut self.datapaths[index].sockets;
        let (id, socket) = sockets.iter_mut().enumerate().find_map(|(id, socket)| {
            socket.as_mut().filter(|socket| !socket.queue.is_empty()).map(|socket| (id, socket))
        })?;
        let Datagram { bytes, source, target, ecn } = socket.queue.pop_front()?;
        let stride = bytes.len();
        train.extend_from_slice(&bytes);
        let mut last = stride;
        while last == stride
            && stride > 0
            && let Some(next) = socket.queue.front()
            && (next.source, next.target, next.ecn) == (source, target, ecn)
            && next.bytes.len() <= stride
            && !next.bytes.is_empty()
            && train.len() + next.bytes.len() <= TRAIN_BYTES_MAX
            && let Some(next) = socket.queue.pop_front()
        {
            last = next.bytes.len();
            train.extend_from_slice(&next.bytes);
        }
        let socket = SocketId(u32::try_from(id).unwrap_or(u32::MAX));
        Some(Meta { socket, source, target: Some(target.ip()), ecn, stride })
    }

    /// Moves what has arrived into the sockets.
    pub(super) fn deliver(&mut self) {
        let now = self.time.now();
        if let Some(at) = self.next_rebind
            && at <= now
        {
            self.next_rebind = Some(at + self.faults.rebind_every);
            let hosts: Vec<_> = self.datapaths.iter().map(|port| port.host).collect();
            hosts.into_iter().for_each(|host| self.rebind(host));
        }
        while self.flying.peek().is_some_and(|next| next.at <= now) {
            let Some(Flying { datagram, .. }) = self.flying.pop() else { break };
            self.arrive(datagram);
        }
    }

    /// When something happens next without anybody doing anything.
    pub(super) fn next_event(&self) -> Option<Instant> {
        let next = self.flying.peek().map(|next| next.at);
        // Rebinding alone would keep a finished world going for ever.
        next.map(|at| self.next_rebind.map_or(at, |rebind| at.min(rebind)))
    }

    pub(super) fn has_input(&self, index: usize) -> bool {
        let port = &self.datapaths[index];
        port.waker.take() || port.sockets.iter().flatten().any(|socket| !socket.queue.is_empty())
    }

    pub(super) fn wake(&self, index: usize) {
        self.datapaths[index].waker.wake();
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// For every address that nobody owns: bytes that came from it and bytes that went there.
    pub(super) fn spoofed(&self) -> impl Iterator<Item = (SocketAddr, u64, u64)> {
        self.spoofed.iter().map(|(address, (from, to))| (*address, *from, *to))
    }

    pub(super) fn fault_counts(&self) -> Vec<(&'static str, u64)> {
        self.counts.iter().map(|(name, count)| (*name, *count)).collect()
    }

    fn launch(&mut self, datagram: Datagram) {
        if self.hit(self.faults.loss) {
            self.record(&datagram, 1);
            return self.note("loss");
        }
        if self.inside.contains_key(&datagram.source) && self.hit(self.faults.spoof) {
            self.note("spoof");
            let source = SocketAddr::from(([203, 0, 113, 9], datagram.source.port()));
            self.spoofed.entry(source).or_default();
            let bytes = datagram.bytes.clone();
            self.fly(Datagram { bytes, source, ..datagram });
        }
        if self.hit(self.faults.duplicate) {
            self.note("duplicate");
            let Datagram { ref bytes, source, target, ecn } = datagram;
            self.fly(Datagram { bytes: bytes.clone(), source, target, ecn });
        }
        self.fly(datagram);
    }

    fn fly(&mut self, mut datagram: Datagram) {
        if self.hit(self.faults.corrupt) && !datagram.bytes.is_empty() {
            self.note("corrupt");
            let bit = self.random.below(datagram.bytes.len() as u64 * 8);
            datagram.bytes[usize::try_from(bit / 8).unwrap_or(0)] ^= 1 << (bit % 8);
        }
        if datagram.ecn.is_some() && self.hit(self.faults.congested) {
            self.note("congested");
            datagram.ecn = Some(Ecn::Ce);
        }
        let mut delay = self.faults.delay;
        if !self.faults.jitter.is_zero() {
            let jitter = u64::try_from(self.faults.jitter.as_nanos()).unwrap_or(u64::MAX);
            delay += Duration::from_nanos(self.random.below(jitter));
        }
        if self.hit(self.faults.late) {
            self.note("late");
            delay += 10 * self.faults.delay;
        }
        self.launched += 1;
        let (at, order) = (self.time.now() + delay, self.launched);
        self.flying.push(Flying { at, order, datagram });
    }

    fn arrive(&mut self, datagram: Datagram) {
        let owner = match self.listeners.get(&datagram.target) {
            Some(listener) => listener.choose(&datagram, &mut self.random),
            None => self.inside.get(&datagram.target).copied(),
        };
        if let Some((from, _)) = self.spoofed.get_mut(&datagram.source) {
            *from += datagram.bytes.len() as u64;
        }
        let Some((index, socket)) = owner else {
            self.record(&datagram, 2);
            return self.note("unreachable");
        };
        let full = self.faults.socket_datagrams;
        let fate = match self.socket(index, socket).as_mut() {
            Some(socket) if socket.queue.len() < full => 0,
            Some(_) => 3,
            None => 2,
        };
        self.record(&datagram, fate);
        match (fate, self.socket(index, socket)) {
            (0, Some(socket)) => socket.queue.push_back(datagram),
            (3, _) => self.note("socket_full"),
            _ => self.note("unreachable"),
        }
    }

    fn socket(&mut self, index: usize, socket: SocketId) -> &mut Option<Socket> {
        &mut self.datapaths[index].sockets[socket.0 as usize]
    }

    /// A new port of a datapath's host.
    fn unused_address(&mut self, index: usize) -> SocketAddr {
        self.next_port = self.next_port.checked_add(1).unwrap_or(1_024);
        SocketAddr::new(self.datapaths[index].host, self.next_port)
    }

    fn hit(&mut self, per_thousand: u64) -> bool {
        per_thousand > 0 && self.random.below(1_000) < per_thousand
    }

    fn note(&mut self, fault: &'static str) {
        *self.counts.entry(fault).or_default() += 1;
    }

    fn record(&mut self, datagram: &Datagram, fate: u64) {
        let elapsed = self.time.now() - self.start;
        let words = [
            u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            u64::from(datagram.source.port()) << 16 | u64::from(datagram.target.port()),
            datagram.bytes.len() as u64,
            fate,
        ];
        for word in words {
            self.trace = siphash64(&Key { k0: self.trace, k1: 0 }, &word.to_le_bytes());
        }
    }
}

impl Listener {
    fn choose(&self, datagram: &Datagram, random: &mut Random) -> Option<(usize, SocketId)> {
        let count = self.sockets.len() as u64;
        let index = match self.delivery {
            Delivery::Anywhere => random.below(count.max(1)),
            Delivery::Hash => address_hash(datagram) % count.max(1),
            Delivery::WorkerByte => {
                let worker = datagram
                    .bytes
                    .get(SHORT_HEADER_CID_AT + self.layout.worker_at())
                    .filter(|_| datagram.bytes[0] & 0x80 == 0)
                    .map(|worker| u64::from(*worker))
                    .filter(|worker| *worker < count);
                worker.unwrap_or_else(|| address_hash(datagram) % count.max(1))
            }
        };
        self.sockets.get(usize::try_from(index).unwrap_or(0)).copied()
    }
}

fn address_hash(datagram: &Datagram) -> u64 {
    let ports = [datagram.source.port().to_le_bytes(), datagram.target.port().to_le_bytes()];
    siphash64(&Key { k0: 4, k1: 2 }, ports.as_flattened())
}

// Earliest first, and in order of launch at the same moment.
impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Flying {}

/// The kernel merges no more than an IP packet holds.
const TRAIN_BYTES_MAX: usize = 65_507;
