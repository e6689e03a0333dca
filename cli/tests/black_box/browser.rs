//! browser: Chromium opens a page over HTTP/3, with the command that the server logs.

use std::fs;
use std::process::Command;

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

#[test]
fn chromium_shows_a_page() {
    let Ok(version) = Command::new("chromium").arg("--version").output() else {
        return skip("chromium_shows_a_page", "there is no chromium: apt-get install chromium");
    };
    println!("{}", String::from_utf8_lossy(&version.stdout));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("site/sub")).unwrap();
    fs::write(at("site/index.html"), PAGE).unwrap();
    fs::write(at("site/image.svg"), IMAGE).unwrap();
    fs::write(at("site/sub/data.txt"), "fetched").unwrap();
    let mut server = Serve::start(&["--h3", "--root", at("site").to_str().unwrap()]);
    let said = server.until("browser: chromium ");
    let flags = said.trim_end().split_once("browser: chromium ").unwrap().1;
    let dom = Command::new("timeout")
        .args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        // Waits for what the page waits for, and 10 s of its own time at most.
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .args(flags.split(' ').filter(|flag| !flag.starts_with("--user-data-dir")))
        .arg(format!("--user-data-dir={}", at("profile").display()))
        .output()
        .unwrap();
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
