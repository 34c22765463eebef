//! Decoding a body while its stored bytes are kept, so that they can be copied as they are.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::body::{BodyState, StoredBytes};
use crate::decode::{Decoder, Encoding};
use crate::error::Result;
use crate::input::Input;
use crate::limits::Limits;

/// A body that is decoded from what [`Kept`] remembers.
pub(crate) struct Teed<'a, R: Read> {
    input: Input<Tee<'a, R>>,
    state: BodyState,
    encoding: Encoding,
    kept: Kept,
}

impl<'a, R: Read> Teed<'a, R> {
    pub(crate) fn new(
        decoder: Decoder<'a, R>,
        stored: impl FnOnce(Decoder<'a, R>) -> Result<StoredBytes<'a, R>>,
    ) -> Result<Self> {
        let encoding = decoder.encoding();
        let stored = stored(decoder)?;
        let state = stored.state().clone();
        let kept = Kept::default();
        let (position, file) = (stored.input().position(), stored.input().file().map(Box::from));
        let tee = Tee { stored, kept: kept.clone() };
        Ok(Self { input: Input::starting_at(tee, position, file), state, encoding, kept })
    }

    pub(crate) fn decoder<'t>(&'t mut self, limits: &'t Limits) -> Decoder<'t, Tee<'a, R>> {
        Decoder::new(&mut self.input, &mut self.state, self.encoding, limits)
    }

    /// What is kept, for whoever copies it while the decoder is in use.
    pub(crate) fn kept(&self) -> Kept {
        self.kept.clone()
    }
}

/// The stored bytes that were read since they were last taken.
#[derive(Clone, Default)]
pub(crate) struct Kept(Rc<RefCell<KeptBytes>>);

#[derive(Default)]
struct KeptBytes {
    bytes: Vec<u8>,
    /// How many of them the decoder has been given.
    given: usize,
}

impl Kept {
    /// The bytes that the decoder has been given.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut kept = self.0.borrow_mut();
        let given = std::mem::take(&mut kept.given);
        let rest = kept.bytes.split_off(given);
        std::mem::replace(&mut kept.bytes, rest)
    }
}

/// Reads stored bytes and keeps them.
pub(crate) struct Tee<'a, R: Read> {
    stored: StoredBytes<'a, R>,
    kept: Kept,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut kept = self.kept.0.borrow_mut();
        if kept.given == kept.bytes.len()
            && let Some(piece) = self.stored.next_piece()?
        {
            kept.bytes.extend_from_slice(piece);
        }
        let step = out.len().min(kept.bytes.len() - kept.given);
        out[..step].copy_from_slice(&kept.bytes[kept.given..kept.given + step]);
        kept.given += step;
        Ok(step)
    }
}
