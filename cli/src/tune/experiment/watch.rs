//! watch says how busy the server was while it was measured: whoever is busy all the time is the
//! one that sets the rate.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use quiclane::clock::now;

/// Looks at the CPU time of a process until it is ended.
#[derive(Debug)]
pub(super) struct Watch {
    over: Sender<()>,
    thread: JoinHandle<Vec<Sample>>,
}

/// When, and the CPU time of all its own threads until then, nanoseconds.
type Sample = (Instant, u64);

impl Watch {
    /// Of the process with this number.
    pub(super) fn start(process: u32) -> Self {
        let (over, end) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            loop {
                samples.extend(cpu_ns(process).map(|ns| (now(), ns)));
                if end.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return samples;
                }
            }
        });
        Self { over, thread }
    }

    /// Its share of `cores` in the busiest `time`: that is the time in which it was measured,
    /// because before and after it nobody asks it for anything.
    pub(super) fn end(self, time: Duration, cores: usize) -> f64 {
        drop(self.over);
        let samples = self.thread.join().unwrap_or_default();
        busiest(&samples, time) / cores.max(1) as f64
    }
}

/// Cores' worth of CPU time in the busiest `time`.
fn busiest(samples: &[Sample], time: Duration) -> f64 {
    let of = |(index, (at, ns)): (usize, &Sample)| {
        let later = samples[index..].iter().find(|(later, _)| later.duration_since(*at) >= time)?;
        let took = later.0.duration_since(*at).as_secs_f64();
        Some(later.1.saturating_sub(*ns) as f64 / 1e9 / took)
    };
    samples.iter().enumerate().filter_map(of).fold(0.0, f64::max)
}

fn cpu_ns(process: u32) -> Option<u64> {
    let of = |thread: fs::DirEntry| {
        // A thread of the kernel that polls for submissions is busy whatever there is to do.
        let name = fs::read(thread.path().join("comm")).ok()?;
        if name.starts_with(b"iou-") {
            return None;
        }
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    Some(threads.flatten().filter_map(of).sum())
}

/// Short beside a cell, and long beside the time that a look takes.
const INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_time_counts() {
        let begun = now();
        // Idle for 100 ms, busy for 300, idle again.
        let samples: Vec<Sample> = (0..30)
            .map(|step| {
                let at = begun + Duration::from_millis(20 * step);
                (at, 20_000_000 * step.clamp(5, 20))
            })
            .collect();
        let of = |ms| busiest(&samples, Duration::from_millis(ms));
        assert!((of(300) - 1.0).abs() < 1e-9 && (of(500) - 0.6).abs() < 0.01, "{}", of(500));
        assert_eq!((of(700), busiest(&[], Duration::ZERO)), (0.0, 0.0));
    }

    #[test]
    fn a_thread_that_spins_is_busy() {
        let watch = Watch::start(std::process::id());
        let begun = now();
        while now().duration_since(begun) < Duration::from_millis(200) {}
        // Others may want the core, too.
        let busy = watch.end(Duration::from_millis(100), 1);
        assert!(busy > 0.2, "{busy}");
    }
}
