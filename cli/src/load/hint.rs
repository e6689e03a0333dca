//! hint says what a user may try when a run failed, by the flag or command that helps.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use quiclane_loadgen::{ClassCount, Ending, Report};

use super::LoadArgs;
use super::protocol::{ProtocolOptions, Speaks};
use super::trust::TrustOptions;
use crate::target::Url;

/// What went wrong.
pub(super) struct Trouble<'a> {
    /// Everything that failed, by class.
    pub(super) by_class: &'a BTreeMap<String, u64>,
    /// Failed handshakes.
    pub(super) handshakes: &'a [ClassCount],
    /// Whether there never was a connection.
    pub(super) is_deserted: bool,
}

/// What was asked for.
pub(super) struct Asked<'a> {
    /// Of whom.
    pub(super) url: &'a Url,
    /// Where the name of the URL leads.
    pub(super) addresses: &'a [SocketAddr],
    /// How it is spoken.
    pub(super) protocol: &'a ProtocolOptions,
    /// Whom to trust.
    pub(super) trust: &'a TrustOptions,
}

/// The hint for `report`, if there is something to try.
pub(super) fn hint(report: &Report, args: &LoadArgs, addresses: &[SocketAddr]) -> Option<String> {
    let trouble = Trouble {
        by_class: &report.errors.by_class,
        handshakes: &report.detail.handshake_errors,
        is_deserted: report.ending == Ending::NothingConnected,
    };
    let LoadArgs { protocol, trust, .. } = args;
    remedy(&trouble, &Asked { url: args.url(), addresses, protocol, trust })
}

/// What helps against `trouble`, if there is something to try.
pub(super) fn remedy(trouble: &Trouble<'_>, asked: &Asked<'_>) -> Option<String> {
    let Asked { url, addresses, protocol, trust } = *asked;
    let failed = |class: &str| trouble.by_class.contains_key(class);
    let mut errors = trouble.handshakes.iter();
    if failed("tls") {
        let why = errors.filter(|error| error.class == "tls").find_map(|e| e.example.as_deref());
        let name = trust.sni.as_deref().unwrap_or_else(|| url.name());
        let speaks = protocol.speaks(url).ok()?;
        return Some(tls(why.unwrap_or_default(), name, speaks, protocol.alpn(speaks)));
    }
    if failed("connect_error") {
        // It ends with the remedy.
        let why = errors.find(|error| error.class == "connect_error");
        return why.and_then(|error| error.example.clone());
    }
    if !trouble.is_deserted {
        return None;
    }
    let mut hint = if failed("port_unreachable") {
        format!("nothing listens on UDP {}: start the server, or correct the URL", addresses[0])
    } else {
        format!("is a QUIC server listening on UDP {}?", addresses[0])
    };
    if let [_, others @ ..] = addresses
        && !others.is_empty()
    {
        let others: Vec<String> = others.iter().map(|other| format!("UDP {other}")).collect();
        hint = format!("{hint}; the name also stands for {}", others.join(", "));
    }
    Some(hint)
}

/// What helps against a TLS handshake that failed because of `why`, with the server called `name`.
fn tls(why: &str, name: &str, speaks: Speaks, alpn: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["CaUsedAsEndEntity"]) {
        return "the server's own certificate is marked as one of an authority (CA:TRUE), as \
                `openssl req -x509` makes them: make it again with -addext \
                basicConstraints=critical,CA:FALSE, or give -k for a server of your own"
            .into();
    }
    if says(&["not valid for name", "NotValidForName"]) {
        return format!(
            "the server's certificate is not for {name:?}: give --sni NAME with a name that it is \
             for, or -k for a server of your own"
        );
    }
    if says(&["certificate expired", "Expired"]) {
        return "the server's certificate has expired: renew it, check this host's clock (`date`), \
                or give -k for a server of your own"
            .into();
    }
    if says(&["not valid yet", "NotValidYet"]) {
        return "the server's certificate is not valid yet: check the clocks of both hosts \
                (`date`), or give -k for a server of your own"
            .into();
    }
    if says(&["UnknownIssuer"]) {
        return "the server's certificate comes from nobody who is trusted here: give --cacert \
                FILE with the certificate of its issuer (its own if it is self-signed), or -k for \
                a server of your own"
            .into();
    }
    // Alert 120 in a CONNECTION_CLOSE: RFC 9001 section 4.8.
    if says(&["0x178", "known protocol"]) {
        return match speaks {
            Speaks::Http3 => format!(
                "the server does not speak HTTP/3 (ALPN {alpn}): switch it on there, or load a \
                 server that does"
            ),
            Speaks::Perf if alpn == "perf" => {
                "the server does not speak ALPN perf: start `quiclane serve --alpn \
                             perf` there, or another server of draft-banks-quic-performance"
                    .into()
            }
            _ => format!(
                "the server does not speak ALPN {alpn}: switch it on there (`quiclane serve --alpn \
                 NAME`), load a server that does, or give the name that it has there with --alpn"
            ),
        };
    }
    format!(
        "the TLS handshake failed: for a certificate that this system does not trust give --cacert \
         FILE, or -k for a server of your own; the server must offer ALPN {alpn}"
    )
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, Error};

    use super::*;

    /// rustls may change its words with any version: then this says so.
    #[test]
    fn every_reason_of_rustls_has_its_remedy() {
        for (reason, remedy) in [
            (CertificateError::NotValidForName, "--sni"),
            (CertificateError::Expired, "expired"),
            (CertificateError::NotValidYet, "not valid yet"),
            (CertificateError::UnknownIssuer, "--cacert FILE"),
        ] {
            let why = Error::InvalidCertificate(reason).to_string();
            let hint = tls(&why, "host", Speaks::Perf, "perf");
            assert!(hint.contains(remedy) && hint.contains("-k"), "{why}: {hint}");
        }
        let why = Error::NoApplicationProtocol.to_string();
        for (speaks, alpn, said) in [
            (Speaks::Perf, "perf", "--alpn perf"),
            (Speaks::Perf, "perf-2", "ALPN perf-2:"),
            (Speaks::Http3, "h3", "ALPN h3)"),
            (Speaks::Hq, "hq-interop", "ALPN hq-interop:"),
            (Speaks::Raw, "x", "ALPN x:"),
        ] {
            let hint = tls(&why, "host", speaks, alpn);
            assert!(hint.contains(said), "{hint}");
            assert!(tls("something new", "host", speaks, alpn).contains("--cacert FILE"));
        }
    }
}
