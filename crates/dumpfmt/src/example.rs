//! Small archives, built in memory, for the examples and the tests of this crate.

use std::io::Cursor;

/// Builds an archive byte by byte. Only what examples and tests need, also what
/// no pg_dump would write: it is no substitute for a writer.
#[derive(Debug, Clone)]
pub struct Builder {
    minor: u8,
    compression: u8,
    int_size: usize,
    entries: Vec<Entry>,
    blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
struct Entry {
    dump_id: i32,
    section: i32,
    had_dumper: bool,
    texts: [Option<String>; 5],
    dependencies: Vec<String>,
    file: String,
}

#[derive(Debug, Clone)]
enum Block {
    Data(i32, Vec<Vec<u8>>),
    LargeObjects(i32, Vec<(u32, Vec<Vec<u8>>)>),
}

/// Where an entry's data is.
#[derive(Clone, Copy)]
enum Place<'a> {
    Unknown,
    /// Dump IDs and positions.
    At(&'a [(i32, u64)]),
    InFiles,
}

impl Builder {
    /// An archive of version 1.`minor`; `compression` is 0 none, 1 gzip, 2 lz4, 3 zstd.
    pub fn new(minor: u8, compression: u8) -> Self {
        Self { minor, compression, int_size: 4, entries: Vec::new(), blocks: Vec::new() }
    }

    /// Numbers of so many bytes, instead of 4.
    pub fn int_size(&mut self, bytes: u8) -> &mut Self {
        self.int_size = bytes.into();
        self
    }

    /// Adds an entry whose texts are in the order tag, type, definition, drop
    /// statement, COPY statement; its namespace is `public`.
    pub fn entry(&mut self, dump_id: i32, section: i32, had_dumper: bool, texts: [Option<&str>; 5]) -> &mut Self {
        let file = match texts[1] {
            _ if !had_dumper => String::new(),
            Some("BLOBS") if self.minor >= 16 => format!("blobs_{dump_id}.toc"),
            Some("BLOBS") => "blobs.toc".into(),
            _ => format!("{dump_id}.dat"),
        };
        let texts = texts.map(|text| text.map(str::to_owned));
        self.entries.push(Entry { dump_id, section, had_dumper, texts, dependencies: Vec::new(), file });
        self
    }

    /// Lets the entry that was added last depend on these.
    pub fn depends_on(&mut self, dependencies: &[&str]) -> &mut Self {
        let last = self.entries.last_mut().expect("there is an entry");
        last.dependencies = dependencies.iter().map(|&text| text.to_owned()).collect();
        self
    }

    /// Gives the entry that was added last another file name, for the directory and tar formats.
    pub fn in_file(&mut self, file: &str) -> &mut Self {
        self.entries.last_mut().expect("there is an entry").file = file.to_owned();
        self
    }

    /// Adds a block of COPY text, in the given chunks as they are.
    pub fn data(&mut self, dump_id: i32, chunks: &[&[u8]]) -> &mut Self {
        self.blocks.push(Block::Data(dump_id, owned(chunks)));
        self
    }

    /// Adds a block of large objects, each an OID and its chunks.
    pub fn large_objects(&mut self, dump_id: i32, objects: &[(u32, &[&[u8]])]) -> &mut Self {
        let objects = objects.iter().map(|(oid, chunks)| (*oid, owned(chunks))).collect();
        self.blocks.push(Block::LargeObjects(dump_id, objects));
        self
    }

    /// The archive in the custom format.
    pub fn build(&self) -> Vec<u8> {
        let mut out = self.header(1);
        self.contents(&mut out, Place::Unknown);
        self.write_blocks(&mut out);
        out
    }

    /// As [`build`](Self::build), with the position of each block.
    pub fn build_seekable(&self) -> Vec<u8> {
        let mut starts = Vec::new();
        // The positions have a fixed size: the second time they are right.
        for _ in 0..2 {
            let mut out = self.header(1);
            self.contents(&mut out, Place::At(&starts));
            starts = self.write_blocks(&mut out);
        }
        let mut out = self.header(1);
        self.contents(&mut out, Place::At(&starts));
        self.write_blocks(&mut out);
        out
    }

    /// The archive as `pg_dump > file` writes it from 16 on: behind the blocks is
    /// the table of contents again, now with the positions.
    pub fn build_redirected(&self) -> Vec<u8> {
        let mut out = self.header(1);
        self.contents(&mut out, Place::Unknown);
        let starts = self.write_blocks(&mut out);
        self.contents(&mut out, Place::At(&starts));
        out
    }

    /// The names and contents of the files in the directory format, in the order
    /// of the members of a tar. The chunks follow each other as they are.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut toc = self.header(3);
        self.contents(&mut toc, Place::InFiles);
        let mut files = vec![("toc.dat".to_owned(), toc)];
        for block in &self.blocks {
            match block {
                Block::Data(dump_id, chunks) => files.push((self.file_of(*dump_id), chunks.concat())),
                Block::LargeObjects(dump_id, objects) => {
                    let mut list = String::new();
                    for (oid, chunks) in objects {
                        list.push_str(&format!("{oid} blob_{oid}.dat\n"));
                        files.push((format!("blob_{oid}.dat"), chunks.concat()));
                    }
                    files.push((self.file_of(*dump_id), list.into_bytes()));
                }
            }
        }
        files
    }

    /// The archive in the tar format.
    pub fn build_tar(&self) -> Vec<u8> {
        let mut files = self.files();
        files.push(("restore.sql".into(), b"-- not read\n".to_vec()));
        tar(&files)
    }

    fn file_of(&self, dump_id: i32) -> String {
        let entry = self.entries.iter().find(|entry| entry.dump_id == dump_id);
        entry.map_or_else(|| format!("{dump_id}.dat"), |entry| entry.file.clone())
    }

    fn header(&self, format: u8) -> Vec<u8> {
        let mut out = b"PGDMP".to_vec();
        out.extend_from_slice(&[1, self.minor, 0, self.int_size as u8]);
        if self.minor >= 7 {
            out.push(8);
        }
        out.push(format);
        if self.minor >= 15 {
            out.push(self.compression);
        } else {
            self.int(&mut out, if self.compression == 0 { 0 } else { -1 });
        }
        for value in [7, 5, 23, 20, 10, 126, 0] {
            self.int(&mut out, value);
        }
        self.text(&mut out, Some(b"store"));
        if self.minor >= 10 {
            self.text(&mut out, Some(b"15.18"));
            self.text(&mut out, Some(b"15.18"));
        }
        out
    }

    fn contents(&self, out: &mut Vec<u8>, place: Place<'_>) {
        self.int(out, self.entries.len() as i64);
        for entry in &self.entries {
            self.write_entry(out, entry, place);
        }
    }

    fn write_entry(&self, out: &mut Vec<u8>, entry: &Entry, place: Place<'_>) {
        self.int(out, entry.dump_id.into());
        self.int(out, entry.had_dumper.into());
        if self.minor >= 8 {
            self.text(out, Some(b"1259"));
        }
        self.text(out, Some(b"0"));
        let texts = entry.texts.each_ref().map(|text| text.as_ref().map(String::as_bytes));
        self.text(out, texts[0]);
        self.text(out, texts[1]);
        if self.minor >= 11 {
            self.int(out, entry.section.into());
        }
        for text in &texts[2..] {
            self.text(out, *text);
        }
        if self.minor >= 6 {
            self.text(out, Some(b"public"));
        }
        if self.minor >= 10 {
            self.text(out, Some(b""));
        }
        if self.minor >= 14 {
            self.text(out, Some(b"heap"));
        }
        if self.minor >= 16 {
            self.int(out, b'r'.into());
        }
        self.text(out, Some(b"owner"));
        if self.minor >= 9 {
            self.text(out, Some(b"false"));
        }
        if self.minor >= 5 {
            for dependency in &entry.dependencies {
                self.text(out, Some(dependency.as_bytes()));
            }
            self.text(out, None);
        }
        let position = match place {
            Place::InFiles => return self.text(out, Some(entry.file.as_bytes())),
            Place::Unknown => None,
            Place::At(starts) => starts.iter().find(|(id, _)| *id == entry.dump_id).map(|(_, position)| *position),
        };
        if self.minor >= 7 {
            out.push(if position.is_some() { 2 } else { 1 + 2 * u8::from(!entry.had_dumper) });
            out.extend_from_slice(&position.unwrap_or(0).to_le_bytes());
        } else {
            let missing = if entry.had_dumper { -1 } else { 0 };
            self.int(out, position.map_or(missing, |position| position as i64));
            self.int(out, 0);
        }
    }

    /// Returns the dump ID and the position of each.
    fn write_blocks(&self, out: &mut Vec<u8>) -> Vec<(i32, u64)> {
        let mut starts = Vec::new();
        for block in &self.blocks {
            let (Block::Data(dump_id, _) | Block::LargeObjects(dump_id, _)) = block;
            starts.push((*dump_id, out.len() as u64));
            out.push(if matches!(block, Block::Data(..)) { 1 } else { 3 });
            self.int(out, (*dump_id).into());
            match block {
                Block::Data(_, chunks) => self.chunks(out, chunks),
                Block::LargeObjects(_, objects) => {
                    for (oid, chunks) in objects {
                        self.int(out, (*oid as i32).into());
                        self.chunks(out, chunks);
                    }
                    self.int(out, 0);
                }
            }
        }
        starts
    }

    fn chunks(&self, out: &mut Vec<u8>, chunks: &[Vec<u8>]) {
        for chunk in chunks {
            self.text(out, Some(chunk));
        }
        self.int(out, 0);
    }

    /// Writes an `Int`.
    fn int(&self, out: &mut Vec<u8>, value: i64) {
        out.push(u8::from(value < 0));
        let mut bytes = value.unsigned_abs().to_le_bytes().to_vec();
        bytes.resize(self.int_size, 0);
        out.extend_from_slice(&bytes);
    }

    fn text(&self, out: &mut Vec<u8>, value: Option<&[u8]>) {
        match value {
            None => self.int(out, -1),
            Some(value) => {
                self.int(out, value.len() as i64);
                out.extend_from_slice(value);
            }
        }
    }
}

fn owned(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    chunks.iter().map(|chunk| chunk.to_vec()).collect()
}

/// A tar file as pg_dump writes it.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        out.extend_from_slice(&tar_header(name, content.len() as u64));
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// The header of a member of a tar.
pub fn tar_header(name: &str, length: u64) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000600 ");
    put(108, b"0004000 ");
    put(116, b"0002000 ");
    if length < 1 << 33 {
        put(124, format!("{length:011o} ").as_bytes());
    } else {
        put(124, &[&[0x80, 0, 0, 0][..], &length.to_be_bytes()].concat());
    }
    put(136, b"15000000000 ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    seal_tar_header(&mut block);
    block
}

/// Writes the checksum into the header of a member of a tar.
pub fn seal_tar_header(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A plain dump of one table with two rows.
pub fn script() -> Vec<u8> {
    let text = "--\n-- PostgreSQL database dump\n--\n\n\\restrict Key1\n\n\
        -- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)\n-- Dumped by pg_dump version 17.6\n\n\
        SET statement_timeout = 0;\nSET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n\n\
        --\n-- Name: tenant; Type: TABLE; Schema: public; Owner: store\n--\n\n\
        CREATE TABLE public.tenant (\n    id integer NOT NULL,\n    name text DEFAULT 'a;b'::text\n);\n\n\n\
        --\n-- Data for Name: tenant; Type: TABLE DATA; Schema: public; Owner: store\n--\n\n\
        COPY public.tenant (id, name) FROM stdin;\n1\ta\\ttab\n2\t\\N\n\\.\n\n\n\
        --\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict Key1\n\n";
    text.into()
}

/// An archive of one table with one row.
pub fn archive() -> Cursor<Vec<u8>> {
    let mut builder = Builder::new(14, 0);
    let copy = "COPY public.tenant (tenant_id, name) FROM stdin;\n";
    builder
        .entry(1, 1, false, [Some("ENCODING"), Some("ENCODING"), Some("SET client_encoding = 'UTF8';\n"), None, None])
        .entry(2, 3, true, [Some("tenant"), Some("TABLE DATA"), None, None, Some(copy)])
        .data(2, &[b"e10001eb-6272-453a-bb43-3dcf0e765892\ta\\ttab\n", b"\\.\n\n\n"]);
    Cursor::new(builder.build())
}
