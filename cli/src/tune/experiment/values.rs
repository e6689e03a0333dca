//! values sets knobs of the host for one cell and puts them back, by `quiclane tune` itself, whose
//! journal and guard see to it that they are put back also if this process is killed.

use std::path::{Path, PathBuf};

use quiclane_tuning::{Knob, Reach};
use serde_json::Value;

use super::super::cell;
use super::place::Place;

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

    /// Why some of `values` cannot be set, or are so already; `None` if all can.
    pub(super) fn kept(&self, values: &Values) -> Result<Option<String>, String> {
        let (mut changes, mut fulfilled) = (0, None);
        for (inside, values) in self.split(values) {
            let answer = self.tune(inside, "plan", &set(&values))?;
            changes += answer["changes"].as_array().map_or(0, Vec::len);
            for kept in answer["kept"].as_array().into_iter().flatten() {
                let (place, reason) = (text(&kept["place"]), text(&kept["reason"]));
                let why = format!("{place}: {reason}");
                match kept["value"] == kept["wanted"] {
                    true => fulfilled = Some(why),
                    false => return Ok(Some(why)),
                }
            }
        }
        // Some of it may be so already, but not all.
        Ok(fulfilled.filter(|_| changes == 0))
    }

    /// Whether the host stays as it is while the baseline is measured: not if something is set that
    /// a guard will put back, as what a killed experiment left.
    pub(super) fn is_steady(&self) -> Result<(), String> {
        self.is_steady_in(false)?;
        if !self.place.is_private() {
            return Ok(());
        }
        // What nobody guards any more was set in a namespace that is gone, even if this one has
        // its number.
        let session = &self.tune(true, "status", &[])?["session"];
        if session["guarded"] == false {
            self.tune(true, "revert", &["--give-up".into()])?;
        }
        self.is_steady_in(true)
    }

    fn is_steady_in(&self, inside: bool) -> Result<(), String> {
        let session = &self.tune(inside, "status", &[])?["session"];
        let is_finished = session["state"] == "applied" || session["state"] == "rebooted";
        // Killed before its guard was there, it has only begun, and set nothing.
        let is_empty =
            session["guarded"] == false && session["values"].as_array().is_some_and(Vec::is_empty);
        if session.is_null() || is_empty || (is_finished && session["for_s"].is_null()) {
            return Ok(());
        }
        let (asked, journal) = (text(&session["asked"]), self.journal_of(inside));
        Err(format!(
            "`{asked}` is set on this host, and will not stay: put it back with `quiclane tune \
             revert --journal {}`",
            journal.display()
        ))
    }

    /// Two journals: what is in a namespace goes with it.
    fn journal_of(&self, inside: bool) -> PathBuf {
        let mut journal = self.journal.clone().into_os_string();
        if inside {
            journal.push("-namespace");
        }
        journal.into()
    }

    /// Sets `values` until [`Self::revert`], and no longer than `seconds`: all of them, or none.
    pub(super) fn apply(&self, values: &Values, seconds: u64) -> Result<(), String> {
        if let Some(mtu) = mtu(values) {
            self.place.match_mtu(Some(mtu))?;
        }
        // What somebody else has set, so that nothing was done, is not ours to put back.
        let mut ours = Vec::new();
        let set = self.set(values, seconds, &mut ours);
        if set.is_err() {
            // Why it was not set says more than what became of the rest of it.
            let _ = self.put_back(values, ours);
        }
        set
    }

    fn set(&self, values: &Values, seconds: u64, ours: &mut Vec<bool>) -> Result<(), String> {
        let mut changes = 0;
        for (inside, values) in self.split(values) {
            let mut words = set(&values);
            words.extend(["--for".into(), format!("{seconds}s")]);
            let answer = self.tune(inside, "apply", &words)?;
            ours.push(inside);
            // Neither is something else than what was asked for.
            let refusals = refusals(&answer);
            if answer["ok"] != true || !refusals.is_empty() {
                return Err(refusals);
            }
            changes += answer["changes"].as_array().map_or(0, Vec::len);
        }
        match changes {
            0 => Err("it is so already: somebody else has set it".into()),
            _ => Ok(()),
        }
    }

    /// Puts everything back, also what comes after something that could not be.
    pub(super) fn revert(&self, values: &Values) -> Result<(), String> {
        let all = self.split(values).into_iter().map(|(inside, _)| inside).collect();
        self.put_back(values, all)
    }

    fn put_back(&self, values: &Values, places: Vec<bool>) -> Result<(), String> {
        let of = |inside: bool| {
            let answer = self.tune(inside, "revert", &[])?;
            let mut values = answer["values"].as_array().into_iter().flatten();
            // What somebody else made of it meanwhile is no baseline any more.
            let is_foreign = values.any(|value| value["outcome"] == "foreign");
            match answer["ok"] == true && !is_foreign {
                true => Ok(()),
                false => Err(leftovers(&answer)),
            }
        };
        let mtu = mtu(values).map_or(Ok(()), |_| self.place.match_mtu(None));
        places.into_iter().map(of).fold(mtu, Result::and)
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
        if ["plan", "apply"].contains(&what) && self.place.is_private() {
            arguments.push("--allow-link-reset".into());
        }
        if what != "plan" {
            let journal = self.journal_of(inside).to_string_lossy().into_owned();
            arguments.extend(["--journal".into(), journal]);
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

/// What `apply` did not do, or not as it was asked to.
fn refusals(answer: &Value) -> String {
    let rows = |of: &str| answer[of].as_array().cloned().unwrap_or_default();
    let done = rows("changes").into_iter().zip(rows("results")).filter_map(|(change, done)| {
        // What was set is a word; all else has a reason.
        let (outcome, why) = done.as_object()?.iter().next()?;
        Some(format!("{}: {outcome}: {}", text(&change["place"]), text(why)))
    });
    let kept = rows("kept").into_iter().filter(|kept| kept["value"] != kept["wanted"]);
    let kept = kept.map(|kept| format!("{}: {}", text(&kept["place"]), text(&kept["reason"])));
    done.chain(kept).collect::<Vec<_>>().join("; ")
}

/// What `revert` did not do.
fn leftovers(answer: &Value) -> String {
    let rows = answer["values"].as_array().into_iter().flatten();
    let rows =
        rows.filter(|row| !["restored", "already"].contains(&text(&row["outcome"]).as_str()));
    let words = rows.map(|row| {
        let why = [&row["why"], &row["now"]].map(text).concat();
        format!("{}: not put back: {} {why}", text(&row["place"]), text(&row["outcome"]))
    });
    words.collect::<Vec<_>>().join("; ")
}

fn mtu(values: &Values) -> Option<&str> {
    values.iter().find(|(id, _)| id == "mtu").map(|(_, value)| value.as_str())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_done_is_said_in_words() {
        let answer = json!({
            "changes": [{"place": "/proc/a"}, {"place": "/proc/b"}],
            "results": ["set", {"refused": "Invalid argument"}],
            "kept": [
                {"place": "/proc/c", "value": "1", "wanted": "1", "reason": "already so"},
                {"place": "/proc/d", "value": "2", "wanted": "1", "reason": "a limit"},
            ],
        });
        assert_eq!(refusals(&answer), "/proc/b: refused: Invalid argument; /proc/d: a limit");
        let answer = json!({"values": [
            {"place": "/proc/a", "outcome": "restored"},
            {"place": "/proc/b", "outcome": "foreign", "now": "7"},
            {"place": "/proc/c", "outcome": "failed", "why": "no space"},
        ]});
        let expected = "/proc/b: not put back: foreign 7; /proc/c: not put back: failed no space";
        assert_eq!(leftovers(&answer), expected);
    }
}
