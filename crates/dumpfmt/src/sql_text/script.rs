//! The script as it is written: its begin and end, and what the session that runs it is in, so that nothing is set
//! twice.

use std::io::Write;

use super::SqlError;
use super::options::{PgRestoreVersion, SqlOptions};
use super::quote::{Quoting, connect_command, on_one_line};
use crate::header::Header;
use crate::sql::{Token, Tokens};
use crate::toc::{Toc, TocEntry};
use crate::version::Version;

/// A script under way.
pub(crate) struct Script<'a, W> {
    pub(crate) out: W,
    pub(crate) options: &'a SqlOptions,
    pub(crate) version: PgRestoreVersion,
    pub(crate) quoting: Quoting,
    /// Large objects are made by whoever restores them, not by entries of their own.
    pub(crate) creates_large_objects: bool,
    /// Whether definitions are among what is written.
    pub(crate) has_schema: bool,
    key: Option<String>,
    /// As the archive names it.
    encoding: Vec<u8>,
    /// The statement that sets the one for the whole script, in archives since 2018.
    search_path: Option<Vec<u8>>,
    session: Session,
}

/// What the script has set so far; `None` is unknown.
#[derive(Debug, Default)]
struct Session {
    user: Option<Vec<u8>>,
    schema: Option<Vec<u8>>,
    tablespace: Option<Vec<u8>>,
    access_method: Option<Vec<u8>>,
}

impl<'a, W: Write> Script<'a, W> {
    pub(crate) fn new(out: W, header: &Header, toc: &Toc, options: &'a SqlOptions) -> Result<Self, SqlError> {
        let version = options.version_for(header);
        let definition = |description| toc.of_type(description).last().and_then(TocEntry::definition);
        let encoding = match toc.of_type("ENCODING").last() {
            Some(entry) => literal(entry)?,
            None => b"SQL_ASCII".to_vec(),
        };
        let standard_strings = match toc.of_type("STDSTRINGS").last() {
            Some(entry) => literal(entry)? == b"on",
            None => false,
        };
        // Without the entry pg_restore sets SQL_ASCII, yet quotes as in UTF-8.
        let utf8 = encoding == b"UTF8" || toc.of_type("ENCODING").next().is_none();
        Ok(Self {
            out,
            options,
            version,
            quoting: Quoting { version, utf8, standard_strings },
            creates_large_objects: header.version < Version::LARGE_OBJECT_ENTRIES,
            has_schema: true,
            key: options.key()?,
            encoding,
            search_path: definition("SEARCHPATH").map(<[u8]>::to_vec),
            session: Session::default(),
        })
    }

    /// Writes pieces of text, one after the other.
    pub(crate) fn put(&mut self, pieces: &[&[u8]]) -> Result<(), SqlError> {
        pieces.iter().try_for_each(|piece| self.out.write_all(piece)).map_err(SqlError::Output)
    }

    pub(crate) fn begin(&mut self, header: &Header) -> Result<(), SqlError> {
        self.put(&[b"--\n-- PostgreSQL database dump\n--\n\n"])?;
        if let Some(key) = self.key.clone() {
            self.put(&[b"\\restrict ", key.as_bytes(), b"\n\n"])?;
        }
        if let Some(version) = &header.server_version {
            self.put(&[b"-- Dumped from database version ", &on_one_line(version), b"\n"])?;
        }
        if let Some(version) = &header.dump_version {
            self.put(&[b"-- Dumped by pg_dump version ", &on_one_line(version), b"\n"])?;
        }
        self.put(&[b"\n"])?;
        if self.options.single_transaction {
            self.put(&[b"BEGIN;\n\n"])?;
        }
        self.settings()
    }

    pub(crate) fn end(&mut self) -> Result<(), SqlError> {
        if self.options.single_transaction {
            self.put(&[b"COMMIT;\n\n"])?;
        }
        self.put(&[b"--\n-- PostgreSQL database dump complete\n--\n\n"])?;
        if let Some(key) = self.key.clone() {
            self.put(&[b"\\unrestrict ", key.as_bytes(), b"\n\n"])?;
        }
        self.out.flush().map_err(SqlError::Output)
    }

    /// What holds for the whole script.
    fn settings(&mut self) -> Result<(), SqlError> {
        self.put(&[
            b"SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\n",
        ])?;
        if self.version >= PgRestoreVersion::V17 {
            self.put(&[b"SET transaction_timeout = 0;\n"])?;
        }
        let strings: &[u8] = if self.quoting.standard_strings { b"on" } else { b"off" };
        let encoding = std::mem::take(&mut self.encoding);
        self.put(&[b"SET client_encoding = '", &encoding, b"';\nSET standard_conforming_strings = ", strings, b";\n"])?;
        self.encoding = encoding;
        if let Some(role) = &self.options.role {
            self.put(&[b"SET ROLE ", &self.quoting.name(role), b";\n"])?;
        }
        if let Some(search_path) = self.search_path.take() {
            self.put(&[&search_path])?;
            self.search_path = Some(search_path);
        }
        self.put(&[
            b"SET check_function_bodies = false;\nSET xmloption = content;\nSET client_min_messages = warning;\n",
        ])?;
        if !self.quoting.standard_strings {
            self.put(&[b"SET escape_string_warning = off;\n"])?;
        }
        let security: &[u8] = if self.options.enable_row_security { b"on" } else { b"off" };
        self.put(&[b"SET row_security = ", security, b";\n\n"])
    }

    /// Goes on in another database, of which nothing is known.
    pub(crate) fn connect(&mut self, database: &[u8]) -> Result<(), SqlError> {
        let Some(command) = connect_command(database, self.quoting) else {
            let name = String::from_utf8_lossy(database).escape_debug().to_string();
            return Err(SqlError::Options(format!(
                "psql cannot connect to the database \"{name}\", whose name has a line break: leave `create` out"
            )));
        };
        // psql takes no command of its own, and so none to connect, within the brackets.
        match self.key.clone() {
            Some(key) => {
                self.put(&[b"\\unrestrict ", key.as_bytes(), b"\n", &command])?;
                self.put(&[b"\\restrict ", key.as_bytes(), b"\n\n"])?;
            }
            None => self.put(&[&command, b"\n"])?,
        }
        self.session = Session::default();
        self.settings()
    }

    /// Sets the user that owns an entry, if that is how owners are set.
    pub(crate) fn become_owner(&mut self, entry: &TocEntry) -> Result<(), SqlError> {
        if self.options.no_owner || !self.options.use_set_session_authorization {
            return Ok(());
        }
        self.become_user(entry.owner().unwrap_or_default())
    }

    /// Sets the user; an empty one is whoever runs the script.
    pub(crate) fn become_user(&mut self, user: &[u8]) -> Result<(), SqlError> {
        if self.session.user.as_deref() == Some(user) {
            return Ok(());
        }
        let name = if user.is_empty() { b"DEFAULT".to_vec() } else { self.quoting.literal(user) };
        self.put(&[b"SET SESSION AUTHORIZATION ", &name, b";\n\n"])?;
        self.session.user = Some(user.to_vec());
        Ok(())
    }

    /// The rights of objects can set another user.
    pub(crate) fn forget_user(&mut self) {
        self.session.user = None;
    }

    /// Sets the schema that an entry of an archive without a `SEARCHPATH` expects.
    pub(crate) fn select_schema(&mut self, schema: Option<&[u8]>) -> Result<(), SqlError> {
        let Some(schema) = schema.filter(|schema| !schema.is_empty()) else { return Ok(()) };
        if self.search_path.is_some() || self.session.schema.as_deref() == Some(schema) {
            return Ok(());
        }
        let catalog: &[u8] = if schema == b"pg_catalog" { b"" } else { b", pg_catalog" };
        self.put(&[b"SET search_path = ", &self.quoting.name(schema), catalog, b";\n\n"])?;
        self.session.schema = Some(schema.to_vec());
        Ok(())
    }

    /// The schema may have been dropped.
    pub(crate) fn forget_schema(&mut self) {
        self.session.schema = None;
    }

    /// Sets the tablespace; `None` is for what needs none, an empty one for the default of the database.
    pub(crate) fn select_tablespace(&mut self, tablespace: Option<&[u8]>) -> Result<(), SqlError> {
        let Some(tablespace) = tablespace.filter(|_| !self.options.no_tablespaces) else { return Ok(()) };
        if self.session.tablespace.as_deref() == Some(tablespace) {
            return Ok(());
        }
        let name = if tablespace.is_empty() { b"''".to_vec() } else { self.quoting.name(tablespace) };
        self.put(&[b"SET default_tablespace = ", &name, b";\n\n"])?;
        self.session.tablespace = Some(tablespace.to_vec());
        Ok(())
    }

    /// Sets the access method that new tables get.
    pub(crate) fn select_access_method(&mut self, method: Option<&[u8]>) -> Result<(), SqlError> {
        let Some(method) = method.filter(|_| !self.options.no_table_access_method) else { return Ok(()) };
        if self.session.access_method.as_deref() == Some(method) {
            return Ok(());
        }
        self.put(&[b"SET default_table_access_method = ", &self.quoting.name(method), b";\n\n"])?;
        self.session.access_method = Some(method.to_vec());
        Ok(())
    }
}

/// The value in a statement such as `SET client_encoding = 'UTF8';`.
fn literal(entry: &TocEntry) -> Result<Vec<u8>, SqlError> {
    let value = Tokens::new(entry.definition().unwrap_or_default()).find_map(|token| match token {
        Token::Literal(text) => Some(text.into_owned()),
        _ => None,
    });
    // It is written within quotes, and no name of an encoding has any.
    value
        .filter(|value| !value.iter().any(|byte| matches!(byte, b'\'' | b'\\' | b'\n')))
        .ok_or_else(|| SqlError::damaged(entry, "its definition is not a setting such as pg_dump writes"))
}
