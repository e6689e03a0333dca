//! forgotten sends packets of a connection that its worker has closed and forgotten.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::net::UdpSocket;

use common::relay::Watched;
use common::{law_holds, perf_server, runtime, total, wait_until};
use quiclane::Steering;
use quiclane_wire::{RESET_LEN_MAX, RESET_LEN_MIN, TRIGGER_LEN_MIN};

#[test]
fn what_is_too_short_for_an_answer_is_counted_so() {
    let server = perf_server("127.0.0.1:0", 1, |config| {
        config.server.as_mut().unwrap().steering = Steering::Hash;
    });
    let metrics = server.engine().metrics();
    let unanswered =
        || -> Vec<_> { metrics.unanswered().into_iter().filter(|(_, count)| *count > 0).collect() };
    runtime().block_on(async {
        let watched = Watched::connect(&server.certificate, server.address()).await;
        let packet = watched.last_packet();
        assert!(packet.len() > TRIGGER_LEN_MIN, "a short header passed");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let received = || total(&server.snapshots(), |s| s.received);
        // As long as the connection lives it is its own, however short.
        let before = received();
        socket.send_to(&packet[..RESET_LEN_MIN], server.address()).unwrap();
        wait_until(|| received() > before).await;
        assert_eq!(unanswered(), []);
        watched.connection.close(0u32.into(), b"");
        wait_until(|| total(&server.snapshots(), |s| s.open) == 0).await;
        socket.send_to(&packet[..RESET_LEN_MIN], server.address()).unwrap();
        wait_until(|| !unanswered().is_empty()).await;
        assert_eq!(unanswered(), [("too_short", 1)]);
        assert_eq!(total(&server.snapshots(), |s| s.resets_sent), 0);
        // One byte more, and it has an answer.
        socket.send_to(&packet[..TRIGGER_LEN_MIN], server.address()).unwrap();
        wait_until(|| total(&server.snapshots(), |s| s.resets_sent) == 1).await;
        let len = socket.recv(&mut [0; RESET_LEN_MAX]).unwrap();
        assert_eq!((len, unanswered()), (RESET_LEN_MIN, vec![("too_short", 1)]));
    });
    law_holds(&server.finish());
}
