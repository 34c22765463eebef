//! The table of contents as bytes.

use super::{DataState, Section, Text, TocEntry};
use crate::version::Version;
use crate::write::primitives::{OFFSET_SIZE, TextTooLong, put_int, put_text};

/// The last field of an entry, which differs by format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location<'a> {
    /// In the custom format: where the data begins.
    Position(DataState),
    /// In the directory format: the file with the data, empty for none.
    File(&'a str),
}

impl TocEntry {
    /// Appends the entry as an archive of this version, 1.14 or later, has it.
    ///
    /// # Errors
    ///
    /// When one of its texts is of 2 GiB or more.
    pub(crate) fn put(&self, version: Version, location: Location<'_>, out: &mut Vec<u8>) -> Result<(), TextTooLong> {
        let text = |which, out: &mut Vec<u8>| put_text(self.text(which), out);
        put_int(self.dump_id, out);
        put_int(i32::from(self.had_dumper), out);
        put_text(Some(self.table_oid.to_string().as_bytes()), out)?;
        put_text(Some(self.oid.to_string().as_bytes()), out)?;
        text(Text::Tag, out)?;
        text(Text::Description, out)?;
        let section = match self.section {
            Section::None => 1,
            Section::PreData => 2,
            Section::Data => 3,
            Section::PostData => 4,
        };
        put_int(section, out);
        for which in [
            Text::Definition,
            Text::DropStatement,
            Text::CopyStatement,
            Text::Namespace,
            Text::Tablespace,
            Text::TableAccessMethod,
        ] {
            text(which, out)?;
        }
        if version >= Version::RELKIND {
            put_int(self.relkind.unwrap_or_default().into(), out);
        }
        text(Text::Owner, out)?;
        put_text(Some(if self.with_oids { b"true" } else { b"false" }), out)?;
        for dependency in self.dependencies() {
            put_text(Some(dependency.to_string().as_bytes()), out)?;
        }
        put_text(None, out)?;
        match location {
            Location::Position(state) => put_position(state, out),
            Location::File(name) => put_text(Some(name.as_bytes()), out)?,
        }
        Ok(())
    }
}

/// The bytes of [`Location::Position`].
pub(crate) const POSITION_BYTES: usize = 1 + OFFSET_SIZE as usize;

pub(crate) fn put_position(state: DataState, out: &mut Vec<u8>) {
    let (flag, position) = match state {
        DataState::PositionNotSet | DataState::File => (1, 0),
        DataState::Position(position) => (2, position),
        DataState::NoData => (3, 0),
    };
    out.push(flag);
    out.extend_from_slice(&position.to_le_bytes());
}
