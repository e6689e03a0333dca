//! show writes every knob on a line: its value, and the file or command that it comes from.

use std::fmt::{self, Display};

use quiclane_tuning::{Picture, Presence, Reading, Row};

use super::{NAME, write_traps};

/// A picture of the host.
pub(in crate::tune) struct Show<'p> {
    pub(in crate::tune) picture: &'p Picture,
    pub(in crate::tune) verbose: bool,
}

impl Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_traps(&self.picture.traps, f)?;
        let (mut subject, mut absent) = ("", Vec::new());
        for row in &self.picture.knobs {
            if row.presence == Presence::Absent && !self.verbose {
                absent.push(row.knob.id);
                continue;
            }
            if row.subject != subject {
                writeln!(f, "{}", row.subject)?;
                subject = row.subject;
            }
            self.row(row, f)?;
        }
        if !absent.is_empty() {
            writeln!(f, "not on this host or its interfaces: {}", absent.join(", "))?;
        }
        let count =
            |presence| self.picture.knobs.iter().filter(|row| row.presence == presence).count();
        write!(
            f,
            "\n{} knobs: {} to be set here, {} to be read, {} told about, {} absent; what they do: \
             quiclane tune show --verbose",
            self.picture.knobs.len(),
            count(Presence::Settable),
            count(Presence::Readable),
            count(Presence::Told),
            count(Presence::Absent)
        )
    }
}

impl Show<'_> {
    fn row(&self, row: &Row, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = row.knob.id;
        match row.presence {
            Presence::Told => writeln!(f, "  {id:<NAME$} {:<14} {}", "", row.place)?,
            Presence::Absent => writeln!(f, "  {id:<NAME$} {:<14} {}", "absent", row.place)?,
            Presence::Settable | Presence::Readable => {
                for (at, group) in groups(&row.values).iter().enumerate() {
                    let name = if at == 0 { id } else { "" };
                    let Group { reading, count } = group;
                    let value = reading.value.as_deref().unwrap_or("-");
                    let value = match &reading.why {
                        Some(_) if reading.value.is_some() => format!("{value} *"),
                        _ => value.to_owned(),
                    };
                    let place = match count {
                        1 => reading.place.clone(),
                        count => format!("{} and {} more alike", reading.place, count - 1),
                    };
                    writeln!(f, "  {name:<NAME$} {value:<14} {place}")?;
                }
            }
        }
        if self.verbose { describe(row, f) } else { Ok(()) }
    }
}

fn describe(row: &Row, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let knob = row.knob;
    let candidates = match knob.candidates.is_empty() {
        true => String::new(),
        false => format!("; worth trying {}", knob.candidates.join(" | ")),
    };
    writeln!(f, "      {}, {}", knob.title, knob.reach.name())?;
    writeln!(f, "      default {}{candidates}; since Linux {}", knob.default, knob.since)?;
    writeln!(f, "      {}", knob.mechanism)?;
    writeln!(f, "      for QUIC: {}", knob.effect)?;
    let why = row.values.iter().find_map(|reading| reading.why.as_deref());
    why.map_or(Ok(()), |why| writeln!(f, "      * {why}"))
}

/// Readings that say the same of one interface.
struct Group<'r> {
    reading: &'r Reading,
    count: usize,
}

fn groups(readings: &[Reading]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for reading in readings {
        let same = |group: &&mut Group<'_>| {
            let other = group.reading;
            (&other.interface, &other.value) == (&reading.interface, &reading.value)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.count += 1,
            None => groups.push(Group { reading, count: 1 }),
        }
    }
    groups
}
