//! A worker that fails takes the whole engine with it, at once and with its error.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use quiclane::{App, Config, Engine, Io, Lane, RunError, StartError, WorkerInfo};

/// Idle, unless it is worker `fails`: that one panics once everybody is ready.
struct Fragile {
    worker: usize,
    fails: usize,
    turns: usize,
    _shared: Arc<()>,
}

impl App for Fragile {
    fn turn(&mut self, lane: &mut Lane<'_>) {
        self.turns += 1;
        if self.worker == self.fails {
            assert!(self.turns < 3, "on purpose");
            lane.wake_at(lane.now() + Duration::from_millis(50));
        }
    }
}

fn config(io: Io) -> Config {
    Config { workers: 3, io, ..Config::default() }
}

/// Runs `what` on a thread of its own; it must end.
fn soon<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    thread::spawn(move || done.send(what()).unwrap());
    end.recv_timeout(Duration::from_secs(20)).expect("still waits for the other workers")
}

#[test]
fn a_worker_that_fails_stops_the_others() {
    for (io, fails) in [(Io::Auto, 0), (Io::Auto, 2), (Io::Epoll, 1), (Io::Epoll, 2)] {
        let shared = Arc::new(());
        let share = Arc::clone(&shared);
        let make = move |info: WorkerInfo| Fragile {
            worker: info.id,
            fails,
            turns: 0,
            _shared: Arc::clone(&share),
        };
        let engine = Engine::start(config(io), make).unwrap();
        let error = soon(|| engine.join().unwrap_err());
        assert!(matches!(error, RunError::Panicked(worker) if worker == fails), "{error}");
        assert_eq!(Arc::strong_count(&shared), 1, "every app is gone");
    }
}

#[test]
fn a_start_that_fails_leaves_no_worker_behind() {
    for io in [Io::Auto, Io::Epoll] {
        let shared = Arc::new(());
        let share = Arc::clone(&shared);
        let make = move |info: WorkerInfo| {
            assert!(info.id != 1, "on purpose");
            Fragile { worker: info.id, fails: 9, turns: 0, _shared: Arc::clone(&share) }
        };
        let error = soon(move || Engine::start(config(io), make).map(drop).unwrap_err());
        assert!(matches!(error, StartError::Worker { worker: 1, .. }), "{error}");
        assert_eq!(Arc::strong_count(&shared), 1, "every app is gone");
    }
}
