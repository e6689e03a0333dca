//! The host changes around a running server: an interface is removed and made again, an address
//! comes.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use quiclane::{ServerConfig, Steering};
use quinn::ConnectionError;

use crate::common::{Served, exchange, law_holds, perf_server, quinn_client_on, runtime};
use crate::harness::{Link, PORT, SERVER_V4, client_address, counted, inside, ip, poll};

#[test]
fn an_interface_that_comes_back_gets_its_program_back() {
    inside("host::an_interface_that_comes_back_gets_its_program_back", || {
        let link = Link::with_clients();
        let server = xdp_server(&format!("{SERVER_V4}:{PORT}"));
        runtime().block_on(async {
            let socket = link.client_socket(client_address(SERVER_V4.into(), 0));
            let endpoint = quinn_client_on(socket, &server.certificate, KEEP_ALIVE);
            let connecting = endpoint.connect(server.address(), "localhost").unwrap();
            let connection = connecting.await.unwrap();
            exchange(&connection, 10_000, 10_000).await.unwrap();
            // Longer than the server takes to look again.
            link.replug(Duration::from_millis(2_500));
            let texts = until_said(&server, "is back");
            assert!(texts[0].contains("veth0 is gone or renamed"), "{texts:?}");
            let before = live(&server);
            exchange(&connection, 10_000, 10_000).await.unwrap();
            assert!(live(&server) > before, "through the program again");
            // Too fast to be seen gone.
            link.replug(Duration::ZERO);
            until_said(&server, "is back");
            exchange(&connection, 10_000, 10_000).await.unwrap();
        });
        law_holds(&server.finish());
    });
}

#[test]
fn what_goes_to_an_address_that_came_later_is_judged() {
    inside("host::what_goes_to_an_address_that_came_later_is_judged", || {
        let link = Link::with_clients();
        let server = xdp_server(&format!("0.0.0.0:{PORT}"));
        let socket = link.client_socket(client_address(SERVER_V4.into(), 0));
        link.in_client(|| ip(&format!("neigh replace {LATER} {ROUTED} dev veth1 nud permanent")));
        // Junk, once it goes to the server; `counted` then has it under one of two names.
        let counted_as = |name: &str| {
            let count = || counted(&server).get(name).copied().unwrap_or(0);
            let before = count();
            socket.send_to(&[0x40; 60], (LATER, PORT)).unwrap();
            sleep(Duration::from_millis(10));
            count() > before
        };
        assert!(counted_as("other_address"), "it is on its way to somebody else");
        ip(&format!("address add {LATER}/32 dev veth0"));
        until(|| counted_as("foreign_layout"), "judged");
        ip(&format!("address delete {LATER}/32 dev veth0"));
        until(|| counted_as("other_address"), "passed again");
        law_holds(&server.finish());
    });
}

/// What XDP sends from a veth is lost, unless its other end has a program: the workers answer.
#[test]
fn orphans_behind_a_veth_are_answered() {
    inside("host::orphans_behind_a_veth_are_answered", || {
        let link = Link::with_clients();
        let folder = tempfile::tempdir().unwrap();
        let start = || {
            let state = folder.path().to_owned();
            xdp_server_with(&format!("{SERVER_V4}:{PORT}"), |server| server.state_dir = Some(state))
        };
        let server = start();
        runtime().block_on(async {
            let socket = link.client_socket(client_address(SERVER_V4.into(), 0));
            let endpoint = quinn_client_on(socket, &server.certificate, KEEP_ALIVE);
            let connecting = endpoint.connect(server.address(), "localhost").unwrap();
            let connection = connecting.await.unwrap();
            exchange(&connection, 10_000, 10_000).await.unwrap();
            // It does not hear that the server stops.
            link.in_client(|| ip("link set veth1 down"));
            server.finish();
            let server = start();
            link.in_client(|| ip("link set veth1 up"));
            let ended = tokio::time::timeout(Duration::from_secs(20), connection.closed()).await;
            assert_eq!(ended, Ok(ConnectionError::Reset));
            assert!(counted(&server)["orphan"] > 0, "{:?}", counted(&server));
            law_holds(&server.finish());
        });
    });
}

fn xdp_server(listen: &str) -> Served {
    xdp_server_with(listen, |_| {})
}

fn xdp_server_with(listen: &str, change: impl FnOnce(&mut ServerConfig)) -> Served {
    perf_server(listen, 2, |config| {
        let server = config.server.as_mut().unwrap();
        change(server);
        server.steering = Steering::Xdp;
        server.xdp.interfaces = vec!["veth0".to_owned()];
    })
}

/// What was said until then.
fn until_said(server: &Served, words: &str) -> Vec<String> {
    let texts = RefCell::new(Vec::new());
    let said = poll(|| {
        let notices = server.engine().notices().into_iter().map(|notice| notice.text);
        texts.borrow_mut().extend(notices);
        texts.borrow().iter().any(|text: &String| text.contains(words)).then_some(())
    });
    assert!(said.is_some(), "{words}: {texts:?}");
    texts.into_inner()
}

fn until(condition: impl Fn() -> bool, what: &str) {
    poll(|| condition().then_some(())).unwrap_or_else(|| panic!("not {what} within the time"));
}

fn live(server: &Served) -> u64 {
    counted(server).get("live").copied().unwrap_or(0)
}

const LATER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// Where the server's end of the pair is.
const ROUTED: &str = "lladdr 02:00:00:00:00:01";
const KEEP_ALIVE: Duration = Duration::from_millis(100);
