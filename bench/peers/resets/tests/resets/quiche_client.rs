//! quiche_client is quiche with its own BoringSSL.
//!
//! quiche has no error for a reset: it closes the connection at once, without an error of either
//! side and without calling it timed out, and says in its log that it was a stateless reset. It
//! knows the token of the transport parameters alone, so the connection keeps its first ID.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};

use crate::Client;
use crate::server::Certificate;

pub(crate) struct Quiche {
    connection: quiche::Connection,
    socket: UdpSocket,
    local: SocketAddr,
}

impl Client for Quiche {
    fn connect(certificate: &Certificate, server: SocketAddr) -> Self {
        listen_to_its_log();
        let socket = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).unwrap();
        let local = socket.local_addr().unwrap();
        let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).unwrap();
        config.set_application_protos(&[b"perf"]).unwrap();
        config.load_verify_locations_from_file(certificate.path().to_str().unwrap()).unwrap();
        config.verify_peer(true);
        config.set_max_idle_timeout(60_000);
        config.set_initial_max_data(100_000);
        config.set_initial_max_stream_data_bidi_local(100_000);
        let id: [u8; quiche::MAX_CONN_ID_LEN] = std::array::from_fn(|_| fastrand::u8(..));
        let id = quiche::ConnectionId::from_ref(&id);
        let connection =
            quiche::connect(Some("localhost"), &id, local, server, &mut config).unwrap();
        let mut client = Self { connection, socket, local };
        client.until(|connection| connection.is_established());
        client.ask(0);
        let (mut answer, mut buffer) = (0, [0; 2_000]);
        client.until(|connection| {
            while let Ok((length, _)) = connection.stream_recv(0, &mut buffer) {
                answer += length;
            }
            answer == 1_000
        });
        client
    }

    fn expect_reset(mut self) {
        self.ask(4);
        self.until(|connection| connection.is_closed());
        assert!(!self.connection.is_timed_out(), "a timeout is no reset");
        assert_eq!((self.connection.peer_error(), self.connection.local_error()), (None, None));
        let words = format!("{} packet is a stateless reset", self.connection.trace_id());
        assert!(LOG.0.lock().unwrap().contains(&words), "{words}");
    }
}

impl Quiche {
    /// Asks for 1,000 bytes.
    fn ask(&mut self, stream: u64) {
        let request = 1_000_u64.to_be_bytes();
        assert_eq!(self.connection.stream_send(stream, &request, true), Ok(request.len()));
    }

    /// Sends and receives until `done`.
    fn until(&mut self, mut done: impl FnMut(&mut quiche::Connection) -> bool) {
        let mut buffer = [0; 65_536];
        let deadline = Instant::now() + PATIENCE;
        while !done(&mut self.connection) {
            assert!(Instant::now() < deadline, "{:?}", self.connection.stats());
            while let Ok((length, info)) = self.connection.send(&mut buffer) {
                // Nobody may be there; quiche then sends it again.
                let _ = self.socket.send_to(&buffer[..length], info.to);
            }
            let wait = self.connection.timeout().unwrap_or(PATIENCE);
            let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(50));
            self.socket.set_read_timeout(Some(wait)).unwrap();
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let info = quiche::RecvInfo { from, to: self.local };
                    assert_eq!(self.connection.recv(&mut buffer[..length], info), Ok(length));
                }
                Err(error) => {
                    let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    self.connection.on_timeout();
                }
            }
        }
    }
}

/// What quiche said about resets.
struct Said(Mutex<Vec<String>>);

impl Log for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("quiche")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = record.args().to_string();
            if line.ends_with("stateless reset") {
                self.0.lock().unwrap().push(line);
            }
        }
    }

    fn flush(&self) {}
}

fn listen_to_its_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
}

static LOG: Said = Said(Mutex::new(Vec::new()));

/// Less than its idle timeout.
const PATIENCE: Duration = Duration::from_secs(10);
