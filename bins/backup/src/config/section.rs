//! One section of the configuration, its values taken out one by one; faults add up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use pgmig_core::config_file::{Fault, list, quoted_key, relative_to};
use pgmig_core::yaml::{Node, Value};
use secrecy::{ExposeSecret as _, SecretString};

/// More than any value in a file of its own takes.
const MAX_VALUE_BYTES: u64 = 1 << 20;

/// Where values come from that are not in the file itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    /// The folder of the configuration, where relative paths start.
    pub(crate) folder: Option<PathBuf>,
    /// The environment variables of this process.
    pub(crate) environment: BTreeMap<OsString, OsString>,
    /// Those that values of the configuration come from.
    pub(crate) named: Vec<OsString>,
}

/// The keys and values of one section.
///
/// The value of each key `K` can be written under it, or be told to come from elsewhere: from the file that `K-file` names, or
/// from the environment variable that `K-env` names.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    /// Such as "the source `store`".
    name: String,
    line: usize,
    entries: Vec<Entry<'a>>,
    outside: &'a Outside,
    asked: Vec<&'static str>,
    faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    key: &'a str,
    /// That of the key: a value can be on a later one.
    line: usize,
    value: &'a Value,
}

impl<'a> Section<'a> {
    /// `line` is where it begins.
    pub(crate) fn of(name: String, line: usize, value: &'a Value, outside: &'a Outside) -> Self {
        let mut section = Self { name, line, entries: Vec::new(), outside, asked: Vec::new(), faults: Vec::new() };
        match value {
            Value::Mapping(pairs) => pairs.iter().for_each(|(key, value)| section.add(key, value)),
            _ => section.fault(line, "must be a map of keys and values"),
        }
        section
    }

    fn add(&mut self, key: &'a Node, value: &'a Node) {
        let Value::Scalar(text) = &key.value else {
            return self.fault(key.line, "has a key that is no text");
        };
        match self.entries.iter().find(|entry| entry.key == text) {
            Some(Entry { line, .. }) => {
                let message = format!("{} is given again, first on line {line}", quoted_key(text).trim_start());
                self.fault(key.line, message);
            }
            None => self.entries.push(Entry { key: text, line: key.line, value: &value.value }),
        }
    }

    /// A fault of this section.
    pub(crate) fn fault(&mut self, line: usize, message: impl AsRef<str>) {
        let message = format!("{}: {}", self.name, message.as_ref());
        self.faults.push(Fault { line: Some(line), message });
    }

    fn entry(&mut self, key: &str) -> Option<Entry<'a>> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.swap_remove(index))
    }

    /// The text of `key` with its line, wherever it comes from. It may be a secret: no fault quotes it.
    fn value(&mut self, key: &'static str) -> Option<(usize, SecretString)> {
        self.asked.push(key);
        let given: Vec<_> = ["", "-env", "-file"]
            .into_iter()
            .filter_map(|suffix| self.entry(&format!("{key}{suffix}")).map(|entry| (suffix, entry)))
            .collect();
        if let [_, (_, second), ..] = given[..] {
            let line = second.line;
            self.fault(line, format!("only one of `{key}`, `{key}-env`, `{key}-file` can be given"));
        }
        let (suffix, entry) = *given.first()?;
        let text = match entry.value {
            Value::Null => return None,
            Value::Scalar(text) => text,
            _ => {
                self.fault(entry.line, format!("`{key}{suffix}` must be text, not a list or a map"));
                return None;
            }
        };
        let outside = match suffix {
            "-env" => self.read_variable(text).map_err(|why| format!("`{key}-env`: {why}")),
            "-file" => self.read_file(text).map_err(|why| format!("`{key}-file`: {why}")),
            _ => Ok(text.clone()),
        };
        match outside {
            Ok(text) => Some((entry.line, text.into())),
            Err(message) => {
                self.fault(entry.line, message);
                None
            }
        }
    }

    fn read_variable(&self, name: &str) -> Result<String, String> {
        let value = self.outside.environment.get(&OsString::from(name)).ok_or_else(|| match quoted_key(name) {
            name if name.is_empty() => "there is no such environment variable".to_owned(),
            name => format!("the environment variable{name} is not set"),
        })?;
        value.clone().into_string().map_err(|_| "the environment variable is not UTF-8 text".to_owned())
    }

    fn read_file(&self, path: &str) -> Result<String, String> {
        let path = relative_to(self.outside.folder.as_deref(), path);
        read_value(&path).map_err(|why| format!("cannot read `{}`: {why}", path.display()))
    }

    /// The text of `key` and its line; empty is a fault.
    pub(crate) fn text_at(&mut self, key: &'static str) -> Option<(usize, String)> {
        let (line, value) = self.value(key)?;
        match value.expose_secret().trim() {
            "" => {
                self.fault(line, format!("`{key}` is empty"));
                None
            }
            text => Some((line, text.to_owned())),
        }
    }

    /// The text of `key`; empty is a fault.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        self.text_at(key).map(|(_, text)| text)
    }

    /// The text of `key`, which has to be there, and its line.
    pub(crate) fn required_text_at(&mut self, key: &'static str) -> Option<(usize, String)> {
        self.required(key, |section| section.text_at(key))
    }

    /// The text of `key`, which has to be there.
    pub(crate) fn required_text(&mut self, key: &'static str) -> Option<String> {
        self.required(key, |section| section.text(key))
    }

    fn required<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.faults.len();
        let value = read(self);
        if value.is_none() && self.faults.len() == before {
            self.fault(self.line, format!("`{key}` is missing"));
        }
        value
    }

    /// A secret and its line: white space is kept, since it can belong to a password. Empty is a fault, as what was to be in a file or an
    /// environment variable can be.
    pub(crate) fn secret_at(&mut self, key: &'static str) -> Option<(usize, SecretString)> {
        let (line, secret) = self.value(key)?;
        if secret.expose_secret().trim().is_empty() {
            self.fault(line, format!("`{key}` is empty"));
            return None;
        }
        Some((line, secret))
    }

    /// A secret; see [`secret_at`](Self::secret_at).
    pub(crate) fn secret(&mut self, key: &'static str) -> Option<SecretString> {
        self.secret_at(key).map(|(_, secret)| secret)
    }

    /// A secret that has to be there.
    pub(crate) fn required_secret(&mut self, key: &'static str) -> Option<SecretString> {
        self.required(key, |section| section.secret(key))
    }

    /// A path; a relative one starts at the folder of the configuration.
    pub(crate) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(|path| relative_to(self.outside.folder.as_deref(), &path))
    }

    /// A program: a name that is looked for in `PATH`, or a path.
    pub(crate) fn program(&mut self, key: &'static str) -> Option<PathBuf> {
        let program = self.text(key)?;
        let folder = self.outside.folder.as_deref().filter(|_| program.contains('/'));
        Some(relative_to(folder, &program))
    }

    /// A path that has to be there.
    pub(crate) fn required_path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.required(key, |section| section.path(key))
    }

    /// The content of the file that `key` names.
    pub(crate) fn content(&mut self, key: &'static str) -> Option<Vec<u8>> {
        let (line, path) = self.text_at(key)?;
        let path = relative_to(self.outside.folder.as_deref(), &path);
        let content = read_value(&path);
        let told = content.map_err(|why| self.fault(line, format!("`{key}`: cannot read `{}`: {why}", path.display())));
        told.ok().map(String::into_bytes)
    }

    /// A value that is read from its text; `expected` says of what form that is.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (line, text) = self.text_at(key)?;
        let value = parse(&text);
        if value.is_none() {
            self.fault(line, format!("`{key}` must be {expected}"));
        }
        value
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.parsed(key, "`true` or `false`", |text| text.parse().ok())
    }

    /// A list of texts, with their lines; one text is a list of one.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<(usize, String)>> {
        let is_list = |entry: &Entry<'_>| entry.key == key && matches!(entry.value, Value::Sequence(_));
        if !self.entries.iter().any(is_list) {
            return self.text_at(key).map(|text| vec![text]);
        }
        self.asked.push(key);
        let entry = self.entry(key)?;
        let Value::Sequence(items) = entry.value else { return None };
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                Value::Scalar(text) if !text.trim().is_empty() => texts.push((item.line, text.trim().to_owned())),
                _ => self.fault(item.line, format!("`{key}` must be a list of texts")),
            }
        }
        if items.is_empty() {
            self.fault(entry.line, format!("`{key}` is empty"));
        }
        Some(texts)
    }

    /// A section within this one.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        self.asked.push(key);
        let Entry { line, value, .. } = self.entry(key)?;
        // An empty one is a fault too: backups must not be plain since somebody has forgotten the rest.
        Some(Section::of(format!("`{key}` of {}", self.name), line, value, self.outside))
    }

    /// Whether something is wrong with it already.
    pub(crate) fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }

    /// The line that it begins on.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The environment variables that values of the configuration come from, here or elsewhere in it.
    pub(crate) fn named_variables(&self) -> &[OsString] {
        &self.outside.named
    }

    /// The value of `type`, one of `kinds`. With another one nobody can tell which keys there may be.
    pub(crate) fn kind(mut self, kinds: &[&'static str]) -> Result<(Self, &'static str), Vec<Fault>> {
        let expected = list(kinds);
        match self.text_at("type") {
            Some((line, text)) => match kinds.iter().find(|kind| **kind == text) {
                Some(kind) => return Ok((self, kind)),
                None => self.fault(line, format!("`type` must be one of {expected}")),
            },
            None if self.faults.is_empty() => self.fault(self.line, format!("`type` is missing, one of {expected}")),
            None => {}
        }
        Err(self.faults)
    }

    /// What was wrong with it. Whatever nobody has asked for is.
    pub(crate) fn into_faults(mut self) -> Vec<Fault> {
        self.asked.sort_unstable();
        self.asked.dedup();
        let known = list(&self.asked);
        for Entry { key, line, .. } in std::mem::take(&mut self.entries) {
            self.fault(line, format!("unknown key{}; known are {known}", quoted_key(key)));
        }
        self.faults
    }

    /// The value made of it, if nothing was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        let name = format!("{} cannot be used", self.name);
        let line = self.line;
        let faults = self.into_faults();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            None if faults.is_empty() => Err(vec![Fault { line: Some(line), message: name }]),
            _ => Err(faults),
        }
    }

    /// The value made of what was asked for, whatever else there is.
    pub(crate) fn finish_unread<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        value.filter(|_| self.faults.is_empty()).ok_or(self.faults)
    }

    /// Takes over what is wrong with a section within this one.
    pub(crate) fn take<T>(&mut self, result: Result<T, Vec<Fault>>) -> Option<T> {
        result.map_err(|faults| self.faults.extend(faults)).ok()
    }
}

/// The content of a file that holds one value, without the end of its line.
fn read_value(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    // Not by its length: it may be a pipe or a device.
    let read = fs::File::open(path).and_then(|file| file.take(MAX_VALUE_BYTES + 1).read_to_string(&mut text));
    if read.map_err(|e| e.to_string())? as u64 > MAX_VALUE_BYTES {
        return Err(format!("it has more than {MAX_VALUE_BYTES} bytes, which no value has"));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
