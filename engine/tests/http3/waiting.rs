//! waiting: responses that nobody takes, and streams that only wait for others of their connection.

use std::fs;
use std::time::Duration;

use quiclane::apps::http3::{Files, FilesOptions, Options, Site, SiteOptions};
use quiclane::apps::{Http3, Root};
use quinn::{RecvStream, SendStream};

use crate::common::{app_server_with, law_holds, runtime};
use crate::hostile::{counting_with, text};
use crate::raw::{EXCESSIVE_LOAD, Raw, get, request};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A fifth of it.
const PAUSE: Duration = Duration::from_millis(400);

/// Credit that no response here is content with.
const CREDIT: u32 = 1_000;

fn options() -> Options {
    Options { request_timeout: REQUEST_TIMEOUT, ..Options::default() }
}

async fn ask(client: &Raw, path: &str) -> (SendStream, RecvStream) {
    let (mut send, recv) = client.quic.open_bi().await.unwrap();
    send.write_all(get(path).frame()).await.unwrap();
    send.finish().unwrap();
    (send, recv)
}

async fn begin(client: &Raw, method: &str, path: &str) -> (SendStream, RecvStream) {
    let (mut send, recv) = client.quic.open_bi().await.unwrap();
    send.write_all(request(method, path).frame()).await.unwrap();
    (send, recv)
}

/// Reads so many bytes in each pause, until `bytes` are here.
async fn read_slowly(recv: &mut RecvStream, bytes: usize, each: usize) {
    let mut buffer = vec![0; each];
    for _ in 0..bytes / each {
        tokio::time::sleep(PAUSE).await;
        recv.read_exact(&mut buffer).await.unwrap();
    }
}

#[test]
fn a_response_of_which_nothing_is_taken_is_given_up_and_one_that_is_taken_slowly_is_not() {
    let (server, counters) = counting_with(options());
    runtime().block_on(async {
        // Two that are made piece by piece and one that is whole. The client reads nothing of
        // them, and still learns of a reset.
        let taken = Raw::taking(&server, CREDIT).await;
        let mut slow = [ask(&taken, "/bytes/30000").await, ask(&taken, "/bytes/8000").await];
        let nothing = async {
            let client = Raw::taking(&server, CREDIT).await;
            let begun = quiclane::clock::now();
            for path in ["/bytes/1m", "/bytes/16000"] {
                let (_send, mut recv) = ask(&client, path).await;
                let code = recv.received_reset().await.unwrap().unwrap();
                assert_eq!(code.into_inner(), 0x10c, "{path}");
            }
            let took = quiclane::clock::now().saturating_duration_since(begun);
            assert!(took >= 2 * REQUEST_TIMEOUT, "{took:?}");
        };
        // Less than 1 KiB a second all together, but some of each.
        let [(_, large), (_, small)] = &mut slow;
        let some =
            async { tokio::join!(read_slowly(large, 2_000, 160), read_slowly(small, 2_000, 160)) };
        tokio::join!(nothing, some);
        for (_, recv) in &mut slow {
            recv.read_to_end(30_000).await.unwrap();
        }
    });
    law_holds(&server.finish());
    let text = text(&counters);
    for line in ["stalled_responses_total{worker=\"0\"} 2", "glitch=\"stalled\"} 2"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.contains("stalled_requests_total{worker=\"0\"} 0"), "{text}");
}

#[test]
fn who_reads_none_of_many_responses_is_thrown_out_and_leaves_the_files_to_others() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("large.bin"), vec![7; 500_000]).unwrap();
    let root = Root::open(folder.path()).unwrap();
    let server = app_server_with(
        &["h3"],
        |config| config.workers = 1,
        move |_| {
            let files = FilesOptions { files_max: 50, ..FilesOptions::default() };
            let files = Files::new(root.clone(), files);
            Http3::serving(Site::new(Some(files), SiteOptions::default()), options())
        },
    );
    runtime().block_on(async {
        let attacker = Raw::taking(&server, CREDIT).await;
        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(ask(&attacker, "/large.bin").await);
        }
        let other = Raw::connect(&server).await;
        let large = get("/large.bin");
        let refused = async || other.exchange(large.frame()).await.unwrap().len() < 500_000;
        // The requests of the attacker may still be on their way.
        while !refused().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(attacker.closed().await, EXCESSIVE_LOAD);
        assert!(!refused().await);
    });
    law_holds(&server.finish());
}

#[test]
fn a_response_may_wait_for_another_that_goes_on() {
    let (server, counters) = counting_with(options());
    runtime().block_on(async {
        let client = Raw::taking(&server, CREDIT).await;
        let (_send, mut waits) = ask(&client, "/bytes/20000").await;
        let (_send, mut goes_on) = ask(&client, "/bytes/20001").await;
        // 2 KB a second.
        read_slowly(&mut goes_on, 16_000, 800).await;
        goes_on.read_to_end(20_000).await.unwrap();
        waits.read_to_end(30_000).await.unwrap();
    });
    law_holds(&server.finish());
    let text = text(&counters);
    assert!(text.contains("stalled_responses_total{worker=\"0\"} 0"), "{text}");
    assert!(text.contains("glitch=\"stalled\"} 0"), "{text}");
}

/// Or one client could keep all files from everybody, for as long as it reads a little of another.
#[test]
fn a_response_does_not_wait_for_others_for_ever() {
    let request_timeout = Duration::from_millis(200);
    let (server, counters) = counting_with(Options { request_timeout, ..Options::default() });
    runtime().block_on(async {
        let client = Raw::taking(&server, CREDIT).await;
        let begun = quiclane::clock::now();
        let (_send, mut waits) = ask(&client, "/bytes/20000").await;
        let others = async {
            loop {
                assert!(client.exchange(get("/bytes/900").frame()).await.unwrap().len() > 900);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            code = waits.received_reset() => {
                assert_eq!(code.unwrap().unwrap().into_inner(), 0x10c);
            }
            () = others => {}
        }
        let took = quiclane::clock::now().saturating_duration_since(begun);
        assert!(took >= 11 * request_timeout, "{took:?}");
    });
    law_holds(&server.finish());
    let text = text(&counters);
    assert!(text.contains("stalled_responses_total{worker=\"0\"} 1"), "{text}");
}

#[test]
fn uploads_may_come_one_after_the_other() {
    let (server, counters) = counting_with(options());
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let mut uploads = Vec::new();
        for _ in 0..60 {
            uploads.push(begin(&client, "POST", "/echo").await);
        }
        let piece = [&[0x00, 0x43, 0x20][..], &[7; 800]].concat();
        // 2 KB a second, of one of them, for more than three times what each is waited for.
        for _ in 0..17 {
            tokio::time::sleep(PAUSE).await;
            uploads[0].0.write_all(&piece).await.unwrap();
        }
        let (send, recv) = &mut uploads[0];
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(100_000).await.unwrap().len() / 800, 17);
        for (send, recv) in &mut uploads[1..10] {
            send.write_all(&piece).await.unwrap();
            send.finish().unwrap();
            assert!(recv.read_to_end(10_000).await.unwrap().ends_with(&piece));
        }
        // Those of which nothing ever comes are too many.
        assert_eq!(client.closed().await, EXCESSIVE_LOAD);
    });
    law_holds(&server.finish());
    assert!(!text(&counters).contains("glitch=\"stalled\"} 0"));
}

#[test]
fn a_request_may_wait_for_exchanges_that_leave_content_unread() {
    let (server, counters) = counting_with(options());
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let (mut send, mut recv) = begin(&client, "POST", "/echo").await;
        // Together more than the connection may send before somebody reads.
        let frame = [&[0x00, 0x80, 0x20, 0, 0][..], &vec![7; 2 << 20]].concat();
        let mut delayed = Vec::new();
        for _ in 0..5 {
            delayed.push(begin(&client, "GET", "/delay/5s").await);
        }
        let fill = async {
            for (send, _) in &mut delayed {
                // They do not want it, in the end.
                let _ = tokio::time::timeout(PAUSE / 4, send.write_all(&frame)).await;
            }
        };
        fill.await;
        let echoed = async {
            send.write_all(b"\x00\x05hello").await.unwrap();
            send.finish().unwrap();
            recv.read_to_end(1_000).await.unwrap()
        };
        assert!(echoed.await.ends_with(b"\x00\x05hello"));
        for (_, recv) in &mut delayed {
            assert!(recv.read_to_end(1_000).await.unwrap().ends_with(b"5s later\n"));
        }
    });
    law_holds(&server.finish());
    let text = text(&counters);
    assert!(text.contains("glitch=\"stalled\"} 0"), "{text}");
}
