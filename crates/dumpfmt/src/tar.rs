//! The tar format (`pg_dump -Ft`): members in the order that pg_dump wrote them.
//!
//! First `toc.dat`; then `NNNN.dat` for each entry with data, or for large objects
//! a `blob_OID.dat` each and then their list; at last `restore.sql`, which nobody
//! needs. Nothing is compressed. The source of these rules is
//! `src/bin/pg_dump/pg_backup_tar.c`.
//!
//! Only what pg_dump writes is taken: regular files with a name of at most 99
//! bytes. A member of another kind, or with another name, is an error.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use flate2::Crc;

use crate::body::{Body, BodyState};
use crate::error::{Error, ErrorKind, Result};
use crate::header::Header;
use crate::input::Input;
use crate::toc::{Toc, TocEntry};
use crate::version::Version;

const SCRIPT: &[u8] = b"restore.sql";
const BLOCK_BYTES: usize = 512;
/// Programs other than pg_dump fill up to a multiple of this with zeros.
const RECORD_BYTES: u64 = 10240;
const PLACE: &str = "within the header of a tar member";

/// What is to be known of the table of contents to make sense of the members.
#[derive(Debug)]
pub(crate) struct Tar {
    /// By file name, the entries that have one.
    data: HashMap<Box<[u8]>, i32>,
    /// The entries that stand for large objects, in the order of the table of
    /// contents, which is that of the members.
    groups: Vec<i32>,
    /// Whether the name of a list has the dump ID in it.
    numbered_lists: bool,
}

/// What a member begins.
pub(crate) enum Found {
    /// The data of an entry; so many bytes.
    Data(u64),
    LargeObjects(ObjectMembers),
}

impl Tar {
    pub(crate) fn new(header: &Header, toc: &Toc) -> Self {
        let with_data = || toc.entries().iter().filter(|entry| entry.has_data());
        let groups = with_data().filter(|entry| entry.is_large_objects());
        Self {
            data: with_data()
                .filter(|entry| !entry.is_large_objects())
                .map(|entry| (entry.file_name().unwrap_or_default().into(), entry.dump_id()))
                .collect(),
            groups: groups.map(TocEntry::dump_id).collect(),
            numbered_lists: header.version >= Version::LARGE_OBJECT_GROUPS,
        }
    }

    /// What begins at the next member, and of which entry; `None` at the end of
    /// the archive. `groups` blocks of large objects came before.
    pub(crate) fn next_block<R: Read>(&self, input: &mut Input<R>, groups: usize) -> Result<Option<(i32, Found)>> {
        while let Some(member) = Member::read(input)? {
            if member.name() == SCRIPT {
                member.skip(input)?;
                continue;
            }
            if let Some(&dump_id) = self.data.get(member.name()) {
                return Ok(Some((dump_id, Found::Data(member.length))));
            }
            let group = self.groups.get(groups).map(|&dump_id| (dump_id, self.list_name(dump_id)));
            return match group {
                Some((dump_id, list)) if member.large_object().is_some() || member.name() == list.as_bytes() => {
                    Ok(Some((dump_id, Found::LargeObjects(ObjectMembers::new(member, list)))))
                }
                _ => Err(member.unexpected()),
            };
        }
        Ok(None)
    }

    /// How many blocks of large objects come before that of this entry; 0 when it is none.
    pub(crate) fn groups_before(&self, dump_id: i32) -> usize {
        self.groups.iter().position(|&group| group == dump_id).unwrap_or(0)
    }

    fn list_name(&self, dump_id: i32) -> String {
        if self.numbered_lists { format!("blobs_{dump_id}.toc") } else { "blobs.toc".into() }
    }
}

/// The large objects of one entry, and their list behind them.
#[derive(Debug)]
pub(crate) struct ObjectMembers {
    /// A member whose header has been read.
    next: Option<Member>,
    /// The name of the list.
    list: String,
    /// Of what the list has to say.
    expected: Crc,
}

impl ObjectMembers {
    fn new(first: Member, list: String) -> Self {
        Self { next: Some(first), list, expected: Crc::new() }
    }

    /// The OID and the length of the next large object; `None` after the last one,
    /// and then the list has told of them all.
    pub(crate) fn next_object<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<(u32, u64)>> {
        let offset = input.position();
        let member = match self.next.take() {
            Some(member) => member,
            None => Member::read(input)?
                .ok_or_else(|| Error::truncated(format!("before the list of large objects `{}`", self.list), offset))?,
        };
        if let Some(oid) = member.large_object() {
            self.expected.update(format!("{oid} ").as_bytes());
            self.expected.update(member.name());
            self.expected.update(b"\n");
            return Ok(Some((oid, member.length)));
        }
        if member.name() != self.list.as_bytes() {
            return Err(member.unexpected());
        }
        let mut listed = Crc::new();
        let mut state = BodyState::member(member.length);
        let mut list = Body::new(input, &mut state);
        loop {
            let offset = list.input().position();
            let piece = list.fill_buf().map_err(|e| Error::from_io(e, offset))?;
            if piece.is_empty() {
                break;
            }
            listed.update(piece);
            let length = piece.len();
            list.consume(length);
        }
        if (listed.sum(), listed.amount()) != (self.expected.sum(), self.expected.amount()) {
            let text = format!("the list `{}` does not name the large objects that precede it", self.list);
            return Err(Error::corrupt(text, member.offset));
        }
        Ok(None)
    }
}

/// The header of a member.
#[derive(Debug)]
pub(crate) struct Member {
    block: Box<[u8; BLOCK_BYTES]>,
    /// Bytes of content.
    pub(crate) length: u64,
    /// Where the header is.
    offset: u64,
}

impl Member {
    /// The next member; `None` at the end of the archive, where nothing may follow.
    fn read<R: Read>(input: &mut Input<R>) -> Result<Option<Self>> {
        let offset = input.position();
        let mut block = Box::new([0; BLOCK_BYTES]);
        fill(input, &mut block[..])?;
        if block.iter().all(|&byte| byte == 0) {
            expect_zeros(input)?;
            return Ok(None);
        }
        Self::parse(block, offset).map(Some)
    }

    /// The first member, of whose header `begin` was read already.
    pub(crate) fn read_first<R: Read>(input: &mut Input<R>, begin: &[u8]) -> Result<Self> {
        let mut block = Box::new([0; BLOCK_BYTES]);
        let (read, rest) = block.split_at_mut(begin.len());
        read.copy_from_slice(begin);
        fill(input, rest)?;
        Self::parse(block, 0)
    }

    fn parse(block: Box<[u8; BLOCK_BYTES]>, offset: u64) -> Result<Self> {
        let damaged = |what: &str| Error::corrupt(format!("the header of a tar member {what}"), offset);
        let sum = octal(&block[148..156]).ok_or_else(|| damaged("has no checksum"))?;
        let blanks = 8 * u64::from(b' ');
        let expected = block[..148].iter().chain(&block[156..]).map(|&byte| u64::from(byte)).sum::<u64>() + blanks;
        if sum != expected {
            return Err(damaged("does not match its checksum"));
        }
        // As POSIX has it, as pg_dump before 9.3 wrote it, and as GNU tar does.
        if ![&b"ustar\x0000"[..], b"ustar00\0", b"ustar  \0"].contains(&&block[257..265]) {
            return Err(damaged("is of an unknown kind"));
        }
        if !matches!(block[156], b'0' | 0) {
            return Err(damaged(&format!(
                "has the type `{}`, which pg_dump does not write",
                block[156].escape_ascii()
            )));
        }
        if block[345..500].iter().any(|&byte| byte != 0) || !block[..100].contains(&0) {
            return Err(damaged("has a longer name than pg_dump writes"));
        }
        let length = length(&block[124..136]).ok_or_else(|| damaged("tells no length"))?;
        Ok(Self { block, length, offset })
    }

    pub(crate) fn name(&self) -> &[u8] {
        // `parse` saw the 0.
        self.block[..100].split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// The OID when the member is a large object.
    fn large_object(&self) -> Option<u32> {
        let digits = self.name().strip_prefix(b"blob_")?.strip_suffix(b".dat")?;
        let oid = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (format!("{oid}").as_bytes() == digits).then_some(oid)
    }

    fn skip<R: Read>(&self, input: &mut Input<R>) -> Result<()> {
        input.skip(self.length, "within a tar member")?;
        skip_padding(input)
    }

    fn unexpected(&self) -> Error {
        let name = self.name().escape_ascii();
        let text = format!("the member `{name}` belongs to nothing in the table of contents, or not here");
        Error::corrupt(text, self.offset)
    }
}

/// Passes over the zeros that fill the last block of a member.
pub(crate) fn skip_padding<R: Read>(input: &mut Input<R>) -> Result<()> {
    const PLACE: &str = "within the padding of a tar member";
    while !input.position().is_multiple_of(BLOCK_BYTES as u64) {
        let offset = input.position();
        if input.byte(PLACE)? != 0 {
            return Err(Error::corrupt("the padding of a tar member is not zero", offset));
        }
    }
    Ok(())
}

/// After the first block of zeros: pg_dump writes one more, other programs fill a record.
fn expect_zeros<R: Read>(input: &mut Input<R>) -> Result<()> {
    let end = input.position().next_multiple_of(RECORD_BYTES).max(input.position() + BLOCK_BYTES as u64);
    loop {
        let offset = input.position();
        match input.next_byte()? {
            None => return Ok(()),
            Some(0) if offset < end => {}
            Some(_) => return Err(Error::corrupt("bytes follow the end of the tar archive", offset)),
        }
    }
}

fn fill<R: Read>(input: &mut Input<R>, mut out: &mut [u8]) -> Result<()> {
    while !out.is_empty() {
        let offset = input.position();
        let available = input.peek()?;
        if available.is_empty() {
            return Err(Error::truncated(PLACE, offset));
        }
        let step = available.len().min(out.len());
        let (filled, rest) = out.split_at_mut(step);
        filled.copy_from_slice(&available[..step]);
        input.consume(step);
        out = rest;
    }
    Ok(())
}

/// Octal digits, or, from 8 GiB on, a big-endian number behind the byte 0x80.
fn length(field: &[u8]) -> Option<u64> {
    let Some(digits) = field.strip_prefix(&[0x80]) else { return octal(field) };
    let number = digits.iter().try_fold(0_u64, |sum, &byte| Some(sum.checked_mul(256)? | u64::from(byte)))?;
    // What no file system has, but sums must not overflow.
    (number <= i64::MAX as u64).then_some(number)
}

/// Octal digits with blanks or zero bytes around.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    u64::from_str_radix(text, 8).ok().filter(|_| !text.starts_with('+'))
}

/// That the table of contents ended where its member does.
pub(crate) fn expect_contents_end<R: Read>(input: &mut Input<R>, length: u64) -> Result<()> {
    let end = BLOCK_BYTES as u64 + length;
    if input.position() != end {
        let text = format!("the table of contents does not end where `toc.dat` does, at byte {end}");
        return Err(Error::new(ErrorKind::Corrupt(text), input.position()));
    }
    skip_padding(input)
}
