//! Our server, started and stopped, and the median of what was measured with it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// The middle one; of an even number, the mean of the two in the middle; 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or_default();
    match values.len() % 2 {
        0 => (upper + values.get(middle.wrapping_sub(1)).copied().unwrap_or_default()) / 2.0,
        _ => upper,
    }
}

/// `quiclane serve` with one worker; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens, on loopback.
    pub address: String,
}

impl Server {
    /// Starts `program` on `core`, for HTTP/3 and perf.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(program: &Path, core: usize) -> Result<Self> {
        let child = Command::new(program)
            .args(["serve", "-q", "--listen", "127.0.0.1:0", "--alpn", "h3,perf"])
            .args(["--workers", "1", "--cores", &core.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self { child, address: String::new() };
        let stdout = server.child.stdout.take().context("stdout is not piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let listen = line.split_whitespace().find_map(|word| word.strip_prefix("listen="));
        let address = listen.and_then(|addresses| addresses.split(',').next());
        server.address = address.with_context(|| format!("not a ready line: {line:?}"))?.to_owned();
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
