//! packed keeps a histogram as the bytes of HdrHistogram's V2 encoding: a few hundred where its
//! table takes 270 KiB. In reports it is base64 of the deflated bytes, which every tool of
//! HdrHistogram reads.
//!
//! What is read comes from a file, and so from anybody: all is checked before anything is
//! allocated for it.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer as Reader, Serialize, Serializer as Writer, de, ser};

/// A histogram of nanoseconds that takes no more memory than what was recorded needs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Packed(Vec<u8>);

/// Why a text is no histogram of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PackedError {
    /// No base64.
    #[error("a histogram is not base64")]
    Base64,
    /// Not deflated, or cut off.
    #[error("a histogram is no deflated HdrHistogram V2, or is cut off")]
    Deflate,
    /// Larger than any that this program writes, for itself or with those before it.
    #[error("histograms are larger than those of any load run")]
    Length,
    /// Another kind of histogram.
    #[error("a histogram has other bounds than 1 ns to 1 h with 3 digits, those of a load run")]
    Bounds,
    /// Numbers that no run counts.
    #[error("a histogram has impossible counts")]
    Counts,
}

impl Packed {
    /// The same numbers in less memory.
    #[must_use]
    pub fn new(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        Packer::new().pack(histogram, &mut bytes);
        Self(bytes)
    }

    /// As [`Packer::pack`] left them.
    pub(crate) fn from_packed(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The histogram itself.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        if self.is_empty() {
            return new_histogram();
        }
        // What comes from outside was checked, so there is none that cannot be read.
        Deserializer::new().deserialize(&mut &self.0[..]).unwrap_or_else(|_| new_histogram())
    }

    /// Adds what another one has.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.is_empty() {
            *self = other.clone();
        } else if !other.is_empty() {
            let mut sum = self.histogram();
            // Cannot fail: all have the same bounds.
            let _ = sum.add(other.histogram());
            *self = Self::new(&sum);
        }
    }

    /// Base64 of the deflated V2 encoding.
    ///
    /// # Errors
    /// Never, as long as there is memory.
    pub fn to_text(&self) -> io::Result<String> {
        let mut nothing = Vec::new();
        let bytes = if self.is_empty() {
            write(&new_histogram(), &mut V2Serializer::new(), &mut nothing);
            &nothing
        } else {
            &self.0
        };
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(bytes)?;
        let deflated = deflated.finish()?;
        let length = u32::try_from(deflated.len()).map_err(io::Error::other)?;
        let head = [V2_DEFLATED.to_be_bytes(), length.to_be_bytes()].concat();
        Ok(BASE64_STANDARD.encode([head, deflated].concat()))
    }

    /// What [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_text(text: &str) -> Result<Self, PackedError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PackedError::Length);
        }
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| PackedError::Base64)?;
        let deflated = match bytes.split_first_chunk::<8>() {
            Some((head, deflated)) if head[..4] == V2_DEFLATED.to_be_bytes() => deflated,
            _ => return Err(PackedError::Deflate),
        };
        let mut inflated = Vec::new();
        let mut limited = ZlibDecoder::new(deflated).take(BYTES_MAX + 1);
        limited.read_to_end(&mut inflated).map_err(|_| PackedError::Deflate)?;
        if inflated.len() as u64 > BYTES_MAX {
            return Err(PackedError::Length);
        }
        let (head, payload) =
            inflated.split_first_chunk::<HEAD_BYTES>().ok_or(PackedError::Deflate)?;
        let expected = Head::ours(payload.len()).ok_or(PackedError::Length)?;
        if head[..8] != expected.0[..8] {
            return Err(PackedError::Deflate);
        }
        if head[8..] != expected.0[8..] {
            return Err(PackedError::Bounds);
        }
        match count(payload) {
            None => Err(PackedError::Counts),
            Some(0) => Ok(Self::default()),
            Some(_) => Ok(Self(inflated)),
        }
    }
}

impl Serialize for Packed {
    fn serialize<W: Writer>(&self, writer: W) -> Result<W::Ok, W::Error> {
        writer.serialize_str(&self.to_text().map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<R: Reader<'de>>(reader: R) -> Result<Self, R::Error> {
        let text = String::deserialize(reader)?;
        let packed = Self::from_text(&text).map_err(de::Error::custom)?;
        match BUDGET_BYTES.get().checked_sub(packed.0.len() as u64) {
            Some(left) => BUDGET_BYTES.set(left),
            None => return Err(de::Error::custom(PackedError::Length)),
        }
        Ok(packed)
    }
}

thread_local! {
    /// What histograms that are read may still take.
    static BUDGET_BYTES: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Reads with `read`, all of whose histograms together may take so many bytes: a small file can
/// have many that are large.
pub(crate) fn within<T>(bytes: u64, read: impl FnOnce() -> T) -> T {
    let before = BUDGET_BYTES.replace(bytes);
    let result = read();
    BUDGET_BYTES.set(before);
    result
}

/// Packs histograms one after another, and allocates nothing for most.
pub(crate) struct Packer(V2Serializer);

impl Packer {
    pub(crate) fn new() -> Self {
        Self(V2Serializer::new())
    }

    /// Appends `histogram` to `bytes` and says how many bytes it took: none if it is empty.
    pub(crate) fn pack(&mut self, histogram: &Histogram<u64>, bytes: &mut Vec<u8>) -> usize {
        let before = bytes.len();
        if !histogram.is_empty() {
            write(histogram, &mut self.0, bytes);
        }
        bytes.len() - before
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

/// One hour in nanoseconds is the longest time; longer ones count as one hour.
pub(crate) fn new_histogram() -> Histogram<u64> {
    // The bounds are constants that hdrhistogram accepts: 1 <= low, 2 * low <= high, digits <= 5.
    Histogram::new_with_bounds(LOW_NS, HIGH_NS, DIGITS)
        .unwrap_or_else(|_| unreachable!("constant bounds"))
}

fn write(histogram: &Histogram<u64>, serializer: &mut V2Serializer, bytes: &mut Vec<u8>) {
    // Fails only for counts beyond i64::MAX.
    let _ = serializer.serialize(histogram, bytes);
}

/// The bytes before the counts.
struct Head([u8; HEAD_BYTES]);

impl Head {
    /// Of our histograms; `None` if no payload is so long.
    fn ours(payload: usize) -> Option<Self> {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&V2.to_be_bytes());
        head[4..8].copy_from_slice(&u32::try_from(payload).ok()?.to_be_bytes());
        // Then four bytes of offset, which is 0.
        head[12..16].copy_from_slice(&u32::from(DIGITS).to_be_bytes());
        head[16..24].copy_from_slice(&LOW_NS.to_be_bytes());
        head[24..32].copy_from_slice(&HIGH_NS.to_be_bytes());
        head[32..].copy_from_slice(&1.0_f64.to_be_bytes());
        Some(Self(head))
    }
}

/// How many values the counts are of; `None` if they are no counts of ours.
///
/// They are ZigZag LEB128 numbers, in the variant whose ninth byte has 8 bits; a negative one
/// stands for so many zeros.
fn count(mut payload: &[u8]) -> Option<u64> {
    let (mut at, mut sum) = (0_u64, 0_u64);
    while !payload.is_empty() {
        let number = varint(&mut payload)?;
        let half = number >> 1;
        if number & 1 == 1 {
            at = at.checked_add(half + 1)?;
        } else {
            at += 1;
            sum = sum.checked_add(half)?;
        }
        if at > DISTINCT || sum > COUNT_MAX {
            return None;
        }
    }
    Some(sum)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..9 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            return Some(value | u64::from(byte) << 56);
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

const LOW_NS: u64 = 1;

/// One hour.
const HIGH_NS: u64 = 3_600_000_000_000;

/// Three significant digits: an error of at most 0.1 %, for 270 KiB.
const DIGITS: u8 = 3;

/// Counts in a histogram of these bounds.
const DISTINCT: u64 = 33_792;

/// Far more than any run makes, and far from where sums overflow.
const COUNT_MAX: u64 = 1 << 50;

const V2: u32 = 0x1c84_9313;
const V2_DEFLATED: u32 = 0x1c84_9314;
const HEAD_BYTES: usize = 40;

/// Nine bytes a count are the most that the encoding needs.
const BYTES_MAX: u64 = HEAD_BYTES as u64 + 9 * DISTINCT;

/// Deflating makes nothing much longer, and base64 by a third.
const TEXT_BYTES_MAX: usize = 1 << 19;

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::V2DeflateSerializer;

    use super::*;

    fn filled() -> Histogram<u64> {
        let mut histogram = new_histogram();
        for at in 0..5_000 {
            histogram.saturating_record(at * at * 977);
        }
        histogram.saturating_record(u64::MAX);
        histogram
    }

    /// Base64 of what the library deflates.
    fn text(histogram: &Histogram<u64>) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).unwrap();
        BASE64_STANDARD.encode(bytes)
    }

    fn deflated(bytes: &[u8]) -> String {
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(bytes).unwrap();
        let deflated = deflated.finish().unwrap();
        let head = [V2_DEFLATED.to_be_bytes(), [0, 0, 0, 9]].concat();
        BASE64_STANDARD.encode([head, deflated].concat())
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        for histogram in [new_histogram(), filled()] {
            let packed = Packed::new(&histogram);
            assert_eq!(packed.is_empty(), histogram.is_empty());
            assert!(packed.0.len() < 20_000, "{}", packed.0.len());
            assert_eq!(packed.histogram(), histogram);
            let again = Packed::from_text(&packed.to_text().unwrap()).unwrap();
            assert_eq!(again, packed);
        }
        assert_eq!(new_histogram().distinct_values() as u64, DISTINCT);
    }

    #[test]
    fn the_library_reads_what_we_write_and_we_what_it_writes() {
        let packed = Packed::new(&filled());
        let bytes = BASE64_STANDARD.decode(packed.to_text().unwrap()).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(read, filled());
        assert_eq!(Packed::from_text(&text(&filled())), Ok(packed));
        assert_eq!(Packed::from_text(&text(&new_histogram())), Ok(Packed::default()));
    }

    #[test]
    fn adding_packed_ones_is_adding() {
        let mut sum = Packed::default();
        for part in [Packed::default(), Packed::new(&filled()), Packed::new(&filled())] {
            sum.add(&part);
        }
        sum.add(&Packed::default());
        assert_eq!(sum.histogram(), filled() + filled());
    }

    #[test]
    fn many_large_ones_are_refused_together() {
        let packed = Packed::new(&filled());
        let size = packed.0.len() as u64;
        let text = serde_json::to_string(&vec![packed; 3]).unwrap();
        let read = || serde_json::from_str::<Vec<Packed>>(&text);
        assert_eq!(within(3 * size, read).unwrap().len(), 3);
        let error = within(3 * size - 1, read).unwrap_err().to_string();
        assert!(error.contains("larger than those of any"), "{error}");
        assert!(read().is_ok(), "it was for that one alone");
    }

    #[test]
    fn what_is_hostile_is_refused() {
        let other = Histogram::<u64>::new_with_bounds(1, 1 << 62, 5).unwrap();
        let head = |payload: usize| Head::ours(payload).unwrap().0.to_vec();
        let with = |payload: &[u8]| deflated(&[head(payload.len()), payload.to_vec()].concat());
        let whole = Packed::new(&filled()).to_text().unwrap();
        for (text, error) in [
            ("!".to_owned(), PackedError::Base64),
            (String::new(), PackedError::Deflate),
            ("AAAA".repeat(30), PackedError::Deflate),
            (whole[..whole.len() / 8 * 4].to_owned(), PackedError::Deflate),
            ("A".repeat(TEXT_BYTES_MAX + 1), PackedError::Length),
            // A bomb: ten million zeros deflate to ten thousand bytes.
            (deflated(&vec![0; 10_000_000]), PackedError::Length),
            (deflated(&head(0)[..39]), PackedError::Deflate),
            (deflated(&head(7)), PackedError::Deflate),
            (text(&other), PackedError::Bounds),
            // Cut off in a number; more zeros than counts; -2^63 zeros; more values than can be.
            (with(&[0x80]), PackedError::Counts),
            (with(&[0xff, 0xff, 0xff, 0x7f]), PackedError::Counts),
            (with(&[0xff; 9]), PackedError::Counts),
            (with(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), PackedError::Counts),
            (with(&vec![2; 33_793]), PackedError::Counts),
        ] {
            assert_eq!(Packed::from_text(&text), Err(error), "{error}");
        }
        assert_eq!(Packed::from_text(&with(&[0; 33_792])), Ok(Packed::default()));
    }
}
