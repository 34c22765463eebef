//! A YAML document as a tree with line numbers, every scalar as the text that was written.
//!
//! Reading straight into structs would stop at the first fault, drop one of two equal keys and
//! guess the type of a scalar. Our files are small and written by hand: they are better served by
//! a tree from which every fault is reported at once, with its line, and in which an ID made of
//! digits stays text.

use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, ScanError};

/// A value and where it starts.
#[derive(Debug)]
pub struct Node {
    /// The line, counted from 1.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Debug)]
pub enum Value {
    /// None, or a plain `~` or `null`.
    Null,
    /// Text as it was written, without its quotes.
    Scalar(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Pairs in the order of the file; keys can repeat.
    Mapping(Vec<(Node, Node)>),
}

/// Why a text is not a YAML document that we read. Never quotes the document.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line it is on, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// The only document of `text`, or `None` if there is none.
///
/// # Errors
///
/// It is not YAML, or has what our files do not need: aliases, or a second document.
pub fn parse(text: &str) -> Result<Option<Node>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! { emit_comments: false };
    let mut root = None;
    let mut documents = 0;
    // Collections that are not closed yet. An own stack, not recursion; the parser limits nesting.
    let mut open: Vec<Node> = Vec::new();
    // For each open mapping, the key that waits for its value.
    let mut keys: Vec<Option<Node>> = Vec::new();

    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| fault(&error))?;
        let line = span.start.line();
        let done = match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(Fault {
                        line,
                        message: "a second document starts here; the file must hold one".into(),
                    });
                }
                continue;
            }
            Event::Alias(..) | Event::UnresolvedAlias(..) => {
                return Err(Fault {
                    line,
                    message: "aliases are not supported here; write the value out, or put it in \
                              quotes if it starts with `*`"
                        .into(),
                });
            }
            Event::Scalar(text, style, _, tag) => {
                let is_null = style == ScalarStyle::Plain
                    && tag.is_none()
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Value::Null } else { Value::Scalar(text.into_owned()) };
                Node { line, value }
            }
            Event::SequenceStart(..) => {
                open.push(Node { line, value: Value::Sequence(Vec::new()) });
                keys.push(None);
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Node { line, value: Value::Mapping(Vec::new()) });
                keys.push(None);
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                keys.pop();
                match open.pop() {
                    Some(node) => node,
                    None => continue,
                }
            }
            _ => continue,
        };
        match (open.last_mut(), keys.last_mut()) {
            (Some(Node { value: Value::Sequence(items), .. }), _) => items.push(done),
            (Some(Node { value: Value::Mapping(pairs), .. }), Some(key)) => match key.take() {
                Some(key) => pairs.push((key, done)),
                None => *key = Some(done),
            },
            _ => root = Some(done),
        }
    }
    Ok(root)
}

fn fault(error: &ScanError) -> Fault {
    // The parser's message is a fixed phrase, at most with one character of the document.
    Fault { line: error.marker().line(), message: format!("not YAML: {}", error.info()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line: enough to compare.
    fn shape(node: &Node) -> String {
        let line = node.line;
        match &node.value {
            Value::Null => format!("{line}:null"),
            Value::Scalar(text) => format!("{line}:{text:?}"),
            Value::Sequence(items) => {
                let items: Vec<_> = items.iter().map(shape).collect();
                format!("{line}:[{}]", items.join(", "))
            }
            Value::Mapping(pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{} => {}", shape(k), shape(v))).collect();
                format!("{line}:{{{}}}", pairs.join(", "))
            }
        }
    }

    fn shape_of(text: &str) -> String {
        parse(text).expect("YAML").as_ref().map_or_else(|| "none".into(), shape)
    }

    #[test]
    fn scalars_keep_their_text_and_null_is_only_what_is_plain() {
        assert_eq!(
            shape_of("a: 007\nb: '~'\nc: ~\nd:\ne: !!str null\nf: 1e3 # why\n"),
            r#"1:{1:"a" => 1:"007", 2:"b" => 2:"~", 3:"c" => 3:null, 4:"d" => 4:null, 5:"e" => 5:"null", 6:"f" => 6:"1e3"}"#
        );
    }

    #[test]
    fn equal_keys_are_both_there_and_nesting_closes_in_order() {
        assert_eq!(
            shape_of("\u{feff}---\nx:\n  - {a: [1, 2], a: {}}\n  - []\ny: z\n"),
            r#"2:{2:"x" => 3:[3:{3:"a" => 3:[3:"1", 3:"2"], 3:"a" => 3:{}}, 4:[]], 5:"y" => 5:"z"}"#
        );
    }

    #[test]
    fn nothing_is_no_document() {
        assert_eq!(shape_of(""), "none");
        assert_eq!(shape_of("# only a comment\n"), "none");
    }

    #[test]
    fn many_comment_lines_are_not_too_many() {
        let text = format!("{}a: b\n", "# comment\n".repeat(500));
        assert_eq!(shape_of(&text), r#"501:{501:"a" => 501:"b"}"#);
    }

    #[test]
    fn faults_have_a_line_and_do_not_quote_the_document() {
        for (text, line) in [
            ("a: b\nc: \"secret\n", 3),
            ("a: *secret\n", 1),
            ("a: &x 1\nb: *x\n", 2),
            ("a: b\n---\nsecret: d\n", 2),
            ("a: [secret\n", 1),
        ] {
            let fault = parse(text).expect_err(text);
            assert_eq!(fault.line, line, "{fault:?}");
            assert!(!fault.message.contains("secret"), "{fault:?}");
        }
    }

    #[test]
    fn deep_nesting_is_a_fault_and_not_a_crash() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(100_000)).is_err());
    }
}
