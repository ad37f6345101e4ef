//! TLS of the node's port, seen by a client that shares no code with it but the library's.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::{DEADLINE, Served, config, run, serve, until};
use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_node::config::TlsFiles;
use greenroom_node::{Config, Node, NodeError};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Puts a fresh certificate for `localhost` in place, and gives it.
fn put_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    put(folder, "cert.pem", made.cert.pem().as_bytes());
    put(folder, "key.pem", made.signing_key.serialize_pem().as_bytes());
    made.cert.der().clone()
}

/// Replaces a file as tools do: whole, by a new name.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join("new"), bytes).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles {
        look_every: Duration::from_millis(20),
        ..TlsFiles::new(folder.join("cert.pem"), folder.join("key.pem"))
    }
}

/// A node under TLS that echoes, and the certificate that it shows.
fn secure(change: impl FnOnce(&mut Config)) -> (Served, CertificateDer<'static>, TempDir) {
    let folder = TempDir::new().unwrap();
    let certificate = put_certificate(folder.path());
    let mut config = Config { tls: Some(files(folder.path())), ..config() };
    change(&mut config);
    let mut node = Node::new(config);
    node.namespace("/")
        .on("echo", |_, mut event| {
            if let Some(ack) = event.ack() {
                ack.send_args_of(&event);
            }
        })
        .on("flood", |socket, event| {
            for n in 0..event.arg::<u32>(0).unwrap() {
                socket.emit("flood", &format!("{n:0>30000}"));
            }
        })
        .on("secure", |socket, mut event| event.reply(&socket.handshake().is_secure()));
    (serve(node), certificate, folder)
}

fn connector(
    root: &CertificateDer<'static>,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// A handshake over any stream.
async fn dress<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<S>> {
    let name = ServerName::try_from("localhost").unwrap();
    tokio::time::timeout(DEADLINE, connector.connect(name, stream)).await.expect("a handshake in time")
}

async fn dial(served: &Served, root: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(served.address).await.unwrap();
    dress(stream, &connector(root, &["http/1.1"], rustls::ALL_VERSIONS)).await
}

struct Client<S>(WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A socket of `/` over a stream.
    async fn connect(stream: S) -> Self {
        let url = "wss://localhost/socket.io/?EIO=4&transport=websocket";
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        let mut client = Self(socket);
        assert!(client.recv().await.starts_with("0{"));
        client.send("40").await;
        assert!(client.recv().await.starts_with("40{"));
        client
    }

    async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn recv(&mut self) -> String {
        let next = tokio::time::timeout(DEADLINE, self.0.next()).await.expect("a message in time");
        next.unwrap().unwrap().into_text().unwrap().as_str().to_owned()
    }

    async fn echoes(&mut self, text: &str) {
        self.send(&format!("427[\"echo\",\"{text}\"]")).await;
        assert!(self.recv().await == format!("437[\"{text}\"]"), "{} bytes come back", text.len());
    }
}

#[test]
fn websockets_and_requests_work_under_tls_and_the_handshake_says_so() {
    run(async {
        let (served, root, _folder) = secure(|_| {});
        for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
            let stream = TcpStream::connect(served.address).await.unwrap();
            let stream = dress(stream, &connector(&root, &["h2", "http/1.1"], versions)).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let mut client = Client::connect(stream).await;
            client.send("421[\"secure\"]").await;
            assert_eq!(client.recv().await, "431[true]");
            for length in [0, 1, 16_000, 16_384, 70_000, 900_000] {
                client.echoes(&"x".repeat(length)).await;
            }
        }
        // Two requests over one connection, and a health check.
        let mut stream = dial(&served, &root).await.unwrap();
        for target in ["/livez", "/socket.io/?EIO=4&transport=polling"] {
            stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await.unwrap().unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"), "{target}");
        }
        let plain = serve({
            let mut node = Node::new(config());
            node.namespace("/")
                .on("secure", |socket, mut event| event.reply(&socket.handshake().is_secure()));
            node
        });
        let (mut ann, _) = plain.connect().await;
        ann.send("421[\"secure\"]").await;
        assert_eq!(ann.recv().await, "431[false]");
    });
}

#[test]
fn a_new_certificate_is_taken_up_and_nobody_is_dropped() {
    run(async {
        let (served, first, folder) = secure(|_| {});
        let mut ann = Client::connect(dial(&served, &first).await.unwrap()).await;
        let second = put_certificate(folder.path());
        until("the files were read again", || served.handle.counters().tls_reloads_total > 0).await;
        // The certificate may have been seen before its key; this reads both.
        served.handle.reload_certificate();
        let mut bob = Client::connect(dial(&served, &second).await.unwrap()).await;
        assert!(dial(&served, &first).await.is_err(), "the old certificate is not shown any more");
        ann.echoes("still here").await;
        bob.echoes("here now").await;
        // A pair that does not fit leaves the one in use.
        let faults = served.handle.counters().tls_reload_faults_total;
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for bytes in [&b"no pem"[..], other.signing_key.serialize_pem().as_bytes()] {
            let before = served.handle.counters().tls_reload_faults_total;
            put(folder.path(), "key.pem", bytes);
            until("the fault is counted", || served.handle.counters().tls_reload_faults_total > before).await;
            Client::connect(dial(&served, &second).await.unwrap()).await.echoes("as before").await;
        }
        assert!(served.handle.counters().tls_reload_faults_total >= faults + 2);
    });
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_at_the_start() {
    run(async {
        let folder = TempDir::new().unwrap();
        let told = |folder: &Path| {
            let node = Node::new(Config { tls: Some(files(folder)), ..config() });
            match node.bind() {
                Err(NodeError::Tls(error)) => error.to_string(),
                other => panic!("{:?}", other.map(|_| ())),
            }
        };
        assert!(told(folder.path()).contains("cert.pem cannot be read"));
        put_certificate(folder.path());
        put(folder.path(), "key.pem", b"");
        assert!(told(folder.path()).ends_with("key.pem holds no private key in pem"));
        put(folder.path(), "cert.pem", b"-----BEGIN");
        assert!(told(folder.path()).ends_with("cert.pem holds no certificate in pem"));
        put_certificate(folder.path());
        let key = std::fs::read(folder.path().join("key.pem")).unwrap();
        put_certificate(folder.path());
        put(folder.path(), "key.pem", &key);
        assert!(told(folder.path()).contains("cannot be used together"));
    });
}

#[test]
fn who_speaks_no_tls_or_does_not_end_its_handshake_holds_no_connection() {
    run(async {
        let (served, root, _folder) = secure(|config| config.header_timeout = Duration::from_millis(200));
        let mut rest = Vec::new();
        let mut plain = TcpStream::connect(served.address).await.unwrap();
        plain.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let _end = tokio::time::timeout(DEADLINE, plain.read_to_end(&mut rest)).await.unwrap();
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
        until("the fault is counted", || served.handle.counters().tls_faults_total == 1).await;
        // Half a hello, and one that says it is longer than any.
        for bytes in [&[22, 3, 1, 0, 200, 1, 0][..], &[22, 3, 1, 0x3f, 0xff, 1, 0xff, 0xff, 0xff]] {
            let mut half = TcpStream::connect(served.address).await.unwrap();
            half.write_all(bytes).await.unwrap();
            rest.clear();
            let _end = tokio::time::timeout(DEADLINE, half.read_to_end(&mut rest)).await.unwrap();
        }
        let only_h2 = connector(&root, &["h2"], rustls::ALL_VERSIONS);
        let stream = TcpStream::connect(served.address).await.unwrap();
        assert!(dress(stream, &only_h2).await.is_err(), "nothing but http/1.1 is spoken");
        // A handshake, and then no request.
        let mut silent = dial(&served, &root).await.unwrap();
        rest.clear();
        let _end = tokio::time::timeout(DEADLINE, silent.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
        Client::connect(dial(&served, &root).await.unwrap()).await.echoes("others go on").await;
    });
}

/// A stream that takes and gives a few bytes at a time.
struct Trickle(TcpStream);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut few = [0; 3];
        let room = into.remaining().min(few.len());
        let mut few = ReadBuf::new(&mut few[..room]);
        let read = Pin::new(&mut self.0).poll_read(context, &mut few);
        into.put_slice(few.filled());
        read
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let few = &bytes[..bytes.len().min(5)];
        Pin::new(&mut self.0).poll_write(context, few)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[test]
fn records_that_come_in_pieces_are_the_same_records() {
    run(async {
        let (served, root, _folder) = secure(|_| {});
        let stream = TcpStream::connect(served.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connector = connector(&root, &[], rustls::ALL_VERSIONS);
        let mut client = Client::connect(dress(Trickle(stream), &connector).await.unwrap()).await;
        client.echoes("in pieces").await;
        client.echoes(&"y".repeat(3000)).await;
    });
}

#[test]
fn a_reader_that_pauses_gets_everything_and_one_that_stops_is_closed() {
    run(async {
        let (served, root, _folder) = secure(|config| config.outbound_bytes_max = 6_000_000);
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that ciphertext has to wait on the other side.
        socket.set_recv_buffer_size(16_384).unwrap();
        let stream = socket.connect(served.address).await.unwrap();
        let stream = dress(stream, &connector(&root, &[], rustls::ALL_VERSIONS)).await.unwrap();
        let mut ann = Client::connect(stream).await;
        ann.send("42[\"flood\",150]").await;
        let mut bob = Client::connect(dial(&served, &root).await.unwrap()).await;
        bob.echoes("meanwhile").await;
        for n in 0..150 {
            let text = ann.recv().await;
            assert!(text == format!("42[\"flood\",\"{n:0>30000}\"]"), "event {n}");
        }
        ann.echoes("after it").await;
        // Now it reads no more.
        for _ in 0..20 {
            if served.handle.counters().slow_closed_total > 0 {
                break;
            }
            ann.send("42[\"flood\",100]").await;
            bob.echoes("others go on").await;
        }
        until("it is closed", || served.handle.counters().slow_closed_total == 1).await;
        until("it is gone", || served.handle.connections() == 1).await;
    });
}

/// The first words of a client.
fn hello(root: &CertificateDer<'static>) -> Vec<u8> {
    let config = Arc::clone(connector(root, &["http/1.1"], rustls::ALL_VERSIONS).config());
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_hello_that_was_tampered_with_harms_nobody() {
    let seed = getrandom::u64().unwrap();
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    run(async {
        let (served, root, _folder) = secure(|config| config.header_timeout = Duration::from_millis(100));
        for _ in 0..200 {
            let mut hello = hello(&root);
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..hello.len());
                hello[at] = random.random();
            }
            hello.truncate(random.random_range(1..=hello.len()));
            let at = random.random_range(0..hello.len());
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            for piece in [&hello[..at], &hello[at..], b"\x15\x03\x03\0\x02\x01\0"] {
                // It may have been turned away by then.
                let _sent = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        }
        Client::connect(dial(&served, &root).await.unwrap()).await.echoes("others go on").await;
    });
}
