//! Where the texts and dependencies of entries are kept: those of many entries in one piece of
//! memory, so that a million entries are not two million allocations.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A piece is closed when it is as long. Not much more than an entry then keeps alive what it shares
/// a piece with.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Default)]
struct Piece {
    texts: Box<[u8]>,
    dependencies: Box<[i32]>,
}

/// What is kept of one entry.
#[derive(Clone, Default)]
pub(super) struct Stored {
    piece: Arc<Piece>,
    text: Range<usize>,
    dependencies: Range<usize>,
}

impl Stored {
    /// What is shared with no other entry.
    pub(super) fn new(text: Vec<u8>, dependencies: Vec<i32>) -> Self {
        let (text_range, dependencies_range) = (0..text.len(), 0..dependencies.len());
        let piece = Piece { texts: text.into(), dependencies: dependencies.into() };
        Self { piece: Arc::new(piece), text: text_range, dependencies: dependencies_range }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.piece.texts[self.text.clone()]
    }

    pub(super) fn dependencies(&self) -> &[i32] {
        &self.piece.dependencies[self.dependencies.clone()]
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() && self.dependencies() == other.dependencies()
    }
}

impl Eq for Stored {}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text().escape_ascii().to_string();
        f.debug_struct("Stored").field("text", &text).field("dependencies", &self.dependencies()).finish()
    }
}

/// A piece that entries are added to.
#[derive(Default)]
pub(super) struct Store {
    /// To be appended to.
    pub(super) texts: Vec<u8>,
    pub(super) dependencies: Vec<i32>,
    /// Where the present entry begins in both.
    begin: (usize, usize),
    shared: Arc<Piece>,
}

impl Store {
    /// What was appended to the texts for the present entry.
    pub(super) fn text(&self) -> &[u8] {
        &self.texts[self.begin.0..]
    }

    /// Ends the present entry. What is returned is empty until [`close`](Self::close).
    pub(super) fn end_entry(&mut self) -> Stored {
        let (text, dependencies) = (self.begin.0..self.texts.len(), self.begin.1..self.dependencies.len());
        self.begin = (text.end, dependencies.end);
        Stored { piece: Arc::clone(&self.shared), text, dependencies }
    }

    /// Forgets all entries of the piece.
    pub(super) fn forget(&mut self) {
        self.texts.clear();
        self.dependencies.clear();
        self.begin = (0, 0);
    }

    /// Whether the piece is to be closed.
    pub(super) fn is_full(&self) -> bool {
        self.texts.len() + size_of_val(&*self.dependencies) >= PIECE_BYTES
    }

    /// Gives the entries since the last call what they have in common.
    pub(super) fn close<'a>(&mut self, entries: impl Iterator<Item = &'a mut Stored>) {
        let Self { texts, dependencies, .. } = std::mem::take(self);
        let piece = Arc::new(Piece { texts: texts.into(), dependencies: dependencies.into() });
        entries.for_each(|entry| entry.piece = Arc::clone(&piece));
        self.texts.reserve(PIECE_BYTES + PIECE_BYTES / 8);
    }
}
