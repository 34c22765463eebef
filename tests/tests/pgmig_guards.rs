//! What a restore refuses or leaves alone for the sake of data that is not the archive's: spare instances,
//! large objects, sequences, event triggers and whatever changes while somebody thinks about the question.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use pgmig_tests::awkward::Target;
use pgmig_tests::pgmig::{Job, Run, SECRET_TOKEN};
use pgmig_tests::resource_controller::{Provisioned, ResourceControllerOptions, ResourceControllerServer};
use pgmig_tests::{DumpOptions, Fingerprint, PgTools, Server, ServerOptions};
use tempfile::TempPath;

const LIVE: &str = "11111111-1111-4111-8111-111111111111";
const DELETED: &str = "dddddddd-dddd-4ddd-8ddd-dddddddddddd";
const NEW: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
const SPARE: &str = "55555555-5555-4555-8555-555555555555";
const INTERNAL: &str = "99999999-9999-4999-8999-999999999999";

const PROFILE: &str = "
profile: guards
version: 1
tenants: {table: tenant, id: tenant_id, name: name, deleted: deleted, region: region, internal-regions: [System]}
id-columns: {names: [tenant_id, instance_id, tenant_ids]}
schema-version: {table: schema_info, column: version}
keep-in-target: [schema_info]
";

/// The tables of source and target alike, `$id` being the type of IDs.
const TABLES: &str = "
create table tenant (tenant_id $id primary key, instance_id $id, name text, region text, deleted boolean);
create table schema_info (version text not null);
create table note (note_id serial primary key, tenant_id $id not null references tenant, body text);
insert into schema_info values ('1');
";

fn tables() -> String {
    TABLES.replace("$id", "uuid")
}

/// A live tenant with two notes and a deleted one with one.
fn source_rows() -> String {
    format!(
        "insert into tenant values ('{LIVE}', '{LIVE}', 'live', 'eu', false), ('{DELETED}', '{DELETED}', 'gone', 'eu', true);
         insert into note (tenant_id, body) values ('{LIVE}', 'one'), ('{LIVE}', 'two'), ('{DELETED}', 'of the deleted one');"
    )
}

fn target_rows() -> String {
    format!("insert into tenant values ('{NEW}', '{NEW}', 'new', 'eu', false);")
}

fn new_database(server: &Server, sql: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("guards {}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server.create_database(&name, "UTF8");
    server.psql(&name, &format!("set client_min_messages = warning; {sql}"));
    name
}

/// An archive of a database in which this was run.
fn dump(sql: &str, how: &DumpOptions) -> TempPath {
    let server = Server::shared(15);
    let database = new_database(server, sql);
    let archive = server.tools().dump(server, &database, how);
    server.drop_database(&database);
    archive
}

/// An archive of the usual tables and rows after more.
fn usual_dump(more: &str) -> TempPath {
    dump(&format!("{}{}{more}", tables(), source_rows()), &DumpOptions::piped())
}

fn target_on(server: &'static Server, sql: &str) -> Target {
    let database = new_database(server, sql);
    let before = Fingerprint::of(server, &database);
    Target { server, database, before }
}

/// The usual target after more.
fn usual_target(more: &str) -> Target {
    target_on(Server::shared(15), &format!("{}{}{more}", tables(), target_rows()))
}

fn job(archive: &Path, target: &Target) -> Job {
    let job = Job::new(archive, target);
    fs::write(job.file("profile.yaml"), PROFILE).unwrap();
    job.map(&[(LIVE, NEW)]);
    job
}

fn without_force(job: &Job) -> Run {
    Run::of(job.without_mapping().args(["--mapping", "mapping.yaml"]))
}

/// Panics unless only things whose descriptions begin like this have changed.
#[track_caller]
fn assert_only_changed(target: &Target, kinds: &[&str]) {
    let changed = target.before.differences(&target.now());
    let others: Vec<_> = changed.iter().filter(|line| !kinds.iter().any(|kind| line.starts_with(kind))).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// What every restore here may change.
const RESTORED: [&str; 3] = ["rows public.tenant:", "rows public.note:", "sequence public.note_note_id_seq:"];

fn notes(target: &Target) -> String {
    target.psql("select string_agg(tenant_id || ' ' || body, ', ' order by note_id) from note")
}

fn restored_notes() -> String {
    format!("{NEW} one, {NEW} two")
}

#[test]
fn a_live_tenant_whose_row_names_a_deleted_one_is_restored_when_strays_are_ignored() {
    let archive = usual_dump(&format!("update tenant set instance_id = '{DELETED}' where tenant_id = '{LIVE}';"));
    let target = usual_target("");
    let job = job(&archive, &target);
    let _ = job.run(&[]).failed(&["public.tenant.instance_id, 1 rows", DELETED, "--ignore-strays"]);
    target.assert_unchanged();

    let _ = job.run(&["--ignore-strays"]).done().says(&[&format!("tenant {DELETED} (gone) is deleted and not mapped")]);
    let listed = target.psql("select tenant_id, instance_id, name from tenant");
    assert_eq!(listed, format!("{NEW}|{DELETED}|live"));
    assert_eq!(notes(&target), restored_notes());
    assert_only_changed(&target, &RESTORED);
}

#[test]
fn a_row_of_a_live_and_a_deleted_tenant_is_left_out_counted_and_warned_of() {
    let table = "create table shared (what text, tenant_ids uuid[]);";
    let rows = format!(
        "insert into shared values ('both', '{{{LIVE},{DELETED}}}'), ('both again', '{{{DELETED},{LIVE}}}'),
           ('live', '{{{LIVE}}}'), ('deleted', '{{{DELETED}}}'), ('nobody', '{{}}');"
    );
    let archive = usual_dump(&format!("{table}{rows}"));
    let target = usual_target(table);
    let job = job(&archive, &target);
    let plan = job.run(&["--dry-run", "--output", "json"]).done().json();
    let planned = plan["tables"].as_array().unwrap().iter().find(|table| table["table"] == "public.shared").unwrap();
    let counts = ["rows", "rows_left_out", "rows_left_out_shared"].map(|count| planned[count].as_u64().unwrap());
    assert_eq!(counts, [5, 3, 2]);
    target.assert_unchanged();

    let warning = "2 of the rows of public.shared that are left out name a tenant too that is restored";
    let _ = job.run(&[]).done().says(&[warning]);
    let rows = target.psql("select what, tenant_ids from shared order by 1");
    assert_eq!(rows, format!("live|{{{NEW}}}\nnobody|{{}}"));
    let report = fs::read_to_string(job.file("pgmig-report.json")).unwrap();
    assert!(report.contains(warning), "{report}");
}

#[test]
fn an_instance_that_nothing_is_mapped_to_is_erased_with_force_only() {
    let archive = usual_dump("");
    // Nothing but the list itself tells of it.
    let spare = format!("insert into tenant values ('{SPARE}', null, 'spare', 'eu', false);");
    let with_notes = format!("{spare} insert into note (tenant_id, body) values ('{SPARE}', 'precious');");
    let named = format!("instance {SPARE} (spare) of the target takes no data; what it has is erased");
    let unknown_to_it = vec![Provisioned { guid: NEW.to_owned(), ..Provisioned::numbered(1) }];
    let tokens = vec![(SECRET_TOKEN.to_owned(), unknown_to_it)];
    let controller = ResourceControllerServer::start(ResourceControllerOptions { tokens, ..Default::default() });
    for (rows, refused) in [(&spare, "public.tenant, 1 rows"), (&with_notes, "public.note, 1 rows")] {
        for asks_controller in [false, true] {
            let target = usual_target(rows);
            let job = job(&archive, &target);
            controller.write_yaml(&job.file("rc.yaml"));
            let arguments: &[&str] = if asks_controller { &["-r", "rc.yaml"] } else { &[] };
            let refusal = Run::of(job.without_mapping().args(["--mapping", "mapping.yaml"]).args(arguments));
            let _ = refusal.failed(&[&named, refused, "public.tenant, 1 rows", "--force"]);
            target.assert_unchanged();

            let _ = job.run(arguments).done().says(&[&named]);
            assert_eq!(target.psql("select tenant_id, name from tenant"), format!("{NEW}|live"));
            assert_eq!(notes(&target), restored_notes());
            assert_only_changed(&target, &RESTORED);
        }
    }
}

#[test]
fn a_table_whose_rows_the_dump_leaves_out_is_erased_with_a_warning_and_nothing_else_is() {
    let tables = format!(
        "{}create table log (log_id serial primary key, tenant_id uuid, line text);
         create table country (code text primary key); create table currency (code text primary key);",
        tables()
    );
    let archive = dump(
        &format!(
            "{tables}{} insert into log (tenant_id, line) values ('{LIVE}', 'of the source'); insert into country values ('de');",
            source_rows()
        ),
        &DumpOptions::piped().arg("--exclude-table-data=public.log").arg("--exclude-table-data=public.currency"),
    );
    let target = target_on(
        Server::shared(15),
        &format!(
            "{tables}{} create table only_here (n integer); insert into only_here values (1);
             insert into log (tenant_id, line) values ('{NEW}', 'of the target'); insert into country values ('fr');
             insert into currency values ('EUR');",
            target_rows()
        ),
    );
    let job = job(&archive, &target);
    let warning = "the dump leaves the rows of public.log out: the restore leaves it empty";
    let refusal = without_force(&job).failed(&[&format!("warning: {warning}"), "public.log, 1 rows", "--force"]);
    // Empty tables are no such ones; what all tenants share is no tenant's data and stays.
    assert_eq!(refusal.stderr.matches("the dump leaves").count(), 2, "{refusal}");
    assert!(refusal.stderr.contains("rows of public.currency out: they stay as the target has them"), "{refusal}");
    target.assert_unchanged();

    let _ = job.run(&[]).done().says(&[warning]);
    assert_eq!(target.psql("select count(*) from log"), "0");
    assert_eq!(target.psql("select code from country"), "de");
    assert_eq!(target.psql("select code from currency"), "EUR");
    assert_eq!(notes(&target), restored_notes());
    let mut known = RESTORED.to_vec();
    known.extend(["rows public.log:", "rows public.country:"]);
    assert_only_changed(&target, &known);
}

#[test]
fn a_large_object_of_a_row_that_stays_is_never_replaced() {
    let table = "create table picture (tenant_id uuid, content oid);";
    let archive =
        usual_dump(&format!("{table} insert into picture values ('{LIVE}', lo_from_bytea(47110, 'of the archive'));"));
    let only_here = "create table only_here (n integer, content oid); insert into only_here values (1, lo_from_bytea(47110, 'ours'));";
    let internal = format!(
        "insert into tenant values ('{INTERNAL}', null, 'system', 'System', false);
         insert into picture values ('{INTERNAL}', lo_from_bytea(47110, 'ours'));"
    );
    for (rows, column, give_another) in [
        (only_here, "public.only_here.content", "update only_here set content = lo_from_bytea(0, lo_get(content))"),
        (&*internal, "public.picture.content", "update picture set content = lo_from_bytea(0, lo_get(content))"),
    ] {
        let target = usual_target(&format!("{table}{rows}"));
        let job = job(&archive, &target);
        let _ = job.run(&[]).failed(&[
            "the archive's large objects would replace others of the target",
            &format!("{column} refers in 1 rows that stay"),
            "lo_from_bytea(0, lo_get(oid))",
        ]);
        target.assert_unchanged();
        assert_eq!(target.psql("select convert_from(lo_get(47110), 'UTF8')"), "ours");

        // What the hint says helps.
        target.psql(give_another);
        let _ = job.run(&[]).done();
        assert_eq!(target.psql("select convert_from(lo_get(47110), 'UTF8')"), "of the archive");
        let of_row = |table: &str, condition: &str| {
            target.psql(&format!("select convert_from(lo_get(content), 'UTF8') from {table} where {condition}"))
        };
        assert_eq!(of_row("picture", &format!("tenant_id = '{NEW}'")), "of the archive");
        let stayed = if rows == only_here { ("only_here", "true") } else { ("picture", "content <> 47110") };
        assert_eq!(of_row(stayed.0, stayed.1), "ours");
    }
}

#[test]
fn a_sequence_of_rows_that_stay_does_not_go_back_and_others_are_as_in_the_archive() {
    let more = "create table task (task_id integer generated by default as identity primary key, tenant_id uuid);
                create table countdown (n serial primary key, tenant_id uuid);
                alter sequence countdown_n_seq increment by -1 minvalue -1000000 maxvalue -1 start with -1 restart with -1;
                create table ahead (n serial primary key, tenant_id uuid);";
    let archive = usual_dump(&format!(
        "{more} insert into task (tenant_id) values ('{LIVE}');
         insert into countdown (tenant_id) values ('{LIVE}'), ('{LIVE}');
         insert into ahead values (default, '{LIVE}'); select setval('ahead_n_seq', 5000);"
    ));
    let target = usual_target(&format!(
        "{more} insert into tenant values ('{INTERNAL}', null, 'system', 'System', false);
         select setval('note_note_id_seq', 900), setval('task_task_id_seq', 900), setval('countdown_n_seq', -900), setval('ahead_n_seq', 900);
         insert into note (tenant_id, body) values ('{INTERNAL}', 'stays'); insert into task (tenant_id) values ('{NEW}');
         insert into countdown (tenant_id) values ('{INTERNAL}'); insert into ahead (tenant_id) values ('{INTERNAL}');"
    ));
    let _ = job(&archive, &target).run(&[]).done();
    let value = |sequence: &str| target.psql(&format!("select last_value, is_called from {sequence}"));
    assert_eq!(value("note_note_id_seq"), "901|t");
    assert_eq!(value("countdown_n_seq"), "-901|t");
    assert_eq!(value("task_task_id_seq"), "1|t");
    assert_eq!(value("ahead_n_seq"), "5000|t");
    assert_eq!(target.psql("select note_id, body from note where body = 'stays'"), "901|stays");
    let next = format!("insert into note (tenant_id, body) values ('{NEW}', 'the next') returning note_id");
    assert_eq!(target.psql(&next), "902");
}

#[test]
fn a_text_may_mention_a_deleted_tenant_when_strays_are_ignored() {
    let table = "create table webhook (tenant_id uuid, url text);";
    let url = |live: &str| format!("https://h/{live}/copied/{DELETED}?x={live}");
    let archive = usual_dump(&format!("{table} insert into webhook values ('{LIVE}', '{}');", url(LIVE)));
    let target = usual_target(table);
    let job = job(&archive, &target);
    let also = ["--remap-also", "public.webhook.url"];
    let _ = job.run(&[]).failed(&["public.webhook.url, 1 rows", "--remap-also 'public.webhook.url'"]);
    // The deleted one has no successor that it could be replaced by.
    let _ = job.run(&also).failed(&["public.webhook.url, 1 rows", DELETED, "--ignore-strays"]);
    target.assert_unchanged();

    let _ = job.run(&[also[0], also[1], "--ignore-strays"]).done();
    assert_eq!(target.psql("select tenant_id, url from webhook"), format!("{NEW}|{}", url(NEW)));
    let mut known = RESTORED.to_vec();
    known.push("rows public.webhook:");
    assert_only_changed(&target, &known);
}

/// Tables with text IDs, and a column of text in which they may stand.
fn text_tables() -> String {
    format!("{} create table webhook (tenant_id text, url text);", TABLES.replace("$id", "text"))
}

#[test]
fn a_word_that_is_an_id_is_replaced_and_a_longer_word_is_not() {
    let source = "insert into tenant values ('acme', 'acme', 'Acme', 'eu', false);
                  insert into note (tenant_id, body) values ('acme', 'one');
                  insert into webhook values ('acme', 'http://acme/x acmeism');";
    let archive = dump(&format!("{}{source}", text_tables()), &DumpOptions::piped());
    let target = target_on(
        Server::shared(15),
        &format!("{} insert into tenant values ('acme-2', 'acme-2', 'Acme', 'eu', false);", text_tables()),
    );
    let job = job(&archive, &target);
    job.map(&[("acme", "acme-2")]);
    let _ = job.run(&[]).failed(&["public.webhook.url, 1 rows, such as: http://acme/x acmeism"]);
    target.assert_unchanged();
    // The new word has the old one in it, which is no fault.
    let _ = job.run(&["--remap-also", "public.webhook.url"]).done();
    assert_eq!(target.psql("select tenant_id, url from webhook"), "acme-2|http://acme-2/x acmeism");
    assert_eq!(notes(&target), "acme-2 one");
    assert_eq!(target.psql("select tenant_id, instance_id from tenant"), "acme-2|acme-2");
}

#[test]
fn an_id_that_another_one_begins_with_is_found_where_the_longer_one_is_no_word() {
    let source =
        "insert into tenant values ('acme', null, 'Acme', 'eu', false), ('acme-old', null, 'Old', 'eu', false);
                  insert into note (tenant_id, body) values ('acme', 'one');
                  insert into webhook values ('acme', 'http://acme-older/');";
    let archive = dump(&format!("{}{source}", text_tables()), &DumpOptions::piped());
    let target_of = |acme: &str, old: &str| {
        let rows = format!(
            "insert into tenant values ('{acme}', null, 'Acme', 'eu', false), ('{old}', null, 'Old', 'eu', false);"
        );
        target_on(Server::shared(15), &format!("{}{rows}", text_tables()))
    };
    let url = |target: &Target| target.psql("select tenant_id, url from webhook");
    for (acme, old, is_stray) in [("acme-2", "old-2", true), ("acme-2", "acme-old", true), ("acme", "old-2", false)] {
        let target = target_of(acme, old);
        let job = job(&archive, &target);
        job.map(&[("acme", acme), ("acme-old", old)]);
        if is_stray {
            let _ = job.run(&[]).failed(&["public.webhook.url, 1 rows, such as: http://acme-older/"]);
            target.assert_unchanged();
            let _ = job.run(&["--ignore-strays"]).done();
        } else {
            // Nothing is to be found of one that stays as it is, nor of the other, which is no word here.
            let _ = job.run(&[]).done();
        }
        assert_eq!(url(&target), format!("{acme}|http://acme-older/"));
        assert_eq!(target.psql("select string_agg(tenant_id, ' ' order by name) from tenant"), format!("{acme} {old}"));
    }
}

/// An event trigger that writes down every change of definitions, in a table that whoever makes the tables owns.
const EVENT_TRIGGER: &str = "
create table ddl_log (what text);
create function log_ddl() returns event_trigger language plpgsql as $$ begin
  insert into public.ddl_log values (tg_tag); end $$;
reset role;
create event trigger writes_down on ddl_command_end execute function log_ddl();
";

#[test]
fn event_triggers_do_not_fire_on_what_a_restore_does_to_definitions() {
    let archive = usual_dump("");
    let more = "alter table note add constraint not_validated check (note_id > 0) not valid;
                create materialized view counted as select tenant_id, count(*) from note group by 1;";
    let target = usual_target(&format!("{more}{EVENT_TRIGGER}"));
    let _ = job(&archive, &target).run(&[]).done();
    assert_eq!(target.psql("select count(*) from ddl_log"), "0");
    assert_eq!(notes(&target), restored_notes());
    assert_eq!(target.psql("select tenant_id, count from counted"), format!("{NEW}|2"));
    let mut known = RESTORED.to_vec();
    known.push("materialized view public.counted:");
    assert_only_changed(&target, &known);
    // It still fires for others.
    target.psql("create table later (n integer)");
    assert_eq!(target.psql("select what from ddl_log"), "CREATE TABLE");

    // Foreign keys are checked all the same.
    let orphan = usual_dump(&format!(
        "set session_replication_role = replica; insert into note (tenant_id, body) values ('{SPARE}', 'of nobody');"
    ));
    let target = usual_target(EVENT_TRIGGER);
    let _ = job(&orphan, &target).run(&[]).failed(&["note_tenant_id_fkey of public.note"]);
    target.assert_unchanged();

    for (how, is_refused) in [("enable always", true), ("enable replica", true), ("disable", false)] {
        let target = usual_target(&format!("{EVENT_TRIGGER} alter event trigger writes_down {how};"));
        let job = job(&archive, &target);
        if is_refused {
            let _ = job.run(&[]).failed(&[
                "event triggers of the target would fire during the restore: event trigger writes_down",
                "ALTER EVENT TRIGGER name DISABLE",
            ]);
            target.assert_unchanged();
        } else {
            let _ = job.run(&[]).done();
            assert_eq!(notes(&target), restored_notes());
        }
        assert_eq!(target.psql("select count(*) from ddl_log"), "0", "{how}");
    }
}

#[test]
fn an_owner_who_is_no_superuser_is_refused_where_event_triggers_would_fire() {
    let archive = usual_dump("");
    let target =
        target_on(Server::shared(15), &format!("set role store; {}{}{EVENT_TRIGGER}", tables(), target_rows()));
    let job = job(&archive, &target);
    let yaml = fs::read_to_string(job.file("postgres.yaml")).unwrap();
    let as_owner = yaml.replace("su_username: postgres", "su_username: store");
    assert_ne!(as_owner, yaml);
    fs::write(job.file("postgres.yaml"), as_owner).unwrap();
    let _ = job.run(&[]).failed(&[
        "event triggers of the target would fire during the restore: event trigger writes_down",
        "ALTER EVENT TRIGGER name DISABLE",
        "connect as a superuser",
    ]);
    target.assert_unchanged();

    // What the hint says helps.
    target.psql("alter event trigger writes_down disable");
    let _ = job.run(&[]).done();
    assert_eq!(notes(&target), restored_notes());
    assert_eq!(target.psql("select count(*) from ddl_log"), "0");
}

#[test]
fn a_trigger_that_is_made_while_the_question_waits_stops_the_restore() {
    let archive = usual_dump("");
    let rows = format!(
        "insert into note (tenant_id, body) values ('{NEW}', 'old');
         create function leave_trace() returns trigger language plpgsql as $$ begin
           insert into public.schema_info values ('fired'); return new; end $$;
         create function event_of_later() returns event_trigger language plpgsql as $$ begin
           insert into public.schema_info values ('fired'); end $$;"
    );
    let line = format!(
        "--source '{}' --target postgres.yaml --profile profile.yaml --mapping mapping.yaml --force",
        archive.display()
    );
    for (sql, told) in [
        (
            "create trigger of_later before insert on note for each row execute function leave_trace()",
            "its tables, constraints or triggers are no longer the same",
        ),
        (
            "create table only_later (note_id integer references note); insert into only_later select note_id from note",
            "no longer the same",
        ),
        ("create event trigger of_later on sql_drop execute function event_of_later()", "no longer the same"),
        ("alter table note add column of_later integer", "no longer the same"),
        (
            &format!("insert into note (tenant_id, body) values ('{NEW}', 'late')"),
            "public.note had 1 rows and has 2 now",
        ),
    ] {
        let target = usual_target(&rows);
        let job = job(&archive, &target);
        let mut changed = None;
        let change = || {
            target.psql(sql);
            changed = Some(target.now());
        };
        let run = job.at_terminal_after("[y/N]", change, &line, "y\n");
        assert_eq!(run.status.code(), Some(1), "{sql}: {run}");
        let _ = run.says(&["the target has changed since the plan was made", told, "scale the store deployment down"]);
        changed.unwrap().assert_same(&target.now());
    }
}

#[test]
fn a_foreign_key_of_a_table_that_only_the_target_has_does_not_blame_tenants_that_are_left_out() {
    let archive = usual_dump("");
    let target = usual_target(&format!(
        "insert into note values (70, '{NEW}', 'vanishes');
         create table only_here (note_id integer references note); insert into only_here values (70);"
    ));
    // The archive has a note too that is left out.
    let job = job(&archive, &target);
    let run = job.run(&[]).failed(&["constraint only_here_note_id_fkey of public.only_here", "70"]);
    let run = run.says(&["rows of public.only_here stay, and a row refers to one that is erased"]);
    assert!(!run.stderr.contains("map these tenants") && !run.stderr.contains("were left out"), "{run}");
    target.assert_unchanged();
    // What the hint says helps.
    target.psql("delete from only_here");
    let _ = job.run(&[]).done();
    assert_eq!(notes(&target), restored_notes());
}

#[test]
fn thousands_of_large_objects_are_restored_twice_under_the_role_of_the_product() {
    // With room for a few hundred locks only.
    let config = vec!["max_locks_per_transaction = 10".to_owned(), "max_connections = 20".to_owned()];
    let options = ServerOptions { config, ..Default::default() };
    let server: &'static Server = Box::leak(Box::new(Server::start_with(&PgTools::major(15), &options)));
    let table = "create table picture (tenant_id uuid, content oid);";
    let archive = usual_dump(&format!(
        "{table} insert into picture select '{LIVE}', lo_from_bytea(50000 + n, convert_to('picture ' || n, 'UTF8'))
           from generate_series(1, 3000) as n;"
    ));
    let target = target_on(server, &format!("{}{}{table}", tables(), target_rows()));
    let job = job(&archive, &target);
    let objects = "select count(*), string_agg(distinct m.lomowner::regrole::text, ' '),
                          bool_and(lo_get(m.oid) = convert_to('picture ' || (m.oid::integer - 50000), 'UTF8'))
                     from pg_largeobject_metadata as m";
    let _ = job.run(&[]).done();
    assert_eq!(target.psql(objects), "3000|store|t");
    let _ = without_force(&job).failed(&["3000 large objects", "--force"]);

    target.psql("select count(lo_put(content, 0, 'something longer than before')) from picture where content < 50500");
    let _ = job.run(&[]).done();
    assert_eq!(target.psql(objects), "3000|store|t");
    assert_eq!(target.psql(&format!("select count(*) from picture where tenant_id = '{NEW}'")), "3000");
}

#[test]
fn a_large_object_that_a_row_that_stays_shares_with_an_erased_one_is_not_erased() {
    let table = "create table picture (tenant_id uuid, content oid);";
    let archive = usual_dump(table);
    let target = usual_target(&format!(
        "{table} create table only_here (content oid); insert into only_here values (lo_from_bytea(4711, 'ours'));
         select lo_from_bytea(4712, 'of the erased row alone');
         insert into picture values ('{NEW}', 4711), ('{NEW}', 4712);"
    ));
    let _ = job(&archive, &target).run(&[]).done();
    assert_eq!(target.psql("select count(*) from picture"), "0");
    assert_eq!(target.psql("select oid, convert_from(lo_get(oid), 'UTF8') from pg_largeobject_metadata"), "4711|ours");
}

#[test]
fn a_sequence_that_no_column_owns_does_not_go_back_behind_rows_that_stay_either() {
    let more =
        "create sequence of_kept; create sequence of_table_here; create sequence of_erased; create sequence of_none;
                create table task (task_id integer default nextval('of_kept'), tenant_id uuid);
                create table chore (chore_id integer default nextval('of_erased'), tenant_id uuid);";
    let archive = usual_dump(&format!(
        "{more} insert into task (tenant_id) values ('{LIVE}'); insert into chore (tenant_id) values ('{LIVE}');
         select nextval('of_table_here'), nextval('of_none');"
    ));
    let target = usual_target(&format!(
        "{more} insert into tenant values ('{INTERNAL}', null, 'system', 'System', false);
         select setval('of_kept', 900), setval('of_table_here', 900), setval('of_erased', 900), setval('of_none', 900);
         create table only_here (n integer default nextval('of_table_here'));
         insert into task (tenant_id) values ('{INTERNAL}'); insert into chore (tenant_id) values ('{NEW}');
         insert into only_here values (default);"
    ));
    let _ = job(&archive, &target).run(&[]).done();
    let value = |sequence: &str| target.psql(&format!("select last_value from {sequence}"));
    let values = ["of_kept", "of_table_here", "of_erased", "of_none"].map(value);
    assert_eq!(values, ["901", "901", "1", "1"]);
}
