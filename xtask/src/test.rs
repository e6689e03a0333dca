//! test runs floors one after the other, shows everything they print, and sums up by name.
//!
//! A floor or a single test that cannot run here is skipped by name and with its reason. A test
//! says so by printing a line `skipped: WHY` and returning; its name is known from cargo's output.
//! Under `CI=true` that is a failure.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{env, fmt};

use crate::floors::Floor;

/// Why a floor did not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed(String),
    Skipped(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What floors work with, and what they leave behind for the summary.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) root: PathBuf,
    /// cargo's own words: `test result: ...`, one for each test binary.
    results: Vec<String>,
    /// Tests that could not run here, and why.
    skipped: Vec<String>,
    /// The test binary that runs, and the test whose output is being shown.
    binary: String,
    test: String,
}

/// Runs `floors` in order; whether all passed, and in CI: whether none was skipped.
pub(crate) fn run(floors: &[&Floor]) -> bool {
    let mut run = Run::new();
    let mut rows = Vec::new();
    for floor in floors {
        println!("\n==> {}: {}", floor.name, floor.proves);
        let start = now();
        let outcome = (floor.run)(&mut run);
        if let Err(stop) = &outcome {
            println!("==> {}: {stop}", floor.name);
        }
        rows.push(Row { name: floor.name, outcome, took: now() - start });
    }
    let strict = env::var_os("CI").is_some_and(|value| value == "true");
    let (text, passed) = summary(&rows, &run, strict);
    println!("\n{text}");
    passed
}

struct Row {
    name: &'static str,
    outcome: Result<(), Stop>,
    took: Duration,
}

fn summary(rows: &[Row], run: &Run, strict: bool) -> (String, bool) {
    let mut text = format!("{:<12} {:<8} {:>8}\n", "floor", "result", "seconds");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for Row { name, outcome, took } in rows {
        let (count, word, why) = match outcome {
            Ok(()) => (&mut passed, "ok", ""),
            Err(Stop::Failed(why)) => (&mut failed, "FAILED", why.as_str()),
            Err(Stop::Skipped(why)) => (&mut skipped, "skipped", why.as_str()),
        };
        *count += 1;
        let line = format!("{name:<12} {word:<8} {:>8.1}  {why}", took.as_secs_f64());
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for line in &run.skipped {
        text.push_str(&format!("skipped test {line}\n"));
    }
    for line in &run.results {
        text.push_str(&format!("{line}\n"));
    }
    skipped += run.skipped.len();
    let verdict = if strict && skipped > 0 { ": CI=true allows no skips" } else { "" };
    text.push_str(&format!("{passed} floors ok, {failed} failed, {skipped} skipped{verdict}"));
    (text, failed == 0 && !(strict && skipped > 0))
}

impl Run {
    pub(crate) fn new() -> Self {
        Self { root: crate::root(), ..Self::default() }
    }

    /// Runs cargo in the root; its output goes where ours goes.
    pub(crate) fn cargo(&self, arguments: &[&str], env: &[(&str, &str)]) -> Result<(), Stop> {
        let mut command = self.command(arguments, env);
        let status = command.status()?;
        judge(status.success(), arguments, status)
    }

    /// Runs `cargo test`, passes every line on, and keeps the lines that the summary needs.
    pub(crate) fn cargo_test(
        &mut self,
        arguments: &[&str],
        env: &[(&str, &str)],
    ) -> Result<(), Stop> {
        let mut command = self.command(arguments, env);
        // One pipe for both, so that lines stay in the order in which they were written.
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn()?;
        // The command holds the pipe's other end: with it open, reading would never end.
        drop(command);
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            io::stdout().lock().write_all(&line)?;
            self.keep(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        let status = child.wait()?;
        judge(status.success(), arguments, status)
    }

    fn command(&self, arguments: &[&str], env: &[(&str, &str)]) -> Command {
        println!("$ cargo {}", arguments.join(" "));
        let mut command = Command::new(crate::cargo());
        command.args(arguments).envs(env.iter().copied()).current_dir(&self.root);
        command
    }

    fn keep(&mut self, line: &str) {
        if let Some(program) = line.trim_start().strip_prefix("Running ") {
            self.binary = binary(program).to_owned();
        } else if let Some(test) = output_of(line) {
            self.test = test.to_owned();
        } else if line.starts_with("test result: ") {
            self.results.push(line.to_owned());
            self.test.clear();
        } else if let Some(why) = line.strip_prefix("skipped: ") {
            let why = without_name(why, &self.test);
            self.skipped.push(format!("{}{why}", self.place(&self.test)));
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, why)) = test.split_once(" ... ignored")
        {
            self.skipped.push(format!("{}ignored{why}", self.place(name)));
        }
    }

    /// `BINARY::TEST: `, as far as they are known.
    fn place(&self, test: &str) -> String {
        let known = [self.binary.as_str(), test].into_iter().filter(|name| !name.is_empty());
        let place = known.collect::<Vec<_>>().join("::");
        if test.is_empty() { String::new() } else { format!("{place}: ") }
    }
}

/// The name of a test binary: `full` of `tests/full.rs (target/debug/deps/full-0123456789abcdef)`.
fn binary(running: &str) -> &str {
    let file = running.rsplit('/').next().unwrap_or(running).trim_end_matches(')');
    file.rsplit_once('-').map_or(file, |(name, _)| name)
}

/// The test whose output follows this line.
fn output_of(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// What a test says, if it begins with its own name: without that.
fn without_name<'l>(said: &'l str, test: &str) -> &'l str {
    let last = |name: &str| name.rsplit("::").next().unwrap_or_default().to_owned();
    match said.split_once(": ") {
        Some((name, why)) if last(name) == last(test) => why,
        _ => said,
    }
}

fn judge(success: bool, arguments: &[&str], status: impl fmt::Display) -> Result<(), Stop> {
    if success {
        return Ok(());
    }
    Err(Stop::Failed(format!("cargo {}: {status}", arguments.first().unwrap_or(&""))))
}

/// Waits for `child`, but kills it after `limit`.
pub(crate) fn wait_at_most(child: &mut Child, limit: Duration) -> Result<(), Stop> {
    let start = now();
    loop {
        if let Some(status) = child.try_wait()? {
            return match status.success() {
                true => Ok(()),
                false => Err(Stop::Failed(status.to_string())),
            };
        }
        if now() - start > limit {
            child.kill()?;
            child.wait()?;
            return Err(Stop::Failed(format!("still running after {} s", limit.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether `cargo NAME` is there.
pub(crate) fn has_cargo(name: &str) -> bool {
    let arguments: [OsString; 2] = [name.into(), "--version".into()];
    let output = Command::new(crate::cargo()).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

#[expect(clippy::disallowed_methods, reason = "xtask knows no engine, so not its clock either")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, outcome: Result<(), Stop>) -> Row {
        Row { name, outcome, took: Duration::from_millis(1_234) }
    }

    #[test]
    fn the_summary_ends_with_what_cargo_said() {
        let mut run = Run::default();
        run.keep("test result: ok. 3 passed; 0 failed; 0 ignored");
        run.keep("test a::b ... ok");
        let (text, passed) = summary(&[row("unit", Ok(()))], &run, true);
        assert!(passed);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "unit         ok            1.2");
        assert_eq!(lines[2], "test result: ok. 3 passed; 0 failed; 0 ignored");
        assert_eq!(lines[3], "1 floors ok, 0 failed, 0 skipped");
    }

    #[test]
    fn a_failure_fails() {
        let rows = [row("a", Ok(())), row("b", Err(Stop::Failed("exit status: 101".to_owned())))];
        let (text, passed) = summary(&rows, &Run::default(), false);
        assert!(!passed);
        assert!(text.contains("FAILED        1.2  exit status: 101"), "{text}");
    }

    #[test]
    fn a_skip_fails_only_in_ci() {
        let rows = [row("a", Err(Stop::Skipped("no rustfmt".to_owned())))];
        assert!(summary(&rows, &Run::default(), false).1);
        assert!(!summary(&rows, &Run::default(), true).1);
    }

    #[test]
    fn skipped_tests_are_named() {
        let mut run = Run::default();
        run.keep("skipped: uring::echo: io_uring is not allowed here");
        run.keep("     Running tests/netns.rs (target/debug/deps/netns-0123456789abcdef)");
        run.keep("test steer ... ignored, needs CAP_NET_ADMIN");
        for (line, said) in [
            ("---- rooms::full_queue stdout ----", "skipped: no `tc` here"),
            ("---- rooms::veth stdout ----", "skipped: rooms::veth: not root"),
            ("---- rooms::run stdout ----", "skipped: inside: unshare is not permitted"),
        ] {
            run.keep(line);
            run.keep(said);
        }
        let (text, passed) = summary(&[row("unit", Ok(()))], &run, true);
        assert!(!passed);
        for line in [
            "netns::rooms::full_queue: no `tc` here",
            "netns::rooms::veth: not root",
            "netns::rooms::run: inside: unshare is not permitted",
        ] {
            assert!(text.contains(&format!("skipped test {line}\n")), "{line}: {text}");
        }
        assert!(text.contains("skipped test uring::echo: io_uring is not allowed here\n"));
        assert!(text.contains("skipped test netns::steer: ignored, needs CAP_NET_ADMIN\n"));
    }
}
