//! bytes says how a datagram is read: one parser, two memories.
//!
//! User space reads a slice. The kernel program reads between `data` and `data_end`, where every
//! access must be proven for the verifier, so it implements [`Bytes`] by itself over packet
//! memory. All parsing in this crate goes through this trait and never indexes.

/// Bounded reads from the bytes of one datagram.
pub trait Bytes {
    /// The `N` bytes from offset `at`, or `None` if they are not all there.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// How many bytes the datagram has.
    fn len(&self) -> usize;

    /// Whether there are at least `len` bytes. Packet memory in the kernel has an end and no
    /// length: the verifier lets a program compare pointers, not subtract them.
    #[inline]
    fn holds(&self, len: usize) -> bool {
        len <= self.len()
    }

    /// Whether the datagram has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Bytes for [u8] {
    #[inline]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }

    #[inline]
    fn len(&self) -> usize {
        // The inherent `len` of a slice, not this one.
        <[u8]>::len(self)
    }
}

impl<B: Bytes + ?Sized> Bytes for &B {
    #[inline]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        (**self).read(at)
    }

    #[inline]
    fn len(&self) -> usize {
        (**self).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let bytes: &[u8] = &[1, 2, 3];
        assert_eq!(bytes.read::<0>(3), Some([]));
        assert_eq!(bytes.read::<0>(4), None);
        assert_eq!(bytes.read::<2>(1), Some([2, 3]));
        assert_eq!(bytes.read::<2>(2), None);
        assert_eq!(bytes.read::<4>(0), None);
        assert_eq!(bytes.read::<1>(usize::MAX), None);
        assert_eq!(Bytes::len(&bytes), 3);
        assert!(!Bytes::is_empty(&bytes));
        assert!(Bytes::is_empty(&[][..]));
    }
}
