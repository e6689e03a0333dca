//! loadgen asks honestly: it offers load to a QUIC server, over HTTP/3 or `perf`, and measures what
//! comes back.
//!
//! ```text
//! LoadConfig ─► Load::start ─► one Client per worker ─► Tally per worker ─► Report
//!                    │               │ Gate: connect, warm up, measure, all together
//!                    └── Progress ◄──┘
//! ```
//!
//! In a closed loop each connection keeps a fixed number of requests in flight and starts the next
//! one when one ends; in an open one requests are sent when a schedule says so. The definition of
//! every number it prints is in this crate's README.
//!
//! Invariant: every request that was started ends in exactly one of three counts: answered in
//! full, failed under one class, or cancelled when the run ended. The same holds for handshakes.

#![forbid(unsafe_code)]

mod backoff;
mod client;
mod compare;
pub use compare::{Compared, Comparison, Ratio, Verdict};
mod config;
pub use config::{
    KeyUpdates, LoadConfig, LoadError, MIGRATE_EVERY_MIN, Pace, Sockets, Stop, Workload,
};
mod cpu;
mod defence;
pub use defence::{
    AbuseReport, Calmness, CloseCount, CloseLayer, ConnectionCounts, DEFENCE_RATE_MAX,
    DatagramAnswers, Defence, DefenceConfig, DefenceEnding, DefenceError, DefenceReport, Kind,
    PhaseReport, ProbeReport, StreamCounts, Traffic,
};
mod export;
mod farewell;
mod feed;
mod find_max;
pub use find_max::{Conclusion, Found, Outcome, Search, Trial, find_max};
mod gate;
mod live;
pub use live::Progress;
mod load;
pub use load::{Load, Stopper};
mod local;
pub use local::LocalAddresses;
mod merge;
pub use merge::MergeError;
mod packed;
pub use packed::{Packed, PackedError};
mod page;
pub use page::{About, PAGE_STYLE, escaped};
mod partition;
pub use partition::{PARTS_MAX, Partition, Parts};
mod protocol;
pub use protocol::{
    Body, ECHO_ALPN, H3_ALPN, HQ_ALPN, HqRequest, HttpError, HttpRequest, PERF_ALPN, Protocol,
};
mod quic;
mod random;
mod read;
pub use read::ReadError;
mod repeat;
pub use repeat::{Side, Spread, Summary};
mod report;
pub use report::{
    DatagramReport, Detail, ErrorReport, Histograms, IdleReport, LatencyReport, QuicReport, Report,
    ScheduleReport, StreamLimitReport, UnitCounts,
};
mod schedule;
pub use schedule::{Arrivals, RATE_MAX, REPLAY_MAX, Rate, RateError, Replay, ReplayError, Stage};
mod series;
pub use series::{Interval, OpenInterval};
mod setup;
pub use setup::{Setup, Unit};
#[cfg(feature = "sim")]
mod simulated;
#[cfg(feature = "sim")]
pub use simulated::Simulated;
mod slo;
pub use slo::{Slo, SloError, SloReport, TermReport};
mod spectrum;
pub use spectrum::Spectrum;
mod tally;
pub use tally::{ClassCount, Counts, EarlyData, Ending};
mod text;
pub use text::{group, nanoseconds};
mod upkeep;
