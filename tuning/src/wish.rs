//! wish is what somebody wants of a knob, and what that means for a value that was read.

use serde::{Serialize, Serializer};

use crate::form::Form;
use crate::knobs::{Care, Knob};
use crate::profile::{Aim, Profile};
use crate::site::Site;

/// What somebody wants of the host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wishes {
    /// Where to begin. Default none: only `set`.
    pub profile: Option<Profile>,
    /// Knobs and their values, instead of the profile's or beside them.
    pub set: Vec<(String, String)>,
    /// Knobs of the profile to leave alone.
    pub skip: Vec<String>,
    /// Whether links may go down for a moment. Default no.
    pub link_reset: bool,
}

/// A wish that cannot be understood. Each message names the word and the remedy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// No such knob.
    #[error("there is no knob {0:?}: `quiclane tune show` lists them")]
    Unknown(String),
    /// A knob that nobody sets here.
    #[error("{id} is not set by `quiclane tune`: {how}")]
    NotSettable {
        /// The knob.
        id: String,
        /// What sets it.
        how: String,
    },
    /// A value that it does not take.
    #[error("{id}: {why}")]
    Value {
        /// The knob.
        id: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A knob with two values.
    #[error("{0} is given twice: leave one out")]
    Twice(String),
    /// To be left alone, and not part of it.
    #[error("--skip {id}: {profile} does not set it: leave it out")]
    Skip {
        /// The knob.
        id: String,
        /// What was asked for.
        profile: String,
    },
    /// Nothing.
    #[error("nothing is asked for: give --profile NAME or --set KNOB=VALUE")]
    Nothing,
}

impl Wishes {
    /// In a few words, as `profile latency, gro=on`.
    #[must_use]
    pub fn name(&self) -> String {
        let profile = self.profile.map(|profile| format!("profile {}", profile.name()));
        let set = self.set.iter().map(|(id, value)| format!("{id}={value}"));
        let skip = self.skip.iter().map(|id| format!("without {id}"));
        profile.into_iter().chain(set).chain(skip).collect::<Vec<_>>().join(", ")
    }

    /// What is to be, knob by knob, in the order in which it is set.
    pub(crate) fn aims(&self) -> Result<Vec<Wish>, WishError> {
        let mut wishes = Vec::new();
        let lines = self.profile.map(Profile::lines).unwrap_or_default();
        for id in &self.skip {
            if !lines.iter().any(|(line, ..)| line == id) {
                let profile = self.profile.map_or("no profile", Profile::name).to_owned();
                return Err(WishError::Skip { id: id.clone(), profile });
            }
        }
        for (id, aim, why) in lines {
            let by_hand = self.set.iter().any(|(set, _)| set == id);
            if let Some(knob) = Knob::by_id(id).filter(|_| !by_hand && !self.skips(id)) {
                let target = Target::of(*aim);
                wishes.push(Wish { by_hand: false, ..Wish::new(knob, target, (*why).to_owned())? });
            }
        }
        for (at, (id, value)) in self.set.iter().enumerate() {
            let knob = Knob::by_id(id).ok_or_else(|| WishError::Unknown(id.clone()))?;
            if self.set[..at].iter().any(|(before, _)| before == id) {
                return Err(WishError::Twice(id.clone()));
            }
            let why = format!("asked for; {}", knob.mechanism);
            wishes.push(Wish::new(knob, Target::Is(value.clone()), why)?);
        }
        // What is put back goes the other way.
        wishes.sort_by_key(|wish| turn(wish.knob.id, &wish.target.value()));
        if wishes.is_empty() { Err(WishError::Nothing) } else { Ok(wishes) }
    }

    fn skips(&self, id: &str) -> bool {
        self.skip.iter().any(|skip| skip == id)
    }
}

/// What a knob is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    Is(String),
    AtLeast(u64),
    AtMost(u64),
}

impl Target {
    fn of(aim: Aim) -> Self {
        match aim {
            Aim::Is(value) => Self::Is(value.to_owned()),
            Aim::AtLeast(number) => Self::AtLeast(number),
            Aim::AtMost(number) => Self::AtMost(number),
        }
    }

    pub(crate) fn value(&self) -> String {
        match self {
            Self::Is(value) => value.clone(),
            Self::AtLeast(number) | Self::AtMost(number) => number.to_string(),
        }
    }
}

/// One knob of [`Wishes`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wish {
    pub(crate) knob: &'static Knob,
    pub(crate) form: Form,
    pub(crate) target: Target,
    pub(crate) why: String,
    /// Whether somebody named the knob; else a profile has it.
    pub(crate) by_hand: bool,
}

impl Wish {
    /// Of somebody who names the knob.
    fn new(knob: &'static Knob, target: Target, why: String) -> Result<Self, WishError> {
        let id = || knob.id.to_owned();
        let Some(form) = knob.access.form() else {
            return Err(WishError::NotSettable { id: id(), how: knob.access.place() });
        };
        let checked = form.check(&target.value());
        let value = checked.map_err(|why| WishError::Value { id: id(), why })?;
        let target = if let Target::Is(_) = target { Target::Is(value) } else { target };
        Ok(Self { knob, form, target, why, by_hand: true })
    }

    /// Decides about a place where `read` was read. `link_reset`: links may go down.
    pub(crate) fn decide(&self, site: &Site, read: &str, link_reset: bool) -> Verdict {
        let from = self.form.value(read);
        let to = self.target.value();
        if let Some(reason) = self.settled(&from) {
            return Verdict::Kept(reason);
        }
        if self.knob.care == Care::RaiseOnly && lowers(&from, &to) {
            return Verdict::Kept(Reason::Limit);
        }
        if read.contains("[fixed]") {
            return Verdict::Kept(Reason::Obstacle("fixed: the driver cannot change it".into()));
        }
        if self.form.restore(read) == to {
            let text = format!("{to} is asked for already, and something keeps it {from}");
            return Verdict::Kept(Reason::Obstacle(text));
        }
        if site.resets_link() && !link_reset {
            return Verdict::Kept(Reason::Link);
        }
        // Some values are read and never taken, as the 0 of one half of a pair: what could not be
        // put back is not touched.
        if self.form.check(&self.form.restore(read)).is_err() {
            let text = format!("its value, {from:?}, is none that could be put back");
            return Verdict::Kept(Reason::Obstacle(text));
        }
        Verdict::Change { from, to }
    }

    fn settled(&self, from: &str) -> Option<Reason> {
        let number = || from.parse::<u64>().ok();
        match &self.target {
            Target::Is(value) => (value == from).then_some(Reason::Already),
            Target::AtLeast(least) => match number()? {
                number if number == *least => Some(Reason::Already),
                number if number > *least => Some(Reason::Better),
                _ => None,
            },
            Target::AtMost(most) => match number()? {
                number if number == *most => Some(Reason::Already),
                number if number < *most => Some(Reason::Better),
                _ => None,
            },
        }
    }
}

/// When a knob is set: what needs others, or forces them, comes after them, and ends before they
/// do. Everything else, 0, stays in the order in which it is asked for.
pub(crate) fn turn(id: &str, value: &str) -> i8 {
    match (id, value) {
        // Once `gro` is off a veth has no threads to end, and refuses even that.
        ("threaded_napi", "0") => -1,
        // A veth has nothing to poll, and refuses it, before `gro` is on.
        ("threaded_napi", "1") => 1,
        // It sets `energy_preference` too, and refuses any other for as long as it lasts. Set last
        // it is put back first, so that the other can be put back then.
        ("governor", "performance") => 2,
        _ => 0,
    }
}

/// The knob of the same interface without which this one cannot even be put back.
pub(crate) fn needs(id: &str) -> Option<&'static str> {
    (id == "threaded_napi").then_some("gro")
}

/// Whether any of the numbers gets smaller.
fn lowers(from: &str, to: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(' ').map(|word| word.parse().unwrap_or(0)).collect()
    };
    numbers(from).iter().zip(numbers(to)).any(|(from, to)| to < *from)
}

/// What is decided about one place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Change { from: String, to: String },
    Kept(Reason),
}

/// Why a value stays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It is as wanted.
    Already,
    /// It is more than was asked for.
    Better,
    /// A limit that would be lowered.
    Limit,
    /// The link would go down.
    Link,
    /// There is no such thing here.
    Absent,
    /// Anything else.
    Obstacle(String),
}

impl Reason {
    /// Whether what was asked for holds.
    #[must_use]
    pub const fn is_fulfilled(&self) -> bool {
        matches!(self, Self::Already | Self::Better)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Already => "already so",
            Self::Better => "already beyond that",
            Self::Limit => "a limit that others may rely on: raised, never lowered",
            Self::Link => "the link may go down for a moment: allow it with --allow-link-reset",
            Self::Absent => "not on this host",
            Self::Obstacle(text) => text,
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(set: &[(&str, &str)]) -> Wishes {
        let set = set.iter().map(|(id, value)| ((*id).to_owned(), (*value).to_owned())).collect();
        Wishes { set, ..Wishes::default() }
    }

    fn decide(id: &str, value: &str, read: &str) -> Verdict {
        let wish = wishes(&[(id, value)]).aims().unwrap().remove(0);
        let site = Site { knob: wish.knob, interface: None, path: None };
        wish.decide(&site, read, false)
    }

    #[test]
    fn wrong_wishes_name_the_word_and_the_remedy() {
        for (set, words) in [
            (vec![("nosuch", "1")], vec!["nosuch", "tune show"]),
            (vec![("io", "epoll")], vec!["io", "--io"]),
            (vec![("mitigations", "off")], vec!["mitigations", "boot"]),
            (vec![("gro", "yes")], vec!["gro", "on or off"]),
            (vec![("rmem_max", "1")], vec!["rmem_max", "2304"]),
            (vec![("gro", "on"), ("gro", "off")], vec!["gro", "twice"]),
            (vec![], vec!["--profile", "--set"]),
        ] {
            let error = wishes(&set).aims().unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{set:?}: {error}");
        }
        let skip = |profile| Wishes { profile, skip: vec!["mtu".into()], ..Wishes::default() };
        let error = skip(Some(Profile::Latency)).aims().unwrap_err().to_string();
        assert!(error.contains("--skip mtu") && error.contains("latency"), "{error}");
        assert!(skip(None).aims().is_err());
    }

    #[test]
    fn what_is_set_by_hand_comes_instead_of_the_profile() {
        let mut wishes = wishes(&[("gro", "off")]);
        wishes.profile = Some(Profile::Balanced);
        wishes.skip = vec!["bpf_stats".into()];
        let aims = wishes.aims().unwrap();
        assert_eq!(aims.len(), Profile::Balanced.lines().len() - 1);
        let gro: Vec<_> = aims.iter().filter(|wish| wish.knob.id == "gro").collect();
        assert_eq!(gro.len(), 1);
        assert_eq!(gro[0].target, Target::Is("off".into()));
        assert_eq!(wishes.name(), "profile balanced, gro=off, without bpf_stats");
    }

    #[test]
    fn what_needs_or_forces_others_is_set_after_them_however_it_is_asked_for() {
        let order = |set: &[(&str, &str)]| -> Vec<&str> {
            wishes(set).aims().unwrap().iter().map(|wish| wish.knob.id).collect()
        };
        let (threads, gro) = (("threaded_napi", "1"), ("gro", "on"));
        let (governor, energy) =
            (("governor", "performance"), ("energy_preference", "performance"));
        let expected = ["gro", "energy_preference", "rx_hash", "threaded_napi", "governor"];
        let rest = ("rx_hash", "on");
        assert_eq!(order(&[governor, threads, gro, energy, rest]), expected);
        assert_eq!(order(&[gro, energy, rest, threads, governor]), expected);
        // A veth without GRO has no threads, and takes not even a 0.
        let (none, off) = (("threaded_napi", "0"), ("gro", "off"));
        assert_eq!(order(&[off, rest, none]), ["threaded_napi", "gro", "rx_hash"]);
        // Any other governor lets the preference be set, and only it does.
        let powersave = [("governor", "powersave"), ("energy_preference", "power")];
        assert_eq!(order(&powersave), ["governor", "energy_preference"]);
        // Of a profile, too.
        for profile in Profile::ALL {
            let set = vec![("energy_preference".to_owned(), "performance".to_owned())];
            let wishes = Wishes { profile: Some(profile), set, ..Wishes::default() };
            let aims = wishes.aims().unwrap();
            let at = |id| aims.iter().position(|wish| wish.knob.id == id);
            assert!(at("governor").is_none_or(|governor| Some(governor) > at("energy_preference")));
            assert!(at("threaded_napi").is_none_or(|threads| Some(threads) > at("gro")));
        }
    }

    #[test]
    fn values_stay_for_a_reason() {
        let (from, to) = ("212992".to_owned(), "300000".to_owned());
        assert_eq!(decide("rmem_max", "300000", "212992\n"), Verdict::Change { from, to });
        assert_eq!(decide("rmem_max", "300000", "300000\n"), Verdict::Kept(Reason::Already));
        assert_eq!(decide("rmem_max", "300000", "400000\n"), Verdict::Kept(Reason::Limit));
        assert_eq!(decide("udp_mem", "9 1 9", "1\t2\t3\n"), Verdict::Kept(Reason::Limit));
        assert_eq!(decide("ring_rx", "256", "512"), Verdict::Kept(Reason::Link));
        let kept = |id, value, read| match decide(id, value, read) {
            Verdict::Kept(Reason::Obstacle(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(kept("gro", "on", "off [fixed]").contains("fixed"));
        assert!(kept("gro", "on", "off [requested on]").contains("something keeps it off"));
        assert!(kept("stat_interval", "10", "0\n").contains("put back"), "0 is never taken");
    }

    #[test]
    fn profiles_never_lower_a_limit() {
        let wishes = Wishes { profile: Some(Profile::Throughput), ..Wishes::default() };
        let aims = wishes.aims().unwrap();
        let wish = aims.iter().find(|wish| wish.knob.id == "rmem_max").unwrap();
        let site = Site { knob: wish.knob, interface: None, path: None };
        assert_eq!(wish.decide(&site, "99999999", false), Verdict::Kept(Reason::Better));
        assert!(matches!(wish.decide(&site, "4194304", false), Verdict::Change { .. }));
    }
}
