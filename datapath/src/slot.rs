//! slot is the one kind of memory that datagrams leave from.

/// A reusable payload buffer with room for a whole GSO train.
///
/// It is handed out by [`Datapath::slot`](crate::Datapath::slot) and comes back through `send` or
/// `release`. Dropping it elsewhere loses the slot, so it is not `Clone` and must be used.
#[derive(Debug)]
#[must_use = "give the slot back with send or release"]
pub struct SendSlot {
    index: u32,
    /// Empty when handed out; capacity is at least [`SendSlot::CAPACITY`] and growing it is an
    /// allocation on the data path.
    pub payload: Vec<u8>,
}

impl SendSlot {
    /// Bytes that always fit: the largest UDP payload over IPv6 (65,527) rounded up.
    pub const CAPACITY: usize = 65_536;

    /// A slot that its owner knows by `index`.
    pub fn new(index: u32) -> Self {
        Self { index, payload: Vec::with_capacity(Self::CAPACITY) }
    }

    pub(crate) fn with(index: u32, payload: Vec<u8>) -> Self {
        Self { index, payload }
    }

    pub(crate) fn into_parts(self) -> (u32, Vec<u8>) {
        let Self { index, payload } = self;
        (index, payload)
    }

    /// The owner's name for it.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }
}
