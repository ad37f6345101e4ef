//! Bodies of the HTTP API.

use greenroom_wire::api::{
    AllocateRequest, Allocation, Assignment, AssignmentsAnswer, AssignmentsRequest, ClockWord, DrainKind,
    DrainRequest, DrainStatus, DrainedHost, EndpointAnswer, EventLine, FinishRequest, FleetList, FleetStatus,
    GameserverList, GameserverStatus, HostList, HostStatus, KindWord, LogsAnswer, Overview,
    PlayerAssignmentsRequest, PlayerRoomRequest, PlayerTicket, PlayerTicketRequest, Readiness, ReplicaRole,
    ReplicaStatus, RoomList, RoomPhase, RoomStatus, RuleWord, SeatGrant, SeatStatus, SeatWord, SelectorBody,
    ServerFailure, StateWord, TicketBody, TicketCancelled, TicketRefused, TicketRejections, TicketStatus,
    TicketStatusBody, TicketWait, TicketWhy, TicketsAnswer, TicketsRequest, Totals, WaitsForWord,
};
use greenroom_wire::error::{Code, ErrorBody};
use greenroom_wire::rooms::EndReason;
use serde_json::{Value, json};

use crate::From::{Process, User};
use crate::record::room_result;
use crate::{golden, text};

#[test]
fn what_users_ask_is_read_as_ever_and_unknown_fields_are_refused() {
    let allocate = AllocateRequest {
        key: Some(text("guild:42")),
        players: vec![text("alice"), text("bob")],
        idempotency_key: Some(text("order-66")),
        timeout_ms: Some(5_000),
        init: json!({"map": "dunes"}),
        fill: false,
        select: None,
    };
    golden(User, "api_allocate", &allocate);
    let plain = AllocateRequest {
        key: None,
        players: vec![text("alice")],
        idempotency_key: None,
        timeout_ms: None,
        init: Value::Null,
        fill: false,
        select: None,
    };
    let select = SelectorBody {
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        revision: Some(text("0a1b2c3d4e5f")),
    };
    let filled = AllocateRequest { fill: true, select: Some(select), ..plain.clone() };
    golden(User, "api_allocate_fill", &filled);
    golden(User, "api_allocate_plain", &plain);
    let room = PlayerRoomRequest {
        key: text("guild:42"),
        players: Some(vec![text("alice")]),
        idempotency_key: Some(text("order-66")),
        timeout_ms: Some(5_000),
    };
    golden(User, "api_player_room", &room);
    let plain =
        PlayerTicketRequest { idempotency_key: Some(text("order-66")), attributes: [].into(), keyword: None };
    golden(User, "api_player_ticket", &plain);
    let poll = PlayerAssignmentsRequest { ack: vec![text("ticket-1")], wait_ms: Some(0) };
    golden(User, "api_player_assignments", &poll);
    let ticket = PlayerTicket { ticket: text("p-1-2"), term: 3 };
    golden(Process, "api_player_ticket_answer", &ticket);
    golden(User, "api_finish", &FinishRequest { epoch: 1, result: json!({"winner": "alice"}) });
    let party = TicketBody {
        enqueued_at_ms: Some(1_700_000_000_000),
        ..TicketBody::new(text("ticket-1").0, ["alice", "bob"].map(|name| text(name).0))
    };
    golden(User, "api_ticket", &party);
    let solo = TicketBody::new(text("ticket-2").0, [text("carol").0]);
    let rated = TicketBody {
        rating: Some(-1_520),
        attributes: [("mode".to_owned(), "duel".to_owned())].into(),
        keyword: Some("friends of carol".to_owned()),
        ..solo.clone()
    };
    golden(User, "api_ticket_rated", &rated);
    let asked = PlayerTicketRequest {
        idempotency_key: None,
        attributes: [("mode".to_owned(), "duel".to_owned())].into(),
        keyword: Some("friends of carol".to_owned()),
    };
    golden(User, "api_player_ticket_attributes", &asked);
    let tickets = TicketsRequest { owner: "lobby-x9y8z.0".to_owned(), tickets: vec![party, solo] };
    golden(User, "api_tickets", &tickets);
    let assignments = AssignmentsRequest {
        owner: "lobby-x9y8z.0".to_owned(),
        ack: vec![text("ticket-1")],
        wait_ms: Some(20_000),
    };
    golden(User, "api_assignments", &assignments);
}

#[test]
fn a_bad_name_in_a_request_is_refused_with_what_is_wrong_with_it() {
    let cases = [
        (
            json!({"players": ["two words"]}),
            "a player id \"two words\" may not contain ' '; allowed are visible ASCII without spaces",
        ),
        (json!({"players": [""]}), "a player id must have 1 to 128 characters, this has 0"),
        (json!({}), "missing field `players`"),
    ];
    for (body, message) in cases {
        let error = serde_json::from_value::<AllocateRequest>(body).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn what_became_of_a_ticket_is_told() {
    let status = |status| TicketStatusBody { ticket: text("ticket-1"), fleet: text("arena"), status };
    golden(Process, "api_ticket_status_assigned", &status(TicketStatus::Assigned { room: text("room-1") }));
    let rejected = |rule, attribute: Option<&str>, tickets| TicketRejections {
        rule,
        attribute: attribute.map(str::to_owned),
        tickets,
    };
    let why = TicketWhy {
        others: 9,
        rejected: vec![
            rejected(RuleWord::Keyword, None, 1),
            rejected(RuleWord::Attribute, Some("mode"), 2),
            rejected(RuleWord::Size, None, 1),
            rejected(RuleWord::Rating, None, 3),
        ],
        taken: 1,
        candidates: 1,
        candidate_players: 1,
        waits_for: WaitsForWord::Players,
        missing_players: 1,
        match_at_ms: Some(1_700_000_015_000),
    };
    let waits = TicketWait {
        enqueued_at_ms: 1_700_000_000_000,
        waited_ms: 7_000,
        players: 2,
        match_players: 4,
        attributes: [("mode".to_owned(), "duel".to_owned())].into(),
        private: false,
        rating: Some(1_520),
        window: Some(150),
        clock: Some(ClockWord::LongestWaiting),
        widens_at_ms: Some(1_700_000_010_000),
        window_next: Some(200),
        smaller_at_ms: Some(1_700_000_060_000),
        why: Some(why),
    };
    let plain = TicketWait { why: None, ..waits.clone() };
    golden(Process, "api_ticket_status_waiting", &status(TicketStatus::Waiting(Box::new(waits))));
    golden(Process, "api_ticket_status_plain", &status(TicketStatus::Waiting(Box::new(plain))));
}

fn allocation() -> Allocation {
    Allocation {
        room: text("room-1"),
        fleet: text("arena"),
        key: Some(text("guild:42")),
        epoch: 1,
        server: text("arena-a1b2c"),
        endpoint: "127.0.0.1:7001".to_owned(),
        url: "http://127.0.0.1:7001".to_owned(),
        because: String::new(),
        created: true,
        seats: vec![SeatGrant {
            seat: 0,
            player: text("alice"),
            token: "head.claims.signature".to_owned(),
            expires_at_ms: 1_700_000_030_000,
        }],
    }
}

#[test]
fn what_players_are_told_is_written_as_ever() {
    let endpoint = EndpointAnswer {
        fleet: text("lobby"),
        server: text("lobby-x9y8z"),
        endpoint: "127.0.0.1:7000".to_owned(),
        url: "http://127.0.0.1:7000".to_owned(),
        because: String::new(),
        expires_at_ms: 1_700_000_005_000,
    };
    golden(Process, "api_endpoint", &endpoint);
    golden(Process, "api_allocation", &allocation());
    let refused = TicketRefused {
        id: text("ticket-3"),
        code: Code::AlreadyAssigned,
        message: "player carol has another ticket".to_owned(),
    };
    golden(Process, "api_tickets_answer", &TicketsAnswer { term: 7, refused: vec![refused] });
    let assignment = Assignment { ticket: text("ticket-1"), allocation: allocation() };
    let answer = AssignmentsAnswer { term: 7, assignments: vec![assignment.clone()] };
    golden(Process, "api_assignments_answer", &answer);
    golden(Process, "api_ticket_cancelled", &TicketCancelled::Cancelled);
    golden(
        Process,
        "api_ticket_assigned",
        &TicketCancelled::AlreadyAssigned { assignment: Box::new(assignment) },
    );
    golden(Process, "api_room_result", &room_result());
}

fn fleet() -> FleetStatus {
    FleetStatus {
        because: String::new(),
        name: text("arena"),
        kind: KindWord::Room,
        revision: text("0a1b2c3d4e5f"),
        replicas_min: 1,
        replicas_max: 8,
        replicas_wanted: 3,
        replicas: 3,
        ready: 2,
        busy: 1,
        rooms: 1,
        rooms_per_server: 1,
        seats_per_room: 4,
        players: 2,
        tickets: 3,
        waiting_on: vec!["1 gameserver is starting".to_owned()],
        last_failure: None,
    }
}

pub(crate) fn gameserver() -> GameserverStatus {
    GameserverStatus {
        name: text("arena-a1b2c"),
        fleet: text("arena"),
        host: text("host-1"),
        instance: text("arena-a1b2c.0"),
        revision: text("0a1b2c3d4e5f"),
        state: StateWord::Allocated,
        endpoint: "127.0.0.1:7001".to_owned(),
        tls: false,
        pid: Some(4_711),
        rooms: 1,
        players: 2,
        connections: 2,
        full: false,
        restarts: 0,
        started_at_ms: 1_700_000_000_000,
        labels: std::collections::BTreeMap::new(),
        message: String::new(),
    }
}

fn room(ended: Option<EndReason>) -> RoomStatus {
    RoomStatus {
        room: text("room-1"),
        fleet: text("arena"),
        key: None,
        epoch: 1,
        server: text("arena-a1b2c"),
        endpoint: "127.0.0.1:7001".to_owned(),
        phase: if ended.is_some() { RoomPhase::Ended } else { RoomPhase::Live },
        ended,
        seats: vec![
            SeatStatus { seat: 0, state: SeatWord::Connected, player: Some(text("alice")) },
            SeatStatus { seat: 1, state: SeatWord::Free, player: None },
        ],
        created_at_ms: 1_700_000_000_000,
    }
}

fn host() -> HostStatus {
    HostStatus {
        name: text("host-1"),
        connected: true,
        heard_at_ms: 1_700_000_000_000,
        servers: 1,
        servers_max: 1_001,
        zone: String::new(),
        drained: String::new(),
        trouble: String::new(),
    }
}

#[test]
fn what_operators_see_is_written_as_ever() {
    golden(Process, "api_fleets", &FleetList { fleets: vec![fleet()] });
    golden(Process, "api_gameservers", &GameserverList { gameservers: vec![gameserver()] });
    let rooms = vec![room(None), room(Some(EndReason::ServerLost))];
    golden(Process, "api_rooms", &RoomList { rooms, total: 2 });
    golden(Process, "api_hosts", &HostList { hosts: vec![host()] });
    let drained = HostStatus { zone: "a".to_owned(), drained: "zone a, by token ops".to_owned(), ..host() };
    golden(Process, "api_hosts_drained", &HostList { hosts: vec![drained] });
    let trouble = "the task cannot be protected: ThrottlingException: Rate exceeded".to_owned();
    golden(Process, "api_hosts_in_trouble", &HostList { hosts: vec![HostStatus { trouble, ..host() }] });
    let still = DrainedHost { host: text("host-1"), servers: 3, busy: 1 };
    let status =
        DrainStatus { kind: DrainKind::Zone, name: "a".to_owned(), drained: true, hosts: vec![still] };
    golden(Process, "api_drain_status", &status);
    golden(User, "api_drain", &DrainRequest { reason: "new switches".to_owned(), undo: true });
    let overview = Overview {
        term: 7,
        leader: None,
        now_ms: 1_700_000_000_000,
        totals: Totals {
            gameservers: 1,
            rooms: 1,
            players: 2,
            connections: 2,
            tickets: 3,
            results_pending: 0,
        },
        fleets: vec![fleet()],
        hosts: vec![host()],
        gameservers: vec![gameserver()],
        rooms: vec![room(None)],
        events: vec![EventLine { at_ms: 1_700_000_000_000, text: "room-1 made on arena-a1b2c".to_owned() }],
    };
    golden(Process, "api_overview", &overview);
    golden(Process, "api_logs", &LogsAnswer { text: "listening\n".to_owned(), next_offset: 10 });
    let waiting_on = vec!["the agent of host-1".to_owned()];
    let mut readiness = Readiness { ready: false, waiting_on, replica: None };
    golden(Process, "api_readiness", &readiness);
    let (name, leader) = ("a".to_owned(), Some("b".to_owned()));
    readiness.replica = Some(ReplicaStatus { name, role: ReplicaRole::Follower, leader, term: Some(7) });
    golden(Process, "api_readiness_replica", &readiness);
}

#[test]
fn how_a_server_failed_is_written_as_ever() {
    let failure = ServerFailure {
        server: text("arena-a1b2c"),
        message: "exited with code 64: ARENA_ROUND_SECONDS is 1".to_owned(),
        at_ms: 1_700_000_000_000,
    };
    golden(Process, "api_fleet_failed", &FleetStatus { last_failure: Some(failure), ..fleet() });
}

#[test]
fn every_state_has_its_word() {
    let servers = vec![
        StateWord::Starting,
        StateWord::Ready,
        StateWord::Reserved,
        StateWord::Allocated,
        StateWord::Draining,
        StateWord::Unhealthy,
        StateWord::Stopped,
    ];
    golden(Process, "words_gameserver_state", &servers);
    let seats = vec![SeatWord::Free, SeatWord::Reserved, SeatWord::Connected, SeatWord::Away];
    golden(Process, "words_seat_state", &seats);
    golden(Process, "words_room_phase", &vec![RoomPhase::Reserved, RoomPhase::Live, RoomPhase::Ended]);
    golden(Process, "words_fleet_kind", &vec![KindWord::Room, KindWord::Mesh]);
}

#[test]
fn every_error_has_its_word_its_status_and_says_whether_to_retry() {
    golden(Process, "error", &ErrorBody::new(Code::NoCapacity, "no gameserver is ready"));
    let all = CODES.map(|code| {
        let body = ErrorBody::new(code, "");
        json!([body.error.code, code.status(), body.error.retryable])
    });
    golden(Process, "words_error_code", &all.to_vec());
}

const CODES: [Code; 19] = [
    Code::BadRequest,
    Code::Unauthorized,
    Code::Forbidden,
    Code::FleetNotFound,
    Code::GameserverNotFound,
    Code::RoomNotFound,
    Code::TicketNotFound,
    Code::NotFound,
    Code::MethodNotAllowed,
    Code::WrongKind,
    Code::RoomFull,
    Code::AlreadyAssigned,
    Code::IdempotencyMismatch,
    Code::TooLarge,
    Code::TooMany,
    Code::NoCapacity,
    Code::HostSuspect,
    Code::Rebuilding,
    Code::Internal,
];
