//! How evenly new connections fall on the workers: those of ordinary clients, and those of one who
//! knows every hash but not the server's key.

use std::net::SocketAddr;
use std::time::Duration;

use quiclane::Steering;
use quiclane_wire::{Key, spread, worker_of_spread};

use crate::common::{Served, law_holds, perf_server, quinn_client_on, runtime, total};
use crate::harness::{
    Link, PORT, SERVER_V4, client_address, counted, inside, of_workers, poll, selected,
};

fn server() -> Served {
    perf_server(&SocketAddr::new(SERVER_V4.into(), PORT).to_string(), WORKERS.into(), |config| {
        let server = config.server.as_mut().unwrap();
        server.steering = Steering::Xdp;
        server.xdp.interfaces = vec!["veth0".to_owned()];
    })
}

/// A fair hash gives each connection to each worker with the same probability, whoever had the
/// others: the counts are multinomial, and with n of them on w workers
///
/// ```text
///   X = sum over the workers of (count - n/w)^2 / (n/w)
/// ```
///
/// is distributed as chi-square with w - 1 degrees of freedom (the error of that limit is of the
/// order 1/n). For 3 degrees
///
/// ```text
///   P(X > x) = erfc(sqrt(x/2)) + sqrt(2x/pi) exp(-x/2)
///   P(X > 30.665) = 3.1e-8 + 9.7e-7 = 1.0e-6
/// ```
///
/// so a fair hash fails here once in a million runs. No worker is then further from its 250 than
/// sqrt(30.665 * 250 * 3/4) = 75.8 connections. A hash that gives one worker a tenth more than its
/// share mostly passes; one that gives it half as much again, or leaves one out, never does.
#[test]
fn a_thousand_connections_are_spread_fairly() {
    inside("spread::a_thousand_connections_are_spread_fairly", || {
        let link = Link::with_clients();
        let server = server();
        runtime().block_on(async {
            let mut kept = Vec::new();
            for round in 0..CONNECTIONS / AT_ONCE {
                let address = client_address(SERVER_V4.into(), u8::try_from(round % 8).unwrap());
                let socket = link.client_socket(address);
                let endpoint = quinn_client_on(socket, &server.certificate, KEEP_ALIVE);
                let connecting: Vec<_> = (0..AT_ONCE)
                    .map(|_| endpoint.connect(server.address(), "localhost").unwrap())
                    .collect();
                for connecting in connecting {
                    kept.push(connecting.await.unwrap());
                }
            }
        });
        // The server hears of the last handshakes after their clients.
        poll(|| (total(&server.snapshots(), |s| s.connected) == CONNECTIONS).then_some(()));
        let snapshots = server.snapshots();
        let counts = of_workers(&snapshots, |s| s.connected);
        assert_eq!(counts.iter().sum::<u64>(), CONNECTIONS);
        assert_eq!(total(&snapshots, |s| s.sibling), 0, "the programs spread, not the workers");
        let x = chi_square(&counts);
        println!("{CONNECTIONS} connections: {counts:?}, chi-square {x:.2}");
        assert!(x < CHI_SQUARE_MAX, "{counts:?}: {x}");
        law_holds(&server.finish());
    });
}

fn chi_square(counts: &[u64]) -> f64 {
    let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    counts.iter().map(|count| (*count as f64 - mean).powi(2) / mean).sum()
}

#[test]
fn the_bound_refuses_an_unfair_hash() {
    assert!(chi_square(&[250, 250, 250, 250]) < CHI_SQUARE_MAX);
    assert!(chi_square(&[290, 240, 230, 240]) < CHI_SQUARE_MAX);
    assert!(chi_square(&[375, 208, 208, 209]) > CHI_SQUARE_MAX);
    assert!(chi_square(&[334, 333, 333, 0]) > CHI_SQUARE_MAX);
}

/// The bound of 3,250 is 17 standard deviations of a fair hash, sqrt(10,000 * 1/4 * 3/4) = 43, away
/// from its mean of 2,500; the attacker wants 10,000.
#[test]
fn chosen_connection_ids_load_no_worker_more_than_others() {
    inside("spread::chosen_connection_ids_load_no_worker_more_than_others", || {
        let link = Link::with_clients();
        let server = server();
        let socket = link.client_socket(client_address(SERVER_V4.into(), 0));
        socket.connect(server.address()).unwrap();
        let mut sent = 0;
        for dcid in chosen().take(INITIALS) {
            socket.send(&initial(&dcid)).unwrap();
            sent += 1;
            if sent % 200 == 0 {
                // No more than the socket buffers hold, and far below the budget of a prefix.
                let received = || total(&server.snapshots(), |s| s.initial);
                poll(|| (received() == sent).then_some(())).unwrap_or_else(|| {
                    panic!("{} of {sent}: {:?}", received(), counted(&server));
                });
            }
        }
        let snapshots = server.snapshots();
        let counts = of_workers(&snapshots, |s| s.initial);
        println!("{sent} chosen connection IDs: {counts:?}");
        assert_eq!(counts.iter().sum::<u64>(), sent);
        assert_eq!(counted(&server)["initial"], sent);
        assert_eq!(selected(&server)["owners"], sent);
        assert_eq!(total(&snapshots, |s| s.sibling), 0, "the programs spread, not the workers");
        let mean = sent as f64 / f64::from(WORKERS);
        for count in counts {
            assert!(count as f64 <= 1.3 * mean, "{count} of {sent} at one worker");
        }
        law_holds(&server.finish());
    });
}

/// Connection IDs that begin and end alike, and all of which each of these gives to one worker:
/// SipHash with a key of zeroes, FNV-1a, CRC-32, the sum of the bytes. FNV-1a's is another one than
/// the sum's: their lowest bits always differ.
fn chosen() -> impl Iterator<Item = [u8; DCID_LEN]> {
    let workers = u64::from(WORKERS);
    let unkeyed = Key { k0: 0, k1: 0 };
    (0_u64..)
        .map(|number| {
            let mut dcid = *b"quiclane--------";
            dcid[8..15].copy_from_slice(&number.to_le_bytes()[..7]);
            dcid
        })
        .filter(move |dcid| {
            let sum: u64 = dcid.iter().map(|byte| u64::from(*byte)).sum();
            sum.is_multiple_of(workers)
                && u64::from(crc32(dcid)).is_multiple_of(workers)
                && fnv1a(dcid) % workers == 1
                && worker_of_spread(spread(&unkeyed, dcid), WORKERS) == 0
        })
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A well-formed Initial that nothing can be decrypted from: no token, one packet to the end.
fn initial(dcid: &[u8; DCID_LEN]) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1];
    packet.push(u8::try_from(dcid.len()).unwrap());
    packet.extend(dcid);
    packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8]);
    packet.push(0);
    let length = u16::try_from(INITIAL_LEN - packet.len() - 2).unwrap();
    packet.extend((0x4000 | length).to_be_bytes());
    packet.resize(INITIAL_LEN, 0x5a);
    packet
}

const WORKERS: u8 = 4;
const CONNECTIONS: u64 = 1_000;
/// So few that no worker asks for a Retry.
const AT_ONCE: u64 = 50;
const CHI_SQUARE_MAX: f64 = 30.665;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const INITIALS: usize = 10_000;
const DCID_LEN: usize = 16;
const INITIAL_LEN: usize = 1_200;
