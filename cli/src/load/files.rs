//! files writes what a run leaves beside its report.
//!
//! A series is written as it grows (series.rs), everything else at the end. Each file is opened
//! before the run begins: a run of an hour whose result nobody can write is an hour lost. What is
//! in it stays until there is something new.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quiclane_loadgen::Report;

use super::host::about;
use super::series::SeriesOutput;
use crate::exit::Failure;
use crate::flags::positive_time;

/// What to write beside the report.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Results")]
pub(super) struct FileOptions {
    /// Print whole distributions: latency, service with --rate, first byte over HTTP/3, handshake
    #[arg(short = 'L', long, conflicts_with = "json")]
    pub(super) latency: bool,

    /// Length of the intervals that the measured part is cut into, at least 10ms; the report has
    /// counts and latencies of each
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = positive_time)]
    pub(super) interval: Duration,

    /// Write a line of JSON for each interval, as it ends; - is stdout, and then the report goes to
    /// stderr
    #[arg(long, value_name = "FILE|-")]
    series: Option<PathBuf>,

    /// Write an interval log of HdrHistogram (V2) with tags latency, service, ttfb, handshake and
    /// lag
    #[arg(long, value_name = "FILE", value_parser = file)]
    hlog: Option<PathBuf>,

    /// Write the percentiles of the latency in milliseconds, as the plotters of HdrHistogram read
    /// them
    #[arg(long, value_name = "FILE", value_parser = file)]
    hgrm: Option<PathBuf>,

    /// Write a page of HTML: latency and rate over time, percentiles, errors, the command as it was
    /// given, and the host. It needs nothing else to be looked at
    #[arg(long, value_name = "FILE.html", value_parser = file)]
    report: Option<PathBuf>,
}

impl FileOptions {
    /// Whether stdout is for a series.
    pub(super) fn takes_stdout(&self) -> bool {
        self.series.as_deref() == Some(Path::new("-"))
    }

    /// Whether intervals are wanted as they end.
    pub(super) fn has_series(&self) -> bool {
        self.series.is_some()
    }

    /// Opens them all; of one of several runs those with its number.
    pub(super) fn open(&self, run: Option<usize>) -> Result<Files, Failure> {
        let [series, hlog, hgrm, report] = self.named().map(|(flag, path)| {
            path.map(|path| Output::open(flag, &numbered(path, run))).transpose()
        });
        let series = series?;
        Ok(Files {
            series: self.has_series().then(|| SeriesOutput::new(series)),
            hlog: hlog?,
            hgrm: hgrm?,
            report: report?,
        })
    }

    /// Whether those of a run that is to come can be written; leaves no new ones behind.
    pub(super) fn probe(&self, run: usize) -> Result<(), Failure> {
        for (flag, path) in self.named() {
            let Some(path) = path.map(|path| numbered(path, Some(run))) else { continue };
            let is_new = !path.exists();
            let output = Output::open(flag, &path)?;
            if is_new {
                let failed = |source| Failure::File { flag, path: output.path, source };
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Those that have a name, by flag.
    fn named(&self) -> [(&'static str, Option<&Path>); 4] {
        let series = self.series.as_deref().filter(|_| !self.takes_stdout());
        [
            ("--series", series),
            ("--hlog", self.hlog.as_deref()),
            ("--hgrm", self.hgrm.as_deref()),
            ("--report", self.report.as_deref()),
        ]
    }
}

/// A file, which stdout is not.
fn file(text: &str) -> Result<PathBuf, String> {
    match text {
        "-" => Err("stdout is for --series; write ./- for a file of that name".into()),
        path => Ok(path.into()),
    }
}

/// `FILE.html` of the second of several runs is `FILE.2.html`.
fn numbered(path: &Path, run: Option<usize>) -> PathBuf {
    let (Some(run), Some(stem)) = (run, path.file_stem()) else { return path.into() };
    let mut name = stem.to_owned();
    name.push(format!(".{run}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Files that are open.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) series: Option<SeriesOutput>,
    hlog: Option<Output>,
    hgrm: Option<Output>,
    report: Option<Output>,
}

impl Files {
    /// Writes what `report` has for each.
    pub(super) fn write(self, report: &Report, target: &str) -> Result<(), Failure> {
        let Self { series, hlog, hgrm, report: page } = self;
        if let Some(series) = series {
            series.finish(report)?;
        }
        if let Some(hlog) = hlog {
            hlog.write(|file| report.write_interval_log(file))?;
        }
        if let Some(hgrm) = hgrm {
            hgrm.write(|file| report.write_percentiles(file))?;
        }
        if let Some(page) = page {
            let about = about(report, target);
            page.write(|file| report.write_page(&about, file))?;
        }
        Ok(())
    }
}

/// A file that can be written.
#[derive(Debug)]
pub(crate) struct Output {
    flag: &'static str,
    path: PathBuf,
    file: File,
    /// Whether what was in it is gone.
    is_new: bool,
}

impl Output {
    /// Opens `path` for `flag`, and changes nothing in it.
    pub(crate) fn open(flag: &'static str, path: &Path) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        match options.write(true).create(true).truncate(false).open(path) {
            Ok(file) => Ok(Self { flag, path: path.into(), file, is_new: false }),
            Err(source) => Err(Failure::File { flag, path: path.into(), source }),
        }
    }

    /// Replaces what is in it.
    pub(crate) fn write(
        mut self,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        self.add(write)
    }

    /// Replaces what was in it at first, and then adds to what was written.
    pub(super) fn add(
        &mut self,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let file = &self.file;
        let is_new = mem::replace(&mut self.is_new, true);
        let add = || {
            // Pipes and devices have no length.
            if !is_new && file.metadata()?.is_file() {
                file.set_len(0)?;
            }
            let mut buffered = BufWriter::new(file);
            write(&mut buffered)?;
            buffered.flush()
        };
        let (flag, path) = (self.flag, &self.path);
        add().map_err(|source| Failure::Write { flag, path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_what_it_has_until_there_is_something_new() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("series");
        fs::write(&path, "something long and old").unwrap();
        let output = Output::open("--series", &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"something long and old");
        output.write(|file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn files_of_several_runs_are_numbered_before_their_extension() {
        for (path, of_the_second) in [
            ("run.html", "run.2.html"),
            ("a.b/run", "a.b/run.2"),
            ("/x/run.tar.gz", "/x/run.tar.2.gz"),
            (".hidden", ".hidden.2"),
            ("..", ".."),
        ] {
            assert_eq!(numbered(Path::new(path), None), Path::new(path));
            assert_eq!(numbered(Path::new(path), Some(2)), Path::new(of_the_second));
        }
    }

    #[test]
    fn what_cannot_be_written_is_said_with_flag_path_and_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let error = Output::open("--series", directory.path()).unwrap_err().to_string();
        for words in ["--series", directory.path().to_str().unwrap(), "may write"] {
            assert!(error.contains(words), "{words}: {error}");
        }
        let full = Output::open("--series", Path::new("/dev/full")).unwrap();
        let error = full.write(|file| file.write_all(b"new")).unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert_eq!(error.exit(), crate::exit::Exit::Failed);
    }
}
