//! What must be known of a statement of a dump before it is executed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::iter::Peekable;

/// Why a statement is not executed; `None` when it begins as one that pg_dump writes about the contents of a database.
///
/// This is no guard against a hostile script, whose functions and triggers run with the rights of whoever restores it. It keeps
/// what is no dump of one database from changing the server.
pub(super) fn refusal(sql: &str) -> Option<&'static str> {
    const OTHER: &str = "pg_dump writes no such statement";
    const SERVER: &str = "it is about the server or another database, not about what is in this one";
    let mut tokens = Tokens::new(sql);
    let Some(first) = tokens.word() else { return Some(OTHER) };
    match first.as_str() {
        "SET" | "REFRESH" | "INSERT" | "BEGIN" | "COMMIT" => None,
        "SELECT" => (!is_known_call(tokens)).then_some(OTHER),
        "CREATE" | "ALTER" | "DROP" => {
            let mut object = tokens.word().unwrap_or_default();
            if object == "OR" {
                // `OR REPLACE`
                tokens.word();
                object = tokens.word().unwrap_or_default();
            }
            (is_of_server(&object) && !(object == "USER" && tokens.word().as_deref() == Some("MAPPING")))
                .then_some(SERVER)
        }
        "COMMENT" | "SECURITY" | "GRANT" | "REVOKE" => {
            // Without `ON` it is a membership in a role.
            if !tokens.by_ref().any(|token| token.is("ON")) {
                return Some(SERVER);
            }
            tokens.word().is_none_or(|object| is_of_server(&object) || object == "PARAMETER").then_some(SERVER)
        }
        _ => Some(OTHER),
    }
}

/// Whether it is `SELECT` of a function that pg_dump calls.
fn is_known_call(mut tokens: Tokens<'_>) -> bool {
    const CALLS: [&str; 10] = [
        "SET_CONFIG",
        "SETVAL",
        "LO_CREATE",
        "LO_OPEN",
        "LOWRITE",
        "LO_CLOSE",
        "LO_UNLINK",
        "PG_RESTORE_RELATION_STATS",
        "PG_RESTORE_ATTRIBUTE_STATS",
        "PG_RESTORE_EXTENDED_STATS",
    ];
    let mut next = tokens.next();
    if matches!(next, Some(Token::Symbol(b'*'))) && tokens.next().is_some_and(|token| token.is("FROM")) {
        next = tokens.next();
    }
    next.is_some_and(|token| token.is("pg_catalog"))
        && matches!(tokens.next(), Some(Token::Symbol(b'.')))
        && tokens.word().is_some_and(|name| CALLS.contains(&name.as_str()))
}

fn is_of_server(object: &str) -> bool {
    matches!(object, "DATABASE" | "ROLE" | "USER" | "GROUP" | "TABLESPACE" | "SYSTEM")
}

/// Whether a statement only says whose an object is, or who is to make the next ones.
pub(super) fn is_about_owner(sql: &str) -> bool {
    let mut tokens = Tokens::new(sql);
    match tokens.word().as_deref() {
        Some("ALTER") => {
            let mut last = None;
            tokens.any(|token| {
                let found = token.is("TO") && last.replace(token.clone()).is_some_and(|last| last.is("OWNER"));
                last = Some(token);
                found
            })
        }
        Some("SET") => tokens.word().as_deref() == Some("SESSION") && tokens.word().as_deref() == Some("AUTHORIZATION"),
        _ => false,
    }
}

/// Whether a statement only gives or takes rights.
pub(super) fn is_about_privileges(sql: &str) -> bool {
    let mut tokens = Tokens::new(sql);
    match tokens.word().as_deref() {
        Some("GRANT" | "REVOKE") => true,
        Some("ALTER") => tokens.word().as_deref() == Some("DEFAULT") && tokens.word().as_deref() == Some("PRIVILEGES"),
        _ => false,
    }
}

/// Whether a statement only removes something, as `pg_dump --clean` does first: in a new database there is nothing yet.
pub(super) fn is_removal(sql: &str) -> bool {
    let mut tokens = Tokens::new(sql);
    match tokens.word().as_deref() {
        Some("DROP") => true,
        Some("ALTER") => tokens.any(|token| token.is("DROP")),
        _ => false,
    }
}

/// The setting that a `SET` is about, in lower case, and its value, when that is no number.
pub(super) fn setting(sql: &str) -> Option<(String, String)> {
    let mut tokens = Tokens::new(sql);
    if tokens.word()? != "SET" {
        return None;
    }
    let name = tokens.word()?.to_ascii_lowercase();
    match tokens.next()? {
        Token::Symbol(b'=') => {}
        token if token.is("TO") => {}
        _ => return None,
    }
    Some((name, tokens.next()?.into_name().unwrap_or_default()))
}

/// The roles that statements name as owners, grantees and the like.
pub(super) fn roles(sql: &str) -> BTreeSet<String> {
    let mut roles = BTreeSet::new();
    let mut tokens = Tokens::new(sql).peekable();
    // Whether TO and FROM are followed by roles, which depends on what the statement is.
    let (mut gives, mut is_first, mut is_policy, mut is_user_mapping) = (false, true, false, false);
    let mut last: Option<Token<'_>> = None;
    while let Some(token) = tokens.next() {
        let was = |word: &str| last.as_ref().is_some_and(|last| last.is(word));
        if is_first {
            gives = token.is("GRANT") || token.is("REVOKE");
            (is_policy, is_user_mapping) = (false, false);
        }
        is_policy |= was("CREATE") && token.is("POLICY");
        is_user_mapping |= was("USER") && token.is("MAPPING");
        // Of default privileges: `ALTER DEFAULT PRIVILEGES FOR ROLE a ... GRANT ... TO b`.
        gives |= token.is("GRANT") || token.is("REVOKE");
        let follow = (token.is("TO") && (was("OWNER") || gives || is_policy))
            || (token.is("FROM") && gives)
            || (token.is("ROLE") && was("FOR"))
            || token.is("AUTHORIZATION")
            || (token.is("BY") && was("GRANTED"))
            || (token.is("FOR") && is_user_mapping);
        is_first = matches!(token, Token::Symbol(b';'));
        last = Some(token);
        if follow {
            read_roles(&mut tokens, &mut roles);
        }
    }
    roles
}

/// Reads a list of roles.
fn read_roles(tokens: &mut Peekable<Tokens<'_>>, roles: &mut BTreeSet<String>) {
    const SPECIAL: [&str; 5] = ["PUBLIC", "DEFAULT", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"];
    loop {
        // Words that may stand before one.
        tokens.next_if(|token| token.is("GROUP") || token.is("ROLE"));
        match tokens.next() {
            Some(Token::Word(word)) if SPECIAL.iter().any(|special| special.eq_ignore_ascii_case(word)) => {}
            Some(role) => roles.extend(role.into_name().filter(|name| !name.is_empty())),
            None => return,
        }
        if tokens.next_if(|token| matches!(token, Token::Symbol(b','))).is_none() {
            return;
        }
    }
}

/// The begin of a statement, by which people know it, without any literal: in one there may be what is nobody's business.
pub(super) fn label(sql: &str) -> String {
    const MOST: usize = 80;
    let line = sql.trim_start().lines().next().unwrap_or_default();
    let end = line.find(['\'', '$']).unwrap_or(line.len());
    let text: String = line[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    let text = text.trim_end();
    if text.len() < sql.trim().len() { format!("{text} ...") } else { text.to_owned() }
}

/// The options of a `CREATE DATABASE`: `ENCODING = 'UTF8'`, `LOCALE_PROVIDER = libc`.
pub(super) fn database_options(sql: &str) -> Vec<(String, String)> {
    let mut options = Vec::new();
    let mut name = None;
    let mut tokens = Tokens::new(sql);
    while let Some(token) = tokens.next() {
        match (&token, &name) {
            (Token::Symbol(b'='), Some(_)) => {
                let value = tokens.next().and_then(Token::into_name);
                options.extend(name.take().zip(value));
            }
            (Token::Word(word), _) => name = Some(word.to_ascii_uppercase()),
            _ => name = None,
        }
    }
    options
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'a> {
    /// A keyword, or a name without quotes.
    Word(&'a str),
    /// A name in quotes.
    Name(Cow<'a, str>),
    /// A literal.
    Literal(Cow<'a, str>),
    /// Anything else, byte by byte.
    Symbol(u8),
}

impl Token<'_> {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// What it says, when it is a name or a value.
    fn into_name(self) -> Option<String> {
        match self {
            Self::Word(word) => Some(word.to_lowercase()),
            Self::Name(text) | Self::Literal(text) => Some(text.into_owned()),
            Self::Symbol(_) => None,
        }
    }
}

/// SQL as far as it matters here; what is not closed goes to the end.
#[derive(Debug, Clone)]
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn new(sql: &'a str) -> Self {
        Self { rest: sql }
    }

    /// The next token in upper case when it is a word.
    fn word(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(word) => Some(word.to_ascii_uppercase()),
            _ => None,
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("--") {
                self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
            } else if self.rest.starts_with("/*") {
                self.rest = behind_comment(self.rest);
            } else {
                return;
            }
        }
    }

    /// Text up to a closing quote, which counts as a character when it is doubled; `escapes` when a backslash takes the next one.
    fn quoted(&mut self, quote: char, escapes: bool) -> Cow<'a, str> {
        let text = &self.rest[1..];
        let mut chars = text.char_indices().peekable();
        let mut doubled = false;
        while let Some((at, c)) = chars.next() {
            if c == quote {
                if chars.next_if(|&(_, next)| next == quote).is_none() {
                    self.rest = &text[at + 1..];
                    let text = &text[..at];
                    let pair = [quote, quote].iter().collect::<String>();
                    return if doubled { text.replace(&pair, &quote.to_string()).into() } else { text.into() };
                }
                doubled = true;
            } else if escapes && c == '\\' {
                chars.next();
            }
        }
        self.rest = "";
        text.into()
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let first = self.rest.chars().next()?;
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        match first {
            '\'' => Some(Token::Literal(self.quoted('\'', false))),
            '"' => Some(Token::Name(self.quoted('"', false))),
            '$' => {
                let tag = self.rest[1..].find(|c| !(is_letter(c) || c.is_ascii_digit())).map(|end| end + 1);
                let Some(end) = tag.filter(|&end| self.rest[end..].starts_with('$')) else {
                    self.rest = &self.rest[1..];
                    return Some(Token::Symbol(b'$'));
                };
                let (tag, text) = self.rest.split_at(end + 1);
                let (text, rest) = text.split_once(tag).unwrap_or((text, ""));
                self.rest = rest;
                Some(Token::Literal(text.into()))
            }
            c if is_letter(c) => {
                let end =
                    self.rest.find(|c| !(is_letter(c) || c.is_ascii_digit() || c == '$')).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                if word.eq_ignore_ascii_case("e") && rest.starts_with('\'') {
                    return Some(Token::Literal(self.quoted('\'', true)));
                }
                Some(Token::Word(word))
            }
            c => {
                self.rest = &self.rest[c.len_utf8()..];
                // Only letters are not ASCII.
                Some(Token::Symbol(u8::try_from(c).unwrap_or(b'?')))
            }
        }
    }
}

/// What follows a comment `/* ... */`, in which others may be nested.
fn behind_comment(text: &str) -> &str {
    let (mut depth, mut at) = (0_u64, 0);
    loop {
        let rest = &text.as_bytes()[at..];
        match rest {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return &text[at..];
                }
            }
            [_, ..] => at += 1,
            [] => return "",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_pg_dump_writes_is_executed_and_what_leaves_the_database_is_not() {
        for sql in [
            "SET statement_timeout = 0",
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "SELECT pg_catalog.setval('public.s', 1, true)",
            "SELECT pg_catalog.lowrite(0, '\\x00')",
            "SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'version', '180000'::integer)",
            "CREATE TABLE public.t (\n    id integer\n)",
            "CREATE OR REPLACE VIEW public.v AS SELECT 1",
            "CREATE USER MAPPING FOR r SERVER s",
            "ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT ON TABLES TO b",
            "COMMENT ON COLUMN public.t.\"on\" IS 'ON DATABASE'",
            "SECURITY LABEL FOR p ON TABLE t IS 'x'",
            "GRANT ALL(\"on\") ON TABLE public.t TO a",
            "-- a comment\n/* another /* one */ */ INSERT INTO t VALUES (1)",
            "REFRESH MATERIALIZED VIEW public.m",
            "BEGIN",
            "COMMIT",
        ] {
            assert_eq!(refusal(sql), None, "{sql}");
        }
        for sql in [
            "",
            "DO $$ BEGIN NULL; END $$",
            "SELECT pg_read_file('x')",
            "SELECT pg_catalog.pg_read_file('x')",
            "SELECT lo_import('x')",
            "CREATE DATABASE d",
            "create role r",
            "CREATE USER u",
            "ALTER SYSTEM SET x = 1",
            "ALTER DATABASE d SET x = 1",
            "DROP DATABASE d",
            "COMMENT ON DATABASE d IS 'x'",
            "GRANT a TO b",
            "GRANT ALL ON DATABASE d TO a",
            "TRUNCATE t",
            "COPY t TO PROGRAM 'x'",
            "\"SET\" x = 1",
            "/* open",
        ] {
            assert!(refusal(sql).is_some(), "{sql}");
        }
    }

    #[test]
    fn roles_are_found_wherever_pg_dump_names_them() {
        let roles = |sql: &str| roles(sql).into_iter().collect::<Vec<_>>();
        assert_eq!(roles("ALTER FUNCTION f(a \"OWNER\", b text) OWNER TO \"a \"\"b\"\"\";"), ["a \"b\""]);
        assert_eq!(
            roles("REVOKE ALL ON TABLE t FROM PUBLIC;\nGRANT SELECT ON TABLE t TO Reader, \"W\" WITH GRANT OPTION;"),
            ["W", "reader"]
        );
        assert_eq!(roles("ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA s GRANT SELECT ON TABLES TO b"), ["a", "b"]);
        assert_eq!(
            roles("SET SESSION AUTHORIZATION 'x'; GRANT ALL ON TABLE t TO y; SET SESSION AUTHORIZATION DEFAULT"),
            ["x", "y"]
        );
        assert_eq!(roles("CREATE SCHEMA s AUTHORIZATION o"), ["o"]);
        assert_eq!(roles("CREATE POLICY p ON t TO a, PUBLIC USING (x)"), ["a"]);
        assert_eq!(roles("CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'x')"), ["u"]);
        assert_eq!(roles("CREATE VIEW v AS SELECT a FROM b; CREATE TRIGGER t AFTER INSERT ON x FOR EACH ROW"), [""; 0]);
        assert_eq!(roles("ALTER TABLE a RENAME TO b; COMMENT ON TABLE t IS 'GRANT x TO y'"), [""; 0]);
    }

    #[test]
    fn a_statement_is_told_without_its_literals() {
        assert_eq!(label("CREATE TABLE t (\n  a text\n)"), "CREATE TABLE t ( ...");
        assert_eq!(label("INSERT INTO t VALUES ('secret')"), "INSERT INTO t VALUES ( ...");
        assert_eq!(label("SET x = 1"), "SET x = 1");
        assert_eq!(label(&format!("ALTER TABLE {} x", "ä".repeat(200))).chars().count(), 84);
    }

    proptest! {
        /// Of what the tokens are told apart by, so that quotes, comments and tags are open or overlap.
        #[test]
        fn no_text_is_too_odd_to_be_read(
            pieces in prop::collection::vec(
                "'|\"|\\$|\\$a\\$|--|/\\*|\\*/|\n|;|,| |E'|\\\\|ä|to |from |for |role |grant |alter |owner |set |x|=",
                0..30,
            ),
        ) {
            let sql = pieces.concat();
            let _ = (refusal(&sql), is_about_owner(&sql), is_about_privileges(&sql), is_removal(&sql));
            let _ = (setting(&sql), database_options(&sql), roles(&sql));
            prop_assert!(label(&sql).chars().count() <= 84);
        }
    }

    #[test]
    fn owners_privileges_and_removals_are_told_apart() {
        assert!(is_about_owner("ALTER FUNCTION public.f(a integer) OWNER TO x"));
        assert!(is_about_owner("SET SESSION AUTHORIZATION 'x'"));
        assert!(!is_about_owner("ALTER TABLE t RENAME TO owner"));
        assert!(!is_about_owner("COMMENT ON TABLE t IS 'x OWNER TO y'"));
        assert!(is_about_privileges("ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT ON TABLES TO b"));
        assert!(!is_about_privileges("ALTER TABLE t ADD x text"));
        assert!(is_removal("ALTER TABLE ONLY public.t DROP CONSTRAINT c"));
        assert!(!is_removal("CREATE TABLE \"DROP\" ()"));
    }

    #[test]
    fn settings_and_options_are_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(setting("SET client_encoding = 'LATIN1'"), Some(pair("client_encoding", "LATIN1")));
        assert_eq!(setting("SET row_security TO off"), Some(pair("row_security", "off")));
        assert_eq!(setting("SET transaction_timeout = 0"), Some(pair("transaction_timeout", "")));
        assert_eq!(setting("SET SESSION AUTHORIZATION x"), None);
        assert_eq!(
            database_options(
                "CREATE DATABASE \"a = 'b'\" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C';"
            ),
            [
                pair("TEMPLATE", "template0"),
                pair("ENCODING", "UTF8"),
                pair("LOCALE_PROVIDER", "libc"),
                pair("LOCALE", "C")
            ]
        );
    }
}
