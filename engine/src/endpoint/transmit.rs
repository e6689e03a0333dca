//! transmit fills send slots from connections, in turn, so that none holds up the others.

use std::time::Instant;

use quiclane_datapath::{Datapath, Ecn, SendSlot, Transmit};
use quinn_proto::EcnCodepoint;

use super::{Connection, Endpoint};
use crate::limits::Departure;

/// Why a transmit pass ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    /// Nobody has anything left to send.
    All,
    /// Somebody has more; the next turn must come at once.
    More,
    /// All slots are in flight; a completion wakes the worker.
    SlotsBusy,
}

impl Endpoint {
    /// Lets every connection in the sending queue transmit, at most [`TRAINS_MAX`] trains each.
    pub(crate) fn transmit(&mut self, now: Instant, datapath: &mut impl Datapath) -> Sent {
        let mut spare: Option<SendSlot> = None;
        let mut outcome = Sent::All;
        for _ in 0..self.sending.len() {
            let Some(slot) = self.sending.pop_front() else { break };
            let Some(connection) = self.connections[slot as usize].as_mut() else { continue };
            match transmit_one(connection, now, datapath, &mut spare, &self.counters) {
                Sent::All => {
                    connection.in_sending = false;
                    let deadline = connection.next_deadline();
                    self.timers.set(slot, deadline);
                    self.enforce_cid_limit(slot as usize, now);
                }
                Sent::More => {
                    outcome = Sent::More;
                    self.sending.push_back(slot);
                }
                Sent::SlotsBusy => {
                    outcome = Sent::SlotsBusy;
                    self.sending.push_front(slot);
                    break;
                }
            }
        }
        if let Some(slot) = spare {
            datapath.release(slot);
        }
        outcome
    }
}

fn transmit_one(
    connection: &mut Connection,
    now: Instant,
    datapath: &mut impl Datapath,
    spare: &mut Option<SendSlot>,
    counters: &crate::metrics::WorkerCounters,
) -> Sent {
    let segments_max = datapath.segments_max(usize::from(connection.proto.current_mtu()));
    for _ in 0..TRAINS_MAX {
        let segments_max = segments_max.min(connection.datagrams_allowed());
        if segments_max == 0 {
            return Sent::All;
        }
        let Some(mut slot) = spare.take().or_else(|| datapath.slot()) else {
            return Sent::SlotsBusy;
        };
        let Some(transmit) = connection.proto.poll_transmit(now, segments_max, &mut slot.payload)
        else {
            *spare = Some(slot);
            return Sent::All;
        };
        if !may_leave(connection, &transmit) {
            counters.unvalidated_path.add(1);
            slot.payload.clear();
            *spare = Some(slot);
            continue;
        }
        slot.payload.truncate(transmit.size);
        datapath.send(
            slot,
            &Transmit {
                socket: connection.socket,
                target: transmit.destination,
                source: transmit.src_ip,
                ecn: transmit.ecn.map(ecn),
                segment: transmit.segment_size,
            },
        );
    }
    Sent::More
}

/// Whether a train keeps within the limit for addresses that are not validated.
fn may_leave(connection: &mut Connection, transmit: &quinn_proto::Transmit) -> bool {
    let Connection { proto, off_path, mtu_probes, .. } = connection;
    let (address, active) = (transmit.destination, proto.remote_address());
    if !off_path.meters(address, active) {
        return true;
    }
    let probes = proto.stats().path.sent_plpmtud_probes;
    let before = std::mem::replace(mtu_probes, probes);
    off_path.may_send(&Departure {
        address,
        bytes: transmit.size,
        active,
        mtu: proto.current_mtu(),
        is_mtu_probe: probes != before,
    })
}

fn ecn(codepoint: EcnCodepoint) -> Ecn {
    match codepoint {
        EcnCodepoint::Ect0 => Ecn::Ect0,
        EcnCodepoint::Ect1 => Ecn::Ect1,
        EcnCodepoint::Ce => Ecn::Ce,
    }
}

/// Trains that one connection may send before the next one has its turn: 4 x 64 KiB keep a bulk
/// sender's data in the cache and delay nobody by more than a quarter of a millisecond.
const TRAINS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::time::Duration;

    use quiclane_datapath::Epoll;
    use quinn_proto::VarInt;

    use super::*;
    use crate::app::{App, ConnId, Origin};
    use crate::clock;
    use crate::config::{Limits, Transport};
    use crate::identity::Identity;
    use crate::tls::{ClientTls, Provider, Resume, Target, Trust};
    use crate::transport::transport;

    struct Idle;

    impl App for Idle {}

    /// Under load all send slots are busy, and connections end while they wait for one.
    #[test]
    fn a_connection_that_ends_while_it_waits_for_a_slot_leaves_the_queue() {
        let identity = Identity::client(Some(1));
        let transport = transport(&Transport::default()).unwrap();
        let settings = identity.settings(0, &transport, &Limits::default());
        let mut endpoint = Endpoint::new(settings, Arc::default());
        let mut datapath = Epoll::new(1).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let alpn = vec![b"any".to_vec()];
        let tls = ClientTls::new(Provider::Ring, Trust::Insecure, alpn, Resume::Off).unwrap();
        let address = peer.local_addr().unwrap();
        let target = Target { address, server_name: "localhost".into(), tls, local: None };
        let now = clock::now();
        let connect = |endpoint: &mut Endpoint, datapath: &mut Epoll| -> ConnId {
            endpoint.connect(now, &target, &Origin::default(), datapath).unwrap()
        };
        let first = connect(&mut endpoint, &mut datapath);
        endpoint.serve(now, &mut Idle, &mut datapath);
        while endpoint.transmit(now, &mut datapath) != Sent::All {
            datapath.flush();
        }
        endpoint.close_all(now, VarInt::from_u32(0), "done");
        endpoint.serve(now, &mut Idle, &mut datapath);
        while endpoint.transmit(now, &mut datapath) != Sent::All {
            datapath.flush();
        }
        datapath.flush();
        let taken = datapath.slot().unwrap();
        assert!(endpoint.lend(first, now).is_none(), "it is closed, but was looked at");
        endpoint.serve(now, &mut Idle, &mut datapath);
        assert_eq!(endpoint.transmit(now, &mut datapath), Sent::SlotsBusy);
        assert_eq!(endpoint.sending, [first.slot]);
        let later = now + Duration::from_secs(60);
        endpoint.expire(later);
        endpoint.serve(later, &mut Idle, &mut datapath);
        assert_eq!(endpoint.connections(), 0);
        let second = connect(&mut endpoint, &mut datapath);
        assert_eq!(second.slot, first.slot);
        endpoint.serve(now, &mut Idle, &mut datapath);
        assert_eq!(endpoint.sending, [second.slot], "once");
        datapath.release(taken);
    }
}
