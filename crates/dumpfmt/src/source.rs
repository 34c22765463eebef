//! Where the blocks of an archive are, by its format: custom, tar or directory.

use std::io::Read;

use crate::block::{Content, OpenBlock};
use crate::body::BodyState;
use crate::decode::Encoding;
use crate::directory::{self, Directory};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::input::Input;
use crate::limits::Limits;
use crate::tar::{self, Tar};
use crate::toc::Toc;

const BLOCK_DATA: u8 = 1;
const BLOCK_LARGE_OBJECTS: u8 = 3;

/// The input with what has to be known to find blocks in it.
#[derive(Debug)]
pub(crate) struct Source<R> {
    pub(crate) input: Input<R>,
    pub(crate) layout: Layout<R>,
}

#[derive(Debug)]
pub(crate) enum Layout<R> {
    /// Blocks follow each other, each with its dump ID.
    Custom,
    /// Members follow each other, each with a name that the table of contents knows.
    Tar(Tar),
    /// A file for each entry.
    Directory(Directory<R>),
}

/// How far the large objects of a block have been read.
#[derive(Debug)]
pub(crate) struct Objects<R> {
    list: List<R>,
    /// The object that the input is in.
    body: Option<BodyState>,
    ended: bool,
    /// Where the next one is is not known any more.
    is_lost: bool,
}

/// What tells which large objects there are.
#[derive(Debug)]
enum List<R> {
    /// The OID before each one, in a custom archive with this size of numbers.
    Custom(u8, Encoding),
    Tar(tar::ObjectMembers),
    Directory(directory::ObjectList<R>),
}

impl<R> Objects<R> {
    fn new(list: List<R>) -> Self {
        Self { list, body: None, ended: false, is_lost: false }
    }
}

impl<R: Read> Source<R> {
    /// The next block in the order of the archive, or `None` at its end. `groups`
    /// blocks of large objects came before it.
    pub(crate) fn next_block(
        &mut self,
        header: &Header,
        toc: &Toc,
        limits: &Limits,
        groups: usize,
    ) -> Result<Option<OpenBlock<R>>> {
        match &mut self.layout {
            Layout::Custom => custom_block(&mut self.input, header, toc, limits),
            Layout::Tar(tar) => Ok(tar.next_block(&mut self.input, groups)?.map(|(dump_id, found)| {
                let content = match found {
                    tar::Found::Data(length) => Content::Data(Encoding::None, BodyState::member(length)),
                    tar::Found::LargeObjects(members) => Content::LargeObjects(Objects::new(List::Tar(members))),
                };
                OpenBlock::new(dump_id, content)
            })),
            Layout::Directory(directory) => {
                let Some(entry) = directory.next_entry(toc) else { return Ok(None) };
                self.open_entry(header, entry.dump_id(), toc).map(Some)
            }
        }
    }

    /// The block of an entry in a directory, which must be one.
    pub(crate) fn open_entry(&mut self, header: &Header, dump_id: i32, toc: &Toc) -> Result<OpenBlock<R>> {
        let (Layout::Directory(directory), Some(entry)) = (&mut self.layout, toc.get(dump_id)) else {
            return Err(Error::corrupt(format!("dump ID {dump_id} is unknown"), self.input.position()));
        };
        let content = if entry.is_large_objects() {
            directory.object_list(header, entry).map(|list| Content::LargeObjects(Objects::new(List::Directory(list))))
        } else {
            directory
                .open_data(&mut self.input, entry.file_name().unwrap_or_default())
                .map(|(encoding, body)| Content::Data(encoding, body))
        };
        let content = content.map_err(|e| e.in_entry(entry))?;
        Ok(OpenBlock::new(dump_id, content))
    }

    /// Goes to the next large object. What was not read of the one before is
    /// passed over by `skip`, which takes a number of bytes.
    pub(crate) fn next_object<'o>(
        &mut self,
        objects: &'o mut Objects<R>,
        limits: &Limits,
        skip: fn(&mut Input<R>, u64) -> Result<()>,
    ) -> Result<Option<(u32, Encoding, &'o mut BodyState)>> {
        let Objects { list, body, ended, is_lost } = objects;
        if *is_lost {
            return Err(Error::usage("no more large objects are read after an error"));
        }
        // Until the next one is known.
        *is_lost = true;
        if let Some(mut body) = body.take() {
            body.skip_rest(&mut self.input, skip)?;
        }
        if *ended {
            *is_lost = false;
            return Ok(None);
        }
        let next = match list {
            List::Custom(int_size, encoding) => custom_object(&mut self.input, *int_size)?
                .map(|oid| (oid, *encoding, BodyState::chunks(*int_size, limits.chunk_bytes))),
            List::Tar(members) => members
                .next_object(&mut self.input)?
                .map(|(oid, length)| (oid, Encoding::None, BodyState::member(length))),
            List::Directory(list) => match (&self.layout, list.next_object()?) {
                (Layout::Directory(directory), Some((oid, name))) => {
                    let (encoding, body) = directory.open_data(&mut self.input, &name)?;
                    Some((oid, encoding, body))
                }
                _ => None,
            },
        };
        (*ended, *is_lost) = (next.is_none(), false);
        Ok(next.map(|(oid, encoding, state)| (oid, encoding, body.insert(state))))
    }
}

/// Reads the head of a block of the custom format.
fn custom_block<R: Read>(
    input: &mut Input<R>,
    header: &Header,
    toc: &Toc,
    limits: &Limits,
) -> Result<Option<OpenBlock<R>>> {
    let offset = input.position();
    // No block, but the first byte of a number: of how many entries there are.
    if input.peek()?.first() == Some(&0) {
        toc.read_again(input, header)?;
        return Ok(None);
    }
    let large_objects = match input.next_byte()? {
        None => return Ok(None),
        Some(BLOCK_DATA) => false,
        Some(BLOCK_LARGE_OBJECTS) => true,
        Some(other) => {
            let text = format!("a block of data was expected here, but its type is {other}");
            return Err(Error::corrupt(text, offset));
        }
    };
    let id = input.int(header.int_size, "within the head of a block of data")?;
    let entry = i32::try_from(id).ok().and_then(|id| toc.get(id)).ok_or_else(|| {
        let text = format!("a block of data names dump ID {id}, which the table of contents does not have");
        Error::corrupt(text, offset)
    })?;
    if !entry.has_data() || large_objects != entry.is_large_objects() {
        return Err(Error::corrupt("this entry cannot have a block of data of this type", offset).in_entry(entry));
    }
    let encoding = Encoding::in_custom(header.compression);
    let content = if large_objects {
        Content::LargeObjects(Objects::new(List::Custom(header.int_size, encoding)))
    } else {
        Content::Data(encoding, BodyState::chunks(header.int_size, limits.chunk_bytes))
    };
    Ok(Some(OpenBlock::new(entry.dump_id(), content)))
}

/// The OID of the next large object of the custom format, or `None` at the end of the block.
fn custom_object<R: Read>(input: &mut Input<R>, int_size: u8) -> Result<Option<u32>> {
    let offset = input.position();
    let oid = input.int(int_size, "between two large objects")?;
    // pg_dump writes the OID as a C int: one of 2^31 or more shows as negative.
    if oid < i64::from(i32::MIN) || oid > i64::from(u32::MAX) {
        return Err(Error::corrupt(format!("{oid} is not the OID of a large object"), offset));
    }
    Ok((oid != 0).then_some(oid as u32))
}
