//! The bytes of an object, for who reads them in a thread.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use storage_backends::{BackupId, Catalog, Error, ErrorKind, StoredObject};
use tokio::sync::mpsc;

/// How many pieces may wait to be read.
const WAITING: usize = 4;

/// What is read. It ends only when the whole object was read and has the digest that was recorded; otherwise in an error.
pub(super) struct Pieces {
    pieces: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    is_ended: bool,
}

/// Where the pieces come from.
pub(super) struct Feed(mpsc::Sender<Option<Bytes>>);

pub(super) fn pieces() -> (Feed, Pieces) {
    let (sender, pieces) = mpsc::channel(WAITING);
    (Feed(sender), Pieces { pieces, piece: Bytes::new(), is_ended: false })
}

impl Feed {
    /// Reads an object to its end. Who does not need all of it drops the [`Pieces`]; unless `is_stopped`, the rest is read nevertheless,
    /// for its digest.
    ///
    /// # Errors
    ///
    /// It cannot be read, is not what was stored, or reading it was stopped.
    pub(super) async fn read(
        self,
        catalog: &Catalog,
        id: &BackupId,
        object: &StoredObject,
        mut progress: impl FnMut(u64),
        is_stopped: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let send = async |piece: Bytes| {
            progress(piece.len() as u64);
            if self.0.send(Some(piece)).await.is_err() && is_stopped() {
                return Err(Error::new(ErrorKind::Other, "read", &object.name, "nobody needs the rest of it"));
            }
            Ok(())
        };
        catalog.read(id, object, send).await?;
        // Who has dropped the rest has seen its end.
        let _ = self.0.send(None).await;
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_ended {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.is_ended = true,
                None => return Err(io::Error::other("the backup could not be read to its end")),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
