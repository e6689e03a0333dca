//! count is what becomes of frames and datagrams in the kernel: exactly one count each.
//!
//! The reasons are those of `wire`, so a metric has one list of labels for kernel and workers.

use quiclane_wire::{Reason, Unanswered, Untouched};

/// What XDP does with a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Goes on to the network stack, on the core where it arrived.
    Passed,
    /// Ends here.
    Dropped,
    /// Went back with a stateless reset in it.
    Answered,
    /// Goes on to the network stack on the core of its worker.
    Redirected,
}

impl Action {
    /// The name of this action as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Dropped => "dropped",
            Self::Answered => "answered",
            Self::Redirected => "redirected",
        }
    }
}

/// What became of a frame in XDP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// Not looked into, and passed.
    Untouched(Untouched),
    /// Of a connection of the live epoch, and passed where it arrived.
    Live,
    /// Of a connection of the live epoch, and moved to the core of its worker.
    LiveMoved,
    /// A first flight within its budgets, and passed where it arrived.
    Initial,
    /// A first flight within its budgets, and moved to the core of its worker.
    InitialMoved,
    /// A version that we do not speak, within the budgets of first flights, and passed.
    OtherLong,
    /// Of a connection of a draining process, and passed.
    Draining,
    /// Of a connection that no process owns any more, and passed: the workers answer it.
    Orphan,
    /// Of such a connection, and answered with a stateless reset.
    Answered,
    /// Of such a connection, not answered, and dropped.
    Unanswered(Unanswered),
    /// Junk; [`is_dropped`] tells whether it was dropped or passed.
    Junk(Reason),
}

impl Count {
    /// How many counts there are.
    pub const LEN: u32 = UNANSWERED_AT + Unanswered::ResetBudget as u32 + 1;

    /// A packet of the live epoch that passed, or was moved.
    #[inline]
    pub const fn live(passed: bool) -> Self {
        if passed { Self::Live } else { Self::LiveMoved }
    }

    /// A first flight that passed, or was moved.
    #[inline]
    pub const fn initial(passed: bool) -> Self {
        if passed { Self::Initial } else { Self::InitialMoved }
    }

    /// The place of this count in the map.
    #[inline]
    pub const fn index(self) -> u32 {
        match self {
            Self::Untouched(untouched) => untouched as u32,
            Self::Live => VERDICTS_AT,
            Self::LiveMoved => VERDICTS_AT + 1,
            Self::Initial => VERDICTS_AT + 2,
            Self::InitialMoved => VERDICTS_AT + 3,
            Self::OtherLong => VERDICTS_AT + 4,
            Self::Draining => VERDICTS_AT + 5,
            Self::Orphan => VERDICTS_AT + 6,
            Self::Answered => VERDICTS_AT + 7,
            Self::Junk(reason) => JUNK_AT + reason as u32,
            Self::Unanswered(reason) => UNANSWERED_AT + reason as u32,
        }
    }

    /// Every count, in the order of their places.
    pub fn all() -> impl Iterator<Item = Self> {
        let verdicts = [
            Self::Live,
            Self::LiveMoved,
            Self::Initial,
            Self::InitialMoved,
            Self::OtherLong,
            Self::Draining,
            Self::Orphan,
            Self::Answered,
        ];
        let untouched = Untouched::ALL.into_iter().map(Self::Untouched);
        let unanswered = Unanswered::ALL.into_iter().map(Self::Unanswered);
        let junk = Reason::ALL.into_iter().map(Self::Junk);
        untouched.chain(verdicts).chain(junk).chain(unanswered)
    }

    /// The name of this count as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untouched(untouched) => untouched.name(),
            Self::Live => "live",
            Self::LiveMoved => "live_moved",
            Self::Initial => "initial",
            Self::InitialMoved => "initial_moved",
            Self::OtherLong => "other_long",
            Self::Draining => "draining",
            Self::Orphan => "orphan",
            Self::Answered => "answered",
            Self::Junk(reason) => reason.name(),
            Self::Unanswered(Unanswered::TooShort) => "unanswered_too_short",
            Self::Unanswered(Unanswered::Repeated) => "unanswered_repeated",
            Self::Unanswered(Unanswered::PrefixBudget) => "unanswered_prefix_budget",
            Self::Unanswered(Unanswered::ResetBudget) => "unanswered_reset_budget",
        }
    }

    /// What was done with the frames of this count: one thing with all of them.
    pub const fn action(self) -> Action {
        match self {
            Self::LiveMoved | Self::InitialMoved => Action::Redirected,
            Self::Answered => Action::Answered,
            Self::Unanswered(_) => Action::Dropped,
            Self::Junk(reason) if is_dropped(reason) => Action::Dropped,
            Self::Untouched(_)
            | Self::Live
            | Self::Initial
            | Self::OtherLong
            | Self::Draining
            | Self::Orphan
            | Self::Junk(_) => Action::Passed,
        }
    }
}

/// Whether XDP drops what is junk for this reason.
///
/// It passes what it could be wrong about: a server ID, an epoch or a worker that is not in its
/// maps may belong to somebody who was not asked.
#[inline]
pub const fn is_dropped(reason: Reason) -> bool {
    !matches!(reason, Reason::ForeignServerId | Reason::UnknownEpoch | Reason::UnroutableWorker)
}

/// How the socket of a datagram was chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Selection {
    /// The socket of the worker that owns it.
    Owners,
    /// By the kernel's hash: it belongs to no worker. Junk, orphans, other versions.
    Nobodys,
    /// By the kernel's hash: the group is bound to an address that is no listener.
    NoListener,
    /// By the kernel's hash: the owner has no socket here.
    NoSocket,
}

impl Selection {
    /// How many there are.
    pub const LEN: u32 = Self::NoSocket as u32 + 1;

    /// Every one, in the order of their places.
    pub const ALL: [Self; 4] = [Self::Owners, Self::Nobodys, Self::NoListener, Self::NoSocket];

    /// The place in the map.
    #[inline]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// The name as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owners => "owners",
            Self::Nobodys => "nobodys",
            Self::NoListener => "no_listener",
            Self::NoSocket => "no_socket",
        }
    }
}

const VERDICTS_AT: u32 = Untouched::Merged as u32 + 1;
const JUNK_AT: u32 = VERDICTS_AT + 8;
const UNANSWERED_AT: u32 = JUNK_AT + Reason::ProvenBudget as u32 + 1;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_count_has_a_place_and_a_name_of_its_own() {
        let counts: Vec<_> = Count::all().collect();
        assert_eq!(counts.len(), Count::LEN as usize);
        for (index, count) in counts.iter().enumerate() {
            assert_eq!(count.index() as usize, index, "{count:?}");
        }
        let names: HashSet<_> = counts.iter().map(|count| count.name()).collect();
        assert_eq!(names.len(), counts.len());
    }

    #[test]
    fn every_selection_has_a_place() {
        for (index, selection) in Selection::ALL.into_iter().enumerate() {
            assert_eq!(selection.index() as usize, index);
        }
    }

    #[test]
    fn what_might_be_somebody_elses_passes() {
        let passed = Reason::ALL.into_iter().filter(|reason| !is_dropped(*reason)).count();
        assert_eq!(passed, 3);
    }
}
