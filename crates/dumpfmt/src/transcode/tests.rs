use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::header::LocalTime;
use crate::toc::TocEntryBuilder;

fn header(version: Version) -> Header {
    Header { version, ..Header::new("store", LocalTime::new(2026, 11, 20, 3, 0, 0)) }
}

fn group(dump_id: i32, oids: &str) -> TocEntryBuilder {
    TocEntry::builder(dump_id, "BLOB METADATA", "4711..4713")
        .section(Section::Data)
        .catalog_id(2613, 4711)
        .definition(oids)
        .drop_statement("-- dummy")
        .owner("owner")
        .relkind(Some(0))
}

fn rights(dump_id: i32, tag: &str, definition: &str, dependencies: &[i32]) -> TocEntryBuilder {
    TocEntry::builder(dump_id, "ACL", tag).section(Section::None).definition(definition).dependencies(dependencies)
}

fn table(dump_id: i32) -> TocEntryBuilder {
    TocEntry::builder(dump_id, "TABLE", "t").relkind(Some(b'r'))
}

fn rows(dump_id: i32) -> TocEntryBuilder {
    TocEntry::builder(dump_id, "TABLE DATA", "t").section(Section::Data).has_data(true)
}

fn toc(entries: impl IntoIterator<Item = TocEntryBuilder>) -> Toc {
    Toc::new(entries.into_iter().map(|entry| entry.build().unwrap()).collect()).unwrap()
}

fn to_1_14(entries: impl IntoIterator<Item = TocEntryBuilder>) -> Result<Transcoding, TranscodeError> {
    Transcoding::plan(&toc(entries), &header(Version::RELKIND), Version::TABLE_ACCESS_METHOD)
}

fn shown(toc: &Toc) -> Vec<String> {
    toc.entries().iter().map(|entry| format!("{entry} {:?}", entry.dependencies())).collect()
}

#[test]
fn large_objects_come_one_by_one_before_the_data_under_dump_ids_that_nothing_has() {
    let blobs = TocEntry::builder(9, "BLOBS", "4711..4713").section(Section::Data).has_data(true).dependencies([5, 70]);
    let other = TocEntry::builder(10, "TRIGGER", "x").section(Section::PostData).dependencies([5, 2]);
    let comment = TocEntry::builder(7, "COMMENT", "LARGE OBJECT 4713").section(Section::None).dependencies([5]);
    let all = rights(6, "LARGE OBJECTS 4711..4713", "GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC;\n", &[5]);
    let entries = [table(2), rows(3), group(5, "4711\n4713\n"), all, comment, blobs, other];
    let transcoding = to_1_14(entries).unwrap();
    assert_eq!(
        shown(transcoding.toc()),
        [
            "TABLE t (dump ID 2) []",
            "BLOB 4711 (dump ID 71) []",
            "BLOB 4713 (dump ID 72) []",
            "ACL LARGE OBJECT 4711 (dump ID 73) [71]",
            "ACL LARGE OBJECT 4713 (dump ID 74) [72]",
            "COMMENT LARGE OBJECT 4713 (dump ID 7) [72]",
            "TABLE DATA t (dump ID 3) []",
            "BLOBS 4711..4713 (dump ID 9) [70]",
            "TRIGGER x (dump ID 10) [71, 72, 2]",
        ]
    );
    assert!(transcoding.toc().entries().iter().all(|entry| entry.relkind().is_none()));
    assert_eq!(transcoding.notes(), []);
}

#[test]
fn rights_name_each_large_object_and_nothing_else_is_changed() {
    let sql = "REVOKE ALL ON LARGE OBJECT 4711 FROM \"LARGE OBJECT 4711\";\nSET SESSION AUTHORIZATION \"4711\";\n\
               GRANT SELECT ON LARGE OBJECT 4711 TO a4711 WITH GRANT OPTION;\nRESET SESSION AUTHORIZATION;\n";
    let transcoding = to_1_14([group(5, "4711\n4294967295\n"), rights(6, "LARGE OBJECTS 4711..4294967295", sql, &[5])]);
    let transcoding = transcoding.unwrap();
    let last = transcoding.toc().entries().last().unwrap();
    assert_eq!(last.tag(), b"LARGE OBJECT 4294967295");
    assert_eq!(
        std::str::from_utf8(last.definition().unwrap()).unwrap(),
        "REVOKE ALL ON LARGE OBJECT 4294967295 FROM \"LARGE OBJECT 4711\";\nSET SESSION AUTHORIZATION \"4711\";\n\
         GRANT SELECT ON LARGE OBJECT 4294967295 TO a4711 WITH GRANT OPTION;\nRESET SESSION AUTHORIZATION;\n"
    );
}

#[test]
fn what_cannot_be_divided_is_refused_with_the_reason() {
    let grant = "GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC;\n";
    let all = "LARGE OBJECTS 4711..4712";
    for (entries, reason) in [
        (vec![group(5, "4711\nfour\n")], "not a list of OIDs"),
        (vec![group(5, "0\n")], "not a list of OIDs"),
        (vec![group(5, "4294967296\n")], "not a list of OIDs"),
        (vec![group(5, "4711\n"), group(6, "4711\n")], "another entry has one"),
        (vec![group(5, "4711\n4712\n"), rights(6, all, grant, &[])], "does not depend on"),
        (vec![group(5, "4711\n4712\n"), rights(6, all, "GRANT 1;", &[5])], "not about the first one"),
        (vec![group(5, "4711\n4712\n"), rights(6, all, "", &[5])], "not about the first one"),
        (vec![group(5, "4712\n4711\n"), rights(6, "LARGE OBJECTS 4712..4711", grant, &[5])], "not about the first one"),
        (vec![group(5, "4711\n4712\n"), rights(6, "LARGE OBJECTS ", grant, &[5])], "not about the first one"),
        (vec![group(i32::MAX, "4711\n")], "no dump IDs left"),
        (vec![group(5, "4711\n4712\n"), table(i32::MAX - 1)], "no dump IDs left"),
        (vec![group(5, "4711\n4712\n"), rights(6, all, grant, &[5, i32::MAX - 2])], "no dump IDs left"),
    ] {
        let error = to_1_14(entries).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn the_last_dump_id_is_used() {
    let transcoding = to_1_14([group(5, "4711\n4712\n"), table(i32::MAX - 2)]).unwrap();
    assert_eq!(transcoding.toc().get(i32::MAX).map(TocEntry::tag), Some(&b"4712"[..]));
}

#[test]
fn limits_are_charged_before_entries_are_made() {
    let oids: String = (1..=1000).map(|oid| format!("{oid}\n")).collect();
    let grant = format!("GRANT SELECT ON LARGE OBJECT 1 TO \"{}\";\n", "x".repeat(100_000));
    let toc = toc([group(1, &oids), rights(2, "LARGE OBJECTS 1..1000", &grant, &[1])]);
    let plan = |limits: &Limits| {
        Transcoding::plan_with_limits(&toc, &header(Version::RELKIND), Version::COMPRESSION_ALGORITHM, limits)
    };
    assert_eq!(plan(&Limits::default()).unwrap().toc().entries().len(), 2000);
    let field = |error| match error {
        TranscodeError::LimitExceeded { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(plan(&Limits { toc_entries: 1999, ..Limits::default() }).unwrap_err()), "toc_entries");
    assert_eq!(field(plan(&Limits { toc_bytes: 100_000_000, ..Limits::default() }).unwrap_err()), "toc_bytes");
}

#[test]
fn versions_that_cannot_be_are_refused() {
    let contents = toc([table(1)]);
    let plan = |from: u8, to: u8| {
        let version = |minor| Version { major: 1, minor, revision: 0 };
        Transcoding::plan(&contents, &header(version(from)), version(to)).map(|plan| plan.version().minor)
    };
    assert!(matches!(plan(16, 13), Err(TranscodeError::Target(_))));
    assert!(matches!(plan(16, 17), Err(TranscodeError::Target(_))));
    assert!(matches!(plan(17, 16), Err(TranscodeError::Source(_))));
    assert_eq!(plan(4, 16).unwrap(), 16);
    assert_eq!(plan(16, 16).unwrap(), 16);
    let blobs = toc([TocEntry::builder(2, "BLOBS", "BLOBS").section(Section::Data).has_data(true)]);
    let old = Version { minor: 11, ..Version::OLDEST };
    let error = Transcoding::plan(&blobs, &header(old), Version::TABLE_ACCESS_METHOD).unwrap_err();
    assert!(error.to_string().starts_with("BLOBS BLOBS (dump ID 2): an archive of version 1.11"), "{error}");
}

#[test]
fn new_contents_that_are_none_are_an_error_of_the_archive() {
    let error = TranscodeError::from(Error::usage("dump ID 5 occurs twice"));
    let TranscodeError::Contents(error) = error else { panic!("{error}") };
    assert!(matches!(error.kind(), ErrorKind::Usage(_)));
}

#[test]
fn what_is_written_anew_by_18_is_told_only_where_it_is() {
    let feature = |description: &str, sql: &str| {
        let entry = TocEntry::builder(1, description, "x").definition(sql).build().unwrap();
        NewerFeature::in_entry(&entry, 15)
    };
    use NewerFeature::*;
    for (description, sql, expected) in [
        ("TABLE", "CREATE TABLE t (\n a int GENERATED ALWAYS AS ((b + 1)) STORED,\n c int NOT NULL\n);", None),
        ("TABLE", "CREATE TABLE t (\n a int GENERATED ALWAYS AS ((b + 1))\n);", Some(VirtualColumn)),
        ("TABLE", "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY NOT NULL);", None),
        ("TABLE", "CREATE TABLE t (a text DEFAULT 'NOT ENFORCED' NOT NULL, \"WITHOUT OVERLAPS\" int);", None),
        ("TABLE", "CREATE TABLE t (period text, CHECK ((NOT enforced)));", None),
        ("TABLE", "CREATE TABLE t (CONSTRAINT c NOT NULL a);", Some(NotNullConstraint)),
        ("TABLE", "CREATE TABLE t (a int NOT NULL NO INHERIT);", Some(NotNullConstraint)),
        ("FOREIGN TABLE", "CREATE FOREIGN TABLE f (a int NOT NULL OPTIONS (b 'c')) SERVER s;", None),
        ("FUNCTION", "CREATE FUNCTION f() ... $$ GENERATED ALWAYS AS (it's) NOT ENFORCED $$", None),
        ("FK CONSTRAINT", "ALTER TABLE ONLY t ADD CONSTRAINT c FOREIGN KEY (a, period) REFERENCES u(a, period);", None),
        (
            "FK CONSTRAINT",
            "ALTER TABLE ONLY t ADD CONSTRAINT c FOREIGN KEY (a, PERIOD \"b\") REFERENCES u(a, PERIOD b);",
            Some(TemporalKey),
        ),
        ("ACL", "GRANT SELECT ON TABLE maintain TO maintain;\nGRANT ALL ON TABLE maintain TO maintain;", None),
        ("ACL", "GRANT ALL ON TABLE t TO a;\nGRANT SELECT,MAINTAIN ON TABLE t TO b;", Some(Maintain)),
        ("EVENT TRIGGER", "CREATE EVENT TRIGGER login ON ddl_command_end EXECUTE FUNCTION on_login();", None),
        ("COLLATION", "CREATE COLLATION builtin (provider = icu, locale = 'builtin');", None),
        ("TABLE", "CREATE TABLE t (a \"unclosed NOT ENFORCED", None),
    ] {
        assert_eq!(feature(description, sql), expected, "{sql}");
    }
    let entry = table(1).definition("CREATE TABLE t (CONSTRAINT c NOT NULL a);").build().unwrap();
    assert_eq!(NewerFeature::in_entry(&entry, 18), None);
}

#[test]
fn a_dump_of_an_old_server_is_not_searched_for_what_it_cannot_have() {
    let mut header = header(Version::RELKIND);
    header.server_version = Some(b"15.18 (Debian 15.18-0+deb12u1)"[..].into());
    let contents = toc([table(1).definition("CREATE TABLE t (CONSTRAINT c NOT NULL a);")]);
    let notes =
        |header: &Header| Transcoding::plan(&contents, header, Version::TABLE_ACCESS_METHOD).unwrap().notes().to_vec();
    assert_eq!(notes(&header), []);
    header.server_version = Some(b"18.6"[..].into());
    let told: Vec<_> = notes(&header).iter().map(ToString::to_string).collect();
    let expected =
        "TABLE t (dump ID 1): uses `NOT NULL` as a constraint of the table; a server before version 18 refuses it";
    assert_eq!(told, [expected]);
}

proptest! {
    #[test]
    fn any_sql_is_searched_to_its_end(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "NOT", "NULL", "ENFORCED", "GENERATED", "ALWAYS", "AS", "(", ")", "STORED", "PERIOD", "'", "\"", ";", "--",
                "\n", "LARGE", "OBJECT", "4711", "PARTITION", "BY", "GRANT", "MAINTAIN", "ON", "provider", "=", "builtin", "\u{e9}",
            ]),
            0..40,
        ),
        description in prop::sample::select(vec!["TABLE", "ACL", "COLLATION", "EVENT TRIGGER", "FK CONSTRAINT"]),
    ) {
        let sql = words.join(" ");
        let entries = [
            group(5, "4711\n4712\n"),
            TocEntry::builder(7, description, "t").definition(&sql),
            rights(6, "LARGE OBJECTS 4711..4712", &sql, &[5]),
        ];
        match to_1_14(entries) {
            Ok(plan) => prop_assert_eq!(plan.toc().entries().len(), 5),
            Err(error) => prop_assert!(error.to_string().contains("not about the first one"), "{}", error),
        }
    }
}
