//! What an entry uses that older servers cannot do, where it can be recognised.

use std::fmt;

use crate::header::Header;
use crate::sql::{Token, Tokens};
use crate::toc::TocEntry;

/// Something in the SQL of an entry that is newer than the servers for which an archive is made.
///
/// Tables, constraints, rights, event triggers, collations and databases are looked at. Bodies of functions and the queries of
/// views are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum NewerFeature {
    /// The right `MAINTAIN`.
    Maintain,
    /// The locale provider `builtin`.
    BuiltinProvider,
    /// An event trigger on `login`.
    LoginEvent,
    /// A generated column whose values are not stored.
    VirtualColumn,
    /// `NOT NULL` as a constraint of a table.
    NotNullConstraint,
    /// A constraint that is `NOT ENFORCED`.
    NotEnforced,
    /// A key `WITHOUT OVERLAPS`, or a foreign key with `PERIOD`.
    TemporalKey,
}

impl NewerFeature {
    /// The major version of PostgreSQL that introduced it.
    pub fn since(self) -> u32 {
        match self {
            Self::Maintain | Self::BuiltinProvider | Self::LoginEvent => 17,
            Self::VirtualColumn | Self::NotNullConstraint | Self::NotEnforced | Self::TemporalKey => 18,
        }
    }

    /// The first such thing in an entry that a server of version `server` cannot do.
    pub(super) fn in_entry(entry: &TocEntry, server: u32) -> Option<Self> {
        let definition = entry.definition()?;
        let found = match entry.description() {
            b"ACL" | b"DEFAULT ACL" => maintain(definition),
            b"COLLATION" | b"DATABASE" => builtin_provider(definition),
            b"EVENT TRIGGER" => login_event(definition),
            b"TABLE" | b"FOREIGN TABLE" | b"CONSTRAINT" | b"CHECK CONSTRAINT" | b"FK CONSTRAINT" => {
                in_table(definition)
            }
            _ => None,
        };
        found.filter(|feature| feature.since() > server)
    }
}

impl fmt::Display for NewerFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maintain => "the right `MAINTAIN`",
            Self::BuiltinProvider => "the locale provider `builtin`",
            Self::LoginEvent => "an event trigger on `login`",
            Self::VirtualColumn => "a generated column that is not stored",
            Self::NotNullConstraint => "`NOT NULL` as a constraint of the table",
            Self::NotEnforced => "a constraint that is `NOT ENFORCED`",
            Self::TemporalKey => "a key `WITHOUT OVERLAPS` or with `PERIOD`",
        })
    }
}

/// The major version of the server that was dumped.
pub(super) fn server_of(header: &Header) -> Option<u32> {
    let version = header.server_version.as_deref()?;
    let digits = version.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&version[..digits]).ok()?.parse().ok()
}

/// Among the rights of a GRANT or REVOKE, not among the roles.
fn maintain(definition: &[u8]) -> Option<NewerFeature> {
    let mut among_rights = false;
    for token in Tokens::new(definition) {
        let Token::Word(word) = token else { continue };
        if word.eq_ignore_ascii_case(b"GRANT") || word.eq_ignore_ascii_case(b"REVOKE") {
            among_rights = true;
        } else if word.eq_ignore_ascii_case(b"ON") {
            among_rights = false;
        } else if among_rights && word.eq_ignore_ascii_case(b"MAINTAIN") {
            return Some(NewerFeature::Maintain);
        }
    }
    None
}

fn builtin_provider(definition: &[u8]) -> Option<NewerFeature> {
    let mut tokens = Tokens::new(definition);
    loop {
        let is_provider = tokens.keyword("provider").or_else(|| tokens.keyword("locale_provider")).is_some();
        if is_provider && tokens.symbol(b'=').is_some() && tokens.keyword("builtin").is_some() {
            return Some(NewerFeature::BuiltinProvider);
        }
        tokens.next()?;
    }
}

fn login_event(definition: &[u8]) -> Option<NewerFeature> {
    let mut tokens = Tokens::new(definition);
    tokens.keywords("CREATE EVENT TRIGGER")?;
    tokens.name()?;
    tokens.keywords("ON login").map(|()| NewerFeature::LoginEvent)
}

/// In a definition of a table or a constraint. Expressions are deeper in parentheses than what is looked for.
fn in_table(definition: &[u8]) -> Option<NewerFeature> {
    let mut tokens = Tokens::new(definition);
    let mut depth = 0_u32;
    loop {
        if depth <= 1 {
            if tokens.keywords("NOT ENFORCED").is_some() {
                return Some(NewerFeature::NotEnforced);
            }
            if tokens.keywords("NOT NULL").is_some() {
                let of_column = tokens.clone().keyword("OPTIONS").is_some() || tokens.clone().name().is_none();
                if !of_column {
                    return Some(NewerFeature::NotNullConstraint);
                }
                continue;
            }
            if tokens.keywords("WITHOUT OVERLAPS").is_some() {
                return Some(NewerFeature::TemporalKey);
            }
            if tokens.keyword("PERIOD").is_some() {
                // A column of that name is followed by no other name.
                if depth == 1 && tokens.clone().name().is_some_and(|_| is_foreign_key(definition)) {
                    return Some(NewerFeature::TemporalKey);
                }
                continue;
            }
            if tokens.keywords("GENERATED ALWAYS AS").is_some() {
                if tokens.clone().symbol(b'(').is_some() {
                    skip_parentheses(&mut tokens);
                    if tokens.keyword("STORED").is_none() {
                        return Some(NewerFeature::VirtualColumn);
                    }
                }
                continue;
            }
        }
        match tokens.next()? {
            Token::Symbol(b'(') => depth = depth.saturating_add(1),
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// In a definition of a table, `period` can be a column with its type.
fn is_foreign_key(definition: &[u8]) -> bool {
    Tokens::new(definition).keywords("ALTER TABLE").is_some()
}

fn skip_parentheses(tokens: &mut Tokens<'_>) {
    let mut depth = 0_u32;
    for token in tokens.by_ref() {
        match token {
            Token::Symbol(b'(') => depth = depth.saturating_add(1),
            Token::Symbol(b')') if depth <= 1 => return,
            Token::Symbol(b')') => depth -= 1,
            _ => {}
        }
    }
}
