//! answers looks at the stateless resets that XDP writes: every byte of them, and how many.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use common::{XDP_DROP, XDP_PASS, XDP_TX, returned, settings, since, steering};
use quiclane_ebpf::{Answers, Budget, Count, Program, Settings, Steering};
use quiclane_wire::fixtures::{CARRIERS, LIVE_EPOCH, RETIRED_EPOCH, fixtures, world};
use quiclane_wire::{
    IpVersion, Located, Parts, RESET_LEN_MAX, RESET_LEN_MIN, TRIGGER_LEN_MIN, Unanswered, locate,
    token, worker_key,
};

const UNLIMITED: Answers = Answers { prefix: Budget::UNLIMITED, all: Budget::UNLIMITED };

fn answering(test: &str, answers: Answers) -> Option<Steering> {
    let mut steering = steering(test)?;
    steering.apply(&Settings { answers: Some(answers), ..settings() }).unwrap();
    Some(steering)
}

/// A short header of worker `worker` of an epoch, and its connection ID.
fn packet(epoch: u8, worker: u8, unique: u64, len: usize) -> (Vec<u8>, Vec<u8>) {
    let (layout, _, epochs) = world();
    let parts = Parts { worker, epoch, unique };
    let cid = layout.encode(&epochs.get(epoch).check_key, parts).as_slice().to_vec();
    let mut packet = vec![0x41];
    packet.extend(&cid);
    packet.resize(len, 0xab);
    (packet, cid)
}

/// Sums to all ones with its own checksum in it (RFC 1071).
fn sums_up(pieces: &[&[u8]]) -> bool {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

/// Takes an answer to `frame` apart; returns its payload.
fn checked(frame: &[u8], answer: &[u8]) -> Vec<u8> {
    let (there, back) = (locate(frame).unwrap(), locate(answer).unwrap());
    let Located { ip, source_at, payload_at, payload_len, .. } = back;
    assert_eq!((ip, back.ip_at()), (there.ip, there.ip_at()));
    assert_eq!(answer.len(), payload_at + payload_len, "nothing behind it");
    assert_eq!((&answer[..6], &answer[6..12]), (&frame[6..12], &frame[..6]));
    assert_eq!(answer[12..back.ip_at()], frame[12..there.ip_at()], "tags");
    assert_eq!((back.source_port, back.target_port), (there.target_port, there.source_port));
    let at = |located: &Located| (located.source_at, located.target_at(), located.ip_at());
    let ((source, target, ip_at), address_len) = (at(&back), back.target_at() - source_at);
    assert_eq!(answer[source..target], frame[target..target + address_len]);
    assert_eq!(answer[target..target + address_len], frame[source..target]);
    let udp = &answer[payload_at - 8..];
    let udp_len = u16::try_from(udp.len()).unwrap().to_be_bytes();
    assert_ne!(udp[6..8], [0, 0], "a checksum of zero means none");
    let addresses = &answer[source..target + address_len];
    assert!(sums_up(&[addresses, &[0, 17], &udp_len, udp]), "UDP checksum");
    match ip {
        IpVersion::V4 => assert!(sums_up(&[&answer[ip_at..ip_at + 20]]), "IPv4 checksum"),
        IpVersion::V6 => assert_eq!(answer[ip_at + 7], 64, "hop limit"),
    }
    answer[payload_at..].to_vec()
}

#[test]
fn a_hundred_thousand_answers_are_right_in_every_byte() {
    let Some(mut steering) = answering("answers of XDP", UNLIMITED) else { return };
    let (_, _, epochs) = world();
    let root = epochs.get(RETIRED_EPOCH).reset_root;
    // Plain IPv4 and IPv6, and both with tags.
    let carriers = [0, 1, 4, 5, 7].map(|carrier| CARRIERS[carrier]);
    let (mut bytes_in, mut bytes_out, mut lengths) = (0, 0, [0; RESET_LEN_MAX + 1]);
    let before = steering.counts().unwrap();
    for n in 0..ANSWERS {
        let len = TRIGGER_LEN_MIN + usize::try_from(n % 1_300).unwrap();
        let (packet, cid) = packet(RETIRED_EPOCH, n.to_le_bytes()[0], n, len);
        let carrier = carriers[usize::try_from(n / 1_300 % 5).unwrap()];
        let port = 20_000 + u16::try_from(n % 40_000).unwrap();
        let frame = carrier.frame_between(port, 4433, &packet);
        let (action, answer) = steering.run_once(Program::Steer, frame.as_slice()).unwrap();
        assert_eq!(action, XDP_TX, "{n}: {len} bytes");
        let reset = checked(frame.as_slice(), &answer);
        let expected = token(&worker_key(&root, n.to_le_bytes()[0]), &cid);
        assert!(reset.ends_with(&expected), "{n}: the token");
        assert_eq!(reset[0] >> 6, 0b01);
        assert!((RESET_LEN_MIN..=RESET_LEN_MAX).contains(&reset.len()) && reset.len() < len);
        assert!(len > 43 || reset.len() == len - 1, "{len}: {}", reset.len());
        lengths[reset.len()] += 1;
        (bytes_in, bytes_out) = (bytes_in + len, bytes_out + reset.len());
    }
    assert_eq!(since(&steering, &before), [(Count::Answered, ANSWERS)]);
    assert!(bytes_out < bytes_in);
    assert!(lengths[RESET_LEN_MIN..].iter().all(|count| *count > 0), "{lengths:?}");
}

#[test]
fn the_noise_of_two_answers_differs() {
    let Some(mut steering) = answering("noise", UNLIMITED) else { return };
    let mut seen = Vec::new();
    for n in 0..1_000 {
        let (packet, _) = packet(RETIRED_EPOCH, 1, n, 1_200);
        let frame = CARRIERS[0].frame(&packet);
        let (_, answer) = steering.run_once(Program::Steer, frame.as_slice()).unwrap();
        seen.extend(answer[42..66].as_chunks::<8>().0.to_vec());
    }
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all, "eight bytes twice");
}

/// Asserts that the one frame since `before` is in a count with the action that was taken.
fn is_what_the_metrics_say(steering: &Steering, before: &[(Count, u64)], action: u32, what: &str) {
    let counts = since(steering, before);
    let [(count, 1)] = counts[..] else { panic!("{what}: not one frame in {counts:?}") };
    assert_eq!(returned(count), action, "{what}: {count:?}");
}

#[test]
fn nothing_but_an_orphan_is_ever_answered() {
    let Some(mut steering) = answering("who is answered", UNLIMITED) else { return };
    for carrier in CARRIERS {
        for fixture in fixtures() {
            let frame = carrier.frame(fixture.bytes.as_slice());
            let before = steering.counts().unwrap();
            let (action, _) = steering.run_once(Program::Steer, frame.as_slice()).unwrap();
            let orphan = since(&steering, &before).iter().any(|(count, _)| {
                matches!(count, Count::Orphan | Count::Answered | Count::Unanswered(_))
            });
            assert!(action != XDP_TX || orphan, "{}", fixture.name);
            is_what_the_metrics_say(&steering, &before, action, fixture.name);
        }
    }
    let (live, _) = packet(LIVE_EPOCH, 1, 1, 100);
    let (orphan, _) = packet(RETIRED_EPOCH, 1, 1, 100);
    let mut forged = orphan.clone();
    forged[5] ^= 1;
    let plain = |payload: &[u8]| CARRIERS[0].frame(payload).as_slice().to_vec();
    let mut to_group = plain(&orphan);
    to_group[0] |= 1;
    let options = CARRIERS[2].frame(&orphan).as_slice().to_vec();
    let domain = CARRIERS[0].frame_between(53, 4433, &orphan).as_slice().to_vec();
    for (what, frame, expected) in [
        ("live", plain(&live), XDP_PASS),
        ("forged", plain(&forged), XDP_DROP),
        ("to a group of hosts", to_group, XDP_PASS),
        ("IPv4 options: for the workers", options, XDP_PASS),
        ("from a port of a reflecting service", domain, XDP_DROP),
        ("an orphan", plain(&orphan), XDP_TX),
    ] {
        let before = steering.counts().unwrap();
        let (action, after) = steering.run_once(Program::Steer, &frame).unwrap();
        assert_eq!(action, expected, "{what}");
        is_what_the_metrics_say(&steering, &before, action, what);
        assert!(action == XDP_TX || after == frame, "{what} is left as it is");
    }
    // The program without CAP_PERFMON leaves answers to the workers, and so does this one if told.
    let frame = plain(&orphan);
    assert_eq!(steering.run_once(Program::SteerCopied, &frame).unwrap().0, XDP_PASS);
    steering.apply(&settings()).unwrap();
    assert_eq!(steering.run_once(Program::Steer, &frame).unwrap().0, XDP_PASS);
}

#[test]
fn a_connection_is_answered_once_in_a_while() {
    let Some(mut steering) = answering("repeated answers", UNLIMITED) else { return };
    let (packet, _) = packet(RETIRED_EPOCH, 1, 1, 100);
    let before = steering.counts().unwrap();
    let frame = CARRIERS[0].frame(&packet);
    for expected in [XDP_TX, XDP_DROP, XDP_DROP] {
        let before = steering.counts().unwrap();
        assert_eq!(steering.run_once(Program::Steer, frame.as_slice()).unwrap().0, expected);
        is_what_the_metrics_say(&steering, &before, expected, "repeated");
    }
    let other_port = CARRIERS[0].frame_between(7_777, 4433, &packet);
    assert_eq!(steering.run_once(Program::Steer, other_port.as_slice()).unwrap().0, XDP_TX);
    let repeated = Count::Unanswered(Unanswered::Repeated);
    assert_eq!(since(&steering, &before), [(Count::Answered, 2), (repeated, 2)]);
    std::thread::sleep(std::time::Duration::from_millis(120));
    assert_eq!(steering.run_once(Program::Steer, frame.as_slice()).unwrap().0, XDP_TX);
}

#[test]
fn prefixes_and_all_sources_have_their_budgets() {
    let answers = Answers { prefix: Budget::new(1, 100), all: Budget::new(1, 150) };
    let Some(mut steering) = answering("budgets of answers", answers) else { return };
    let mut unique = 0;
    let mut round = |steering: &mut Steering, carrier: usize| {
        let before = steering.counts().unwrap();
        for _ in 0..200 {
            unique += 1;
            let (packet, _) = packet(RETIRED_EPOCH, 1, unique, 100);
            let frame = CARRIERS[carrier].frame(&packet);
            steering.run_once(Program::Steer, frame.as_slice()).unwrap();
        }
        since(steering, &before)
    };
    let [prefix, all] = [Unanswered::PrefixBudget, Unanswered::ResetBudget].map(Count::Unanswered);
    assert_eq!(round(&mut steering, 0), [(Count::Answered, 100), (prefix, 100)]);
    assert_eq!(round(&mut steering, 1), [(Count::Answered, 50), (all, 150)]);
}

const ANSWERS: u64 = 100_000;
