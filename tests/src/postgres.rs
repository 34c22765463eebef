//! Throw-away PostgreSQL servers.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    io::Write as _,
    net::TcpListener,
    os::unix::{
        fs::{OpenOptionsExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use crate::{
    PgTools, tls,
    tools::{cache, expect_success, is_root},
};

/// The superuser of every server here.
const SUPERUSER: &str = "postgres";
/// The password of every role here. The blank and the quote are there to be in somebody's way.
pub(crate) const PASSWORD: &str = "se cr'et";
/// The role that owns the databases, as in the product.
const OWNER: &str = "store";

/// A PostgreSQL server in a temporary folder, on a loopback port and a Unix socket.
///
/// It has the roles `postgres` (superuser) and `store` (owner of the databases that are created),
/// both with the same password. Durability is off. It is stopped and removed when it is dropped,
/// and also when the test process is killed.
#[derive(Debug)]
pub struct Server {
    tools: PgTools,
    folder: PathBuf,
    port: u16,
    has_ca: bool,
    small_disk: Option<SmallDisk>,
    guard: Child,
}

/// What a server is to be like.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// More lines for `postgresql.conf`.
    pub config: Vec<String>,
    /// Whether and how it speaks TLS.
    pub tls: Tls,
    /// Refuse connections without TLS over TCP.
    pub tls_only: bool,
    /// Encoding of the server's own databases, for example `LATIN1`; UTF8 if not given.
    pub encoding: Option<String>,
    /// Locale of the server's own databases; `C` if not given.
    pub locale: Option<String>,
    /// Keep the data on a file system of so many bytes, which [`Server::fill_disk`] can fill.
    /// An empty server takes about 40 MB.
    pub disk_bytes: Option<u64>,
}

/// The certificate that a server shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tls {
    /// No TLS.
    #[default]
    Off,
    /// A certificate for `localhost` and 127.0.0.1.
    Localhost,
    /// A certificate for another host name, which `verify-full` has to refuse.
    Host(String),
}

// How a disk is made to fill up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SmallDisk {
    // The data folder is on a tmpfs of its own.
    Mounted,
    // Nothing can be mounted here: no file of the server may grow beyond a limit.
    FileSizeLimit,
}

impl Server {
    /// Starts a server with nothing special about it. Takes one to two seconds.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(tools: &PgTools) -> Self {
        Self::start_with(tools, &ServerOptions::default())
    }

    /// Starts a server that is as the options say.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_with(tools: &PgTools, options: &ServerOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("pgmig-pg-").tempdir().expect("a temporary folder").keep();
        let mut server = Self {
            guard: guard(tools, &folder),
            tools: tools.clone(),
            folder,
            port: 0,
            has_ca: false,
            small_disk: None,
        };
        if let Some(bytes) = options.disk_bytes {
            server.make_disk(bytes);
        }
        server.init(options);
        // Between looking for a free port and taking it, another process can take it.
        for attempt in 1.. {
            server.port = free_port();
            server.configure(options);
            match server.try_start() {
                Ok(()) => break,
                Err(why) if attempt < 5 && why.contains("in use") => {}
                Err(why) => panic!("PostgreSQL {} did not start: {why}", tools.version()),
            }
        }
        server.psql("postgres", &format!("create role {OWNER} login password {}", literal(PASSWORD)));
        server
    }

    /// The folder that is removed with the server.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server of this version that all tests of this process share; give your database a name of its own.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn shared(major: u32) -> &'static Self {
        static SERVERS: [OnceLock<Server>; 32] = [const { OnceLock::new() }; 32];
        SERVERS[major as usize].get_or_init(|| Self::start(&PgTools::major(major)))
    }

    /// The address that it listens on, always 127.0.0.1.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's name.
    pub fn user(&self) -> &'static str {
        SUPERUSER
    }

    /// The superuser's password.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// The programs that it was started with.
    pub fn tools(&self) -> &PgTools {
        &self.tools
    }

    /// The folder of the Unix socket, which clients take in the place of a host.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// A libpq connection string for TCP.
    pub fn connection_string(&self, database: &str) -> String {
        let quoted = |value: &str| format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"));
        format!(
            "host={} port={} user={} password={} dbname={}",
            self.host(),
            self.port,
            self.user(),
            quoted(PASSWORD),
            quoted(database)
        )
    }

    /// The certificate of the authority that signed the server's, in PEM; none without TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.has_ca.then(|| self.folder.join("ca.crt"))
    }

    /// Creates an empty database with an encoding (`UTF8`, `LATIN1`), in the locale C.
    ///
    /// # Panics
    ///
    /// When that fails, for example since it exists.
    pub fn create_database(&self, name: &str, encoding: &str) {
        let sql = format!(
            "create database {} owner {OWNER} template template0 encoding {} lc_collate 'C' lc_ctype 'C'",
            identifier(name),
            literal(encoding)
        );
        self.psql("postgres", &sql);
    }

    /// Drops a database, with those who are connected to it.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn drop_database(&self, name: &str) {
        self.psql("postgres", &format!("drop database {} with (force)", identifier(name)));
    }

    /// Runs SQL and returns what it answers: a line for each row, fields separated by `|`, no headings.
    ///
    /// # Panics
    ///
    /// At the first error.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut child = self
            .psql_command(database)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let sql_bytes = sql.as_bytes().to_vec();
        // From a thread of its own, since psql may fill its output pipe before it has read all.
        let writer = std::thread::spawn(move || stdin.write_all(&sql_bytes));
        let output = child.wait_with_output().expect("psql ends");
        // psql leaves early at an error, which then says more than the broken pipe.
        writer.join().expect("the writer ends").ok();
        expect_success(&format!("psql in `{database}` with `{}`", sql.chars().take(200).collect::<String>()), &output);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// Runs a file of SQL, with psql variables.
    ///
    /// # Panics
    ///
    /// At the first error.
    pub fn psql_file(&self, database: &str, file: &Path, variables: &[(&str, &str)]) {
        let mut psql = self.psql_command(database);
        for (name, value) in variables {
            psql.arg("-v").arg(format!("{name}={value}"));
        }
        let output = psql.arg("-f").arg(file).output().expect("psql runs");
        expect_success(&format!("psql with `{}`", file.display()), &output);
    }

    /// A client program that is told how to reach a database of this server as its superuser.
    pub fn client(&self, tools: &PgTools, program: &str, database: &str) -> Command {
        let mut command = Command::new(tools.program(program));
        command
            .args(["-d", database])
            .env("PGHOST", self.socket_folder())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSWORD", PASSWORD)
            .stdin(Stdio::null());
        command
    }

    fn psql_command(&self, database: &str) -> Command {
        let mut psql = self.client(&self.tools, "psql", database);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        // Fixtures are UTF-8 wherever they are loaded.
        psql.env("PGCLIENTENCODING", "UTF8");
        psql
    }

    /// Writes a `postgres.yaml` for a database of this server, which only its owner can read.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn write_postgres_yaml(&self, file: &Path, database: &str) {
        self.write_postgres_yaml_via(file, database, self.host(), self.port);
    }

    /// The same with another address, for example that of a [`CutProxy`](crate::CutProxy).
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn write_postgres_yaml_via(&self, file: &Path, database: &str, host: &str, port: u16) {
        // a quoted YAML scalar doubles its quotes
        let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
        let text = format!(
            "host: {host}\nport: {port}\ndatabase: {}\nusername: {OWNER}\nsu_username: {SUPERUSER}\nsu_password: {}\n",
            quoted(database),
            quoted(PASSWORD)
        );
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(file)
            .and_then(|mut opened| opened.write_all(text.as_bytes()))
            .unwrap_or_else(|why| panic!("cannot write `{}`: {why}", file.display()));
    }

    /// Stops the server as a power cut would: nothing is written any more, sessions end without a word.
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub fn crash(&self) {
        self.pg_ctl(&["-m", "immediate", "stop"]).unwrap_or_else(|why| panic!("cannot stop the server: {why}"));
    }

    /// Starts it again on the same port; after a crash it recovers first. A running one is stopped before.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&self) {
        self.pg_ctl(&["-m", "fast", "stop"]).ok();
        self.try_start().unwrap_or_else(|why| panic!("the server does not start again: {why}"));
    }

    /// Fills the disk of a server that was started with [`ServerOptions::disk_bytes`] until only `free` bytes are left.
    ///
    /// Where no file system can be mounted (not root, or not allowed to), the server is started again
    /// with a limit instead: none of its files may grow beyond `free` bytes.
    ///
    /// # Panics
    ///
    /// When the server has no small disk.
    pub fn fill_disk(&self, free: u64) {
        match self.small_disk.expect("the server was started with `disk_bytes`") {
            SmallDisk::Mounted => {
                let ballast = self.ballast();
                let available = self.available();
                let output = Command::new("fallocate")
                    .arg("-l")
                    .arg(available.saturating_sub(free).max(1).to_string())
                    .arg(&ballast)
                    .output()
                    .expect("fallocate runs");
                expect_success("fallocate", &output);
            }
            SmallDisk::FileSizeLimit => {
                self.pg_ctl(&["-m", "fast", "stop"]).expect("the server stops");
                self.try_start_limited(Some(free)).unwrap_or_else(|why| panic!("the server does not start: {why}"));
            }
        }
    }

    /// Gives the space back that [`Server::fill_disk`] took. A server that gave up for lack of it needs a [`Server::restart`].
    ///
    /// # Panics
    ///
    /// When the server has no small disk.
    pub fn free_disk(&self) {
        match self.small_disk.expect("the server was started with `disk_bytes`") {
            SmallDisk::Mounted => fs::remove_file(self.ballast()).expect("the disk was filled"),
            SmallDisk::FileSizeLimit => self.restart(),
        }
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("server.log")).unwrap_or_default()).into_owned()
    }

    fn data(&self) -> PathBuf {
        data(&self.folder)
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("disk/ballast")
    }

    fn available(&self) -> u64 {
        let output =
            Command::new("df").args(["--output=avail", "-B1"]).arg(self.folder.join("disk")).output().expect("df runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().last().and_then(|bytes| bytes.parse().ok()).expect("df prints a number")
    }

    fn make_disk(&mut self, bytes: u64) {
        let disk = self.folder.join("disk");
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
                .arg(&disk)
                .output()
                .is_ok_and(|output| output.status.success());
        self.small_disk = Some(if mounted { SmallDisk::Mounted } else { SmallDisk::FileSizeLimit });
    }

    fn init(&mut self, options: &ServerOptions) {
        let password_file = self.folder.join("password");
        fs::write(&password_file, PASSWORD).expect("the folder is writable");
        match &options.tls {
            Tls::Off => {}
            Tls::Localhost => tls::write_certificates(&self.folder, &["localhost", "127.0.0.1"]),
            Tls::Host(name) => tls::write_certificates(&self.folder, &[name]),
        }
        self.has_ca = options.tls != Tls::Off;
        self.own_folder();

        let mut arguments = vec!["-U", SUPERUSER, "-A", "scram-sha-256", "--no-sync"];
        arguments.extend(["-E", options.encoding.as_deref().unwrap_or("UTF8")]);
        let locale = format!("--locale={}", options.locale.as_deref().unwrap_or("C"));
        arguments.push(&locale);
        if options.disk_bytes.is_some() {
            // A write-ahead log of 1 MB pieces: one of the usual 16 MB is as large as the space that is to run out.
            arguments.push("--wal-segsize=1");
        }
        // A copy is made much sooner than a database by initdb, which takes a second of CPU time.
        let made = initialized(&self.tools, &arguments, &password_file);
        let output = Command::new("cp").args(["-a", "--reflink=auto"]).arg(made).arg(self.data()).output();
        expect_success("cp of what initdb has made", &output.expect("cp runs"));
    }

    // The server's user has to own its folder and to read its key.
    fn own_folder(&self) {
        if is_root() {
            let output = Command::new("chown").arg("-R").arg(SUPERUSER).arg(&self.folder).output().expect("chown runs");
            expect_success("chown to the user `postgres` (does it exist? see scripts/test-servers.sh)", &output);
        }
    }

    fn configure(&self, options: &ServerOptions) {
        let mut lines = vec![
            format!("port = {}", self.port),
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("unix_socket_directories = '{}'", self.folder.display()),
            // nothing here outlives the machine
            "fsync = off".to_owned(),
            "full_page_writes = off".to_owned(),
            "synchronous_commit = off".to_owned(),
            "shared_buffers = 32MB".to_owned(),
            // steadier without
            "autovacuum = off".to_owned(),
            "jit = off".to_owned(),
        ];
        if options.disk_bytes.is_some() {
            lines.extend(["min_wal_size = 2MB", "max_wal_size = 8MB"].map(str::to_owned));
        }
        if self.has_ca {
            lines.push("ssl = on".to_owned());
            for (setting, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
                lines.push(format!("{setting} = '{}'", self.folder.join(file).display()));
            }
        }
        lines.extend(options.config.iter().cloned());
        fs::write(self.data().join("postgresql.auto.conf"), lines.join("\n") + "\n")
            .expect("the configuration is written");

        let tcp = if options.tls_only { "hostssl" } else { "host" };
        // The folder of the socket is closed to others. A password takes as long to check as many a statement of a test.
        let rules = format!(
            "local all {SUPERUSER} trust\nlocal all all scram-sha-256\n{tcp} all all 127.0.0.1/32 scram-sha-256\n"
        );
        fs::write(self.data().join("pg_hba.conf"), rules).expect("the access rules are written");
    }

    fn try_start(&self) -> Result<(), String> {
        self.try_start_limited(None)
    }

    fn try_start_limited(&self, file_size: Option<u64>) -> Result<(), String> {
        let log = self.folder.join("server.log");
        let log_before = self.log().len();
        let mut command = as_server_user(Path::new("sh"));
        // A shell in between for the limit, which it counts in blocks of 512 bytes.
        let limit = file_size.map_or("unlimited".to_owned(), |bytes| (bytes / 512).to_string());
        command.args(["-c", r#"ulimit -f "$1"; shift; exec "$@""#, "sh", &limit]);
        let output = command
            .arg(self.tools.program("pg_ctl"))
            .arg("-D")
            .arg(self.data())
            .arg("-l")
            .arg(&log)
            .args(["-w", "-t", "60", "start"])
            .current_dir("/")
            .output()
            .expect("pg_ctl runs");
        if output.status.success() {
            return Ok(());
        }
        let said = self.log();
        Err(format!("{}{}", String::from_utf8_lossy(&output.stderr), said.get(log_before..).unwrap_or(&said)))
    }

    fn pg_ctl(&self, args: &[&str]) -> Result<(), String> {
        let output = as_server_user(&self.tools.program("pg_ctl"))
            .arg("-D")
            .arg(self.data())
            .args(args)
            .current_dir("/")
            .output()
            .expect("pg_ctl runs");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

/// What initdb makes with these arguments, from the cache if it was made there before by the same release.
fn initialized(tools: &PgTools, arguments: &[&str], password_file: &Path) -> PathBuf {
    let version = Command::new(tools.program("initdb")).arg("--version").output().expect("initdb runs");
    let mut hasher = DefaultHasher::new();
    (&version.stdout, arguments, tools.program("initdb"), PASSWORD, is_root()).hash(&mut hasher);
    let folder = cache().join("initdb");
    let made = folder.join(format!("{}-{:016x}", tools.version(), hasher.finish()));
    if made.exists() {
        return made;
    }
    fs::create_dir_all(&folder).expect("the cache is writable");
    // whatever the file mode mask is: the server's user has to get in
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("the cache is ours");
    let work = tempfile::Builder::new().prefix("new-").tempdir_in(&folder).expect("the cache is writable");
    if is_root() {
        let output = Command::new("chown").arg(SUPERUSER).arg(work.path()).output().expect("chown runs");
        expect_success("chown", &output);
    }
    let mut initdb = as_server_user(&tools.program("initdb"));
    let data = work.path().join("data");
    initdb.arg("-D").arg(&data).args(arguments).arg("--pwfile").arg(password_file).current_dir("/");
    expect_success("initdb", &initdb.output().expect("initdb runs"));
    // Published whole. Another process or thread may have been faster: its own is as good.
    if let Err(why) = fs::rename(&data, &made) {
        assert!(made.exists(), "cannot make `{}`: {why}", made.display());
    }
    made
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is what the guard waits for.
        drop(self.guard.stdin.take());
        self.guard.wait().ok();
    }
}

// A shell that stops the server and removes its folder once nobody holds its input any more. The
// system closes that when this process ends, in whatever way: a server held in a `static` is never
// dropped, and a test that is killed drops nothing.
fn guard(tools: &PgTools, folder: &Path) -> Child {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        folder=$1; shift
        while read -r _; do :; done
        "$@" -m immediate stop
        ! mountpoint -q "$folder/disk" || umount -l "$folder/disk"
        rm -rf "$folder"
    "#;
    fs::create_dir(folder.join("disk")).expect("the folder is writable");
    let stop = as_server_user(&tools.program("pg_ctl"));
    Command::new("sh")
        .args(["-c", SCRIPT, "guard"])
        .arg(folder)
        .arg(stop.get_program())
        .args(stop.get_args())
        .arg("-D")
        .arg(data(folder))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // out of reach of the signals that end the tests
        .process_group(0)
        .spawn()
        .expect("a shell starts")
}

fn data(folder: &Path) -> PathBuf {
    folder.join("disk/data")
}

// A command that runs as the user `postgres` when this is root's process, since PostgreSQL refuses root.
fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SUPERUSER, "--regid", SUPERUSER, "--init-groups"]).arg(program);
    // root's home would be looked into for client settings
    command.env("HOME", env::temp_dir());
    command
}

fn free_port() -> u16 {
    let listener: io::Result<TcpListener> = TcpListener::bind(("127.0.0.1", 0));
    listener.and_then(|listener| listener.local_addr()).expect("a free port on loopback").port()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
