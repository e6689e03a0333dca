//! The table of packets and frames, sent over a veth to a server with native XDP.
//!
//! Its keys are derived from a master that the test puts into the state directory, as every start
//! of this server and its successors have to derive them. Epoch 5 is retired, 6 draining, 7 live:
//! the states of the fixtures' world.
//!
//! What this cannot show: `merged`, because native XDP runs in front of GRO; the budgets, because
//! they are larger than the table; and what becomes of untouched frames behind XDP, because the
//! kernel's stack does with them what it likes. Programs behind the tests of `ebpf` show those. A
//! frame without an Ethernet header cannot be sent.

use std::fs;
use std::fs::File;
use std::path::Path;

use core_affinity::get_core_ids;
use quiclane::metrics::WorkerSnapshot;
use quiclane::{Steering, Xdp};
use quiclane_ebpf::{Count, is_dropped};
use quiclane_wire::fixtures::{
    CARRIERS, DRAINING_EPOCH, LISTENERS, LIVE_EPOCH, LIVE_WORKERS, PacketBuffer, RETIRED_EPOCH,
    fixtures_in, frames_in, world,
};
use quiclane_wire::{
    EpochEntry, EpochState, EpochTable, IpVersion, Key, Layout, Located, Untouched, Verdict,
    classify, locate, worker_of_spread,
};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::common::{Served, law_holds, perf_server};
use crate::harness::{Counted, Frames, Link, counted, inside, ip, poll, selected, since};

#[test]
fn every_frame_gets_the_verdict_of_wire() {
    inside("fixtures::every_frame_gets_the_verdict_of_wire", || {
        let link = Link::new();
        the_fixtures_addresses();
        let frames = Frames::open(&link);
        for redirect in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let _draining = starts_before(directory.path());
            let server = server(directory.path(), redirect);
            let (sent, arrived) = (0, Counted::new());
            let mut table = Table { frames: &frames, server, redirect, sent, arrived };
            for (name, frame, expect) in table_of_frames() {
                table.send(&name, &frame, expect);
            }
            table.finish();
        }
    });
}

fn server(directory: &Path, redirect: bool) -> Served {
    let server = perf_server("192.0.2.1:4433", LIVE_WORKERS.into(), |config| {
        // The table says who is an orphan; answers have tests of their own.
        config.limits.resets_per_s = 0;
        let server = config.server.as_mut().unwrap();
        server.listen = LISTENERS.to_vec();
        server.steering = Steering::Xdp;
        server.xdp = Xdp { interfaces: vec!["veth0".to_owned()], redirect, ..Xdp::default() };
        server.state_dir = Some(directory.to_owned());
        server.server_id = world().0.server_id().as_slice().to_vec();
        if redirect {
            let allowed = get_core_ids().unwrap().into_iter().map(|core| core.id).cycle();
            config.cores = allowed.take(LIVE_WORKERS.into()).collect();
        }
    });
    assert_eq!(server.engine().plan().epoch(), u64::from(LIVE_EPOCH));
    server
}

type Expect = Result<Verdict, Untouched>;

/// Every packet in every carrier, and every special frame.
fn table_of_frames() -> impl Iterator<Item = (String, Vec<u8>, Expect)> {
    let (layout, spread_key, epochs) = the_servers_world();
    let mut others = Vec::new();
    let mut packets = Vec::new();
    for fixture in fixtures_in(the_servers_world()) {
        let payload = fixture.bytes.as_slice();
        let verdict = classify(payload, &layout, &spread_key, &epochs);
        if verdict != fixture.verdict {
            others.push(fixture.name);
        }
        packets.extend(CARRIERS.iter().map(|carrier| {
            let name = format!("{} in {}", fixture.name, carrier.name);
            (name, finished(&carrier.frame(payload)), Ok(verdict))
        }));
    }
    // An engine does not know how many workers an older one had.
    assert_eq!(others, ["short: draining, no such worker"]);
    let special = frames_in(the_servers_world())
        .map(|frame| (frame.name.to_owned(), finished(&frame.bytes), frame.expect))
        .filter(|(_, frame, _)| frame.len() >= ETHERNET_LEN);
    packets.into_iter().chain(special)
}

/// A server in the middle of the table.
struct Table<'a> {
    frames: &'a Frames,
    server: Served,
    redirect: bool,
    sent: u64,
    /// How the sockets of those that arrived have to be chosen.
    arrived: Counted,
}

impl Table<'_> {
    /// Sends one frame: it must be in one count of XDP, and at one worker or at none.
    fn send(&mut self, name: &str, frame: &[u8], expect: Expect) {
        let (kernel, workers) = (counted(&self.server), routes(&self.server));
        self.frames.send(frame);
        self.sent += 1;
        let seen = || Some(since(&counted(&self.server), &kernel)).filter(|n| !n.is_empty());
        let mut count = poll(seen).unwrap_or_else(|| panic!("{name}: XDP did not see it"));
        if self.redirect {
            // Moved or not: that is the chance of the core that it arrived on.
            count =
                count.into_iter().map(|(name, n)| (name.trim_end_matches("_moved"), n)).collect();
        }
        assert_eq!(count, [(count_of(expect).name(), 1)].into(), "{name}");
        let Some(target) = target_of(expect) else { return };
        let arrived = || Some(routes(&self.server)).filter(|now| *now != workers && whole(now));
        let now = poll(arrived).unwrap_or_else(|| panic!("{name}: no worker received it"));
        target.check(name, &workers, &now);
        *self.arrived.entry(target.selection()).or_default() += 1;
    }

    /// Nothing arrived that had to be dropped: the last frames at each worker have no company.
    fn finish(self) {
        let Self { frames, server, redirect, sent, mut arrived } = self;
        let expected: Vec<_> =
            routes(&server).iter().map(|w| (w.received + 1, w.live + 1)).collect();
        for fixture in fixtures_in(the_servers_world()) {
            if ONE_OF_EACH_WORKER.contains(&fixture.name) {
                frames.send(&finished(&CARRIERS[0].frame(fixture.bytes.as_slice())));
            }
        }
        *arrived.entry("owners").or_default() += u64::from(LIVE_WORKERS);
        let received = || routes(&server).iter().map(|w| (w.received, w.live)).collect::<Vec<_>>();
        poll(|| (received() == expected).then_some(()));
        assert_eq!(received(), expected);
        assert_eq!(selected(&server), arrived);
        let kernel = counted(&server);
        assert!(sent > 800);
        assert_eq!(kernel.values().sum::<u64>(), sent + u64::from(LIVE_WORKERS));
        if redirect && get_core_ids().unwrap().len() > 1 {
            assert!(kernel.contains_key("live_moved"), "{kernel:?}");
        }
        println!("{sent} frames: {kernel:?}; passed to workers: {arrived:?}");
        law_holds(&server.finish());
    }
}

/// Whether each worker has counted what it received, and not only that it did.
fn whole(snapshots: &[WorkerSnapshot]) -> bool {
    snapshots.iter().map(WorkerSnapshot::law).all(|(arrived, routed)| arrived == routed)
}

/// The count of XDP that a frame belongs to.
fn count_of(expect: Expect) -> Count {
    match expect {
        Err(untouched) => Count::Untouched(untouched),
        Ok(Verdict::Live { .. }) => Count::Live,
        Ok(Verdict::Initial { .. }) => Count::Initial,
        Ok(Verdict::OtherLong) => Count::OtherLong,
        Ok(Verdict::Draining { .. }) => Count::Draining,
        Ok(Verdict::Orphan { .. }) => Count::Orphan,
        Ok(Verdict::Junk(reason)) => Count::Junk(reason),
    }
}

/// Where a packet that passes has to arrive, and what it has to be counted as.
#[derive(Clone, Copy)]
enum Target {
    Live(u8),
    Initial(u8),
    /// At any one worker.
    OtherLong,
    Draining,
    Orphan,
    Junk,
}

/// `None`: at no worker.
fn target_of(expect: Expect) -> Option<Target> {
    match expect.ok()? {
        Verdict::Live { worker } => Some(Target::Live(worker)),
        Verdict::Initial { spread } => {
            Some(Target::Initial(worker_of_spread(spread, LIVE_WORKERS)))
        }
        Verdict::OtherLong => Some(Target::OtherLong),
        Verdict::Draining { .. } => Some(Target::Draining),
        Verdict::Orphan { .. } => Some(Target::Orphan),
        Verdict::Junk(reason) => (!is_dropped(reason)).then_some(Target::Junk),
    }
}

impl Target {
    fn check(self, name: &str, before: &[WorkerSnapshot], after: &[WorkerSnapshot]) {
        let changed: Vec<_> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(changed.len(), 1, "{name}: {before:?} {after:?}");
        let at = changed[0];
        let mut expected = before[at].clone();
        expected.received += 1;
        let field = match self {
            Self::Live(_) => &mut expected.live,
            Self::Initial(_) => &mut expected.initial,
            Self::OtherLong => &mut expected.other_long,
            Self::Draining => &mut expected.draining,
            Self::Orphan => &mut expected.orphan,
            Self::Junk => &mut expected.junk,
        };
        *field += 1;
        assert_eq!(after[at], expected, "{name} at worker {at}");
        if let Self::Live(worker) | Self::Initial(worker) = self {
            assert_eq!(at, usize::from(worker), "{name}");
        }
    }

    /// How the selecting program chooses its socket.
    fn selection(self) -> &'static str {
        match self {
            Self::Live(_) | Self::Initial(_) => "owners",
            // The old process has handed over no sockets.
            Self::Draining => "no_socket",
            Self::OtherLong | Self::Orphan | Self::Junk => "nobodys",
        }
    }
}

/// What the workers made of datagrams, without what came of them.
fn routes(server: &Served) -> Vec<WorkerSnapshot> {
    let routes = |snapshot: WorkerSnapshot| WorkerSnapshot {
        received: snapshot.received,
        tossed_in: snapshot.tossed_in,
        live: snapshot.live,
        initial: snapshot.initial,
        other_long: snapshot.other_long,
        sibling: snapshot.sibling,
        draining: snapshot.draining,
        orphan: snapshot.orphan,
        junk: snapshot.junk,
        ..WorkerSnapshot::default()
    };
    server.snapshots().into_iter().map(routes).collect()
}

/// What the table sends to wildcards.
fn the_fixtures_addresses() {
    ip("address add 203.0.113.9/32 dev veth0");
    ip("address add 2002:db8::1/128 dev veth0 nodad");
}

/// A state directory after six starts: nobody holds the fifth's lock, and we the sixth's, which is
/// returned.
fn starts_before(directory: &Path) -> File {
    use std::os::unix::fs::PermissionsExt as _;
    let write = |name: &str, content: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        File::open(path).unwrap()
    };
    write("VERSION", b"1\n");
    write("epoch", format!("{}\n", LIVE_EPOCH - 1).as_bytes());
    write("master", &MASTER);
    write(&format!("lock.{RETIRED_EPOCH}"), b"");
    let lock = write(&format!("lock.{DRAINING_EPOCH}"), b"");
    lock.lock().unwrap();
    lock
}

/// What the server knows: its keys are HKDF-SHA256 of its master, its server ID and the epoch.
fn the_servers_world() -> (Layout, Key, EpochTable) {
    let (layout, ..) = world();
    let mut epochs = EpochTable::unknown();
    for (epoch, state, workers) in [
        (LIVE_EPOCH, EpochState::Live, LIVE_WORKERS),
        (DRAINING_EPOCH, EpochState::Draining, u8::MAX),
        (RETIRED_EPOCH, EpochState::Retired, u8::MAX),
    ] {
        let (check_key, reset_root) = (key(b"cid check", epoch), key(b"reset root", epoch));
        epochs.set(epoch, EpochEntry { state, check_key, reset_root, workers });
    }
    (layout, key(b"initial spread", LIVE_EPOCH), epochs)
}

fn key(label: &[u8], epoch: u8) -> Key {
    let prk: Prk = Salt::new(HKDF_SHA256, b"quiclane 1").extract(&MASTER);
    let (layout, ..) = world();
    let server_id = layout.server_id();
    let info = [label, server_id.as_slice(), &u64::from(epoch).to_be_bytes()];
    let mut bytes = [0; 16];
    prk.expand(&info, Sixteen).unwrap().fill(&mut bytes).unwrap();
    Key::from_bytes(bytes)
}

#[derive(Clone, Copy)]
struct Sixteen;

impl KeyType for Sixteen {
    fn len(&self) -> usize {
        16
    }
}

/// The frame with what the kernel's stack wants and the table leaves out: checksums, and tags of no
/// VLAN, which need no device of their own to be taken off.
fn finished(frame: &PacketBuffer) -> Vec<u8> {
    let mut frame = frame.as_slice().to_vec();
    let Ok(located) = locate(&frame[..]) else { return frame };
    let Located { ip, source_at, payload_at, payload_len, .. } = located;
    let ip_at = located.ip_at();
    for tag_at in (12..ip_at - 2).step_by(4) {
        frame[tag_at + 2..tag_at + 4].copy_from_slice(&[0, 0]);
    }
    let udp_at = payload_at - UDP_LEN;
    match ip {
        IpVersion::V4 => {
            let sum = checksum([&frame[ip_at..udp_at]]);
            frame[ip_at + 10..ip_at + 12].copy_from_slice(&sum.to_be_bytes());
        }
        IpVersion::V6 => {
            let udp_len = u16::try_from(UDP_LEN + payload_len).unwrap().to_be_bytes();
            let addresses = &frame[source_at..located.target_at() + 16];
            let udp = &frame[udp_at..payload_at + payload_len];
            let sum = checksum([addresses, &udp_len, &[0, 17], udp]);
            frame[payload_at - 2..payload_at].copy_from_slice(&sum.to_be_bytes());
        }
    }
    frame
}

/// RFC 1071, of pieces that all but the last have an even number of bytes.
fn checksum<const N: usize>(pieces: [&[u8]; N]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = pieces.iter().flat_map(|piece| piece.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match u16::try_from(sum) {
        Ok(0xffff) | Err(_) => 0xffff,
        Ok(sum) => !sum,
    }
}

const MASTER: [u8; 32] = *b"the master of the fixtures' tale";
const ONE_OF_EACH_WORKER: [&str; LIVE_WORKERS as usize] =
    ["short: 21 bytes", "short: worker 1", "short: worker 2", "short: worker 3"];
const ETHERNET_LEN: usize = 14;
const UDP_LEN: usize = 8;
