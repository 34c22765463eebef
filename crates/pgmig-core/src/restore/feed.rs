//! The second pass over an archive, on a thread of its own: decode, remap, hand
//! over in pieces.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use dumpfmt::{Block, EntryData, LargeObjects};
use tokio::sync::mpsc;

use crate::archive::{Archive, ArchiveTable};
use crate::error::Error;
use crate::plan::Reading;
use crate::remap::RowRemapper;
use crate::survey::{places_of, row_fault};

/// How many pieces may wait; with the pieces' size this bounds the memory.
const WAITING: usize = 4;
/// What a large object is sent in.
const OBJECT_PIECE_BYTES: usize = 256 << 10;

/// A piece of the archive's data.
#[derive(Debug)]
pub(super) enum Piece {
    /// The rows of a table begin: its place in the plan.
    Table(usize),
    /// Some of its rows, as COPY takes them, and how many.
    Rows(Bytes, u64),
    /// The rows of the table have ended.
    TableEnd,
    /// A large object begins.
    Object(u32),
    /// Some of its bytes.
    ObjectBytes(Bytes),
    /// The archive has been read to its end.
    End,
}

type Sender = mpsc::Sender<Result<Piece, Error>>;

/// Starts the thread. The last piece is [`Piece::End`] or an error.
pub(super) fn start(archive: Archive, reading: Arc<Reading>) -> mpsc::Receiver<Result<Piece, Error>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        if let Err(Stop::Failed(e)) = read(archive, &reading, &sender) {
            // Nobody listens any more when the transaction failed first.
            let _ = sender.blocking_send(Err(e));
        }
    });
    receiver
}

/// Why reading ended early.
enum Stop {
    Failed(Error),
    /// The receiver is gone.
    Unwanted,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// An error of the archive's reader, to which the file's name is added later.
enum ReadStop {
    Archive(dumpfmt::Error),
    Other(Stop),
}

impl From<dumpfmt::Error> for ReadStop {
    fn from(error: dumpfmt::Error) -> Self {
        Self::Archive(error)
    }
}

impl From<Stop> for ReadStop {
    fn from(stop: Stop) -> Self {
        Self::Other(stop)
    }
}

fn read(mut archive: Archive, reading: &Reading, sender: &Sender) -> Result<(), Stop> {
    read_blocks(&mut archive, reading, sender).map_err(|stop| match stop {
        ReadStop::Archive(e) => Stop::Failed(archive.read_error(e).into()),
        ReadStop::Other(stop) => stop,
    })
}

fn read_blocks(archive: &mut Archive, reading: &Reading, sender: &Sender) -> Result<(), ReadStop> {
    let tables: HashMap<i32, usize> =
        reading.tables.iter().enumerate().map(|(index, table)| (table.dump_id, index)).collect();
    let reader = archive.reader();
    reader.rewind()?;
    while let Some(block) = reader.next_block()? {
        match block {
            Block::Data(data) => {
                // What is kept in the target is passed over.
                if let Some(&index) = tables.get(&data.entry().dump_id()) {
                    send(sender, Piece::Table(index))?;
                    send_rows(data, &reading.tables[index], reading, sender)?;
                    send(sender, Piece::TableEnd)?;
                }
            }
            Block::LargeObjects(objects) => send_objects(objects, sender)?,
        }
    }
    Ok(send(sender, Piece::End)?)
}

fn send(sender: &Sender, piece: Piece) -> Result<(), Stop> {
    sender.blocking_send(Ok(piece)).map_err(|_| Stop::Unwanted)
}

fn send_rows<R: Read>(
    data: EntryData<'_, R>,
    table: &ArchiveTable,
    reading: &Reading,
    sender: &Sender,
) -> Result<(), ReadStop> {
    let places = places_of(table, &reading.id_columns);
    let mut remapper = (!places.is_empty()).then(|| RowRemapper::new(&reading.ids, places));
    let mut rows = data.rows();
    while let Some(batch) = rows.next_batch()? {
        let (bytes, count) = match &mut remapper {
            // Rows without IDs go as they are.
            None => (Bytes::copy_from_slice(batch.raw()), batch.count()),
            Some(remapper) => {
                let (mut out, mut count) = (Vec::with_capacity(batch.raw().len()), 0);
                for row in batch.rows() {
                    let kept = remapper.remap(row, &mut out).map_err(|e| Stop::Failed(row_fault(table, &e).into()))?;
                    count += u64::from(kept);
                }
                (Bytes::from(out), count)
            }
        };
        if !bytes.is_empty() {
            send(sender, Piece::Rows(bytes, count))?;
        }
    }
    Ok(())
}

fn send_objects<R: Read>(mut objects: LargeObjects<'_, R>, sender: &Sender) -> Result<(), ReadStop> {
    while let Some(mut object) = objects.next_object()? {
        send(sender, Piece::Object(object.oid()))?;
        loop {
            let mut piece = Vec::new();
            let limit = OBJECT_PIECE_BYTES as u64;
            let read = (&mut object).take(limit).read_to_end(&mut piece).map_err(|e| dumpfmt::Error::from_io(e, 0))?;
            if read == 0 {
                break;
            }
            send(sender, Piece::ObjectBytes(Bytes::from(piece)))?;
        }
    }
    Ok(())
}
