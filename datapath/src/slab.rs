//! slab gives out small ids and takes them back.

/// Values under ids that are dense, stable and reused.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// Keeps `value` and returns its id, or gives it back when every id below `limit` is taken.
    pub(crate) fn insert(&mut self, value: T, limit: u32) -> Result<u32, T> {
        if let Some(id) = self.free.pop() {
            self.entries[id as usize] = Some(value);
            return Ok(id);
        }
        match u32::try_from(self.entries.len()) {
            Ok(id) if id < limit => {
                self.entries.push(Some(value));
                Ok(id)
            }
            _ => Err(value),
        }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.entries.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.entries.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(value)
    }

    /// Ids in use.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.entries).filter_map(|(id, entry)| entry.as_ref().map(|_| id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_reused_and_limited() {
        let mut slab = Slab::new();
        assert_eq!(slab.insert('a', 2), Ok(0));
        assert_eq!(slab.insert('b', 2), Ok(1));
        assert_eq!(slab.insert('c', 2), Err('c'));
        assert_eq!(slab.remove(0), Some('a'));
        assert_eq!(slab.remove(0), None);
        assert_eq!(slab.get(0), None);
        assert_eq!(slab.insert('d', 2), Ok(0));
        assert_eq!(slab.ids().collect::<Vec<_>>(), [0, 1]);
    }
}
