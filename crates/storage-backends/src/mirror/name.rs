//! Which file an object of a bucket becomes in a folder, and which object a file is.
//!
//! The rules are for users too: they stand in the documentation of [`mirror`](super).

use std::fmt::Write as _;

/// The folder that holds what is ours, in the folder that is mirrored.
pub(crate) const OWN: &str = ".mirror";
/// What most file systems allow for a name.
const MAX_NAME_BYTES: usize = 255;
/// The name of nothing: that between two slashes, behind the last or before the first.
const EMPTY: &str = "%empty";
/// Behind the name of a file whose own name is that of a folder.
const OBJECT: &str = "%object";
/// Behind a piece of a name that is too long: a folder with the rest of it.
const MORE: &str = "%more";

/// The path of an object, relative and with nothing in it that leads anywhere else. `beside_folder` is for an object
/// whose name is that of a folder as well.
pub(crate) fn path_of(key: &str, beside_folder: bool) -> String {
    let mut path = String::with_capacity(key.len() + 8);
    let last = key.matches('/').count();
    for (index, part) in key.split('/').enumerate() {
        if index > 0 {
            path.push('/');
        }
        let suffix = if beside_folder && index == last { OBJECT } else { "" };
        path.push_str(&split(format!("{}{suffix}", escaped(part, index == 0))));
    }
    path
}

/// What a name of [`path_of`] stands for: the part of a key, and whether that is an object beside its folder. Such a name
/// is that of a file, or of a folder; where it was too long, a path. `None` for every other name.
pub(super) fn part_of(name: &str, is_first: bool) -> Option<(String, bool)> {
    let mut whole = String::with_capacity(name.len());
    let mut pieces = name.split('/').peekable();
    while let Some(piece) = pieces.next() {
        whole.push_str(if pieces.peek().is_some() { piece.strip_suffix(MORE)? } else { piece });
    }
    let (text, beside_folder) = whole.strip_suffix(OBJECT).map_or((whole.as_str(), false), |text| (text, true));
    let part = if text == EMPTY { String::new() } else { unescaped(text)? };
    // There is one name for each part, so that two files are never the same object.
    let suffix = if beside_folder { OBJECT } else { "" };
    let is_ours = split(format!("{}{suffix}", escaped(&part, is_first))) == name;
    is_ours.then_some((part, beside_folder))
}

/// Whether the folder of this name holds the rest of names that are too long.
pub(super) fn goes_on(name: &str) -> bool {
    name.ends_with(MORE)
}

fn escaped(part: &str, is_first: bool) -> String {
    match part {
        "" => EMPTY.into(),
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        OWN if is_first => format!("%2E{}", &OWN[1..]),
        _ => {
            let mut name = String::with_capacity(part.len());
            for c in part.chars() {
                if c == '%' || c.is_ascii_control() {
                    let _ = write!(name, "%{:02X}", u32::from(c));
                } else {
                    name.push(c);
                }
            }
            name
        }
    }
}

fn unescaped(name: &str) -> Option<String> {
    let mut pieces = name.split('%');
    let mut part = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = u8::from_str_radix(piece.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        part.push(char::from(code));
        part.push_str(&piece[2..]);
    }
    Some(part)
}

/// The name, or the path of one that is too long.
fn split(name: String) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let (mut path, mut rest) = (String::with_capacity(name.len() + 24), name.as_str());
    while rest.len() > MAX_NAME_BYTES {
        let mut end = MAX_NAME_BYTES - MORE.len();
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        // What begins with a percent sign stays together.
        if let Some(at) = rest[..end].rfind('%') {
            let length = if rest[at..].starts_with(OBJECT) { OBJECT.len() } else { 3 };
            if at + length > end {
                end = at;
            }
        }
        path.push_str(&rest[..end]);
        path.push_str(MORE);
        path.push('/');
        rest = &rest[end..];
    }
    path.push_str(rest);
    path
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// The key of a path, by [`part_of`] alone.
    fn key_of(path: &str) -> Option<(String, bool)> {
        let (mut key, mut name, mut is_first, mut last) = (String::new(), String::new(), true, false);
        for piece in path.split('/') {
            name.push_str(piece);
            if goes_on(piece) {
                name.push('/');
                continue;
            }
            let (part, beside_folder) = part_of(&name, is_first)?;
            // No folder has such a name.
            if last {
                return None;
            }
            if !is_first {
                key.push('/');
            }
            key.push_str(&part);
            (is_first, last) = (false, beside_folder);
            name.clear();
        }
        // What goes on has to end.
        name.is_empty().then_some((key, last))
    }

    #[test]
    fn an_ordinary_key_is_its_own_path() {
        for key in ["a", "a b/c.d", "\u{e4}/\u{1f980}", ".hidden", "...", "a/.mirror", "~", "a\\b", "-", ".staging-1"] {
            assert_eq!(path_of(key, false), key);
        }
    }

    #[test]
    fn a_key_that_is_no_path_has_one_all_the_same() {
        let x = |n| "x".repeat(n);
        for (key, path) in [
            ("", "%empty"),
            ("/", "%empty/%empty"),
            ("folder/", "folder/%empty"),
            ("/a", "%empty/a"),
            ("a//b", "a/%empty/b"),
            ("../.", "%2E%2E/%2E"),
            ("100%", "100%25"),
            ("%empty", "%25empty"),
            ("a%object", "a%25object"),
            (".mirror/index", "%2Emirror/index"),
            ("line\nfeed\0\x7f", "line%0Afeed%00%7F"),
            (&x(255), &x(255)),
            (&x(256), &format!("{}%more/{}", x(250), x(6))),
            (&format!("{}%%", x(249)), &format!("{}%25%25", x(249))),
            (&format!("{}%%%", x(249)), &format!("{}%more/%25%25%25", x(249))),
            (&format!("{}\u{1f980}{}", x(248), x(9)), &format!("{}%more/\u{1f980}{}", x(248), x(9))),
        ] {
            assert_eq!(path_of(key, false), path);
            assert_eq!(key_of(path), Some((key.to_owned(), false)));
        }
        assert_eq!(path_of("a/b", true), "a/b%object");
        assert_eq!(path_of("a/", true), "a/%empty%object");
        assert_eq!(path_of(&x(250), true), format!("{}%more/%object", x(250)));
    }

    #[test]
    fn other_names_are_no_keys() {
        for path in [
            "100%",
            "%2e",
            "%41",
            "%2Ex",
            "a/%2Emirror",
            ".mirror",
            "%",
            "%1",
            "%FF",
            "%\u{e4}",
            "x%more/y",
            "%more/x",
            "%25empty%",
            "%empty%empty",
            "%object%object",
            "a%object%object",
            "%object",
            ".",
            "..",
            "a%2F",
        ] {
            assert_eq!(key_of(path), None, "{path}");
        }
    }

    fn keys() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => "[a%.]{0,3}",
            2 => Just(".mirror".to_owned()),
            1 => "(%empty|%object|%more|%2E|%25|%00|\\.\\.?){0,2}",
            1 => "[a-z%\\x00-\\x1f\u{e4}\u{1f980}]{120,300}",
            1 => "x{240,260}(%|\u{1f980}|%object|%more)?x{0,20}",
            1 => "\\PC{0,8}",
        ];
        proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
    }

    proptest! {
        #[test]
        fn every_key_has_paths_of_its_own(keys in proptest::collection::vec(keys(), 1..10)) {
            let mut of_paths = HashMap::new();
            for key in &keys {
                for beside_folder in [false, true] {
                    let path = path_of(key, beside_folder);
                    prop_assert_eq!(key_of(&path), Some((key.clone(), beside_folder)));
                    prop_assert_eq!(of_paths.entry(path.clone()).or_insert(key), &key);
                    // It leads nowhere else, and is not ours.
                    for (index, name) in path.split('/').enumerate() {
                        prop_assert!(!matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES, "{:?}", path);
                        prop_assert!(!name.contains('\0') && (index > 0 || name != OWN));
                    }
                    // What goes on is a folder, never a file.
                    prop_assert!(!goes_on(path.rsplit('/').next().unwrap()));
                }
            }
        }

        #[test]
        fn a_path_is_that_of_one_key_at_most(path in "[a%./]{0,12}|(%empty|%object|%more|%2E|%25|/|a|x{250}|\\.){0,6}") {
            if let Some((key, beside_folder)) = key_of(&path) {
                prop_assert_eq!(path_of(&key, beside_folder), path);
            }
        }
    }
}
