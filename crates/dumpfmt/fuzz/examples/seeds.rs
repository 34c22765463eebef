//! Makes the seeds of the fuzz targets that no pg_dump writes anew: every version of the format, odd sizes of numbers,
//! and COPY text. They are in the tree; run this when there is something to add to them.
//!
//! usage: `cargo run --example seeds`, in the folder of the fuzz targets

use std::fs;
use std::io::{self, Cursor, Write};
use std::path::Path;

use dumpfmt::example::{Builder, tar};
use dumpfmt::{
    ArchiveReader, ArchiveWriter, CompressionSpecification, Header, LocalTime, Rewrite, Section, Toc, TocEntry,
    WriteOptions,
};

const COPY: Option<&str> = Some("COPY public.t (id, name) FROM stdin;\n");

fn builder(minor: u8) -> Builder {
    let mut builder = Builder::new(minor, 0);
    builder
        .entry(9, 1, false, [Some("ENCODING"), Some("ENCODING"), Some("SET client_encoding = 'UTF8';\n"), None, None])
        .entry(2, 2, false, [Some("t"), Some("TABLE"), Some("CREATE TABLE t ();\n"), Some("DROP TABLE t;\n"), None])
        .entry(3, 3, true, [Some("t"), Some("TABLE DATA"), Some(""), None, COPY])
        .depends_on(&["2"])
        .entry(5, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None])
        .entry(7, 4, false, [Some("i"), Some("INDEX"), Some("CREATE INDEX i;\n"), None, None])
        .depends_on(&["2", "77"])
        .data(3, &[b"1\to", b"ne\n2\t\\N\n", b"\\.\n\n\n"])
        .large_objects(5, &[(7, &[b"large", b"object"]), (u32::MAX, &[])]);
    builder
}

fn main() -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    archives(&seeds.join("archives"))?;
    rows(&seeds.join("rows"))?;
    plain(&seeds.join("plain"))
}

/// Statements, of which the target makes a plain dump.
fn plain(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let save = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes);
    save("script", &dumpfmt::example::script())?;
    save("texts", b"SELECT 'a''b;', E'a\\';' '\\', \"x;\", $$;$$, $a$;$$;$a$, U&'\\0061', a$b, $1, -1 / 2;")?;
    save("continued", b"SELECT E'a'\n-- x\n'b\\';';")?;
    save("comments", b"/* a /* ; */ */ SELECT 1 -- ;\n; -- x\n;;")?;
    save("body", b"CREATE OR REPLACE FUNCTION f() RETURNS begin BEGIN ATOMIC SELECT CASE 1 WHEN 2 THEN 3 END; END;")?;
    save("rule", b"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);")?;
    save("rows", b"COPY public.t (a, b) FROM stdin;\n1\t\\.\n\\N\t\n\\.\n\n\nCOPY t FROM stdin;\n\\.\n")?;
    save("inserts", b"INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2);\nINSERT INTO \"U\" VALUES (';');")?;
    save("long-command", format!("SELECT 1 \\{}", "x".repeat(100)).as_bytes())?;
    save("commands", b"\\restrict a\nSELECT 1;\n\\unrestrict a\n\\connect x\n")
}

fn archives(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let save = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes);
    for minor in 4..=16 {
        save(&format!("version-{minor}"), &builder(minor).build())?;
    }
    save("positions", &builder(16).build_seekable())?;
    save("positions-old", &builder(6).build_seekable())?;
    save("redirected", &builder(16).build_redirected())?;
    save("tar", &builder(16).build_tar())?;
    save("tar-old", &builder(10).build_tar())?;
    save("int-1", &builder(16).int_size(1).build())?;
    save("int-8", &builder(16).int_size(8).build())?;
    for compression in ["gzip", "lz4", "zstd"] {
        let specification: CompressionSpecification = compression.parse().map_err(io::Error::other)?;
        let mut source = ArchiveReader::new(Cursor::new(builder(16).build()))?;
        let rewrite = Rewrite::new(WriteOptions::new(specification));
        let (archive, _) = rewrite.to_file(&mut source, Cursor::new(Vec::new()), |_| {})?;
        save(&format!("written-{compression}"), &archive.into_inner())?;
        save(&format!("folder-{compression}"), &tar_of_folder(&rewrite)?)?;
    }
    let mut twice = Builder::new(16, 0);
    for dump_id in 1..=2 {
        twice.entry(dump_id, 3, true, [Some("t"), Some("TABLE DATA"), None, None, COPY]);
    }
    const ROWS: &[&[u8]] = &[b"1\n\\.\n\n\n"];
    save("data-twice", &twice.data(1, ROWS).data(1, &[b"\\.\n\n\n"]).data(2, ROWS).build())?;
    save("line-breaks", &with_line_breaks()?)
}

/// The files of an archive in the directory format, for the target that puts them into a folder.
fn tar_of_folder(rewrite: &Rewrite<'_>) -> io::Result<Vec<u8>> {
    let folder = std::env::temp_dir().join(format!("dumpfmt-seeds-{}", std::process::id()));
    let mut source = ArchiveReader::new(Cursor::new(builder(16).build()))?;
    rewrite.to_directory(&mut source, &folder, |_| {})?;
    let mut files = vec![("toc.dat".to_owned(), fs::read(folder.join("toc.dat"))?)];
    for file in fs::read_dir(&folder)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        if name != "toc.dat" {
            files.push((name, fs::read(file.path())?));
        }
    }
    files[1..].sort();
    fs::remove_dir_all(&folder)?;
    Ok(tar(&files))
}

/// Each text has a line that must not become one of a listing or of a script.
fn with_line_breaks() -> Result<Vec<u8>, dumpfmt::Error> {
    let mut header = Header::new("store\n7; no entry", LocalTime::new(2026, 11, 20, 3, 0, 0));
    header.server_version = Some(b"15\n7; no entry\r\n\\! echo".as_slice().into());
    header.dump_version = header.server_version.clone();
    let entry = TocEntry::builder(1, "TABLE\n7; no entry\n\\! echo", "t\n7; no entry\n\\! echo")
        .namespace(Some(b"s\"\n7; no entry\n\\! echo"))
        .owner("o'\n7; no entry\n\\! echo")
        .definition("SELECT 1;\n")
        .section(Section::PreData);
    let options = WriteOptions::new(CompressionSpecification::NONE);
    ArchiveWriter::to_pipe(Vec::new(), &header, Toc::new(vec![entry.build()?])?, &options)?.finish()
}

/// See `rows` for the first three bytes.
fn rows(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, choice, text) in [
        ("plain", [0, 12, 0], &b"1\tone\n2\t\\N\n\\.\n\n\n"[..]),
        ("chunks", [0, 0, 0], b"1\tone\n2\t\\N\n\\.\n\n\n"),
        ("escapes", [0, 12, 0], b"\\b\\f\\n\\r\\t\\v\\\\\\101\\x41\\7\\q\n\\\\.\n\\.\n\n\n"),
        ("open", [0, 12, 0], b"1\tone\n2\ttw"),
        ("nothing", [0, 12, 0], b"\\.\n\n\n"),
        ("no-columns", [0, 12, 0], b"\n\n\n\\.\n\n\n"),
        ("after-end", [0, 12, 0], b"1\n\\.\n2\n"),
        ("many-rows", [255, 15, 10], b"\t\t\n12345\tsome text\t\\N\n"),
        ("long-row", [255, 17, 30], b"first\nsecond\tlong "),
        ("many-fields", [255, 12, 0], b"\t\t\t\t\t\t\t\n"),
    ] {
        let mut file = fs::File::create(folder.join(name))?;
        file.write_all(&choice)?;
        file.write_all(text)?;
    }
    Ok(())
}
