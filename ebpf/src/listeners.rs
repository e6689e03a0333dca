//! listeners tells the programs where the server listens: what XDP takes for the server's, and by
//! what the selecting program finds its sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use aya::maps::HashMap;

use crate::steering::map_error;
use crate::{ADDRESSES_COMPARED, ListenerKey, PORT_WORDS, PortWord, Steering, SteeringError};

/// One listen address of the server, by the number under which its sockets are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listener(u32);

impl Listener {
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

/// Where the server listens.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    count: u32,
    /// The addresses that were named.
    named: Vec<ListenerKey>,
    /// Those that stand for the host's.
    wildcards: Vec<Wildcard>,
    /// What the wildcards take at present.
    local: BTreeMap<ListenerKey, Listener>,
}

/// A listen address that stands for all of the host's.
#[derive(Clone, Copy, Debug)]
struct Wildcard {
    port: u16,
    v4: bool,
    v6: bool,
    listener: Listener,
}

impl Steering {
    /// Adds an address that the server's sockets are bound to. A wildcard IPv6 address takes IPv4
    /// too unless `only_v6` is set, like the socket option IPV6_V6ONLY.
    ///
    /// With a wildcard, XDP takes every frame to the port for the server's, also those that only
    /// pass through this host: see [`Steering::listen_on_host`].
    ///
    /// # Errors
    /// When there are more than [`Capacity::listeners`](crate::Capacity::listeners).
    pub fn listen(&mut self, at: SocketAddr, only_v6: bool) -> Result<Listener, SteeringError> {
        let listener = self.add_listener()?;
        let key = ListenerKey::of(at);
        self.insert_listener(key, listener)?;
        self.listening.named.push(key);
        self.write_compared()?;
        let bit = 1 << (at.port() % 64);
        self.change_port(at.port(), |word| match at.ip() {
            address if !address.is_unspecified() => word.some |= bit,
            IpAddr::V4(_) => word.any_v4 |= bit,
            IpAddr::V6(_) if only_v6 => word.any_v6 |= bit,
            IpAddr::V6(_) => {
                (word.any_v4, word.any_v6) = (word.any_v4 | bit, word.any_v6 | bit);
            }
        })?;
        Ok(listener)
    }

    /// Like [`Steering::listen`] at a wildcard address, of a host whose addresses are told by
    /// [`Steering::set_host_addresses`]: what goes to any other one passes untouched.
    ///
    /// # Errors
    /// When there are more than [`Capacity::listeners`](crate::Capacity::listeners).
    pub fn listen_on_host(
        &mut self,
        at: SocketAddr,
        only_v6: bool,
    ) -> Result<Listener, SteeringError> {
        let listener = self.add_listener()?;
        // What the selecting program finds its sockets by.
        self.insert_listener(ListenerKey::of(at), listener)?;
        let (v4, v6) = (at.is_ipv4() || !only_v6, at.is_ipv6());
        self.listening.wildcards.push(Wildcard { port: at.port(), v4, v6, listener });
        self.change_port(at.port(), |word| word.some |= 1 << (at.port() % 64))?;
        Ok(listener)
    }

    /// The addresses of this host, instead of those told before.
    ///
    /// # Errors
    /// When there are more than [`Capacity::addresses`](crate::Capacity::addresses): frames to some
    /// of them pass untouched.
    pub fn set_host_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), SteeringError> {
        let mut wanted = BTreeMap::new();
        for Wildcard { port, v4, v6, listener } in self.listening.wildcards.iter().copied() {
            let is_taken = |ip: &&IpAddr| if ip.is_ipv4() { v4 } else { v6 };
            wanted.extend(addresses.iter().filter(is_taken).map(|address| {
                let key = ListenerKey::of(SocketAddr::new(*address, port));
                (key, listener)
            }));
        }
        wanted.retain(|key, _| !self.listening.named.contains(key));
        let (given, limit) = (wanted.len(), self.capacity.addresses as usize);
        if let Some(first) = wanted.keys().nth(limit).copied() {
            wanted.split_off(&first);
        }
        if wanted != self.listening.local {
            let before = std::mem::take(&mut self.listening.local);
            let mut listeners: HashMap<_, _, u32> = self.map("LISTENERS")?;
            // The old ones go first: there may be no room for both.
            for gone in before.keys().filter(|key| !wanted.contains_key(key)) {
                listeners.remove(gone).map_err(map_error("LISTENERS"))?;
            }
            for (key, listener) in &wanted {
                listeners.insert(*key, listener.0, 0).map_err(map_error("LISTENERS"))?;
            }
            self.listening.local = wanted;
            self.write_compared()?;
        }
        if given > limit {
            return Err(SteeringError::TooManyAddresses { given, limit });
        }
        Ok(())
    }

    fn add_listener(&mut self) -> Result<Listener, SteeringError> {
        let (listener, limit) = (self.listening.count, self.capacity.listeners);
        if listener >= limit {
            return Err(SteeringError::TooManyListeners { given: listener + 1, limit });
        }
        self.listening.count += 1;
        Ok(Listener(listener))
    }

    fn insert_listener(
        &mut self,
        key: ListenerKey,
        listener: Listener,
    ) -> Result<(), SteeringError> {
        let mut listeners: HashMap<_, _, u32> = self.map("LISTENERS")?;
        listeners.insert(key, listener.0, 0).map_err(map_error("LISTENERS"))
    }

    /// The first addresses are compared, the others looked up.
    fn write_compared(&mut self) -> Result<(), SteeringError> {
        let mut keys: Vec<_> =
            self.listening.named.iter().chain(self.listening.local.keys()).copied().collect();
        keys.resize(ADDRESSES_COMPARED, ListenerKey::NONE);
        self.change(ADDRESSES, |compared: &mut [ListenerKey; ADDRESSES_COMPARED]| {
            compared.copy_from_slice(&keys);
        })
    }

    fn change_port(
        &mut self,
        port: u16,
        change: impl FnOnce(&mut PortWord),
    ) -> Result<(), SteeringError> {
        self.change(PORTS, |words: &mut [PortWord; PORT_WORDS]| {
            change(&mut words[usize::from(port / 64)]);
        })
    }
}

/// The tables of the programs: sections of the object, each a map of one value.
const PORTS: &str = ".data.ports";
const ADDRESSES: &str = ".data.addresses";
