//! Servers, clients and the network between them, in one thread under virtual time.

#[path = "../common/mod.rs"]
mod common;

mod mirror;

mod scenarios;

mod seeds;
