//! What the figures were measured on: a table without it says nothing.

use std::fmt;
use std::fs;

use serde::Serialize;

/// Processor, number of them, kernel.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    cpu: String,
    cpus: usize,
    kernel: String,
}

impl Host {
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, cpu)| cpu);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: model.trim().to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.trim().to_owned(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cpus, kernel } = self;
        write!(f, "{cpu}, {cpus} CPUs, Linux {kernel}, loopback.")
    }
}
