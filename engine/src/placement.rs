//! placement puts workers on cores.

use core_affinity::CoreId;

use crate::error::ConfigError;

/// The cores this process may use, in order.
#[must_use]
pub fn allowed() -> Vec<usize> {
    let mut cores: Vec<_> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Which core each of `workers` gets: the ones asked for, else one each if there are enough.
pub(crate) fn place(
    workers: usize,
    asked: &[usize],
    allowed: &[usize],
) -> Result<Vec<Option<usize>>, ConfigError> {
    if asked.is_empty() {
        let enough = allowed.len() >= workers;
        return Ok((0..workers).map(|i| allowed.get(i).copied().filter(|_| enough)).collect());
    }
    if asked.len() != workers {
        return Err(ConfigError::CoresMismatch { cores: asked.len(), workers });
    }
    if let Some(core) = asked.iter().find(|core| !allowed.contains(core)) {
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        return Err(ConfigError::CoreNotAllowed { core: *core, allowed: allowed.join(",") });
    }
    Ok(asked.iter().copied().map(Some).collect())
}

/// Pins the calling thread; false when the kernel refuses.
pub(crate) fn pin(core: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: core })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_by_rule() {
        assert_eq!(place(2, &[], &[0, 1, 2]).unwrap(), [Some(0), Some(1)]);
        assert_eq!(place(4, &[], &[0, 1]).unwrap(), [None; 4], "never two workers pinned to one");
        assert_eq!(place(2, &[1, 0], &[0, 1]).unwrap(), [Some(1), Some(0)]);
        assert!(matches!(
            place(2, &[0], &[0, 1]),
            Err(ConfigError::CoresMismatch { cores: 1, workers: 2 })
        ));
        assert!(matches!(
            place(1, &[7], &[0, 1]),
            Err(ConfigError::CoreNotAllowed { core: 7, .. })
        ));
    }
}
