//! settings are what two peers tell each other first (RFC 9114 section 7.2.4).

use crate::frame::kind;
use crate::limits::Config;
use crate::varint;
use crate::violation::Violation;

/// What the peer announced. Until its SETTINGS arrive, the defaults hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// The largest field section that it takes, in bytes. Default: no limit.
    pub field_section_bytes_max: Option<u64>,
    /// The largest capacity of its dynamic table, in bytes. Default 0. We use none.
    pub qpack_capacity_bytes_max: u64,
    /// Streams that may wait for its dynamic table. Default 0.
    pub qpack_blocked_streams_max: u64,
    /// Whether it takes extended CONNECT (RFC 9220).
    pub extended_connect: bool,
    /// Whether it takes HTTP datagrams (RFC 9297).
    pub datagrams: bool,
}

/// Appends the SETTINGS frame of a configuration. Those of QPACK are left out: both are 0, the
/// default.
pub(crate) fn encode(config: &Config, is_server: bool, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
    let mut pair = |id, value| {
        varint::encode(id, &mut payload);
        varint::encode(value, &mut payload);
    };
    pair(id::MAX_FIELD_SECTION_SIZE, u64::from(config.limits.field_section_bytes_max));
    if config.extended_connect && is_server {
        pair(id::ENABLE_CONNECT_PROTOCOL, 1);
    }
    if config.datagrams {
        pair(id::H3_DATAGRAM, 1);
    }
    varint::encode(kind::SETTINGS, out);
    varint::encode(payload.len() as u64, out);
    out.extend_from_slice(&payload);
}

/// Reads the payload of a SETTINGS frame as it comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingsReader {
    settings: Settings,
    /// The beginning of a pair.
    partial: [u8; PAIR_BYTES_MAX],
    partial_bytes: usize,
    /// Every identifier so far.
    seen: Vec<u64>,
}

impl SettingsReader {
    /// Takes the next bytes of the payload.
    pub(crate) fn read(&mut self, data: &[u8], settings_max: usize) -> Result<(), Violation> {
        for byte in data {
            // Sixteen bytes are always a whole pair, so there is room.
            if let Some(place) = self.partial.get_mut(self.partial_bytes) {
                *place = *byte;
            }
            self.partial_bytes += 1;
            let partial = self.partial.get(..self.partial_bytes).unwrap_or_default();
            let Some((id, id_bytes)) = varint::decode(partial) else { continue };
            let Some((value, _)) = partial.get(id_bytes..).and_then(varint::decode) else {
                continue;
            };
            self.partial_bytes = 0;
            if self.seen.len() == settings_max {
                return Err(Violation::SettingsTooMany);
            }
            //= https://www.rfc-editor.org/rfc/rfc9114#section-7.2.4
            //# The same setting identifier MUST NOT occur more than once in the
            //# SETTINGS frame.  A receiver MAY treat the presence of duplicate
            //# setting identifiers as a connection error of type H3_SETTINGS_ERROR.
            if self.seen.contains(&id) {
                return Err(Violation::SettingTwice);
            }
            self.seen.push(id);
            self.settings.set(id, value)?;
        }
        Ok(())
    }

    /// The frame is over: what was in it.
    pub(crate) fn finish(&mut self) -> Result<Settings, Violation> {
        self.seen = Vec::new();
        if self.partial_bytes > 0 { Err(Violation::FrameLength) } else { Ok(self.settings) }
    }
}

impl Settings {
    fn set(&mut self, id: u64, value: u64) -> Result<(), Violation> {
        match id {
            id::QPACK_MAX_TABLE_CAPACITY => self.qpack_capacity_bytes_max = value,
            id::MAX_FIELD_SECTION_SIZE => self.field_section_bytes_max = Some(value),
            id::QPACK_BLOCKED_STREAMS => self.qpack_blocked_streams_max = value,
            id::ENABLE_CONNECT_PROTOCOL => self.extended_connect = flag(value)?,
            id::H3_DATAGRAM => self.datagrams = flag(value)?,
            //= https://www.rfc-editor.org/rfc/rfc9114#section-7.2.4.1
            //# These reserved settings MUST NOT be sent, and their receipt MUST
            //# be treated as a connection error of type H3_SETTINGS_ERROR.
            0x00 | 0x02..=0x05 => return Err(Violation::SettingOfHttp2),
            _ => {}
        }
        Ok(())
    }
}

fn flag(value: u64) -> Result<bool, Violation> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::SettingValue),
    }
}

/// The identifiers that mean something here.
mod id {
    pub(super) const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
    pub(super) const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
    pub(super) const QPACK_BLOCKED_STREAMS: u64 = 0x07;
    pub(super) const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
    pub(super) const H3_DATAGRAM: u64 = 0x33;
}

/// Identifier and value, each a varint.
const PAIR_BYTES_MAX: usize = 2 * varint::VARINT_BYTES_MAX;

/// Room for ours.
const PAYLOAD_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(u64, u64)]) -> Result<Settings, Violation> {
        let mut payload = Vec::new();
        for (id, value) in pairs {
            varint::encode(*id, &mut payload);
            varint::encode(*value, &mut payload);
        }
        let mut reader = SettingsReader::default();
        reader.read(&payload, 4)?;
        reader.finish()
    }

    #[test]
    fn ours_are_read_as_they_were_meant() {
        let config = Config { extended_connect: true, datagrams: true, ..Config::default() };
        let mut frame = Vec::new();
        encode(&config, true, &mut frame);
        assert_eq!(usize::from(frame[1]), frame.len() - 2);
        for size in 1..frame.len() {
            let mut reader = SettingsReader::default();
            for piece in frame[2..].chunks(size) {
                reader.read(piece, 32).unwrap();
            }
            let settings = reader.finish().unwrap();
            let expected = Settings {
                field_section_bytes_max: Some(64 << 10),
                extended_connect: true,
                datagrams: true,
                ..Settings::default()
            };
            assert_eq!(settings, expected);
        }
    }

    #[test]
    fn each_rule_has_its_violation() {
        use Violation as V;
        assert_eq!(read(&[]), Ok(Settings::default()));
        assert_eq!(read(&[(0x21, 7), (1 << 40, 9)]), Ok(Settings::default()));
        for reserved in [0, 2, 3, 4, 5] {
            assert_eq!(read(&[(reserved, 1)]), Err(V::SettingOfHttp2));
        }
        assert_eq!(read(&[(6, 1), (6, 1)]), Err(V::SettingTwice));
        assert_eq!(read(&[(0x21, 1), (0x21, 1)]), Err(V::SettingTwice));
        assert_eq!(read(&[(8, 2)]), Err(V::SettingValue));
        assert_eq!(read(&[(0x33, 2)]), Err(V::SettingValue));
        assert_eq!(
            read(&[(0x21, 0), (0x40, 0), (0x5f, 0), (0x7e, 0), (0x9d, 0)]),
            Err(V::SettingsTooMany)
        );
        let mut reader = SettingsReader::default();
        assert_eq!(reader.read(&[6], 4), Ok(()));
        assert_eq!(reader.finish(), Err(V::FrameLength));
    }
}
