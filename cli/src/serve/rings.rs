//! rings says how io_uring is set up, for those who measure what that is worth.

use clap::{Args, ValueEnum};
use quiclane::{Ring, RingMode};

use crate::exit::Failure;
use crate::options::IoFlag;

/// io_uring.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Threads and I/O")]
pub(super) struct RingOptions {
    /// When a worker makes completions
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ModeFlag::Defer)]
    ring_mode: ModeFlag,

    /// Buffers of 66 KiB that received trains wait in, for each worker: a power of two
    /// [default: 8]
    #[arg(long, value_name = "N", value_parser = buffers)]
    ring_buffers: Option<u16>,
}

/// --ring-mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ModeFlag {
    /// When it waits for them (DEFER_TASKRUN)
    Defer,
    /// At any system call (COOP_TASKRUN)
    Coop,
}

impl From<ModeFlag> for RingMode {
    fn from(flag: ModeFlag) -> Self {
        match flag {
            ModeFlag::Defer => Self::Defer,
            ModeFlag::Coop => Self::Coop,
        }
    }
}

impl RingOptions {
    /// As the engine wants it; an error if there will be no ring.
    pub(super) fn ring(&self, io: IoFlag) -> Result<Ring, Failure> {
        let ring = Ring { mode: self.ring_mode.into(), receive_buffers: self.ring_buffers };
        if !matches!(io, IoFlag::Epoll) || ring == Ring::default() {
            return Ok(ring);
        }
        let mode = (self.ring_mode == ModeFlag::Coop).then(|| "--ring-mode coop".to_owned());
        let buffers = self.ring_buffers.map(|buffers| format!("--ring-buffers {buffers}"));
        Err(Failure::WithoutEffect {
            flags: mode.into_iter().chain(buffers).collect::<Vec<_>>().join(", "),
            beside: "--io epoll".into(),
            why: "which has no rings",
            remedy: "give --io auto or uring",
        })
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
            ("--ring-buffers 64", RingMode::Defer, Some(64)),
            ("--ring-mode coop --ring-buffers 1", RingMode::Coop, Some(1)),
        ] {
            assert_eq!(ring(flags, IoFlag::Uring), Ok(Ring { mode, receive_buffers }));
            assert!(ring(flags, IoFlag::Epoll).unwrap_err().contains("--io epoll"), "{flags}");
        }
        assert_eq!(ring("", IoFlag::Epoll), Ok(Ring::default()));
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        for (flags, words) in [
            ("--ring-mode poll", "coop"),
            ("--ring-buffers 0", "power of two"),
            ("--ring-buffers 12", "power of two"),
            ("--ring-buffers 65536", "power of two"),
        ] {
            let why = ring(flags, IoFlag::Auto).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
