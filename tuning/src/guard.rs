//! guard is the process that puts everything back when whoever tuned the host cannot.
//!
//! ```text
//! the runner holds the lock ── dies in the middle ─► revert
//!            └── has applied ─► no deadline: the guard's work is done
//!                            └► deadline ─► revert, unless somebody did meanwhile
//! what cannot be done ─► again after a pause, each longer than the one before, for an hour
//! ```
//!
//! The lock is a flock: SIGKILL frees it, and nothing else does while its owner lives. A guard that
//! is killed itself, or gives up, leaves the journal, from which `revert` restores by hand.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::journal::{Begin, Folder, JournalError, Log};
use crate::lab::{Lab, TuneError, Undone};

/// A watch over one run of `apply`.
pub struct Guard {
    folder: Folder,
    /// The run that is watched; another one has a guard of its own.
    begin: Begin,
    keep: Option<Duration>,
    /// When everything had been applied.
    since: Option<Instant>,
    trouble: Option<Trouble>,
    /// Tells others that somebody watches.
    _presence: File,
}

/// What could not be done: a driver resets, a disk is full, files run out.
struct Trouble {
    since: Instant,
    /// Until the next try.
    pause: Duration,
}

/// What a look of the guard led to.
#[derive(Debug)]
pub enum Watch {
    /// Look again after this time.
    Wait(Duration),
    /// There is nothing to watch any more.
    Over,
    /// Everything was put back, or what could be.
    Reverted(Undone),
}

impl Guard {
    /// Watches the journal in `folder`; `None`: there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(folder: &Folder) -> Result<Option<Self>, JournalError> {
        let Some(log) = folder.read()? else { return Ok(None) };
        let presence = folder.guard()?;
        let keep = log.begin.for_s.map(Duration::from_secs);
        let (folder, begin) = (folder.clone(), log.begin);
        let (since, trouble) = (None, None);
        Ok(Some(Self { folder, begin, keep, since, trouble, _presence: presence }))
    }

    /// Looks whether it is time to do something. What cannot be done is tried again for an hour,
    /// first after 100 ms and at last every 30 s.
    ///
    /// # Errors
    /// When the journal cannot be read or written, or this host not be looked at, for that long.
    pub fn look(&mut self, now: Instant) -> Result<Watch, TuneError> {
        self.look_at(now, || Lab::open(&[]))
    }

    fn look_at(
        &mut self,
        now: Instant,
        host: impl FnOnce() -> Result<Lab, TuneError>,
    ) -> Result<Watch, TuneError> {
        let seen = self.look_once(now, host);
        let done = match &seen {
            Ok(Watch::Wait(_) | Watch::Over) => true,
            Ok(Watch::Reverted(undone)) => undone.ok,
            Err(_) => false,
        };
        if done {
            self.trouble = None;
            return seen;
        }
        let trouble = self.trouble.get_or_insert(Trouble { since: now, pause: FIRST_PAUSE });
        if now.saturating_duration_since(trouble.since) >= TRIES_FOR {
            return seen;
        }
        let pause = trouble.pause;
        trouble.pause = LONGEST_PAUSE.min(pause * 2);
        Ok(Watch::Wait(pause))
    }

    fn look_once(
        &mut self,
        now: Instant,
        host: impl FnOnce() -> Result<Lab, TuneError>,
    ) -> Result<Watch, TuneError> {
        // Another run that is at work would otherwise keep this guard until it ends.
        if !self.folder.read()?.is_some_and(|log| self.watches(&log)) {
            return Ok(Watch::Over);
        }
        let held = match self.folder.hold("the guard", Duration::ZERO) {
            Err(JournalError::Busy { .. }) => return Ok(Watch::Wait(WHILE_APPLYING)),
            held => held?,
        };
        let ours = held.folder().read()?.filter(|log| self.watches(log));
        let Some(log) = ours else { return Ok(Watch::Over) };
        if log.applied {
            let Some(keep) = self.keep else { return Ok(Watch::Over) };
            let since = *self.since.get_or_insert(now);
            let left = keep.saturating_sub(now.saturating_duration_since(since));
            if !left.is_zero() {
                return Ok(Watch::Wait(left.min(WHILE_APPLIED)));
            }
        }
        Ok(Watch::Reverted(host()?.undo(held, false)?))
    }

    /// Whether a journal is of the run that is watched.
    fn watches(&self, log: &Log) -> bool {
        log.begin == self.begin && !log.closed
    }
}

/// How long a dead runner may go unnoticed.
const WHILE_APPLYING: Duration = Duration::from_millis(50);

/// How long a guard may stay after somebody else has reverted.
const WHILE_APPLIED: Duration = Duration::from_millis(500);

/// A driver that resets is back in less than a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long what can be put back again may stay as it was set.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Enough for somebody to make room on a disk. What lasts longer does not end by itself.
const TRIES_FOR: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::machine::{SESSION, Trial, lab, machine};
    use crate::recorded::Tree;
    use crate::wish::Wishes;

    const PATH: &str = "proc/sys/net/ipv4/udp_early_demux";

    /// A guard of a runner that died after it had set [`PATH`].
    fn guarded() -> (Tree, Trial, Guard) {
        let ((tree, lab), trial) = (machine(), Trial::new());
        let set = vec![("udp_early_demux".to_owned(), "0".to_owned())];
        let plan = lab.plan(&Wishes { set, ..Wishes::default() }).unwrap();
        drop(lab.try_out(plan, &trial.folder, &SESSION, || Ok(())).unwrap());
        assert_eq!(value(&tree).as_deref(), Some("0"));
        let guard = Guard::open(&trial.folder).unwrap().unwrap();
        (tree, trial, guard)
    }

    fn value(tree: &Tree) -> Option<String> {
        tree.files().text(PATH)
    }

    /// Neither read nor written.
    fn obstruct(tree: &Tree) {
        let path = tree.files().full(PATH);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }

    fn clear(tree: &Tree) {
        fs::remove_dir(tree.files().full(PATH)).unwrap();
        tree.write(PATH, "0\n");
    }

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn wait(seen: Result<Watch, TuneError>) -> Duration {
        match seen {
            Ok(Watch::Wait(time)) => time,
            other => panic!("{other:?}"),
        }
    }

    fn mode(trial: &Trial, mode: u32) {
        fs::set_permissions(trial.folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_cannot_be_put_back_at_once_is_put_back_later() {
        let (tree, trial, mut guard) = guarded();
        obstruct(&tree);
        let mut now = start();
        let mut before = Duration::ZERO;
        for _ in 0..5 {
            let pause = wait(guard.look_at(now, || Ok(lab(&tree))));
            assert!(pause > before, "{pause:?} after {before:?}");
            before = pause;
            now += pause;
        }
        clear(&tree);
        let seen = guard.look_at(now, || Ok(lab(&tree))).unwrap();
        assert!(matches!(seen, Watch::Reverted(undone) if undone.ok));
        assert_eq!((value(&tree).as_deref(), trial.is_closed()), (Some("1"), true));
        assert!(matches!(guard.look_at(now, || Ok(lab(&tree))), Ok(Watch::Over)));
    }

    #[test]
    fn an_error_is_not_the_end_and_a_new_one_has_its_own_hour() {
        let (tree, trial, mut guard) = guarded();
        let mut now = start();
        for _ in 0..2 {
            // Somebody is at work meanwhile.
            let held = trial.folder.hold("test", Duration::ZERO).unwrap();
            assert_eq!(wait(guard.look_at(now, || Ok(lab(&tree)))), WHILE_APPLYING);
            drop(held);
            mode(&trial, 0o777);
            assert_eq!(wait(guard.look_at(now, || Ok(lab(&tree)))), FIRST_PAUSE);
            let refuse = || Err(TuneError::Powerless("no files left".into()));
            mode(&trial, 0o755);
            assert_eq!(wait(guard.look_at(now, refuse)), FIRST_PAUSE * 2);
            now += TRIES_FOR * 2;
        }
        let seen = guard.look_at(now, || Ok(lab(&tree))).unwrap();
        assert!(matches!(seen, Watch::Reverted(undone) if undone.ok));
        assert_eq!(value(&tree).as_deref(), Some("1"));
    }

    #[test]
    fn what_never_can_be_put_back_ends_the_guard_and_stays_in_the_journal() {
        let (tree, trial, mut guard) = guarded();
        obstruct(&tree);
        let (begin, mut looks) = (start(), 0);
        let mut now = begin;
        let undone = loop {
            looks += 1;
            match guard.look_at(now, || Ok(lab(&tree))).unwrap() {
                Watch::Wait(pause) => now += pause.min(LONGEST_PAUSE),
                Watch::Over => panic!("the journal is not closed"),
                Watch::Reverted(undone) => break undone,
            }
        };
        assert!(!undone.ok && !trial.is_closed(), "{undone:?}");
        let lasted = now - begin;
        assert!(lasted >= TRIES_FOR && lasted <= TRIES_FOR + LONGEST_PAUSE, "{lasted:?}");
        assert!(looks < 150, "{looks} looks");
        let (_tree, trial, mut guard) = guarded();
        mode(&trial, 0o777);
        wait(guard.look(begin));
        let error = guard.look(begin + TRIES_FOR).unwrap_err();
        assert!(error.to_string().contains("others may write"), "{error}");
    }
}
