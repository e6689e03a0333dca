//! arrival makes a train of what the kernel wrote, or counts why it is none.

use crate::address;
use crate::cmsg;
use crate::counters::Counters;
use crate::traffic::{Meta, SocketId, Train};

/// Room for the largest UDP payload: GRO trains are up to 65,535 bytes whatever the MTU.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 65_535;

/// One received message, still in the kernel's form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'b> {
    pub(crate) flags: u32,
    pub(crate) name: &'b [u8],
    pub(crate) control: &'b [u8],
    pub(crate) payload: &'b [u8],
}

/// What a socket had dropped when it was last heard of; the kernel's number wraps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drops(u32);

impl Drops {
    /// Counts what is new in `now`. Datagrams that several CPUs queue may tell it out of order.
    fn note(&mut self, now: u32, counters: &Counters) {
        let new = now.wrapping_sub(self.0);
        if new <= u32::MAX / 2 {
            self.0 = now;
            counters.recv_dropped.add(new.into());
        }
    }
}

/// Reads and counts a message.
pub(crate) fn train<'b>(
    socket: SocketId,
    message: &Message<'b>,
    drops: &mut Drops,
    counters: &Counters,
) -> Option<Train<'b>> {
    let Message { flags, name, control, payload } = *message;
    if flags & libc::MSG_TRUNC.cast_unsigned() != 0 {
        counters.recv_truncated.add(1);
        return None;
    }
    if flags & libc::MSG_CTRUNC.cast_unsigned() != 0 {
        counters.recv_control_truncated.add(1);
        return None;
    }
    let Some(source) = address::decode(name) else {
        counters.recv_errors.add(1);
        return None;
    };
    let cmsg::Arrival { stride, ecn, target, dropped } = cmsg::decode(control);
    if let Some(dropped) = dropped {
        drops.note(dropped, counters);
    }
    let bytes = payload.len();
    let stride = stride.filter(|stride| (1..bytes).contains(stride)).unwrap_or(bytes);
    counters.recv_trains.add(1);
    counters.recv_datagrams.add(bytes.div_ceil(stride.max(1)).max(1) as u64);
    counters.recv_bytes.add(bytes as u64);
    Some(Train { bytes: payload, meta: Meta { socket, source, target, ecn, stride } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Family, Name};

    fn read(flags: i32, name: &[u8], payload: &[u8], counters: &Counters) -> Option<usize> {
        let message = Message { flags: flags.cast_unsigned(), name, control: &[], payload };
        train(SocketId(3), &message, &mut Drops::default(), counters)
            .map(|train| train.datagrams().count())
    }

    #[test]
    fn drops_are_counted_once_in_any_order_and_past_the_wrap() {
        let (counters, mut drops) = (Counters::default(), Drops(u32::MAX - 1));
        for (now, total) in [(u32::MAX - 1, 0), (u32::MAX, 1), (2, 4), (1, 4), (2, 4), (5, 7)] {
            drops.note(now, &counters);
            assert_eq!(counters.recv_dropped.value(), total, "{now}");
        }
    }

    #[test]
    fn what_is_cut_short_is_counted_and_dropped() {
        let counters = Counters::default();
        let mut name = Name::EMPTY;
        name.encode("192.0.2.1:1".parse().unwrap(), Family::V4);
        assert_eq!(read(libc::MSG_TRUNC, &name.bytes, b"x", &counters), None);
        assert_eq!(read(libc::MSG_CTRUNC, &name.bytes, b"x", &counters), None);
        assert_eq!(read(0, &[], b"x", &counters), None);
        assert_eq!(read(0, &name.bytes, b"", &counters), Some(1));
        let counted: Vec<_> = counters.each().filter(|(.., value)| *value > 0).collect();
        let names: Vec<_> = counted.iter().map(|(name, ..)| *name).collect();
        assert_eq!(
            names,
            [
                "recv_trains",
                "recv_datagrams",
                "recv_truncated",
                "recv_control_truncated",
                "recv_errors"
            ]
        );
    }
}
