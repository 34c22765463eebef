//! What can be kept of an archive in the directory or tar format that lacks files, or its end.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use crate::block::Block;
use crate::error::{Error, ErrorKind, Result};
use crate::header::{Format, Header};
use crate::named_objects;
use crate::reader::ArchiveReader;
use crate::toc::Toc;
use crate::verify::{BUFFER_BYTES, VerifiedEntry, drain, verify_block};
use crate::version::Version;
use crate::write::{ArchiveWriter, Sink, WriteOptions};

/// What can be kept of a damaged archive in the directory or tar format, and what is lost; for the custom format see
/// [`RepairPlan`](super::RepairPlan).
///
/// Made by reading the whole archive once. A directory is read file by file: data is lost when its own file is missing, cut
/// short or damaged. A tar is read up to the place where it is cut or damaged: what is behind that is lost. As there, what is
/// lost is left out of the table of contents, and nothing else is. The table of contents itself has to be whole.
///
/// ```
/// use dumpfmt::repair::MemberPlan;
/// use dumpfmt::{ArchiveReader, WriteOptions};
/// # use dumpfmt::Rewrite;
/// use std::io::Cursor;
///
/// # let folder = std::env::temp_dir().join(format!("dumpfmt-members-{}", std::process::id()));
/// # let mut source = ArchiveReader::new(dumpfmt::example::archive())?;
/// # Rewrite::new(WriteOptions::like(source.header())).to_directory(&mut source, &folder, |_| {})?;
/// # std::fs::remove_file(folder.join("2.dat")).expect("it is there");
/// let mut source = ArchiveReader::open(&folder)?;
/// let plan = MemberPlan::of(&mut source, |_position| {})?;
/// assert_eq!(plan.lost()[0].entry, "TABLE DATA public.tenant (dump ID 2)");
///
/// let options = WriteOptions::like(plan.header());
/// let repaired = plan.to_file(&mut source, Cursor::new(Vec::new()), &options, |_position| {})?;
/// let mut repaired = ArchiveReader::new(Cursor::new(repaired.into_inner()))?;
/// assert!(repaired.verify(|_| {})?.is_empty());
/// # std::fs::remove_dir_all(&folder).expect("it is there");
/// # Ok::<(), dumpfmt::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MemberPlan {
    header: Header,
    /// Without what is lost.
    toc: Toc,
    recovered: Vec<RecoveredMember>,
    lost: Vec<LostMember>,
    damage: Option<String>,
    lost_objects: Vec<u32>,
}

/// An entry whose data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecoveredMember {
    /// What there is of it.
    pub verified: VerifiedEntry,
    /// Why not all of it is kept: of large objects the first ones. `None`: all is there.
    pub missing: Option<String>,
}

/// An entry whose data is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LostMember {
    /// The entry.
    pub dump_id: i32,
    /// Its name, such as `TABLE DATA public.tenant (dump ID 4311)`.
    pub entry: String,
    /// Why, with the file and the byte.
    pub why: String,
}

impl MemberPlan {
    /// Reads the archive to its end. It must not have been read further than its table of contents. `progress` is called
    /// with the position in it.
    ///
    /// # Errors
    ///
    /// When it is in the custom format, or reading fails for another reason than that something is missing or damaged.
    pub fn of<R: Read + Seek>(source: &mut ArchiveReader<R>, mut progress: impl FnMut(u64)) -> Result<Self> {
        let found = match source.header().format {
            Format::Directory => each_file(source, &mut progress)?,
            Format::Tar => up_to_the_end(source, &mut progress)?,
            Format::Custom => return Err(Error::usage("an archive in the custom format has no members to look at")),
        };
        let Found { recovered, losses, damage, objects } = found;
        let kept: HashSet<i32> = recovered.iter().map(|entry| entry.verified.dump_id).collect();
        let toc = source.toc();
        let is_lost = |dump_id, has_data: bool| has_data && !kept.contains(&dump_id);
        let lost = toc.entries().iter().filter(|entry| is_lost(entry.dump_id(), entry.has_data())).map(|entry| {
            let why =
                losses.get(&entry.dump_id()).or(damage.as_ref()).cloned().unwrap_or_else(|| "it was not found".into());
            LostMember { dump_id: entry.dump_id(), entry: entry.to_string(), why }
        });
        let lost = lost.collect();
        let rest = toc.entries().iter().filter(|entry| !is_lost(entry.dump_id(), entry.has_data()));
        let has_objects = toc.entries().iter().any(|entry| entry.has_data() && entry.is_large_objects());
        let is_lost = |oid: &u32| has_objects && !objects.contains(oid);
        let mut lost_objects: Vec<u32> = named_objects::oids(toc).filter(is_lost).collect();
        lost_objects.sort_unstable();
        let toc = Toc::new(named_objects::without(rest, &lost_objects.iter().copied().collect())?)?;
        Ok(Self { header: source.header().clone(), toc, recovered, lost, damage, lost_objects })
    }

    /// What the archive says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The table of contents of the repaired archive: that of the damaged one without what is lost.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The entries whose data is kept, in the order of the archive.
    pub fn recovered(&self) -> &[RecoveredMember] {
        &self.recovered
    }

    /// The entries whose data is lost, in the order of the table of contents.
    pub fn lost(&self) -> &[LostMember] {
        &self.lost
    }

    /// The large objects that the table of contents names, but whose content is lost; in the order of their OIDs. See
    /// [`RepairPlan::lost_large_objects`](super::RepairPlan::lost_large_objects).
    pub fn lost_large_objects(&self) -> &[u32] {
        &self.lost_objects
    }

    /// Where and why a tar could not be read to its end, or which file of a folder holds data that no entry has.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Whether nothing is lost and nothing is damaged.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty()
            && self.lost_objects.is_empty()
            && self.damage.is_none()
            && self.recovered.iter().all(|entry| entry.missing.is_none())
    }

    /// Writes what is whole as a new archive in the custom format; see [`ArchiveWriter::to_file`]. `source` is the
    /// archive that the plan was made of.
    ///
    /// # Errors
    ///
    /// When `source` is not the same any more, when an archive of that version cannot hold these entries, or writing
    /// fails. What was written until then is no archive.
    pub fn to_file<R: Read + Seek, W: Write + Seek>(
        &self,
        source: &mut ArchiveReader<R>,
        file: W,
        options: &WriteOptions,
        progress: impl FnMut(u64),
    ) -> Result<W> {
        self.check()?;
        let target = ArchiveWriter::to_file(file, &self.header, self.toc.clone(), options)?;
        self.copy(source, target, progress)?.finish()
    }

    /// Writes it to a pipe; see [`ArchiveWriter::to_pipe`].
    ///
    /// # Errors
    ///
    /// As for [`to_file`](Self::to_file).
    pub fn to_pipe<R: Read + Seek, W: Write>(
        &self,
        source: &mut ArchiveReader<R>,
        pipe: W,
        options: &WriteOptions,
        progress: impl FnMut(u64),
    ) -> Result<W> {
        self.check()?;
        let target = ArchiveWriter::to_pipe(pipe, &self.header, self.toc.clone(), options)?;
        self.copy(source, target, progress)?.finish()
    }

    /// Writes it in the directory format; see [`ArchiveWriter::to_directory`].
    ///
    /// # Errors
    ///
    /// As for [`to_file`](Self::to_file), and when the folder exists.
    pub fn to_directory<R: Read + Seek>(
        &self,
        source: &mut ArchiveReader<R>,
        folder: &Path,
        options: &WriteOptions,
        progress: impl FnMut(u64),
    ) -> Result<()> {
        self.check()?;
        let target = ArchiveWriter::to_directory(folder, &self.header, self.toc.clone(), options)?;
        self.copy(source, target, progress)?.finish()
    }

    /// Refuses what cannot be written as an archive of today.
    fn check(&self) -> Result<()> {
        let has_objects = self.recovered.iter().any(|entry| entry.verified.large_objects.is_some());
        if has_objects && self.header.version < Version::LARGE_OBJECT_ENTRIES {
            let text = format!(
                "an archive of version {} does not name its large objects, which the versions that can be written must",
                self.header.version
            );
            return Err(Error::new(ErrorKind::Unsupported(text), 0));
        }
        Ok(())
    }

    fn copy<R: Read + Seek, S: Sink>(
        &self,
        source: &mut ArchiveReader<R>,
        mut target: ArchiveWriter<S>,
        mut progress: impl FnMut(u64),
    ) -> Result<ArchiveWriter<S>> {
        let copy = |from: &mut dyn Read, to: &mut dyn Write| io::copy(from, to).map_err(|e| Error::from_io(e, 0));
        for RecoveredMember { verified, missing } in &self.recovered {
            let dump_id = verified.dump_id;
            match source.block(dump_id)? {
                Some(Block::Data(mut data)) => {
                    let mut new = target.data(dump_id)?;
                    copy(&mut data, &mut new)?;
                    new.finish()?;
                }
                Some(Block::LargeObjects(mut objects)) => {
                    let mut new = target.large_objects(dump_id)?;
                    // What comes after them is not asked for where it is known to be missing.
                    let most = missing.as_ref().map_or(u64::MAX, |_| verified.large_objects.unwrap_or_default());
                    for _ in 0..most {
                        let Some(mut object) = objects.next_object()? else { break };
                        let mut content = new.object(object.oid())?;
                        copy(&mut object, &mut content)?;
                        content.finish()?;
                    }
                    new.finish()?;
                }
                None => {}
            }
            progress(source.position());
        }
        Ok(target)
    }
}

/// What was read.
#[derive(Default)]
struct Found {
    recovered: Vec<RecoveredMember>,
    /// By dump ID.
    losses: HashMap<i32, String>,
    damage: Option<String>,
    /// The OIDs of all whole large objects.
    objects: HashSet<u32>,
}

impl Found {
    /// Takes what came of one block.
    fn take(&mut self, dump_id: i32, looked_at: (VerifiedEntry, Option<Error>)) -> Result<()> {
        match looked_at {
            (verified, None) => self.recovered.push(RecoveredMember { verified, missing: None }),
            (verified, Some(error)) => {
                let why = loss(error)?;
                if verified.large_objects.is_some_and(|count| count > 0) {
                    self.recovered.push(RecoveredMember { verified, missing: Some(why) });
                } else {
                    self.losses.insert(dump_id, why);
                }
            }
        }
        Ok(())
    }
}

/// What an error says of the archive; any other error is passed on.
fn loss(error: Error) -> Result<String> {
    match error.kind() {
        ErrorKind::Truncated(_) | ErrorKind::Corrupt(_) | ErrorKind::MissingFile(_) => Ok(error.to_string()),
        _ => Err(error),
    }
}

/// The data of a directory, entry by entry.
fn each_file<R: Read + Seek>(source: &mut ArchiveReader<R>, progress: &mut impl FnMut(u64)) -> Result<Found> {
    let mut found = Found::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let with_data = source.toc().entries().iter().filter(|entry| entry.has_data());
    let dump_ids: Vec<i32> = with_data.map(crate::toc::TocEntry::dump_id).collect();
    for dump_id in dump_ids {
        match source.block(dump_id) {
            Ok(Some(block)) => {
                let looked_at = look_at(block, &mut buffer, &mut found.objects, progress);
                found.take(dump_id, looked_at)?;
            }
            Ok(None) => {}
            Err(e) => {
                found.losses.insert(dump_id, loss(e)?);
            }
        }
        progress(source.position());
    }
    found.damage = source.expect_named().err().map(loss).transpose()?;
    Ok(found)
}

/// The data of a tar, member by member.
fn up_to_the_end<R: Read>(source: &mut ArchiveReader<R>, progress: &mut impl FnMut(u64)) -> Result<Found> {
    let mut found = Found::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut before = None;
    loop {
        match source.next_block() {
            Ok(None) => return Ok(found),
            Ok(Some(block)) => {
                let dump_id = block.entry().dump_id();
                let looked_at = look_at(block, &mut buffer, &mut found.objects, progress);
                before = looked_at.1.as_ref().map(ToString::to_string);
                found.take(dump_id, looked_at)?;
            }
            Err(e) => {
                // Where a block is damaged so that its end is not known, that is why there is no next one.
                found.damage = Some(match before {
                    Some(damage) => damage,
                    None => loss(e)?,
                });
                return Ok(found);
            }
        }
    }
}

/// Reads a block to its end, or to where it is damaged.
fn look_at<R: Read>(
    block: Block<'_, R>,
    buffer: &mut [u8],
    oids: &mut HashSet<u32>,
    progress: &mut impl FnMut(u64),
) -> (VerifiedEntry, Option<Error>) {
    let dump_id = block.entry().dump_id();
    let mut entry = VerifiedEntry { dump_id, rows: None, large_objects: None, bytes: 0, sha256: None };
    let Block::LargeObjects(mut objects) = block else {
        return match verify_block(block, false, None, buffer, progress) {
            Ok(verified) => (verified, None),
            Err(e) => (entry, Some(e)),
        };
    };
    let mut count = 0;
    loop {
        entry.large_objects = Some(count);
        let drained = match objects.next_object() {
            Ok(None) => return (entry, None),
            Ok(Some(mut object)) => drain(&mut object, buffer, |object, _| {
                progress(object.total_position());
                Ok(())
            })
            .map(|bytes| (object.oid(), bytes)),
            Err(e) => Err(e),
        };
        match drained {
            Ok((oid, bytes)) => {
                oids.insert(oid);
                entry.bytes += bytes;
            }
            Err(e) => return (entry, Some(e)),
        }
        count += 1;
    }
}
