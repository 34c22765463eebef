//! Where in a file each entry records the position of its data.

use std::io::Read;

use super::{Scratch, TocEntry};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::input::{Input, TextBudget};
use crate::limits::Limits;
use crate::version::Version;

/// The bytes of a custom archive that record positions: for each entry with data one field.
#[derive(Debug)]
pub(crate) struct PositionFields {
    /// Dump ID and first byte of the field, in the order of the table of contents.
    pub(crate) fields: Vec<(i32, u64)>,
    /// Bytes of each field.
    pub(crate) width: usize,
    /// Where the table of contents ends.
    pub(crate) end: u64,
}

impl PositionFields {
    /// Reads the table of contents, which begins here, to find its fields.
    pub(crate) fn read<R: Read>(input: &mut Input<R>, header: &Header, limits: &Limits) -> Result<Self> {
        let (width, behind) = widths(header);
        let mut budget = TextBudget::new(limits.toc_bytes);
        let mut scratch = Scratch::default();
        let mut fields = Vec::new();
        // The caller has read the same bytes before: a count that is too large ends at the end of the file.
        let count = input.int(header.int_size, "before its table of contents")?;
        for _ in 0..count {
            let entry = TocEntry::read(input, header, &mut budget, &mut scratch)?;
            if entry.has_data() {
                fields.push((entry.dump_id, input.position() - (width + behind) as u64));
            }
            // Nothing of the entry is kept.
            scratch.store.forget();
            budget = TextBudget::new(limits.toc_bytes);
        }
        Ok(Self { fields, width, end: input.position() })
    }
}

/// Bytes of a field, and bytes of the entry behind it.
fn widths(header: &Header) -> (usize, usize) {
    if header.version >= Version::OFFSET_SIZE {
        return (1 + usize::from(header.offset_size), 0);
    }
    // A number, and another one that means nothing any more.
    let int = 1 + usize::from(header.int_size);
    (int, int)
}

/// The bytes of a field that records `position`.
pub(crate) fn position_field(header: &Header, position: u64) -> Result<Vec<u8>> {
    let (flag, size) =
        if header.version >= Version::OFFSET_SIZE { (2, header.offset_size) } else { (0, header.int_size) };
    let digits = position.to_le_bytes();
    let (low, high) = digits.split_at(usize::from(size).min(digits.len()));
    if high.iter().any(|&byte| byte != 0) {
        let text = format!("the archive has {size} bytes for a position, too few for the byte {position}");
        return Err(Error::usage(text));
    }
    let mut field = vec![flag];
    field.extend_from_slice(low);
    field.resize(1 + usize::from(size), 0);
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::LocalTime;

    #[test]
    fn a_position_takes_as_many_bytes_as_the_header_says() {
        let mut header = Header::new("store", LocalTime::new(2026, 11, 20, 3, 0, 0));
        assert_eq!(position_field(&header, 0x1234).unwrap(), [2, 0x34, 0x12, 0, 0, 0, 0, 0, 0]);
        header.offset_size = 2;
        assert_eq!(position_field(&header, 0x1234).unwrap(), [2, 0x34, 0x12]);
        assert!(position_field(&header, 0x1_0000).unwrap_err().to_string().contains("2 bytes for a position"));
        header.offset_size = 12;
        assert_eq!(position_field(&header, u64::MAX).unwrap().len(), 13);
        assert_eq!(widths(&header), (13, 0));
        // A number with its sign, and one more that means nothing.
        (header.version, header.int_size) = (Version::NAMESPACE, 4);
        assert_eq!(position_field(&header, 0x1234).unwrap(), [0, 0x34, 0x12, 0, 0]);
        assert_eq!(widths(&header), (5, 5));
        assert!(position_field(&header, 1 << 32).is_err());
    }
}
