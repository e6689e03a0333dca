//! Whole exchanges between a client and a server: every shape of message, shutdown, limits.

use crate::support::{GET, Said, frame, get, headers, recv, request, served, served_by, varint};
use quiclane_http3::{
    Config, Connection, DataHeader, Glitch, Input, Limits, Opened, Prepared, Role, SendError,
    Violation as V,
};

fn pair() -> (Connection, Connection) {
    let mut client = Connection::new(Role::Client, Config::default());
    let mut server = Connection::new(Role::Server, Config::default());
    client.control_opened(2);
    server.control_opened(3);
    let (hello, answer) = (client.control_bytes().to_vec(), server.control_bytes().to_vec());
    client.control_written(hello.len());
    server.control_written(answer.len());
    server.opened(2).unwrap();
    client.opened(3).unwrap();
    assert_eq!(recv(&mut server, 2, Input::new(&hello)), [Said::Settings]);
    assert_eq!(recv(&mut client, 3, Input::new(&answer)), [Said::Settings]);
    assert_eq!(client.settings().unwrap().field_section_bytes_max, Some(64 << 10));
    assert!(client.control_bytes().is_empty());
    (client, server)
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_post_with_everything() {
    let (mut client, mut server) = pair();
    let post = Prepared::request("POST", "https", "example.org", "/form?x=1").unwrap();
    let post = post.with("content-length", "8").unwrap().with("te", "trailers").unwrap();
    let ends = Prepared::trailers().with("checksum", "abc").unwrap();
    client.request(0, &post).unwrap();
    client.trailers(0, &ends).unwrap();
    client.finished(0);
    let content = [DataHeader::new(8).as_bytes(), b"a=b&c=de"].concat();
    let sent = [post.frame(), &content, ends.frame()].concat();

    assert_eq!(server.opened(0), Ok(Opened::Accepted));
    assert_eq!(
        recv(&mut server, 0, Input::last(&sent)),
        [
            Said::Request {
                line: vec!["POST".into(), "https".into(), "example.org".into(), "/form?x=1".into()],
                fields: fields(&[("content-length", "8"), ("te", "trailers")]),
            },
            Said::Data(b"a=b&c=de".to_vec()),
            Said::Trailers(fields(&[("checksum", "abc")])),
            Said::Finished,
        ]
    );

    let hints = Prepared::response(103).unwrap().with("link", "</a.css>").unwrap();
    let done = Prepared::response(201).unwrap().with("location", "/1").unwrap();
    assert_eq!(server.trailers(0, &ends), Err(SendError::OutOfOrder));
    server.respond(0, &hints).unwrap();
    server.respond(0, &done).unwrap();
    assert_eq!(server.respond(0, &done), Err(SendError::OutOfOrder));
    server.trailers(0, &ends).unwrap();
    server.finished(0);
    assert_eq!(server.exchanges(), 0);
    assert_eq!(server.respond(0, &done), Err(SendError::NoSuchStream));
    let sent = [hints.frame(), done.frame(), &frame(0, b"ok"), ends.frame()].concat();
    assert_eq!(
        recv(&mut client, 0, Input::last(&sent)),
        [
            Said::Interim(103),
            Said::Response(201, fields(&[("location", "/1")])),
            Said::Data(b"ok".to_vec()),
            Said::Trailers(fields(&[("checksum", "abc")])),
            Said::Finished,
        ]
    );
    assert_eq!(client.exchanges(), 0);
}

#[test]
fn legal_oddities() {
    let request = |more: &[(&str, &str)]| Said::Request {
        line: vec!["GET".into(), "https".into(), "example.org".into(), "/".into()],
        fields: fields(more),
    };
    // Unknown frames before, between and after; an empty DATA frame; long forms of varints.
    let bytes = [
        frame(0x21, b"grease"),
        get(&[]),
        frame(0x5f, []),
        vec![0x40, 0x00, 0x80, 0, 0, 1, b'a'],
        vec![0x00, 0x00],
        frame(0x1f * 7 + 0x21, [9; 100]),
    ]
    .concat();
    assert_eq!(served(&bytes), [request(&[]), Said::Data(b"a".to_vec()), Said::Finished]);
    // The same length twice, host beside authority, bytes beyond ASCII in a value.
    let more = [
        ("content-length", "0"),
        ("content-length", "0"),
        ("host", "example.org"),
        ("a", "\u{e9}"),
    ];
    let said = served(&get(&more));
    assert!(matches!(&said[0], Said::Request { fields, .. } if fields.len() == 4), "{said:?}");
    // Host alone, an asterisk with OPTIONS, an unknown scheme without authority.
    for lines in [
        [GET[0], GET[1], GET[3], ("host", "example.org")],
        [(":method", "OPTIONS"), GET[1], GET[2], (":path", "*")],
        [GET[0], (":scheme", "urn"), (":path", ""), ("a", "b")],
    ] {
        let said = served(&headers(&lines));
        assert!(matches!(&said[0], Said::Request { .. }), "{said:?}");
    }
}

#[test]
fn connect_is_refused_unless_it_is_wanted() {
    let connect = headers(&[(":method", "CONNECT"), (":authority", "example.org:443")]);
    let udp = headers(&[
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":authority", "example.org"),
        (":path", "/.well-known/masque/udp/192.0.2.6/443/"),
        ("capsule-protocol", "?1"),
    ]);
    assert_eq!(served(&connect), [Said::Refused(501)]);
    assert_eq!(served(&udp), [Said::Refused(501)]);
    let config = Config { connect: true, extended_connect: true, ..Config::default() };
    for request in [connect, udp] {
        let said = served_by(config.clone(), &request);
        assert!(matches!(&said[..], [Said::Request { .. }, Said::Finished]), "{said:?}");
    }
}

#[test]
fn a_refused_request_is_answered_and_over() {
    let (_, mut server) = pair();
    server.opened(0).unwrap();
    let large = headers(&[GET[0], ("a", &"x".repeat(70_000))]);
    assert_eq!(recv(&mut server, 0, Input::new(&large)), [Said::Refused(431)]);
    // What still comes of it means nothing.
    assert_eq!(recv(&mut server, 0, Input::new(&[0x04, 0x00])), []);
    server.respond(0, &Prepared::response(431).unwrap()).unwrap();
    server.finished(0);
    assert_eq!(server.exchanges(), 0);
    assert_eq!(server.glitch_count(Glitch::RefusedRequest), 1);
}

#[test]
fn sections_beyond_the_limits() {
    let many: Vec<(String, String)> =
        (0..40_000).map(|n| (format!("a{n}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(served(&get(&many)), [Said::Refused(431)]);
    assert_eq!(served(&get(&many[..200])), [Said::Refused(431)]);
    // 60,000 bytes of Huffman code are 96,000 of text.
    let bomb = [&[0, 0, 0x51, 0xff, 0xe1, 0xd3, 0x03][..], &[0; 60_000]].concat();
    assert_eq!(served(&frame(0x01, &bomb)), [Said::Refused(431)]);
    // A gibibyte that was only announced.
    assert_eq!(served(&[varint(1), varint(1 << 30), vec![0; 100]].concat()), [Said::Refused(431)]);
    // Trailers come too late for an answer.
    let trailers = headers(&many[..200]);
    let said = served(&[get(&[]), trailers.clone()].concat());
    assert_eq!(said.last(), Some(&Said::Failed(V::FieldsTooMany)));
    // And a client has nobody to answer.
    let response = headers(&[&[(":status", "200")], &many[..200]].concat());
    assert_eq!(crate::support::answered("GET", &response), [Said::Failed(V::FieldsTooMany)]);
}

#[test]
fn the_peers_limit_is_kept() {
    let mut client = Connection::new(Role::Client, Config::default());
    client.opened(3).unwrap();
    recv(&mut client, 3, Input::new(&[vec![0], frame(0x04, [6, 0x40, 200])].concat()));
    let small = Prepared::request("GET", "https", "example.org", "/").unwrap();
    assert_eq!(small.section_bytes(), 42 + 44 + 53 + 38 - 1 + 1);
    let large = small.clone().with("user-agent", "0123456789").unwrap();
    client.request(0, &small).unwrap();
    let too_large = SendError::SectionTooLarge { bytes: 229, bytes_max: 200 };
    assert_eq!(client.request(4, &large), Err(too_large));
}

#[test]
fn exchanges_are_found_whatever_others_have_ended() {
    let (mut client, _) = pair();
    let get = Prepared::request("GET", "https", "example.org", "/").unwrap();
    let streams = || (0..32).map(|number| 4 * number);
    for stream in streams() {
        client.request(stream, &get).unwrap();
        client.finished(stream);
    }
    let ended = |stream: u64| matches!(stream, 0 | 8 | 12 | 40 | 124);
    for stream in streams().filter(|stream| ended(*stream)) {
        client.abandoned(stream);
    }
    let response = headers(&[(":status", "200")]);
    // From both ends and from the middle, so that gaps come to lie everywhere.
    for stream in (0..34).map(|number| 4 * (number * 13 % 34)) {
        let is_there = stream < 128 && !ended(stream);
        let said = recv(&mut client, stream, Input::new(&response));
        assert_eq!(said.len(), usize::from(is_there), "{stream}: {said:?}");
        let said = recv(&mut client, stream, Input::end());
        assert_eq!(said == [Said::Finished], is_there, "{stream}: {said:?}");
    }
    assert_eq!(client.exchanges(), 0);
}

#[test]
fn a_server_goes_away_in_two_steps() {
    let (mut client, mut server) = pair();
    server.opened(0).unwrap();
    server.go_away_soon();
    let said = server.control_bytes().to_vec();
    server.control_written(said.len());
    assert_eq!(recv(&mut client, 3, Input::new(&said)), [Said::GoAway((1 << 62) - 4)]);
    let get = Prepared::request("GET", "https", "example.org", "/").unwrap();
    assert_eq!(client.request(4, &get), Err(SendError::GoingAway));
    // On its way already.
    assert_eq!(server.opened(4), Ok(Opened::Accepted));
    server.go_away();
    server.go_away();
    assert_eq!(recv(&mut client, 3, Input::new(server.control_bytes())), [Said::GoAway(8)]);
    assert_eq!(server.opened(8), Ok(Opened::Refused(V::RequestAfterGoAway)));
    assert_eq!(server.exchanges(), 2);
}

#[test]
fn a_client_goes_away_too() {
    let (mut client, mut server) = pair();
    client.go_away_soon();
    assert!(client.control_bytes().is_empty());
    client.go_away();
    assert_eq!(recv(&mut server, 2, Input::new(client.control_bytes())), [Said::GoAway(0)]);
    // Pushes are none of ours: requests go on.
    assert_eq!(server.opened(0), Ok(Opened::Accepted));
}

#[test]
fn requests_that_are_given_up_leave_nothing() {
    let (mut client, mut server) = pair();
    for stream in [0, 4, 8, 12] {
        request(&mut client, stream, "GET");
        server.opened(stream).unwrap();
    }
    recv(&mut server, 0, Input::new(&get(&[])));
    // Reset and stopped, in either order, is one request given up.
    server.reset(0).unwrap();
    server.stopped(0).unwrap();
    server.stopped(4).unwrap();
    server.reset(4).unwrap();
    server.abandoned(8);
    recv(&mut server, 12, Input::last(&get(&[])));
    server.stopped(12).unwrap();
    assert_eq!((server.exchanges(), server.glitch_count(Glitch::Cancelled)), (0, 3));
    client.abandoned(0);
    client.reset(4).unwrap();
    client.ignored(8);
    recv(&mut client, 12, Input::last(&headers(&[(":status", "200")])));
    assert_eq!((client.exchanges(), client.glitch_count(Glitch::Cancelled)), (0, 1));
}

#[test]
fn streams_that_end_before_they_say_what_they_are_cost_points() {
    let mut server = Connection::new(Role::Server, Config::default());
    let mut ended = 0;
    let violation = loop {
        let stream = 2 + 4 * ended;
        assert_eq!(server.opened(stream), Ok(Opened::Accepted));
        match &recv(&mut server, stream, Input::last(&[]))[..] {
            [] => ended += 1,
            said => break said.to_vec(),
        }
    };
    assert_eq!((ended, violation), (500, vec![Said::Closed(V::Glitches)]));
}

#[test]
fn requests_that_stall_again_and_again_close_the_connection() {
    let mut server = Connection::new(Role::Server, Config::default());
    let half = [varint(1), varint(1000), vec![0; 40]].concat();
    // 40 make up the score; memory would have been short after 6,500 unless each is forgotten.
    for round in 0..200 {
        for stream in (round * 160..).step_by(4).take(40) {
            server.opened(stream).unwrap();
            assert_eq!(recv(&mut server, stream, Input::new(&half)), []);
            assert_eq!(server.stalled(stream), Ok(()));
            // It is over: there is nothing left to stall.
            assert_eq!(server.stalled(stream), Ok(()));
        }
        assert_eq!((server.exchanges(), server.glitches()), (0, 1000));
        server.forgive(1000);
    }
    assert_eq!(server.glitch_count(Glitch::Stalled), 8_000);
    for stream in [32_000, 32_004] {
        server.opened(stream).unwrap();
        recv(&mut server, stream, Input::last(&get(&[])));
    }
    assert_eq!(server.stalled(32_000), Ok(()));
    assert_eq!(server.stalled(36_000), Ok(()));
    assert_eq!((server.exchanges(), server.glitches()), (1, 25));
    let limits = Limits { glitches_max: 24, ..Limits::default() };
    let mut server = Connection::new(Role::Server, Config { limits, ..Config::default() });
    server.opened(0).unwrap();
    assert_eq!(server.stalled(0), Err(V::Glitches));
}

#[test]
fn what_a_client_may_not_send() {
    let (mut client, mut server) = pair();
    let get = Prepared::request("GET", "https", "example.org", "/").unwrap();
    let ok = Prepared::response(200).unwrap();
    assert_eq!(client.request(1, &get), Err(SendError::NoSuchStream));
    assert_eq!(client.request(0, &ok), Err(SendError::OutOfOrder));
    client.request(0, &get).unwrap();
    assert_eq!(client.request(0, &get), Err(SendError::NoSuchStream));
    assert_eq!(client.respond(0, &ok), Err(SendError::OutOfOrder));
    assert_eq!(client.trailers(0, &ok), Err(SendError::OutOfOrder));
    assert_eq!(server.request(0, &get), Err(SendError::OutOfOrder));
    for invalid in [
        Prepared::request("CONNECT", "https", "example.org", "/"),
        Prepared::request("G ET", "https", "example.org", "/"),
        Prepared::request("GET", "", "example.org", "/"),
        Prepared::request("GET", "https", "me@example.org", "/"),
        Prepared::request("GET", "https", "example.org", "no"),
        Prepared::request("GET", "https", "example.org", "*"),
        Prepared::response(101),
        Prepared::response(99),
        Prepared::response(1000),
        Prepared::trailers().with("Upper", ""),
        Prepared::trailers().with("a", "b\r\nc: d"),
        Prepared::trailers().with(":path", "/"),
        Prepared::trailers().with(":protocol", "x"),
        Prepared::trailers().with("connection", "close"),
        Prepared::trailers().with("te", "gzip"),
        Prepared::trailers().with("content-length", "x"),
    ] {
        assert!(invalid.is_err(), "{invalid:?}");
    }
}

#[test]
fn prepared_memory_serves_again() {
    let mut prepared = Prepared::response(200).unwrap().with("a", "b".repeat(300)).unwrap();
    let first = prepared.frame().to_vec();
    prepared.set_trailers();
    assert_eq!(prepared.frame(), [1, 2, 0, 0]);
    prepared.set_response(200).unwrap();
    prepared.push(b"a", "b".repeat(300).as_bytes()).unwrap();
    assert_eq!(prepared.frame(), first);
}

/// Sends the same thing on stream after stream until the connection has to be closed.
fn until_closed(mut abuse: impl FnMut(&mut Connection, u64) -> Vec<Said>) -> (u64, V) {
    let mut server = Connection::new(Role::Server, Config::default());
    for n in 0..100_000 {
        let stream = n * 4;
        server.opened(stream).unwrap();
        if let Some(Said::Closed(violation)) = abuse(&mut server, stream).last() {
            return (n, *violation);
        }
    }
    panic!("nothing closed the connection");
}

#[test]
fn whoever_costs_more_than_he_carries_is_closed() {
    let closed = |outcome: Result<(), V>| outcome.err().map(Said::Closed).into_iter().collect();
    // Rapid reset: open, ask, give up.
    let rapid_reset = until_closed(|server, stream| {
        recv(server, stream, Input::last(&get(&[])));
        let stopped = server.stopped(stream);
        server.abandoned(stream);
        closed(stopped)
    });
    // Never finished: opened and given up before anything was asked.
    let never_asked = until_closed(|server, stream| closed(server.reset(stream)));
    let malformed =
        until_closed(|server, stream| recv(server, stream, Input::last(&get(&[("Upper", "")]))));
    let refused = until_closed(|server, stream| {
        let said = recv(server, stream, Input::last(&[varint(1), varint(1 << 30)].concat()));
        server.abandoned(stream);
        said
    });
    for (requests, violation) in [rapid_reset, never_asked, malformed, refused] {
        assert_eq!((requests, violation), (200, V::Glitches));
    }
    // On one stream.
    let flood = |bytes: Vec<u8>, times| {
        let said = served(&[get(&[]), bytes.repeat(times)].concat());
        said.last().cloned().unwrap()
    };
    for cheap in [frame(0, []), frame(0, b"x"), frame(0x21, []), frame(0x21, [0; 3])] {
        assert_eq!(flood(cheap.clone(), 900), Said::Finished);
        assert_eq!(flood(cheap, 1001), Said::Closed(V::Glitches));
    }
    // A byte more than the header takes is worth its frame.
    assert_eq!(flood(frame(0, b"xyz"), 100_000), Said::Finished);
    assert_eq!(flood(frame(0x21, vec![0; 1 << 20]), 5), Said::Closed(V::Glitches));
    assert_eq!(flood(frame(0, vec![0; 100]), 100_000), Said::Finished);
}

#[test]
fn control_streams_are_no_place_to_play() {
    for bytes in [frame(0x0d, [1]), frame(0x07, [0]), frame(0x0f_0700, [0]), frame(0x21, [])] {
        let all = [vec![0, 4, 0], bytes.repeat(1001)].concat();
        let said = crate::support::told(Role::Server, &all);
        assert_eq!(said.last(), Some(&Said::Closed(V::Glitches)), "{bytes:?}");
    }
    for instructions in [[vec![2], vec![0x20; 1001]], [vec![3], vec![0x44; 1001]]] {
        let said = crate::support::told(Role::Server, &instructions.concat());
        assert_eq!(said.last(), Some(&Said::Closed(V::Glitches)));
    }
}

#[test]
fn good_deeds_are_remembered() {
    let mut server = Connection::new(Role::Server, Config::default());
    let ok = Prepared::response(200).unwrap();
    for n in 0..10_000 {
        let stream = n * 4;
        server.opened(stream).unwrap();
        let said = recv(&mut server, stream, Input::last(&[get(&[]), frame(0, [])].concat()));
        assert_eq!(said.last(), Some(&Said::Finished));
        server.respond(stream, &ok).unwrap();
        server.finished(stream);
    }
    assert_eq!((server.glitches(), server.glitch_count(Glitch::EmptyData)), (0, 10_000));
}

#[test]
fn unfinished_requests_are_bounded() {
    let limits = Limits { requests_max: 3, unfinished_bytes_max: 100, ..Limits::default() };
    let mut server = Connection::new(Role::Server, Config { limits, ..Config::default() });
    for stream in [0, 4, 8] {
        assert_eq!(server.opened(stream), Ok(Opened::Accepted));
    }
    assert_eq!(server.opened(12), Ok(Opened::Refused(V::RequestsTooMany)));
    let half = [varint(1), varint(1000), vec![0; 40]].concat();
    assert_eq!(recv(&mut server, 0, Input::new(&half)), []);
    assert_eq!(recv(&mut server, 4, Input::new(&half)), []);
    // What is given up counts no more.
    server.abandoned(0);
    assert_eq!(recv(&mut server, 8, Input::new(&half)), []);
    assert_eq!(recv(&mut server, 8, Input::new(&half)), [Said::Closed(V::BlocksInPieces)]);
}

#[test]
fn a_repeated_section_is_recognised_only_where_it_may_be() {
    let (mut client, mut server) = pair();
    let plain = get(&[]);
    server.opened(0).unwrap();
    server.opened(4).unwrap();
    recv(&mut server, 0, Input::last(&plain));
    // The same bytes as trailers.
    let said = recv(&mut server, 4, Input::last(&[plain.clone(), plain.clone()].concat()));
    assert_eq!(said.last(), Some(&Said::Failed(V::PseudoInTrailers)));
    server.opened(8).unwrap();
    let said = recv(&mut server, 8, Input::last(&plain));
    assert!(matches!(said[0], Said::Request { .. }));
    // The same response to another method means another content.
    let ok = headers(&[(":status", "200"), ("content-length", "3")]);
    request(&mut client, 0, "GET");
    request(&mut client, 4, "HEAD");
    let said = recv(&mut client, 0, Input::last(&[ok.clone(), frame(0, b"abc")].concat()));
    assert_eq!(said.last(), Some(&Said::Finished));
    assert_eq!(recv(&mut client, 4, Input::last(&ok)).last(), Some(&Said::Finished));
}
