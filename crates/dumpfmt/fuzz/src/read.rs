//! What an archive holds, as far as it can be read.

use std::io::{self, Cursor, Read};

use dumpfmt::{ArchiveReader, Block, Error, ErrorKind};

use crate::limits;

/// More than this of one body is passed over: some bytes of a compressed stream can stand for very many.
const MOST_BYTES: u64 = 1 << 20;

/// The data of one entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Data(Vec<u8>),
    LargeObjects(Vec<(u32, Vec<u8>)>),
}

/// By dump ID, in the order of the archive.
pub(crate) type Contents = Vec<(i32, Body)>;

/// An error as it can be compared: not by what depends on how much was read ahead. That is the place where a codec
/// noticed it, and what is shown of something that is no archive.
pub(crate) fn told(error: &Error) -> (String, Option<&str>) {
    let kind = match error.kind() {
        ErrorKind::NotAnArchive(_) => String::new(),
        kind => kind.to_string(),
    };
    (kind, error.entry())
}

/// Opens an archive under [`limits`].
pub(crate) fn open<R: Read>(input: R) -> Result<ArchiveReader<R>, Error> {
    ArchiveReader::with_limits(input, limits())
}

pub(crate) fn seekable(bytes: &[u8]) -> Result<ArchiveReader<Cursor<&[u8]>>, Error> {
    open(Cursor::new(bytes))
}

/// Everything, block after block, up to the first error.
pub(crate) fn contents<R: Read>(archive: &mut ArchiveReader<R>) -> (Contents, Option<Error>) {
    let mut contents = Contents::new();
    loop {
        match archive.next_block() {
            Ok(Some(block)) => match body(block) {
                Ok(body) => contents.push(body),
                Err(error) => return (contents, Some(error)),
            },
            Ok(None) => return (contents, None),
            Err(error) => return (contents, Some(error)),
        }
    }
}

pub(crate) fn body<R: Read>(block: Block<'_, R>) -> Result<(i32, Body), Error> {
    let dump_id = block.entry().dump_id();
    let body = match block {
        Block::Data(mut data) => Body::Data(bytes(&mut data)?),
        Block::LargeObjects(mut objects) => {
            let mut found = Vec::new();
            while let Some(mut object) = objects.next_object()? {
                found.push((object.oid(), bytes(&mut object)?));
            }
            Body::LargeObjects(found)
        }
    };
    Ok((dump_id, body))
}

/// The first bytes of a body, of which all the others are read too.
fn bytes(data: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    data.by_ref().take(MOST_BYTES).read_to_end(&mut out).map_err(|e| Error::from_io(e, 0))?;
    io::copy(data, &mut io::sink()).map_err(|e| Error::from_io(e, 0))?;
    Ok(out)
}

/// Gives a few bytes at a time, as a pipe may.
pub(crate) struct Dribble<'a>(pub(crate) &'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let step = (self.0.len() % 7 + 1).min(out.len());
        self.0.read(&mut out[..step])
    }
}
