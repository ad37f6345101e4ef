//! Fifty callers at once over HTTP who want exactly what there is.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use greenroom_client::ClientError;
use greenroom_control::ControlConfig;
use greenroom_core::fleet::FleetKind;
use greenroom_store::MemoryStore;
use greenroom_wire::error::Code;
use tokio::task::JoinSet;

use support::*;

const CALLERS: usize = 50;
const ROOMS_EACH: usize = 20;
const SERVERS: u32 = 50;

#[tokio::test]
async fn fifty_callers_take_every_room_there_is_and_nobody_misses_or_shares_one() {
    let kind = FleetKind::Room { rooms_per_server: 20, seats_per_room: 2 };
    let config = ControlConfig::new(vec![fleet("arena", kind, (SERVERS, SERVERS), 0)]);
    let control = Control::start(config, Arc::new(MemoryStore::default())).await;
    let _agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    control.ready().await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = control.client.clone();
        callers.spawn(async move {
            let mut given = Vec::new();
            for nth in 0..ROOMS_EACH {
                let mut body = request(None, &[&format!("p{caller}-{nth}")]);
                body.timeout_ms = Some(0);
                given.push(client.allocate(&"arena".parse().expect("a name"), &body).await);
            }
            given
        });
    }
    let mut rooms = BTreeSet::new();
    let mut on_server: BTreeMap<String, usize> = BTreeMap::new();
    for given in callers.join_all().await.into_iter().flatten() {
        let given = given.expect("there is a room for everybody: a refusal would be a false miss");
        assert!(given.created && rooms.insert(given.room.to_string()), "room {} was given twice", given.room);
        *on_server.entry(given.server.to_string()).or_default() += 1;
    }
    assert_eq!((rooms.len(), on_server.len()), (CALLERS * ROOMS_EACH, 50));
    assert!(on_server.values().all(|rooms| *rooms == 20), "{on_server:?}");
    let mut body = request(None, &["late"]);
    body.timeout_ms = Some(0);
    let late = control.client.allocate(&"arena".parse().expect("a name"), &body).await;
    assert!(matches!(late, Err(ClientError::Refused { code: Code::NoCapacity, .. })), "{late:?}");
}
