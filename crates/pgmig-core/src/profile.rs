//! A profile: what a restore must know of a product's database.

use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config_file::{self, ConfigFileError, Fault};
use crate::error::Faults;
use crate::json_path::JsonPath;
use crate::names::{ColumnName, TableName, split_name};

const WHAT: &str = "profile";

/// Where a product lists its tenants, and which columns hold their IDs.
///
/// It is a YAML file; `Profile::BUILT_IN` is one with every key explained.
///
/// ```
/// let profile = pgmig_core::profile::Profile::watson_assistant();
/// assert_eq!(profile.name, "watson-assistant");
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct Profile {
    /// The profile's name.
    #[serde(rename = "profile")]
    pub name: String,
    /// The version of this file's layout; 1.
    pub version: u32,
    /// Where the tenants are listed; `None` when no table of the product does that, so that only a mapping tells the IDs.
    pub tenants: Option<TenantTable>,
    /// Which columns hold their IDs.
    pub id_columns: IdColumnRules,
    /// Where the version of the schema is.
    pub schema_version: Option<SchemaVersion>,
    /// Tables whose rows belong to the installation: neither erased nor restored.
    #[serde(default)]
    pub keep_in_target: Vec<TablePattern>,
}

/// The table that lists the tenants.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct TenantTable {
    /// The table.
    pub table: TablePattern,
    /// The column of the ID that a mapping names.
    pub id: String,
    /// The column of the name that users know.
    pub name: Option<String>,
    /// The boolean column that says a tenant is deleted.
    pub deleted: Option<String>,
    /// The column of the region.
    pub region: Option<String>,
    /// The regions whose tenants are internal to the product.
    #[serde(default)]
    pub internal_regions: Vec<String>,
}

/// The rules that find ID columns.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct IdColumnRules {
    /// Names of columns, in any table; `*` stands for any text.
    #[serde(default)]
    pub names: Vec<NamePattern>,
    /// Columns one by one.
    #[serde(default)]
    pub columns: Vec<ExplicitColumn>,
    /// Columns one by one, of tables that a database need not have.
    #[serde(default)]
    pub columns_if_table_exists: Vec<ExplicitColumn>,
    /// Columns that are none, whatever else says so.
    #[serde(default)]
    pub except: Vec<ColumnName>,
    /// Whether a foreign key to an ID column makes one.
    #[serde(default = "yes")]
    pub follow_foreign_keys: bool,
}

fn yes() -> bool {
    true
}

/// A column that a profile names, with the path to the ID when it holds JSON.
#[derive(Debug, Clone)]
pub enum ExplicitColumn {
    /// `schema.table.column`
    Column(ColumnName),
    /// `{column: schema.table.column, path: $.a.b}`
    Json(JsonColumn),
}

impl ExplicitColumn {
    /// The column.
    pub fn column(&self) -> &ColumnName {
        match self {
            Self::Column(column) | Self::Json(JsonColumn { column, .. }) => column,
        }
    }
}

// By hand, since an untagged enum forgets why neither of its variants fits.
impl<'de> Deserialize<'de> for ExplicitColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ExplicitColumn;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`schema.table.column`, or `column` and `path`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(ExplicitColumn::Column).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                JsonColumn::deserialize(MapAccessDeserializer::new(map)).map(ExplicitColumn::Json)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A column of JSON with IDs at a path.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonColumn {
    /// The column.
    pub column: ColumnName,
    /// Where in the document.
    pub path: JsonPath,
}

/// Where the version of the schema is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SchemaVersion {
    /// The table.
    pub table: TablePattern,
    /// The column.
    pub column: String,
}

/// A table, in a given schema or in whichever has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TablePattern {
    schema: Option<String>,
    table: String,
}

impl TablePattern {
    /// Whether `table` is meant.
    pub fn matches(&self, table: &TableName) -> bool {
        self.table == table.table && self.schema.as_ref().is_none_or(|schema| *schema == table.schema)
    }
}

impl std::fmt::Display for TablePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", crate::names::quote(schema))?;
        }
        f.write_str(&crate::names::quote(&self.table))
    }
}

impl TryFrom<String> for TablePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = split_name(&text).unwrap_or_default().into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(table), None, None) => Ok(Self { schema: None, table }),
            (Some(schema), Some(table), None) => Ok(Self { schema: Some(schema), table }),
            _ => Err(format!("`{text}` is neither `table` nor `schema.table`")),
        }
    }
}

/// A name in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct NamePattern(String);

impl From<String> for NamePattern {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl NamePattern {
    /// Whether `name` fits. Case counts, as it does in SQL once names are stored.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        // `split` yields at least one piece.
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let mut last = None;
        for piece in pieces {
            if let Some(before) = last.replace(piece) {
                let Some(at) = rest.find(before) else { return false };
                rest = &rest[at + str::len(before)..];
            }
        }
        last.map_or(rest.is_empty(), |last: &str| rest.ends_with(last))
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Profile {
    /// The text of the built-in profile, every key explained; a start for one's own.
    pub const BUILT_IN: &'static str = include_str!("profiles/watson-assistant.yaml");

    /// The built-in profile for Watson Assistant.
    pub fn watson_assistant() -> Self {
        // A test reads it, so that it cannot fail here.
        Self::parse(Self::BUILT_IN).unwrap_or_else(|e| unreachable!("the built-in profile: {e}"))
    }

    /// The text of the built-in profile for Watson Speech.
    pub const WATSON_SPEECH: &'static str = include_str!("profiles/watson-speech.yaml");

    /// The built-in profile for the databases of Watson Speech, which list no tenants.
    ///
    /// ```
    /// assert!(pgmig_core::profile::Profile::watson_speech().tenants.is_none());
    /// ```
    pub fn watson_speech() -> Self {
        Self::parse(Self::WATSON_SPEECH).unwrap_or_else(|e| unreachable!("the built-in profile: {e}"))
    }

    /// Whether `table` is the one that lists the tenants.
    pub(crate) fn lists_tenants(&self, table: &TableName) -> bool {
        self.tenants.as_ref().is_some_and(|tenants| tenants.table.matches(table))
    }

    /// Whether `column` of the table that lists the tenants is that of their IDs.
    pub(crate) fn is_tenant_id(&self, column: &str) -> bool {
        self.tenants.as_ref().is_some_and(|tenants| tenants.id == column)
    }

    /// The table that lists the tenants; `doing` is what needs it.
    ///
    /// # Errors
    ///
    /// When the product has none.
    pub(crate) fn expect_tenants(&self, doing: &str) -> Result<&TenantTable, Faults> {
        self.tenants.as_ref().ok_or_else(|| {
            let message = format!("the profile `{}` names no table that lists tenants", self.name);
            let hint = "such a database is restored as a new one, with its owners replaced on the way; give a profile with \
                        `tenants` for any other";
            Faults::one(format!("cannot {doing}"), message).with_hint(hint)
        })
    }

    /// The names of the built-in profiles.
    pub const BUILT_IN_NAMES: [&'static str; 2] = ["watson-assistant", "watson-speech"];

    /// The built-in profile of this name, if there is one.
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "watson-assistant" => Some(Self::watson_assistant()),
            "watson-speech" => Some(Self::watson_speech()),
            _ => None,
        }
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no profile.
    pub fn load(path: &Path) -> Result<Self, ConfigFileError> {
        Self::parse_at(&config_file::read_text(WHAT, path)?, Some(path))
    }

    /// Reads a profile from its text.
    ///
    /// # Errors
    ///
    /// When it is no profile.
    pub fn parse(text: &str) -> Result<Self, ConfigFileError> {
        Self::parse_at(text, None)
    }

    fn parse_at(text: &str, path: Option<&Path>) -> Result<Self, ConfigFileError> {
        let error = |fault| ConfigFileError::faults_in(WHAT, path, vec![fault]);
        let profile: Self = serde_yaml::from_str(text).map_err(|e| error(fault(&e)))?;
        if profile.version != 1 {
            let message = format!("it has version {}, but only version 1 is known", profile.version);
            return Err(error(Fault { line: None, message }));
        }
        Ok(profile)
    }
}

/// The parser's error with its line in front, as our other files tell it, and without the
/// lines around it.
fn fault(error: &serde_yaml::Error) -> Fault {
    let message = error.without_snippet().to_string();
    let Some(location) = error.location() else { return Fault { line: None, message } };
    let place = format!(" at line {}, column {}", location.line(), location.column());
    match message.strip_suffix(&place) {
        Some(message) => Fault { line: usize::try_from(location.line()).ok(), message: message.to_owned() },
        None => Fault { line: None, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profile_can_be_read() {
        let profile = Profile::parse(Profile::BUILT_IN).unwrap();
        assert!(profile.lists_tenants(&TableName::new("public", "tenant")));
        assert!(profile.keep_in_target[0].matches(&TableName::new("store", "schema_info")));
    }

    #[test]
    fn the_columns_of_watson_speech_are_those_of_its_documented_updates() {
        let profile = Profile::watson_speech();
        assert!(
            profile.tenants.is_none() && profile.id_columns.names.is_empty() && profile.id_columns.columns.is_empty()
        );
        let columns: Vec<_> =
            profile.id_columns.columns_if_table_exists.iter().map(|column| column.column().to_string()).collect();
        let expected = [
            "public.customizations.owner",
            "public.notification_urls.username",
            "public.notification_urls.instance_id",
            "public.jobs.username",
        ];
        assert_eq!(columns, expected);
        let error = profile.expect_tenants("restore into an existing database").unwrap_err();
        assert!(error.to_string().contains("`watson-speech` names no table that lists tenants"), "{error}");
    }

    #[test]
    fn built_in_profiles_have_the_names_that_they_are_known_by() {
        for name in Profile::BUILT_IN_NAMES {
            assert_eq!(Profile::built_in(name).unwrap().name, name);
        }
        assert!(Profile::built_in("watson").is_none());
    }

    #[test]
    fn columns_are_named_with_or_without_a_path() {
        let text = Profile::BUILT_IN
            .replace("columns: []", "columns:\n    - public.a.b\n    - {column: public.\"C\".d, path: \"$.x[*].y\"}");
        let columns = Profile::parse(&text).unwrap().id_columns.columns;
        assert!(matches!(&columns[0], ExplicitColumn::Column(c) if c.to_string() == "public.a.b"));
        assert!(matches!(&columns[1], ExplicitColumn::Json(c) if c.path.to_string() == "$.x[*].y"));
    }

    #[test]
    fn what_is_no_profile_says_why() {
        for (from, to, expected) in [
            ("version: 1", "version: 2", "only version 1 is known"),
            ("keep-in-target", "keep-on-target", "keep-on-target"),
            ("columns: []", "columns: [a.b]", "line"),
            ("table: tenant", "table: a.b.c", "neither `table` nor `schema.table`"),
        ] {
            let error = Profile::parse(&Profile::BUILT_IN.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_column_that_is_none_says_why_and_on_which_line() {
        let line = Profile::BUILT_IN.lines().position(|line| line.trim() == "columns: []").unwrap() + 1;
        for (column, expected) in [
            ("{column: public.a.b, path: \"$..x\"}", "`$..x` is not a JSON path"),
            ("{column: a.b, path: $.x}", "`a.b` is not `schema.table.column`"),
            ("{column: public.a.b}", "path"),
            ("{column: public.a.b, path: $.x, more: 1}", "more"),
            ("a.b", "`a.b` is not `schema.table.column`"),
            ("[public.a.b]", "`schema.table.column`, or `column` and `path`"),
        ] {
            let text = Profile::BUILT_IN.replace("columns: []", &format!("columns:\n    - {column}"));
            let error = Profile::parse(&text).unwrap_err().to_string();
            let start = format!("cannot use the profile: line {}: ", line + 1);
            assert!(error.starts_with(&start) && error.contains(expected), "{column}: {error}");
            assert!(!error.contains('\n') && !error.contains("untagged"), "{error}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let matches = |pattern: &str, name: &str| NamePattern::from(pattern.to_owned()).matches(name);
        assert!(matches("tenant_id", "tenant_id"));
        assert!(!matches("tenant_id", "tenant_ids"));
        assert!(matches("*_tenant_id", "owner_tenant_id"));
        assert!(matches("*tenant*id*", "my_tenant_uid_2"));
        assert!(!matches("*tenant*id", "my_id_tenant"));
        assert!(!matches("aa*aa", "aaa"));
        assert!(matches("*", ""));
    }
}
