//! finding is one thing that was looked at, and what to do about it.

use std::fmt;

use serde::{Serialize, Serializer};

/// The version of the JSON form of a [`Report`].
pub const SCHEMA: u32 = 1;

/// How good or bad a finding is; later is worse.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, but something that would help is not used.
    Warning,
    /// Something asked for fails, or is silently wrong or far slower than it could be.
    Problem,
}

impl Status {
    /// As in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Scope {
    /// The machine and its kernel.
    Host,
    /// This process: privileges, limits, and what the kernel really gave it.
    Process,
    /// One network interface.
    Interface(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Process => f.write_str("process"),
            Self::Interface(name) => write!(f, "interface:{name}"),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Stable name of the check, such as `socket_buffers`.
    pub id: &'static str,
    /// What it is about: `host`, `process` or `interface:NAME`.
    pub scope: Scope,
    /// How good or bad it is.
    pub status: Status,
    /// What is the case.
    pub found: String,
    /// Why it matters for quiclane.
    pub why: String,
    /// The command that mends it, to be pasted into a root shell; `None` when nothing is wrong or
    /// no command helps.
    pub mend: Option<String>,
}

impl Finding {
    pub(crate) fn ok(
        id: &'static str,
        scope: Scope,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        let (found, why) = (found.into(), why.into());
        Self { id, scope, status: Status::Ok, found, why, mend: None }
    }

    pub(crate) fn warning(
        id: &'static str,
        scope: Scope,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { status: Status::Warning, ..Self::ok(id, scope, found, why) }
    }

    pub(crate) fn problem(
        id: &'static str,
        scope: Scope,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { status: Status::Problem, ..Self::ok(id, scope, found, why) }
    }

    /// In the way of something that was asked for by name: what would be a warning is a problem.
    pub(crate) fn in_the_way(self) -> Self {
        Self { status: if self.status > Status::Ok { Status::Problem } else { Status::Ok }, ..self }
    }

    /// With the command that mends it.
    pub(crate) fn mend(self, command: impl Into<String>) -> Self {
        Self { mend: Some(command.into()), ..self }
    }
}

/// Everything that was found, grouped by scope.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether nothing is a problem.
    pub ok: bool,
    /// The findings, host first, then process, then each interface.
    pub checks: Vec<Finding>,
    /// What a process like this one would run with; in the JSON these are the checks `steering`
    /// and `io`.
    #[serde(skip)]
    pub choice: String,
}

impl Report {
    pub(crate) fn new(mut checks: Vec<Finding>, choice: String) -> Self {
        // Stable: within a scope the order of the checks stays.
        checks.sort_by(|a, b| a.scope.cmp(&b.scope));
        let ok = checks.iter().all(|finding| finding.status < Status::Problem);
        Self { schema: SCHEMA, ok, checks, choice }
    }

    /// How many findings have `status`.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|finding| finding.status == status).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_the_contract() {
        let eth = Scope::Interface("eth0".into());
        let checks = vec![
            Finding::warning("b", eth, "found b", "why b").mend("sysctl -w a=1"),
            Finding::ok("a", Scope::Host, "found a", "why a"),
        ];
        let report = Report::new(checks, "epoll".into());
        let expected = serde_json::json!({
            "schema": 1,
            "ok": true,
            "checks": [
                {"id": "a", "scope": "host", "status": "ok", "found": "found a", "why": "why a",
                 "mend": null},
                {"id": "b", "scope": "interface:eth0", "status": "warning", "found": "found b",
                 "why": "why b", "mend": "sysctl -w a=1"},
            ],
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), expected);
    }

    #[test]
    fn one_problem_spoils_it() {
        let report =
            Report::new(vec![Finding::problem("a", Scope::Process, "", "")], String::new());
        assert!(!report.ok);
        assert_eq!((report.count(Status::Problem), report.count(Status::Ok)), (1, 0));
    }
}
