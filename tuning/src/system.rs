//! system reads and writes knobs where they are: the one room that changes the host.
//!
//! What is written is one write(2) of the whole value, as the kernel wants it. Nothing is created:
//! a file that is not there stays away.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::{fmt, fs};

use crate::device::Device;
use crate::facts::Files;
use crate::knobs::Access;
use crate::site::{Nic, Site};

/// Why a knob could not be read or written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// There is no such thing here, or the driver cannot do it.
    Absent,
    /// This process may not.
    NotPermitted,
    /// The file system is mounted read-only.
    ReadOnly,
    /// Nobody can change it.
    Fixed,
    /// Anything else, in the kernel's words.
    Other(String),
}

impl Refusal {
    fn new(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::Unsupported => Self::Absent,
            ErrorKind::PermissionDenied => Self::NotPermitted,
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ if error.raw_os_error() == Some(ENODEV) => Self::Absent,
            _ => Self::Other(error.to_string()),
        }
    }

    /// What may be read and not be set is there.
    fn of_write(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::Unsupported => Self::Other(format!("not supported by its driver: {error}")),
            _ => Self::new(error),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "not on this host",
            Self::NotPermitted => "not permitted: run as root (sudo), outside of containers",
            Self::ReadOnly => "mounted read-only: set it outside of the container",
            Self::Fixed => "fixed: the driver cannot change it",
            Self::Other(text) => text,
        })
    }
}

/// linux/errno.h
const ENODEV: i32 = 19;

/// Where values are read from and written to. Tests stop it, or have it refuse.
pub(crate) trait Board {
    /// What is there, byte by byte.
    fn read(&self, site: &Site) -> Result<String, Refusal>;
    /// Sets it.
    fn write(&self, site: &Site, value: &str) -> Result<(), Refusal>;
}

/// This machine, or a folder that stands in for it.
pub(crate) struct System {
    pub(crate) files: Files,
    device: Option<Device>,
    /// Whether this process may set what ethtool sets.
    net_admin: bool,
}

impl System {
    pub(crate) fn new(files: Files, device: Option<Device>, net_admin: bool) -> Self {
        Self { files, device, net_admin }
    }

    /// The number of this boot.
    pub(crate) fn boot(&self) -> String {
        self.files.text("/proc/sys/kernel/random/boot_id").unwrap_or_default()
    }

    /// The number of this thread's network namespace.
    pub(crate) fn namespace(&self) -> u64 {
        let path = self.files.full("/proc/thread-self/ns/net");
        fs::metadata(path).map_or(0, |namespace| namespace.ino())
    }

    /// The file of the network namespace with this number, if anybody still has it.
    pub(crate) fn way_into(&self, namespace: u64) -> Option<String> {
        let has = |path: &str| {
            fs::metadata(self.files.full(path)).is_ok_and(|found| found.ino() == namespace)
        };
        let processes = self.files.names("/proc");
        let numbers = processes.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        let path = numbers.map(|number| format!("/proc/{number}/ns/net")).find(|path| has(path));
        path.or_else(|| self.mounted(namespace))
    }

    /// Where the namespace is mounted, as `ip netns` does.
    fn mounted(&self, namespace: u64) -> Option<String> {
        let mounts = self.files.text("/proc/self/mountinfo")?;
        let root = format!("net:[{namespace}]");
        mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(3);
            (words.next()? == root).then(|| words.next().map(str::to_owned))?
        })
    }

    /// Whether [`Board::write`] would be let through, as far as can be told without writing.
    pub(crate) fn may_write(&self, site: &Site) -> Result<(), Refusal> {
        match &site.path {
            // Opening changes nothing; the kernel's own rules decide.
            Some(path) => match OpenOptions::new().write(true).open(self.files.full(path)) {
                Ok(_) => Ok(()),
                Err(error) => Err(Refusal::new(&error)),
            },
            None if self.read(site)?.contains("[fixed]") => Err(Refusal::Fixed),
            None if !self.net_admin => Err(Refusal::NotPermitted),
            None => Ok(()),
        }
    }

    fn on_device<T>(
        &self,
        site: &Site,
        work: impl FnOnce(&Device, &Nic) -> io::Result<T>,
        refusal: impl FnOnce(&io::Error) -> Refusal,
    ) -> Result<T, Refusal> {
        let (Some(device), Some(nic)) = (&self.device, &site.interface) else {
            return Err(Refusal::Other("ethtool netlink cannot be used here".into()));
        };
        work(device, nic).map_err(|error| refusal(&error))
    }
}

impl Board for System {
    fn read(&self, site: &Site) -> Result<String, Refusal> {
        let value = match (&site.path, site.knob.access) {
            (Some(path), _) => {
                return read_text(&self.files, path).map_err(|error| match error.kind() {
                    // A value that does not apply, as sysfs says it.
                    ErrorKind::InvalidInput => Refusal::Absent,
                    _ => Refusal::new(&error),
                });
            }
            (None, Access::Feature(name)) => {
                self.on_device(site, |device, nic| device.feature(nic.index, name), Refusal::new)?
            }
            (None, Access::Device(setting)) => {
                let read = |device: &Device, nic: &Nic| device.number(nic.index, &setting);
                let number = self.on_device(site, read, Refusal::new);
                number?.map(|number| number.to_string())
            }
            (None, _) => None,
        };
        value.ok_or(Refusal::Absent)
    }

    fn write(&self, site: &Site, value: &str) -> Result<(), Refusal> {
        match (&site.path, site.knob.access) {
            (Some(path), _) => write_text(&self.files, path, value),
            (None, Access::Feature(name)) => {
                let set =
                    |device: &Device, nic: &Nic| device.set_feature(nic.index, name, value == "on");
                self.on_device(site, set, Refusal::of_write)
            }
            (None, Access::Device(setting)) => {
                let number = value.parse().map_err(|_| Refusal::Other(format!("{value:?}")))?;
                let set =
                    |device: &Device, nic: &Nic| device.set_number(nic.index, &setting, number);
                self.on_device(site, set, Refusal::of_write)
            }
            (None, _) => Err(Refusal::Fixed),
        }
    }
}

fn read_text(files: &Files, path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(files.full(path))?.take(VALUE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn write_text(files: &Files, path: &str, value: &str) -> Result<(), Refusal> {
    let file = OpenOptions::new().write(true).truncate(true).open(files.full(path));
    let written = file.and_then(|mut file| {
        let line = format!("{value}\n");
        // A second write would be another value.
        match file.write(line.as_bytes())? {
            written if written == line.len() => Ok(()),
            _ => Err(io::Error::from(ErrorKind::WriteZero)),
        }
    });
    written.map_err(|error| Refusal::of_write(&error))
}

/// A page: what /proc/sys and sysfs give at most.
const VALUE_BYTES_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs::Knob;
    use crate::recorded::Tree;

    fn site(id: &str, path: &str) -> Site {
        Site { knob: Knob::by_id(id).unwrap(), interface: None, path: Some(path.into()) }
    }

    #[test]
    fn files_are_read_and_written_as_they_are() {
        let tree = Tree::new(&[("proc/sys/a", "1\t2\n")]);
        let system = System::new(tree.files(), None, false);
        let here = site("udp_mem", "/proc/sys/a");
        assert_eq!(system.read(&here).as_deref(), Ok("1\t2\n"));
        assert_eq!(system.may_write(&here), Ok(()));
        system.write(&here, "7").unwrap();
        assert_eq!(system.read(&here).as_deref(), Ok("7\n"));
        let gone = site("udp_mem", "/proc/sys/b");
        assert_eq!(system.read(&gone), Err(Refusal::Absent));
        assert_eq!(system.write(&gone, "7"), Err(Refusal::Absent));
        assert!(!tree.files().exists("/proc/sys/b"), "nothing is made");
    }

    #[test]
    fn the_host_has_numbers_of_its_own() {
        let system = System::new(Files::at("/"), None, false);
        assert_eq!(system.boot().len(), 36);
        assert!(system.namespace() > 0);
    }
}
