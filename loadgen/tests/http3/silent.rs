//! silent is a server that keeps clients waiting: for their answers, or in the handshake.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use quiclane::Resume;
use quiclane_loadgen::{Ending, LoadConfig, Stop};
use quinn::Connection;

use crate::server::Server;
use crate::{classes, config_for, get, run};

/// Answers the first `answered` requests of a connection and keeps the others.
async fn serve(connection: Connection, answered: usize) {
    let mut streams = Vec::new();
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        if streams.len() < answered {
            let _ = recv.read_to_end(1 << 10).await;
            let _ = send.write_all(&[0x01, 0x03, 0, 0, 0xd9]).await;
            let _ = send.finish();
        }
        streams.push((send, recv));
    }
}

#[test]
fn a_run_that_is_too_short_for_any_answer_is_no_success() {
    let server = Server::start(|connection| serve(connection, 0));
    // Shorter than a second, after which requests have stalled.
    let stop = Stop::Duration(Duration::from_millis(600));
    let report = run(config_for(server.target(Resume::Off), vec![get("/")], stop));
    assert_eq!(report.ending, Ending::Complete);
    assert_eq!((report.handshakes, report.requests, report.errors.total), (2, 0, 0), "{report}");
    assert!(!report.ok && report.to_string().contains("no request was answered"), "{report}");
}

#[test]
fn early_data_of_a_handshake_that_outlasts_the_warm_up_is_sent_and_accepted() {
    let connections = AtomicUsize::new(0);
    let server = Server::start(move |connection| {
        let is_first = connections.fetch_add(1, Ordering::Relaxed) == 0;
        if !is_first {
            // The server has one thread: its part of the handshake leaves later.
            thread::sleep(Duration::from_millis(900));
        }
        serve(connection, usize::from(is_first))
    });
    let stop = Stop::Duration(Duration::from_millis(1_000));
    let report = run(LoadConfig {
        connections: 1,
        workers: 1,
        streams: 1,
        requests_per_connection: NonZero::new(1),
        warm_up: Duration::from_millis(500),
        ..config_for(server.target(Resume::ZeroRtt), vec![get("/")], stop)
    });
    let early_data = report.early_data;
    assert_eq!((report.handshakes, early_data.sent, early_data.accepted), (2, 1, 1), "{report}");
}

#[test]
fn a_handshake_under_way_is_not_held_back_by_a_stream_limit() {
    // Nobody answers after the first connection, so the requests that its GOAWAY refused end while
    // the second one shakes hands, before the server's limits are known.
    let server = Server::start(|connection| async move {
        let Ok(mut control) = connection.open_uni().await else { return };
        let _ = control.write_all(&[0x00, 0x04, 0x00]).await;
        let _request = connection.accept_bi().await;
        let _ = control.write_all(&[0x07, 0x01, 0x00]).await;
        connection.closed().await;
        thread::sleep(Duration::from_millis(1_500));
    });
    let stop = Stop::Duration(Duration::from_millis(900));
    let report = run(LoadConfig {
        connections: 1,
        workers: 1,
        streams: 3,
        reconnect: true,
        request_timeout: Some(Duration::from_millis(200)),
        ..config_for(server.target(Resume::Off), vec![get("/")], stop)
    });
    assert_eq!((report.handshakes, classes(&report)), (1, vec![("timeout", 3)]), "{report}");
    assert!(!report.to_string().contains("stream limit"), "{report}");
}
