//! Reading entries from an archive.

use std::io::Read;

use super::store::Store;
use super::{DataState, Section, Text, TocEntry};
use crate::error::{Error, Result};
use crate::header::{Format, Header};
use crate::input::{Input, MAX_INT_BYTES, TextBudget};
use crate::version::Version;

const PLACE: &str = "within its table of contents";

/// What is needed while an entry is read, and again for the next one.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) store: Store,
    decimal: Vec<u8>,
}

impl TocEntry {
    /// Reads one entry, whose texts go to the end of the store.
    pub(super) fn read<R: Read>(
        input: &mut Input<R>,
        header: &Header,
        budget: &mut TextBudget,
        scratch: &mut Scratch,
    ) -> Result<Self> {
        let (size, version) = (header.int_size, header.version);
        let since = |first: Version| version >= first;
        let Scratch { store, decimal } = scratch;
        let mut texts = Texts { store, ends: [0; Text::COUNT], present: 0 };

        let offset = input.position();
        let dump_id = i32::try_from(input.int(size, PLACE)?)
            .ok()
            .filter(|&id| id > 0)
            .ok_or_else(|| Error::corrupt("a dump ID is not a positive number of 31 bits", offset))?;
        let had_dumper = read_bool(input, size)?;
        let table_oid = if since(Version::DUMP_ID_DEPENDENCIES) {
            read_decimal(input, size, budget, decimal, "a catalog OID")?
        } else {
            0
        };
        let oid = read_decimal(input, size, budget, decimal, "an OID")?;
        let mut text = |which: Text, first: Version, input: &mut Input<R>, budget: &mut TextBudget| {
            if since(first) {
                return texts.read(which, input, size, budget);
            }
            texts.skip(which);
            Ok(())
        };
        text(Text::Tag, Version::OLDEST, input, budget)?;
        text(Text::Description, Version::OLDEST, input, budget)?;
        let section = if since(Version::SECTION) { Some(read_section(input, size)?) } else { None };
        text(Text::Definition, Version::OLDEST, input, budget)?;
        text(Text::DropStatement, Version::OLDEST, input, budget)?;
        text(Text::CopyStatement, Version::OLDEST, input, budget)?;
        text(Text::Namespace, Version::NAMESPACE, input, budget)?;
        text(Text::Tablespace, Version::TABLESPACE, input, budget)?;
        text(Text::TableAccessMethod, Version::TABLE_ACCESS_METHOD, input, budget)?;
        let relkind = if since(Version::RELKIND) { Some(read_relkind(input, size)?) } else { None };
        text(Text::Owner, Version::OLDEST, input, budget)?;
        decimal.clear();
        let with_oids = since(Version::WITH_OIDS) && input.text(size, decimal, budget, PLACE)? && decimal == b"true";
        let dependencies_are_oids = !since(Version::DUMP_ID_DEPENDENCIES);
        if since(Version::DEPENDENCIES) {
            read_dependencies(input, size, dependencies_are_oids, budget, decimal, &mut texts.store.dependencies)?;
        }
        let data = match header.format {
            Format::Custom => {
                texts.skip(Text::FileName);
                if since(Version::OFFSET_SIZE) {
                    read_data_state(input, header.offset_size)?
                } else {
                    read_early_data_state(input, size)?
                }
            }
            Format::Tar | Format::Directory => {
                texts.read(Text::FileName, input, size, budget)?;
                match header.format {
                    _ if texts.is_empty(Text::FileName) => DataState::NoData,
                    Format::Directory => DataState::File,
                    _ => DataState::PositionNotSet,
                }
            }
        };
        if had_dumper == (data == DataState::NoData) {
            // With one of the two damaged, a table would be empty and nobody would know.
            let (name, says) =
                (texts.get(Text::Tag).escape_ascii().to_string(), if had_dumper { "has" } else { "has no" });
            let text = format!("the entry `{name}` says that it {says} data, but its position says the opposite");
            return Err(Error::corrupt(text, offset));
        }
        if data != DataState::NoData && header.format != Format::Custom {
            let (name, is_objects) = (texts.get(Text::FileName), texts.get(Text::Description) == b"BLOBS");
            // In a tar, and before there could be several lists, pg_dump does not tell their names.
            let has_list = header.format == Format::Directory && version >= Version::LARGE_OBJECT_GROUPS;
            let expected = match is_objects {
                false => Some(format!("{dump_id}.dat")),
                true => has_list.then(|| format!("blobs_{dump_id}.toc")),
            };
            if let Some(expected) = expected.filter(|expected| expected.as_bytes() != name) {
                let name = name.escape_ascii();
                let text = format!("the entry with dump ID {dump_id} names the file `{name}`, not `{expected}`");
                return Err(Error::corrupt(text, offset));
            }
        }
        let section = section.unwrap_or_else(|| Section::of_type(texts.get(Text::Description)));
        Ok(Self {
            dump_id,
            had_dumper,
            table_oid,
            oid,
            section,
            relkind,
            with_oids,
            data,
            dependencies_are_oids,
            ends: texts.ends,
            present: texts.present,
            stored: texts.store.end_entry(),
        })
    }
}

/// The texts of an entry while it is read.
struct Texts<'a> {
    store: &'a mut Store,
    ends: [u32; Text::COUNT],
    present: u16,
}

impl Texts<'_> {
    fn read<R: Read>(&mut self, which: Text, input: &mut Input<R>, size: u8, budget: &mut TextBudget) -> Result<()> {
        let offset = input.position();
        if input.text(size, &mut self.store.texts, budget, PLACE)? {
            self.present |= 1 << which as usize;
        }
        self.ends[which as usize] = u32::try_from(self.store.text().len())
            .map_err(|_| Error::corrupt("the texts of one entry exceed 4 GiB", offset))?;
        Ok(())
    }

    /// Marks a text that this version does not have as NULL.
    fn skip(&mut self, which: Text) {
        // Cannot fail to fit: the text before it did.
        self.ends[which as usize] = self.store.text().len() as u32;
    }

    fn get(&self, which: Text) -> &[u8] {
        let index = which as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.store.text()[start..self.ends[index] as usize]
    }

    /// Whether a text other than the first is empty or NULL.
    fn is_empty(&self, which: Text) -> bool {
        self.ends[which as usize] == self.ends[which as usize - 1]
    }
}

fn read_bool<R: Read>(input: &mut Input<R>, size: u8) -> Result<bool> {
    let offset = input.position();
    match input.int(size, PLACE)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::corrupt(format!("whether an entry has data is said by {other}, not by 0 or 1"), offset)),
    }
}

fn read_section<R: Read>(input: &mut Input<R>, size: u8) -> Result<Section> {
    let offset = input.position();
    match input.int(size, PLACE)? {
        1 => Ok(Section::None),
        2 => Ok(Section::PreData),
        3 => Ok(Section::Data),
        4 => Ok(Section::PostData),
        other => Err(Error::corrupt(format!("an entry is in the unknown section {other}"), offset)),
    }
}

fn read_relkind<R: Read>(input: &mut Input<R>, size: u8) -> Result<u8> {
    let offset = input.position();
    let value = input.int(size, PLACE)?;
    u8::try_from(value).map_err(|_| Error::corrupt(format!("{value} is not a kind of relation"), offset))
}

fn read_decimal<R: Read>(
    input: &mut Input<R>,
    size: u8,
    budget: &mut TextBudget,
    scratch: &mut Vec<u8>,
    what: &str,
) -> Result<u32> {
    let offset = input.position();
    scratch.clear();
    input.text(size, scratch, budget, PLACE)?;
    parse_decimal(scratch)
        .ok_or_else(|| Error::corrupt(format!("{what} is not a number: \"{}\"", scratch.escape_ascii()), offset))
}

/// Dependencies as dump IDs, or as OIDs.
fn read_dependencies<R: Read>(
    input: &mut Input<R>,
    size: u8,
    are_oids: bool,
    budget: &mut TextBudget,
    scratch: &mut Vec<u8>,
    dependencies: &mut Vec<i32>,
) -> Result<()> {
    loop {
        let offset = input.position();
        scratch.clear();
        if !input.text(size, scratch, budget, PLACE)? {
            return Ok(());
        }
        let id = if are_oids { parse_decimal(scratch).map(|oid: u32| oid as i32) } else { parse_decimal(scratch) };
        let id = id.ok_or_else(|| {
            let kind = if are_oids { "an OID" } else { "a dump ID" };
            Error::corrupt(format!("a dependency is not {kind}: \"{}\"", scratch.escape_ascii()), offset)
        })?;
        budget.charge(size_of::<i32>() as u64, offset)?;
        dependencies.push(id);
    }
}

fn parse_decimal<N: std::str::FromStr + TryFrom<u32>>(text: &[u8]) -> Option<N> {
    // Nearly always it is nothing but digits, and not so many that they overflow.
    if matches!(text.len(), 1..=9) && text.iter().all(u8::is_ascii_digit) {
        return text.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')).try_into().ok();
    }
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn read_data_state<R: Read>(input: &mut Input<R>, offset_size: u8) -> Result<DataState> {
    let offset = input.position();
    let mut bytes = [0; MAX_INT_BYTES];
    // The header's check keeps `offset_size` below.
    let bytes = &mut bytes[..=usize::from(offset_size)];
    input.exact(bytes, PLACE)?;
    let (&flag, position) = bytes.split_first().unwrap_or((&0, &[]));
    let (low, high) = position.split_at(position.len().min(8));
    if high.iter().any(|&byte| byte != 0) {
        return Err(Error::corrupt("a position lies beyond any file", offset));
    }
    let position = low.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    match flag {
        1 => Ok(DataState::PositionNotSet),
        2 => Ok(DataState::Position(position)),
        3 => Ok(DataState::NoData),
        other => Err(Error::corrupt(format!("an entry has the unknown position flag {other}"), offset)),
    }
}

/// A position as it was before version 1.7: a number, and another one that means
/// nothing any more.
fn read_early_data_state<R: Read>(input: &mut Input<R>, size: u8) -> Result<DataState> {
    let position = input.int(size, PLACE)?;
    input.int(size, PLACE)?;
    Ok(match u64::try_from(position) {
        Ok(0) => DataState::NoData,
        Ok(position) => DataState::Position(position),
        Err(_) => DataState::PositionNotSet,
    })
}
