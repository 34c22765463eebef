//! Threads that work on pieces, whose results come back in the order in which the pieces went in.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::encode::PIECE_BYTES;

/// A piece of work: it is done with the state that its thread has, such as a compressor.
type Job<'env, S, T> = Box<dyn FnOnce(&mut S) -> T + Send + 'env>;

/// How many pieces there can be for each thread: one that it works on, one that waits.
const PIECES_PER_THREAD: usize = 2;

/// Threads that take jobs and give their results back in order. Memory is bounded by how many jobs there can be at once,
/// and how many bytes they hold together: who submits one more has to take results first.
pub(crate) struct OrderedPool<'env, S, T> {
    workers: Workers<'env, S, T>,
}

enum Workers<'env, S, T> {
    /// The work is done where it is submitted.
    None { state: S, done: VecDeque<T> },
    Threads {
        jobs: SyncSender<(Job<'env, S, T>, SyncSender<T>)>,
        /// One for each job, in the order in which they were submitted, with the bytes that it holds.
        results: VecDeque<(usize, Receiver<T>)>,
        /// The sum of these bytes.
        held: usize,
        most: usize,
    },
}

/// A thread ended without a result: a job panicked.
#[derive(Debug)]
pub(crate) struct WorkerLost;

impl<S: Send + 'static, T: Send + 'static> OrderedPool<'static, S, T> {
    /// A pool whose threads end with it.
    pub(crate) fn detached(first: S, others: Vec<S>) -> Self {
        Self::start(first, others, |work| thread::Builder::new().spawn(work).is_ok())
    }
}

impl<'env, S: Send + 'env, T: Send + 'env> OrderedPool<'env, S, T> {
    /// A pool whose jobs can borrow what outlives the scope.
    pub(crate) fn scoped<'scope>(scope: &'scope thread::Scope<'scope, 'env>, first: S, others: Vec<S>) -> Self
    where
        'env: 'scope,
    {
        Self::start(first, others, |work| thread::Builder::new().spawn_scoped(scope, work).is_ok())
    }

    /// One thread for each state, or as many as the system allows; with one state alone, none.
    fn start(first: S, others: Vec<S>, spawn: impl Fn(Box<dyn FnOnce() + Send + 'env>) -> bool) -> Self {
        let most = (others.len() + 1) * PIECES_PER_THREAD;
        let (jobs, queue) = mpsc::sync_channel::<(Job<'env, S, T>, SyncSender<T>)>(most);
        let queue = Arc::new(Mutex::new(queue));
        let start = |mut state: S| -> bool {
            let queue = Arc::clone(&queue);
            spawn(Box::new(move || {
                loop {
                    // The lock is held while waiting: the others wait behind it for the next job.
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((job, result)) = next else { return };
                    // Nobody waits for it when the pool was dropped.
                    let _ = result.send(job(&mut state));
                }
            }))
        };
        // The first state stays here until there is a thread to do without it.
        let started = others.into_iter().map(start).take_while(|started| *started).count();
        if started == 0 {
            return Self { workers: Workers::None { state: first, done: VecDeque::new() } };
        }
        let most = (started + usize::from(start(first))) * PIECES_PER_THREAD;
        Self { workers: Workers::Threads { jobs, results: VecDeque::new(), held: 0, most } }
    }

    /// The oldest result, when there is no room for a job of so many bytes beside those that there are; to be called
    /// until it returns `None`. A job is never too long to be the only one.
    ///
    /// # Errors
    ///
    /// When the job of that result panicked.
    pub(crate) fn make_room(&mut self, bytes: usize) -> Result<Option<T>, WorkerLost> {
        match &self.workers {
            Workers::Threads { results, held, most, .. }
                if results.len() >= *most || held.saturating_add(bytes) > most * PIECE_BYTES =>
            {
                self.next_result()
            }
            Workers::Threads { .. } => Ok(None),
            Workers::None { .. } => self.next_result(),
        }
    }

    /// Hands a job over that holds so many bytes, for which [`make_room`](Self::make_room) has made room.
    ///
    /// # Errors
    ///
    /// When a job before it panicked.
    pub(crate) fn submit(
        &mut self,
        bytes: usize,
        job: impl FnOnce(&mut S) -> T + Send + 'env,
    ) -> Result<(), WorkerLost> {
        match &mut self.workers {
            Workers::None { state, done } => done.push_back(job(state)),
            Workers::Threads { jobs, results, held, .. } => {
                let (sender, receiver) = mpsc::sync_channel(1);
                jobs.send((Box::new(job), sender)).map_err(|_| WorkerLost)?;
                results.push_back((bytes, receiver));
                *held += bytes;
            }
        }
        Ok(())
    }

    /// The oldest result that was not taken yet, waiting for it; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When its job panicked.
    pub(crate) fn next_result(&mut self) -> Result<Option<T>, WorkerLost> {
        match &mut self.workers {
            Workers::None { done, .. } => Ok(done.pop_front()),
            Workers::Threads { results, held, .. } => {
                let Some((bytes, result)) = results.pop_front() else { return Ok(None) };
                *held -= bytes;
                result.recv().map(Some).map_err(|_| WorkerLost)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_however_long_each_takes() {
        for threads in [1, 2, 5] {
            let mut pool = OrderedPool::detached(0_u64, vec![0; threads - 1]);
            let mut results = Vec::new();
            for job in 0..200_u64 {
                let work = move |count: &mut u64| {
                    *count += 1;
                    if job % 7 == 0 {
                        thread::sleep(std::time::Duration::from_micros(300));
                    }
                    job
                };
                while let Some(result) = pool.make_room(1).unwrap() {
                    results.push(result);
                }
                pool.submit(1, work).unwrap();
            }
            while let Some(result) = pool.next_result().unwrap() {
                results.push(result);
            }
            assert_eq!(results, (0..200).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    fn a_job_that_panics_is_an_error_and_no_hang() {
        let mut pool = OrderedPool::<(), u32>::detached((), vec![()]);
        pool.submit(1, |()| panic!("as the test wants")).unwrap();
        assert!(pool.next_result().is_err());
    }

    #[test]
    fn a_job_of_many_bytes_waits_until_it_is_alone() {
        let mut pool = OrderedPool::detached((), vec![()]);
        let mut order = Vec::new();
        for (job, bytes) in [1, 1, 100 * PIECE_BYTES, 100 * PIECE_BYTES, 1].into_iter().enumerate() {
            while let Some(result) = pool.make_room(bytes).unwrap() {
                order.push((job, result));
            }
            pool.submit(bytes, move |()| job).unwrap();
        }
        assert_eq!(order, [(2, 0), (2, 1), (3, 2), (4, 3)]);
    }

    #[test]
    fn jobs_of_a_scope_can_borrow() {
        let text = String::from("borrowed");
        let lengths = thread::scope(|scope| {
            let mut pool = OrderedPool::scoped(scope, (), vec![()]);
            pool.submit(1, |()| text.len()).unwrap();
            std::iter::from_fn(|| pool.next_result().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(lengths, [8]);
    }
}
