//! series writes the intervals of a run (--series) as they end.

use std::io::{self, BufWriter, Write};

use quiclane_loadgen::{Interval, Report};

use super::files::Output;
use crate::exit::Failure;
use crate::output;

/// A series that grows.
#[derive(Debug)]
pub(super) struct SeriesOutput {
    to: Destination,
    /// Lines that were written.
    lines: usize,
    /// Why nothing more is written. The run goes on: it may have been long already.
    failure: Option<Failure>,
}

#[derive(Debug)]
enum Destination {
    File(Output),
    Stdout,
}

impl SeriesOutput {
    /// A series in `file`, or on stdout.
    pub(super) fn new(file: Option<Output>) -> Self {
        let to = file.map_or(Destination::Stdout, Destination::File);
        Self { to, lines: 0, failure: None }
    }

    /// Writes the next intervals.
    pub(super) fn add(&mut self, intervals: &[Interval]) {
        if self.failure.is_some() || intervals.is_empty() {
            return;
        }
        self.lines += intervals.len();
        self.failure = self.to.write(intervals).err();
    }

    /// Writes what is left of the run.
    pub(super) fn finish(mut self, report: &Report) -> Result<(), Failure> {
        match self.failure {
            Some(failure) => Err(failure),
            None => self.to.write(report.intervals.get(self.lines..).unwrap_or_default()),
        }
    }
}

impl Destination {
    fn write(&mut self, intervals: &[Interval]) -> Result<(), Failure> {
        match self {
            Self::File(file) => file.add(|file| lines(intervals, file)),
            Self::Stdout => {
                let mut stdout = BufWriter::new(io::stdout().lock());
                let written = lines(intervals, &mut stdout).and_then(|()| stdout.flush());
                output::unless_gone(written)
            }
        }
    }
}

fn lines(intervals: &[Interval], to: &mut impl Write) -> io::Result<()> {
    intervals.iter().try_for_each(|interval| interval.write_line(to))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_series_grows_in_place_of_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("series");
        std::fs::write(&path, "something long and old\n".repeat(99)).unwrap();
        let file = Output::open("--series", &path).unwrap();
        let mut series = SeriesOutput::new(Some(file));
        series.add(&[]);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("something"));
        for count in 1..4 {
            series.add(&[Interval::default()]);
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!((text.lines().count(), text.contains("something")), (count, false));
        }
    }

    #[test]
    fn a_full_disk_is_told_once() {
        let full = Output::open("--series", Path::new("/dev/full")).unwrap();
        let mut series = SeriesOutput::new(Some(full));
        series.add(&[Interval::default()]);
        series.add(&[Interval::default()]);
        assert_eq!(series.lines, 1, "nothing more is tried");
        let failure = series.failure.unwrap().to_string();
        assert!(failure.contains("--series /dev/full"), "{failure}");
    }
}
