//! answer writes a stateless reset in the place of an orphan's packet and sends it back.
//!
//! ```text
//!   Ethernet, tags   addresses changed over                     frames to groups are left alone
//!                                                               and what comes from no host
//!   IPv4 or IPv6     made anew: addresses changed over          IPv4 options: the workers' case
//!   UDP              ports changed over, length, checksum
//!   payload          noise, token, cut behind it
//! ```
//!
//! Invariant: only a connection ID of a retired epoch gets here, whose check was verified: no
//! process owns it. What is not answered here for lack of means passes to the workers, who answer;
//! what is refused by a limit is dropped, so that nobody answers it.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use quiclane_ebpf::{ANSWER_BUCKET, Budget, Count, SettingsValue};
use quiclane_wire::{
    IpVersion, Located, RESET_LEN_MIN, TRIGGER_LEN_MIN, Unanswered, reset_len, token_words,
};

use crate::budget;
use crate::maps::{self, ANSWER_PREFIXES, ANSWERED, BUCKETS, EPOCHS};
use crate::memory::{Frame, Payload};
use crate::signer::{self, GOLDEN, Noise};
use crate::steer::Outcome;

/// Answers the packet of an orphan, which `payload` is.
#[inline(always)]
pub(crate) fn answer<F: Frame>(
    ctx: &XdpContext,
    frame: F,
    located: &Located,
    payload: &Payload<F>,
    settings: &SettingsValue,
    epoch: u8,
    worker: u8,
) -> Outcome {
    let left_alone = Outcome::new(XDP_PASS, Count::Orphan);
    if !F::WRITABLE || settings.answers == 0 || !is_plain(frame.again(ctx), located) {
        return left_alone;
    }
    if is_from_nobody(frame.again(ctx), located) {
        return left_alone;
    }
    if located.payload_len < TRIGGER_LEN_MIN {
        return Outcome::new(XDP_DROP, Count::Unanswered(Unanswered::TooShort));
    }
    let layout = settings.layout();
    let connection = layout.connection(payload);
    let (Some(connection), Some(prefix)) =
        (connection, budget::prefix(frame.again(ctx), located, settings))
    else {
        return left_alone;
    };
    if let Err(reason) = within_limits(settings, located, prefix, connection) {
        return Outcome::new(XDP_DROP, Count::Unanswered(reason));
    }
    let root = EPOCHS.get()[usize::from(epoch)].entry().reset_root;
    let Some((key, noise)) = signer::signer(&root, worker) else { return left_alone };
    let token = token_words(payload, &layout, &key);
    let (Some(token), Some(len)) = (token, reset_len(located.payload_len, noise.word(0))) else {
        return left_alone;
    };
    match write(ctx, located, len, token, &noise) {
        Some(()) => Outcome::new(XDP_TX, Count::Answered),
        // It is written over in part: nobody can read it any more.
        None => Outcome::new(XDP_DROP, Count::Orphan),
    }
}

/// Whether it goes from one host to another, in headers that are easily written anew.
#[inline(always)]
fn is_plain<F: Frame>(frame: F, located: &Located) -> bool {
    let header_len = located.payload_at - located.ip_at();
    let plain_len = match located.ip {
        IpVersion::V4 => 20 + 8,
        IpVersion::V6 => 40 + 8,
    };
    // Bit 0 of the first byte of an Ethernet address: a group.
    let Some([to, _, _, _, _, _, from]) = frame.read(0) else { return false };
    header_len == plain_len && (to | from) & 1 == 0
}

/// Whether the source is no host's address, or loopback's though the target is not: what the kernel
/// throws away, before the workers could answer it.
#[inline(always)]
fn is_from_nobody<F: Frame>(frame: F, located: &Located) -> bool {
    let Some(source) = frame.read(located.source_at) else { return true };
    let source = u64::from_be_bytes(source);
    match located.ip {
        // Source and target.
        IpVersion::V4 => match source >> 56 {
            127 => source as u32 >> 24 != 127,
            net => net == 0 || net >= 224,
        },
        // `::`, `::1` and mapped ones have nothing in front.
        IpVersion::V6 if source == 0 => {
            frame.read(located.target_at()).is_none_or(|target: [u8; 8]| target != [0; 8])
        }
        IpVersion::V6 => source >> 56 == 0xff,
    }
}

/// One answer to a connection in a while, and no more to a prefix and to all than they may have.
///
/// Repetitions cost no budget; and only who is answered is remembered.
#[inline(always)]
fn within_limits(
    settings: &SettingsValue,
    located: &Located,
    prefix: u64,
    (name, check): (u64, u32),
) -> Result<(), Unanswered> {
    let now_ns = budget::now();
    let who = name ^ prefix.rotate_left(7) ^ u64::from(located.source_port) << 48;
    // The check is a keyed hash, so nobody can choose whom to meet.
    let last = &ANSWERED.get()[check as usize % ANSWERED_PLACES];
    let answer = LastAnswer::of((who.wrapping_mul(GOLDEN) >> 32) as u32, now_ns);
    if last.was_just_before(answer) {
        return Err(Unanswered::Repeated);
    }
    let bucket = maps::entry(&BUCKETS, ANSWER_BUCKET).ok_or(Unanswered::ResetBudget)?;
    let all: Budget = settings.answer_budget;
    if !all.is_unlimited() && !all.has_room(bucket, now_ns) {
        return Err(Unanswered::ResetBudget);
    }
    let of_prefix = settings.answer_prefix_budget;
    // Prefixes that meet share a budget; the factor is secret, so nobody can choose whom to meet.
    let place = prefix.wrapping_mul(settings.spread_key.key().k0 | 1) >> 50;
    let bucket_of_prefix = &ANSWER_PREFIXES.get()[place as usize % ANSWER_PREFIX_PLACES];
    if !of_prefix.is_unlimited() && !of_prefix.take(bucket_of_prefix, now_ns) {
        return Err(Unanswered::PrefixBudget);
    }
    if !all.is_unlimited() && !all.take(bucket, now_ns) {
        return Err(Unanswered::ResetBudget);
    }
    last.remember(answer);
    Ok(())
}

/// Writes the answer over the packet, which is longer, and cuts it.
#[inline(always)]
fn write(
    ctx: &XdpContext,
    located: &Located,
    len: usize,
    token: [u64; 2],
    noise: &Noise,
) -> Option<()> {
    // SAFETY: the context is the kernel's own, whose fields are always there.
    let start = unsafe { ptr::read_volatile(&raw const (*ctx.ctx).data) } as usize;
    // SAFETY: as above.
    let end = unsafe { ptr::read_volatile(&raw const (*ctx.ctx).data_end) } as usize;
    change_over_ethernet(start, end)?;
    // 14, 18 or 22; the bound is for the verifier.
    let ip = start + (located.ip_at() & 31);
    match located.ip {
        IpVersion::V4 => write_v4(ip, end, len, token, noise)?,
        IpVersion::V6 => write_v6(ip, end, len, token, noise)?,
    }
    // SAFETY: the context is the kernel's own.
    let frame_len = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as i32;
    let by = (located.payload_at + len) as i32 - frame_len;
    // SAFETY: the context is the kernel's own; pointers into the frame are not used any more.
    (unsafe { bpf_xdp_adjust_tail(ctx.ctx, by) } == 0).then_some(())
}

#[inline(always)]
fn change_over_ethernet(start: usize, end: usize) -> Option<()> {
    if start + 12 > end {
        return None;
    }
    let frame = start as *mut u8;
    // SAFETY: the comparison above: all twelve bytes lie in front of `data_end`.
    unsafe {
        let to: [u16; 3] = ptr::read_unaligned(frame.cast());
        let from: [u16; 3] = ptr::read_unaligned(frame.add(6).cast());
        ptr::write_unaligned(frame.cast(), from);
        ptr::write_unaligned(frame.add(6).cast(), to);
    }
    Some(())
}

#[inline(always)]
fn write_v4(ip: usize, end: usize, len: usize, token: [u64; 2], noise: &Noise) -> Option<()> {
    if ip + 20 + 8 + RESET_LEN_MIN > end {
        return None;
    }
    let header = ip as *mut u8;
    let udp_len = swapped(8 + len);
    // SAFETY: the comparison above: headers and shortest reset lie in front of `data_end`.
    unsafe {
        let source: u32 = ptr::read_unaligned(header.add(12).cast());
        let target: u32 = ptr::read_unaligned(header.add(16).cast());
        // Version and length, no congestion marks; identification 0 and "don't fragment"; UDP.
        let words =
            [0x45 | swapped(20 + 8 + len) << 16, 0x40 << 16, HOPS | 17 << 8, target, source];
        let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
        ptr::write_unaligned(header.cast(), words);
        ptr::write_unaligned(header.add(10).cast(), folded(sum));
        let pseudo = u64::from(source) + u64::from(target) + (17 << 8) + u64::from(udp_len);
        write_udp(header.add(20), end, udp_len, len, token, noise, pseudo)
    }
}

#[inline(always)]
fn write_v6(ip: usize, end: usize, len: usize, token: [u64; 2], noise: &Noise) -> Option<()> {
    if ip + 40 + 8 + RESET_LEN_MIN > end {
        return None;
    }
    let header = ip as *mut u8;
    let udp_len = swapped(8 + len);
    // SAFETY: the comparison above: headers and shortest reset lie in front of `data_end`.
    unsafe {
        let source: [u32; 4] = ptr::read_unaligned(header.add(8).cast());
        let target: [u32; 4] = ptr::read_unaligned(header.add(24).cast());
        ptr::write_unaligned(header.cast(), [0x60, udp_len | 17 << 16 | HOPS << 24]);
        ptr::write_unaligned(header.add(8).cast(), target);
        ptr::write_unaligned(header.add(24).cast(), source);
        let addresses = source.iter().chain(&target).map(|word| u64::from(*word)).sum::<u64>();
        let pseudo = addresses + (17 << 8) + u64::from(udp_len);
        write_udp(header.add(40), end, udp_len, len, token, noise, pseudo)
    }
}

/// Writes the UDP header and the reset behind it. `pseudo`: the sum of the pseudo header.
///
/// Sums what it writes as it writes it: read back, bytes would have to wait for their stores.
///
/// # Safety
/// `udp` has eight bytes and [`RESET_LEN_MIN`] behind them, in front of `end`.
#[inline(always)]
unsafe fn write_udp(
    udp: *mut u8,
    end: usize,
    udp_len: u32,
    len: usize,
    token: [u64; 2],
    noise: &Noise,
    pseudo: u64,
) -> Option<()> {
    // A reset is never shorter than that; the bound is for the verifier.
    let noise_len = (len - TOKEN_LEN) & (ROOM - 1);
    // At an odd place bytes count for the other half: 256 times as much (RFC 1071).
    let mut sum = pseudo + ((halves(token[0]) + halves(token[1])) << (8 * (noise_len & 1)));
    // SAFETY: the caller's word; noise and token are compared with the end.
    unsafe {
        let ports: u32 = ptr::read_unaligned(udp.cast());
        let ports = ports.rotate_left(16);
        let room = udp.add(8);
        let mut masks_at = ROOM - noise_len;
        // Else the compiler subtracts from the address, below the table in the verifier's eyes.
        asm!("/* {0} */", inout(reg) masks_at, options(pure, nomem, nostack));
        let masks = MASKS.as_ptr().add(masks_at);
        for index in 0..NOISE_MAX.div_ceil(8) {
            // What is beyond the packet is beyond its answer.
            if room as usize + index * 8 + 8 > end {
                break;
            }
            let mut word = noise.word(1 + index as u64);
            if index == 0 {
                word = word & !0xc0 | 0x40;
            }
            // SAFETY: bytes `ROOM - noise_len + 8 * index` to 8 later; the last is under 64 + 48.
            word &= ptr::read_unaligned(masks.add(index * 8).cast::<u64>());
            sum += halves(word);
            ptr::write_unaligned(room.add(index * 8).cast(), word);
        }
        // A place that the verifier does not know needs a comparison of its own.
        let mut place = room.add(noise_len);
        asm!("/* {0} */", inout(reg) place, options(pure, nomem, nostack));
        if place as usize + TOKEN_LEN > end {
            return None;
        }
        ptr::write_unaligned(place.cast(), token);
        sum += u64::from(ports) + u64::from(udp_len);
        // Without a checksum it is 0, so a sum of 0 is sent as its other form (RFC 768).
        let sum = match folded(sum) {
            0 => 0xffff,
            sum => sum,
        };
        ptr::write_unaligned(udp.cast(), [ports, udp_len | u32::from(sum) << 16]);
    }
    Some(())
}

/// Both halves of a word, for a sum that is folded later.
#[inline(always)]
fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// The Internet checksum (RFC 1071) of a sum of little-endian words, in the order of the machine.
#[inline(always)]
fn folded(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A 16-bit number in network order.
#[inline(always)]
fn swapped(number: usize) -> u32 {
    u32::from((number as u16).to_be())
}

/// Who was answered last of those that share this place, and when. Cores may overwrite each other:
/// then there is an answer too many.
///
/// 23 bits of who and 9 of when: the smaller the table, the more of it stays in the caches. Two of
/// the same number wait for each other, and time begins anew every four seconds; both cost one
/// packet in very many its answer, and the next one gets it.
#[repr(transparent)]
pub(crate) struct LastAnswer(UnsafeCell<u32>);

// SAFETY: it is read and written whole.
unsafe impl Sync for LastAnswer {}

impl LastAnswer {
    pub(crate) const NEVER: Self = Self(UnsafeCell::new(0));

    /// What is kept of an answer to the one with this number.
    #[inline(always)]
    fn of(who: u32, now_ns: u64) -> u32 {
        who & !TIME_MASK | (now_ns >> 23) as u32 & TIME_MASK
    }

    /// Whether the same one was answered just before `answer`.
    #[inline(always)]
    fn was_just_before(&self, answer: u32) -> bool {
        // SAFETY: the map keeps the value alive, and it is read in one piece.
        let last = unsafe { ptr::read_volatile(self.0.get()) };
        let is_same = (last ^ answer) & !TIME_MASK == 0;
        is_same && answer.wrapping_sub(last) & TIME_MASK < REPEAT_UNITS
    }

    #[inline(always)]
    fn remember(&self, answer: u32) {
        // SAFETY: the map keeps the value alive, and it is written in one piece.
        unsafe { ptr::write_volatile(self.0.get(), answer) };
    }
}

/// Room for the longest reset, in whole words.
const ROOM: usize = 64;
/// All ones and then all zeros: eight bytes at `ROOM - len` keep the first `len` bytes of a word. A
/// load instead of branches, which nobody could foretell for a length that is drawn.
static MASKS: [u8; 2 * ROOM] = {
    let mut masks = [0; 2 * ROOM];
    let mut at = 0;
    while at < ROOM {
        masks[at] = 0xff;
        at += 1;
    }
    masks
};
/// The longest reset has 58 bytes.
const NOISE_MAX: usize = 58 - TOKEN_LEN;
const TOKEN_LEN: usize = 16;
/// The hop limit, Linux's default.
const HOPS: u32 = 64;
/// Connections whose last answers are remembered: 64 KiB.
pub(crate) const ANSWERED_PLACES: usize = 1 << 14;
/// Budgets of source prefixes: 128 KiB.
pub(crate) const ANSWER_PREFIX_PLACES: usize = 1 << 14;
/// The bits of a time in units of 2^23 ns.
const TIME_MASK: u32 = 0x1ff;
/// A tenth of a second.
const REPEAT_UNITS: u32 = 12;

const _: () = assert!(quiclane_wire::RESET_LEN_MAX == NOISE_MAX + TOKEN_LEN);
