//! The table of contents: one entry for each object in the dump.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;

use crate::error::{Error, ErrorKind, Result};
use crate::header::Header;
use crate::input::{Input, TextBudget};
use crate::limits::Limits;
use crate::version::Version;

/// The table of contents of an archive, in the archive's own order.
#[derive(Debug)]
pub struct Toc {
    entries: Vec<TocEntry>,
    by_dump_id: HashMap<i32, u32>,
}

impl Toc {
    /// Every entry, in the archive's order.
    pub fn entries(&self) -> &[TocEntry] {
        &self.entries
    }

    /// The entry with this dump ID.
    pub fn get(&self, dump_id: i32) -> Option<&TocEntry> {
        self.by_dump_id.get(&dump_id).map(|&index| &self.entries[index as usize])
    }

    /// The place of the entry with this dump ID among [`entries`](Self::entries).
    pub(crate) fn index_of(&self, dump_id: i32) -> Option<u32> {
        self.by_dump_id.get(&dump_id).copied()
    }

    /// The entries of one type, such as `TABLE DATA` or `SEQUENCE SET`.
    pub fn of_type<'a>(&'a self, description: &'a str) -> impl Iterator<Item = &'a TocEntry> {
        self.entries.iter().filter(move |entry| entry.description() == description.as_bytes())
    }

    pub(crate) fn read<R: Read>(
        input: &mut Input<R>,
        header: &Header,
        limits: &Limits,
        budget: &mut TextBudget,
    ) -> Result<Self> {
        let offset = input.position();
        let count = input.int(header.int_size, "before its table of contents")?;
        let Ok(count) = u64::try_from(count) else {
            return Err(Error::corrupt(format!("its table of contents claims {count} entries"), offset));
        };
        if count > limits.toc_entries.min(u64::from(u32::MAX)) {
            let what = "the number of entries in the table of contents";
            let kind = ErrorKind::LimitExceeded { what, limit: limits.toc_entries, field: "toc_entries" };
            return Err(Error::new(kind, offset));
        }
        let mut toc = Self { entries: Vec::new(), by_dump_id: HashMap::new() };
        let mut scratch = Vec::new();
        for index in 0..count {
            let offset = input.position();
            let entry = TocEntry::read(input, header, budget, &mut scratch)
                .map_err(|e| e.in_entry(format_args!("entry {} of {count} of the table of contents", index + 1)))?;
            if toc.by_dump_id.insert(entry.dump_id, index as u32).is_some() {
                return Err(Error::corrupt(format!("dump ID {} occurs twice", entry.dump_id), offset).in_entry(&entry));
            }
            toc.entries.push(entry);
        }
        Ok(toc)
    }

    /// Passes over the table of contents when it is written again behind the
    /// data, and expects the end of the input after it.
    ///
    /// pg_dump writes its table of contents a second time once it knows the
    /// positions, over the first one. It cannot where each write goes to the end
    /// of the file: after `>>`, and from pg_dump 16 on also after `>`, because it
    /// then makes its standard output append (`SetOutput`, with `PG_BINARY_A`).
    /// pg_restore does not read so far.
    pub(crate) fn read_again<R: Read>(&self, input: &mut Input<R>, header: &Header) -> Result<()> {
        const NO_BLOCK: &str = "a block of data was expected here, but its type is 0";
        const DIFFERS: &str = "the table of contents is repeated behind the data, but this entry differs";
        let offset = input.position();
        let count = input.int(header.int_size, "").map_err(|e| again(e, NO_BLOCK))?;
        let positions = self.entries.iter().any(|entry| matches!(entry.data, DataState::Position(_)));
        if positions || usize::try_from(count) != Ok(self.entries.len()) {
            return Err(Error::corrupt(NO_BLOCK, offset));
        }
        let mut scratch = Vec::new();
        for expected in &self.entries {
            let offset = input.position();
            // What the same entry takes, and no more, is held in memory.
            let mut budget = TextBudget::new(expected.text_bytes());
            let mut entry = TocEntry::read(input, header, &mut budget, &mut scratch)
                .map_err(|e| again(e, DIFFERS).in_entry(expected))?;
            let same_state = expected.has_position_field() == entry.has_position_field();
            entry.data = expected.data;
            if !same_state || entry != *expected {
                return Err(Error::corrupt(DIFFERS, offset).in_entry(expected));
            }
        }
        let offset = input.position();
        match input.next_byte()? {
            None => Ok(()),
            Some(_) => {
                Err(Error::corrupt("bytes follow the table of contents that is repeated behind the data", offset))
            }
        }
    }
}

/// The error of reading something again that was read well before.
fn again(error: Error, otherwise: &str) -> Error {
    match error.kind() {
        ErrorKind::Io(_) => error,
        ErrorKind::Truncated(_) => {
            Error::truncated("within the table of contents that is repeated behind the data", error.offset())
        }
        _ => Error::corrupt(otherwise, error.offset()),
    }
}

/// One entry of the table of contents. Texts are bytes: the format promises no
/// encoding, and NULL (`None`) differs from empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocEntry {
    dump_id: i32,
    had_dumper: bool,
    table_oid: u32,
    oid: u32,
    section: Section,
    relkind: Option<u8>,
    with_oids: bool,
    data: DataState,
    dependencies: Box<[i32]>,
    /// All texts, one after the other in the order of [`Text`]; one allocation
    /// for each entry keeps a million of them affordable.
    text: Box<[u8]>,
    /// Where each text ends in `text`.
    ends: [u32; Text::COUNT],
    /// A bit for each text that is there (not NULL).
    present: u16,
}

#[derive(Clone, Copy)]
enum Text {
    Tag,
    Description,
    Definition,
    DropStatement,
    CopyStatement,
    Namespace,
    Tablespace,
    TableAccessMethod,
    Owner,
}

impl Text {
    const COUNT: usize = 9;
}

/// The part of a restore that an entry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// Settings of the dump itself, such as its encoding.
    None,
    /// What must be there before the data.
    PreData,
    /// Rows, large objects, sequence values.
    Data,
    /// Indexes, constraints, triggers.
    PostData,
}

/// Where the data of an entry is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataState {
    /// Not recorded: the archive was written to a pipe.
    PositionNotSet,
    /// The block begins at this byte of the file.
    Position(u64),
    /// The entry has no data.
    NoData,
}

impl TocEntry {
    /// The number by which entries refer to each other; above 0.
    pub fn dump_id(&self) -> i32 {
        self.dump_id
    }

    /// Whether pg_dump wrote data for the entry.
    pub fn had_dumper(&self) -> bool {
        self.had_dumper
    }

    /// The OID of the system catalog that the object is in; 0 when it is in none.
    pub fn table_oid(&self) -> u32 {
        self.table_oid
    }

    /// The object's OID in the source database; 0 when it has none.
    pub fn oid(&self) -> u32 {
        self.oid
    }

    /// The object's name. For large objects, an OID or a range of them.
    pub fn tag(&self) -> &[u8] {
        self.text(Text::Tag).unwrap_or_default()
    }

    /// The type of the entry: `TABLE`, `TABLE DATA`, `INDEX`, ...
    pub fn description(&self) -> &[u8] {
        self.text(Text::Description).unwrap_or_default()
    }

    /// The part of a restore that it belongs to.
    pub fn section(&self) -> Section {
        self.section
    }

    /// The SQL that creates the object.
    pub fn definition(&self) -> Option<&[u8]> {
        self.text(Text::Definition)
    }

    /// The SQL that drops it.
    pub fn drop_statement(&self) -> Option<&[u8]> {
        self.text(Text::DropStatement)
    }

    /// The COPY statement that takes the data; `None` or empty when the data is
    /// INSERT statements or large objects. See [`CopyStatement`](crate::CopyStatement).
    pub fn copy_statement(&self) -> Option<&[u8]> {
        self.text(Text::CopyStatement)
    }

    /// The schema that the object is in.
    pub fn namespace(&self) -> Option<&[u8]> {
        self.text(Text::Namespace)
    }

    /// The tablespace; empty for the default one.
    pub fn tablespace(&self) -> Option<&[u8]> {
        self.text(Text::Tablespace)
    }

    /// The table access method, such as `heap`; since version 1.14.
    pub fn table_access_method(&self) -> Option<&[u8]> {
        self.text(Text::TableAccessMethod)
    }

    /// The kind of relation as in `pg_class.relkind`; since version 1.16, 0 for
    /// what is not a relation.
    pub fn relkind(&self) -> Option<u8> {
        self.relkind
    }

    /// The role that owns the object.
    pub fn owner(&self) -> Option<&[u8]> {
        self.text(Text::Owner)
    }

    /// Whether the table had OIDs, which PostgreSQL 12 removed.
    pub fn with_oids(&self) -> bool {
        self.with_oids
    }

    /// The dump IDs of the entries that must be restored before this one. They
    /// may name objects that the dump leaves out.
    pub fn dependencies(&self) -> &[i32] {
        &self.dependencies
    }

    /// Where the data is.
    pub fn data_state(&self) -> DataState {
        self.data
    }

    /// Whether a complete archive has a data block for this entry.
    pub fn has_data(&self) -> bool {
        self.had_dumper && self.data != DataState::NoData
    }

    /// Whether a position belongs into it, known or not.
    fn has_position_field(&self) -> bool {
        self.data != DataState::NoData
    }

    /// The most bytes of text that pg_dump writes for this entry.
    fn text_bytes(&self) -> u64 {
        const DECIMAL: usize = "4294967295".len();
        let others = "false".len() + (2 + self.dependencies.len()) * DECIMAL;
        (self.text.len() + others) as u64
    }

    fn text(&self, which: Text) -> Option<&[u8]> {
        let index = which as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        (self.present & (1 << index) != 0).then(|| &self.text[start..self.ends[index] as usize])
    }

    fn read<R: Read>(
        input: &mut Input<R>,
        header: &Header,
        budget: &mut TextBudget,
        scratch: &mut Vec<u8>,
    ) -> Result<Self> {
        const PLACE: &str = "within its table of contents";
        let size = header.int_size;
        let offset = input.position();
        let dump_id = i32::try_from(input.int(size, PLACE)?)
            .ok()
            .filter(|&id| id > 0)
            .ok_or_else(|| Error::corrupt("a dump ID is not a positive number of 31 bits", offset))?;
        let had_dumper = input.int(size, PLACE)? != 0;
        let table_oid = read_decimal(input, size, budget, scratch, "a catalog OID")?;
        let oid = read_decimal(input, size, budget, scratch, "an OID")?;

        let mut texts = Texts { bytes: Vec::new(), ends: [0; Text::COUNT], present: 0 };
        texts.read(Text::Tag, input, size, budget)?;
        texts.read(Text::Description, input, size, budget)?;
        let offset = input.position();
        let section = match input.int(size, PLACE)? {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            other => return Err(Error::corrupt(format!("an entry is in the unknown section {other}"), offset)),
        };
        texts.read(Text::Definition, input, size, budget)?;
        texts.read(Text::DropStatement, input, size, budget)?;
        texts.read(Text::CopyStatement, input, size, budget)?;
        texts.read(Text::Namespace, input, size, budget)?;
        texts.read(Text::Tablespace, input, size, budget)?;
        if header.version >= Version::TABLE_ACCESS_METHOD {
            texts.read(Text::TableAccessMethod, input, size, budget)?;
        } else {
            texts.skip(Text::TableAccessMethod);
        }
        let relkind = if header.version >= Version::RELKIND {
            let offset = input.position();
            let value = input.int(size, PLACE)?;
            Some(
                u8::try_from(value)
                    .map_err(|_| Error::corrupt(format!("{value} is not a kind of relation"), offset))?,
            )
        } else {
            None
        };
        texts.read(Text::Owner, input, size, budget)?;
        scratch.clear();
        let with_oids = input.text(size, scratch, budget, PLACE)? && scratch == b"true";
        let dependencies = read_dependencies(input, size, budget, scratch)?;
        let data = read_data_state(input, header.offset_size)?;
        let Texts { bytes, ends, present } = texts;
        Ok(Self {
            dump_id,
            had_dumper,
            table_oid,
            oid,
            section,
            relkind,
            with_oids,
            data,
            dependencies,
            text: bytes.into_boxed_slice(),
            ends,
            present,
        })
    }
}

impl fmt::Display for TocEntry {
    /// The type, the qualified name and the dump ID: `TABLE DATA public.tenant (dump ID 4311)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lossy = String::from_utf8_lossy;
        write!(f, "{} ", lossy(self.description()))?;
        if let Some(namespace) = self.namespace().filter(|n| !n.is_empty()) {
            write!(f, "{}.", lossy(namespace))?;
        }
        write!(f, "{} (dump ID {})", lossy(self.tag()), self.dump_id)
    }
}

/// The texts of an entry while it is read.
struct Texts {
    bytes: Vec<u8>,
    ends: [u32; Text::COUNT],
    present: u16,
}

impl Texts {
    fn read<R: Read>(&mut self, which: Text, input: &mut Input<R>, size: u8, budget: &mut TextBudget) -> Result<()> {
        let offset = input.position();
        if input.text(size, &mut self.bytes, budget, "within its table of contents")? {
            self.present |= 1 << which as usize;
        }
        self.ends[which as usize] = u32::try_from(self.bytes.len())
            .map_err(|_| Error::corrupt("the texts of one entry exceed 4 GiB", offset))?;
        Ok(())
    }

    /// Marks a text that this version does not have as NULL.
    fn skip(&mut self, which: Text) {
        // Cannot fail to fit: the text before it did.
        self.ends[which as usize] = self.bytes.len() as u32;
    }
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
    input.text(size, scratch, budget, "within its table of contents")?;
    parse_decimal(scratch)
        .ok_or_else(|| Error::corrupt(format!("{what} is not a number: \"{}\"", scratch.escape_ascii()), offset))
}

fn read_dependencies<R: Read>(
    input: &mut Input<R>,
    size: u8,
    budget: &mut TextBudget,
    scratch: &mut Vec<u8>,
) -> Result<Box<[i32]>> {
    let mut dependencies = Vec::new();
    loop {
        let offset = input.position();
        scratch.clear();
        if !input.text(size, scratch, budget, "within its table of contents")? {
            return Ok(dependencies.into_boxed_slice());
        }
        let id = parse_decimal(scratch).ok_or_else(|| {
            Error::corrupt(format!("a dependency is not a dump ID: \"{}\"", scratch.escape_ascii()), offset)
        })?;
        dependencies.push(id);
    }
}

fn parse_decimal<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn read_data_state<R: Read>(input: &mut Input<R>, offset_size: u8) -> Result<DataState> {
    const PLACE: &str = "within its table of contents";
    let offset = input.position();
    let flag = input.byte(PLACE)?;
    let mut position = 0_u64;
    for index in 0..u32::from(offset_size) {
        let byte = input.byte(PLACE)?;
        if byte != 0 && index >= 8 {
            return Err(Error::corrupt("a position lies beyond any file", offset));
        }
        if index < 8 {
            position |= u64::from(byte) << (8 * index);
        }
    }
    match flag {
        1 => Ok(DataState::PositionNotSet),
        2 => Ok(DataState::Position(position)),
        3 => Ok(DataState::NoData),
        other => Err(Error::corrupt(format!("an entry has the unknown position flag {other}"), offset)),
    }
}
