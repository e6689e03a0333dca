//! programs checks what the table does not show: budgets, merged frames, the verifier, privileges.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "the verifier's counts are worth reading")]

mod common;

use std::net::IpAddr;
use std::process::Command;

use common::{XDP_DROP, XDP_PASS, bare_steering, inside, settings, since, steering};
use quiclane_ebpf::{Budget, Budgets, Count, Program, Settings, Steering};
use quiclane_wire::fixtures::{CARRIERS, fixtures, world};
use quiclane_wire::{IpVersion, Reason, Untouched, locate};

/// A fixture in plain IPv4 (0) or IPv6 (1).
fn frame(name: &str, carrier: usize) -> Vec<u8> {
    let fixture = fixtures().find(|fixture| fixture.name == name).unwrap();
    CARRIERS[carrier].frame(fixture.bytes.as_slice()).as_slice().to_vec()
}

fn run(steering: &mut Steering, frame: &[u8], repeat: u32) -> Vec<(Count, u64)> {
    let before = steering.counts().unwrap();
    steering.run(Program::Steer, frame, repeat).unwrap();
    since(steering, &before)
}

fn of(counts: &[(Count, u64)], wanted: Count) -> u64 {
    counts.iter().find(|(count, _)| *count == wanted).map_or(0, |(_, n)| *n)
}

#[test]
fn the_verifier_looks_at_few_instructions() {
    let Some(mut steering) = steering("the verifier's count") else { return };
    for program in [Program::Steer, Program::SteerCopied, Program::Select, Program::Pass] {
        let instructions = steering.verified_instructions(program).unwrap().unwrap();
        println!("{}: {instructions} verified instructions", program.name());
        assert!(instructions < 20_000, "{}: {instructions}", program.name());
    }
}

#[test]
fn nothing_is_touched_before_the_server_listens() {
    let Some(mut steering) = bare_steering("no settings") else { return };
    let frame = frame("short: check bit flipped", 0);
    let (action, _) = steering.run(Program::Steer, &frame, 1).unwrap();
    assert_eq!(action, XDP_PASS);
    assert_eq!(of(&steering.counts().unwrap(), Count::Untouched(Untouched::OtherPort)), 1);
}

#[test]
fn a_prefix_has_its_budget() {
    let Some(mut steering) = steering("the budget of a prefix") else { return };
    let budgets = Budgets { prefix: Budget::new(1, 100), ..Budgets::UNLIMITED };
    steering.apply(&Settings { budgets, ..settings() }).unwrap();
    for carrier in [0, 1] {
        let mut frame = frame("Initial: RFC 9001 A.2", carrier);
        let over = Count::Junk(Reason::PrefixBudget);
        let counts = run(&mut steering, &frame, 1_000);
        assert_eq!((of(&counts, Count::Initial), of(&counts, over)), (100, 900));
        assert_eq!(steering.run(Program::Steer, &frame, 1).unwrap().0, XDP_DROP);
        // Another host of the prefix: 198.51.100.0/24, 2001:db8:0:7::/56.
        let (host_at, prefix_at) = if carrier == 0 { (29, 28) } else { (37, 28) };
        frame[host_at] ^= 1;
        assert_eq!(of(&run(&mut steering, &frame, 10), over), 10);
        frame[prefix_at] ^= 1;
        assert_eq!(of(&run(&mut steering, &frame, 10), Count::Initial), 10);
    }
    let version = frame("version 2: 1,200 bytes", 0);
    assert_eq!(of(&run(&mut steering, &version, 1), Count::Junk(Reason::PrefixBudget)), 1);
}

#[test]
fn all_sources_share_a_budget_and_proven_ones_another() {
    let Some(mut steering) = steering("the shared budgets") else { return };
    let budgets =
        Budgets { initial: Budget::new(1, 50), proven: Budget::new(1, 20), ..Budgets::UNLIMITED };
    steering.apply(&Settings { budgets, ..settings() }).unwrap();
    let [first, proven] = ["Initial: RFC 9001 A.2", "Initial: live CID"].map(|name| frame(name, 0));
    let counts = run(&mut steering, &first, 100);
    assert_eq!(of(&counts, Count::Initial), 50);
    assert_eq!(of(&counts, Count::Junk(Reason::InitialBudget)), 50);
    let counts = run(&mut steering, &proven, 100);
    assert_eq!(of(&counts, Count::Live), 20);
    assert_eq!(of(&counts, Count::Junk(Reason::ProvenBudget)), 80);
    let short = frame("short: worker 1", 0);
    assert_eq!(of(&run(&mut steering, &short, 1_000), Count::Live), 1_000);
}

#[test]
fn a_frame_longer_than_the_device_receives_passes() {
    let test = "a_frame_longer_than_the_device_receives_passes";
    inside(&["unshare", "--net"], test, with_a_small_mtu);
}

fn with_a_small_mtu() {
    let mut steering = steering("a small MTU").unwrap();
    // Test runs take place on the loopback device of the namespace.
    let status = Command::new("ip").args(["link", "set", "lo", "mtu", "1400"]).status();
    assert!(status.unwrap().success());
    let fixture = fixtures().find(|fixture| fixture.name == "short: 1,500 bytes").unwrap();
    // Carrier 6 has two tags, which the MTU does not count.
    for (carrier, headers) in [(0, 14 + 28), (1, 14 + 48), (6, 14 + 36)] {
        for (frame_len, count) in [(1414, Count::Live), (1415, Count::Untouched(Untouched::Merged))]
        {
            let payload = &fixture.bytes.as_slice()[..frame_len - headers];
            let frame = CARRIERS[carrier].frame(payload);
            let counts = run(&mut steering, frame.as_slice(), 1);
            assert_eq!(counts, [(count, 1)], "{carrier} {frame_len}");
        }
    }
}

#[test]
fn a_wildcard_on_a_host_takes_what_goes_to_the_host() {
    let Some(mut steering) = bare_steering("local addresses") else { return };
    steering.apply(&settings()).unwrap();
    steering.set_epochs(&world().2).unwrap();
    let strangers = (1..=20).map(|host| IpAddr::from([10, 9, 9, host]));
    for (wildcard, port, carriers) in
        [("0.0.0.0:443", 443, &[0][..]), ("[::]:4433", 4433, &[0, 1]), ("[::]:8443", 8443, &[0, 1])]
    {
        // What the fixtures' frames go to; the first ones are compared, the others looked up.
        let frames = carriers.iter().map(|carrier| {
            let frame = CARRIERS[*carrier].frame_between(50_000, port, &[0x40; 60]);
            frame.as_slice().to_vec()
        });
        let frames: Vec<_> = frames.collect();
        let own = frames.iter().map(|frame| match locate(&frame[..]).unwrap() {
            at if at.ip == IpVersion::V4 => {
                IpAddr::from(*frame[at.target_at()..].first_chunk::<4>().unwrap())
            }
            at => IpAddr::from(*frame[at.target_at()..].first_chunk::<16>().unwrap()),
        });
        let local: Vec<IpAddr> = strangers.clone().chain(own).collect();
        steering.listen_on_host(wildcard.parse().unwrap(), false).unwrap();
        steering.set_host_addresses(&local).unwrap();
        for frame in frames {
            let at = locate(&frame[..]).unwrap();
            let foreign = Count::Junk(Reason::ForeignLayout);
            assert_eq!(run(&mut steering, &frame, 1), [(foreign, 1)], "{wildcard}");
            // On its way to another host.
            let mut passing = frame.clone();
            passing[at.target_at() + at.ip.address_len() - 1] ^= 1;
            let other = Count::Untouched(Untouched::OtherAddress);
            assert_eq!(run(&mut steering, &passing, 1), [(other, 1)], "{wildcard}");
        }
    }
}

#[test]
fn two_capabilities_are_enough() {
    let caps = "--bounding-set=-all,+bpf,+net_admin";
    inside(&["setpriv", caps, "--"], "two_capabilities_are_enough", with_two_capabilities);
}

fn with_two_capabilities() {
    let mut steering = steering("two capabilities").unwrap();
    for program in [Program::Steer, Program::Select] {
        let instructions = steering.verified_instructions(program).unwrap().unwrap();
        println!("{}: {instructions} verified instructions", program.name());
        // Without CAP_PERFMON the verifier follows mispredicted branches too.
        assert!(instructions < 20_000, "{}: {instructions}", program.name());
    }
    assert!(steering.copies());
    let short = frame("short: worker 1", 0);
    assert_eq!(of(&run(&mut steering, &short, 10), Count::Live), 10);
}
