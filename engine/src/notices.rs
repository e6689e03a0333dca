//! notices are lines for people about what changes while a server runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Something that a person may want to know.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Notice {
    /// One line.
    pub text: String,
    /// Whether something does not work as it should.
    pub is_warning: bool,
}

/// Notices that nobody has read yet.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<Vec<Notice>>);

impl Notices {
    pub(crate) fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, text: String, is_warning: bool) {
        let mut unread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of those that nobody reads the oldest say most.
        if unread.len() < UNREAD_MAX {
            unread.push(Notice { text, is_warning });
        }
    }
}

/// Says each thing once.
pub(crate) struct Reports {
    notices: Arc<Notices>,
    /// By topic, what is wrong.
    said: BTreeMap<String, String>,
}

impl Reports {
    pub(crate) fn new(notices: Arc<Notices>) -> Self {
        Self { notices, said: BTreeMap::new() }
    }

    pub(crate) fn note(&mut self, text: String) {
        self.notices.add(text, false);
    }

    /// A thing that is wrong until it is [`settled`](Self::settled).
    pub(crate) fn warn(&mut self, topic: &str, text: String) {
        if self.said.get(topic) != Some(&text) {
            self.notices.add(text.clone(), true);
            self.said.insert(topic.to_owned(), text);
        }
    }

    /// What comes next of this topic is new.
    pub(crate) fn forget(&mut self, topic: &str) {
        self.said.remove(topic);
    }

    /// Says that it works again, if it did not.
    pub(crate) fn settled(&mut self, topic: &str) {
        if self.said.remove(topic).is_some() {
            self.note(format!("{topic}: it works again"));
        }
    }
}

/// More than a person would read.
const UNREAD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_once_until_it_changes() {
        let notices = Arc::new(Notices::default());
        let mut reports = Reports::new(Arc::clone(&notices));
        for _ in 0..3 {
            reports.warn("a", "wrong".into());
        }
        reports.warn("a", "worse".into());
        reports.settled("a");
        reports.warn("a", "worse".into());
        let texts: Vec<_> = notices.take().into_iter().map(|notice| notice.text).collect();
        assert_eq!(texts, ["wrong", "worse", "a: it works again", "worse"]);
        assert!(notices.take().is_empty());
        (0..1_000).for_each(|n| reports.note(n.to_string()));
        assert_eq!(notices.take().len(), UNREAD_MAX);
    }
}
