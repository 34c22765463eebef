use std::io::{self, Read, Write};

use dumpfmt::plain::{Item, PlainTable, PlainVerifier, ScriptReader};
use dumpfmt::{Error, VerifyOptions};

use crate::read::told;

const BEGIN: &[u8] = b"--\n-- PostgreSQL database dump\n--\n\n";
const END: &[u8] = b"\n\n--\n-- PostgreSQL database dump complete\n--\n\n";

/// A plain dump: item by item, in pieces of some bytes, and verified. What is no dump is the middle of one.
pub fn plain(data: &[u8]) {
    let script = if data.starts_with(b"--\n-- Post") { data.to_vec() } else { [BEGIN, data, END].concat() };
    let whole = items(ScriptReader::new(&script[..]));
    let piece = 1 + data.iter().fold(0, |sum, byte| sum + usize::from(*byte)) % 50;
    let slow = items(ScriptReader::new(Slowly(&script, piece)));
    assert_eq!(whole.0, slow.0, "the pieces make no difference");
    assert_eq!(whole.2.as_ref().map(told), slow.2.as_ref().map(told));
    assert_eq!(whole.1, slow.1);

    let verified = ScriptReader::new(Slowly(&script, piece)).digests(true).verify();
    match (&verified, &whole.2) {
        (Ok(verified), None) => assert_eq!(verified.tables, whole.1),
        (Err(one), Some(other)) => assert_eq!(told(one), told(other)),
        (verified, error) => panic!("{verified:?}, but {error:?}"),
    }
    let mut tap = PlainVerifier::new(&VerifyOptions::default());
    tap.write_all(&script).expect("it takes everything");
    assert_eq!(tap.finish().is_ok(), verified.is_ok());

    // What is whole is so to its last byte, but for blank lines and comments behind it.
    let Some(end) = end_of_marker(&script).filter(|_| verified.is_ok()) else { return };
    assert!(ScriptReader::new(&script[..end]).verify().is_err());
}

/// Where the closing line ends.
fn end_of_marker(script: &[u8]) -> Option<usize> {
    const LAST: &[u8] = b"\n-- PostgreSQL database dump complete\n";
    script.windows(LAST.len()).rposition(|bytes| bytes == LAST).map(|at| at + LAST.len())
}

struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let step = self.1.min(out.len());
        self.0.read(&mut out[..step])
    }
}

/// Items as text, the rows of a table joined; the tables; and the first error.
fn items<R: Read>(script: ScriptReader<R>) -> (Vec<(&'static str, Vec<u8>)>, Vec<PlainTable>, Option<Error>) {
    let mut script = script.digests(true);
    let mut items: Vec<(&str, Vec<u8>)> = Vec::new();
    let error = loop {
        match script.next_item() {
            Ok(Some(Item::Statement(sql))) => {
                assert!(!sql.is_empty() && !sql[0].is_ascii_whitespace() && sql[0] != b';');
                items.push(("statement", sql.to_vec()));
            }
            Ok(Some(Item::CopyBegins(copy))) => items.push(("copy", copy.to_sql())),
            Ok(Some(Item::CopyRows(rows))) => {
                assert_eq!(rows.last(), Some(&b'\n'));
                assert!(!rows.split(|&byte| byte == b'\n').any(|row| row == b"\\."));
                match items.last_mut() {
                    Some(("rows", before)) => before.extend_from_slice(rows),
                    _ => items.push(("rows", rows.to_vec())),
                }
            }
            Ok(Some(Item::CopyEnds { rows })) => items.push(("end", rows.to_string().into())),
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    (items, script.tables().to_vec(), error)
}
