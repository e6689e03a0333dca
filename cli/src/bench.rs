//! bench compares ways to run the engine on this host.

mod matrix;

use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure};

/// Compare ways to run the engine on this host
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Matrix(Box<matrix::MatrixArgs>),
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs) -> Result<Exit, Failure> {
    match &args.command {
        Command::Matrix(args) => matrix::run(args),
    }
}
