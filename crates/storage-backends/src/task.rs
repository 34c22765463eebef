//! Tasks that end when nobody waits for them.

use tokio::task::JoinHandle;

/// A task on any thread of the runtime. Dropped, it is given up.
#[derive(Debug)]
pub(crate) struct AbortOnDrop<T>(JoinHandle<T>);

impl<T: Send + 'static> AbortOnDrop<T> {
    pub(crate) fn spawn(task: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    pub(crate) async fn join(mut self) -> T {
        // Nothing cancels it while somebody waits for it, so it is a panic.
        (&mut self.0).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
