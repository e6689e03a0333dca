//! veth is a pair of namespaces in which native XDP can be had anywhere: needs root.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Two namespaces, removed when dropped.
pub(crate) struct Veth(());

impl Veth {
    pub(crate) const LISTEN: &str = "10.87.0.1:4433";

    pub(crate) fn new() -> Result<Self> {
        let veth = Self(());
        for name in [SERVER, CLIENT] {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        let queues = "numrxqueues 2 numtxqueues 2";
        ip(&format!(
            "link add veth0 netns {SERVER} {queues} type veth \
             peer name veth1 netns {CLIENT} {queues}"
        ))?;
        for (name, end, address) in
            [(SERVER, "veth0", "10.87.0.1/24"), (CLIENT, "veth1", "10.87.0.2/24")]
        {
            ip(&format!("-n {name} address add {address} dev {end}"))?;
            ip(&format!("-n {name} link set {end} up"))?;
        }
        Ok(veth)
    }

    /// A command in the server's namespace.
    pub(crate) fn server(program: &Path) -> Command {
        Self::inside(SERVER, program)
    }

    /// A command in the client's namespace.
    pub(crate) fn client(program: &Path) -> Command {
        Self::inside(CLIENT, program)
    }

    /// Where the server is.
    pub(crate) fn address() -> Result<SocketAddr> {
        Ok(Self::LISTEN.parse()?)
    }

    fn inside(name: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name]).arg(program);
        command
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        for name in [SERVER, CLIENT] {
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.context("cannot run ip (iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}: XDP rows need root", said.trim());
    Ok(())
}

const SERVER: &str = "quiclane-rs";
const CLIENT: &str = "quiclane-rc";
