//! buffers judges the socket buffers that were obtained against those asked for.

use crate::facts::{Network, Trials};
use crate::finding::{Finding, Scope};

pub(super) fn check(network: &Network, trials: &Trials) -> Option<Finding> {
    let buffers = trials.buffers?;
    let (id, scope) = ("socket_buffers", Scope::Process);
    let asked = buffers.asked;
    let why = "a worker that stands still for a moment loses what does not fit: a full-size \
               datagram takes about 2,300 bytes, so the kernel's default holds 92";
    let found = format!(
        "{} bytes to receive and {} to send, {asked} asked for",
        buffers.recv, buffers.send
    );
    if buffers.recv >= asked && buffers.send >= asked {
        return Some(Finding::ok(id, scope, found, why));
    }
    let limit = |name, max: Option<u64>| max.map(|max| format!("net.core.{name}={max}"));
    let limits =
        [limit("rmem_max", network.recv_buffer_max), limit("wmem_max", network.send_buffer_max)];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    let found = match limits.is_empty() {
        true => found,
        false => format!("{found} ({})", limits.join(", ")),
    };
    let mend = format!("sysctl -w net.core.rmem_max={asked} net.core.wmem_max={asked}");
    Some(Finding::warning(id, scope, found, why).mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;
    use crate::recorded;

    #[test]
    fn what_was_granted_counts() {
        let facts = recorded::bare_metal();
        assert_eq!(check(&facts.network, &facts.trials).unwrap().status, Status::Ok);
        let facts = recorded::container();
        let finding = check(&facts.network, &facts.trials).unwrap();
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.contains("212992 bytes to receive"), "{}", finding.found);
        assert!(finding.mend.unwrap().contains("net.core.rmem_max=4194304"));
    }

    #[test]
    fn what_was_not_asked_for_is_not_judged() {
        let mut facts = recorded::bare_metal();
        facts.trials.buffers = None;
        assert_eq!(check(&facts.network, &facts.trials), None);
    }
}
