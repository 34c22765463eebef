//! The whole program and the people who run it: prompts, the Resource Controller, connection tests, TLS,
//! `inspect` and `verify`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use pgmig_tests::awkward::{INTERNAL, MAPPING, OldRows, Source, Store, Target};
use pgmig_tests::pgmig::{Job, Run, SECRET_TOKEN};
use pgmig_tests::resource_controller::{Provisioned, ResourceControllerOptions, ResourceControllerServer};
use pgmig_tests::{CutProxy, DumpOptions, Fingerprint, PgTools, Server, ServerOptions, Tls, wait_until};

static SOURCE: LazyLock<Source> = LazyLock::new(|| Source::dump(15, Store::Utf8, &DumpOptions::piped()));
static EXPECTED: LazyLock<Fingerprint> = LazyLock::new(|| SOURCE.expected(Store::Utf8, &MAPPING));

fn target() -> Target {
    Target::on(15, Store::Utf8, OldRows::Some)
}

/// The arguments of [`Job::without_mapping`] for a shell.
fn arguments(archive: &Path) -> String {
    format!("--source '{}' --target postgres.yaml --profile profile.yaml", archive.display())
}

#[test]
fn somebody_at_a_terminal_is_asked_for_the_mapping() {
    let target_of_prompts = target();
    let job = Job::new(&SOURCE.archive, &target_of_prompts);
    // The first is offered by its name; then details, one that is taken, one that is not there, the list;
    // and in the end whether to erase.
    let answers = "\nd3\n1\n99\nx\n2\n3\nl\n4\ny\n";
    let run = job.at_terminal(&format!("{} --force", arguments(&SOURCE.archive)), answers).done();
    let run = run.says(&[
        "1 of 4: support",
        "4 of 4: (no name)",
        "[1]:",
        "that one is taken already",
        "a number from 1 to 4 is needed",
        "enteredMapping.yaml",
        "Erase",
        "committed",
    ]);
    assert!(!run.stdout.contains(INTERNAL), "the internal instance was offered: {run}");
    target_of_prompts.assert_restored(&EXPECTED);

    let entered = fs::read_to_string(job.file("enteredMapping.yaml")).unwrap();
    let pairs: String = MAPPING.iter().map(|(source, target)| format!("  {source}: {target}\n")).collect();
    assert_eq!(entered, format!("instance-mappings:\n{pairs}"));
    let again = target();
    let next = Job::new(&SOURCE.archive, &again);
    let entered = job.file("enteredMapping.yaml");
    let _ = Run::of(next.without_mapping().args(["--force", "-m"]).arg(entered)).done();
    again.assert_restored(&EXPECTED);
}

#[test]
fn whoever_does_not_say_yes_keeps_the_target() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let with_mapping = format!("{} --force -m mapping.yaml", arguments(&SOURCE.archive));
    let without = format!("{} --force", arguments(&SOURCE.archive));
    for (line, answers, said) in [
        (&with_mapping, "n\n", "the answer was not yes"),
        (&with_mapping, "\n", "the answer was not yes"),
        (&with_mapping, "\u{4}", "the answer was not yes"),
        (&without, "1\nq\n", "stopped before the mapping was complete"),
        (&without, "1\n\u{4}", "stopped before the mapping was complete"),
        (&without, "1\n2\n3\n4\nno\n", "the answer was not yes"),
    ] {
        let run = job.at_terminal(line, answers);
        assert_eq!(run.status.code(), Some(1), "{answers:?}: {run}");
        let _ = run.says(&[said, "hint"]);
        target.assert_unchanged();
    }
    let run = job.at_terminal(&format!("{with_mapping} --yes"), "").done();
    assert!(!run.stdout.contains("[y/N]"), "{run}");
    target.assert_restored(&EXPECTED);
}

#[test]
fn the_terminal_is_asked_when_the_archive_comes_from_standard_input() {
    let target = target();
    let job = Job::new(Path::new("-"), &target);
    let line = format!("{} --force < '{}'", arguments(Path::new("-")), SOURCE.archive.display());
    let _ = job.at_terminal(&line, "1\n2\n3\n4\ny\n").done();
    target.assert_restored(&EXPECTED);
}

#[test]
fn without_a_terminal_the_error_names_the_options_that_replace_it() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let _ = Run::of(job.without_mapping().arg("--force")).failed(&["no terminal", "--mapping", "--map-by-name"]);
    target.assert_unchanged();
}

#[test]
fn somebody_who_watches_is_asked_wherever_standard_input_comes_from() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let erase = format!("{} --force -m mapping.yaml", arguments(&SOURCE.archive));
    for redirected in ["< /dev/null", "< /dev/null 2> messages", "< /dev/null > plan", "> plan 2> messages"] {
        let run = job.at_terminal(&format!("{erase} {redirected}"), "n\n");
        assert_eq!(run.status.code(), Some(1), "{redirected}: {run}");
        assert!(run.stdout.contains("Erase"), "{redirected}: {run}");
        target.assert_unchanged();
    }
    let prompts = format!("{} --force < /dev/null", arguments(&SOURCE.archive));
    let run = job.at_terminal(&prompts, "1\n2\n3\n4\nno\n");
    let _ = run.says(&["4 of 4", "Erase", "the answer was not yes"]);
    target.assert_unchanged();
    // A script, though it was started at a terminal.
    let run = job.at_terminal(&format!("{erase} < /dev/null > plan 2> messages"), "").done();
    assert_eq!(run.stdout, "");
    target.assert_restored(&EXPECTED);
}

#[test]
fn answers_are_not_asked_for_in_vain() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let line = format!("{} --force", arguments(&SOURCE.archive));
    fs::create_dir(job.file("enteredMapping.yaml")).unwrap();
    let run = job.at_terminal(&line, "1\n2\n3\n4\nno\n");
    assert_eq!(run.status.code(), Some(1), "{run}");
    assert!(!run.stdout.contains("1 of 4"), "{run}");
    let _ = run.says(&["enteredMapping.yaml", "is a directory", "hint", "--mapping"]);

    // What can be written before the questions, and not after them.
    fs::remove_dir(job.file("enteredMapping.yaml")).unwrap();
    fs::write(job.file("enteredMapping.yaml"), "of another time").unwrap();
    fs::create_dir(job.file("enteredMapping.yaml.bak")).unwrap();
    let run = job.at_terminal(&line, "1\n2\n3\n4\nno\n");
    assert_eq!(run.status.code(), Some(1), "{run}");
    let pairs = MAPPING.map(|(source, target)| format!("  {source}: {target}"));
    let _ = run.says(&pairs.each_ref().map(String::as_str)).says(&["instance-mappings:", "save the lines above"]);
    target.assert_unchanged();
}

#[test]
fn a_script_reads_the_failure_as_json_from_standard_output() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let run = job.run(&["--output", "json", "--report", "nonexistent/report.json"]).failed(&["--report"]);
    let json = run.json();
    assert_eq!(json["version"], 1);
    assert!(run.stderr.contains(&format!("error: {}\n", json["error"].as_str().unwrap())), "{run}");
    assert!(run.stderr.contains(&format!("hint: {}\n", json["hint"].as_str().unwrap())), "{run}");
    assert!(json.get("complete").is_none());
    for arguments in [&["inspect", "none"][..], &["--testPGConnection", "-t", "none"]] {
        let json = Run::of(job.bare().args(arguments).args(["--output", "json"])).failed(&["none"]).json();
        assert!(json["error"].as_str().unwrap().contains("none"), "{json}");
    }
    fs::write(job.file("cut"), &fs::read(&SOURCE.archive).unwrap()[..5000]).unwrap();
    for archive in ["cut", "none"] {
        let json = Run::of(job.bare().args(["verify", archive, "--output", "json"])).failed(&[archive]).json();
        assert_eq!((&json["version"], &json["complete"]), (&1.into(), &false.into()), "{json}");
    }
    assert_eq!(Run::of(job.bare().args(["verify", "cut"])).failed(&["is not complete"]).stdout, "");
    target.assert_unchanged();
}

#[test]
fn what_is_no_archive_is_not_called_incomplete() {
    let job = Job::without_target();
    let whole = fs::read(&SOURCE.archive).unwrap();
    let with = |place: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[place] = byte;
        bytes
    };
    let make = |name: &str, bytes: &[u8]| fs::write(job.file(name), bytes).unwrap();
    // PGDMP, three bytes of version, two of sizes, the format
    make("toc.dat", &with(10, 3));
    make("newer", &with(6, 99));
    make("store.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0");
    make("empty", b"");
    fs::create_dir(job.file("folder")).unwrap();
    for (archive, said) in [
        ("toc.dat", "give the folder that it is in"),
        ("newer", "is newer than 1.16"),
        ("store.tar.gz", "unpack it first with `gunzip`"),
        ("empty", "the input is empty"),
        ("/etc/passwd", "not a pg_dump archive"),
        ("folder", "without the file `toc.dat`"),
        ("none", "check the path"),
        ("store.tar.gz/x", "check the path"),
    ] {
        for command in ["verify", "inspect"] {
            let run = Run::of(job.bare().args([command, archive])).failed(&["cannot ", archive, said]);
            assert!(!run.stderr.contains("not complete"), "{run}");
        }
    }
}

#[test]
fn what_the_server_refuses_has_a_next_step_and_shows_no_row() {
    let read_only = "do $$ begin execute format('alter database %I set default_transaction_read_only = on', \
                     current_database()); end $$";
    // What is done to the target, what is told, and the next step.
    for (sql, told, hint) in [
        ("alter table dialog_node add constraint never check (title !~ '^Title 3')", "\"never\"", "a rule"),
        (
            "create materialized view fragile as
             select 1 / (case when count(*) > 100 then 0 else 1 end) as n from workspace",
            "refresh public.fragile: division by zero",
            "the view's own query",
        ),
        (read_only, "read-only", "standby"),
    ] {
        let target = target().after(sql);
        let run = Job::new(&SOURCE.archive, &target).run(&[]).failed(&[told, "the target is as it was before", hint]);
        for row in ["Title ", "node_3", "Failing row"] {
            assert!(!run.stderr.contains(row), "{run}");
        }
        target.assert_unchanged();
    }
}

#[test]
fn a_column_of_another_type_is_named_before_anything_is_done() {
    for (kind, told) in [("varchar(2) using left(title, 2)", "character varying(2)"), ("integer using null", "integer")]
    {
        let target = target().after(&format!("alter table dialog_node alter column title type {kind}"));
        let told = format!("public.dialog_node.title is {told} in the target, but text in the archive");
        let run = Job::new(&SOURCE.archive, &target).run(&["--dry-run"]).failed(&[&told, "of the version"]);
        assert!(!run.stderr.contains("lock the tables"), "{run}");
        target.assert_unchanged();
    }
}

/// A Resource Controller with 45 instances, which two owners see in part. The targets are on all pages.
fn controller(kind: Option<&str>) -> ResourceControllerServer {
    let mut all: Vec<_> = (0..45).map(Provisioned::numbered).collect();
    for (place, (_, id)) in [0, 19, 21, 44].into_iter().zip(MAPPING) {
        all[place].guid = id.to_owned();
        all[place].name = format!("target at {place}");
    }
    if let Some(kind) = kind {
        all = all.into_iter().map(|instance| instance.of_kind(kind)).collect();
    }
    let token = |number: u32| format!("{SECRET_TOKEN}.{number}");
    let tokens = if kind.is_some() {
        vec![(token(0), all)]
    } else {
        vec![(token(0), all[..30].to_vec()), (token(1), all[15..].to_vec())]
    };
    ResourceControllerServer::start(ResourceControllerOptions { tokens, ..Default::default() })
}

#[test]
fn the_resource_controller_of_both_generations_says_what_is_provisioned() {
    for kind in [None, Some("assistant")] {
        let target = target();
        let job = Job::new(&SOURCE.archive, &target);
        let controller = controller(kind);
        match kind {
            None => controller.write_yaml(&job.file("resourceController.yaml")),
            Some(kind) => controller.write_yaml_with_type(&job.file("resourceController.yaml"), kind),
        }
        let test = Run::of(job.bare().args(["--testRCConnection", "-r", "resourceController.yaml"])).done();
        let _ = test.says(&["in all: 45 instances"]);

        // Of an ID that only the target's own table lists, it knows nothing.
        job.map(&[MAPPING[0], MAPPING[1], MAPPING[2], (MAPPING[3].0, INTERNAL)]);
        let _ = job
            .run(&["-r", "resourceController.yaml"])
            .failed(&[&format!("`{INTERNAL}` is not provisioned, says the Resource Controller")]);
        target.assert_unchanged();
        job.map(&MAPPING);
        let _ = job.run(&["-r", "resourceController.yaml"]).done();
        target.assert_restored(&EXPECTED);
    }
}

#[test]
fn an_instance_that_was_removed_is_no_target() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let mut instances: Vec<_> = MAPPING.iter().map(|_| Provisioned::numbered(1)).collect();
    for (instance, (_, id)) in instances.iter_mut().zip(MAPPING) {
        instance.guid = id.to_owned();
    }
    instances[2].removed = true;
    let tokens = vec![(SECRET_TOKEN.to_owned(), instances)];
    let controller = ResourceControllerServer::start(ResourceControllerOptions { tokens, ..Default::default() });
    controller.write_yaml(&job.file("resourceController.yaml"));
    let id = MAPPING[2].1;
    let _ = job
        .run(&["-r", "resourceController.yaml"])
        .failed(&[&format!("{id} is in state `removed`"), &format!("`{id}` is not provisioned")]);
    target.assert_unchanged();
}

#[test]
fn prompts_offer_all_instances_of_all_pages_and_tokens() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let controller = controller(None);
    controller.write_yaml(&job.file("resourceController.yaml"));
    let line = format!("{} --force --yes -r resourceController.yaml", arguments(&SOURCE.archive));
    let run = job.at_terminal(&line, "d45\n1\n20\n22\n45\n").done();
    let _ = run.says(&["target at 44", "crn:v1:ibm:private:conversation", "4 of 4"]);
    target.assert_restored(&EXPECTED);
}

#[test]
fn an_expired_token_stops_before_anything_changes() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let controller = controller(None);
    controller.write_yaml(&job.file("resourceController.yaml"));
    let text = fs::read_to_string(job.file("resourceController.yaml")).unwrap();
    fs::write(job.file("resourceController.yaml"), text.replace(&format!("{SECRET_TOKEN}.1"), "expired")).unwrap();
    let _ = job.run(&["-r", "resourceController.yaml"]).failed(&["accessTokens[1]", "401", "expire"]);
    let test = Run::of(job.bare().args(["--testRCConnection", "-r", "resourceController.yaml"]));
    let _ = test.failed(&["accessTokens[1]"]);
    target.assert_unchanged();
}

#[test]
fn orchestrate_instances_are_listed_with_wxo() {
    let all: Vec<_> = (0..30)
        .map(|number| Provisioned::numbered(number).of_kind(if number % 3 == 0 { "orchestrate" } else { "assistant" }))
        .collect();
    let tokens = vec![(SECRET_TOKEN.to_owned(), all)];
    let controller = ResourceControllerServer::start(ResourceControllerOptions { tokens, ..Default::default() });
    let job = Job::without_target();
    controller.write_yaml(&job.file("rc.yaml"));
    let _ = Run::of(job.bare().args(["--testRCConnection", "--wxo", "-r", "rc.yaml"]))
        .done()
        .says(&["in all: 10 instances"]);
    controller.write_yaml_with_type(&job.file("rc.yaml"), "orchestrate");
    let _ = Run::of(job.bare().args(["--testRCConnection", "-r", "rc.yaml"])).done().says(&["in all: 10 instances"]);
}

#[test]
fn both_connections_are_tested_without_touching_anything() {
    let target = target();
    let job = Job::new(&SOURCE.archive, &target);
    let controller = controller(None);
    controller.write_yaml(&job.file("rc.yaml"));
    let both = ["--testPGConnection", "-t", "postgres.yaml", "--testRCConnection", "-r", "rc.yaml"];
    let _ = Run::of(job.bare().args(both)).done().says(&[&target.database, "as `postgres`", "45 instances"]);
    let json = Run::of(job.bare().args(both).args(["--output", "json"])).done().json();
    assert_eq!(
        (&json["postgresql"]["user"], &json["resource_controller"]["instances"]),
        (&"postgres".into(), &45.into())
    );

    // Nobody reads what the first test says; the second one is made all the same.
    fs::rename(job.file("rc.yaml"), job.file("rc-kept.yaml")).unwrap();
    let without_reader = std::io::pipe().unwrap().1;
    let _ = Run::of(job.bare().args(both).stdout(without_reader)).failed(&["rc.yaml"]);
    fs::rename(job.file("rc-kept.yaml"), job.file("rc.yaml")).unwrap();

    let text = fs::read_to_string(job.file("postgres.yaml")).unwrap();
    fs::write(job.file("postgres.yaml"), text.replace("su_password: 'se", "su_password: 'no")).unwrap();
    let _ = Run::of(job.bare().args(["--testPGConnection", "-t", "postgres.yaml"])).failed(&["password", "`postgres`"]);
    let _ = job.run(&[]).failed(&["password"]);
    target.assert_unchanged();
}

#[test]
fn a_server_that_wants_tls_is_restored_into_with_its_ca() {
    let options = ServerOptions { tls: Tls::Localhost, tls_only: true, ..Default::default() };
    let server: &'static Server = Box::leak(Box::new(Server::start_with(&PgTools::major(15), &options)));
    let target = Target::in_server(server, Store::Utf8, OldRows::Some);
    let job = Job::new(&SOURCE.archive, &target);
    let ca = server.ca_file().unwrap();
    let other_ca = job.file("other-ca.crt");
    fs::write(&other_ca, controller(None).ca_pem()).unwrap();

    let _ =
        Run::of(job.command().env("PG_CA_FILE", &other_ca).env("PGSSLMODE", "verify-full")).failed(&["certificate"]);
    let _ = Run::of(job.command().env("PG_CA_FILE", "/nonexistent/ca.crt")).failed(&["/nonexistent/ca.crt"]);
    let _ = Run::of(job.command().env("PGSSLMODE", "disable")).failed(&["TLS"]);
    target.assert_unchanged();

    let test = Run::of(job.bare().args(["--testPGConnection", "-t", "postgres.yaml"]).env("PG_CA_FILE", &ca)).done();
    let _ = test.says(&["encrypted, certificate verified"]);
    let _ = Run::of(job.command().env("PG_CA_FILE", &ca).env("PGSSLMODE", "verify-full")).done();
    target.assert_restored(&EXPECTED);
}

#[test]
fn an_archive_can_be_inspected_without_any_server() {
    let job = Job::without_target();
    let inspect = |more: &[&str]| Run::of(job.bare().arg("inspect").arg(&SOURCE.archive).args(more)).done();
    let _ = inspect(&[]).says(&[
        "schema version 4.3.7.2",
        "public.workspace",
        "support",
        "watcher",
        "closed down",
        "deleted",
        "internal",
    ]);
    let json = inspect(&["--output", "json"]).json();
    assert_eq!(json["archive"]["schema_version"], "4.3.7.2");
    let tenants = json["tenants"].as_array().unwrap();
    assert_eq!(tenants.len(), 6);
    assert!(
        tenants
            .iter()
            .any(|tenant| tenant["id"] == MAPPING[0].0 && tenant["name"] == "support" && tenant["state"] == "live")
    );
    let tables = json["tables"].as_array().unwrap();
    let workspace = tables.iter().find(|table| table["table"] == "public.workspace").unwrap();
    // thirty of each, and ten more with characters beyond Latin-1
    assert_eq!(workspace["rows_by_tenant"][MAPPING[0].0], 40);
    assert_eq!(workspace["rows_by_tenant"][MAPPING[1].0], 30);
    assert_eq!(json["large_objects"], 6);
}

#[test]
fn a_whole_archive_is_verified_from_a_file_and_from_a_pipe() {
    let job = Job::without_target();
    let from_file = Run::of(job.bare().args(["verify", "--output", "json"]).arg(&SOURCE.archive)).done().json();
    let mut pipe = Command::new("cat").arg(&SOURCE.archive).stdout(Stdio::piped()).spawn().unwrap();
    let mut from_pipe = job.bare();
    from_pipe.args(["verify", "--output", "json", "-"]).stdin(pipe.stdout.take().unwrap());
    assert_eq!(from_file, Run::of(&mut from_pipe).done().json());
    pipe.wait().unwrap();
    assert_eq!(from_file["complete"], true);
    let rows: u64 = from_file["entries"].as_array().unwrap().iter().filter_map(|entry| entry["rows"].as_u64()).sum();
    assert!(rows > 1700, "{from_file}");
    for not_an_archive in ["/etc/hostname", "/nonexistent", "/"] {
        let _ = Run::of(job.bare().args(["verify", not_an_archive])).failed(&[not_an_archive]);
    }
}

#[test]
fn a_command_line_without_sense_is_refused_with_usage() {
    let job = Job::without_target();
    for arguments in
        [&["--nonsense"][..], &[], &["-s", "a"], &["-t", "a"], &["-s", "a", "-t", "b", "-m", "c", "--map-by-name"]]
    {
        let run = Run::of(job.bare().args(arguments));
        assert_eq!(run.status.code(), Some(2), "{arguments:?}: {run}");
        assert!(run.stderr.contains("--help"), "{run}");
    }
    let _ = Run::of(job.bare().arg("--version")).done().says(&["pgmig "]);
    let _ = Run::of(job.bare().arg("-h")).done().says(&["--testRCConnection"]);
}

#[test]
fn secrets_are_in_no_argument_and_in_no_file_that_is_left() {
    let target = target();
    let proxy = CutProxy::start(target.server.port());
    proxy.stall_after(20_000);
    let job = Job::via(&SOURCE.archive, &target, proxy.port());
    let controller = controller(None);
    controller.write_yaml(&job.file("resourceController.yaml"));
    let child = job.command().args(["-r", "resourceController.yaml"]).spawn().unwrap();
    wait_until("the network stalls", || proxy.is_stalled());
    let secrets = [target.server.password(), SECRET_TOKEN];
    for (file, part) in [("cmdline", "resourceController.yaml"), ("environ", "PATH=")] {
        let text = String::from_utf8_lossy(&fs::read(format!("/proc/{}/{file}", child.id())).unwrap()).into_owned();
        assert!(text.contains(part), "{text}");
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
    }
    proxy.heal();
    let _ = Run::from(child.wait_with_output().unwrap()).done();
    let report = fs::read_to_string(job.file("pgmig-report.json")).unwrap();
    assert!(secrets.iter().all(|secret| !report.contains(secret)));
}
