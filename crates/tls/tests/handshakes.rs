//! Two ends in one process: who is let in, who is not, what both are told, and new certificates under an open connection.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

#[path = "support/authority.rs"]
mod authority;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_tls::{PairFiles, Tls, cause, facts};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use authority::{Authority, put};

type Served = server::TlsStream<DuplexStream>;
type Dialled = client::TlsStream<DuplexStream>;

/// A handshake and a byte each way, or what each end says of it.
async fn meet(
    served: &Tls,
    dialler: &Arc<Tls>,
    name: &str,
) -> (Result<Served, String>, Result<Dialled, String>) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(served.accepting().unwrap());
    let connector = TlsConnector::from(Arc::new(dialler.dialling().unwrap().unwrap()));
    let told = |error: std::io::Error| cause(&error).unwrap_or_else(|| error.to_string());
    let accepting = async {
        let mut stream = acceptor.accept(here).await.map_err(told)?;
        stream.write_u8(1).await.map_err(told)?;
        stream.read_u8().await.map_err(told)?;
        Ok(stream)
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = async {
        let mut stream = connector.connect(name, there).await.map_err(told)?;
        // Refusals of our certificate come after our own part of the handshake.
        stream.read_u8().await.map_err(told)?;
        stream.write_u8(2).await.map_err(told)?;
        Ok(stream)
    };
    tokio::join!(accepting, connecting)
}

#[tokio::test]
async fn only_certificates_of_the_authority_that_are_valid_now_are_taken_and_both_ends_are_told_why() {
    let (ours, theirs, again) = (Authority::new("ours"), Authority::new("theirs"), Authority::new("ours"));
    let good = ours.sign("control", "control.test", 4000);
    let old = ours.sign("old", "control.test", 2021);
    let foreign = theirs.sign("control", "control.test", 4000);
    let agent = ours.sign("agent", "greenroom-agent", 4000);
    let stranger = theirs.sign("agent", "greenroom-agent", 4000);
    let renewed = again.sign("agent", "greenroom-agent", 4000);
    let late = ours.sign("late", "greenroom-agent", 2021);
    let untrusted = "the other end's certificate is signed by none of the authorities in ca";
    let expired = "the other end's certificate has expired";
    let not_trusted = "the other end refuses our certificate: no authority that it trusts has signed it";
    let refused = "the other end refuses our certificate";
    let (name, other) = ("control.test", "elsewhere.test");
    #[rustfmt::skip]
    let cases = [
        ("right", &good, Some(&agent), name, None),
        ("without a certificate", &good, None, name, None),
        ("another authority", &good, Some(&stranger), name, Some((untrusted, not_trusted))),
        ("an authority made anew", &good, Some(&renewed), name, Some((untrusted, refused))),
        ("expired", &good, Some(&late), name, Some((expired, refused))),
        ("another server", &foreign, Some(&agent), name, Some((not_trusted, untrusted))),
        ("an expired server", &old, Some(&agent), name, Some((refused, expired))),
        ("a server of another name", &good, Some(&agent), other, Some((refused, "the other end's certificate is not for the name"))),
    ];
    for (case, pair, shown, name, wanted) in cases {
        let served = Tls::open(Some(pair.clone()), Some(ours.ca())).unwrap();
        let dialler = Tls::open(shown.cloned(), Some(ours.ca())).unwrap();
        let (server, client) = meet(&served, &dialler, name).await;
        if let Some((at_server, at_client)) = wanted {
            let (server, client) = (server.unwrap_err(), client.unwrap_err());
            assert!(server.starts_with(at_server), "{case}: the server says {server:?}");
            assert!(client.starts_with(at_client), "{case}: the client says {client:?}");
        } else {
            let server = server.unwrap();
            client.unwrap();
            let seen = server.get_ref().1.peer_certificates().map(|chain| facts(&chain[0]).unwrap().names);
            assert_eq!(seen, shown.map(|_| vec!["greenroom-agent".to_owned()]), "{case}");
        }
    }
}

#[tokio::test]
async fn new_files_are_taken_up_at_both_ends_and_open_connections_go_on() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let stop = tokio_util::sync::CancellationToken::new();
    let control = first.sign("control", "control.test", 4000);
    let agent = first.sign("agent", "greenroom-agent", 4000);
    let trusted = first.folder.path().join("trusted.pem");
    let only_first = std::fs::read_to_string(first.ca()).unwrap();
    put(&trusted, &only_first);
    let served = Tls::open(Some(control.clone()), Some(trusted.clone())).unwrap();
    let dialler = Tls::open(Some(agent.clone()), Some(trusted.clone())).unwrap();
    let mut loops = tokio::task::JoinSet::new();
    loops.spawn(Arc::clone(&served).keep_fresh(stop.clone()));
    // The dialling end looks whenever it dials: it needs no loop.
    let (server, client) = meet(&served, &dialler, "control.test").await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    let before = server.get_ref().1.peer_certificates().unwrap()[0].clone();

    let later = second.sign("agent", "greenroom-agent", 4000);
    std::fs::copy(&later.key, &agent.key).unwrap();
    // Both authorities for a while, then the certificates of the second.
    put(&trusted, &(only_first + &std::fs::read_to_string(second.ca()).unwrap()));
    put(&agent.certificates, &std::fs::read_to_string(&later.certificates).unwrap());
    let began = Instant::now();
    loop {
        if let (Ok(server), Ok(_)) = meet(&served, &dialler, "control.test").await
            && server.get_ref().1.peer_certificates().unwrap()[0] != before
        {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the new certificate is not taken up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nothing of this has touched the connection that was open.
    server.write_all(b"still").await.unwrap();
    let mut heard = [0; 5];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still");
    stop.cancel();
    while loops.join_next().await.is_some() {}
}

#[test]
fn what_cannot_be_used_is_told_by_its_file_and_what_to_do() {
    let authority = Authority::new("one");
    let good = authority.sign("good", "a.test", 4000);
    let other = authority.sign("other", "a.test", 4000);
    let none = authority.folder.path().join("none.pem");
    let empty = authority.folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let told = |pair: Option<PairFiles>, ca: Option<&PathBuf>| {
        let error = Tls::open(pair, ca.cloned()).unwrap_err().to_string();
        error.replace(&authority.folder.path().display().to_string(), "")
    };
    let pair = |certificates: &PathBuf, key: &PathBuf| {
        Some(PairFiles { certificates: certificates.clone(), key: key.clone() })
    };
    let cases = [
        (pair(&none, &good.key), None, "/none.pem cannot be read; put it there, readable to this process"),
        (pair(&empty, &good.key), None, "/empty.pem holds no certificate in pem"),
        (pair(&good.certificates, &good.certificates), None, "/good.pem holds no private key in pem"),
        (
            pair(&good.certificates, &other.key),
            None,
            "/good.pem and /other.key cannot be used together; put certificate and key of one issue there",
        ),
        (None, Some(&empty), "/empty.pem holds no certificate in pem"),
    ];
    for (pair, ca, wanted) in cases {
        assert_eq!(told(pair, ca), wanted);
    }
}
