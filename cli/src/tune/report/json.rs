//! json is all that a program needs of an experiment: its findings, and what they are true for.

use quiclane_tuning::experiment::{Findings, Log, Skipped, Unfinished, Workload};
use serde::Serialize;

use super::advice::Advice;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Json<'l> {
    /// [`SCHEMA`].
    schema: u32,
    /// `experiment` or `matrix`.
    what: &'l str,
    /// The command, as a shell takes it.
    command: &'l str,
    /// Seconds since the Unix epoch.
    at_s: u64,
    /// `lo`, `veth` or `host`.
    device: &'l str,
    /// The host: name and value.
    host: &'l [(String, String)],
    /// A share of 1.
    smallest_effect: f64,
    workloads: Vec<Measured>,
    /// What cannot be measured here.
    skipped: &'l [Skipped],
    /// `null`: the run is done.
    unfinished: Option<Unfinished>,
    #[serde(flatten)]
    findings: &'l Findings,
    /// Commands that apply what is better, and those that undo them.
    #[serde(flatten)]
    advice: Advice,
}

/// A workload.
#[derive(Debug, Serialize)]
struct Measured {
    name: Workload,
    /// Of its figures.
    unit: &'static str,
    /// Which figures are better: `more` or `less`.
    better: &'static str,
}

impl<'l> Json<'l> {
    pub(crate) fn new(log: &'l Log, findings: &'l Findings) -> Self {
        let begin = &log.begin;
        let measured = |name: &Workload| Measured {
            name: *name,
            unit: name.unit(),
            better: if name.sign() > 0.0 { "more" } else { "less" },
        };
        Self {
            schema: SCHEMA,
            what: &begin.what,
            command: &begin.command,
            at_s: begin.at_s,
            device: &begin.device,
            host: &begin.host,
            smallest_effect: begin.smallest_effect,
            workloads: begin.workloads.iter().map(measured).collect(),
            skipped: &begin.skipped,
            unfinished: log.unfinished(),
            findings,
            advice: Advice::new(log, findings),
        }
    }
}

/// Of this form.
const SCHEMA: u32 = 1;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_can_be_used_without_the_file() {
        let log = super::super::page::tests::log();
        let findings = Findings::new(&log);
        let said = serde_json::to_value(Json::new(&log, &findings)).unwrap();
        assert_eq!((&said["schema"], &said["at_s"]), (&json!(1), &json!(u64::MAX)));
        let workloads = json!([
            {"name": "requests", "unit": "requests/s", "better": "more"},
            {"name": "latency", "unit": "us (p50)", "better": "less"},
        ]);
        assert_eq!(said["workloads"], workloads);
        // The second workload was not measured.
        assert_eq!(said["unfinished"], json!({"blocks": 12, "of": 24}));
        assert_eq!(said["smallest_effect"], json!(0.02));
        let begin = &log.begin;
        for (field, text) in
            [("what", &begin.what), ("command", &begin.command), ("device", &begin.device)]
        {
            assert_eq!(said[field], json!(text), "{field}");
        }
        assert_eq!((&said["host"], &said["skipped"]), (&json!(begin.host), &json!(begin.skipped)));
        let Advice { apply, undo } = Advice::new(&log, &findings);
        assert!(!apply.is_empty());
        assert_eq!((&said["apply"], &said["undo"]), (&json!(apply), &json!(undo)));
    }
}
