//! alpn: the protocol that TLS agrees on decides which app gets the connection.

use quiclane::apps::{Echo, Hq, HqOptions, Perf, PerfOptions, Protocols};
use quiclane::{App, Io};
use quinn::{ConnectionError, VarInt};

use crate::common::{
    Served, app_server, connect_with, exchange, law_holds, runtime, total, wait_until,
};
use crate::echo::echoed;
use crate::hq::{Files, get};

/// All three protocols, behind one address.
fn serve_all(files: &Files) -> Served {
    let root = files.root();
    app_server(&["perf", "hq-interop", "echo"], Io::Auto, move |_| {
        let perf: Box<dyn App> = Box::new(Perf::new(PerfOptions::default()));
        let hq: Box<dyn App> = Box::new(Hq::new(Some(root.clone()), HqOptions::default()));
        let echo: Box<dyn App> = Box::new(Echo::new());
        Protocols::new(vec![
            (Perf::ALPN.to_vec(), perf),
            (Hq::ALPN.to_vec(), hq),
            (Echo::ALPN.to_vec(), echo),
        ])
    })
}

#[test]
fn alpn_picks_the_app() {
    let files = Files::new();
    let server = serve_all(&files);
    runtime().block_on(async {
        let (_endpoint, perf) = connect_with(&server, &["perf"]).await.unwrap();
        let (_endpoint, hq) = connect_with(&server, &["hq-interop"]).await.unwrap();
        let (_endpoint, echo) = connect_with(&server, &["echo"]).await.unwrap();
        let (_endpoint, second_choice) = connect_with(&server, &["h3", "echo"]).await.unwrap();
        for _ in 0..3 {
            exchange(&perf, 10, 1_000).await.unwrap();
            assert_eq!(get(&hq, "/one").await.as_deref(), Ok(&b"1"[..]));
            assert_eq!(echoed(&echo, b"GET /one\r\n").await, b"GET /one\r\n");
            assert_eq!(echoed(&second_choice, b"again").await, b"again");
        }
        for connection in [perf, hq, echo, second_choice] {
            connection.close(VarInt::from_u32(0), b"");
        }
        wait_until(|| total(&server.snapshots(), |s| s.open) == 0).await;
    });
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.connected), 4);
}

#[test]
fn an_unknown_protocol_is_refused_with_the_alert_of_tls() {
    let files = Files::new();
    let server = serve_all(&files);
    runtime().block_on(async {
        for unknown in [&["h3"][..], &["ech", "echo2", "PERF"], &[]] {
            let refused = connect_with(&server, unknown).await.map(drop).unwrap_err();
            let ConnectionError::ConnectionClosed(close) = &refused else {
                panic!("{unknown:?}: {refused}");
            };
            assert_eq!(u64::from(close.error_code), NO_APPLICATION_PROTOCOL, "{unknown:?}");
        }
        let (_endpoint, echo) = connect_with(&server, &["echo"]).await.unwrap();
        assert_eq!(echoed(&echo, b"still here").await, b"still here");
        echo.close(VarInt::from_u32(0), b"");
        wait_until(|| total(&server.snapshots(), |s| s.open) == 0).await;
    });
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.connected), 1, "the refused never reach an app");
}

/// The TLS alert 120 as a QUIC error code (RFC 9001 sections 4.8 and 8.1).
const NO_APPLICATION_PROTOCOL: u64 = 0x178;
