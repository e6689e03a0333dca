//! flags puts the command lines of servers and generators together.

/// A list of cores as `--cores` takes it.
pub(super) fn list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The number that follows `flag`, if it is given.
pub(super) fn number(given: &[String], flag: &str) -> Option<usize> {
    let at = given.iter().position(|word| word == flag)?;
    given.get(at + 1)?.parse().ok()
}

/// `defaults`, except for those that `given` has too, then `given`.
pub(super) fn merged(defaults: &[(&str, String)], given: &[String]) -> Vec<String> {
    let has = |name: &str| given.iter().any(|word| word == name);
    let kept = defaults.iter().filter(|(name, _)| !has(name));
    let kept = kept.flat_map(|(name, value)| [(*name).to_owned(), value.clone()]);
    kept.chain(given.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_comes_instead_of_the_default() {
        let defaults = [("--workers", "1".to_owned()), ("--cores", "0".into()), ("-x", "y".into())];
        let merged = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|word| (*word).into()).collect();
            merged(&defaults, &given).join(" ")
        };
        assert_eq!(merged(&[]), "--workers 1 --cores 0 -x y");
        assert_eq!(merged(&["--io", "epoll"]), "--workers 1 --cores 0 -x y --io epoll");
        assert_eq!(merged(&["--workers", "2"]), "--cores 0 -x y --workers 2");
        assert_eq!(merged(&["-x", "z"]), "--workers 1 --cores 0 -x z");
    }

    #[test]
    fn numbers_are_found() {
        let words = ["--io", "epoll", "--workers", "2", "--workers"].map(str::to_owned);
        let of = |flag| number(&words, flag);
        assert_eq!((of("--workers"), of("--io"), of("-x")), (Some(2), None, None));
        assert_eq!(number(&words[4..], "--workers"), None);
    }

    #[test]
    fn cores_are_a_list() {
        assert_eq!(list(&[0, 3]), "0,3");
    }
}
