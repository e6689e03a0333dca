//! readme compares the tables of README.md with those of the code.

use std::fmt::Write as _;
use std::fs;

use crate::knobs::{Access, Care, Knob, SUBJECTS};
use crate::profile::{Aim, Line, Profile};

/// What stands between two marks of the README.
fn section(mark: &str) -> String {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let rest = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}")).1;
    rest.split_once(&end).unwrap_or_else(|| panic!("no {end}")).0.to_owned()
}

fn check(mark: &str, expected: &str) {
    let found = section(mark);
    assert!(found == expected, "put this between the marks of {mark:?}:\n{expected}");
}

/// The reasons of profiles that differ in them.
fn reasons(lines: &[Option<&Line>; 4]) -> String {
    let reason = |(profile, line): (Profile, &Option<&Line>)| {
        line.map(|(_, _, why)| format!("{}: {why}", profile.name()))
    };
    Profile::ALL.into_iter().zip(lines).filter_map(reason).collect::<Vec<_>>().join("; ")
}

fn how(knob: &Knob) -> &'static str {
    match (knob.access, knob.care) {
        (Access::Flag(_), _) => "flag",
        (Access::Engine(_), _) => "told",
        (Access::Tool(_), _) => "by hand",
        (Access::Boot(..), _) => "boot",
        (_, Care::RaiseOnly) => "raised",
        (_, Care::LinkReset) => "set, link down",
        (_, Care::Free | Care::Rounded) => "set",
    }
}

#[test]
fn the_table_of_knobs_is_that_of_the_code() {
    let mut text = String::new();
    for (subject, knobs) in SUBJECTS {
        writeln!(text, "\n**{subject}**\n").unwrap();
        writeln!(text, "| knob | what | default | worth trying | scope | how | where |").unwrap();
        writeln!(text, "|---|---|---|---|---|---|---|").unwrap();
        for knob in knobs {
            let Knob { id, title, default, candidates, reach, access, .. } = knob;
            let (scope, how, place) = (reach.name(), how(knob), access.place());
            let candidates = candidates.join(", ");
            writeln!(
                text,
                "| `{id}` | {title} | {default} | {candidates} | {scope} | {how} | `{place}` |"
            )
            .unwrap();
        }
    }
    writeln!(text).unwrap();
    check("knobs", &text);
}

#[test]
fn the_table_of_profiles_is_that_of_the_code() {
    let names = Profile::ALL.map(Profile::name).join(" | ");
    let mut text = format!("\n| knob | {names} | why |\n|---|---|---|---|---|---|\n");
    for knob in Knob::all() {
        let line = |profile: Profile| profile.lines().iter().find(|(id, ..)| *id == knob.id);
        let lines = Profile::ALL.map(line);
        let Some((_, _, first)) = lines.iter().flatten().next() else { continue };
        let why = match lines.iter().flatten().all(|(_, _, why)| why == first) {
            true => (*first).to_owned(),
            false => reasons(&lines),
        };
        let aims = lines.map(|line| match line {
            None => String::new(),
            Some((_, Aim::Is(value), _)) => (*value).to_owned(),
            Some((_, Aim::AtLeast(number), _)) => format!("at least {number}"),
            Some((_, Aim::AtMost(number), _)) => format!("at most {number}"),
        });
        writeln!(text, "| `{}` | {} | {why} |", knob.id, aims.join(" | ")).unwrap();
    }
    writeln!(text).unwrap();
    check("profiles", &text);
}
