//! ring is how the io_uring of each worker is set up, for those who measure what that is worth.

use clap::Args;
use quiclane::{Ring, RingMode};

use crate::exit::Failure;
use crate::options::IoFlag;

/// io_uring.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Threads and I/O")]
pub(super) struct RingOptions {
    /// Who takes submissions and makes completions: defer, the worker when it waits (DEFER_TASKRUN);
    /// coop, the worker at any system call (COOP_TASKRUN); sqpoll or sqpoll=CORE, a thread of the
    /// kernel, which keeps a core busy (SQPOLL)
    #[arg(long, value_name = "HOW", default_value = "defer", value_parser = mode)]
    ring_mode: RingMode,

    /// Buffers of 66 KiB that received trains wait in, for each worker: a power of two
    /// [default: 8]
    #[arg(long, value_name = "N", value_parser = buffers)]
    ring_buffers: Option<u16>,
}

impl RingOptions {
    /// As the engine wants it; an error if there will be no ring.
    pub(super) fn ring(&self, io: IoFlag) -> Result<Ring, Failure> {
        let ring = Ring { mode: self.ring_mode, receive_buffers: self.ring_buffers };
        if !matches!(io, IoFlag::Epoll) || ring == Ring::default() {
            return Ok(ring);
        }
        let mode = (self.ring_mode != RingMode::default()).then(|| "--ring-mode".to_owned());
        let buffers = self.ring_buffers.map(|buffers| format!("--ring-buffers {buffers}"));
        Err(Failure::WithoutEffect {
            flags: mode.into_iter().chain(buffers).collect::<Vec<_>>().join(", "),
            beside: "--io epoll".into(),
            why: "which has no rings",
            remedy: "give --io auto or uring",
        })
    }
}

fn mode(text: &str) -> Result<RingMode, String> {
    let remedy = "write defer, coop, sqpoll or sqpoll=CORE";
    match (text, text.split_once('=')) {
        ("defer", _) => Ok(RingMode::Defer),
        ("coop", _) => Ok(RingMode::Coop),
        ("sqpoll", _) => Ok(RingMode::Sqpoll(None)),
        (_, Some(("sqpoll", core))) => match core.parse() {
            Ok(core) => Ok(RingMode::Sqpoll(Some(core))),
            Err(_) => Err(format!("{core:?} is no core: {remedy}")),
        },
        _ => Err(remedy.into()),
    }
}

fn buffers(text: &str) -> Result<u16, String> {
    let count = text.parse::<u16>().ok().filter(|count| count.is_power_of_two());
    count
        .filter(|count| *count <= BUFFERS_MAX)
        .ok_or_else(|| format!("write a power of two from 1 to {BUFFERS_MAX}, as 16"))
}

/// What the kernel takes for one ring.
const BUFFERS_MAX: u16 = 32_768;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        ring: RingOptions,
    }

    fn ring(flags: &str, io: IoFlag) -> Result<Ring, String> {
        let words = ["serve"].into_iter().chain(flags.split_whitespace());
        let flags = Flags::try_parse_from(words).map_err(|error| error.to_string())?;
        flags.ring.ring(io).map_err(|failure| failure.to_string())
    }

    #[test]
    fn rings_are_set_up_as_asked() {
        assert_eq!(ring("", IoFlag::Auto), Ok(Ring::default()));
        for (flags, mode, receive_buffers) in [
            ("--ring-mode coop", RingMode::Coop, None),
            ("--ring-mode sqpoll", RingMode::Sqpoll(None), None),
            ("--ring-mode sqpoll=3 --ring-buffers 64", RingMode::Sqpoll(Some(3)), Some(64)),
        ] {
            assert_eq!(ring(flags, IoFlag::Uring), Ok(Ring { mode, receive_buffers }));
            assert!(ring(flags, IoFlag::Epoll).unwrap_err().contains("--io epoll"), "{flags}");
        }
        assert_eq!(ring("", IoFlag::Epoll), Ok(Ring::default()));
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        for (flags, words) in [
            ("--ring-mode poll", "sqpoll=CORE"),
            ("--ring-mode sqpoll=x", "no core"),
            ("--ring-buffers 0", "power of two"),
            ("--ring-buffers 12", "power of two"),
            ("--ring-buffers 65536", "power of two"),
        ] {
            let why = ring(flags, IoFlag::Auto).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
