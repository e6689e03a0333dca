//! validate judges the fields of a message (RFC 9114 sections 4.2 and 4.3): which names and values
//! are legal, and which pseudo-header fields have to be there.

use crate::qpack::{Field, Fields};
use crate::violation::Violation;

/// What a section says about itself, found while it was judged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) method: Place,
    pub(crate) scheme: Place,
    pub(crate) authority: Place,
    pub(crate) path: Place,
    pub(crate) protocol: Place,
    pub(crate) status: u16,
    pub(crate) content_length: Option<u64>,
    /// How many pseudo-header fields stand before the others.
    pub(crate) pseudo: usize,
}

/// Where a field is in its section, if it is there.
pub(crate) type Place = Option<u16>;

/// What kind of section is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Section {
    Request,
    Response,
    Trailers,
}

/// Judges a section.
pub(crate) fn section(fields: &Fields, section: Section) -> Result<Head, Violation> {
    let mut head = Head::default();
    let (mut status, mut host) = (None, None);
    for (at, (static_name, field)) in fields.entries().enumerate() {
        let name = match static_name {
            Some(index) => Name::of_static(index),
            None => Name::of(field.name)?,
        };
        value(field.value)?;
        let Name::Pseudo(pseudo) = name else {
            regular(name, field, &mut head)?;
            if name == Name::Host && host.replace(field.value).is_some() {
                return Err(Violation::AuthorityInvalid);
            }
            continue;
        };
        //= https://www.rfc-editor.org/rfc/rfc9114#section-4.3
        //# All pseudo-header fields MUST appear in the header section before
        //# regular header fields.
        if section == Section::Trailers {
            return Err(Violation::PseudoInTrailers);
        }
        if head.pseudo != at {
            return Err(Violation::PseudoLate);
        }
        let place = match (section, pseudo) {
            (Section::Request, Pseudo::Method) => &mut head.method,
            (Section::Request, Pseudo::Scheme) => &mut head.scheme,
            (Section::Request, Pseudo::Authority) => &mut head.authority,
            (Section::Request, Pseudo::Path) => &mut head.path,
            (Section::Request, Pseudo::Protocol) => &mut head.protocol,
            (Section::Response, Pseudo::Status) => &mut status,
            _ => return Err(Violation::PseudoForbidden),
        };
        if place.replace(u16::try_from(at).unwrap_or(u16::MAX)).is_some() {
            return Err(Violation::PseudoTwice);
        }
        head.pseudo += 1;
    }
    match section {
        Section::Request => target(fields, host, &head)?,
        Section::Response => {
            let field = of(fields, status).ok_or(Violation::PseudoMissing)?;
            head.status = status_code(field)?;
        }
        Section::Trailers => {}
    }
    Ok(head)
}

/// The value of a field of the section.
pub(crate) fn of(fields: &Fields, place: Place) -> Option<&[u8]> {
    fields.at(usize::from(place?)).map(|field| field.value)
}

/// What matters about a field's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Name {
    Pseudo(Pseudo),
    ConnectionSpecific,
    ContentLength,
    Host,
    Te,
    Other,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pseudo {
    Authority,
    Method,
    Path,
    Protocol,
    Scheme,
    Status,
}

impl Name {
    /// Of an entry of the static table, whose names are all legal.
    fn of_static(index: u32) -> Self {
        match index {
            0 => Self::Pseudo(Pseudo::Authority),
            1 => Self::Pseudo(Pseudo::Path),
            4 => Self::ContentLength,
            15..=21 => Self::Pseudo(Pseudo::Method),
            22 | 23 => Self::Pseudo(Pseudo::Scheme),
            24..=28 | 63..=71 => Self::Pseudo(Pseudo::Status),
            _ => Self::Other,
        }
    }

    /// Of a name that was spelled out.
    pub(crate) fn of(name: &[u8]) -> Result<Self, Violation> {
        if name.first() == Some(&b':') {
            return match name {
                b":authority" => Ok(Self::Pseudo(Pseudo::Authority)),
                b":method" => Ok(Self::Pseudo(Pseudo::Method)),
                b":path" => Ok(Self::Pseudo(Pseudo::Path)),
                b":protocol" => Ok(Self::Pseudo(Pseudo::Protocol)),
                b":scheme" => Ok(Self::Pseudo(Pseudo::Scheme)),
                b":status" => Ok(Self::Pseudo(Pseudo::Status)),
                _ => Err(Violation::PseudoUnknown),
            };
        }
        //= https://www.rfc-editor.org/rfc/rfc9114#section-4.2
        //# Characters in field names MUST be
        //# converted to lowercase prior to their encoding.  A request or
        //# response containing uppercase characters in field names MUST be
        //# treated as malformed.
        if name.is_empty() || !all(name, FIELD_NAME) {
            return Err(Violation::FieldName);
        }
        Ok(match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Self::ConnectionSpecific,
            b"content-length" => Self::ContentLength,
            b"host" => Self::Host,
            b"te" => Self::Te,
            _ => Self::Other,
        })
    }
}

/// What is special about some regular fields.
fn regular(name: Name, field: Field<'_>, head: &mut Head) -> Result<(), Violation> {
    match name {
        //= https://www.rfc-editor.org/rfc/rfc9114#section-4.2
        //# An endpoint MUST NOT generate an HTTP/3 field section containing
        //# connection-specific fields; any message containing
        //# connection-specific fields MUST be treated as malformed.
        Name::ConnectionSpecific => Err(Violation::FieldConnectionSpecific),
        //= https://www.rfc-editor.org/rfc/rfc9114#section-4.2
        //# The only exception to this is the TE header field, which MAY be
        //# present in an HTTP/3 request header; when it is, it MUST NOT contain
        //# any value other than "trailers".
        Name::Te if !field.value.eq_ignore_ascii_case(b"trailers") => {
            Err(Violation::FieldConnectionSpecific)
        }
        Name::ContentLength => {
            let length = number(field.value).ok_or(Violation::ContentLengthInvalid)?;
            match head.content_length.replace(length) {
                Some(before) if before != length => Err(Violation::ContentLengthInvalid),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The pseudo-header fields of a request together.
fn target(fields: &Fields, host: Option<&[u8]>, head: &Head) -> Result<(), Violation> {
    let method = of(fields, head.method).ok_or(Violation::PseudoMissing)?;
    if method.is_empty() || !all(method, TOKEN) {
        return Err(Violation::MethodInvalid);
    }
    let authority = of(fields, head.authority);
    if let (Some(authority), Some(host)) = (authority, host)
        && authority != host
    {
        return Err(Violation::AuthorityMismatch);
    }
    //= https://www.rfc-editor.org/rfc/rfc9114#section-4.4
    //# A CONNECT request that does not conform to these restrictions is
    //# malformed.
    if method == b"CONNECT" && head.protocol.is_none() {
        if head.scheme.is_some() || head.path.is_some() {
            return Err(Violation::PseudoForbidden);
        }
        return self::authority(authority.ok_or(Violation::PseudoMissing)?);
    }
    if method != b"CONNECT" && head.protocol.is_some() {
        return Err(Violation::PseudoForbidden);
    }
    let scheme = of(fields, head.scheme).ok_or(Violation::PseudoMissing)?;
    let path = of(fields, head.path).ok_or(Violation::PseudoMissing)?;
    self::scheme(scheme)?;
    //= https://www.rfc-editor.org/rfc/rfc9114#section-4.3.1
    //# If the :scheme pseudo-header field identifies a scheme that has a
    //# mandatory authority component (including "http" and "https"), the
    //# request MUST contain either an :authority pseudo-header field or a
    //# Host header field.  If these fields are present, they MUST NOT be
    //# empty.
    if matches!(scheme, b"http" | b"https") {
        self::authority(authority.or(host).ok_or(Violation::AuthorityMissing)?)?;
        self::path(path, method)?;
    }
    if all(path, PATH) { Ok(()) } else { Err(Violation::PathInvalid) }
}

/// Whether `:path` starts as it has to.
pub(crate) fn path(path: &[u8], method: &[u8]) -> Result<(), Violation> {
    let starts_well = path.first() == Some(&b'/') || (path == b"*" && method == b"OPTIONS");
    if starts_well && all(path, PATH) { Ok(()) } else { Err(Violation::PathInvalid) }
}

//= https://www.rfc-editor.org/rfc/rfc9114#section-4.3.1
//# The authority MUST NOT include the deprecated userinfo subcomponent for
//# URIs of scheme "http" or "https".
/// Whether an authority is one.
pub(crate) fn authority(authority: &[u8]) -> Result<(), Violation> {
    if authority.is_empty() || !all(authority, AUTHORITY) {
        return Err(Violation::AuthorityInvalid);
    }
    Ok(())
}

/// Whether a scheme is one.
pub(crate) fn scheme(scheme: &[u8]) -> Result<(), Violation> {
    let starts_well = scheme.first().is_some_and(u8::is_ascii_alphabetic);
    if starts_well && all(scheme, SCHEME) { Ok(()) } else { Err(Violation::SchemeInvalid) }
}

/// Whether a method is one.
pub(crate) fn method(method: &[u8]) -> Result<(), Violation> {
    if !method.is_empty() && all(method, TOKEN) { Ok(()) } else { Err(Violation::MethodInvalid) }
}

//= https://www.rfc-editor.org/rfc/rfc9114#section-10.3
//# Any request or response that contains a
//# character not permitted in a field value MUST be treated as malformed.
/// Whether a value is one: no control characters, no whitespace around it.
pub(crate) fn value(value: &[u8]) -> Result<(), Violation> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    // Without an early end the loop is vectorised.
    let has_control = value
        .iter()
        .fold(false, |found, byte| found | ((*byte < 0x20) & (*byte != b'\t')) | (*byte == 0x7f));
    if has_control || is_space(value.first()) || is_space(value.last()) {
        return Err(Violation::FieldValue);
    }
    Ok(())
}

fn status_code(value: &[u8]) -> Result<u16, Violation> {
    match number(value).and_then(|status| u16::try_from(status).ok()) {
        //= https://www.rfc-editor.org/rfc/rfc9114#section-4.5
        //# HTTP/3 does not support the HTTP Upgrade mechanism (Section 7.8 of
        //# [HTTP]) or the 101 (Switching Protocols) informational status code
        Some(101) => Err(Violation::StatusSwitchingProtocols),
        Some(status @ 100..=999) if value.len() == 3 => Ok(status),
        _ => Err(Violation::StatusInvalid),
    }
}

/// Digits, nothing else.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Whether every byte is of a class.
fn all(text: &[u8], class: u8) -> bool {
    let classes = |byte: &u8| CLASSES.get(usize::from(*byte)).copied().unwrap_or_default();
    text.iter().fold(class, |left, byte| left & classes(byte)) != 0
}

/// Lower case letters, digits and what else a token may have (RFC 9110 section 5.6.2).
const FIELD_NAME: u8 = 1 << 0;
const TOKEN: u8 = 1 << 1;
const SCHEME: u8 = 1 << 2;
/// Of a host and a port (RFC 3986 section 3.2) without `@`.
const AUTHORITY: u8 = 1 << 3;
/// Everything but control characters and space: whether it is well formed is for its server.
const PATH: u8 = 1 << 4;

/// The classes of each byte.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = at as u8;
        let is_word = byte.is_ascii_alphanumeric();
        let mut class = 0;
        if is_word || among(byte, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
            if !byte.is_ascii_uppercase() {
                class |= FIELD_NAME;
            }
        }
        if is_word || among(byte, b"+-.") {
            class |= SCHEME;
        }
        if is_word || among(byte, b"-._~%!$&'()*+,;=:[]") {
            class |= AUTHORITY;
        }
        if byte > 0x20 && byte != 0x7f {
            class |= PATH;
        }
        classes[at] = class;
        at += 1;
    }
    classes
};

const fn among(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}
