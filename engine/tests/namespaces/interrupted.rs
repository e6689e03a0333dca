//! Transfers while the program goes and comes back, and while the interface does: no connection is
//! lost.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use quiclane::{Io, Steering};
use quinn::{Connection, Endpoint};

use crate::common::{Served, exchange, law_holds, perf_server, quinn_client_on, runtime, total};
use crate::harness::{
    Link, PORT, SERVER_V4, SERVER_V6, client_address, counted, inside, ip, poll, since,
};

#[test]
fn the_program_is_detached_and_attached_in_mid_transfer() {
    inside("interrupted::the_program_is_detached_and_attached_in_mid_transfer", || {
        let link = Link::with_clients();
        for (io, address) in [(Io::Epoll, SERVER_V4.into()), (Io::Uring, SERVER_V6.into())] {
            interrupted(&link, io, address, |server| {
                assert!(says_it_is(server, 1));
                server.engine().detach_xdp();
                assert!(says_it_is(server, 0));
                let (kernel, before) = (counted(server), received(server));
                until(|| received(server) > before + 100, "without the program");
                assert_eq!(since(&counted(server), &kernel), [].into(), "it is off");
                server.engine().attach_xdp().unwrap();
                until(|| live(server) > kernel["live"] + 100, "through the program again");
            });
        }
    });
}

#[test]
fn the_interface_goes_down_and_up_in_mid_transfer() {
    inside("interrupted::the_interface_goes_down_and_up_in_mid_transfer", || {
        let link = Link::with_clients();
        for (io, address) in [(Io::Epoll, SERVER_V4.into()), (Io::Uring, SERVER_V6.into())] {
            interrupted(&link, io, address, |server| {
                ip("link set veth0 down");
                // What is under way at that moment still arrives.
                sleep(Duration::from_millis(50));
                let before = live(server);
                sleep(Duration::from_millis(250));
                assert_eq!(live(server), before, "nothing arrives");
                ip("link set veth0 up");
                until(|| live(server) > before + 100, "through the program again");
            });
        }
    });
}

/// Whether the metrics say 1, the program is on the interface, or 0.
fn says_it_is(server: &Served, on: u8) -> bool {
    let place = r#"rung="xdp",interface="veth0",mode="native""#;
    let line = format!("quiclane_engine_steering{{{place}}} {on}\n");
    server.engine().metrics().text().contains(&line)
}

/// Runs 8 transfers that never pause and disturbs them several times.
fn interrupted(link: &Link, io: Io, ip: IpAddr, disturb: impl Fn(&Served) + Send + Sync) {
    let server = perf_server(&SocketAddr::new(ip, PORT).to_string(), 4, |config| {
        config.io = io;
        let server = config.server.as_mut().unwrap();
        server.steering = Steering::Xdp;
        server.xdp.interfaces = vec!["veth0".to_owned()];
    });
    let is_over = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let disturbing = scope.spawn(|| {
            // However this ends, the transfers do not go on for ever.
            let _over = SetOnDrop(Arc::clone(&is_over));
            until(|| live(&server) > 1_000, "under way");
            for _ in 0..INTERRUPTIONS {
                disturb(&server);
            }
        });
        runtime().block_on(async {
            let mut clients: Vec<(Endpoint, Connection)> = Vec::new();
            for number in 0..CONNECTIONS {
                let socket = link.client_socket(client_address(ip, number));
                let endpoint = quinn_client_on(socket, &server.certificate, KEEP_ALIVE);
                let connecting = endpoint.connect(server.address(), "localhost").unwrap();
                clients.push((endpoint, connecting.await.unwrap()));
            }
            let transfers = clients.iter().map(|(_, connection)| {
                let (connection, is_over) = (connection.clone(), Arc::clone(&is_over));
                tokio::spawn(async move {
                    let mut transfers = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        exchange(&connection, 300_000, 300_000).await.unwrap();
                        transfers += 1;
                    }
                    exchange(&connection, 1_000, 1_000).await.unwrap();
                    transfers
                })
            });
            let mut transferred = 0;
            for transfer in transfers.collect::<Vec<_>>() {
                transferred += transfer.await.unwrap();
            }
            println!("{io:?} {ip}: {INTERRUPTIONS} interruptions of {transferred} transfers");
            for (_, connection) in &clients {
                assert_eq!(connection.close_reason(), None, "a live connection was lost");
            }
        });
        disturbing.join().unwrap();
    });
    let snapshots = server.snapshots();
    assert_eq!(total(&snapshots, |s| s.connected), CONNECTIONS.into(), "nobody reconnected");
    assert_eq!(total(&snapshots, |s| s.closed), 0);
    assert_eq!(total(&snapshots, |s| s.sibling), 0, "the selecting program stays");
    law_holds(&server.finish());
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What XDP has passed to the workers.
fn live(server: &Served) -> u64 {
    counted(server).get("live").copied().unwrap_or(0)
}

fn received(server: &Served) -> u64 {
    total(&server.snapshots(), |s| s.received)
}

fn until(condition: impl Fn() -> bool, what: &str) {
    poll(|| condition().then_some(())).unwrap_or_else(|| panic!("not {what} within the time"));
}

const CONNECTIONS: u8 = 8;
const INTERRUPTIONS: usize = 3;
/// Shorter than what a lost packet waits for.
const KEEP_ALIVE: Duration = Duration::from_millis(100);
