//! page makes short responses of text, such as those of errors.

use quiclane_http3::Invalid;

use super::request::Request;
use super::response::{Head, Response, TEXT};

/// A response with a line of text.
#[derive(Clone, Debug)]
pub(super) struct Page<'a> {
    status: u16,
    text: Option<&'a str>,
    field: Option<(&'a str, &'a str)>,
}

impl<'a> Page<'a> {
    /// A page that only says what its status means.
    pub(super) fn status(status: u16) -> Self {
        Self { status, text: None, field: None }
    }

    pub(super) fn text(status: u16, text: &'a str) -> Self {
        Self { status, text: Some(text), field: None }
    }

    pub(super) fn with(self, name: &'a str, value: &'a str) -> Self {
        Self { field: Some((name, value)), ..self }
    }
}

/// Makes the response to `request`.
pub(super) fn of(request: &Request<'_>, page: &Page<'_>) -> Response {
    make(page, request.date().as_ref()).into()
}

fn make(page: &Page<'_>, date: &[u8]) -> Result<Response, Invalid> {
    let Page { status, text, field } = *page;
    let mut head = Head::new(status)?.with("date", date)?;
    if let Some((name, value)) = field {
        head.push(name.as_bytes(), value.as_bytes())?;
    }
    if head.is_bare() {
        return Response::new(head, "");
    }
    head.push(b"content-type", TEXT.as_bytes())?;
    match text {
        Some(text) => Response::new(head, text),
        None => Response::new(head, format!("{status} {}\n", meaning(status))),
    }
}

/// The phrase of a status.
fn meaning(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        418 => "(Unused)",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
