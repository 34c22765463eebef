//! Finding the end of a statement, as psql does.
//!
//! The rules are those of `src/fe_utils/psqlscan.l` of PostgreSQL. The text may come in pieces: what a piece ends within is
//! kept, and nothing is looked at twice.

use memchr::{memchr, memchr2};

/// Where the text of a statement is; see [`run`](Self::run).
#[derive(Debug)]
pub(super) struct Lexer {
    state: State,
    /// The unquoted name under way, in lower case, as far as it can be a word that matters.
    word: Word,
    /// The tag of a dollar quote: all of `$tag$` but its last byte.
    tag: Vec<u8>,
    /// Whether `E'...'` has ended and what comes next may go on with it.
    after_escapes: AfterEscapes,
    parens: u64,
    /// How many `BEGIN ATOMIC` and, within it, `CASE` wait for their `END`.
    blocks: u64,
    routine: Routine,
    /// Whether the last token is `BEGIN`.
    after_begin: bool,
    /// Whether a backslash in `'...'` is nothing special.
    pub(super) standard_strings: bool,
}

/// Where [`Lexer::run`] stopped, and the byte there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// All was read.
    MoreNeeded,
    /// The `;` that ends the statement.
    Semicolon(usize),
    /// A backslash outside of quotes: a command of psql.
    Backslash(usize),
    /// A carriage return outside of quotes.
    CarriageReturn(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Word,
    /// A number, or a parameter.
    Number,
    /// What follows a number without a blank and is no name either.
    Junk,
    Dash,
    Slash,
    LineComment,
    BlockComment(BlockComment),
    /// `'...'`.
    Text,
    /// `E'...'`, or any where a backslash is special.
    Escapes,
    /// Behind a backslash of `E'...'`.
    Escaped,
    /// Behind a quote in `E'...'`, which ends it unless there is another one.
    EscapesQuote,
    /// `"..."`.
    Name,
    /// Behind a `$`, and what of a tag has come since.
    Tag,
    /// Within `$tag$...`, of whose end so many bytes were just there.
    Dollars(usize),
}

/// A comment `/* ... */`, in which others may be nested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockComment {
    depth: u64,
    /// The byte before the next one, when it can be the first of two.
    last: u8,
}

impl BlockComment {
    /// Behind the `/*` that begins it.
    pub(super) const BEGUN: Self = Self { depth: 1, last: 0 };

    /// Reads on; where the comment has ended, when it has.
    pub(super) fn run(&mut self, bytes: &[u8]) -> Option<usize> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.last = match (self.last, byte) {
                (b'*', b'/') if self.depth == 1 => return Some(index + 1),
                (b'*', b'/') => {
                    self.depth -= 1;
                    0
                }
                (b'/', b'*') => {
                    self.depth += 1;
                    0
                }
                _ => byte,
            };
        }
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterEscapes {
    No,
    SameLine,
    /// A literal that begins on a later line goes on with the one before.
    LaterLine,
}

/// How much of `CREATE [OR REPLACE] {FUNCTION | PROCEDURE}` a statement has begun with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Routine {
    Nothing,
    Create,
    Or,
    Replace,
    /// All of it.
    Yes,
    No,
}

/// The words that matter are not longer than `procedure`.
#[derive(Debug, Default)]
struct Word {
    bytes: [u8; 10],
    length: usize,
}

impl Word {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte.to_ascii_lowercase();
            self.length += 1;
        }
    }

    fn is(&self, word: &[u8]) -> bool {
        self.bytes[..self.length] == *word
    }
}

impl Lexer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Between,
            word: Word::default(),
            tag: Vec::new(),
            after_escapes: AfterEscapes::No,
            parens: 0,
            blocks: 0,
            routine: Routine::Nothing,
            after_begin: false,
            standard_strings: true,
        }
    }

    /// Prepares for the first byte of a statement.
    pub(super) fn begin(&mut self) {
        *self = Self { standard_strings: self.standard_strings, tag: std::mem::take(&mut self.tag), ..Self::new() };
    }

    /// What the text ends within, where that is known.
    pub(super) fn within(&self) -> Option<&'static str> {
        Some(match self.state {
            State::Text | State::Escapes | State::Escaped => "a text in single quotes",
            State::Name => "a name in double quotes",
            State::Dollars(_) => "a text in dollar quotes",
            State::BlockComment(_) => "a comment",
            _ if self.blocks > 0 => "the body of a function",
            _ if self.parens > 0 => "parentheses",
            _ => return None,
        })
    }

    /// Reads on, up to something that stops it or the end of `bytes`.
    pub(super) fn run(&mut self, bytes: &[u8]) -> Stop {
        let mut at = 0;
        // What passes over many bytes at once is here, the rest in `step`.
        while let Some(&byte) = bytes.get(at) {
            let rest = &bytes[at..];
            let skipped = match &mut self.state {
                State::Text => memchr(b'\'', rest),
                State::Escapes => memchr2(b'\'', b'\\', rest),
                State::Name => memchr(b'"', rest),
                State::Dollars(0) => memchr(b'$', rest),
                State::LineComment => memchr2(b'\n', b'\r', rest),
                State::BlockComment(comment) => {
                    let end = comment.run(rest);
                    if end.is_some() {
                        self.state = State::Between;
                    }
                    at += end.unwrap_or(rest.len());
                    continue;
                }
                _ => Some(0),
            };
            match skipped {
                None => return Stop::MoreNeeded,
                Some(0) => {}
                Some(length) => {
                    at += length;
                    continue;
                }
            }
            match self.step(byte) {
                Step::Taken => at += 1,
                Step::Again => {}
                Step::Stop(stop) => return stop(at),
            }
        }
        Stop::MoreNeeded
    }

    fn step(&mut self, byte: u8) -> Step {
        self.state = match self.state {
            State::Between => return self.between(byte),
            State::Word if is_in_name(byte) => {
                self.word.push(byte);
                State::Word
            }
            State::Word => {
                if byte == b'\'' && self.word.is(b"e") {
                    self.token();
                    self.state = State::Escapes;
                    return Step::Taken;
                }
                self.end_of_word();
                return self.again();
            }
            State::Number if byte.is_ascii_digit() => State::Number,
            State::Number | State::Junk if is_name_start(byte) => State::Junk,
            State::Junk if is_in_name(byte) => State::Junk,
            State::Number | State::Junk => return self.again(),
            State::Dash if byte == b'-' => State::LineComment,
            State::Slash if byte == b'*' => {
                self.after_escapes = AfterEscapes::No;
                State::BlockComment(BlockComment::BEGUN)
            }
            State::Dash | State::Slash => {
                self.token();
                return self.again();
            }
            // The comment ends before the line does.
            State::LineComment => return self.again(),
            // Its bytes are passed over as a whole.
            State::BlockComment(_) => State::Between,
            // A quote that is doubled ends one text and begins the next.
            State::Text if byte == b'\'' => State::Between,
            State::Escapes if byte == b'\'' => State::EscapesQuote,
            State::Escapes if byte == b'\\' => State::Escaped,
            State::Escaped => State::Escapes,
            State::EscapesQuote if byte == b'\'' => State::Escapes,
            State::EscapesQuote => {
                self.after_escapes = AfterEscapes::SameLine;
                return self.again();
            }
            State::Name if byte == b'"' => State::Between,
            State::Text | State::Escapes | State::Name => self.state,
            State::Tag => return self.tag(byte),
            State::Dollars(matched) => self.dollars(matched, byte),
        };
        Step::Taken
    }

    /// The byte begins a token, or is one.
    fn between(&mut self, byte: u8) -> Step {
        match byte {
            b'\n' => {
                if self.after_escapes == AfterEscapes::SameLine {
                    self.after_escapes = AfterEscapes::LaterLine;
                }
                return Step::Taken;
            }
            b' ' | b'\t' | 0x0b | 0x0c => return Step::Taken,
            b'\r' => return Step::Stop(Stop::CarriageReturn),
            b'\\' => return Step::Stop(Stop::Backslash),
            b'-' => {
                self.state = State::Dash;
                return Step::Taken;
            }
            b'/' => {
                self.state = State::Slash;
                return Step::Taken;
            }
            b';' if self.parens == 0 && self.blocks == 0 => return Step::Stop(Stop::Semicolon),
            _ => {}
        }
        if is_name_start(byte) {
            // What it does to the words before it is known at its end.
            self.after_escapes = AfterEscapes::No;
            self.word = Word::default();
            self.word.push(byte);
            self.state = State::Word;
            return Step::Taken;
        }
        let goes_on = self.after_escapes == AfterEscapes::LaterLine;
        self.token();
        match byte {
            b'\'' if goes_on || !self.standard_strings => self.state = State::Escapes,
            b'\'' => self.state = State::Text,
            b'"' => self.state = State::Name,
            b'$' => {
                self.tag.clear();
                self.tag.push(b'$');
                self.state = State::Tag;
            }
            b'(' => self.parens += 1,
            b')' => self.parens = self.parens.saturating_sub(1),
            b'0'..=b'9' => self.state = State::Number,
            _ => {}
        }
        Step::Taken
    }

    /// Notes that there is a token that is no unquoted name.
    fn token(&mut self) {
        self.after_escapes = AfterEscapes::No;
        self.after_begin = false;
    }

    fn again(&mut self) -> Step {
        self.state = State::Between;
        Step::Again
    }

    /// The unquoted name has ended. Where a routine is made, counts what `END` ends. psql counts every `BEGIN` there;
    /// but it is no reserved word, and only the one before `ATOMIC` begins a body.
    fn end_of_word(&mut self) {
        let after_begin = std::mem::take(&mut self.after_begin);
        if self.routine == Routine::Yes {
            if self.parens > 0 {
                return;
            }
            self.after_begin = self.word.is(b"begin");
            if self.blocks == 0 {
                self.blocks = u64::from(after_begin && self.word.is(b"atomic"));
            } else if self.word.is(b"case") {
                self.blocks += 1;
            } else if self.word.is(b"end") {
                self.blocks -= 1;
            }
            return;
        }
        self.routine = match self.routine {
            Routine::Nothing if self.word.is(b"create") => Routine::Create,
            Routine::Create if self.word.is(b"or") => Routine::Or,
            Routine::Or if self.word.is(b"replace") => Routine::Replace,
            Routine::Create | Routine::Replace if self.word.is(b"function") || self.word.is(b"procedure") => {
                Routine::Yes
            }
            _ => Routine::No,
        };
    }

    /// A byte behind `$` and perhaps the begin of a tag.
    fn tag(&mut self, byte: u8) -> Step {
        if byte == b'$' {
            self.state = State::Dollars(0);
        } else if is_name_start(byte) || (byte.is_ascii_digit() && self.tag.len() > 1) {
            self.tag.push(byte);
        } else if self.tag.len() > 1 {
            // It was none: the `$` stands alone, and a name follows it.
            self.word = Word::default();
            self.tag[1..].iter().for_each(|&byte| self.word.push(byte));
            self.state = State::Word;
            return Step::Again;
        } else if byte.is_ascii_digit() {
            self.state = State::Number;
        } else {
            return self.again();
        }
        Step::Taken
    }

    /// A byte within a dollar quote.
    fn dollars(&self, matched: usize, byte: u8) -> State {
        let expected = self.tag.get(matched).copied().unwrap_or(b'$');
        match (byte == expected, byte) {
            (true, _) if matched == self.tag.len() => State::Between,
            (true, _) => State::Dollars(matched + 1),
            // Only the first byte of the end and the last one are a `$`.
            (false, b'$') => State::Dollars(1),
            _ => State::Dollars(0),
        }
    }
}

/// What became of a byte.
enum Step {
    Taken,
    /// It ended a token, and is looked at again.
    Again,
    Stop(fn(usize) -> Stop),
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | 0x80..)
}

fn is_in_name(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || byte == b'$'
}
