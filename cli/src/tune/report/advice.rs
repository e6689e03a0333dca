//! advice is what to do about findings: everything that is better somewhere and worse nowhere, as
//! commands that do not contradict each other, and those that undo them.

use std::collections::BTreeSet;

use quiclane_tuning::experiment::{Arm, Findings, Log, Verdict};
use quiclane_tuning::{Care, Knob, Reach};
use serde::Serialize;

use crate::host::quoted;

/// Commands.
#[derive(Debug, Default, Eq, PartialEq, Serialize)]
pub(super) struct Advice {
    pub(super) apply: Vec<String>,
    pub(super) undo: Vec<String>,
}

impl Advice {
    /// Of findings. Whether several settings help together is another question than whether each
    /// does: that was not measured.
    pub(super) fn new(log: &Log, findings: &Findings) -> Self {
        let (mut serve, mut load, mut set) = (Vec::new(), Vec::new(), Vec::new());
        let best = best(log, findings);
        for arm in &best {
            serve.extend(arm.serve.iter().cloned());
            load.extend(arm.load.iter().cloned());
            set.extend(arm.set.iter().cloned());
        }
        let mut advice = Self::default();
        let program = best.iter().find_map(|arm| arm.program.as_deref());
        for (command, flags, program) in [("serve", serve, program), ("load", load, None)] {
            if !flags.is_empty() || program.is_some() {
                let words = [program.unwrap_or("quiclane"), command].into_iter();
                let words = words.chain(flags.iter().map(String::as_str));
                advice.apply.push(words.map(quoted).collect::<Vec<_>>().join(" "));
                advice.undo.push(format!("quiclane {command}  # without these flags"));
            }
        }
        if !set.is_empty() {
            let of_interface = |(id, _): &(String, String)| {
                Knob::by_id(id).is_some_and(|knob| knob.reach == Reach::Interface)
            };
            let interface =
                if set.iter().any(of_interface) { " --interface INTERFACE" } else { "" };
            let word =
                |(id, value): &(String, String)| quoted(&format!("{id}={value}")).into_owned();
            let values: String = set.iter().map(|pair| format!(" --set {}", word(pair))).collect();
            let resets = |(id, _): &(String, String)| {
                Knob::by_id(id).is_some_and(|knob| knob.care == Care::LinkReset)
            };
            let resets = if set.iter().any(resets) { " --allow-link-reset" } else { "" };
            if set.iter().any(|(id, _)| id == "mtu") {
                let all = "every hop and every peer has to take packets of that size";
                advice.apply.push(format!("# mtu: {all}, as the other end of the link did here"));
            }
            advice.apply.push(format!("sudo quiclane tune apply{interface}{resets}{values}"));
            advice.undo.push("sudo quiclane tune revert".into());
        }
        advice
    }
}

/// Arms that are worth it, the largest effects first, and of those that decide the same thing the
/// first one.
fn best<'l>(log: &'l Log, findings: &Findings) -> Vec<&'l Arm> {
    let is_harmless = |arm: usize| {
        let mut of = findings.effects.iter().filter(|effect| effect.arm == arm);
        let is_broken = log.broken.keys().any(|(broken, _)| *broken == arm);
        !is_broken && !of.any(|effect| effect.verdict == Verdict::Worse)
    };
    let mut better: Vec<(f64, usize)> = findings
        .effects
        .iter()
        .filter(|effect| effect.is_better_for_sure(&log.begin))
        .filter(|effect| is_harmless(effect.arm))
        .filter_map(|effect| Some((effect.estimate?.effect.abs(), effect.arm)))
        .collect();
    better.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut decided: BTreeSet<&str> = BTreeSet::new();
    let mut best = Vec::new();
    for (_, arm) in better {
        let arm = &log.begin.arms[arm];
        let decides = decides(arm);
        if decides.iter().any(|name| decided.contains(name)) {
            continue;
        }
        decided.extend(decides);
        best.push(arm);
    }
    best
}

/// Names of the flags and knobs of an arm.
fn decides(arm: &Arm) -> Vec<&str> {
    let flags = arm.serve.iter().chain(&arm.load).map(String::as_str);
    let flags = flags.filter(|word| word.starts_with("--"));
    let program = arm.program.iter().map(|_| "program");
    flags.chain(arm.set.iter().map(|(id, _)| id.as_str())).chain(program).collect()
}

#[cfg(test)]
mod tests {
    use quiclane_tuning::experiment::{Block, Cell, Phase, Side, Step, Workload};

    use super::*;

    /// A log in which the arms have these effects, in both phases.
    fn log(arms: Vec<(Arm, f64)>, confirm: u32) -> Log {
        let mut log = super::super::page::tests::log();
        log.begin.blocks.confirm = confirm;
        log.begin.workloads = vec![Workload::Requests];
        log.begin.arms.truncate(1);
        log.blocks.retain(|block| block.step.phase == Phase::Calibrate);
        for (number, (arm, effect)) in (1..).zip(arms) {
            log.begin.arms.push(arm);
            for phase in [Phase::Screen, Phase::Confirm] {
                for block in 0..8 {
                    let step = Step {
                        phase,
                        workload: Workload::Requests,
                        arm: number,
                        block,
                        attempt: 0,
                    };
                    let cell =
                        |side, figure| (side, Cell { figure, took_s: 1.0, ..Cell::default() });
                    let b = 100.0 * (1.0 + effect) + f64::from(block) * 0.1;
                    let cells = [(Side::A, 100.0), (Side::B, b), (Side::B, b), (Side::A, 100.2)];
                    let cells = cells.map(|(side, figure)| cell(side, figure)).into();
                    log.blocks.push(Block { step, cells });
                }
            }
        }
        log
    }

    fn served(name: &str, flags: &[&str]) -> Arm {
        let serve = flags.iter().map(|word| (*word).to_owned()).collect();
        Arm { name: name.into(), serve, ..Arm::baseline() }
    }

    fn set(id: &str, value: &str) -> Arm {
        let set = vec![(id.to_owned(), value.to_owned())];
        Arm { name: format!("{id}={value}"), set, ..Arm::baseline() }
    }

    fn advice(log: &Log) -> Advice {
        Advice::new(log, &Findings::new(log))
    }

    #[test]
    fn of_two_values_of_one_setting_the_better_one_is_taken() {
        let arms = vec![
            (served("a", &["--socket-buffer", "16m"]), 0.1),
            (served("b", &["--socket-buffer", "64m", "--io", "uring"]), 0.2),
            (served("c", &["--gro", "off"]), 0.15),
            (set("gro", "on"), 0.3),
            (set("netdev_budget", "600"), -0.3),
        ];
        let found = advice(&log(arms, 0));
        let apply = [
            "quiclane serve --socket-buffer 64m --io uring --gro off",
            "sudo quiclane tune apply --interface INTERFACE --set gro=on",
        ];
        let undo = ["quiclane serve  # without these flags", "sudo quiclane tune revert"];
        assert_eq!(
            found,
            Advice { apply: apply.map(String::from).into(), undo: undo.map(String::from).into() }
        );
    }

    #[test]
    fn another_program_is_named() {
        let before = Arm { program: Some("/opt/before".into()), ..served("a", &["--io", "epoll"]) };
        let found = advice(&log(vec![(before, 0.3)], 0));
        assert_eq!(found.apply, ["/opt/before serve --io epoll"]);
    }

    #[test]
    fn what_takes_a_link_down_is_said() {
        let found = advice(&log(vec![(set("mtu", "9000"), 0.3)], 0));
        let [caution, apply] = &found.apply[..] else { panic!("{found:?}") };
        assert!(caution.starts_with("# mtu: every hop"), "{caution}");
        let flags = "--interface INTERFACE --allow-link-reset --set mtu=9000";
        assert_eq!(apply, &format!("sudo quiclane tune apply {flags}"));
    }

    #[test]
    fn what_was_not_confirmed_or_does_not_run_is_no_advice() {
        let four = || [0.1, 0.2, 0.3, 0.4].map(|by| (set(&format!("x{by}"), "1"), by)).to_vec();
        let found = advice(&log(four(), 8));
        let [apply] = &found.apply[..] else { panic!("{found:?}") };
        assert!(apply.contains("x0.4") && apply.contains("x0.2") && !apply.contains("x0.1"));
        let mut broken = log(four(), 8);
        broken.broken.insert((4, Workload::Requests), "no".into());
        assert!(!advice(&broken).apply[0].contains("x0.4"));
        assert_eq!(advice(&log(vec![(set("x", "1"), 0.0)], 0)), Advice::default());
    }
}
