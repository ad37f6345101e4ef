//! Finding the primary, with real sentinels.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

#[path = "../../backplane/tests/ways/sentinels.rs"]
mod sentinels;
#[path = "../../backplane/tests/ways/store.rs"]
mod store;

use std::time::{Duration, Instant};

use greenroom_redis::RedisAddress;

use sentinels::{PATIENCE, Watched, sentinel_of};
use store::Store;

const WITHIN: Duration = Duration::from_secs(2);

/// The port of whoever is found, or why nobody is.
async fn found(address: &RedisAddress) -> Result<String, String> {
    let client = address.client(WITHIN).await.map_err(|error| error.to_string())?;
    Ok(client.get_connection_info().addr().to_string())
}

fn at(ports: &[u16], who: &str) -> RedisAddress {
    let sentinels: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redis+sentinel://{who}{}/main", sentinels.join(",")).parse().unwrap()
}

#[tokio::test]
async fn whoever_is_made_the_primary_is_found_and_the_former_one_is_not() {
    let mut watched = Watched::start(1, &[]);
    let address: RedisAddress = watched.address();
    assert_eq!(found(&address).await, Ok(format!("127.0.0.1:{}", watched.stores[0].port)));
    // As long as sentinels do not agree that a frozen one is gone it is named, and does not answer.
    let frozen = watched.stores[0].freeze();
    let told = found(&address).await.unwrap_err();
    assert!(told.contains("does not answer within 2000 ms"), "{told}");
    let deadline = Instant::now() + PATIENCE;
    let other = format!("127.0.0.1:{}", watched.stores[1].port);
    while found(&address).await.as_ref() != Ok(&other) {
        assert!(Instant::now() < deadline, "the other one takes over");
    }
    // It believes to be the primary, and nobody is led to it.
    drop(frozen);
    while !watched.is_replica(0) {
        assert_eq!(found(&address).await.as_ref(), Ok(&other));
        assert!(Instant::now() < deadline, "it is made a replica");
    }
    // One that is away costs its time once; from then on the one that told the truth is asked first.
    let away = watched.sentinels[0].freeze();
    assert_eq!(found(&address).await.as_ref(), Ok(&other));
    let began_at = Instant::now();
    assert_eq!(found(&address).await.as_ref(), Ok(&other));
    assert!(began_at.elapsed() < Duration::from_millis(450), "{:?}", began_at.elapsed());
    drop(away);
    watched.sentinels.iter_mut().for_each(Store::kill);
    let told = found(&address).await.unwrap_err();
    assert_eq!(told.matches("cannot be asked: ").count(), 3, "{told}");
    assert!(told.starts_with("no primary of \"main\" is found: sentinel 127.0.0.1:"), "{told}");
}

#[tokio::test]
async fn a_sentinel_that_is_behind_does_not_lead_to_a_replica() {
    let primary = Store::start(&[]);
    let replica = Store::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let (stale, fresh) = (sentinel_of(replica.port), sentinel_of(primary.port));
    let told = found(&at(&[stale.port], "")).await.unwrap_err();
    let why = format!("names 127.0.0.1:{}, which says that it is a replica", replica.port);
    assert!(told.contains(&why), "{told}");
    let both = at(&[stale.port, stale.port, fresh.port], "");
    assert_eq!(found(&both).await, Ok(format!("127.0.0.1:{}", primary.port)));
}

#[tokio::test]
async fn it_is_said_why_no_primary_is_found() {
    let primary = Store::start(&[]);
    assert_eq!(primary.ask(&["CONFIG", "SET", "requirepass", "secret"]).as_deref(), Some("+OK"));
    let sentinel = sentinel_of(primary.port);
    let port = format!("127.0.0.1:{}", primary.port);
    assert_eq!(found(&at(&[sentinel.port], ":secret@")).await, Ok(port.clone()));
    let told = found(&at(&[sentinel.port], "")).await.unwrap_err();
    assert!(
        told.contains(&format!("names {port}, which cannot be asked: ")) && told.contains("NOAUTH"),
        "{told}"
    );
    let told = found(&at(&[sentinel.port], ":other@")).await.unwrap_err();
    assert!(told.contains("authentication failed"), "{told}");
    assert!(!told.contains("other"), "{told}");
    let unknown: RedisAddress = format!("redis+sentinel://127.0.0.1:{}/mian", sentinel.port).parse().unwrap();
    let told = found(&unknown).await.unwrap_err();
    assert_eq!(
        told,
        format!(
            "no primary of \"mian\" is found: sentinel 127.0.0.1:{} does not know the name",
            sentinel.port
        )
    );
    // A Redis is no sentinel.
    let told = found(&at(&[primary.port], "")).await.unwrap_err();
    assert!(told.contains("cannot be asked: "), "{told}");
    assert_eq!(sentinel.ask(&["ACL", "SETUSER", "default", "resetpass", ">hidden"]).as_deref(), Some("+OK"));
    let closed =
        format!("redis+sentinel://:secret@127.0.0.1:{}/main?sentinel_password=hidden", sentinel.port);
    assert_eq!(found(&closed.parse().unwrap()).await, Ok(port));
    let told = found(&at(&[sentinel.port], ":secret@")).await.unwrap_err();
    assert!(told.contains("NOAUTH"), "{told}");
}
