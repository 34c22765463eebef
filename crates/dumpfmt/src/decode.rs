//! The decompression on top of a body's stored bytes.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use crate::body::{Body, BodyState};
use crate::error::{Error, ErrorKind, Result};
use crate::header::Compression;
use crate::input::Input;
use crate::limits::Limits;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    None,
    /// Deflate in a zlib wrapper: what the custom format calls gzip.
    Zlib,
    /// Deflate in a gzip wrapper: the files of a directory.
    Gzip,
    Lz4,
    Zstd,
}

impl Encoding {
    /// That of a body in the custom format.
    pub(crate) fn in_custom(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Zlib,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }

    pub(crate) fn compression(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Zlib | Self::Gzip => Compression::Gzip,
            Self::Lz4 => Compression::Lz4,
            Self::Zstd => Compression::Zstd,
        }
    }
}

/// The bytes of a body as they were before pg_dump compressed them.
pub(crate) struct Decoder<'a, R: Read> {
    codec: Codec<'a, R>,
    encoding: Encoding,
    limits: &'a Limits,
    begun: bool,
    finished: bool,
}

enum Codec<'a, R: Read> {
    None(Body<'a, R>),
    /// Not read yet: a body that is passed over, or copied as it is, needs no codec.
    Unopened(Body<'a, R>),
    Zlib(Box<Zlib<Body<'a, R>>>),
    Gzip(Box<MultiGzDecoder<Body<'a, R>>>),
    Lz4(Box<Lz4<Body<'a, R>>>),
    #[cfg(feature = "zstd")]
    Zstd(Box<ZstdDecoder<Body<'a, R>>>),
    /// While the codec is made.
    Opening,
}

impl<'a, R: Read> Decoder<'a, R> {
    pub(crate) fn new(
        input: &'a mut Input<R>,
        state: &'a mut BodyState,
        encoding: Encoding,
        limits: &'a Limits,
    ) -> Self {
        let body = Body::new(input, state);
        let codec = if encoding == Encoding::None { Codec::None(body) } else { Codec::Unopened(body) };
        Self { codec, encoding, limits, begun: false, finished: false }
    }

    /// The position in the archive, for errors.
    pub(crate) fn position(&self) -> u64 {
        self.body().map_or(0, |body| body.input().position())
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Completes an error with the file that it was noticed in.
    pub(crate) fn locate(&self, error: Error) -> Error {
        match self.body() {
            Some(body) => body.input().locate(error),
            None => error,
        }
    }

    /// The stored bytes instead, when nothing was read yet.
    pub(crate) fn into_body(self) -> Option<(Compression, Body<'a, R>)> {
        match self.codec {
            Codec::None(body) | Codec::Unopened(body) if !self.begun => Some((self.encoding.compression(), body)),
            _ => None,
        }
    }

    /// `None` only while a codec is made.
    pub(crate) fn body(&self) -> Option<&Body<'a, R>> {
        match &self.codec {
            Codec::None(body) | Codec::Unopened(body) => Some(body),
            Codec::Zlib(zlib) => Some(&zlib.body),
            Codec::Gzip(gzip) => Some(gzip.get_ref()),
            Codec::Lz4(lz4) => Some(&lz4.frames.get_ref().body),
            #[cfg(feature = "zstd")]
            Codec::Zstd(zstd) => Some(zstd.reader()),
            Codec::Opening => None,
        }
    }

    fn open(&mut self) -> Result<()> {
        #[cfg(not(feature = "zstd"))]
        if self.encoding == Encoding::Zstd {
            let text = "the archive is compressed with zstd, which this build leaves out (feature `zstd`)";
            return Err(Error::new(ErrorKind::Unsupported(text.into()), self.position()));
        }
        self.codec = match std::mem::replace(&mut self.codec, Codec::Opening) {
            Codec::Unopened(body) => match self.encoding {
                Encoding::None => Codec::None(body),
                Encoding::Zlib => Codec::Zlib(Box::new(Zlib::new(body))),
                Encoding::Gzip => Codec::Gzip(Box::new(MultiGzDecoder::new(body))),
                Encoding::Lz4 => Codec::Lz4(Box::new(Lz4::new(body))),
                #[cfg(feature = "zstd")]
                Encoding::Zstd => match zstd_frames(self.limits.zstd_window_log) {
                    Ok(frames) => Codec::Zstd(Box::new(ZstdDecoder::new(body, frames))),
                    Err(e) => {
                        let error = Error::new(ErrorKind::Io(e), body.input().position());
                        self.codec = Codec::Unopened(body);
                        return Err(error);
                    }
                },
                #[cfg(not(feature = "zstd"))]
                Encoding::Zstd => Codec::Unopened(body),
            },
            opened => opened,
        };
        Ok(())
    }

    /// Nothing may follow the compressed stream within the body.
    fn expect_end(&mut self) -> io::Result<()> {
        let offset = self.position();
        let rest = match &mut self.codec {
            Codec::None(body) | Codec::Unopened(body) => body.fill_buf()?,
            Codec::Zlib(zlib) => zlib.body.fill_buf()?,
            Codec::Gzip(gzip) => gzip.get_mut().fill_buf()?,
            Codec::Lz4(lz4) => lz4.frames.get_mut().body.fill_buf()?,
            #[cfg(feature = "zstd")]
            Codec::Zstd(zstd) => zstd.reader_mut().fill_buf()?,
            Codec::Opening => &[],
        };
        if !rest.is_empty() {
            return Err(Error::corrupt("bytes follow the end of the compressed data", offset).into());
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
        self.begun = true;
        if let Codec::Unopened(body) = &mut self.codec {
            // pg_dump makes a file without a byte of an empty large object under lz4 or zstd, and
            // pg_restore takes it for that. An empty gzip stream always has some.
            let may_be_empty = matches!(self.encoding, Encoding::Lz4 | Encoding::Zstd);
            if may_be_empty && body.fill_buf()?.is_empty() {
                self.finished = true;
                return Ok(0);
            }
            self.open()?;
        }
        let (name, result) = match &mut self.codec {
            Codec::None(body) => ("none", body.read(out)),
            Codec::Zlib(zlib) => ("gzip", zlib.read(out)),
            Codec::Gzip(gzip) => ("gzip", gzip.read(out)),
            Codec::Lz4(lz4) => ("lz4", lz4.read(out)),
            #[cfg(feature = "zstd")]
            Codec::Zstd(zstd) => ("zstd", zstd.read(out)),
            Codec::Unopened(_) | Codec::Opening => ("none", Err(io::Error::other("the codec is not there"))),
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
type ZstdDecoder<B> = zstd::stream::zio::Reader<B, zstd::stream::raw::Decoder<'static>>;

#[cfg(feature = "zstd")]
fn zstd_frames(window_log: u32) -> io::Result<zstd::stream::raw::Decoder<'static>> {
    // What the library takes; no frame has a window below the first, or above the second.
    let most = if cfg!(target_pointer_width = "64") { 31 } else { 30 };
    let mut frames = zstd::stream::raw::Decoder::new()?;
    frames.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(window_log.clamp(10, most)))?;
    Ok(frames)
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
    body: B,
    inflate: Decompress,
    ended: bool,
}

impl<B: BufRead> Zlib<B> {
    fn new(body: B) -> Self {
        Self { body, inflate: Decompress::new(true), ended: false }
    }
}

impl<B: BufRead> Read for Zlib<B> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let input = self.body.fill_buf()?;
            if input.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (in_before, out_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, out, FlushDecompress::None).map_err(io::Error::other)?;
            let consumed = (self.inflate.total_in() - in_before) as usize;
            let produced = (self.inflate.total_out() - out_before) as usize;
            self.body.consume(consumed);
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
    body: B,
    in_frame: bool,
}

impl<B: BufRead> Lz4<B> {
    fn new(body: B) -> Self {
        Self { frames: lz4_flex::frame::FrameDecoder::new(Lz4Input { body, in_frame: false }) }
    }
}

impl<B: BufRead> Read for Lz4<B> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.frames.get_mut();
            if !input.in_frame && input.body.fill_buf()?.is_empty() {
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
        match self.body.read(out)? {
            // Not `UnexpectedEof`, which `FrameDecoder` would take for the end.
            0 if self.in_frame && !out.is_empty() => Err(io::Error::other("the stream is incomplete")),
            read => Ok(read),
        }
    }
}
