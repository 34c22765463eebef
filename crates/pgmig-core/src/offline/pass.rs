//! One pass over an archive: every row is looked at, IDs are replaced, strays are found.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dumpfmt::{ErrorKind, Rewrite, RowBatch, RowError, RowWriter};

use super::{OfflineRemap, RemapError, RemappedTable};
use crate::archive::{ArchiveTable, Contents};
use crate::error::{Error, Faults};
use crate::id_columns::IdColumn;
use crate::plan::UnknownIds;
use crate::remap::IdMap;
use crate::survey::{ContentSearch, Stray, Strays, TableScan, TableSurvey, add, row_fault};
use crate::tenant::{Tenant, TenantList};

/// What is looked for, and what was found. Several threads share it.
pub(super) struct Pass<'a> {
    contents: &'a Contents,
    id_columns: &'a [IdColumn],
    ids: &'a IdMap,
    large_object_entries: &'a [i32],
    tables: Vec<Mutex<TableSurvey>>,
    strays: Mutex<Strays>,
    objects: Mutex<Objects<'a>>,
    /// The list of tenants, where it has to be read on the way.
    tenants: Option<(i32, Mutex<TenantList<'a>>)>,
    keep_unmapped: bool,
    /// Faults that a user can mend, which the archive's writer only passes on.
    faults: Mutex<Option<Faults>>,
}

struct Objects<'a> {
    count: u64,
    search: ContentSearch<'a>,
}

/// What came of it.
pub(super) struct Found {
    pub(super) tables: Vec<RemappedTable>,
    pub(super) unknown_ids: Vec<UnknownIds>,
    pub(super) strays: Vec<Stray>,
    pub(super) large_objects: u64,
    pub(super) tenants: Vec<Tenant>,
    /// Values of ID columns by the index of the ID.
    pub(super) values_by_id: Vec<u64>,
    faults: Option<Faults>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        remap: &OfflineRemap<'a>,
        contents: &'a Contents,
        id_columns: &'a [IdColumn],
        ids: &'a IdMap,
        reads_tenants: bool,
    ) -> Result<Self, Error> {
        let tenants = if reads_tenants {
            let (table, list) = TenantList::of(contents, remap.profile)?;
            Some((table.dump_id, Mutex::new(list)))
        } else {
            None
        };
        Ok(Self {
            contents,
            id_columns,
            ids,
            large_object_entries: &contents.large_object_entries,
            tables: contents.tables.iter().map(|_| Mutex::default()).collect(),
            strays: Mutex::default(),
            objects: Mutex::new(Objects { count: 0, search: ContentSearch::new(ids) }),
            tenants,
            keep_unmapped: remap.keep_unmapped,
            faults: Mutex::default(),
        })
    }

    /// Says what is to be done with each entry.
    pub(super) fn plan<'p>(&'p self, rewrite: &mut Rewrite<'p>) {
        for (table, survey) in self.contents.tables.iter().zip(&self.tables) {
            let scan = TableScan::new(table, self.id_columns, self.ids);
            if scan.has_id_columns() {
                rewrite.batches(table.dump_id, move |batch, out| self.batch(table, batch, survey, Some(out)));
            } else {
                rewrite.inspect(table.dump_id, move |batch| self.batch(table, batch, survey, None));
            }
        }
        for dump_id in self.large_object_entries {
            rewrite.inspect_large_objects(*dump_id, |oid, piece, last| {
                let mut objects = lock(&self.objects);
                objects.search.take(oid, piece, &mut lock(&self.strays));
                if last {
                    objects.search.end();
                    objects.count += 1;
                }
                Ok(())
            });
        }
    }

    fn batch(
        &self,
        table: &ArchiveTable,
        batch: RowBatch<'_>,
        survey: &Mutex<TableSurvey>,
        out: Option<&mut RowWriter<'_>>,
    ) -> Result<(), RowError> {
        if let Some((dump_id, list)) = &self.tenants
            && *dump_id == table.dump_id
        {
            let mut list = lock(list);
            let before = list.tenants().len();
            batch.rows().try_for_each(|row| list.add(row)).map_err(|faults| self.refuse(faults))?;
            self.expect_all_kept(&list.tenants()[before..]).map_err(|faults| self.refuse(faults))?;
        }
        // Merged under the lock, so that threads wait for each other only there.
        let (mut found, mut strays) = (TableSurvey::default(), Strays::new());
        let mut scan = TableScan::new(table, self.id_columns, self.ids);
        scan.batch(batch, &mut found, &mut strays, out).map_err(|e| self.refuse(row_fault(table, &e)))?;
        lock(survey).merge(found);
        let mut all = lock(&self.strays);
        strays.into_iter().for_each(|(place, (count, example))| add(&mut all, place, count, || example));
        Ok(())
    }

    /// From a pipe, rows may have passed already that should be left out.
    fn expect_all_kept(&self, tenants: &[Tenant]) -> Result<(), Faults> {
        let is_mapped = |tenant: &Tenant| self.ids.lookup(tenant.id.as_str().as_bytes()).is_some();
        let unmapped = tenants.iter().find(|tenant| !tenant.is_live() && !is_mapped(tenant));
        match unmapped {
            Some(tenant) if !self.keep_unmapped => {
                let message = format!(
                    "the rows of tenant `{}`, {}, which is deleted or internal and not mapped, are to be left out, but some may \
                     have passed before the archive told so",
                    tenant.id,
                    tenant.display_name()
                );
                Err(Faults::one("cannot remap this archive in one pass", message).with_hint(
                    "save the archive to a file, from which its tenants can be read first; or keep such rows as they are with \
                     --keep-unmapped",
                ))
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, faults: Faults) -> RowError {
        let text = faults.to_string();
        lock(&self.faults).get_or_insert(faults);
        text.into()
    }

    pub(super) fn finish(self) -> Found {
        let tables: Vec<TableSurvey> = self.tables.into_iter().map(into_inner).collect();
        let unknown_ids = self.contents.tables.iter().zip(&tables).flat_map(|(table, found)| {
            found.unknown.iter().filter_map(|(&place, (count, example))| {
                let column = table.table.column(table.columns.get(place)?.clone());
                Some(UnknownIds { column, count: *count, example: example.clone() })
            })
        });
        let remapped = |(table, found): (&ArchiveTable, &TableSurvey)| {
            let by_tenant: BTreeMap<_, _> =
                found.rows_by_tenant.iter().map(|(&id, &rows)| (self.ids.id(id).to_string(), rows)).collect();
            RemappedTable {
                table: table.table.clone(),
                rows: found.rows,
                rows_left_out: found.left_out,
                ids: found.ids,
                rows_by_tenant: by_tenant,
            }
        };
        let mut values_by_id = vec![0; self.ids.len()];
        for (id, values) in tables.iter().flat_map(|found| found.values_by_id.iter().enumerate()) {
            values_by_id[id] += values;
        }
        let strays = into_inner(self.strays).into_iter();
        Found {
            values_by_id,
            unknown_ids: unknown_ids.collect(),
            tables: self.contents.tables.iter().zip(&tables).map(remapped).collect(),
            strays: strays.map(|(place, (count, example))| Stray { place, count, example }).collect(),
            large_objects: into_inner(self.objects).count,
            tenants: self.tenants.map(|(_, list)| into_inner(list).into_tenants()).unwrap_or_default(),
            faults: into_inner(self.faults),
        }
    }
}

/// What a user is told of a rewrite that failed: the fault of a row, where that was the reason.
pub(super) fn told(error: dumpfmt::Error, found: &Found) -> RemapError {
    match (error.kind(), &found.faults) {
        (ErrorKind::Row(_), Some(faults)) => RemapError::Other(faults.clone().into()),
        _ => RemapError::Archive(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked ends the rewrite, and what it left is not used.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}
