//! metrics counts; one writer per counter, any number of readers.
//!
//! One table gives every counter its field, its Prometheus name and its help text, in the order
//! in which a packet meets them. The law, on every worker at every moment between turns:
//!
//! ```text
//! received + tossed_in = live + initial + other_long + sibling + draining + orphan + junk
//! ```

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use quiclane_datapath::{Counter, Counters as DatapathCounters};
use quiclane_wire::{Reason, Unanswered};

use crate::steer::{FrameCount, Kernel, KernelCounts, Place};

macro_rules! worker_counters {
    ($($kind:ident $name:literal $field:ident $help:literal;)*) => {
        /// What one worker counts.
        #[derive(Debug, Default)]
        pub struct WorkerCounters {
            $(#[doc = $help] pub $field: Counter,)*
            /// Junk datagrams by reason.
            pub junk: ByReason<Reason>,
            /// Packets of unknown connections that got no stateless reset, by reason.
            pub unanswered: ByReason<Unanswered>,
        }

        /// The counters of one worker at one moment.
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub struct WorkerSnapshot {
            $(#[doc = $help] pub $field: u64,)*
            /// Junk datagrams, all reasons.
            pub junk: u64,
        }

        impl WorkerCounters {
            /// Reads every counter.
            #[must_use]
            pub fn snapshot(&self) -> WorkerSnapshot {
                WorkerSnapshot {
                    $($field: self.$field.value(),)*
                    junk: self.junk.total(),
                }
            }

            fn each(&self) -> impl Iterator<Item = (&'static str, Kind, &'static str, u64)> {
                [$(($name, Kind::$kind, $help, self.$field.value())),*].into_iter()
            }
        }
    };
}

worker_counters! {
    Total "route_received" received "Datagrams received from the worker's own sockets.";
    Total "route_tossed_in" tossed_in "Datagrams taken over from siblings.";
    Total "route_live" live "Datagrams with a connection ID of this worker; all of a client's.";
    Total "route_initial" initial
        "First Initial and 0-RTT datagrams with a client-chosen connection ID.";
    Total "route_other_long" other_long "Long headers of unknown versions.";
    Total "route_sibling" sibling "Datagrams that belong to another worker.";
    Total "route_draining" draining "Datagrams that belong to an older process.";
    Total "route_orphan" orphan "Datagrams of epochs that no process owns.";
    Total "toss_dropped" toss_dropped
        "Strays dropped because the owner's mailbox was full; part of sibling.";
    Total "pool_replaced_blocks" pool_replaced
        "Receive blocks replaced because slices of the old one are held.";
    Total "endpoint_accepted_connections" accepted "Incoming connections whose handshake began.";
    Total "endpoint_opened_connections" opened "Outgoing connections that were started.";
    Total "endpoint_migrated_connections" migrated "Outgoing connections moved to another socket.";
    Total "endpoint_connected_connections" connected "Handshakes completed, both directions.";
    Total "endpoint_closed_connections" closed "Connections that ended, handshakes included.";
    Gauge "endpoint_open_connections" open "Connections held now, closing ones included.";
    Gauge "endpoint_half_open_connections" half_open "Incoming handshakes under way now.";
    Total "endpoint_retries" retries "Retry packets sent.";
    Total "endpoint_refused_connections" refused
        "Incoming connections refused, by a limit or while stopping.";
    Total "endpoint_ignored_initials" ignored "First Initials dropped at the half-open limit.";
    Total "endpoint_stateless_resets" resets_sent "Stateless resets sent.";
    Total "endpoint_responses" responses
        "Other stateless answers: Version Negotiation and early closes.";
    Total "endpoint_responses_dropped" responses_dropped
        "Stateless answers dropped because no send slot was free.";
    Total "limit_handshake_deadline" handshake_deadline "Handshakes given up at the deadline.";
    Total "limit_connections" connection_limit "Connections refused at the limit `connections`.";
    Total "limit_issued_cids" issued_cids
        "Connections closed at the limit `issued_cids_unacknowledged`.";
    Total "limit_unvalidated_path" unvalidated_path
        "Datagrams not sent to an unvalidated address beyond three times what came from it.";
    Total "worker_turns" turns "Turns of the worker's loop.";
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Total,
    Gauge,
}

/// One counter for each reason of a list.
#[derive(Debug)]
pub struct ByReason<R> {
    counters: Box<[Counter]>,
    reasons: PhantomData<R>,
}

/// A list of reasons.
pub trait Listed: Copy + 'static {
    /// Every reason, in the order of their numbers.
    const ALL: &'static [Self];

    /// Its number.
    fn index(self) -> usize;

    /// Its name as a metric label.
    fn name(self) -> &'static str;
}

impl Listed for Reason {
    const ALL: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        self.name()
    }
}

impl Listed for Unanswered {
    const ALL: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        self.name()
    }
}

impl<R: Listed> Default for ByReason<R> {
    fn default() -> Self {
        let counters = R::ALL.iter().map(|_| Counter::default()).collect();
        Self { counters, reasons: PhantomData }
    }
}

impl<R: Listed> ByReason<R> {
    /// Counts one datagram.
    #[inline]
    pub fn add(&self, reason: R) {
        if let Some(counter) = self.counters.get(reason.index()) {
            counter.add(1);
        }
    }

    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counters.iter().map(Counter::value).sum()
    }

    /// Those with this reason.
    #[must_use]
    pub fn of(&self, reason: R) -> u64 {
        self.counters.get(reason.index()).map_or(0, Counter::value)
    }

    /// Reason and count.
    pub fn each(&self) -> impl Iterator<Item = (R, u64)> {
        R::ALL.iter().zip(&self.counters).map(|(reason, counter)| (*reason, counter.value()))
    }
}

impl WorkerSnapshot {
    /// Both sides of the law of the module documentation.
    #[must_use]
    pub fn law(&self) -> (u64, u64) {
        let arrived = self.received + self.tossed_in;
        let routed = self.live
            + self.initial
            + self.other_long
            + self.sibling
            + self.draining
            + self.orphan
            + self.junk;
        (arrived, routed)
    }
}

/// The counters of all workers.
#[derive(Debug)]
pub struct Metrics {
    workers: Vec<WorkerMetrics>,
    info: Vec<(&'static str, String)>,
    /// The workers hold the metrics, so the programs live as long as they do.
    kernel: Option<Arc<Kernel>>,
}

#[derive(Debug)]
struct WorkerMetrics {
    counters: Arc<WorkerCounters>,
    datapath: OnceLock<Arc<DatapathCounters>>,
}

impl Metrics {
    pub(crate) fn new(
        workers: usize,
        info: Vec<(&'static str, String)>,
        kernel: Option<Arc<Kernel>>,
    ) -> Self {
        let workers = (0..workers)
            .map(|_| WorkerMetrics { counters: Arc::default(), datapath: OnceLock::new() })
            .collect();
        Self { workers, info, kernel }
    }

    pub(crate) fn worker(&self, worker: usize) -> Arc<WorkerCounters> {
        Arc::clone(&self.workers[worker].counters)
    }

    pub(crate) fn register_datapath(&self, worker: usize, counters: Arc<DatapathCounters>) {
        let _ = self.workers[worker].datapath.set(counters);
    }

    /// Every worker's counters now.
    #[must_use]
    pub fn snapshots(&self) -> Vec<WorkerSnapshot> {
        self.workers.iter().map(|worker| worker.counters.snapshot()).collect()
    }

    /// Every worker's datapath counters; `None` before it started.
    pub fn datapaths(&self) -> impl Iterator<Item = Option<&Arc<DatapathCounters>>> {
        self.workers.iter().map(|worker| worker.datapath.get())
    }

    /// Everything in Prometheus text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        let labels: Vec<_> = self.info.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let _ = write!(
            text,
            "# HELP quiclane_info What was chosen at start.\n# TYPE quiclane_info gauge\n\
             quiclane_info{{{}}} 1\n",
            labels.join(",")
        );
        self.write_steering(&mut text);
        self.write_counters(&mut text);
        self.write_reasons(
            &mut text,
            "route_junk",
            "Datagrams that deserve nothing.",
            |counters| &counters.junk,
        );
        self.write_reasons(
            &mut text,
            "reset_unanswered",
            "Packets of unknown connections that got no stateless reset.",
            |counters| &counters.unanswered,
        );
        self.write_datapath(&mut text);
        self.write_kernel(&mut text);
        text
    }

    /// Packets of unknown connections that the workers gave no stateless reset, of all workers by
    /// reason, with the names of `quiclane_reset_unanswered_total`.
    #[must_use]
    pub fn unanswered(&self) -> Vec<(&'static str, u64)> {
        let of = |reason: Unanswered| {
            let counts = self.workers.iter().map(|one| one.counters.unanswered.of(reason));
            (reason.name(), counts.sum())
        };
        Unanswered::ALL.into_iter().map(of).collect()
    }

    /// What the eBPF programs counted; `None` on the rungs without them.
    #[must_use]
    pub fn kernel(&self) -> Option<KernelCounts> {
        self.kernel.as_ref().map(|kernel| kernel.counts())
    }

    /// The rung of a server; with XDP one line for each interface that it was put on.
    fn write_steering(&self, text: &mut String) {
        let rung = self.info.iter().find(|(name, _)| *name == "steering").map(|(_, rung)| rung);
        let Some(rung) = rung.filter(|rung| *rung != "none") else { return };
        text.push_str(
            "# HELP quiclane_engine_steering The rung taken at start; with XDP, whether the \
             program is on the interface now.\n# TYPE quiclane_engine_steering gauge\n",
        );
        let places = self.kernel.as_ref().map(|kernel| kernel.places()).unwrap_or_default();
        if places.is_empty() {
            let _ = writeln!(text, "quiclane_engine_steering{{rung=\"{rung}\"}} 1");
        }
        for Place { interface, mode, is_on } in places {
            let _ = writeln!(
                text,
                "quiclane_engine_steering{{rung=\"{rung}\",interface=\"{}\",mode=\"{mode}\"}} {}",
                escaped(&interface),
                u8::from(is_on)
            );
        }
    }

    fn write_counters(&self, text: &mut String) {
        let Some(first) = self.workers.first() else { return };
        for (index, (name, kind, help, _)) in first.counters.each().enumerate() {
            let (suffix, kind) = match kind {
                Kind::Total => ("_total", "counter"),
                Kind::Gauge => ("", "gauge"),
            };
            let _ = writeln!(text, "# HELP quiclane_{name}{suffix} {help}");
            let _ = writeln!(text, "# TYPE quiclane_{name}{suffix} {kind}");
            for (worker, metrics) in self.workers.iter().enumerate() {
                let value = metrics.counters.each().nth(index).map_or(0, |counter| counter.3);
                let _ = writeln!(text, "quiclane_{name}{suffix}{{worker=\"{worker}\"}} {value}");
            }
        }
    }

    fn write_reasons<R: Listed>(
        &self,
        text: &mut String,
        name: &str,
        help: &str,
        of: impl Fn(&WorkerCounters) -> &ByReason<R>,
    ) {
        let _ = writeln!(text, "# HELP quiclane_{name}_total {help}");
        let _ = writeln!(text, "# TYPE quiclane_{name}_total counter");
        for (worker, metrics) in self.workers.iter().enumerate() {
            for (reason, value) in of(&metrics.counters).each() {
                let _ = writeln!(
                    text,
                    "quiclane_{name}_total{{worker=\"{worker}\",reason=\"{}\"}} {value}",
                    reason.name()
                );
            }
        }
    }

    fn write_kernel(&self, text: &mut String) {
        let Some(counts) = self.kernel() else { return };
        text.push_str(
            "# HELP quiclane_ebpf_frames_total Frames by what they were, and what XDP did.\n\
             # TYPE quiclane_ebpf_frames_total counter\n",
        );
        for FrameCount { reason, action, count } in counts.frames {
            let labels = format!("reason=\"{reason}\",action=\"{action}\"");
            let _ = writeln!(text, "quiclane_ebpf_frames_total{{{labels}}} {count}");
        }
        text.push_str(
            "# HELP quiclane_ebpf_selections_total Datagrams or trains by how their socket was \
             chosen.\n# TYPE quiclane_ebpf_selections_total counter\n",
        );
        for (reason, count) in counts.selections {
            let _ = writeln!(text, "quiclane_ebpf_selections_total{{reason=\"{reason}\"}} {count}");
        }
    }

    fn write_datapath(&self, text: &mut String) {
        let Some(first) = self.workers.first().and_then(|worker| worker.datapath.get()) else {
            return;
        };
        for (index, (name, help, _)) in first.each().enumerate() {
            let _ = writeln!(text, "# HELP quiclane_datapath_{name}_total {}", help.trim());
            let _ = writeln!(text, "# TYPE quiclane_datapath_{name}_total counter");
            for (worker, metrics) in self.workers.iter().enumerate() {
                let Some(counters) = metrics.datapath.get() else { continue };
                let value = counters.each().nth(index).map_or(0, |counter| counter.2);
                let _ =
                    writeln!(text, "quiclane_datapath_{name}_total{{worker=\"{worker}\"}} {value}");
            }
        }
    }
}

/// A name as the value of a label. Interfaces may be called almost anything.
fn escaped(name: &str) -> String {
    name.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_without_xdp_is_one_line_and_a_client_has_none() {
        let text = |rung: &str| Metrics::new(1, vec![("steering", rung.to_owned())], None).text();
        let cbpf = text("cbpf");
        assert!(cbpf.contains("\nquiclane_engine_steering{rung=\"cbpf\"} 1\n"), "{cbpf}");
        assert!(!text("none").contains("engine_steering"));
    }

    #[test]
    fn no_name_of_an_interface_ends_its_label() {
        assert_eq!(escaped(r#"a"b\"#), r#"a\"b\\"#);
        assert_eq!(escaped("eth0.100"), "eth0.100");
    }
}
