//! Verifying several entries at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{BUFFER_BYTES, VerifiedEntry, VerifyOptions, verify_block};
use crate::block::OpenBlock;
use crate::error::{Error, ErrorKind, Result};
use crate::header::{Format, Header};
use crate::input::Input;
use crate::limits::Limits;
use crate::named_objects::NamedObjects;
use crate::reader::ArchiveReader;
use crate::source::{Layout, Source};
use crate::toc::Toc;

/// How often `progress` is called.
const PROGRESS: Duration = Duration::from_millis(100);
/// How many entries may wait for a thread.
const WAITING: usize = 1024;

impl ArchiveReader<File> {
    /// As [`verify`](Self::verify) from the first block on, with several entries at once. One thread walks over the blocks,
    /// without decompressing them, and [`VerifyOptions::threads`] others decode. An archive in the tar format, which is
    /// never compressed, is read by one.
    ///
    /// It gains nothing for an archive with a single large table: its data is one stream. Each thread takes what a
    /// single one does.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify): the damage nearest to the begin of the file, of what was found.
    pub fn verify_in_parallel(
        &mut self,
        options: &VerifyOptions,
        progress: impl FnMut(u64),
    ) -> Result<Vec<VerifiedEntry>> {
        self.rewind()?;
        match (self.header().format, options.threads) {
            (Format::Tar, _) | (_, 0 | 1) => self.verify_with(options, progress),
            (Format::Custom, _) => self.verify_blocks(options, progress),
            (Format::Directory, _) => self.verify_files(options, progress),
        }
    }

    fn verify_blocks(&mut self, options: &VerifyOptions, mut progress: impl FnMut(u64)) -> Result<Vec<VerifiedEntry>> {
        // Positioned reads: the threads share the file, but not the place in it.
        let file = Arc::new(self.file().try_clone().map_err(|e| Error::new(ErrorKind::Io(e), 0))?);
        let source = || {
            Ok(Source { input: Input::new(FileAt { file: Arc::clone(&file), position: 0 }), layout: Layout::Custom })
        };
        let (header, toc, limits) = (self.header().clone(), self.shared_toc(), self.limits().clone());
        let open = |source: &mut Source<FileAt>, work: &Work| {
            source.input.seek_to(work.begin)?;
            let open = source.next_block(&header, &toc, &limits, 0)?;
            open.ok_or_else(|| Error::corrupt("the file was changed while it was read", work.begin))
        };
        // Large objects are compared with the table of contents by who passes over them.
        let shared = Shared { toc: &toc, limits: &limits, header: &header, options, objects: None };
        shared.run(source, open, &mut progress, |give| {
            while let Some((dump_id, begin, end)) = self.pass_block()? {
                if !give(Work { dump_id, begin, end: Some(end) }) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn verify_files(&mut self, options: &VerifyOptions, mut progress: impl FnMut(u64)) -> Result<Vec<VerifiedEntry>> {
        let (header, toc, limits) = (self.header().clone(), self.shared_toc(), self.limits().clone());
        let another = &*self;
        let source = || another.another_source();
        let open = |source: &mut Source<File>, work: &Work| source.open_entry(&header, work.dump_id, &toc);
        let objects = Mutex::new(NamedObjects::of(&toc));
        let shared = Shared { toc: &toc, limits: &limits, header: &header, options, objects: Some(&objects) };
        shared.run(source, open, &mut progress, |give| {
            let entries = toc.entries().iter().filter(|entry| entry.has_data());
            // There is no position, but an order.
            for (place, entry) in entries.enumerate() {
                if !give(Work { dump_id: entry.dump_id(), begin: place as u64, end: None }) {
                    break;
                }
            }
            another.expect_named()
        })
    }
}

/// An entry to verify.
#[derive(Debug, Clone, Copy)]
struct Work {
    dump_id: i32,
    /// Where its block begins.
    begin: u64,
    /// Where it ends, as whoever passed over it found.
    end: Option<u64>,
}

/// What the threads share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    header: &'a Header,
    toc: &'a Toc,
    limits: &'a Limits,
    options: &'a VerifyOptions,
    objects: Option<&'a Mutex<NamedObjects>>,
}

impl Shared<'_> {
    /// Starts the threads, each with a source of its own, and has `walk` give them work until it is told that that is enough.
    fn run<R: Read + Send>(
        self,
        source: impl Fn() -> Result<Source<R>>,
        open: impl Fn(&mut Source<R>, &Work) -> Result<OpenBlock<R>> + Sync,
        progress: &mut impl FnMut(u64),
        walk: impl FnOnce(&mut dyn FnMut(Work) -> bool) -> Result<()>,
    ) -> Result<Vec<VerifiedEntry>> {
        let (work, queue) = mpsc::sync_channel::<Work>(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        let (results, found) = mpsc::channel();
        let bytes = AtomicU64::new(0);
        thread::scope(|scope| {
            let entries = self.toc.entries().iter().filter(|entry| entry.has_data()).count();
            for number in 0..self.options.threads.clamp(1, entries.max(1)) {
                let (mut source, results) = (source()?, results.clone());
                let (queue, open, bytes) = (Arc::clone(&queue), &open, &bytes);
                let work = move || self.work(&mut source, open, &queue, &results, bytes);
                match thread::Builder::new().spawn_scoped(scope, work) {
                    Ok(_) => {}
                    // The system has no more threads to give: with fewer, then.
                    Err(_) if number > 0 => break,
                    Err(e) => return Err(Error::new(ErrorKind::Io(e), 0)),
                }
            }
            // The threads alone hold these: when all of them have ended, nobody waits for them.
            drop((results, queue));
            let mut all = Results::default();
            let walked = walk(&mut |next| {
                all.take_ready(&found);
                progress(bytes.load(Ordering::Relaxed));
                !all.has_failed() && work.send(next).is_ok()
            });
            drop(work);
            all.take_all(&found, || progress(bytes.load(Ordering::Relaxed)));
            all.finish(walked)
        })
    }

    /// Verifies one entry after the other until there are no more.
    fn work<R: Read>(
        self,
        source: &mut Source<R>,
        open: &impl Fn(&mut Source<R>, &Work) -> Result<OpenBlock<R>>,
        queue: &Mutex<Receiver<Work>>,
        results: &Sender<(u64, Result<VerifiedEntry>)>,
        bytes: &AtomicU64,
    ) {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            // The lock is held while waiting: the others wait behind it.
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(work) = next else { return };
            let verified = self.verify(source, open, &work, &mut buffer, bytes);
            let verified = verified.map_err(|e| source.input.locate(e));
            if results.send((work.begin, verified)).is_err() {
                return;
            }
        }
    }

    fn verify<R: Read>(
        self,
        source: &mut Source<R>,
        open: &impl Fn(&mut Source<R>, &Work) -> Result<OpenBlock<R>>,
        work: &Work,
        buffer: &mut [u8],
        bytes: &AtomicU64,
    ) -> Result<VerifiedEntry> {
        let unknown = || Error::corrupt(format!("dump ID {} is unknown", work.dump_id), work.begin);
        let entry = self.toc.get(work.dump_id).ok_or_else(unknown)?;
        let mut last = source.input.total_position();
        let mut block = open(source, work).map_err(|e| e.in_entry(entry))?;
        if self.header.format == Format::Custom {
            last = work.begin;
        }
        let mut progress = |position: u64| {
            bytes.fetch_add(position.saturating_sub(last), Ordering::Relaxed);
            last = last.max(position);
        };
        let block = block.present(entry, self.limits, source, None);
        let verified = verify_block(block, self.options.digests, self.objects, buffer, &mut progress)
            .map_err(|e| e.in_entry(entry))?;
        progress(source.input.total_position());
        match work.end {
            Some(end) if end != source.input.position() => {
                Err(Error::corrupt("the file was changed while it was read", work.begin).in_entry(entry))
            }
            _ => Ok(verified),
        }
    }
}

/// What the threads found, by the place of the entry.
#[derive(Default)]
struct Results {
    verified: BTreeMap<u64, VerifiedEntry>,
    /// The one nearest to the begin.
    failure: Option<(u64, Error)>,
}

impl Results {
    fn add(&mut self, (place, result): (u64, Result<VerifiedEntry>)) {
        match result {
            Ok(entry) => drop(self.verified.insert(place, entry)),
            Err(e) if self.failure.as_ref().is_none_or(|(before, _)| place < *before) => {
                self.failure = Some((place, e));
            }
            Err(_) => {}
        }
    }

    fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn take_ready(&mut self, found: &Receiver<(u64, Result<VerifiedEntry>)>) {
        found.try_iter().for_each(|result| self.add(result));
    }

    fn take_all(&mut self, found: &Receiver<(u64, Result<VerifiedEntry>)>, mut progress: impl FnMut()) {
        loop {
            match found.recv_timeout(PROGRESS) {
                Ok(result) => self.add(result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            progress();
        }
    }

    /// The entries in order. What was walked over last comes after everything that was given to the threads.
    fn finish(self, walked: Result<()>) -> Result<Vec<VerifiedEntry>> {
        if let Some((_, failure)) = self.failure {
            return Err(failure);
        }
        walked?;
        Ok(self.verified.into_values().collect())
    }
}

/// A place of its own in a file that others read too.
#[derive(Debug)]
struct FileAt {
    file: Arc<File>,
    position: u64,
}

impl Read for FileAt {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(&*self.file, out, self.position)?;
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(&*self.file, out, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for FileAt {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => self.file.metadata()?.len().checked_add_signed(distance),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
