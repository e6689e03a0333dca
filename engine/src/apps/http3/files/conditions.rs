//! conditions are the fields that make a request depend on what the client has already
//! (RFC 9110 section 13).

use quiclane_http3::Field;

use crate::apps::http3::date::Date;
use crate::apps::http3::request::Request;

/// What becomes of a GET or HEAD.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Go,
    NotModified,
    Failed,
}

/// Judges the conditions in the order of section 13.2.2.
pub(super) fn judge<'a>(
    fields: impl Iterator<Item = Field<'a>>,
    etag: &[u8],
    modified: Date,
) -> Verdict {
    let (mut matches, mut none_matches) = (None, None);
    let (mut unmodified_since, mut modified_since) = (None, None);
    for Field { name, value } in fields {
        match name {
            b"if-match" => *matches.get_or_insert(false) |= is_listed(value, etag, Weak::Differs),
            b"if-none-match" => {
                *none_matches.get_or_insert(false) |= is_listed(value, etag, Weak::Same);
            }
            b"if-unmodified-since" => unmodified_since = Date::parse(value),
            b"if-modified-since" => modified_since = Date::parse(value),
            _ => {}
        }
    }
    let failed = match (matches, unmodified_since) {
        (Some(matches), _) => !matches,
        (None, Some(since)) => modified.unix() > since.unix(),
        (None, None) => false,
    };
    let not_modified = match (none_matches, modified_since) {
        (Some(matches), _) => matches,
        (None, Some(since)) => modified.unix() <= since.unix(),
        (None, None) => false,
    };
    match (failed, not_modified) {
        (true, _) => Verdict::Failed,
        (false, true) => Verdict::NotModified,
        (false, false) => Verdict::Go,
    }
}

/// Whether a range may be served: the client's part is of the same file (section 13.1.5).
//= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
//# A client MUST NOT generate an If-Range header field containing an
//# HTTP-date unless [...] The client has no entity tag for the
//# corresponding representation
// Ours has one always; and a date does not tell two changes in one second apart.
pub(super) fn may_range(request: &Request<'_>, etag: &[u8]) -> bool {
    request.field(b"if-range").is_none_or(|part| part == etag)
}

/// How tags with `W/` compare to ours, which is a strong one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Weak {
    Same,
    Differs,
}

/// Whether a list of entity tags, or `*`, has ours.
fn is_listed(mut list: &[u8], etag: &[u8], weak: Weak) -> bool {
    loop {
        list = list.trim_ascii_start();
        if let Some(rest) = list.strip_prefix(b",") {
            list = rest;
            continue;
        }
        if list.starts_with(b"*") {
            return true;
        }
        let (tag, is_weak) = match list.strip_prefix(b"W/") {
            Some(tag) => (tag, true),
            None => (list, false),
        };
        let end = tag.iter().skip(1).position(|byte| *byte == b'"');
        let Some((tag, rest)) = end.and_then(|end| tag.split_at_checked(end + 2)) else {
            return false;
        };
        if tag == etag && (!is_weak || weak == Weak::Same) {
            return true;
        }
        list = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &[u8] = b"\"a,b\"";

    fn judged(fields: &[(&str, &str)]) -> Verdict {
        let fields = fields
            .iter()
            .map(|(name, value)| Field { name: name.as_bytes(), value: value.as_bytes() });
        judge(fields, ETAG, Date::from_unix(784_111_777))
    }

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn lists_of_tags_are_read() {
        for list in ["*", "\"a,b\"", "\"x\" , W/\"y\",\"a,b\"", ",, \"a,b\""] {
            assert!(is_listed(list.as_bytes(), ETAG, Weak::Differs), "{list}");
        }
        for list in ["", ",", "a,b", "\"a", "\"a\", \"b\"", "x\"a,b\"", "\"", "W/", "\"x\" \""] {
            assert!(!is_listed(list.as_bytes(), ETAG, Weak::Same), "{list}");
        }
        assert!(is_listed(b"W/\"a,b\"", ETAG, Weak::Same));
        assert!(!is_listed(b"W/\"a,b\"", ETAG, Weak::Differs));
    }

    #[test]
    fn conditions_are_judged_in_their_order() {
        assert_eq!(judged(&[]), Verdict::Go);
        assert_eq!(judged(&[("if-none-match", "\"a,b\"")]), Verdict::NotModified);
        assert_eq!(
            judged(&[("if-none-match", "\"x\""), ("if-none-match", "W/\"a,b\"")]),
            Verdict::NotModified
        );
        // The tag counts, and the date only without one.
        assert_eq!(judged(&[("if-none-match", "\"x\""), ("if-modified-since", SAME)]), Verdict::Go);
        assert_eq!(judged(&[("if-modified-since", SAME)]), Verdict::NotModified);
        assert_eq!(judged(&[("if-modified-since", BEFORE)]), Verdict::Go);
        assert_eq!(judged(&[("if-modified-since", "yesterday")]), Verdict::Go);
        assert_eq!(judged(&[("if-match", "\"x\"")]), Verdict::Failed);
        assert_eq!(judged(&[("if-match", "*"), ("if-unmodified-since", BEFORE)]), Verdict::Go);
        assert_eq!(judged(&[("if-unmodified-since", BEFORE)]), Verdict::Failed);
        assert_eq!(judged(&[("if-unmodified-since", SAME)]), Verdict::Go);
    }
}
