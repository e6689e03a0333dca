//! wake gets a sleeping worker out of its wait.
//!
//! ```text
//! other thread: put work where the worker looks ─► pending = true ─► sleeping? ─► write eventfd
//! worker:       sleeping = true ─► pending? ─► block on the eventfd and all else ─► clear both
//! ```
//!
//! Invariant: of "pending is set" and "sleeping is set" at least one side sees the other's, because
//! all four accesses are sequentially consistent. So no wake-up is lost, and waking a worker that
//! is awake costs no system call.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::SetupError;
use crate::sys;

/// Wakes one worker out of [`Datapath::wait`](crate::Datapath::wait), from any thread.
///
/// Make the work visible first (push it to the queue the worker looks into), then wake.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `None` for a worker that never blocks in the kernel: the simulator.
    event: Option<File>,
    pending: AtomicBool,
    sleeping: AtomicBool,
}

impl Waker {
    /// A waker for a datapath that blocks in the kernel.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> Result<Self, SetupError> {
        let event = sys::eventfd().map_err(|source| SetupError::call("eventfd", source))?;
        Ok(Self::with(Some(File::from(event))))
    }

    /// A waker for a datapath that never blocks: it only remembers, see [`take`](Self::take).
    #[must_use]
    pub fn simulated() -> Self {
        Self::with(None)
    }

    fn with(event: Option<File>) -> Self {
        let (pending, sleeping) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Shared { event, pending, sleeping }))
    }

    /// Wakes the worker. Any number of calls before it looks count as one.
    pub fn wake(&self) {
        // A read-modify-write even when it is already set: the worker's own swap then sees
        // everything that every waker did before.
        self.0.pending.swap(true, Ordering::SeqCst);
        let asleep = self.0.sleeping.load(Ordering::SeqCst);
        if asleep && self.0.sleeping.swap(false, Ordering::SeqCst) {
            self.signal();
        }
    }

    /// Whether somebody woke this worker since the last call. Only the worker itself may ask.
    #[must_use = "a wake-up that is taken is gone"]
    pub fn take(&self) -> bool {
        self.0.pending.load(Ordering::Relaxed) && self.0.pending.swap(false, Ordering::SeqCst)
    }

    /// Announces that the worker is going to block; false when a wake-up is already pending.
    pub(crate) fn doze(&self) -> bool {
        self.0.sleeping.store(true, Ordering::SeqCst);
        let pending = self.0.pending.load(Ordering::SeqCst);
        if pending {
            self.rise();
        }
        !pending
    }

    /// The worker is back from blocking: waking it costs nothing from here on.
    pub(crate) fn rise(&self) {
        self.0.sleeping.store(false, Ordering::Relaxed);
    }

    /// What becomes readable when a dozing worker is woken. It is never read: both backends watch
    /// it edge-triggered.
    pub(crate) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.0.event.as_ref().map(AsFd::as_fd)
    }

    fn signal(&self) {
        let Some(mut event) = self.0.event.as_ref() else {
            return;
        };
        // The counter would have to reach 2^64 - 1 to refuse this; a signal may interrupt it.
        while let Err(error) = event.write(&1u64.to_ne_bytes()) {
            if error.kind() != io::ErrorKind::Interrupted {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(waker: &Waker) -> u64 {
        use std::io::Read;
        let mut count = [0; 8];
        let mut event = waker.0.event.as_ref().unwrap();
        match event.read_exact(&mut count) {
            Ok(()) => u64::from_ne_bytes(count),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                0
            }
        }
    }

    #[test]
    fn an_awake_worker_costs_no_system_call() {
        let waker = Waker::new().unwrap();
        waker.wake();
        waker.wake();
        assert_eq!(signals(&waker), 0);
        assert!(!waker.doze(), "a pending wake-up must keep the worker from blocking");
        assert!(waker.take());
        assert!(!waker.take());
    }

    #[test]
    fn a_sleeping_worker_gets_one_signal() {
        let waker = Waker::new().unwrap();
        assert!(waker.doze());
        waker.wake();
        waker.wake();
        assert_eq!(signals(&waker), 1);
        waker.rise();
        assert!(waker.take());
    }

    #[test]
    fn a_simulated_worker_only_remembers() {
        let waker = Waker::simulated();
        waker.clone().wake();
        assert!(waker.take());
        assert!(!waker.take());
    }
}
