//! A small archive, built in memory, for the examples and the tests of this crate.

use std::io::Cursor;

/// Builds an archive byte by byte. Only what examples and tests need: it is no
/// substitute for a writer.
#[derive(Debug, Clone)]
pub struct Builder {
    minor: u8,
    compression: u8,
    entries: Vec<Vec<u8>>,
    blocks: Vec<u8>,
    /// Dump ID and begin within `blocks` of each.
    starts: Vec<(i32, usize)>,
}

impl Builder {
    /// An archive of version 1.`minor`; `compression` is 0 none, 1 gzip, 2 lz4, 3 zstd.
    pub fn new(minor: u8, compression: u8) -> Self {
        Self { minor, compression, entries: Vec::new(), blocks: Vec::new(), starts: Vec::new() }
    }

    /// Adds an entry whose texts are in the order tag, type, definition, drop
    /// statement, COPY statement; its namespace is `public`.
    pub fn entry(&mut self, dump_id: i32, section: i32, had_dumper: bool, texts: [Option<&str>; 5]) -> &mut Self {
        let mut out = Vec::new();
        int(&mut out, dump_id);
        int(&mut out, i32::from(had_dumper));
        text(&mut out, Some(b"0"));
        text(&mut out, Some(b"0"));
        for value in &texts[..2] {
            text(&mut out, value.map(str::as_bytes));
        }
        int(&mut out, section);
        for value in &texts[2..] {
            text(&mut out, value.map(str::as_bytes));
        }
        text(&mut out, Some(b"public"));
        text(&mut out, Some(b""));
        if self.minor >= 14 {
            text(&mut out, Some(b"heap"));
        }
        if self.minor >= 16 {
            int(&mut out, i32::from(b'r'));
        }
        text(&mut out, Some(b"owner"));
        text(&mut out, Some(b"false"));
        text(&mut out, None);
        out.push(if had_dumper { 1 } else { 3 });
        out.extend_from_slice(&[0; 8]);
        self.entries.push(out);
        self
    }

    /// Adds a block of COPY text, in the given chunks as they are.
    pub fn data(&mut self, dump_id: i32, chunks: &[&[u8]]) -> &mut Self {
        self.block(1, dump_id);
        self.chunks(chunks);
        self
    }

    /// Adds a block of large objects, each an OID and its chunks.
    pub fn large_objects(&mut self, dump_id: i32, objects: &[(u32, &[&[u8]])]) -> &mut Self {
        self.block(3, dump_id);
        for (oid, chunks) in objects {
            int(&mut self.blocks, *oid as i32);
            self.chunks(chunks);
        }
        int(&mut self.blocks, 0);
        self
    }

    fn block(&mut self, kind: u8, dump_id: i32) {
        self.starts.push((dump_id, self.blocks.len()));
        self.blocks.push(kind);
        int(&mut self.blocks, dump_id);
    }

    fn chunks(&mut self, chunks: &[&[u8]]) {
        for chunk in chunks {
            text(&mut self.blocks, Some(chunk));
        }
        int(&mut self.blocks, 0);
    }

    /// The archive.
    pub fn build(&self) -> Vec<u8> {
        let mut out = b"PGDMP".to_vec();
        out.extend_from_slice(&[1, self.minor, 0, 4, 8, 1]);
        if self.minor >= 15 {
            out.push(self.compression);
        } else {
            int(&mut out, if self.compression == 0 { 0 } else { -1 });
        }
        for value in [7, 5, 23, 20, 10, 126, 0] {
            int(&mut out, value);
        }
        for value in ["store", "15.18", "15.18"] {
            text(&mut out, Some(value.as_bytes()));
        }
        self.contents(&mut out);
        out.extend_from_slice(&self.blocks);
        out
    }

    /// The archive as `pg_dump > file` writes it from 16 on: behind the blocks is
    /// the table of contents again, now with the positions.
    pub fn build_redirected(&self) -> Vec<u8> {
        const FLAG_AND_POSITION: usize = 9;
        let mut out = self.build();
        let data_start = out.len() - self.blocks.len();
        let mut again = self.clone();
        for entry in &mut again.entries {
            let dump_id = i32::from_le_bytes([entry[1], entry[2], entry[3], entry[4]]);
            if let Some((_, start)) = self.starts.iter().find(|(id, _)| *id == dump_id) {
                entry.truncate(entry.len() - FLAG_AND_POSITION);
                entry.push(2);
                entry.extend_from_slice(&((data_start + start) as u64).to_le_bytes());
            }
        }
        again.contents(&mut out);
        out
    }

    fn contents(&self, out: &mut Vec<u8>) {
        int(out, self.entries.len() as i32);
        out.extend(self.entries.iter().flatten());
    }
}

/// Writes an `Int` of four bytes.
fn int(out: &mut Vec<u8>, value: i32) {
    out.push(u8::from(value < 0));
    out.extend_from_slice(&value.unsigned_abs().to_le_bytes());
}

fn text(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => int(out, -1),
        Some(value) => {
            int(out, value.len() as i32);
            out.extend_from_slice(value);
        }
    }
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
