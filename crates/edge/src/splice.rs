//! The two halves of a connection that was upgraded: whatever one side says goes to the other.
//!
//! Never holds bytes or a buffer at rest: what is read is written in the same turn, and only what the other side does not
//! take yet is kept, without reading more of it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_io_timeout::TimeoutStream;

/// Most bytes of one side at once.
const CHUNK_BYTES: usize = 8 * 1024;
/// How long one side may go on after the other has ended.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(30);

/// How long a peer may take nothing of what is sent to it: longer than a server waits for a word of its client (45 s by default), whose
/// end could not be handed on.
const TAKES_NOTHING_MAX: Duration = Duration::from_secs(60);

/// A connection whose writes fail once its peer has taken nothing for a minute, so that none is held for ever by one that does not read.
pub(crate) type Bounded<S> = Pin<Box<TimeoutStream<S>>>;

/// Bounds the writes to a peer.
pub(crate) fn bounded<S: AsyncRead + AsyncWrite>(stream: S) -> Bounded<S> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(TAKES_NOTHING_MAX));
    Box::pin(stream)
}

/// A connection in plain speech or under TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One side, with what was read of it before.
pub(crate) struct Side {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) read: Vec<u8>,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// What the receiver has not taken yet.
    kept: Vec<u8>,
    has_ended: bool,
    is_over: bool,
}

/// Carries bytes both ways until both sides have ended, or one has failed. An end is handed on when all before it is.
///
/// # Errors
/// What ended one side before its time; both are closed then.
pub(crate) async fn splice(mut one: Side, mut other: Side) -> io::Result<()> {
    let mut there = Flow { kept: std::mem::take(&mut one.read), ..Flow::default() };
    let mut back = Flow { kept: std::mem::take(&mut other.read), ..Flow::default() };
    let (one, other) = (&mut one.stream, &mut other.stream);
    poll_fn(|context| {
        let is_there = there.poll(one, other, context)?.is_ready();
        let is_back = back.poll(other, one, context)?.is_ready();
        if is_there || is_back { Poll::Ready(Ok::<(), io::Error>(())) } else { Poll::Pending }
    })
    .await?;
    let rest = poll_fn(|context| {
        let is_there = there.poll(one, other, context)?.is_ready();
        let is_back = back.poll(other, one, context)?.is_ready();
        if is_there && is_back { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    tokio::time::timeout(HALF_CLOSED_MAX, rest).await.unwrap_or(Ok(()))
}

impl Flow {
    /// Carries what there is. Ready when the sender has ended and the receiver knows.
    fn poll(
        &mut self,
        from: &mut Box<dyn Stream>,
        to: &mut Box<dyn Stream>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (mut from, mut to) = (Pin::new(from), Pin::new(to));
        while !self.is_over {
            while !self.kept.is_empty() {
                let written = ready!(to.as_mut().poll_write(context, &self.kept))?;
                self.took(written)?;
            }
            self.kept = Vec::new();
            if self.has_ended {
                ready!(to.as_mut().poll_shutdown(context))?;
                self.is_over = true;
                break;
            }
            let mut space = [MaybeUninit::uninit(); CHUNK_BYTES];
            let mut space = ReadBuf::uninit(&mut space);
            if from.as_mut().poll_read(context, &mut space)?.is_pending() {
                ready!(to.as_mut().poll_flush(context))?;
                return Poll::Pending;
            }
            self.has_ended = space.filled().is_empty();
            if let [_, ..] = space.filled() {
                let written = match to.as_mut().poll_write(context, space.filled())? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(written) => written,
                    Poll::Pending => 0,
                };
                self.kept.extend_from_slice(&space.filled()[written..]);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.kept.drain(..written);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinSet;

    use super::*;

    /// Two ends with a splice between them; `read` was read of the first one before.
    fn between(bytes: usize, read: &[u8]) -> (DuplexStream, DuplexStream, JoinSet<io::Result<()>>) {
        let (one, near) = duplex(bytes);
        let (other, far) = duplex(bytes);
        let mut task = JoinSet::new();
        task.spawn(splice(
            Side { stream: Box::new(near), read: read.to_vec() },
            Side { stream: Box::new(far), read: Vec::new() },
        ));
        (one, other, task)
    }

    #[tokio::test(start_paused = true)]
    async fn all_bytes_pass_in_order_both_ways_however_little_the_other_side_takes() {
        for bytes in [1, 7, 100_000] {
            let (one, other, mut task) = between(bytes, b"first ");
            let long: Vec<u8> = (0..50_000u32).map(|n| (n % 251) as u8).collect();
            let (mut from_one, mut to_one) = tokio::io::split(one);
            let (mut from_other, mut to_other) = tokio::io::split(other);
            let (mut got, mut got_back) = (Vec::new(), Vec::new());
            let say = async {
                to_one.write_all(&long).await.unwrap();
                to_one.shutdown().await.unwrap();
            };
            let answer = async {
                to_other.write_all(&long).await.unwrap();
                to_other.shutdown().await.unwrap();
            };
            let (..) = tokio::join!(
                say,
                answer,
                from_other.read_to_end(&mut got),
                from_one.read_to_end(&mut got_back)
            );
            assert_eq!(got, [b"first ".as_slice(), &long].concat(), "{bytes}");
            assert_eq!(got_back, long, "{bytes}");
            assert!(task.join_next().await.unwrap().unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_end_is_handed_on_while_the_other_side_may_go_on_for_a_while() {
        let (mut one, mut other, mut task) = between(64, b"");
        one.write_all(b"bye").await.unwrap();
        one.shutdown().await.unwrap();
        let mut got = Vec::new();
        other.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"bye");
        other.write_all(b"but").await.unwrap();
        let mut late = [0; 3];
        one.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"but");
        assert!(task.join_next().await.unwrap().unwrap().is_ok(), "it does not wait for ever");
        assert_eq!(one.read(&mut late).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_takes_nothing_is_given_up_and_one_that_takes_little_is_not() {
        let ((mut one, near), (mut other, far)) = (duplex(64), duplex(64));
        let side = |stream: DuplexStream| Side { stream: Box::new(bounded(stream)), read: Vec::new() };
        let mut task = JoinSet::new();
        task.spawn(splice(side(near), side(far)));
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            let told = other.write_all(&[7; 10_000]).await;
            // It ends, and nobody takes even that.
            drop(other);
            told
        });
        for _ in 0..20 {
            tokio::time::sleep(TAKES_NOTHING_MAX - Duration::from_secs(1)).await;
            one.read_exact(&mut [0; 8]).await.unwrap();
        }
        assert!(task.try_join_next().is_none(), "it is slow, but it takes");
        let ended = tokio::time::timeout(2 * TAKES_NOTHING_MAX, task.join_next()).await.expect("in time");
        assert_eq!(ended.unwrap().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(writing.join_next().await.unwrap().unwrap().is_err(), "the sender is told");
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_vanishes_ends_the_other() {
        let (one, mut other, mut task) = between(64, b"");
        drop(one);
        let mut got = Vec::new();
        other.read_to_end(&mut got).await.unwrap();
        other.write_all(b"anybody?").await.unwrap();
        assert!(task.join_next().await.unwrap().unwrap().is_err());
    }
}
