//! Names that must not be taken: publishing where the store does or does not help.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures_util::future::{self, Either};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::store::{Content, Store, time};
use crate::backend::Existing;
use crate::digest::hex;
use crate::error::{Error, ErrorKind};
use crate::key::{Key, STAGING_PREFIX};

/// How old a claim is when whoever made it is gone, by the clock of the store.
const LEASE: Duration = Duration::from_secs(60);
/// How soon what was claimed for has to begin.
const GRANTED: Duration = Duration::from_secs(20);
/// How often a claim is renewed while the object is being published, which takes some stores minutes.
const RENEWAL: Duration = Duration::from_secs(10);
/// How long to try for a claim.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often two that come at the same time are told to come again.
const CONFLICTS: u32 = 3;

/// An object beside the one that its owner is about to write.
struct Claim {
    name: String,
    since: Instant,
}

impl Store {
    /// Gives content of so many bytes its name, if nothing else has it.
    pub(super) async fn publish_if_free(
        &self,
        key: &Key,
        content: &Content,
        bytes: u64,
        writer: &str,
    ) -> Result<(), Error> {
        let name = self.name(key);
        let helps = self.keeps_its_word().await?;
        if helps && matches!(content, Content::Whole(_)) {
            let mut conflicts = 0;
            loop {
                let Err(e) = self.send(&name, content, writer, true).await else { return Ok(()) };
                let is_conflict =
                    e.kind() == ErrorKind::Unavailable && e.to_string().contains("ConditionalRequestConflict");
                match self.check(&name, bytes, writer, Existing::Keep, Err(e)).await {
                    Err(e) if is_conflict && e.kind() == ErrorKind::Unavailable && conflicts < CONFLICTS => {
                        pause(conflicts).await;
                        conflicts += 1;
                    }
                    result => return result,
                }
            }
        }
        let claim = self.claim(&name).await?;
        let published = self.publish_claimed(&name, content, bytes, writer, &claim).await;
        // It is ignored after a while, so there is nothing to tell when it cannot be removed.
        let _ = self.remove(&claim.name).await;
        published
    }

    async fn publish_claimed(
        &self,
        name: &str,
        content: &Content,
        bytes: u64,
        writer: &str,
        claim: &Claim,
    ) -> Result<(), Error> {
        if self.find(name).await?.is_some() {
            return Err(self.taken(name));
        }
        if claim.since.elapsed() > GRANTED {
            let why = "it took too long to see whether the name is free";
            return Err(self.fail(ErrorKind::Unavailable, "store", name, why.into()));
        }
        // Beside the claim the condition can only help, where the store has it.
        let helps = self.keeps_its_word().await?;
        let sent = {
            let (send, lose) = (pin!(self.send(name, content, writer, helps)), pin!(self.renew(claim)));
            match future::select(send, lose).await {
                Either::Left((sent, _)) => sent,
                Either::Right(((), _)) => {
                    let why = "the store has not confirmed for long that the name is still ours";
                    Err(self.fail(ErrorKind::Unavailable, "store", name, why.into()))
                }
            }
        };
        self.check(name, bytes, writer, Existing::Keep, sent).await
    }

    /// What sending an object has led to: it can be there although the answer was lost, and another's can be there
    /// although the store said yes.
    pub(super) async fn check(
        &self,
        name: &str,
        bytes: u64,
        writer: &str,
        existing: Existing,
        sent: Result<(), Error>,
    ) -> Result<(), Error> {
        let found = match (self.find(name).await, &sent) {
            (Ok(found), _) => found,
            // The first failure says more than that of asking about it.
            (Err(_), Err(_)) => return sent,
            (Err(e), Ok(())) => return Err(e),
        };
        let is_ours = found.as_ref().map(|found| found.writer.as_deref() == Some(writer));
        match (is_ours, existing) {
            (Some(true), _) => {
                let stored = found.map_or(0, |found| found.bytes);
                if stored == bytes {
                    return Ok(());
                }
                let why = format!("it has {stored} bytes in the store; {bytes} were written");
                Err(self.fail(ErrorKind::Incomplete, "store", name, why))
            }
            (Some(false), Existing::Keep) => Err(self.taken(name)),
            // What was there before, or what has replaced ours in its turn.
            (Some(false), Existing::Replace) => sent,
            (None, _) => sent.and_then(|()| {
                let why = "the store took it, and then does not have it".into();
                Err(self.fail(ErrorKind::Incomplete, "store", name, why))
            }),
        }
    }

    /// Whether a second object under a name is refused when it is asked for with `If-None-Match: *`.
    async fn keeps_its_word(&self) -> Result<bool, Error> {
        if let Some(known) = self.keeps_its_word.get() {
            return Ok(*known);
        }
        let name = format!("{}{STAGING_PREFIX}trial-{}", self.root, Uuid::new_v4());
        let mut tried = self.is_refused(&name).await?;
        // When already the first one is, an answer was lost on the way.
        if tried == Some(false) {
            tried = self.is_refused(&name).await?;
        }
        let _ = self.remove(&name).await;
        Ok(*self.keeps_its_word.get_or_init(|| tried == Some(true)))
    }

    /// Whether a name is taken for the store; `None` when it does not know the condition at all, and says so.
    async fn is_refused(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.put_note(name, "trial", true).await {
            Ok(()) => Ok(Some(false)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(Some(true)),
            Err(e) if e.kind() == ErrorKind::NotSupported => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Keeps a claim from getting old. Ends when it cannot, well before others ignore it.
    async fn renew(&self, claim: &Claim) {
        let mut renewed = claim.since;
        while renewed.elapsed() + GRANTED < LEASE {
            sleep(RENEWAL).await;
            let begun = Instant::now();
            if let Ok(Ok(())) = timeout(RENEWAL, self.put_note(&claim.name, "claim", false)).await {
                renewed = begun;
            }
        }
    }

    /// Waits until nobody else has a claim on a name.
    ///
    /// Everyone writes a claim first and looks for others then. So of two one sees the other, whatever comes first, and
    /// only who sees nobody else goes on: never both. Who sees a smaller claim goes away for a while, so that the
    /// smallest one sees nobody in the end.
    async fn claim(&self, name: &str) -> Result<Claim, Error> {
        let folder = format!("{}{STAGING_PREFIX}claims/{}/", self.root, digest(name));
        let began = Instant::now();
        let mut tries = 0;
        while began.elapsed() < PATIENCE {
            let id = Uuid::new_v4().to_string();
            let claim = Claim { name: format!("{folder}{id}"), since: Instant::now() };
            self.put_note(&claim.name, &id, false).await?;
            let granted = self.wait_for_others(&folder, &claim).await;
            if matches!(granted, Ok(true)) {
                return Ok(claim);
            }
            let _ = self.remove(&claim.name).await;
            granted?;
            pause(tries).await;
            if self.find(name).await?.is_some() {
                return Err(self.taken(name));
            }
            tries += 1;
        }
        let why =
            "others want the same name, and do not come to an end; their claims are ignored when they are a minute old";
        Err(self.fail(ErrorKind::Unavailable, "store", name, why.into()))
    }

    /// Whether a claim is the only one, at last.
    async fn wait_for_others(&self, folder: &str, claim: &Claim) -> Result<bool, Error> {
        while claim.since.elapsed() < GRANTED {
            let listed = self.client.list_objects_v2().bucket(&self.bucket).prefix(folder).send().await;
            let listed = listed.map_err(|e| self.error("list", folder, &e))?;
            let claims = listed.contents().iter();
            let claims = claims.filter_map(|object| Some((object.key()?, time(object.last_modified()))));
            match standing(&claim.name, &claims.collect::<Vec<_>>()) {
                // More than a page of old claims: nothing is known of the rest.
                Standing::Only => return Ok(listed.is_truncated() != Some(true)),
                Standing::Behind => return Ok(false),
                Standing::First => sleep(Duration::from_millis(50)).await,
                // A listing that lags behind proves nothing about the others either.
                Standing::NotListed => sleep(Duration::from_millis(100)).await,
            }
        }
        Ok(false)
    }

    pub(super) fn taken(&self, name: &str) -> Error {
        self.fail(ErrorKind::AlreadyExists, "store", name, "the name is taken".into())
    }
}

/// Where a claim stands among those that are listed.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    NotListed,
    Only,
    /// There are others, and all of them will go.
    First,
    Behind,
}

fn standing(own: &str, claims: &[(&str, SystemTime)]) -> Standing {
    let Some((_, made)) = claims.iter().find(|(name, _)| *name == own) else { return Standing::NotListed };
    let is_live = |other: &SystemTime| made.duration_since(*other).is_ok_and(|age| age < LEASE) || other > made;
    let mut standing = Standing::Only;
    for (name, _) in claims.iter().filter(|(name, time)| *name != own && is_live(time)) {
        if *name < own {
            return Standing::Behind;
        }
        standing = Standing::First;
    }
    standing
}

/// Longer each time, and never as long as somebody else's.
async fn pause(tries: u32) {
    let longest = 100_u64 << tries.min(4);
    sleep(Duration::from_millis(longest / 2 + u64::from(Uuid::new_v4().as_bytes()[0]) * longest / 510)).await;
}

/// A name of a fixed length for one of any.
fn digest(name: &str) -> String {
    hex(&Sha256::digest(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_claim_that_is_listed_and_has_no_live_one_beside_it_stands_alone() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let [old, recent, later] = [now - LEASE, now - LEASE / 2, now + LEASE];
        for (others, expected) in [
            (vec![], Standing::Only),
            (vec![("a", old), ("z", old)], Standing::Only),
            (vec![("z", recent)], Standing::First),
            (vec![("a", recent), ("z", recent)], Standing::Behind),
            (vec![("a", later)], Standing::Behind),
            (vec![("z", later)], Standing::First),
        ] {
            let mut claims = others.clone();
            assert_eq!(standing("own", &claims), Standing::NotListed);
            claims.push(("own", now));
            assert_eq!(standing("own", &claims), expected, "{others:?}");
        }
    }
}
