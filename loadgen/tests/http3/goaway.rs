//! goaway is a server that says GOAWAY after a few requests on each connection.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use quiclane_loadgen::{LoadConfig, Stop, Workload};
use quinn::{Connection, ConnectionError};

use crate::server::Server;
use crate::{classes, config, get, run};

/// Requests that are answered on each connection.
const ANSWERED: u64 = 5;

/// With what codes clients closed their connections.
type Closed = Arc<Mutex<Vec<u64>>>;

/// Answers the first requests of each connection, then says GOAWAY and answers no other.
fn start(answered: u64) -> (Server, Closed) {
    let closed = Closed::default();
    let shared = Arc::clone(&closed);
    let server = Server::start(move |connection| serve(connection, answered, Arc::clone(&shared)));
    (server, closed)
}

async fn serve(connection: Connection, answered: u64, closed: Closed) {
    let Ok(mut control) = connection.open_uni().await else { return };
    let go_away = [0x07, 0x01, u8::try_from(4 * answered).unwrap()];
    let settings = [0x00, 0x04, 0x00];
    let _ = control.write_all(&settings).await;
    // Not before the handshake is complete here too: the client would close the connection in
    // packets that cannot name a code of HTTP/3 (RFC 9000 section 10.2.3).
    let _control = connection.accept_uni().await;
    if answered == 0 {
        let _ = control.write_all(&go_away).await;
    }
    let mut streams = Vec::new();
    loop {
        let (mut send, mut recv) = match connection.accept_bi().await {
            Ok(stream) => stream,
            Err(ConnectionError::ApplicationClosed(close)) => {
                return closed.lock().unwrap().push(close.error_code.into_inner());
            }
            Err(_) => return,
        };
        if send.id().index() < answered {
            tokio::spawn(async move {
                let _ = recv.read_to_end(1 << 10).await;
                let _ = send.write_all(&[0x01, 0x03, 0, 0, 0xd9]).await;
                let _ = send.finish();
            });
            continue;
        }
        if streams.is_empty() {
            let _ = control.write_all(&go_away).await;
        }
        // Kept open: neither answered nor reset.
        streams.push((send, recv));
    }
}

/// The codes of the first `count` connections that ended.
fn all(closed: &Closed, count: u64) -> Vec<u64> {
    for _ in 0..500 {
        let closed = closed.lock().unwrap();
        if closed.len() as u64 >= count {
            return closed.clone();
        }
        drop(closed);
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{closed:?}: fewer than {count} after 5 s");
}

fn one_connection(server: &Server, stop: Stop) -> LoadConfig {
    LoadConfig { connections: 1, workers: 1, streams: 3, ..config(server, vec![get("/")], stop) }
}

#[test]
fn what_a_goaway_refuses_fails_and_the_connection_is_replaced() {
    let (server, closed) = start(ANSWERED);
    let report = run(one_connection(&server, Stop::Requests(100)));
    let [("going_away", refused)] = classes(&report)[..] else { panic!("{report}") };
    assert!(refused >= 10 && report.counts.requests.ok + refused == 100, "{report}");
    let goaways = report.goaways.unwrap();
    assert!(goaways >= 10 && report.handshakes.abs_diff(goaways) <= 1, "{report}");
    assert_eq!(report.reconnects, 0, "nothing was lost");
    assert!(report.to_string().contains("ended by GOAWAY"), "{report}");
    // H3_NO_ERROR; the last one may end with the run.
    let closed = all(&closed, goaways);
    let politely = closed.iter().filter(|code| **code == 0x100).count();
    assert!(politely + 1 >= closed.len() && politely > 9, "{closed:?}");
}

#[test]
fn what_a_goaway_refuses_is_sent_again_if_asked_for() {
    let (server, _) = start(ANSWERED);
    let config = one_connection(&server, Stop::Requests(100));
    let report = run(LoadConfig { reconnect: true, ..config });
    assert!(report.ok, "{report}");
    assert_eq!(report.status.as_ref().unwrap()["2xx"], 100);
    assert!(report.goaways.unwrap() >= 19, "{report}");
    // By number: each request once, though many were sent twice.
    assert_eq!(report.counts.requests.started, 100);
}

#[test]
fn a_server_that_always_goes_away_is_not_hammered() {
    for reconnect in [false, true] {
        let (server, _) = start(0);
        let stop = Stop::Duration(Duration::from_millis(700));
        let config = LoadConfig { reconnect, ..one_connection(&server, stop) };
        let config = LoadConfig { request_timeout: Some(Duration::from_millis(200)), ..config };
        let report = run(config);
        assert!(!report.ok && report.counts.requests.ok == 0, "{report}");
        // After 10 ms, 20 ms, ..., half of it random: seven in this time, or a few more.
        assert!((2..20).contains(&report.handshakes), "{report}");
        if reconnect {
            assert!(report.errors.by_class.contains_key("timeout"), "{report}");
        }
    }
}

#[test]
fn held_connections_are_lost_by_a_goaway() {
    let (server, closed) = start(0);
    let stop = Stop::Duration(Duration::from_secs(20));
    let config = LoadConfig { workload: Workload::Idle, ..config(&server, Vec::new(), stop) };
    let report = run(config);
    assert_eq!(classes(&report), [("going_away", 2)]);
    assert!(report.duration_s < 10.0, "none was left: {report}");
    assert_eq!(all(&closed, 2), [0x100, 0x100]);
}
