//! A backup that is published while somebody cleans up: in every order of their steps, with either of them killed at any, and with any of
//! their steps failing.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use storage_backends::{Catalog, Error, Listing, Manifest, NewBackup};

use crate::catalog::{HOUR, clean_up, id, time};
use crate::memory::{Fault, Memory};

const ID: &str = "20240310T220003Z";
const DUMP: &str = "store.dump_20240310-230003";

/// A process, of which one step at a time is done; `None` when it is dead.
type Process<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

/// What becomes of two processes, as far as that can be chosen. Asked again and again, all of it is chosen once.
#[derive(Default)]
struct Choices {
    /// What was chosen, and of how many.
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, of));
        }
        self.at += 1;
        self.made[self.at - 1].0
    }

    /// Goes to the next ones; false when there are no more.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, of)) = self.made.pop() {
            if chosen + 1 < of {
                self.made.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

/// Does the next step of a process, and tells whether that was its last one.
async fn step<T>(process: &mut Process<T>, result: &mut Option<T>) {
    let Some(future) = process else { return };
    if let Poll::Ready(value) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        *result = Some(value);
        *process = None;
    }
    // A heartbeat that is asked to end does so.
    tokio::task::yield_now().await;
}

/// What happens to one of the processes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It is killed, or both of them are.
    Killed,
    /// One of its steps fails.
    Failing,
}

/// Publishes what `begin` begins while somebody cleans up, in every way in which that can go.
fn in_every_order(
    trouble: Trouble,
    mut begin: impl AsyncFnMut(&Catalog, &Memory) -> NewBackup,
    mut check: impl AsyncFnMut(&Catalog, &Memory),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (mut choices, mut published, mut cleaned, mut ways) = (Choices::default(), 0, 0, 0);
    loop {
        let memory = Memory::default();
        let catalog = Catalog::at_root(Arc::new(memory.clone()));
        let backup = runtime.block_on(begin(&catalog, &memory));
        let cleaner = catalog.clone();
        let mut cleaning: Process<_> =
            Some(Box::pin(async move { cleaner.clean_up(HOUR, SystemTime::now() + 2 * HOUR).await }));
        let manifest = Manifest::new(backup.id(), "store", time());
        let mut publishing: Process<_> = Some(Box::pin(backup.publish(manifest)));
        let (mut made, mut removed): (Option<Result<Manifest, Error>>, _) = (None, None);
        // Both come to where they wait for their first turn in the place.
        runtime.block_on(step(&mut publishing, &mut made));
        runtime.block_on(step(&mut cleaning, &mut removed));
        let (mut has_failed, mut is_new) = (false, true);
        while is_new {
            let is_publisher = match (&publishing, &cleaning) {
                (None, None) => break,
                (Some(_), Some(_)) => choices.choose(2) == 0,
                (publishing, _) => publishing.is_some(),
            };
            let fault = match trouble {
                Trouble::Killed if choices.choose(2) == 0 => None,
                Trouble::Killed if is_publisher => {
                    publishing = None;
                    continue;
                }
                Trouble::Killed => {
                    cleaning = None;
                    continue;
                }
                Trouble::Failing if has_failed => None,
                Trouble::Failing => [None, Some(Fault::Before), Some(Fault::After)][choices.choose(3)],
            };
            memory.set_fault(fault);
            if is_publisher {
                runtime.block_on(step(&mut publishing, &mut made));
            } else {
                runtime.block_on(step(&mut cleaning, &mut removed));
            }
            has_failed |= fault.is_some();
            // A step at which nothing could fail is the same as without the fault.
            is_new = memory.set_fault(None).is_none();
        }
        if !is_new {
            if choices.next() {
                continue;
            }
            break;
        }
        let way = || format!("{:?}, published {made:?}, cleaned {removed:?}, left {memory:?}", choices.made);
        runtime.block_on(async {
            let listing = catalog.list().await.unwrap();
            match &made {
                Some(Ok(_)) => assert_eq!(listing.backups.len(), 1, "a backup that was made is there: {}", way()),
                Some(Err(e)) => {
                    let is_none = listing.backups.is_empty() && listing.unreadable.is_empty();
                    let is_told = has_failed && e.to_string().contains("may be listed nevertheless");
                    assert!(is_none || is_told, "a failure leaves none, or says so: {}", way());
                }
                None => {}
            }
            for (id, manifest) in &listing.backups {
                for object in &manifest.objects {
                    assert!(catalog.check(id, object).await.is_ok(), "what is listed is whole: {}", way());
                }
            }
            clean_up(&catalog, HOUR, SystemTime::now() + 2 * HOUR).await;
            assert!(catalog.list().await.unwrap().incomplete.is_empty(), "what is left can be cleaned up: {}", way());
            check(&catalog, &memory).await;
        });
        published += u32::from(matches!(made, Some(Ok(_))));
        let is_removed = matches!(&removed, Some(Ok(cleaned)) if !cleaned.removed.is_empty());
        assert!(!is_removed || !matches!(made, Some(Ok(_))), "{}", way());
        cleaned += u32::from(is_removed);
        ways += 1;
        if !choices.next() {
            break;
        }
    }
    // It was not always the same one that came first.
    assert!(
        published > 10 && cleaned > 10 && ways > 1000,
        "{published} published, {cleaned} cleaned up in {ways} ways"
    );
}

async fn begin(catalog: &Catalog, _: &Memory) -> NewBackup {
    let mut backup = catalog.begin(id(ID)).await.unwrap();
    let mut object = backup.object("store.dump").await.unwrap();
    object.write("PGDMP".into()).await.unwrap();
    backup.add(object).await.unwrap();
    backup
}

#[test]
fn of_who_publishes_and_who_cleans_up_one_sees_the_other() {
    in_every_order(Trouble::Killed, begin, async |_, _| {});
}

#[test]
fn whatever_fails_while_somebody_cleans_up_no_bad_backup_is_listed() {
    in_every_order(Trouble::Failing, begin, async |_, _| {});
}

async fn begin_to_adopt(catalog: &Catalog, memory: &Memory) -> NewBackup {
    memory.objects().insert(DUMP.parse().unwrap(), ("PGDMP adopted".into(), SystemTime::UNIX_EPOCH));
    catalog.adopt(id(ID), &DUMP.parse().unwrap(), &Listing::default(), async |_| Ok(())).await.unwrap()
}

async fn expect_dump(catalog: &Catalog, _: &Memory) {
    let listing = catalog.list().await.unwrap();
    assert_eq!(listing.backups.len() + listing.foreign.len(), 1, "{listing:?}");
    assert!(listing.unreadable.is_empty(), "{listing:?}");
}

#[test]
fn a_dump_that_is_adopted_while_somebody_cleans_up_is_never_lost() {
    in_every_order(Trouble::Killed, begin_to_adopt, expect_dump);
}

#[test]
fn a_dump_is_never_lost_whatever_fails_while_it_is_adopted() {
    in_every_order(Trouble::Failing, begin_to_adopt, expect_dump);
}
