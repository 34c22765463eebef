//! An archive, read from its beginning to its end.

use bytes::{Bytes, BytesMut};

use super::member::{Beginning, FORMAT, Member, Tally, report_path};
use super::tar::{self, Tar};
use super::{ArchiveReport, BUCKET_ARCHIVE_VERSION};
use crate::error::{Error, ErrorKind};
use crate::mirror::record::Sha256;

/// More than a report has.
const MAX_REPORT: u64 = 64 << 10;
/// What S3 allows for a key.
const MAX_KEY: usize = 1024;

/// What an archive is found to have.
#[derive(Debug)]
pub(super) enum Event {
    Begin { versions: bool },
    Object(Box<Member>, u64),
    Piece(Bytes),
    ObjectEnd,
}

/// An archive that is being read.
#[derive(Debug)]
pub(super) struct Walk {
    tar: Tar,
    versions: bool,
    tally: Tally,
    now: Now,
    last: Option<Box<Member>>,
}

enum Now {
    Between,
    Object {
        member: Box<Member>,
        bytes: u64,
        sha256: Sha256,
    },
    Report(BytesMut),
    Ended(Box<ArchiveReport>),
    /// There was an error.
    Broken,
}

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Object { member, bytes, .. } => f.debug_tuple("Object").field(member).field(bytes).finish(),
            Self::Between => f.write_str("Between"),
            Self::Report(_) => f.write_str("Report"),
            Self::Ended(report) => f.debug_tuple("Ended").field(report).finish(),
            Self::Broken => f.write_str("Broken"),
        }
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self { tar: Tar::default(), versions: false, tally: Tally::new(), now: Now::Between, last: None }
    }
}

/// Why it cannot be read.
enum Refusal {
    Damaged(String),
    Newer(String),
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(why: T) -> Self {
        Self::Damaged(why.into())
    }
}

impl Walk {
    /// Takes from `input` what comes next; `None` when it has no more.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Event>, Error> {
        let found = self.try_next(input);
        found.map_err(|refusal| {
            self.now = Now::Broken;
            match refusal {
                Refusal::Damaged(why) => self.fail(ErrorKind::Incomplete, &why),
                Refusal::Newer(why) => self.fail(ErrorKind::NotSupported, &why),
            }
        })
    }

    /// That it has come to its end, and has what it says.
    pub(super) fn finish(self) -> Result<ArchiveReport, Error> {
        match &self.now {
            Now::Ended(report) if self.tar.has_ended() => Ok((**report).clone()),
            Now::Broken => Err(self.fail(ErrorKind::Incomplete, "reading it has failed before")),
            Now::Between if self.tar.position() == 0 => Err(self.fail(ErrorKind::Incomplete, "it is empty")),
            _ => Err(self.fail(ErrorKind::Incomplete, "it is cut: it ends before its end")),
        }
    }

    fn fail(&self, kind: ErrorKind, why: &str) -> Error {
        Error::new(kind, "read", "the archive of a bucket", format!("at byte {}: {why}", self.tar.position()))
    }

    fn try_next(&mut self, input: &mut Bytes) -> Result<Option<Event>, Refusal> {
        loop {
            let Some(event) = self.tar.next(input)? else { return Ok(None) };
            match (event, &mut self.now) {
                (tar::Event::Begin(text), _) => {
                    let begin: Result<Beginning, _> = serde_json::from_str(&text);
                    let begin = begin.ok().filter(|begin| begin.format == FORMAT);
                    let begin = begin.ok_or("it is a tar, but not the archive of a bucket")?;
                    if begin.version != BUCKET_ARCHIVE_VERSION {
                        let why = format!("it has version {}; use a newer version of this program", begin.version);
                        return Err(Refusal::Newer(why));
                    }
                    self.versions = begin.versions;
                    return Ok(Some(Event::Begin { versions: begin.versions }));
                }
                (tar::Event::File { path, bytes, object: Some(object) }, Now::Between) => {
                    let member = Box::new(self.member(&path, bytes, &object)?);
                    self.now = Now::Object { member: member.clone(), bytes, sha256: Sha256::new() };
                    return Ok(Some(Event::Object(member, bytes)));
                }
                (tar::Event::File { path, bytes, object: None }, Now::Between) if path == report_path() => {
                    if bytes > MAX_REPORT {
                        return Err(format!("its report has {bytes} bytes, more than any can have").into());
                    }
                    self.now = Now::Report(BytesMut::new());
                }
                (tar::Event::Piece(piece), Now::Object { sha256, .. }) => {
                    sha256.update(&piece);
                    return Ok(Some(Event::Piece(piece)));
                }
                (tar::Event::Piece(piece), Now::Report(text)) => text.extend_from_slice(&piece),
                (tar::Event::FileEnd, Now::Object { .. }) => {
                    let Now::Object { member, bytes, sha256 } = std::mem::replace(&mut self.now, Now::Between) else {
                        unreachable!("it was just looked at")
                    };
                    self.tally.add(&member, bytes, &sha256.finish());
                    self.last = Some(member);
                    return Ok(Some(Event::ObjectEnd));
                }
                (tar::Event::FileEnd, Now::Report(text)) => {
                    let said: ArchiveReport = serde_json::from_slice(text).map_err(|_| "its report is damaged")?;
                    let found = self.tally.clone().finish(self.versions, said.vanished);
                    if said != found {
                        let why = format!(
                            "it has {} objects with {} bytes and the digest {}, but says that it has {} with {} and {}",
                            found.objects, found.bytes, found.sha256, said.objects, said.bytes, said.sha256
                        );
                        return Err(why.into());
                    }
                    self.now = Now::Ended(Box::new(said));
                }
                (tar::Event::File { path, .. }, _) => {
                    return Err(format!("there is a file that nothing is said of, `{}`", path.escape_debug()).into());
                }
                (_, Now::Broken) => return Err("reading it has failed before".into()),
                _ => return Err("there is something where nothing may be".into()),
            }
        }
    }

    /// What a file is, when it is what may come now.
    fn member(&self, path: &str, bytes: u64, object: &str) -> Result<Member, Refusal> {
        let member: Member = serde_json::from_str(object).map_err(|_| "what is said of an object makes no sense")?;
        let key = member.key.escape_debug();
        if member.key.is_empty() || member.key.len() > MAX_KEY {
            return Err("there is a key that none can have".into());
        }
        // By that, it is nowhere but below the folder that somebody unpacks it in.
        if path != member.path(false) && path != member.path(true) {
            return Err(format!("the object `{key}` has the path of another, `{}`", path.escape_debug()).into());
        }
        if member.version.is_some() != self.versions || (member.is_delete_marker() && bytes > 0) {
            return Err(format!("what is said of the version of `{key}` makes no sense").into());
        }
        let Some(last) = &self.last else { return Ok(member) };
        let is_next = match (&last.version, &member.version) {
            (Some(before), Some(version)) if last.key == member.key => {
                !before.is_latest && before.number < version.number
            }
            _ => last.key < member.key,
        };
        if !is_next {
            let what = if last.key == member.key { "twice" } else { "not in the order of the keys" };
            return Err(format!("the object `{key}` is in it {what}").into());
        }
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verifying;
    use super::super::member::Version;
    use super::*;
    use crate::s3::Attributes;

    fn member(key: &str) -> Member {
        Member { key: key.into(), attributes: Attributes::default(), version: None }
    }

    fn version(key: &str, number: u64, is_latest: bool, is_delete_marker: bool) -> Member {
        let version = Version { id: format!("id-{number}"), number, is_latest, is_delete_marker };
        Member { version: Some(version), ..member(key) }
    }

    struct Archive {
        bytes: Vec<u8>,
        tally: Tally,
        versions: bool,
    }

    impl Archive {
        fn new(versions: bool) -> Self {
            let begin = format!("{{\"format\":\"bucket-archive\",\"version\":1,\"versions\":{versions}}}");
            Self { bytes: tar::begin(&begin), tally: Tally::new(), versions }
        }

        fn add(self, member: &Member, content: &[u8]) -> Self {
            let path = member.path(false);
            self.add_at(&path, member, content)
        }

        fn add_at(mut self, path: &str, member: &Member, content: &[u8]) -> Self {
            self = self.add_file(path, Some(&serde_json::to_string(member).unwrap()), content);
            self.tally.add(member, content.len() as u64, &Sha256::of(content));
            self
        }

        fn add_file(mut self, path: &str, object: Option<&str>, content: &[u8]) -> Self {
            let bytes = content.len() as u64;
            self.bytes.extend(tar::file(path, bytes, 0, object));
            self.bytes.extend(content);
            self.bytes.extend(tar::padding(bytes));
            self
        }

        fn end(self) -> Result<ArchiveReport, String> {
            let report = self.tally.clone().finish(self.versions, 0);
            self.end_with(&serde_json::to_string(&report).unwrap())
        }

        fn end_with(self, report: &str) -> Result<ArchiveReport, String> {
            self.add_file(&report_path(), None, report.as_bytes()).end_here()
        }

        fn end_here(mut self) -> Result<ArchiveReport, String> {
            self.bytes.extend(tar::end());
            verify(&self.bytes)
        }
    }

    fn verify(bytes: &[u8]) -> Result<ArchiveReport, String> {
        let mut verifying = Verifying::default();
        verifying.write(Bytes::copy_from_slice(bytes)).map_err(|e| e.to_string())?;
        verifying.finish().map_err(|e| e.to_string())
    }

    #[track_caller]
    fn refused(found: Result<ArchiveReport, String>, why: &str) {
        let error = found.expect_err(why);
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn objects_and_their_history_are_counted() {
        let report = Archive::new(false).add(&member("a"), b"12").add(&member("a/b"), b"3").end().unwrap();
        assert_eq!((report.objects, report.bytes, report.delete_markers), (2, 3, 0));
        let report = Archive::new(true)
            .add(&version("a", 1, false, false), b"12")
            .add(&version("a", 2, false, true), b"")
            .add(&version("a", 4, true, false), b"3")
            .add(&version("b", 1, true, true), b"")
            .end()
            .unwrap();
        assert_eq!((report.objects, report.bytes, report.delete_markers), (2, 3, 2));
    }

    #[test]
    fn an_object_has_no_path_but_its_own() {
        for (key, path) in [
            ("../a", "../a"),
            ("/a", "/a"),
            ("a", "b"),
            ("a", "../a"),
            ("a", "a/../a"),
            ("a", "/a"),
            ("a", "./a"),
            (".mirror/archive.json", ".mirror/archive.json"),
            ("a", ".mirror/archive.json"),
            ("a", ".mirror/index"),
        ] {
            refused(Archive::new(false).add_at(path, &member(key), b"x").end(), "has the path of another");
        }
        let old = version("a", 1, false, false);
        refused(Archive::new(true).add_at("a", &old, b"x").end(), "has the path of another");
        refused(Archive::new(false).add_at("x", &member(""), b"x").end(), "a key that none can have");
        let long = "x".repeat(1025);
        refused(Archive::new(false).add(&member(&long), b"x").end(), "a key that none can have");
    }

    #[test]
    fn an_object_is_in_it_once_and_in_its_place() {
        refused(Archive::new(false).add(&member("a"), b"").add(&member("a"), b"").end(), "`a` is in it twice");
        let beside = Archive::new(false).add(&member("a"), b"").add_at("a%object", &member("a"), b"");
        refused(beside.end(), "`a` is in it twice");
        refused(Archive::new(false).add(&member("b"), b"").add(&member("a"), b"").end(), "not in the order");
        for (first, second) in [((1, true), (2, true)), ((2, false), (1, true)), ((1, false), (1, true))] {
            let [first, second] = [first, second].map(|(number, is_latest)| version("a", number, is_latest, false));
            refused(Archive::new(true).add(&first, b"").add(&second, b"").end(), "`a` is in it twice");
        }
        refused(Archive::new(true).add(&member("a"), b"").end(), "makes no sense");
        refused(Archive::new(false).add(&version("a", 1, true, false), b"").end(), "makes no sense");
        refused(Archive::new(true).add(&version("a", 1, true, true), b"x").end(), "makes no sense");
    }

    #[test]
    fn it_has_what_it_says() {
        let archive = || Archive::new(false).add(&member("a"), b"x");
        let report = |objects, bytes, sha256: &str| {
            let text = r#"{"version":1,"versions":false,"delete-markers":0,"vanished":0,"#;
            format!("{text}\"objects\":{objects},\"bytes\":{bytes},\"sha256\":\"{sha256}\"}}")
        };
        let sha256 = archive().end().unwrap().sha256;
        archive().end_with(&report(1, 1, &sha256)).unwrap();
        for (objects, bytes, sha256) in [(2, 1, &*sha256), (1, 2, &sha256), (1, 1, ""), (0, 0, &sha256)] {
            refused(archive().end_with(&report(objects, bytes, sha256)), "but says that it has");
        }
        for text in ["", "{}", "[]", "null", "{\"version\":1", "\u{0}"] {
            refused(archive().end_with(text), "its report is damaged");
        }
        refused(archive().end_with(&" ".repeat(1 << 17)), "more than any can have");
        refused(archive().end_here(), "it is cut");
        refused(archive().add_file("b", None, b"").end(), "nothing is said of");
        refused(archive().add_file("b", Some("{}"), b"").end(), "makes no sense");
        refused(archive().add_file("b", Some(&"[".repeat(10_000)), b"").end(), "makes no sense");
        let mut twice = archive();
        twice = twice.add_file(&report_path(), None, report(1, 1, &sha256).as_bytes());
        refused(twice.add(&member("b"), b"").end_here(), "a file that nothing is said of");
    }

    #[test]
    fn what_is_no_archive_or_a_newer_one_is_told_from_a_damaged_one() {
        refused(verify(b""), "it is empty");
        refused(verify(&[0; 1024]), "it is not the archive of a bucket");
        refused(verify(&[b'x'; 1024]), "it is not the archive of a bucket");
        for begin in ["", "{}", "{\"format\":\"mirror-index\",\"version\":1,\"versions\":false}"] {
            refused(verify(&tar::begin(begin)), "not the archive of a bucket");
        }
        let mut newer = Verifying::default();
        let begin = tar::begin("{\"format\":\"bucket-archive\",\"version\":2,\"versions\":false}");
        let error = newer.write(begin.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains("a newer version"), "{error}");
        assert!(newer.finish().unwrap_err().to_string().contains("has failed before"));
    }
}
