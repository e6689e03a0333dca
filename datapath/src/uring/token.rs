//! token names what a completion belongs to, in the 64 bits the kernel carries for us.
//!
//! ```text
//! bits 63..56 kind | 55..32 generation | 31..0 id
//! ```

/// A number that tells successive owners of one id apart. It has 24 bits: a late completion would
/// have to wait for 16 million successors to be taken for one of theirs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Generation(u32);

impl Generation {
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1) & MASK)
    }
}

/// One owner of a socket id or a send slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Handle {
    pub(super) id: u32,
    pub(super) generation: Generation,
}

/// What was submitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// The multishot receive of a socket.
    Receive(Handle),
    /// The request to end that receive.
    Cancel(Handle),
    /// The send of a slot.
    Send(Handle),
    /// The poll of the waker.
    Wake,
    /// The timer after which what was refused is tried again.
    Retry,
    /// The request to end everything.
    Shutdown,
}

impl Token {
    pub(super) fn encode(self) -> u64 {
        let (kind, handle) = match self {
            Self::Receive(handle) => (RECEIVE, handle),
            Self::Cancel(handle) => (CANCEL, handle),
            Self::Send(handle) => (SEND, handle),
            Self::Wake => (WAKE, NONE),
            Self::Retry => (RETRY, NONE),
            Self::Shutdown => (SHUTDOWN, NONE),
        };
        let Handle { id, generation } = handle;
        u64::from(kind) << 56 | u64::from(generation.0) << 32 | u64::from(id)
    }

    /// `None` for what [`encode`](Self::encode) never made.
    pub(super) fn decode(bits: u64) -> Option<Self> {
        let [kind, g2, g1, g0, i3, i2, i1, i0] = bits.to_be_bytes();
        let generation = Generation(u32::from_be_bytes([0, g2, g1, g0]));
        let handle = Handle { id: u32::from_be_bytes([i3, i2, i1, i0]), generation };
        match kind {
            RECEIVE => Some(Self::Receive(handle)),
            CANCEL => Some(Self::Cancel(handle)),
            SEND => Some(Self::Send(handle)),
            WAKE if handle == NONE => Some(Self::Wake),
            RETRY if handle == NONE => Some(Self::Retry),
            SHUTDOWN if handle == NONE => Some(Self::Shutdown),
            _ => None,
        }
    }
}

const MASK: u32 = (1 << 24) - 1;
const NONE: Handle = Handle { id: 0, generation: Generation(0) };

const RECEIVE: u8 = 1;
const CANCEL: u8 = 2;
const SEND: u8 = 3;
const WAKE: u8 = 4;
const RETRY: u8 = 5;
const SHUTDOWN: u8 = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens() -> impl Strategy<Value = Token> {
        let handle = (any::<u32>(), 0..=MASK)
            .prop_map(|(id, generation)| Handle { id, generation: Generation(generation) });
        prop_oneof![
            handle.clone().prop_map(Token::Receive),
            handle.clone().prop_map(Token::Cancel),
            handle.prop_map(Token::Send),
            Just(Token::Wake),
            Just(Token::Retry),
            Just(Token::Shutdown),
        ]
    }

    proptest! {
        #[test]
        fn round_trips(token in tokens()) {
            prop_assert_eq!(Token::decode(token.encode()), Some(token));
        }

        #[test]
        fn every_bit_counts(bits: u64) {
            if let Some(token) = Token::decode(bits) {
                prop_assert_eq!(token.encode(), bits);
            }
        }
    }

    #[test]
    fn generations_go_round() {
        assert_eq!(Generation(MASK).next(), Generation(0));
    }
}
