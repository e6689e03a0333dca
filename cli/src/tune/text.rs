//! text writes what `tune` found and did for people: every line with its file or command.

mod show;
pub(super) use show::Show;

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use quiclane::clock::unix_time;
use quiclane_tuning::{
    Applied, Change, Done, Ended, Export, Finding, Folder, Kept, Outcome, Plan, REVERT, Standing,
    Status, Tuned, Undone, UndoneValue, Value,
};
use serde::Serialize;

/// A plan.
pub(super) struct Planned<'p>(pub(super) &'p Plan);

impl Display for Planned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { asked, changes, kept, traps, .. } = self.0;
        write_traps(traps, f)?;
        writeln!(f, "{asked}: {}", plural(changes.len(), "change"))?;
        for change in changes {
            write_change(change, None, f)?;
        }
        write_kept(kept, f)?;
        match changes.is_empty() {
            true => write!(f, "\nnothing would change"),
            false => write!(f, "\nnothing was changed: `quiclane tune apply` does it"),
        }
    }
}

/// What was applied.
pub(super) struct Set<'a> {
    pub(super) applied: &'a Applied,
    pub(super) folder: &'a Folder,
    /// The program that it is for.
    pub(super) while_runs: Option<&'a OsStr>,
}

impl Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { applied, folder, while_runs } = self;
        write_traps(&applied.traps, f)?;
        for note in &applied.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "{}: {}", applied.asked, plural(applied.changes.len(), "change"))?;
        for (change, done) in applied.changes.iter().zip(&applied.results) {
            write_change(change, Some(done), f)?;
        }
        write_kept(&applied.kept, f)?;
        if let Some(program) = while_runs.filter(|_| applied.misses()) {
            let program = program.display();
            return write!(f, "\n{program} was not run: not all of --set is as asked for");
        }
        if !applied.results.iter().any(Done::is_set) {
            return write!(f, "\nnothing was changed");
        }
        if let Some(program) = while_runs {
            return write!(f, "\nit stays while {} runs", program.display());
        }
        let journal = folder.path().display();
        match applied.for_s {
            Some(seconds) => {
                let time = humantime::format_duration(Duration::from_secs(seconds));
                write!(f, "\na guard puts it back in {time}; ")?;
            }
            None => write!(f, "\nit stays until a reboot; ")?,
        }
        write!(f, "now: {}", revert(&journal.to_string()))
    }
}

/// What was put back.
pub(super) struct PutBack<'u>(pub(super) &'u Undone);

impl Display for PutBack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undone { ok, asked, values, .. } = self.0;
        let Some(asked) = asked else { return write!(f, "nothing is set") };
        write_undone(values, f)?;
        let (restored, all) = (restored(values), values.len());
        match ok {
            true => write!(f, "{asked}: {restored} of {all} as before; the journal is closed"),
            false => write!(
                f,
                "{asked}: {restored} of {all} as before; the journal stays for another try"
            ),
        }
    }
}

fn restored(values: &[UndoneValue]) -> usize {
    let is = |value: &&UndoneValue| matches!(value.outcome, Outcome::Restored | Outcome::Already);
    values.iter().filter(is).count()
}

fn write_undone(values: &[UndoneValue], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for value in values {
        let what = match &value.outcome {
            Outcome::Restored => "is as it was".to_owned(),
            Outcome::Already => "was already as before".to_owned(),
            Outcome::Foreign { now } => format!(
                "left alone: somebody else set it to {now} since; it had been {}",
                value.original
            ),
            Outcome::Gone { why } => format!("nothing to put back: {why}"),
            Outcome::Rebooted => "nothing to put back: the host has booted since".to_owned(),
            Outcome::Failed { why } => format!("could not be put back: {why}"),
            Outcome::Elsewhere { path } => {
                format!("in another network namespace: nsenter --net={path} {REVERT}, or --give-up")
            }
            Outcome::GivenUp => "given up, as asked".to_owned(),
        };
        let name = named(&value.knob, value.interface.as_deref());
        let change = format!("{} -> {}", value.set_to, value.original);
        writeln!(f, "  {name:<NAME$} {change:<24} {what}")?;
        writeln!(f, "  {:<NAME$} {}", "", value.place)?;
    }
    Ok(())
}

/// What is set.
pub(super) struct Now<'s>(pub(super) &'s Standing);

impl Display for Now<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { journal, session, last, .. } = self.0;
        let Some(tuned) = session else {
            if let Some(Ended { asked, at_s, values, .. }) = last {
                writeln!(f, "before, since {}: {asked}", time(*at_s))?;
                write_undone(values, f)?;
                writeln!(f, "{} of {} as before", restored(values), values.len())?;
            }
            return write!(f, "nothing is set ({journal})");
        };
        let Tuned { asked, pid, at_s, for_s, guarded, values, .. } = tuned;
        writeln!(f, "{asked} {}", tuned.text())?;
        writeln!(f, "since {} by process {pid}, journal in {journal}", time(*at_s))?;
        match (for_s, guarded) {
            (Some(seconds), true) => {
                let until = at_s.saturating_add(*seconds);
                match until < unix_time().as_secs() {
                    false => writeln!(f, "a guard puts it back at {}", time(until))?,
                    true => writeln!(
                        f,
                        "its time was over at {}: the guard tries again what it could not put \
                         back; why not, and now: {}",
                        time(until),
                        revert(journal)
                    )?,
                }
            }
            (Some(_), false) => {
                writeln!(f, "its guard is gone: put it back with {}", revert(journal))?;
            }
            (None, _) => {}
        }
        for value in values {
            let Value { knob, interface, place, original, set_to, now, differs, over } = value;
            let state = match (over, now, differs) {
                (true, ..) => "not set, or put back already".to_owned(),
                (_, None, _) => "cannot be read here".to_owned(),
                (_, Some(now), true) => format!("differs: it is {now} now"),
                (_, Some(_), false) => "as set".to_owned(),
            };
            let name = named(knob, interface.as_deref());
            writeln!(f, "  {name:<NAME$} {:<24} {state}", format!("{original} -> {set_to}"))?;
            writeln!(f, "  {:<NAME$} {place}", "")?;
        }
        let differ = values.iter().filter(|value| value.differs).count();
        write!(f, "{}, {differ} changed since by somebody else", plural(values.len(), "value"))
    }
}

/// What was exported, as JSON.
pub(super) fn exported(exports: &[Export], written: &[(PathBuf, &'static str)]) -> impl Serialize {
    #[derive(Serialize)]
    struct Exported {
        schema: u32,
        files: Vec<File>,
    }
    #[derive(Serialize)]
    struct File {
        name: &'static str,
        path: Option<PathBuf>,
        install: &'static str,
        text: String,
    }
    let file = |(at, export): (usize, &Export)| File {
        name: export.name,
        path: written.get(at).map(|(path, _)| path.clone()),
        install: export.install,
        text: export.text.clone(),
    };
    let files = exports.iter().enumerate().map(file).collect();
    Exported { schema: quiclane_tuning::SCHEMA, files }
}

/// Seconds since the Unix epoch, as UTC.
pub(super) fn time(seconds: u64) -> String {
    // More than the calendar has is a journal that nobody wrote.
    let time = Duration::from_secs(seconds.min(LAST_SECOND));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + time).to_string()
}

fn write_change(change: &Change, done: Option<&Done>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Change { site, from, to, why, .. } = change;
    let interface = site.interface.as_ref().map(|nic| nic.name.as_str());
    let name = named(site.knob.id, interface);
    let done = match done {
        None => String::new(),
        Some(Done::Set) => "  set".to_owned(),
        Some(Done::Adjusted(value)) => format!("  set; the kernel made it {value}"),
        Some(Done::Pending(value)) => {
            format!("  NOT IN EFFECT: the kernel noted it, and it stays {value}")
        }
        Some(Done::Refused(why)) => format!("  REFUSED: {why}"),
        Some(Done::Changed(value)) => format!("  left alone: it has become {value}"),
        Some(Done::Unknown(why)) => format!("  UNKNOWN: {why}"),
    };
    writeln!(f, "\n  {name}: {from} -> {to}  ({}){done}", site.knob.reach.name())?;
    writeln!(f, "      why: {why}")?;
    writeln!(f, "      do:  {}", change.command())
}

fn write_kept(kept: &[Kept], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !kept.is_empty() {
        writeln!(f, "\nleft as it is:")?;
    }
    for kept in kept {
        let name = named(kept.knob, kept.interface.as_deref());
        let value = kept.value.as_deref().unwrap_or("-");
        writeln!(f, "  {name:<NAME$} {value:<10} {}  ({})", kept.reason.text(), kept.place)?;
    }
    Ok(())
}

fn write_traps(traps: &[Finding], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for trap in traps.iter().filter(|trap| trap.status > Status::Ok) {
        writeln!(f, "{} {}: {}", trap.status.name(), trap.id, trap.found)?;
        writeln!(f, "    why: {}", trap.why)?;
        if let Some(mend) = &trap.mend {
            writeln!(f, "    do:  {mend}")?;
        }
    }
    if traps.is_empty() { Ok(()) } else { writeln!(f) }
}

/// The command that puts back what a journal has.
fn revert(journal: &str) -> String {
    format!("quiclane tune revert{}", Folder::new(journal).flag())
}

fn named(knob: &str, interface: Option<&str>) -> String {
    interface.map_or_else(|| knob.to_owned(), |interface| format!("{knob} ({interface})"))
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Width of names.
const NAME: usize = 28;

/// The end of the year 9999, where the format ends.
const LAST_SECOND: u64 = 253_402_300_799;
