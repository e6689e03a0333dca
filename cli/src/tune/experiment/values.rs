//! values sets knobs of the host for one cell and puts them back, by `quiclane tune` itself, whose
//! journal and guard see to it that they are put back also if this process is killed.

use std::path::{Path, PathBuf};

use quiclane_tuning::{Knob, Reach};
use serde_json::Value;

use super::super::cell;
use super::place::Place;

/// What a host would change.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// Plain commands.
    pub(super) apply: Vec<String>,
    /// Plain commands that undo them.
    pub(super) undo: Vec<String>,
    /// Why a value would stay.
    pub(super) kept: Option<String>,
}

/// Values of knobs, as `--set` takes them.
pub(super) type Values = [(String, String)];

/// Where values are set, and remembered.
#[derive(Debug)]
pub(super) struct Host<'p> {
    place: &'p Place,
    journal: PathBuf,
}

impl<'p> Host<'p> {
    pub(super) fn new(place: &'p Place, journal: &Path) -> Self {
        Self { place, journal: journal.into() }
    }

    /// What setting `values` would do.
    pub(super) fn plan(&self, values: &Values) -> Result<Planned, String> {
        let mut planned = Planned::default();
        for (inside, values) in self.split(values) {
            let answer = self.tune(inside, "plan", &set(&values))?;
            for change in answer["changes"].as_array().into_iter().flatten() {
                planned.apply.push(text(&change["command"]));
                planned.undo.push(text(&change["undo"]));
            }
            if let Some(kept) = answer["kept"].as_array().and_then(|kept| kept.first()) {
                let (place, reason) = (text(&kept["place"]), text(&kept["reason"]));
                planned.kept = Some(format!("{place}: {reason}"));
            }
        }
        planned.undo.reverse();
        Ok(planned)
    }

    /// Sets `values` until [`Self::revert`], and no longer than `seconds`.
    pub(super) fn apply(&self, values: &Values, seconds: u64) -> Result<(), String> {
        if let Some(mtu) = mtu(values) {
            self.place.match_mtu(Some(mtu))?;
        }
        for (inside, values) in self.split(values) {
            let mut words = set(&values);
            words.extend(["--for".into(), format!("{seconds}s")]);
            let answer = self.tune(inside, "apply", &words)?;
            if answer["ok"] != true || answer["changes"].as_array().is_none_or(Vec::is_empty) {
                self.revert(&values)?;
                return Err(format!("not set: {}", answer["results"]));
            }
        }
        Ok(())
    }

    /// Puts everything back.
    pub(super) fn revert(&self, values: &Values) -> Result<(), String> {
        for (inside, _) in self.split(values) {
            let answer = self.tune(inside, "revert", &[])?;
            if answer["ok"] != true {
                return Err(format!("not put back: {}", answer["values"]));
            }
        }
        mtu(values).map_or(Ok(()), |_| self.place.match_mtu(None))
    }

    /// What belongs to the namespace of the server, and what to the host.
    fn split(&self, values: &Values) -> Vec<(bool, Vec<(String, String)>)> {
        let is_inside = |(id, _): &&(String, String)| {
            let reach = Knob::by_id(id).map(|knob| knob.reach);
            let local = matches!(reach, Some(Reach::Netns | Reach::Interface));
            local && self.place.server_holder().is_some()
        };
        let (inside, outside): (Vec<_>, Vec<_>) = values.iter().partition(is_inside);
        let both = [(true, inside), (false, outside)].into_iter();
        both.filter(|(_, values)| !values.is_empty())
            .map(|(inside, values)| (inside, values.into_iter().cloned().collect()))
            .collect()
    }

    fn tune(&self, inside: bool, what: &str, words: &[String]) -> Result<Value, String> {
        let mut arguments = vec!["tune".to_owned(), what.into(), "--json".into()];
        if what != "revert" && self.place.is_private() {
            arguments.push("--allow-link-reset".into());
        }
        if what != "plan" {
            // Two journals: what is in a namespace goes with it.
            let mut journal = self.journal.clone().into_os_string();
            if inside {
                journal.push("-namespace");
            }
            arguments.extend(["--journal".into(), journal.to_string_lossy().into_owned()]);
        }
        let of_interface = |pair: &[String]| {
            let id = pair[1].split('=').next().unwrap_or_default();
            pair[0] == "--set" && Knob::by_id(id).is_some_and(|knob| knob.reach == Reach::Interface)
        };
        if words.windows(2).any(of_interface) {
            arguments.extend(["--interface".into(), self.place.interface.into()]);
        }
        arguments.extend_from_slice(words);
        let holder = if inside { self.place.server_holder() } else { None };
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let command = cell::command(holder, &program.to_string_lossy(), &arguments);
        let output = command.and_then(|mut command| command.output());
        let output = output.map_err(|error| error.to_string())?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            said.trim().trim_start_matches("error: ").to_owned()
        })
    }
}

fn set(values: &Values) -> Vec<String> {
    values.iter().flat_map(|(id, value)| ["--set".to_owned(), format!("{id}={value}")]).collect()
}

fn mtu(values: &Values) -> Option<&str> {
    values.iter().find(|(id, _)| id == "mtu").map(|(_, value)| value.as_str())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
