//! Making entries, for archives that are written.

use super::{DataState, Section, Stored, Text, Toc, TocEntry};
use crate::error::{Error, Result};

/// A new entry of a table of contents, or a changed copy of one; see [`TocEntry::builder`] and
/// [`TocEntry::to_builder`].
#[derive(Debug, Clone)]
pub struct TocEntryBuilder {
    dump_id: i32,
    has_data: bool,
    table_oid: u32,
    oid: u32,
    section: Section,
    relkind: Option<u8>,
    with_oids: bool,
    dependencies: Vec<i32>,
    texts: [Option<Box<[u8]>>; Text::COUNT],
}

impl TocEntry {
    /// Begins a new entry: its dump ID, its type, such as `TABLE DATA`, and its name.
    ///
    /// It is in the section pre-data, has no data, and every other text is empty.
    pub fn builder(dump_id: i32, description: impl AsRef<[u8]>, tag: impl AsRef<[u8]>) -> TocEntryBuilder {
        let mut texts: [Option<Box<[u8]>>; Text::COUNT] = std::array::from_fn(|_| Some(Box::default()));
        // pg_dump leaves these out where there is nothing to say.
        for null in [Text::CopyStatement, Text::Namespace, Text::Tablespace, Text::TableAccessMethod, Text::FileName] {
            texts[null as usize] = None;
        }
        texts[Text::Tag as usize] = Some(tag.as_ref().into());
        texts[Text::Description as usize] = Some(description.as_ref().into());
        TocEntryBuilder {
            dump_id,
            has_data: false,
            table_oid: 0,
            oid: 0,
            section: Section::PreData,
            relkind: None,
            with_oids: false,
            dependencies: Vec::new(),
            texts,
        }
    }

    /// Begins a copy of this entry. OIDs that it depends on ([`dependency_oids`](Self::dependency_oids)) are not taken over.
    pub fn to_builder(&self) -> TocEntryBuilder {
        TocEntryBuilder {
            dump_id: self.dump_id(),
            has_data: self.has_data(),
            table_oid: self.table_oid(),
            oid: self.oid(),
            section: self.section(),
            relkind: self.relkind(),
            with_oids: self.with_oids(),
            dependencies: self.dependencies().to_vec(),
            // Files and positions are those of a certain archive.
            texts: Text::ALL.map(|text| self.text(text).filter(|_| text != Text::FileName).map(Box::from)),
        }
    }
}

impl TocEntryBuilder {
    /// The number by which entries refer to each other; above 0.
    #[must_use]
    pub fn dump_id(mut self, dump_id: i32) -> Self {
        self.dump_id = dump_id;
        self
    }

    /// Whether the archive has data for the entry.
    #[must_use]
    pub fn has_data(mut self, has_data: bool) -> Self {
        self.has_data = has_data;
        self
    }

    /// The object in the source database: the OID of its system catalog and its own.
    #[must_use]
    pub fn catalog_id(mut self, table_oid: u32, oid: u32) -> Self {
        (self.table_oid, self.oid) = (table_oid, oid);
        self
    }

    /// The part of a restore that it belongs to.
    #[must_use]
    pub fn section(mut self, section: Section) -> Self {
        self.section = section;
        self
    }

    /// The kind of relation as in `pg_class.relkind`; `None` is written as 0, for what is not a relation.
    #[must_use]
    pub fn relkind(mut self, relkind: Option<u8>) -> Self {
        self.relkind = relkind;
        self
    }

    /// The dump IDs of the entries that must be restored before this one.
    #[must_use]
    pub fn dependencies(mut self, dependencies: impl Into<Vec<i32>>) -> Self {
        self.dependencies = dependencies.into();
        self
    }

    /// The type of the entry.
    #[must_use]
    pub fn description(self, description: impl AsRef<[u8]>) -> Self {
        self.text(Text::Description, Some(description.as_ref()))
    }

    /// The object's name.
    #[must_use]
    pub fn tag(self, tag: impl AsRef<[u8]>) -> Self {
        self.text(Text::Tag, Some(tag.as_ref()))
    }

    /// The SQL that creates the object.
    #[must_use]
    pub fn definition(self, sql: impl AsRef<[u8]>) -> Self {
        self.text(Text::Definition, Some(sql.as_ref()))
    }

    /// The SQL that drops it.
    #[must_use]
    pub fn drop_statement(self, sql: impl AsRef<[u8]>) -> Self {
        self.text(Text::DropStatement, Some(sql.as_ref()))
    }

    /// The COPY statement that takes the data; `None` where the data is not COPY text.
    #[must_use]
    pub fn copy_statement(self, sql: Option<&[u8]>) -> Self {
        self.text(Text::CopyStatement, sql)
    }

    /// The schema that the object is in.
    #[must_use]
    pub fn namespace(self, namespace: Option<&[u8]>) -> Self {
        self.text(Text::Namespace, namespace)
    }

    /// The tablespace; empty for the default one.
    #[must_use]
    pub fn tablespace(self, tablespace: Option<&[u8]>) -> Self {
        self.text(Text::Tablespace, tablespace)
    }

    /// The table access method, such as `heap`.
    #[must_use]
    pub fn table_access_method(self, method: Option<&[u8]>) -> Self {
        self.text(Text::TableAccessMethod, method)
    }

    /// The role that owns the object.
    #[must_use]
    pub fn owner(self, owner: impl AsRef<[u8]>) -> Self {
        self.text(Text::Owner, Some(owner.as_ref()))
    }

    fn text(mut self, which: Text, text: Option<&[u8]>) -> Self {
        self.texts[which as usize] = text.map(Box::from);
        self
    }

    /// The entry.
    ///
    /// # Errors
    ///
    /// When the dump ID is not above 0, or the texts are too long for an archive.
    pub fn build(self) -> Result<TocEntry> {
        if self.dump_id <= 0 {
            return Err(Error::usage(format!("{} is not a dump ID: those are above 0", self.dump_id)));
        }
        let mut text = Vec::new();
        let (mut ends, mut present) = ([0; Text::COUNT], 0);
        for (index, value) in self.texts.iter().enumerate() {
            if let Some(value) = value {
                text.extend_from_slice(value);
                present |= 1 << index;
            }
            ends[index] = u32::try_from(text.len()).map_err(|_| {
                Error::usage(format!("the texts of the entry with dump ID {} exceed 4 GiB", self.dump_id))
            })?;
        }
        Ok(TocEntry {
            dump_id: self.dump_id,
            had_dumper: self.has_data,
            table_oid: self.table_oid,
            oid: self.oid,
            section: self.section,
            relkind: self.relkind,
            with_oids: self.with_oids,
            data: if self.has_data { DataState::PositionNotSet } else { DataState::NoData },
            stored: Stored::new(text, self.dependencies),
            dependencies_are_oids: false,
            ends,
            present,
        })
    }
}

impl Toc {
    /// A table of contents of these entries, in this order.
    ///
    /// # Errors
    ///
    /// When a dump ID occurs twice.
    pub fn new(entries: Vec<TocEntry>) -> Result<Self> {
        if entries.len() > i32::MAX as usize {
            return Err(Error::usage("a table of contents has less than 2^31 entries"));
        }
        Self::of(entries)
            .map_err(|entry| Error::usage(format!("dump ID {} occurs twice", entry.dump_id())).in_entry(entry))
    }
}
