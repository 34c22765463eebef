//! What the caller of a conversion to SQL can choose.

use std::hash::{BuildHasher, RandomState};

use super::SqlError;
use crate::header::Header;
use crate::listing::ListFile;
use crate::toc::Section;

/// The major version of `pg_restore` whose text is written. They differ in
///
/// - the settings at the beginning: 17 adds `transaction_timeout`;
/// - the words that are keywords and have to be quoted as names: 16 and 17 have more;
/// - owners of views and sequences: 15 sets them with `ALTER TABLE`;
/// - the access method of a partitioned table, which 17 sets after the table was made;
/// - the statistics of the optimizer, which 18 treats as a part of its own, besides definitions and data;
/// - the listing, in which 15 shows the level of the compression and the others its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PgRestoreVersion {
    /// PostgreSQL 15. Releases of 13 and 14 since August 2025 write the same.
    V15,
    /// PostgreSQL 16.
    V16,
    /// PostgreSQL 17.
    V17,
    /// PostgreSQL 18.
    V18,
}

impl PgRestoreVersion {
    /// The version for a major number: for one before 15 or after 18 the nearest one.
    pub fn of_major(major: u32) -> Self {
        match major {
            ..=15 => Self::V15,
            16 => Self::V16,
            17 => Self::V17,
            18.. => Self::V18,
        }
    }

    /// The version of the pg_dump that wrote an archive, as far as it is known; otherwise the oldest one.
    pub fn of(header: &Header) -> Self {
        let text = header.dump_version.as_deref().unwrap_or_default();
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).take(4);
        Self::of_major(digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }
}

/// The key between `\restrict` and `\unrestrict`, with which psql refuses meta-commands in between.
///
/// PostgreSQL writes them since its releases of August 2025 (CVE-2025-8714).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RestrictKey {
    /// A new one for each script, which nobody who made the archive can know.
    #[default]
    Random,
    /// This one: ASCII letters and digits, at least one.
    Given(String),
    /// Neither bracket, for readers other than psql and for a psql that does not know them. psql then runs whatever
    /// meta-command the archive smuggles in, such as `\!`.
    None,
}

/// What of an archive is written as SQL, and how: the options of `pg_restore`, under their names. The default writes
/// everything but the creation of the database itself, as `pg_restore -f -` does.
///
/// Names are bytes in the encoding of the archive and match in full, without patterns.
///
/// Left out are `--verbose`, `--filter` and `--transaction-size`, and what makes no difference to
/// text: `--jobs`, `--exit-on-error`, `--no-data-for-failed-tables`.
///
/// ```
/// use dumpfmt::SqlOptions;
///
/// let mut schema_only = SqlOptions::default();
/// schema_only.data = false;
/// schema_only.statistics = false;
/// schema_only.schemas.push(b"public".to_vec());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SqlOptions {
    /// Whose text to write; the pg_dump's that wrote the archive if not said.
    pub version: Option<PgRestoreVersion>,
    /// The key of the brackets; a random one if not said.
    pub restrict_key: RestrictKey,
    /// `--section`: these alone, or all if there are none. [`Section::None`] is none.
    pub sections: Vec<Section>,
    /// Definitions: false for `--data-only`, `--statistics-only` and `--no-schema`.
    pub schema: bool,
    /// Rows, large objects, values of sequences: false for `--schema-only`, `--statistics-only` and `--no-data`.
    pub data: bool,
    /// The statistics of the optimizer, from pg_dump 18 on: false for `--no-statistics`, `--schema-only` and
    /// `--data-only`.
    pub statistics: bool,
    /// `-n`: what is in these schemas.
    pub schemas: Vec<Vec<u8>>,
    /// `-N`: not what is in these.
    pub exclude_schemas: Vec<Vec<u8>>,
    /// `-t`: tables, views, sequences of these names.
    pub tables: Vec<Vec<u8>>,
    /// `-I`: indexes of these names.
    pub indexes: Vec<Vec<u8>>,
    /// `-P`: functions of these names, with their arguments as the archive's listing shows them.
    pub functions: Vec<Vec<u8>>,
    /// `-T`: triggers of these names, which are `table trigger` in an archive.
    pub triggers: Vec<Vec<u8>>,
    /// `--strict-names`: each of these names, but for those of excluded schemas, has to be that of something.
    /// One that is given twice counts once; pg_restore refuses that.
    pub strict_names: bool,
    /// Of what the other options let through, entries of these types alone (`TABLE`, `INDEX`, ...), or all if there
    /// are none. `pg_restore` has no such option.
    pub types: Vec<Vec<u8>>,
    /// `--use-list`: these entries alone, in this order.
    pub list: Option<ListFile>,
    /// `--clean`: drop everything first.
    pub clean: bool,
    /// `--if-exists`: unless it is not there.
    pub if_exists: bool,
    /// `--create`: make the database and connect to it.
    pub create: bool,
    /// `--no-owner`.
    pub no_owner: bool,
    /// `--no-privileges`.
    pub no_privileges: bool,
    /// `--no-comments`.
    pub no_comments: bool,
    /// `--no-policies`, which only 18 has.
    pub no_policies: bool,
    /// `--no-publications`.
    pub no_publications: bool,
    /// `--no-security-labels`.
    pub no_security_labels: bool,
    /// `--no-subscriptions`.
    pub no_subscriptions: bool,
    /// `--no-tablespaces`.
    pub no_tablespaces: bool,
    /// `--no-table-access-method`.
    pub no_table_access_method: bool,
    /// `--use-set-session-authorization`.
    pub use_set_session_authorization: bool,
    /// `--disable-triggers`, where no definitions are written.
    pub disable_triggers: bool,
    /// `--superuser`: who disables them.
    pub superuser: Option<Vec<u8>>,
    /// `--role`.
    pub role: Option<Vec<u8>>,
    /// `--enable-row-security`.
    pub enable_row_security: bool,
    /// `--single-transaction`.
    pub single_transaction: bool,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            version: None,
            restrict_key: RestrictKey::Random,
            sections: Vec::new(),
            schema: true,
            data: true,
            statistics: true,
            schemas: Vec::new(),
            exclude_schemas: Vec::new(),
            tables: Vec::new(),
            indexes: Vec::new(),
            functions: Vec::new(),
            triggers: Vec::new(),
            strict_names: false,
            types: Vec::new(),
            list: None,
            clean: false,
            if_exists: false,
            create: false,
            no_owner: false,
            no_privileges: false,
            no_comments: false,
            no_policies: false,
            no_publications: false,
            no_security_labels: false,
            no_subscriptions: false,
            no_tablespaces: false,
            no_table_access_method: false,
            use_set_session_authorization: false,
            disable_triggers: false,
            superuser: None,
            role: None,
            enable_row_security: false,
            single_transaction: false,
        }
    }
}

impl SqlOptions {
    /// The version that is asked for, or that the archive suggests.
    pub(crate) fn version_for(&self, header: &Header) -> PgRestoreVersion {
        self.version.unwrap_or_else(|| PgRestoreVersion::of(header))
    }

    /// Refuses what `pg_restore` refuses too.
    pub(crate) fn check(&self) -> Result<(), SqlError> {
        let refuse = |text: &str| Err(SqlError::Options(text.to_owned()));
        if self.clean && self.data && !self.schema {
            return refuse("`clean` drops what is there, and without `schema` nothing would make it anew");
        }
        if self.if_exists && !self.clean {
            return refuse("`if_exists` is about dropping, which only `clean` does");
        }
        if self.create && self.single_transaction {
            return refuse("`create` cannot be used with `single_transaction`: no database is created within one");
        }
        Ok(())
    }

    /// The key to write, if one is to be written.
    pub(crate) fn key(&self) -> Result<Option<String>, SqlError> {
        match &self.restrict_key {
            RestrictKey::None => Ok(None),
            RestrictKey::Random => Ok(Some(random_key())),
            RestrictKey::Given(key) if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Ok(Some(key.clone()))
            }
            RestrictKey::Given(key) => Err(SqlError::Options(format!(
                "the restrict key `{}` has to consist of ASCII letters and digits",
                key.escape_default()
            ))),
        }
    }
}

/// A key of as many characters as pg_restore's.
fn random_key() -> String {
    const LENGTH: u64 = 63;
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    // A keyed hash (SipHash) whose key comes from the operating system: what it gives cannot be guessed.
    let random = RandomState::new();
    (0..LENGTH).map(|place| char::from(ALPHABET[(random.hash_one(place) % 62) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_key_is_another_one_each_time() {
        let options = SqlOptions::default();
        let key = || options.key().expect("a random key is valid").expect("there is one");
        let (one, other) = (key(), key());
        assert_eq!(one.len(), 63);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn a_key_that_psql_would_not_take_is_refused() {
        for key in ["", "a b", "a\n\\! echo", "ä"] {
            let options = SqlOptions { restrict_key: RestrictKey::Given(key.to_owned()), ..SqlOptions::default() };
            assert!(matches!(options.key(), Err(SqlError::Options(_))), "{key:?}");
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let base = SqlOptions::default;
        for options in [
            SqlOptions { clean: true, schema: false, ..base() },
            SqlOptions { if_exists: true, ..base() },
            SqlOptions { create: true, single_transaction: true, ..base() },
        ] {
            assert!(matches!(options.check(), Err(SqlError::Options(_))), "{options:?}");
        }
        assert!(SqlOptions { clean: true, if_exists: true, create: true, ..base() }.check().is_ok());
    }
}
