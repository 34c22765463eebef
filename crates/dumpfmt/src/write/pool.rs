//! Threads that work on pieces, whose results come back in the order in which the pieces went in.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A piece of work: it is done with the state that its thread has, such as a compressor.
type Job<'env, S, T> = Box<dyn FnOnce(&mut S) -> T + Send + 'env>;

/// How many pieces there can be for each thread: one that it works on, one that waits.
const PIECES_PER_THREAD: usize = 2;

/// Threads that take jobs and give their results back in order. Memory is bounded by how many jobs there can be at once:
/// who submits one more has to take a result first.
pub(crate) struct OrderedPool<'env, S, T> {
    workers: Workers<'env, S, T>,
}

enum Workers<'env, S, T> {
    /// The work is done where it is submitted.
    None { state: S, done: VecDeque<T> },
    Threads {
        jobs: SyncSender<(Job<'env, S, T>, SyncSender<T>)>,
        /// One for each job, in the order in which they were submitted.
        results: VecDeque<Receiver<T>>,
        most: usize,
    },
}

/// A thread ended without a result: a job panicked.
#[derive(Debug)]
pub(crate) struct WorkerLost;

impl<S: Send + 'static, T: Send + 'static> OrderedPool<'static, S, T> {
    /// A pool whose threads end with it.
    pub(crate) fn detached(first: S, others: Vec<S>) -> Self {
        Self::start(first, others, |work| drop(thread::spawn(work)))
    }
}

impl<'env, S: Send + 'env, T: Send + 'env> OrderedPool<'env, S, T> {
    /// A pool whose jobs can borrow what outlives the scope.
    pub(crate) fn scoped<'scope>(scope: &'scope thread::Scope<'scope, 'env>, first: S, others: Vec<S>) -> Self
    where
        'env: 'scope,
    {
        Self::start(first, others, |work| drop(scope.spawn(work)))
    }

    /// One thread for each state; with one state alone, none.
    fn start(first: S, others: Vec<S>, spawn: impl Fn(Box<dyn FnOnce() + Send + 'env>)) -> Self {
        if others.is_empty() {
            return Self { workers: Workers::None { state: first, done: VecDeque::new() } };
        }
        let threads = others.len() + 1;
        let most = threads * PIECES_PER_THREAD;
        let (jobs, queue) = mpsc::sync_channel::<(Job<'env, S, T>, SyncSender<T>)>(most);
        let queue = Arc::new(Mutex::new(queue));
        for mut state in std::iter::once(first).chain(others) {
            let queue = Arc::clone(&queue);
            spawn(Box::new(move || {
                loop {
                    // The lock is held while waiting: the others wait behind it for the next job.
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((job, result)) = next else { return };
                    // Nobody waits for it when the pool was dropped.
                    let _ = result.send(job(&mut state));
                }
            }));
        }
        Self { workers: Workers::Threads { jobs, results: VecDeque::new(), most } }
    }

    /// Hands a job over. When there are as many as there may be, the oldest result comes back first.
    ///
    /// # Errors
    ///
    /// When a job before it panicked.
    pub(crate) fn submit(&mut self, job: impl FnOnce(&mut S) -> T + Send + 'env) -> Result<Option<T>, WorkerLost> {
        match &mut self.workers {
            Workers::None { state, done } => {
                done.push_back(job(state));
                Ok(done.pop_front())
            }
            Workers::Threads { jobs, results, most } => {
                let oldest = if results.len() >= *most {
                    results.pop_front().map(|result| result.recv().map_err(|_| WorkerLost)).transpose()?
                } else {
                    None
                };
                let (sender, receiver) = mpsc::sync_channel(1);
                jobs.send((Box::new(job), sender)).map_err(|_| WorkerLost)?;
                results.push_back(receiver);
                Ok(oldest)
            }
        }
    }

    /// The oldest result that was not taken yet, waiting for it; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When its job panicked.
    pub(crate) fn next_result(&mut self) -> Result<Option<T>, WorkerLost> {
        match &mut self.workers {
            Workers::None { done, .. } => Ok(done.pop_front()),
            Workers::Threads { results, .. } => {
                results.pop_front().map(|result| result.recv().map_err(|_| WorkerLost)).transpose()
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
                results.extend(pool.submit(work).unwrap());
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
        pool.submit(|()| panic!("as the test wants")).unwrap();
        assert!(pool.next_result().is_err());
    }

    #[test]
    fn jobs_of_a_scope_can_borrow() {
        let text = String::from("borrowed");
        let lengths = thread::scope(|scope| {
            let mut pool = OrderedPool::scoped(scope, (), vec![()]);
            pool.submit(|()| text.len()).unwrap();
            std::iter::from_fn(|| pool.next_result().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(lengths, [8]);
    }
}
