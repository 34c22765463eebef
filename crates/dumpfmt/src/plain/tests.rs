use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::example::script;
use crate::limits::Limits;
use crate::verify::VerifyOptions;

/// What a script consists of, its rows joined.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Statement(String),
    Copy(String),
    Rows(String),
    End(u64),
}

/// Gives no more at once than so many bytes.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let step = self.1.min(out.len());
        self.0.read(&mut out[..step])
    }
}

fn parts_of<R: Read>(mut script: ScriptReader<R>) -> (Vec<Part>, Result<(), Error>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut parts = Vec::new();
    loop {
        match script.next_item() {
            Ok(Some(Item::Statement(sql))) => parts.push(Part::Statement(text(sql))),
            Ok(Some(Item::CopyBegins(copy))) => parts.push(Part::Copy(text(&copy.to_sql()))),
            Ok(Some(Item::CopyRows(rows))) => {
                assert!(rows.ends_with(b"\n"), "{}", text(rows));
                match parts.last_mut() {
                    Some(Part::Rows(before)) => before.push_str(&text(rows)),
                    _ => parts.push(Part::Rows(text(rows))),
                }
            }
            Ok(Some(Item::CopyEnds { rows })) => parts.push(Part::End(rows)),
            Ok(None) => return (parts, Ok(())),
            Err(e) => {
                assert!(script.next_item().is_err(), "nothing can be read after an error");
                return (parts, Err(e));
            }
        }
    }
}

/// A script with this between its first lines and its last ones.
fn around(sql: &str) -> Vec<u8> {
    let text =
        format!("--\n-- PostgreSQL database dump\n--\n\n{sql}\n\n--\n-- PostgreSQL database dump complete\n--\n\n");
    text.into()
}

fn statements(sql: &str) -> Vec<String> {
    let (parts, end) = parts_of(ScriptReader::new(&around(sql)[..]));
    end.unwrap_or_else(|e| panic!("{e} in:\n{sql}"));
    let statement = |part| match part {
        Part::Statement(sql) => sql,
        other => panic!("{other:?} in:\n{sql}"),
    };
    parts.into_iter().map(statement).collect()
}

fn error_of(bytes: &[u8]) -> Error {
    parts_of(ScriptReader::new(bytes)).1.expect_err("the script is refused")
}

fn refusal(sql: &str) -> String {
    error_of(&around(sql)).to_string()
}

#[test]
fn a_script_is_read_as_it_was_written() {
    let script = script();
    let mut reader = ScriptReader::new(&script[..]).digests(true);
    let mut rest = &script[..];
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Statement(bytes) | Item::CopyRows(bytes) = item {
            let at = memchr::memmem::find(rest, bytes).expect("it is there as it is");
            rest = &rest[at + bytes.len()..];
        }
    }
    assert_eq!(reader.server_version(), Some(&b"15.18 (Debian 15.18-0+deb12u1)"[..]));
    assert_eq!(reader.dump_version(), Some(&b"17.6"[..]));
    assert_eq!(reader.encoding(), Some("UTF8"));
    assert_eq!(reader.position(), script.len() as u64);
    let [table] = reader.tables() else { panic!("{:?}", reader.tables()) };
    assert_eq!((table.copy.schema.as_deref(), &table.copy.table[..]), (Some(&b"public"[..]), &b"tenant"[..]));
    assert_eq!(table.copy.columns, [&b"id"[..], b"name"]);
    assert_eq!((table.rows, table.bytes), (Some(2), 14));
    // printf '1\ta\\ttab\n2\t\\N\n' | sha256sum
    let digest = table.sha256.unwrap().to_string();
    assert_eq!(digest, SHA256_OF_ROWS);
}

const SHA256_OF_ROWS: &str = "153c41e7841ef34a391a18d17867c73c6774e487fe5f6398f212c3c0756c3193";

#[test]
fn statements_end_where_psql_ends_them() {
    for sql in [
        "SELECT 1",
        "SELECT ';', 'a'';', \";\"\";\"",
        "SELECT E'a\\';', e'\\\\', E'a'';\\';'",
        "SELECT 'a\\', ';'",
        // goes on with the same rules on another line
        "SELECT E'a'\n -- it's one literal\n 'b\\';'",
        "SELECT E'a' 'b\\', ';'",
        "SELECT U&'\\0061;', U&\"d\\0061;\", N'\\', B'1', X'1F'",
        "SELECT $$;$$, $a$;$$;$b$;$a$, $a$ $a $a$",
        "SELECT $_$;$_$, $ä$;$ä$",
        "SELECT a$$, $1, $1$$;$$, $e, $ e'\\';'",
        "SELECT 1a$x, 1$$;$$, 0x1F, 1_000",
        "SELECT a -- ;\n, b /* ; /* ; */ ; */, c",
        "SELECT a /*/*/**/*/*/ - - b / / c, 'x--', '/*'",
        "SELECT a->b, c-'d;'",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END",
        "create or replace procedure p()\nbegin /* */ atomic\nselect (case a when 1 then 2 end); end",
        // names which psql takes for the begin of a body
        "CREATE FUNCTION public.begin() RETURNS integer LANGUAGE sql AS $$ SELECT 1; $$",
        "CREATE FUNCTION f() RETURNS begin BEGIN ATOMIC SELECT begin FROM t; END",
        "CREATE VIEW \"begin\" AS SELECT begin, atomic FROM t",
        "ALTER FUNCTION begin() OWNER TO atomic",
    ] {
        let next = "SELECT 'the next one'";
        assert_eq!(statements(&format!("{sql};\n{next};")), [sql, next]);
        assert_eq!(statements(&format!("/* a ; */\n{sql} ;-- x\n;; {next};")), [&format!("{sql} ")[..], next]);
    }
}

#[test]
fn a_backslash_means_something_where_the_script_says_so() {
    let off = "SET standard_conforming_strings = off";
    assert_eq!(statements(&format!("{off};SELECT 'a\\';b';")), [off, "SELECT 'a\\';b'"]);
    let on = "SET standard_conforming_strings = on";
    assert!(refusal("SET SESSION standard_conforming_strings TO 'off';").contains("neither `on` nor `off`"));
    assert_eq!(statements(&format!("{off};{on};SELECT 'a\\';SELECT 'b';")), [off, on, "SELECT 'a\\'", "SELECT 'b'"]);
}

#[test]
fn rows_end_with_a_line_of_their_own() {
    let sql = "COPY \"S x\".t (a, \"b\"\"\") FROM stdin;\n\\\\.\t1\n\\.x\t\\.\n\t\n\\.\n\n\nCOPY public.none FROM stdin;\n\\.\nSELECT 1;";
    let (parts, end) = parts_of(ScriptReader::new(&around(sql)[..]));
    end.unwrap();
    let expected = [
        Part::Copy("COPY \"S x\".\"t\" (\"a\", \"b\"\"\") FROM stdin;\n".into()),
        Part::Rows("\\\\.\t1\n\\.x\t\\.\n\t\n".into()),
        Part::End(3),
        Part::Copy("COPY \"public\".\"none\" FROM stdin;\n".into()),
        Part::End(0),
        Part::Statement("SELECT 1".into()),
    ];
    assert_eq!(parts, expected);
}

#[test]
fn rows_of_any_length_are_verified_in_pieces() {
    let long = format!("{}\\\\.\t{}", "x".repeat(1_000_000), "y".repeat(1_000_000));
    let sql = format!("COPY t (a, b) FROM stdin;\n{long}\n\\.x\t\n{long}\n\\.\nCOPY u FROM stdin;\n\\.\n");
    let script = around(&sql);
    let mut reader = ScriptReader::new(&script[..]).digests(true);
    while reader.next_item().unwrap().is_some() {}
    for step in [1000, 65_536, usize::MAX] {
        // Held to what a row may be, were one held.
        let limits = Limits { row_bytes: 10, ..Limits::default() };
        let verified = ScriptReader::with_limits(Slowly(&script, step), limits).digests(true).verify().unwrap();
        assert_eq!(verified.tables, reader.tables());
    }
    assert_eq!(reader.tables()[0].rows, Some(3));
}

#[test]
fn a_script_is_verified_on_its_way() {
    let script = script();
    for step in [1, 7, 100, script.len()] {
        let mut verifier = PlainVerifier::new(&VerifyOptions::default());
        for piece in script.chunks(step) {
            verifier.write_all(piece).unwrap();
        }
        let verified = verifier.finish().unwrap();
        assert_eq!(verified.server_version.as_deref(), Some(&b"15.18 (Debian 15.18-0+deb12u1)"[..]));
        assert_eq!(verified.dump_version.as_deref(), Some(&b"17.6"[..]));
        assert_eq!(verified.encoding.as_deref(), Some("UTF8"));
        assert_eq!(verified.tables.len(), 1);
        assert_eq!(verified.tables[0].sha256.unwrap().to_string(), SHA256_OF_ROWS);
    }
    let mut verifier = PlainVerifier::new(&VerifyOptions::default().digests(false));
    verifier.write_all(&script[..script.len() - 1]).unwrap();
    assert!(matches!(verifier.finish().unwrap_err().kind(), ErrorKind::Truncated(_)));
}

#[test]
fn inserts_are_counted_by_table_but_not_by_row() {
    let sql = "INSERT INTO public.a VALUES (1);\nINSERT INTO public.a VALUES (2), (3);\nINSERT INTO \"B\" VALUES (4);";
    let script = around(sql);
    let mut reader = ScriptReader::new(&script[..]).digests(true);
    while reader.next_item().unwrap().is_some() {}
    let [a, b] = reader.tables() else { panic!("{:?}", reader.tables()) };
    assert_eq!((&a.copy.table[..], a.rows, a.bytes), (&b"a"[..], None, 31 + 36));
    assert_eq!((&b.copy.table[..], b.rows, b.bytes), (&b"B"[..], None, 26));
    assert_ne!(a.sha256.unwrap(), b.sha256.unwrap());
}

#[test]
fn no_command_of_psql_is_handed_on() {
    for (sql, name) in [
        ("\\connect store secret", "connect"),
        ("\\! echo secret", "!"),
        ("\\!secret", "!"),
        ("SELECT 1 \\g secret\n;", "g"),
        ("\\copy t from secret", "copy"),
        ("\\.", "."),
        ("\\\\", "\\"),
        ("\\", ""),
        (&format!("SELECT 1 \\{}", "x".repeat(100)), &"x".repeat(64)),
    ] {
        let error = error_of(&around(sql));
        assert!(matches!(error.kind(), ErrorKind::MetaCommand(command) if command == name), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.line(), Some(5));
        assert!(error.hint().is_some());
    }
}

#[test]
fn restrict_is_accepted_with_its_key_alone() {
    let ok = "\\restrict a1\nSELECT 1;\n\\unrestrict a1\n\\restrict b\nSELECT 2;\n\\unrestrict b";
    assert_eq!(statements(ok).len(), 2);
    for (sql, said) in [
        ("\\restrict a\n\\unrestrict b", "another one than"),
        ("\\unrestrict b", "without a `\\restrict`"),
        ("\\restrict a\n\\restrict a", "second"),
        ("\\restrict", "no key"),
        ("\\restrict a b", "no key"),
        ("\\restrict a\\! ls", "no key"),
        ("\\restrict a\r", "carriage return"),
        ("\\restrict a", "ends before the `\\unrestrict` that closes it"),
    ] {
        assert!(refusal(sql).contains(said), "{}", refusal(sql));
    }
    let mut long = "\\restrict ".to_owned();
    long.push_str(&"a".repeat(10_000));
    assert!(refusal(&long).contains("no key"));
}

#[test]
fn another_copy_is_refused_by_name() {
    for (sql, said) in [
        ("COPY t FROM '/etc/passwd';", "`COPY ... FROM a file`"),
        ("copy t (a, \"from\") from program 'ls';", "`COPY ... FROM PROGRAM`"),
        ("COPY t FROM stdin WITH (FORMAT csv);", "`COPY ... FROM stdin with options`"),
        ("COPY t TO stdout;", "`COPY ... TO`"),
        ("COPY (SELECT a FROM 't') TO PROGRAM 'ls';", "`COPY ... TO`"),
        ("COPY t /* */ FROM stdin;", "`COPY ... FROM stdin with options`"),
        ("COPY;", "`COPY`"),
        ("COPY t FROM stdin; SELECT 1;", "more in the line"),
        ("COPY t FROM stdin;\r\n", "carriage return"),
    ] {
        assert!(refusal(sql).contains(said), "{sql}: {}", refusal(sql));
    }
}

#[test]
fn what_is_no_plain_dump_is_told() {
    for (bytes, said) in [
        (&b""[..], "the input is empty"),
        (b"PGDMP\x01\x10\x00", "custom format"),
        (b"toc.dat\0", "tar format"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict a\n", "pg_dumpall"),
        (b"CREATE TABLE t ();\n", "it begins with \"CREATE TABLE t (\""),
        (b"-- nothing but comments\n", "it begins with"),
        (b"pg_dump: error: x", "messages of a pg_dump"),
    ] {
        let error = error_of(bytes);
        assert!(matches!(error.kind(), ErrorKind::NotAScript(_)), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let archive = crate::example::archive().into_inner();
    assert!(error_of(&archive).to_string().contains("custom format"));
}

#[test]
fn damage_is_told_with_its_line() {
    let text = String::from_utf8(script()).unwrap();
    let cases = [
        (text.replace('\n', "\r\n"), "CR LF", 1),
        (text.replace("a\\ttab\n", "a\\ttab\r\n"), "CR LF", 29),
        (text.replace("a\\ttab", "a\0"), "byte 0", 29),
        // What comes first, whether rows are wanted whole or in parts.
        (text.replace("a\\ttab", "a\rb\0"), "CR LF", 29),
        (text.replace("a\\ttab", "a\ttab"), "2 rows of 2 columns have 5 fields", 31),
        (text.replace("--\n\n\\unrestrict", "--\n\nSELECT 1;\n\\unrestrict"), "more behind its closing line", 38),
        (format!("{text}x"), "more behind its closing line", 40),
        (text.replace("'a;b'", "'a;b"), "a text in single quotes, in the statement that begins in line 18", 40),
    ];
    for (damaged, said, line) in cases {
        let error = error_of(damaged.as_bytes());
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(error.line(), Some(line), "{error}");
        let before = damaged.bytes().take(error.offset() as usize).filter(|byte| *byte == b'\n').count();
        assert_eq!(before as u64 + 1, line, "the offset is in the line: {error}");
    }
}

#[test]
fn an_encoding_with_ambiguous_bytes_is_refused() {
    let error = error_of(&around("SET client_encoding = 'sjis';"));
    assert!(error.to_string().contains("--encoding=UTF8"), "{error}");
}

#[test]
fn limits_hold() {
    let limits = |f: fn(&mut Limits)| {
        let mut limits = Limits::default();
        f(&mut limits);
        limits
    };
    let long = format!("SELECT '{}';\nCOPY t FROM stdin;\n{}\n\\.\n", "x".repeat(1_000_000), "y".repeat(2_000_000));
    let script = around(&long);
    let run = |limits| parts_of(ScriptReader::with_limits(&script[..], limits)).1.map_err(|e| e.to_string());
    assert_eq!(run(Limits::default()), Ok(()));
    assert!(run(limits(|l| l.statement_bytes = 999_999)).unwrap_err().contains("`Limits::statement_bytes`"));
    assert!(run(limits(|l| l.row_bytes = 1_000_000)).unwrap_err().contains("`Limits::row_bytes`"));
    assert!(run(limits(|l| l.toc_bytes = 10)).unwrap_err().contains("`Limits::toc_bytes`"));
}

#[test]
fn a_script_that_is_cut_anywhere_is_refused() {
    let script = script();
    assert_eq!(parts_of(ScriptReader::new(&script[..])).1.map_err(|e| e.to_string()), Ok(()));
    for length in 0..script.len() {
        let error = error_of(&script[..length]);
        assert!(matches!(error.kind(), ErrorKind::Truncated(_)) || length == 0, "{length}: {error}");
        assert_eq!(error.offset(), length as u64, "{error}");
    }
}

proptest! {
    #[test]
    fn it_makes_no_difference_in_which_pieces_a_script_comes(
        pieces in prop::collection::vec(prop::sample::select(&[
            "SELECT ", "'", "''", "\"", "E'", "\\", "\\.", "\n", ";", ";\n", "--", "/*", "*/", "$", "$$", "$a$", "a", "1",
            "(", ")", " ", "\t", "COPY t FROM stdin;\n", "COPY t (a) FROM stdin;\n", "\\.\n", "\n\\.\n", "x\n", "\r", "\0",
            "CREATE FUNCTION f() ", "BEGIN ATOMIC ", "CASE ", "END", "SET standard_conforming_strings = off;",
            "\\restrict a\n", "\\unrestrict a\n", "-", "/", "*", "é",
            "--\n-- PostgreSQL database dump complete\n--\n\n",
        ][..]), 0..30),
        step in 1_usize..20,
    ) {
        let script = around(&pieces.concat());
        let limits = || Limits { statement_bytes: 200, ..Limits::default() };
        let (whole, end) = parts_of(ScriptReader::with_limits(&script[..], limits()));
        let (slow, slow_end) = parts_of(ScriptReader::with_limits(Slowly(&script, step), limits()));
        prop_assert_eq!(whole, slow);
        prop_assert_eq!(end.map_err(|e| e.to_string()), slow_end.map_err(|e| e.to_string()));
    }

    #[test]
    fn it_makes_no_difference_in_which_pieces_something_else_comes(
        // In the middle of the first line that is expected, or of something else.
        length in 0..40_usize,
        text in prop_oneof!["\\PC{0,80}", "[\n\r\0\\-;a]{0,80}"],
        step in 1_usize..20,
    ) {
        let script = [&around("")[..length], text.as_bytes()].concat();
        let slowly = parts_of(ScriptReader::new(Slowly(&script, step))).1;
        prop_assert_eq!(error_of(&script).to_string(), slowly.unwrap_err().to_string());
    }

    #[test]
    fn what_begins_otherwise_is_refused(text in "\\PC{0,200}") {
        let error = error_of(text.as_bytes());
        prop_assert!(matches!(error.kind(), ErrorKind::NotAScript(_) | ErrorKind::Truncated(_)), "{}", error);
    }
}
