//! ip keeps apart what differs between the versions of IP.

use std::net::IpAddr;

#[derive(Clone, Debug)]
pub(crate) struct ByVersion<T> {
    pub(crate) v4: T,
    pub(crate) v6: T,
}

impl<T> ByVersion<T> {
    /// For a peer with this address, which is canonical.
    pub(crate) fn with(&self, peer: IpAddr) -> &T {
        if peer.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    pub(crate) fn map<U>(&self, mut of: impl FnMut(&T) -> U) -> ByVersion<U> {
        ByVersion { v4: of(&self.v4), v6: of(&self.v6) }
    }
}
