//! The qpack crate as an oracle, both ways, on generated field lists of every byte.

use ::qpack::{HeaderField, decode_stateless, encode_stateless};

use super::decode::{SectionLimits, decode};
use super::encode;
use super::fields::Fields;
use super::static_table;

type Field = (Vec<u8>, Vec<u8>);

/// splitmix64: a list of numbers for every seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A text: mostly letters and digits, sometimes any bytes, seldom long.
    fn text(&mut self) -> Vec<u8> {
        let long = if self.below(50) == 0 { 2_000 } else { 40 };
        let length = self.below(long);
        let any = self.below(4) == 0;
        let letters = b"abcdefghijklmnopqrstuvwxyz0123456789-/.=; ABC%&?\"<{";
        let mut byte = || {
            let n = self.next();
            let letter = letters[usize::try_from(n % letters.len() as u64).unwrap()];
            if any { n.to_be_bytes()[0] } else { letter }
        };
        (0..length).map(|_| byte()).collect()
    }

    fn field(&mut self) -> Field {
        let known = static_table::get(self.below(99)).unwrap();
        match self.below(4) {
            0 => (known.0.to_vec(), known.1.to_vec()),
            1 => (known.0.to_vec(), self.text()),
            _ => (self.text(), self.text()),
        }
    }
}

fn encoded(fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    encode::begin(&mut block);
    let size: u64 = fields.iter().map(|(name, value)| encode::line(name, value, &mut block)).sum();
    assert_eq!(size, fields.iter().map(|(n, v)| (n.len() + v.len() + 32) as u64).sum::<u64>());
    block
}

fn decoded(block: &[u8], fields: &mut Fields) -> Vec<Field> {
    let limits = SectionLimits { section_bytes_max: u64::MAX, fields_max: usize::MAX };
    decode(block, limits, fields).unwrap();
    fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

#[test]
fn the_qpack_crate_and_we_read_each_other_on_100_000_lists() {
    let (mut numbers, mut memory) = (Numbers(1), Fields::default());
    let (mut ours_bytes, mut theirs_bytes) = (0, 0);
    for seed in 0..100_000 {
        let fields: Vec<Field> = (0..numbers.below(8)).map(|_| numbers.field()).collect();

        let ours = encoded(&fields);
        let read = decode_stateless(&mut &ours[..], u64::MAX).unwrap();
        let read = read.fields.into_iter().map(HeaderField::into_inner);
        let read: Vec<Field> = read.map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
        assert_eq!(read, fields, "list {seed}, ours read by theirs");

        let mut theirs = Vec::new();
        let of = |(name, value): &Field| HeaderField::new(name.clone(), value.clone());
        encode_stateless(&mut theirs, fields.iter().map(of)).unwrap();
        assert_eq!(decoded(&theirs, &mut memory), fields, "list {seed}, theirs read by ours");
        assert_eq!(decoded(&ours, &mut memory), fields, "list {seed}, ours read by ours");

        ours_bytes += ours.len();
        theirs_bytes += theirs.len();
    }
    println!("100,000 lists: {ours_bytes} bytes ours, {theirs_bytes} theirs");
    assert!(ours_bytes <= theirs_bytes);
}

#[test]
fn the_qpack_crate_and_we_agree_on_broken_sections() {
    let (mut numbers, mut memory) = (Numbers(2), Fields::default());
    let limits = SectionLimits { section_bytes_max: u64::MAX, fields_max: usize::MAX };
    let (mut both, mut neither) = (0, 0);
    for seed in 0..100_000 {
        let fields: Vec<Field> = (0..1 + numbers.below(3)).map(|_| numbers.field()).collect();
        let mut block = encoded(&fields);
        // One byte of the first lines is another, or the end is missing.
        let at = usize::try_from(numbers.below(block.len().min(40) as u64)).unwrap();
        match numbers.below(4) {
            0 => block.truncate(at),
            _ => block[at] ^= 1 << numbers.below(8),
        }
        let ours = decode(&block, limits, &mut memory);
        let theirs = decode_stateless(&mut &block[..], u64::MAX);
        if let (Ok(()), Ok(theirs)) = (&ours, &theirs) {
            let ours: Vec<_> = memory.iter().map(|field| (field.name, field.value)).collect();
            let theirs: Vec<_> = theirs.fields.iter().map(|f| (&*f.name, &*f.value)).collect();
            assert_eq!(ours, theirs, "list {seed}");
        }
        match (ours.is_ok(), theirs.is_ok()) {
            (true, true) => both += 1,
            (false, false) => neither += 1,
            // It takes bad paddings, bases and insert counts, against the RFC.
            (false, true) => {}
            (true, false) => panic!("list {seed}: only we take {block:x?}: {theirs:?}"),
        }
    }
    println!("of 100,000 broken sections both take {both}, both refuse {neither}");
    assert!(both > 10_000 && neither > 10_000);
}
