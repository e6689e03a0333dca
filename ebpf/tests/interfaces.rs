//! interfaces attaches to devices of a private network namespace and sends through them.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{bare_steering, inside, settings, since};
use quiclane_ebpf::{AttachError, Count, Mode, Program, Steering, attached_programs};
use quiclane_wire::fixtures::{fixtures, world};

#[test]
fn programs_attach_and_leave() {
    inside(&["unshare", "--net"], "programs_attach_and_leave", in_a_namespace);
}

fn in_a_namespace() {
    ip("link set lo up");
    ip("link add left type veth peer name right");
    for mode in [Mode::Native, Mode::Generic] {
        another_program_stays(mode);
    }
    let steering = &mut bare_steering("interfaces").unwrap();
    let error = steering.attach_interface(Program::Steer, "nowhere", Mode::Native).unwrap_err();
    assert!(matches!(error, AttachError::UnknownInterface { .. }), "{error}");
    let error = steering.attach_interface(Program::Steer, "lo", Mode::Native).unwrap_err();
    assert!(matches!(error, AttachError::Unsupported { mode: Mode::Native, .. }), "{error}");
    let error = steering.attach_interface(Program::Steer, "lo", Mode::Hardware).unwrap_err();
    assert!(matches!(error, AttachError::Unsupported { mode: Mode::Hardware, .. }), "{error}");
    forged_packets_die_in_front_of_the_socket();
    for (program, of_pieces) in [(Program::Steer, "merged"), (Program::SteerCopied, "live")] {
        jumbo_frames_are_no_obstacle(program, of_pieces);
    }
}

/// Native mode on a device whose frames may be longer than a page.
fn jumbo_frames_are_no_obstacle(program: Program, of_pieces: &str) {
    for device in ["left", "right"] {
        ip(&format!("link set {device} mtu 9000 up"));
    }
    // A neighbour that is nobody: what is sent to it comes in at the other end.
    ip("link set left address 02:00:00:00:00:01");
    ip("address replace 10.98.0.2/24 dev right");
    ip("neighbour replace 10.98.0.9 dev right lladdr 02:00:00:00:00:01");
    let mut steering = bare_steering("jumbo frames").unwrap();
    steering.apply(&settings()).unwrap();
    steering.set_epochs(&world().2).unwrap();
    steering.listen("10.98.0.9:4433".parse().unwrap(), false).unwrap();
    let _link = steering.attach_interface(program, "left", Mode::Native).unwrap();
    let client = UdpSocket::bind("10.98.0.2:0").unwrap();
    let live = fixtures().find(|fixture| fixture.name == "short: worker 1").unwrap().bytes;
    for (len, expected) in [(1_200, "live"), (8_000, of_pieces)] {
        let mut packet = live.as_slice().to_vec();
        packet.resize(len, 0);
        let before = steering.counts().unwrap();
        client.send_to(&packet, "10.98.0.9:4433").unwrap();
        let found = (0..200).find_map(|_| {
            thread::sleep(Duration::from_millis(10));
            since(&steering, &before).into_iter().map(|(count, n)| (count.name(), n)).find(
                |(name, _)| {
                    // The kernel talks to its neighbours by itself.
                    !["not_ip", "not_udp", "extension_header", "other_port"].contains(name)
                },
            )
        });
        assert_eq!(found, Some((expected, 1)), "{program:?}, {len} bytes");
    }
}

fn another_program_stays(mode: Mode) {
    let [mut first, mut second] = [(); 2].map(|()| bare_steering("interfaces").unwrap());
    let pass = first.attach_interface(Program::Pass, "left", mode).unwrap();
    assert_eq!((pass.interface(), pass.mode()), ("left", mode));
    let [there] = attached_programs("left").unwrap().try_into().unwrap();
    assert_eq!((there.name.as_deref(), there.mode), (Some("quiclane_pass"), mode));
    let error = second.attach_interface(Program::Steer, "left", Mode::Native).unwrap_err();
    let AttachError::Occupied { program, .. } = &error else { panic!("{error}") };
    assert_eq!(*program, there);
    assert!(error.to_string().contains("quiclane_pass"), "{error}");

    drop(pass);
    assert_eq!(attached_programs("left").unwrap(), []);
    // Several interfaces share the programs and the maps.
    let _left = second.attach_interface(Program::Steer, "left", mode).unwrap();
    let _right = second.attach_interface(Program::Steer, "right", mode).unwrap();
    drop(second);
    // The links hold the program; its owner may go.
    assert_eq!(attached_programs("right").unwrap().len(), 1);
}

fn forged_packets_die_in_front_of_the_socket() {
    let mut steering: Steering = bare_steering("interfaces").unwrap();
    steering.apply(&settings()).unwrap();
    steering.set_epochs(&world().2).unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    steering.listen(address, false).unwrap();
    let _link = steering.attach_interface(Program::Steer, "lo", Mode::Generic).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let named = |name: &str| fixtures().find(|fixture| fixture.name == name).unwrap().bytes;
    for _ in 0..100 {
        client.send_to(named("short: check bit flipped").as_slice(), address).unwrap();
    }
    client.send_to(named("short: worker 1").as_slice(), address).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut buffer = [0; 2_000];
    let len = server.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], named("short: worker 1").as_slice(), "the only one that arrives");
    let counts = steering.counts().unwrap();
    let of = |name: &str| counts.iter().find(|(count, _)| count.name() == name).unwrap().1;
    assert_eq!((of("short_header_check"), of("live")), (100, 1));
    let all: u64 = counts.iter().map(|(_, n): &(Count, u64)| n).sum();
    assert_eq!(all, 101, "each frame is in one count: {counts:?}");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
