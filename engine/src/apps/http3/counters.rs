//! counters are what HTTP/3 counts on each worker, with their names as metrics.

use std::fmt::Write as _;
use std::sync::Arc;

use quiclane_datapath::Counter;
use quiclane_http3::{Code, Connection as Core, Glitch};

/// What an [`Http3`](super::Http3) server counts. Counters only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that the service was asked to answer.
    pub requests: Counter,
    /// Responses by their first digit: 1xx, 2xx and so on.
    pub responses: [Counter; 5],
    /// Requests that clients gave up before they were answered.
    pub cancelled: Counter,
    /// Requests that clients did not go on with, so that the rest was not waited for any more
    /// ([`Options::request_timeout`](super::Options::request_timeout)).
    pub stalled: Counter,
    /// Responses that clients did not go on taking, so that the rest was given up
    /// ([`Options::request_timeout`](super::Options::request_timeout)).
    pub stalled_responses: Counter,
    /// Responses that could not be completed: by the service's fault, or because the client takes
    /// no heads of their size.
    pub aborted: Counter,
    /// Connections that were closed because the client broke a rule, by code.
    pub violations: [Counter; Code::ALL.len()],
    /// What cost more than it carried, counted when its connection ends.
    pub glitches: [Counter; Glitch::ALL.len()],
}

impl Counters {
    pub(super) fn responded(&self, status: u16) {
        if let Some(counter) = self.responses.get(usize::from(status / 100).saturating_sub(1)) {
            counter.add(1);
        }
    }

    pub(super) fn violated(&self, code: Code) {
        let at = Code::ALL.iter().position(|known| *known == code);
        if let Some(counter) = at.and_then(|at| self.violations.get(at)) {
            counter.add(1);
        }
    }

    pub(super) fn ended(&self, core: &Core) {
        for (glitch, counter) in Glitch::ALL.into_iter().zip(&self.glitches) {
            match core.glitch_count(glitch) {
                0 => {}
                count => counter.add(count.into()),
            }
        }
    }

    /// The counters of all workers in Prometheus text format 0.0.4.
    #[must_use]
    pub fn text(workers: &[Arc<Self>]) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, help: &str, of: &dyn Fn(&Self) -> Vec<(String, u64)>| {
            let _ = writeln!(text, "# HELP quiclane_http3_{name}_total {help}");
            let _ = writeln!(text, "# TYPE quiclane_http3_{name}_total counter");
            for (worker, counters) in workers.iter().enumerate() {
                for (label, value) in of(counters) {
                    let _ = writeln!(
                        text,
                        "quiclane_http3_{name}_total{{worker=\"{worker}\"{label}}} {value}"
                    );
                }
            }
        };
        let alone = |counter: &Counter| vec![(String::new(), counter.value())];
        metric("requests", "Requests for the service.", &|all| alone(&all.requests));
        metric("responses", "Responses by status class.", &|all| {
            let classes = all.responses.iter().enumerate();
            classes
                .map(|(at, counter)| (format!(",class=\"{}xx\"", at + 1), counter.value()))
                .collect()
        });
        metric("cancelled_requests", "Requests that clients gave up.", &|all| {
            alone(&all.cancelled)
        });
        metric("stalled_requests", "Requests of which the rest did not come in time.", &|all| {
            alone(&all.stalled)
        });
        metric("stalled_responses", "Responses of which nothing was taken in time.", &|all| {
            alone(&all.stalled_responses)
        });
        metric("aborted_responses", "Responses that could not be completed.", &|all| {
            alone(&all.aborted)
        });
        metric("violations", "Connections closed because of a client's fault.", &|all| {
            let codes = Code::ALL.iter().zip(&all.violations);
            codes.map(|(code, n)| (format!(",code=\"{}\"", code.name()), n.value())).collect()
        });
        metric("glitches", "What cost more than it carried, at the end of connections.", &|all| {
            let glitches = Glitch::ALL.iter().zip(&all.glitches);
            glitches.map(|(of, n)| (format!(",glitch=\"{}\"", of.name()), n.value())).collect()
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_line() {
        let counters = Arc::new(Counters::default());
        counters.requests.add(3);
        counters.responded(204);
        counters.responded(999);
        counters.violated(Code::ExcessiveLoad);
        let text = Counters::text(&[counters, Arc::default()]);
        for line in [
            "quiclane_http3_requests_total{worker=\"0\"} 3",
            "quiclane_http3_requests_total{worker=\"1\"} 0",
            "quiclane_http3_responses_total{worker=\"0\",class=\"2xx\"} 1",
            "quiclane_http3_violations_total{worker=\"0\",code=\"H3_EXCESSIVE_LOAD\"} 1",
            "quiclane_http3_glitches_total{worker=\"0\",glitch=\"empty_data\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }
}
