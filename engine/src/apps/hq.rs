//! hq serves files by HTTP/0.9 over QUIC, the `hq-interop` protocol of the QUIC interop runner.
//!
//! ```text
//! "GET /path\r\n" ─► file of the root ─► its bytes ─► FIN
//!        └─ malformed, missing, unreadable ─► RESET_STREAM: 0.9 has no status
//! ```
//!
//! Paths are plain UTF-8, not percent-encoded; a folder stands for its `index.html`. A request
//! ends with its line or with the stream; whatever follows is thrown away. `/bytes/N` is N zeroes,
//! with a root or without.
//!
//! Of a file 64 KiB are read at a time, and only when the last piece was taken by flow control.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem;

use bytes::Bytes;

use super::generated;
use super::root::{self, PIECE_BYTES, Root};
use super::tables::{ConnTable, Reuse, StreamTable, WorkList};
use crate::app::{App, CloseReason, Conn, ConnId, Dir, Lane, Read, StreamId, VarInt, WriteError};

/// Choices of an [`Hq`] server.
#[derive(Clone, Debug)]
pub struct HqOptions {
    /// The longest request line in bytes. Default 4 KiB, the longest path Linux knows.
    pub request_bytes_max: usize,
    /// Files open at once per connection; further requests wait their turn. Default 8: enough to
    /// keep a connection busy. Each holds a file descriptor and up to 64 KiB of unsent data.
    pub files_max: usize,
    /// The largest `/bytes/N`. Default 16 GiB, as with the perf protocol.
    pub response_bytes_max: u64,
}

impl Default for HqOptions {
    fn default() -> Self {
        Self { request_bytes_max: 4 << 10, files_max: 8, response_bytes_max: 16 << 30 }
    }
}

/// The server of the `hq-interop` protocol.
#[derive(Debug)]
pub struct Hq {
    root: Option<Root>,
    options: HqOptions,
    connections: ConnTable<Connection>,
    work: WorkList,
}

impl Hq {
    /// The protocol's ALPN name.
    pub const ALPN: &[u8] = b"hq-interop";
    /// The reset code for a request that is no `GET /path`, or too long.
    pub const MALFORMED: VarInt = VarInt::from_u32(0x1);
    /// The reset code for a file that is not there, not regular, or not for us to read.
    pub const NOT_FOUND: VarInt = VarInt::from_u32(0x2);
    /// The reset code for a file that cannot be read, or not now.
    pub const FAILED: VarInt = VarInt::from_u32(0x3);
    /// The reset code for a request that the client itself abandoned.
    pub const CANCELLED: VarInt = VarInt::from_u32(0x4);

    /// A server for one worker. Without a root there is only `/bytes/N`.
    #[must_use]
    pub fn new(root: Option<Root>, options: HqOptions) -> Self {
        Self { root, options, connections: ConnTable::new(), work: WorkList::default() }
    }

    /// Does a piece of the work that `stream` has, and notes if more is left.
    fn visit(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        let Some(state) = connection.streams.get(stream) else { return };
        let received = state.receive(conn, stream, self.options.request_bytes_max);
        let sent = state.send(conn, stream);
        for refusal in [received, sent].iter().filter_map(|step| step.err()) {
            state.refuse(conn, stream, refusal.code());
        }
        if received == Ok(Step::More) || sent == Ok(Step::More) {
            self.work.push(conn.id(), stream, &mut state.queued);
        }
        if matches!(state.response, Response::Awaited) && state.line.is_complete {
            state.response = Response::Waiting;
            connection.waiting.push_back(stream);
        }
        if received.is_err() || sent.is_err() || sent == Ok(Step::Done) {
            connection.end_response(stream);
        }
        connection.forget_if_over(stream);
        self.open_waiting(conn);
    }

    /// Opens the files of the requests that wait, as many as may be open at once.
    fn open_waiting(&mut self, conn: &mut Conn<'_>) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        while connection.files < self.options.files_max {
            let Some(stream) = connection.waiting.pop_front() else { break };
            let Some(state) = connection.streams.get(stream) else { continue };
            let path = state.line.path();
            match path.and_then(|path| find(self.root.as_ref(), path, &self.options)) {
                Ok((file, bytes)) => {
                    state.line.bytes = Vec::new();
                    state.response = Response::File(Sending { file, bytes, piece: Bytes::new() });
                    connection.files += 1;
                    self.work.push(conn.id(), stream, &mut state.queued);
                }
                Err(refusal) => {
                    state.refuse(conn, stream, refusal.code());
                    connection.end_response(stream);
                    connection.forget_if_over(stream);
                }
            }
        }
    }
}

impl App for Hq {
    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if stream.dir() == Dir::Uni {
            // An error would say that the client gave up first.
            let _ = conn.stop(stream, Self::MALFORMED);
            return;
        }
        self.connections.open(conn.id()).streams.insert(stream, Stream::default());
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.visit(conn, stream);
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        // Not served here: quinn-proto tells the stream that was blocked last first, which would
        // take all there is. Once all are on the list, all get their share.
        if let Some(connection) = self.connections.get(conn.id())
            && let Some(state) = connection.streams.get(stream)
        {
            self.work.push(conn.id(), stream, &mut state.queued);
        }
    }

    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        // Also when the file was written to its end: what was lost of it is wanted no more.
        let _ = conn.reset(stream, code);
        if let Some(connection) = self.connections.get(conn.id()) {
            connection.end_response(stream);
            connection.forget_if_over(stream);
            self.open_waiting(conn);
        }
    }

    fn closed(&mut self, id: ConnId, _: &CloseReason) {
        self.connections.close(id);
    }

    fn turn(&mut self, lane: &mut Lane<'_>) {
        for _ in 0..self.work.visits() {
            let Some((id, stream)) = self.work.pop() else { break };
            let Some(connection) = self.connections.get(id) else { continue };
            let Some(state) = connection.streams.get(stream) else { continue };
            state.queued = false;
            if let Some(mut conn) = lane.conn(id) {
                self.visit(&mut conn, stream);
            }
        }
        self.work.rest(lane);
    }
}

/// What one connection has open.
#[derive(Debug, Default)]
struct Connection {
    streams: StreamTable<Stream>,
    /// Streams whose file has to wait until another is closed.
    waiting: VecDeque<StreamId>,
    /// Open files.
    files: usize,
}

impl Connection {
    fn end_response(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get(stream) else { return };
        match mem::replace(&mut state.response, Response::Over) {
            Response::File(_) => self.files -= 1,
            Response::Waiting => self.waiting.retain(|waiting| *waiting != stream),
            Response::Awaited | Response::Over => {}
        }
    }

    fn forget_if_over(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get(stream) else { return };
        if !state.receiving && matches!(state.response, Response::Over) {
            self.streams.remove(stream);
        }
    }
}

impl Reuse for Connection {
    fn clear(&mut self) {
        self.streams.clear();
        self.waiting.clear();
        self.files = 0;
    }
}

#[derive(Debug)]
struct Stream {
    line: Line,
    /// Whether the client may still send.
    receiving: bool,
    response: Response,
    /// Whether it is on the work list.
    queued: bool,
}

impl Default for Stream {
    fn default() -> Self {
        let (line, response) = (Line::default(), Response::Awaited);
        Self { line, receiving: true, response, queued: false }
    }
}

#[derive(Debug)]
enum Response {
    /// The request is not complete.
    Awaited,
    /// The request is complete; its file waits until it may be opened.
    Waiting,
    File(Sending),
    Over,
}

/// A file on its way.
#[derive(Debug)]
struct Sending {
    /// Without one the content is generated.
    file: Option<File>,
    /// What is not read yet, of the length it had when it was opened.
    bytes: u64,
    /// What is read but not written.
    piece: Bytes,
}

/// How far a visit got in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Nothing more before the next event.
    Blocked,
    More,
    Done,
}

impl Stream {
    /// Takes in what the client sends.
    fn receive(
        &mut self,
        conn: &mut Conn<'_>,
        stream: StreamId,
        bytes_max: usize,
    ) -> Result<Step, Refusal> {
        if !self.receiving {
            return Ok(Step::Done);
        }
        let awaited = matches!(self.response, Response::Awaited);
        let line = &mut self.line;
        let outcome = conn.read(stream, VISIT_BYTES_MAX, |chunk| line.take(&chunk, bytes_max));
        if awaited && line.is_too_long {
            return Err(Refusal::Malformed);
        }
        match outcome {
            Ok(Read::More) => return Ok(Step::More),
            Ok(Read::Blocked) => return Ok(Step::Blocked),
            Ok(Read::Finished) => line.is_complete = true,
            Ok(Read::Reset(_)) | Err(_) if awaited && !line.is_complete => {
                self.receiving = false;
                return Err(Refusal::Cancelled);
            }
            // The request was complete, so the client only spared itself the FIN.
            Ok(Read::Reset(_)) | Err(_) => {}
        }
        self.receiving = false;
        Ok(Step::Done)
    }

    /// Writes a piece of the file. `Done` once, after its end.
    fn send(&mut self, conn: &mut Conn<'_>, stream: StreamId) -> Result<Step, Refusal> {
        let Response::File(sending) = &mut self.response else { return Ok(Step::Blocked) };
        let mut budget = VISIT_BYTES_MAX;
        while budget > 0 {
            if sending.piece.is_empty() {
                if sending.bytes == 0 {
                    // Fails only if the client stopped the stream, which `stopped` hears too.
                    let _ = conn.finish(stream);
                    return Ok(Step::Done);
                }
                sending.read()?;
            }
            match conn.write(stream, &mut sending.piece) {
                Ok(written) => budget = budget.saturating_sub(written),
                Err(WriteError::Blocked) => return Ok(Step::Blocked),
                Err(_) => return Err(Refusal::Cancelled),
            }
        }
        Ok(Step::More)
    }

    /// Ends both sides with `code`. An error says that a side is over already.
    fn refuse(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        let _ = conn.reset(stream, code);
        if mem::replace(&mut self.receiving, false) {
            let _ = conn.stop(stream, code);
        }
    }
}

impl Sending {
    /// Reads the next piece.
    fn read(&mut self) -> Result<(), Refusal> {
        self.piece = match &self.file {
            Some(file) => root::piece(file, &mut self.bytes)?,
            None => {
                let piece = generated::zeroes(self.bytes);
                self.bytes -= piece.len() as u64;
                piece
            }
        };
        Ok(())
    }
}

/// The request line as far as it has come.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    is_complete: bool,
    is_too_long: bool,
}

impl Line {
    /// Takes `chunk` up to the end of the line.
    fn take(&mut self, chunk: &[u8], bytes_max: usize) {
        if self.is_complete || self.is_too_long {
            return;
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        self.is_too_long = part.len() > bytes_max - self.bytes.len().min(bytes_max);
        if !self.is_too_long {
            self.bytes.extend_from_slice(part);
            self.is_complete = end.is_some();
        }
    }

    /// The path that a complete line asks for.
    fn path(&self) -> Result<&str, Refusal> {
        let line = self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes);
        let path = line.strip_prefix(b"GET /").ok_or(Refusal::Malformed)?;
        str::from_utf8(path).map_err(|_| Refusal::Malformed)
    }
}

/// What a path, without the slash at its front, stands for, and how long that is.
fn find(
    root: Option<&Root>,
    path: &str,
    options: &HqOptions,
) -> Result<(Option<File>, u64), Refusal> {
    if let Some(bytes) = path.strip_prefix("bytes/").and_then(|n| generated::size(n.as_bytes())) {
        let allowed = bytes <= options.response_bytes_max;
        return if allowed { Ok((None, bytes)) } else { Err(Refusal::NotFound) };
    }
    let path = root::relative(path.as_bytes()).ok_or(Refusal::Malformed)?;
    let root = root.ok_or(Refusal::NotFound)?;
    let (mut file, mut metadata) = root.file(&path)?;
    if metadata.is_dir() {
        (file, metadata) = root.file(&[&path[..], b"/index.html"].concat())?;
    }
    if metadata.is_file() { Ok((Some(file), metadata.len())) } else { Err(Refusal::NotFound) }
}

/// Why a request gets no file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refusal {
    Malformed,
    NotFound,
    Failed,
    Cancelled,
}

impl Refusal {
    fn code(self) -> VarInt {
        match self {
            Self::Malformed => Hq::MALFORMED,
            Self::NotFound => Hq::NOT_FOUND,
            Self::Failed => Hq::FAILED,
            Self::Cancelled => Hq::CANCELLED,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput => Self::NotFound,
            // Out of file descriptors or memory, or the disk is at fault.
            _ => Self::Failed,
        }
    }
}

/// What is read and written at most in one visit: four pieces.
const VISIT_BYTES_MAX: usize = 4 * PIECE_BYTES;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn line(chunks: &[&[u8]], bytes_max: usize) -> Line {
        let mut line = Line::default();
        for chunk in chunks {
            line.take(chunk, bytes_max);
        }
        line
    }

    #[test]
    fn a_request_ends_with_its_line() {
        let request = line(&[b"GE", b"T /a/b", b".txt\r", b"\nGET /c\r\n"], 100);
        assert!(request.is_complete && !request.is_too_long);
        assert_eq!(request.path(), Ok("a/b.txt"));
        assert_eq!(line(&[b"GET /\n"], 100).path(), Ok(""));
        assert!(!line(&[b"GET /a"], 100).is_complete);
    }

    #[test]
    fn a_request_is_bounded() {
        assert!(!line(&[b"GET /a"], 6).is_too_long);
        assert!(line(&[b"GET /", b"ab\r\n"], 6).is_too_long);
        assert!(line(&[&[b'x'; 1_000]], 6).bytes.is_empty());
    }

    #[test]
    fn what_is_no_get_is_malformed() {
        for request in [&b""[..], b"GET", b"GET a", b"get /a", b"POST /a", b"GET /\xff"] {
            assert_eq!(line(&[request], 100).path(), Err(Refusal::Malformed), "{request:?}");
        }
    }

    fn content(root: &Root, path: &str) -> Result<String, Refusal> {
        let (file, bytes) = find(Some(root), path, &HqOptions::default())?;
        let mut file = file.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        assert_eq!(bytes, text.len() as u64);
        Ok(text)
    }

    #[test]
    fn files_and_index_files_are_served_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.txt"), "a").unwrap();
        fs::create_dir_all(at("sub/empty")).unwrap();
        fs::write(at("sub/index.html"), "index").unwrap();
        symlink("a.txt", at("inside")).unwrap();
        symlink(outside.path().join("secret"), at("outside")).unwrap();
        symlink("..", at("sub/up")).unwrap();
        symlink("../..", at("sub/out")).unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());

        let root = Root::open(folder.path()).unwrap();
        assert_eq!(content(&root, "a.txt").as_deref(), Ok("a"));
        assert_eq!(content(&root, "inside").as_deref(), Ok("a"));
        assert_eq!(content(&root, "sub/").as_deref(), Ok("index"));
        assert_eq!(content(&root, "sub/up/a.txt").as_deref(), Ok("a"));
        for missing in ["", "b.txt", "a.txt/b", "sub/empty", "pipe", "outside", "sub/out/secret"] {
            assert_eq!(content(&root, missing), Err(Refusal::NotFound), "{missing:?}");
        }
        assert_eq!(content(&root, "../a.txt"), Err(Refusal::Malformed));
    }

    #[test]
    fn bytes_are_generated_up_to_a_limit() {
        let options = HqOptions { response_bytes_max: 100_000, ..HqOptions::default() };
        let (file, bytes) = find(None, "bytes/100000", &options).unwrap();
        let mut sending = Sending { file, bytes, piece: Bytes::new() };
        assert_eq!(sending.read(), Ok(()));
        assert_eq!((sending.piece.len(), sending.bytes), (PIECE_BYTES, 100_000 - 65_536));
        for path in ["bytes/100001", "bytes/x", "a"] {
            assert_eq!(find(None, path, &options).map(drop), Err(Refusal::NotFound), "{path}");
        }
    }
}
