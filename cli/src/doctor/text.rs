//! text writes a doctor's report for people: grouped, what is wrong easy to find.

use std::fmt::{self, Display, Write};

use quiclane_tuning::{Finding, Report, Status};

/// A report to be written without a newline at the end.
#[derive(Debug)]
pub(super) struct Text<'r> {
    pub(super) report: &'r Report,
    pub(super) verbose: bool,
    pub(super) colour: bool,
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut scope = None;
        for finding in &self.report.checks {
            if scope != Some(&finding.scope) {
                let title = finding.scope.to_string().replace(':', " ");
                writeln!(f, "{}", self.paint(BOLD, &title))?;
                scope = Some(&finding.scope);
            }
            self.finding(finding, f)?;
        }
        self.summary(f)
    }
}

impl Text<'_> {
    fn finding(&self, finding: &Finding, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = format!("{:<8}", finding.status.name());
        let style = style(finding.status);
        write!(f, "  {} {:<15} ", self.paint(style, &status), finding.id)?;
        wrap(&finding.found, f)?;
        if self.verbose || finding.status > Status::Ok {
            write!(f, "{:INDENT$}", "")?;
            wrap(&format!("why: {}", finding.why), f)?;
        }
        match &finding.mend {
            // Never wrapped: it is there to be pasted.
            Some(command) => writeln!(f, "{:INDENT$}{} {command}", "", self.paint(BOLD, "mend:")),
            None => Ok(()),
        }
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        write!(f, "\n{} ok", report.count(Status::Ok))?;
        for status in [Status::Warning, Status::Problem] {
            let count = report.count(status);
            let plural = if count == 1 { "" } else { "s" };
            let text = format!("{count} {}{plural}", status.name());
            let style = if count > 0 { style(status) } else { "" };
            write!(f, ", {}", self.paint(style, &text))?;
            if count > 0 {
                write!(f, " ({})", ids(report, status))?;
            }
        }
        write!(f, ": {}", report.choice)
    }

    fn paint(&self, style: &str, text: &str) -> String {
        match self.colour && !style.is_empty() {
            true => format!("{style}{text}{RESET}"),
            false => text.to_owned(),
        }
    }
}

/// The checks with `status`, each named once.
fn ids(report: &Report, status: Status) -> String {
    let mut ids: Vec<&str> = Vec::new();
    for finding in report.checks.iter().filter(|finding| finding.status == status) {
        if !ids.contains(&finding.id) {
            ids.push(finding.id);
        }
    }
    ids.join(", ")
}

/// Words up to the right margin, the next lines below the first word.
fn wrap(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut column = INDENT;
    for (at, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if at > 0 && column + 1 + width > COLUMNS {
            write!(f, "\n{:INDENT$}", "")?;
            column = INDENT;
        } else if at > 0 {
            f.write_char(' ')?;
            column += 1;
        }
        f.write_str(word)?;
        column += width;
    }
    writeln!(f)
}

fn style(status: Status) -> &'static str {
    match status {
        Status::Ok => GREEN,
        Status::Warning => YELLOW,
        Status::Problem => RED,
    }
}

/// Where the text of a finding begins: after status and name.
const INDENT: usize = 27;
/// As the help texts.
const COLUMNS: usize = 100;

// ECMA-48 select graphic rendition; every terminal knows these.
const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[1;33m";
const RED: &str = "\x1b[1;31m";
const RESET: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use quiclane_tuning::{Ask, doctor};

    use super::*;

    fn text(verbose: bool, colour: bool) -> (Report, String) {
        let report = doctor(&Ask::default());
        let text = Text { report: &report, verbose, colour }.to_string();
        (report, text)
    }

    #[test]
    fn every_finding_is_written_and_the_last_line_sums_up() {
        let (report, text) = text(true, false);
        for finding in &report.checks {
            assert!(text.contains(finding.id), "{finding:?}\n{text}");
        }
        assert_eq!(text.matches("why: ").count(), report.checks.len());
        let last = text.lines().next_back().unwrap();
        assert!(last.starts_with(&format!("{} ok, ", report.count(Status::Ok))), "{last}");
        assert!(last.ends_with(&format!(": {}", report.choice)), "{last}");
        assert!(!text.contains('\x1b') && !text.ends_with('\n'));
    }

    #[test]
    fn only_commands_are_longer_than_the_margin() {
        let (_, text) = text(true, false);
        let long = |line: &&str| line.chars().count() > COLUMNS && line.contains(' ');
        for line in text.lines().filter(long) {
            assert!(line.contains("mend: ") || line.contains(" ok, "), "{line}");
        }
    }

    #[test]
    fn colours_are_switched() {
        assert!(text(false, true).1.contains(GREEN));
    }
}
