//! `backup.yaml`: which sources there are, where their backups go, and which jobs make and keep them.

mod destination;
mod job;
mod keys;
mod place;
mod section;
mod source;
mod watson_speech;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use pgmig_core::config_file::{self, ConfigFileError, Fault, list, quoted_key};
use pgmig_core::yaml::{self, Node, Value};

pub(crate) use destination::{Bucket, Destination};
pub(crate) use job::Job;
pub(crate) use place::Place;
use section::{Outside, Section};
use source::Source;
pub(crate) use source::{Parts, PgDump, PostgresqlSource};

const WHAT: &str = "configuration";
/// What the names of jobs end with that have the backups of targets.
pub(crate) const BEFORE_RESTORE: &str = ".before-restore";
const SECTIONS: [&str; 3] = ["sources", "destinations", "jobs"];

/// The file, taken apart as far as it has to be to know what is in it.
///
/// A source, a destination or a job is read when it is needed: whoever lists backups need not have the password of the
/// database.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    sources: Vec<Named>,
    destinations: Vec<Named>,
    jobs: Vec<Named>,
    outside: Outside,
    /// What is wrong with it beside what is in its sources, destinations and jobs.
    faults: Vec<Fault>,
}

#[derive(Debug)]
struct Named {
    name: String,
    line: usize,
    value: Value,
}

impl ConfigFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no map in YAML. Other faults are told by [`check`](Self::check) and
    /// [`expect_sound`](Self::expect_sound).
    pub(crate) fn load(path: &Path, environment: BTreeMap<OsString, OsString>) -> Result<Self, ConfigFileError> {
        let text = config_file::read_text(WHAT, path)?;
        let outside = Outside { folder: path.parent().map(Path::to_owned), environment, named: Vec::new() };
        Self::parse(&text, path, outside).map_err(|faults| ConfigFileError::faults_in(WHAT, Some(path), faults))
    }

    fn parse(text: &str, path: &Path, mut outside: Outside) -> Result<Self, Vec<Fault>> {
        let at = |line, message: String| Fault { line, message };
        let expected = format!("expected the sections {}", list(&SECTIONS));
        let root = yaml::parse(text).map_err(|fault| vec![at(Some(fault.line), fault.message)])?;
        let Some(Node { value: Value::Mapping(sections), .. }) = root else {
            return Err(vec![at(root.map(|node| node.line), expected)]);
        };
        sections.iter().for_each(|(_, section)| variables(section, &mut outside.named));
        outside.named.retain(|name| outside.environment.contains_key(name));
        let mut faults = Vec::new();
        let mut found: [Option<Vec<Named>>; 3] = [const { None }; 3];
        for (key, value) in sections {
            let Value::Scalar(name) = &key.value else {
                faults.push(at(Some(key.line), expected.clone()));
                continue;
            };
            match SECTIONS.iter().position(|section| section == name) {
                None => {
                    faults.push(at(
                        Some(key.line),
                        format!("unknown section{}; known are {}", quoted_key(name), list(&SECTIONS)),
                    ));
                }
                Some(index) if found[index].is_some() => {
                    faults.push(at(Some(key.line), format!("`{name}` is given again")));
                }
                Some(index) => found[index] = Some(named(name, value, &mut faults)),
            }
        }
        // Who only mirrors has no job, and perhaps no source.
        if found.iter().all(Option::is_none) && faults.is_empty() {
            faults.push(at(None, expected));
        }
        let [sources, destinations, jobs] = found.map(Option::unwrap_or_default);
        Ok(Self { path: path.to_owned(), sources, destinations, jobs, outside, faults })
    }

    /// That its sections are maps of names.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(crate) fn expect_sound(&self) -> Result<(), ConfigFileError> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.error(self.faults.clone())) }
    }

    /// The names of all jobs, in the order of the file.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &str> {
        self.jobs.iter().map(|job| job.name.as_str())
    }

    /// The job `name`; `None` when there is none.
    ///
    /// # Errors
    ///
    /// All its faults.
    pub(crate) fn job(&self, name: &str) -> Option<Result<Job, ConfigFileError>> {
        let job = self.jobs.iter().find(|job| job.name == name)?;
        Some(self.read_job(job).map_err(|faults| self.error(faults)))
    }

    /// What a job backs up.
    ///
    /// # Errors
    ///
    /// All its faults.
    fn source(&self, job: &Job) -> Result<Source, ConfigFileError> {
        let named = self.sources.iter().find(|source| source.name == job.source);
        let named = named.expect("the job was read, which looks for its source");
        Source::read(self.section("source", named)).map_err(|faults| self.error(faults))
    }

    /// Where the backups of a job are.
    ///
    /// # Errors
    ///
    /// All its faults.
    pub(crate) fn destination(&self, job: &Job) -> Result<Destination, ConfigFileError> {
        let named = self.destinations.iter().find(|destination| destination.name == job.destination);
        let named = named.expect("the job was read, which looks for its destination");
        Destination::read(self.section("destination", named)).map_err(|faults| self.error(faults))
    }

    /// What a job's backups are made of.
    ///
    /// # Errors
    ///
    /// All faults of its source.
    pub(crate) fn parts(&self, job: &Job) -> Result<Parts, ConfigFileError> {
        self.source(job).map(Parts::from)
    }

    /// What backups of the source `name` are made of; `None` when there is no such source.
    ///
    /// # Errors
    ///
    /// All its faults.
    pub(crate) fn parts_of(&self, name: &str) -> Option<Result<Parts, ConfigFileError>> {
        let named = self.sources.iter().find(|source| source.name == name)?;
        Some(Source::read(self.section("source", named)).map(Parts::from).map_err(|faults| self.error(faults)))
    }

    /// The program that dumps a job's source. The rest of the source need not be usable: whoever restores elsewhere may not have its
    /// password.
    ///
    /// # Errors
    ///
    /// Its value cannot be read.
    pub(crate) fn pg_dump(&self, job: &Job) -> Result<PgDump, ConfigFileError> {
        let named = self.sources.iter().find(|source| source.name == job.source);
        let named = named.expect("the job was read, which looks for its source");
        source::pg_dump(self.section("source", named)).map_err(|faults| self.error(faults))
    }

    /// The bucket of a source, or a destination, by its name; `None` when there is none.
    pub(crate) fn place(&self, name: &str) -> Option<Result<Destination, ConfigFileError>> {
        let by_name = |named: &&Named| named.name == name;
        if let Some(named) = self.destinations.iter().find(by_name) {
            let destination = Destination::read(self.section("destination", named));
            return Some(destination.map_err(|faults| self.error(faults)));
        }
        let named = self.sources.iter().find(by_name)?;
        match Source::read(self.section("source", named)) {
            Ok(Source::Bucket(bucket)) => Some(Ok(Destination::S3(bucket))),
            Ok(_) => None,
            Err(faults) => Some(Err(self.error(faults))),
        }
    }

    /// The names of all that [`place`](Self::place) knows.
    pub(crate) fn places(&self) -> Vec<String> {
        let names = self.sources.iter().chain(&self.destinations).map(|named| named.name.clone());
        names.filter(|name| self.place(name).is_some()).collect()
    }

    /// Reads everything, with all files and variables that values come from.
    ///
    /// # Errors
    ///
    /// All faults of the file.
    pub(crate) fn check(&self) -> Result<(), ConfigFileError> {
        let mut faults = self.faults.clone();
        let path = self.outside.environment.get(OsStr::new("PATH")).map(OsString::as_os_str);
        // What is there only now, or not yet, is no fault of the file for who only lists others.
        let unusable = |kind: &str, named: &Named, (key, why): (&str, String)| Fault {
            line: Some(named.line_of(key)),
            message: format!("the {kind} `{}`: {why}", named.name),
        };
        for named in &self.sources {
            match Source::read(self.section("source", named)) {
                Ok(source) => {
                    faults.extend(source.problems(path).into_iter().map(|problem| unusable("source", named, problem)));
                }
                Err(read) => faults.extend(read),
            }
        }
        for named in &self.destinations {
            match Destination::read(self.section("destination", named)) {
                Ok(destination) => {
                    faults.extend(destination.problem().map(|problem| unusable("destination", named, problem)));
                }
                Err(read) => faults.extend(read),
            }
        }
        for named in &self.jobs {
            match self.read_job(named) {
                Ok(job) => {
                    let folder = job.metrics_file.as_deref().and_then(Path::parent);
                    let missing = folder.filter(|folder| *folder != Path::new("") && !folder.is_dir());
                    let problem =
                        missing.map(|folder| ("metrics-file", format!("there is no folder `{}`", folder.display())));
                    faults.extend(problem.map(|problem| unusable("job", named, problem)));
                    faults.extend(self.overlap(&job));
                }
                Err(read) => faults.extend(read),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(self.error(faults)) }
    }

    /// How many sources, destinations and jobs there are.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [&self.sources, &self.destinations, &self.jobs].map(Vec::len)
    }

    fn read_job(&self, job: &Named) -> Result<Job, Vec<Fault>> {
        let destinations = names(&self.destinations);
        let read = Job::read(&job.name, self.section("job", job), &names(&self.sources), &destinations)?;
        let fault = |message: String| {
            let message = format!("the job `{}`: {message}", job.name);
            Err(vec![Fault { line: Some(job.line), message }])
        };
        if job.name.ends_with(BEFORE_RESTORE) {
            return fault(format!(
                "names that end with `{BEFORE_RESTORE}` are those of backups that restores make of targets"
            ));
        }
        // Each of them would take the backups of the other one for its own.
        let is_with_it = |other: &&Named| {
            let place = job::place(self.section("job", other), &destinations);
            other.name != job.name && place.is_ok_and(|place| place == (read.destination.clone(), true))
        };
        if let Some(other) = self.jobs.iter().find(is_with_it).filter(|_| read.at_root) {
            let destination = &read.destination;
            return fault(format!("it has its backups at the root of `{destination}`, and so has `{}`", other.name));
        }
        Ok(read)
    }

    /// That the backups of a job are not in its own source, where each new one would have all others in it.
    ///
    /// # Errors
    ///
    /// They are.
    pub(crate) fn expect_apart(&self, job: &Job) -> Result<(), ConfigFileError> {
        self.overlap(job).map_or(Ok(()), |fault| Err(self.error(vec![fault])))
    }

    fn overlap(&self, job: &Job) -> Option<Fault> {
        let Job { name, source, destination, .. } = job;
        // What cannot be read of the two is told where they are.
        let named = self.sources.iter().find(|named| named.name == *source)?;
        let places = Place::of_source(self.section("source", named)).ok()?;
        let backups = self.place_of(destination).ok()?;
        let is_in_it = places.iter().any(|place| place.overlaps(&backups));
        let line = self.jobs.iter().find(|named| named.name == name.as_str()).map(|named| named.line);
        let message = format!(
            "the job `{name}`: its source `{source}` has the backups themselves in it: they go to `{destination}`"
        );
        is_in_it.then_some(Fault { line, message })
    }

    /// The name of a job whose backups can be in `place`.
    ///
    /// # Errors
    ///
    /// Of one job that cannot be told.
    pub(crate) fn job_with_backups_in(&self, place: &Place) -> Result<Option<&str>, ConfigFileError> {
        let destinations = names(&self.destinations);
        for job in &self.jobs {
            let destination = job::place(self.section("job", job), &destinations);
            let there = destination.and_then(|(destination, _)| self.place_of(&destination));
            if there.map_err(|faults| self.error(faults))?.overlaps(place) {
                return Ok(Some(&job.name));
            }
        }
        Ok(None)
    }

    /// Where the destination `name` is, of which it is known that it is there.
    fn place_of(&self, name: &str) -> Result<Place, Vec<Fault>> {
        let named = self.destinations.iter().find(|destination| destination.name == name);
        let named = named.expect("it was looked for when its name was read");
        Place::of_destination(self.section("destination", named))
    }

    fn section<'a>(&'a self, kind: &str, named: &'a Named) -> Section<'a> {
        Section::of(format!("the {kind} `{}`", named.name), named.line, &named.value, &self.outside)
    }

    fn error(&self, faults: Vec<Fault>) -> ConfigFileError {
        ConfigFileError::faults_in(WHAT, Some(&self.path), faults)
    }
}

impl Named {
    /// The line of a key, wherever its value comes from; that of the section, if it is not said.
    fn line_of(&self, key: &str) -> usize {
        let Value::Mapping(pairs) = &self.value else { return self.line };
        let is_it = |name: &str| matches!(name.strip_prefix(key), Some("" | "-env" | "-file"));
        let line = pairs.iter().find_map(|(name, _)| match &name.value {
            Value::Scalar(text) if is_it(text) => Some(name.line),
            _ => None,
        });
        line.unwrap_or(self.line)
    }
}

/// The environment variables that values come from.
fn variables(node: &Node, found: &mut Vec<OsString>) {
    match &node.value {
        Value::Mapping(pairs) => {
            for (key, value) in pairs {
                match (&key.value, &value.value) {
                    (Value::Scalar(key), Value::Scalar(name)) if key.ends_with("-env") => found.push(name.into()),
                    _ => variables(value, found),
                }
            }
        }
        Value::Sequence(nodes) => nodes.iter().for_each(|node| variables(node, found)),
        _ => {}
    }
}

fn names(section: &[Named]) -> Vec<String> {
    section.iter().map(|named| named.name.clone()).collect()
}

/// The names of a section, and what each of them stands for.
fn named(section: &str, node: Node, faults: &mut Vec<Fault>) -> Vec<Named> {
    let mut fault = |line, message: String| faults.push(Fault { line: Some(line), message });
    let pairs = match node.value {
        Value::Mapping(pairs) if !pairs.is_empty() => pairs,
        _ => {
            fault(node.line, format!("`{section}` must be a map of names, with what each of them stands for"));
            return Vec::new();
        }
    };
    let mut all: Vec<Named> = Vec::new();
    for (key, value) in pairs {
        let line = key.line;
        match key.value {
            Value::Scalar(name) if !is_name(&name) => {
                fault(line, format!("`{section}` has a name that is not made of letters, digits, `-`, `_` and `.`"));
            }
            Value::Scalar(name) if all.iter().any(|other| other.name == name) => {
                fault(line, format!("`{section}` has the name `{name}` twice"));
            }
            Value::Scalar(name) => all.push(Named { name, line, value: value.value }),
            _ => fault(line, format!("`{section}` has a name that is no text")),
        }
    }
    all
}

/// Names are parts of keys and of messages, and typed at command lines.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=100).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(['.', '-'])
}
