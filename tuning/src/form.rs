//! form knows what values of knobs look like: as the kernel shows them, and as it takes them.
//!
//! ```text
//! what is read ("always [madvise] never\n") ─► value ("madvise") ─► compared with a wish
//!                                          └─► what to write to read the same again
//! ```

use crate::facts::{number_list, write_list};

/// What the value of a knob looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// A whole number, from the first to the second.
    Number(u64, u64),
    /// A power of two up to this, or 0: the kernel rounds others, so that they never read back.
    Power(u64),
    /// So many whole numbers.
    Numbers(usize),
    /// One of these words. A file may show it in brackets among the others.
    Word(&'static [&'static str]),
    /// Any one word.
    AnyWord,
    /// CPUs as a hexadecimal mask, in groups of 32 bits.
    Mask,
    /// CPUs as `0-3,8`.
    Cpus,
    /// `on` or `off`, with what was asked for, or that nobody can change it, in brackets.
    Switch,
}

impl Form {
    /// The value in what was read, in one spelling.
    #[must_use]
    pub fn value(self, read: &str) -> String {
        let text = read.trim();
        match self {
            Self::Word(_) | Self::AnyWord => bracketed(text).unwrap_or(text).to_owned(),
            Self::Switch => first_word(text).to_owned(),
            Self::Mask => spell_mask(text),
            Self::Numbers(_) => text.split_whitespace().map(plain).collect::<Vec<_>>().join(" "),
            Self::Number(..) | Self::Power(_) => plain(text),
            Self::Cpus if is_list(text) => write_list(&ascending(text)),
            Self::Cpus => text.to_owned(),
        }
    }

    /// What has to be written for `read` to be read again.
    #[must_use]
    pub fn restore(self, read: &str) -> String {
        let requested = read.trim().strip_suffix(']').and_then(|text| text.rsplit_once('['));
        match (self, requested) {
            (Self::Switch, Some((_, inside))) => {
                inside.strip_prefix("requested ").map_or_else(|| self.value(read), str::to_owned)
            }
            // Spelling included: what comes back is compared byte by byte.
            (Self::Mask, _) => read.trim().to_owned(),
            _ => self.value(read),
        }
    }

    /// `value` in one spelling, if a knob of this form takes it.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(self, value: &str) -> Result<String, String> {
        let value = self.value(value);
        let number = |text: &str| text.parse::<u64>().ok();
        let right = match self {
            Self::Number(least, most) => number(&value).is_some_and(|n| n >= least && n <= most),
            Self::Power(most) => {
                number(&value).is_some_and(|n| n <= most && (n == 0 || n.is_power_of_two()))
            }
            Self::Numbers(count) => {
                let mut words = value.split(' ');
                value.split(' ').count() == count && words.all(|word| number(word).is_some())
            }
            Self::Word(words) => words.contains(&value.as_str()),
            Self::AnyWord => !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic()),
            Self::Mask => !value.is_empty() && value.chars().all(|c| c.is_ascii_hexdigit()),
            Self::Cpus => is_list(&value),
            Self::Switch => ["on", "off"].contains(&value.as_str()),
        };
        if right && value.len() <= VALUE_BYTES_MAX {
            return Ok(value);
        }
        Err(format!("{:?} is not {}", shortened(&value), self.description()))
    }

    /// What a person has to write.
    #[must_use]
    pub fn description(self) -> String {
        match self {
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Power(most) => format!("0 or a power of two up to {most}"),
            Self::Numbers(count) => format!("{count} whole numbers with blanks between them"),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::AnyWord => "a word".to_owned(),
            Self::Mask => "a mask of CPUs in hexadecimal, as f".to_owned(),
            Self::Cpus => "a list of CPUs, as 0-3,8".to_owned(),
            Self::Switch => "on or off".to_owned(),
        }
    }
}

/// No knob has a longer value: a mask of 8,192 CPUs has 2,048 digits.
const VALUE_BYTES_MAX: usize = 4_096;

fn shortened(value: &str) -> String {
    value.chars().take(60).collect()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn bracketed(text: &str) -> Option<&str> {
    text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// A number without what the kernel leaves out when it writes it down.
fn plain(text: &str) -> String {
    text.parse::<u64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
}

fn ascending(text: &str) -> Vec<usize> {
    let mut numbers = number_list(text);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Without commas and zeros in front.
fn spell_mask(text: &str) -> String {
    let digits: String = text.chars().filter(|c| *c != ',').collect();
    match digits.trim_start_matches('0') {
        "" if digits.is_empty() => String::new(),
        "" => "0".to_owned(),
        digits => digits.to_ascii_lowercase(),
    }
}

fn is_list(text: &str) -> bool {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(a), Ok(b)) if a <= b)
    };
    !text.is_empty() && text.split(',').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_one_spelling() {
        let words = Form::Word(&["always", "madvise", "never"]);
        assert_eq!(words.value("always [madvise] never\n"), "madvise");
        assert_eq!(words.value("never\n"), "never");
        assert_eq!(Form::Numbers(3).value("1\t2\t3\n"), "1 2 3");
        assert_eq!(Form::Mask.value("00000000,0000000F\n"), "f");
        assert_eq!(Form::Mask.value("0,00\n"), "0");
        assert_eq!(Form::Switch.value("off [requested on]"), "off");
        assert_eq!(Form::Number(0, 9).value(" 7\n"), "7");
        // As a person writes it, and as the kernel gives it back.
        assert_eq!(Form::Number(0, 9).value("007"), "7");
        assert_eq!(Form::Numbers(2).value("01 +2"), "1 2");
        assert_eq!(Form::Cpus.value("3,0,1,1"), "0-1,3");
        assert_eq!(Form::Cpus.value(""), "");
    }

    #[test]
    fn what_is_restored_reads_as_before() {
        assert_eq!(Form::Switch.restore("off [requested on]"), "on");
        assert_eq!(Form::Switch.restore("on [fixed]"), "on");
        assert_eq!(Form::Switch.restore("on"), "on");
        assert_eq!(Form::Mask.restore("00000000,0000000f\n"), "00000000,0000000f");
        assert_eq!(Form::AnyWord.restore("[tsc] hpet"), "tsc");
    }

    #[test]
    fn wrong_values_are_named_with_what_is_right() {
        for (form, right, wrong) in [
            (Form::Number(1, 10), vec!["1", "10", " 7 "], vec!["0", "11", "-1", "", "x", "1.5"]),
            (Form::Power(64), vec!["0", "1", "64"], vec!["3", "128", "-2"]),
            (Form::Numbers(3), vec!["1 2 3", "1\t2\t3"], vec!["1 2", "1 2 3 4", "a b c", ""]),
            (Form::Word(&["a", "b"]), vec!["a"], vec!["c", "", "a b"]),
            (Form::AnyWord, vec!["tsc"], vec!["", "a b", "a\nb"]),
            (Form::Mask, vec!["f", "00,ff"], vec!["", "x", "0x1"]),
            (Form::Cpus, vec!["0", "0-3,8"], vec!["", "3-1", "a", "0,"]),
            (Form::Switch, vec!["on", "off"], vec!["1", "ON", ""]),
        ] {
            for value in right {
                assert!(form.check(value).is_ok(), "{form:?} {value}");
            }
            for value in wrong {
                let error = form.check(value).unwrap_err();
                assert!(error.contains(&form.description()), "{form:?} {value}: {error}");
            }
        }
        assert!(Form::Mask.check(&"f".repeat(5_000)).unwrap_err().len() < 200);
    }
}
