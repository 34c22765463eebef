//! Compressing a body in pieces that do not depend on each other, so that several threads can work
//! on one body.
//!
//! - none: nothing to do.
//! - gzip: one stream for the whole body, since pg_restore reads no further than the first one. Each
//!   piece is deflated alone and flushed to a byte boundary; the checksums are combined in order.
//! - lz4, zstd: one frame for each piece. pg_restore reads on after a frame of zstd only when a
//!   chunk ends with it, so that frame is one chunk.

use flate2::{Compress, FlushCompress, Status};

use super::primitives::{put_int, start_chunk};
use super::sink::private::Container;
use super::specification::CompressionSpecification;
#[cfg(feature = "lz4-hc")]
use super::specification::LZ4_HC_FROM;
use crate::header::Compression;

/// How much of a body is compressed at once. Larger pieces compress better (what zstd finds again is
/// at most that far back), smaller ones take less memory. At usual ratios a piece makes a chunk of
/// about 128 KiB.
pub(crate) const PIECE_BYTES: usize = 512 << 10;
/// The longest chunk that is written, but for frames of zstd.
const CHUNK_BYTES: usize = 128 << 10;

/// The level of gzip when none is asked for. zlib, and with it pg_dump, takes 6; zlib-rs makes files of the same length
/// with 5, within half a percent, in four fifths of the time that its own 6 takes.
const USUAL_GZIP_LEVEL: u32 = 5;

/// Where a piece is in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) first: bool,
    pub(crate) last: bool,
}

/// A piece as it is written, and what is to be known of it for the end of its body.
#[derive(Debug, Default)]
pub(crate) struct EncodedPiece {
    /// The bytes for the file, lengths of chunks included.
    pub(crate) bytes: Vec<u8>,
    /// Of the piece before compression: Adler-32 in chunks, CRC-32 in files; only for gzip.
    checksum: u32,
    /// Bytes before compression.
    pub(crate) length: u64,
}

impl EncodedPiece {
    /// Bytes that are written as they are.
    pub(crate) fn stored(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }
}

/// Compresses pieces. Each thread has its own.
pub(crate) struct PieceEncoder {
    container: Container,
    codec: Codec,
    scratch: Vec<u8>,
}

enum Codec {
    None,
    Gzip {
        deflate: Box<Compress>,
        level: Option<i32>,
    },
    Lz4,
    /// At this level, of 3 and more.
    #[cfg(feature = "lz4-hc")]
    Lz4Hc(u32),
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
}

impl PieceEncoder {
    pub(crate) fn new(specification: &CompressionSpecification, container: Container) -> std::io::Result<Self> {
        let codec = match specification.algorithm() {
            Compression::None => Codec::None,
            Compression::Gzip => {
                // `CompressionSpecification` has none but 1 to 9.
                let level = specification.level().map_or(USUAL_GZIP_LEVEL, i32::unsigned_abs);
                let level = flate2::Compression::new(level);
                Codec::Gzip { deflate: Box::new(Compress::new(level, false)), level: specification.level() }
            }
            Compression::Lz4 => match specification.level() {
                #[cfg(feature = "lz4-hc")]
                Some(level @ LZ4_HC_FROM..) => Codec::Lz4Hc(level.unsigned_abs()),
                _ => Codec::Lz4,
            },
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let mut compressor =
                    zstd::bulk::Compressor::new(specification.level().unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))?;
                // pg_restore verifies it when it is there, though pg_dump does not write it.
                compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
                Codec::Zstd(compressor)
            }
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => return Err(std::io::ErrorKind::Unsupported.into()),
        };
        Ok(Self { container, codec, scratch: Vec::new() })
    }

    /// Compresses one piece.
    pub(crate) fn encode(&mut self, piece: &[u8], place: Place) -> std::io::Result<EncodedPiece> {
        let mut encoded = EncodedPiece { length: piece.len() as u64, ..EncodedPiece::default() };
        let compressed = match &mut self.codec {
            Codec::None => piece,
            Codec::Gzip { deflate, level } => {
                self.scratch.clear();
                if place.first {
                    self.scratch.extend_from_slice(gzip_header(self.container, *level));
                }
                deflate_piece(deflate, piece, place.last, &mut self.scratch)?;
                encoded.checksum = checksum(self.container, piece);
                if place.first && place.last {
                    put_gzip_trailer(self.container, encoded.checksum, encoded.length, &mut self.scratch);
                }
                &self.scratch
            }
            // A body of nothing, with the bytes that pg_dump writes: no checksum, and in the directory format no frame.
            Codec::Lz4 if piece.is_empty() => in_chunks(self.container, EMPTY_LZ4),
            #[cfg(feature = "lz4-hc")]
            Codec::Lz4Hc(_) if piece.is_empty() => in_chunks(self.container, EMPTY_LZ4),
            #[cfg(feature = "zstd")]
            Codec::Zstd(_) if piece.is_empty() => in_chunks(self.container, EMPTY_ZSTD),
            Codec::Lz4 => {
                self.scratch.clear();
                lz4_frame(piece, &mut self.scratch)?;
                &self.scratch
            }
            #[cfg(feature = "lz4-hc")]
            Codec::Lz4Hc(level) => {
                self.scratch.clear();
                lz4_hc_frame(piece, *level, &mut self.scratch)?;
                &self.scratch
            }
            #[cfg(feature = "zstd")]
            Codec::Zstd(compressor) => {
                self.scratch.resize(zstd::zstd_safe::compress_bound(piece.len()), 0);
                let length = compressor.compress_to_buffer(piece, &mut self.scratch[..])?;
                &self.scratch[..length]
            }
        };
        let whole_frame = !matches!(self.codec, Codec::None | Codec::Gzip { .. });
        match self.container {
            Container::File => encoded.bytes.extend_from_slice(compressed),
            Container::Chunks if whole_frame && i32::try_from(compressed.len()).is_err() => {
                let text = "a row of 2 GiB or more cannot be written with lz4 or zstd: it has to be one chunk";
                return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, text));
            }
            Container::Chunks if whole_frame => put_chunk(compressed, &mut encoded.bytes),
            Container::Chunks => {
                encoded.bytes.reserve(compressed.len() + 64);
                compressed.chunks(CHUNK_BYTES).for_each(|chunk| put_chunk(chunk, &mut encoded.bytes));
            }
        }
        Ok(encoded)
    }
}

/// A frame of LZ4 (linked blocks of 64 KiB) without a block.
const EMPTY_LZ4: &[u8] = b"\x04\x22\x4d\x18\x40\x40\xc0\0\0\0\0";
/// A frame of zstd (one segment of 0 bytes) with an empty block, the last one.
#[cfg(feature = "zstd")]
const EMPTY_ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x20\x00\x01\0\0";

fn in_chunks(container: Container, frame: &'static [u8]) -> &'static [u8] {
    match container {
        Container::Chunks => frame,
        Container::File => &[],
    }
}

/// What a body needs after its last piece: the sum over all of them.
#[derive(Debug)]
pub(crate) struct BodyChecksum {
    container: Container,
    gzip: bool,
    pieces: u64,
    checksum: u32,
    pub(crate) length: u64,
}

impl BodyChecksum {
    pub(crate) fn new(compression: Compression, container: Container) -> Self {
        let checksum = match container {
            Container::Chunks => 1,
            Container::File => 0,
        };
        Self { container, gzip: compression == Compression::Gzip, pieces: 0, checksum, length: 0 }
    }

    /// Adds the next piece, in order.
    pub(crate) fn add(&mut self, piece: &EncodedPiece) {
        self.pieces += 1;
        self.length += piece.length;
        if self.gzip {
            self.checksum = match self.container {
                Container::Chunks => zlib_rs::adler32::adler32_combine(self.checksum, piece.checksum, piece.length),
                Container::File => zlib_rs::crc32::crc32_combine(self.checksum, piece.checksum, piece.length),
            };
        }
    }

    /// What follows the last piece within the body: the trailer of gzip, unless the only piece has it.
    pub(crate) fn put_end(&self, out: &mut Vec<u8>) {
        if self.gzip && self.pieces > 1 {
            let mut trailer = Vec::with_capacity(8);
            put_gzip_trailer(self.container, self.checksum, self.length, &mut trailer);
            match self.container {
                Container::Chunks => put_chunk(&trailer, out),
                Container::File => out.extend_from_slice(&trailer),
            }
        }
        if self.container == Container::Chunks {
            put_int(0, out);
        }
    }
}

fn put_chunk(bytes: &[u8], out: &mut Vec<u8>) {
    // A chunk of no bytes would be the end of the body.
    if !bytes.is_empty() {
        start_chunk(bytes.len(), out);
        out.extend_from_slice(bytes);
    }
}

fn gzip_header(container: Container, level: Option<i32>) -> &'static [u8] {
    match (container, level) {
        // Window of 32 KiB, then how hard was tried, then bits that make it a multiple of 31 (RFC 1950).
        (Container::Chunks, Some(1)) => &[0x78, 0x01],
        (Container::Chunks, Some(2..=5)) => &[0x78, 0x5e],
        (Container::Chunks, Some(7..=9)) => &[0x78, 0xda],
        (Container::Chunks, _) => &[0x78, 0x9c],
        // No name, no time, how hard was tried, made on Unix (RFC 1952).
        (Container::File, Some(1)) => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 3],
        (Container::File, Some(9)) => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3],
        (Container::File, _) => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3],
    }
}

fn put_gzip_trailer(container: Container, checksum: u32, length: u64, out: &mut Vec<u8>) {
    match container {
        Container::Chunks => out.extend_from_slice(&checksum.to_be_bytes()),
        Container::File => {
            out.extend_from_slice(&checksum.to_le_bytes());
            // RFC 1952: the length modulo 2^32.
            out.extend_from_slice(&(length as u32).to_le_bytes());
        }
    }
}

fn checksum(container: Container, piece: &[u8]) -> u32 {
    match container {
        Container::Chunks => zlib_rs::adler32::adler32(1, piece),
        Container::File => zlib_rs::crc32::crc32(0, piece),
    }
}

/// Deflates a piece that refers to nothing before it and ends at a byte.
fn deflate_piece(deflate: &mut Compress, piece: &[u8], last: bool, out: &mut Vec<u8>) -> std::io::Result<()> {
    deflate.reset();
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    // Where zlib-rs ends a block depends on the room that it is given, so there is always enough: what cannot be
    // compressed takes up to nine bits for each byte at level 1.
    out.reserve(piece.len() + piece.len() / 8 + 64);
    loop {
        let done = deflate.total_in() as usize;
        let status = deflate.compress_vec(&piece[done..], out, flush).map_err(std::io::Error::other)?;
        let finished = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            // All is out when room is left over.
            _ => deflate.total_in() as usize == piece.len() && out.len() < out.capacity(),
        };
        if finished {
            return Ok(());
        }
        out.reserve(out.len().max(4096));
    }
}

/// Independent blocks would lose much of the ratio; within a frame of one piece they are linked, as pg_dump's are.
fn lz4_frame(piece: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    let info = FrameInfo::new()
        .block_mode(BlockMode::Linked)
        .block_size(BlockSize::Max64KB)
        // pg_dump writes none; with it a flipped bit is found.
        .content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(piece)?;
    encoder.try_finish()?;
    Ok(())
}

/// The same frame, of the compressor that tries harder.
#[cfg(feature = "lz4-hc")]
fn lz4_hc_frame(piece: &[u8], level: u32, out: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Write;

    use lz4::{BlockMode, BlockSize, ContentChecksum, EncoderBuilder, liblz4::BlockChecksum};

    // A new one for each piece: what it found in the one before would show in the bytes.
    let mut encoder = EncoderBuilder::new()
        .level(level)
        .block_mode(BlockMode::Linked)
        .block_size(BlockSize::Max64KB)
        .block_checksum(BlockChecksum::NoBlockChecksum)
        .checksum(ContentChecksum::ChecksumEnabled)
        .build(out)?;
    encoder.write_all(piece)?;
    encoder.finish().1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits, which do not compress well, and differ.
    fn digits(seed: u64, length: usize) -> Vec<u8> {
        let step = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1));
        let numbers = std::iter::successors(Some(seed), step);
        numbers.flat_map(|number| format!("{:08x}", number >> 32).into_bytes()).take(length).collect()
    }

    #[test]
    fn a_piece_does_not_depend_on_what_was_compressed_before_it() {
        let mut texts = vec!["none", "gzip", "gzip:1", "gzip:9", "lz4"];
        if cfg!(feature = "lz4-hc") {
            texts.extend(["lz4:3", "lz4:9", "lz4:12"]);
        }
        for text in texts {
            let specification = text.parse().unwrap();
            let encoder = || PieceEncoder::new(&specification, Container::Chunks).unwrap();
            let (piece, place) = (digits(7, PIECE_BYTES), Place { first: false, last: false });
            let alone = encoder().encode(&piece, place).unwrap();
            let mut used = encoder();
            used.encode(&digits(8, 1000), place).unwrap();
            used.encode(&vec![0; PIECE_BYTES], place).unwrap();
            assert!(used.encode(&piece, place).unwrap().bytes == alone.bytes, "{text}");
            used.scratch.reserve(8 << 20);
            assert!(used.encode(&piece, place).unwrap().bytes == alone.bytes, "{text}, with more room");
        }
    }
}
