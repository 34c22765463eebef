//! A pipe between two threads, of bounded size.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How many pieces may wait.
const WAITING: usize = 4;

/// The two ends. The reader sees the end when the writer is dropped; the writer fails when the reader is.
pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(WAITING);
    (PipeWriter { sender }, PipeReader { receiver, piece: Vec::new(), read: 0 })
}

/// Takes each write as one piece, so that it is to be buffered.
#[derive(Debug)]
pub(super) struct PipeWriter {
    sender: SyncSender<Vec<u8>>,
}

/// Gives the pieces.
#[derive(Debug)]
pub(super) struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.sender.send(bytes.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.piece.len() {
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.read) = (piece, 0);
        }
        let length = buffer.len().min(self.piece.len() - self.read);
        buffer[..length].copy_from_slice(&self.piece[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_each_end_notices_the_other() {
        let (mut writer, mut reader) = pipe();
        let thread = std::thread::spawn(move || {
            for piece in [&b"one"[..], b"", b"two"] {
                writer.write_all(piece)?;
            }
            writer.write_all(&[7; 100_000])
        });
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("it is read");
        thread.join().expect("no panic").expect("it is written");
        assert_eq!((all.len(), &all[..6]), (100_006, &b"onetwo"[..]));

        let (mut writer, reader) = pipe();
        drop(reader);
        assert_eq!(writer.write(b"x").expect_err("nobody reads").kind(), io::ErrorKind::BrokenPipe);
    }
}
