//! Mapping files (`enteredMapping.yaml`).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::config_file::{self, ConfigFileError, Fault};
use crate::instance_id::InstanceId;
use crate::yaml::{self, Node, Value};

const WHAT: &str = "mapping file";
const KEY: &str = "instance-mappings";

/// A mapping file: source ID to target ID, in the order in which the pairs were entered.
///
/// No source and no target occurs twice, and there is at least one pair.
///
/// ```yaml
/// instance-mappings:
///   00000000-0000-0000-0000-001570184978: 00000000-0000-0000-0000-001570194490
/// ```
///
/// The form is the original tool's (section "The mapping configuration file" of its document).
///
/// ```
/// use pgmig_core::mapping::MappingFile;
///
/// let file = MappingFile::parse("instance-mappings:\n  old: new # renamed in March\n")?;
/// assert_eq!(file.target_of(&"old".parse()?).map(|id| id.as_str()), Some("new"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFile {
    entries: Vec<MappingEntry>,
}

/// One pair of a [`MappingFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingEntry {
    /// The instance in the archive.
    pub source: InstanceId,
    /// The instance of the target that takes its data.
    pub target: InstanceId,
}

impl MappingFile {
    /// A mapping of these pairs.
    ///
    /// # Errors
    ///
    /// All faults at once: no pairs, a source or a target that occurs twice.
    pub fn new(entries: Vec<MappingEntry>) -> Result<Self, ConfigFileError> {
        let entries = entries.into_iter().map(|entry| (None, entry)).collect();
        Self::checked(entries, Vec::new(), None)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or all faults of [`MappingFile::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigFileError> {
        Self::parse_at(&config_file::read_text(WHAT, path)?, Some(path))
    }

    /// Reads the text of a mapping file.
    ///
    /// # Errors
    ///
    /// All faults at once, each with its line: not YAML, a key other than `instance-mappings`,
    /// something that is not an ID, a source or a target that occurs twice, no pairs.
    pub fn parse(text: &str) -> Result<Self, ConfigFileError> {
        Self::parse_at(text, None)
    }

    /// The pairs, in the order in which they were entered.
    #[must_use]
    pub fn entries(&self) -> &[MappingEntry] {
        &self.entries
    }

    /// The instance that takes the data of `source`.
    #[must_use]
    pub fn target_of(&self, source: &InstanceId) -> Option<&InstanceId> {
        self.entries.iter().find(|entry| entry.source == *source).map(|entry| &entry.target)
    }

    /// The text of the file.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut text = format!("{KEY}:\n");
        for MappingEntry { source, target } in &self.entries {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "  {}: {}", scalar(source), scalar(target));
        }
        text
    }

    /// Writes the file so that at any moment there is the old file or the whole new one.
    ///
    /// A different file that is there already is kept as `<name>.bak`, in place of an older one
    /// of that name. A file with the same content is left alone.
    ///
    /// # Errors
    ///
    /// The folder or the file cannot be written; what was there before is still there.
    pub fn write_to(&self, path: &Path) -> Result<Written, WriteError> {
        let error = |source| WriteError { path: path.to_owned(), source };
        let text = self.to_yaml();
        let before = match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(error(e)),
        };
        let kept = match before {
            Some(before) if before == text.as_bytes() => return Ok(Written { kept: None }),
            Some(before) => {
                let mut name = path.as_os_str().to_owned();
                name.push(".bak");
                let kept = PathBuf::from(name);
                replace(&kept, &before).map_err(|source| WriteError { path: kept.clone(), source })?;
                Some(kept)
            }
            None => None,
        };
        replace(path, text.as_bytes()).map_err(error)?;
        Ok(Written { kept })
    }

    fn parse_at(text: &str, path: Option<&Path>) -> Result<Self, ConfigFileError> {
        let mut faults = Vec::new();
        let mut entries = Vec::new();
        match yaml::parse(text) {
            Ok(root) => read_root(root, &mut entries, &mut faults),
            Err(fault) => {
                faults.push(Fault { line: Some(fault.line), message: fault.message });
                return Err(ConfigFileError::faults_in(WHAT, path, faults));
            }
        }
        Self::checked(entries, faults, path)
    }

    fn checked(
        entries: Vec<(Option<usize>, MappingEntry)>,
        mut faults: Vec<Fault>,
        path: Option<&Path>,
    ) -> Result<Self, ConfigFileError> {
        let mut sources = HashMap::new();
        let mut targets = HashMap::new();
        for (number, (line, MappingEntry { source, target })) in entries.iter().enumerate() {
            let place = |line: &Option<usize>, number: usize| match line {
                Some(line) => format!("on line {line}"),
                None => format!("as pair {}", number + 1),
            };
            let mut fault = |message| {
                faults.push(Fault { line: *line, message });
            };
            if let Some(first) = sources.get(source) {
                fault(format!("the source `{source}` is mapped again, first {first}"));
            } else {
                sources.insert(source, place(line, number));
            }
            if let Some(first) = targets.get(target) {
                fault(format!(
                    "the target `{target}` is used again, first {first}; two instances cannot be \
                     restored into one"
                ));
            } else {
                targets.insert(target, place(line, number));
            }
        }
        if entries.is_empty() && faults.is_empty() {
            let message = "it maps nothing; write one line `SOURCE-ID: TARGET-ID` per instance \
                           under `instance-mappings:`";
            faults.push(Fault { line: None, message: message.into() });
        }
        if faults.is_empty() {
            let entries = entries.into_iter().map(|(_, entry)| entry).collect();
            Ok(Self { entries })
        } else {
            Err(ConfigFileError::faults_in(WHAT, path, faults))
        }
    }
}

/// What [`MappingFile::write_to`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where the file that was there before is now, if there was a different one.
    pub kept: Option<PathBuf>,
}

/// A mapping file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the mapping file `{}`: {source}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some("run in a folder that you can write to and that has space left".into())
    }
}

fn read_root(root: Option<Node>, entries: &mut Vec<(Option<usize>, MappingEntry)>, faults: &mut Vec<Fault>) {
    let mut fault = |line, message: String| {
        faults.push(Fault { line: Some(line), message });
    };
    let pairs = match root {
        Some(Node { value: Value::Mapping(pairs), .. }) => pairs,
        None | Some(Node { value: Value::Null, .. }) => return,
        Some(Node { line, .. }) => return fault(line, format!("expected `{KEY}:`")),
    };
    let mut first = None;
    for (key, value) in pairs {
        match &key.value {
            Value::Scalar(name) if name == KEY => {}
            Value::Scalar(name) => {
                fault(key.line, format!("unknown key{}, expected `{KEY}`", config_file::quoted_key(name)));
                continue;
            }
            _ => {
                fault(key.line, format!("expected `{KEY}:`"));
                continue;
            }
        }
        if let Some(first) = first {
            fault(key.line, format!("`{KEY}` is given again, first on line {first}"));
        }
        first.get_or_insert(key.line);
        match value.value {
            Value::Mapping(pairs) => {
                for (source, target) in pairs {
                    let line = source.line;
                    let mut id = |node: Node, what| match instance_id(node, what) {
                        Ok(id) => Some(id),
                        Err(message) => {
                            fault(line, message);
                            None
                        }
                    };
                    // Both sides are looked at, so that a line with two faults reports two.
                    let pair = (id(source, "source"), id(target, "target"));
                    if let (Some(source), Some(target)) = pair {
                        entries.push((Some(line), MappingEntry { source, target }));
                    }
                }
            }
            Value::Null => {}
            _ => fault(value.line, format!("`{KEY}` must hold one line `SOURCE-ID: TARGET-ID` per instance")),
        }
    }
}

fn instance_id(node: Node, what: &str) -> Result<InstanceId, String> {
    match node.value {
        Value::Scalar(text) => text.parse().map_err(|error| format!("the {what} is not an instance ID: {error}")),
        Value::Null => Err(format!("the {what} is missing")),
        _ => Err(format!("the {what} is not an instance ID: it is a list or a map")),
    }
}

/// The ID as a YAML scalar. Only a UUID is surely text for every reader without quotes.
fn scalar(id: &InstanceId) -> String {
    if id.uuid().is_some() {
        id.to_string()
    } else {
        // A JSON string is a YAML scalar in double quotes.
        serde_json::Value::from(id.as_str()).to_string()
    }
}

/// Puts `bytes` at `path` by one rename; synced to disk when this returns.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mapping-");
    #[cfg(unix)]
    {
        // Readable as any file that the user makes; a temporary file is private otherwise.
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "00000000-0000-0000-0000-001570184978";
    const B: &str = "00000000-0000-0000-1764-035503433645";

    fn entry(source: &str, target: &str) -> MappingEntry {
        MappingEntry { source: source.parse().expect("an ID"), target: target.parse().expect("an ID") }
    }

    #[test]
    fn reads_what_the_original_writes() {
        let file = MappingFile::parse(&format!("instance-mappings:\n  {A}: {B}\n")).expect("file");
        assert_eq!(file.entries(), [entry(A, B)]);
    }

    #[test]
    fn comments_quotes_and_order_are_as_yaml_has_them() {
        let text = format!(
            "# made by hand\ninstance-mappings:   # below\n\n  'z': \"{B}\"   # one\n  {A}:\n    \
             20240101\n  \"a: b\": 0x1F\n"
        );
        let file = MappingFile::parse(&text).expect("file");
        let expected = [entry("z", B), entry(A, "20240101"), entry("a: b", "0x1F")];
        assert_eq!(file.entries(), expected);
        assert_eq!(file.target_of(&A.parse().expect("an ID")).expect("target").as_str(), "20240101");
        let flow = MappingFile::parse("{instance-mappings: {b: c, a: d}}").expect("file");
        assert_eq!(flow.entries(), [entry("b", "c"), entry("a", "d")]);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text = format!(
            "instance-mappings:\n  {A}: {B}\n  {}: new\n  x: {B}\n  y:\n  z: [1]\n  '': ''\nother: 1\n",
            A.to_uppercase()
        );
        let error = MappingFile::parse(&text).expect_err("faults");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot use the mapping file, it has 7 faults:\n  \
                 line 3: the source `{A}` is mapped again, first on line 2\n  \
                 line 4: the target `{B}` is used again, first on line 2; two instances cannot be \
                 restored into one\n  \
                 line 5: the target is missing\n  \
                 line 6: the target is not an instance ID: it is a list or a map\n  \
                 line 7: the source is not an instance ID: an instance ID cannot be empty\n  \
                 line 7: the target is not an instance ID: an instance ID cannot be empty\n  \
                 line 8: unknown key `other`, expected `instance-mappings`"
            )
            .replace(&A.to_uppercase(), A)
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn an_uppercase_uuid_is_the_same_source() {
        let a = "e10001eb-6272-453a-bb43-3dcf0e765892";
        let text = format!("instance-mappings:\n  {a}: x\n  {}: y\n", a.to_uppercase());
        let error = MappingFile::parse(&text).expect_err("faults");
        assert_eq!(error.faults()[0].line, Some(3));
    }

    #[test]
    fn a_file_that_maps_nothing_is_a_fault() {
        for text in ["", "# nothing\n", "instance-mappings:\n", "instance-mappings: {}\n"] {
            let error = MappingFile::parse(text).expect_err(text).to_string();
            assert!(error.starts_with("cannot use the mapping file: it maps nothing"), "{error}");
        }
        for text in ["a\n", "- a\n", "instance-mappings: a\n", "instance-mappings:\n- a: b\n"] {
            assert_eq!(MappingFile::parse(text).expect_err(text).faults().len(), 1, "{text}");
        }
    }

    #[test]
    fn pairs_from_prompts_are_checked_too() {
        let error = MappingFile::new(vec![entry("a", "b"), entry("c", "b")]).expect_err("fault");
        assert!(error.to_string().contains("first as pair 1"), "{error}");
        assert!(MappingFile::new(Vec::new()).is_err());
    }

    #[test]
    fn writing_keeps_a_different_file_and_leaves_an_equal_one_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("enteredMapping.yaml");
        let kept = folder.path().join("enteredMapping.yaml.bak");
        let one = MappingFile::new(vec![entry("b", A), entry("a", B)]).expect("mapping");
        let two = MappingFile::new(vec![entry("a", B)]).expect("mapping");

        assert_eq!(one.write_to(&path).expect("write"), Written { kept: None });
        assert_eq!(one.write_to(&path).expect("write"), Written { kept: None });
        assert!(!kept.exists());
        assert_eq!(two.write_to(&path).expect("write"), Written { kept: Some(kept.clone()) });

        assert_eq!(MappingFile::load(&path).expect("load"), two);
        assert_eq!(MappingFile::load(&kept).expect("load"), one);
        let names = fs::read_dir(folder.path()).expect("folder").count();
        assert_eq!(names, 2, "no temporary file stays behind");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let ours = fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
            let plain = folder.path().join("plain");
            fs::File::create(&plain).expect("create");
            let usual = fs::metadata(&plain).expect("metadata").permissions().mode() & 0o777;
            assert_eq!(ours, usual);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let mapping = MappingFile::new(vec![entry("a", "b")]).expect("mapping");
        let error = mapping.write_to(Path::new("/nowhere/m.yaml")).expect_err("no folder");
        assert!(error.to_string().starts_with("cannot write the mapping file `/nowhere/m.yaml`: "));
        assert!(error.hint().is_some());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_in_order(
            ids in proptest::collection::hash_set("[^\\p{Cc}]{1,40}|[0-9eE.+-]{1,12}|true|null|~|<<", 2..12)
        ) {
            let ids: Vec<InstanceId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
            let ids: Vec<_> = {
                let mut seen = std::collections::HashSet::new();
                ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
            };
            let entries: Vec<_> = ids
                .chunks_exact(2)
                .map(|pair| MappingEntry { source: pair[0].clone(), target: pair[1].clone() })
                .collect();
            prop_assume!(!entries.is_empty());
            let file = MappingFile::new(entries).expect("distinct");
            prop_assert_eq!(MappingFile::parse(&file.to_yaml()).expect("reads back"), file);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}|(instance-mappings:|[-a{}\\[\\]:,&*!|>'\"#\n ]){0,40}") {
            let _ = MappingFile::parse(&text);
        }
    }
}
