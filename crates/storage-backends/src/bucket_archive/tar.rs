//! Members of a tar, as they are written and as they are read: one after the other, none of them whole in memory.
//!
//! Only what this library writes is read: the PAX format (POSIX.1-2001), a global extended header in the beginning, and files.

use bytes::{Bytes, BytesMut};
use tar::{EntryType, Header};

/// Everything in a tar is padded to this.
const BLOCK: usize = 512;
/// What a member has beside its bytes: more than S3 allows.
const MAX_TEXT: u64 = 1 << 20;
/// More than any object can have: 5 TiB, or 50 TiB in newer stores.
const MAX_BYTES: u64 = 1 << 50;
/// Where the checksum of a header is.
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// How long the name of a member is that stands in its header.
const NAME: usize = 100;
/// What is longer has its length beside the header.
const MAX_OCTAL_BYTES: u64 = 0o777_7777_7777;
const PATH: &str = "path";
const SIZE: &str = "size";
/// Records that every program reads over.
const COMMENT: &str = "comment";
/// An extended attribute of the file: what programs do not warn of that do not know it, as they do of keywords of others.
const OBJECT: &str = "SCHILY.xattr.user.bucket-object";

/// The beginning, with a text that is for us alone.
pub(super) fn begin(comment: &str) -> Vec<u8> {
    let mut text = Vec::new();
    add_record(&mut text, COMMENT, comment);
    let mut out = Vec::new();
    add_text(&mut out, EntryType::XGlobalHeader, &text);
    out
}

/// What stands before the bytes of a file. `modified` is a Unix time.
pub(super) fn file(path: &str, bytes: u64, modified: u64, object: Option<&str>) -> Vec<u8> {
    let mut text = Vec::new();
    add_record(&mut text, PATH, path);
    if bytes > MAX_OCTAL_BYTES {
        add_record(&mut text, SIZE, &bytes.to_string());
    }
    if let Some(object) = object {
        add_record(&mut text, OBJECT, object);
    }
    let mut out = Vec::new();
    add_text(&mut out, EntryType::XHeader, &text);
    add_header(&mut out, EntryType::Regular, path, bytes, modified);
    out
}

/// What stands behind the bytes of a file.
pub(super) fn padding(bytes: u64) -> &'static [u8] {
    &[0; BLOCK][..padding_bytes(bytes)]
}

/// The end.
pub(super) fn end() -> &'static [u8] {
    &[0; 2 * BLOCK]
}

fn add_text(out: &mut Vec<u8>, kind: EntryType, text: &[u8]) {
    add_header(out, kind, "PaxHeaders/object", text.len() as u64, 0);
    out.extend_from_slice(text);
    out.extend_from_slice(padding(text.len() as u64));
}

fn add_header(out: &mut Vec<u8>, kind: EntryType, path: &str, bytes: u64, modified: u64) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes);
    header.set_mtime(modified);
    // Whoever reads no extended headers gets the beginning of the path.
    let mut length = path.len().min(NAME);
    while !path.is_char_boundary(length) {
        length -= 1;
    }
    let name = &path.as_bytes()[..length];
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// Adds `LENGTH KEYWORD=VALUE\n`, where the length is that of all of it.
fn add_record(text: &mut Vec<u8>, keyword: &str, value: &str) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    text.extend_from_slice(format!("{length} {keyword}={value}\n").as_bytes());
}

fn padding_bytes(bytes: u64) -> usize {
    // Less than a block.
    (bytes.wrapping_neg() % BLOCK as u64) as usize
}

/// What a tar is found to have.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It begins, with the text that is for us.
    Begin(String),
    /// A file begins.
    File { path: String, bytes: u64, object: Option<String> },
    /// Some of the bytes of the file.
    Piece(Bytes),
    /// The file ends.
    FileEnd,
}

/// A tar that is being read.
#[derive(Debug)]
pub(super) struct Tar {
    state: State,
    /// How many bytes were read.
    position: u64,
    has_begun: bool,
    /// What was said of the file that comes next.
    extended: Option<Extended>,
}

#[derive(Debug)]
enum State {
    Header(BytesMut),
    Text {
        is_global: bool,
        bytes: u64,
        text: BytesMut,
    },
    Content {
        left: u64,
        padding: usize,
    },
    Padding {
        left: usize,
        is_of_file: bool,
    },
    /// How many blocks of nothing there were.
    End {
        zeros: u64,
    },
}

#[derive(Debug)]
struct Extended {
    path: String,
    bytes: Option<u64>,
    object: Option<String>,
}

impl Default for Tar {
    fn default() -> Self {
        Self { state: State::Header(BytesMut::new()), position: 0, has_begun: false, extended: None }
    }
}

impl Tar {
    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether what may follow is nothing but zeros.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::End { zeros } if zeros >= 2 * BLOCK as u64)
    }

    /// Takes from `input` what comes next; `None` when it has no more. Errors complete "at byte N ".
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Event>, String> {
        loop {
            // What needs no input.
            match &mut self.state {
                State::Text { is_global, bytes, text } if text.len() as u64 == *bytes => {
                    let (is_global, text) = (*is_global, std::mem::take(text));
                    self.state = State::Padding { left: padding_bytes(text.len() as u64), is_of_file: false };
                    if let Some(event) = self.take_text(is_global, &text)? {
                        return Ok(Some(event));
                    }
                    continue;
                }
                State::Content { left: 0, padding } => {
                    self.state = State::Padding { left: *padding, is_of_file: true };
                    continue;
                }
                State::Padding { left: 0, is_of_file } => {
                    let is_of_file = *is_of_file;
                    self.state = State::Header(BytesMut::new());
                    if is_of_file {
                        return Ok(Some(Event::FileEnd));
                    }
                    continue;
                }
                _ => {}
            }
            if input.is_empty() {
                return Ok(None);
            }
            match &mut self.state {
                State::Header(block) => {
                    let piece = input.split_to(input.len().min(BLOCK - block.len()));
                    block.extend_from_slice(&piece);
                    self.position += piece.len() as u64;
                    if block.len() == BLOCK {
                        let block = std::mem::take(block);
                        if let Some(event) = self.take_header(&block)? {
                            return Ok(Some(event));
                        }
                    }
                }
                State::Text { bytes, text, .. } => {
                    // Both are at most as long as such a text may be.
                    let room = usize::try_from(*bytes).unwrap_or(usize::MAX) - text.len();
                    let piece = input.split_to(input.len().min(room));
                    text.extend_from_slice(&piece);
                    self.position += piece.len() as u64;
                }
                State::Content { left, .. } => {
                    let room = usize::try_from(*left).unwrap_or(usize::MAX);
                    let piece = input.split_to(input.len().min(room));
                    *left -= piece.len() as u64;
                    self.position += piece.len() as u64;
                    return Ok(Some(Event::Piece(piece)));
                }
                State::Padding { left, .. } => {
                    let piece = input.split_to(input.len().min(*left));
                    *left -= piece.len();
                    self.position += piece.len() as u64;
                    expect_zeros(&piece)?;
                }
                State::End { zeros } => {
                    let piece = input.split_to(input.len());
                    *zeros += piece.len() as u64;
                    self.position += piece.len() as u64;
                    expect_zeros(&piece)?;
                }
            }
        }
    }

    fn take_header(&mut self, block: &[u8]) -> Result<Option<Event>, String> {
        if block.iter().all(|byte| *byte == 0) && self.has_begun && self.extended.is_none() {
            self.state = State::End { zeros: BLOCK as u64 };
            return Ok(None);
        }
        let header = Header::from_byte_slice(block);
        let sum = |range: std::ops::Range<usize>| block[range].iter().map(|byte| u32::from(*byte)).sum::<u32>();
        // The checksum itself counts as blanks.
        let expected = sum(0..CHECKSUM.start) + 8 * u32::from(b' ') + sum(CHECKSUM.end..BLOCK);
        let is_ours = header.as_ustar().is_some() && header.cksum().is_ok_and(|found| found == expected);
        if !is_ours && !self.has_begun {
            return Err("there is no header: it is not the archive of a bucket".into());
        }
        if !is_ours {
            return Err("there is no header where one has to be, or it is damaged".into());
        }
        let bytes = header.entry_size().map_err(|_| "the length in the header makes no sense")?;
        match (header.entry_type(), self.has_begun, &self.extended) {
            (kind @ EntryType::XGlobalHeader, false, None) | (kind @ EntryType::XHeader, true, None) => {
                if bytes > MAX_TEXT {
                    return Err(format!("an extended header has {bytes} bytes, more than any can have"));
                }
                let is_global = kind == EntryType::XGlobalHeader;
                self.state = State::Text { is_global, bytes, text: BytesMut::new() };
                Ok(None)
            }
            (EntryType::Regular, true, Some(_)) => {
                let Some(Extended { path, bytes: said, object }) = self.extended.take() else { unreachable!() };
                let bytes = said.unwrap_or(bytes);
                if bytes > MAX_BYTES {
                    return Err(format!("a file has {bytes} bytes, more than any object can have"));
                }
                self.state = State::Content { left: bytes, padding: padding_bytes(bytes) };
                Ok(Some(Event::File { path, bytes, object }))
            }
            (_, false, _) => Err("it does not begin like the archive of a bucket".into()),
            (EntryType::Regular, true, None) => Err("a file has no extended header".into()),
            (kind, ..) => Err(format!("there is a member of type `{}`", char::from(kind.as_byte()).escape_default())),
        }
    }

    fn take_text(&mut self, is_global: bool, text: &[u8]) -> Result<Option<Event>, String> {
        let [mut path, mut size, mut object, mut comment] = [const { None }; 4];
        let mut rest = text;
        while !rest.is_empty() {
            let (keyword, value) = take_record(&mut rest).ok_or("a record of an extended header is broken")?;
            let place = match keyword {
                PATH if !is_global => &mut path,
                SIZE if !is_global => &mut size,
                OBJECT if !is_global => &mut object,
                COMMENT => &mut comment,
                _ => continue,
            };
            if place.replace(value.to_owned()).is_some() {
                return Err(format!("an extended header has `{keyword}` twice"));
            }
        }
        if is_global {
            self.has_begun = true;
            let comment = comment.ok_or("it does not begin like the archive of a bucket")?;
            return Ok(Some(Event::Begin(comment)));
        }
        let path = path.ok_or("an extended header has no path")?;
        let bytes = size.map(|size| size.parse().map_err(|_| "the length in an extended header makes no sense"));
        self.extended = Some(Extended { path, bytes: bytes.transpose()?, object });
        Ok(None)
    }
}

/// Takes a record off the beginning.
fn take_record<'t>(text: &mut &'t [u8]) -> Option<(&'t str, &'t str)> {
    let blank = text.iter().take(8).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&text[..blank]).ok()?.parse().ok()?;
    let record = text.get(blank + 1..length)?.strip_suffix(b"\n")?;
    *text = &text[length..];
    std::str::from_utf8(record).ok()?.split_once('=')
}

fn expect_zeros(piece: &[u8]) -> Result<(), String> {
    if piece.iter().all(|byte| *byte == 0) { Ok(()) } else { Err("there is something where nothing may be".into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(mut tar: Tar, archive: &[u8], piece: usize) -> Result<Vec<Event>, String> {
        let mut found = Vec::new();
        for piece in archive.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(event) = tar.next(&mut input)? {
                match (found.last_mut(), event) {
                    (Some(Event::Piece(all)), Event::Piece(more)) => *all = [&all[..], &more].concat().into(),
                    (_, event) => found.push(event),
                }
            }
            assert!(input.is_empty());
        }
        if tar.has_ended() { Ok(found) } else { Err("it has not ended".into()) }
    }

    fn archive(files: &[(String, Vec<u8>, Option<String>)]) -> Vec<u8> {
        let mut archive = begin("hello");
        for (path, content, object) in files {
            archive.extend(file(path, content.len() as u64, 1, object.as_deref()));
            archive.extend(content);
            archive.extend(padding(content.len() as u64));
        }
        archive.extend(end());
        archive
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for (length, expected) in [(0, "8 path=\n"), (1, "9 path=x\n"), (2, "11 path=xx\n")] {
            let mut text = Vec::new();
            add_record(&mut text, PATH, &"x".repeat(length));
            assert_eq!(text, expected.as_bytes());
        }
        for length in 80..1100 {
            let (mut text, value) = (Vec::new(), "x".repeat(length));
            add_record(&mut text, PATH, &value);
            let mut rest = &text[..];
            assert_eq!(take_record(&mut rest), Some((PATH, &*value)));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn an_object_of_5_tib_has_its_length_in_both_places() {
        let bytes = 5 << 40;
        let header = [begin(""), file("a", bytes, 1, None)].concat();
        let mut tar = Tar::default();
        let mut input = Bytes::from(header.clone());
        assert_eq!(tar.next(&mut input), Ok(Some(Event::Begin(String::new()))));
        let found = tar.next(&mut input);
        assert_eq!(found, Ok(Some(Event::File { path: "a".into(), bytes, object: None })));
        assert!(String::from_utf8_lossy(&header).contains("22 size=5497558138880\n"));
        assert_eq!(Header::from_byte_slice(&header[header.len() - BLOCK..]).entry_size().unwrap(), bytes);
    }

    #[test]
    fn hostile_lengths_are_refused_before_anything_is_made_of_them() {
        let hostile = |kind, bytes| {
            let mut out = begin("");
            add_header(&mut out, kind, "x", bytes, 0);
            events(Tar::default(), &out, usize::MAX).unwrap_err()
        };
        for bytes in [MAX_TEXT + 1, u64::MAX >> 1, u64::MAX] {
            assert!(hostile(EntryType::XHeader, bytes).contains("more than any can have"));
        }
        let mut text = Vec::new();
        for size in ["18446744073709551615", "1125899906842625"] {
            text.clear();
            add_record(&mut text, PATH, "x");
            add_record(&mut text, SIZE, size);
            let mut out = begin("");
            add_text(&mut out, EntryType::XHeader, &text);
            add_header(&mut out, EntryType::Regular, "x", 0, 0);
            let why = events(Tar::default(), &out, usize::MAX).unwrap_err();
            assert!(why.contains("more than any object can have"), "{why}");
        }
        for kind in [EntryType::Directory, EntryType::Symlink, EntryType::GNULongName, EntryType::XGlobalHeader] {
            assert!(hostile(kind, 0).contains("a member of type"));
        }
        assert!(hostile(EntryType::Regular, 0).contains("no extended header"));
    }

    #[test]
    fn broken_records_are_refused() {
        for text in [
            "",
            "x",
            "8 path=x\n",
            "11 path=x\n",
            "0 path=x\n",
            "-1 path=x\n",
            "99999999999 path=x\n",
            "18446744073709551615 path=x\n",
            "8 path=x",
            "9 pathxx\n",
            "2 ",
            "1 ",
            "9 size=1\n",
            "9 path=a\n9 path=b\n",
            "9 path=a\n11 size=-1\n",
            "9 path=a\n9 size=x\n",
        ] {
            let mut out = begin("");
            add_text(&mut out, EntryType::XHeader, text.as_bytes());
            let why = events(Tar::default(), &out, usize::MAX).unwrap_err();
            assert!(why.contains("extended header"), "{text:?}: {why}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            files in proptest::collection::vec(
                ("\\PC{1,200}", proptest::collection::vec(any::<u8>(), 0..1500), proptest::option::of("\\PC{0,1200}")), 0..4),
            piece in 1..2000_usize,
        ) {
            let archive = archive(&files);
            let mut expected = vec![Event::Begin("hello".into())];
            for (path, content, object) in &files {
                expected.push(Event::File { path: path.clone(), bytes: content.len() as u64, object: object.clone() });
                if !content.is_empty() {
                    expected.push(Event::Piece(content.clone().into()));
                }
                expected.push(Event::FileEnd);
            }
            prop_assert_eq!(events(Tar::default(), &archive, piece), Ok(expected));
            // What is cut has no end; a whole block of it may be missing.
            for cut in [1, BLOCK - 1, BLOCK, archive.len() / 2] {
                prop_assert!(events(Tar::default(), &archive[..archive.len() - cut], piece).is_err());
            }
        }

        #[test]
        fn damage_is_an_error_or_another_content_and_never_a_panic(
            at in any::<proptest::sample::Index>(), bit in 0..8_u32, piece in 1..2000_usize,
        ) {
            let mut archive = archive(&[("a".into(), vec![7; 700], Some("{}".into())), ("b".into(), Vec::new(), None)]);
            let at = at.index(archive.len());
            archive[at] ^= 1 << bit;
            let _ = events(Tar::default(), &archive, piece);
        }
    }
}
