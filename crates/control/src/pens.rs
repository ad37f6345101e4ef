//! Threads that sign, beside the one that decides: a signature takes as long as all else of an answer together.
//!
//! Never decides, and never makes anybody wait for a pen: when all are busy the caller signs itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;
use tracing::warn;

/// Most threads: beyond them the loop that decides is the slower part.
const PENS_MAX: usize = 3;
/// Answers that may wait for one thread. So few that what it would take longer for is signed by the caller meanwhile.
const WAITING_MAX: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// As many threads as there are cores besides the one that decides. They end with this value.
#[derive(Debug)]
pub(crate) struct Pens {
    jobs: Vec<SyncSender<Job>>,
    next: AtomicUsize,
}

/// What was to be written panicked. It is in the log; nothing else is hurt.
#[derive(Debug, thiserror::Error)]
#[error("an answer could not be signed")]
pub(crate) struct Spilt;

impl Pens {
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of((cores - 1).min(PENS_MAX))
    }

    fn of(count: usize) -> Self {
        let pen = |nth| {
            let (jobs, todo) = sync_channel(WAITING_MAX);
            let started = thread::Builder::new().name(format!("pen-{nth}")).spawn(move || write_on(&todo));
            // Without its thread there is one fewer; with none the callers sign.
            started.inspect_err(|error| warn!(%error, "a thread for signing could not be started")).ok()?;
            Some(jobs)
        };
        Self { jobs: (0..count).filter_map(pen).collect(), next: AtomicUsize::new(0) }
    }

    /// Has `work` done by a free thread, or does it at once.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Spilt> {
        let (told, answer) = oneshot::channel();
        // A caller that went away needs no answer.
        let mut job: Job = Box::new(move || drop(told.send(work())));
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for at in 0..self.jobs.len() {
            match self.jobs[(first + at) % self.jobs.len()].try_send(job) {
                Ok(()) => return answer.await.map_err(|_| Spilt),
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => job = back,
            }
        }
        job();
        answer.await.map_err(|_| Spilt)
    }
}

/// Until there is nobody left to write for.
fn write_on(todo: &Receiver<Job>) {
    while let Ok(job) = todo.recv() {
        // Whoever waits for it learns so; the panic itself is told by the hook.
        drop(catch_unwind(AssertUnwindSafe(job)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_gets_its_own_answer_however_many_pens_there_are() {
        for count in [0, 1, 3] {
            let pens = Pens::of(count);
            let answers = (0..50).map(|nth| pens.write(move || nth));
            let answers = futures_util::future::join_all(answers).await;
            let answers: Vec<i32> = answers.into_iter().map(Result::unwrap).collect();
            assert_eq!(answers, (0..50).collect::<Vec<i32>>(), "{count}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_written_fails_alone() {
        let pens = Pens::of(1);
        let spilt = pens.write(|| assert_eq!(1, 2, "a broken answer")).await;
        assert!(spilt.is_err());
        assert_eq!(pens.write(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn whoever_finds_all_pens_busy_writes_itself() {
        let pens = Pens::of(1);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = pens.write(move || held.recv().is_ok());
        let mut held = std::pin::pin!(held);
        assert!(futures_util::poll!(&mut held).is_pending());
        let here = thread::current().id();
        let mut waiting: Vec<_> =
            (0..=WAITING_MAX).map(|_| Box::pin(pens.write(|| thread::current().id()))).collect();
        let mut own = 0;
        for answer in &mut waiting {
            if let std::task::Poll::Ready(by) = futures_util::poll!(answer) {
                assert_eq!(by.unwrap(), here);
                own += 1;
            }
        }
        assert!(own >= 1, "more than the pen takes");
        release.send(()).unwrap();
        assert!(held.await.unwrap());
    }
}
