//! reset signs stateless reset tokens (RFC 9000 section 10.3) with this worker's key.

use quiclane_wire::{Key, token, worker_key};
use quinn_proto::crypto::{CryptoError, HmacKey};

/// One worker's key. It signs whatever connection ID it is shown, but with its own key: a datagram
/// that reached the wrong worker yields a token that no peer holds.
pub(crate) struct ResetKey(Key);

impl ResetKey {
    pub(crate) fn new(reset_root: &Key, worker: u8) -> Self {
        Self(worker_key(reset_root, worker))
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&token(&self.0, data));
    }

    fn signature_len(&self) -> usize {
        16
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = token(&self.0, data);
        let difference = signature
            .iter()
            .zip(expected)
            .fold(signature.len() ^ expected.len(), |sum, (a, b)| sum | usize::from(a ^ b));
        if difference == 0 { Ok(()) } else { Err(CryptoError) }
    }
}
