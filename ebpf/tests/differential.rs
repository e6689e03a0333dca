//! differential compares the program in the kernel with `wire`: the table, every cut of it, and a
//! million frames that nobody thought of.
//!
//! A verdict shows in the count, in the action, and in whether the frame is moved: cores are given
//! to half of the workers, by one bit of their number and then by the other.
//!
//! QUICLANE_EBPF_FRAMES and QUICLANE_EBPF_SEED change how many frames and which.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::env;
use std::time::Instant;

use common::{XDP_DROP, XDP_PASS, XDP_REDIRECT, returned, settings, since, steering};
use quiclane_ebpf::{Count, Program, Settings, Steering, is_dropped};
use quiclane_wire::fixtures::{
    CARRIERS, DRAINING_EPOCH, LIVE_EPOCH, LIVE_WORKERS, RETIRED_EPOCH, fixtures, frames,
    judge_frame, world,
};
use quiclane_wire::{Parts, Untouched, Verdict, worker_of_spread};

/// Which workers' frames are moved: those with this bit in their number, or none.
type MovedBit = Option<u8>;

/// What the program has to do with a frame.
fn expected(frame: &[u8], moved: MovedBit) -> (Count, u32) {
    let is_moved = |worker: u8| moved.is_some_and(|bit| worker & bit != 0);
    let action = |worker| if is_moved(worker) { XDP_REDIRECT } else { XDP_PASS };
    match judge_frame(frame) {
        Err(untouched) => (Count::Untouched(untouched), XDP_PASS),
        Ok(Verdict::Live { worker }) => (Count::live(!is_moved(worker)), action(worker)),
        Ok(Verdict::Initial { spread }) => {
            let worker = worker_of_spread(spread, LIVE_WORKERS);
            (Count::initial(!is_moved(worker)), action(worker))
        }
        Ok(Verdict::OtherLong) => (Count::OtherLong, XDP_PASS),
        Ok(Verdict::Draining { .. }) => (Count::Draining, XDP_PASS),
        Ok(Verdict::Orphan { .. }) => (Count::Orphan, XDP_PASS),
        Ok(Verdict::Junk(reason)) => {
            (Count::Junk(reason), if is_dropped(reason) { XDP_DROP } else { XDP_PASS })
        }
    }
}

/// Gives a core that is not ours to the workers with this bit.
fn place_workers(steering: &mut Steering, moved: MovedBit) {
    steering.apply(&Settings { move_to_cores: moved.is_some(), ..settings() }).unwrap();
    for worker in 0..LIVE_WORKERS {
        let is_moved = moved.is_some_and(|bit| worker & bit != 0);
        steering.place_worker(worker, is_moved.then_some(OTHER_CPU)).unwrap();
    }
}

/// Runs frames and compares actions one by one and counts all together.
fn agree(steering: &mut Steering, program: Program, batch: &[Vec<u8>], moved: MovedBit) {
    let before = steering.counts().unwrap();
    let mut counts = vec![0; before.len()];
    for frame in batch {
        let (count, action) = expected(frame, moved);
        assert_eq!(returned(count), action, "what the metrics say of {count:?}");
        counts[count.index() as usize] += 1;
        let (found, _) = steering.run(program, frame, 1).unwrap();
        assert_eq!(found, action, "{count:?}: {}", hex(frame));
    }
    let wanted: Vec<_> =
        Count::all().zip(counts).filter(|(_, count): &(Count, u64)| *count > 0).collect();
    if since(steering, &before) == wanted {
        return;
    }
    for frame in batch {
        let before = steering.counts().unwrap();
        steering.run(program, frame, 1).unwrap();
        let (count, _) = expected(frame, moved);
        assert_eq!(since(steering, &before), [(count, 1)], "{}", hex(frame));
    }
    panic!("the batch is counted wrongly, but none of its frames is");
}

#[test]
fn every_packet_gets_the_verdict_of_wire_in_every_carrier() {
    let Some(mut steering) = steering("the table of packets") else { return };
    stay_on_first_core();
    let batch: Vec<Vec<u8>> = CARRIERS
        .iter()
        .flat_map(|carrier| {
            fixtures().map(|fixture| carrier.frame(fixture.bytes.as_slice()).as_slice().to_vec())
        })
        .chain(frames().map(|frame| frame.bytes.as_slice().to_vec()))
        .filter(|frame| frame.len() >= ETHERNET_LEN)
        .collect();
    assert!(batch.len() > 800, "{}", batch.len());
    for moved in MOVED {
        place_workers(&mut steering, moved);
        for program in PROGRAMS {
            agree(&mut steering, program, &batch, moved);
        }
    }
}

#[test]
fn every_frame_gets_the_verdict_of_wire_wherever_it_is_cut() {
    let Some(mut steering) = steering("the table of frames, cut") else { return };
    let packets = CARRIERS.iter().flat_map(|carrier| {
        fixtures().step_by(7).map(|fixture| carrier.frame(fixture.bytes.as_slice()))
    });
    let mut batch = Vec::new();
    for frame in frames().map(|frame| frame.bytes).chain(packets) {
        let frame = frame.as_slice();
        batch.extend((ETHERNET_LEN..frame.len().min(130)).map(|len| frame[..len].to_vec()));
        batch.extend(shrunk(frame));
    }
    assert!(batch.len() > 10_000, "{}", batch.len());
    for program in PROGRAMS {
        agree(&mut steering, program, &batch, None);
    }
}

/// The frame cut at every byte with lengths that say so: the packet is cut, not the headers.
fn shrunk(frame: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let ipv4 = frame.get(12..14) == Some(&[8, 0]) && frame.get(14) == Some(&0x45);
    let lens = if ipv4 { 42..frame.len().min(120) } else { 0..0 };
    lens.map(|len| {
        let mut frame = frame[..len].to_vec();
        frame[16..18].copy_from_slice(&u16::try_from(len - 14).unwrap().to_be_bytes());
        frame[38..40].copy_from_slice(&u16::try_from(len - 34).unwrap().to_be_bytes());
        frame
    })
}

#[test]
fn random_and_mutated_frames_get_the_verdict_of_wire() {
    let Some(mut steering) = steering("random and mutated frames") else { return };
    stay_on_first_core();
    let number = |name, default| env::var(name).map_or(default, |value| value.parse().unwrap());
    let frames_wanted: u64 = number("QUICLANE_EBPF_FRAMES", 1_000_000);
    let clock = u64::from(std::process::id());
    let seed = number("QUICLANE_EBPF_SEED", clock);
    println!("{frames_wanted} frames of QUICLANE_EBPF_SEED={seed}");
    let mut source = Source::new(seed);
    let start = now();
    let mut done = 0;
    for moved in MOVED.into_iter().cycle() {
        if done >= frames_wanted {
            break;
        }
        place_workers(&mut steering, moved);
        for _ in 0..10 {
            let batch: Vec<_> = (0..1_000).map(|_| source.frame()).collect();
            agree(&mut steering, Program::Steer, &batch, moved);
            if source.below(4) == 0 {
                agree(&mut steering, Program::SteerCopied, &batch, moved);
            }
            done += 1_000;
        }
    }
    let counts = steering.counts().unwrap();
    let never = counts.iter().filter(|(_, n)| *n == 0).map(|(count, _)| count.name());
    let never: Vec<_> = never.collect();
    println!("no difference in {:.1} s; never seen: {never:?}", (now() - start).as_secs_f64());
    let unseen = |count: &Count| match count {
        Count::Untouched(untouched) => *untouched == Untouched::Merged,
        Count::Junk(reason) => reason.name().ends_with("budget"),
        // Here nothing is answered: that has tests of its own.
        Count::Answered | Count::Unanswered(_) => true,
        _ => false,
    };
    if frames_wanted >= 100_000 {
        let seen = counts.iter().filter(|(count, n)| *n == 0 && !unseen(count)).count();
        assert_eq!(seen, 0, "the generator reaches everything: {never:?}");
    }
}

/// Frames that resemble real ones more or less.
struct Source {
    state: u64,
    corpus: Vec<Vec<u8>>,
}

impl Source {
    fn new(seed: u64) -> Self {
        let packets = CARRIERS
            .iter()
            .flat_map(|carrier| fixtures().map(|fixture| carrier.frame(fixture.bytes.as_slice())));
        let corpus = frames().map(|frame| frame.bytes).chain(packets);
        let corpus = corpus.map(|frame| frame.as_slice().to_vec());
        Self { state: seed, corpus: corpus.filter(|frame| frame.len() >= ETHERNET_LEN).collect() }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    fn frame(&mut self) -> Vec<u8> {
        match self.below(16) {
            0 => {
                let len = ETHERNET_LEN + self.below(200);
                self.bytes(len)
            }
            1..=5 => {
                let at = self.below(self.corpus.len());
                let frame = self.corpus[at].clone();
                self.mutated(frame)
            }
            6 => {
                let frame = self.carried();
                self.mutated(frame)
            }
            _ => self.carried(),
        }
    }

    /// A packet of ours, more or less, in a carrier.
    fn carried(&mut self) -> Vec<u8> {
        let payload = if self.below(2) == 0 { self.short() } else { self.long() };
        let carrier = CARRIERS[self.below(CARRIERS.len())];
        let source = if self.below(16) == 0 { self.below(600) } else { 50_000 };
        let target = [443, 8443, 4433, 4433, 4434][self.below(5)];
        let source = u16::try_from(source).unwrap();
        carrier.frame_between(source, target, &payload).as_slice().to_vec()
    }

    fn short(&mut self) -> Vec<u8> {
        let mut payload = vec![self.byte() & 0x7f];
        payload.extend(self.cid());
        let len = [self.below(40), self.below(1_400)][self.below(2)];
        let rest = self.bytes(len);
        payload.extend(rest);
        payload
    }

    fn long(&mut self) -> Vec<u8> {
        let mut payload = vec![self.byte() | 0x80];
        let version = [1, 1, 1, 0, 0x6b33_43cf, 0x1a2a_3a4a][self.below(6)];
        payload.extend(u32::to_be_bytes(version));
        let dcid = if self.below(2) == 0 {
            self.cid()
        } else {
            let len = self.below(23);
            self.bytes(len)
        };
        payload.push(u8::try_from(dcid.len()).unwrap());
        payload.extend(dcid);
        let scid_len = self.below(22);
        payload.push(u8::try_from(scid_len).unwrap());
        let scid = self.bytes(scid_len);
        payload.extend(scid);
        let len = [self.below(60), 1_190 + self.below(20), 1_200][self.below(3)];
        payload.resize(len, 0x5a);
        payload
    }

    /// A connection ID of ours, sometimes damaged.
    fn cid(&mut self) -> Vec<u8> {
        let (layout, _, epochs) = world();
        let epoch = match self.below(8) {
            0 => self.byte(),
            1 => DRAINING_EPOCH,
            2 => RETIRED_EPOCH,
            _ => LIVE_EPOCH,
        };
        let worker = if self.below(8) == 0 { self.byte() } else { self.byte() % LIVE_WORKERS };
        let parts = Parts { worker, epoch, unique: self.next() };
        let cid = layout.encode(&epochs.get(epoch).check_key, parts);
        let mut cid = cid.as_slice().to_vec();
        if self.below(4) == 0 {
            let bit = self.below(8 * cid.len());
            cid[bit / 8] ^= 1 << (bit % 8);
        }
        cid
    }

    fn mutated(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(4) {
            // Most of what matters is in front.
            let reach = if self.below(4) == 0 { frame.len() } else { frame.len().min(90) };
            let at = self.below(reach);
            match self.below(8) {
                0 => frame[at] = self.byte(),
                1 => frame[at] = [0, 1, 4, 17, 41, 44, 60, 0x80, 0xff][self.below(9)],
                2 => frame.truncate(at.max(ETHERNET_LEN)),
                3 => frame.insert(at, 0),
                4 => {
                    let more = self.below(20);
                    frame.extend(vec![0; more]);
                }
                _ => frame[at] ^= 1 << self.below(8),
            }
            frame.resize(frame.len().max(ETHERNET_LEN), 0);
        }
        frame
    }
}

/// The core that frames are moved to must not be the one that runs the program.
fn stay_on_first_core() {
    let first = core_affinity::CoreId { id: 0 };
    assert!(core_affinity::set_for_current(first), "core 0 exists");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test measures itself")]
fn now() -> Instant {
    Instant::now()
}

const PROGRAMS: [Program; 2] = [Program::Steer, Program::SteerCopied];
const MOVED: [MovedBit; 3] = [None, Some(1), Some(2)];
const OTHER_CPU: u32 = 1;
/// The kernel runs no shorter frames.
const ETHERNET_LEN: usize = 14;
