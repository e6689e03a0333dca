//! metrics answers Prometheus: one small HTTP/1 exchange at a time, on a thread of its own.
//!
//! Invariant: whatever a client sends or does not send, it holds the thread for at most
//! three times [`PATIENCE`] and [`REQUEST_BYTES_MAX`] bytes.

use std::io::ErrorKind::AddrInUse;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use quiclane::clock;

use crate::exit::Failure;

/// An address that is ready to answer.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsServer {
    /// Takes `address`, so that it fails before anything else has started.
    ///
    /// A process that was just killed, whose place this one takes, has it for a moment still.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let failure = |source| Failure::Metrics { address, source };
        let mut waited = Duration::ZERO;
        let listener = loop {
            match TcpListener::bind(address) {
                Err(error) if error.kind() == AddrInUse && waited < TAKE_OVER => {
                    thread::sleep(TAKE_OVER_INTERVAL);
                    waited += TAKE_OVER_INTERVAL;
                }
                listener => break listener.map_err(failure)?,
            }
        };
        let address = listener.local_addr().map_err(failure)?;
        Ok(Self { listener, address })
    }

    /// The address with its real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with `text`, for the rest of the process's life.
    pub(crate) fn serve(self, text: impl Fn() -> String + Send + 'static) -> Result<(), Failure> {
        let address = self.address;
        thread::Builder::new()
            .name("quiclane-metrics".into())
            .spawn(move || {
                for client in self.listener.incoming() {
                    match client {
                        // A client that went away has lost only its own answer.
                        Ok(client) => drop(answer(&client, &text)),
                        // Out of files, for example: do not spin until that is over.
                        Err(_) => thread::sleep(PATIENCE),
                    }
                }
            })
            .map(drop)
            .map_err(|source| Failure::Metrics { address, source })
    }
}

fn answer(mut client: &TcpStream, text: impl Fn() -> String) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    // One client that sends a byte now and then must not keep the others waiting.
    let deadline = clock::now() + PATIENCE;
    let mut request = [0; REQUEST_BYTES_MAX];
    let mut length = 0;
    while !request[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut request[length..])? {
            0 => return Ok(()),
            read if clock::now() < deadline => length += read,
            _ => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    let response = respond(&request[..length], text);
    client.write_all(response.as_bytes())
}

/// The response to the head of a request.
fn respond(request: &[u8], text: impl FnOnce() -> String) -> String {
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        (b"GET" | b"HEAD", b"/metrics") => ("200 OK", text()),
        (b"GET" | b"HEAD", _) => ("404 Not Found", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "GET /metrics\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    if method == b"HEAD" { head } else { head + &body }
}

/// How long a client may take to send or take the next bytes.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest head of a request; Prometheus sends about 300 bytes.
const REQUEST_BYTES_MAX: usize = 4_096;

/// How long the end of a process takes that was killed just before.
const TAKE_OVER: Duration = Duration::from_secs(2);
const TAKE_OVER_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metrics_are_served() {
        let answer = |request: &str| respond(request.as_bytes(), || "up 1\n".into());
        assert!(answer("GET /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nup 1\n"));
        assert!(answer("GET /metrics?x=y HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
        assert!(answer("HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(answer("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(answer("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(answer("\r\n\r\n").starts_with("HTTP/1.1 405 "));
    }
}
