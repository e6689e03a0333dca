//! sockets checks the selecting program on real groups: IPv4, IPv6 and both families at once.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::{bare_steering, settings};
use quiclane_ebpf::{Listener, Selection, Steering};
use quiclane_wire::fixtures::{DRAINING_EPOCH, Fixture, LIVE_EPOCH, LIVE_WORKERS, fixtures, world};
use quiclane_wire::{Verdict, worker_of_spread};
use socket2::{Domain, Protocol, Socket, Type};

/// A socket for each worker of both epochs, by [`place`].
struct Group {
    sockets: Vec<Option<UdpSocket>>,
    port: u16,
}

const GROUP: usize = 2 * LIVE_WORKERS as usize;

/// Where the socket of a worker is in the group.
fn place(epoch: u8, worker: u8) -> Option<usize> {
    let first = match epoch {
        LIVE_EPOCH => 0,
        DRAINING_EPOCH => usize::from(LIVE_WORKERS),
        _ => return None,
    };
    (worker < LIVE_WORKERS).then(|| first + usize::from(worker))
}

/// Binds the sockets in an order that has nothing to do with their workers, and registers them.
fn group(steering: &mut Steering, address: &str) -> (Group, Listener) {
    let mut address: SocketAddr = address.parse().unwrap();
    let mut sockets: Vec<Option<UdpSocket>> = (0..GROUP).map(|_| None).collect();
    for at in [5, 2, 7, 0, 3, 6, 1, 4] {
        let kind = Domain::for_address(address);
        let socket = Socket::new(kind, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_reuse_port(true).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified()).unwrap();
        }
        socket.bind(&address.into()).unwrap();
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        address.set_port(socket.local_addr().unwrap().port());
        sockets[at] = Some(socket);
    }
    let listener = steering.listen(address, false).unwrap();
    for epoch in [LIVE_EPOCH, DRAINING_EPOCH] {
        for worker in 0..LIVE_WORKERS {
            let socket = sockets[place(epoch, worker).unwrap()].as_ref().unwrap();
            steering.set_socket(listener, epoch, worker, socket).unwrap();
        }
    }
    steering.attach_group(sockets[0].as_ref().unwrap()).unwrap();
    (Group { sockets, port: address.port() }, listener)
}

/// The socket that a datagram has to reach; `None`: any.
fn owner(fixture: &Fixture) -> Option<usize> {
    match fixture.verdict {
        Verdict::Live { worker } => place(LIVE_EPOCH, worker),
        Verdict::Initial { spread } => place(LIVE_EPOCH, worker_of_spread(spread, LIVE_WORKERS)),
        Verdict::Draining { epoch, worker } => place(epoch, worker),
        _ => None,
    }
}

fn of(steering: &Steering, wanted: Selection) -> u64 {
    let selections = steering.selections().unwrap();
    selections.iter().find(|(selection, _)| *selection == wanted).map_or(0, |(_, n)| *n)
}

/// Sends everything that has an owner to `target` and reads it from that owner's socket.
fn reaches_owners(group: &Group, target: &str) -> u64 {
    let client = UdpSocket::bind(if target.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" });
    let client = client.unwrap();
    client.connect(format!("{target}:{}", group.port)).unwrap();
    let mut sent = 0;
    let mut buffer = [0; 2_000];
    for fixture in fixtures() {
        let Some(owner) = owner(&fixture) else { continue };
        let Some(socket) = &group.sockets[owner] else { continue };
        client.send(fixture.bytes.as_slice()).unwrap();
        sent += 1;
        let len = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{}: {e}", fixture.name));
        assert_eq!(&buffer[..len], fixture.bytes.as_slice(), "{}", fixture.name);
    }
    sent
}

fn server(test: &str) -> Option<Steering> {
    let mut steering = bare_steering(test)?;
    steering.apply(&settings()).unwrap();
    steering.set_epochs(&world().2).unwrap();
    Some(steering)
}

#[test]
fn every_datagram_reaches_the_socket_of_its_owner() {
    let Some(mut steering) = server("socket selection") else { return };
    let mut sent = 0;
    // All with the same programs and maps, one after the other and then together.
    let groups: Vec<(Group, &[&str])> = vec![
        (group(&mut steering, "127.0.0.1:0").0, &["127.0.0.1"]),
        (group(&mut steering, "[::1]:0").0, &["[::1]"]),
        (group(&mut steering, "[::]:0").0, &["127.0.0.1", "[::1]"]),
        (group(&mut steering, "0.0.0.0:0").0, &["127.0.0.1"]),
    ];
    for (group, targets) in &groups {
        for target in *targets {
            sent += reaches_owners(group, target);
            assert_eq!(of(&steering, Selection::Owners), sent, "{target}");
        }
    }
    assert!(sent > 100, "{sent}");
    assert_eq!(of(&steering, Selection::NoListener), 0);
    assert_eq!(of(&steering, Selection::NoSocket), 0);
}

#[test]
fn a_closed_socket_renumbers_nobody_and_its_packets_are_hashed() {
    let Some(mut steering) = server("a closed socket") else { return };
    let (mut group, _) = group(&mut steering, "127.0.0.1:0");
    group.sockets[place(LIVE_EPOCH, 1).unwrap()] = None;
    let sent = reaches_owners(&group, "127.0.0.1");
    assert_eq!(of(&steering, Selection::Owners), sent);

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let orphaned = fixtures().find(|fixture| fixture.name == "short: worker 1").unwrap();
    client.send_to(orphaned.bytes.as_slice(), ("127.0.0.1", group.port)).unwrap();
    assert_eq!(of(&steering, Selection::NoSocket), 1);
    let received = |socket: &UdpSocket| {
        socket.set_nonblocking(true).unwrap();
        socket.recv(&mut [0; 2_000]).is_ok()
    };
    assert_eq!(group.sockets.iter().flatten().filter(|socket| received(socket)).count(), 1);
}

#[test]
fn what_has_no_owner_is_hashed() {
    let Some(mut steering) = server("datagrams without an owner") else { return };
    let (group, _) = group(&mut steering, "127.0.0.1:0");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0;
    for fixture in fixtures() {
        let nobodys = matches!(
            fixture.verdict,
            Verdict::OtherLong | Verdict::Orphan { .. } | Verdict::Junk(_)
        );
        if nobodys {
            client.send_to(fixture.bytes.as_slice(), ("127.0.0.1", group.port)).unwrap();
            sent += 1;
        }
    }
    assert_eq!(of(&steering, Selection::Nobodys), sent);
    assert_eq!(of(&steering, Selection::Owners), 0);
}
