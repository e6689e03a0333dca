//! properties holds for every input what the vectors show for some.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use quiclane_wire::{
    ConnectionId, EpochEntry, EpochState, EpochTable, Key, Layout, Parts, RESET_LEN_MAX,
    RESET_LEN_MIN, Reason, ServerId, TOKEN_LEN, UniqueSequence, Verdict, classify, peek, reset_len,
    spread, token, token_words, worker_key, worker_key_words, worker_of_spread, write_reset,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(world in world(), datagram in vec(any::<u8>(), 0..=1500)) {
        let World { layout, spread_key, epochs } = world;
        let verdict = classify(&datagram[..], &layout, &spread_key, &epochs);
        prop_assert_eq!(datagram.is_empty(), verdict == Verdict::Junk(Reason::Empty));
    }

    #[test]
    fn random_long_headers_never_panic(
        world in world(),
        first in 0x80_u8..,
        version in prop_oneof![Just(0_u32), Just(1), Just(0x6b33_43cf), any::<u32>()],
        dcid_len in 0_u8..=22,
        rest in vec(any::<u8>(), 0..=1500),
    ) {
        let World { layout, spread_key, epochs } = world;
        let mut datagram = vec![first];
        datagram.extend(version.to_be_bytes());
        datagram.push(dcid_len);
        datagram.extend(rest);
        let verdict = classify(&datagram[..], &layout, &spread_key, &epochs);
        if let Verdict::OtherLong | Verdict::Initial { .. } = verdict {
            prop_assert!(peek(&datagram[..]).is_ok());
        }
    }

    #[test]
    fn a_cid_of_ours_comes_home(
        world in world(),
        parts in parts(),
        first in any::<u8>(),
        rest in vec(any::<u8>(), 20..1400),
    ) {
        let World { layout, spread_key, epochs } = world;
        let entry = epochs.get(parts.epoch);
        let cid = layout.encode(&entry.check_key, parts);
        prop_assert_eq!(cid.len(), layout.cid_len());
        prop_assert_eq!(layout.epoch_of(cid.as_slice()), Some(parts.epoch));
        prop_assert_eq!(layout.decode(&entry.check_key, cid.as_slice()), Some(parts));

        let Parts { worker, epoch, .. } = parts;
        let owner = match entry.state {
            EpochState::Unknown => Verdict::Junk(Reason::UnknownEpoch),
            EpochState::Retired => Verdict::Orphan { epoch, worker },
            _ if worker >= entry.workers => Verdict::Junk(Reason::UnroutableWorker),
            EpochState::Live => Verdict::Live { worker },
            EpochState::Draining => Verdict::Draining { epoch, worker },
        };
        let datagram = short(first, &cid, &rest);
        prop_assert_eq!(classify(&datagram[..], &layout, &spread_key, &epochs), owner);

        let datagram = long(HANDSHAKE | first & 0x4f, &cid, &rest);
        let owner = match owner {
            Verdict::Orphan { .. } => Verdict::Junk(Reason::UnknownHandshakeCid),
            owner => owner,
        };
        prop_assert_eq!(classify(&datagram[..], &layout, &spread_key, &epochs), owner);
    }

    #[test]
    fn a_flipped_bit_reaches_no_worker(
        world in world(),
        parts in parts(),
        rest in vec(any::<u8>(), 20..100),
    ) {
        let World { layout, spread_key, epochs } = world;
        let cid = layout.encode(&epochs.get(parts.epoch).check_key, parts);
        for bit in 0..8 * cid.len() {
            let mut bytes = cid.as_slice().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = ConnectionId::from_slice(&bytes).unwrap();
            for datagram in [short(0x40, &flipped, &rest), long(HANDSHAKE, &flipped, &rest)] {
                let verdict = classify(&datagram[..], &layout, &spread_key, &epochs);
                prop_assert!(matches!(verdict, Verdict::Junk(_)), "bit {}: {:?}", bit, verdict);
            }
        }
    }

    #[test]
    fn only_the_right_key_and_length_decode(
        server in server_id(),
        parts in parts(),
        right in key(),
        wrong in key(),
        more in any::<u8>(),
    ) {
        let layout = Layout::new(server);
        let cid = layout.encode(&right, parts);
        prop_assert_eq!(layout.decode(&wrong, cid.as_slice()), None);
        for len in 0..cid.len() {
            prop_assert_eq!(layout.decode(&right, &cid.as_slice()[..len]), None);
            prop_assert_eq!(layout.epoch_of(&cid.as_slice()[..len]), None);
        }
        let mut longer = cid.as_slice().to_vec();
        longer.push(more);
        prop_assert_eq!(layout.decode(&right, &longer), None);
        prop_assert_eq!(layout.epoch_of(&longer), None);
    }

    #[test]
    fn the_offsets_are_where_the_bytes_are(
        server in server_id(),
        parts in parts(),
        key in key(),
    ) {
        let layout = Layout::new(server);
        let cid = layout.encode(&key, parts);
        let bytes = cid.as_slice();
        prop_assert_eq!(bytes[0], layout.first_byte());
        prop_assert_eq!(usize::from(bytes[0] & 0x1f), bytes.len() - 1);
        prop_assert_eq!(bytes[0] >> 5, if server.is_empty() { 7 } else { 0 });
        prop_assert_eq!(&bytes[1..layout.worker_at()], server.as_slice());
        prop_assert_eq!(bytes[layout.worker_at()], parts.worker);
        prop_assert_eq!(bytes[layout.epoch_at()], parts.epoch);
        let unique = &bytes[layout.unique_at()..layout.check_at()];
        prop_assert_eq!(unique, &parts.unique.to_be_bytes()[3..]);
        prop_assert_eq!(bytes.len() - layout.check_at(), 4);
    }

    #[test]
    fn a_spread_falls_to_a_worker(spread in any::<u64>(), workers in 1_u8..) {
        prop_assert!(worker_of_spread(spread, workers) < workers);
        prop_assert_eq!(worker_of_spread(spread, 0), 0);
        prop_assert_eq!(worker_of_spread(0, workers), 0);
        prop_assert_eq!(worker_of_spread(u64::MAX, workers), workers - 1);
    }

    #[test]
    fn the_spread_of_an_initial_is_that_of_its_dcid(
        world in world(),
        dcid in vec(any::<u8>(), 8..=20),
        kind in prop_oneof![Just(0xc0_u8), Just(0xd0)],
        fixed in prop_oneof![Just(0_u8), Just(0x40)],
    ) {
        let World { layout, spread_key, epochs } = world;
        let dcid = ConnectionId::from_slice(&dcid).unwrap();
        let datagram = long(kind ^ fixed, &dcid, &[0; 1200]);
        let spread = spread(&spread_key, dcid.as_slice());
        let verdict = classify(&datagram[..], &layout, &spread_key, &epochs);
        prop_assert_eq!(verdict, Verdict::Initial { spread });
    }

    #[test]
    fn a_cid_is_its_bytes(bytes in vec(any::<u8>(), 0..=24)) {
        let cid = ConnectionId::from_slice(&bytes);
        prop_assert_eq!(cid.is_some(), bytes.len() <= ConnectionId::LEN_MAX);
        if let Some(cid) = cid {
            prop_assert_eq!(cid.as_slice(), &bytes[..]);
            prop_assert_eq!(cid.len(), bytes.len());
            prop_assert_eq!(cid.is_empty(), bytes.is_empty());
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(format!("{cid:?}"), hex);
        }
    }

    #[test]
    fn a_reset_ends_in_its_token_and_is_never_ours(
        world in world(),
        parts in parts(),
        trigger_len in 22_usize..=1500,
        seed in any::<u64>(),
    ) {
        let World { layout, spread_key, epochs } = world;
        let entry = epochs.get(parts.epoch);
        let cid = layout.encode(&entry.check_key, parts);
        let token = token(&worker_key(&entry.reset_root, parts.worker), cid.as_slice());
        let mut random = noise(seed);
        let len = reset_len(trigger_len, random()).unwrap();

        let mut out = [0xaa; RESET_LEN_MAX + 8];
        prop_assert!(write_reset(&mut out, len, &token, &mut random));
        let (reset, untouched) = out.split_at(len);
        prop_assert_eq!(reset[0] >> 6, 0b01);
        prop_assert_eq!(&reset[len - TOKEN_LEN..], &token);
        prop_assert!(untouched.iter().all(|byte| *byte == 0xaa));
        let verdict = classify(reset, &layout, &spread_key, &epochs);
        prop_assert!(matches!(verdict, Verdict::Junk(_)), "{:?}", verdict);
    }
}

#[test]
fn a_reset_is_always_smaller_than_its_trigger() {
    let mut random = noise(1);
    for trigger_len in 0..=1500 {
        let mut lengths = HashSet::new();
        for _ in 0..200 {
            let Some(len) = reset_len(trigger_len, random()) else {
                assert!(trigger_len < 22, "no answer to {trigger_len} bytes");
                continue;
            };
            assert!(trigger_len >= 22);
            assert!(len < trigger_len);
            assert!((RESET_LEN_MIN..=RESET_LEN_MAX).contains(&len));
            if trigger_len <= 43 {
                assert_eq!(len, trigger_len - 1);
            }
            lengths.insert(len);
        }
        if trigger_len > RESET_LEN_MAX {
            assert_eq!(lengths.len(), 16, "{trigger_len} bytes");
            assert!(lengths.iter().all(|len| *len >= 43));
        }
    }
    assert_eq!(reset_len(usize::MAX, u64::MAX), Some(RESET_LEN_MAX));
}

#[test]
fn a_reset_that_does_not_fit_is_not_written() {
    let mut random = noise(2);
    for (room, len) in [(64, 20), (64, 0), (64, 65), (20, 21), (0, 21), (64, usize::MAX)] {
        let mut out = vec![0xaa; room];
        assert!(!write_reset(&mut out, len, &[1; TOKEN_LEN], &mut random));
        assert!(out.iter().all(|byte| *byte == 0xaa));
    }
    let mut out = [0; RESET_LEN_MIN];
    assert!(write_reset(&mut out, RESET_LEN_MIN, &[1; TOKEN_LEN], &mut random));
}

#[test]
fn every_unpredictable_byte_of_a_reset_varies() {
    let mut random = noise(3);
    let mut seen = vec![HashSet::new(); RESET_LEN_MAX - TOKEN_LEN];
    for _ in 0..200 {
        let mut out = [0; RESET_LEN_MAX];
        assert!(write_reset(&mut out, RESET_LEN_MAX, &[0; TOKEN_LEN], &mut random));
        for (seen, byte) in seen.iter_mut().zip(out) {
            seen.insert(byte);
        }
    }
    // The first byte has six free bits, all others eight.
    assert!(seen[0].len() > 50);
    assert!(seen[1..].iter().all(|seen| seen.len() > 100));
}

#[test]
fn workers_and_cids_have_tokens_of_their_own() {
    let root = Key { k0: 1, k1: 2 };
    let mut tokens = HashSet::new();
    for worker in 0..=u8::MAX {
        for cid in 0..16_u8 {
            tokens.insert(token(&worker_key(&root, worker), &[cid; 12]));
        }
    }
    assert_eq!(tokens.len(), 256 * 16);
}

/// The kernel's program reads words where everybody else reads bytes.
#[test]
fn the_kernels_form_of_a_token_is_the_same() {
    let root = Key { k0: 1, k1: 2 };
    for server_len in 0..=8 {
        let layout = Layout::new(ServerId::new(&[7; 8][..server_len]).unwrap());
        for n in 0..1_000_u64 {
            let parts = Parts { worker: n.to_le_bytes()[0], epoch: 9, unique: n * 0x1_0000_0001 };
            let cid = layout.encode(&root, parts);
            let packet = [&[0x41], cid.as_slice(), &[0xab; 8]].concat();
            let [k0, k1] = worker_key_words(&root, parts.worker);
            let words = token_words(&packet[..], &layout, &Key { k0, k1 }).unwrap();
            let expected = token(&worker_key(&root, parts.worker), cid.as_slice());
            assert_eq!(words.map(u64::to_le_bytes).as_flattened(), expected);
            let (name, check) = layout.connection(&packet[..]).unwrap();
            let bytes = cid.as_slice();
            assert_eq!(name.to_le_bytes()[..7], bytes[layout.worker_at()..layout.check_at()]);
            assert_eq!(check.to_le_bytes(), bytes[layout.check_at()..]);
        }
    }
}

#[test]
fn a_spread_is_even() {
    let key = Key { k0: 3, k1: 4 };
    for workers in [2_u8, 3, 7, 64, 255] {
        let per_worker = 1000_u32;
        let mut counts = vec![0_u32; usize::from(workers)];
        for dcid in 0..u64::from(workers) * u64::from(per_worker) {
            let worker = worker_of_spread(spread(&key, &dcid.to_be_bytes()), workers);
            counts[usize::from(worker)] += 1;
        }
        // Six standard deviations, about 32 each.
        assert!(counts.iter().all(|count| count.abs_diff(per_worker) < 190), "{counts:?}");
    }
}

#[test]
fn a_million_unique_numbers_do_not_repeat() {
    let sequence = UniqueSequence::new(Key { k0: 5, k1: 6 }, u64::MAX - 500_000);
    let mut seen: Vec<u64> = sequence.take(1_000_000).collect();
    assert!(seen.iter().all(|unique| *unique < 1 << 40));
    assert!(!seen.is_sorted());
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1_000_000);
}

/// A server with any server ID, any keys and 256 epochs in all states.
#[derive(Clone, Debug)]
struct World {
    layout: Layout,
    spread_key: Key,
    epochs: EpochTable,
}

fn world() -> impl Strategy<Value = World> {
    (server_id(), key(), any::<u64>()).prop_map(|(server, spread_key, seed)| {
        let mut random = noise(seed);
        let mut epochs = EpochTable::unknown();
        for epoch in 0..=u8::MAX {
            let [state, workers, ..] = random().to_le_bytes();
            let entry = EpochEntry {
                state: EpochState::from_u8(state & 3),
                check_key: Key { k0: random(), k1: random() },
                reset_root: Key { k0: random(), k1: random() },
                workers,
            };
            epochs.set(epoch, entry);
        }
        World { layout: Layout::new(server), spread_key, epochs }
    })
}

fn server_id() -> impl Strategy<Value = ServerId> {
    vec(any::<u8>(), 0..=ServerId::LEN_MAX)
        .prop_filter_map("at most 8 bytes", |id| ServerId::new(&id))
}

fn key() -> impl Strategy<Value = Key> {
    any::<[u8; 16]>().prop_map(Key::from_bytes)
}

fn parts() -> impl Strategy<Value = Parts> {
    (any::<u8>(), any::<u8>(), 0..1_u64 << 40).prop_map(|(worker, epoch, unique)| Parts {
        worker,
        epoch,
        unique,
    })
}

fn short(first: u8, cid: &ConnectionId, rest: &[u8]) -> Vec<u8> {
    [&[first & 0x7f], cid.as_slice(), rest].concat()
}

/// A version 1 packet with a long header and no SCID.
fn long(first: u8, cid: &ConnectionId, rest: &[u8]) -> Vec<u8> {
    let [cid_len, ..] = cid.len().to_le_bytes();
    let head = [first, 0, 0, 0, 1, cid_len];
    [&head[..], cid.as_slice(), &[0], rest].concat()
}

/// Splitmix64: numbers that look random and repeat with the seed.
fn noise(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The first byte of a Handshake packet whose fixed bit is greased.
const HANDSHAKE: u8 = 0xa0;
