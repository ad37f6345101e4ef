//! What the host does with a room, call by call. Never looks inside the room but for its log.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

mod sandbox;

use std::time::Duration;

use greenroom_room::{
    Drain, HostedRoom, InputError, Output, Player, Presence, RoomHost, RoomKind, Seat, To, Why,
};
use sandbox::Sandbox;

type Host = RoomHost<Sandbox>;

/// How long sessions are kept.
const SESSION: Duration = Duration::from_secs(3);

fn host(players: &[&str]) -> Host {
    let mut host = Host::create("", 1, 4).unwrap();
    for (seat, id) in (0..).map(Seat).zip(players) {
        host.join(seat, Player::new(*id)).unwrap();
    }
    host.take_outputs();
    host
}

fn send(to: To, event: &str, payload: &str) -> Output {
    Output::Send { to, event: event.into(), payload: (!payload.is_empty()).then(|| payload.into()) }
}

#[test]
fn a_room_that_cannot_be_is_refused_with_the_reason() {
    let cases = [
        ("", 0, "a room of kind sandbox has 1 to 4 seats, asked for 0"),
        ("", 5, "a room of kind sandbox has 1 to 4 seats, asked for 5"),
        ("{\"cells\":-1}", 4, "-1 cells make no room"),
        ("{\"sells\":1}", 4, "the options of the sandbox room are wrong"),
        ("[", 4, "the options of the sandbox room are wrong"),
    ];
    let kind = RoomKind::of::<Sandbox>();
    for (init, seats, message) in cases {
        let Err(error) = kind.create(init, 1, seats) else { panic!("{init} {seats} was accepted") };
        assert!(error.to_string().starts_with(message), "{error}");
    }
    for init in ["", "null", " {} ", "{\"cells\":3}"] {
        assert_eq!(kind.create(init, 1, 4).unwrap().seats().len(), 4, "{init}");
    }
    let kind = kind.with_default_init("{\"cells\":-7}");
    for (init, made) in [("", false), ("null", false), ("{}", true), ("{\"cells\":3}", true)] {
        assert_eq!(
            kind.create(init, 1, 4).is_ok(),
            made,
            "{init}: the default is for those who bring no options"
        );
    }
}

#[test]
fn a_seat_is_taken_once_and_free_after_leaving() {
    let mut host = host(&["ann"]);
    let error = |host: &mut Host, seat, id| host.join(Seat(seat), Player::new(id)).unwrap_err().to_string();
    assert_eq!(error(&mut host, 0, "bob"), "seat 0 is taken");
    assert_eq!(error(&mut host, 4, "bob"), "the room has 4 seats, there is no seat 4");
    assert_eq!(error(&mut host, 1, "mallory"), "mallory is not welcome");
    assert!(host.take_outputs().is_empty());
    assert_eq!(host.seats().iter().flatten().count(), 1);

    host.leave(Seat(0), Why::Left).unwrap();
    let gone = send(To::Except(Seat(0)), "gone", "\"left\"");
    assert_eq!(host.take_outputs(), [gone, Output::Left { seat: Seat(0), why: Why::Left }]);
    assert_eq!(host.leave(Seat(0), Why::Left).unwrap_err().to_string(), "seat 0 is free");
    host.join(Seat(0), Player::new("bob")).unwrap();
    assert_eq!(host.take_outputs(), [send(To::Only(Seat(0)), "welcome", r#"{"seat":0,"cells":0}"#)]);
}

#[test]
fn inputs_wait_for_the_tick_and_keep_their_order() {
    let mut host = host(&["ann", "bob"]);
    host.handle(Seat(1), "step", Some(r#"{"dx":1,"dy":0}"#)).unwrap();
    host.handle(Seat(0), "step", Some(r#"{"dx":0,"dy":-2}"#)).unwrap();
    assert!(host.take_outputs().is_empty());
    host.tick();
    let bob = send(To::Except(Seat(1)), "at", r#"{"seat":1,"x":1,"y":0}"#);
    let ann = send(To::Except(Seat(0)), "at", r#"{"seat":0,"x":0,"y":-2}"#);
    assert_eq!(host.take_outputs(), [bob, ann]);
}

#[test]
fn a_bad_input_is_refused_and_the_room_unharmed() {
    let mut host = host(&["ann"]);
    let before = host.snapshot().unwrap();
    let cases = [
        (0, "fly", None, "event \"fly\" is refused: unknown variant `fly`"),
        (0, "step", Some("{"), "event \"step\" is refused: EOF"),
        (0, "step", None, "event \"step\" is refused: its argument is missing"),
        (1, "quit", None, "seat 1 has no connected player"),
        (9, "quit", None, "seat 9 has no connected player"),
    ];
    for (seat, event, argument, message) in cases {
        let error = host.handle(Seat(seat), event, argument).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert_eq!(host.snapshot().unwrap(), before);
}

#[test]
fn a_seat_that_floods_is_told_of_each_input_that_was_not_taken() {
    let mut host = host(&["ann", "bob"]);
    host.handle(Seat(1), "step", Some(r#"{"dx":5,"dy":5}"#)).unwrap();
    for colour in 0..10 {
        let taken = host.handle(Seat(0), "paint", Some(&colour.to_string()));
        match (colour, taken) {
            (0..3, Ok(())) => {}
            (3.., Err(error @ InputError::Full { .. })) => {
                let told = "seat 0 has 3 inputs that wait for the next tick; send it later";
                assert_eq!(error.to_string(), told);
            }
            (_, taken) => panic!("{colour}: {taken:?}"),
        }
    }
    host.tick();
    assert_eq!(host.inputs_dropped_total(), 7);
    assert_eq!(host.room().cells[&(0, 0)], 2, "what was taken is done");
    assert_eq!(host.room().at[&Seat(1)], (5, 5));
    host.handle(Seat(0), "paint", Some("9")).unwrap();
}

#[test]
fn a_dropped_seat_is_kept_for_its_grace() {
    // (player, ticks at which the seat is still theirs, ticks at which it is free); 20 ticks are a second
    let cases = [
        ("hasty", None, Some(0)),
        ("ann", Some(19), Some(20)),
        ("loyal", Some(59), Some(60)),
        ("patient", Some(200), None),
    ];
    for (id, kept, free) in cases {
        let mut host = host(&[id]);
        host.drop_seat(Seat(0), SESSION).unwrap();
        let _ = host.drop_seat(Seat(0), SESSION); // a repeated drop changes nothing
        for tick in 0..=200 {
            let taken = host.seats()[0].is_some();
            assert!(taken || kept.is_none_or(|kept| tick > kept), "{id} lost the seat at {tick}");
            assert!(!taken || free.is_none_or(|free| tick < free), "{id} has the seat at {tick}");
            host.tick();
        }
        let lost = Output::Left { seat: Seat(0), why: Why::GraceOver };
        assert_eq!(host.take_outputs().contains(&lost), free.is_some(), "{id}");
    }
}

#[test]
fn a_resumed_seat_is_greeted_and_hears_the_room_again() {
    let mut host = host(&["ann"]);
    host.drop_seat(Seat(0), SESSION).unwrap();
    assert!(matches!(host.seats()[0].as_ref().unwrap().presence, Presence::Dropped { until_tick: 20 }));
    assert!(host.handle(Seat(0), "quit", None).is_err());
    host.resume(Seat(0)).unwrap();
    host.resume(Seat(0)).unwrap(); // a second connection takes the seat over: greeted too
    let welcome = send(To::Only(Seat(0)), "welcome", r#"{"seat":0,"cells":0}"#);
    assert_eq!(host.take_outputs(), [welcome.clone(), welcome]);
    host.handle(Seat(0), "quit", None).unwrap();
    for _ in 0..30 {
        host.tick();
    }
    assert!(host.take_outputs().contains(&Output::Left { seat: Seat(0), why: Why::Kicked }));
    assert!(host.resume(Seat(0)).is_err());
}

#[test]
fn timers_fire_at_their_tick_unless_cancelled() {
    let mut host = host(&["ann", "bob"]);
    host.handle(Seat(0), "fuse", Some(r#"{"ticks":3}"#)).unwrap();
    host.handle(Seat(1), "fuse", Some(r#"{"ticks":0}"#)).unwrap();
    for _ in 0..10 {
        host.tick();
    }
    assert_eq!(host.room().log, ["fuse of 1 at 2", "fuse of 0 at 4"]);
    host.handle(Seat(0), "fuse", Some(r#"{"ticks":3}"#)).unwrap();
    host.handle(Seat(0), "defuse", None).unwrap();
    for _ in 0..10 {
        host.tick();
    }
    assert_eq!(host.room().log.len(), 2);
}

#[test]
fn a_result_is_settled_once_and_a_closed_room_is_silent() {
    let mut host = host(&["ann", "bob"]);
    for event in ["finish", "finish", "close"] {
        host.handle(Seat(0), event, None).unwrap();
    }
    host.handle(Seat(1), "step", Some(r#"{"dx":1,"dy":0}"#)).unwrap();
    host.tick();
    assert_eq!(host.take_outputs(), [Output::Finished { result: "0".into() }, Output::Closed]);
    assert_eq!((host.result(), host.is_finished(), host.is_closed()), (Some("0"), true, true));
    for _ in 0..3 {
        host.tick();
        host.close();
        assert_eq!(host.drain(), Drain::CloseNow);
    }
    assert!(host.handle(Seat(0), "quit", None).is_err());
    assert_eq!(host.join(Seat(2), Player::new("cid")).unwrap_err().to_string(), "the room is closed");
    assert_eq!(host.leave(Seat(0), Why::Left).unwrap_err().to_string(), "the room is closed");
    assert!(host.take_outputs().is_empty());
    assert_eq!(host.tick_number(), 1);
}

#[test]
fn a_draining_room_closes_within_what_it_asked_for() {
    let mut host = host(&["ann"]);
    for _ in 0..20 {
        assert_eq!(host.drain(), Drain::FinishWithin { secs: 1 });
        assert!(!host.is_closed());
        host.tick();
    }
    assert!(host.is_closed());
    assert_eq!(host.take_outputs().last(), Some(&Output::Closed));
}

#[test]
fn empty_ticks_count_from_the_last_seat_freed() {
    let mut host = host(&[]);
    host.tick();
    assert_eq!(host.empty_ticks(), 1);
    host.join(Seat(2), Player::new("ann")).unwrap();
    host.tick();
    host.drop_seat(Seat(2), SESSION).unwrap();
    assert_eq!(host.empty_ticks(), 0, "a dropped player still holds the seat");
    host.leave(Seat(2), Why::Revoked).unwrap();
    host.tick();
    host.tick();
    assert_eq!(host.empty_ticks(), 2);
}
