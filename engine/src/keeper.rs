//! keeper notices what changes around a running server: processes of its state directory that end,
//! addresses that the host gets, interfaces that are removed and made again.
//!
//! It asks once a second, on a thread of its own: nothing of this is worth a worker's turn, and
//! polling needs no subscription that could be lost.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quiclane_wire::EpochState;

use crate::identity::{Changed, Identity};
use crate::notices::{Notices, Reports};
use crate::steer::Kernel;

/// The thread. It ends with the workers.
#[derive(Debug)]
pub(crate) struct Keeper(JoinHandle<()>);

impl Keeper {
    /// `None` where nothing can change.
    pub(crate) fn start(
        identity: &Arc<Identity>,
        kernel: Option<&Arc<Kernel>>,
        notices: &Arc<Notices>,
    ) -> Option<Self> {
        if kernel.is_none() && !identity.outlives_the_process() {
            return None;
        }
        let mut rounds = Rounds {
            known: identity.known_epochs(),
            identity: Arc::downgrade(identity),
            kernel: kernel.cloned(),
            reports: Reports::new(Arc::clone(notices)),
        };
        let run = move || {
            while rounds.round() {
                thread::park_timeout(INTERVAL);
            }
        };
        let thread = thread::Builder::new().name("quiclane-keeper".into()).spawn(run);
        // Without it the server serves as before; what changes is noticed at the next start.
        match thread {
            Ok(thread) => Some(Self(thread)),
            Err(error) => {
                let text = format!("changes of epochs, addresses and interfaces pass by: {error}");
                notices.add(text, true);
                None
            }
        }
    }

    /// To be called once the workers have ended.
    pub(crate) fn join(self) {
        self.0.thread().unpark();
        let _ = self.0.join();
    }
}

struct Rounds {
    /// The workers'.
    identity: Weak<Identity>,
    kernel: Option<Arc<Kernel>>,
    /// The epochs by number, as last seen.
    known: Vec<(u64, EpochState)>,
    reports: Reports,
}

impl Rounds {
    /// False once the workers have ended.
    fn round(&mut self) -> bool {
        let Some(identity) = self.identity.upgrade() else { return false };
        self.epochs(&identity);
        drop(identity);
        if let Some(kernel) = &self.kernel {
            kernel.keep_up(&mut self.reports);
        }
        true
    }

    fn epochs(&mut self, identity: &Identity) {
        const TOPIC: &str = "state";
        let Changed { epochs, table } = match identity.look_again(&self.known) {
            Ok(Some(changed)) => changed,
            Ok(None) => return self.reports.settled(TOPIC),
            Err(error) => {
                let text = format!("state: {error}; until then ended epochs are not noticed");
                return self.reports.warn(TOPIC, text);
            }
        };
        self.reports.settled(TOPIC);
        if let Some(kernel) = &self.kernel
            && let Err(error) = kernel.set_epochs(&table)
        {
            // Tried again in the next round, `known` being what it was.
            let text = format!("xdp: an epoch that ended stays unknown: {error}");
            return self.reports.warn("epochs", text);
        }
        self.reports.settled("epochs");
        for (epoch, state) in &epochs {
            let before = self.known.iter().find(|(number, _)| number == epoch);
            if *state == EpochState::Retired && before.is_none_or(|(_, before)| before != state) {
                let text = "its process has ended; its connections are ended by resets";
                self.reports.note(format!("epoch {epoch}: {text}"));
            }
        }
        for (epoch, _) in &self.known {
            if !epochs.iter().any(|(number, _)| number == epoch) {
                self.reports.note(format!("epoch {epoch}: forgotten after --retired-for"));
            }
        }
        self.known = epochs;
    }
}

/// Soon enough for clients of a process that has ended: their next packets come within seconds.
const INTERVAL: Duration = Duration::from_secs(1);
