//! junk makes datagrams that a server has to get rid of: random bytes, and what looks like QUIC.

use crate::random::Random;

/// Four sorts of junk, in turn.
#[derive(Debug)]
pub(super) struct Junk {
    random: Random,
    /// A whole first Initial, to be cut.
    initial: Vec<u8>,
    next: u64,
}

impl Junk {
    /// Junk from `seed`, with pieces of `initial`.
    pub(super) fn new(seed: u64, initial: Vec<u8>) -> Self {
        Self { random: Random::new(seed), initial, next: 0 }
    }

    /// Puts the next one into `datagram`.
    pub(super) fn write(&mut self, datagram: &mut Vec<u8>) {
        let sort = self.next % 4;
        self.next += 1;
        datagram.clear();
        match sort {
            0 => self.fill(datagram, 1),
            1 => {
                self.fill(datagram, SHORT_BYTES_MIN);
                // A short header (RFC 9000 section 17.3), and behind it an ID that nobody has.
                datagram[0] = 0x40 | (datagram[0] & 0x3f);
            }
            2 => {
                self.fill(datagram, INITIAL_BYTES);
                datagram[0] |= 0xc0;
                // RFC 9000 section 15: versions that are reserved to be unknown.
                for byte in &mut datagram[1..5] {
                    *byte = (*byte & 0xf0) | 0x0a;
                }
                // Two connection IDs of 8 bytes.
                datagram[5] = 8;
                datagram[14] = 8;
            }
            _ => {
                let bytes = 1 + self.random.below(self.initial.len().max(2) - 1);
                datagram.extend(self.initial.iter().take(bytes));
            }
        }
    }

    /// Random bytes, from so many to [`JUNK_BYTES_MAX`].
    fn fill(&mut self, datagram: &mut Vec<u8>, bytes_min: usize) {
        let bytes = bytes_min + self.random.below(JUNK_BYTES_MAX + 1 - bytes_min);
        datagram.resize(bytes, 0);
        self.random.fill(datagram);
    }
}

/// What fits a frame of Ethernet over IPv6.
pub(super) const JUNK_BYTES_MAX: usize = 1_452;

/// Below, a server can tell by the length alone (RFC 9000 section 10.3).
const SHORT_BYTES_MIN: usize = 21;

/// RFC 9000 section 14.1: below, a server ignores what begins a connection.
const INITIAL_BYTES: usize = 1_200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sorts_come_in_turn_and_keep_their_bounds() {
        let initial = vec![0xc7; 1_200];
        let mut junk = Junk::new(7, initial.clone());
        let (mut datagram, mut lengths) = (Vec::new(), std::collections::HashSet::new());
        for turn in 0..4_000 {
            junk.write(&mut datagram);
            assert!((1..=JUNK_BYTES_MAX).contains(&datagram.len()));
            lengths.insert(datagram.len());
            match turn % 4 {
                0 => {}
                1 => assert!(datagram[0] & 0xc0 == 0x40 && datagram.len() >= 21),
                2 => {
                    assert!(datagram[0] & 0xc0 == 0xc0 && datagram.len() >= 1_200);
                    assert!(datagram[1..5].iter().all(|byte| byte & 0x0f == 0x0a));
                    assert_eq!((datagram[5], datagram[14]), (8, 8));
                }
                _ => {
                    assert!(datagram.len() < initial.len());
                    assert_eq!(datagram, initial[..datagram.len()]);
                }
            }
        }
        assert!(lengths.len() > 500, "{}", lengths.len());
    }
}
