//! code lists the error codes of HTTP/3, QPACK and HTTP datagrams, by number and name.

use std::fmt;

/// Why a stream or a connection ends, as the peer sees it: the code of RESET_STREAM, STOP_SENDING
/// and of a CONNECTION_CLOSE by the application.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Code {
    /// H3_DATAGRAM_ERROR, RFC 9297 section 5.2.
    DatagramError,
    /// H3_NO_ERROR, as all below RFC 9114 section 8.1.
    NoError,
    /// H3_GENERAL_PROTOCOL_ERROR
    GeneralProtocolError,
    /// H3_INTERNAL_ERROR
    InternalError,
    /// H3_STREAM_CREATION_ERROR
    StreamCreationError,
    /// H3_CLOSED_CRITICAL_STREAM
    ClosedCriticalStream,
    /// H3_FRAME_UNEXPECTED
    FrameUnexpected,
    /// H3_FRAME_ERROR
    FrameError,
    /// H3_EXCESSIVE_LOAD
    ExcessiveLoad,
    /// H3_ID_ERROR
    IdError,
    /// H3_SETTINGS_ERROR
    SettingsError,
    /// H3_MISSING_SETTINGS
    MissingSettings,
    /// H3_REQUEST_REJECTED: not processed, safe to try again.
    RequestRejected,
    /// H3_REQUEST_CANCELLED
    RequestCancelled,
    /// H3_REQUEST_INCOMPLETE
    RequestIncomplete,
    /// H3_MESSAGE_ERROR
    MessageError,
    /// H3_CONNECT_ERROR
    ConnectError,
    /// H3_VERSION_FALLBACK
    VersionFallback,
    /// QPACK_DECOMPRESSION_FAILED, as both below RFC 9204 section 6.
    QpackDecompressionFailed,
    /// QPACK_ENCODER_STREAM_ERROR
    QpackEncoderStreamError,
    /// QPACK_DECODER_STREAM_ERROR
    QpackDecoderStreamError,
}

impl Code {
    /// Every code.
    pub const ALL: &[Self] = &[
        Self::DatagramError,
        Self::NoError,
        Self::GeneralProtocolError,
        Self::InternalError,
        Self::StreamCreationError,
        Self::ClosedCriticalStream,
        Self::FrameUnexpected,
        Self::FrameError,
        Self::ExcessiveLoad,
        Self::IdError,
        Self::SettingsError,
        Self::MissingSettings,
        Self::RequestRejected,
        Self::RequestCancelled,
        Self::RequestIncomplete,
        Self::MessageError,
        Self::ConnectError,
        Self::VersionFallback,
        Self::QpackDecompressionFailed,
        Self::QpackEncoderStreamError,
        Self::QpackDecoderStreamError,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.entry().0
    }

    /// The name in the registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.entry().1
    }

    /// The code of a number that a peer sent, if it is one of these.
    #[must_use]
    pub fn of(value: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| u64::from(code.value()) == value)
    }

    const fn entry(self) -> (u32, &'static str) {
        match self {
            Self::DatagramError => (0x33, "H3_DATAGRAM_ERROR"),
            Self::NoError => (0x100, "H3_NO_ERROR"),
            Self::GeneralProtocolError => (0x101, "H3_GENERAL_PROTOCOL_ERROR"),
            Self::InternalError => (0x102, "H3_INTERNAL_ERROR"),
            Self::StreamCreationError => (0x103, "H3_STREAM_CREATION_ERROR"),
            Self::ClosedCriticalStream => (0x104, "H3_CLOSED_CRITICAL_STREAM"),
            Self::FrameUnexpected => (0x105, "H3_FRAME_UNEXPECTED"),
            Self::FrameError => (0x106, "H3_FRAME_ERROR"),
            Self::ExcessiveLoad => (0x107, "H3_EXCESSIVE_LOAD"),
            Self::IdError => (0x108, "H3_ID_ERROR"),
            Self::SettingsError => (0x109, "H3_SETTINGS_ERROR"),
            Self::MissingSettings => (0x10a, "H3_MISSING_SETTINGS"),
            Self::RequestRejected => (0x10b, "H3_REQUEST_REJECTED"),
            Self::RequestCancelled => (0x10c, "H3_REQUEST_CANCELLED"),
            Self::RequestIncomplete => (0x10d, "H3_REQUEST_INCOMPLETE"),
            Self::MessageError => (0x10e, "H3_MESSAGE_ERROR"),
            Self::ConnectError => (0x10f, "H3_CONNECT_ERROR"),
            Self::VersionFallback => (0x110, "H3_VERSION_FALLBACK"),
            Self::QpackDecompressionFailed => (0x200, "QPACK_DECOMPRESSION_FAILED"),
            Self::QpackEncoderStreamError => (0x201, "QPACK_ENCODER_STREAM_ERROR"),
            Self::QpackDecoderStreamError => (0x202, "QPACK_DECODER_STREAM_ERROR"),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_belong_together() {
        for code in Code::ALL {
            assert_eq!(Code::of(u64::from(code.value())), Some(*code));
        }
        assert_eq!(Code::of(0x111), None);
        assert_eq!(Code::ExcessiveLoad.to_string(), "H3_EXCESSIVE_LOAD");
    }
}
