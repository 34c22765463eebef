//! The chunks of a data block, and the decompression on top of them.

use std::io::{self, BufRead, Read};

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::{Error, ErrorKind, Result};
use crate::header::Compression;
use crate::input::Input;
use crate::limits::Limits;

/// How far the chunks of one body have been read. It outlives the reader that
/// borrows it, so that the archive can pass over what the caller left.
#[derive(Debug, Default)]
pub(crate) struct ChunkState {
    in_chunk: u64,
    begun: bool,
    ended: bool,
}

impl ChunkState {
    /// Reads the length of the next chunk when the present one is used up; false at the end.
    fn advance<R: Read>(&mut self, input: &mut Input<R>, int_size: u8) -> Result<bool> {
        if self.ended || self.in_chunk > 0 {
            return Ok(!self.ended);
        }
        let offset = input.position();
        let length = input.int(int_size, "between two chunks of data")?;
        match u64::try_from(length) {
            Ok(0) => self.ended = true,
            // pg_dump's own lengths are C ints.
            Ok(length) if length <= i32::MAX as u64 => {
                self.in_chunk = length;
                self.begun = true;
            }
            _ => return Err(Error::corrupt(format!("a chunk of data claims {length} bytes"), offset)),
        }
        Ok(!self.ended)
    }

    /// Passes over the rest by `skip`, which takes a number of bytes.
    pub(crate) fn skip_rest<R: Read>(
        &mut self,
        input: &mut Input<R>,
        int_size: u8,
        mut skip: impl FnMut(&mut Input<R>, u64) -> Result<()>,
    ) -> Result<()> {
        while self.advance(input, int_size)? {
            skip(input, self.in_chunk)?;
            self.in_chunk = 0;
        }
        Ok(())
    }
}

/// The bytes of a body as they are stored, chunk boundaries removed.
pub(crate) struct Chunks<'a, R> {
    input: &'a mut Input<R>,
    state: &'a mut ChunkState,
    int_size: u8,
}

impl<R: Read> BufRead for Chunks<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !self.state.advance(self.input, self.int_size)? {
            return Ok(&[]);
        }
        let limit = self.state.in_chunk;
        let offset = self.input.position();
        let available = self.input.peek()?;
        if available.is_empty() {
            return Err(Error::truncated("within a chunk of data", offset).into());
        }
        Ok(&available[..available.len().min(usize::try_from(limit).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, bytes: usize) {
        self.state.in_chunk -= bytes as u64;
        self.input.consume(bytes);
    }
}

impl<R: Read> Read for Chunks<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // Fills `out` over several chunks: uncompressed dumps have one for each row.
        let mut filled = 0;
        while filled < out.len() {
            let available = self.fill_buf()?;
            if available.is_empty() {
                break;
            }
            let step = available.len().min(out.len() - filled);
            out[filled..filled + step].copy_from_slice(&available[..step]);
            self.consume(step);
            filled += step;
        }
        Ok(filled)
    }
}

/// The bytes of a body as they were before pg_dump compressed them.
pub(crate) struct Decoder<'a, R: Read> {
    codec: Codec<'a, R>,
    limits: &'a Limits,
    finished: bool,
}

enum Codec<'a, R: Read> {
    None(Chunks<'a, R>),
    Gzip(Box<Zlib<Chunks<'a, R>>>),
    Lz4(Box<Lz4<Chunks<'a, R>>>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::stream::read::Decoder<'static, Chunks<'a, R>>>),
}

impl<'a, R: Read> Decoder<'a, R> {
    pub(crate) fn new(
        input: &'a mut Input<R>,
        state: &'a mut ChunkState,
        int_size: u8,
        compression: Compression,
        limits: &'a Limits,
    ) -> Result<Self> {
        let chunks = Chunks { input, state, int_size };
        let codec = match compression {
            Compression::None => Codec::None(chunks),
            Compression::Gzip => Codec::Gzip(Box::new(Zlib::new(chunks))),
            Compression::Lz4 => Codec::Lz4(Box::new(Lz4::new(chunks))),
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let offset = chunks.input.position();
                let decoder = zstd_decoder(chunks, limits.zstd_window_log);
                Codec::Zstd(Box::new(decoder.map_err(|e| Error::new(ErrorKind::Io(e), offset))?))
            }
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => {
                let text = "the archive is compressed with zstd, which this build leaves out (feature `zstd`)";
                return Err(Error::new(ErrorKind::Unsupported(text.into()), chunks.input.position()));
            }
        };
        Ok(Self { codec, limits, finished: false })
    }

    /// The position in the archive, for errors.
    pub(crate) fn position(&self) -> u64 {
        self.chunks().input.position()
    }

    fn chunks(&self) -> &Chunks<'a, R> {
        match &self.codec {
            Codec::None(chunks) => chunks,
            Codec::Gzip(zlib) => &zlib.chunks,
            Codec::Lz4(lz4) => &lz4.frames.get_ref().chunks,
            #[cfg(feature = "zstd")]
            Codec::Zstd(zstd) => zstd.get_ref(),
        }
    }

    fn chunks_mut(&mut self) -> &mut Chunks<'a, R> {
        match &mut self.codec {
            Codec::None(chunks) => chunks,
            Codec::Gzip(zlib) => &mut zlib.chunks,
            Codec::Lz4(lz4) => &mut lz4.frames.get_mut().chunks,
            #[cfg(feature = "zstd")]
            Codec::Zstd(zstd) => zstd.get_mut(),
        }
    }

    /// Nothing may follow the compressed stream within the body.
    fn expect_end(&mut self) -> Result<()> {
        let offset = self.position();
        let chunks = self.chunks_mut();
        let rest = chunks.fill_buf().map_err(|e| Error::from_io(e, offset))?.len();
        if rest > 0 {
            return Err(Error::corrupt("bytes follow the end of the compressed data", offset));
        }
        self.finished = true;
        Ok(())
    }
}

impl<R: Read> Read for Decoder<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.finished || out.is_empty() {
            return Ok(0);
        }
        let (name, result) = match &mut self.codec {
            Codec::None(chunks) => ("none", chunks.read(out)),
            Codec::Gzip(zlib) => ("gzip", zlib.read(out)),
            Codec::Lz4(lz4) => ("lz4", lz4.read(out)),
            #[cfg(feature = "zstd")]
            Codec::Zstd(zstd) => ("zstd", zstd.read(out)),
        };
        match result {
            Ok(0) => {
                self.expect_end()?;
                Ok(0)
            }
            Ok(read) => Ok(read),
            Err(e) => Err(decode_error(e, name, self.position(), self.limits).into()),
        }
    }
}

#[cfg(feature = "zstd")]
fn zstd_decoder<B: BufRead>(chunks: B, window_log: u32) -> io::Result<zstd::stream::read::Decoder<'static, B>> {
    // What the library takes; no frame has a window below the first, or above the second.
    let most = if cfg!(target_pointer_width = "64") { 31 } else { 30 };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(chunks)?;
    decoder.window_log_max(window_log.clamp(10, most))?;
    Ok(decoder)
}

/// What the zstd library says when a frame has a larger window than it may use.
const ZSTD_WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";

/// An error of our own passes unchanged; one of a codec is damage in the archive.
fn decode_error(error: io::Error, codec: &str, offset: u64, limits: &Limits) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        // Its number does not come through to here, only its text.
        Err(e) if e.to_string() == ZSTD_WINDOW_TOO_LARGE => {
            let what = "the window of the zstd data, as a power of 2,";
            let limit = u64::from(limits.zstd_window_log);
            Error::new(ErrorKind::LimitExceeded { what, limit, field: "zstd_window_log" }, offset)
        }
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Error::corrupt(format!("the {codec} stream of this body is incomplete"), offset)
        }
        Err(e) => Error::corrupt(format!("the {codec} data cannot be decompressed: {e}"), offset),
    }
}

/// Inflates one zlib stream. `flate2::bufread::ZlibDecoder` takes a stream that
/// was cut for one that ended, which an archive reader must not.
struct Zlib<B> {
    chunks: B,
    inflate: Decompress,
    ended: bool,
}

impl<B: BufRead> Zlib<B> {
    fn new(chunks: B) -> Self {
        Self { chunks, inflate: Decompress::new(true), ended: false }
    }
}

impl<B: BufRead> Read for Zlib<B> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let input = self.chunks.fill_buf()?;
            if input.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (in_before, out_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, out, FlushDecompress::None).map_err(io::Error::other)?;
            let consumed = (self.inflate.total_in() - in_before) as usize;
            let produced = (self.inflate.total_out() - out_before) as usize;
            self.chunks.consume(consumed);
            self.ended = status == Status::StreamEnd;
            if produced > 0 {
                return Ok(produced);
            }
            if consumed == 0 && !self.ended {
                return Err(io::Error::other("the stream makes no progress"));
            }
        }
        Ok(0)
    }
}

/// Decompresses LZ4 frames until the body ends. `FrameDecoder` stops after one
/// frame, and takes a frame that was cut between two blocks for one that ended.
struct Lz4<B: Read> {
    frames: lz4_flex::frame::FrameDecoder<Lz4Input<B>>,
}

/// What a frame is read from: an end within the frame is an error.
struct Lz4Input<B> {
    chunks: B,
    in_frame: bool,
}

impl<B: BufRead> Lz4<B> {
    fn new(chunks: B) -> Self {
        Self { frames: lz4_flex::frame::FrameDecoder::new(Lz4Input { chunks, in_frame: false }) }
    }
}

impl<B: BufRead> Read for Lz4<B> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.frames.get_mut();
            if !input.in_frame && input.chunks.fill_buf()?.is_empty() {
                return Ok(0);
            }
            input.in_frame = true;
            let read = self.frames.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            self.frames.get_mut().in_frame = false;
        }
    }
}

impl<B: Read> Read for Lz4Input<B> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.chunks.read(out)? {
            // Not `UnexpectedEof`, which `FrameDecoder` would take for the end.
            0 if self.in_frame && !out.is_empty() => Err(io::Error::other("the stream is incomplete")),
            read => Ok(read),
        }
    }
}
