//! figures prints how long the programs take for a packet: `cargo xtask ebpf --bench`.
//!
//! Nanoseconds a packet by BPF_PROG_TEST_RUN, from the call of the program to its return. Each row
//! is the median of 99 runs of 10,000 packets; the rows are interleaved, so that a busy moment hits
//! all of them. Beside it the lower quartile: on a machine that shares its physical cores the runs
//! fall into two heaps, alone on the core or beside another's thread and slower by half and more,
//! and it is the quartile that tells what the program takes. "Copied" is the program for processes
//! without CAP_PERFMON, which takes a little longer there: the kernel masks its addresses. What a
//! program that only passes takes is the kernel's own part, and in every figure.
//!
//! Answers to orphans change the frame, so each run has a frame of its own, of another connection:
//! the mean of 1,000,000 runs as the kernel times them, less that of the program that only passes,
//! and the lower quartile of the means of 100 runs each. A single run comes from a system call,
//! with the caches as that leaves them: a place in the table of last answers comes from memory.
#![expect(clippy::print_stdout, reason = "a command line tool")]

use std::process::ExitCode;

use quiclane_ebpf::{
    Answers, Budget, Budgets, Capacity, Program, RunTimes, Settings, Steering, SteeringError,
};
use quiclane_wire::Parts;
use quiclane_wire::fixtures::{
    CARRIERS, LISTENERS, LIVE_EPOCH, LIVE_WORKERS, PacketBuffer, RETIRED_EPOCH, fixtures, world,
};

/// The columns.
const PROGRAMS: [Program; 3] = [Program::Steer, Program::SteerCopied, Program::Pass];
/// What is measured: name, fixture, UDP port, and at most how many nanoseconds it should take.
const ROWS: [(&str, &str, u16, Option<u128>); 6] = [
    ("not ours", "short: worker 1", 9, Some(40)),
    ("short header, steered", "short: worker 1", 4433, Some(90)),
    ("short header, steered, any address", "short: worker 1", 8443, None),
    ("short header, forged, dropped", "short: check bit flipped", 4433, Some(80)),
    ("Initial, steered", "Initial: RFC 9001 A.2", 4433, None),
    ("Initial of ours, steered", "Initial: live CID", 4433, None),
];
/// Answers to orphans: name, carrier, bytes of the packet, and at most how many nanoseconds.
const ANSWERS: [(&str, usize, usize, u128); 3] = [
    ("orphan, answered, IPv4, 40 bytes", 0, 40, 250),
    ("orphan, answered, IPv4, 1,200 bytes", 0, 1_200, 250),
    ("orphan, answered, IPv6, 40 bytes", 1, 40, 250),
];

fn main() -> ExitCode {
    match figures() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn figures() -> Result<(), SteeringError> {
    let mut steering = server()?;
    let frames: Vec<PacketBuffer> = ROWS.iter().map(|row| frame(row.1, row.2)).collect();
    let mut times = vec![[const { Vec::new() }; PROGRAMS.len()]; ROWS.len()];
    for _ in 0..RUNS {
        for (of_programs, frame) in times.iter_mut().zip(&frames) {
            for (program, times) in PROGRAMS.into_iter().zip(of_programs) {
                times.push(steering.run(program, frame.as_slice(), REPEAT)?.1.as_nanos());
            }
        }
    }
    println!(
        "{:<36} {:>7} {:>8} {:>7} {:>10} {:>10}",
        "ns a packet", "median", "quarter", "bound", "copied", "pass only"
    );
    for ((name, _, _, bound), of_programs) in ROWS.iter().zip(&mut times) {
        of_programs.iter_mut().for_each(|times| times.sort_unstable());
        let [full, copied, pass] = of_programs;
        let bound = bound.map_or_else(String::new, |bound| bound.to_string());
        let middle = RUNS / 2;
        println!(
            "{name:<36} {:>7} {:>8} {bound:>7} {:>10} {:>10}",
            full[middle],
            full[RUNS / 4],
            copied[middle],
            pass[middle]
        );
    }
    match RunTimes::enable() {
        Ok(_times) => answers(&mut steering)?,
        Err(error) => println!("orphans, answered: the kernel does not time programs: {error}"),
    }
    for program in [Program::Steer, Program::SteerCopied, Program::Select] {
        if let Some(count) = steering.verified_instructions(program)? {
            println!("{}: {count} verified instructions", program.name());
        }
    }
    Ok(())
}

fn answers(steering: &mut Steering) -> Result<(), SteeringError> {
    println!(
        "{:<36} {:>7} {:>8} {:>7} {:>21}",
        "ns an answer", "mean", "quarter", "bound", "pass only"
    );
    for (number, (name, carrier, len, bound)) in (0..).zip(ANSWERS) {
        let mut answered = 0;
        let mut times = [Vec::new(), Vec::new()];
        for batch in 0..BATCHES {
            let first = (number * BATCHES + batch) * BATCH_RUNS;
            let frames: Vec<Vec<u8>> = (first..first + BATCH_RUNS)
                .map(|unique| orphan(carrier, len, unique).as_slice().to_vec())
                .collect();
            for (program, times) in [Program::Steer, Program::Pass].into_iter().zip(&mut times) {
                let (_, before) = steering.runs(program)?;
                for frame in &frames {
                    answered += u64::from(steering.run(program, frame, 1)?.0 == XDP_TX);
                }
                times.push((steering.runs(program)?.1 - before).as_nanos());
            }
        }
        times.iter_mut().for_each(|times| times.sort_unstable());
        let runs = u128::from(BATCHES * BATCH_RUNS);
        let mean = times.each_ref().map(|times| times.iter().sum::<u128>() / runs);
        let quarter = times.each_ref().map(|times| times[times.len() / 4] / u128::from(BATCH_RUNS));
        let [mean_net, quarter_net] =
            [mean, quarter].map(|[steer, pass]| steer.saturating_sub(pass));
        println!("{name:<36} {mean_net:>7} {quarter_net:>8} {bound:>7} {:>21}", mean[1]);
        let missing = BATCHES * BATCH_RUNS - answered;
        if missing > 0 {
            println!("  {missing} were not answered");
        }
    }
    Ok(())
}

/// A packet of a connection of its own, whose process is gone.
fn orphan(carrier: usize, len: usize, unique: u64) -> PacketBuffer {
    let (layout, _, epochs) = world();
    let parts = Parts { worker: 1, epoch: RETIRED_EPOCH, unique };
    let mut packet = vec![0x41];
    packet.extend(layout.encode(&epochs.get(RETIRED_EPOCH).check_key, parts).as_slice());
    packet.resize(len, 0xab);
    CARRIERS[carrier].frame(&packet)
}

/// The server of the fixtures, with budgets that are never reached but always paid.
fn server() -> Result<Steering, SteeringError> {
    let (layout, spread_key, epochs) = world();
    let mut steering = Steering::load(&Capacity::default())?;
    let plenty = Budget::new(1_000_000_000, 1_000_000_000);
    let budgets = Budgets { prefix: plenty, initial: plenty, proven: plenty, ..Budgets::default() };
    let (live_epoch, workers) = (LIVE_EPOCH, LIVE_WORKERS);
    let move_to_cores = false;
    let answers = Some(Answers { prefix: plenty, all: plenty });
    let settings =
        Settings { layout, spread_key, live_epoch, workers, move_to_cores, budgets, answers };
    steering.apply(&settings)?;
    steering.set_epochs(&epochs)?;
    for listener in LISTENERS {
        steering.listen(listener, false)?;
    }
    Ok(steering)
}

fn frame(name: &str, port: u16) -> PacketBuffer {
    let fixture = fixtures().find(|fixture| fixture.name == name);
    let payload = fixture.map_or_else(Vec::new, |fixture| fixture.bytes.as_slice().to_vec());
    CARRIERS[0].frame_between(50_000, port, &payload)
}

const RUNS: usize = 99;
const REPEAT: u32 = 10_000;
/// Together 1,000,000 single runs. Batches of frames are made before they are run: in a flood
/// nothing else is done between two packets either.
const BATCHES: u64 = 10_000;
const BATCH_RUNS: u64 = 100;
const XDP_TX: u32 = 3;
