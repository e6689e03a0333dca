//! cli is the `quiclane` command: flags to library calls, results to text or JSON.

#![forbid(unsafe_code)]

mod bench;
mod certificate;
mod demo;
mod doctor;
mod exit;
mod flags;
mod host;
mod keylog;
mod keys;
mod load;
mod metrics;
mod options;
mod output;
mod progress;
mod rlimits;
mod serve;
mod signals;
mod target;
mod tune;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Freeing per-packet buffers on the thread that made them is what mimalloc is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// QUIC packet engine and load generator for Linux
#[derive(Debug, Parser)]
#[command(name = "quiclane", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Serve(Box<serve::ServeArgs>),
    Load(Box<load::LoadArgs>),
    Doctor(Box<doctor::DoctorArgs>),
    Bench(Box<bench::BenchArgs>),
    Keys(keys::KeysArgs),
    Tune(tune::TuneArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    keylog::check();
    rlimits::raise();
    let result = match command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Tune(args) => tune::run(&args),
    };
    let exit = result.unwrap_or_else(|failure| {
        output::error(&failure);
        failure.exit()
    });
    exit.into()
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 something failed, 2 usage, 3 objective broken, 4 invalid measurement,
130 interrupted.
SSLKEYLOGFILE in the environment is honoured by every command.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use exit::Exit;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_exit_codes_are_those_used() {
        let (broken, invalid) = (Exit::Broken, Exit::Invalid);
        for exit in [Exit::Ok, Exit::Failed, Exit::Usage, broken, invalid, Exit::Interrupted] {
            assert!(EXIT_CODES.contains(&format!("{} ", exit as u8)), "{exit:?}");
        }
    }
}
