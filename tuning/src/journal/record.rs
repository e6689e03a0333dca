//! record is what stands on the lines of a journal, and how it is understood.

use serde::{Deserialize, Serialize};

use crate::knobs::Knob;
use crate::revert::Outcome;
use crate::site::{Nic, Site};
use crate::status::Runs;

/// One line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Record {
    /// The first one.
    Begin(Begin),
    /// A value is about to be written.
    Intent {
        seq: u32,
        knob: String,
        interface: Option<Nic>,
        path: Option<String>,
        /// Byte by byte as it was read.
        original: String,
        wanted: String,
    },
    /// It was, and this is what is read now.
    Done { seq: u32, now: String },
    /// The kernel did not take it: nothing has changed.
    Refused { seq: u32 },
    /// Everything was written that can be: it stays without whoever wrote it.
    Applied,
    /// Everything was written that can be, and stays while this runs.
    Runs(Runs),
    /// A value needs no more care.
    Settled { seq: u32, outcome: Outcome },
    /// None does.
    Closed { why: String },
}

/// Whose journal it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The boot that the values belong to.
    pub(crate) boot: String,
    /// The network namespace.
    pub(crate) namespace: u64,
    pub(crate) pid: u32,
    /// What was asked for, as `profile latency`.
    pub(crate) by: String,
    /// Seconds since the Unix epoch.
    pub(crate) at_s: u64,
    /// After how long a guard reverts.
    pub(crate) for_s: Option<u64>,
}

/// The version of the records.
pub(crate) const VERSION: u32 = 1;

/// A journal as it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Log {
    pub(crate) begin: Begin,
    /// In the order in which they were written.
    pub(crate) entries: Vec<Entry>,
    /// Whether everything was written that was to be.
    pub(crate) applied: bool,
    /// What it stays for, where it was set for a command.
    pub(crate) runs: Option<Runs>,
    /// Whether nothing is left to be done.
    pub(crate) closed: bool,
    /// Length of the whole records.
    pub(crate) bytes: u64,
}

/// A value that was, or may have been, written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) seq: u32,
    pub(crate) knob: String,
    pub(crate) interface: Option<Nic>,
    pub(crate) path: Option<String>,
    pub(crate) original: String,
    pub(crate) wanted: String,
    /// What was read after it was written; `None`: nobody lived to read it.
    pub(crate) now: Option<String>,
    pub(crate) refused: bool,
    pub(crate) settled: Option<Outcome>,
}

impl Entry {
    /// Whether it may differ from its original because of us.
    pub(crate) fn is_open(&self) -> bool {
        !self.refused && self.settled.is_none()
    }

    /// Where it is, as far as this program knows the knob.
    pub(crate) fn place(&self) -> String {
        let (interface, path) = (self.interface.clone(), self.path.clone());
        match (Knob::by_id(&self.knob), path) {
            (_, Some(path)) => path,
            (Some(knob), path) => Site { knob, interface, path }.place(),
            (None, None) => self.knob.escape_debug().to_string(),
        }
    }
}

impl Record {
    pub(crate) fn intent(seq: u32, site: &Site, original: String, wanted: String) -> Self {
        let (knob, interface, path) =
            (site.knob.id.to_owned(), site.interface.clone(), site.path.clone());
        Self::Intent { seq, knob, interface, path, original, wanted }
    }
}

impl Log {
    /// Whether nothing may differ from its original because of us.
    pub(crate) fn is_over(&self) -> bool {
        self.closed || self.entries.iter().all(|entry| !entry.is_open())
    }

    /// Understands the bytes of a journal. `None`: it has not even begun. The error is a line and
    /// what is wrong with it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, (usize, String)> {
        // What follows the last newline was being written when somebody died.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut log: Option<Self> = None;
        for (at, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let wrong = |why: String| (at + 1, why);
            let record = serde_json::from_slice::<Record>(line);
            let record = record.map_err(|error| wrong(error.to_string()))?;
            match (&mut log, record) {
                (None, Record::Begin(begin)) => log = Some(Self::new(begin).map_err(wrong)?),
                (None, _) => return Err(wrong("does not begin".into())),
                (Some(log), record) => log.take(record).map_err(wrong)?,
            }
        }
        if let Some(log) = &mut log {
            log.bytes = whole as u64;
        }
        Ok(log)
    }

    fn new(begin: Begin) -> Result<Self, String> {
        if begin.version != VERSION {
            return Err(format!(
                "version {} of the journal is not known here: use the quiclane that wrote it",
                begin.version
            ));
        }
        let (entries, runs) = (Vec::new(), None);
        Ok(Self { begin, entries, applied: false, runs, closed: false, bytes: 0 })
    }

    fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Begin(_) => return Err("begins a second time".into()),
            Record::Intent { seq, knob, interface, path, original, wanted } => {
                if seq as usize != self.entries.len() {
                    return Err(format!("entry {seq} follows {} others", self.entries.len()));
                }
                let (now, refused, settled) = (None, false, None);
                let entry =
                    Entry { seq, knob, interface, path, original, wanted, now, refused, settled };
                self.entries.push(entry);
            }
            Record::Done { seq, now } => self.entry(seq)?.now = Some(now),
            Record::Refused { seq } => self.entry(seq)?.refused = true,
            Record::Applied => self.applied = true,
            Record::Runs(runs) => self.runs = Some(runs),
            Record::Settled { seq, outcome } => self.entry(seq)?.settled = Some(outcome),
            Record::Closed { .. } => self.closed = true,
        }
        Ok(())
    }

    fn entry(&mut self, seq: u32) -> Result<&mut Entry, String> {
        let entry = self.entries.get_mut(seq as usize);
        entry.ok_or_else(|| format!("there is no entry {seq} before"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> Begin {
        let (boot, by) = ("b".into(), "profile latency".into());
        Begin { version: VERSION, boot, namespace: 7, pid: 1, by, at_s: 5, for_s: Some(60) }
    }

    fn records() -> Vec<Record> {
        let intent = |seq: u32| Record::Intent {
            seq,
            knob: "rmem_max".into(),
            interface: None,
            path: Some("/proc/sys/net/core/rmem_max".into()),
            original: "1\n".into(),
            wanted: "2".into(),
        };
        vec![
            Record::Begin(begin()),
            intent(0),
            Record::Done { seq: 0, now: "2\n".into() },
            intent(1),
            Record::Refused { seq: 1 },
            intent(2),
            Record::Runs(Runs { program: "cat".into(), pid: 9 }),
            Record::Applied,
            Record::Settled { seq: 0, outcome: Outcome::Restored },
            Record::Closed { why: "done".into() },
        ]
    }

    fn bytes(records: &[Record]) -> Vec<u8> {
        let line = |record: &Record| [serde_json::to_vec(record).unwrap(), b"\n".to_vec()].concat();
        records.iter().flat_map(line).collect()
    }

    #[test]
    fn a_journal_is_understood() {
        let bytes = bytes(&records());
        let log = Log::read(&bytes).unwrap().unwrap();
        assert_eq!(log.begin, begin());
        assert_eq!(log.bytes, bytes.len() as u64);
        assert!(log.applied && log.closed);
        assert_eq!(log.runs.unwrap().program, "cat");
        let open: Vec<_> = log.entries.iter().map(Entry::is_open).collect();
        assert_eq!(open, [false, false, true]);
        assert_eq!(log.entries[0].now.as_deref(), Some("2\n"));
    }

    #[test]
    fn a_journal_that_is_cut_anywhere_is_understood_up_to_the_cut() {
        let records = records();
        let whole = bytes(&records);
        for length in 0..=whole.len() {
            let log = Log::read(&whole[..length]).unwrap();
            let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(log.is_some(), lines > 0, "{length}");
            if let Some(log) = log {
                assert_eq!(log.bytes, bytes(&records[..lines]).len() as u64);
            }
        }
    }

    #[test]
    fn no_byte_makes_it_panic() {
        let whole = bytes(&records());
        let mut damaged = 0;
        for at in 0..whole.len() {
            for byte in [0, b'\n', b'"', b'9', b'}', 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                damaged += usize::from(Log::read(&bytes).is_err());
            }
        }
        assert!(damaged > whole.len(), "{damaged}");
    }

    #[test]
    fn damage_is_named_by_its_line() {
        let good = records();
        for (text, line, words) in [
            ("x\n".to_owned(), 1, "expected"),
            ("{\"record\":\"applied\"}\n".into(), 1, "does not begin"),
            (format!("{}x\n", String::from_utf8(bytes(&good[..1])).unwrap()), 2, "expected"),
            (String::from_utf8(bytes(&[good[0].clone(), good[0].clone()])).unwrap(), 2, "second"),
            (String::from_utf8(bytes(&[good[0].clone(), good[2].clone()])).unwrap(), 2, "entry 0"),
            (String::from_utf8(bytes(&[good[0].clone(), good[3].clone()])).unwrap(), 2, "entry 1"),
        ] {
            let (at, why) = Log::read(text.as_bytes()).unwrap_err();
            assert!(at == line && why.contains(words), "{text}: {at} {why}");
        }
        let other = Begin { version: 2, ..begin() };
        let (_, why) = Log::read(&bytes(&[Record::Begin(other)])).unwrap_err();
        assert!(why.contains("version 2"), "{why}");
    }
}
