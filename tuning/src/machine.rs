//! machine is a host of files: what is planned, applied and put back on it, and what is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::apply::Done;
use crate::export::Format;
use crate::facts::{Glance, Interface, Interfaces, Link};
use crate::journal::Folder;
use crate::knobs::{Access, Knob};
use crate::lab::{Lab, Session, TuneError};
use crate::plan::Plan;
use crate::profile::Profile;
use crate::recorded::Tree;
use crate::revert::Outcome;
use crate::show::Presence;
use crate::status::State;
use crate::system::System;
use crate::wish::{Reason, Wishes};

/// A folder for a journal.
pub(crate) struct Trial {
    pub(crate) folder: Folder,
    _keeps: tempfile::TempDir,
}

impl Trial {
    pub(crate) fn new() -> Self {
        let keeps = tempfile::tempdir().unwrap();
        Self { folder: Folder::new(keeps.path()), _keeps: keeps }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.folder.read().unwrap().is_none()
    }
}

/// A machine of files, with one interface.
pub(crate) fn machine() -> (Tree, Lab) {
    let tree = Tree::new(&[
        ("proc/sys/kernel/random/boot_id", "one\n"),
        ("proc/thread-self/ns/net", ""),
        ("proc/sys/net/core/rmem_max", "212992\n"),
        ("proc/sys/net/core/wmem_max", "212992\n"),
        ("proc/sys/net/ipv4/udp_early_demux", "1\n"),
        ("proc/sys/vm/stat_interval", "1\n"),
        ("sys/class/net/eth0/ifindex", "2\n"),
        ("sys/class/net/eth0/gro_flush_timeout", "0\n"),
        ("sys/class/net/eth0/napi_defer_hard_irqs", "0\n"),
        ("sys/class/net/eth0/mtu", "1500\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "schedutil\n"),
    ]);
    let lab = lab(&tree);
    (tree, lab)
}

pub(crate) fn lab(tree: &Tree) -> Lab {
    let link = Link { index: 2, name: "eth0".into(), up: true, ..Link::default() };
    let all = vec![Interface { link, ..Interface::default() }];
    let chosen = vec!["eth0".to_owned()];
    let interfaces = Interfaces { all, chosen, ..Interfaces::default() };
    let glance = Glance { interfaces, ..Glance::default() };
    Lab::new(System::new(tree.files(), None, false), glance).unwrap()
}

fn wishes(profile: Profile) -> Wishes {
    Wishes { profile: Some(profile), ..Wishes::default() }
}

fn named(id: &str, value: &str) -> Wishes {
    Wishes { set: vec![(id.to_owned(), value.to_owned())], ..Wishes::default() }
}

pub(crate) const SESSION: Session = Session { at_s: 1, keep: None };

fn snapshot(tree: &Tree) -> Vec<Option<String>> {
    let files = tree.files();
    let paths = Knob::all().flat_map(|knob| match knob.access {
        Access::Sysctl(name, _) => vec![format!("/proc/sys/{}", name.replace('.', "/"))],
        Access::File(path, _) => {
            let path = path.replace("{interface}", "eth0");
            (0..2).map(|cpu| path.replacen("cpu*", &format!("cpu{cpu}"), 1)).collect()
        }
        _ => Vec::new(),
    });
    paths.map(|path| fs::read_to_string(files.full(&path)).ok()).collect()
}

#[test]
fn every_profile_is_applied_and_put_back_on_a_machine_of_files() {
    for profile in Profile::ALL {
        let ((tree, lab), trial) = (machine(), Trial::new());
        let before = snapshot(&tree);
        let plan = lab.plan(&wishes(profile)).unwrap();
        let again = lab.plan(&wishes(profile)).unwrap();
        assert_eq!(plan, again);
        assert_eq!(snapshot(&tree), before, "a plan changes nothing");
        assert!(!plan.changes.is_empty(), "{profile:?}");
        let applied = lab.apply(plan, &trial.folder, &SESSION, || Ok(())).unwrap();
        assert!(applied.ok && applied.results.iter().all(|done| *done == Done::Set));
        assert_ne!(snapshot(&tree), before);
        let again = lab.plan(&wishes(profile)).unwrap();
        assert_eq!(again.changes, [], "it is as wanted");
        let undone = lab.revert(&trial.folder, false).unwrap();
        assert!(undone.ok && undone.values.len() == applied.results.len(), "{undone:?}");
        assert_eq!(snapshot(&tree), before);
    }
}

#[test]
fn a_second_apply_refuses_and_names_the_first() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    let apply = |lab: &Lab, profile| {
        lab.apply(lab.plan(&wishes(profile)).unwrap(), &trial.folder, &SESSION, || Ok(()))
    };
    apply(&lab, Profile::Balanced).unwrap();
    let values = snapshot(&tree);
    let error = apply(&lab, Profile::Latency).unwrap_err();
    let text = error.to_string();
    let pid = std::process::id().to_string();
    for words in ["profile balanced", "tune revert", &pid] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.contains(&format!("--journal {}", trial.folder.path().display())), "{text}");
    assert_eq!(snapshot(&tree), values);
    // At work, not only in place.
    let held = trial.folder.hold("process 42 (profile x)", Duration::ZERO).unwrap();
    let error = lab.revert(&trial.folder, false).unwrap_err().to_string();
    assert!(error.contains("process 42 (profile x)"), "{error}");
    drop(held);
    // The host boots: what was set is gone, and so is what is in the way.
    tree.write("proc/sys/kernel/random/boot_id", "two\n");
    let applied = apply(&lab, Profile::Latency).unwrap();
    assert!(applied.notes[0].contains("profile balanced was set before the host booted"));
}

#[test]
fn a_second_apply_of_what_holds_through_the_first_is_refused() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    let plan = || lab.plan(&named("udp_early_demux", "0")).unwrap();
    assert!(lab.apply(plan(), &trial.folder, &SESSION, || Ok(())).unwrap().ok);
    assert_eq!(plan().changes, [], "it is so already");
    let again = lab.apply(plan(), &trial.folder, &SESSION, || Ok(())).unwrap_err();
    assert!(matches!(again, TuneError::InPlace { .. }), "{again}");
    let Err(again) = lab.try_out(plan(), &trial.folder, &SESSION, || Ok(())) else {
        panic!("it would go while the command runs")
    };
    assert!(matches!(again, TuneError::InPlace { .. }), "{again}");
    // Of a boot before it is in nobody's way.
    tree.write("proc/sys/kernel/random/boot_id", "two\n");
    let tried = lab
        .try_out(
            lab.plan(&named("stat_interval", "7")).unwrap(),
            &trial.folder,
            &SESSION,
            || Ok(()),
        )
        .unwrap();
    let busy = lab.apply(plan(), &trial.folder, &SESSION, || Ok(())).unwrap_err().to_string();
    assert!(busy.contains("is held by process"), "revert would be refused: {busy}");
    assert!(tried.revert().unwrap().ok);
    assert!(lab.apply(plan(), &trial.folder, &SESSION, || Ok(())).unwrap().ok);
}

#[test]
fn what_is_named_and_stays_another_is_a_failure_and_nothing_is_tried_with_it() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    let before = snapshot(&tree);
    // Absent, a link that would go down, a limit that would be lowered.
    for (id, value) in [("threaded_napi", "1"), ("mtu", "9000"), ("rmem_max", "4096")] {
        let mut wishes = named(id, value);
        wishes.set.push(("udp_early_demux".into(), "0".into()));
        let plan = || lab.plan(&wishes).unwrap();
        let tried = lab.try_out(plan(), &trial.folder, &SESSION, || Ok(())).unwrap();
        assert!(!tried.applied.ok && tried.applied.misses(), "{id}");
        assert!(tried.applied.results.is_empty() && trial.is_closed(), "{id}");
        assert_eq!(snapshot(&tree), before, "{id}");
        assert!(tried.revert().unwrap().ok);
        let applied = lab.apply(plan(), &trial.folder, &SESSION, || Ok(())).unwrap();
        assert!(!applied.ok && applied.misses() && applied.results == [Done::Set], "{id}");
        assert!(lab.revert(&trial.folder, false).unwrap().ok);
    }
    // What is so already is as asked for, and of a profile a host need not have all.
    let wishes = Wishes { set: named("mtu", "1500").set, ..wishes(Profile::Balanced) };
    let plan = lab.plan(&wishes).unwrap();
    assert!(plan.kept.iter().any(|kept| !kept.reason.is_fulfilled()), "{plan:?}");
    let tried = lab.try_out(plan, &trial.folder, &SESSION, || Ok(())).unwrap();
    assert!(tried.applied.ok && !tried.applied.misses() && snapshot(&tree) != before);
    assert!(tried.revert().unwrap().ok);
}

#[test]
fn what_is_set_for_a_command_is_said_to_be() {
    let ((_tree, lab), trial) = (machine(), Trial::new());
    let plan = lab.plan(&named("udp_early_demux", "0")).unwrap();
    let mut tried = lab.try_out(plan, &trial.folder, &SESSION, || Ok(())).unwrap();
    let stands = || {
        let session = lab.status(&trial.folder).unwrap().session.unwrap();
        let trap = lab.journal_trap(&trial.folder).unwrap();
        assert!(trap.found.contains(&session.text()) || session.state == State::Unfinished);
        (session.state, session.text(), trap.mend.unwrap().contains("revert"))
    };
    assert_eq!((stands().0, stands().2), (State::Busy, false));
    tried.runs("cat".into(), 42);
    let text = "is set while cat (process 42) runs".to_owned();
    assert_eq!(stands(), (State::Runs, text, false));
    // Its runner dies.
    drop(tried);
    assert_eq!((stands().0, stands().2), (State::Unfinished, true));
    assert!(lab.revert(&trial.folder, false).unwrap().ok);
}

#[test]
fn a_guard_that_does_not_start_leaves_everything_as_it_was() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    let before = snapshot(&tree);
    let plan = lab.plan(&wishes(Profile::Balanced)).unwrap();
    let refuses = || Err(std::io::Error::other("no such program"));
    let error = lab.apply(plan, &trial.folder, &SESSION, refuses).unwrap_err();
    assert!(error.to_string().contains("no such program"), "{error}");
    assert_eq!(snapshot(&tree), before);
    assert!(trial.is_closed());
}

#[test]
fn a_journal_that_was_only_just_created_is_in_nobodys_way() {
    let ((_tree, lab), trial) = (machine(), Trial::new());
    fs::write(trial.folder.path().join("journal"), "{\"record\":\"be").unwrap();
    let plan = lab.plan(&wishes(Profile::Balanced)).unwrap();
    assert!(lab.apply(plan, &trial.folder, &SESSION, || Ok(())).unwrap().ok);
    assert!(lab.revert(&trial.folder, false).unwrap().ok);
}

#[test]
fn what_changed_between_plan_and_apply_is_left_alone() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    let plan = lab.plan(&wishes(Profile::Balanced)).unwrap();
    tree.write("proc/sys/net/core/rmem_max", "50000000\n");
    let applied = lab.apply(plan, &trial.folder, &SESSION, || Ok(())).unwrap();
    assert_eq!(applied.results[0], Done::Changed("50000000".into()));
    assert!(!applied.ok);
    assert!(lab.revert(&trial.folder, false).unwrap().ok);
    assert_eq!(tree.files().text("/proc/sys/net/core/rmem_max").as_deref(), Some("50000000"));
}

#[test]
fn a_journal_of_nothing_is_closed() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    let set = vec![("udp_early_demux".to_owned(), "0".to_owned())];
    let plan = lab.plan(&Wishes { set, ..Wishes::default() }).unwrap();
    // Somebody else was faster: nothing of it is ours.
    tree.write("proc/sys/net/ipv4/udp_early_demux", "0\n");
    let applied = lab.apply(plan, &trial.folder, &SESSION, || Ok(())).unwrap();
    assert!(applied.ok && applied.results == [Done::Set], "{applied:?}");
    assert!(trial.is_closed());
}

#[test]
fn cpus_that_share_a_policy_are_set_by_one_write_and_put_back_by_one() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    let cpus = "/sys/devices/system/cpu";
    let cpu1 = tree.files().full(&format!("{cpus}/cpu1/cpufreq"));
    fs::remove_dir_all(&cpu1).unwrap();
    symlink("../cpu0/cpufreq", &cpu1).unwrap();
    let before = snapshot(&tree);
    let set = vec![("governor".to_owned(), "performance".to_owned())];
    let plan = lab.plan(&Wishes { set, ..Wishes::default() }).unwrap();
    assert_eq!(plan.changes.len(), 2, "{plan:?}");
    let applied = lab.apply(plan, &trial.folder, &SESSION, || Ok(())).unwrap();
    assert!(applied.ok && applied.results == [Done::Set, Done::Set], "{applied:?}");
    let governor = format!("{cpus}/cpu1/cpufreq/scaling_governor");
    assert_eq!(tree.files().text(&governor).as_deref(), Some("performance"));
    let undone = lab.revert(&trial.folder, false).unwrap();
    assert!(undone.ok && undone.values.len() == 1, "{undone:?}");
    assert_eq!((snapshot(&tree), trial.is_closed()), (before, true));
}

#[test]
fn what_strangers_say_of_the_past_is_not_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let ((_tree, lab), trial) = (machine(), Trial::new());
    lab.apply(lab.plan(&wishes(Profile::Balanced)).unwrap(), &trial.folder, &SESSION, || Ok(()))
        .unwrap();
    lab.revert(&trial.folder, false).unwrap();
    let told = lab.status(&trial.folder).unwrap().last.unwrap();
    assert_eq!(told.asked, "profile balanced");
    fs::set_permissions(trial.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = lab.status(&trial.folder).unwrap_err();
    assert!(error.to_string().contains("others may write"), "{error}");
}

#[test]
fn only_what_is_allowed_takes_a_link_down() {
    let (_tree, lab) = machine();
    let mut wishes = Wishes { set: vec![("mtu".into(), "9000".into())], ..Wishes::default() };
    let plan: Plan = lab.plan(&wishes).unwrap();
    assert!(plan.changes.is_empty());
    assert_eq!(plan.kept[0].reason, Reason::Link);
    wishes.link_reset = true;
    assert_eq!(lab.plan(&wishes).unwrap().changes.len(), 1);
}

#[test]
fn a_knob_that_is_not_here_is_neither_shown_nor_set_nor_made() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    for (id, value) in [("nmi_watchdog", "0"), ("threaded_napi", "1"), ("gro_normal_batch", "9")] {
        let rows = lab.show(&trial.folder).knobs;
        let row = rows.iter().find(|row| row.knob.id == id).unwrap();
        assert_eq!((row.presence, row.values.len()), (Presence::Absent, 0), "{id}");
        let set = vec![(id.to_owned(), value.to_owned())];
        let plan = lab.plan(&Wishes { set, ..Wishes::default() }).unwrap();
        assert_eq!((plan.changes.len(), &plan.kept[0].reason), (0, &Reason::Absent), "{id}");
        for format in Format::ALL {
            let text = plan.export(format).text;
            let why = format!("\n# left out: {id} = {value}: not on this host\n");
            assert!(text.contains(&why), "{text}");
        }
        let applied = lab.apply(plan, &trial.folder, &SESSION, || Ok(())).unwrap();
        assert!(applied.results.is_empty() && !applied.ok, "{applied:?}");
    }
    assert!(!tree.files().exists("/proc/sys/kernel/nmi_watchdog"));
    assert!(!tree.files().exists("/sys/class/net/eth0/threaded"));
}

#[test]
fn an_interface_without_a_device_behind_it_is_a_virtual_one() {
    let (tree, lab) = machine();
    let set = vec![("mtu".to_owned(), "9000".to_owned())];
    let wishes = Wishes { set, link_reset: true, ..Wishes::default() };
    let tuned = || lab.plan(&wishes).unwrap().export(Format::Tuned).text;
    assert!(tuned().contains("[sysfs]\n/sys/class/net/eth0/mtu=9000\n"), "{}", tuned());
    tree.write("sys/class/net/eth0/device/vendor", "0x15b3\n");
    assert!(tuned().contains("[net_eth0]\n") && tuned().contains("\nmtu=9000\n"), "{}", tuned());
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let ((_tree, lab), trial) = (machine(), Trial::new());
    let plan = lab.plan(&wishes(Profile::Balanced)).unwrap();
    fs::set_permissions(trial.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = lab.apply(plan, &trial.folder, &SESSION, || Ok(())).unwrap_err();
    assert!(error.to_string().contains("others may write"), "{error}");
    fs::write(trial.folder.path().join("journal"), "").unwrap();
    let error = lab.revert(&trial.folder, false).unwrap_err();
    assert!(error.to_string().contains("others may write"), "{error}");
}

#[test]
fn a_journal_cannot_have_other_files_written() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    tree.write("etc/shadow", "secret\n");
    lab.apply(lab.plan(&wishes(Profile::Balanced)).unwrap(), &trial.folder, &SESSION, || Ok(()))
        .unwrap();
    let path = trial.folder.path().join("journal");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("/proc/sys/net/core/rmem_max", "/etc/shadow")).unwrap();
    let undone = lab.revert(&trial.folder, false).unwrap();
    let value = undone.values.iter().find(|value| value.knob == "rmem_max").unwrap();
    assert!(matches!(value.outcome, Outcome::Gone { .. }), "{value:?}");
    assert_eq!(tree.files().text("/etc/shadow").as_deref(), Some("secret"));
}

#[test]
fn who_cannot_see_interfaces_does_not_take_them_for_gone() {
    let ((tree, there), trial) = (machine(), Trial::new());
    let set = vec![("gro_flush_timeout".to_owned(), "5".to_owned())];
    let plan = there.plan(&Wishes { set, ..Wishes::default() }).unwrap();
    assert!(there.apply(plan, &trial.folder, &SESSION, || Ok(())).unwrap().ok);
    let system = || System::new(tree.files(), None, false);
    let blind = Lab::new(system(), Glance::default()).unwrap();
    tree.write("sys/class/net/eth0/ifindex", "3\n");
    let elsewhere = lab(&tree);
    for (lab, words) in [(&blind, "cannot be listed"), (&elsewhere, "mount -t sysfs")] {
        let undone = lab.revert(&trial.folder, false).unwrap();
        assert!(!undone.ok && !trial.is_closed(), "{undone:?}");
        let Outcome::Failed { why } = &undone.values[0].outcome else { panic!("{undone:?}") };
        assert!(why.contains(words), "{why}");
    }
    tree.write("sys/class/net/eth0/ifindex", "2\n");
    assert!(lab(&tree).revert(&trial.folder, false).unwrap().ok && trial.is_closed());
    assert_eq!(tree.files().text("/sys/class/net/eth0/gro_flush_timeout").as_deref(), Some("0"));
}

#[test]
fn giving_up_closes_a_journal_that_could_not_be_reverted() {
    let ((tree, lab), trial) = (machine(), Trial::new());
    lab.apply(lab.plan(&wishes(Profile::Balanced)).unwrap(), &trial.folder, &SESSION, || Ok(()))
        .unwrap();
    let path = trial.folder.path().join("journal");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"wmem_max\"", "\"of_the_future\"")).unwrap();
    let undone = lab.revert(&trial.folder, false).unwrap();
    assert!(!undone.ok && !trial.is_closed(), "{undone:?}");
    assert_eq!(tree.files().text("/proc/sys/net/core/rmem_max").as_deref(), Some("212992"));
    let undone = lab.revert(&trial.folder, true).unwrap();
    assert!(undone.ok && trial.is_closed());
    assert_eq!(undone.values.len(), 1, "the rest was settled before: {undone:?}");
    assert_eq!(undone.values[0].outcome, Outcome::GivenUp);
}
