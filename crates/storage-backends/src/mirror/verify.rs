//! Proves that two sides are the same.

use futures_util::stream::{self, TryStreamExt as _};

use super::merge::{Merge, Pair};
use super::place::{Digest, Entry, Place};
use super::record::Sha256;
use super::report::{Count, Difference, DifferenceKind, MIRROR_REPORT_VERSION, VerifyReport};
use crate::error::Error;
use crate::s3::Attributes;
use crate::task::AbortOnDrop;

/// What stores say of an object that was stored without a content type.
const UNTYPED: [&str; 2] = ["binary/octet-stream", "application/octet-stream"];

/// What was found of a key.
enum Outcome {
    Same { key: String, bytes: u64, sha256: String, bytes_only: bool },
    Different(Vec<Difference>),
}

pub(super) async fn verify(from: &Place, to: &Place, concurrency: usize) -> Result<VerifyReport, Error> {
    let mut report = VerifyReport {
        version: MIRROR_REPORT_VERSION,
        from: from.location(),
        to: to.location(),
        same: Count::default(),
        bytes_only: 0,
        sha256: String::new(),
        different: 0,
        differences: Vec::new(),
    };
    let mut list = Sha256::new();
    let pairs = stream::try_unfold(Merge::new(from.list(), to.list()), |mut merge| async move {
        Ok::<_, Error>(merge.next().await?.map(|pair| (pair, merge)))
    });
    let looked_at = pairs.map_ok(|pair| {
        let (from, to) = (from.clone(), to.clone());
        // On threads of its own, for the sake of the digests; ended when nobody waits for it.
        let task = AbortOnDrop::spawn(async move { compare(&from, &to, pair).await });
        async move { Ok(task.join().await) }
    });
    // In the order of the keys.
    let mut looked_at = std::pin::pin!(looked_at.try_buffered(concurrency));
    while let Some(outcome) = looked_at.try_next().await? {
        match outcome {
            Some(Outcome::Same { key, bytes, sha256, bytes_only }) => {
                report.same.add(bytes);
                report.bytes_only += u64::from(bytes_only);
                let key = serde_json::to_string(&key).unwrap_or_default();
                list.update(format!("{sha256} {bytes} {key}\n").as_bytes());
            }
            Some(Outcome::Different(differences)) => differences.into_iter().for_each(|it| report.differ(it)),
            None => {}
        }
    }
    report.sha256 = list.finish();
    Ok(report)
}

async fn compare(from: &Place, to: &Place, pair: Pair) -> Option<Outcome> {
    let one =
        |key: String, kind, source, target| Some(Outcome::Different(vec![Difference { key, kind, source, target }]));
    let (source, target) = match pair {
        Pair::Both(source, target) => (source, target),
        Pair::Source(source) => return one(source.key, DifferenceKind::Missing, None, None),
        Pair::Target(target) => return one(target.key, DifferenceKind::Surplus, None, None),
        Pair::StrangeSource { path, why } => return one(path, DifferenceKind::Unreadable, Some(why), None),
        Pair::StrangeTarget { path, why } => return one(path, DifferenceKind::Surplus, None, Some(why)),
        Pair::Gone(_) => return None,
    };
    // Both wholly, even if the lengths are not the same: what cannot be read is told as well.
    let (ours, theirs) = futures_util::future::join(from.digest(&source), to.digest(&target)).await;
    let Entry { key, .. } = source;
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let differences = differences(&key, &ours, &theirs);
            let bytes_only = ours.attributes.is_none() || theirs.attributes.is_none();
            Some(if differences.is_empty() {
                Outcome::Same { key, bytes: ours.bytes, sha256: ours.sha256, bytes_only }
            } else {
                Outcome::Different(differences)
            })
        }
        (ours, theirs) => {
            let why = |result: Result<Digest, Error>| result.err().map(|e| e.to_string());
            one(key, DifferenceKind::Unreadable, why(ours), why(theirs))
        }
    }
}

fn differences(key: &str, source: &Digest, target: &Digest) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |kind, source: String, target: String| {
        let (source, target) = (Some(source), Some(target));
        found.push(Difference { key: key.to_owned(), kind, source, target });
    };
    if source.bytes != target.bytes {
        differ(DifferenceKind::Bytes, source.bytes.to_string(), target.bytes.to_string());
    } else if source.sha256 != target.sha256 {
        differ(DifferenceKind::Content, source.sha256.clone(), target.sha256.clone());
    }
    if let (Some(source), Some(target)) = (&source.attributes, &target.attributes) {
        for kind in unlike(source, target) {
            differ(kind, shown(kind, source), shown(kind, target));
        }
    }
    found
}

/// In what attributes are not the same.
pub(crate) fn unlike(source: &Attributes, target: &Attributes) -> Vec<DifferenceKind> {
    let mut kinds = Vec::new();
    if content_type(source) != content_type(target) {
        kinds.push(DifferenceKind::ContentType);
    }
    if headers(source) != headers(target) {
        kinds.push(DifferenceKind::Headers);
    }
    if source.metadata != target.metadata {
        kinds.push(DifferenceKind::Metadata);
    }
    if source.tags != target.tags {
        kinds.push(DifferenceKind::Tags);
    }
    kinds
}

/// Without those that stores add by themselves.
pub(crate) fn content_type(attributes: &Attributes) -> Option<&str> {
    attributes.content_type.as_deref().filter(|it| !it.is_empty() && !UNTYPED.contains(it))
}

fn headers(attributes: &Attributes) -> [&str; 4] {
    let Attributes { content_encoding, content_language, content_disposition, cache_control, .. } = attributes;
    [content_encoding, content_language, content_disposition, cache_control].map(|it| it.as_deref().unwrap_or_default())
}

fn shown(kind: DifferenceKind, attributes: &Attributes) -> String {
    match kind {
        DifferenceKind::ContentType => attributes.content_type.clone().unwrap_or_default(),
        DifferenceKind::Headers => headers(attributes).join(", "),
        DifferenceKind::Metadata => format!("{:?}", attributes.metadata),
        _ => format!("{:?}", attributes.tags),
    }
}
