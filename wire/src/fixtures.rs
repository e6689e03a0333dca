//! fixtures is the one table of packets and the verdicts that every room must reach.
//!
//! [`fixtures`] gives the packets, [`world`] the server that they arrive at. The same table runs
//! against [`crate::classify`], against the classic BPF program on loopback sockets, against the
//! kernel programs and end to end, so that a disagreement has a name.

use core::fmt;

use crate::{EpochEntry, EpochState, EpochTable, Key, Layout, Parts, ServerId, Verdict, spread};

mod cases;

mod frames;
pub use frames::{CARRIERS, Carrier, FrameFixture, LISTENERS, frames, frames_in, judge_frame};

mod rfc9001;

/// The epoch that takes new connections.
pub const LIVE_EPOCH: u8 = 7;
/// How many workers the live epoch has.
pub const LIVE_WORKERS: u8 = 4;
/// The epoch whose process still owns its old connections.
pub const DRAINING_EPOCH: u8 = 6;
/// How many workers the draining epoch has: more than the live one.
pub const DRAINING_WORKERS: u8 = 8;
/// The epoch whose process is gone; how many workers it had is forgotten.
pub const RETIRED_EPOCH: u8 = 5;
/// One of the 253 epochs that nobody knows.
pub const UNKNOWN_EPOCH: u8 = 0x87;

/// One packet and what becomes of it.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// What is special about the packet.
    pub name: &'static str,
    /// The UDP payload.
    pub bytes: PacketBuffer,
    /// What [`crate::classify`] says of it in [`world`].
    pub verdict: Verdict,
}

/// A UDP payload of at most 1,500 bytes, or a frame around one.
#[derive(Clone)]
pub struct PacketBuffer {
    bytes: [u8; Self::LEN_MAX],
    len: usize,
}

impl PacketBuffer {
    /// The largest payload a fixture has, and room for the headers of a frame.
    pub const LEN_MAX: usize = 1500 + 110;

    const EMPTY: Self = Self { bytes: [0; Self::LEN_MAX], len: 0 };

    /// The payload.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn extend(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(next) = self.bytes.get_mut(self.len) {
                *next = *byte;
                self.len += 1;
            }
        }
    }

    /// Grows to `len` bytes with a pattern that is neither all zero nor a header.
    fn fill(&mut self, len: usize) {
        while self.len < len.min(Self::LEN_MAX) {
            let [low, ..] = self.len.to_le_bytes();
            self.extend(&[low.wrapping_mul(37) ^ 0x5a]);
        }
    }

    fn cut(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl AsRef<[u8]> for PacketBuffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for PacketBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes: ", self.len)?;
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The server that the fixtures arrive at: its layout, its spreading key and its epochs.
pub fn world() -> (Layout, Key, EpochTable) {
    let server = ServerId::new(&SERVER_ID).unwrap_or_default();
    let mut epochs = EpochTable::unknown();
    for (epoch, state, workers) in [
        (LIVE_EPOCH, EpochState::Live, LIVE_WORKERS),
        (DRAINING_EPOCH, EpochState::Draining, DRAINING_WORKERS),
        (RETIRED_EPOCH, EpochState::Retired, 0),
    ] {
        let entry = EpochEntry {
            state,
            check_key: check_key(epoch),
            reset_root: Key::from_bytes([0xb0 ^ epoch; 16]),
            workers,
        };
        epochs.set(epoch, entry);
    }
    (Layout::new(server), Key::from_bytes(SPREAD_KEY), epochs)
}

/// Every fixture. Together they reach every [`Verdict`] and every [`crate::Reason`] that is a
/// property of a payload: not the blocked ports and the budgets.
pub fn fixtures() -> impl Iterator<Item = Fixture> {
    fixtures_in(world())
}

/// The same table for a server with other keys, for example one that runs. Its epochs must be in
/// the states of this world, and its server ID as long; verdicts hold as far as its epochs have as
/// many workers.
pub fn fixtures_in(world: (Layout, Key, EpochTable)) -> impl Iterator<Item = Fixture> {
    [cases::SHORT, cases::LONG, cases::OTHER]
        .into_iter()
        .flatten()
        .map(move |case| case.fixture(&world))
}

/// A fixture as the table writes it down.
struct Case {
    name: &'static str,
    pieces: &'static [Piece],
    expect: Expect,
}

impl Case {
    fn fixture(&self, (layout, spread_key, epochs): &(Layout, Key, EpochTable)) -> Fixture {
        let mut bytes = PacketBuffer::EMPTY;
        for piece in self.pieces {
            piece.append(layout, epochs, &mut bytes);
        }
        let verdict = match self.expect {
            Expect::Verdict(verdict) => verdict,
            Expect::Spread => {
                Verdict::Initial { spread: spread(spread_key, dcid(bytes.as_slice())) }
            }
        };
        Fixture { name: self.name, bytes, verdict }
    }
}

/// What a case expects.
enum Expect {
    Verdict(Verdict),
    /// [`Verdict::Initial`], spread by the DCID in the long header.
    Spread,
}

/// A part of a packet.
enum Piece {
    Raw(&'static [u8]),
    /// First byte and version of a long header.
    Long(u8, u32),
    /// A connection ID behind its length.
    Cid(&'static [u8]),
    /// A connection ID of ours without its length, as a short header has it.
    OwnShort(Own),
    /// A connection ID of ours behind its length.
    OwnCid(Own),
    /// Arbitrary bytes until the packet has this length.
    Fill(usize),
    /// Nothing more, and less: the packet ends at this length.
    Cut(usize),
}

impl Piece {
    fn append(&self, layout: &Layout, epochs: &EpochTable, packet: &mut PacketBuffer) {
        match *self {
            Self::Raw(bytes) => packet.extend(bytes),
            Self::Long(first, version) => {
                packet.extend(&[first]);
                packet.extend(&version.to_be_bytes());
            }
            Self::Cid(cid) => {
                packet.extend(&[cid.len().to_le_bytes()[0]]);
                packet.extend(cid);
            }
            Self::OwnShort(ref own) => own.append(layout, epochs, packet),
            Self::OwnCid(ref own) => {
                packet.extend(&[layout.cid_len().to_le_bytes()[0]]);
                own.append(layout, epochs, packet);
            }
            Self::Fill(len) => packet.fill(len),
            Self::Cut(len) => packet.cut(len),
        }
    }
}

/// A connection ID of ours, possibly damaged.
struct Own {
    epoch: u8,
    worker: u8,
    damage: Option<Damage>,
}

impl Own {
    const fn new(epoch: u8, worker: u8) -> Self {
        Self { epoch, worker, damage: None }
    }

    const fn damaged(self, field: Field, mask: u8) -> Self {
        let damage = Some(Damage { field, mask });
        Self { damage, ..self }
    }

    fn append(&self, layout: &Layout, epochs: &EpochTable, packet: &mut PacketBuffer) {
        let parts = Parts { worker: self.worker, epoch: self.epoch, unique: 0x1_2345_6789 };
        let at = packet.len;
        let cid = layout.encode(&key_of(epochs, self.epoch), parts);
        packet.extend(cid.as_slice());
        let Some(Damage { field, mask }) = self.damage else {
            return;
        };
        let field_at = match field {
            Field::First => 0,
            Field::Server => 1,
            Field::Worker => layout.worker_at(),
            Field::Epoch => layout.epoch_at(),
            Field::Unique => layout.unique_at(),
            Field::Check => layout.check_at(),
        };
        if let Some(byte) = packet.bytes.get_mut(at + field_at) {
            *byte ^= mask;
        }
    }
}

/// Bits flipped in the first byte of a field.
#[derive(Clone, Copy)]
struct Damage {
    field: Field,
    mask: u8,
}

#[derive(Clone, Copy)]
enum Field {
    First,
    Server,
    Worker,
    Epoch,
    Unique,
    Check,
}

/// The destination connection ID of a long header.
fn dcid(packet: &[u8]) -> &[u8] {
    packet
        .get(6..)
        .zip(packet.get(5))
        .and_then(|(rest, len)| rest.get(..usize::from(*len)))
        .unwrap_or_default()
}

/// The key that a connection ID of this epoch is made with. An unknown epoch has none, so that of
/// our own world.
fn key_of(epochs: &EpochTable, epoch: u8) -> Key {
    let entry = epochs.get(epoch);
    if entry.state == EpochState::Unknown { check_key(epoch) } else { entry.check_key }
}

/// Each epoch has a check key of its own, the unknown ones too.
fn check_key(epoch: u8) -> Key {
    Key::from_bytes([0xc0 ^ epoch; 16])
}

/// The server ID of a QUIC-LB example.
const SERVER_ID: [u8; 3] = [0xc4, 0x60, 0x5e];
const SPREAD_KEY: [u8; 16] = *b"spread the load!";
