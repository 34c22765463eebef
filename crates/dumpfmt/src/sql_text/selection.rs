//! Which entries of an archive are wanted, what of them, and in which order.

use std::cell::Cell;
use std::io::Read;

use super::SqlError;
use super::options::{PgRestoreVersion, SqlOptions};
use crate::reader::ArchiveReader;
use crate::toc::{Section, Toc, TocEntry};

/// A comment that stands in the place of a definition where the rows of a partition go to its root.
pub(crate) const LOAD_VIA_ROOT: &[u8] = b"-- load via partition root ";

/// What of an entry is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    pub(crate) schema: bool,
    pub(crate) data: bool,
    pub(crate) statistics: bool,
    /// A setting of the dump itself, which is heeded always and listed never.
    special: bool,
}

impl Wanted {
    const SPECIAL: Self = Self { schema: false, data: false, statistics: false, special: true };

    /// Whether there is anything to write.
    pub(crate) fn any(self) -> bool {
        self.schema || self.data || self.statistics
    }
}

/// The entries of an archive in the order of the output, with what is wanted of each.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Indexes into [`Toc::entries`].
    pub(crate) order: Vec<u32>,
    /// In the order of [`Toc::entries`].
    wanted: Vec<Wanted>,
}

impl Selection {
    pub(crate) fn new(toc: &Toc, options: &SqlOptions, version: PgRestoreVersion) -> Result<Self, SqlError> {
        let (order, listed) = order(toc, options)?;
        let mut selection = Self { order, wanted: vec![Wanted::default(); toc.entries().len()] };
        let choice = Choice {
            toc,
            options,
            version,
            schemas: Names::new("schema", &options.schemas),
            tables: Names::new("table", &options.tables),
            indexes: Names::new("index", &options.indexes),
            functions: Names::new("function", &options.functions),
            triggers: Names::new("trigger", &options.triggers),
        };
        // An entry without a section belongs to that of the one before it.
        let mut section = Section::PreData;
        for place in 0..selection.order.len() {
            let index = selection.order[place] as usize;
            let entry = &toc.entries()[index];
            if entry.section() != Section::None {
                section = entry.section();
            }
            let listed = listed.as_ref().is_none_or(|listed| listed[index]);
            selection.wanted[index] = choice.wanted(entry, section, listed, &selection.wanted);
        }
        if options.strict_names {
            let Choice { schemas, tables, indexes, functions, triggers, .. } = &choice;
            [schemas, tables, indexes, functions, triggers].into_iter().try_for_each(Names::expect_found)?;
        }
        Ok(selection)
    }

    /// What is wanted of the entry at this index of [`Toc::entries`].
    pub(crate) fn wanted(&self, index: u32) -> Wanted {
        self.wanted[index as usize]
    }

    /// Whether any definition is.
    pub(crate) fn has_schema(&self) -> bool {
        self.wanted.iter().any(|wanted| wanted.schema)
    }
}

/// The order of the entries, and which of them a list names; `None` without a list.
fn order(toc: &Toc, options: &SqlOptions) -> Result<(Vec<u32>, Option<Vec<bool>>), SqlError> {
    // A `Toc` has no more than 2^32 - 1 entries.
    let all = 0..toc.entries().len() as u32;
    let Some(list) = &options.list else { return Ok((all.collect(), None)) };
    let mut listed = vec![false; all.len()];
    let mut last = Vec::with_capacity(list.dump_ids().len());
    for &dump_id in list.dump_ids() {
        let Some(index) = toc.index_of(dump_id) else {
            let text = format!("the list names dump ID {dump_id}, which this archive does not have");
            return Err(SqlError::Options(text));
        };
        listed[index as usize] = true;
        last.push(index);
    }
    // The others come first: the section that they end in counts for what has none.
    let mut order: Vec<u32> = all.filter(|index| !listed[*index as usize]).collect();
    order.extend(last);
    Ok((order, Some(listed)))
}

impl<R: Read> ArchiveReader<R> {
    /// The table of contents of an archive that has only what the options choose of this one, for
    /// [`Rewrite::contents`](crate::Rewrite::contents).
    ///
    /// Of the options only those count that choose: they choose what [`write_sql`](Self::write_sql) would write. The settings
    /// of the dump and the database itself stay, so that the new archive can be restored with `--create` too. The entries
    /// keep their order, also those of a list: pg_restore can read the new archive from a pipe only in that order.
    ///
    /// ```
    /// # let file = dumpfmt::example::archive();
    /// use dumpfmt::{ArchiveReader, Rewrite, SqlOptions, WriteOptions};
    ///
    /// let mut source = ArchiveReader::new(file)?;
    /// let mut schema_only = SqlOptions::default();
    /// schema_only.data = false;
    /// let mut rewrite = Rewrite::new(WriteOptions::like(source.header()));
    /// rewrite.contents(source.selected(&schema_only)?);
    /// let (archive, _) = rewrite.to_pipe(&mut source, Vec::new(), |_| {})?;
    /// assert!(ArchiveReader::new(&archive[..])?.toc().entries().iter().all(|entry| !entry.has_data()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a list among the options, or with [`SqlOptions::strict_names`] a name, is of what the archive does not have.
    pub fn selected(&self, options: &SqlOptions) -> Result<Toc, SqlError> {
        let (toc, version) = (self.toc(), options.version_for(self.header()));
        let options = SqlOptions { create: true, ..options.clone() };
        let selection = Selection::new(toc, &options, version)?;
        let is_selected = |&(index, entry): &(usize, &TocEntry)| {
            let wanted = selection.wanted[index];
            wanted.special || wanted.data || (wanted.any() && !entry.has_data())
        };
        let entries = toc.entries().iter().enumerate().filter(is_selected).map(|(_, entry)| entry.clone());
        Ok(Toc::new(entries.collect())?)
    }
}

struct Choice<'a> {
    toc: &'a Toc,
    options: &'a SqlOptions,
    version: PgRestoreVersion,
    schemas: Names<'a>,
    tables: Names<'a>,
    indexes: Names<'a>,
    functions: Names<'a>,
    triggers: Names<'a>,
}

/// Names that were asked for, and which of them something has.
struct Names<'a> {
    kind: &'static str,
    names: &'a [Vec<u8>],
    found: Vec<Cell<bool>>,
}

impl<'a> Names<'a> {
    fn new(kind: &'static str, names: &'a [Vec<u8>]) -> Self {
        Self { kind, names, found: vec![Cell::new(false); names.len()] }
    }

    fn include(&self, name: &[u8]) -> bool {
        let place = self.names.iter().position(|one| one == name);
        place.inspect(|&place| self.found[place].set(true)).is_some()
    }

    /// Refuses the first name that nothing has, as `pg_restore --strict-names` does.
    fn expect_found(&self) -> Result<(), SqlError> {
        // One that is given twice counts at its first place alone.
        let is_missing =
            |(place, name): &(usize, &Vec<u8>)| !self.found[*place].get() && !self.names[..*place].contains(name);
        match self.names.iter().enumerate().find(is_missing) {
            None => Ok(()),
            Some((_, name)) => {
                let name = String::from_utf8_lossy(name).escape_debug().to_string();
                Err(SqlError::NoSuchName { kind: self.kind, name })
            }
        }
    }
}

impl Choice<'_> {
    fn wanted(&self, entry: &TocEntry, section: Section, listed: bool, before: &[Wanted]) -> Wanted {
        let options = self.options;
        match entry.description() {
            b"ENCODING" | b"STDSTRINGS" | b"SEARCHPATH" => return Wanted::SPECIAL,
            // Whatever else is asked for.
            b"DATABASE" | b"DATABASE PROPERTIES" => return Wanted { schema: options.create, ..Wanted::default() },
            _ => {}
        }
        let in_section = options.sections.is_empty() || options.sections.contains(&section);
        let of_type = options.types.is_empty() || is_one_of(entry.description(), &options.types);
        if !in_section || !of_type || !listed || self.is_left_out(entry) || !self.is_selected(entry, before) {
            return Wanted::default();
        }
        self.parts(entry)
    }

    /// What the `--no-` options leave out.
    fn is_left_out(&self, entry: &TocEntry) -> bool {
        let options = self.options;
        let about = |kind: &[u8]| entry.tag().starts_with(kind);
        match entry.description() {
            b"ACL" | b"ACL LANGUAGE" | b"DEFAULT ACL" => options.no_privileges,
            b"COMMENT" => {
                options.no_comments
                    || (options.no_policies && about(b"POLICY"))
                    || (options.no_publications && about(b"PUBLICATION"))
                    || (options.no_subscriptions && about(b"SUBSCRIPTION"))
            }
            b"POLICY" | b"ROW SECURITY" => options.no_policies,
            b"PUBLICATION" | b"PUBLICATION TABLE" | b"PUBLICATION TABLES IN SCHEMA" => options.no_publications,
            b"SECURITY LABEL" => {
                options.no_security_labels
                    || (options.no_publications && about(b"PUBLICATION"))
                    || (options.no_subscriptions && about(b"SUBSCRIPTION"))
            }
            b"SUBSCRIPTION" => options.no_subscriptions,
            _ => false,
        }
    }

    /// Whether the names that were asked for include it.
    fn is_selected(&self, entry: &TocEntry, before: &[Wanted]) -> bool {
        let options = self.options;
        let by_name = [&options.tables, &options.indexes, &options.functions, &options.triggers];
        let by_name = by_name.iter().any(|names| !names.is_empty());
        let by_schema = !options.schemas.is_empty() || !options.exclude_schemas.is_empty();
        if matches!(entry.description(), b"ACL" | b"COMMENT" | b"SECURITY LABEL") {
            if entry.tag().starts_with(b"DATABASE ") {
                return options.create;
            }
            return !(by_name || by_schema) || self.belongs_to_selected(entry, before);
        }
        if !options.schemas.is_empty() && !entry.namespace().is_some_and(|name| self.schemas.include(name)) {
            return false;
        }
        if entry.namespace().is_some_and(|name| is_one_of(name, &options.exclude_schemas)) {
            return false;
        }
        if !by_name {
            return true;
        }
        if entry.description() == b"STATISTICS DATA" && self.version >= PgRestoreVersion::V18 {
            // They go with their table or index, whether that is written as well or not.
            let mut parents = entry.dependencies().iter().filter_map(|id| self.toc.get(*id));
            return parents.any(|parent| self.is_selected_by_name(parent));
        }
        self.is_selected_by_name(entry)
    }

    fn is_selected_by_name(&self, entry: &TocEntry) -> bool {
        let names = match entry.description() {
            b"TABLE"
            | b"TABLE DATA"
            | b"VIEW"
            | b"FOREIGN TABLE"
            | b"MATERIALIZED VIEW"
            | b"MATERIALIZED VIEW DATA"
            | b"SEQUENCE"
            | b"SEQUENCE SET" => &self.tables,
            b"INDEX" => &self.indexes,
            b"FUNCTION" | b"AGGREGATE" | b"PROCEDURE" => &self.functions,
            b"TRIGGER" => &self.triggers,
            _ => return false,
        };
        names.include(entry.tag())
    }

    /// Whether the object is wanted that it is a property of.
    fn belongs_to_selected(&self, entry: &TocEntry, before: &[Wanted]) -> bool {
        entry.dependencies().iter().filter_map(|id| self.toc.index_of(*id)).any(|index| {
            // The rights to a column depend on those to its table, for the order alone.
            let parent = &self.toc.entries()[index as usize];
            parent.description() != b"ACL" && before[index as usize] != Wanted::default()
        })
    }

    /// Which parts it has, of those that are asked for.
    fn parts(&self, entry: &TocEntry) -> Wanted {
        let options = self.options;
        let mut wanted = Wanted { schema: true, data: true, ..Wanted::default() };
        if entry.description() == b"STATISTICS DATA" && self.version >= PgRestoreVersion::V18 {
            return Wanted { statistics: options.statistics, ..Wanted::default() };
        }
        if !entry.had_dumper() {
            let data = is_data_without_rows(entry);
            (wanted.schema, wanted.data) = (!data, data);
        }
        let definition = entry.definition().unwrap_or_default();
        if definition.is_empty() || definition.starts_with(LOAD_VIA_ROOT) {
            wanted.schema = false;
        }
        // Written by pg_dump 7 alone.
        if entry.description() == b"<Init>" && entry.tag() == b"Max OID" {
            return Wanted::default();
        }
        wanted.schema &= options.schema;
        wanted.data &= options.data;
        wanted
    }
}

/// Whether what it defines counts as data: values of sequences, and all that has to do with large objects.
fn is_data_without_rows(entry: &TocEntry) -> bool {
    match entry.description() {
        b"SEQUENCE SET" | b"BLOB" | b"BLOB METADATA" => true,
        b"ACL" | b"COMMENT" | b"SECURITY LABEL" => entry.tag().starts_with(b"LARGE OBJECT"),
        _ => false,
    }
}

fn is_one_of(name: &[u8], names: &[Vec<u8>]) -> bool {
    names.iter().any(|one| one == name)
}

/// Rights are given after everything else was made, and a few things wait for the rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    Main,
    Privileges,
    AfterPrivileges,
}

impl Pass {
    pub(crate) const ALL: [Self; 3] = [Self::Main, Self::Privileges, Self::AfterPrivileges];

    /// The pass that an entry belongs to.
    pub(crate) fn of(entry: &TocEntry, version: PgRestoreVersion) -> Self {
        match entry.description() {
            b"ACL" | b"ACL LANGUAGE" | b"DEFAULT ACL" => Self::Privileges,
            b"EVENT TRIGGER" | b"MATERIALIZED VIEW DATA" => Self::AfterPrivileges,
            b"COMMENT" | b"SECURITY LABEL" if entry.tag().starts_with(b"EVENT TRIGGER ") => Self::AfterPrivileges,
            b"STATISTICS DATA" if version >= PgRestoreVersion::V18 && entry.section() == Section::PostData => {
                Self::AfterPrivileges
            }
            _ => Self::Main,
        }
    }
}
