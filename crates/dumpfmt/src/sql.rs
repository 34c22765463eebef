//! Splitting the SQL that pg_dump writes into tokens: enough to read names,
//! numbers and literals out of its statements, without understanding SQL.

use std::borrow::Cow;

/// One token of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A keyword, an unquoted name or a number.
    Word(&'a [u8]),
    /// A name in double quotes, without them.
    Quoted(Cow<'a, [u8]>),
    /// A literal in single quotes, without them.
    Literal(Cow<'a, [u8]>),
    /// Anything else, byte by byte.
    Symbol(u8),
}

/// The tokens of a statement, with the look-ahead of one that parsers need.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(sql: &'a [u8]) -> Self {
        Self { rest: sql }
    }

    /// What was not taken yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `symbol` when it is next.
    pub(crate) fn symbol(&mut self, symbol: u8) -> Option<()> {
        self.take(|token| (*token == Token::Symbol(symbol)).then_some(()))
    }

    /// Takes the keyword when it is next.
    pub(crate) fn keyword(&mut self, keyword: &str) -> Option<()> {
        self.take(|token| {
            matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(keyword.as_bytes())).then_some(())
        })
    }

    /// Takes keywords in a row; when not all are next, takes none.
    pub(crate) fn keywords(&mut self, keywords: &str) -> Option<()> {
        let mut ahead = self.clone();
        keywords.split(' ').try_for_each(|keyword| ahead.keyword(keyword))?;
        *self = ahead;
        Some(())
    }

    /// Takes a name, quoted or not.
    pub(crate) fn name(&mut self) -> Option<Vec<u8>> {
        self.take(|token| match token {
            Token::Word(word) => Some(word.to_vec()),
            Token::Quoted(name) => Some(name.clone().into_owned()),
            _ => None,
        })
    }

    /// Takes `name` or `schema.name`.
    pub(crate) fn qualified_name(&mut self) -> Option<(Option<Vec<u8>>, Vec<u8>)> {
        let first = self.name()?;
        match self.symbol(b'.') {
            Some(()) => Some((Some(first), self.name()?)),
            None => Some((None, first)),
        }
    }

    /// Takes names in parentheses: `(a, "B")`.
    pub(crate) fn name_list(&mut self) -> Option<Vec<Vec<u8>>> {
        self.symbol(b'(')?;
        let mut names = Vec::new();
        if self.symbol(b')').is_some() {
            return Some(names);
        }
        loop {
            names.push(self.name()?);
            if self.symbol(b')').is_some() {
                return Some(names);
            }
            self.symbol(b',')?;
        }
    }

    /// Takes a literal in single quotes.
    pub(crate) fn literal(&mut self) -> Option<Vec<u8>> {
        self.take(|token| match token {
            Token::Literal(text) => Some(text.clone().into_owned()),
            _ => None,
        })
    }

    /// Takes a whole number, with a sign or without.
    pub(crate) fn integer(&mut self) -> Option<i64> {
        let negative = self.symbol(b'-').is_some();
        let digits = self.take(|token| match token {
            Token::Word(word) => std::str::from_utf8(word).ok().map(str::to_owned),
            _ => None,
        })?;
        // The sign belongs to the text: i64::MIN has no positive counterpart.
        if negative { format!("-{digits}").parse().ok() } else { digits.parse().ok() }
    }

    fn take<T>(&mut self, accept: impl FnOnce(&Token<'a>) -> Option<T>) -> Option<T> {
        let mut ahead = self.clone();
        let accepted = accept(&ahead.next()?)?;
        *self = ahead;
        Some(accepted)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.rest = skip_blanks(self.rest);
        let (&first, after) = self.rest.split_first()?;
        if first == b'"' || first == b'\'' {
            // Without a closing quote there is no token, and nothing after it either.
            let (text, rest) = quoted(after, first)?;
            self.rest = rest;
            return Some(if first == b'"' { Token::Quoted(text) } else { Token::Literal(text) });
        }
        let word = self.rest.iter().take_while(|&&byte| is_word(byte)).count();
        let (token, rest) = match word {
            0 => (Token::Symbol(first), after),
            length => (Token::Word(&self.rest[..length]), &self.rest[length..]),
        };
        self.rest = rest;
        Some(token)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// Passes over white space and `--` comments.
fn skip_blanks(mut sql: &[u8]) -> &[u8] {
    loop {
        sql = sql.trim_ascii_start();
        match sql.strip_prefix(b"--") {
            Some(comment) => sql = memchr::memchr(b'\n', comment).map_or(&[][..], |end| &comment[end..]),
            None => return sql,
        }
    }
}

/// The text up to the closing quote, a doubled quote standing for one.
fn quoted(sql: &[u8], quote: u8) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut text = Cow::Borrowed(&[][..]);
    let mut rest = sql;
    loop {
        let end = memchr::memchr(quote, rest)?;
        let doubled = rest.get(end + 1) == Some(&quote);
        let piece = &rest[..end + usize::from(doubled)];
        match &mut text {
            Cow::Borrowed([]) => text = Cow::Borrowed(piece),
            text => text.to_mut().extend_from_slice(piece),
        }
        rest = &rest[end + 1 + usize::from(doubled)..];
        if !doubled {
            return Some((text, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_literals_and_comments_are_told_apart() {
        let mut tokens = Tokens::new(b"-- hi\nCOPY \"My \"\"T\"\"\".t2 (a, \"b,c\", d) = 'it''s' -5;");
        assert_eq!(tokens.keyword("copy"), Some(()));
        assert_eq!(tokens.qualified_name(), Some((Some(b"My \"T\"".to_vec()), b"t2".to_vec())));
        assert_eq!(tokens.name_list(), Some(vec![b"a".to_vec(), b"b,c".to_vec(), b"d".to_vec()]));
        assert_eq!(tokens.symbol(b'='), Some(()));
        assert_eq!(tokens.literal(), Some(b"it's".to_vec()));
        assert_eq!(tokens.integer(), Some(-5));
        assert_eq!(tokens.symbol(b';'), Some(()));
        assert_eq!(tokens.next(), None);
    }

    #[test]
    fn what_is_not_there_is_not_taken() {
        let mut tokens = Tokens::new(b"FOREIGN TABLE \"open");
        assert_eq!(tokens.keywords("foreign key"), None);
        assert_eq!(tokens.keywords("foreign table"), Some(()));
        assert_eq!(tokens.name(), None);
        assert_eq!(tokens.literal(), None);
    }
}
