//! simple is the service of a plain function: a request with all its content in, a response out.

use std::rc::Rc;

use quiclane_http3::{Invalid, SavedRequest};

use super::body::Body;
use super::request::Request;
use super::response::Response;
use super::service::{Content, Exchange, Next, Reply, Service};

/// A function that answers requests. Their content is collected first.
#[derive(Debug)]
pub struct Simple<F> {
    handler: Rc<F>,
    content_bytes_max: usize,
}

impl<F: Fn(&Request<'_>) -> Response + 'static> Simple<F> {
    pub(super) fn new(handler: F, content_bytes_max: usize) -> Self {
        Self { handler: Rc::new(handler), content_bytes_max }
    }
}

impl<F: Fn(&Request<'_>) -> Response + 'static> Service for Simple<F> {
    fn request(&mut self, request: &Request<'_>) -> Reply {
        if request.is_complete() {
            return Reply::Whole((self.handler)(request));
        }
        let announced = request.content_length().unwrap_or_default();
        if announced > self.content_bytes_max as u64 {
            return Reply::Whole(too_large(self.content_bytes_max));
        }
        Reply::exchange(Collecting {
            head: request.save(),
            content: Vec::new(),
            content_bytes_max: self.content_bytes_max,
            handler: Rc::clone(&self.handler),
        })
    }
}

/// A request whose content is on its way.
struct Collecting<F> {
    head: SavedRequest,
    content: Vec<u8>,
    content_bytes_max: usize,
    handler: Rc<F>,
}

impl<F: Fn(&Request<'_>) -> Response> Exchange for Collecting<F> {
    fn next(&mut self, body: &mut Body<'_>) -> Next {
        loop {
            match body.pull() {
                Content::Piece(piece) => {
                    if self.content.len() + piece.len() > self.content_bytes_max {
                        return Next::Whole(too_large(self.content_bytes_max));
                    }
                    if !body.reserve(piece.len()) {
                        return Next::Whole(Response::from(busy()));
                    }
                    self.content.extend_from_slice(&piece);
                }
                Content::Wait => return Next::Wait,
                Content::Trailers(_) => {}
                Content::End => break,
            }
        }
        Next::Whole((self.handler)(&body.request(&self.head, &self.content)))
    }
}

fn too_large(bytes_max: usize) -> Response {
    Response::text(413, format!("content of more than {bytes_max} bytes\n")).into()
}

fn busy() -> Result<Response, Invalid> {
    Response::text(503, "too much content at once on this connection\n")
}
