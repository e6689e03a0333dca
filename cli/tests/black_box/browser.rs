//! browser: Chromium opens pages over HTTP/3, with the command that the server logs.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "the version is worth knowing")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use quiclane::clock;

use crate::command::{Serve, skip};

/// A page that says what became of it.
const PAGE: &str = r#"<!doctype html>
<title>quiclane</title>
<h1>Text over QUIC</h1>
<img src="image.svg" alt="an image">
<p id="said">nothing</p>
<script>
addEventListener("load", async () => {
  const image = document.querySelector("img");
  const fetched = await (await fetch("sub/data.txt")).text();
  const echo = await (await fetch("/echo", { method: "POST", body: "posted" })).text();
  const kinds = ["navigation", "resource"];
  const entries = kinds.flatMap(kind => performance.getEntriesByType(kind));
  document.querySelector("p").textContent = [
    `image ${image.naturalWidth}x${image.naturalHeight}`, fetched, echo,
    ...entries.map(entry => `${new URL(entry.name).pathname} ${entry.nextHopProtocol}`),
  ].join(", ");
});
</script>
"#;

const IMAGE: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48">
<rect width="64" height="48" fill="teal"/><circle cx="32" cy="24" r="16" fill="gold"/></svg>"#;

/// A page whose script goes through everything else, and reports each step to a server of the test
/// over TCP: `--dump-dom` does not wait for a body that a script reads in pieces.
const STEPS: &str = r#"<!doctype html>
<title>quiclane</title>
<script>
const tell = body =>
  fetch("http://127.0.0.1:REPORTS/", { method: "POST", mode: "no-cors", body });
const path = (name, options) => fetch(name, { cache: "no-store", ...options });
const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const count = async (response, each) => {
  const reader = response.body.getReader();
  for (let length = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return length;
    length += value.length;
    each?.();
  }
};
const steps = {
  head: async () => {
    const response = await path("/bytes/1000", { method: "HEAD" });
    return [response.status, response.headers.get("content-length"),
      (await response.arrayBuffer()).byteLength];
  },
  echo: async () => {
    const body = new Uint8Array(1 << 20).map((_, i) => i * i >> 3);
    const response = await path("/echo", { method: "POST", body });
    return [same(body, new Uint8Array(await response.arrayBuffer()))];
  },
  post: async () => {
    const body = new Uint8Array(10e6);
    return [(await path("/status/201", { method: "POST", body })).status];
  },
  parallel: async () => {
    const get = async (_, i) => (await path(`/bytes/${1000 + i}`)).arrayBuffer();
    const got = await Promise.all(Array.from({ length: 100 }, get));
    return [got.filter((buffer, i) => buffer.byteLength === 1000 + i).length];
  },
  download: async () => [await count(await path("/bytes/DOWNLOAD"))],
  cancel: async () => {
    const stop = new AbortController();
    const response = await path("/bytes/1g", { signal: stop.signal });
    const name = await count(response, () => stop.abort()).then(() => "none", error => error.name);
    return [name, (await path("/bytes/7")).status];
  },
  goaway: async () => {
    const waiting = path("/delay/3s").then(response => response.status, error => error.name);
    await path("/bytes/7");
    await tell("leaving");
    return [await waiting, await path("/bytes/7").then(() => "served", error => error.name)];
  },
};
addEventListener("load", async () => {
  for (const [name, step] of Object.entries(steps)) {
    await tell(`${name}: ${await step().catch(error => [error])}`);
  }
  const other = performance.getEntriesByType("resource").map(entry => entry.nextHopProtocol)
    .filter(protocol => protocol && !["h3", "http/1.1"].includes(protocol));
  await tell(`end: ${other.length} other`);
});
</script>
"#;

/// Chromium on the first page of `server`.
fn chromium(server: &mut Serve, profile: &Path, more: &[&str]) -> Command {
    let said = server.until("browser: chromium ");
    let flags = said.trim_end().split_once("browser: chromium ").unwrap().1;
    let mut command = Command::new("timeout");
    command
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(more)
        .args(flags.split(' ').filter(|flag| !flag.starts_with("--user-data-dir")))
        .arg(format!("--user-data-dir={}", profile.display()));
    command
}

/// Whether there is a browser at all; says which.
fn there_is_one(test: &str) -> bool {
    match Command::new("chromium").arg("--version").output() {
        Ok(version) => println!("{}", String::from_utf8_lossy(&version.stdout)),
        Err(_) => {
            skip(test, "there is no chromium: apt-get install chromium");
            return false;
        }
    }
    true
}

/// A browser that runs; ended when dropped.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        // `timeout` hands it on to what it started.
        let pid = self.0.id().to_string();
        let _ = Command::new("sh").args(["-c", &format!("kill {pid}")]).status();
        let _ = self.0.wait();
    }
}

/// The body of the next report that arrives within `patience`.
fn report(reports: &TcpListener, patience: Duration) -> Option<String> {
    let end = clock::now() + patience;
    while clock::now() < end {
        let Ok((mut stream, _)) = reports.accept() else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut reader = BufReader::new(&stream);
        let (mut line, mut length) = (String::new(), None);
        // A browser also opens connections that it may want later, and says nothing on them.
        while matches!(reader.read_line(&mut line), Ok(1..)) && line != "\r\n" {
            let (name, value) = line.trim_end().split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse::<usize>().ok();
            }
            line.clear();
        }
        let Some(length) = length else { continue };
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
        return Some(String::from_utf8(body).unwrap());
    }
    None
}

#[test]
fn chromium_shows_a_page() {
    if !there_is_one("chromium_shows_a_page") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("site/sub")).unwrap();
    fs::write(at("site/index.html"), PAGE).unwrap();
    fs::write(at("site/image.svg"), IMAGE).unwrap();
    fs::write(at("site/sub/data.txt"), "fetched").unwrap();
    let mut server = Serve::start(&["--h3", "--root", at("site").to_str().unwrap()]);
    // Waits for what the page waits for, and 10 s of its own time at most.
    let wait = ["--virtual-time-budget=10000", "--dump-dom"];
    let dom = chromium(&mut server, &at("profile"), &wait).output().unwrap();
    let text = String::from_utf8_lossy(&dom.stdout);
    // It may ask for an icon too, at a time of its own.
    for said in
        ["image 64x48, fetched, posted, ", " / h3", "/image.svg h3", "/sub/data.txt h3", "/echo h3"]
    {
        let log = String::from_utf8_lossy(&dom.stderr);
        assert!(text.contains(said), "{said}: {text}\n{log}");
    }
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn chromium_completes_all() {
    if !there_is_one("chromium_completes_all") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let reports = TcpListener::bind("127.0.0.1:0").unwrap();
    reports.set_nonblocking(true).unwrap();
    let download = env::var("QUICLANE_CHROMIUM_BYTES").unwrap_or_else(|_| "50000000".into());
    let page = STEPS
        .replace("REPORTS", &reports.local_addr().unwrap().port().to_string())
        .replace("DOWNLOAD", &download);
    fs::create_dir(at("site")).unwrap();
    fs::write(at("site/index.html"), page).unwrap();
    let mut server = Serve::start(&["--h3", "--root", at("site").to_str().unwrap()]);
    let log = fs::File::create(at("log")).unwrap();
    let mut command = chromium(&mut server, &at("profile"), &["--remote-debugging-port=0"]);
    let streams = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let _browser = Browser(streams.spawn().unwrap());
    let (mut server, mut stopping) = (Some(server), None);
    for expected in [
        "head: 200,1000,0",
        "echo: true",
        "post: 201",
        "parallel: 100",
        &format!("download: {download}"),
        "cancel: AbortError,200",
        "leaving",
        "goaway: 200,TypeError",
        "end: 0 other",
    ] {
        let said = report(&reports, PATIENCE);
        assert_eq!(said.as_deref(), Some(expected), "{}", fs::read_to_string(at("log")).unwrap());
        if expected == "leaving" {
            let server = server.take().unwrap();
            stopping = Some(thread::spawn(move || server.stop("TERM")));
        }
    }
    assert_eq!(stopping.unwrap().join().unwrap().code, 0);
}

/// For one step of the page; a gigabyte takes longest.
const PATIENCE: Duration = Duration::from_secs(90);
