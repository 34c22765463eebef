//! Backups that only the holders of a key can read.
//!
//! What is stored are files in the binary format of [age](https://age-encryption.org/v1), so that `age -d -i key.txt` gives
//! back what was backed up, without this crate.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, x25519};
use bytes::Bytes;

use crate::key_file::{KeyFileError, lines};

/// Each of them takes about 100 bytes at the beginning of every object.
const MOST_RECIPIENTS: usize = 64;
/// More than a header with so many recipients has.
const MOST_HEADER_BYTES: usize = 8 << 10;
/// What is encrypted at once, and the code that authenticates it.
const CHUNK_BYTES: usize = 64 << 10;
const STORED_CHUNK_BYTES: usize = CHUNK_BYTES + 16;
/// What follows the header.
const NONCE_BYTES: usize = 16;

/// For whom backups are encrypted: each of them can read them alone.
///
/// ```
/// use storage_backends::Recipients;
///
/// let recipients = Recipients::parse(
///     "# the administrators
///      age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
/// )?;
/// # Ok::<(), storage_backends::KeyFileError>(())
/// ```
#[derive(Clone)]
pub struct Recipients {
    keys: Arc<[x25519::Recipient]>,
}

impl Recipients {
    /// Reads what `age -R` reads: a recipient such as `age1...` in each line; empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    ///
    /// A line is something else, there is none at all, or there are more than 64.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let keys = lines(text).map(|(number, line)| {
            line.parse::<x25519::Recipient>().map_err(|_| match line.split_once('1') {
                Some(("AGE-SECRET-KEY-", _)) => {
                    KeyFileError::at(number, "is a secret key: give the public one, which `age-keygen -y` tells")
                }
                _ => KeyFileError::at(number, "is no recipient for X25519, such as `age1...`"),
            })
        });
        Self::new(keys.collect::<Result<_, _>>()?)
    }

    /// These and others, such as those of another file.
    ///
    /// # Errors
    ///
    /// These are more than 64 together.
    pub fn and(&self, others: &Self) -> Result<Self, KeyFileError> {
        Self::new(self.keys.iter().chain(&*others.keys).cloned().collect())
    }

    fn new(keys: Vec<x25519::Recipient>) -> Result<Self, KeyFileError> {
        match keys.len() {
            0 => Err(KeyFileError::new("there is no recipient, such as `age1...`")),
            1..=MOST_RECIPIENTS => Ok(Self { keys: keys.into() }),
            _ => Err(KeyFileError::new("there are more than 64 recipients")),
        }
    }

    fn encryptor(&self) -> io::Result<Encryptor> {
        Encryptor::with_recipients(self.keys.iter().map(|key| key as _)).map_err(io::Error::other)
    }

    pub(crate) fn encrypt(&self) -> io::Result<Encrypting> {
        let buffer = Buffer::default();
        Ok(Encrypting { writer: self.encryptor()?.wrap_output(buffer.clone())?, buffer })
    }

    /// Encrypts what is small, as text.
    pub(crate) fn seal(&self, plain: &[u8]) -> io::Result<String> {
        let armored = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        let mut writer = self.encryptor()?.wrap_output(armored)?;
        writer.write_all(plain)?;
        String::from_utf8(writer.finish()?.finish()?).map_err(io::Error::other)
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(ToString::to_string)).finish()
    }
}

/// The secret keys that backups are decrypted with. They are tried in turn.
#[derive(Clone)]
pub struct Identities {
    keys: Arc<[x25519::Identity]>,
}

impl Identities {
    /// Reads what `age-keygen` writes and `age -i` reads: a secret key such as `AGE-SECRET-KEY-1...` in each line; empty lines and
    /// those that begin with `#` are left out. The texts of several files may follow each other.
    ///
    /// # Errors
    ///
    /// A line is something else, or there is none at all. It is not quoted: it may be a secret.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
            let why =
                "the key file is encrypted with a passphrase, for which nobody can be asked: decrypt it with `age -d`";
            return Err(KeyFileError::new(why));
        }
        let keys = lines(text).map(|(number, line)| {
            let wrong = "is no secret key for X25519, such as `AGE-SECRET-KEY-1...`";
            line.parse::<x25519::Identity>().map_err(|_| KeyFileError::at(number, wrong))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(KeyFileError::new("there is no secret key, such as `AGE-SECRET-KEY-1...`"));
        }
        Ok(Self { keys: keys.into() })
    }

    /// Their public keys.
    ///
    /// # Errors
    ///
    /// These are more than 64.
    pub fn recipients(&self) -> Result<Recipients, KeyFileError> {
        Recipients::new(self.keys.iter().map(x25519::Identity::to_public).collect())
    }

    pub(crate) fn decrypt(&self) -> Decrypting {
        Decrypting { identities: self.clone(), buffer: Buffer::default(), reader: None }
    }

    /// Decrypts what was sealed.
    pub(crate) fn open(&self, sealed: &str) -> Result<Vec<u8>, Undecryptable> {
        let mut stored = Vec::new();
        ArmoredReader::new(sealed.as_bytes()).read_to_end(&mut stored)?;
        let mut decrypting = self.decrypt();
        let mut plain = decrypting.push(&stored)?.to_vec();
        plain.extend_from_slice(&decrypting.finish()?);
        Ok(plain)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.to_public().to_string())).finish()
    }
}

/// Why something cannot be decrypted.
#[derive(Debug)]
pub(crate) enum Undecryptable {
    /// It was encrypted for others.
    NoKey,
    /// In words that complete "it cannot be decrypted: ".
    Damaged(String),
}

impl From<io::Error> for Undecryptable {
    // The bytes are in memory, so it is about them. A last chunk that is cut short looks like one that was changed.
    fn from(_: io::Error) -> Self {
        Self::Damaged("it was changed, or its end is missing".to_owned())
    }
}

impl From<DecryptError> for Undecryptable {
    fn from(error: DecryptError) -> Self {
        match error {
            DecryptError::NoMatchingKeys => Self::NoKey,
            DecryptError::Io(error) => error.into(),
            DecryptError::UnknownFormat => Self::Damaged("it is of a version of age that is not known here".to_owned()),
            _ => Self::Damaged("its header was changed".to_owned()),
        }
    }
}

/// An object that is being encrypted: what goes in comes out at once, but for the last chunk.
pub(crate) struct Encrypting {
    writer: StreamWriter<Buffer>,
    buffer: Buffer,
}

impl Encrypting {
    /// Takes the next bytes; returns what is to be stored, perhaps nothing yet.
    pub(crate) fn push(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.writer.write_all(piece)?;
        Ok(self.buffer.drain())
    }

    /// Returns what is to be stored at the end.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        Ok(self.writer.finish()?.drain())
    }
}

impl fmt::Debug for Encrypting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypting").finish_non_exhaustive()
    }
}

/// An object that is being decrypted. What comes out is authentic; whether it is all of it is known at the end.
pub(crate) struct Decrypting {
    identities: Identities,
    /// What was not decrypted yet: less than a header, or less than a chunk.
    buffer: Buffer,
    /// Once the header is there.
    reader: Option<StreamReader<Input>>,
}

impl Decrypting {
    /// Takes the next stored bytes; returns what is in them, perhaps nothing yet.
    pub(crate) fn push(&mut self, stored: &[u8]) -> Result<Bytes, Undecryptable> {
        self.buffer.lock().extend(stored);
        if self.reader.is_none()
            && let Some(header) = self.take_header()?
        {
            let input = Input { header: io::Cursor::new(header), rest: self.buffer.clone() };
            // The other constructor parses the header anew for every byte of it.
            let decryptor = Decryptor::new_buffered(input)?;
            self.reader = Some(decryptor.decrypt(self.identities.keys.iter().map(|key| key as _))?);
        }
        let mut plain = Vec::new();
        if let Some(reader) = &mut self.reader {
            // The reader takes less than a chunk for the last one.
            while self.buffer.lock().len() >= STORED_CHUNK_BYTES {
                read_chunk(reader, &mut plain)?;
            }
        }
        Ok(plain.into())
    }

    /// Returns what is in the last bytes.
    pub(crate) fn finish(self) -> Result<Bytes, Undecryptable> {
        let mut reader = self.reader.ok_or_else(|| Undecryptable::Damaged("most of it is missing".to_owned()))?;
        let mut plain = Vec::new();
        while read_chunk(&mut reader, &mut plain)? > 0 {}
        Ok(plain.into())
    }

    /// The header, once it is complete. It ends with the only line that begins with three dashes, and a nonce.
    fn take_header(&self) -> Result<Option<Vec<u8>>, Undecryptable> {
        let mut buffer = self.buffer.lock();
        let bytes = &*buffer.make_contiguous();
        let bytes = &bytes[..bytes.len().min(MOST_HEADER_BYTES)];
        let magic = b"age-encryption.org/";
        if !bytes.starts_with(&magic[..magic.len().min(bytes.len())]) {
            return Err(Undecryptable::Damaged("it is no file of age".to_owned()));
        }
        let last_line = bytes.windows(4).position(|window| window == b"\n---").map(|at| at + 1);
        let end = last_line.and_then(|at| Some(at + bytes[at..].iter().position(|c| *c == b'\n')? + 1));
        // The library parses all of them anew for every line. It adds one of its own, at random, that is for nobody.
        let header = &bytes[..end.unwrap_or(bytes.len())];
        if header.windows(4).filter(|window| window == b"\n-> ").count() > MOST_RECIPIENTS + 1 {
            return Err(Undecryptable::Damaged("its header has more recipients than any can have".to_owned()));
        }
        match end.map(|end| end + NONCE_BYTES) {
            Some(end) if bytes.len() >= end => Ok(Some(buffer.drain(..end).collect())),
            _ if bytes.len() == MOST_HEADER_BYTES => {
                Err(Undecryptable::Damaged("its header is longer than any can be".to_owned()))
            }
            _ => Ok(None),
        }
    }
}

/// One call gives a whole chunk, if there is room for it.
fn read_chunk(reader: &mut StreamReader<Input>, plain: &mut Vec<u8>) -> Result<usize, Undecryptable> {
    let before = plain.len();
    plain.resize(before + CHUNK_BYTES, 0);
    let read = reader.read(&mut plain[before..])?;
    plain.truncate(before + read);
    Ok(read)
}

/// What the library reads: first a header, line by line, and then chunks.
struct Input {
    header: io::Cursor<Vec<u8>>,
    rest: Buffer,
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.header.read(into)? {
            0 => self.rest.read(into),
            read => Ok(read),
        }
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.header.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.header.consume(bytes);
    }
}

/// Bytes between us and the library, which wants to read and to write files.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<VecDeque<u8>>>);

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        // Nothing that is done with it leaves half of it done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drain(&self) -> Bytes {
        Vec::from(std::mem::take(&mut *self.lock())).into()
    }
}

impl Read for Buffer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.lock().read(into)
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
