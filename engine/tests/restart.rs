//! restart kills a server with SIGKILL and starts it again: clients learn of it at once.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "the server says that it is ready")]

mod common;

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{Certificate, client_config, exchange, in_namespace, runtime, wait_until};
use quiclane::apps::{Perf, PerfOptions};
use quiclane::{Config, Engine, Io, ServerConfig, Steering};
use quinn::{Connection, ConnectionError, Endpoint, TransportConfig};

/// A server in a process of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Path, listen: SocketAddr, how: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "clients_learn_of_a_restart_on_hash", "--nocapture"])
            .env(FOLDER, folder)
            .env(LISTEN, listen.to_string())
            .env(HOW, how)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| Some(line.unwrap().split_once(READY)?.1.to_owned()));
        Self { child, address: ready.unwrap().parse().unwrap() }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The server: in its process the test that it was started as comes here.
fn serve(folder: &Path) {
    let (listen, how) = (env::var(LISTEN).unwrap(), env::var(HOW).unwrap());
    let tls = Certificate::load(folder).server(&["perf"], false);
    let mut server = ServerConfig::new(listen.parse().unwrap(), tls);
    server.state_dir = Some(folder.join("state"));
    let (io, steering) = how.split_once(' ').unwrap();
    server.steering = match steering {
        "reuseport" => Steering::Reuseport,
        "xdp-generic" => {
            server.xdp.interfaces = vec!["lo".to_owned()];
            Steering::XdpGeneric
        }
        "cbpf" => Steering::Cbpf,
        _ => Steering::Hash,
    };
    let io = if io == "uring" { Io::Uring } else { Io::Epoll };
    let config = Config { workers: 2, io, server: Some(server), ..Config::default() };
    let engine = Engine::start(config, |_| Perf::new(PerfOptions::default())).unwrap();
    println!("\n{READY}{}", engine.listen()[0]);
    // Until it is killed it says how many orphans the kernel answered.
    while !engine.is_finished() {
        let kernel = engine.metrics().kernel().unwrap_or_default();
        let answered = kernel.frames.iter().find(|frames| frames.reason == "answered");
        let answered = answered.map_or(0, |frames| frames.count);
        fs::write(folder.join("answered"), answered.to_string()).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
}

async fn connect(certificate: &Certificate, address: SocketAddr) -> (Endpoint, Connection) {
    let mut config = client_config(certificate, &["perf"], false);
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(60).try_into().unwrap()));
    transport.keep_alive_interval(Some(Duration::from_millis(100)));
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config);
    let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
    exchange(&connection, 1_000, 1_000).await.unwrap();
    (endpoint, connection)
}

fn clients_learn_of_a_restart(how: &str) {
    if let Some(folder) = env::var_os(FOLDER) {
        return serve(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::new();
    certificate.save(folder.path());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(folder.path(), any, how);
    let address = server.address;
    runtime().block_on(async {
        let mut clients = Vec::new();
        for _ in 0..40 {
            clients.push(connect(&certificate, address).await);
        }
        server.kill();
        let server = Server::start(folder.path(), address, how);
        for (_, connection) in &clients {
            let closed = tokio::time::timeout(Duration::from_secs(30), connection.closed()).await;
            assert_eq!(closed.expect(how), ConnectionError::Reset, "{how}");
        }
        if how.ends_with("xdp-generic") {
            let answered = || fs::read_to_string(folder.path().join("answered")).unwrap();
            // All but those that came between binding and attaching.
            wait_until(|| answered().parse().is_ok_and(|answered: u64| answered >= 20)).await;
        }
        // The same endpoint, and so the same address and port, begins anew.
        for (endpoint, _) in &clients {
            let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
            exchange(&connection, 1_000, 1_000).await.unwrap();
        }
        server.kill();
    });
}

#[test]
fn clients_learn_of_a_restart_on_hash() {
    clients_learn_of_a_restart("epoll hash");
    clients_learn_of_a_restart("uring hash");
}

#[test]
fn clients_learn_of_a_restart_on_cbpf() {
    clients_learn_of_a_restart("epoll cbpf");
    clients_learn_of_a_restart("uring cbpf");
}

#[test]
fn clients_learn_of_a_restart_on_ebpf() {
    if !in_namespace("clients_learn_of_a_restart_on_ebpf") {
        return;
    }
    clients_learn_of_a_restart("epoll reuseport");
    clients_learn_of_a_restart("uring reuseport");
    clients_learn_of_a_restart("epoll xdp-generic");
    clients_learn_of_a_restart("uring xdp-generic");
}

/// The next process may start while the last one is about to end.
#[test]
fn an_epoch_that_ends_after_the_start_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::new();
    certificate.save(folder.path());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(folder.path(), any, "uring hash");
    let address = server.address;
    runtime().block_on(async {
        let (_endpoint, connection) = connect(&certificate, address).await;
        let lock = File::open(folder.path().join("state/lock.1")).unwrap();
        server.kill();
        // Its sockets are gone, and something of it is not.
        lock.lock().unwrap();
        let server = Server::start(folder.path(), address, "uring hash");
        let wait = |time| tokio::time::timeout(time, connection.closed());
        let ended = wait(Duration::from_secs(3)).await;
        assert!(ended.is_err(), "a process that still runs ends its connections itself: {ended:?}");
        drop(lock);
        let ended = wait(Duration::from_secs(30)).await;
        assert_eq!(ended, Ok(ConnectionError::Reset));
        server.kill();
    });
}

const FOLDER: &str = "QUICLANE_RESTART_FOLDER";
const LISTEN: &str = "QUICLANE_RESTART_LISTEN";
const HOW: &str = "QUICLANE_RESTART_HOW";
const READY: &str = "ready at ";
