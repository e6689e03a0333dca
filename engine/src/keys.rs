//! keys derives every key of an epoch from the master: HKDF-SHA256 (RFC 5869).
//!
//! One label a purpose, so that no key can stand in for another. Keys of an epoch depend on
//! (master, server ID, epoch). The token key leaves the epoch out: a Retry or NEW_TOKEN token
//! (RFC 9000 section 8.1) must outlive a restart.

use std::sync::Arc;

use quiclane_wire::Key;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};

/// The secret that everything else is derived from.
#[derive(Clone)]
pub(crate) struct Master(pub(crate) [u8; 32]);

impl Master {
    /// Fresh from the system's random generator, or reproducible from a simulation's seed.
    pub(crate) fn generate(seed: Option<u64>) -> Self {
        let mut bytes = [0; 32];
        match seed {
            Some(seed) => bytes[..8].copy_from_slice(&seed.to_le_bytes()),
            None => fill_random(&mut bytes),
        }
        Self(bytes)
    }

    /// The keys of `epoch` on the server `server_id`.
    pub(crate) fn epoch_keys(&self, server_id: &[u8], epoch: u64) -> EpochKeys {
        let prk = self.prk();
        let derive = |label: &[u8]| derive_key(&prk, label, server_id, &epoch.to_be_bytes());
        EpochKeys {
            check: derive(b"cid check"),
            spread: derive(b"initial spread"),
            unique: derive(b"cid unique"),
            reset_root: derive(b"reset root"),
        }
    }

    /// A name for it that tells nothing of it.
    pub(crate) fn name(&self) -> String {
        let Key { k0, .. } = derive_key(&self.prk(), b"name", &[], &[]);
        format!("{k0:016x}")
    }

    /// Seals Retry and NEW_TOKEN tokens.
    pub(crate) fn token_key(&self, server_id: &[u8]) -> Arc<Prk> {
        let info: [&[u8]; 2] = [b"token", server_id];
        let prk = self.prk();
        let okm = prk.expand(&info, HKDF_SHA256).expect("32 bytes are within HKDF-SHA256's limit");
        Arc::new(okm.into())
    }

    fn prk(&self) -> Prk {
        Salt::new(HKDF_SHA256, b"quiclane 1").extract(&self.0)
    }
}

/// The keys of one epoch. Their `Debug` shows nothing: `Key` hides itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochKeys {
    /// Makes and verifies the check bytes of connection IDs.
    pub(crate) check: Key,
    /// Spreads client-chosen connection IDs over the workers.
    pub(crate) spread: Key,
    /// Permutes the unique part of connection IDs.
    pub(crate) unique: Key,
    /// Root of the workers' reset keys.
    pub(crate) reset_root: Key,
}

/// Fills `bytes` from the system's random generator.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    SystemRandom::new().fill(bytes).expect("getrandom(2) does not fail once the system is up");
}

fn derive_key(prk: &Prk, label: &[u8], server_id: &[u8], epoch: &[u8]) -> Key {
    let mut key = [0; 16];
    prk.expand(&[label, server_id, epoch], Len16)
        .and_then(|okm| okm.fill(&mut key))
        .expect("16 bytes are within HKDF-SHA256's limit");
    Key::from_bytes(key)
}

#[derive(Clone, Copy)]
struct Len16;

impl KeyType for Len16 {
    fn len(&self) -> usize {
        16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_changes_every_key() {
        let base = Master([1; 32]).epoch_keys(&[7], 5);
        for other in [
            Master([2; 32]).epoch_keys(&[7], 5),
            Master([1; 32]).epoch_keys(&[8], 5),
            Master([1; 32]).epoch_keys(&[], 5),
            Master([1; 32]).epoch_keys(&[7], 6),
            Master([1; 32]).epoch_keys(&[7], 5 + (1 << 32)),
        ] {
            for (a, b) in [
                (base.check, other.check),
                (base.spread, other.spread),
                (base.unique, other.unique),
                (base.reset_root, other.reset_root),
            ] {
                assert_ne!((a.k0, a.k1), (b.k0, b.k1));
            }
        }
        assert_ne!(
            (base.check.k0, base.check.k1),
            (base.reset_root.k0, base.reset_root.k1),
            "labels separate purposes"
        );
    }
}
