//! Telling what a file is that is not an archive, since "bad magic" helps nobody
//! at 3 a.m.

use std::io::Read;

use crate::error::{Error, ErrorKind, Result};
use crate::header::{Format, MAGIC};
use crate::input::Input;

/// What people hand over by mistake, by first bytes.
const LOOKALIKES: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "it is compressed with gzip as a whole; unpack it first with `gunzip`"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd as a whole; unpack it first with `zstd -d`"),
    (b"\x04\x22\x4d\x18", "it is compressed with lz4 as a whole; unpack it first with `lz4 -d`"),
    (b"\xfd7zXZ\x00", "it is compressed with xz as a whole; unpack it first with `xz -d`"),
    (b"BZh", "it is compressed with bzip2 as a whole; unpack it first with `bunzip2`"),
    (b"age-encryption.org/", "it is encrypted with age; decrypt it first"),
    (
        b"\xff\xfeP\x00G\x00",
        "it was rewritten as UTF-16, as the `>` of some versions of PowerShell does; the data is lost",
    ),
    (b"--\n-- PostgreSQL database", "it is a plain SQL dump; that is for psql"),
    (b"\\restrict ", "it is a plain SQL dump; that is for psql"),
    (b"apiVersion:", "it is a Kubernetes resource in YAML"),
    (b"{", "it looks like JSON"),
    (b"<", "it looks like HTML or XML, perhaps an error page that was saved instead of the dump"),
    (b"pg_dump: ", "it holds the messages of a pg_dump that failed"),
    (
        b"Defaulted container ",
        "it begins with a message of `kubectl exec` or `oc exec`; behind that may be an archive that can be recovered",
    ),
];

/// The name of the first member of a tar.
pub(crate) const TAR: &[u8] = b"toc.dat\0";

/// Takes the first five bytes of the table of contents in a tar.
pub(crate) fn expect_magic<R: Read>(input: &mut Input<R>) -> Result<()> {
    let offset = input.position();
    for &expected in MAGIC {
        if input.byte("within its first bytes")? != expected {
            let text = "its first file `toc.dat` is not a table of contents of pg_dump";
            return Err(Error::new(ErrorKind::NotAnArchive(text.into()), offset));
        }
    }
    Ok(())
}

/// Takes the bytes that an archive starts with, or says what this is instead:
/// five of the custom format, or eight of the first name in a tar.
pub(crate) fn recognise<R: Read>(input: &mut Input<R>) -> Result<Format> {
    let mut found = Vec::with_capacity(64);
    // A pipe may deliver the first bytes one by one.
    while [MAGIC, TAR].iter().any(|start| start.starts_with(&found) && found.len() < start.len()) {
        match input.next_byte()? {
            Some(byte) => found.push(byte),
            None => break,
        }
    }
    if found == MAGIC {
        return Ok(Format::Custom);
    }
    if found == TAR {
        return Ok(Format::Tar);
    }
    if found.is_empty() {
        return Err(Error::new(ErrorKind::NotAnArchive("the input is empty".into()), 0));
    }
    if MAGIC.starts_with(&found) || TAR.starts_with(&found) {
        return Err(Error::truncated("within its first bytes", input.position()));
    }
    let rest = input.peek()?;
    found.extend_from_slice(&rest[..rest.len().min(59)]);
    // One character alone tells nothing, unless what follows is text as well.
    let looks_like = |start: &[u8]| found.starts_with(start) && (start.len() > 1 || is_text(&found));
    let text = match LOOKALIKES.iter().find(|(start, _)| looks_like(start)) {
        Some((_, what)) => (*what).to_owned(),
        None => format!("it begins with \"{}\" instead of \"PGDMP\"", found[..found.len().min(16)].escape_ascii()),
    };
    Err(Error::new(ErrorKind::NotAnArchive(text), 0))
}

/// What a file seems to be, by its first bytes, that is no plain dump.
pub(crate) fn instead_of_script(begin: &[u8]) -> String {
    const ARCHIVES: &[(&[u8], &str)] = &[
        (MAGIC, "it is an archive in the custom format"),
        (TAR, "it is an archive in the tar format"),
        (b"--\n-- PostgreSQL database cluster dump", "it is a dump of all databases, of pg_dumpall"),
    ];
    if begin.is_empty() {
        return "the input is empty".into();
    }
    let looks_like = |start: &[u8]| begin.starts_with(start) && (start.len() > 1 || is_text(begin));
    let lookalikes = LOOKALIKES.iter().filter(|(_, what)| !what.contains("plain SQL"));
    match ARCHIVES.iter().chain(lookalikes).find(|(start, _)| looks_like(start)) {
        Some((_, what)) => (*what).to_owned(),
        None => format!("it begins with \"{}\"", begin[..begin.len().min(16)].escape_ascii()),
    }
}

/// Whether there is nothing in it that no text has. It may end within a character.
fn is_text(begin: &[u8]) -> bool {
    let whole = match std::str::from_utf8(begin) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&begin[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !whole.chars().any(|c| c.is_control() && !c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lookalike_is_told_by_name() {
        for (start, what) in LOOKALIKES {
            let error = recognise(&mut Input::new(*start)).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn one_character_alone_does_not_make_a_lookalike() {
        let said = |bytes: &[u8]| recognise(&mut Input::new(bytes)).unwrap_err().to_string();
        assert!(said("{\n\t\"größe\": 1 \u{fc}".as_bytes()).contains("JSON"));
        assert!(said(b"{\"g\xc3").contains("JSON"), "cut within a character");
        for bytes in [&b"{\x9f\x12\xee\x03"[..], b"{\x00\x00\x00", b"<\x1b[0m\x07"] {
            assert!(said(bytes).contains("instead of \"PGDMP\""), "{}", said(bytes));
        }
    }

    #[test]
    fn an_empty_input_and_a_cut_one_are_not_the_same() {
        assert!(matches!(recognise(&mut Input::new(&b""[..])).unwrap_err().kind(), ErrorKind::NotAnArchive(_)));
        assert!(matches!(recognise(&mut Input::new(&b"PGD"[..])).unwrap_err().kind(), ErrorKind::Truncated(_)));
    }
}
