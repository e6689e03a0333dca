//! quinn-proto in a bare poll loop: one thread, one socket, any number of connections.
//!
//! ```text
//! gather:  wait -> receive -> timers -> events -> outcomes -> forget drained connections
//!          (the mode starts new work)
//! flush:   transmit -> re-arm timers
//! ```
//!
//! The mode acts between the two, so that new requests share packets with the acknowledgements
//! of the answers that caused them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Event,
    IdleTimeout, TransportConfig, VarInt,
};

use crate::perf::{Answer, Exchanges, Request};
use crate::socket::{SEND_SEGMENTS_MAX, Socket};
use crate::tls;

/// Something a mode has to know.
pub(crate) enum Outcome {
    /// The handshake is done.
    Connected(ConnectionHandle),
    /// A request was answered in full.
    Answered(ConnectionHandle, Answer),
}

/// Packets lost and datagrams received so far, over all connections that ever were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) lost_packets: u64,
    pub(crate) received_messages: u64,
    pub(crate) received_datagrams: u64,
    pub(crate) received_bytes: u64,
}

/// The client's connections and their socket.
pub(crate) struct Driver {
    server: SocketAddr,
    config: ClientConfig,
    endpoint: Endpoint,
    socket: Socket,
    /// By connection handle.
    links: Vec<Option<Box<Link>>>,
    /// Links to look at: touched since their last flush.
    touched: Vec<ConnectionHandle>,
    /// The list before it, kept for its memory.
    flushed: Vec<ConnectionHandle>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    traffic: Traffic,
    now: Instant,
    heard: Instant,
    contents: Vec<u8>,
}

struct Link {
    connection: Connection,
    exchanges: Exchanges,
    touched: bool,
    /// The earliest entry in the heap that belongs to this connection.
    armed: Option<Instant>,
    /// We closed it: what the connection says from now on is no error.
    closing: bool,
}

impl Driver {
    pub(crate) fn new(server: SocketAddr) -> Result<Self> {
        let mut config = ClientConfig::new(Arc::new(tls::config()?));
        config.transport_config(Arc::new(transport()));
        let now = Instant::now();
        Ok(Self {
            server,
            config,
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None),
            socket: Socket::bind(server)?,
            links: Vec::new(),
            touched: Vec::new(),
            flushed: Vec::new(),
            timers: BinaryHeap::new(),
            traffic: Traffic::default(),
            now,
            heard: now,
            contents: Vec::with_capacity(SEND_SEGMENTS_MAX * DATAGRAM_BYTES_MAX),
        })
    }

    /// When the last [`gather`](Self::gather) saw what it reports.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// What has passed so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let links = self.links.iter().flatten();
        let lost: u64 = links.map(|link| link.connection.stats().path.lost_packets).sum();
        Traffic { lost_packets: self.traffic.lost_packets + lost, ..self.traffic }
    }

    /// Starts a handshake.
    pub(crate) fn connect(&mut self) -> Result<ConnectionHandle> {
        let (handle, connection) =
            self.endpoint.connect(self.now, self.config.clone(), self.server, "localhost")?;
        if handle.0 >= self.links.len() {
            self.links.resize_with(handle.0 + 1, || None);
        }
        self.links[handle.0] = Some(Box::new(Link {
            connection,
            exchanges: Exchanges::default(),
            touched: false,
            armed: None,
            closing: false,
        }));
        self.touch(handle);
        Ok(handle)
    }

    /// Starts a request on a connection.
    pub(crate) fn request(&mut self, handle: ConnectionHandle, request: Request) -> Result<()> {
        let now = self.now;
        let link = self.link(handle).context("request on a connection that is gone")?;
        link.exchanges.start(&mut link.connection, request, now)?;
        self.touch(handle);
        Ok(())
    }

    /// Closes a connection; it is forgotten when its closing period is over.
    pub(crate) fn close(&mut self, handle: ConnectionHandle) -> Result<()> {
        let now = self.now;
        let link = self.link(handle).context("close of a connection that is gone")?;
        link.closing = true;
        link.connection.close(now, VarInt::from_u32(0), Bytes::new());
        self.touch(handle);
        Ok(())
    }

    /// Waits until something happens, at most until `deadline`, and collects what did.
    ///
    /// # Errors
    /// A connection that is lost, an answer that is wrong, and a server that has been silent for
    /// [`SILENCE_MAX`] end the run.
    pub(crate) fn gather(
        &mut self,
        deadline: Option<Instant>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        let mut bursts = self.socket.receive()?;
        if bursts == 0 && self.touched.is_empty() {
            let mut until = self.heard + SILENCE_MAX;
            until = until.min(deadline.unwrap_or(until));
            until = self.timers.peek().map_or(until, |Reverse((at, _))| until.min(*at));
            self.socket.wait_readable(Some(until))?;
            bursts = self.socket.receive()?;
        }
        self.now = Instant::now();
        if bursts > 0 {
            self.heard = self.now;
            self.route()?;
        }
        ensure!(self.now < self.heard + SILENCE_MAX, "the server has been silent for 10 s");
        self.fire_timers();
        for index in 0..self.touched.len() {
            self.collect(self.touched[index], outcomes)?;
        }
        Ok(())
    }

    /// Sends what the touched connections have to say.
    pub(crate) fn flush(&mut self) -> Result<()> {
        std::mem::swap(&mut self.touched, &mut self.flushed);
        for index in 0..self.flushed.len() {
            let handle = self.flushed[index];
            let Some(mut link) = self.links[handle.0].take() else {
                continue;
            };
            link.touched = false;
            let unfinished = self.transmit(&mut link)?;
            self.arm(handle, &mut link);
            self.links[handle.0] = Some(link);
            if unfinished {
                self.touch(handle);
            }
        }
        self.flushed.clear();
        Ok(())
    }

    fn link(&mut self, handle: ConnectionHandle) -> Option<&mut Link> {
        self.links.get_mut(handle.0)?.as_deref_mut()
    }

    fn touch(&mut self, handle: ConnectionHandle) {
        if let Some(Some(link)) = self.links.get_mut(handle.0)
            && !link.touched
        {
            link.touched = true;
            self.touched.push(handle);
        }
    }

    /// Hands every datagram received to its connection.
    fn route(&mut self) -> Result<()> {
        for burst in self.socket.bursts() {
            self.traffic.received_messages += 1;
            self.traffic.received_bytes += burst.bytes.len() as u64;
            // One copy per burst, as quinn does: the buffer is reused, stream data is not copied.
            let mut bytes = BytesMut::from(burst.bytes);
            while !bytes.is_empty() {
                self.traffic.received_datagrams += 1;
                let datagram = bytes.split_to(burst.stride.min(bytes.len()));
                self.contents.clear();
                let event = self.endpoint.handle(
                    self.now,
                    burst.from,
                    None,
                    burst.ecn,
                    datagram,
                    &mut self.contents,
                );
                match event {
                    Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                        let Some(link) = self.links[handle.0].as_deref_mut() else {
                            continue;
                        };
                        link.connection.handle_event(event);
                        if !link.touched {
                            link.touched = true;
                            self.touched.push(handle);
                        }
                    }
                    Some(DatagramEvent::Response(transmit)) => {
                        self.socket.send(&transmit, &self.contents)?;
                    }
                    Some(DatagramEvent::NewConnection(_)) => bail!("the server connected to us"),
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn fire_timers(&mut self) {
        while let Some(&Reverse((at, key))) = self.timers.peek()
            && at <= self.now
        {
            self.timers.pop();
            let now = self.now;
            let handle = ConnectionHandle(key);
            let Some(link) = self.link(handle).filter(|link| link.armed == Some(at)) else {
                continue;
            };
            link.armed = None;
            if link.connection.poll_timeout().is_some_and(|due| due <= now) {
                link.connection.handle_timeout(now);
            }
            self.touch(handle);
        }
    }

    /// Timers mostly move later, so an entry stays until it fires and is then looked at again.
    fn arm(&mut self, handle: ConnectionHandle, link: &mut Link) {
        let Some(due) = link.connection.poll_timeout() else {
            return;
        };
        if link.armed.is_none_or(|armed| due < armed) {
            link.armed = Some(due);
            self.timers.push(Reverse((due, handle.0)));
        }
    }

    /// Turns a connection's events into outcomes, then lets it and the endpoint talk.
    fn collect(&mut self, handle: ConnectionHandle, outcomes: &mut Vec<Outcome>) -> Result<()> {
        let now = self.now;
        let Some(link) = self.links[handle.0].as_deref_mut() else {
            return Ok(());
        };
        while let Some(event) = link.connection.poll() {
            match event {
                _ if link.closing => {}
                Event::Connected => outcomes.push(Outcome::Connected(handle)),
                Event::Stream(event) => {
                    let answer = link.exchanges.on_event(&mut link.connection, event, now)?;
                    outcomes.extend(answer.map(|answer| Outcome::Answered(handle, answer)));
                }
                Event::ConnectionLost { reason } => {
                    return Err(reason).context("a connection was lost");
                }
                Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {
                }
            }
        }
        while let Some(event) = link.connection.poll_endpoint_events() {
            let drained = event.is_drained();
            if let Some(event) = self.endpoint.handle_event(handle, event) {
                link.connection.handle_event(event);
            }
            if drained {
                // From here on the endpoint may give the handle to a new connection.
                self.traffic.lost_packets += link.connection.stats().path.lost_packets;
                self.links[handle.0] = None;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends a connection's packets; true when there may be more than one turn allows.
    fn transmit(&mut self, link: &mut Link) -> Result<bool> {
        for _ in 0..TRANSMITS_PER_TURN {
            self.contents.clear();
            let transmit =
                link.connection.poll_transmit(self.now, SEND_SEGMENTS_MAX, &mut self.contents);
            let Some(transmit) = transmit else {
                return Ok(false);
            };
            self.socket.send(&transmit, &self.contents)?;
        }
        Ok(true)
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    transport
}

/// A run in which nothing arrives for this long has failed. No healthy run pauses for a second.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Bursts a connection may send before we look for acknowledgements again: 256 KiB, a fraction
/// of the socket buffers. Fewer costs system calls, more makes the sender deaf.
const TRANSMITS_PER_TURN: usize = 4;

/// The most MTU discovery reaches: quinn-proto's default upper bound is 1452.
const DATAGRAM_BYTES_MAX: usize = 1500;

/// The windows of the servers: flow control must not be what is measured.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// The idle time of the servers, longer than any run.
const IDLE_TIMEOUT_MS: u32 = 120_000;
