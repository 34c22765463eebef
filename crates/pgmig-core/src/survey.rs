//! The first pass over an archive: every block is decoded, every row is counted,
//! every source ID is found. Nothing is changed before this has succeeded.

use std::collections::BTreeMap;
use std::io::Read;

use dumpfmt::{Block, LargeObjects, Row, RowWriter};
use serde::Serialize;

use crate::archive::{Archive, ArchiveTable};
use crate::error::{Error, Fault, Faults};
use crate::id_columns::IdColumn;
use crate::names::ColumnName;
use crate::remap::{Fate, IdMap, RowError, RowRemapper, Span};

/// What the first pass found.
#[derive(Debug)]
pub(crate) struct Survey {
    /// For each table of the archive, in its order.
    pub(crate) tables: Vec<TableSurvey>,
    pub(crate) strays: Vec<Stray>,
    pub(crate) large_objects: u64,
    pub(crate) large_object_bytes: u64,
    /// The OIDs of the large objects; four bytes each.
    pub(crate) large_object_oids: Vec<u32>,
}

/// What is in one table of the archive.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableSurvey {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Rows that are left out since they belong to a tenant that is.
    pub(crate) left_out: u64,
    /// Of these, rows that name a tenant too that is restored.
    pub(crate) left_out_shared: u64,
    /// IDs in ID columns, replaced or not.
    pub(crate) ids: u64,
    /// The same by their index in the ID map; ends with the last that was found.
    pub(crate) values_by_id: Vec<u64>,
    /// Rows by the first tenant that their ID columns name, as an index of the ID map.
    pub(crate) rows_by_tenant: BTreeMap<usize, u64>,
    /// Rows without an ID that the source's tenant table lists, though there are ID columns.
    pub(crate) rows_without_tenant: u64,
    /// By the place of an ID column: values in it that are no ID of the source, and one of them.
    pub(crate) unknown: BTreeMap<usize, (u64, String)>,
}

/// Source IDs in a place that the profile does not name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stray {
    /// Where.
    pub place: StrayPlace,
    /// Rows, or large objects, with at least one.
    pub count: u64,
    /// One of them with some text around it, control characters escaped.
    pub example: String,
}

/// Where stray IDs are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StrayPlace {
    /// In a column of a table.
    Column(ColumnName),
    /// In the content of large objects.
    LargeObjects,
    /// In the definition of an object, such as a view or a default value; only where a new archive is made of one.
    Definition(String),
}

impl std::fmt::Display for StrayPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Column(column) => column.fmt(f),
            Self::LargeObjects => f.write_str("large objects"),
            Self::Definition(entry) => f.write_str(entry),
        }
    }
}

/// Reads the whole archive once. `progress` is called with the position in the file.
pub(crate) fn survey(
    archive: &mut Archive,
    id_columns: &[IdColumn],
    ids: &IdMap,
    mut progress: impl FnMut(u64),
) -> Result<Survey, Error> {
    let contents = archive.shared_contents();
    let mut survey = Survey {
        tables: vec![TableSurvey::default(); contents.tables.len()],
        strays: Vec::new(),
        large_objects: 0,
        large_object_bytes: 0,
        large_object_oids: Vec::new(),
    };
    let mut strays = BTreeMap::new();
    match read_all(archive, &contents.tables, id_columns, ids, &mut survey, &mut strays, &mut progress) {
        Ok(Ok(())) => {}
        Ok(Err(faults)) => return Err(faults.into()),
        Err(e) => return Err(archive.read_error(e).into()),
    }
    survey.strays = strays.into_iter().map(|(place, (count, example))| Stray { place, count, example }).collect();
    Ok(survey)
}

pub(crate) type Strays = BTreeMap<StrayPlace, (u64, String)>;

/// Adds some strays; `example` is one of them.
pub(crate) fn add(strays: &mut Strays, place: StrayPlace, count: u64, example: impl FnOnce() -> String) {
    strays.entry(place).or_insert_with(|| (0, example())).0 += count;
}

fn read_all(
    archive: &mut Archive,
    tables: &[ArchiveTable],
    id_columns: &[IdColumn],
    ids: &IdMap,
    survey: &mut Survey,
    strays: &mut Strays,
    progress: &mut impl FnMut(u64),
) -> dumpfmt::Result<Result<(), Faults>> {
    let index_of: BTreeMap<i32, usize> =
        tables.iter().enumerate().map(|(index, table)| (table.dump_id, index)).collect();
    let reader = archive.reader();
    reader.rewind()?;
    loop {
        progress(reader.position());
        let Some(block) = reader.next_block()? else { return Ok(Ok(())) };
        match block {
            Block::LargeObjects(objects) => survey_large_objects(objects, ids, survey, strays)?,
            Block::Data(data) => match index_of.get(&data.entry().dump_id()) {
                Some(&index) => {
                    let table = &tables[index];
                    let mut scan = TableScan::new(table, id_columns, ids);
                    let mut rows = data.rows();
                    while let Some(batch) = rows.next_batch()? {
                        if let Err(e) = scan.batch(batch, &mut survey.tables[index], strays, None) {
                            return Ok(Err(row_fault(table, &e)));
                        }
                        progress(rows.position());
                    }
                }
                // An entry of another type with data, which pg_dump does not write today.
                None => {
                    let mut data = data;
                    drain(&mut data)?;
                }
            },
        }
    }
}

pub(crate) fn row_fault(table: &ArchiveTable, error: &RowError) -> Faults {
    let column = table.columns.get(error.column).map_or("?", String::as_str);
    let fault = Fault::new(format!("a value of {}: {}", table.table.column(column), error.why));
    Faults::new("cannot find the instance IDs in the archive", vec![fault])
        .with_hint("correct the column or the path in the profile")
}

/// The columns of `table` that hold IDs, by their place in its rows.
pub(crate) fn places_of<'a>(table: &ArchiveTable, id_columns: &'a [IdColumn]) -> Vec<(usize, &'a IdColumn)> {
    let place = |column: &str| table.columns.iter().position(|name| name == column);
    let of_table = id_columns.iter().filter(|id| id.column.table == table.table);
    of_table.filter_map(|id| Some((place(&id.column.column)?, id))).collect()
}

/// Looks at the rows of one table, and writes them with their IDs replaced where that is wanted.
pub(crate) struct TableScan<'a> {
    table: &'a ArchiveTable,
    ids: &'a IdMap,
    remapper: Option<RowRemapper<'a>>,
}

impl<'a> TableScan<'a> {
    pub(crate) fn new(table: &'a ArchiveTable, id_columns: &'a [IdColumn], ids: &'a IdMap) -> Self {
        let places = places_of(table, id_columns);
        let remapper = (!places.is_empty()).then(|| RowRemapper::new(ids, places));
        Self { table, ids, remapper }
    }

    pub(crate) fn has_id_columns(&self) -> bool {
        self.remapper.is_some()
    }

    /// Adds what is found in `batch` to `survey` and `strays`; what becomes of the rows goes to `out`.
    pub(crate) fn batch(
        &mut self,
        batch: dumpfmt::RowBatch<'_>,
        survey: &mut TableSurvey,
        strays: &mut Strays,
        mut out: Option<&mut RowWriter<'_>>,
    ) -> Result<(), RowError> {
        survey.bytes += batch.raw().len() as u64;
        // Most tables hold no ID at all, and most text no stray: one search over
        // many rows tells.
        let search = self.ids.may_occur_in(batch.raw());
        if self.remapper.is_none() && !search {
            survey.rows += batch.count();
            if let Some(out) = out {
                out.batch(batch);
            }
            return Ok(());
        }
        for row in batch.rows() {
            let is_kept = self.row(row, search, survey, strays)?;
            if let Some(out) = &mut out
                && is_kept
            {
                match &self.remapper {
                    Some(remapper) => out.raw(|bytes| remapper.put(row, bytes)),
                    None => out.row(row),
                }
            }
        }
        Ok(())
    }

    /// The same for whole lines of COPY text; appends what becomes of them to `out`.
    pub(crate) fn lines(
        &mut self,
        lines: &[u8],
        survey: &mut TableSurvey,
        strays: &mut Strays,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        survey.bytes += lines.len() as u64;
        let search = self.ids.may_occur_in(lines);
        if self.remapper.is_none() && !search {
            survey.rows += memchr::memchr_iter(b'\n', lines).count() as u64;
            out.extend_from_slice(lines);
            return Ok(());
        }
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let row = Row::new(line.strip_suffix(b"\n").unwrap_or(line));
            if self.row(row, search, survey, strays)? {
                match &self.remapper {
                    Some(remapper) => remapper.put(row, out),
                    None => out.extend_from_slice(row.raw()),
                }
                out.push(b'\n');
            }
        }
        Ok(())
    }

    /// Whether the row is kept.
    fn row(
        &mut self,
        row: Row<'_>,
        search: bool,
        survey: &mut TableSurvey,
        strays: &mut Strays,
    ) -> Result<bool, RowError> {
        survey.rows += 1;
        let mut spans: &[_] = &[];
        if let Some(remapper) = &mut self.remapper {
            remapper.find(row)?;
            let (mut first, mut left_out, mut restored) = (None, false, false);
            for span in remapper.spans().iter().filter(|span| span.owns) {
                first = first.or(Some(span.id));
                match self.ids.fate(span.id) {
                    Fate::LeftOut => left_out = true,
                    Fate::Becomes(_) | Fate::Stays => restored = true,
                }
            }
            survey.ids += remapper.spans().len() as u64;
            for span in remapper.spans() {
                add_at(&mut survey.values_by_id, span.id, 1);
            }
            for (place, range) in remapper.unknown() {
                let example = || (0, excerpt(row.raw(), range));
                survey.unknown.entry(*place).or_insert_with(example).0 += 1;
            }
            match first {
                Some(id) => *survey.rows_by_tenant.entry(id).or_default() += 1,
                None => survey.rows_without_tenant += 1,
            }
            if left_out {
                survey.left_out += 1;
                survey.left_out_shared += u64::from(restored);
                return Ok(false);
            }
            spans = remapper.spans();
        }
        if search {
            add_strays(self.table, self.ids, row, spans, strays);
        }
        Ok(true)
    }
}

impl TableSurvey {
    /// Adds what was found in other rows of the same table.
    pub(crate) fn merge(&mut self, other: Self) {
        let Self {
            rows,
            bytes,
            left_out,
            left_out_shared,
            ids,
            values_by_id,
            rows_by_tenant,
            rows_without_tenant,
            unknown,
        } = other;
        self.rows += rows;
        self.bytes += bytes;
        self.left_out += left_out;
        self.left_out_shared += left_out_shared;
        self.ids += ids;
        self.rows_without_tenant += rows_without_tenant;
        for (id, values) in values_by_id.into_iter().enumerate() {
            add_at(&mut self.values_by_id, id, values);
        }
        for (id, rows) in rows_by_tenant {
            *self.rows_by_tenant.entry(id).or_default() += rows;
        }
        for (place, (count, example)) in unknown {
            self.unknown.entry(place).or_insert((0, example)).0 += count;
        }
    }
}

/// Adds to a number in a list that grows as it has to.
pub(crate) fn add_at(numbers: &mut Vec<u64>, index: usize, number: u64) {
    if numbers.len() <= index {
        numbers.resize(index + 1, 0);
    }
    numbers[index] += number;
}

/// Adds the IDs in `row` that are in none of `spans`, and those that are only
/// mentioned in one and stay since their tenant is left out.
fn add_strays(table: &ArchiveTable, ids: &IdMap, row: Row<'_>, spans: &[Span], strays: &mut Strays) {
    let raw = row.raw();
    let mut last = None;
    for found in ids.occurrences(raw) {
        let is_known = |span: &Span| span.owns || matches!(ids.fate(span.id), Fate::Becomes(_));
        let holds = |span: &Span| span.range.start <= found.range.start && found.range.end <= span.range.end;
        if spans.iter().any(|span| holds(span) && is_known(span)) {
            continue;
        }
        let place = memchr::memchr_iter(b'\t', &raw[..found.range.start]).count();
        // One row counts once for a column, however many IDs are in it.
        if last.replace(place) == Some(place) {
            continue;
        }
        let column = table.columns.get(place).map_or("?", String::as_str);
        add(strays, StrayPlace::Column(table.table.column(column)), 1, || excerpt(raw, &found.range));
    }
}

/// The ID with up to 40 bytes of its field on either side, fit for a terminal.
pub(crate) fn excerpt(raw: &[u8], range: &std::ops::Range<usize>) -> String {
    const AROUND: usize = 40;
    let field_start = memchr::memrchr(b'\t', &raw[..range.start]).map_or(0, |tab| tab + 1);
    let field_end = memchr::memchr(b'\t', &raw[range.end..]).map_or(raw.len(), |tab| range.end + tab);
    let start = field_start.max(range.start.saturating_sub(AROUND));
    let end = field_end.min(range.end + AROUND);
    let text = String::from_utf8_lossy(&raw[start..end]);
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let (before, after) = (if start > field_start { "..." } else { "" }, if end < field_end { "..." } else { "" });
    format!("{before}{text}{after}")
}

fn survey_large_objects<R: Read>(
    mut objects: LargeObjects<'_, R>,
    ids: &IdMap,
    survey: &mut Survey,
    strays: &mut Strays,
) -> dumpfmt::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut search = ContentSearch::new(ids);
    while let Some(mut object) = objects.next_object()? {
        survey.large_objects += 1;
        survey.large_object_oids.push(object.oid());
        loop {
            let read = object.read(&mut buffer).map_err(|e| dumpfmt::Error::from_io(e, 0))?;
            if read == 0 {
                break;
            }
            survey.large_object_bytes += read as u64;
            search.take(object.oid(), &buffer[..read], strays);
        }
        search.end();
    }
    Ok(())
}

/// Looks for IDs in the content of large objects, which comes in pieces.
pub(crate) struct ContentSearch<'a> {
    ids: &'a IdMap,
    /// The end of the pieces before.
    kept: Vec<u8>,
    /// An object counts once.
    found: bool,
}

impl<'a> ContentSearch<'a> {
    pub(crate) fn new(ids: &'a IdMap) -> Self {
        Self { ids, kept: Vec::new(), found: false }
    }

    /// Takes the next piece of the object `oid`.
    pub(crate) fn take(&mut self, oid: u32, piece: &[u8], strays: &mut Strays) {
        /// At least the longest spelling of an ID, so that none hides between two pieces.
        const OVERLAP: usize = 1024;
        if self.found {
            return;
        }
        self.kept.extend_from_slice(piece);
        if let Some(first) = self.ids.occurrences(&self.kept).next() {
            self.found = true;
            add(strays, StrayPlace::LargeObjects, 1, || format!("{oid}: {}", excerpt(&self.kept, &first.range)));
        }
        self.kept.drain(..self.kept.len().saturating_sub(OVERLAP));
    }

    /// The object is at its end.
    pub(crate) fn end(&mut self) {
        self.kept.clear();
        self.found = false;
    }
}

/// Refuses strays, and says what can be done about them.
pub(crate) fn refuse_strays(strays: &[Stray]) -> Result<(), Faults> {
    if strays.is_empty() {
        return Ok(());
    }
    let fault = |stray: &Stray| {
        let (count, example) = (stray.count, &stray.example);
        Fault::new(match stray.place {
            StrayPlace::Column(_) => format!("{}, {count} rows, such as: {example}", stray.place),
            StrayPlace::LargeObjects => format!("{}, {count} objects, such as: {example}", stray.place),
            StrayPlace::Definition(_) => format!("the definition of {}: {example}", stray.place),
        })
    };
    let columns = strays.iter().filter(|stray| matches!(stray.place, StrayPlace::Column(_)));
    let mut remap: Vec<_> = columns.map(|stray| format!("--remap-also '{}'", stray.place)).collect();
    if strays.iter().any(|stray| matches!(stray.place, StrayPlace::Definition(_))) {
        remap.push("--remap-definitions".into());
    }
    let remap = if remap.is_empty() { String::new() } else { format!("replace them with {}, or ", remap.join(" ")) };
    let hint = format!("{remap}leave them as they are with --ignore-strays");
    let context = "source IDs are in places that the profile does not name";
    Err(Faults::new(context, strays.iter().map(fault).collect()).with_hint(hint))
}

fn drain(data: &mut impl Read) -> dumpfmt::Result<()> {
    std::io::copy(data, &mut std::io::sink()).map(drop).map_err(|e| dumpfmt::Error::from_io(e, 0))
}
