//! refused: a container policy that forbids io_uring, as Docker's does.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::collections::BTreeMap;
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::command::{Outcome, Serve, line};

/// Runs `then` on a thread, and so every command it starts, with io_uring_setup(2) answering
/// `errno`.
pub(crate) fn without_uring<T: Send + 'static>(
    errno: u32,
    then: impl FnOnce() -> T + Send + 'static,
) -> T {
    thread::spawn(move || {
        let filter = SeccompFilter::new(
            BTreeMap::from([(IO_URING_SETUP, Vec::new())]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        apply_filter(&BpfProgram::try_from(filter.unwrap()).unwrap()).unwrap();
        then()
    })
    .join()
    .unwrap()
}

#[test]
fn epoll_takes_over_and_says_why() {
    for (errno, words) in [(EPERM, "seccomp"), (ENOSYS, "kernel")] {
        let (ready, log): (String, Outcome) = without_uring(errno, move || {
            // Quiet or not: that it steps down is a warning.
            let server = Serve::start(if errno == EPERM { &["-q"] } else { &[] });
            let ready = server.ready.clone();
            let load = line(&format!("load quic://{} --perf -k -q -c 2 -n 10", server.address()));
            assert_eq!(load.code, 0, "{load:?}");
            (ready, server.stop("TERM"))
        });
        assert!(ready.contains(" io=epoll "), "{ready}");
        assert!(log.stderr.contains("warning: io_uring"), "{}", log.stderr);
        assert!(log.stderr.contains(words), "{}", log.stderr);
    }
}

#[test]
fn io_uring_by_name_fails_with_the_remedy() {
    let outcome = without_uring(EPERM, || line("serve --listen 127.0.0.1:0 --io uring"));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("kernel.io_uring_disabled=0"), "{}", outcome.stderr);
}

/// The same number on every architecture.
const IO_URING_SETUP: i64 = 425;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
