//! What went wrong with TLS, in words that say whose certificate and what to do.
//!
//! Never decides anything.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// The fault of TLS within `error` or its causes, in words; `None` when TLS is not what failed.
#[must_use]
pub fn cause(error: &(dyn Error + 'static)) -> Option<String> {
    find(error).map(words)
}

/// The same when the other end has refused our certificate: nothing that was sent over the connection was read.
#[must_use]
pub fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    find(error).filter(|found| matches!(found, rustls::Error::AlertReceived(_))).map(words)
}

fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // What an io::Error wraps is not among its sources.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn words(error: &rustls::Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's own words do for the rest")]
    match error {
        rustls::Error::InvalidCertificate(why) => of_theirs(why),
        rustls::Error::AlertReceived(alert) => of_ours(*alert),
        rustls::Error::NoCertificatesPresented => "the other end shows no certificate".to_owned(),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the other end does not speak TLS".to_owned()
        }
        other => other.to_string(),
    }
}

/// We refused what the other end showed.
fn of_theirs(why: &CertificateError) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's own words do for the rest")]
    match why {
        CertificateError::UnknownIssuer => {
            "the other end's certificate is signed by none of the authorities in ca".to_owned()
        }
        // Whoever makes an authority anew calls it as before.
        CertificateError::BadSignature => {
            "the other end's certificate is signed by none of the authorities in ca, though one has the signer's name"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the other end's certificate has expired, or a clock is wrong: {why}")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the other end's certificate is not valid yet, or a clock is wrong: {why}")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the other end's certificate is not for the name that was dialled: {why}")
        }
        other => format!("the other end's certificate cannot be used: {other}"),
    }
}

/// The other end refused what we showed.
fn of_ours(alert: AlertDescription) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "other alerts have one sentence")]
    let why = match alert {
        AlertDescription::UnknownCA => "our certificate: no authority that it trusts has signed it",
        AlertDescription::DecryptError => {
            "our certificate: what it trusts has the signer's name, but not its key"
        }
        AlertDescription::CertificateExpired => "our certificate: it has expired, or a clock is wrong",
        AlertDescription::CertificateRequired => "us without a certificate",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown => "our certificate",
        other => return format!("the other end broke the handshake off: {other:?}"),
    };
    format!("the other end refuses {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fault_is_found_under_whatever_wraps_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("a wrapper")]
        struct Wrapper(#[source] io::Error);
        let fault = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let found = cause(&Wrapper(io::Error::other(fault())));
        assert_eq!(found.unwrap(), "the other end's certificate is signed by none of the authorities in ca");
        let found = cause(&rustls::Error::AlertReceived(AlertDescription::UnknownCA));
        assert_eq!(
            found.unwrap(),
            "the other end refuses our certificate: no authority that it trusts has signed it"
        );
        assert_eq!(cause(&io::Error::other("no such thing")), None);
    }
}
