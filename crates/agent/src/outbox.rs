//! Lines on their way to one connection, bounded in bytes.
//!
//! Never waits and never drops one line of many: what does not fit ends the connection, and the other side starts
//! anew with whole state.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The writing end. Clones write to the same connection.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    lines: mpsc::UnboundedSender<Arc<str>>,
    queued_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    close: CancellationToken,
}

/// The connection's end.
#[derive(Debug)]
pub(crate) struct OutboxReader {
    lines: mpsc::UnboundedReceiver<Arc<str>>,
    queued_bytes: Arc<AtomicUsize>,
    close: CancellationToken,
}

/// The line did not fit; the connection is being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow {
    pub(crate) queued_bytes: usize,
}

/// An outbox of at most `bytes_max` bytes; a line longer than that is taken when nothing else waits.
pub(crate) fn outbox(bytes_max: usize) -> (Outbox, OutboxReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let close = CancellationToken::new();
    let reader = OutboxReader { lines: receiver, queued_bytes: queued_bytes.clone(), close: close.clone() };
    (Outbox { lines: sender, queued_bytes, bytes_max, close }, reader)
}

impl Outbox {
    /// Queues one line. After an overflow, and once the connection is over, lines go nowhere.
    pub(crate) fn push(&self, line: Arc<str>) -> Result<(), Overflow> {
        if self.close.is_cancelled() {
            return Ok(());
        }
        let queued_bytes = self.queued_bytes.load(Ordering::Relaxed);
        if queued_bytes > 0 && queued_bytes + line.len() > self.bytes_max {
            self.close();
            return Err(Overflow { queued_bytes });
        }
        self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        // A closed channel means that the connection has just ended, which is told by other means.
        let _ = self.lines.send(line);
        Ok(())
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.close.cancel();
    }
}

impl OutboxReader {
    /// The next line to write; `None` when the connection shall end.
    pub(crate) async fn next(&mut self) -> Option<Arc<str>> {
        tokio::select! {
            biased;
            () = self.close.cancelled() => None,
            line = self.lines.recv() => line,
        }
    }

    /// The next line if one waits, whether or not the connection shall end.
    pub(crate) fn try_next(&mut self) -> Option<Arc<str>> {
        self.lines.try_recv().ok()
    }

    /// The line has left.
    pub(crate) fn written(&self, line: &str) {
        self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_ends_the_connection() {
        let (outbox, mut reader) = outbox(10);
        assert_eq!(outbox.push("12345".into()), Ok(()));
        assert_eq!(outbox.push("12345".into()), Ok(()));
        let line = reader.next().await.unwrap();
        reader.written(&line);
        assert_eq!(outbox.push("12345".into()), Ok(()));
        assert_eq!(outbox.push("1".into()), Err(Overflow { queued_bytes: 10 }));
        assert_eq!(reader.next().await, None);
        assert_eq!(outbox.push("1".into()), Ok(()), "nobody is there to be told again");
    }

    #[tokio::test]
    async fn one_long_line_passes_an_empty_outbox() {
        let (outbox, mut reader) = outbox(3);
        assert_eq!(outbox.push("12345".into()), Ok(()));
        assert_eq!(reader.next().await.as_deref(), Some("12345"));
    }
}
