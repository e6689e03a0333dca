//! placement keeps the probe off the cores on which the abuse is made, as far as there are enough:
//! else it would measure what the abuse costs this host.

/// The cores of the abuse (empty: the engine chooses) and of the probe. `asked` is what somebody
/// wants for the abuse, `workers` how many threads it shall have (0: one a core), `allowed` the
/// cores that there are.
pub(super) fn place(
    asked: &[usize],
    workers: usize,
    allowed: &[usize],
) -> (Vec<usize>, Option<usize>) {
    if !asked.is_empty() {
        let free = allowed.iter().rfind(|core| !asked.contains(core));
        return (asked.to_vec(), free.or_else(|| allowed.last()).copied());
    }
    match allowed.split_last() {
        Some((last, others)) if !others.is_empty() => match workers {
            0 => (others.to_vec(), Some(*last)),
            workers => (others.get(..workers).unwrap_or_default().to_vec(), Some(*last)),
        },
        _ => (Vec::new(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_has_a_core_of_its_own_where_there_is_one() {
        for (asked, workers, allowed, abuse, probe) in [
            (&[][..], 0, &[0, 1, 2, 3][..], &[0, 1, 2][..], Some(3)),
            (&[], 0, &[4, 6], &[4], Some(6)),
            (&[], 2, &[0, 1, 2, 3], &[0, 1], Some(3)),
            (&[], 4, &[0, 1, 2, 3], &[], Some(3)),
            (&[], 0, &[0], &[], None),
            (&[], 0, &[], &[], None),
            (&[1, 3], 0, &[0, 1, 2, 3], &[1, 3], Some(2)),
            (&[0, 1], 0, &[0, 1], &[0, 1], Some(1)),
        ] {
            let placed = place(asked, workers, allowed);
            assert_eq!(placed, (abuse.to_vec(), probe), "{asked:?} {workers} {allowed:?}");
        }
    }
}
