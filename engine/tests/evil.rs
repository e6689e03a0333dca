//! A client that speaks QUIC and means harm: quinn-proto with packets rewritten before encryption.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::any::Any;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use common::{Served, law_holds, perf_server, total};
use quiclane::Limits;
use quinn_proto::crypto::{
    self, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{
    ConnectError, Connection, ConnectionHandle, ConnectionId, DatagramEvent, Endpoint,
    EndpointConfig, Event, Side, StreamId, TransportError,
};

/// Rewrites the plain text of a 1-RTT packet, header excluded.
type Rewrite = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

struct EvilConfig {
    inner: Arc<dyn crypto::ClientConfig>,
    rewrite: Rewrite,
}

impl crypto::ClientConfig for EvilConfig {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.inner).start_session(version, server_name, params)?;
        Ok(Box::new(EvilSession { inner, keys: 0, rewrite: Arc::clone(&self.rewrite) }))
    }
}

struct EvilSession {
    inner: Box<dyn Session>,
    /// Key changes so far: the second brings the 1-RTT keys.
    keys: usize,
    rewrite: Rewrite,
}

impl Session for EvilSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let mut keys = self.inner.write_handshake(buf)?;
        self.keys += 1;
        if self.keys == 2 {
            let inner = keys.packet.local;
            keys.packet.local = Box::new(EvilKey { inner, rewrite: Arc::clone(&self.rewrite) });
        }
        Some(keys)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let KeyPair { local: inner, remote } = self.inner.next_1rtt_keys()?;
        let local = Box::new(EvilKey { inner, rewrite: Arc::clone(&self.rewrite) });
        Some(KeyPair { local, remote })
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

struct EvilKey {
    inner: Box<dyn PacketKey>,
    rewrite: Rewrite,
}

impl PacketKey for EvilKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - self.inner.tag_len();
        (self.rewrite)(&mut buf[header_len..end]);
        self.inner.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.inner.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}

/// One connection over a socket of its own.
struct Evil {
    socket: UdpSocket,
    server: SocketAddr,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    connected: bool,
    /// Datagrams so far.
    sent: u64,
    /// The first connection ID that the server chose for itself.
    server_cid: Option<ConnectionId>,
    /// Ignores what comes: quinn-proto would close over IDs that it does not know it retired.
    deaf: bool,
}

impl Evil {
    fn connect(server: &Served, padded: bool, rewrite: Rewrite) -> Self {
        let trust = quiclane::Trust::Roots(server.certificate.roots());
        let alpn = vec![b"perf".to_vec()];
        let provider = quiclane::Provider::AwsLcRs;
        let tls = quiclane::ClientTls::new(provider, trust, alpn, quiclane::Resume::Off).unwrap();
        let crypto = EvilConfig { inner: tls.quic(), rewrite };
        let mut config = quinn_proto::ClientConfig::new(Arc::new(crypto));
        let mut transport = quinn_proto::TransportConfig::default();
        // Padded packets have room for what is put into them.
        transport.initial_mtu(1_400).mtu_discovery_config(None).pad_to_mtu(padded);
        // It will see no acknowledgement, and sends all the same.
        let mut endless = quinn_proto::congestion::CubicConfig::default();
        endless.initial_window(u64::from(u32::MAX));
        transport.congestion_controller_factory(Arc::new(endless));
        config.transport_config(Arc::new(transport));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[]);
        let endpoint_config = Arc::new(EndpointConfig::new(Arc::new(key)));
        let mut endpoint = Endpoint::new(endpoint_config, None, true, None);
        let now = quiclane::clock::now();
        let (handle, connection) =
            endpoint.connect(now, config, server.address(), "localhost").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let (connected, sent, server_cid, deaf) = (false, 0, None, false);
        let server = server.address();
        Self { socket, server, endpoint, handle, connection, connected, sent, server_cid, deaf }
    }

    /// Sends what there is to send, then takes what has come.
    fn step(&mut self) {
        let now = quiclane::clock::now();
        self.connection.handle_timeout(now);
        let mut packet = Vec::new();
        while let Some(transmit) = self.connection.poll_transmit(now, 1, &mut packet) {
            self.socket.send_to(&packet[..transmit.size], self.server).unwrap();
            self.sent += 1;
            packet.clear();
        }
        let mut bytes = [0; 2_000];
        while !self.deaf
            && let Ok((length, from)) = self.socket.recv_from(&mut bytes)
        {
            self.server_cid = self.server_cid.or_else(|| source_cid(&bytes[..length]));
            let data = BytesMut::from(&bytes[..length]);
            let event = self.endpoint.handle(now, from, None, None, data, &mut packet);
            if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll() {
            self.connected |= matches!(event, Event::Connected);
        }
    }
}

/// Waits until `condition` holds; how long a slow machine takes is no failure.
fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..30_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("did not come true within 30 s");
}

/// The source connection ID of a packet with a long header (RFC 8999 section 5.1).
fn source_cid(packet: &[u8]) -> Option<ConnectionId> {
    let target = usize::from(*packet.get(5).filter(|_| packet[0] & 0x80 != 0)?);
    let length = usize::from(*packet.get(6 + target)?);
    packet.get(7 + target..7 + target + length).map(ConnectionId::new)
}

impl Evil {
    /// Sends one packet with `bytes` of stream data, or what it is rewritten to, from `socket`.
    fn send_from(&mut self, socket: &UdpSocket, stream: StreamId, bytes: usize) -> usize {
        self.connection.send_stream(stream).write(&vec![0; bytes]).unwrap();
        let (mut packet, now) = (Vec::new(), quiclane::clock::now());
        let transmit = self.connection.poll_transmit(now, 1, &mut packet).unwrap();
        socket.send_to(&packet[..transmit.size], self.server).unwrap()
    }
}

/// An address that is not the client's, and what arrives there.
struct Victim {
    socket: UdpSocket,
    sent: usize,
    got: usize,
}

impl Victim {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        Self { socket, sent: 0, got: 0 }
    }

    /// Counts what comes for about `time`.
    fn listen(&mut self, time: Duration) {
        let (end, mut bytes) = (quiclane::clock::now() + time, [0; 2_000]);
        while quiclane::clock::now() < end {
            self.got += self.socket.recv_from(&mut bytes).map_or(0, |(length, _)| length);
        }
    }

    /// RFC 9000 sections 8.1 and 9.3.
    fn was_not_flooded(&self) {
        let Self { sent, got, .. } = self;
        assert!(*got <= 3 * sent, "{got} bytes for {sent}");
    }
}

/// Retires every connection ID it was given, acknowledges nothing, and so makes the server issue
/// ever more that it may not send.
#[test]
fn retiring_connection_ids_without_acknowledging_ends_the_connection() {
    let limit = 64;
    let server = perf_server("127.0.0.1:0", 1, |config| {
        config.limits = Limits { issued_cids_unacknowledged: limit, ..Limits::default() };
    });
    let (sequence, armed) = (AtomicU64::new(1), Arc::new(AtomicUsize::new(HONEST)));
    let arm = Arc::clone(&armed);
    let mut evil = Evil::connect(
        &server,
        true,
        Arc::new(move |plain: &mut [u8]| {
            let state = arm.load(Ordering::Relaxed);
            if state == HONEST {
                return;
            }
            plain.fill(PADDING);
            plain[0] = PING;
            if state == ARMED && plain.len() > 5 * PER_PACKET {
                arm.store(SILENT, Ordering::Relaxed);
                for frame in plain[1..].chunks_exact_mut(5).take(PER_PACKET) {
                    // ID 0 carries the packets themselves and stays.
                    let next = u32::try_from(sequence.fetch_add(1, Ordering::Relaxed)).unwrap();
                    frame[0] = RETIRE_CONNECTION_ID;
                    frame[1..].copy_from_slice(&(next | 0x8000_0000).to_be_bytes());
                }
            }
        }),
    );
    while !evil.connected {
        evil.step();
    }
    // To retire an ID that was never issued is an error of another kind, here and below.
    while evil.connection.stats().frame_rx.new_connection_id < PER_PACKET as u64 {
        evil.step();
    }
    evil.deaf = true;
    let mut packets = 0;
    while total(&server.snapshots(), |s| s.issued_cids) == 0 {
        armed.store(ARMED, Ordering::Relaxed);
        evil.connection.ping();
        evil.step();
        wait_until(|| total(&server.snapshots(), |s| s.received) >= evil.sent);
        // The IDs that replace the retired ones exist when this turn ends; if it is over already,
        // one more packet brings about the next.
        let turns = total(&server.snapshots(), |s| s.turns);
        evil.connection.ping();
        evil.step();
        wait_until(|| total(&server.snapshots(), |s| s.turns) > turns);
        packets += 1;
        assert!(packets < 1_000, "{} IDs retired and still served", packets * PER_PACKET);
    }
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.issued_cids), 1);
}

/// Probes paths from an address that it does not own, with packets far smaller than the answers.
#[test]
fn answers_to_path_probes_stay_within_three_times_the_probes() {
    let server = perf_server("127.0.0.1:0", 1, |_| {});
    let armed = Arc::new(AtomicUsize::new(HONEST));
    let arm = Arc::clone(&armed);
    let mut evil = Evil::connect(
        &server,
        false,
        Arc::new(move |plain: &mut [u8]| {
            if arm.load(Ordering::Relaxed) == ARMED && plain.len() >= 9 {
                plain.fill(PADDING);
                plain[0] = PATH_CHALLENGE;
            }
        }),
    );
    while !evil.connected {
        evil.step();
    }
    for _ in 0..20 {
        evil.step();
    }
    let victim = UdpSocket::bind("127.0.0.2:0").unwrap();
    victim.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let stream = evil.connection.streams().open(quinn_proto::Dir::Bi).unwrap();
    armed.store(ARMED, Ordering::Relaxed);
    evil.deaf = true;
    let (mut probes, mut answers) = (0, 0);
    for _ in 0..300 {
        evil.connection.send_stream(stream).write(&[0; 12]).unwrap();
        let (mut packet, mut bytes) = (Vec::new(), [0; 2_000]);
        let now = quiclane::clock::now();
        while let Some(transmit) = evil.connection.poll_transmit(now, 1, &mut packet) {
            probes += victim.send_to(&packet[..transmit.size], server.address()).unwrap();
            packet.clear();
        }
        while let Ok((length, _)) = victim.recv_from(&mut bytes) {
            answers += length;
        }
    }
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert!(total(&snapshots, |s| s.unvalidated_path) > 0, "nothing was held back: not tried");
    assert!(answers > 0 && answers <= 3 * probes, "{answers} bytes for {probes}");
}

/// Moves a download to an address of somebody else, and answers the PATH_CHALLENGE that it cannot
/// have seen there, from that address or from its own.
fn guesses_the_answer(from_the_victim: bool) {
    let server = perf_server("127.0.0.1:0", 1, |_| {});
    let armed = Arc::new(AtomicUsize::new(HONEST));
    let arm = Arc::clone(&armed);
    let mut evil = Evil::connect(
        &server,
        false,
        Arc::new(move |plain: &mut [u8]| {
            let frame = match arm.load(Ordering::Relaxed) {
                MOVING => PING,
                GUESSING => PATH_RESPONSE,
                PADDED => PADDING,
                _ => return,
            };
            plain.fill(PADDING);
            plain[0] = frame;
        }),
    );
    while !evil.connected {
        evil.step();
    }
    // Both sides have connection IDs to change to.
    while evil.connection.stats().frame_rx.new_connection_id < PER_PACKET as u64 {
        evil.step();
    }
    for _ in 0..20 {
        evil.step();
    }
    evil.deaf = true;
    let (own, mut victim) = (evil.socket.try_clone().unwrap(), Victim::new());
    let download = evil.connection.streams().open(quinn_proto::Dir::Bi).unwrap();
    evil.connection.send_stream(download).write(&1_000_000u64.to_be_bytes()).unwrap();
    evil.connection.send_stream(download).finish().unwrap();
    evil.step();
    let stream = evil.connection.streams().open(quinn_proto::Dir::Bi).unwrap();
    armed.store(MOVING, Ordering::Relaxed);
    victim.sent += evil.send_from(&victim.socket, stream, 20);
    victim.listen(Duration::from_millis(50));
    armed.store(GUESSING, Ordering::Relaxed);
    for _ in 0..5 {
        if from_the_victim {
            victim.sent += evil.send_from(&victim.socket, stream, 20);
        } else {
            evil.send_from(&own, stream, 20);
        }
        victim.listen(Duration::from_millis(20));
    }
    // Padding moves no path, but quinn-proto credits the active one with it.
    armed.store(PADDED, Ordering::Relaxed);
    for _ in 0..20 {
        evil.send_from(&own, stream, 1_000);
    }
    victim.listen(Duration::from_secs(1));
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert!(total(&snapshots, |s| s.unvalidated_path) > 0, "nothing was held back: not tried");
    victim.was_not_flooded();
}

#[test]
fn a_wrong_answer_from_a_spoofed_address_proves_nothing() {
    guesses_the_answer(true);
}

#[test]
fn a_wrong_answer_from_the_old_address_proves_nothing() {
    guesses_the_answer(false);
}

/// Opens a connection in somebody else's name with a connection ID that the server chose for an
/// earlier one: it is ours and well formed, but proves nothing about who sends it.
#[test]
fn an_old_connection_id_of_ours_proves_no_address() {
    let server = common::large_server("127.0.0.1:0");
    let mut evil = Evil::connect(&server, false, Arc::new(|_: &mut [u8]| ()));
    while !evil.connected {
        evil.step();
    }
    let stale = evil.server_cid.unwrap();
    let now = quiclane::clock::now();
    evil.connection.close(now, 0u32.into(), bytes::Bytes::new());
    while total(&server.snapshots(), |s| s.open) > 0 {
        evil.step();
    }
    let mut victim = Victim::new();
    let mut initial = common::initial_to(1, "perf", Some(stale));
    // The same packet twice. What follows it in the second datagram is none, but makes three times
    // the sum something else than a number of full datagrams.
    for rest in [0, 40] {
        initial.extend(vec![0; rest]);
        victim.sent += victim.socket.send_to(&initial, server.address()).unwrap();
        victim.listen(Duration::from_millis(200));
    }
    // Long enough for the server to send again what it takes for lost.
    victim.listen(Duration::from_millis(1_300));
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.accepted), 2, "the server took it for a new connection");
    assert!(victim.got > victim.sent, "{} bytes are no first flight", victim.got);
    victim.was_not_flooded();
}

/// Packets go out as quinn-proto made them.
const HONEST: usize = 0;
/// The next packet retires connection IDs.
const ARMED: usize = 1;
/// Packets say nothing, above all no acknowledgement.
const SILENT: usize = 2;
/// Packets leave the old path.
const MOVING: usize = 3;
/// Packets carry a PATH_RESPONSE whose token is a guess.
const GUESSING: usize = 4;
/// Packets are large and say nothing.
const PADDED: usize = 5;
/// RFC 9000 section 19.
const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const PATH_CHALLENGE: u8 = 0x1a;
const PATH_RESPONSE: u8 = 0x1b;
const RETIRE_CONNECTION_ID: u8 = 0x19;
/// quinn-proto's client holds 5 IDs at a time; all but the one in use can be retired at once.
const PER_PACKET: usize = 4;
