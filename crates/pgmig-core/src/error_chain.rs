//! An error and its causes.

use std::error::Error;
use std::io;

/// `error` and everything below it.
pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The message of the deepest cause: what libraries put above it repeats where and says less.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let root = chain(error).last().unwrap_or(error);
    match root.downcast_ref::<io::Error>() {
        // Said in many ways, one of them with a link to a library's manual.
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => "the other side closed it".to_owned(),
        _ => root.to_string(),
    }
}
