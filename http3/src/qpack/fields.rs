//! fields holds a decoded field section: one piece of memory that serves for section after section.
//!
//! ```text
//!   entries   name, value │ name, value │ ...     16 bytes each: a place in the arena, or an
//!                │                                index of the static table
//!   arena     text-of-a-name text-of-a-value ...
//! ```

use super::static_table;

/// One field line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<'a> {
    /// In lower case.
    pub name: &'a [u8],
    /// Without whitespace around it.
    pub value: &'a [u8],
}

/// The field lines of a section, in order, pseudo-header fields first.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    section_bytes: u64,
}

impl Fields {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The size of the section as limits count it: name, value and 32 bytes for each field
    /// (RFC 9114 section 4.2.2).
    #[must_use]
    pub fn section_bytes(&self) -> u64 {
        self.section_bytes
    }

    /// Each field line, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Field<'_>> {
        self.entries.iter().map(|entry| self.field(entry))
    }

    /// The value of the first field with this name, which has to be in lower case.
    #[must_use]
    pub fn first(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|field| field.name == name).map(|field| field.value)
    }

    /// Empties it. Memory of usual size is kept for the next section.
    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.arena.shrink_to(ARENA_BYTES_KEPT);
        self.entries.clear();
        self.section_bytes = 0;
    }

    /// Becomes a copy, in its own memory.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        let Self { arena, entries, section_bytes } = other;
        self.clear();
        self.arena.extend_from_slice(arena);
        self.entries.extend_from_slice(entries);
        self.section_bytes = *section_bytes;
    }

    /// The field at a place, if there is one.
    pub(crate) fn at(&self, at: usize) -> Option<Field<'_>> {
        self.entries.get(at).map(|entry| self.field(entry))
    }

    /// Each field line with the index of its name in the static table, if it came from there.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = (Option<u32>, Field<'_>)> {
        self.entries.iter().map(|entry| (entry.name.static_index(), self.field(entry)))
    }

    /// Where strings are decoded into, before [`push`](Self::push) says what they are.
    pub(super) fn arena(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    /// Notes a field whose texts are in the arena or in the static table.
    pub(super) fn push(&mut self, name: Text, value: Text) {
        let entry = Entry { name, value };
        let Field { name, value } = self.field(&entry);
        self.section_bytes += (name.len() + value.len()) as u64 + FIELD_OVERHEAD_BYTES;
        self.entries.push(entry);
    }

    fn field(&self, entry: &Entry) -> Field<'_> {
        let name = match entry.name.static_index() {
            Some(index) => static_table::get(u64::from(index)).map_or(&[][..], |entry| entry.0),
            None => self.text(entry.name),
        };
        let value = match entry.value.static_index() {
            Some(index) => static_table::get(u64::from(index)).map_or(&[][..], |entry| entry.1),
            None => self.text(entry.value),
        };
        Field { name, value }
    }

    fn text(&self, text: Text) -> &[u8] {
        let end = text.at as usize + text.bytes as usize;
        self.arena.get(text.at as usize..end).unwrap_or_default()
    }
}

/// Where name and value of a field are.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Text,
    value: Text,
}

/// Where a text is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    /// In the arena; or the index of the static table.
    at: u32,
    /// How long; or [`STATIC`].
    bytes: u32,
}

impl Text {
    /// The name or the value of an entry of the static table.
    pub(super) const fn of_static(index: u32) -> Self {
        Self { at: index, bytes: STATIC }
    }

    /// What the arena has from `start` to `end`.
    #[expect(clippy::cast_possible_truncation, reason = "sections are limited to 4 GiB - 1")]
    pub(super) const fn of_arena(start: usize, end: usize) -> Self {
        Self { at: start as u32, bytes: (end - start) as u32 }
    }

    fn static_index(self) -> Option<u32> {
        (self.bytes == STATIC).then_some(self.at)
    }
}

/// The largest arena kept between sections: more than a browser's request needs.
const ARENA_BYTES_KEPT: usize = 8 << 10;

/// What each field counts beyond its texts, RFC 9114 section 4.2.2.
pub(super) const FIELD_OVERHEAD_BYTES: u64 = 32;

/// No arena has a text that long.
const STATIC: u32 = u32::MAX;
