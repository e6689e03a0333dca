//! hostile: clients that break rules or wear the server down, and others that do not notice.

use std::sync::Arc;
use std::time::Duration;

use quiclane::Io;
use quiclane::apps::Http3;
use quiclane::apps::http3::{Counters, Limits, Options, Site, SiteOptions};
use quinn::{ReadError, ReadToEndError};

use crate::common::{Served, app_server_with, law_holds, runtime, wait_until};
use crate::raw::{EXCESSIVE_LOAD, REQUEST_CANCELLED, Raw, get, request};
use crate::requests::site;

/// A site of one worker that tells what it counts.
fn counting(limits: Limits) -> (Served, Arc<Counters>) {
    counting_with(Options { limits, ..Options::default() })
}

pub(crate) fn counting_with(options: Options) -> (Served, Arc<Counters>) {
    let counters = Arc::<Counters>::default();
    let counted = Arc::clone(&counters);
    let server = app_server_with(
        &["h3"],
        |config| config.workers = 1,
        move |_| {
            Http3::serving(Site::new(None, SiteOptions::default()), options.clone())
                .counting(Arc::clone(&counted))
        },
    );
    (server, counters)
}

pub(crate) fn text(counters: &Arc<Counters>) -> String {
    Counters::text(&[Arc::clone(counters)])
}

#[test]
fn rapid_reset_ends_the_connection_alone() {
    let (server, counters) = counting(Limits::default());
    runtime().block_on(async {
        let (attacker, other) = (Raw::connect(&server).await, Raw::connect(&server).await);
        let attack = async {
            let get = get("/delay/50s");
            while let Ok((mut send, mut recv)) = attacker.quic.open_bi().await {
                // Fails once the server has closed the connection.
                let _ = send.write_all(get.frame()).await;
                let _ = send.reset(REQUEST_CANCELLED);
                let _ = recv.stop(REQUEST_CANCELLED);
            }
            attacker.closed().await
        };
        let work = async {
            for _ in 0..50 {
                other.works().await;
            }
        };
        let (code, ()) = tokio::join!(attack, work);
        assert_eq!(code, EXCESSIVE_LOAD);
        other.works().await;
        let text = text(&counters);
        for line in [
            "quiclane_http3_violations_total{worker=\"0\",code=\"H3_EXCESSIVE_LOAD\"} 1",
            "quiclane_http3_responses_total{worker=\"0\",class=\"2xx\"} 51",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("glitch=\"cancelled\"} 0"), "{text}");
    });
    law_holds(&server.finish());
}

#[test]
fn frames_without_content_end_the_connection() {
    let (server, counters) = counting(Limits::default());
    runtime().block_on(async {
        let (attacker, other) = (Raw::connect(&server).await, Raw::connect(&server).await);
        let (mut send, _recv) = attacker.quic.open_bi().await.unwrap();
        send.write_all(request("POST", "/echo").frame()).await.unwrap();
        for _ in 0..100 {
            // Fails once the server has closed the connection.
            if send.write_all(&[0; 2_000]).await.is_err() {
                break;
            }
        }
        assert_eq!(attacker.closed().await, EXCESSIVE_LOAD);
        other.works().await;
        assert!(!text(&counters).contains("glitch=\"empty_data\"} 0"));
    });
    law_holds(&server.finish());
}

#[test]
fn unknown_frames_end_the_connection_when_they_are_too_many() {
    let (server, _) = counting(Limits { glitches_max: 50, ..Limits::default() });
    runtime().block_on(async {
        let attacker = Raw::connect(&server).await;
        // Some are legal, and their content is skipped.
        let grease = [&[0x21, 0x03, 1, 2, 3], get("/bytes/5").frame()].concat();
        assert!(attacker.exchange(&grease).await.is_ok());
        let (mut send, _recv) = attacker.quic.open_bi().await.unwrap();
        let _ = send.write_all(&[0x21, 0x00].repeat(100)).await;
        assert_eq!(attacker.closed().await, EXCESSIVE_LOAD);
    });
    law_holds(&server.finish());
}

#[test]
fn an_announced_gigabyte_is_not_waited_for() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        // HEADERS of 1 GiB: refused at once, though not a byte of them is here.
        let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
        send.write_all(&[0x01, 0xc0, 0, 0, 0, 0x40, 0, 0, 0]).await.unwrap();
        let answer = recv.read_to_end(10_000).await.unwrap();
        let said = String::from_utf8_lossy(&answer);
        assert!(said.ends_with("header section too large\n"), "{answer:?}");
        // DATA of 1 GiB: what is here comes back.
        let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
        let head = request("POST", "/echo");
        let begin = [head.frame(), &[0x00, 0xc0, 0, 0, 0, 0x40, 0, 0, 0], b"only this"].concat();
        send.write_all(&begin).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"only this") {
            got.extend_from_slice(&recv.read_chunk(1_000, true).await.unwrap().unwrap().bytes);
        }
        client.works().await;
        // To end there is an error: the frame is cut off.
        send.finish().unwrap();
        assert_eq!(client.closed().await, 0x106);
    });
    law_holds(&server.finish());
}

#[test]
fn requests_that_never_end_are_bounded() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let (slow, other) = (Raw::connect(&server).await, Raw::connect(&server).await);
        // Each with a part of a header section. quinn announces freed streams in batches, so not
        // all of the hundred are used.
        let get = get("/bytes/5").with("x-long", "~".repeat(2_000)).unwrap();
        let mut streams = Vec::new();
        for _ in 0..80 {
            let (mut send, recv) = slow.quic.open_bi().await.unwrap();
            send.write_all(&get.frame()[..1_000]).await.unwrap();
            streams.push((send, recv));
        }
        slow.works().await;
        other.works().await;
        let (mut send, mut recv) = streams.pop().unwrap();
        send.write_all(&get.frame()[1_000..]).await.unwrap();
        send.finish().unwrap();
        assert!(recv.read_to_end(1_000).await.unwrap().ends_with(&[0; 5]));
        // All but one byte.
        for (send, _) in &mut streams {
            send.write_all(&get.frame()[1_000..get.frame().len() - 1]).await.unwrap();
        }
        slow.works().await;
        other.works().await;
    });
    law_holds(&server.finish());
}

#[test]
fn sections_in_pieces_are_bounded_together() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let long = get("/").with("x-long", "~".repeat(40_000)).unwrap();
        let mut streams = Vec::new();
        for _ in 0..10 {
            let Ok((mut send, recv)) = client.quic.open_bi().await else { break };
            let _ = send.write_all(&long.frame()[..long.frame().len() - 1]).await;
            streams.push((send, recv));
        }
        assert_eq!(client.closed().await, EXCESSIVE_LOAD);
    });
    law_holds(&server.finish());
}

#[test]
fn too_large_a_head_is_answered_with_431() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let large = get("/").with("x-long", "a".repeat(70_000)).unwrap();
        let mut many = get("/");
        for _ in 0..200 {
            many.push(b"x", b"y").unwrap();
        }
        for request in [large, many] {
            let answer = client.exchange(request.frame()).await.unwrap();
            let said = String::from_utf8_lossy(&answer);
            assert!(said.ends_with("header section too large\n"), "{said}");
        }
        client.works().await;
    });
    law_holds(&server.finish());
}

#[test]
fn too_many_requests_at_once_are_rejected() {
    let (server, counters) = counting(Limits { requests_max: 2, ..Limits::default() });
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let (mut send, recv) = client.quic.open_bi().await.unwrap();
            send.write_all(get("/delay/500ms").frame()).await.unwrap();
            send.finish().unwrap();
            held.push((send, recv));
        }
        wait_until(|| text(&counters).contains("requests_total{worker=\"0\"} 2")).await;
        // H3_REQUEST_REJECTED: the client may try again.
        assert_eq!(client.exchange(get("/bytes/5").frame()).await, Err(0x10b));
        for (_, mut recv) in held {
            assert!(recv.read_to_end(1_000).await.unwrap().ends_with(b"500ms later\n"));
        }
        client.works().await;
    });
    law_holds(&server.finish());
}

#[test]
fn each_violation_has_its_code() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        // On a request stream, each on a connection of its own.
        for (bytes, code) in [
            (&[0x00, 0x01, 0x00][..], 0x105),
            (&[0x04, 0x00], 0x105),
            (&[0x02, 0x00], 0x105),
            (&[0x01, 0x00], 0x200),
            (&[0x01, 0x04, 0x00], 0x106),
            (&[0x01, 0x03, 0x02, 0x00, 0x80], 0x200),
        ] {
            let client = Raw::connect(&server).await;
            let (mut send, _recv) = client.quic.open_bi().await.unwrap();
            send.write_all(bytes).await.unwrap();
            send.finish().unwrap();
            assert_eq!(client.closed().await, code, "{bytes:x?}");
        }
        // On a unidirectional one.
        for (bytes, end, code) in [
            (&[0x00, 0x04, 0x00][..], false, 0x103),
            (&[0x01, 0x01], false, 0x103),
            (&[0x02, 0x3f, 0xe1, 0x1f], false, 0x201),
            (&[0x03, 0x81], false, 0x202),
            (&[0x02], true, 0x104),
        ] {
            let client = Raw::connect(&server).await;
            let mut send = client.quic.open_uni().await.unwrap();
            send.write_all(bytes).await.unwrap();
            if end {
                send.finish().unwrap();
            }
            assert_eq!(client.closed().await, code, "{bytes:x?}");
        }
        // On the control stream.
        for (bytes, end, code) in
            [(&[0x04, 0x00][..], false, 0x105), (&[0x00, 0x00], false, 0x105), (&[], true, 0x104)]
        {
            let mut client = Raw::connect(&server).await;
            let mut control = client.control.take().unwrap();
            control.write_all(bytes).await.unwrap();
            if end {
                control.finish().unwrap();
            }
            assert_eq!(client.closed().await, code, "{bytes:x?}");
            drop(control);
        }
        // A control stream that does not begin with SETTINGS, and a datagram that is none.
        let client = Raw::silent(&server).await;
        let mut control = client.quic.open_uni().await.unwrap();
        control.write_all(&[0x00, 0x07, 0x01, 0x00]).await.unwrap();
        assert_eq!(client.closed().await, 0x10a);
        let client = Raw::connect(&server).await;
        client.works().await;
        client.quic.send_datagram(bytes::Bytes::from_static(&[0xff; 8])).unwrap();
        assert_eq!(client.closed().await, 0x33);
    });
    law_holds(&server.finish());
}

#[test]
fn a_malformed_message_ends_its_stream_alone() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let post = |length: &str| request("POST", "/echo").with("content-length", length).unwrap();
        for (bytes, code) in [
            // Less content than announced, and more; no head at all.
            ([post("5").frame(), b"\x00\x02ab"].concat(), 0x10e),
            (post("5").frame().to_vec(), 0x10e),
            ([post("1").frame(), b"\x00\x02ab"].concat(), 0x10e),
            (Vec::new(), 0x10d),
        ] {
            assert_eq!(client.exchange(&bytes).await, Err(code), "{bytes:x?}");
        }
        // A push is asked for by nobody, a stream of an unknown type is not wanted.
        let mut unknown = client.quic.open_uni().await.unwrap();
        unknown.write_all(&[0x40, 0x54, 1, 2, 3]).await.unwrap();
        let stopped = tokio::time::timeout(Duration::from_secs(10), unknown.stopped()).await;
        assert_eq!(stopped.unwrap().unwrap().map(quinn::VarInt::into_inner), Some(0x103));
        client.works().await;
    });
    law_holds(&server.finish());
}

#[test]
fn a_request_that_is_answered_early_is_stopped_after_a_while() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        // A little more is read and thrown away,
        let little = [request("POST", "/nothing").frame(), b"\x00\x05hello"].concat();
        assert!(client.exchange(&little).await.unwrap().ends_with(b"404 Not Found\n"));
        // as is what a browser sends before it looks at the answer; without end it is not.
        let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
        send.write_all(request("POST", "/nothing").frame()).await.unwrap();
        send.write_all(&[0x00, 0xc0, 0, 0, 0, 0x40, 0, 0, 0]).await.unwrap();
        let piece = vec![7; 100_000];
        let mut sent = 0;
        let stopped = loop {
            match send.write_all(&piece).await {
                Ok(()) => sent += piece.len(),
                Err(error) => break error,
            }
            assert!(sent < 40_000_000);
        };
        assert!(sent > 10_000_000, "{sent}");
        assert_eq!(stopped, quinn::WriteError::Stopped(quinn::VarInt::from_u32(0x100)));
        let answer = recv.read_to_end(1_000).await;
        assert!(answer.unwrap().ends_with(b"404 Not Found\n"));
        client.works().await;
    });
    law_holds(&server.finish());
}

#[test]
fn a_reset_is_noticed_while_nobody_reads() {
    let (server, counters) = counting(Limits::default());
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
        send.write_all(get("/delay/50s").frame()).await.unwrap();
        wait_until(|| text(&counters).contains("requests_total{worker=\"0\"} 1")).await;
        send.reset(REQUEST_CANCELLED).unwrap();
        let answer = recv.read_to_end(1_000).await;
        let Err(ReadToEndError::Read(ReadError::Reset(code))) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(code, REQUEST_CANCELLED);
        assert!(text(&counters).contains("cancelled_requests_total{worker=\"0\"} 1"));
        client.works().await;
    });
    law_holds(&server.finish());
}
