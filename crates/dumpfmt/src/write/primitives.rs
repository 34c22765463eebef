//! The format's primitives, as they are written: numbers of four bytes, positions of eight.

/// Bytes of magnitude in each number that is written here, as by pg_dump.
pub(crate) const INT_SIZE: u8 = 4;
/// Bytes in each position that is written here, as by pg_dump.
pub(crate) const OFFSET_SIZE: u8 = 8;

/// An `Int`: a sign, then the magnitude, lowest byte first.
pub(crate) fn put_int(value: i32, out: &mut Vec<u8>) {
    out.push(u8::from(value < 0));
    out.extend_from_slice(&value.unsigned_abs().to_le_bytes());
}

/// The length of a chunk, which the caller has made sure does not exceed an `Int`.
pub(crate) fn start_chunk(length: usize, out: &mut Vec<u8>) {
    debug_assert!(i32::try_from(length).is_ok(), "a chunk of {length} bytes");
    put_int(length as i32, out);
}

/// A `Str`: its length and its bytes, or a negative length for NULL.
///
/// # Errors
///
/// When it is longer than an `Int` can say.
pub(crate) fn put_text(text: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), TextTooLong> {
    match text {
        None => put_int(-1, out),
        Some(text) => {
            put_int(i32::try_from(text.len()).map_err(|_| TextTooLong)?, out);
            out.extend_from_slice(text);
        }
    }
    Ok(())
}

/// A text of 2 GiB or more.
#[derive(Debug)]
pub(crate) struct TextTooLong;
