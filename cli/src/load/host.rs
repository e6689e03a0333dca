//! host says where and by which command a run was made.

use std::time::{Duration, SystemTime};

use quiclane_loadgen::{About, Report};

use crate::host;

/// What a page says of a run beyond its report.
pub(super) fn about(report: &Report, target: &str) -> About {
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(report.started_unix_ms);
    let mut about = About::default();
    about.target = target.into();
    about.command = host::command();
    about.host = vec![("started", humantime::format_rfc3339_seconds(started).to_string())];
    about.host.extend(host::facts());
    about.host.push(("io", report.io.clone()));
    about
}
