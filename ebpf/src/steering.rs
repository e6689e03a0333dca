//! steering loads the programs and tells them about the server.
//!
//! ```text
//!   load ─► apply, set_epochs, listen, set_host_addresses, place_worker, set_socket
//!             │                 at any time again
//!             └─► attach_group, attach_interface
//!                 sockets       interfaces
//! ```
//!
//! Nothing is pinned: when the process ends, its links, programs and maps go away with it.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use aya::maps::xdp::XdpMapError;
use aya::maps::{Array, CpuMap, Map, MapError, PerCpuArray, ReusePortSockArray};
use aya::programs::{ProgramError, SkReuseport, TestRun, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use quiclane_wire::{EpochEntry, EpochTable};

use crate::error::is_not_permitted;
use crate::listeners::{Listener, Listening};
use crate::{
    Capacity, Count, EpochValue, NO_CPU, SOCKETS_OF_LISTENER, Selection, Settings, SettingsValue,
    SteeringError, socket_key,
};

/// The programs of one server and their maps.
#[derive(Debug)]
pub struct Steering {
    ebpf: Ebpf,
    pub(crate) capacity: Capacity,
    pub(crate) listening: Listening,
    /// Which program stands for [`Program::Steer`], once one is loaded.
    steer: Option<Program>,
}

/// A program of the object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// In front of the network stack. Where the kernel refuses it for want of CAP_PERFMON,
    /// [`Program::SteerCopied`] takes its place.
    Steer,
    /// The same from a copy of each frame's front, which needs no CAP_PERFMON and more time.
    SteerCopied,
    /// In front of the sockets of a reuseport group.
    Select,
    /// Passes everything. The peer of a veth needs it so that frames sent from XDP arrive.
    Pass,
}

impl Program {
    /// Its name in the object and, cut at 15 bytes, in the kernel.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steer => "quiclane_xdp",
            Self::SteerCopied => "quiclane_xdp_copy",
            Self::Select => "quiclane_select",
            Self::Pass => "quiclane_pass",
        }
    }
}

impl Steering {
    /// Creates the maps. A program is loaded when it is first attached or run.
    ///
    /// # Errors
    /// Without CAP_BPF, or when the kernel has no room.
    ///
    /// # Minimum kernel version
    /// 5.18 (XDP over frames of several pieces).
    pub fn load(capacity: &Capacity) -> Result<Self, SteeringError> {
        Self::load_object(crate::OBJECT, capacity)
    }

    /// Like [`Steering::load`], from another build of the programs.
    ///
    /// # Errors
    /// As there.
    pub fn load_object(object: &[u8], capacity: &Capacity) -> Result<Self, SteeringError> {
        let Capacity { listeners, addresses, prefixes } = *capacity;
        within("Capacity::listeners", listeners, Capacity::LISTENERS_MAX)?;
        within("Capacity::addresses", addresses, Capacity::ADDRESSES_MAX)?;
        within("Capacity::prefixes", prefixes, Capacity::PREFIXES_MAX)?;
        let cpus = nr_cpus().ok().and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1);
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("LISTENERS", listeners + addresses)
            .map_max_entries("SOCKETS", listeners * SOCKETS_OF_LISTENER)
            .map_max_entries("PREFIXES", prefixes)
            .map_max_entries("CPUS", cpus);
        let ebpf = loader.load(object).map_err(|source| {
            if is_not_permitted(&source) {
                return SteeringError::NotPermitted { what: "creating BPF maps" };
            }
            SteeringError::Maps(Box::new(source))
        })?;
        let mut steering =
            Self { ebpf, capacity: *capacity, listening: Listening::default(), steer: None };
        for worker in 0..=u8::MAX {
            steering.write("WORKER_CPUS", u32::from(worker), NO_CPU)?;
        }
        Ok(steering)
    }

    /// Replaces the settings.
    ///
    /// # Errors
    /// When the kernel refuses the map entry.
    pub fn apply(&mut self, settings: &Settings) -> Result<(), SteeringError> {
        self.change(SETTINGS, |value| *value = SettingsValue::from(settings))
    }

    /// Replaces what is known of an epoch. Do it before the first connection ID of the epoch is
    /// given out.
    ///
    /// # Errors
    /// When the kernel refuses the map entry.
    pub fn set_epoch(&mut self, epoch: u8, entry: EpochEntry) -> Result<(), SteeringError> {
        self.change(EPOCHS, |epochs: &mut [EpochValue; 256]| {
            epochs[usize::from(epoch)] = EpochValue::from(entry);
        })
    }

    /// Replaces what is known of all epochs.
    ///
    /// # Errors
    /// When the kernel refuses a map entry.
    pub fn set_epochs(&mut self, epochs: &EpochTable) -> Result<(), SteeringError> {
        self.change(EPOCHS, |values: &mut [EpochValue; 256]| {
            for (epoch, value) in (0..=u8::MAX).zip(values) {
                *value = EpochValue::from(*epochs.get(epoch));
            }
        })
    }

    /// Registers the socket of a worker at a listen address. It must be bound with SO_REUSEPORT;
    /// the kernel takes it out of the map again when it is closed.
    ///
    /// # Errors
    /// When the socket is not bound, not of a reuseport group, or registered already (EBUSY).
    pub fn set_socket<S: AsRawFd>(
        &mut self,
        listener: Listener,
        epoch: u8,
        worker: u8,
        socket: &S,
    ) -> Result<(), SteeringError> {
        let mut sockets: ReusePortSockArray<_> = self.map("SOCKETS")?;
        let key = socket_key(listener.number(), epoch, worker);
        sockets.set(key, socket, 0).map_err(map_error("SOCKETS"))
    }

    /// Tells on which core a worker runs, for [`Settings::move_to_cores`]; `None`: its frames stay
    /// where they are, which is how every worker starts.
    ///
    /// # Errors
    /// When there is no such core.
    pub fn place_worker(&mut self, worker: u8, cpu: Option<u32>) -> Result<(), SteeringError> {
        if let Some(cpu) = cpu {
            let mut cpus: CpuMap<_> = self.map("CPUS")?;
            let limit = cpus.len();
            if cpu >= limit {
                return Err(SteeringError::NoSuchCore { cpu, limit });
            }
            cpus.set(cpu, MOVED_FRAMES_MAX, None, 0).map_err(|error| match error {
                XdpMapError::MapError(error) => map_error("CPUS")(error),
                XdpMapError::ChainedProgramNotSupported => SteeringError::Missing("CPUS"),
            })?;
        }
        self.write("WORKER_CPUS", u32::from(worker), cpu.unwrap_or(NO_CPU))
    }

    /// Puts the selecting program in front of the reuseport group of this socket. It leaves with
    /// the last socket of the group.
    ///
    /// # Errors
    /// When the program does not load or the socket is of no group.
    pub fn attach_group<S: AsFd>(&mut self, socket: &S) -> Result<(), SteeringError> {
        let program = self.select()?;
        program.attach(socket).map_err(program_error(Program::Select))
    }

    /// What became of the frames, summed over the cores. Each frame is in exactly one count.
    ///
    /// # Errors
    /// When the kernel refuses to be read.
    pub fn counts(&self) -> Result<Vec<(Count, u64)>, SteeringError> {
        let sums = self.sums("COUNTS", Count::LEN)?;
        Ok(Count::all().zip(sums).collect())
    }

    /// How sockets were chosen, summed over the cores. Each datagram, or each train of datagrams
    /// that GRO made, is in exactly one.
    ///
    /// # Errors
    /// When the kernel refuses to be read.
    pub fn selections(&self) -> Result<Vec<(Selection, u64)>, SteeringError> {
        let sums = self.sums("SELECTIONS", Selection::LEN)?;
        Ok(Selection::ALL.into_iter().zip(sums).collect())
    }

    /// How many instructions the verifier looked at before it took the program.
    ///
    /// # Errors
    /// When the program does not load.
    ///
    /// # Minimum kernel version
    /// 5.16; `None` before.
    pub fn verified_instructions(
        &mut self,
        program: Program,
    ) -> Result<Option<u32>, SteeringError> {
        let info = match program {
            Program::Select => self.select()?.info(),
            _ => self.xdp(program)?.info(),
        };
        Ok(info.map_err(program_error(program))?.verified_instruction_count())
    }

    /// Runs an XDP program over a frame, `repeat` times, without any interface (BPF_PROG_TEST_RUN).
    /// Returns its action and how long one run took on average.
    ///
    /// # Errors
    /// When the program does not load, or the frame has under 14 bytes or more than a page.
    pub fn run(
        &mut self,
        program: Program,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(u32, Duration), SteeringError> {
        let xdp = self.xdp(program)?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = xdp.test_run(options).map_err(program_error(program))?;
        Ok((result.return_value, result.duration))
    }

    /// Runs an XDP program over a frame once. Returns its action and what became of the frame.
    ///
    /// # Errors
    /// As [`Steering::run`].
    pub fn run_once(
        &mut self,
        program: Program,
        frame: &[u8],
    ) -> Result<(u32, Vec<u8>), SteeringError> {
        let xdp = self.xdp(program)?;
        let mut after = vec![0; frame.len() + GROWTH_MAX];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ..TestRunOptions::new()
        };
        let result = xdp.test_run(options).map_err(program_error(program))?;
        after.truncate(result.data_size_out as usize);
        Ok((result.return_value, after))
    }

    /// Whether each frame's front is copied, for want of CAP_PERFMON. Known once
    /// [`Program::Steer`] is loaded.
    pub fn copies(&self) -> bool {
        self.steer == Some(Program::SteerCopied)
    }

    /// An XDP program, loaded.
    pub(crate) fn xdp(&mut self, program: Program) -> Result<&mut Xdp, SteeringError> {
        if program != Program::Steer {
            return self.load_xdp(program);
        }
        if self.steer.is_none() {
            let refused = self.load_xdp(program).err();
            self.steer = Some(match refused {
                None => Program::Steer,
                Some(refused) => {
                    // What the first one lacked is what the reader wants to know.
                    self.load_xdp(Program::SteerCopied).map_err(|_| refused)?;
                    Program::SteerCopied
                }
            });
        }
        self.load_xdp(self.steer.unwrap_or(program))
    }

    fn load_xdp(&mut self, program: Program) -> Result<&mut Xdp, SteeringError> {
        let name = program.name();
        let found = self.ebpf.program_mut(name).ok_or(SteeringError::Missing(name))?;
        let xdp: &mut Xdp = found.try_into().map_err(program_error(program))?;
        loaded(xdp.load()).map_err(program_error(program))?;
        Ok(xdp)
    }

    /// The selecting program, loaded.
    fn select(&mut self) -> Result<&mut SkReuseport, SteeringError> {
        let (program, name) = (Program::Select, Program::Select.name());
        let found = self.ebpf.program_mut(name).ok_or(SteeringError::Missing(name))?;
        let select: &mut SkReuseport = found.try_into().map_err(program_error(program))?;
        loaded(select.load()).map_err(program_error(program))?;
        Ok(select)
    }

    fn write<V: aya::Pod>(
        &mut self,
        name: &'static str,
        index: u32,
        value: V,
    ) -> Result<(), SteeringError> {
        let mut array: Array<_, V> = self.map(name)?;
        array.set(index, value, 0).map_err(map_error(name))
    }

    /// Changes a table of the programs.
    pub(crate) fn change<V: aya::Pod>(
        &mut self,
        name: &'static str,
        change: impl FnOnce(&mut V),
    ) -> Result<(), SteeringError> {
        let mut table: Array<_, V> = self.map(name)?;
        let mut value = table.get(&0, 0).map_err(map_error(name))?;
        change(&mut value);
        table.set(0, value, 0).map_err(map_error(name))
    }

    pub(crate) fn map<'m, M>(&'m mut self, name: &'static str) -> Result<M, SteeringError>
    where
        M: TryFrom<&'m mut Map, Error = MapError>,
    {
        let map = self.ebpf.map_mut(name).ok_or(SteeringError::Missing(name))?;
        M::try_from(map).map_err(map_error(name))
    }

    fn sums(&self, name: &'static str, len: u32) -> Result<Vec<u64>, SteeringError> {
        let map = self.ebpf.map(name).ok_or(SteeringError::Missing(name))?;
        let counts: PerCpuArray<_, u64> = map.try_into().map_err(map_error(name))?;
        let sum = |index| {
            let of_cores = counts.get(&index, 0).map_err(map_error(name))?;
            Ok(of_cores.iter().sum())
        };
        (0..len).map(sum).collect()
    }
}

/// Loading a program twice is no error.
pub(crate) fn loaded(result: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match result {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

fn within(what: &'static str, given: u32, limit: u32) -> Result<(), SteeringError> {
    if (1..=limit).contains(&given) {
        return Ok(());
    }
    Err(SteeringError::Capacity { what, given, limit })
}

pub(crate) fn map_error(map: &'static str) -> impl Fn(MapError) -> SteeringError {
    move |source| SteeringError::Map { map, source: Box::new(source) }
}

pub(crate) fn program_error(program: Program) -> impl Fn(ProgramError) -> SteeringError {
    move |source| {
        if is_not_permitted(&source) {
            return SteeringError::NotPermitted { what: "loading BPF programs" };
        }
        let (program, reason) = (program.name(), reason(&source));
        SteeringError::Program { program, reason, source: Box::new(source) }
    }
}

/// What the kernel said. Of the verifier's thousands of lines the last few say why.
fn reason(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    format!("{io_error}; the verifier ended with\n{last}\n")
}

/// The instruction that the verifier stopped at, why, and what it had seen until then.
const LOG_LINES: usize = 8;

/// The tables of the programs: sections of the object, each a map of one value.
const SETTINGS: &str = ".data.settings";
const EPOCHS: &str = ".data.epochs";

/// By how much a program may lengthen a frame.
const GROWTH_MAX: usize = 64;

/// Frames that wait for a core before more are lost. As many as an interface's own queue has.
const MOVED_FRAMES_MAX: u32 = 2_048;
