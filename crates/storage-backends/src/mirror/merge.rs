//! Both sides at once, in the order of the keys.

use std::cmp::Ordering;

use futures_util::stream::{BoxStream, TryStreamExt as _};

use super::place::{Entry, Found};
use crate::error::{Error, ErrorKind};

/// What there is of a key.
#[derive(Debug)]
pub(super) enum Pair {
    Both(Entry, Entry),
    Source(Entry),
    Target(Entry),
    StrangeSource {
        path: String,
        why: String,
    },
    StrangeTarget {
        path: String,
        why: String,
    },
    /// The target had a file for this key once.
    Gone(String),
}

/// Two listings, of which no more is in memory than what comes next.
pub(super) struct Merge {
    source: Side,
    target: Side,
}

struct Side {
    found: BoxStream<'static, Result<Found, Error>>,
    is_target: bool,
    next: Option<Found>,
    has_ended: bool,
    last: Option<String>,
}

impl Merge {
    pub(super) fn new(
        source: BoxStream<'static, Result<Found, Error>>,
        target: BoxStream<'static, Result<Found, Error>>,
    ) -> Self {
        let side = |found, is_target| Side { found, is_target, next: None, has_ended: false, last: None };
        Self { source: side(source, false), target: side(target, true) }
    }

    /// `None` when both listings have come to their ends.
    pub(super) async fn next(&mut self) -> Result<Option<Pair>, Error> {
        self.source.fill().await?;
        self.target.fill().await?;
        let (source, target) = (&self.source.next, &self.target.next);
        let order = match (source, target) {
            (None, None) => return Ok(None),
            (Some(Found::Object(source)), Some(Found::Object(target))) => source.key.cmp(&target.key),
            // What is no object has no place in the order.
            (Some(Found::Object(_)), Some(_)) | (None, Some(_)) => Ordering::Greater,
            (Some(_), _) => Ordering::Less,
        };
        let source = if order == Ordering::Greater { None } else { self.source.next.take() };
        let target = if order == Ordering::Less { None } else { self.target.next.take() };
        Ok(Some(match (source, target) {
            (Some(Found::Object(source)), Some(Found::Object(target))) => Pair::Both(source, target),
            (Some(Found::Object(source)), _) => Pair::Source(source),
            (Some(Found::Strange { path, why }), _) => Pair::StrangeSource { path, why },
            (_, Some(Found::Object(target))) => Pair::Target(target),
            (_, Some(Found::Strange { path, why })) => Pair::StrangeTarget { path, why },
            (_, Some(Found::Gone(key))) => Pair::Gone(key),
            (Some(Found::Gone(_)) | None, _) => unreachable!("a source's are left out, and something was taken"),
        }))
    }
}

impl Side {
    async fn fill(&mut self) -> Result<(), Error> {
        while self.next.is_none() && !self.has_ended {
            let Some(found) = self.found.try_next().await? else {
                self.has_ended = true;
                return Ok(());
            };
            if !self.is_target && matches!(found, Found::Gone(_)) {
                continue;
            }
            if let Found::Object(entry) = &found {
                // All that is done rests on it: an object that comes late would look as if it was not there.
                if self.last.as_ref().is_some_and(|last| *last >= entry.key) {
                    let why = "the listing is not in the order of the keys";
                    return Err(Error::new(
                        ErrorKind::NotSupported,
                        "mirror",
                        entry.key.escape_debug().to_string(),
                        why,
                    ));
                }
                self.last = Some(entry.key.clone());
            }
            self.next = Some(found);
        }
        Ok(())
    }
}
