//! The server under comparison: 1 KiB over HTTP/3, after as much computing as it is told.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quiclane::apps::Http3;
use quiclane::apps::http3::{Request, Response};
use quiclane::{Config, Engine, Provider, ServerConfig, ServerTls};

/// Serves until it is killed; says where on stdout.
#[expect(clippy::print_stdout, reason = "the address is what the parent waits for")]
pub(crate) fn serve(core: usize, spin: Duration) -> Result<()> {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let chain = vec![certificate.cert.der().clone()];
    let key = certificate.signing_key.serialize_der().try_into().map_err(anyhow::Error::msg)?;
    let tls = ServerTls::new(Provider::default(), chain, key, vec![b"h3".to_vec()], false)?;
    let server = ServerConfig::new("127.0.0.1:0".parse()?, tls);
    let config =
        Config { server: Some(server), workers: 1, cores: vec![core], ..Config::default() };
    let engine = Engine::start(config, move |_| {
        Http3::new(move |_: &Request<'_>| {
            compute(spin);
            Response::text(200, CONTENT).into()
        })
    })?;
    println!("{}", engine.listen()[0]);
    Ok(engine.join()?)
}

fn compute(spin: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < spin {
        std::hint::spin_loop();
    }
}

/// A server in a process of its own; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// What to load.
    pub(crate) url: String,
}

impl Server {
    /// Starts one on `core` that computes for `spin` before each answer.
    pub(crate) fn start(core: usize, spin: Duration) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", &core.to_string(), &spin.as_nanos().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let mut server = Self { child, url: String::new() };
        let stdout = server.child.stdout.take().context("stdout is not piped")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        server.url = format!("https://{}/", address.trim());
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 1 KiB.
const CONTENT: &str = match std::str::from_utf8(&[b'x'; 1_024]) {
    Ok(text) => text,
    Err(_) => "",
};
