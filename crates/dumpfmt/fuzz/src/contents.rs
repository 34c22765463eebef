use std::io::Read;

use dumpfmt::{
    ArchiveReader, ColumnType, CopyStatement, Domain, ForeignKey, ListFile, Partition, PartitionKey, ReadOptions,
    SequenceValue, SqlOptions, TableDefinition, Toc, TocEntry,
};

use crate::read::{Dribble, told};
use crate::{limits, sealed};

/// The header and the table of contents of an archive: its entries, the statements in them, and its listing.
pub fn contents(data: &[u8]) {
    let data = &sealed(data);
    let mut options = ReadOptions::from(limits());
    options.accept_newer_versions = true;
    let read = ArchiveReader::with_options(&data[..], options.clone());
    let dribbled = ArchiveReader::with_options(Dribble(data), options);
    let (archive, dribbled) = match (read, dribbled) {
        (Ok(archive), Ok(dribbled)) => (archive, dribbled),
        (Err(one), Err(other)) => {
            assert_eq!(told(&one), told(&other));
            return;
        }
        (one, other) => panic!("{:?}, but a few bytes at a time {:?}", one.map(drop), other.map(drop)),
    };
    assert_eq!(archive.header(), dribbled.header());
    assert_eq!(archive.toc().entries(), dribbled.toc().entries());
    assert!(archive.toc().entries().len() as u64 <= limits().toc_entries);
    for entry in archive.toc().entries() {
        look_at(entry, archive.toc());
    }
    let _ = archive.toc().encoding();
    list(&archive);
}

fn look_at(entry: &TocEntry, toc: &Toc) {
    assert_eq!(toc.get(entry.dump_id()), Some(entry));
    assert!(!entry.to_string().is_empty());
    if let Some(copy) = CopyStatement::of(entry) {
        let sql = copy.to_sql();
        let again = TocEntry::builder(1, "TABLE DATA", "t").copy_statement(Some(&sql)).build().expect("it is short");
        assert_eq!(CopyStatement::of(&again), Some(copy.clone()), "{:?}", sql.escape_ascii().to_string());
        let _ = copy.via_partition_root(b"schema", &copy.table);
    }
    if let Some(table) = TableDefinition::of(entry) {
        table.columns.iter().for_each(|(_, column)| look_at_type(column));
    }
    if let Some(domain) = Domain::of(entry) {
        look_at_type(&domain.base);
    }
    let _ = (SequenceValue::of(entry), ForeignKey::of(entry), Partition::of(entry), PartitionKey::of(entry));
    let rebuilt = entry.to_builder().build().expect("the entry was in an archive");
    assert_eq!(
        (rebuilt.dump_id(), rebuilt.tag(), rebuilt.definition(), rebuilt.dependencies(), rebuilt.has_data()),
        (entry.dump_id(), entry.tag(), entry.definition(), entry.dependencies(), entry.has_data())
    );
}

fn look_at_type(column: &ColumnType) {
    assert!(column.base().0.len() <= column.to_string().len());
}

/// A listing is a list of what it lists.
fn list<R: Read>(archive: &ArchiveReader<R>) {
    let listing = archive.listing(&SqlOptions::default()).expect("nothing is asked for that is not there");
    let mut text = Vec::new();
    listing.verbose().write_to(&mut text).expect("memory can be written to");
    let list = match ListFile::read(&text[..], archive.toc()) {
        Ok(list) => list,
        Err(error) => panic!("{error} in {}", text.escape_ascii()),
    };
    let all: Vec<_> = archive.toc().entries().iter().map(TocEntry::dump_id).collect();
    assert_eq!(list.dump_ids(), all);
}
