//! keys looks after the secrets of a state directory.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quiclane::StartError;

use crate::exit::{Exit, Failure};
use crate::output;

/// Look after the keys of a server's --state-dir
#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Rotate(RotateArgs),
}

/// Give the next start of the server a new master key
///
/// A server that runs goes on with the old one, and connections of earlier starts are still ended
/// by resets. Address tokens (Retry, NEW_TOKEN) of the old key are refused from the next start on:
/// their clients prove their address once more.
#[derive(Args, Debug)]
struct RotateArgs {
    /// As given to quiclane serve
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &KeysArgs) -> Result<Exit, Failure> {
    let Command::Rotate(RotateArgs { state_dir }) = &args.command;
    let last = quiclane::rotate_keys(state_dir).map_err(StartError::from)?;
    let old = match last {
        0 => "no server has started with the old one".to_owned(),
        last => format!("epochs up to {last} keep the old one until they are forgotten"),
    };
    output::result(format_args!("a new master key from the next start on; {old}"))?;
    Ok(Exit::Ok)
}
