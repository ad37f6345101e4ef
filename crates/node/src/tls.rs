//! TLS of the node's port: the certificate with its reloading, and the records of one connection. No buffer of its own
//! for a connection at rest: what is read goes through one space of the thread, what is written through another.
//! Never a socket's owner: `channel` hands it in.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use greenroom_tls::TlsError;
use greenroom_tls::{PairFiles, Watched};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ProducesTickets, UnbufferedServerConnection};
use rustls::sign::SingleCertAndKey;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

use crate::state::NodeState;

/// Bytes of ciphertext that are looked at at once: the longest record, and whatever else is there.
const CIPHER_BYTES: usize = 32 * 1024;

/// Plaintext of one record.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// How long changed files must be at rest before they are read: one of a pair is replaced after the other.
const AT_REST: Duration = Duration::from_secs(1);

/// What a record adds to its plaintext, and what small answers of a handshake take.
const SPARE_BYTES: usize = 256;

thread_local! {
    /// Where ciphertext is read to and decrypted.
    static CIPHER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CIPHER_BYTES].into());
    /// An empty queue with room, for the connection that writes next.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The certificate and key of a node's port, in PEM files. They are read again when they change and at SIGHUP: new
/// connections get the new certificate, those that are open go on. A pair that cannot be read, or whose key does not fit,
/// is logged and leaves the old one in use.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, then those that lead to a known authority.
    pub certificates: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// How often the files are looked at. Default 10 s.
    pub look_every: Duration,
}

impl TlsFiles {
    /// These files, looked at every 10 s.
    pub fn new(certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificates: certificates.into(), key: key.into(), look_every: Duration::from_secs(10) }
    }
}

/// The certificate in use.
pub(crate) struct Certificate {
    files: TlsFiles,
    tickets: Arc<dyn ProducesTickets>,
    config: RefCell<Arc<ServerConfig>>,
    watched: RefCell<Watched>,
}

impl Certificate {
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        // Sealed by a key of this process: who comes back saves the signature.
        let tickets = ring::Ticketer::new().map_err(TlsError::Setup)?;
        let watched = Watched::new(vec![files.certificates.clone(), files.key.clone()]);
        let config = RefCell::new(read(&files, &tickets)?);
        Ok(Self { files, tickets, config, watched: RefCell::new(watched) })
    }

    /// The TLS of a connection that was just accepted.
    pub(crate) fn begin(&self) -> io::Result<Tls> {
        let config = Arc::clone(&self.config.borrow());
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Tls {
            connection,
            incoming: Vec::new(),
            plain: Vec::new(),
            outgoing: Vec::new(),
            is_ended: false,
            is_full: false,
            is_broken: false,
        })
    }

    /// Reads the files again.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        self.watched.borrow_mut().take();
        self.config.replace(read(&self.files, &self.tickets)?);
        Ok(())
    }

    fn has_changed(&self) -> bool {
        self.watched.borrow_mut().has_changed()
    }
}

fn read(files: &TlsFiles, tickets: &Arc<dyn ProducesTickets>) -> Result<Arc<ServerConfig>, TlsError> {
    let pair = PairFiles { certificates: files.certificates.clone(), key: files.key.clone() }.read()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Arc::clone(tickets);
    // One connection is all that a client needs.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Reads the files again, and says what came of it.
pub(crate) fn reload(state: &NodeState) {
    let Some(certificate) = &state.certificate else { return };
    match certificate.reload() {
        Ok(()) => {
            state.counting.tls_reloads_total.one();
            tracing::info!(file = %certificate.files.certificates.display(), "the certificate was read again");
        }
        Err(error) => {
            state.counting.tls_reload_faults_total.one();
            tracing::warn!(%error, "the certificate stays the old one");
        }
    }
}

/// Looks at the files of the certificate, for ever.
pub(crate) async fn watch(state: Rc<NodeState>) {
    let Some(certificate) = &state.certificate else { return std::future::pending().await };
    loop {
        let is_changing = certificate.watched.borrow().is_changing();
        let pause = if is_changing { AT_REST } else { Duration::MAX };
        tokio::time::sleep(certificate.files.look_every.min(pause)).await;
        if certificate.has_changed() {
            reload(&state);
        }
    }
}

/// The TLS of one connection.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// Ciphertext that is no whole record yet.
    incoming: Vec<u8>,
    /// Plaintext that was not asked for yet.
    plain: Vec<u8>,
    /// Ciphertext that the kernel did not take yet.
    outgoing: Vec<u8>,
    /// The other end says no more.
    is_ended: bool,
    /// The last look at the socket took all that it had room for.
    is_full: bool,
    /// The library refused what came. It is not asked again: its state is undefined from there on.
    is_broken: bool,
}

/// What to do once the handshake lets us.
#[derive(Clone, Copy)]
enum Then<'a> {
    Nothing,
    Send(&'a [u8]),
    Close,
}

impl Tls {
    /// Plaintext; none at the end of the connection.
    pub(crate) fn read(&mut self, stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.plain.is_empty() {
                let taken = self.plain.len().min(into.len());
                into[..taken].copy_from_slice(&self.plain[..taken]);
                self.plain.drain(..taken);
                if self.plain.is_empty() {
                    self.plain = Vec::new();
                }
                return Ok(taken);
            }
            if self.is_ended {
                return Ok(0);
            }
            CIPHER.with_borrow_mut(|space| self.take_in(stream, space))?;
        }
    }

    /// Encrypts as much as fits into one record and hands it to the kernel, unless something of before waits. What was
    /// encrypted and not taken counts as written; [`Self::flush`] sees to it.
    pub(crate) fn write(&mut self, stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.flush(stream)?;
        let bytes = &bytes[..bytes.len().min(RECORD_BYTES_MAX)];
        if !self.answer(Then::Send(bytes))? {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.flush_some(stream)?;
        Ok(bytes.len())
    }

    /// Hands the kernel what waits.
    pub(crate) fn flush(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.outgoing.len() {
                break Ok(());
            }
            match stream.write(&self.outgoing[sent..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.outgoing.drain(..sent);
        if self.outgoing.is_empty() && self.outgoing.capacity() > 0 {
            let spare = std::mem::take(&mut self.outgoing);
            SPARE.set(spare);
        }
        result
    }

    /// The same, where it does not matter whether the kernel takes it now.
    fn flush_some(&mut self, stream: &TcpStream) -> io::Result<()> {
        match self.flush(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        }
    }

    /// Says that nothing follows.
    pub(crate) fn finish(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.answer(Then::Close)?;
        self.flush_some(stream)
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the kernel may hold more.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(crate) fn has_unread(&self) -> bool {
        !self.plain.is_empty()
    }

    /// Reads ciphertext once and works through it, behind what was left of before.
    fn take_in(&mut self, mut stream: &TcpStream, space: &mut [u8]) -> io::Result<()> {
        let kept = self.incoming.len();
        // Nothing that fills the whole space is a record or a message of a handshake that we want.
        let free = space.get_mut(kept..).filter(|free| !free.is_empty());
        let free = free.ok_or(io::ErrorKind::InvalidData)?;
        let room = free.len();
        let got = stream.read(free)?;
        self.is_full = got == room;
        if got == 0 {
            self.is_ended = true;
            return Ok(());
        }
        space[..kept].copy_from_slice(&self.incoming);
        let bytes = &mut space[..kept + got];
        let (used, _) = self.drive(bytes, Then::Nothing)?;
        self.incoming = bytes[used..].to_vec();
        self.flush_some(stream)
    }

    /// Works on what is there already. The answer says whether it came to that.
    fn answer(&mut self, then: Then<'_>) -> io::Result<bool> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let (used, is_done) = self.drive(&mut incoming, then)?;
        incoming.drain(..used);
        self.incoming = incoming;
        Ok(is_done)
    }

    /// Lets the connection work through `bytes`. The answer says how many of them are done with, and whether it came to
    /// `then`. A fault ends the connection, even a panic of the library: strangers choose what it reads.
    fn drive(&mut self, bytes: &mut [u8], then: Then<'_>) -> io::Result<(usize, bool)> {
        if self.is_broken {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let driven = catch_unwind(AssertUnwindSafe(|| self.drive_unguarded(bytes, then)));
        let driven = driven.unwrap_or_else(|_| Err(io::Error::other("the tls library panicked")));
        self.is_broken = driven.is_err();
        driven
    }

    fn drive_unguarded(&mut self, bytes: &mut [u8], then: Then<'_>) -> io::Result<(usize, bool)> {
        let Self { connection, plain, outgoing, is_ended, .. } = self;
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut bytes[used..]);
            let mut is_done = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record.map_err(invalid)?.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(outgoing, |out| match data.encode(out) {
                        Err(EncodeError::InsufficientSize(size)) => Ok(Err(size)),
                        Err(error @ EncodeError::AlreadyEncoded) => Err(io::Error::other(error)),
                        Ok(bytes) => Ok(Ok(bytes)),
                    })?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match then {
                        Then::Nothing => {}
                        Then::Send(bytes) => encode(outgoing, |out| sized(traffic.encrypt(bytes, out)))?,
                        Then::Close => encode(outgoing, |out| sized(traffic.queue_close_notify(out)))?,
                    }
                    is_done = Some(true);
                }
                Ok(ConnectionState::PeerClosed) => *is_ended = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => is_done = Some(false),
                Ok(ConnectionState::ReadEarlyData(_) | _) => {
                    return Err(io::Error::other("a state of tls that was not asked for"));
                }
                Err(error) => return Err(invalid(error)),
            }
            used += discard;
            if let Some(is_done) = is_done {
                return Ok((used, is_done));
            }
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn sized(encrypted: Result<usize, EncryptError>) -> io::Result<Result<usize, InsufficientSizeError>> {
    match encrypted {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(EncryptError::InsufficientSize(size)) => Ok(Err(size)),
        Err(error @ EncryptError::EncryptExhausted) => Err(io::Error::other(error)),
    }
}

/// Appends what `write` makes, with as much room as it asks for.
fn encode(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> io::Result<Result<usize, InsufficientSizeError>>,
) -> io::Result<()> {
    if out.capacity() == 0 {
        *out = SPARE.take();
    }
    let start = out.len();
    let mut room = out.capacity().saturating_sub(start).max(SPARE_BYTES);
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..])? {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(InsufficientSizeError { required_size }) if required_size > room => room = required_size,
            Err(InsufficientSizeError { .. }) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
