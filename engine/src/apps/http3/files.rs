//! files is a service that shows a folder (RFC 9110): types, ranges, conditions.
//!
//! ```text
//!   path ─► percent-decoded ─► below the root ─┬─ file ─► 304 | 412 | 416 | 206 | 200
//!                                              ├─ folder/ ─► its index.html
//!                                              └─ folder ─► 308 to folder/
//! ```
//!
//! A small file is read into the response at once; of a large one a piece is read when the last
//! one was written. What a file is gets looked at anew for every request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::rc::Rc;

use quiclane_http3::{Code, Invalid};

use super::body::Body;
use super::date::Date;
use super::page::{self, Page};
use super::request::Request;
use super::response::{Head, Response};
use super::service::{Exchange, Next, Reply, Service};
use crate::app::ConnId;
use crate::apps::root::{self, Root};

mod conditions;

mod ranges;

mod types;

use conditions::Verdict;
use ranges::Wanted;

/// Choices of [`Files`].
#[derive(Clone, Debug)]
pub struct FilesOptions {
    /// Files that are being sent at once on a worker; beyond, the answer is 503. Files below
    /// 64 KiB are not held open and do not count. Default 1,024: each holds a file descriptor and
    /// up to 64 KiB of unsent data.
    pub files_max: usize,
    /// Of these, the files that go to one connection; beyond, the answer is 503 as well. Default
    /// 128: more than the hundred requests that a client may have open at once unless it is
    /// allowed more, so that parallel downloads are never refused. More lets fewer clients take all
    /// there are, less refuses honest ones.
    pub connection_files_max: usize,
}

impl Default for FilesOptions {
    fn default() -> Self {
        Self { files_max: 1_024, connection_files_max: 128 }
    }
}

/// The files of a folder.
#[derive(Debug)]
pub struct Files {
    root: Root,
    options: FilesOptions,
    open: Rc<RefCell<Open>>,
}

impl Files {
    /// Those below `root`, for one worker.
    #[must_use]
    pub fn new(root: Root, options: FilesOptions) -> Self {
        Self { root, options, open: Rc::default() }
    }

    fn find(&self, path: &[u8]) -> Result<Found, Refusal> {
        let decoded = decode(path).ok_or(Refusal(400))?;
        let is_folder = decoded.ends_with(b"/");
        let relative = root::relative(&decoded).ok_or(Refusal(404))?;
        let (file, metadata) = self.root.file(&relative)?;
        match (metadata.is_dir(), is_folder) {
            (true, true) => {
                let index = [&relative[..], b"/index.html"].concat();
                let (file, metadata) = self.root.file(&index)?;
                Found::file(file, metadata, types::HTML)
            }
            (true, false) => Ok(Found::Folder(relative)),
            // "a.txt/" names a folder that is none.
            (false, true) => Err(Refusal(404)),
            (false, false) => Found::file(file, metadata, types::of(&relative)),
        }
    }

    fn answer(&self, request: &Request<'_>, source: Source) -> Result<Reply, Refusal> {
        let Source { file, length, modified, etag, kind } = source;
        //= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.2.1
        //# An origin server with a clock MUST NOT generate a Last-Modified date
        //# that is later than the server's time of message origination (Date).
        let modified = Date::from_unix(modified.unix().min(request.date().unix()));
        let about = |status| -> Result<Head, Invalid> {
            Head::new(status)?
                .with("date", request.date())?
                .with("etag", &etag)?
                .with("last-modified", modified)
        };
        match conditions::judge(request.fields(), etag.as_bytes(), modified) {
            Verdict::Go => {}
            Verdict::NotModified => return Ok(Response::new(about(304)?, "")?.into()),
            Verdict::Failed => return Ok(page::of(request, &Page::status(412)).into()),
        }
        let wanted = match request.field(b"range") {
            Some(range) if !request.is_head() => {
                let unchanged = conditions::may_range(request, etag.as_bytes());
                if unchanged { ranges::wanted(range, length) } else { Wanted::All }
            }
            _ => Wanted::All,
        };
        let (status, from, left) = match wanted {
            Wanted::All => (200, 0, length),
            Wanted::Part { from, bytes } => (206, from, bytes),
            Wanted::Nothing => {
                let range = format!("bytes */{length}");
                let page = Page::status(416).with("content-range", &range);
                return Ok(page::of(request, &page).into());
            }
        };
        let mut head = about(status)?
            .with("accept-ranges", "bytes")?
            .with("content-type", kind)?
            .with("x-content-type-options", "nosniff")?
            .with("content-length", left.to_string())?;
        if status == 206 {
            let range = format!("bytes {from}-{}/{length}", from + left.saturating_sub(1));
            head.push(b"content-range", range.as_bytes())?;
        }
        self.send(request, head, Part { file, from, left })
    }

    fn send(&self, request: &Request<'_>, head: Head, part: Part) -> Result<Reply, Refusal> {
        if request.is_head() {
            return Ok(Reply::exchange(Alone(Some(head))));
        }
        let Part { mut file, from, left } = part;
        if from > 0 {
            file.seek(SeekFrom::Start(from))?;
        }
        if left <= WHOLE_BYTES_MAX {
            let length = usize::try_from(left).unwrap_or_default();
            let whole = Response::filled(head, length, |bytes| {
                file.take(left).read_to_end(bytes)?;
                Ok::<_, Refusal>(())
            });
            return whole.map(Reply::Whole);
        }
        let slot = Slot::take(&self.open, request.conn(), &self.options).ok_or(Refusal(503))?;
        Ok(Reply::exchange(Sending { head: Some(head), file, left, _slot: slot }))
    }
}

impl Service for Files {
    fn request(&mut self, request: &Request<'_>) -> Reply {
        if !matches!(request.method(), b"GET" | b"HEAD") {
            return page::of(request, &Page::status(405).with("allow", "GET, HEAD")).into();
        }
        let reply = match self.find(request.path()) {
            Ok(Found::File(source)) => self.answer(request, source),
            Ok(Found::Folder(path)) => {
                let to = location(&path, request.query());
                Ok(page::of(request, &Page::status(308).with("location", &to)).into())
            }
            Err(refusal) => Err(refusal),
        };
        reply.unwrap_or_else(|Refusal(status)| page::of(request, &Page::status(status)).into())
    }
}

/// What a path leads to.
enum Found {
    File(Source),
    /// A folder without the slash at the end of its name.
    Folder(Vec<u8>),
}

/// A file as it is now.
struct Source {
    file: File,
    length: u64,
    modified: Date,
    /// Length and time of change to the nanosecond. A change within the same tick of the file
    /// system's clock that keeps the length would be missed.
    etag: String,
    kind: &'static str,
}

impl Found {
    fn file(file: File, metadata: Metadata, kind: &'static str) -> Result<Self, Refusal> {
        if !metadata.is_file() {
            return Err(Refusal(404));
        }
        let (length, seconds) = (metadata.len(), metadata.mtime());
        let etag = format!("\"{length:x}-{seconds:x}.{:x}\"", metadata.mtime_nsec());
        // A file from before 1970 has a wrong time anyway.
        let modified = Date::from_unix(seconds.try_into().unwrap_or_default());
        Ok(Self::File(Source { file, length, modified, etag, kind }))
    }
}

/// What of a file is to be sent.
struct Part {
    file: File,
    from: u64,
    left: u64,
}

/// The head alone, for who asks for no more.
struct Alone(Option<Head>);

impl Exchange for Alone {
    fn next(&mut self, _: &mut Body<'_>) -> Next {
        self.0.take().map_or(Next::End, Next::Head)
    }
}

/// A large file on its way.
struct Sending {
    head: Option<Head>,
    file: File,
    left: u64,
    _slot: Slot,
}

impl Exchange for Sending {
    fn next(&mut self, _: &mut Body<'_>) -> Next {
        if let Some(head) = self.head.take() {
            return Next::Head(head);
        }
        if self.left == 0 {
            return Next::End;
        }
        match root::piece(&self.file, &mut self.left) {
            Ok(piece) => Next::Data(piece),
            Err(_) => Next::Abort(Code::InternalError),
        }
    }
}

/// How many large files are being sent, on the worker and to each connection that has some.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_connection: HashMap<ConnId, usize>,
}

/// The right to send one, given back when dropped.
struct Slot {
    open: Rc<RefCell<Open>>,
    conn: ConnId,
}

impl Slot {
    /// `None` if too many are being sent.
    fn take(open: &Rc<RefCell<Open>>, conn: ConnId, options: &FilesOptions) -> Option<Self> {
        let Open { all, by_connection } = &mut *open.borrow_mut();
        let has = by_connection.get(&conn).copied().unwrap_or_default();
        if *all >= options.files_max || has >= options.connection_files_max {
            return None;
        }
        *all += 1;
        by_connection.insert(conn, has + 1);
        Some(Self { open: Rc::clone(open), conn })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Open { all, by_connection } = &mut *self.open.borrow_mut();
        *all = all.saturating_sub(1);
        if let Entry::Occupied(mut has) = by_connection.entry(self.conn) {
            *has.get_mut() = has.get().saturating_sub(1);
            if *has.get() == 0 {
                has.remove();
            }
        }
    }
}

/// The status of a request that gets no file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Refusal(u16);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A path that leads out of the root is forbidden by cap-std: that is nobody's business.
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput => Self(404),
            // Links in a circle, sockets, and devices without a driver are no files either.
            _ if matches!(error.raw_os_error(), Some(ELOOP | ENXIO | ENODEV)) => Self(404),
            // Out of file descriptors, of this process or the system.
            _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => Self(503),
            _ => Self(500),
        }
    }
}

impl From<Invalid> for Refusal {
    fn from(_: Invalid) -> Self {
        Self(500)
    }
}

/// `%41` becomes `A`; `None` if a percent sign has no two digits behind it.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            byte => *byte,
        });
    }
    Some(decoded)
}

fn digit(byte: Option<&u8>) -> Option<u8> {
    u8::try_from(char::from(*byte?).to_digit(16)?).ok()
}

/// Where a folder is: an absolute path that cannot be taken for another host, as `//host/` would.
fn location(relative: &[u8], query: Option<&[u8]>) -> String {
    let mut to = String::from("/");
    for byte in relative {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => to.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => to.push(char::from(*byte)),
            byte => to.push_str(&format!("%{byte:02X}")),
        }
    }
    to.push('/');
    if let Some(query) = query.and_then(|query| str::from_utf8(query).ok()) {
        to.push('?');
        to.push_str(query);
    }
    to
}

/// A file up to this size is read at once and not held open.
const WHOLE_BYTES_MAX: u64 = 64 << 10;

/// Numbers of errors, on every Linux but Alpha, MIPS, PA-RISC and SPARC.
const ENXIO: i32 = 6;
const ENODEV: i32 = 19;
const ELOOP: i32 = 40;
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decode(b"/a%20b%2Fc%ff").as_deref(), Some(&b"/a b/c\xff"[..]));
        assert_eq!(decode(b"/%2541").as_deref(), Some(&b"/%41"[..]));
        for path in [&b"/%"[..], b"/%4", b"/%4g", b"/%+1"] {
            assert_eq!(decode(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        assert_eq!(location(b"a/b c", None), "/a/b%20c/");
        assert_eq!(location(b"\\evil.example", Some(b"x=1")), "/%5Cevil.example/?x=1");
        // Two slashes at the front are gone before.
        let relative = root::relative(b"//evil.example").unwrap();
        assert_eq!(location(&relative, None), "/evil.example/");
    }

    #[test]
    fn errors_become_statuses() {
        let status = |code| Refusal::from(io::Error::from_raw_os_error(code)).0;
        assert_eq!([2, ENXIO, 13, ENODEV, 20, 36, ELOOP].map(status), [404; 7]);
        assert_eq!([EMFILE, ENFILE, 5].map(status), [503, 503, 500]);
    }
}
