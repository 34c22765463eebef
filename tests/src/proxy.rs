//! A connection that breaks when a test wants it to.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use crate::wait_until;

/// A TCP proxy on loopback in front of a server, which can cut every connection at a chosen byte.
///
/// After a cut it accepts connections and closes them at once, until [`CutProxy::heal`].
#[derive(Debug)]
pub struct CutProxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    from_client: AtomicU64,
    from_server: AtomicU64,
    cut_at: AtomicU64,
    stall_at: AtomicU64,
    stalled: AtomicBool,
    cut: AtomicBool,
    stopped: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    // clients that may still send something
    clients: AtomicU64,
    watched: Mutex<Watched>,
}

// A file that grows while clients send, and how long it was before each piece that they sent.
#[derive(Debug, Default)]
struct Watched {
    file: Option<PathBuf>,
    pieces: Vec<Piece>,
}

/// Something that a client sent while a file was watched.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// How long the file was when it arrived. What a client writes before it sends something is in the file by then.
    pub file_length: u64,
    /// How many bytes clients had sent before.
    pub sent_before: u64,
    /// Its first byte, as a rule the type of a message.
    pub first_byte: u8,
}

impl CutProxy {
    /// Starts a proxy in front of a port on 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn start(upstream_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let state = Arc::new(State {
            from_client: AtomicU64::new(0),
            from_server: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            stall_at: AtomicU64::new(u64::MAX),
            stalled: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            streams: Mutex::default(),
            clients: AtomicU64::new(0),
            watched: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stopped.load(SeqCst) {
                    return;
                }
                // A refused upstream shows to the client as a closed connection, which is what it would be.
                if let Ok(client) = client {
                    shared.connect(client, upstream_port).ok();
                }
            }
        });
        Self { port, state }
    }

    /// The port to connect to on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many bytes clients have sent to the server.
    pub fn bytes_from_clients(&self) -> u64 {
        self.state.from_client.load(SeqCst)
    }

    /// How many bytes the server has sent to clients.
    pub fn bytes_from_server(&self) -> u64 {
        self.state.from_server.load(SeqCst)
    }

    /// Cuts all connections once clients have sent `bytes` more than until now. The server gets exactly these.
    pub fn cut_after(&self, bytes: u64) {
        self.state.cut_at.store(self.bytes_from_clients() + bytes, SeqCst);
    }

    /// Passes nothing on any more, and closes nothing, once clients have sent `bytes` more than until now:
    /// a network that is gone. [`CutProxy::heal`] or a cut ends it.
    pub fn stall_after(&self, bytes: u64) {
        self.state.stall_at.store(self.bytes_from_clients() + bytes, SeqCst);
    }

    /// Watches a file that a client writes, for example its standard error; see [`CutProxy::watched`].
    pub fn watch(&self, file: &Path) {
        self.state.watched.lock().expect("no thread panics with the lock").file = Some(file.to_owned());
    }

    /// What clients have sent since a file is watched.
    pub fn watched(&self) -> Vec<Piece> {
        self.state.watched.lock().expect("no thread panics with the lock").pieces.clone()
    }

    /// Whether a stall holds bytes back: all before them have been passed on.
    pub fn is_stalled(&self) -> bool {
        self.state.stalled.load(SeqCst)
    }

    /// Waits until all clients have closed their connections, and what they sent has been passed on.
    ///
    /// # Panics
    ///
    /// When that takes a minute.
    pub fn wait_for_the_end(&self) {
        wait_until("the clients close their connections", || self.state.clients.load(SeqCst) == 0);
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Whether connections have been cut.
    pub fn is_cut(&self) -> bool {
        self.state.cut.load(SeqCst)
    }

    /// Lets connections through again.
    pub fn heal(&self) {
        self.state.cut_at.store(u64::MAX, SeqCst);
        self.state.stall_at.store(u64::MAX, SeqCst);
        self.state.cut.store(false, SeqCst);
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, SeqCst);
        self.state.cut();
        // the listening thread looks at `stopped` when it is woken
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream, upstream_port: u16) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", upstream_port))?;
        // Each of many small messages would wait for the acknowledgement of the one before.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        {
            // `cut` is read under the same lock under which it is written, so no connection slips past a cut.
            let mut streams = self.streams.lock().expect("no thread panics with the lock");
            if self.cut.load(SeqCst) {
                return Ok(());
            }
            streams.extend([client.try_clone()?, server.try_clone()?]);
        }
        let (client_again, server_again) = (client.try_clone()?, server.try_clone()?);
        let (up, down) = (Arc::clone(self), Arc::clone(self));
        self.clients.fetch_add(1, SeqCst);
        thread::spawn(move || {
            up.pump(client, server, true);
            up.clients.fetch_sub(1, SeqCst);
        });
        thread::spawn(move || down.pump(server_again, client_again, false));
        Ok(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, from_client: bool) {
        let count = if from_client { &self.from_client } else { &self.from_server };
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut pass = read;
            if from_client {
                let sent = count.load(SeqCst);
                self.look_at_watched(sent, buffer[0]);
                let stall_at = self.stall_at.load(SeqCst);
                if sent + read as u64 > stall_at {
                    let pass = usize::try_from(stall_at.saturating_sub(sent)).unwrap_or(usize::MAX);
                    to.write_all(&buffer[..pass]).ok();
                    count.fetch_add(pass as u64, SeqCst);
                    self.stalled.store(true, SeqCst);
                    while self.stall_at.load(SeqCst) == stall_at {
                        if self.cut.load(SeqCst) || self.stopped.load(SeqCst) {
                            return;
                        }
                        thread::sleep(Duration::from_millis(5));
                    }
                    self.stalled.store(false, SeqCst);
                    to.write_all(&buffer[pass..read]).ok();
                    count.fetch_add((read - pass) as u64, SeqCst);
                    continue;
                }
                let allowed = self.cut_at.load(SeqCst).saturating_sub(sent);
                pass = read.min(usize::try_from(allowed).unwrap_or(usize::MAX));
            }
            if to.write_all(&buffer[..pass]).is_err() {
                break;
            }
            count.fetch_add(pass as u64, SeqCst);
            if from_client && self.from_client.load(SeqCst) >= self.cut_at.load(SeqCst) {
                self.cut();
                return;
            }
        }
        // One side has closed: the other is told, and may still send what it has.
        to.shutdown(Shutdown::Write).ok();
    }

    fn look_at_watched(&self, sent_before: u64, first_byte: u8) {
        let mut watched = self.watched.lock().expect("no thread panics with the lock");
        if let Some(file) = &watched.file {
            let file_length = file.metadata().expect("the watched file is there").len();
            watched.pieces.push(Piece { file_length, sent_before, first_byte });
        }
    }

    fn cut(&self) {
        let mut streams = self.streams.lock().expect("no thread panics with the lock");
        self.cut.store(true, SeqCst);
        for stream in streams.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}
