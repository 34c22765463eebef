//! The table of contents: one entry for each object in the dump.

mod builder;
mod fields;
mod index;
mod read;
mod store;
mod write;

use std::fmt;
use std::io::Read;

use crate::error::{Error, ErrorKind, Result};
use crate::header::{Format, Header};
use crate::input::{Input, TextBudget};
use crate::limits::Limits;
use crate::version::Version;

use index::DumpIds;
use read::Scratch;
use store::Stored;

pub use builder::TocEntryBuilder;
pub(crate) use fields::{PositionFields, position_field};
pub(crate) use write::{Location, POSITION_BYTES, put_position};

/// The table of contents of an archive, in the archive's own order.
#[derive(Debug, Clone)]
pub struct Toc {
    entries: Vec<TocEntry>,
    by_dump_id: DumpIds,
}

impl Toc {
    /// Every entry, in the archive's order.
    pub fn entries(&self) -> &[TocEntry] {
        &self.entries
    }

    /// The entry with this dump ID.
    pub fn get(&self, dump_id: i32) -> Option<&TocEntry> {
        self.by_dump_id.place(&self.entries, dump_id).map(|place| &self.entries[place])
    }

    /// The place of the entry with this dump ID among [`entries`](Self::entries).
    pub(crate) fn index_of(&self, dump_id: i32) -> Option<u32> {
        self.by_dump_id.place(&self.entries, dump_id).map(|place| place as u32)
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
        let mut entries: Vec<TocEntry> = Vec::new();
        let mut closed = 0;
        let mut scratch = Scratch::default();
        for index in 0..count {
            let offset = input.position();
            let entry = budget
                .charge(ENTRY_BYTES, offset)
                .and_then(|()| TocEntry::read(input, header, budget, &mut scratch))
                .map_err(|e| e.in_entry(format_args!("entry {} of {count} of the table of contents", index + 1)))?;
            entries.push(entry);
            if scratch.store.is_full() || index + 1 == count {
                scratch.store.close(entries[closed..].iter_mut().map(|entry| &mut entry.stored));
                closed = entries.len();
            }
        }
        let toc = Self::of(entries).map_err(|entry| {
            let text = format!("dump ID {} occurs twice in the table of contents that ends here", entry.dump_id);
            Error::corrupt(text, input.position()).in_entry(entry)
        })?;
        if header.format == Format::Directory && header.version < Version::LARGE_OBJECT_GROUPS {
            toc.expect_one_list(input.position())?;
        }
        Ok(toc)
    }

    /// The entries and their index; as an error, an entry with the dump ID of another one. There are less
    /// than 2^32.
    fn of(entries: Vec<TocEntry>) -> Result<Self, Box<TocEntry>> {
        match DumpIds::of(&entries) {
            Ok(by_dump_id) => Ok(Self { entries, by_dump_id }),
            Err(place) => Err(Box::new(entries[place].clone())),
        }
    }

    /// Before there could be several lists of large objects, each entry would read the same one.
    fn expect_one_list(&self, offset: u64) -> Result<()> {
        let mut with_list = self.entries.iter().filter(|entry| entry.has_data() && entry.is_large_objects());
        match with_list.nth(1) {
            None => Ok(()),
            Some(entry) => {
                let text = "the list of large objects of this entry is also that of another one";
                Err(Error::corrupt(text, offset).in_entry(entry))
            }
        }
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
        self.read_repetition(input, header)?;
        let offset = input.position();
        match input.next_byte()? {
            None => Ok(()),
            Some(_) => {
                Err(Error::corrupt("bytes follow the table of contents that is repeated behind the data", offset))
            }
        }
    }

    /// As [`read_again`](Self::read_again), whatever follows.
    pub(crate) fn read_repetition<R: Read>(&self, input: &mut Input<R>, header: &Header) -> Result<()> {
        const NO_BLOCK: &str = "a block of data was expected here, but its type is 0";
        const DIFFERS: &str = "the table of contents is repeated behind the data, but this entry differs";
        let offset = input.position();
        let count = input.int(header.int_size, "").map_err(|e| again(e, NO_BLOCK))?;
        let positions = self.entries.iter().any(|entry| matches!(entry.data, DataState::Position(_)));
        if positions || usize::try_from(count) != Ok(self.entries.len()) {
            return Err(Error::corrupt(NO_BLOCK, offset));
        }
        let mut scratch = Scratch::default();
        for expected in &self.entries {
            let offset = input.position();
            // What the same entry takes, and no more, is held in memory.
            let mut budget = TextBudget::new(expected.text_bytes());
            let mut entry = TocEntry::read(input, header, &mut budget, &mut scratch)
                .map_err(|e| again(e, DIFFERS).in_entry(expected))?;
            scratch.store.close(std::iter::once(&mut entry.stored));
            let same_state = expected.has_position_field() == entry.has_position_field();
            entry.data = expected.data;
            if !same_state || entry != *expected {
                return Err(Error::corrupt(DIFFERS, offset).in_entry(expected));
            }
        }
        Ok(())
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
    /// All texts, one after the other in the order of [`Text`], and the dependencies: dump IDs, or OIDs, as if
    /// they were signed, when `dependencies_are_oids`.
    stored: Stored,
    dependencies_are_oids: bool,
    /// Where each text ends.
    ends: [u32; Text::COUNT],
    /// A bit for each text that is there (not NULL).
    present: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
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
    FileName,
}

impl Text {
    const COUNT: usize = 10;
    const ALL: [Self; Self::COUNT] = [
        Self::Tag,
        Self::Description,
        Self::Definition,
        Self::DropStatement,
        Self::CopyStatement,
        Self::Namespace,
        Self::Tablespace,
        Self::TableAccessMethod,
        Self::Owner,
        Self::FileName,
    ];
}

/// What an entry takes beside its texts: itself, its place in `by_dump_id`, and
/// what an allocator adds.
const ENTRY_BYTES: u64 = size_of::<TocEntry>() as u64 + 4 * 4 + 16;

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

impl Section {
    /// The section of an entry of this type in archives older than 1.11, which do
    /// not tell; by the rules of pg_restore (`ReadToc`).
    fn of_type(description: &[u8]) -> Self {
        match description {
            b"COMMENT" | b"ACL" | b"ACL LANGUAGE" => Self::None,
            b"TABLE DATA" | b"BLOBS" | b"BLOB COMMENTS" => Self::Data,
            b"CONSTRAINT" | b"CHECK CONSTRAINT" | b"FK CONSTRAINT" | b"INDEX" | b"RULE" | b"TRIGGER" => Self::PostData,
            _ => Self::PreData,
        }
    }
}

/// Where the data of an entry is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataState {
    /// Not recorded: the archive was written to a pipe, or is in the tar format.
    PositionNotSet,
    /// The block begins at this byte of the file.
    Position(u64),
    /// In a file of its own: that of [`TocEntry::file_name`] in the directory format.
    File,
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

    /// The OID of the system catalog that the object is in; 0 when it is in none,
    /// and before version 1.8.
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

    /// The part of a restore that it belongs to. Before version 1.11 it is what
    /// pg_restore makes of the type.
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

    /// The schema that the object is in; since version 1.6.
    pub fn namespace(&self) -> Option<&[u8]> {
        self.text(Text::Namespace)
    }

    /// The tablespace; empty for the default one. Since version 1.10.
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

    /// Whether the table had OIDs, which PostgreSQL 12 removed. Not recorded
    /// before version 1.9, where this is false.
    pub fn with_oids(&self) -> bool {
        self.with_oids
    }

    /// The dump IDs of the entries that must be restored before this one. They
    /// may name objects that the dump leaves out. None before version 1.8; see
    /// [`dependency_oids`](Self::dependency_oids).
    pub fn dependencies(&self) -> &[i32] {
        if self.dependencies_are_oids { &[] } else { self.stored.dependencies() }
    }

    /// The OIDs of the objects that this one depends on, in the source database;
    /// from version 1.5 up to 1.7. pg_restore makes nothing of them, and neither
    /// does this crate: in those versions the order of the entries is right.
    pub fn dependency_oids(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        let oids: &[i32] = if self.dependencies_are_oids { self.stored.dependencies() } else { &[] };
        oids.iter().map(|&oid| oid as u32)
    }

    /// The file that holds the data, without the suffix of a compression; in the
    /// directory and tar formats.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.text(Text::FileName).filter(|name| !name.is_empty())
    }

    /// Where the data is.
    pub fn data_state(&self) -> DataState {
        self.data
    }

    /// Whether a complete archive has a data block for this entry.
    pub fn has_data(&self) -> bool {
        self.had_dumper && self.data != DataState::NoData
    }

    /// Whether its data is large objects.
    pub(crate) fn is_large_objects(&self) -> bool {
        self.description() == b"BLOBS"
    }

    /// Whether a position belongs into it, known or not.
    fn has_position_field(&self) -> bool {
        self.data != DataState::NoData
    }

    /// The most bytes of text that pg_dump writes for this entry.
    pub(crate) fn text_bytes(&self) -> u64 {
        const DECIMAL: usize = "4294967295".len();
        let dependencies = self.stored.dependencies();
        let others = "false".len() + (2 + dependencies.len()) * DECIMAL + size_of_val(dependencies);
        (self.stored.text().len() + others) as u64
    }

    fn text(&self, which: Text) -> Option<&[u8]> {
        let index = which as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        (self.present & (1 << index) != 0).then(|| &self.stored.text()[start..self.ends[index] as usize])
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
