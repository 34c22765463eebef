//! Line breaks in what an archive says, which must not become lines of a listing or of a script.

use dumpfmt::{
    ArchiveReader, ArchiveWriter, CompressionSpecification, Header, ListFile, LocalTime, RestrictKey, Section,
    SqlOptions, Toc, TocEntry, WriteOptions,
};

/// An archive of one entry, in which every text but the definition has a line that would do something.
fn archive() -> Vec<u8> {
    let mut header = Header::new("store\n7; no entry", LocalTime::new(2026, 11, 20, 3, 0, 0));
    header.server_version = Some(b"15\n7; no entry\r\n\\! echo".as_slice().into());
    header.dump_version = Some(b"15\n7; no entry\r\n\\! echo".as_slice().into());
    let entry = TocEntry::builder(1, "TABLE\n7; no entry\n\\! echo", "t\n7; no entry\n\\! echo")
        .namespace(Some(b"s\n7; no entry\n\\! echo"))
        .owner("o\n7; no entry\n\\! echo")
        .definition("SELECT 1;\n")
        .section(Section::PreData);
    let toc = Toc::new(vec![entry.build().unwrap()]).unwrap();
    let options = WriteOptions::new(CompressionSpecification::NONE);
    ArchiveWriter::to_pipe(Vec::new(), &header, toc, &options).unwrap().finish().unwrap()
}

#[test]
fn a_listing_has_one_line_for_an_entry_and_is_a_list_of_it() {
    let bytes = archive();
    let archive = ArchiveReader::new(&bytes[..]).unwrap();
    let mut listing = Vec::new();
    archive.listing(&SqlOptions::default()).unwrap().write_to(&mut listing).unwrap();
    let listing = String::from_utf8(listing).unwrap();
    assert_eq!(listing.lines().filter(|line| !line.starts_with(';')).count(), 1, "{listing}");
    assert_eq!(ListFile::read(listing.as_bytes(), archive.toc()).unwrap().dump_ids(), [1]);
}

#[test]
fn what_an_archive_says_of_itself_stays_within_the_comments_of_a_script() {
    let mut options = SqlOptions::default();
    options.restrict_key = RestrictKey::None;
    options.no_owner = true;
    let mut script = Vec::new();
    ArchiveReader::new(&archive()[..]).unwrap().write_sql(&mut script, &options).unwrap();
    let script = String::from_utf8(script).unwrap();
    assert!(script.contains("\n-- Dumped from database version 15 7; no entry  \\! echo\n"), "{script}");
    assert!(script.contains("; Type: TABLE 7; no entry \\! echo; Schema: s "), "{script}");
    // But for the name of the schema, which is in quotes.
    let quoted = "SET search_path = \"s\n7; no entry\n\\! echo\", pg_catalog;\n";
    assert!(script.contains(quoted), "{script}");
    assert!(!script.replace(quoted, "").contains("\n\\"), "{script}");
}
