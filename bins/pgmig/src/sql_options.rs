//! What `pgmig convert` takes of pg_restore's options, under the same names.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::Args;
use dumpfmt::{PgRestoreVersion, RestrictKey, Section, SqlOptions};

/// What is chosen of the contents. Every option here but `--type` is one of `pg_restore`.
#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "What of the contents, as for pg_restore")]
pub(crate) struct SelectionArgs {
    /// `pre-data`, `data` or `post-data`; repeatable, as are the next six
    #[arg(long, value_name = "SECTION", value_parser = section)]
    section: Vec<Section>,
    /// What is in this schema
    #[arg(long, value_name = "NAME")]
    schema: Vec<OsString>,
    /// Not what is in this schema
    #[arg(long, value_name = "NAME")]
    exclude_schema: Vec<OsString>,
    /// The table, view or sequence of this name
    #[arg(long, value_name = "NAME")]
    table: Vec<OsString>,
    /// The index of this name
    #[arg(long, value_name = "NAME")]
    index: Vec<OsString>,
    /// The function of this name, with its arguments as a listing shows them
    #[arg(long, value_name = "NAME(ARGS)")]
    function: Vec<OsString>,
    /// The trigger of this name
    #[arg(long, value_name = "NAME")]
    trigger: Vec<OsString>,
    /// Of all that, only what is of this type, as a listing shows it, such as `TABLE DATA`; repeatable. pg_restore has none
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<OsString>,
    /// Each of these names, but for those of excluded schemas, has to be that of something
    #[arg(long)]
    strict_names: bool,
    /// What a list names: one that `pgmig inspect --list` or `pg_restore -l` wrote, edited. SQL is in its order, a new
    /// archive in that of the source
    #[arg(long, value_name = "FILE")]
    pub(crate) use_list: Option<PathBuf>,
    /// Data alone: no definitions, no statistics
    #[arg(long, conflicts_with_all = ["schema_only", "statistics_only", "no_data"])]
    data_only: bool,
    /// Definitions alone
    #[arg(long, conflicts_with_all = ["statistics_only", "no_schema"])]
    schema_only: bool,
    /// Statistics of the optimizer alone
    #[arg(long, conflicts_with = "no_statistics")]
    statistics_only: bool,
    /// No data
    #[arg(long)]
    no_data: bool,
    /// No definitions
    #[arg(long)]
    no_schema: bool,
    /// No statistics of the optimizer
    #[arg(long)]
    no_statistics: bool,
    /// Leave out GRANT and REVOKE
    #[arg(long, alias = "no-acl")]
    no_privileges: bool,
    /// Leave out comments
    #[arg(long)]
    no_comments: bool,
    /// Leave out policies of row security
    #[arg(long)]
    no_policies: bool,
    /// Leave out publications
    #[arg(long)]
    no_publications: bool,
    /// Leave out security labels
    #[arg(long)]
    no_security_labels: bool,
    /// Leave out subscriptions
    #[arg(long)]
    no_subscriptions: bool,
}

/// How SQL is written. Every option here but the first is one of `pg_restore`.
#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "With --format sql, as for pg_restore")]
pub(crate) struct SqlArgs {
    /// The version of pg_restore whose text to write: 15, 16, 17 or 18; without it, that of the pg_dump that wrote the archive
    #[arg(long, value_name = "VERSION", value_parser = pg_restore_version)]
    pg_restore_version: Option<PgRestoreVersion>,
    /// Drop what is there first
    #[arg(long)]
    clean: bool,
    /// With --clean: unless it is not there
    #[arg(long, requires = "clean")]
    if_exists: bool,
    /// Create the database and connect to it
    #[arg(long, conflicts_with = "single_transaction")]
    create: bool,
    /// All in one transaction
    #[arg(long)]
    single_transaction: bool,
    /// Leave out who owns what
    #[arg(long)]
    no_owner: bool,
    /// Leave out tablespaces
    #[arg(long)]
    no_tablespaces: bool,
    /// Leave out access methods of tables
    #[arg(long)]
    no_table_access_method: bool,
    /// Owners by SET SESSION AUTHORIZATION
    #[arg(long)]
    use_set_session_authorization: bool,
    /// With --data-only: triggers do not fire
    #[arg(long)]
    disable_triggers: bool,
    /// Who disables them
    #[arg(long, value_name = "NAME")]
    superuser: Option<OsString>,
    /// SET ROLE to this one first
    #[arg(long, value_name = "NAME")]
    role: Option<OsString>,
    /// Rows as row security shows them
    #[arg(long)]
    enable_row_security: bool,
    /// The key of `\restrict`; a random one if not given
    #[arg(long, value_name = "KEY")]
    restrict_key: Option<String>,
}

impl SelectionArgs {
    /// All of them but the list, for which the archive is needed.
    pub(crate) fn options(&self) -> SqlOptions {
        let bytes = |names: &[OsString]| names.iter().cloned().map(OsString::into_vec).collect();
        let mut options = SqlOptions::default();
        options.sections = self.section.clone();
        options.schemas = bytes(&self.schema);
        options.exclude_schemas = bytes(&self.exclude_schema);
        options.tables = bytes(&self.table);
        options.indexes = bytes(&self.index);
        options.functions = bytes(&self.function);
        options.triggers = bytes(&self.trigger);
        options.types = bytes(&self.types);
        options.strict_names = self.strict_names;
        options.schema = !(self.data_only || self.statistics_only || self.no_schema);
        options.data = !(self.schema_only || self.statistics_only || self.no_data);
        options.statistics = !(self.data_only || self.schema_only || self.no_statistics);
        options.no_privileges = self.no_privileges;
        options.no_comments = self.no_comments;
        options.no_policies = self.no_policies;
        options.no_publications = self.no_publications;
        options.no_security_labels = self.no_security_labels;
        options.no_subscriptions = self.no_subscriptions;
        options
    }
}

impl SqlArgs {
    /// Adds them to what is chosen.
    pub(crate) fn add_to(&self, options: &mut SqlOptions) {
        options.version = self.pg_restore_version;
        options.clean = self.clean;
        options.if_exists = self.if_exists;
        options.create = self.create;
        options.single_transaction = self.single_transaction;
        options.no_owner = self.no_owner;
        options.no_tablespaces = self.no_tablespaces;
        options.no_table_access_method = self.no_table_access_method;
        options.use_set_session_authorization = self.use_set_session_authorization;
        options.disable_triggers = self.disable_triggers;
        options.superuser = self.superuser.clone().map(OsString::into_vec);
        options.role = self.role.clone().map(OsString::into_vec);
        options.enable_row_security = self.enable_row_security;
        if let Some(key) = &self.restrict_key {
            options.restrict_key = RestrictKey::Given(key.clone());
        }
    }
}

fn section(text: &str) -> Result<Section, &'static str> {
    match text {
        "pre-data" => Ok(Section::PreData),
        "data" => Ok(Section::Data),
        "post-data" => Ok(Section::PostData),
        _ => Err("there are `pre-data`, `data` and `post-data`"),
    }
}

fn pg_restore_version(text: &str) -> Result<PgRestoreVersion, &'static str> {
    match text {
        "15" => Ok(PgRestoreVersion::V15),
        "16" => Ok(PgRestoreVersion::V16),
        "17" => Ok(PgRestoreVersion::V17),
        "18" => Ok(PgRestoreVersion::V18),
        _ => Err("there are 15, 16, 17 and 18"),
    }
}
