//! trial finds out by doing: the datapath's own sockets, rings and trains, over loopback only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use quiclane_datapath::{
    Datapath, Epoll, FilterInstruction, RingMode, Socket, SocketOptions, Transmit, Uring,
    UringOptions,
};

use crate::ask::{Ask, WORKERS_MAX};

/// What happened when it was tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Trials {
    /// Whether io_uring is to be had at all.
    pub(crate) uring: Result<(), String>,
    /// One ring for each worker at once; what stopped it otherwise. Not tried without io_uring.
    pub(crate) rings: Result<usize, String>,
    /// What a train of equal datagrams went through.
    pub(crate) train: Result<Journey, String>,
    /// Bytes of receive and send queue that were asked for and obtained.
    pub(crate) buffers: Option<Buffers>,
    /// A classic BPF program on a reuseport group.
    pub(crate) cbpf: Result<(), String>,
    /// Each address to listen on.
    pub(crate) listen: Vec<(SocketAddr, Result<(), String>)>,
}

/// How a train arrived.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Journey {
    /// It left in one system call.
    pub(crate) left_whole: bool,
    /// It arrived in one piece at a socket that takes trains.
    pub(crate) arrived_whole: bool,
    /// Every datagram arrived as it was sent, at that socket and at one that takes none.
    pub(crate) intact: bool,
}

/// Socket buffers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Buffers {
    pub(crate) asked: usize,
    pub(crate) recv: usize,
    pub(crate) send: usize,
}

impl Trials {
    /// As `workers` workers would begin.
    pub(super) fn run(ask: &Ask, workers: usize) -> Self {
        let uring = Uring::probe(RingMode::Defer).map_err(|error| error.to_string());
        let wanted = if uring.is_ok() { workers.min(WORKERS_MAX) } else { 0 };
        let (mut rings, outcome) = rings(wanted);
        let train = match rings.first_mut() {
            Some(ring) => travel(ring),
            None => Epoll::new(DATAGRAMS)
                .map_err(|error| error.to_string())
                .and_then(|mut epoll| travel(&mut epoll)),
        };
        Self {
            uring,
            rings: outcome,
            train,
            buffers: buffers(ask.socket_buffer_bytes),
            cbpf: cbpf(),
            listen: ask.listen.iter().map(|address| (*address, listen(*address))).collect(),
        }
    }
}

/// As many rings as wanted, of the size that workers use, or those that could be had and why no
/// more.
fn rings(wanted: usize) -> (Vec<Uring>, Result<usize, String>) {
    let mut rings = Vec::new();
    while rings.len() < wanted {
        match Uring::new(&RING) {
            Ok(ring) => rings.push(ring),
            Err(error) => {
                let why = format!("{} of {wanted} rings could be had: {error}", rings.len());
                return (rings, Err(why));
            }
        }
    }
    (rings, Ok(wanted))
}

/// Sends a train of equal datagrams to a socket with GRO and to one without.
fn travel(datapath: &mut impl Datapath) -> Result<Journey, String> {
    let text = |error: quiclane_datapath::SocketError| error.to_string();
    let client = datapath.open(LOOPBACK, &SocketOptions::default()).map_err(text)?;
    let (mut trains, mut whole) = (Vec::new(), true);
    for gro in [true, false] {
        let options = SocketOptions { gro, ..SocketOptions::default() };
        let server = datapath.open(LOOPBACK, &options).map_err(text)?;
        let target = datapath.local_addr(server).ok_or("a socket lost its address")?;
        whole &= datapath.segments_max(DATAGRAM_BYTES) >= DATAGRAMS;
        let mut slot = datapath.slot().ok_or("no send slot is free")?;
        slot.payload.extend(datagrams().concat());
        let segment = Some(DATAGRAM_BYTES);
        let transmit = Transmit { socket: client, target, source: None, ecn: None, segment };
        datapath.send(slot, &transmit);
        trains.push(collect(datapath)?);
        datapath.close(server);
    }
    let fallbacks = datapath.counters().gso_fallbacks.value();
    let intact = trains.iter().all(|trains| trains.concat() == datagrams());
    Ok(Journey {
        left_whole: whole && fallbacks == 0,
        arrived_whole: trains.first().is_some_and(|trains| trains.len() == 1),
        intact,
    })
}

/// The trains that arrive, each as its datagrams, until all datagrams are there or time is up.
fn collect(datapath: &mut impl Datapath) -> Result<Vec<Vec<Vec<u8>>>, String> {
    let mut trains: Vec<Vec<Vec<u8>>> = Vec::new();
    for _ in 0..WAITS_MAX {
        datapath.wait(Some(WAIT)).map_err(|error| error.to_string())?;
        datapath.receive(DATAGRAMS, &mut |train| {
            trains.push(train.datagrams().map(<[u8]>::to_vec).collect());
        });
        if trains.iter().map(Vec::len).sum::<usize>() >= DATAGRAMS {
            break;
        }
    }
    Ok(trains)
}

/// Datagrams that differ, so that a mangled order shows.
fn datagrams() -> Vec<Vec<u8>> {
    (0..DATAGRAMS).zip(1_u8..).map(|(_, fill)| vec![fill; DATAGRAM_BYTES]).collect()
}

fn buffers(asked: usize) -> Option<Buffers> {
    let options = SocketOptions {
        recv_buffer_bytes: asked,
        send_buffer_bytes: asked,
        ..SocketOptions::default()
    };
    let socket = Socket::bind(ANYWHERE, &options).ok().filter(|_| asked > 0)?;
    let (recv, send) = (socket.recv_buffer_bytes(), socket.send_buffer_bytes());
    Some(Buffers { asked, recv, send })
}

fn cbpf() -> Result<(), String> {
    let options = SocketOptions { reuseport: true, ..SocketOptions::default() };
    let socket = Socket::bind(ANYWHERE, &options).map_err(|error| error.to_string())?;
    // BPF_RET | BPF_K: always the first socket of the group.
    let first = FilterInstruction { code: 0x06, jump_true: 0, jump_false: 0, value: 0 };
    socket.attach_reuseport_cbpf(&[first]).map_err(|error| error.to_string())
}

/// As a server makes sure that nobody else receives there.
fn listen(address: SocketAddr) -> Result<(), String> {
    Socket::bind(address, &SocketOptions::default()).map(|_| ()).map_err(|error| error.to_string())
}

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A free port that can be bound even while loopback is down. Nothing is sent there.
pub(super) const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The engine's: a page for each of the queues and buffer lists, whoever uses it.
const RING: UringOptions = UringOptions { send_slots: 64, recv_buffers: 32, mode: RingMode::Defer };

/// A full train of QUIC's first datagrams is longer; ten equal ones show all that can go wrong.
const DATAGRAMS: usize = 10;
const DATAGRAM_BYTES: usize = 1_200;

/// Loopback delivers at once; a busy machine may take a while to run us again.
const WAIT: Duration = Duration::from_millis(20);
const WAITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_seen_and_a_free_one_is_free_afterwards() {
        let taken = Socket::bind(LOOPBACK, &SocketOptions::default()).unwrap();
        assert!(listen(taken.local_addr()).unwrap_err().contains("in use"));
        let address = taken.local_addr();
        drop(taken);
        assert_eq!(listen(address), Ok(()));
        assert_eq!(listen(address), Ok(()));
    }

    #[test]
    fn a_train_travels_with_either_backend() {
        let expected = Journey { left_whole: true, arrived_whole: true, intact: true };
        assert_eq!(travel(&mut Epoll::new(8).unwrap()), Ok(expected));
        match Uring::probe(RingMode::Defer) {
            Ok(()) => {
                let (mut rings, outcome) = rings(3);
                assert_eq!(outcome, Ok(3));
                assert_eq!(travel(&mut rings[2]), Ok(expected));
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }

    #[test]
    fn buffers_are_judged_only_when_asked_for() {
        assert_eq!(buffers(0), None);
        assert_eq!(buffers(64 << 10).unwrap().recv, 64 << 10);
    }
}
