//! trials: how often a verdict is wrong, on a thousand synthetic hosts each.

use super::random::Random;
use super::synthetic::{Noise, Synthetic, begin, completed};
use super::{
    Begin, Blocks, Ended, Estimate, Findings, Guard, Log, Phase, Records, Verdict, Workload, run,
};

/// Noise as real hosts have it: cells that differ by 2 to 4 %, resemble their neighbours, drift,
/// and now and then fall out of line.
fn noise(trial: u64, effect: f64) -> Noise {
    let mut random = Random::new(&[77, trial]);
    Noise {
        effects: vec![0.0, effect],
        sigma: 0.02 + 0.02 * random.unit(),
        memory: 0.6 * random.unit(),
        drift: 0.002 * (random.unit() - 0.5),
        outliers: 0.02,
        stolen: 0.0,
    }
}

fn trial(number: u64, blocks: u32, effect: f64) -> Findings {
    let mut begin = begin(2, &[Workload::Requests]);
    begin.seed = number;
    begin.blocks = Blocks { calibrate: blocks.min(10), screen: blocks, confirm: 0 };
    Findings::new(&completed(begin, noise(number, effect)))
}

/// Of a thousand trials: called different, with the right sign, the effect within the interval.
fn count(blocks: u32, effect: f64) -> [usize; 3] {
    let mut counts = [0; 3];
    for number in 0..1_000 {
        let findings = trial(number * 31 + u64::from(blocks), blocks, effect);
        let finding = &findings.effects[0];
        let Estimate { low, high, effect: found, .. } = finding.estimate.unwrap();
        counts[0] += usize::from(finding.verdict.is_difference());
        let right = finding.verdict.is_difference() && found * effect > 0.0;
        counts[1] += usize::from(right);
        counts[2] += usize::from(low <= effect && effect <= high);
    }
    counts
}

#[test]
fn a_baseline_seldom_differs_from_itself() {
    for blocks in [6, 8, 12, 20] {
        let [different, _, covered] = count(blocks, 0.0);
        assert!(different <= 70, "{blocks} blocks: {different} of 1,000 called different");
        assert!((930..=970).contains(&covered), "{blocks} blocks: {covered} of 1,000 cover 0");
    }
}

#[test]
fn an_effect_of_five_percent_is_found_and_covered() {
    let effect = 0.95_f64.ln();
    for blocks in [12, 16, 20] {
        let [_, right, covered] = count(blocks, effect);
        assert!(right >= 900, "{blocks} blocks: {right} of 1,000 found");
        assert!((930..=970).contains(&covered), "{blocks} blocks: {covered} of 1,000 cover it");
    }
}

#[test]
fn without_a_calibration_nothing_is_claimed() {
    let mut begin = begin(2, &[Workload::Requests]);
    for (calibrate, expected) in [(5, Verdict::Inconclusive), (6, Verdict::Worse)] {
        begin.blocks = Blocks { calibrate, screen: 8, confirm: 0 };
        let findings = Findings::new(&completed(begin.clone(), noise(3, -0.5)));
        assert_eq!(findings.effects[0].verdict, expected, "{calibrate} blocks of calibration");
    }
}

/// Why the interval is none of a resampled median.
#[test]
fn a_percentile_bootstrap_of_the_median_covers_too_little() {
    let mut covered = 0;
    for number in 0..500 {
        let findings = trial(number, 8, 0.0);
        let ratios: Vec<f64> = findings.effects[0]
            .points
            .iter()
            .filter(|point| point.phase == Phase::Screen)
            .map(|point| point.ratio)
            .collect();
        let mut random = Random::new(&[number, 5]);
        let mut medians: Vec<f64> = (0..400)
            .map(|_| {
                let mut draw: Vec<f64> = (0..8).map(|_| ratios[random.below(8)]).collect();
                draw.sort_unstable_by(f64::total_cmp);
                f64::midpoint(draw[3], draw[4])
            })
            .collect();
        medians.sort_unstable_by(f64::total_cmp);
        covered += usize::from(medians[10] <= 0.0 && medians[389] >= 0.0);
    }
    assert!(covered < 465, "{covered} of 500: it would do");
}

#[test]
fn a_run_killed_after_any_cell_ends_as_one_that_was_not() {
    let mut begin = begin(4, &[Workload::Requests, Workload::Latency]);
    begin.blocks = Blocks { calibrate: 2, screen: 6, confirm: 2 };
    begin.arms[3].about = "broken".into();
    let noise = Noise { effects: vec![0.0, 0.3, -0.3, 0.0], stolen: 0.05, ..Noise::default() };
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let end = |path: &std::path::Path, patience| {
        let mut records = Records::create(path, &begin).unwrap();
        let mut log = Log::new(begin.clone());
        let mut bench = Synthetic::new(noise.clone());
        bench.patience = patience;
        run(&mut log, &mut records, &mut bench, |_| {}).unwrap()
    };
    assert_eq!(end(&whole, None), Ended::Complete);
    let expected = std::fs::read_to_string(&whole).unwrap();
    let cells = expected.matches("\"record\":\"cell\"").count();
    assert!(cells > 100 && expected.contains("\"record\":\"broken\""), "{cells}");
    for cell in 0..u32::try_from(cells).unwrap() {
        let path = folder.path().join(format!("killed-{cell}"));
        assert_eq!(end(&path, Some(cell)), Ended::Interrupted);
        // What a kill leaves: part of a line.
        let left = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{left}{{\"record\":\"ce")).unwrap();
        let (mut log, mut records) = Records::resume(&path).unwrap();
        let mut bench = Synthetic::new(noise.clone());
        let ended = run(&mut log, &mut records, &mut bench, |_| {}).unwrap();
        assert_eq!(ended, Ended::Complete);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected, "after cell {cell}");
    }
}

#[test]
fn stolen_blocks_are_void_and_measured_again() {
    let noise = Noise { stolen: 0.1, ..Noise::default() };
    let log = completed(begin(3, &[Workload::Requests]), noise);
    let findings = Findings::new(&log);
    assert!(findings.void[&Guard::Steal] > 3, "{:?}", findings.void);
    for finding in &findings.effects {
        let void = finding.points.iter().filter(|point| !point.breaches.is_empty()).count();
        let estimate = finding.estimate.unwrap();
        assert_eq!(estimate.blocks + void, finding.points.len());
        assert!(finding.points.len() > log.begin.blocks.screen as usize);
        assert!(estimate.effect.abs() < 0.05, "30 % less would show: {estimate:?}");
    }
}

#[test]
fn only_what_holds_on_fresh_data_is_claimed() {
    // Twenty arms without any effect: the best of the screening is luck.
    let mut claimed = 0;
    for seed in 0..40 {
        let begin = Begin { seed, ..begin(21, &[Workload::Requests]) };
        let findings = Findings::new(&completed(begin, Noise::default()));
        claimed += findings.effects.iter().filter(|f| f.verdict == Verdict::Better).count();
    }
    assert!(claimed <= 4, "{claimed} of 40 runs claim what is not there");
    let noise = Noise { effects: vec![0.0, 0.1, 0.0], ..Noise::default() };
    let findings = Findings::new(&completed(begin(3, &[Workload::Latency]), noise));
    let [real, none] = &findings.effects[..] else { panic!("{findings:?}") };
    assert_eq!((real.verdict, real.is_confirmed), (Verdict::Better, true));
    assert!(real.p_adjusted.unwrap() < 0.05 && !none.is_confirmed);
    assert!(real.estimate.unwrap().effect < -0.05, "less latency: {real:?}");
}

#[test]
fn an_arm_that_does_not_run_says_why_and_stops_nobody() {
    let mut begin = begin(3, &[Workload::Requests]);
    begin.arms[1].about = "broken".into();
    let findings = Findings::new(&completed(begin, Noise::default()));
    assert_eq!(findings.effects[0].verdict, Verdict::Inconclusive);
    assert!(findings.effects[0].note.as_ref().unwrap().contains("no such device"));
    assert!(findings.effects[1].estimate.is_some());
}
