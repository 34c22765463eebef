//! What reading one of our YAML files can report: every fault at once, each with its line.
//!
//! No message ever quotes a value: a token pasted on the wrong line must not end up in a log.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::yaml::{self, Node, Value};

/// The largest file that is read, in bytes. Ours are a few hundred.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Why a file cannot be used.
#[derive(Debug)]
pub struct ConfigFileError {
    what: &'static str,
    path: Option<PathBuf>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Read(io::Error),
    Faults(Vec<Fault>),
}

/// One fault in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line it is on, counted from 1; `None` for something that is missing.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl ConfigFileError {
    pub(crate) fn read(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self { what, path: Some(path.to_owned()), problem: Problem::Read(error) }
    }

    /// Faults in the file at `path`, or in a text; `what` says what it should be, as in "target configuration".
    // In the order of the file, what is missing last.
    pub fn faults_in(what: &'static str, path: Option<&Path>, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        Self { what, path: path.map(Path::to_owned), problem: Problem::Faults(faults) }
    }

    /// The faults of the content; none if the file could not be read at all.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        match &self.problem {
            Problem::Read(_) => &[],
            Problem::Faults(faults) => faults,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match &self.problem {
            Problem::Read(error) => match error.kind() {
                io::ErrorKind::NotFound => {
                    Some("check the path; a relative one starts at the current directory".into())
                }
                io::ErrorKind::PermissionDenied => Some("make the file readable for the user that runs this".into()),
                _ => None,
            },
            Problem::Faults(_) => Some("correct the file and run the same command again".into()),
        }
    }
}

impl fmt::Display for ConfigFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use the {}", self.what)?;
        if let Some(path) = &self.path {
            write!(f, " `{}`", path.display())?;
        }
        match &self.problem {
            Problem::Read(error) => write!(f, ": {error}"),
            Problem::Faults(faults) => match faults.as_slice() {
                [fault] => write!(f, ": {fault}"),
                faults => {
                    write!(f, ", it has {} faults:", faults.len())?;
                    faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
                }
            },
        }
    }
}

impl std::error::Error for ConfigFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // A read error is told in the message already.
        None
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// The text of the file at `path`; `what` says what it should be, as in "target configuration".
///
/// # Errors
///
/// It cannot be read, is no text, or is larger than any such file.
pub fn read_text(what: &'static str, path: &Path) -> Result<String, ConfigFileError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| ConfigFileError::read(what, path, error))?;
    let fault = |message: String| ConfigFileError::faults_in(what, Some(path), vec![Fault { line: None, message }]);
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fault(format!("it is larger than {} MiB, is it the right file", MAX_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        fault(format!("it is not UTF-8 text (at byte {offset}), is it the right file"))
    })
}

/// The keys and values at the top of a file, taken out one by one; faults add up.
pub(crate) struct Fields {
    entries: Vec<(String, Node)>,
    pub(crate) faults: Vec<Fault>,
    is_readable: bool,
}

impl Fields {
    /// `known` are the keys that the file may have.
    pub(crate) fn parse(text: &str, known: &[&str]) -> Self {
        let mut fields = Self { entries: Vec::new(), faults: Vec::new(), is_readable: false };
        let expected = || format!("expected `key: value` lines with the keys {}", list(known));
        let pairs = match yaml::parse(text) {
            Ok(Some(Node { value: Value::Mapping(pairs), .. })) => pairs,
            Ok(None | Some(Node { value: Value::Null, .. })) => {
                fields.fault(None, format!("the file is empty; {}", expected()));
                return fields;
            }
            Ok(Some(Node { line, .. })) => {
                fields.fault(Some(line), expected());
                return fields;
            }
            Err(fault) => {
                fields.fault(Some(fault.line), fault.message);
                return fields;
            }
        };
        fields.is_readable = true;
        for (key, value) in pairs {
            let line = key.line;
            let Value::Scalar(key) = key.value else {
                fields.fault(Some(line), expected());
                continue;
            };
            if !known.contains(&key.as_str()) {
                let key = quoted_key(&key);
                fields.fault(Some(line), format!("unknown key{key}; known are {}", list(known)));
            } else if let Some((_, first)) = fields.entries.iter().find(|(name, _)| *name == key) {
                let message = format!("`{key}` is given again, first on line {}", first.line);
                fields.fault(Some(line), message);
            } else {
                // The key's line: a value below its key would mislead in "first on line".
                fields.entries.push((key, Node { line, value: value.value }));
            }
        }
        fields
    }

    pub(crate) fn fault(&mut self, line: Option<usize>, message: impl Into<String>) {
        self.faults.push(Fault { line, message: message.into() });
    }

    /// False if the file could not be taken apart, so that nothing more can be said about it.
    pub(crate) fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// The value of `key`, if it is given and not null.
    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        let index = self.entries.iter().position(|(name, _)| name == key)?;
        let (_, node) = self.entries.swap_remove(index);
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The text of `key` and its line; white space around it is dropped, and empty is a fault.
    pub(crate) fn text(&mut self, key: &str) -> Option<(usize, String)> {
        let node = self.take(key)?;
        match node.value {
            Value::Scalar(text) if !text.trim().is_empty() => Some((node.line, text.trim().to_owned())),
            Value::Scalar(_) => {
                self.fault(Some(node.line), format!("`{key}` is empty"));
                None
            }
            _ => {
                self.fault(Some(node.line), format!("`{key}` must be text, not a list or a map"));
                None
            }
        }
    }

    /// Like [`Fields::text`]; a key that is missing or null is a fault too.
    pub(crate) fn required_text(&mut self, key: &str) -> Option<(usize, String)> {
        let faults = self.faults.len();
        let text = self.text(key);
        if text.is_none() && self.faults.len() == faults {
            self.fault(None, format!("`{key}` is missing"));
        }
        text
    }

    /// A secret: white space is kept, since it can belong to a password.
    pub(crate) fn secret(&mut self, key: &str) -> Option<SecretString> {
        let node = self.take(key)?;
        match node.value {
            Value::Scalar(text) => Some(text.into()),
            _ => {
                self.fault(Some(node.line), format!("`{key}` must be text, not a list or a map"));
                None
            }
        }
    }

    /// A TCP port, as a number or as text.
    pub(crate) fn port(&mut self, key: &str) -> Option<u16> {
        let (line, text) = self.text(key)?;
        match text.parse() {
            Ok(port) if port != 0 => Some(port),
            _ => {
                self.fault(Some(line), format!("`{key}` must be a number from 1 to 65535"));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &str) -> Option<bool> {
        let (line, text) = self.text(key)?;
        match text.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.fault(Some(line), format!("`{key}` must be `true` or `false`"));
                None
            }
        }
    }
}

/// A blank and the key in backticks, if it is short and plain enough to be a mistyped key; nothing if
/// it could be a secret.
#[must_use]
pub fn quoted_key(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if key.len() <= 32 && key.chars().all(plain) { format!(" `{key}`") } else { String::new() }
}

/// `keys` in backticks, with commas; `none` if there is none.
#[must_use]
pub fn list(keys: &[&str]) -> String {
    if keys.is_empty() {
        return "none".to_owned();
    }
    let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    keys.join(", ")
}

/// `path` as a file in `folder` names it.
#[must_use]
pub fn relative_to(folder: Option<&Path>, path: &str) -> PathBuf {
    folder.map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_quoted_and_a_key_only_if_it_looks_like_one() {
        let text = "hosst: secret\neyJhbGciOiJSUzI1NiJ9eyJhbGciOiJSUzI1NiJ9: secret\na: [secret]\n";
        let mut fields = Fields::parse(text, &["host", "a"]);
        assert_eq!(fields.text("a"), None);
        let error = ConfigFileError::faults_in("test file", None, fields.faults);
        assert_eq!(
            error.to_string(),
            "cannot use the test file, it has 3 faults:\n  \
             line 1: unknown key `hosst`; known are `host`, `a`\n  \
             line 2: unknown key; known are `host`, `a`\n  \
             line 3: `a` must be text, not a list or a map"
        );
    }

    #[test]
    fn a_key_given_twice_is_a_fault() {
        let fields = Fields::parse("a: 1\nb: 2\na: 3\n", &["a", "b"]);
        assert_eq!(fields.faults[0].to_string(), "line 3: `a` is given again, first on line 1");
    }

    #[test]
    fn a_file_that_is_not_there_says_so() {
        let error = read_text("test file", Path::new("/nowhere/x.yaml")).unwrap_err();
        assert!(error.to_string().starts_with("cannot use the test file `/nowhere/x.yaml`: No such file"), "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_file_that_is_not_text_says_so() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x");
        std::fs::write(&path, b"PGDMP\x01\x0e\xff").expect("write");
        let error = read_text("test file", &path).unwrap_err().to_string();
        assert!(error.ends_with("it is not UTF-8 text (at byte 7), is it the right file"), "{error}");
    }
}
