//! Stored records.

use greenroom_wire::api::{AuditAction, AuditEntry, RoomResult};
use greenroom_wire::record::{
    AnswerRecord, AuditRecord, DecisionRecord, DrainRecord, HostRecord, KeyRecord, LeaseRecord, NewsConcern,
    NewsEntry, NewsEvent, NewsItem, NewsReader, NewsRecord, ResultRecord, RoomRecord, ScaleRecord,
    SeatRecord, SigningKeyRecord, TermRecord,
};
use greenroom_wire::rooms::EndReason;
use serde_json::{Value, json};

use crate::From::Process;
use crate::{golden, text};

fn seat(number: u16, player: &str) -> SeatRecord {
    SeatRecord {
        seat: number,
        player: text(player),
        token_id: format!("token-{number}").into(),
        expires_at_ms: 1_700_000_030_000,
    }
}

fn room() -> RoomRecord {
    RoomRecord {
        version: 1,
        room: text("room-1"),
        fleet: text("arena"),
        key: Some(text("guild:42")),
        epoch: 1,
        open: false,
        server: text("arena-a1b2c"),
        instance: text("arena-a1b2c.0"),
        host: text("host-1"),
        endpoint: "127.0.0.1:7001".into(),
        tls: false,
        created_at_ms: 1_700_000_000_000,
        seats_max: 4,
        seats: vec![seat(0, "alice"), seat(1, "bob")],
        played: vec![text("carol")],
        init: json!({"map": "dunes"}),
        kept: false,
    }
}

#[test]
fn an_entry_of_the_audit_trail_is_kept_as_it_was() {
    let entry = AuditEntry {
        number: 7,
        at_ms: 1_700_000_000_000,
        who: "token ops".to_owned(),
        action: AuditAction::ServerRestarted,
        subject: "arena-a1b2c".to_owned(),
        reason: "fleet arena begins anew".to_owned(),
        busy: true,
    };
    golden(Process, "record_audit", &AuditRecord { version: 1, entry });
}

#[test]
fn what_people_outside_are_told_is_kept_as_it_was() {
    let item = NewsItem {
        number: 7,
        at_ms: 1_700_000_000_000,
        event: NewsEvent::Stop,
        text: "gameserver arena-a1b2c told to stop: surplus".to_owned(),
        common: "gameservers of fleet arena told to stop: surplus".to_owned(),
        subject: "arena-a1b2c".to_owned(),
        to: None,
    };
    let digest = NewsItem {
        event: NewsEvent::Digest,
        common: String::new(),
        subject: String::new(),
        to: Some("ops".to_owned()),
        ..item.clone()
    };
    golden(Process, "record_news_item", &NewsRecord::new(NewsEntry::Item(item)));
    golden(Process, "record_news_digest", &NewsRecord::new(NewsEntry::Item(digest)));
    let reader =
        NewsReader { name: "ops".to_owned(), told: 5, posting: Some(7), digest_at_ms: 1_700_000_000_000 };
    golden(Process, "record_news_reader", &NewsRecord::new(NewsEntry::Reader(reader)));
    let concern = NewsConcern {
        about: "host/a".to_owned(),
        since_ms: 1_700_000_000_000,
        text: "host a is silent".to_owned(),
    };
    golden(Process, "record_news_concern", &NewsRecord::new(NewsEntry::Concern(concern)));
    let newer = r#"{"version":1,"is":"item","number":7,"at_ms":1,"event":"moon","text":"full"}"#;
    let read: NewsRecord = serde_json::from_str(newer).unwrap();
    assert!(matches!(read.entry, NewsEntry::Item(NewsItem { event: NewsEvent::Unknown, .. })));
}

fn answer() -> AnswerRecord {
    AnswerRecord {
        version: 1,
        request_hash: "9f86d081884c".to_owned(),
        room: text("room-1"),
        created: true,
        because: String::new(),
        fleet: text("arena"),
        key: None,
        epoch: 1,
        server: text("arena-a1b2c"),
        instance: text("arena-a1b2c.0"),
        endpoint: "127.0.0.1:7001".into(),
        tls: false,
        seats: vec![seat(0, "alice")],
        owner: None,
        ticket: None,
        answered_at_ms: 1_700_000_000_000,
    }
}

#[test]
fn rooms_are_stored_as_ever() {
    golden(Process, "record_room", &room());
    let drain = DrainRecord {
        version: 1,
        kind: greenroom_wire::api::DrainKind::Zone,
        name: "a".to_owned(),
        at_ms: 1_700_000_000_000,
        by: "token ops".to_owned(),
        reason: "new switches".to_owned(),
    };
    golden(Process, "record_drain", &drain);
    golden(Process, "record_key", &KeyRecord { version: 1, room: text("r-1") });
    golden(
        Process,
        "record_room_plain",
        &RoomRecord { key: None, init: Value::Null, seats: vec![], played: vec![], ..room() },
    );
    golden(Process, "record_room_kept", &RoomRecord { kept: true, ..room() });
}

#[test]
fn answers_are_stored_as_ever() {
    golden(Process, "record_answer", &answer());
    let keyed = AnswerRecord { key: Some(text("guild:42")), created: false, ..answer() };
    golden(Process, "record_answer_keyed", &keyed);
    let ticket =
        AnswerRecord { owner: Some("lobby-x9y8z.0".to_owned()), ticket: Some(text("ticket-1")), ..answer() };
    golden(Process, "record_answer_ticket", &ticket);
}

/// What the webhook of a finished room is sent.
pub(crate) fn room_result() -> RoomResult {
    RoomResult {
        event: "room.ended".to_owned(),
        room: text("room-1"),
        fleet: text("arena"),
        key: Some(text("guild:42")),
        epoch: 1,
        reason: EndReason::Finished,
        players: vec![text("alice"), text("bob")],
        result: json!({"winner": "alice", "score": [3, 1]}),
        ended_at_ms: 1_700_000_300_000,
    }
}

#[test]
fn results_are_stored_as_ever() {
    golden(Process, "record_result", &ResultRecord { version: 1, body: room_result() });
}

#[test]
fn decisions_and_orders_are_stored_as_ever() {
    let record = DecisionRecord {
        version: 1,
        fleet: text("arena"),
        number: 17,
        out_at_ms: Some(1_700_000_000_000),
        decision: crate::scaling::decision(),
    };
    golden(Process, "record_decision", &record);
    golden(Process, "record_decision_first", &DecisionRecord { out_at_ms: None, number: 0, ..record });
    let scale = ScaleRecord { version: 1, fleet: text("arena"), order: crate::scaling::order() };
    golden(Process, "record_scale", &scale);
}

#[test]
fn keys_hosts_and_terms_are_stored_as_ever() {
    let key = SigningKeyRecord {
        version: 1,
        kid: "AQIDBAUG".to_owned(),
        secret: "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A".to_owned(),
        created_at_ms: 1_700_000_000_000,
    };
    golden(Process, "record_signing_key", &key);
    assert!(!format!("{key:?}").contains(&key.secret), "the secret is never printed");
    golden(Process, "record_host", &HostRecord { version: 1, host: text("host-1") });
    golden(Process, "record_term", &TermRecord { version: 1, term: 7 });
    golden(
        Process,
        "record_lease",
        &LeaseRecord {
            version: 1,
            term: 7,
            holder: "a".to_owned(),
            url: "http://127.0.0.1:8700".to_owned(),
            beat: 3,
            released: true,
        },
    );
}

#[test]
fn what_a_newer_version_wrote_into_the_audit_trail_keeps_no_older_one_from_reading_it() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/record_audit.json"));
    let newer = text.unwrap().replace("server_restarted", "server_taught");
    let record: AuditRecord = serde_json::from_str(&newer).unwrap();
    assert_eq!(record.entry.action, AuditAction::Unknown);
}
