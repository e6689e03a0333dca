//! handlers: services of one's own, and what becomes of their faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h3::error::Code;
use quiclane::apps::Http3;
use quiclane::apps::http3::{
    Body, Code as OurCode, Content, Counters, Exchange, Head, Next, Options, Prepared, Reply,
    Request, Response,
};
use quiclane::{App, WorkerInfo};

use crate::client::{Client, answer, reset_code};
use crate::common::{Served, app_server_with, law_holds, runtime, wait_until};
use crate::hostile::text;
use crate::raw::{Raw, get, request};

fn serve<A: App>(make: impl Fn(WorkerInfo) -> A + Send + Sync + 'static) -> Served {
    app_server_with(&["h3"], |config| config.workers = 1, make)
}

/// A function that says what it was asked, with small limits.
fn simple() -> Served {
    serve(|_| {
        let options = Options {
            content_bytes_max: 50_000,
            collected_bytes_max: 120_000,
            ..Options::default()
        };
        let handler = |request: &Request<'_>| {
            assert!(request.is_complete());
            let field = request.field(b"x-name").unwrap_or(b"nobody");
            let text = format!(
                "{} {} {:?} {} {} {} {}\n",
                request.method().escape_ascii(),
                request.path().escape_ascii(),
                request.query().map(|query| query.escape_ascii().to_string()),
                request.authority().escape_ascii(),
                field.escape_ascii(),
                request.fields().count(),
                request.content().len(),
            );
            Response::text(200, text).into()
        };
        Http3::with_options(handler, options)
    })
}

#[test]
fn a_function_gets_the_whole_request() {
    let server = simple();
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let answer = client.get("/a/b?c=d?e").await;
        assert_eq!(answer.text(), "GET /a/b Some(\"c=d?e\") localhost nobody 0 0\n");
        for content in [0, 1, 50_000] {
            let content = Some(Bytes::from(vec![7; content]));
            let length = content.as_ref().map_or(0, Bytes::len);
            let fields = [("x-name", "me"), ("x-other", "")];
            let answer = client.ask("POST", "/x", &fields, content).await.unwrap();
            assert_eq!(answer.text(), format!("POST /x None localhost me 2 {length}\n"));
        }
        let head = client.ask("HEAD", "/", &[], None).await.unwrap();
        assert_eq!((head.status.as_u16(), head.content.len()), (200, 0));
    });
    law_holds(&server.finish());
}

#[test]
fn collected_content_is_limited() {
    let server = simple();
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let content = Bytes::from(vec![7; 50_001]);
        let fields = [("content-length", "50001")];
        for fields in [&fields[..], &[]] {
            let answer = client.ask("POST", "/", fields, Some(content.clone())).await.unwrap();
            let said = (answer.status.as_u16(), answer.text());
            assert_eq!(said, (413, "content of more than 50000 bytes\n"));
        }
        // Two may be under way beside each other, a third does not fit any more. Which one that is
        // depends on what comes first.
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = client.begin("POST", "/", &[]).await.unwrap();
            stream.send_data(content.slice(..50_000)).await.unwrap();
            streams.push(stream);
        }
        let [first, second, third] = &mut streams[..] else { panic!("three") };
        let (refused, head) = tokio::select! {
            head = first.recv_response() => (0, head),
            head = second.recv_response() => (1, head),
            head = third.recv_response() => (2, head),
        };
        assert_eq!(head.unwrap().status(), 503);
        streams.remove(refused);
        for mut stream in streams {
            stream.finish().await.unwrap();
            assert_eq!(answer(&mut stream).await.unwrap().status, 200);
        }
        // And there is room again.
        let answer = client.ask("POST", "/", &[], Some(content.slice(..50_000))).await.unwrap();
        assert_eq!(answer.status, 200);
    });
    law_holds(&server.finish());
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let server = simple();
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
        let post = request("POST", "/").with("expect", "100-continue").unwrap();
        send.write_all(post.frame()).await.unwrap();
        let go_on = recv.read_chunk(1_000, true).await.unwrap().unwrap();
        assert_eq!(go_on.bytes, *Prepared::response(100).unwrap().frame());
        send.write_all(b"\x00\x05hello").await.unwrap();
        send.finish().unwrap();
        let answer = recv.read_to_end(1_000).await.unwrap();
        assert!(answer.ends_with(b"POST / None localhost nobody 1 5\n"), "{answer:?}");
    });
    law_holds(&server.finish());
}

/// Says what it is told to, and counts how many of it are alive.
struct Script {
    steps: Vec<Step>,
    until: Option<Instant>,
    alive: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Step {
    Interim,
    Head(&'static str),
    Data(usize),
    Trailers,
    End,
    Whole,
    Abort,
    Pause,
    /// Until all content has come.
    Read,
}

impl Exchange for Script {
    fn next(&mut self, content: &mut Body<'_>) -> Next {
        if let Some(until) = self.until {
            if content.now() < until {
                return Next::WaitUntil(until);
            }
            self.until = None;
        }
        let Some(step) = self.steps.first().cloned() else { return Next::Wait };
        if let Step::Read = step {
            loop {
                match content.pull() {
                    Content::Wait => return Next::Wait,
                    Content::End => break,
                    Content::Piece(_) | Content::Trailers(_) => {}
                }
            }
            self.steps.remove(0);
            return self.next(content);
        }
        self.steps.remove(0);
        match step {
            Step::Interim => {
                Next::Interim(Head::new(103).unwrap().with("link", "</a.css>").unwrap())
            }
            Step::Head("") => Next::Head(Head::new(200).unwrap()),
            Step::Head(length) => {
                Next::Head(Head::new(200).unwrap().with("content-length", length).unwrap())
            }
            Step::Data(bytes) => Next::Data(vec![b'x'; bytes].into()),
            Step::Trailers => Next::Trailers(Prepared::trailers().with("x-end", "1").unwrap()),
            Step::End => Next::End,
            Step::Whole => Next::Whole(Response::text(200, "whole").into()),
            Step::Abort => Next::Abort(OurCode::RequestRejected),
            Step::Pause => {
                let until = content.now() + Duration::from_millis(20);
                self.until = Some(until);
                Next::WaitUntil(until)
            }
            Step::Read => Next::Wait,
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A server that plays the script of which the path is the number.
fn scripts(scripts: Vec<Vec<Step>>) -> (Served, Arc<AtomicUsize>) {
    scripts_counting(scripts, &Arc::default())
}

fn scripts_counting(
    scripts: Vec<Vec<Step>>,
    counters: &Arc<Counters>,
) -> (Served, Arc<AtomicUsize>) {
    let counters = Arc::clone(counters);
    let alive = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&alive);
    let server = serve(move |_| {
        let (scripts, alive) = (scripts.clone(), Arc::clone(&counted));
        let service = move |request: &Request<'_>| {
            let number = str::from_utf8(&request.path()[1..]).unwrap().parse::<usize>().unwrap();
            alive.fetch_add(1, Ordering::Relaxed);
            let (steps, alive) = (scripts[number].clone(), Arc::clone(&alive));
            Reply::exchange(Script { steps, until: None, alive })
        };
        Http3::serving(service, Options::default()).counting(Arc::clone(&counters))
    });
    (server, alive)
}

#[test]
fn exchanges_say_what_they_like_in_order() {
    use Step::*;
    let (server, alive) = scripts(vec![
        vec![Head(""), Data(0), Data(10), Pause, Data(100_000), Trailers],
        vec![Read, Head("5"), Data(2), Data(3), End],
        vec![Pause, Interim, Pause, Interim, Whole],
        vec![Pause, Pause, Head(""), Data(1), Pause, End],
    ]);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let all = client.get("/0").await;
        assert_eq!(all.content.len(), 100_010);
        assert_eq!(all.trailers.unwrap()["x-end"], "1");
        let content = Some(Bytes::from(vec![7; 2_000_000]));
        let answer = client.ask("POST", "/1", &[], content).await.unwrap();
        assert_eq!((answer.text(), answer.header("content-length")), ("xxxxx", Some("5")));
        // The h3 crate takes an interim response for the final one.
        let raw = Raw::connect(&server).await;
        let answer = raw.exchange(request("GET", "/2").frame()).await.unwrap();
        let interim = Prepared::response(103).unwrap().with("link", "</a.css>").unwrap();
        assert!(answer.starts_with(&interim.frame().repeat(2)), "{answer:?}");
        assert!(answer.ends_with(b"\x00\x05whole"), "{answer:?}");
        assert_eq!(client.get("/3").await.text(), "x");
        // HEAD has none of the content, however much there is.
        let head = client.ask("HEAD", "/0", &[], None).await.unwrap();
        assert_eq!((head.content.len(), head.trailers), (0, None));
        wait_until(|| alive.load(Ordering::Relaxed) == 0).await;
    });
    law_holds(&server.finish());
}

#[test]
fn interim_responses_are_counted() {
    use Step::*;
    let counters = Arc::default();
    let (server, _) = scripts_counting(
        vec![vec![Interim, Pause, Interim, Whole], vec![Read, Whole], vec![Interim, Abort]],
        &counters,
    );
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        assert!(client.exchange(get("/0").frame()).await.unwrap().ends_with(b"whole"));
        // The third is the server's own, 100.
        let post = request("POST", "/1").with("expect", "100-continue").unwrap();
        let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
        send.write_all(post.frame()).await.unwrap();
        let go_on = recv.read_chunk(1_000, true).await.unwrap().unwrap();
        assert_eq!(go_on.bytes, *Prepared::response(100).unwrap().frame());
        send.finish().unwrap();
        assert!(recv.read_to_end(1_000).await.unwrap().ends_with(b"whole"));
        // And this one was sent though no response follows.
        assert_eq!(client.exchange(get("/2").frame()).await, Err(0x10b));
    });
    law_holds(&server.finish());
    let text = text(&counters);
    for line in [
        "requests_total{worker=\"0\"} 3",
        "responses_total{worker=\"0\",class=\"1xx\"} 4",
        "responses_total{worker=\"0\",class=\"2xx\"} 2",
        "aborted_responses_total{worker=\"0\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// What a service took over from somebody else, and hands on as it is.
#[test]
fn a_service_cannot_be_made_to_send_a_line_break() {
    const BREAKS: [&str; 3] = ["a\r\nset-cookie: b", "a\nset-cookie: b", "a\0"];
    let server = serve(|_| {
        let service = |request: &Request<'_>| {
            let number = usize::from(request.path()[1] - b'0');
            let text = BREAKS[number % 3];
            let head = Head::new(200).unwrap();
            let made = match number / 3 {
                0 => head.with("x-made", text),
                1 => head.with(text, "x"),
                _ => head.with("content-length", text),
            };
            Reply::Whole(made.and_then(|head| Response::new(head, "content")).into())
        };
        Http3::serving(service, Options::default())
    });
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        for number in 0..9 {
            let answer = client.exchange(get(&format!("/{number}")).frame()).await.unwrap();
            // A bare 500 and nothing else, least of all a part of it.
            assert_eq!(answer, Prepared::response(500).unwrap().frame(), "{number}");
        }
    });
    law_holds(&server.finish());
}

#[test]
fn a_fault_of_an_exchange_is_no_shorter_response() {
    use Step::*;
    let (server, alive) = scripts(vec![
        vec![Head("5"), Data(4), End],
        vec![Head("5"), Data(4), Trailers],
        vec![Head("5"), Data(6), End],
        vec![Data(1)],
        vec![End],
        vec![Head(""), Head("")],
        vec![Head(""), Whole],
        vec![Head(""), Interim],
        vec![Abort],
        vec![Head(""), Data(1), Abort],
    ]);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for number in 0..10 {
            let mut stream = client.begin("GET", &format!("/{number}"), &[]).await.unwrap();
            stream.finish().await.unwrap();
            let code = reset_code(&answer(&mut stream).await.unwrap_err());
            let expected =
                if number < 8 { Code::H3_INTERNAL_ERROR } else { Code::H3_REQUEST_REJECTED };
            assert_eq!(code, expected, "{number}");
        }
        wait_until(|| alive.load(Ordering::Relaxed) == 0).await;
    });
    law_holds(&server.finish());
}

#[test]
fn exchanges_go_with_their_request() {
    use Step::*;
    let (server, alive) = scripts(vec![vec![Head("")], vec![Pause; 10_000], vec![Read, Whole]]);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let mut streams = Vec::new();
        for number in 0..3 {
            streams.push(client.begin("POST", &format!("/{number}"), &[]).await.unwrap());
        }
        wait_until(|| alive.load(Ordering::Relaxed) == 3).await;
        streams[0].stop_sending(Code::H3_REQUEST_CANCELLED);
        wait_until(|| alive.load(Ordering::Relaxed) == 2).await;
        streams[1].stop_stream(Code::H3_REQUEST_CANCELLED);
        wait_until(|| alive.load(Ordering::Relaxed) == 1).await;
        drop(streams);
        drop(client);
        wait_until(|| alive.load(Ordering::Relaxed) == 0).await;
    });
    law_holds(&server.finish());
}
