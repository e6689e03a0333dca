//! A million forged short headers at one worker, beside a client of its that notices nothing.
//!
//! Each has the shape, the epoch and the worker of a connection ID of the server, and a check that
//! some other key made: one in 2^32 would verify. They come over the veth one by one, so each is a
//! frame that the program in the kernel judges.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use quiclane::Steering;
use quiclane::clock::now;
use quiclane_wire::{Key, Layout, Parts, ServerId};
use quinn::Connection;
use rustix::process::setpriority_process;

use crate::common::{Served, exchange, law_holds, perf_server, quinn_client_on, runtime, total};
use crate::harness::{Link, PORT, SERVER_V4, client_address, counted, inside};

#[test]
fn a_million_forged_packets_are_dropped_and_nobody_notices() {
    inside("flood::a_million_forged_packets_are_dropped_and_nobody_notices", || {
        let link = Link::with_clients();
        let listen = SocketAddr::new(SERVER_V4.into(), PORT).to_string();
        let server = perf_server(&listen, 2, |config| {
            let server = config.server.as_mut().unwrap();
            server.steering = Steering::Xdp;
            server.xdp.interfaces = vec!["veth0".to_owned()];
        });
        let doubled = runtime().block_on(async {
            let socket = link.client_socket(client_address(SERVER_V4.into(), 0));
            let endpoint = quinn_client_on(socket, &server.certificate, KEEP_ALIVE);
            let connecting = endpoint.connect(server.address(), "localhost").unwrap();
            let connection = connecting.await.unwrap();
            let forger = Arc::new(Forger::new(&link, &server));
            let mut doubled = true;
            for _ in 0..ATTEMPTS {
                let Figures { quiet, elsewhere, flooded } = flood(&connection, &forger).await;
                println!(
                    "p99 {quiet:?}; {elsewhere:?} beside a flood elsewhere; {flooded:?} in ours"
                );
                doubled = flooded > 2 * elsewhere;
                if !doubled {
                    break;
                }
            }
            forger.check(&server, link.lost());
            doubled
        });
        assert!(!doubled, "the steady client's p99 more than doubled in each of {ATTEMPTS} floods");
        law_holds(&server.finish());
    });
}

/// Lower quartiles of the p99s of many short windows. They take turns, because what else a machine
/// does comes and goes more slowly; and it only ever adds, so the lower ones say more.
struct Figures {
    /// Nothing but the client.
    quiet: Duration,
    /// The forger takes as much of the machine as in a flood, and nothing of it arrives anywhere.
    /// The flood is compared with this: a forger elsewhere would take nothing of this machine, and
    /// one on it makes its few cores slower by several times when they are busy with more.
    elsewhere: Duration,
    /// The flood.
    flooded: Duration,
}

async fn flood(connection: &Connection, forger: &Arc<Forger>) -> Figures {
    let [mut quiet, mut elsewhere, mut flooded] = [(); 3].map(|()| Vec::new());
    for _ in 0..WINDOWS {
        let start = now();
        quiet.push(p99(connection, || start.elapsed() > QUIET_WINDOW).await);
        for (target, packets, figures) in [
            (Target::Elsewhere, FORGED / WINDOWS / 2, &mut elsewhere),
            (Target::Server, FORGED / WINDOWS, &mut flooded),
        ] {
            let forger = Arc::clone(forger);
            let sending = thread::spawn(move || forger.send(target, packets));
            figures.push(p99(connection, || sending.is_finished()).await);
            sending.join().unwrap();
        }
    }
    let [quiet, elsewhere, flooded] = [quiet, elsewhere, flooded].map(quartile);
    Figures { quiet, elsewhere, flooded }
}

/// Asks again and again until it is over; 99 of 100 answers took no longer than this.
async fn p99(connection: &Connection, is_over: impl Fn() -> bool) -> Duration {
    let mut times = Vec::new();
    while !is_over() {
        let asked = now();
        exchange(connection, 10, 100).await.unwrap();
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// The lower one.
fn quartile(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 4]
}

/// Somebody who knows everything but the key.
struct Forger {
    server: UdpSocket,
    elsewhere: UdpSocket,
    /// The worker of the steady client.
    worker: u8,
    epoch: u8,
    /// How many were sent to the server.
    sent: AtomicU64,
}

#[derive(Clone, Copy)]
enum Target {
    Server,
    Elsewhere,
}

impl Forger {
    fn new(link: &Link, server: &Served) -> Self {
        let to = |target: SocketAddr, from| {
            let socket = link.client_socket(from);
            socket.connect(target).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let worker = server.snapshots().iter().position(|snapshot| snapshot.open == 1).unwrap();
        let epoch = u8::try_from(server.engine().plan().epoch() % 256).unwrap();
        Self {
            server: to(server.address(), client_address(SERVER_V4.into(), 7)),
            elsewhere: to(link.nowhere(), Ipv4Addr::UNSPECIFIED.into()),
            worker: u8::try_from(worker).unwrap(),
            epoch,
            sent: AtomicU64::new(0),
        }
    }

    /// Sends in bursts, so that the cores of a small machine are left to those who are measured: a
    /// forger on another machine takes none of their time. For the same reason it yields to them.
    fn send(&self, target: Target, packets: u64) {
        setpriority_process(None, NICE).unwrap();
        let socket = match target {
            Target::Server => &self.server,
            Target::Elsewhere => &self.elsewhere,
        };
        let layout = Layout::new(ServerId::EMPTY);
        let forged_key = Key { k0: 0x0123_4567_89ab_cdef, k1: 0xfedc_ba98_7654_3210 };
        let mut packet = [0x5a; 60];
        packet[0] = 0x40;
        let first = self.sent.load(Ordering::Relaxed);
        for burst in 0..packets / BURST {
            for unique in first + burst * BURST..first + (burst + 1) * BURST {
                let parts = Parts { worker: self.worker, epoch: self.epoch, unique };
                let cid = layout.encode(&forged_key, parts);
                packet[1..=layout.cid_len()].copy_from_slice(cid.as_slice());
                socket.send(&packet).unwrap();
            }
            // Nothing is made up for: a long burst would be a thread that does not yield.
            thread::sleep(PAUSE);
        }
        if matches!(target, Target::Server) {
            self.sent.fetch_add(packets / BURST * BURST, Ordering::Relaxed);
        }
    }

    /// Nearly all of it ended in XDP, none of it at a worker, and no answer came back.
    /// `lost`: what never arrived, because the machine did something else for too long.
    fn check(&self, server: &Served, lost: u64) {
        let sent = self.sent.load(Ordering::Relaxed);
        let kernel = counted(server);
        let dropped = kernel.get("short_header_check").copied().unwrap_or(0);
        let snapshots = server.snapshots();
        println!("{sent} forged packets sent, {lost} lost, {dropped} dropped in XDP: {kernel:?}");
        assert!(sent >= FORGED);
        assert!(lost < sent / 1_000, "{lost} of {sent}");
        assert!(dropped as f64 >= 0.9999 * (sent - lost) as f64, "{dropped} of {sent}");
        assert_eq!(total(&snapshots, |s| s.junk), 0);
        assert_eq!(total(&snapshots, |s| s.resets_sent + s.responses), 0);
        let answer = self.server.recv(&mut [0; 2_000]);
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

const FORGED: u64 = 1_000_000;
const WINDOWS: u64 = 20;
const QUIET_WINDOW: Duration = Duration::from_millis(200);
/// Something else may take a machine for longer than half of the windows, but hardly three times.
const ATTEMPTS: usize = 3;
const BURST: u64 = 25;
/// About 60,000 a second. A veth queues 256 frames, of which a burst takes a tenth.
const PAUSE: Duration = Duration::from_micros(250);
const NICE: i32 = 5;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
