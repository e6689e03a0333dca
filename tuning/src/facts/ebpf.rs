//! ebpf tries whether the kernel takes eBPF programs and maps from this process.
//!
//! The smallest program of each type is loaded and let go at once. Nothing is attached.

use std::collections::BTreeMap;

use aya::maps::MapType;
use aya::programs::{ProgramType, loaded_programs};
use aya::sys::{is_map_supported, is_program_supported};

/// What the kernel said, with its reason where it said no.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ebpf {
    /// A program for XDP, and a map that moves packets to other CPUs.
    pub(crate) xdp: Result<(), String>,
    /// A program that chooses sockets, and the array it chooses from.
    pub(crate) reuseport: Result<(), String>,
}

impl Ebpf {
    pub(super) fn try_all() -> Self {
        let reuseport = program("SK_REUSEPORT", ProgramType::SkReuseport)
            .and_then(|()| map("REUSEPORT_SOCKARRAY", MapType::ReuseportSockArray));
        let xdp = program("XDP", ProgramType::Xdp).and_then(|()| map("CPUMAP", MapType::CpuMap));
        Self { xdp, reuseport }
    }
}

fn program(name: &str, kind: ProgramType) -> Result<(), String> {
    match is_program_supported(kind) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("this kernel has no {name} programs")),
        Err(error) => Err(format!("loading an {name} program: {}", cause(&error))),
    }
}

fn map(name: &str, kind: MapType) -> Result<(), String> {
    match is_map_supported(kind) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("this kernel has no {name} maps")),
        Err(error) => Err(format!("creating a {name} map: {}", cause(&error))),
    }
}

/// The names of all loaded programs by id, or why they are a secret.
pub(super) fn program_names() -> Result<BTreeMap<u32, String>, String> {
    let mut names = BTreeMap::new();
    for program in loaded_programs() {
        let program = program.map_err(|error| cause(&error))?;
        names.insert(program.id(), program.name_as_str().unwrap_or_default().to_owned());
    }
    Ok(names)
}

/// The innermost reason: what the kernel answered.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
