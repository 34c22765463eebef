use std::io::Cursor;

use dumpfmt::{
    ArchiveReader, CompressionSpecification, DataState, Error, Rewrite, RewriteReport, Row, RowWriter, TocEntry,
    Transcoding, Version, WriteOptions,
};

use crate::read::{Body, Contents, contents, seekable, told};
use crate::{Choice, limits, sealed};

const VERSIONS: [Version; 3] = [Version::TABLE_ACCESS_METHOD, Version::COMPRESSION_ALGORITHM, Version::RELKIND];

/// An archive that can be read, made into another one: its data as it is stored, compressed anew, or row by row; in
/// another version; by one thread or more.
pub fn rewrite(data: &[u8]) {
    let data = &sealed(data);
    let mut choice = Choice::of(data);
    let Ok(mut source) = seekable(data) else { return };
    let compression: CompressionSpecification =
        choice.one_of(&["none", "gzip:1", "lz4", "zstd:1"]).parse().expect("it is a compression");
    let mut options = WriteOptions::like(source.header()).threads(0);
    if choice.toss() {
        options = options.compression(compression);
    }
    let transcoding = if choice.toss() {
        let target = choice.one_of(&VERSIONS);
        let Ok(plan) = Transcoding::plan_with_limits(source.toc(), source.header(), target, &limits()) else { return };
        assert!(target >= Version::RELKIND || plan.toc().of_type("BLOB METADATA").next().is_none());
        options = WriteOptions::new(CompressionSpecification::GZIP).version(target);
        Some(plan)
    } else {
        None
    };
    let depth = choice.below(4);
    let rewritten = |threads: usize| -> Result<(Vec<u8>, RewriteReport), Error> {
        let mut source = seekable(data)?;
        let mut rewrite = Rewrite::new(options.clone().threads(threads));
        if let Some(transcoding) = &transcoding {
            rewrite.contents(transcoding.toc().clone());
        }
        for entry in source.toc().entries().iter().filter(|entry| entry.has_data()) {
            treat(&mut rewrite, entry, depth);
        }
        let (file, report) = rewrite.to_file(&mut source, Cursor::new(Vec::new()), |_| {})?;
        Ok((file.into_inner(), report))
    };
    let (read, error) = contents(&mut source);
    let result = rewritten(0);
    if choice.below(8) == 0 {
        match (&result, rewritten(2)) {
            (Ok(one), Ok(other)) => assert!(*one == other, "two threads write another archive than one"),
            (Err(one), Err(other)) => assert_eq!(told(one), told(&other)),
            (one, other) => panic!("{one:?} with one thread, but {other:?} with two"),
        }
    }
    let Ok((new, report)) = result else { return };
    expect_same(&read, error.is_none(), &new, report, depth);
}

fn treat(rewrite: &mut Rewrite<'_>, entry: &TocEntry, depth: u32) {
    let is_copy = entry.copy_statement().is_some_and(|statement| !statement.is_empty());
    let dump_id = entry.dump_id();
    match depth {
        0 => {}
        1 => drop(rewrite.reencode(dump_id)),
        2 if is_copy => drop(rewrite.rows(dump_id, |row: Row<'_>, out: &mut RowWriter<'_>| {
            let mut fields = out.fields();
            row.fields().for_each(|field| fields.field(field));
            fields.finish();
            Ok(())
        })),
        3 if is_copy => drop(rewrite.inspect(dump_id, |_| Ok(()))),
        3 if entry.description() == b"BLOBS" => drop(rewrite.inspect_large_objects(dump_id, |_, _, _| Ok(()))),
        _ => {}
    }
}

/// What could be read of the old archive is in the new one, and where that says.
fn expect_same(read: &Contents, is_whole: bool, new: &[u8], report: RewriteReport, depth: u32) {
    let mut archive = match ArchiveReader::with_limits(Cursor::new(new), wider()) {
        Ok(archive) => archive,
        Err(error) => panic!("what was written cannot be read: {error}"),
    };
    let (again, error) = contents(&mut archive);
    if let Some(error) = error {
        // Bodies that are copied as they are stored may be damaged, and stay so.
        assert!(!is_whole && depth != 1, "what was written cannot be read: {error}");
        return;
    }
    assert_eq!(report.entries.len(), again.len());
    if !is_whole {
        return;
    }
    assert_eq!(again.len(), read.len());
    for ((old_id, old), (new_id, new)) in read.iter().zip(&again) {
        assert_eq!(old_id, new_id);
        match (old, new) {
            // Between the end of the rows and that of the body there may be more or less of newlines.
            (Body::Data(old), Body::Data(new)) if depth >= 2 => assert_eq!(old.trim_ascii_end(), new.trim_ascii_end()),
            (old, new) => assert_eq!(old, new),
        }
    }
    let ids: Vec<_> = archive.toc().entries().iter().filter(|entry| entry.has_data()).map(TocEntry::dump_id).collect();
    for dump_id in ids {
        let entry = archive.toc().get(dump_id).expect("it is there");
        assert!(matches!(entry.data_state(), DataState::Position(_)), "{entry}");
        if let Err(error) = archive.block(dump_id) {
            panic!("a recorded position is wrong: {error}");
        }
    }
}

/// The new archive can have longer chunks than the old one, and more in its table of contents.
fn wider() -> dumpfmt::Limits {
    let mut limits = limits();
    limits.toc_bytes *= 2;
    limits.toc_entries *= 2;
    limits
}
