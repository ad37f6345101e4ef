//! TLS of Greenroom's own ends: certificates, keys and authorities out of PEM files, taken up again when the files change.
//!
//! Never opens a socket: whoever accepts or dials brings the connection and asks here for what is valid now.

mod dial;
mod facts;
mod files;
mod tls;
mod words;

pub use facts::{CertificateFacts, facts};
pub use files::{PairFiles, TlsError, Watched};
pub use tls::{LOOK_EVERY, Tls};
pub use words::{cause, refusal};
