//! The SDK.

use std::collections::BTreeMap;

use greenroom_wire::rooms::EndReason;
use greenroom_wire::sdk::{
    Count, Flag, GameServer, Health, KeyValue, Long, ObjectMeta, PeerChange, PeerList, Player, PlayerIds,
    Players, Port, Refused, RoomOver, Span, Spec, Status, Watched,
};

use crate::From::Process;
use crate::api::gameserver;
use crate::{golden, text};

#[test]
fn a_gameserver_and_its_agent_speak_as_ever() {
    let record = GameServer {
        object_meta: ObjectMeta {
            name: "arena-a1b2c".to_owned(),
            namespace: "host-1".to_owned(),
            uid: "arena-a1b2c.0".to_owned(),
            resource_version: String::new(),
            generation: Long(1),
            creation_timestamp: Long(1_700_000_000),
            deletion_timestamp: Long(0),
            annotations: BTreeMap::from([("greenroom/revision".to_owned(), "0a1b2c3d4e5f".to_owned())]),
            labels: BTreeMap::from([("agones.dev/fleet".to_owned(), "arena".to_owned())]),
        },
        spec: Spec {
            health: Health {
                disabled: false,
                period_seconds: 5,
                failure_threshold: 3,
                initial_delay_seconds: 0,
            },
        },
        status: Status {
            state: "Ready".to_owned(),
            address: "127.0.0.1".to_owned(),
            ports: vec![Port { name: "default".to_owned(), port: 7_001 }],
            players: None,
        },
    };
    let players = Players { count: Long(1), capacity: Long(8), ids: vec!["ann".to_owned()] };
    let with_players = Status { players: Some(players), ..record.status.clone() };
    golden(Process, "sdk_gameserver_players", &GameServer { status: with_players, ..record.clone() });
    golden(Process, "sdk_span", &Span { seconds: Long(30) });
    golden(Process, "sdk_player", &Player { id: "ann".to_owned() });
    golden(Process, "sdk_count", &Count { count: Long(8) });
    golden(Process, "sdk_flag", &Flag { bool: true });
    golden(Process, "sdk_players", &PlayerIds { list: vec!["ann".to_owned()] });
    golden(Process, "sdk_gameserver", &record);
    golden(Process, "sdk_watched", &Watched { result: record });
    golden(Process, "sdk_label", &KeyValue { key: "map".to_owned(), value: "desert".to_owned() });
    let result = serde_json::json!({"winner": "ann"});
    golden(Process, "sdk_room_over", &RoomOver { epoch: 1, reason: EndReason::Finished, result });
    let refused = Refused { code: 3, message: "label \"a b\" is no name".to_owned(), details: Vec::new() };
    golden(Process, "sdk_refused", &refused);
    golden(Process, "sdk_peers", &PeerList { peers: vec![gameserver()] });
    let changes = vec![
        PeerChange::Joined { peer: gameserver() },
        PeerChange::Known,
        PeerChange::Changed { peer: gameserver() },
        PeerChange::Left { name: text("arena-a1b2c") },
    ];
    golden(Process, "sdk_peer_changes", &changes);
}
