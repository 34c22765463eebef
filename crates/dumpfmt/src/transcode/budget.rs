//! What the new contents may take.

use super::TranscodeError;
use crate::limits::Limits;
use crate::toc::TocEntry;

/// Counts the new entries and their bytes, before memory is taken for them.
pub(super) struct Budget {
    entries: u64,
    bytes: u64,
    limits: Limits,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { entries: limits.toc_entries, bytes: limits.toc_bytes, limits: limits.clone() }
    }

    /// Counts an entry with so many bytes of text and dependencies.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), TranscodeError> {
        let exceeded = |limit, field| TranscodeError::LimitExceeded { limit, field };
        self.entries = self.entries.checked_sub(1).ok_or_else(|| exceeded(self.limits.toc_entries, "toc_entries"))?;
        let bytes = bytes.saturating_add(size_of::<TocEntry>()) as u64;
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| exceeded(self.limits.toc_bytes, "toc_bytes"))?;
        Ok(())
    }

    /// Counts an entry that is little larger than one of the source.
    pub(super) fn take(&mut self, entry: TocEntry) -> Result<TocEntry, TranscodeError> {
        self.charge(entry.text_bytes() as usize)?;
        Ok(entry)
    }
}
