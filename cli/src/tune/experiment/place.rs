//! place is where server and generator meet: the host's loopback, or network namespaces that nobody
//! else is in and that vanish with this process.
//!
//! ```text
//! lo     one namespace, its own lo          server ── lo ── generator
//! veth   two namespaces and a pair          server ── lane0 ═ lane1 ── generator
//! host   none                               server ── lo ── generator
//! ```
//!
//! A namespace lives as long as a process in it: `cat`, which ends when its standard input does.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::super::cell;

/// What server and generator are joined by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::tune) enum Device {
    /// Loopback.
    Lo,
    /// A pair of virtual Ethernet devices.
    Veth,
    /// Loopback of the host itself.
    Host,
}

/// Where cells are measured.
#[derive(Debug)]
pub(in crate::tune) struct Place {
    server: Option<Holder>,
    generator: Option<Holder>,
    /// What the server listens on, without the port.
    pub(in crate::tune) address: &'static str,
    /// The server's interface.
    pub(in crate::tune) interface: &'static str,
    /// For the record.
    pub(in crate::tune) about: String,
}

/// A process that keeps namespaces.
#[derive(Debug)]
struct Holder(Child);

impl Place {
    /// Namespaces of our own where that is allowed, else the host's loopback.
    pub(in crate::tune) fn open(device: Device) -> Result<Self, String> {
        if device == Device::Host {
            return Ok(Self::shared("as asked for"));
        }
        match (Self::private(device), device) {
            (Ok(place), _) => Ok(place),
            (Err(why), Device::Veth) => Err(format!("--device veth: {why}; try --device lo")),
            (Err(why), _) => Ok(Self::shared(&why)),
        }
    }

    /// The host's loopback.
    fn shared(why: &str) -> Self {
        let about = format!("loopback of the host, shared with all others ({why})");
        Self { server: None, generator: None, address: "127.0.0.1", interface: "lo", about }
    }

    fn private(device: Device) -> Result<Self, String> {
        let why = |error: io::Error| {
            format!("no network namespace of its own: {error}; it needs root, unshare, ip, mount")
        };
        let server = Holder::start().map_err(why)?;
        let (address, interface) = match device {
            Device::Lo | Device::Host => ("127.0.0.1", "lo"),
            Device::Veth => (SERVER, "lane0"),
        };
        let generator = match device {
            Device::Lo | Device::Host => None,
            Device::Veth => Some(Holder::start().map_err(why)?),
        };
        let about = match device {
            Device::Lo | Device::Host => "lo in a network namespace of its own",
            Device::Veth => "veth between two network namespaces of its own",
        };
        let place =
            Self { server: Some(server), generator, address, interface, about: about.into() };
        if device == Device::Veth {
            place.plug().map_err(why)?;
        }
        Ok(place)
    }

    fn plug(&self) -> io::Result<()> {
        let [Some(server), Some(generator)] = [self.server_holder(), self.generator_holder()]
        else {
            return Err(io::Error::other("no namespaces"));
        };
        let pair = format!("link add lane0 type veth peer name lane1 netns {generator}");
        ip(server, pair)?;
        for (holder, device, address) in
            [(server, "lane0", SERVER), (generator, "lane1", GENERATOR)]
        {
            ip(holder, format!("address add {address}/30 dev {device}"))?;
            ip(holder, format!("link set {device} up"))?;
        }
        Ok(())
    }

    /// Whether nobody else is on the link.
    pub(in crate::tune) fn is_private(&self) -> bool {
        self.server.is_some()
    }

    /// Makes the generator's end take packets as large as the server's end sends; `None`: as large
    /// as at first.
    pub(in crate::tune) fn match_mtu(&self, mtu: Option<&str>) -> Result<(), String> {
        let Some(Holder(generator)) = &self.generator else { return Ok(()) };
        let set = format!("link set lane1 mtu {}", mtu.unwrap_or("1500"));
        ip(generator.id(), set).map_err(|error| error.to_string())
    }

    /// Who holds the server's namespaces.
    pub(in crate::tune) fn server_holder(&self) -> Option<u32> {
        self.server.as_ref().map(|holder| holder.0.id())
    }

    /// Who holds the generator's.
    pub(in crate::tune) fn generator_holder(&self) -> Option<u32> {
        self.generator.as_ref().or(self.server.as_ref()).map(|holder| holder.0.id())
    }

    /// A process in each namespace.
    pub(in crate::tune) fn witnesses(&self) -> Vec<u32> {
        match (&self.server, &self.generator) {
            (Some(server), Some(generator)) => vec![server.0.id(), generator.0.id()],
            (Some(server), None) => vec![server.0.id()],
            (None, _) => vec![std::process::id()],
        }
    }
}

impl Holder {
    fn start() -> io::Result<Self> {
        // A /sys of its own shows the interfaces of the namespace.
        let script = "ip link set lo up && mount -t sysfs sysfs /sys && echo ready && exec cat";
        let mut child = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let holder = Self(child);
        match line.as_str() {
            "ready\n" => Ok(holder),
            _ => Err(io::Error::other("unshare --net --mount is not permitted here")),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both fail only if it is over already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(holder: u32, text: impl AsRef<str>) -> io::Result<()> {
    let text = text.as_ref();
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let output = cell::command(Some(holder), "ip", &words)?.output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("ip {text}: {}", said.trim())))
        }
    }
}

/// Addresses for benchmarks (RFC 2544, RFC 6815): no host of the Internet has them.
const SERVER: &str = "198.18.0.1";
const GENERATOR: &str = "198.18.0.2";
