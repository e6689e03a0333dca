//! The smallest server: sends back what it gets. Try it with any QUIC client that speaks "echo".

use quiclane::{
    App, Config, Conn, Engine, Provider, Read, ServerConfig, ServerTls, StreamId, VarInt,
};

/// One lives on each worker; this one has nothing to remember.
struct Echo;

impl App for Echo {
    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let mut chunks = Vec::new();
        let end = conn.read(stream, usize::MAX, |chunk| chunks.push(chunk));
        for mut chunk in chunks {
            while !chunk.is_empty() && conn.write(stream, &mut chunk).is_ok() {}
            if !chunk.is_empty() {
                // Flow control: a real server keeps the rest and waits for `writable`.
                let _ = conn.reset(stream, VarInt::from_u32(1));
            }
        }
        if end == Ok(Read::Finished) {
            let _ = conn.finish(stream);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let chain = vec![certificate.cert.der().clone()];
    let key = certificate.signing_key.serialize_der().try_into()?;
    let tls = ServerTls::new(Provider::default(), chain, key, vec![b"echo".to_vec()], false)?;
    let server = ServerConfig::new("[::1]:4433".parse()?, tls);
    let engine = Engine::start(Config { server: Some(server), ..Config::default() }, |_| Echo)?;
    eprintln!("listening on {}", engine.listen()[0]);
    Ok(engine.join()?)
}
