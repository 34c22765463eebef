//! What stands for encryption in a crate that was built without it: keys that there are none of.

use std::io;

use bytes::Bytes;

#[derive(Clone, Debug)]
pub(crate) enum Recipients {}

impl Recipients {
    pub(crate) fn encrypt(&self) -> io::Result<Encrypting> {
        match *self {}
    }

    pub(crate) fn seal(&self, _plain: &[u8]) -> io::Result<String> {
        match *self {}
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Identities {}

impl Identities {
    pub(crate) fn decrypt(&self) -> Decrypting {
        match *self {}
    }

    pub(crate) fn open(&self, _sealed: &str) -> Result<Vec<u8>, Undecryptable> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Undecryptable {
    #[expect(dead_code, reason = "nothing is decrypted")]
    NoKey,
    #[expect(dead_code, reason = "nothing is decrypted")]
    Damaged(String),
}

#[derive(Debug)]
pub(crate) enum Encrypting {}

impl Encrypting {
    pub(crate) fn push(&mut self, _piece: &[u8]) -> io::Result<Bytes> {
        match *self {}
    }

    pub(crate) fn finish(self) -> io::Result<Bytes> {
        match self {}
    }
}

pub(crate) enum Decrypting {}

impl Decrypting {
    pub(crate) fn push(&mut self, _stored: &[u8]) -> Result<Bytes, Undecryptable> {
        match *self {}
    }

    pub(crate) fn finish(self) -> Result<Bytes, Undecryptable> {
        match self {}
    }
}
