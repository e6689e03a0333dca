//! violation lists everything a peer can do wrong, with the code that answers it.
//!
//! What concerns one message ends its stream. What puts the state of the connection in doubt, or
//! is done to wear us down, ends the connection.

use std::fmt;

use crate::code::Code;

/// What ends because of a [`Violation`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// The whole connection.
    Connection,
    /// One stream: reset what we send on it, stop reading.
    Stream,
}

/// Makes the enum and its table of one list.
macro_rules! violations {
    ($($name:ident: $code:ident, $scope:ident, $section:literal, $text:literal;)*) => {
        /// What the peer did. `Display` says it with the section that forbids it, and the code.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum Violation {
            $(#[doc = concat!("The peer: ", $text, ", ", $section, ".")] $name,)*
        }

        impl Violation {
            /// Every violation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code that tells the peer.
            #[must_use]
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                }
            }

            /// What ends.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self {
                    $(Self::$name => Scope::$scope,)*
                }
            }

            /// Where the rule is written.
            #[must_use]
            pub const fn section(self) -> &'static str {
                match self {
                    $(Self::$name => $section,)*
                }
            }

            /// What the peer did, in words: a reason for CONNECTION_CLOSE.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

violations! {
    // Frames in the wrong place.
    ControlFrameOnRequest: FrameUnexpected, Connection, "RFC 9114 section 7.2",
        "control frame on a request stream";
    DataBeforeHeaders: FrameUnexpected, Connection, "RFC 9114 section 4.1",
        "DATA frame before the header section";
    FrameAfterTrailers: FrameUnexpected, Connection, "RFC 9114 section 4.1",
        "HEADERS or DATA frame after the trailers";
    FrameOfHttp2: FrameUnexpected, Connection, "RFC 9114 section 7.2.8",
        "frame type reserved by HTTP/2";
    MaxPushIdFromServer: FrameUnexpected, Connection, "RFC 9114 section 7.2.7",
        "MAX_PUSH_ID frame from a server";
    PriorityUpdateMisplaced: FrameUnexpected, Connection, "RFC 9218 section 7.2",
        "PRIORITY_UPDATE frame from a server or on a request stream";
    PushPromiseFromClient: FrameUnexpected, Connection, "RFC 9114 section 7.2.5",
        "PUSH_PROMISE frame from a client";
    RequestFrameOnControl: FrameUnexpected, Connection, "RFC 9114 section 7.2",
        "request frame on the control stream";
    SettingsTwice: FrameUnexpected, Connection, "RFC 9114 section 7.2.4",
        "second SETTINGS frame";

    // Frames of the wrong form.
    FrameLength: FrameError, Connection, "RFC 9114 section 7.1",
        "frame length that does not fit the fields inside";
    FrameTruncated: FrameError, Connection, "RFC 9114 section 7.1",
        "stream ended inside a frame";

    // Settings.
    SettingOfHttp2: SettingsError, Connection, "RFC 9114 section 7.2.4.1",
        "setting reserved by HTTP/2";
    SettingTwice: SettingsError, Connection, "RFC 9114 section 7.2.4",
        "the same setting twice";
    SettingValue: SettingsError, Connection, "RFC 9220 section 3 or RFC 9297 section 2.1.1",
        "setting that is neither 0 nor 1";
    SettingsMissing: MissingSettings, Connection, "RFC 9114 section 6.2.1",
        "control stream without SETTINGS as its first frame";

    // Streams.
    CriticalStreamClosed: ClosedCriticalStream, Connection, "RFC 9114 section 6.2.1",
        "control or QPACK stream closed";
    CriticalStreamTwice: StreamCreationError, Connection, "RFC 9114 section 6.2.1",
        "second control or QPACK stream";
    PushStreamFromClient: StreamCreationError, Connection, "RFC 9114 section 6.2.2",
        "push stream from a client";
    StreamFromServer: StreamCreationError, Connection, "RFC 9114 section 6.1",
        "bidirectional stream from a server";
    StreamTypeUnknown: StreamCreationError, Stream, "RFC 9114 section 6.2",
        "stream of an unknown type";

    // Identifiers.
    GoAwayId: IdError, Connection, "RFC 9114 section 7.2.6",
        "GOAWAY frame that names no request stream";
    GoAwayIncreased: IdError, Connection, "RFC 9114 section 5.2",
        "GOAWAY frame above an earlier one";
    MaxPushIdDecreased: IdError, Connection, "RFC 9114 section 7.2.7",
        "MAX_PUSH_ID frame below an earlier one";
    PushIdUnknown: IdError, Connection, "RFC 9114 section 4.6",
        "push ID that was never allowed";

    // QPACK.
    AcknowledgementUnasked: QpackDecoderStreamError, Connection, "RFC 9204 section 4.4.1",
        "acknowledgement of a field section that needs none";
    IncrementUnasked: QpackDecoderStreamError, Connection, "RFC 9204 section 4.4.3",
        "insert count increment of 0 or beyond what was inserted";
    CancellationInteger: QpackDecoderStreamError, Connection, "RFC 9204 section 4.1.1",
        "stream cancellation with an integer above 62 bits";
    CapacityExceeded: QpackEncoderStreamError, Connection, "RFC 9204 section 4.3.1",
        "dynamic table capacity above the limit";
    InsertWithoutCapacity: QpackEncoderStreamError, Connection, "RFC 9204 section 3.2.2",
        "insertion into a dynamic table without capacity";
    BlockBase: QpackDecompressionFailed, Connection, "RFC 9204 section 4.5.1.2",
        "field section with a base below 0";
    BlockDynamic: QpackDecompressionFailed, Connection, "RFC 9204 section 2.2.3",
        "reference to the dynamic table, which is empty";
    BlockHuffman: QpackDecompressionFailed, Connection, "RFC 7541 section 5.2",
        "string with a broken Huffman code";
    BlockInteger: QpackDecompressionFailed, Connection, "RFC 9204 section 4.1.1",
        "field section with an integer above 62 bits";
    BlockStaticIndex: QpackDecompressionFailed, Connection, "RFC 9204 section 3.1",
        "index beyond the static table";
    BlockTruncated: QpackDecompressionFailed, Connection, "RFC 9204 section 4.5",
        "field section that is cut off";

    // Load.
    BlocksInPieces: ExcessiveLoad, Connection, "RFC 9114 section 10.5",
        "too many bytes of unfinished header sections";
    FieldSectionTooLarge: ExcessiveLoad, Stream, "RFC 9114 section 4.2.2",
        "field section larger than announced";
    FieldsTooMany: ExcessiveLoad, Stream, "RFC 9114 section 10.5.1",
        "too many fields in a section";
    Glitches: ExcessiveLoad, Connection, "RFC 9114 section 10.5",
        "too much that costs more than it carries";
    SettingsTooMany: ExcessiveLoad, Connection, "RFC 9114 section 10.5",
        "too many settings";

    // Datagrams.
    DatagramStream: DatagramError, Connection, "RFC 9297 section 2.1",
        "HTTP datagram for an impossible stream";
    DatagramTruncated: DatagramError, Connection, "RFC 9297 section 2.1",
        "HTTP datagram without a whole stream number";

    // Requests that come too late, are too many, or end too early.
    RequestAfterGoAway: RequestRejected, Stream, "RFC 9114 section 5.2",
        "request after our GOAWAY";
    RequestsTooMany: RequestRejected, Stream, "RFC 9114 section 10.5",
        "too many requests at once";
    RequestCutOff: RequestIncomplete, Stream, "RFC 9114 section 4.1",
        "request that ended before its header section";

    // Malformed messages.
    AuthorityInvalid: MessageError, Stream, "RFC 9114 section 4.3.1",
        "authority that is empty, invalid or has user info";
    AuthorityMismatch: MessageError, Stream, "RFC 9114 section 4.3.1",
        "host that is not the same as :authority";
    AuthorityMissing: MessageError, Stream, "RFC 9114 section 4.3.1",
        "request with neither :authority nor host";
    BodyForbidden: MessageError, Stream, "RFC 9114 section 4.1.2",
        "content in a message that cannot have any";
    BodyTooLong: MessageError, Stream, "RFC 9114 section 4.1.2",
        "more content than content-length says";
    BodyTooShort: MessageError, Stream, "RFC 9114 section 4.1.2",
        "less content than content-length says";
    ContentLengthInvalid: MessageError, Stream, "RFC 9114 section 4.1.2",
        "content-length that is no number, or two that differ";
    FieldConnectionSpecific: MessageError, Stream, "RFC 9114 section 4.2",
        "field that belongs to a connection";
    FieldName: MessageError, Stream, "RFC 9114 section 4.2",
        "field name with uppercase or invalid characters";
    FieldValue: MessageError, Stream, "RFC 9114 section 10.3",
        "field value with invalid characters";
    MethodInvalid: MessageError, Stream, "RFC 9114 section 4.3.1",
        "method that is no token";
    PathInvalid: MessageError, Stream, "RFC 9114 section 4.3.1",
        "path that is empty, relative or has invalid characters";
    PseudoForbidden: MessageError, Stream, "RFC 9114 section 4.3",
        "pseudo-header field that this message may not have";
    PseudoInTrailers: MessageError, Stream, "RFC 9114 section 4.3",
        "pseudo-header field in trailers";
    PseudoLate: MessageError, Stream, "RFC 9114 section 4.3",
        "pseudo-header field after a regular field";
    PseudoMissing: MessageError, Stream, "RFC 9114 section 4.3",
        "message without a mandatory pseudo-header field";
    PseudoTwice: MessageError, Stream, "RFC 9114 section 4.3",
        "the same pseudo-header field twice";
    PseudoUnknown: MessageError, Stream, "RFC 9114 section 4.3",
        "pseudo-header field that is not defined";
    ResponseMissing: MessageError, Stream, "RFC 9114 section 4.1",
        "stream that ended before the final response";
    SchemeInvalid: MessageError, Stream, "RFC 9114 section 4.3.1",
        "scheme that is empty or has invalid characters";
    StatusInvalid: MessageError, Stream, "RFC 9114 section 4.3.2",
        "status that is not three digits from 100 on";
    StatusSwitchingProtocols: MessageError, Stream, "RFC 9114 section 4.5",
        "status 101, which HTTP/3 does not have";
}

impl std::error::Error for Violation {}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.text(), self.section(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_refusals_end_streams_alone() {
        for violation in Violation::ALL {
            let of_stream = matches!(
                violation.code(),
                Code::MessageError | Code::RequestRejected | Code::RequestIncomplete
            );
            if of_stream {
                assert_eq!(violation.scope(), Scope::Stream, "{violation:?}");
            }
        }
        assert_eq!(
            Violation::BodyTooLong.to_string(),
            "more content than content-length says (RFC 9114 section 4.1.2): H3_MESSAGE_ERROR"
        );
    }
}
