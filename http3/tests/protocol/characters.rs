//! CR, LF and NUL: whoever gets one into a field could end it and begin another one wherever the
//! message goes on over HTTP/1.1 (RFC 9114 section 10.3). So none comes in, and none goes out.

use crate::support::{Said, answered, frame, get, headers, line, served};
use quiclane_http3::{Code, Invalid, Prepared, Scope, Violation as V};

/// Texts with one of them at the front, in the middle, at the end.
const TEXTS: [&str; 8] = ["a\r\nset-cookie: b", "a\rb", "a\nb", "a\0b", "\rb", "\nb", "a\n", "a\0"];

/// What Huffman code (RFC 7541 appendix B) has for each of them alone, filled up with ones.
const HUFFMAN: [&[u8]; 3] = [&[0xff, 0xff, 0xff, 0xf7], &[0xff, 0xff, 0xff, 0xf3], &[0xff, 0xc7]];

const OK: (&str, &str) = (":status", "200");

/// HEADERS frames with `before` and one more field, and what is wrong with that.
fn frames(before: &[(&str, &str)]) -> Vec<(Vec<u8>, V)> {
    let before: Vec<u8> =
        before.iter().flat_map(|(n, v)| line(n.as_bytes(), v.as_bytes())).collect();
    let with = |field: Vec<u8>| frame(0x01, [&[0, 0], &before[..], &field].concat());
    let mut all = Vec::new();
    for text in TEXTS {
        all.push((with(line(b"x", text.as_bytes())), V::FieldValue));
        all.push((with(line(text.as_bytes(), b"x")), V::FieldName));
        // The name is entry 12 of the static table, location.
        let value = [&[0x5c, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        all.push((with(value), V::FieldValue));
    }
    for code in HUFFMAN {
        let length = 0x80 | u8::try_from(code.len()).unwrap();
        all.push((with([&[0x5c, length], code].concat()), V::FieldValue));
        let length = 0x28 | u8::try_from(code.len()).unwrap();
        all.push((with([&[length], code, &[0]].concat()), V::FieldName));
    }
    all
}

fn fails(said: &[Said], expected: V, frame: &[u8]) {
    assert_eq!(said.last(), Some(&Said::Failed(expected)), "{frame:x?}");
    let scope = (expected.scope(), expected.code());
    assert_eq!(scope, (Scope::Stream, Code::MessageError), "{frame:x?}");
}

#[test]
fn none_comes_in_with_a_response() {
    for (head, expected) in frames(&[OK]) {
        fails(&answered("GET", &head), expected, &head);
    }
    for (interim, expected) in frames(&[(":status", "103")]) {
        let all = [&interim[..], &headers(&[OK])].concat();
        fails(&answered("GET", &all), expected, &interim);
    }
    for status in ["20\n", "20\0", "\r20", "200\r\n"] {
        let head = headers(&[(":status", status)]);
        let said = answered("GET", &head);
        let [Said::Failed(violation)] = said[..] else { panic!("{status:?}: {said:?}") };
        assert_eq!(violation.code(), Code::MessageError, "{status:?}");
    }
}

#[test]
fn none_comes_in_with_trailers() {
    let content = frame(0x00, b"hello");
    for (trailers, expected) in frames(&[("checksum", "1")]) {
        let request = served(&[&get(&[])[..], &content, &trailers].concat());
        assert_eq!(request.get(1), Some(&Said::Data(b"hello".to_vec())));
        fails(&request, expected, &trailers);
        let response = answered("GET", &[&headers(&[OK])[..], &content, &trailers].concat());
        assert_eq!(response.get(1), Some(&Said::Data(b"hello".to_vec())));
        fails(&response, expected, &trailers);
    }
}

#[test]
fn none_goes_out() {
    let get = || Prepared::request("GET", "https", "example.org", "/").unwrap();
    let before = [
        get(),
        Prepared::response(103).unwrap(),
        Prepared::response(200).unwrap(),
        Prepared::trailers(),
    ];
    for text in TEXTS {
        for mut message in before.clone() {
            let frame = message.frame().to_vec();
            assert_eq!(message.push(b"x", text.as_bytes()), Err(Invalid(V::FieldValue)));
            assert_eq!(message.push(b"location", text.as_bytes()), Err(Invalid(V::FieldValue)));
            assert_eq!(message.push(text.as_bytes(), b"x"), Err(Invalid(V::FieldName)));
            assert_eq!(message.frame(), frame, "nothing was added");
        }
        let path = format!("/{text}");
        for (request, expected) in [
            (Prepared::request(text, "https", "example.org", "/"), V::MethodInvalid),
            (Prepared::request("GET", text, "example.org", "/"), V::SchemeInvalid),
            (Prepared::request("GET", "https", text, "/"), V::AuthorityInvalid),
            (Prepared::request("GET", "https", "example.org", &path), V::PathInvalid),
        ] {
            assert_eq!(request.unwrap_err(), Invalid(expected), "{text:?}");
        }
    }
}
