//! readings look at the host before and after a cell: what happened in between.

use std::collections::BTreeMap;

use super::Guard;
use crate::facts::Files;

/// The host that the cells run on.
#[derive(Debug)]
pub struct Machine {
    files: Files,
}

/// Everything that counts up, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Ticks of all CPUs: user, nice, system, idle, iowait, irq, softirq, steal.
    ticks: Option<[u64; 8]>,
    /// Ticks of threads that poll devices: softirq by another name.
    napi: u64,
    /// Dropped for a full queue of a CPU.
    backlog: Option<u64>,
    /// UDP of the server's and the generator's namespace: received, dropped.
    udp: Option<[u64; 2]>,
    /// Hottest sensor, thousandths of a degree.
    temperature: Option<i64>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { files: Files::at("/") }
    }
}

impl Machine {
    /// Looks now. `processes`: one in each network namespace that matters.
    #[must_use]
    pub fn look(&self, processes: &[u32]) -> Counters {
        let mut udp = Some([0, 0]);
        for process in processes {
            let found = self.udp(&format!("/proc/{process}/net/snmp"));
            udp = udp.zip(found).map(|([a, b], [c, d])| [a + c, b + d]);
        }
        Counters {
            ticks: self.ticks(),
            napi: self.napi(),
            backlog: self.backlog(),
            udp: udp.filter(|_| !processes.is_empty()),
            temperature: self.temperature(),
        }
    }

    fn ticks(&self) -> Option<[u64; 8]> {
        let text = self.files.text("/proc/stat")?;
        let line = text.lines().find(|line| line.starts_with("cpu "))?;
        let mut numbers = line.split_whitespace().skip(1).map(str::parse);
        let mut ticks = [0; 8];
        for tick in &mut ticks {
            *tick = numbers.next()?.ok()?;
        }
        Some(ticks)
    }

    fn napi(&self) -> u64 {
        let is_process = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        let ticks = |process: String| {
            let name = self.files.text(&format!("/proc/{process}/comm"))?;
            name.starts_with("napi/").then_some(())?;
            let text = self.files.text(&format!("/proc/{process}/stat"))?;
            // Behind the name: the 14th and the 15th of all fields are user and system time.
            let mut fields = text.rsplit(')').next()?.split_whitespace().skip(11);
            let mut next = || fields.next()?.parse::<u64>().ok();
            Some(next()? + next()?)
        };
        self.files.names("/proc").into_iter().filter(is_process).filter_map(ticks).sum()
    }

    fn backlog(&self) -> Option<u64> {
        let text = self.files.text("/proc/net/softnet_stat")?;
        let dropped = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
        text.lines().map(dropped).sum()
    }

    fn udp(&self, path: &str) -> Option<[u64; 2]> {
        let text = self.files.text(path)?;
        let mut lines = text.lines().filter(|line| line.starts_with("Udp: "));
        let (names, values) = (lines.next()?, lines.next()?);
        let find = |wanted: &str| -> Option<u64> {
            let at = names.split(' ').position(|name| name == wanted)?;
            values.split(' ').nth(at)?.parse().ok()
        };
        // Linux counts full receive buffers as InErrors too.
        let dropped = find("InErrors")?.saturating_add(find("SndbufErrors")?);
        Some([find("InDatagrams")?, dropped])
    }

    fn temperature(&self) -> Option<i64> {
        let folder = "/sys/class/thermal";
        let zones = self.files.names(folder).into_iter();
        let zones = zones.filter(|name| name.starts_with("thermal_zone"));
        zones.filter_map(|name| self.files.value(&format!("{folder}/{name}/temp"))).max()
    }
}

impl Counters {
    /// What happened since `before`, `seconds` ago, in which our own processes took
    /// `ours_s` seconds of CPU time.
    #[must_use]
    pub fn since(&self, before: &Self, seconds: f64, ours_s: f64) -> BTreeMap<Guard, f64> {
        let mut readings = BTreeMap::new();
        if let (Some(now), Some(then)) = (self.ticks, before.ticks) {
            let ticks: Vec<f64> =
                now.iter().zip(then).map(|(now, then)| now.saturating_sub(then) as f64).collect();
            let all: f64 = ticks.iter().sum();
            if all > 0.0 {
                let share = |tick: f64| tick / all;
                readings.insert(Guard::Steal, share(ticks[7]));
                let napi = self.napi.saturating_sub(before.napi) as f64;
                readings.insert(Guard::Softirq, share(ticks[6] + napi));
                // Softirq runs on behalf of anybody, mostly of us.
                let busy: f64 = ticks[..3].iter().sum();
                let others = busy - napi - ours_s * TICKS_PER_S;
                readings.insert(Guard::Others, share(others).max(0.0));
            }
        }
        if let (Some(now), Some(then), true) = (self.backlog, before.backlog, seconds > 0.0) {
            readings.insert(Guard::Backlog, now.saturating_sub(then) as f64 / seconds);
        }
        if let (Some(now), Some(then)) = (self.udp, before.udp) {
            let [received, dropped] = [0, 1].map(|at| now[at].saturating_sub(then[at]) as f64);
            let all = received + dropped;
            readings.insert(Guard::Drops, if all > 0.0 { dropped / all } else { 0.0 });
        }
        if let Some(temperature) = self.temperature {
            readings.insert(Guard::Temperature, temperature as f64 / 1_000.0);
        }
        readings
    }
}

/// USER_HZ, the same on every Linux that this runs on: the ticks of /proc/stat.
pub const TICKS_PER_S: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::Tree;

    const SNMP: &str = "Ip: a b\nIp: 1 2\nUdp: InDatagrams NoPorts InErrors OutDatagrams \
                        RcvbufErrors SndbufErrors\nUdp: ";

    fn machine(stat: &str, softnet: &str, udp: &str, heat: &str) -> (Tree, Machine) {
        let snmp = format!("{SNMP}{udp}\n");
        let tree = Tree::new(&[
            ("proc/stat", stat),
            ("proc/net/softnet_stat", softnet),
            ("proc/7/net/snmp", &snmp),
            ("proc/9/net/snmp", &snmp),
            ("sys/class/thermal/thermal_zone0/temp", "40000\n"),
            ("sys/class/thermal/thermal_zone1/temp", heat),
            ("sys/class/thermal/cooling_device0/temp", "99000\n"),
        ]);
        let machine = Machine { files: tree.files() };
        (tree, machine)
    }

    #[test]
    fn what_happened_is_a_difference() {
        let softnet = "00000100 00000002 00000000\n00000100 00000001 00000000\n";
        let (_a, before) =
            machine("cpu  100 0 100 1000 0 0 10 5 0 0\n", softnet, "100 0 3 9 3 1", "50000\n");
        let softnet = "00000200 0000000c 00000000\n00000100 00000001 00000000\n";
        let (_b, after) =
            machine("cpu  180 0 120 1080 0 0 20 15 0 0\n", softnet, "598 0 4 9 4 2", "51500\n");
        let (before, after) = (before.look(&[7, 9]), after.look(&[7, 9]));
        let readings = after.since(&before, 2.0, 0.6);
        let expected = [
            (Guard::Steal, 0.05),
            (Guard::Others, 0.2),
            (Guard::Softirq, 0.05),
            (Guard::Drops, 4.0 / 1_000.0),
            (Guard::Backlog, 5.0),
            (Guard::Temperature, 51.5),
        ];
        assert_eq!(readings.len(), expected.len(), "{readings:?}");
        for (guard, value) in expected {
            assert!((readings[&guard] - value).abs() < 1e-9, "{guard:?} {readings:?}");
        }
    }

    #[test]
    fn threads_that_poll_devices_are_softirq() {
        let at = |system: u64, napi: u64| {
            let stat = format!("cpu  0 0 {system} 1000 0 0 0 0 0 0\n");
            let thread = format!("17 (napi/lane0 (1)-3) S 2 0 0 0 -1 6 0 0 0 0 1 {napi} 0 0 20\n");
            let shell = "18 (sh) S 2 0 0 0 -1 6 0 0 0 0 50 50 0 0 20\n";
            let tree = Tree::new(&[
                ("proc/stat", &stat),
                ("proc/17/comm", "napi/lane0 (1)-\n"),
                ("proc/17/stat", &thread),
                ("proc/18/comm", "sh\n"),
                ("proc/18/stat", shell),
            ]);
            Machine { files: tree.files() }.look(&[])
        };
        let readings = at(100, 81).since(&at(0, 1), 1.0, 0.2);
        assert_eq!(readings[&Guard::Softirq], 0.8);
        assert!(readings[&Guard::Others].abs() < 1e-9, "{readings:?}");
    }

    #[test]
    fn what_is_not_readable_is_left_out() {
        let tree = Tree::new(&[("proc/stat", "cpu  1 2\n"), ("proc/net/softnet_stat", "x\n")]);
        let machine = Machine { files: tree.files() };
        let counters = machine.look(&[7]);
        assert!(counters.since(&Counters::default(), 1.0, 0.0).is_empty());
        assert_eq!(counters, Counters::default());
    }

    #[test]
    fn this_host_is_readable() {
        let now = Machine::default().look(&[std::process::id()]);
        assert!(now.ticks.is_some() && now.udp.is_some(), "{now:?}");
    }
}
