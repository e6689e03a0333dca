//! wrong is a server that writes frames by hand, most of them wrong ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quiclane_loadgen::{Body, LoadConfig, Report, Stop};
use quinn::{Connection, SendStream};

use crate::server::Server;
use crate::{classes, config, get, request, run};

/// A control stream with SETTINGS that say nothing.
const CONTROL: &[u8] = &[0x00, 0x04, 0x00];
/// HEADERS with `:status: 200`.
const OK: &[u8] = &[0x01, 0x03, 0, 0, 0xd9];
/// HEADERS with `:status: 200` and `content-length: 5`.
const OK_FIVE: &[u8] = &[0x01, 0x06, 0, 0, 0xd9, 0x54, 0x01, b'5'];

/// HEADERS with `:status: 304` and `content-length: 5`, which is that of another response.
const NOT_MODIFIED_FIVE: &[u8] = &[0x01, 0x06, 0, 0, 0xda, 0x54, 0x01, b'5'];
/// HEADERS with `:status: 204`.
const NO_CONTENT: &[u8] = &[0x01, 0x04, 0, 0, 0xff, 0x01];
/// HEADERS with `:status: 103`: more is to come.
const EARLY_HINTS: &[u8] = &[0x01, 0x03, 0, 0, 0xd8];

/// What the server does with each request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Writes this and ends the stream.
    Write(&'static [u8]),
    /// Writes this and resets the stream with this code.
    Reset(&'static [u8], u32),
    /// Closes the connection with this code.
    Close(u32),
    /// Refuses the rest of the request with this code, then writes this and ends the stream.
    Stop(u32, &'static [u8]),
}

/// A server that answers like this, with the number of requests that it saw.
fn start(control: &'static [u8], answer: Answer) -> (Server, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&seen);
    let server =
        Server::start(move |connection| serve(connection, control, answer, shared.clone()));
    (server, seen)
}

async fn serve(
    connection: Connection,
    control: &'static [u8],
    answer: Answer,
    seen: Arc<AtomicU64>,
) {
    let Ok(mut settings) = connection.open_uni().await else { return };
    if settings.write_all(control).await.is_err() {
        return;
    }
    while let Ok((send, mut recv)) = connection.accept_bi().await {
        seen.fetch_add(1, Ordering::Relaxed);
        if let Answer::Stop(code, _) = answer {
            recv.stop(code.into()).unwrap();
        } else if recv.read_to_end(1 << 20).await.is_err() {
            continue;
        }
        if let Answer::Close(code) = answer {
            connection.close(code.into(), b"enough");
        } else {
            tokio::spawn(respond(send, answer));
        }
    }
}

async fn respond(mut send: SendStream, answer: Answer) {
    let bytes = match answer {
        Answer::Write(bytes) | Answer::Reset(bytes, _) | Answer::Stop(_, bytes) => bytes,
        Answer::Close(_) => return,
    };
    if send.write_all(bytes).await.is_err() {
        return;
    }
    if let Answer::Reset(_, code) = answer {
        let _ = send.reset(code.into());
    } else {
        let _ = send.finish();
        let _ = send.stopped().await;
    }
}

/// Ten requests, answered like this, all of them failures of one class.
fn fails(answer: Answer, class: &str, example: &str) -> Report {
    let (server, seen) = start(CONTROL, answer);
    let report = run(config(&server, vec![get("/")], Stop::Requests(10)));
    assert!(!report.ok, "{answer:?}: {report}");
    assert_eq!(classes(&report), [(class, 10)], "{answer:?}");
    assert!(report.to_string().contains(example), "{answer:?}: {report}");
    assert!(seen.load(Ordering::Relaxed) > 0);
    report
}

#[test]
fn what_is_right_is_answered() {
    for answer in [
        [OK, &[0x00, 0x05], b"hello"].concat(),
        [OK_FIVE, &[0x00, 0x05], b"hello"].concat(),
        // An interim response (103), an unknown frame, content in two pieces, trailers (x: y).
        [
            &[0x01, 0x03, 0, 0, 0xd8, 0x21, 0x02, 1, 2],
            OK_FIVE,
            &[0x00, 0x02],
            b"he",
            &[0x00, 0x03],
            b"llo",
            &[0x01, 0x06, 0, 0, 0x21, b'x', 0x01, b'y'],
        ]
        .concat(),
    ] {
        let (server, seen) = start(CONTROL, Answer::Write(answer.leak()));
        let report = run(config(&server, vec![get("/")], Stop::Requests(10)));
        assert!(report.ok && report.bytes_down == 50, "{report}");
        assert_eq!(seen.load(Ordering::Relaxed), 10);
    }
}

#[test]
fn where_no_content_can_be_none_is_missed_and_any_is_wrong() {
    for (answer, class) in [(NOT_MODIFIED_FIVE, "3xx"), (NO_CONTENT, "2xx")] {
        let (server, _) = start(CONTROL, Answer::Write(answer));
        let report = run(config(&server, vec![get("/")], Stop::Requests(10)));
        assert!(report.ok && report.bytes_down == 0, "{report}");
        assert_eq!(report.status.as_ref().unwrap()[class], 10, "{report}");
        let content = [answer, &[0x00, 0x01], b"x"].concat().leak();
        let (server, _) = start(CONTROL, Answer::Write(content));
        let report = run(config(&server, vec![get("/")], Stop::Requests(10)));
        assert_eq!(classes(&report), [("malformed_response", 10)]);
    }
}

#[test]
fn content_that_is_not_as_long_as_announced_is_a_failure() {
    let short = [OK_FIVE, &[0x00, 0x04], b"hell"].concat().leak();
    let report = fails(Answer::Write(short), "short_response", "less content than content-length");
    assert_eq!((report.bytes_down, report.handshakes), (40, 2), "the connection goes on");
    let none = OK_FIVE;
    fails(Answer::Write(none), "short_response", "less content than content-length");
    let long = [OK_FIVE, &[0x00, 0x06], b"hello!"].concat().leak();
    let report = fails(Answer::Write(long), "long_response", "more content than content-length");
    assert_eq!(report.handshakes, 2, "the connection goes on");
}

#[test]
fn other_wrong_responses_have_their_classes() {
    fails(Answer::Write(b""), "no_response", "ended before the final response");
    // Content-Length twice, 0 and 5.
    let twice = &[0x01, 0x07, 0, 0, 0xd9, 0xc4, 0x54, 0x01, b'5'];
    fails(Answer::Write(twice), "malformed_response", "content-length that is no number");
}

/// CR, LF and NUL, each in a value of the head, in a name of the head, and in trailers.
#[test]
fn line_breaks_in_fields_make_a_response_malformed() {
    for byte in *b"\r\n\0" {
        for answer in [
            vec![0x01, 0x08, 0, 0, 0xd9, 0x21, b'x', 0x02, b'a', byte],
            vec![0x01, 0x08, 0, 0, 0xd9, 0x22, b'x', byte, 0x01, b'a'],
            [OK_FIVE, b"\x00\x05hello", &[0x01, 0x07, 0, 0, 0x21, b'x', 0x02, byte, b'a']].concat(),
        ] {
            let report =
                fails(Answer::Write(answer.leak()), "malformed_response", "invalid characters");
            assert_eq!((report.handshakes, report.reconnects), (2, 0), "the connection goes on");
        }
    }
}

#[test]
fn a_reset_is_counted_by_its_code() {
    let report = fails(Answer::Reset(b"", 0x10b), "h3_request_rejected", "H3_REQUEST_REJECTED");
    assert_eq!((report.handshakes, report.reconnects), (2, 0));
    fails(Answer::Reset(OK, 0x102), "h3_internal_error", "with code 258 (H3_INTERNAL_ERROR)");
    fails(Answer::Reset(OK, 0x77), "reset", "with code 119");
}

#[test]
fn a_closed_connection_is_counted_by_its_code() {
    let report = fails(Answer::Close(0x107), "closed_h3_excessive_load", "code 263: enough");
    assert!(report.reconnects > 0, "{report}");
    fails(Answer::Close(0x77), "application_close", "code 119: enough");
}

#[test]
fn a_server_that_breaks_a_rule_of_the_connection_is_hung_up_on() {
    let early = &[0x00, 0x01, b'x'];
    let report = fails(
        Answer::Write(early),
        "violation_h3_frame_unexpected",
        "DATA frame before the header section",
    );
    assert!(report.reconnects > 0, "{report}");
    fails(Answer::Write(&[0x01, 0x03, 0]), "violation_h3_frame_error", "ended inside a frame");
}

#[test]
fn what_was_never_asked_for_ends_the_connection() {
    // PUSH_PROMISE before the response: without MAX_PUSH_ID of ours no push has a number.
    let promise = [&[0x05, 0x05, 0, 0, 0, 0xd1, 0xd7], OK].concat().leak();
    let report = fails(Answer::Write(promise), "violation_h3_id_error", "push");
    assert!(report.reconnects > 0, "{report}");
    // A push stream. (A stream for a request of its own, QUIC does not let a server open.)
    let server = Server::start(pushing);
    let stop = Stop::Duration(Duration::from_millis(300));
    let report = run(config(&server, vec![get("/")], stop));
    assert_eq!(report.errors.by_class.keys().collect::<Vec<_>>(), [&"violation_h3_id_error"]);
}

async fn pushing(connection: Connection) {
    let Ok(mut settings) = connection.open_uni().await else { return };
    let _ = settings.write_all(CONTROL).await;
    let Ok(mut push) = connection.open_uni().await else { return };
    let _ = push.write_all(&[0x01, 0x00]).await;
    connection.closed().await;
}

#[test]
fn a_request_that_takes_too_long_is_cancelled_and_the_server_learns_why() {
    let codes = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&codes);
    let server = Server::start(move |connection| hinting(connection, Arc::clone(&shared)));
    let config = LoadConfig {
        request_timeout: Some(Duration::from_millis(200)),
        ..config(&server, vec![request("POST", "/", Body::Zeros(50 << 20))], Stop::Requests(8))
    };
    let report = run(config);
    assert_eq!(classes(&report), [("timeout", 8)]);
    assert_eq!((report.handshakes, report.reconnects), (2, 0), "connections go on: {report}");
    // H3_REQUEST_CANCELLED, for the response and for the rest of the request.
    let codes = codes.lock().unwrap();
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == (0x10c, 0x10c)), "{codes:?}");
}

/// Hints without end, never answers, and reads of each request but its beginning. Notes the codes
/// with which response and request are given up.
async fn hinting(connection: Connection, codes: Arc<Mutex<Vec<(u64, u64)>>>) {
    let Ok(mut settings) = connection.open_uni().await else { return };
    let _ = settings.write_all(CONTROL).await;
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let codes = Arc::clone(&codes);
        tokio::spawn(async move {
            while send.write_all(EARLY_HINTS).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let (stopped, reset) = (send.stopped().await, recv.received_reset().await);
            if let (Ok(Some(stopped)), Ok(Some(reset))) = (stopped, reset) {
                codes.lock().unwrap().push((stopped.into_inner(), reset.into_inner()));
            }
        });
    }
}

#[test]
fn a_wrong_control_stream_ends_the_connection() {
    // GOAWAY before SETTINGS; the requests are never looked at.
    let (server, _) = start(&[0x00, 0x07, 0x01, 0x00], Answer::Write(OK));
    let config = LoadConfig {
        connect_timeout: Duration::from_millis(300),
        ..config(&server, vec![get("/")], Stop::Duration(Duration::from_millis(500)))
    };
    let report = run(config);
    let class = "violation_h3_missing_settings";
    assert!(!report.ok && report.errors.by_class.contains_key(class), "{report}");
    assert!(report.reconnects > 0, "{report}");
}

#[test]
fn a_header_section_that_the_server_does_not_take_is_not_sent() {
    // SETTINGS_MAX_FIELD_SECTION_SIZE = 100.
    let control = &[0x00, 0x04, 0x03, 0x06, 0x40, 100];
    let (server, seen) = start(control, Answer::Write(OK));
    let large = get("/").with("x-large", &"x".repeat(200)).unwrap();
    let config = LoadConfig {
        connections: 1,
        ..config(&server, vec![large], Stop::Duration(Duration::from_millis(300)))
    };
    let report = run(config);
    assert_eq!(report.errors.by_class.keys().collect::<Vec<_>>(), [&"header_too_large"]);
    assert!(report.to_string().contains("the server takes 100"), "{report}");
    // Until the SETTINGS have come, some leave.
    assert!(seen.load(Ordering::Relaxed) <= report.counts.requests.ok + 2, "{report}");
}

#[test]
fn a_response_counts_though_the_server_refused_the_rest_of_the_request() {
    for code in [0x100, 0x10c, 0] {
        let answer = Answer::Stop(code, OK);
        let (server, seen) = start(CONTROL, answer);
        // More than fits the server's window.
        let post = request("POST", "/", Body::Zeros(50 << 20));
        let report = run(config(&server, vec![post], Stop::Requests(6)));
        assert!(report.ok && report.bytes_up < 6 * (50 << 20), "{code}: {report}");
        assert_eq!(seen.load(Ordering::Relaxed), 6);
    }
}
