//! Every rule that a peer can break closes the right thing with the right code.

use crate::support::{
    GET, Said, answered, frame, get, headers, line, recv, request, served, told, varint,
};
use quiclane_http3::{Code, Config, Connection, Input, Opened, Role, Scope, Violation as V};

/// The last thing said, which is a violation.
fn last(said: &[Said]) -> V {
    match said.last() {
        Some(Said::Closed(violation)) => {
            assert_eq!(violation.scope(), Scope::Connection, "{violation}");
            *violation
        }
        Some(Said::Failed(violation)) => {
            assert_eq!(violation.scope(), Scope::Stream, "{violation}");
            *violation
        }
        other => panic!("no violation: {other:?}"),
    }
}

const EMPTY_SETTINGS: [u8; 2] = [0x04, 0];

/// A control stream after its type and SETTINGS.
fn control(role: Role, frames: &[u8]) -> Vec<Said> {
    told(role, &[&[0], &EMPTY_SETTINGS[..], frames].concat())
}

/// The sixteen cases of h3spec, in its order.
#[test]
fn the_cases_of_h3spec() {
    let data = frame(0x00, b"x");
    let section = |lines: &[(&str, &str)]| last(&served(&headers(lines)));
    let server = Role::Server;
    let late = [GET[0], GET[1], GET[2], ("autumn", "leaf"), GET[3]];
    let index_99 = frame(0x01, [0, 0, 0xff, 99 - 63]);
    let mut conn = Connection::new(server, Config::default());
    conn.opened(2).unwrap();
    let closed = recv(&mut conn, 2, Input::last(&[0, 4, 0]));
    for (case, violation, code) in [
        ("DATA before HEADERS", last(&served(&data)), Code::FrameUnexpected),
        ("duplicate pseudo-header", section(&[GET[0], GET[0]]), Code::MessageError),
        ("missing pseudo-header", section(&GET[..3]), Code::MessageError),
        ("prohibited pseudo-header", last(&served(&get(&[(":foo", "")]))), Code::MessageError),
        ("late pseudo-header", section(&late), Code::MessageError),
        ("no SETTINGS first", last(&told(server, &[0, 0x0d, 1, 0])), Code::MissingSettings),
        ("DATA on control", last(&control(server, &data)), Code::FrameUnexpected),
        ("HEADERS on control", last(&control(server, &get(&[]))), Code::FrameUnexpected),
        ("second SETTINGS", last(&control(server, &EMPTY_SETTINGS)), Code::FrameUnexpected),
        ("a setting twice", last(&told(server, &[0, 4, 4, 6, 1, 6, 1])), Code::SettingsError),
        ("a setting of HTTP/2", last(&told(server, &[0, 4, 2, 2, 1])), Code::SettingsError),
        ("CANCEL_PUSH", last(&served(&frame(0x03, [0]))), Code::FrameUnexpected),
        ("static index", last(&served(&index_99)), Code::QpackDecompressionFailed),
        ("capacity", last(&told(server, &[2, 0x3f, 0x01])), Code::QpackEncoderStreamError),
        ("control closed", last(&closed), Code::ClosedCriticalStream),
        ("increment of 0", last(&told(server, &[3, 0x00])), Code::QpackDecoderStreamError),
    ] {
        assert_eq!(violation.code(), code, "{case}: {violation}");
    }
}

/// Rows of a violation and the code that RFC 9114 section 8.1 has for it.
fn have_codes(rows: &[(V, V, Code)]) {
    for (at, (violation, expected, code)) in rows.iter().enumerate() {
        assert_eq!((violation, violation.code()), (expected, *code), "row {at}");
    }
}

#[test]
fn frames_on_a_request_stream() {
    use Code::*;
    let after = |frames: &[u8]| last(&served(&[&get(&[]), frames].concat()));
    let trailers = headers(&[("a", "b")]);
    have_codes(&[
        (after(&[0x04, 0]), V::ControlFrameOnRequest, FrameUnexpected),
        (after(&frame(0x07, [0])), V::ControlFrameOnRequest, FrameUnexpected),
        (after(&frame(0x0d, [0])), V::ControlFrameOnRequest, FrameUnexpected),
        (after(&frame(0x03, [0])), V::ControlFrameOnRequest, FrameUnexpected),
        (after(&frame(0x05, [0, 0, 0])), V::PushPromiseFromClient, FrameUnexpected),
        (after(&frame(0x0f_0700, [0])), V::PriorityUpdateMisplaced, FrameUnexpected),
        (after(&[0x02, 0]), V::FrameOfHttp2, FrameUnexpected),
        (after(&[0x06, 0]), V::FrameOfHttp2, FrameUnexpected),
        (after(&[0x08, 0]), V::FrameOfHttp2, FrameUnexpected),
        (after(&[0x09, 0]), V::FrameOfHttp2, FrameUnexpected),
        (after(&[&trailers[..], &trailers].concat()), V::FrameAfterTrailers, FrameUnexpected),
        (after(&[&trailers[..], &frame(0, b"x")].concat()), V::FrameAfterTrailers, FrameUnexpected),
        (after(&[0x00, 5, b'x']), V::FrameTruncated, FrameError),
        (after(&[0x40]), V::FrameTruncated, FrameError),
        (after(&[0x00]), V::FrameTruncated, FrameError),
        (after(&[0x01, 9, 0, 0]), V::FrameTruncated, FrameError),
        (last(&served(&[0x01, 0])), V::BlockTruncated, QpackDecompressionFailed),
        (last(&served(&[])), V::RequestCutOff, RequestIncomplete),
        (last(&served(&[0x21, 0])), V::RequestCutOff, RequestIncomplete),
        (last(&answered("GET", &frame(0, b"x"))), V::DataBeforeHeaders, FrameUnexpected),
        (last(&answered("GET", &frame(0x05, [0, 0, 0]))), V::PushIdUnknown, IdError),
        (last(&answered("GET", &[])), V::ResponseMissing, MessageError),
        (last(&answered("GET", &headers(&[(":status", "103")]))), V::ResponseMissing, MessageError),
    ]);
}

/// Where 431 cannot be answered: in trailers, and in what a server sends.
#[test]
fn sections_beyond_the_limits_are_excessive_load() {
    let large = "~".repeat(65_000);
    let large = headers(&[(":status", "200"), ("a", &large), ("b", &large)]);
    let declared = [varint(0x01), varint(1 << 30)].concat();
    let many = headers(&[("a", "b"); 129]);
    let after = |frames: &[u8]| last(&served(&[&get(&[]), frames].concat()));
    let ok = headers(&[(":status", "200")]);
    let then = |frames: &[u8]| last(&answered("GET", &[&ok, frames].concat()));
    have_codes(&[
        (last(&answered("GET", &large)), V::FieldSectionTooLarge, Code::ExcessiveLoad),
        (last(&answered("GET", &declared)), V::FieldSectionTooLarge, Code::ExcessiveLoad),
        (last(&answered("GET", &many)), V::FieldsTooMany, Code::ExcessiveLoad),
        (after(&declared), V::FieldSectionTooLarge, Code::ExcessiveLoad),
        (after(&many), V::FieldsTooMany, Code::ExcessiveLoad),
        (then(&declared), V::FieldSectionTooLarge, Code::ExcessiveLoad),
        (then(&many), V::FieldsTooMany, Code::ExcessiveLoad),
    ]);
}

#[test]
fn frames_on_a_control_stream() {
    use Code::*;
    use Role::{Client, Server};
    let push = |id| frame(0x0d, varint(id));
    let away = |id| frame(0x07, varint(id));
    for (role, frames, expected, code) in [
        (Server, frame(0x05, [0, 0, 0]), V::RequestFrameOnControl, FrameUnexpected),
        (Server, vec![0x02, 0], V::FrameOfHttp2, FrameUnexpected),
        // Nothing where a number has to be, a part of one, and one with something behind it.
        (Server, vec![0x07, 0], V::FrameLength, FrameError),
        (Server, frame(0x07, [0x40]), V::FrameLength, FrameError),
        (Server, frame(0x07, [0x00, 0x00]), V::FrameLength, FrameError),
        (Client, frame(0x07, [0x00, 0x00]), V::FrameLength, FrameError),
        (Server, frame(0x07, [0; 9]), V::FrameLength, FrameError),
        (Server, vec![0x0d, 0], V::FrameLength, FrameError),
        (Server, frame(0x0d, [0xc0, 0, 0]), V::FrameLength, FrameError),
        (Server, frame(0x0d, [0x00, 0x00]), V::FrameLength, FrameError),
        (Server, vec![0x03, 0], V::FrameLength, FrameError),
        (Server, frame(0x03, [0x80, 0, 0]), V::FrameLength, FrameError),
        (Server, frame(0x03, [0x00, 0x00]), V::FrameLength, FrameError),
        (Client, frame(0x03, [0x00, 0x00]), V::FrameLength, FrameError),
        (Server, [push(5), push(4)].concat(), V::MaxPushIdDecreased, IdError),
        (Server, [away(5), away(6)].concat(), V::GoAwayIncreased, IdError),
        (Server, frame(0x03, [0]), V::PushIdUnknown, IdError),
        (Client, push(1), V::MaxPushIdFromServer, FrameUnexpected),
        (Client, frame(0x0f_0700, [0]), V::PriorityUpdateMisplaced, FrameUnexpected),
        (Client, frame(0x03, [0]), V::PushIdUnknown, IdError),
        (Client, away(1), V::GoAwayId, IdError),
        (Client, away(2), V::GoAwayId, IdError),
        (Client, away(3), V::GoAwayId, IdError),
        (Client, [away(4), away(8)].concat(), V::GoAwayIncreased, IdError),
    ] {
        let violation = last(&control(role, &frames));
        assert_eq!((violation, violation.code()), (expected, code), "{frames:x?}");
    }
}

#[test]
fn settings_have_a_form_and_values() {
    use Code::*;
    use Role::{Client, Server};
    let many: Vec<u8> = (0x40..0x70).flat_map(|id| [0x40, id, 0]).collect();
    for (role, settings, expected, code) in [
        // An identifier without a value, whole values and the beginning of one.
        (Server, vec![0x04, 1, 6], V::FrameLength, FrameError),
        (Server, frame(0x04, [6, 1, 0x40]), V::FrameLength, FrameError),
        (Client, frame(0x04, [6, 0x40]), V::FrameLength, FrameError),
        (Server, frame(0x04, [0x08, 2]), V::SettingValue, SettingsError),
        (Client, frame(0x04, [0x33, 2]), V::SettingValue, SettingsError),
        (Server, frame(0x04, [0x00, 0]), V::SettingOfHttp2, SettingsError),
        (Client, frame(0x21, []), V::SettingsMissing, MissingSettings),
        (Server, frame(0x04, many), V::SettingsTooMany, ExcessiveLoad),
    ] {
        let violation = last(&told(role, &[&[0][..], &settings].concat()));
        assert_eq!((violation, violation.code()), (expected, code), "{settings:x?}");
    }
}

#[test]
fn unidirectional_streams() {
    use Role::{Client, Server};
    have_codes(&[
        (last(&told(Server, &[1, 0])), V::PushStreamFromClient, Code::StreamCreationError),
        (last(&told(Client, &[1, 0])), V::PushIdUnknown, Code::IdError),
    ]);
    // Of an unknown type, and of one that is reserved to be unknown: no more is read.
    for unknown in [&[0x21][..], &[0x54, 0x01], &[0x40, 0x40, 1, 2]] {
        assert_eq!(told(Server, unknown), [Said::Stop(Code::StreamCreationError)]);
    }
    for kind in [0, 2, 3] {
        let mut conn = Connection::new(Server, Config::default());
        for (stream, expected) in [(2, None), (6, Some(V::CriticalStreamTwice))] {
            conn.opened(stream).unwrap();
            let said = recv(&mut conn, stream, Input::new(&[kind]));
            assert_eq!(said, expected.map(Said::Closed).into_iter().collect::<Vec<_>>());
        }
        assert_eq!(conn.reset(2), Err(V::CriticalStreamClosed));
    }
    // A stream may end before it says what it is.
    let mut conn = Connection::new(Server, Config::default());
    for stream in [2, 6, 10] {
        conn.opened(stream).unwrap();
    }
    assert_eq!(conn.reset(2), Ok(()));
    assert_eq!(recv(&mut conn, 6, Input::end()), []);
    assert_eq!(recv(&mut conn, 10, Input::last(&[0x40])), []);
    // Ours may not be stopped, theirs may not be bidirectional.
    conn.control_opened(3);
    assert_eq!(conn.stopped(3), Err(V::CriticalStreamClosed));
    let mut client = Connection::new(Client, Config::default());
    assert_eq!(client.opened(1), Err(V::StreamFromServer));
}

#[test]
fn unidirectional_streams_have_a_limit() {
    let mut conn = Connection::new(Role::Server, Config::default());
    for n in 0..8 {
        assert_eq!(conn.opened(2 + 4 * n), Ok(Opened::Accepted));
    }
    assert_eq!(conn.opened(34), Ok(Opened::Refused(V::StreamTypeUnknown)));
}

#[test]
fn qpack_instructions() {
    use Code::{QpackDecoderStreamError as OfDecoder, QpackEncoderStreamError as OfEncoder};
    use Role::Server;
    let beyond_62_bits = [3, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
    have_codes(&[
        (last(&told(Server, &[2, 0x21])), V::CapacityExceeded, OfEncoder),
        (last(&told(Server, &[2, 0x20, 0x3f, 0xe1, 0x1f])), V::CapacityExceeded, OfEncoder),
        (last(&told(Server, &[2, 0xc0, 0x00])), V::InsertWithoutCapacity, OfEncoder),
        (last(&told(Server, &[2, 0x41, b'a', 0x00])), V::InsertWithoutCapacity, OfEncoder),
        (last(&told(Server, &[2, 0x00])), V::InsertWithoutCapacity, OfEncoder),
        (last(&told(Server, &[3, 0x80])), V::AcknowledgementUnasked, OfDecoder),
        (last(&told(Server, &[3, 0x01])), V::IncrementUnasked, OfDecoder),
        (last(&told(Server, &beyond_62_bits)), V::CancellationInteger, OfDecoder),
    ]);
    assert_eq!(told(Server, &[2, 0x20]), []);
    assert_eq!(told(Server, &[3, 0x44, 0x7f, 0x81, 0x01]), []);
}

#[test]
fn broken_field_sections_close_the_connection() {
    for (block, expected) in [
        (&[1, 0][..], V::BlockDynamic),
        (&[0, 0x80], V::BlockBase),
        (&[0, 0, 0x80], V::BlockDynamic),
        (&[0, 0, 0x10], V::BlockDynamic),
        (&[0, 0, 0x51, 9], V::BlockTruncated),
        (&[0, 0, 0x51, 0x81, 0x00], V::BlockHuffman),
        (&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], V::BlockInteger),
    ] {
        assert_eq!(last(&served(&frame(0x01, block))), expected, "{block:x?}");
        assert_eq!(expected.code(), Code::QpackDecompressionFailed);
    }
}

#[test]
fn malformed_requests_fail_alone() {
    let of = |lines: &[(&str, &str)]| last(&served(&headers(lines)));
    let with = |name, value| last(&served(&get(&[(name, value)])));
    let but = |at: usize, value| {
        let mut lines = GET;
        lines[at].1 = value;
        last(&served(&headers(&lines)))
    };
    let extended = |protocol| [&[("", "")][..0], &GET, &[(":protocol", protocol)]].concat();
    let connect = [(":method", "CONNECT"), (":authority", "example.org:443")];
    for (violation, expected) in [
        // Pseudo-header fields.
        (of(&[]), V::PseudoMissing),
        (of(&[GET[1], GET[2], GET[3]]), V::PseudoMissing),
        (of(&[GET[0], GET[2], GET[3]]), V::PseudoMissing),
        (of(&[GET[0], GET[1], GET[3]]), V::AuthorityMissing),
        (of(&[GET[0], GET[1], GET[2], GET[3], GET[3]]), V::PseudoTwice),
        (of(&[GET[0], GET[1], GET[3], ("host", "")]), V::AuthorityInvalid),
        (with("host", "example.com"), V::AuthorityMismatch),
        (of(&[GET[0], GET[1], GET[3], ("host", "a"), ("host", "a")]), V::AuthorityInvalid),
        (with(":status", "200"), V::PseudoForbidden),
        (of(&extended("websocket")), V::PseudoForbidden),
        (of(&[connect[0], connect[1], GET[1]]), V::PseudoForbidden),
        (of(&[connect[0], connect[1], GET[3]]), V::PseudoForbidden),
        (of(&connect[..1]), V::PseudoMissing),
        (with(":unknown", ""), V::PseudoUnknown),
        (with(":Path", "/"), V::PseudoUnknown),
        (but(0, ""), V::MethodInvalid),
        (but(0, "GE T"), V::MethodInvalid),
        (but(1, ""), V::SchemeInvalid),
        (but(1, "1http"), V::SchemeInvalid),
        (but(1, "ht/tp"), V::SchemeInvalid),
        (but(2, ""), V::AuthorityInvalid),
        (but(2, "user@example.org"), V::AuthorityInvalid),
        (but(2, "example.org/x"), V::AuthorityInvalid),
        (but(3, ""), V::PathInvalid),
        (but(3, "index.html"), V::PathInvalid),
        (but(3, "*"), V::PathInvalid),
        (but(3, "/a b"), V::PathInvalid),
        // Names and values.
        (with("Upper", "x"), V::FieldName),
        (with("", "x"), V::FieldName),
        (with("a b", "x"), V::FieldName),
        (with("a:b", "x"), V::FieldName),
        (with("a\r\n", "x"), V::FieldName),
        (with("a\0", "x"), V::FieldName),
        (with("a\u{e9}", "x"), V::FieldName),
        (with("a", "x\ry"), V::FieldValue),
        (with("a", "x\ny"), V::FieldValue),
        (with("a", "x\0y"), V::FieldValue),
        (with("a", "x\u{7f}y"), V::FieldValue),
        (with("a", " x"), V::FieldValue),
        (with("a", "x\t"), V::FieldValue),
        (but(3, "/\r\n"), V::FieldValue),
        // Fields of a connection.
        (with("connection", "close"), V::FieldConnectionSpecific),
        (with("keep-alive", "1"), V::FieldConnectionSpecific),
        (with("proxy-connection", "1"), V::FieldConnectionSpecific),
        (with("transfer-encoding", "chunked"), V::FieldConnectionSpecific),
        (with("upgrade", "h2c"), V::FieldConnectionSpecific),
        (with("te", "gzip"), V::FieldConnectionSpecific),
    ] {
        assert_eq!(violation, expected);
        assert_eq!(violation.code(), Code::MessageError);
    }
}

#[test]
fn content_is_as_long_as_announced() {
    let with = |name, value| last(&served(&get(&[(name, value)])));
    for (violation, expected) in [
        (with("content-length", ""), V::ContentLengthInvalid),
        (with("content-length", "-1"), V::ContentLengthInvalid),
        (with("content-length", "1,1"), V::ContentLengthInvalid),
        (with("content-length", "18446744073709551616"), V::ContentLengthInvalid),
        (
            last(&served(&get(&[("content-length", "1"), ("content-length", "2")]))),
            V::ContentLengthInvalid,
        ),
        (with("content-length", "1"), V::BodyTooShort),
    ] {
        assert_eq!(violation, expected);
    }
    let post = get(&[("content-length", "3")]);
    let body = |body: &[u8]| served(&[&post[..], body].concat());
    assert_eq!(body(&frame(0, b"abc")).len(), 3);
    assert_eq!(last(&body(&frame(0, b"ab"))), V::BodyTooShort);
    assert_eq!(last(&body(&frame(0, b"abcd"))), V::BodyTooLong);
    assert_eq!(last(&body(&[frame(0, b"abc"), frame(0, b"d")].concat())), V::BodyTooLong);
    let trailers = [&post[..], &frame(0, b"abc"), &headers(&[GET[0]])].concat();
    assert_eq!(last(&served(&trailers)), V::PseudoInTrailers);
    let trailers = [&post[..], &frame(0, b"abc"), &headers(&[("A", "b")])].concat();
    assert_eq!(last(&served(&trailers)), V::FieldName);
}

#[test]
fn malformed_responses_fail_alone() {
    let of = |lines: &[(&str, &str)]| last(&answered("GET", &headers(lines)));
    let ok = (":status", "200");
    for (violation, expected) in [
        (of(&[]), V::PseudoMissing),
        (of(&[ok, ok]), V::PseudoTwice),
        (of(&[("a", "b"), ok]), V::PseudoLate),
        (of(&[ok, (":path", "/")]), V::PseudoForbidden),
        (of(&[(":status", "99")]), V::StatusInvalid),
        (of(&[(":status", "099")]), V::StatusInvalid),
        (of(&[(":status", "1000")]), V::StatusInvalid),
        (of(&[(":status", "20x")]), V::StatusInvalid),
        (of(&[(":status", "")]), V::StatusInvalid),
        (of(&[(":status", "101")]), V::StatusSwitchingProtocols),
        (of(&[ok, ("connection", "close")]), V::FieldConnectionSpecific),
        (of(&[ok, ("content-length", "1")]), V::BodyTooShort),
    ] {
        assert_eq!(violation, expected);
        assert_eq!(violation.code(), Code::MessageError);
    }
    let with_body = |status, method| {
        answered(method, &[headers(&[(":status", status)]), frame(0, b"x")].concat())
    };
    assert_eq!(last(&with_body("204", "GET")), V::BodyForbidden);
    assert_eq!(last(&with_body("304", "GET")), V::BodyForbidden);
    assert_eq!(last(&with_body("200", "HEAD")), V::BodyForbidden);
    let lengths = headers(&[ok, ("content-length", "100")]);
    assert_eq!(answered("HEAD", &lengths).last(), Some(&Said::Finished));
    let lengths = headers(&[(":status", "304"), ("content-length", "100")]);
    assert_eq!(answered("GET", &lengths).last(), Some(&Said::Finished));
}

#[test]
fn a_failed_stream_is_forgotten_and_others_go_on() {
    let mut conn = Connection::new(Role::Server, Config::default());
    conn.opened(0).unwrap();
    conn.opened(4).unwrap();
    let said = recv(&mut conn, 0, Input::new(&get(&[("Upper", "")])));
    assert_eq!(said, [Said::Failed(V::FieldName)]);
    assert_eq!(conn.exchanges(), 1);
    assert_eq!(recv(&mut conn, 0, Input::last(&get(&[]))), []);
    assert_eq!(recv(&mut conn, 4, Input::last(&get(&[]))).len(), 2);
}

#[test]
fn datagrams_name_a_stream() {
    let config = Config { datagrams: true, ..Config::default() };
    let mut conn = Connection::new(Role::Client, config);
    request(&mut conn, 8, "GET");
    let datagram = conn.datagram(&[2, b'x']).unwrap().unwrap();
    assert_eq!((datagram.stream, datagram.payload), (8, &b"x"[..]));
    assert_eq!(conn.datagram(&[3, b'x']), Ok(None));
    assert_eq!(conn.datagram(&[]), Err(V::DatagramTruncated));
    assert_eq!(conn.datagram(&[0xc0, 0]), Err(V::DatagramTruncated));
    assert_eq!(conn.datagram(&varint(1 << 60)), Err(V::DatagramStream));
    assert_eq!(conn.datagram(&varint((1 << 60) - 1)), Ok(None));
    let mut header = Vec::new();
    conn.datagram_header(8, &mut header);
    assert_eq!(header, [2]);
    // Without having said so, they are for nobody.
    let mut conn = Connection::new(Role::Client, Config::default());
    request(&mut conn, 8, "GET");
    assert_eq!(conn.datagram(&[2, b'x']), Ok(None));
}

#[test]
fn literals_are_what_they_look_like() {
    assert_eq!(line(b"a", b"b"), [0x21, b'a', 1, b'b']);
}
