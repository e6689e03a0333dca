//! An HTTP/3 server from one function: a request with its content in, a response out.
//!
//! ```text
//! GET  /             a greeting
//! POST /length       how many bytes were sent
//! GET  /hello/NAME   a greeting by name
//! ```
//!
//! The function runs on the worker and must not block: look things up, compute, answer. What takes
//! longer, or is too large to collect, is for an exchange, see `http3_streaming.rs`.

use quiclane::apps::Http3;
use quiclane::apps::http3::{Request, Response};
use quiclane::{Config, Engine, Provider, ServerConfig, ServerTls};

/// What this service says. `into` turns what cannot be sent, for example a header field with a
/// line break, into a 500.
fn answer(request: &Request<'_>) -> Response {
    match (request.method(), request.path()) {
        (b"GET" | b"HEAD", b"/") => Response::text(200, "hello\n").into(),
        (b"POST", b"/length") => {
            Response::text(200, format!("{} bytes\n", request.content().len())).into()
        }
        (b"GET" | b"HEAD", path) if path.starts_with(b"/hello/") => {
            let name = String::from_utf8_lossy(&path["/hello/".len()..]);
            Response::text(200, format!("hello {name}\n")).into()
        }
        _ => Response::text(404, "not here\n").into(),
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
    let engine = Engine::start(config, |_| Http3::new(answer))?;
    eprintln!("listening on {}", engine.listen()[0]);
    Ok(engine.join()?)
}
