//! xtask runs the project's own checks: every test floor, tidy, and the dependency audit.
//!
//! It uses no crate, so that it builds in seconds and cannot be broken by a dependency.
#![expect(clippy::print_stdout, reason = "a command line tool")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{env, fs};

mod clients;
mod debian;
mod ebpf;
mod floors;
mod test;
mod tidy;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--floor NAME]... [--list]   run every test floor this machine can run, or only those named
  tidy                              check the house rules that compilers do not check
  ebpf                              rebuild the committed BPF object from its source
  ebpf --check                      fail if the object is not what its source builds to
  ebpf --bench                      print how long the programs take for a packet; asks sudo
  clients                           install the HTTP/3 clients and server that tests need
  deny                              audit licences, advisories and sources with cargo-deny

With CI=true in the environment a floor or test that has to be skipped is a failure.
Exit codes: 0 ok, 1 failed, 2 usage.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", options @ ..] => test_command(options),
        ["tidy"] => Ok(tidy_command()),
        ["ebpf"] => Ok(command("ebpf", |run| ebpf::rebuild(run))),
        ["ebpf", "--check"] => Ok(command("ebpf", ebpf::check)),
        ["ebpf", "--bench"] => Ok(command("ebpf", |run| ebpf::bench(run))),
        ["clients"] => Ok(command("clients", |run| clients::install(run))),
        ["deny"] => Ok(deny_command()),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(true)
        }
        [] => Err("no command given".to_owned()),
        [other, ..] => Err(format!("cannot make sense of {other:?}")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn test_command(options: &[&str]) -> Result<bool, String> {
    let mut wanted = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--list" => {
                for floor in floors::FLOORS {
                    println!("{:<12} {}", floor.name, floor.proves);
                }
                return Ok(true);
            }
            "--floor" => {
                let name = options.next().ok_or("--floor needs a name; --list shows them")?;
                let floor = floors::FLOORS.iter().find(|floor| floor.name == *name);
                wanted.push(floor.ok_or_else(|| format!("no floor {name:?}; --list shows them"))?);
            }
            other => return Err(format!("cannot make sense of {other:?}")),
        }
    }
    if wanted.is_empty() {
        wanted.extend(floors::FLOORS);
    }
    Ok(test::run(&wanted))
}

fn tidy_command() -> bool {
    match tidy::check(&root()) {
        Ok(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            println!("tidy: {} findings", findings.len());
            findings.is_empty()
        }
        Err(error) => {
            eprintln!("tidy: {error}");
            false
        }
    }
}

fn command(name: &str, command: fn(&mut test::Run) -> Result<(), test::Stop>) -> bool {
    let mut run = test::Run::new();
    let outcome = command(&mut run);
    if let Err(stop) = &outcome {
        eprintln!("{name}: {stop}");
    }
    outcome.is_ok()
}

/// No part of the floors: it needs a tool and the network.
fn deny_command() -> bool {
    let installed = Command::new(cargo()).args(["deny", "--version"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!("deny: cargo-deny is not installed: cargo install --locked cargo-deny");
        return false;
    }
    let status = Command::new(cargo()).args(["deny", "check"]).current_dir(root()).status();
    status.is_ok_and(|status| status.success())
}

/// The cargo that runs us, else the one in PATH.
fn cargo() -> std::ffi::OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The workspace root: cargo names this package's folder at run time.
fn root() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let parent = here.parent().map(PathBuf::from).unwrap_or(here);
    fs::canonicalize(&parent).unwrap_or(parent)
}
