-- One JSON array of two strings for each fact about a database: what it is about, and the fact.
-- Nothing may depend on OIDs, on the order of rows or on the settings of a role or a database.
set search_path = pg_catalog;
set datestyle = 'ISO, YMD';
set intervalstyle = 'postgres';
set timezone = 'UTC';
set extra_float_digits = 1;
set bytea_output = 'hex';
set quote_all_identifiers = off;
-- a session that a test left open shows as an error, not as a test that never ends
set lock_timeout = '60s';
begin isolation level repeatable read read only;

-- The relations of the user, with names that are always quoted alike.
\set user_schemas 'n.nspname <> ''information_schema'' and n.nspname !~ ''^pg_'''

-- rows: the checksum of the sorted checksums of the rows, which is the same in any order.
-- Partitions are counted in their root: which one a row is in follows from the row, but with a hash of an enum
-- (of its OID) not in the same way in every database.
select format(
  'select json_build_array(%L, format(''%%s rows, %%s'', count(*), md5(coalesce(string_agg(h, '''' order by h collate "C"), ''''))))
   from (select md5(t::text) as h from %s %I.%I as t) as hashed',
  case c.relkind when 'm' then 'materialized view ' else 'rows ' end || format('%I.%I', n.nspname, c.relname),
  case c.relkind when 'r' then 'only' else '' end, n.nspname, c.relname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm') and not c.relispartition and c.relispopulated and :user_schemas
order by n.nspname, c.relname
\gexec

select format('select json_build_array(%L, format(''last_value %%s, is_called %%s'', last_value, is_called)) from %I.%I',
  'sequence ' || format('%I.%I', n.nspname, c.relname), n.nspname, c.relname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S' and :user_schemas
order by n.nspname, c.relname
\gexec

-- large objects, which have numbers that rows refer to
select json_build_array('large object ' || m.oid,
  format('owner %s, rights %s, %s bytes, %s', pg_get_userbyid(m.lomowner),
    coalesce((select string_agg(item::text, ',' order by item::text collate "C") from unnest(m.lomacl) as item), 'default'),
    length(lo_get(m.oid)), md5(lo_get(m.oid))))
from pg_largeobject_metadata m
order by m.oid;

-- definitions and switches
select json_build_array(what, fact) from (
  select format('relation %I.%I', n.nspname, c.relname) as what,
    format('kind %s, persistence %s, owner %s, rights %s, replica identity %s, row security %s %s, populated %s, options %s, partition %s %s',
      c.relkind, c.relpersistence, pg_get_userbyid(c.relowner),
      coalesce((select string_agg(item::text, ',' order by item::text collate "C") from unnest(c.relacl) as item), 'default'),
      c.relreplident, c.relrowsecurity, c.relforcerowsecurity, c.relispopulated, c.reloptions,
      pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)) as fact
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and :user_schemas
union all
  select format('column %I.%I.%I', n.nspname, c.relname, a.attname),
    -- the place among those that are left: a column's number also counts those that were dropped
    format('%s %s, not null %s, default %s, identity %s, generated %s', row_number() over (partition by c.oid order by a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull,
      pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated)
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and a.attnum > 0 and not a.attisdropped and :user_schemas
union all
  select format('constraint %s.%I', coalesce(c.oid::regclass::text, k.contypid::regtype::text), k.conname),
    format('%s, validated %s', pg_get_constraintdef(k.oid), k.convalidated)
  from pg_constraint k join pg_namespace n on n.oid = k.connamespace left join pg_class c on c.oid = k.conrelid
  where :user_schemas
union all
  -- an internal trigger is half of a foreign key; its own name holds an OID
  select format('trigger %s %s', c.oid::regclass, case when t.tgisinternal
      then format('of %I for %s as %s', k.conname, t.tgfoid::regproc, t.tgtype) else t.tgname::text end),
    format('enabled %s, %s', t.tgenabled, case when t.tgisinternal then 'internal' else pg_get_triggerdef(t.oid) end)
  from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    left join pg_constraint k on k.oid = t.tgconstraint
  where :user_schemas
union all
  select format('rule %s %s', c.oid::regclass, r.rulename), format('enabled %s, %s', r.ev_enabled, pg_get_ruledef(r.oid))
  from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
  where :user_schemas
union all
  select format('index %s', i.indexrelid::regclass),
    format('%s, valid %s, ready %s, clustered %s, replica identity %s', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisready,
      i.indisclustered, i.indisreplident)
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
  where :user_schemas
union all
  select format('sequence definition %I.%I', n.nspname, c.relname),
    format('%s from %s by %s in %s..%s, cache %s, cycle %s, owned by %s', format_type(s.seqtypid, null), s.seqstart, s.seqincrement,
      s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
      (select format('%s.%I', d.refobjid::regclass, a.attname) from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
       where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')))
  from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
  where :user_schemas
union all
  select format('view %s', c.oid::regclass), pg_get_viewdef(c.oid)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('v', 'm') and :user_schemas
union all
  select format('function %s', p.oid::regprocedure), md5(pg_get_functiondef(p.oid))
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where p.prokind in ('f', 'p') and :user_schemas
    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
union all
  select format('type %s', t.oid::regtype),
    format('%s %s %s %s %s', t.typtype, format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
      (select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid))
  from pg_type t join pg_namespace n on n.oid = t.typnamespace where t.typtype in ('d', 'e', 'r') and :user_schemas
union all
  select format('schema %I', n.nspname),
    format('owner %s, rights %s', pg_get_userbyid(n.nspowner),
      coalesce((select string_agg(item::text, ',' order by item::text collate "C") from unnest(n.nspacl) as item), 'default'))
  from pg_namespace n where :user_schemas
union all
  select format('extension %I', extname), extversion from pg_extension
union all
  select format('event trigger %I', evtname), format('enabled %s, %s', evtenabled, evtfoid::regproc) from pg_event_trigger
union all
  select format('comment on %s', pg_describe_object(d.classoid, d.objoid, d.objsubid)), d.description
  from pg_description d join pg_class c on d.classoid = 'pg_class'::regclass and c.oid = d.objoid join pg_namespace n on n.oid = c.relnamespace
  where :user_schemas
) as facts
order by what collate "C";
commit;
