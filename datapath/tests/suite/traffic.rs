//! traffic checks bytes, addresses and ECN of single datagrams.

use quiclane_datapath::{Datapath, Ecn, Transmit};

use super::{at, collect, open, send, to};

const CODEPOINTS: [Option<Ecn>; 4] = [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)];

/// Sends from one socket to another and back, with every ECN codepoint.
fn ping_pong<D: Datapath>(datapath: &mut D, client: &str, server: &str, server_ip: &str) {
    let (client, client_addr) = open(datapath, client);
    let (server, server_addr) = open(datapath, server);
    let server_addr = at(server_ip, server_addr);
    for ecn in CODEPOINTS {
        send(datapath, &Transmit { ecn, ..to(client, server_addr) }, b"ping");
        let got = collect(datapath, 1).remove(0);
        assert_eq!(got.bytes, b"ping");
        assert_eq!(got.meta.stride, 4);
        assert_eq!(got.meta.socket, server);
        assert_eq!(got.meta.source, client_addr);
        assert_eq!(got.meta.target, Some(server_addr.ip()));
        assert_eq!(got.meta.ecn, ecn);

        let source = got.meta.target;
        let back = Transmit { ecn, source, ..to(server, got.meta.source) };
        send(datapath, &back, b"pong");
        let got = collect(datapath, 1).remove(0);
        assert_eq!(got.bytes, b"pong");
        assert_eq!(got.meta.socket, client);
        assert_eq!(got.meta.source, server_addr);
        assert_eq!(got.meta.target, Some(client_addr.ip()));
        assert_eq!(got.meta.ecn, ecn);
    }
    let counters = datapath.counters();
    assert_eq!(counters.recv_datagrams.value(), 8);
    assert_eq!(counters.recv_bytes.value(), 32);
    assert_eq!(counters.recv_errors.value(), 0);
    assert_eq!(counters.send_errors.value(), 0);
}

pub(crate) fn ipv4_to_ipv4<D: Datapath>(make: impl Fn() -> D) {
    ping_pong(&mut make(), "127.0.0.1:0", "0.0.0.0:0", "127.0.0.1");
}

pub(crate) fn ipv6_to_ipv6<D: Datapath>(make: impl Fn() -> D) {
    ping_pong(&mut make(), "[::1]:0", "[::1]:0", "::1");
}

pub(crate) fn ipv4_peer_of_a_dual_stack_socket<D: Datapath>(make: impl Fn() -> D) {
    ping_pong(&mut make(), "127.0.0.1:0", "[::]:0", "127.0.0.1");
}

pub(crate) fn ipv6_peer_of_a_dual_stack_socket<D: Datapath>(make: impl Fn() -> D) {
    ping_pong(&mut make(), "[::1]:0", "[::]:0", "::1");
}

pub(crate) fn the_source_address_is_kept<D: Datapath>(make: impl Fn() -> D) {
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let datapath = &mut make();
        let (client, client_addr) = open(datapath, "127.0.0.1:0");
        let (server, server_addr) = open(datapath, wildcard);
        let aimed = at("127.0.0.9", server_addr);
        send(datapath, &to(client, aimed), b"ping");
        let got = collect(datapath, 1).remove(0);
        assert_eq!(got.meta.target, Some(aimed.ip()));
        // Without a source the routing table answers from another address.
        send(datapath, &to(server, client_addr), b"from the routing table");
        assert_eq!(collect(datapath, 1)[0].meta.source, at("127.0.0.1", server_addr));
        let back = Transmit { source: got.meta.target, ..to(server, client_addr) };
        send(datapath, &back, b"from the aimed address");
        assert_eq!(collect(datapath, 1)[0].meta.source, aimed);
    }
}

pub(crate) fn an_empty_datagram_does_not_end_receiving<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (client, _) = open(datapath, "127.0.0.1:0");
    let (_, server_addr) = open(datapath, "127.0.0.1:0");
    for _ in 0..3 {
        send(datapath, &to(client, server_addr), b"");
        send(datapath, &to(client, server_addr), b"good");
        let got = collect(datapath, 2);
        assert_eq!(got[0].bytes, b"");
        assert_eq!(got[0].datagrams.len(), 1);
        assert_eq!(got[1].bytes, b"good");
    }
}

pub(crate) fn large_datagrams_arrive_whole<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (client, _) = open(datapath, "127.0.0.1:0");
    let (_, server_addr) = open(datapath, "[::]:0");
    // Up to the MTU of loopback: fragmentation is forbidden.
    for bytes in [1_200, 9_000, 65_000] {
        let payload: Vec<u8> = (0..=250).cycle().take(bytes).collect();
        send(datapath, &to(client, at("127.0.0.1", server_addr)), &payload);
        let got = collect(datapath, 1).remove(0);
        assert_eq!(got.bytes, payload);
        assert_eq!(got.meta.stride, bytes);
    }
    assert_eq!(datapath.counters().recv_truncated.value(), 0);
}
