//! flags puts the command lines of servers and generators together.

/// A list of cores as `--cores` takes it.
pub(super) fn list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// `defaults`, except for those that `given` has too, then `given`. Workers of a number of their
/// own do not fit the cores of the defaults, so `given` `workers` takes `cores` out as well.
pub(super) fn merged(
    defaults: &[(&str, String)],
    given: &[String],
    workers: &str,
    cores: &str,
) -> Vec<String> {
    let has = |name: &str| given.iter().any(|word| word == name);
    let is_out = |name: &str| has(name) || (name == cores && has(workers));
    let kept = defaults.iter().filter(|(name, _)| !is_out(name));
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
            merged(&defaults, &given, "--workers", "--cores").join(" ")
        };
        assert_eq!(merged(&[]), "--workers 1 --cores 0 -x y");
        assert_eq!(merged(&["--io", "epoll"]), "--workers 1 --cores 0 -x y --io epoll");
        assert_eq!(merged(&["--workers", "2"]), "-x y --workers 2");
        assert_eq!(merged(&["-x", "z"]), "--workers 1 --cores 0 -x z");
    }

    #[test]
    fn cores_are_a_list() {
        assert_eq!(list(&[0, 3]), "0,3");
    }
}
