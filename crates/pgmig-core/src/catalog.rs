//! What is in the target database: tables, columns, keys, triggers, sequences.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use crate::error::DatabaseError;
use crate::names::TableName;

/// How long to wait for a lock on a table. A store that still runs holds one for ever.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(20);

/// The catalog of the target database, without the system's own schemas and
/// without what extensions own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Catalog {
    /// `server_version_num`, such as `160004`.
    pub server_version: i32,
    /// Ordinary and partitioned tables.
    pub tables: Vec<Table>,
    /// The tables that extensions own.
    pub extension_tables: Vec<TableName>,
    /// Foreign keys, those that partitions inherit left out.
    pub foreign_keys: Vec<ForeignKey>,
    /// Check and NOT NULL constraints that are marked NOT VALID, so that rows which
    /// break them may be there, but no new ones may come.
    pub unvalidated: Vec<Constraint>,
    /// Enabled triggers that users made, on partitions too.
    pub triggers: Vec<Trigger>,
    /// Enabled event triggers for changes of definitions.
    pub event_triggers: Vec<EventTrigger>,
    /// Whether the session's role is a superuser.
    pub is_superuser: bool,
    /// Sequences.
    pub sequences: Vec<Sequence>,
    /// Materialized views that hold data, each after those that it reads.
    pub materialized_views: Vec<TableName>,
    by_name: HashMap<TableName, usize>,
    by_oid: HashMap<u32, usize>,
}

/// A table of the target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Table {
    /// Its OID.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// Whether it is partitioned, and so has no rows of its own.
    pub partitioned: bool,
    /// The partitioned table that it is a partition of.
    pub parent: Option<u32>,
    /// The columns, in their order.
    pub columns: Vec<Column>,
    /// The columns by which it is partitioned.
    pub partition_key: Vec<String>,
    /// Whether an expression is part of the partition key.
    pub partitioned_by_expression: bool,
}

/// A column of the target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Column {
    /// Its number.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// The type as SQL writes it: `character varying(36)`.
    pub type_name: String,
    /// The type that counts for IDs, domains resolved.
    pub kind: ColumnKind,
    /// Whether a row may leave it out.
    pub may_be_omitted: bool,
    /// Whether the server computes it.
    pub generated: bool,
}

/// What a type means for IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// `uuid`, `text`, `varchar`, or a domain over one.
    Scalar,
    /// An array of those.
    Array,
    /// `json` or `jsonb`.
    Json,
    /// `oid` or `lo`, which may refer to a large object.
    LargeObject,
    /// Another type whose values can hold the text of an ID: `char(n)`, `bytea`, ...
    #[serde(rename = "text")]
    OtherText,
    /// Anything else.
    Other,
}

impl ColumnKind {
    /// The kind of a type, or of an array of it, by the name that `pg_type` or `format_type` has for it. Domains are
    /// resolved before.
    pub(crate) fn of_type(name: &[u8], array: bool) -> Self {
        match (name, array) {
            (b"uuid" | b"text" | b"varchar" | b"character varying", true) => Self::Array,
            (b"uuid" | b"text" | b"varchar" | b"character varying", false) => Self::Scalar,
            (b"json" | b"jsonb", false) => Self::Json,
            (b"oid" | b"lo", false) => Self::LargeObject,
            (b"bpchar" | b"character" | b"name" | b"citext" | b"bytea" | b"xml", false) => Self::OtherText,
            _ => Self::Other,
        }
    }
}

/// A constraint of the target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// The table's OID.
    pub table: u32,
    /// The definition as `ALTER TABLE ... ADD CONSTRAINT` takes it.
    pub definition: String,
    /// Its comment.
    pub comment: Option<String>,
}

/// A foreign key of the target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForeignKey {
    /// The constraint, on the referencing table.
    pub constraint: Constraint,
    /// The referencing columns.
    pub columns: Vec<String>,
    /// The referenced table's OID.
    pub referenced_table: u32,
    /// The referenced columns.
    pub referenced_columns: Vec<String>,
}

/// An event trigger of the target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EventTrigger {
    /// Its name.
    pub name: String,
    /// When it fires, as `pg_event_trigger.evtenabled`: `O`, `R` or `A`.
    pub enabled: char,
}

/// A sequence of the target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sequence {
    /// Its name.
    pub name: TableName,
    /// The OID of the table with the column that it serves.
    pub owner: Option<u32>,
    /// The OIDs of the tables with columns that take their defaults from it, that one or others.
    pub numbers: Vec<u32>,
}

/// A trigger of the target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The table's OID.
    pub table: u32,
    /// When it fires, as `pg_trigger.tgenabled`: `O`, `R` or `A`.
    pub enabled: char,
}

const TABLES: &str = "
    select c.oid, n.nspname, c.relname, c.relkind = 'p' as partitioned,
           (select i.inhparent from pg_inherits i where i.inhrelid = c.oid and c.relispartition) as parent,
           coalesce((select array_agg(a.attname::text) from pg_attribute a
                      where a.attrelid = c.oid and a.attnum = any (p.partattrs::int2[])), '{}') as partition_key,
           coalesce(p.partexprs is not null, false) as by_expression
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      left join pg_partitioned_table p on p.partrelid = c.oid
     where c.relkind in ('r', 'p') and c.relpersistence <> 't' and ";

const COLUMNS: &str = "
    with recursive base (type, base) as (
      select oid, oid from pg_type where typtype <> 'd'
      union all
      select d.oid, b.base from base b join pg_type d on d.typbasetype = b.type and d.typtype = 'd'
    )
    select a.attrelid, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) as type_name,
           t.typname, e.typname as element,
           (not a.attnotnull or a.atthasdef or a.attidentity <> '') as may_be_omitted, a.attgenerated <> '' as generated
      from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      join base on base.type = a.atttypid join pg_type t on t.oid = base.base
      left join pg_type et on et.oid = t.typelem and t.typcategory = 'A'
      left join base eb on eb.type = et.oid left join pg_type e on e.oid = eb.base
     where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p') and ";

const FOREIGN_KEYS: &str = "
    select k.conname, k.conrelid, k.confrelid, pg_get_constraintdef(k.oid) as definition,
           obj_description(k.oid, 'pg_constraint') as comment,
           array(select a.attname::text from unnest(k.conkey) with ordinality u (number, place)
                   join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number order by u.place) as columns,
           array(select a.attname::text from unnest(k.confkey) with ordinality u (number, place)
                   join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.number order by u.place) as referenced
      from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
     where k.contype = 'f' and k.conparentid = 0 and ";

const UNVALIDATED: &str = "
    select k.conname, k.conrelid, pg_get_constraintdef(k.oid) as definition,
           obj_description(k.oid, 'pg_constraint') as comment
      from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
     where k.contype in ('c', 'n') and not k.convalidated and k.coninhcount = 0 and ";

const TRIGGERS: &str = "
    select t.tgname, t.tgrelid, t.tgenabled::text as enabled
      from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
     where not t.tgisinternal and t.tgenabled <> 'D' and c.relkind in ('r', 'p') and ";

const SEQUENCES: &str = "
    select n.nspname, c.relname,
           (select max(d.refobjid::int8)::oid from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
               and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')) as owner,
           array(select distinct a.adrelid from pg_depend d join pg_attrdef a on d.classid = 'pg_attrdef'::regclass and d.objid = a.oid
                  where d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid order by 1) as numbers
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'S' and ";

const EVENT_TRIGGERS: &str = "
    select evtname, evtenabled::text as enabled from pg_event_trigger
     where evtenabled <> 'D' and evtevent <> 'login' order by 1";

const EXTENSION_TABLES: &str = "
    select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p')
       and exists (select from pg_depend x where x.classid = 'pg_class'::regclass and x.objid = c.oid and x.deptype = 'e')
     order by 1, 2";

/// Each materialized view that holds data with the longest way to it through
/// others, ordinary views in between included.
const MATERIALIZED_VIEWS: &str = "
    with recursive reads (reader, source) as (
      select distinct r.ev_class, d.refobjid from pg_depend d join pg_rewrite r on r.oid = d.objid
       where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
    ), depth (view, length) as (
      select c.oid, 0 from pg_class c where c.relkind in ('m', 'v')
      union
      select r.reader, d.length + 1 from depth d join reads r on r.source = d.view
       -- no way is longer, but one that goes round in a circle: views can read each other
       where d.length < (select count(*) from pg_class c where c.relkind in ('m', 'v'))
    )
    select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
      join depth d on d.view = c.oid
     where c.relkind = 'm' and c.relispopulated and ";

/// Objects of the system, of toast tables, of other sessions and of extensions are nobody's data.
const OURS: &str = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and not exists (select from pg_depend x where x.classid = 'pg_class'::regclass and x.objid = c.oid and x.deptype = 'e')";

impl Catalog {
    /// Reads the catalog. Sets the session's `search_path` to the system's schema, so
    /// that the server writes every other name in definitions with its schema, and its
    /// `lock_timeout`, so that another restore which holds the tables is not waited for.
    ///
    /// # Errors
    ///
    /// When the server refuses or the connection breaks.
    pub async fn read(client: &impl GenericClient) -> Result<Self, DatabaseError> {
        let failed = |e| DatabaseError::new("read the catalog of the target", e);
        let lock_timeout = LOCK_TIMEOUT.as_millis();
        let settings = format!("set search_path = pg_catalog, pg_temp; set lock_timeout = '{lock_timeout}ms'");
        client.batch_execute(&settings).await.map_err(failed)?;
        Self::read_with(client).await.map_err(failed)
    }

    async fn read_with(client: &impl GenericClient) -> Result<Self, tokio_postgres::Error> {
        let version: String =
            query(client, "select current_setting('server_version_num')".into()).await?[0].try_get(0)?;
        let mut tables = Vec::new();
        for row in query(client, format!("{TABLES}{OURS} order by 2, 3")).await? {
            tables.push(Table {
                oid: row.try_get("oid")?,
                name: TableName::new(row.try_get::<_, String>("nspname")?, row.try_get::<_, String>("relname")?),
                partitioned: row.try_get("partitioned")?,
                parent: row.try_get("parent")?,
                columns: Vec::new(),
                partition_key: row.try_get("partition_key")?,
                partitioned_by_expression: row.try_get("by_expression")?,
            });
        }
        let by_oid: HashMap<u32, usize> = tables.iter().enumerate().map(|(index, table)| (table.oid, index)).collect();
        let by_name = tables.iter().enumerate().map(|(index, table)| (table.name.clone(), index)).collect();
        for row in query(client, format!("{COLUMNS}{OURS} order by a.attrelid, a.attnum")).await? {
            if let Some(&table) = by_oid.get(&row.try_get("attrelid")?) {
                tables[table].columns.push(column(&row)?);
            }
        }
        let mut foreign_keys = Vec::new();
        for row in query(client, format!("{FOREIGN_KEYS}{OURS} order by c.oid, k.conname")).await? {
            foreign_keys.push(ForeignKey {
                constraint: constraint(&row)?,
                columns: row.try_get("columns")?,
                referenced_table: row.try_get("confrelid")?,
                referenced_columns: row.try_get("referenced")?,
            });
        }
        let unvalidated = query(client, format!("{UNVALIDATED}{OURS} order by c.oid, k.conname")).await?;
        let unvalidated = unvalidated.iter().map(constraint).collect::<Result<_, _>>()?;
        let mut triggers = Vec::new();
        for row in query(client, format!("{TRIGGERS}{OURS} order by c.oid, t.tgname")).await? {
            triggers.push(Trigger {
                name: row.try_get("tgname")?,
                table: row.try_get("tgrelid")?,
                enabled: row.try_get::<_, String>("enabled")?.chars().next().unwrap_or('O'),
            });
        }
        let name = |row: &Row| -> Result<TableName, tokio_postgres::Error> {
            Ok(TableName::new(row.try_get::<_, String>("nspname")?, row.try_get::<_, String>("relname")?))
        };
        let mut sequences = Vec::new();
        for row in query(client, format!("{SEQUENCES}{OURS} order by 1, 2")).await? {
            sequences.push(Sequence {
                name: name(&row)?,
                owner: row.try_get("owner")?,
                numbers: row.try_get("numbers")?,
            });
        }
        let superuser = query(client, "select current_setting('is_superuser') = 'on'".into()).await?[0].try_get(0)?;
        let mut event_triggers = Vec::new();
        for row in query(client, EVENT_TRIGGERS.into()).await? {
            let enabled = row.try_get::<_, String>("enabled")?.chars().next().unwrap_or('O');
            event_triggers.push(EventTrigger { name: row.try_get("evtname")?, enabled });
        }
        let extension_tables = query(client, EXTENSION_TABLES.into()).await?;
        let views =
            query(client, format!("{MATERIALIZED_VIEWS}{OURS} group by 1, 2 order by max(d.length), 1, 2")).await?;
        Ok(Self {
            // The server writes digits only; 0 would be refused as too old.
            server_version: version.parse().unwrap_or(0),
            sequences,
            materialized_views: views.iter().map(name).collect::<Result<_, _>>()?,
            tables,
            extension_tables: extension_tables.iter().map(name).collect::<Result<_, _>>()?,
            foreign_keys,
            unvalidated,
            event_triggers,
            is_superuser: superuser,
            triggers,
            by_name,
            by_oid,
        })
    }

    /// A number that changes with everything in the catalog: compares two readings.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let Self { tables, foreign_keys, unvalidated, triggers, event_triggers, sequences, materialized_views, .. } =
            self;
        // What is printed of each is all that is known of it.
        format!(
            "{tables:?}{foreign_keys:?}{unvalidated:?}{triggers:?}{event_triggers:?}{sequences:?}{materialized_views:?}"
        )
        .hash(&mut hasher);
        hasher.finish()
    }

    /// The table of this name.
    pub fn table(&self, name: &TableName) -> Option<&Table> {
        self.by_name.get(name).map(|&index| &self.tables[index])
    }

    /// The table with this OID.
    pub fn table_by_oid(&self, oid: u32) -> Option<&Table> {
        self.by_oid.get(&oid).map(|&index| &self.tables[index])
    }

    /// The table and those that it is a partition of, up to the root.
    pub fn ancestry<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a Table> {
        std::iter::successors(Some(table), |table| self.table_by_oid(table.parent?))
    }

    /// The partitions below `table` that hold rows, or itself when it is not partitioned.
    pub fn leaves<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a Table> {
        self.tables
            .iter()
            .filter(move |leaf| !leaf.partitioned && self.ancestry(leaf).any(|above| above.oid == table.oid))
    }
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

// A closure would do, but then nobody could wait for it in a task that moves between threads.
async fn query(client: &impl GenericClient, sql: String) -> Result<Vec<Row>, tokio_postgres::Error> {
    client.query(&sql, &[]).await
}

fn constraint(row: &Row) -> Result<Constraint, tokio_postgres::Error> {
    Ok(Constraint {
        name: row.try_get("conname")?,
        table: row.try_get("conrelid")?,
        definition: row.try_get("definition")?,
        comment: row.try_get("comment")?,
    })
}

fn column(row: &Row) -> Result<Column, tokio_postgres::Error> {
    let type_name: String = row.try_get("typname")?;
    let element: Option<String> = row.try_get("element")?;
    let kind = ColumnKind::of_type(element.as_deref().unwrap_or(&type_name).as_bytes(), element.is_some());
    Ok(Column {
        number: row.try_get("attnum")?,
        name: row.try_get("attname")?,
        type_name: row.try_get("type_name")?,
        kind,
        may_be_omitted: row.try_get("may_be_omitted")?,
        generated: row.try_get("generated")?,
    })
}
