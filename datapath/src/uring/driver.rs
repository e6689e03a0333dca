//! driver owns the rings shared with the kernel: entries go in, completions come out.
//!
//! Invariant: no entry is lost. What does not fit the submission queue waits in `backlog`, and
//! `outstanding` counts everything whose last completion has not been seen.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, squeue};

use super::RingMode;

/// Completions taken at once: 512 bytes of stack.
pub(super) const TAKE_MAX: usize = 32;

/// Whether to wait for a completion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Patience {
    Look,
    Wait(Option<Duration>),
}

pub(super) struct Driver {
    ring: IoUring,
    backlog: VecDeque<squeue::Entry>,
    /// Entries ever pushed: the number of the next one.
    pushed: u64,
    outstanding: u64,
}

impl Driver {
    /// Rings for `entries` submissions and `completions` completions.
    ///
    /// SINGLE_ISSUER (6.0): completions are made on this thread, when `mode` says. TASKRUN_FLAG
    /// lets us see that there are some without asking. SUBMIT_ALL: one bad entry does not hold up
    /// those behind it.
    pub(super) fn open(entries: u32, completions: u32, mode: RingMode) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_taskrun_flag().setup_submit_all().setup_clamp();
        match mode {
            RingMode::Defer => builder.setup_defer_taskrun(),
            RingMode::Coop => builder.setup_coop_taskrun(),
        };
        let ring = builder.setup_cqsize(completions).build(entries)?;
        Ok(Self { ring, backlog: VecDeque::new(), pushed: 0, outstanding: 0 })
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Queues an entry and returns its number. A full queue is submitted first.
    ///
    /// # Safety
    /// What the entry points to must stay valid and untouched until its last completion.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) -> u64 {
        let number = self.pushed;
        self.pushed += 1;
        self.outstanding += 1;
        // SAFETY: what the entry points to is valid by the contract of this function.
        let fits = |driver: &mut Self| unsafe { driver.ring.submission().push(&entry) }.is_ok();
        if !self.backlog.is_empty() || !fits(self) {
            self.backlog.push_back(entry);
            self.submit();
        }
        number
    }

    /// Entries with a lower number were taken by the kernel.
    pub(super) fn taken(&mut self) -> u64 {
        let waiting = self.ring.submission().len() + self.backlog.len();
        self.pushed - waiting as u64
    }

    /// Entries whose last completion was not seen.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// An entry is done that makes no completion on success.
    pub(super) fn silently_done(&mut self) {
        self.outstanding -= 1;
    }

    /// Hands everything queued to the kernel.
    pub(super) fn submit(&mut self) {
        self.refill();
        loop {
            let before = self.backlog.len();
            // EINTR, EAGAIN (no memory) and EBUSY (completions to be taken first) leave the
            // entries where they are, for the next time. An error that lasts is seen by `enter`.
            let _ = self.ring.submit();
            self.refill();
            if self.backlog.len() == before {
                return;
            }
        }
    }

    /// Hands everything queued to the kernel, lets it make completions, and waits for one.
    pub(super) fn enter(&mut self, patience: Patience) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.submit();
        }
        let queue = self.ring.submission();
        let entries = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        let idle = entries == 0 && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        let (want, timeout) = match patience {
            Patience::Look if idle => return Ok(()),
            Patience::Look => (0, None),
            Patience::Wait(timeout) => (1, timeout),
        };
        let timeout = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let Some(timeout) = &timeout {
            arguments = arguments.timespec(timeout);
        }
        // Always GETEVENTS: without it a DEFER_TASKRUN ring makes no completions.
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        // SAFETY: EXT_ARG announces the type of `arguments`, which lives across the call with the
        // timeout it points to; what the entries point to is valid by the contract of `push`.
        let entered =
            unsafe { self.ring.submitter().enter(entries, want, flags, Some(&arguments)) };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Whether the kernel keeps completions that did not fit the queue. The next `enter` brings
    /// them.
    pub(super) fn overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Takes some completions; none when there are no more.
    pub(super) fn take<'s>(
        &mut self,
        space: &'s mut [MaybeUninit<cqueue::Entry>; TAKE_MAX],
    ) -> &'s [cqueue::Entry] {
        let taken = &*self.ring.completion().fill(space);
        let last = taken.iter().filter(|entry| !cqueue::more(entry.flags())).count();
        self.outstanding -= last as u64;
        taken
    }

    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: what the entry points to is valid by the contract of `push`.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ring: _, backlog, pushed, outstanding } = self;
        formatter
            .debug_struct("Driver")
            .field("backlog", &backlog.len())
            .field("pushed", pushed)
            .field("outstanding", outstanding)
            .finish_non_exhaustive()
    }
}
