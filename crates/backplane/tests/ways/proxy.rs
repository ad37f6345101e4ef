//! A TCP proxy in front of a store: slow, cut in the middle of a word, or aimed elsewhere, as a test wants it. The tests
//! of `store` have this file too.
//! Never looks at what it passes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// No cut is planned.
const NEVER: i64 = i64::MAX;

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    cut: watch::Sender<u64>,
}

struct Shared {
    target: AtomicU16,
    delay_ms: AtomicU64,
    to_store: AtomicI64,
    from_store: AtomicI64,
}

impl Proxy {
    /// Listens; the connections live in `tasks`.
    pub(crate) async fn start(target: u16, tasks: &mut JoinSet<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            delay_ms: AtomicU64::new(0),
            to_store: AtomicI64::new(NEVER),
            from_store: AtomicI64::new(NEVER),
        });
        let (cut, _) = watch::channel(0);
        let proxy = Self { port, shared, cut };
        tasks.spawn(proxy.clone().accept(listener));
        proxy
    }

    /// Every word takes this much longer, there and back.
    pub(crate) fn slow_down(&self, delay: Duration) {
        self.shared.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Cuts all connections once so many bytes more have gone to the store.
    pub(crate) fn cut_after_sending(&self, bytes: i64) {
        self.shared.to_store.store(bytes, Ordering::SeqCst);
    }

    /// Cuts all connections once so many bytes more have come from the store.
    pub(crate) fn cut_after_receiving(&self, bytes: i64) {
        self.shared.from_store.store(bytes, Ordering::SeqCst);
    }

    /// Whether the cut that was planned has happened.
    pub(crate) fn has_cut(&self) -> bool {
        [&self.shared.to_store, &self.shared.from_store]
            .iter()
            .all(|left| left.load(Ordering::SeqCst) == NEVER)
    }

    /// New connections go to another store, and those that are there end.
    pub(crate) fn aim(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
        self.cut_now();
    }

    pub(crate) fn cut_now(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    async fn accept(self, listener: TcpListener) {
        let mut streams = JoinSet::new();
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            while streams.try_join_next().is_some() {}
            let proxy = self.clone();
            streams.spawn(async move {
                let target = proxy.shared.target.load(Ordering::SeqCst);
                let mut cuts = proxy.cut.subscribe();
                let Ok(store) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                client.set_nodelay(true).unwrap();
                store.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_store, to_store) = store.into_split();
                tokio::select! {
                    () = proxy.pass(from_client, to_store, &proxy.shared.to_store) => {}
                    () = proxy.pass(from_store, to_client, &proxy.shared.from_store) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    }

    async fn pass(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: &AtomicI64) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
            sleep(Duration::from_millis(self.shared.delay_ms.load(Ordering::SeqCst))).await;
            let mut passed = count;
            let length = i64::try_from(count).unwrap();
            if left.load(Ordering::SeqCst) != NEVER {
                let after = left.fetch_sub(length, Ordering::SeqCst) - length;
                if after <= 0 {
                    passed = usize::try_from(length + after).unwrap_or(0);
                    let _is_passed = to.write_all(&buffer[..passed]).await;
                    left.store(NEVER, Ordering::SeqCst);
                    self.cut_now();
                    return;
                }
            }
            if to.write_all(&buffer[..passed]).await.is_err() {
                return;
            }
        }
    }
}
