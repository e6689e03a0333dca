//! hint says what a user may try when a run failed, by the flag or command that helps.

use std::net::SocketAddr;

use quiclane_loadgen::{Ending, Report};

use super::LoadArgs;
use super::protocol::Speaks;

/// The hint for `report`, if there is something to try.
pub(super) fn hint(report: &Report, args: &LoadArgs, addresses: &[SocketAddr]) -> Option<String> {
    let failed = |class: &str| report.errors.by_class.contains_key(class);
    if failed("tls") {
        let errors = report.detail.handshake_errors.iter();
        let why = errors.filter(|error| error.class == "tls").find_map(|e| e.example.as_deref());
        let name = args.trust.sni.as_deref().unwrap_or_else(|| args.url().name());
        let speaks = args.protocol.speaks(args.url()).ok()?;
        let alpn = args.protocol.alpn(speaks);
        return Some(tls(why.unwrap_or_default(), name, speaks, alpn));
    }
    if failed("connect_error") {
        let errors = report.detail.handshake_errors.iter();
        let why = errors.filter(|error| error.class == "connect_error");
        // It ends with the remedy.
        return why.into_iter().find_map(|error| error.example.clone());
    }
    if report.ending != Ending::NothingConnected {
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
