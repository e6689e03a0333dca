//! steer decides what becomes of a frame, before the network stack has seen it.
//!
//! In comes a frame, out comes one of: pass, drop, to the core of the worker, back with an answer.
//! Each frame is counted exactly once. What is not understood passes; what passes is decided again
//! by the programs and the workers behind this one, so that nothing depends on it.

use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::generated::{bpf_check_mtu, bpf_get_smp_processor_id};
use aya_ebpf::programs::XdpContext;
use quiclane_ebpf::{Count, ListenerKey, NO_CPU, SettingsValue, is_dropped};
use quiclane_wire::{
    Bytes, IpVersion, Located, LongType, Reason, Untouched, VERSION_1, Verdict, classify,
    is_blocked_port, locate, long_type, worker_of_spread,
};

use crate::maps::{self, ADDRESSES, CPUS, EpochMap, LISTENERS, PORTS, SETTINGS, WORKER_CPUS};
use crate::memory::{Frame, Payload};
use crate::{answer, budget};

/// What becomes of a frame: an action of XDP, and the place of its count.
///
/// Numbers and no enums, because the compiler would pack those and unpack them again.
pub(crate) struct Outcome {
    action: u32,
    count: u32,
}

impl Outcome {
    #[inline(always)]
    pub(crate) fn new(action: u32, count: Count) -> Self {
        Self { action, count: count.index() }
    }
}

#[inline(always)]
pub(crate) fn steer<F: Frame>(ctx: &XdpContext) -> u32 {
    let outcome = match judge::<F>(ctx) {
        Ok(outcome) => outcome,
        Err(untouched) => Outcome::new(XDP_PASS, Count::Untouched(untouched)),
    };
    maps::count_frame(outcome.count);
    outcome.action
}

#[inline(always)]
fn judge<F: Frame>(ctx: &XdpContext) -> Result<Outcome, Untouched> {
    let frame = F::new(ctx).ok_or(Untouched::Malformed)?;
    let located = match locate(&frame) {
        Ok(located) => forget(frame, located),
        Err(Untouched::Malformed) if frame.is_in_pieces(ctx) => return Err(Untouched::Merged),
        Err(untouched) => return Err(untouched),
    };
    let frame = frame.forget_end();
    for_the_server(frame.again(ctx), &located)?;
    if is_merged(ctx, &located) {
        return Err(Untouched::Merged);
    }
    // The verifier knows it again: which address was compared depends on it.
    let located = Located { ip: forget_version(frame, located.ip), ..located };
    Ok(match verdict(ctx, frame, &located) {
        Ok(outcome) => outcome,
        Err(reason) => {
            let action = if is_dropped(reason) { XDP_DROP } else { XDP_PASS };
            Outcome::new(action, Count::Junk(reason))
        }
    })
}

/// The same place, of which the verifier does not know any more what is in front of it.
#[inline(always)]
fn forget<F: Frame>(frame: F, located: Located) -> Located {
    let Located { ip, source_at, payload_at, payload_len, .. } = located;
    Located {
        ip: forget_version(frame, ip),
        source_at: frame.forget(source_at),
        payload_at: frame.forget(payload_at),
        payload_len: frame.forget(payload_len),
        ..located
    }
}

/// The same version, of which the verifier does not know which one it is.
#[inline(always)]
fn forget_version<F: Frame>(frame: F, ip: IpVersion) -> IpVersion {
    let is_v6 = frame.forget(usize::from(ip == IpVersion::V6)) != 0;
    if is_v6 { IpVersion::V6 } else { IpVersion::V4 }
}

#[inline(always)]
fn verdict<F: Frame>(ctx: &XdpContext, frame: F, located: &Located) -> Result<Outcome, Reason> {
    let settings = SETTINGS.get();
    if is_blocked_port(located.source_port) {
        return Err(Reason::BlockedPort);
    }
    let payload = Payload::new(frame.again(ctx), located.payload_at, located.payload_len);
    match classify(&payload, &settings.layout(), &settings.spread_key.key(), &EpochMap) {
        Verdict::Live { worker } => {
            if is_initial(&payload) {
                budget::take_proven(settings)?;
            }
            let action = to_worker(settings, worker);
            Ok(Outcome::new(action, Count::live(action == XDP_PASS)))
        }
        verdict @ (Verdict::Initial { .. } | Verdict::OtherLong) => {
            budget::take_initial(frame.again(ctx), located, settings)?;
            let Verdict::Initial { spread } = verdict else {
                return Ok(Outcome::new(XDP_PASS, Count::OtherLong));
            };
            let action = to_worker(settings, worker_of_spread(spread, settings.workers));
            Ok(Outcome::new(action, Count::initial(action == XDP_PASS)))
        }
        Verdict::Draining { .. } => Ok(Outcome::new(XDP_PASS, Count::Draining)),
        Verdict::Orphan { epoch, worker } => {
            Ok(answer::answer(ctx, frame, located, &payload, settings, epoch, worker))
        }
        Verdict::Junk(reason) => Err(reason),
    }
}

/// Whether the server listens where the frame goes to.
#[inline(always)]
fn for_the_server<F: Frame>(frame: F, located: &Located) -> Result<(), Untouched> {
    let port = located.target_port;
    let word = &PORTS.get()[usize::from(port / 64)];
    // SAFETY: references are valid. Volatile, so that the compiler chooses between two numbers and
    // not between two addresses, which the verifier would not follow.
    let [any_v4, any_v6, some] =
        [&word.any_v4, &word.any_v6, &word.some].map(|ports| unsafe { ptr::read_volatile(ports) });
    let bit = 1 << (port % 64);
    let any = match located.ip {
        IpVersion::V4 => any_v4,
        IpVersion::V6 => any_v6,
    };
    if any & bit != 0 {
        return Ok(());
    }
    if (any_v4 | any_v6 | some) & bit == 0 {
        return Err(Untouched::OtherPort);
    }
    if some & bit == 0 {
        return Err(Untouched::OtherAddress);
    }
    let at = located.target_at();
    let key = match located.ip {
        IpVersion::V4 => frame.read(at).map(|address| ListenerKey::v4(address, port)),
        IpVersion::V6 => frame.read(at).map(|address| ListenerKey::v6(address, port)),
    };
    let key = key.ok_or(Untouched::Malformed)?;
    if is_listener(&key) { Ok(()) } else { Err(Untouched::OtherAddress) }
}

/// Whether the server listens at exactly this address.
#[inline(always)]
fn is_listener(key: &ListenerKey) -> bool {
    for known in ADDRESSES.get() {
        if known == key {
            return true;
        }
        if known.is_none() {
            return false;
        }
    }
    LISTENERS.get_ptr(key).is_some()
}

/// Whether several datagrams were merged into this frame: generic XDP runs behind GRO, which writes
/// the sum into the headers. Their connection IDs may differ, so the first one speaks for none.
///
/// A merged frame that fits the device looks like one datagram and is judged by its first.
#[inline(always)]
fn is_merged(ctx: &XdpContext, located: &Located) -> bool {
    let len = located.payload_at + located.payload_len;
    if len <= CERTAINLY_RECEIVED {
        return false;
    }
    // In: how long the IP packet is. Out: the MTU, which nobody here needs. The kernel takes the
    // lower half; the stack is written in whole words, see `maps::lookup`.
    let mut mtu = (len - located.ip_at()) as u64;
    // SAFETY: the context is the kernel's own, and `mtu` outlives the call.
    let result = unsafe { bpf_check_mtu(ctx.as_ptr(), 0, (&raw mut mtu).cast(), 0, 0) };
    result > 0
}

/// Whether this is an Initial of version 1. Known to be long enough: it has a connection ID.
#[inline(always)]
fn is_initial<F: Frame>(payload: &Payload<F>) -> bool {
    let Some([first, version @ ..]) = payload.read::<5>(0) else { return false };
    first & 0x80 != 0
        && long_type(first) == LongType::Initial
        && u32::from_be_bytes(version) == VERSION_1
}

/// Pass, or redirect to the worker's core if frames are to be moved and this is not it.
#[inline(always)]
fn to_worker(settings: &SettingsValue, worker: u8) -> u32 {
    if settings.redirect == 0 {
        return XDP_PASS;
    }
    let cpu = match maps::entry(&WORKER_CPUS, u32::from(worker)) {
        Some(cpu) => *cpu,
        None => NO_CPU,
    };
    // SAFETY: the helper takes nothing and reads a number.
    let here = unsafe { bpf_get_smp_processor_id() };
    if cpu == NO_CPU || cpu == here {
        return XDP_PASS;
    }
    match CPUS.redirect(cpu, u64::from(XDP_PASS)) {
        Ok(action) | Err(action) => action,
    }
}

/// Ethernet and the smallest MTU that IPv6 allows (RFC 8200 section 5): what is no longer than
/// that needs no look at the device.
const CERTAINLY_RECEIVED: usize = 14 + 1280;
