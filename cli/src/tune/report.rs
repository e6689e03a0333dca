//! report says what a file of records says: a table, JSON, or a page that needs nothing else.

mod advice;
mod forest;
mod json;
mod page;
mod table;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use quiclane_tuning::experiment::{Findings, Log};

use crate::exit::{Exit, Failure};
use crate::output;
pub(crate) use json::Json;
pub(crate) use table::Table;

/// Say what an experiment found: a table, JSON, or a page
///
/// Reads what `tune experiment` and `bench matrix` write, also while they are running.
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// The file of records
    #[arg(value_name = "FILE.jsonl")]
    file: PathBuf,

    /// Write a page of HTML: effects with their intervals, every block, the host, what to apply and
    /// how to undo it. It needs nothing else to be looked at
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,

    /// The result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &ReportArgs) -> Result<Exit, Failure> {
    if let Some(output) = args.output.as_ref().filter(|output| is_same(&args.file, output)) {
        return Err(Failure::Setting(format!(
            "-o {}: that is the file of records itself: give the page a name of its own",
            output.display()
        )));
    }
    if let Some(output) = args.output.as_ref().filter(|output| is_of_others(output)) {
        return Err(Failure::Setting(format!(
            "-o {}: this file is there already, and is no page: give the page another name, or \
             remove the file first",
            output.display()
        )));
    }
    let log = Log::read(&args.file)?;
    let findings = Findings::new(&log);
    if let Some(path) = &args.output {
        let page = page::Page { log: &log, findings: &findings, file: &args.file }.to_string();
        let written = fs::write(path, page);
        written.map_err(|source| Failure::File { flag: "-o", path: path.clone(), source })?;
    }
    match args.json {
        true => output::json(&Json::new(&log, &findings))?,
        false => output::result(Table { log: &log, findings: &findings, file: &args.file })?,
    }
    Ok(Exit::Ok)
}

/// Whether two names are those of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let of = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    of(one).is_some_and(|file| of(other) == Some(file))
}

/// Whether there is a file that is no page: measurements of another run, for example.
fn is_of_others(path: &Path) -> bool {
    let is_file = fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() > 0);
    let mut start = Vec::new();
    let mut read = || File::open(path)?.take(page::START.len() as u64).read_to_end(&mut start);
    // What cannot be read cannot be written either, or is not ours to judge.
    is_file && (read().is_err() || start != page::START.as_bytes())
}

/// A log ratio as percent of change, with its sign.
fn percent(ratio: f64) -> String {
    match ratio {
        f64::NEG_INFINITY => "-100 %".into(),
        f64::INFINITY => "any".into(),
        ratio => format!("{:+.1} %", ratio.exp_m1() * 100.0),
    }
}

/// A figure with three digits or more.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let [one, link, other] = ["one", "link", "other"].map(|name| folder.path().join(name));
        fs::write(&one, "x").unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        assert!(is_same(&one, &link) && !is_same(&one, &other));
        fs::write(&other, "x").unwrap();
        assert!(!is_same(&one, &other));
    }

    #[test]
    fn only_pages_are_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        assert!(!is_of_others(&path), "nothing is there");
        let log = page::tests::log();
        let findings = Findings::new(&log);
        let page = page::Page { log: &log, findings: &findings, file: &path }.to_string();
        for (text, expected) in
            [("", false), (page.as_str(), false), ("<!doctype", true), ("{\"record\":", true)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(is_of_others(&path), expected, "{text:.20}");
        }
        assert!(!is_of_others(Path::new("/dev/null")));
    }

    #[test]
    fn ratios_are_percent() {
        assert_eq!(percent(0.05_f64.ln_1p()), "+5.0 %");
        assert_eq!(percent((-0.05_f64).ln_1p()), "-5.0 %");
        assert_eq!(
            (percent(f64::INFINITY).as_str(), percent(f64::NEG_INFINITY).as_str()),
            ("any", "-100 %")
        );
        assert_eq!((figure(123_456.7).as_str(), figure(4.8325).as_str()), ("123457", "4.83"));
    }
}
