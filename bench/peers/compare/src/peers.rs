//! Who is measured: one entry per server.
//!
//! A server takes `--listen`, `--cert` and `--key`, speaks ALPN `perf`, and prints one line
//! `ready listen=ADDR[,ADDR] key=value...` on stdout. A new peer is a package beside
//! `quinn-server` that does so, an entry in [`peers`], and its name in [`BUILT_HERE`].

use std::path::Path;
use std::process::Command;

use crate::args::{Args, Backend, Provider};

/// Packages of this workspace a run needs besides the runner itself.
pub(crate) const BUILT_HERE: [&str; 2] = ["client", "quinn-server"];

/// One server, one row in every table.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    program: std::path::PathBuf,
    args: Vec<String>,
}

impl Peer {
    fn new(name: &str, program: &Path, args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { name: name.to_owned(), program: program.to_owned(), args }
    }

    /// The command that starts it on a port of the kernel's choice.
    pub(crate) fn command(&self, cert: &Path, key: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).args(["--listen", "127.0.0.1:0"]);
        command.arg("--cert").arg(cert).arg("--key").arg(key);
        command
    }
}

/// The servers asked for, the baseline first. `bin` holds the programs of this workspace.
pub(crate) fn peers(args: &Args, bin: &Path) -> Vec<Peer> {
    let mut peers = Vec::new();
    for provider in &args.providers {
        let (name, provider) = match provider {
            Provider::AwsLcRs => ("quinn", "aws-lc-rs"),
            Provider::Ring => ("quinn-ring", "ring"),
        };
        let flags = ["--threads", "1", "--provider", provider];
        peers.push(Peer::new(name, &bin.join("quinn-server"), &flags));
    }
    let core = args.server_core.to_string();
    // Datagrams of the size that the stock servers' are.
    let mtu = ["--mtu-max", "1452"];
    let serve = ["serve", "--workers", "1", "--cores", &core, "--alpn", "perf"];
    let ours = [&serve[..], &mtu].concat();
    if let Some(program) = &args.quiclane {
        for (backend, provider) in
            args.backends.iter().flat_map(|b| args.providers.iter().map(move |p| (b, p)))
        {
            let (name, io) = match backend {
                Backend::Uring => ("quiclane-uring", "uring"),
                Backend::Epoll => ("quiclane-epoll", "epoll"),
            };
            let (suffix, provider) = match provider {
                Provider::AwsLcRs => ("", "aws-lc-rs"),
                Provider::Ring => ("-ring", "ring"),
            };
            let serve = [&ours[..], &["--io", io, "--provider", provider]].concat();
            peers.push(Peer::new(&format!("{name}{suffix}"), program, &serve));
        }
    }
    peers
}
