//! The order of things in a new archive, while threads compress its pieces.

use std::collections::{HashSet, VecDeque};

use super::encode::{BodyChecksum, EncodedPiece, PieceEncoder, Place};
use super::header::WriteOptions;
use super::pool::{OrderedPool, WorkerLost};
use super::sink::private::{Container, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::header::Compression;
use crate::toc::{Toc, TocEntry};

pub(crate) type EncodingPool<'env> = OrderedPool<'env, PieceEncoder, Result<EncodedPiece>>;

/// Takes blocks piece by piece, and writes them in order as their pieces are ready.
pub(crate) struct Core<'env, S> {
    pub(crate) sink: S,
    toc: Toc,
    compression: Compression,
    pool: EncodingPool<'env>,
    /// The entry whose data is being written.
    writing: i32,
    /// What is to be written, in order. For each `Piece` there is a result to come from the pool.
    events: VecDeque<Event>,
    /// Of the body that is being written.
    checksum: Option<BodyChecksum>,
    /// Of the body that pieces are taken for.
    open: Open,
    written: HashSet<i32>,
    /// An error leaves an archive that is not whole.
    failed: bool,
}

enum Event {
    Data(i32),
    /// Data that is handed over as it is stored, its end included.
    StoredData(i32),
    LargeObjects(i32),
    LargeObject(u32),
    Piece,
    EndBody,
    EndStored,
    EndLargeObjects,
}

/// What the caller is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Data { pieces: u64 },
    LargeObjects,
    LargeObject { pieces: u64 },
    Stored { large_object: bool },
}

/// The states of as many threads as the options want.
pub(crate) fn encoders(options: &WriteOptions, container: Container) -> Result<(PieceEncoder, Vec<PieceEncoder>)> {
    let encoder = || PieceEncoder::new(&options.compression, container).map_err(|e| Error::new(ErrorKind::Write(e), 0));
    let others = (1..options.threads).map(|_| encoder()).collect::<Result<_>>()?;
    Ok((encoder()?, others))
}

impl<'env, S: Sink> Core<'env, S> {
    pub(crate) fn new(sink: S, toc: Toc, options: &WriteOptions, pool: EncodingPool<'env>) -> Self {
        Self {
            sink,
            toc,
            compression: options.compression.algorithm(),
            pool,
            writing: 0,
            events: VecDeque::new(),
            checksum: None,
            open: Open::Nothing,
            written: HashSet::new(),
            failed: false,
        }
    }

    pub(crate) fn toc(&self) -> &Toc {
        &self.toc
    }

    pub(crate) fn begin_data(&mut self, dump_id: i32) -> Result<()> {
        self.begin(dump_id, false)?;
        self.open = Open::Data { pieces: 0 };
        self.event(Event::Data(dump_id))
    }

    pub(crate) fn begin_large_objects(&mut self, dump_id: i32) -> Result<()> {
        self.begin(dump_id, true)?;
        self.open = Open::LargeObjects;
        self.event(Event::LargeObjects(dump_id))
    }

    pub(crate) fn begin_large_object(&mut self, oid: u32) -> Result<()> {
        if self.open != Open::LargeObjects {
            return Err(self.misuse("a large object can only be begun within an entry of large objects"));
        }
        if oid == 0 {
            return Err(self.misuse("no large object has the OID 0"));
        }
        self.open = Open::LargeObject { pieces: 0 };
        self.event(Event::LargeObject(oid))
    }

    /// Takes the next piece of the body, as a job that makes it and holds so many bytes for that.
    pub(crate) fn piece(
        &mut self,
        last: bool,
        bytes: usize,
        job: impl FnOnce(&mut PieceEncoder, Place) -> Result<EncodedPiece> + Send + 'env,
    ) -> Result<()> {
        let first = match &mut self.open {
            Open::Data { pieces } | Open::LargeObject { pieces } => {
                *pieces += 1;
                *pieces == 1
            }
            Open::Stored { .. } => false,
            _ => return Err(self.misuse("there is no data that a piece belongs to")),
        };
        let place = Place { first, last };
        loop {
            match self.pool.make_room(bytes) {
                Ok(Some(oldest)) => self.write_piece(oldest)?,
                Ok(None) => break,
                Err(WorkerLost) => return Err(self.lost()),
            }
        }
        self.events.push_back(Event::Piece);
        self.pool.submit(bytes, move |encoder| job(encoder, place)).map_err(|WorkerLost| self.lost())
    }

    /// As [`piece`](Self::piece), for bytes that are only to be compressed.
    pub(crate) fn bytes(&mut self, bytes: Vec<u8>, last: bool) -> Result<()> {
        self.piece(last, bytes.len(), move |encoder, place| {
            encoder.encode(&bytes, place).map_err(|e| Error::new(ErrorKind::Write(e), 0))
        })
    }

    /// Ends the data of an entry, or a large object. Its last piece has been taken.
    pub(crate) fn end_body(&mut self) -> Result<()> {
        self.open = match self.open {
            Open::Data { .. } => Open::Nothing,
            Open::LargeObject { .. } => Open::LargeObjects,
            _ => return Err(self.misuse("there is no data to end")),
        };
        self.event(Event::EndBody)
    }

    pub(crate) fn end_large_objects(&mut self) -> Result<()> {
        if self.open != Open::LargeObjects {
            return Err(self.misuse("there are no large objects to end"));
        }
        self.open = Open::Nothing;
        self.event(Event::EndLargeObjects)
    }

    /// As [`begin_data`](Self::begin_data), for a body that is handed over as it is stored, by
    /// [`stored`](Self::stored).
    pub(crate) fn begin_stored_data(&mut self, dump_id: i32) -> Result<()> {
        self.begin(dump_id, false)?;
        self.open = Open::Stored { large_object: false };
        self.event(Event::StoredData(dump_id))
    }

    /// As [`begin_large_object`](Self::begin_large_object), for a body that is handed over as it is stored.
    pub(crate) fn begin_stored_large_object(&mut self, oid: u32) -> Result<()> {
        self.begin_large_object(oid)?;
        self.open = Open::Stored { large_object: true };
        Ok(())
    }

    /// Takes the next bytes of a stored body.
    pub(crate) fn stored(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.piece(false, bytes.len(), move |_, _| Ok(EncodedPiece::stored(bytes)))
    }

    /// Ends a stored body, whose own end was among the bytes.
    pub(crate) fn end_stored(&mut self) -> Result<()> {
        self.open = match self.open {
            Open::Stored { large_object: false } => Open::Nothing,
            Open::Stored { large_object: true } => Open::LargeObjects,
            _ => return Err(self.misuse("there is no stored body to end")),
        };
        self.event(Event::EndStored)
    }

    /// Writes what is left and expects that nothing is missing.
    pub(crate) fn finish(mut self) -> Result<S> {
        if self.open != Open::Nothing {
            return Err(self.misuse("the data of an entry was not ended"));
        }
        self.drain()?;
        if self.failed {
            return Err(Error::usage("the archive is not whole: writing a part of it failed before"));
        }
        let missing = self.toc.entries().iter().find(|e| e.has_data() && !self.written.contains(&e.dump_id()));
        if let Some(entry) = missing {
            return Err(Error::usage("the data of this entry was not written").in_entry(entry));
        }
        self.sink.finish()?;
        Ok(self.sink)
    }

    /// What is wrong with what is in hand, for whoever could not go on: it comes before that, however many threads there are.
    pub(crate) fn earlier_failure(&mut self) -> Option<Error> {
        if self.failed { None } else { self.drain().err() }
    }

    fn begin(&mut self, dump_id: i32, large_objects: bool) -> Result<()> {
        if self.open != Open::Nothing {
            return Err(self.misuse("the data of the entry before was not ended"));
        }
        let entry = self.toc.get(dump_id).ok_or_else(|| unknown(dump_id))?;
        let refuse = |text: &str| Err(Error::usage(text).in_entry(entry));
        if !entry.has_data() {
            return refuse("this entry has no data");
        }
        if large_objects != entry.is_large_objects() {
            return refuse(if large_objects {
                "this entry holds no large objects"
            } else {
                "this entry holds large objects"
            });
        }
        if !self.written.insert(dump_id) {
            return refuse("the data of this entry was written before");
        }
        Ok(())
    }

    /// Writes what is in hand, in order, waiting for the threads.
    fn drain(&mut self) -> Result<()> {
        loop {
            match self.pool.next_result() {
                Ok(Some(piece)) => self.write_piece(piece)?,
                Ok(None) => return self.write_until_piece(),
                Err(WorkerLost) => return Err(self.lost()),
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<()> {
        self.events.push_back(event);
        // Nothing to wait for: keeps the queue short while bodies are empty.
        self.write_until_piece()
    }

    /// Writes the oldest piece and what is before and behind it.
    fn write_piece(&mut self, piece: Result<EncodedPiece>) -> Result<()> {
        self.write_until_piece()?;
        let was_failed = std::mem::replace(&mut self.failed, true);
        let piece = piece.map_err(|e| match self.toc.get(self.writing) {
            Some(entry) => e.in_entry(entry),
            None => e,
        })?;
        self.events.pop_front();
        if let Some(checksum) = &mut self.checksum {
            checksum.add(&piece);
        }
        self.sink.put(&piece.bytes)?;
        self.failed = was_failed;
        self.write_until_piece()
    }

    fn write_until_piece(&mut self) -> Result<()> {
        while !matches!(self.events.front(), Some(Event::Piece)) {
            let Some(event) = self.events.pop_front() else { break };
            let was_failed = std::mem::replace(&mut self.failed, true);
            self.write_event(&event)?;
            self.failed = was_failed;
        }
        Ok(())
    }

    fn write_event(&mut self, event: &Event) -> Result<()> {
        match *event {
            Event::Data(dump_id) => {
                self.checksum = Some(BodyChecksum::new(self.compression, S::CONTAINER));
                self.begin_block(dump_id, S::begin_data)
            }
            Event::StoredData(dump_id) => self.begin_block(dump_id, S::begin_data),
            Event::LargeObjects(dump_id) => self.begin_block(dump_id, S::begin_large_objects),
            Event::LargeObject(oid) => {
                self.checksum = Some(BodyChecksum::new(self.compression, S::CONTAINER));
                self.sink.begin_large_object(oid)
            }
            Event::Piece => Ok(()),
            Event::EndBody => {
                let mut end = Vec::new();
                if let Some(checksum) = self.checksum.take() {
                    checksum.put_end(&mut end);
                }
                self.sink.put(&end)?;
                self.sink.end_body()
            }
            Event::EndStored => {
                self.checksum = None;
                self.sink.end_body()
            }
            Event::EndLargeObjects => self.sink.end_large_objects(),
        }
    }

    fn begin_block(&mut self, dump_id: i32, begin: impl FnOnce(&mut S, &TocEntry) -> Result<()>) -> Result<()> {
        self.writing = dump_id;
        let entry = self.toc.get(dump_id).ok_or_else(|| unknown(dump_id))?;
        begin(&mut self.sink, entry)
    }

    fn misuse(&mut self, text: &str) -> Error {
        self.failed = true;
        Error::usage(text)
    }

    fn lost(&mut self) -> Error {
        self.failed = true;
        self.sink.write_error(std::io::Error::other("a thread that compresses ended unexpectedly"))
    }
}

fn unknown(dump_id: i32) -> Error {
    Error::usage(format!("dump ID {dump_id} is not in the table of contents"))
}
