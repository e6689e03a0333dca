//! stalled: requests that stop in the middle, and others that are only slow.

use std::time::{Duration, Instant};

use quiclane::apps::Http3;
use quiclane::apps::http3::{
    Body, Content, Exchange, Next, Options, Reply, Request, Response, Service,
};
use quinn::ReadError;

use crate::common::{Served, app_server_with, law_holds, runtime};
use crate::hostile::{counting_with, text};
use crate::raw::{Raw, get, request};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Twice as long all together, and a fifth of it each time.
const PIECES: usize = 10;
const PAUSE: Duration = Duration::from_millis(400);

fn options() -> Options {
    Options { request_timeout: REQUEST_TIMEOUT, ..Options::default() }
}

/// What comes of a request that goes on with `pieces`, one after each pause.
async fn slowly(client: &Raw, head: &[u8], pieces: &[&[u8]]) -> Result<Vec<u8>, u64> {
    let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
    send.write_all(head).await.unwrap();
    for piece in pieces {
        tokio::time::sleep(PAUSE).await;
        if let Err(quinn::WriteError::Stopped(code)) = send.write_all(piece).await {
            return Err(code.into_inner());
        }
    }
    let _ = send.finish();
    Ok(recv.read_to_end(10_000).await.unwrap())
}

/// The code of the server's RESET_STREAM, after what came before, and that of its STOP_SENDING.
async fn given_up(client: &Raw, beginning: &[u8]) -> (Vec<u8>, Option<u64>, u64) {
    let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
    send.write_all(beginning).await.unwrap();
    let (mut got, mut reset) = (Vec::new(), None);
    loop {
        match recv.read_chunk(1_000, true).await {
            Ok(Some(chunk)) => got.extend_from_slice(&chunk.bytes),
            Ok(None) => break,
            Err(ReadError::Reset(code)) => {
                reset = Some(code.into_inner());
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let stopped = tokio::time::timeout(Duration::from_secs(10), send.stopped()).await;
    (got, reset, stopped.unwrap().unwrap().unwrap().into_inner())
}

#[test]
fn a_request_that_stalls_is_given_up_and_one_that_goes_on_is_not() {
    let (server, counters) = counting_with(options());
    runtime().block_on(async {
        let (client, get) = (Raw::connect(&server).await, get("/bytes/5"));
        let echo = request("POST", "/echo");
        let delay = request("GET", "/delay/3s");
        let (half, content) = get.frame().split_at(get.frame().len() / 2);
        let stalled = [echo.frame(), b"\x00\x05hell"].concat();
        let begun = quiclane::clock::now();
        let took = || quiclane::clock::now().saturating_duration_since(begun);
        // Nobody makes them wait, and still they do: in the middle of a head, and of content.
        let head = async {
            assert_eq!(given_up(&client, half).await, (Vec::new(), Some(0x10d), 0x10d));
            assert!(took() >= REQUEST_TIMEOUT, "{:?}", took());
        };
        let body = async {
            let (got, reset, stopped) = given_up(&client, &stalled).await;
            assert!(got.ends_with(b"\x00\x04hell"), "{got:?}");
            assert_eq!((reset, stopped), (Some(0x10d), 0x10d));
        };
        // A response that is complete stays so.
        let answered = async {
            let (got, reset, stopped) = given_up(&client, get.frame()).await;
            assert!(got.ends_with(&[0; 5]), "{got:?}");
            assert_eq!((reset, stopped), (None, 0x100));
        };
        // A head has to be complete in time, however little of it is missing.
        let bytes: Vec<&[u8]> = content.chunks(1).take(PIECES).collect();
        let drops = async { assert_eq!(slowly(&client, half, &bytes).await, Err(0x10d)) };
        // Content has all the time that it needs if it goes on.
        let pieces = [&b"\x00\x02ab"[..]; PIECES];
        let slow = async {
            let got = slowly(&client, echo.frame(), &pieces).await.unwrap();
            assert!(got.ends_with(&pieces.concat()), "{got:?}");
        };
        // And so has who waits for the server, though the request has no end yet.
        let waits = async {
            let got = slowly(&client, delay.frame(), &[&b""[..]; PIECES]).await.unwrap();
            assert!(got.ends_with(b"3s later\n"), "{got:?}");
        };
        tokio::join!(head, body, answered, drops, slow, waits);
        client.works().await;
    });
    law_holds(&server.finish());
    let text = text(&counters);
    // Of the four, one was answered before: that is not held against the client.
    for line in ["stalled_requests_total{worker=\"0\"} 4", "glitch=\"stalled\"} 3"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

fn serve<S: Service + 'static>(make: impl Fn() -> Http3<S> + Send + Sync + 'static) -> Served {
    app_server_with(&["h3"], |config| config.workers = 1, move |_| make())
}

#[test]
fn collected_content_may_come_slowly_and_is_let_go_of_when_it_stalls() {
    let handler = |request: &Request<'_>| -> Response {
        Response::text(200, format!("{} bytes\n", request.content().len())).into()
    };
    // Room for one of these requests, not for two.
    let server = serve(move || {
        Http3::with_options(handler, Options { collected_bytes_max: 30, ..options() })
    });
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let post = request("POST", "/");
        let pieces = [&b"\x00\x02ab"[..]; PIECES];
        let got = slowly(&client, post.frame(), &pieces).await.unwrap();
        assert!(got.ends_with(b"20 bytes\n"), "{got:?}");
        let stalled = [post.frame(), b"\x00\x40\x64", &[7; 25]].concat();
        assert_eq!(given_up(&client, &stalled).await, (Vec::new(), Some(0x10d), 0x10d));
        let got = slowly(&client, post.frame(), &pieces).await.unwrap();
        assert!(got.ends_with(b"20 bytes\n"), "{got:?}");
    });
    law_holds(&server.finish());
}

#[test]
fn content_that_nobody_wants_may_come_slowly() {
    let (server, counters) = counting_with(options());
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let post = request("POST", "/nothing");
        let got = slowly(&client, post.frame(), &[&b"\x00\x02ab"[..]; PIECES]).await.unwrap();
        assert!(got.ends_with(b"404 Not Found\n"), "{got:?}");
    });
    law_holds(&server.finish());
    assert!(text(&counters).contains("stalled_requests_total{worker=\"0\"} 0"));
}

/// Wants content, and says itself how long it waits for that.
struct Patient(Option<Instant>);

impl Exchange for Patient {
    fn next(&mut self, body: &mut Body<'_>) -> Next {
        let now = body.now();
        let until = *self.0.get_or_insert(now + 2 * REQUEST_TIMEOUT);
        match body.pull() {
            Content::Wait if now < until => Next::WaitUntil(until),
            Content::Wait => Next::Whole(Response::text(408, "too late\n").into()),
            _ => Next::Whole(Response::text(200, "in time\n").into()),
        }
    }
}

#[test]
fn an_exchange_may_be_more_patient() {
    let service = |_: &Request<'_>| Reply::exchange(Patient(None));
    let server = serve(move || Http3::serving(service, options()));
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let post = request("POST", "/");
        let begun = quiclane::clock::now();
        // What it waits for does not come; then the response is complete, and the rest of the
        // request is waited for as always.
        let (got, reset, stopped) = given_up(&client, post.frame()).await;
        assert!(got.ends_with(b"too late\n"), "{got:?}");
        assert_eq!((reset, stopped), (None, 0x100));
        let took = quiclane::clock::now().saturating_duration_since(begun);
        assert!(took >= 3 * REQUEST_TIMEOUT, "{took:?}");
    });
    law_holds(&server.finish());
}
