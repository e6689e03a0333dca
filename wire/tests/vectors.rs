//! vectors runs the table of fixtures against `classify`, in user space and behind another memory.
#![cfg(feature = "fixtures")]

use quiclane_wire::fixtures::{Fixture, LIVE_EPOCH, fixtures, world};
use quiclane_wire::{
    Bytes, Key, Parts, Reason, UniqueSequence, Verdict, classify, spread, token, worker_key,
};

#[test]
fn every_fixture_gets_its_verdict() {
    let (layout, spread_key, epochs) = world();
    for fixture in fixtures() {
        let verdict = classify(fixture.bytes.as_slice(), &layout, &spread_key, &epochs);
        assert_eq!(verdict, fixture.verdict, "{}: {:?}", fixture.name, fixture.bytes);
    }
}

/// Damage may change what a packet says, but never brings it to another worker.
#[test]
fn no_prefix_and_no_flipped_bit_of_a_fixture_strays() {
    let (layout, spread_key, epochs) = world();
    for Fixture { name, bytes, verdict } in fixtures() {
        let stays = |datagram: &[u8]| {
            let damaged = classify(datagram, &layout, &spread_key, &epochs);
            assert!(damaged == verdict || !is_owned(damaged), "{name}: {datagram:02x?}");
        };
        let whole = bytes.as_slice();
        for len in 0..whole.len() {
            stays(&whole[..len]);
        }
        if !is_owned(verdict) {
            // One flipped bit may repair a fixture that has one.
            continue;
        }
        let mut damaged = whole.to_vec();
        for bit in 0..8 * whole.len().min(64) {
            damaged[bit / 8] ^= 1 << (bit % 8);
            stays(&damaged);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

fn is_owned(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Live { .. } | Verdict::Draining { .. } | Verdict::Orphan { .. } => true,
        Verdict::Initial { .. } | Verdict::OtherLong | Verdict::Junk(_) => false,
    }
}

/// Packet memory that only gives bytes away one by one, as unlike a slice as can be.
struct Tape(Vec<u8>);

impl Bytes for Tape {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for (offset, byte) in bytes.iter_mut().enumerate() {
            *byte = *self.0.get(at.checked_add(offset)?)?;
        }
        Some(bytes)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[test]
fn every_fixture_gets_its_verdict_from_another_memory() {
    let (layout, spread_key, epochs) = world();
    for fixture in fixtures() {
        let tape = Tape(fixture.bytes.as_slice().to_vec());
        let verdict = classify(&tape, &layout, &spread_key, &epochs);
        assert_eq!(verdict, fixture.verdict, "{}", fixture.name);
    }
}

#[test]
fn the_table_covers_every_verdict_and_reason() {
    let verdicts: Vec<Verdict> = fixtures().map(|fixture| fixture.verdict).collect();
    for reason in Reason::ALL {
        let covered = verdicts.contains(&Verdict::Junk(reason));
        // Ports and budgets are no properties of a payload.
        assert_eq!(covered, (reason as u8) < Reason::BlockedPort as u8, "{reason}");
    }
    let covers = |wanted: fn(&Verdict) -> bool| verdicts.iter().any(wanted);
    assert!(covers(|verdict| matches!(verdict, Verdict::Live { .. })));
    assert!(covers(|verdict| matches!(verdict, Verdict::Initial { .. })));
    assert!(covers(|verdict| matches!(verdict, Verdict::OtherLong)));
    assert!(covers(|verdict| matches!(verdict, Verdict::Draining { .. })));
    assert!(covers(|verdict| matches!(verdict, Verdict::Orphan { .. })));
    assert!(verdicts.len() >= 90, "{} fixtures", verdicts.len());
}

#[test]
fn fixtures_have_names_of_their_own() {
    let mut names: Vec<&str> = fixtures().map(|fixture| fixture.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn fixtures_have_the_lengths_they_claim() {
    let lengths: Vec<usize> = fixtures().map(|fixture| fixture.bytes.as_slice().len()).collect();
    for length in [0, 1, 16, 20, 21, 22, 1199, 1200, 1500] {
        assert!(lengths.contains(&length), "no fixture of {length} bytes");
    }
}

/// Bytes on the wire must not change: the connections of an old process carry them. The values come
/// from another implementation of the layout.
#[test]
fn the_bytes_are_frozen() {
    let (layout, spread_key, epochs) = world();
    let entry = epochs.get(LIVE_EPOCH);
    let parts = Parts { worker: 2, epoch: LIVE_EPOCH, unique: 0x01_2345_6789 };
    let cid = layout.encode(&entry.check_key, parts);
    assert_eq!(hex(cid.as_slice()), "0ec4605e02070123456789e03815d8");
    let token = token(&worker_key(&entry.reset_root, 2), cid.as_slice());
    assert_eq!(hex(&token), "4ab0e83acf337039b55afcf7d947f2da");

    let client_chosen = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
    assert_eq!(spread(&spread_key, &client_chosen), 0x5207_0547_831b_789c);

    let key = Key::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    let unique: Vec<u64> = UniqueSequence::new(key, u64::MAX).take(3).collect();
    assert_eq!(unique, [0x01_aefe_f295, 0xe0_0269_c2b3, 0x28_7a9c_2da8]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
