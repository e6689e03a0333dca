//! answers looks at the stateless resets that XDP writes: every byte of them, and how many.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use common::{XDP_DROP, XDP_PASS, XDP_TX, returned, settings, since, steering};
use quiclane_ebpf::{Answers, Budget, Count, Program, Settings, Steering};
use quiclane_wire::fixtures::{CARRIERS, LIVE_EPOCH, RETIRED_EPOCH, fixtures, world};
use quiclane_wire::{
    IpVersion, Layout, Located, Parts, RESET_LEN_MAX, RESET_LEN_MIN, ServerId, TRIGGER_LEN_MIN,
    Unanswered, locate, token, worker_key,
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

/// The answer to `frame`, of a connection that had none before. Where another one has the same
/// place and number by chance, one in some millions, it is asked for again a little later.
fn answer(steering: &mut Steering, frame: &[u8]) -> Vec<u8> {
    let (mut action, mut answer) = steering.run_once(Program::Steer, frame).unwrap();
    if action == XDP_DROP {
        thread::sleep(Duration::from_millis(120));
        (action, answer) = steering.run_once(Program::Steer, frame).unwrap();
    }
    assert_eq!(action, XDP_TX, "{} bytes", frame.len());
    answer
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
fn answers_over_both_families_are_right_in_every_byte() {
    let Some(mut steering) = answering("answers of XDP", UNLIMITED) else { return };
    let (_, _, epochs) = world();
    let root = epochs.get(RETIRED_EPOCH).reset_root;
    // Plain ones, and with one and two tags.
    for carriers in [[0, 0, 4], [1, 5, 7]].map(|family| family.map(|carrier| CARRIERS[carrier])) {
        let (mut bytes_in, mut bytes_out, mut lengths) = (0, 0, [0; RESET_LEN_MAX + 1]);
        let before = steering.counts().unwrap();
        for n in 0..ANSWERS {
            let len = TRIGGER_LEN_MIN + usize::try_from(n % TRIGGER_LENGTHS).unwrap();
            let (packet, cid) = packet(RETIRED_EPOCH, n.to_le_bytes()[0], n, len);
            let carrier = carriers[usize::try_from(n / TRIGGER_LENGTHS % 3).unwrap()];
            let port = 20_000 + u16::try_from(n % 40_000).unwrap();
            let frame = carrier.frame_between(port, 4433, &packet);
            let answer = answer(&mut steering, frame.as_slice());
            let reset = checked(frame.as_slice(), &answer);
            let expected = token(&worker_key(&root, n.to_le_bytes()[0]), &cid);
            assert!(reset.ends_with(&expected), "{n}: the token");
            assert_eq!(reset[0] >> 6, 0b01);
            assert!((RESET_LEN_MIN..=RESET_LEN_MAX).contains(&reset.len()) && reset.len() < len);
            assert!(len > 43 || reset.len() == len - 1, "{len}: {}", reset.len());
            lengths[reset.len()] += 1;
            (bytes_in, bytes_out) = (bytes_in + len, bytes_out + reset.len());
        }
        let mut counts = since(&steering, &before);
        counts.retain(|(count, n)| *count != REPEATED || *n > 3);
        assert_eq!(counts, [(Count::Answered, ANSWERS)]);
        assert!(bytes_out < bytes_in);
        assert!(lengths[RESET_LEN_MIN..].iter().all(|count| *count > 0), "{lengths:?}");
        // One byte less, and no answer could be shorter.
        let (packet, _) = packet(RETIRED_EPOCH, 1, ANSWERS, TRIGGER_LEN_MIN - 1);
        let frame = carriers[0].frame(&packet);
        assert_eq!(steering.run_once(Program::Steer, frame.as_slice()).unwrap().0, XDP_DROP);
    }
}

/// What peers were told by the workers is what XDP says.
#[test]
fn a_million_tokens_are_those_of_user_space() {
    let Some(mut steering) = answering("tokens of XDP", UNLIMITED) else { return };
    let (_, _, epochs) = world();
    let entry = epochs.get(RETIRED_EPOCH);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for server_id in [&[][..], &[1], &[0xff; 4], &[1, 2, 3, 4, 5, 6, 7, 8]] {
        let layout = Layout::new(ServerId::new(server_id).unwrap());
        steering.apply(&Settings { layout, answers: Some(UNLIMITED), ..settings() }).unwrap();
        for _ in 0..TOKENS / 4 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let [worker, a, b, c, d, e, len, _] = random.to_le_bytes();
            let unique = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
            let parts = Parts { worker, epoch: RETIRED_EPOCH, unique };
            let cid = layout.encode(&entry.check_key, parts);
            let mut packet = vec![0x41];
            packet.extend(cid.as_slice());
            packet.resize(TRIGGER_LEN_MIN + usize::from(len), 0xab);
            let frame = CARRIERS[usize::from(len % 2)].frame(&packet);
            let answer = answer(&mut steering, frame.as_slice());
            let expected = token(&worker_key(&entry.reset_root, worker), cid.as_slice());
            assert!(answer.ends_with(&expected), "{cid:?}");
        }
    }
}

/// A server whose address is the source of an orphan's packet gets the answer. To its XDP, that is
/// a forged packet, or one of another server's layout: an answer has no connection ID.
#[test]
fn an_answer_is_never_answered() {
    let Some(mut steering) = answering("answers to answers", UNLIMITED) else { return };
    let before = steering.counts().unwrap();
    for n in 0..10_000 {
        let (packet, _) = packet(RETIRED_EPOCH, 1, n, 1_500);
        let carrier = CARRIERS[usize::try_from(n % 2).unwrap()];
        let frame = carrier.frame_between(4_433, 4_433, &packet);
        let (action, answer) = steering.run_once(Program::Steer, frame.as_slice()).unwrap();
        assert_eq!(action, XDP_TX);
        let reset = checked(frame.as_slice(), &answer);
        let back = carrier.frame_between(4_433, 4_433, &reset);
        assert_ne!(steering.run_once(Program::Steer, back.as_slice()).unwrap().0, XDP_TX);
    }
    let counts = since(&steering, &before);
    let all_but = counts.iter().filter(|(count, _)| !matches!(count, Count::Junk(_)));
    assert!(all_but.eq(&[(Count::Answered, 10_000)]), "{counts:?}");
}

/// Somebody in the middle makes an orphan's packet of each answer again, of another connection.
#[test]
fn a_chain_of_answers_ends_by_their_lengths() {
    let Some(mut steering) = answering("chains of answers", UNLIMITED) else { return };
    let mut unique = 0;
    for len in [TRIGGER_LEN_MIN, 40, 100, 1_500] {
        let (mut len, mut hops) = (len, 0);
        loop {
            unique += 1;
            let (packet, _) = packet(RETIRED_EPOCH, 1, unique, len);
            let frame = CARRIERS[0].frame_between(4_433, 4_433, &packet);
            let (action, answer) = steering.run_once(Program::Steer, frame.as_slice()).unwrap();
            if action == XDP_DROP {
                break;
            }
            let reset = checked(frame.as_slice(), &answer);
            assert!(reset.len() < len);
            (len, hops) = (reset.len(), hops + 1);
        }
        assert_eq!(len, RESET_LEN_MIN, "the last answer");
        // From 44 bytes on the length is drawn again, so it may take all steps, or few.
        assert!((1..=1 + RESET_LEN_MAX - RESET_LEN_MIN).contains(&hops), "{hops} from {len}");
    }
    // Of one connection there is but one answer, whatever its length.
    let (packet, _) = packet(RETIRED_EPOCH, 1, 0, 1_500);
    let frame = CARRIERS[0].frame(&packet);
    for expected in [XDP_TX, XDP_DROP] {
        assert_eq!(steering.run_once(Program::Steer, frame.as_slice()).unwrap().0, expected);
    }
}

/// The same, and each packet has 1,500 bytes again.
#[test]
fn a_chain_of_answers_ends_by_the_budget() {
    let answers = Answers { prefix: Budget::new(1, 100), all: Budget::UNLIMITED };
    let Some(mut steering) = answering("budget of a chain", answers) else { return };
    let before = steering.counts().unwrap();
    for n in 0..1_000 {
        let (packet, _) = packet(RETIRED_EPOCH, 1, n, 1_500);
        let frame = CARRIERS[0].frame_between(4_433, 4_433, &packet);
        let (action, _) = steering.run_once(Program::Steer, frame.as_slice()).unwrap();
        assert_eq!(action, if n < 100 { XDP_TX } else { XDP_DROP }, "{n}");
    }
    let over = Count::Unanswered(Unanswered::PrefixBudget);
    assert_eq!(since(&steering, &before), [(Count::Answered, 100), (over, 900)]);
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

/// The kernel throws such packets away, so the workers would not answer them either.
#[test]
fn what_comes_from_no_host_is_left_to_the_kernel() {
    let Some(mut steering) = answering("sources of answers", UNLIMITED) else { return };
    for listener in ["127.9.9.9:4433", "[::1]:4433"] {
        steering.listen(listener.parse().unwrap(), false).unwrap();
    }
    let (loopback, everybody) = (Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
    let v4 = [Ipv4Addr::UNSPECIFIED, [0, 1, 2, 3].into(), [224, 0, 0, 1].into(), everybody];
    let v6 =
        [Ipv6Addr::UNSPECIFIED, "ff02::1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap()];
    let mut cases = vec![
        (IpAddr::from(loopback), None, XDP_PASS),
        (loopback.into(), Some(IpAddr::from([127, 9, 9, 9])), XDP_TX),
        (Ipv6Addr::LOCALHOST.into(), None, XDP_PASS),
        (Ipv6Addr::LOCALHOST.into(), Some(Ipv6Addr::LOCALHOST.into()), XDP_TX),
        ([223, 255, 255, 254].into(), None, XDP_TX),
        (IpAddr::V6("fe80::1".parse().unwrap()), None, XDP_TX),
    ];
    cases.extend(v4.map(|source| (source.into(), None, XDP_PASS)));
    cases.extend(v6.map(|source| (source.into(), None, XDP_PASS)));
    for (unique, (source, target, expected)) in (0..).zip(cases) {
        let (packet, _) = packet(RETIRED_EPOCH, 1, unique, 100);
        let carrier = CARRIERS[usize::from(source.is_ipv6())];
        let mut frame = carrier.frame(&packet).as_slice().to_vec();
        let located = locate(frame.as_slice()).unwrap();
        let mut put = |at: usize, address: IpAddr| match address {
            IpAddr::V4(address) => frame[at..at + 4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => frame[at..at + 16].copy_from_slice(&address.octets()),
        };
        put(located.source_at, source);
        if let Some(target) = target {
            put(located.target_at(), target);
        }
        let before = steering.counts().unwrap();
        let (action, _) = steering.run_once(Program::Steer, &frame).unwrap();
        assert_eq!(action, expected, "{source}");
        is_what_the_metrics_say(&steering, &before, action, &source.to_string());
    }
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
    assert_eq!(since(&steering, &before), [(Count::Answered, 2), (REPEATED, 2)]);
    thread::sleep(Duration::from_millis(120));
    assert_eq!(steering.run_once(Program::Steer, frame.as_slice()).unwrap().0, XDP_TX);
}

/// A connection that was refused was not answered: it is not its answer that the next packet has to
/// wait for.
#[test]
fn what_a_budget_refused_is_not_taken_for_answered() {
    let one = Budget::new(1, 1);
    let [prefix, all] = [Unanswered::PrefixBudget, Unanswered::ResetBudget];
    for (answers, over) in [
        (Answers { prefix: one, all: Budget::UNLIMITED }, prefix),
        (Answers { prefix: Budget::UNLIMITED, all: one }, all),
    ] {
        let Some(mut steering) = answering("refused by a budget", answers) else { return };
        let before = steering.counts().unwrap();
        for (unique, times) in [(1, 3), (2, 3)] {
            let (packet, _) = packet(RETIRED_EPOCH, 1, unique, 100);
            let frame = CARRIERS[0].frame(&packet);
            for _ in 0..times {
                steering.run_once(Program::Steer, frame.as_slice()).unwrap();
            }
        }
        let expected = [(Count::Answered, 1), (REPEATED, 2), (Count::Unanswered(over), 3)];
        let counts = since(&steering, &before);
        assert!(expected.iter().all(|count| counts.contains(count)), "{counts:?}");
        assert_eq!(counts.len(), expected.len(), "{counts:?}");
    }
}

/// Packets of one connection, again and again, use nothing up of what others have.
#[test]
fn repetitions_cost_no_budget() {
    let answers = Answers { prefix: Budget::new(1, 2), all: Budget::new(1, 2) };
    let Some(mut steering) = answering("budgets and repetitions", answers) else { return };
    for (unique, expected) in [(1, XDP_TX), (1, XDP_DROP), (1, XDP_DROP), (2, XDP_TX)] {
        let (packet, _) = packet(RETIRED_EPOCH, 1, unique, 100);
        let frame = CARRIERS[0].frame(&packet);
        assert_eq!(steering.run_once(Program::Steer, frame.as_slice()).unwrap().0, expected);
    }
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

const REPEATED: Count = Count::Unanswered(Unanswered::Repeated);
/// Over each family.
const ANSWERS: u64 = 100_000;
/// Up to packets of 1,500 bytes.
const TRIGGER_LENGTHS: u64 = 1_501 - TRIGGER_LEN_MIN as u64;
const TOKENS: u64 = 1_000_000;
