//! resets kills our server and starts it again: clients of other stacks learn of it at once, each
//! in its own words, and can connect anew.
//!
//! ```text
//!   cargo xtask test --floor peers
//! ```

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod quiche_client;
mod s2n_client;
mod server;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use server::{Certificate, Rung, Server, in_namespace};

/// A client of another stack.
trait Client: Sized {
    /// Connects and has a request answered.
    fn connect(certificate: &Certificate, server: SocketAddr) -> Self;

    /// Sends, waits for the end of the connection, and asserts that this stack calls it a reset.
    fn expect_reset(self);
}

fn sees_a_reset<C: Client>(rung: Rung) {
    let certificate = Certificate::new();
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let state = tempfile::tempdir().unwrap();
        let listen = SocketAddr::new(ip, 0);
        let server = Server::start(&certificate, state.path(), listen, rung);
        let address = server.address;
        let clients: Vec<C> = (0..CLIENTS).map(|_| C::connect(&certificate, address)).collect();
        server.kill();
        let server = Server::start(&certificate, state.path(), address, rung);
        clients.into_iter().for_each(C::expect_reset);
        let answers = server.metric(rung.answers());
        assert!(answers >= CLIENTS, "{answers} answers of {rung:?} to {ip}");
        // Its certificate is the same as before, and it is no obstacle.
        C::connect(&certificate, address);
        server.kill();
    }
}

#[test]
fn an_s2n_quic_client_sees_a_reset() {
    sees_a_reset::<s2n_client::S2n>(Rung::Workers);
}

#[test]
fn a_quiche_client_sees_a_reset() {
    sees_a_reset::<quiche_client::Quiche>(Rung::Workers);
}

#[test]
fn an_s2n_quic_client_sees_a_reset_of_xdp() {
    if in_namespace("an_s2n_quic_client_sees_a_reset_of_xdp") {
        sees_a_reset::<s2n_client::S2n>(Rung::Xdp);
    }
}

#[test]
fn a_quiche_client_sees_a_reset_of_xdp() {
    if in_namespace("a_quiche_client_sees_a_reset_of_xdp") {
        sees_a_reset::<quiche_client::Quiche>(Rung::Xdp);
    }
}

const CLIENTS: u64 = 3;
