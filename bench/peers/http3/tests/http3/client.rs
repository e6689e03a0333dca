//! client is quiche with its own HTTP/3 and BoringSSL, on one thread.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quiche::h3::{self, Event, Header, NameValue as _};

use crate::server::Server;

/// A connection to a server.
pub(crate) struct Client {
    pub(crate) connection: quiche::Connection,
    http: Option<h3::Connection>,
    socket: UdpSocket,
    local: SocketAddr,
    buffer: Vec<u8>,
    answers: HashMap<u64, Answer>,
    uploads: Vec<Upload>,
    /// The last GOAWAY.
    pub(crate) go_away: Option<u64>,
}

/// What came of a response.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) head: Option<Fields>,
    pub(crate) trailers: Option<Fields>,
    pub(crate) content: Vec<u8>,
    /// Of content, kept or not.
    pub(crate) bytes: u64,
    is_kept: bool,
    /// How it ended: well, or by a reset with this code.
    end: Option<Result<(), u64>>,
}

/// Field lines.
pub(crate) type Fields = Vec<(String, String)>;

/// A request whose content is on its way.
struct Upload {
    stream: u64,
    content: Vec<u8>,
    sent: usize,
    trailers: Vec<Header>,
}

impl Answer {
    /// The only value of `name`, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        let head = self.head.as_ref().unwrap();
        head.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }
}

impl Client {
    pub(crate) fn connect(server: &Server) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).unwrap();
        config.set_application_protos(h3::APPLICATION_PROTOCOL).unwrap();
        config.load_verify_locations_from_file(server.certificate().to_str().unwrap()).unwrap();
        config.verify_peer(true);
        config.set_max_idle_timeout(60_000);
        config.set_initial_max_data(10_000_000);
        config.set_initial_max_stream_data_bidi_local(1_000_000);
        config.set_initial_max_stream_data_uni(100_000);
        config.set_initial_max_streams_uni(10);
        let id: [u8; quiche::MAX_CONN_ID_LEN] = std::array::from_fn(|_| fastrand::u8(..));
        let id = quiche::ConnectionId::from_ref(&id);
        let to = server.address;
        let connection = quiche::connect(Some("localhost"), &id, local, to, &mut config).unwrap();
        let mut client = Self {
            connection,
            http: None,
            socket,
            local,
            buffer: vec![0; 65_536],
            answers: HashMap::new(),
            uploads: Vec::new(),
            go_away: None,
        };
        client.until(|client| client.connection.is_established());
        let config = h3::Config::new().unwrap();
        client.http = h3::Connection::with_transport(&mut client.connection, &config).ok();
        assert!(client.http.is_some());
        client
    }

    /// Begins a request without content; the number of its stream.
    pub(crate) fn begin(&mut self, method: &str, path: &str) -> u64 {
        self.send_head(method, path, true, true)
    }

    /// The same without keeping what comes.
    pub(crate) fn begin_bulk(&mut self, path: &str) -> u64 {
        self.send_head("GET", path, true, false)
    }

    /// Begins a request with content, and trailers if there are any.
    pub(crate) fn begin_upload(
        &mut self,
        path: &str,
        content: Vec<u8>,
        trailers: &[(&str, &str)],
    ) -> u64 {
        let stream = self.send_head("POST", path, false, true);
        let trailers = trailers
            .iter()
            .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
            .collect();
        self.uploads.push(Upload { stream, content, sent: 0, trailers });
        stream
    }

    /// Waits for the end of a response; or the code that the stream was reset with.
    pub(crate) fn answer(&mut self, stream: u64) -> Result<Answer, u64> {
        self.until(|client| client.answers[&stream].end.is_some());
        let answer = self.answers.remove(&stream).unwrap();
        answer.end.unwrap().map(|()| answer)
    }

    /// Asks for something and waits for it.
    pub(crate) fn ask(&mut self, method: &str, path: &str) -> Answer {
        let stream = self.begin(method, path);
        self.answer(stream).unwrap()
    }

    /// How much of a response's content has come.
    pub(crate) fn bytes(&self, stream: u64) -> u64 {
        self.answers[&stream].bytes
    }

    /// Gives a request up.
    pub(crate) fn cancel(&mut self, stream: u64) {
        self.connection.stream_shutdown(stream, quiche::Shutdown::Read, CANCELLED).unwrap();
        self.answers.remove(&stream);
    }

    fn send_head(&mut self, method: &str, path: &str, is_all: bool, is_kept: bool) -> u64 {
        let fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
            ("user-agent", "quiche"),
        ];
        let fields = fields.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
        let mut stream = None;
        self.until(|client| {
            let http = client.http.as_mut().unwrap();
            match http.send_request(&mut client.connection, &fields, is_all) {
                Ok(number) => stream = Some(number),
                // Before the server allows more streams.
                Err(h3::Error::StreamBlocked) => {}
                Err(error) => panic!("{method} {path}: {error}"),
            }
            stream.is_some()
        });
        let stream = stream.unwrap();
        self.answers.insert(stream, Answer { is_kept, ..Answer::default() });
        stream
    }

    /// Sends and receives until `done`.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let mut deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{:?}", self.connection.stats());
            assert!(!self.connection.is_closed(), "{:?}", self.connection.peer_error());
            if self.turn() {
                deadline = Instant::now() + PATIENCE;
            }
        }
    }

    /// Whether anything came.
    pub(crate) fn turn(&mut self) -> bool {
        self.upload();
        while let Ok((length, info)) = self.connection.send(&mut self.buffer) {
            self.socket.send_to(&self.buffer[..length], info.to).unwrap();
        }
        let wait = self.connection.timeout().unwrap_or(PATIENCE);
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(50));
        self.socket.set_nonblocking(false).unwrap();
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut received = 0;
        while received < RECEIVED_MAX {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    let info = quiche::RecvInfo { from, to: self.local };
                    // What comes after the end is not for it any more.
                    let _ = self.connection.recv(&mut self.buffer[..length], info);
                    received += 1;
                }
                Err(error) => {
                    let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    break;
                }
            }
            self.socket.set_nonblocking(true).unwrap();
        }
        if received == 0 {
            self.connection.on_timeout();
        }
        self.receive();
        received > 0
    }

    fn upload(&mut self) {
        let (Some(http), connection) = (&mut self.http, &mut self.connection) else { return };
        self.uploads.retain_mut(|upload| {
            let Upload { stream, content, sent, trailers } = upload;
            if *sent < content.len() {
                let is_last = trailers.is_empty();
                match http.send_body(connection, *stream, &content[*sent..], is_last) {
                    Ok(bytes) => *sent += bytes,
                    Err(h3::Error::Done) => {}
                    Err(error) => panic!("{error}"),
                }
                return *sent < content.len() || !is_last;
            }
            match http.send_additional_headers(connection, *stream, trailers, true, true) {
                Ok(()) => false,
                Err(h3::Error::StreamBlocked) => true,
                Err(error) => panic!("{error}"),
            }
        });
    }

    fn receive(&mut self) {
        let Some(http) = &mut self.http else { return };
        loop {
            let (stream, event) = match http.poll(&mut self.connection) {
                Ok(event) => event,
                Err(h3::Error::Done) => return,
                Err(error) => panic!("{error}"),
            };
            if let Event::GoAway = event {
                self.go_away = Some(stream);
            }
            // One that was cancelled has none.
            let Some(answer) = self.answers.get_mut(&stream) else { continue };
            match event {
                Event::Headers { list, .. } if answer.head.is_none() => {
                    answer.head = Some(fields(&list));
                }
                Event::Headers { list, .. } => answer.trailers = Some(fields(&list)),
                Event::Data => {
                    while let Ok(bytes) =
                        http.recv_body(&mut self.connection, stream, &mut self.buffer)
                    {
                        answer.bytes += bytes as u64;
                        if answer.is_kept {
                            answer.content.extend_from_slice(&self.buffer[..bytes]);
                        }
                    }
                }
                Event::Finished => answer.end = Some(Ok(())),
                Event::Reset(code) => answer.end = Some(Err(code)),
                Event::GoAway | Event::PriorityUpdate => {}
            }
        }
    }
}

fn fields(list: &[Header]) -> Fields {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    list.iter().map(|field| (text(field.name()), text(field.value()))).collect()
}

/// Without anything coming; less than its idle timeout.
const PATIENCE: Duration = Duration::from_secs(20);

/// Packets that are received before the next are sent.
const RECEIVED_MAX: usize = 32;

/// `H3_REQUEST_CANCELLED`.
const CANCELLED: u64 = 0x10c;
