//! What the world wants done outside: each thing in a task of its own, and the loop hears how it went.
//!
//! Never decides what is done or whether again.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::run::{Input, RunError};

/// How long a process that stops waits for what is under way.
pub(crate) const LAST_ERRANDS: Duration = Duration::from_secs(2);

/// Does what comes until the stop; what is under way then gets a last moment. `begin` gives the work of one errand, or nothing
/// where nobody is there to do it for.
pub(crate) async fn run<E, W>(
    mut errands: mpsc::UnboundedReceiver<E>,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
    begin: impl Fn(E) -> Option<W>,
) -> Result<(), RunError>
where
    W: Future<Output = Input> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            errand = errands.recv() => match errand {
                Some(errand) => {
                    if let Some(work) = begin(errand) {
                        under_way.spawn(work);
                    }
                }
                None => break,
            },
            Some(ended) = under_way.join_next() => {
                if inputs.send(ended.map_err(RunError::Panicked)?).await.is_err() {
                    break;
                }
            }
        }
    }
    let until = tokio::time::Instant::now() + LAST_ERRANDS;
    while let Ok(Some(ended)) = tokio::time::timeout_at(until, under_way.join_next()).await {
        // The loop of the world may be over: then the next one learns from the store that it was under way.
        drop(inputs.try_send(ended.map_err(RunError::Panicked)?));
    }
    Ok(())
}
