//! probe
mod common;
use quiclane_ebpf::*;
use quiclane_wire::fixtures::*;
#[test]
fn probe() {
    let mut s = common::steering("probe").unwrap();
    for p in [Program::Steer, Program::Select, Program::Pass] {
        println!("{p:?} {:?}", s.verified_instructions(p));
    }
    let f = fixtures().find(|f| f.name == "short: worker 1").unwrap();
    let forged = fixtures().find(|f| f.name == "short: check bit flipped").unwrap();
    let init = fixtures().find(|f| f.name == "Initial: RFC 9001 A.2").unwrap();
    for (n, fr) in [
        ("short", CARRIERS[0].frame(f.bytes.as_slice())),
        ("forged", CARRIERS[0].frame(forged.bytes.as_slice())),
        ("init", CARRIERS[0].frame(init.bytes.as_slice())),
        ("other", CARRIERS[0].frame_between(5, 6, f.bytes.as_slice())),
    ] {
        for p in [Program::Steer, Program::Pass] {
            let mut v: Vec<_> =
                (0..60).map(|_| s.run(p, fr.as_slice(), 10_000).unwrap().1.as_nanos()).collect();
            v.sort();
            println!("{n} {p:?} min {} p10 {} median {}", v[0], v[30], v[150]);
        }
    }
}
