//! sections decodes and judges the header sections of a connection, one at a time, in memory that
//! serves for all of them.
//!
//! A client that repeats a request, or a server that repeats a response, sends the same bytes: the
//! section that was read last is recognised by them and not read again.

use crate::limits::Limits;
use crate::qpack::Fields;
use crate::qpack::decode::{SectionLimits, decode};
use crate::validate::{self, Head, Section};
use crate::violation::Violation;

/// The section that was read last.
#[derive(Debug)]
pub(crate) struct Sections {
    limits: SectionLimits,
    pub(crate) fields: Fields,
    pub(crate) head: Head,
    /// Its bytes and what it was, if it was valid.
    block: Vec<u8>,
    read_as: Option<Section>,
}

impl Sections {
    pub(crate) fn new(limits: &Limits) -> Self {
        let section_bytes_max = limits.field_section_bytes_max.min(SECTION_BYTES_MAX);
        let section_bytes_max = u64::from(section_bytes_max);
        Self {
            limits: SectionLimits { section_bytes_max, fields_max: limits.fields_max },
            fields: Fields::default(),
            head: Head::default(),
            block: Vec::new(),
            read_as: None,
        }
    }

    /// The longest HEADERS frame.
    pub(crate) fn block_bytes_max(&self) -> u64 {
        self.limits.section_bytes_max
    }

    /// Reads the section that `block` encodes; `fields` and `head` then have it.
    pub(crate) fn read(&mut self, block: &[u8], section: Section) -> Result<(), Violation> {
        if self.read_as == Some(section) && self.block == block {
            return Ok(());
        }
        self.read_as = None;
        decode(block, self.limits, &mut self.fields)?;
        self.head = validate::section(&self.fields, section)?;
        if block.len() <= BLOCK_BYTES_KEPT {
            self.block.clear();
            self.block.extend_from_slice(block);
            self.read_as = Some(section);
        }
        Ok(())
    }
}

/// Places in a section have 32 bits.
const SECTION_BYTES_MAX: u32 = 1 << 30;

/// The longest section that is recognised. Repeated requests are small.
const BLOCK_BYTES_KEPT: usize = 2 << 10;
