//! An HTTP/3 server that answers in pieces: what it gets, it gives back, and time it takes.
//!
//! ```text
//! POST /upper     the content in capitals, as it comes: any amount, in little memory
//! GET  /ticks     a line each second, ten of them, and how many there were as a trailer
//! GET  /          a response that was made once and is shared by all who ask
//! ```
//!
//! An exchange is asked for the next piece when the last one was written, and asks for content
//! itself. So a client that does not read is not read from, and nothing piles up here.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quiclane::apps::Http3;
use quiclane::apps::http3::{
    Body, Content, Exchange, Head, Invalid, Next, Options, Prepared, Reply, Request, Response,
    Service,
};
use quiclane::{Config, Engine, Provider, ServerConfig, ServerTls};

/// One lives on each worker.
struct Streaming {
    index: Response,
}

impl Streaming {
    fn new() -> Self {
        let index = "POST /upper, GET /ticks\n";
        Self { index: Response::text(200, index).into() }
    }
}

impl Service for Streaming {
    fn request(&mut self, request: &Request<'_>) -> Reply {
        match (request.method(), request.path()) {
            // Nothing is copied or allocated for this one.
            (b"GET" | b"HEAD", b"/") => Reply::Whole(self.index.clone()),
            (b"POST", b"/upper") => begin(|| Ok(Upper { head: Some(text_head()?) })),
            (b"GET" | b"HEAD", b"/ticks") => {
                let next = request.now();
                begin(|| Ok(Ticks { head: Some(text_head()?), next, told: 0 }))
            }
            _ => Reply::Whole(Response::text(404, "not here\n").into()),
        }
    }
}

/// An exchange, or a 500 if it cannot be made.
fn begin<E: Exchange + 'static>(make: impl FnOnce() -> Result<E, Invalid>) -> Reply {
    match make() {
        Ok(exchange) => Reply::exchange(exchange),
        Err(invalid) => Reply::Whole(Err(invalid).into()),
    }
}

fn text_head() -> Result<Head, Invalid> {
    Head::new(200)?.with("content-type", "text/plain;charset=utf-8")
}

/// The content in capitals.
struct Upper {
    head: Option<Head>,
}

impl Exchange for Upper {
    fn next(&mut self, content: &mut Body<'_>) -> Next {
        if let Some(head) = self.head.take() {
            return Next::Head(head);
        }
        loop {
            match content.pull() {
                Content::Piece(piece) => return Next::Data(piece.to_ascii_uppercase().into()),
                Content::Wait => return Next::Wait,
                Content::Trailers(_) => {}
                Content::End => return Next::End,
            }
        }
    }
}

/// A line each second.
struct Ticks {
    head: Option<Head>,
    next: Instant,
    told: u32,
}

impl Exchange for Ticks {
    fn next(&mut self, content: &mut Body<'_>) -> Next {
        if let Some(head) = self.head.take() {
            return Next::Head(head);
        }
        if self.told == 10 {
            let trailers = Prepared::trailers().with("x-ticks", self.told.to_string());
            return trailers.map_or(Next::End, Next::Trailers);
        }
        // It may be asked before its time.
        if content.now() < self.next {
            return Next::WaitUntil(self.next);
        }
        self.next += Duration::from_secs(1);
        self.told += 1;
        Next::Data(Bytes::from(format!("tick {}\n", self.told)))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let chain = vec![certificate.cert.der().clone()];
    let key = certificate.signing_key.serialize_der().try_into()?;
    let tls = ServerTls::new(Provider::default(), chain, key, vec![b"h3".to_vec()], false)?;
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::1]:4433".to_owned());
    let server = ServerConfig::new(address.parse()?, tls);
    let config = Config { server: Some(server), ..Config::default() };
    let engine = Engine::start(config, |_| Http3::serving(Streaming::new(), Options::default()))?;
    eprintln!("listening on {}", engine.listen()[0]);
    Ok(engine.join()?)
}
