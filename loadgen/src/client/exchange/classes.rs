//! classes names what ends in HTTP/3 by its code: who ended what, and why.

use quiclane_http3::{Code, Violation};

macro_rules! classes {
    ($($code:ident: $name:literal,)*) => {
        /// The error class of a response that the server abandoned with `code`.
        pub(super) fn reset_class(code: u64) -> &'static str {
            match Code::of(code) {
                $(Some(Code::$code) => $name,)*
                _ => "reset",
            }
        }

        /// The error class of a connection that the server closed with `code`.
        pub(crate) fn close_class(code: u64) -> &'static str {
            match Code::of(code) {
                $(Some(Code::$code) => concat!("closed_", $name),)*
                _ => "application_close",
            }
        }

        /// The error class of a connection that we closed because of `violation`.
        pub(super) fn violation_class(violation: Violation) -> &'static str {
            match violation.code() {
                $(Code::$code => concat!("violation_", $name),)*
                _ => "violation",
            }
        }
    };
}

classes! {
    DatagramError: "h3_datagram_error",
    NoError: "h3_no_error",
    GeneralProtocolError: "h3_general_protocol_error",
    InternalError: "h3_internal_error",
    StreamCreationError: "h3_stream_creation_error",
    ClosedCriticalStream: "h3_closed_critical_stream",
    FrameUnexpected: "h3_frame_unexpected",
    FrameError: "h3_frame_error",
    ExcessiveLoad: "h3_excessive_load",
    IdError: "h3_id_error",
    SettingsError: "h3_settings_error",
    MissingSettings: "h3_missing_settings",
    RequestRejected: "h3_request_rejected",
    RequestCancelled: "h3_request_cancelled",
    RequestIncomplete: "h3_request_incomplete",
    MessageError: "h3_message_error",
    ConnectError: "h3_connect_error",
    VersionFallback: "h3_version_fallback",
    QpackDecompressionFailed: "qpack_decompression_failed",
    QpackEncoderStreamError: "qpack_encoder_stream_error",
    QpackDecoderStreamError: "qpack_decoder_stream_error",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_classes_after_its_name() {
        for code in Code::ALL {
            let name = code.name().to_lowercase();
            let value = u64::from(code.value());
            assert_eq!(reset_class(value), name);
            assert_eq!(close_class(value), format!("closed_{name}"));
        }
        assert_eq!((reset_class(7), close_class(7)), ("reset", "application_close"));
        for violation in Violation::ALL {
            let name = violation.code().name().to_lowercase();
            assert_eq!(violation_class(*violation), format!("violation_{name}"));
        }
    }
}
