//! killed ends apply and revert after each of their steps, and looks whether the host is as before.
//!
//! Dropping what runs is what SIGKILL does: nothing more is written, and the locks are free.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::apply::{Applying, Done, Stay};
use crate::journal::{Begin, Entry, Folder, VERSION};
use crate::knobs::{Knob, Reach};
use crate::plan::Change;
use crate::revert::{Outcome, Place, Reverting};
use crate::site::{Nic, Site};
use crate::system::{Board, Refusal};

/// A host that writes values down as the kernel does, each kind in its own way.
struct Kernel {
    values: RefCell<BTreeMap<String, String>>,
    boot: RefCell<String>,
    namespace: Cell<u64>,
    other_lives: Cell<bool>,
    /// What was written, in order.
    writes: RefCell<Vec<&'static str>>,
    /// The knob whose driver goes away when it is written.
    resets: Cell<Option<&'static str>>,
    away: Cell<bool>,
    /// What a governor other than performance gives back, as intel_pstate does.
    preference: RefCell<String>,
}

/// Knob, file, what is read, what is wanted, what is read then.
const VALUES: [(&str, Option<&str>, &str, &str, &str); 14] = [
    ("rmem_max", Some("/rmem"), "212992\n", "16777216", "16777216\n"),
    ("udp_mem", Some("/mem"), "1\t2\t3\n", "4 5 6", "4\t5\t6\n"),
    ("huge_pages", Some("/thp"), "always [madvise] never\n", "never", "always madvise [never]\n"),
    ("rps_cpus", Some("/rps"), "00000000,00000000\n", "3", "00000000,00000003\n"),
    ("gro", None, "off", "on", "on"),
    // Asked for before, and something else is in the way.
    ("udp_segmentation", None, "off [requested on]", "on", "off [requested on]"),
    // The driver rounds up.
    ("ring_rx", None, "500", "900", "1024"),
    // The kernel takes it and keeps its value.
    ("lro", None, "off", "on", "off"),
    // The kernel refuses it.
    ("threaded_napi", Some("/threaded"), "0\n", "1", "refused"),
    // It is asked for from now on, and something else is in the way.
    ("tx_checksum", None, "off", "on", "off [requested on]"),
    // There are no such CPUs.
    ("xps_cpus", Some("/xps"), "00000001\n", "ff", "0000000f\n"),
    ("irq_affinity", Some("/irq"), "0\n", "0-31", "0-3\n"),
    // The second one forces the first one.
    ("energy_preference", Some(EPP), "balance_performance\n", "performance", "performance\n"),
    ("governor", Some("/governor"), "powersave\n", "performance", "performance\n"),
];

const EPP: &str = "/epp";

impl Kernel {
    fn new() -> Self {
        let values = VALUES.iter().map(|(id, path, before, ..)| {
            (path.map_or_else(|| (*id).to_owned(), str::to_owned), (*before).to_owned())
        });
        Self {
            values: RefCell::new(values.collect()),
            boot: RefCell::new("boot 1".into()),
            namespace: Cell::new(7),
            other_lives: Cell::new(true),
            writes: RefCell::default(),
            resets: Cell::default(),
            away: Cell::default(),
            preference: RefCell::default(),
        }
    }

    fn sites() -> impl Iterator<Item = (Site, &'static str)> {
        VALUES.iter().map(|(id, path, _, wanted, _)| {
            let knob = Knob::by_id(id).unwrap();
            let interface =
                (knob.reach == Reach::Interface).then(|| Nic { name: "eth0".into(), index: 2 });
            (Site { knob, interface, path: path.map(str::to_owned) }, *wanted)
        })
    }

    fn changes(&self) -> Vec<Change> {
        let change = |(site, to): (Site, &str)| {
            let form = site.knob.access.form().unwrap();
            let from = form.value(&self.read(&site).unwrap());
            Change { site, from, to: to.into(), why: "test".into(), form, by_hand: true }
        };
        Self::sites().map(change).collect()
    }

    fn state(&self) -> BTreeMap<String, String> {
        self.values.borrow().clone()
    }

    fn written(&self) -> Vec<&'static str> {
        self.writes.borrow().clone()
    }

    fn key(site: &Site) -> String {
        site.path.clone().unwrap_or_else(|| site.knob.id.to_owned())
    }

    /// The governor performance sets the energy preference too, and lets nobody set another.
    fn govern(&self, id: &str, value: &str) -> Result<(), Refusal> {
        let mut values = self.values.borrow_mut();
        let performs = values["/governor"] == "performance\n";
        match (id, value) {
            ("energy_preference", value) if performs && value != "performance" => {
                return Err(Refusal::Other("Device or resource busy (os error 16)".into()));
            }
            ("governor", "performance") if !performs => {
                let before = values.insert(EPP.into(), "performance\n".into());
                *self.preference.borrow_mut() = before.unwrap();
            }
            ("governor", value) if performs && value != "performance" => {
                values.insert(EPP.into(), self.preference.borrow().clone());
            }
            _ => {}
        }
        Ok(())
    }
}

impl Board for Kernel {
    fn read(&self, site: &Site) -> Result<String, Refusal> {
        if self.away.get() && self.resets.get() == Some(site.knob.id) {
            return Err(Refusal::Other("Network is down (os error 100)".into()));
        }
        self.values.borrow().get(&Self::key(site)).cloned().ok_or(Refusal::Absent)
    }

    fn write(&self, site: &Site, value: &str) -> Result<(), Refusal> {
        self.writes.borrow_mut().push(site.knob.id);
        let (_, _, before, wanted, after) =
            VALUES.iter().find(|(id, ..)| *id == site.knob.id).unwrap();
        let form = site.knob.access.form().unwrap();
        let now = match value {
            value if value == *wanted => *after,
            value if value == form.restore(before) => *before,
            other => panic!("{}: nobody has this value: {other}", site.knob.id),
        };
        if now == "refused" {
            return Err(Refusal::Other("Operation not supported (os error 95)".into()));
        }
        self.govern(site.knob.id, value)?;
        self.values.borrow_mut().insert(Self::key(site), now.to_owned());
        self.away.set(self.away.get() || self.resets.get() == Some(site.knob.id));
        Ok(())
    }
}

impl Place for Kernel {
    fn boot(&self) -> String {
        self.boot.borrow().clone()
    }

    fn namespace(&self) -> u64 {
        self.namespace.get()
    }

    fn way_into(&self, namespace: u64) -> Option<String> {
        self.other_lives.get().then(|| format!("/ns/{namespace}"))
    }

    fn find(&self, knob: &'static Knob, entry: &Entry) -> Result<Option<Site>, String> {
        let (interface, path) = (entry.interface.clone(), entry.path.clone());
        let site = Site { knob, interface, path };
        Ok(self.values.borrow().contains_key(&Self::key(&site)).then_some(site))
    }
}

struct Trial {
    folder: Folder,
    _keeps: tempfile::TempDir,
}

impl Trial {
    fn new() -> Self {
        // In memory where that is: every record waits for the disk, thousands of them.
        let keeps = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self { folder: Folder::new(keeps.path()), _keeps: keeps }
    }

    /// Runs at most `steps` of apply; how many there were.
    fn apply(&self, kernel: &Kernel, steps: usize) -> usize {
        let changes = kernel.changes();
        let mut applying = self.applying(kernel, &changes);
        (0..steps).take_while(|_| applying.step().unwrap()).count()
    }

    /// Applies to the end, as a lab does; what became of each change.
    fn results(&self, kernel: &Kernel, changes: &[Change]) -> Vec<Done> {
        let (results, journal) = self.applying(kernel, changes).run().unwrap();
        journal.close_if_over().unwrap();
        results
    }

    fn applying<'a>(&self, kernel: &'a Kernel, changes: &'a [Change]) -> Applying<'a, Kernel> {
        let held = self.folder.hold("test", Duration::ZERO).unwrap();
        let (boot, namespace) = (kernel.boot(), kernel.namespace());
        let (version, by) = (VERSION, "test".into());
        let begin = Begin { version, boot, namespace, pid: 1, by, at_s: 0, for_s: None };
        Applying::new(kernel, held.begin(begin).unwrap(), changes, Stay::Set)
    }

    /// Runs at most `steps` of revert; how many there were.
    fn revert(&self, kernel: &Kernel, steps: usize) -> usize {
        let mut reverting = self.reverting(kernel).unwrap();
        (0..steps).take_while(|_| reverting.step().unwrap()).count()
    }

    /// Reverts to the end; what became of each value.
    fn finish(&self, kernel: &Kernel) -> Vec<(u32, Outcome)> {
        self.reverting(kernel).map_or_else(Vec::new, |all| all.run().unwrap().outcomes)
    }

    fn reverting<'k>(&self, kernel: &'k Kernel) -> Option<Reverting<'k, Kernel>> {
        let held = self.folder.hold("test", Duration::ZERO).unwrap();
        let log = self.folder.read().unwrap()?;
        Some(Reverting::new(kernel, held, log, false).unwrap())
    }

    fn journal(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("journal")).unwrap()
    }

    fn is_closed(&self) -> bool {
        self.folder.read().unwrap().is_none()
    }
}

const ALL: usize = usize::MAX;

#[test]
fn apply_sets_everything_that_the_kernel_takes() {
    let (kernel, trial) = (Kernel::new(), Trial::new());
    let steps = trial.apply(&kernel, ALL);
    assert_eq!(steps, 3 * VALUES.len() + 1);
    for ((id, path, before, _, after), (_, now)) in VALUES.iter().map(|value| {
        let key = value.1.map_or_else(|| value.0.to_owned(), str::to_owned);
        (value, (key.clone(), kernel.state()[&key].clone()))
    }) {
        let expected = if *after == "refused" { before } else { after };
        assert_eq!(now, *expected, "{id} {path:?}");
    }
}

#[test]
fn killed_after_any_step_of_apply_the_host_is_put_back() {
    let before = Kernel::new().state();
    let all = Trial::new().apply(&Kernel::new(), ALL);
    let mut differed = 0;
    for steps in 0..=all {
        let (kernel, trial) = (Kernel::new(), Trial::new());
        assert_eq!(trial.apply(&kernel, steps), steps);
        differed += usize::from(kernel.state() != before);
        let outcomes = trial.finish(&kernel);
        assert_eq!(kernel.state(), before, "after {steps} steps: {outcomes:?}");
        assert!(trial.is_closed(), "after {steps} steps: {outcomes:?}");
        assert!(trial.finish(&kernel).is_empty(), "a second revert has nothing to do");
    }
    assert!(differed > all / 2, "most kills leave something to put back: {differed} of {all}");
}

#[test]
fn killed_in_the_middle_of_a_record_the_host_is_put_back() {
    let before = Kernel::new().state();
    let all = Trial::new().apply(&Kernel::new(), ALL);
    let mut cuts = 0;
    for steps in 1..=all {
        let (kernel, trial) = (Kernel::new(), Trial::new());
        trial.apply(&kernel, steps - 1);
        let whole = (trial.journal().len(), kernel.state());
        let (kernel, trial) = (Kernel::new(), Trial::new());
        trial.apply(&kernel, steps);
        let journal = trial.journal();
        let values = kernel.state();
        assert!(whole.0 == journal.len() || whole.1 == values, "a step does one thing");
        for cut in whole.0..journal.len() {
            fs::write(trial.folder.path().join("journal"), &journal[..cut]).unwrap();
            *kernel.values.borrow_mut() = values.clone();
            // Killed once more, so that what was torn lies in the middle of what follows.
            trial.revert(&kernel, 3);
            trial.finish(&kernel);
            assert_eq!(kernel.state(), before, "{steps} steps, cut at {cut}");
            assert!(trial.is_closed());
            cuts += 1;
        }
    }
    assert!(cuts > 1_000, "{cuts}");
}

#[test]
fn killed_after_any_step_of_revert_and_of_apply_the_host_is_put_back() {
    let before = Kernel::new().state();
    let all = Trial::new().apply(&Kernel::new(), ALL);
    for applied in 0..=all {
        for reverted in 0.. {
            let (kernel, trial) = (Kernel::new(), Trial::new());
            trial.apply(&kernel, applied);
            let over = trial.revert(&kernel, reverted) < reverted;
            trial.finish(&kernel);
            assert_eq!(kernel.state(), before, "{applied} of apply, {reverted} of revert");
            assert!(trial.is_closed(), "{applied} of apply, {reverted} of revert");
            if over {
                break;
            }
        }
    }
}

#[test]
fn last_things_are_put_back_first() {
    let (kernel, trial) = (Kernel::new(), Trial::new());
    trial.apply(&kernel, ALL);
    let written = kernel.written();
    assert_eq!(written, VALUES.map(|(id, ..)| id));
    trial.finish(&kernel);
    // What the kernel did not take is not written again.
    let took = VALUES
        .iter()
        .rev()
        .filter(|(_, _, before, _, after)| before != after && *after != "refused");
    let took: Vec<&str> = took.map(|(id, ..)| *id).collect();
    assert_eq!(kernel.written()[written.len()..], took);
}

#[test]
fn after_a_reboot_nothing_is_written_and_the_journal_is_closed() {
    let all = Trial::new().apply(&Kernel::new(), ALL);
    for steps in 0..=all {
        let (kernel, trial) = (Kernel::new(), Trial::new());
        trial.apply(&kernel, steps);
        *kernel.boot.borrow_mut() = "boot 2".into();
        let (writes, values) = (kernel.written(), kernel.state());
        let outcomes = trial.finish(&kernel);
        assert_eq!((kernel.written(), kernel.state()), (writes, values), "{steps}");
        assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Rebooted), "{outcomes:?}");
        assert!(trial.is_closed());
    }
}

#[test]
fn what_somebody_else_changed_stays_and_the_rest_is_put_back() {
    let (kernel, trial) = (Kernel::new(), Trial::new());
    let before = kernel.state();
    trial.apply(&kernel, ALL);
    kernel.values.borrow_mut().insert("/rmem".into(), "33554432\n".into());
    kernel.values.borrow_mut().remove("/mem");
    let outcomes: BTreeMap<u32, Outcome> = trial.finish(&kernel).into_iter().collect();
    assert_eq!(outcomes[&0], Outcome::Foreign { now: "33554432".into() });
    assert!(matches!(&outcomes[&1], Outcome::Gone { .. }), "{outcomes:?}");
    let now = kernel.state();
    assert_eq!(now["/rmem"], "33554432\n");
    for (key, value) in before.iter().filter(|(key, _)| !["/rmem", "/mem"].contains(&key.as_str()))
    {
        assert_eq!(now[key], *value, "{key}");
    }
    assert!(trial.is_closed());
}

#[test]
fn what_cannot_be_read_back_stays_in_the_journal_until_it_is_as_before() {
    let changes = |kernel: &Kernel, id| {
        let mut changes = kernel.changes();
        changes.retain(|change| change.site.knob.id == id);
        changes
    };
    for id in ["ring_rx", "udp_mem"] {
        let (kernel, trial) = (Kernel::new(), Trial::new());
        let before = kernel.state();
        kernel.resets.set(Some(id));
        let results = trial.results(&kernel, &changes(&kernel, id));
        let [Done::Unknown(text)] = &results[..] else { panic!("{id}: {results:?}") };
        for words in ["writing it went well", "Network is down", "tune status", "tune revert"] {
            assert!(text.contains(words), "{text}");
        }
        assert!(results[0].is_set() && !results[0].is_sure());
        assert_ne!(kernel.state(), before);
        let outcomes = trial.finish(&kernel);
        assert!(matches!(outcomes[..], [(0, Outcome::Failed { .. })]), "{outcomes:?}");
        assert!(!trial.is_closed(), "it is not forgotten");
        kernel.resets.set(None);
        assert_eq!(trial.finish(&kernel), [(0, Outcome::Restored)]);
        assert_eq!((kernel.state(), trial.is_closed()), (before, true));
    }
    let (kernel, trial) = (Kernel::new(), Trial::new());
    let results = trial.results(&kernel, &changes(&kernel, "threaded_napi"));
    assert!(matches!(results[..], [Done::Refused(_)]), "{results:?}");
    assert!(trial.is_closed(), "of what was refused nothing is left");
}

#[test]
fn what_another_value_needs_to_be_put_back_stays_until_then() {
    let (kernel, trial) = (Kernel::new(), Trial::new());
    let before = kernel.state();
    let mut changes = kernel.changes();
    changes.retain(|change| ["gro", "threaded_napi"].contains(&change.site.knob.id));
    let mut applying = trial.applying(&kernel, &changes);
    // Killed before the kernel's refusal is noted, and then it is as if there had been none.
    assert_eq!((0..5).take_while(|_| applying.step().unwrap()).count(), 5);
    drop(applying);
    kernel.values.borrow_mut().insert("/threaded".into(), "1\n".into());
    kernel.resets.set(Some("threaded_napi"));
    kernel.away.set(true);
    for _ in 0..2 {
        let outcomes = trial.finish(&kernel);
        let [(1, Outcome::Failed { .. }), (0, Outcome::Failed { why })] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert!(why.contains("threaded_napi needs it"), "{why}");
        assert_eq!(kernel.state()["gro"], "on");
    }
    kernel.resets.set(None);
    assert_eq!(trial.finish(&kernel), [(1, Outcome::Restored), (0, Outcome::Restored)]);
    assert_eq!((kernel.state(), trial.is_closed()), (before, true));
}

#[test]
fn what_a_write_before_has_done_is_set() {
    let (kernel, trial) = (Kernel::new(), Trial::new());
    let before = kernel.state();
    let mut changes = kernel.changes();
    changes.retain(|change| ["energy_preference", "governor"].contains(&change.site.knob.id));
    changes.reverse();
    assert_eq!(trial.results(&kernel, &changes), [Done::Set, Done::Set]);
    assert_eq!(kernel.written(), ["governor"]);
    assert_eq!(trial.finish(&kernel), [(0, Outcome::Restored)]);
    assert_eq!((kernel.state(), trial.is_closed()), (before, true));
}

#[test]
fn a_feature_is_known_by_what_was_asked_for_not_by_what_came_of_it() {
    for (now, ours) in [("on", true), ("off [requested on]", true), ("on [requested off]", false)] {
        let (kernel, trial) = (Kernel::new(), Trial::new());
        trial.apply(&kernel, ALL);
        kernel.values.borrow_mut().insert("tx_checksum".into(), now.into());
        let outcomes: BTreeMap<u32, Outcome> = trial.finish(&kernel).into_iter().collect();
        let foreign = Outcome::Foreign { now: "on".into() };
        let expected = if ours { Outcome::Restored } else { foreign };
        assert_eq!(outcomes[&9], expected, "{now}");
    }
}

#[test]
fn on_a_full_disk_every_value_is_put_back_and_the_journal_stays() {
    let (kernel, trial) = (Kernel::new(), Trial::new());
    let before = kernel.state();
    trial.apply(&kernel, ALL);
    let mut reverting = trial.reverting(&kernel).unwrap();
    reverting.journal().fill_disk();
    let Err(error) = reverting.run() else { panic!("there is no room for records") };
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(kernel.state(), before);
    assert!(!trial.is_closed());
    let outcomes = trial.finish(&kernel);
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Already), "{outcomes:?}");
    assert!(trial.is_closed());
}

#[test]
fn a_value_that_was_put_back_by_hand_is_not_written_again() {
    let (kernel, trial) = (Kernel::new(), Trial::new());
    let before = kernel.state();
    trial.apply(&kernel, ALL);
    *kernel.values.borrow_mut() = before;
    let writes = kernel.written();
    let outcomes = trial.finish(&kernel);
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Already), "{outcomes:?}");
    assert_eq!(kernel.written(), writes);
}

#[test]
fn another_namespace_is_entered_first_or_is_gone() {
    let (kernel, trial) = (Kernel::new(), Trial::new());
    let before = kernel.state();
    trial.apply(&kernel, ALL);
    kernel.namespace.set(8);
    let outcomes: BTreeMap<u32, Outcome> = trial.finish(&kernel).into_iter().collect();
    assert_eq!(outcomes[&0], Outcome::Restored, "the host's own");
    assert_eq!(outcomes[&4], Outcome::Elsewhere { path: "/ns/7".into() });
    assert!(!trial.is_closed(), "the journal waits");
    kernel.namespace.set(7);
    trial.finish(&kernel);
    assert_eq!(kernel.state(), before);
    assert!(trial.is_closed());

    let (kernel, trial) = (Kernel::new(), Trial::new());
    trial.apply(&kernel, ALL);
    kernel.namespace.set(8);
    kernel.other_lives.set(false);
    let outcomes: BTreeMap<u32, Outcome> = trial.finish(&kernel).into_iter().collect();
    assert!(matches!(&outcomes[&4], Outcome::Gone { .. }), "{outcomes:?}");
    assert!(trial.is_closed());
}
