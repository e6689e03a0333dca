//! reset ends connections that nobody knows any more (RFC 9000 section 10.3): tokens, answers, and
//! how many of them.
//!
//! A peer whose connection is gone learns it from the answer to its next packet, instead of waiting
//! for its idle timeout. What is answered here are packets of epochs whose process is gone, and
//! packets with an ID of this worker that its endpoint does not know.
//!
//! Invariant: a worker signs what it is shown with its own key of its own epoch. Keys of other
//! workers are used for retired epochs alone, which nobody owns: no live connection can be ended.

mod rates;
pub(crate) use rates::Rates;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quiclane_wire::{
    Key, SHORT_HEADER_CID_AT, TOKEN_LEN, Unanswered, reset_len, siphash64, siphash128, token,
    worker_key, write_reset,
};
use quinn_proto::crypto::{CryptoError, HmacKey};

use crate::epochs::View;
use rates::Recent;

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
        TOKEN_LEN
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

/// What one worker of a server answers with.
pub(crate) struct Resets {
    rates: Arc<Rates>,
    recent: Recent,
    epochs: View,
    cid_len: usize,
    noise: Noise,
}

impl Resets {
    /// `seed`: what the unpredictable bytes are made of.
    pub(crate) fn new(rates: Arc<Rates>, epochs: View, cid_len: usize, seed: [u8; 16]) -> Self {
        let key = Key::from_bytes(seed);
        let recent = Recent::new(Key::from_bytes(siphash128(&key, b"recent")));
        Self { rates, recent, epochs, cid_len, noise: Noise { key, count: 0 } }
    }

    /// The token of the connection that a short header of a retired epoch belonged to; `None` if
    /// that epoch is not retired.
    pub(crate) fn orphan_token(
        &mut self,
        datagram: &[u8],
        epoch: u8,
        worker: u8,
    ) -> Option<[u8; TOKEN_LEN]> {
        // At least as new as what the packet was routed by.
        self.epochs.renew();
        let entry = self.epochs.table().get(epoch);
        if entry.state != quiclane_wire::EpochState::Retired {
            return None;
        }
        let cid = datagram.get(SHORT_HEADER_CID_AT..SHORT_HEADER_CID_AT + self.cid_len)?;
        Some(token(&worker_key(&entry.reset_root, worker), cid))
    }

    /// Appends the answer to a datagram of `trigger_len` bytes to `out`, if one is due.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        source: SocketAddr,
        token: &[u8; TOKEN_LEN],
        trigger_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Unanswered> {
        let len = reset_len(trigger_len, self.noise.next()).ok_or(Unanswered::TooShort)?;
        let now = self.rates.since_start(now);
        // Repetitions cost no budget; and only who is answered is remembered.
        let answered = self.recent.check(source, token, now)?;
        self.rates.take(source.ip(), now)?;
        self.recent.remember(answered);
        let at = out.len();
        out.resize(at + len, 0);
        let noise = &mut self.noise;
        write_reset(&mut out[at..], len, token, &mut || noise.next());
        Ok(())
    }
}

/// Numbers that nobody can foretell who does not know the key.
struct Noise {
    key: Key,
    count: u64,
}

impl Noise {
    fn next(&mut self) -> u64 {
        self.count += 1;
        siphash64(&self.key, &self.count.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quiclane_wire::{EpochEntry, EpochState, EpochTable, RESET_LEN_MAX, RESET_LEN_MIN};

    use super::*;
    use crate::clock;
    use crate::config::Limits;
    use crate::epochs::Epochs;

    fn resets(limits: &Limits) -> Resets {
        let mut epochs = EpochTable::unknown();
        for (epoch, state) in [(1, EpochState::Retired), (2, EpochState::Live)] {
            let [check_key, reset_root] = [3, 4].map(|byte| Key::from_bytes([byte; 16]));
            epochs.set(epoch, EpochEntry { state, check_key, reset_root, workers: 4 });
        }
        let rates = Rates::new(limits, Key::from_bytes([8; 16]));
        Resets::new(Arc::new(rates), Epochs::new(epochs).view(), 12, [7; 16])
    }

    fn source(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    #[test]
    fn only_retired_epochs_have_orphans() {
        let mut resets = resets(&Limits::default());
        let datagram = [0x40; 30];
        let key = worker_key(&Key::from_bytes([4; 16]), 3);
        assert_eq!(resets.orphan_token(&datagram, 1, 3), Some(token(&key, &datagram[1..13])));
        assert_eq!(resets.orphan_token(&datagram, 2, 3), None, "live");
        assert_eq!(resets.orphan_token(&datagram, 9, 3), None, "unknown");
        assert_eq!(resets.orphan_token(&datagram[..12], 1, 3), None);
    }

    #[test]
    fn answers_are_short_unpredictable_and_end_with_the_token() {
        let mut resets = resets(&Limits::default());
        let (now, mut seen) = (clock::now(), Vec::new());
        for trigger_len in 0..=1_500_usize {
            let mut out = vec![0xee];
            let token = [trigger_len.to_le_bytes()[0]; TOKEN_LEN];
            let port = u16::try_from(trigger_len).unwrap();
            let answer = resets.answer(now, source(1, port), &token, trigger_len, &mut out);
            if trigger_len <= RESET_LEN_MIN {
                assert_eq!((answer, out), (Err(Unanswered::TooShort), vec![0xee]));
                continue;
            }
            answer.unwrap();
            let reset = &out[1..];
            assert!(
                reset.len() < trigger_len && (RESET_LEN_MIN..=RESET_LEN_MAX).contains(&reset.len())
            );
            assert_eq!((reset[0] >> 6, reset.ends_with(&token)), (0b01, true));
            seen.push(reset[..5].to_vec());
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "no two answers begin alike");
    }

    #[test]
    fn a_connection_is_answered_once_in_a_tenth_of_a_second() {
        let mut resets = resets(&Limits::default());
        let start = clock::now();
        let mut answers = |after_ms, port, token| {
            let now = start + Duration::from_millis(after_ms);
            resets.answer(now, source(1, port), &[token; TOKEN_LEN], 100, &mut Vec::new())
        };
        assert_eq!(answers(0, 1, 1), Ok(()));
        assert_eq!(answers(99, 1, 1), Err(Unanswered::Repeated));
        assert_eq!(answers(99, 2, 1), Ok(()), "another port");
        assert_eq!(answers(99, 1, 2), Ok(()), "another connection");
        assert_eq!(answers(101, 1, 1), Ok(()));
    }

    #[test]
    fn ten_thousand_orphans_behind_one_address_are_all_answered() {
        let mut resets = resets(&Limits::default());
        let now = clock::now();
        for n in 0..10_000_u16 {
            let token = u128::from(n).to_le_bytes();
            resets.answer(now, source(1, 1_000 + n), &token, 100, &mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn a_prefix_and_all_sources_have_their_budgets() {
        let limits = Limits { prefix_resets_per_s: 100, resets_per_s: 250, ..Limits::default() };
        let mut resets = resets(&limits);
        let start = clock::now();
        let mut round = |after_s: u64, prefix: u8, salt: u8| {
            let now = start + Duration::from_secs(after_s);
            let mut counts = [0; 3];
            for n in 0..200_u8 {
                let mut token = [salt; TOKEN_LEN];
                token[0] = n;
                let source = SocketAddr::from(([10, 0, prefix, n], 5));
                match resets.answer(now, source, &token, 100, &mut Vec::new()) {
                    Ok(()) => counts[0] += 1,
                    Err(Unanswered::PrefixBudget) => counts[1] += 1,
                    Err(Unanswered::ResetBudget) => counts[2] += 1,
                    Err(other) => panic!("{other:?}"),
                }
            }
            counts
        };
        assert_eq!(round(0, 1, 1), [100, 100, 0]);
        assert_eq!(round(0, 2, 2), [100, 100, 0]);
        assert_eq!(round(0, 3, 3), [50, 0, 150], "what is dropped anyway costs others nothing");
        assert_eq!(round(1, 1, 4), [100, 100, 0], "a second later");
    }

    #[test]
    fn what_a_budget_refused_is_not_taken_for_answered() {
        let one_of_a_prefix = Limits { prefix_resets_per_s: 10, ..Limits::default() };
        let one_of_all = Limits { resets_per_s: 10, ..Limits::default() };
        for (limits, over) in
            [(one_of_a_prefix, Unanswered::PrefixBudget), (one_of_all, Unanswered::ResetBudget)]
        {
            let mut resets = resets(&limits);
            let start = clock::now();
            let mut answer = |after_ms, token| {
                let now = start + Duration::from_millis(after_ms);
                resets.answer(now, source(1, 1), &[token; TOKEN_LEN], 100, &mut Vec::new())
            };
            for token in 0..10 {
                assert_eq!(answer(0, token), Ok(()));
            }
            assert_eq!(answer(0, 77), Err(over));
            assert_eq!(answer(1, 77), Err(over), "it was not answered");
            assert_eq!(answer(1, 9), Err(Unanswered::Repeated), "this one was");
            // The budget has room again, and the refusal was less than a tenth of a second ago.
            assert_eq!(answer(101, 77), Ok(()));
            assert_eq!(answer(102, 77), Err(Unanswered::Repeated));
        }
    }

    #[test]
    fn repetitions_cost_no_budget() {
        let limits = Limits { prefix_resets_per_s: 2, resets_per_s: 2, ..Limits::default() };
        let mut resets = resets(&limits);
        let now = clock::now();
        let mut answer =
            |token| resets.answer(now, source(1, 1), &[token; TOKEN_LEN], 100, &mut Vec::new());
        assert_eq!(answer(1), Ok(()));
        for _ in 0..10 {
            assert_eq!(answer(1), Err(Unanswered::Repeated));
        }
        assert_eq!((answer(2), answer(3)), (Ok(()), Err(Unanswered::ResetBudget)));
    }

    #[test]
    fn zero_answers_nobody() {
        let mut resets = resets(&Limits { resets_per_s: 0, ..Limits::default() });
        let answer = resets.answer(clock::now(), source(1, 1), &[1; 16], 100, &mut Vec::new());
        assert_eq!(answer, Err(Unanswered::ResetBudget));
    }
}
